"""docs/order.md says what the package does: its vectors, and any other plan, come out alike from the
package, from `tests/order_v1.py`, which was written from the page alone, and from
`tests/order_v1_windows.py`, which uses nothing of the package.
"""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import order_v1, order_v1_windows
from tests.profiles import examples
from tql import rowset
from tql.planner import Plan, Windows, digest, make_plan, permute, placing, rng
from tql.planner import without_replacement as wr
from tql.planner.draw import row_table
from tql.planner.stream import ORDER
from tql.rowset import Range
from tql.weights import ClassWeights, RowWeights

PAGE = (Path(__file__).parents[1] / "docs" / "order.md").read_text("utf-8")
VECTORS: list[dict[str, Any]] = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])


def of_kind(kind: str) -> list[dict[str, Any]]:
    found = [vector for vector in VECTORS if kind in vector]
    assert found, f"the page has no vector of a {kind}"
    return found


def hexadecimal(number: int) -> str:
    return f"{int(number):016x}"


def key_of(key: dict[str, Any]) -> rng.Key:
    return rng.stream_key(key["seed"], key["epoch"], key["fingerprint"], key["purpose"])


def plan_of(given: dict[str, Any]) -> Plan:
    """The package's plan of a vector."""
    choices = dict(given)
    n, name = choices.pop("population"), choices.pop("fingerprint")
    classes, weights, edges = (choices.pop(k, None) for k in ("classes", "weights", "edges"))
    made: ClassWeights | RowWeights | None = None
    if classes is not None:
        ends = np.cumsum([0, *(rows for _, rows in classes)]).tolist()
        values = np.array([w for w, _ in classes], np.float64)
        made = ClassWeights(values, tuple(Range(a, b, n) for a, b in pairwise(ends)))
    elif weights is not None:
        made = RowWeights(np.array(weights, np.float64))
    if edges is not None:
        choices["edges"] = np.array(edges, np.int64)
    if "windows" in choices:
        choices["windows"] = Windows(**choices["windows"])
    return make_plan(rowset.everything(n), made, key=name, **choices)


def order_of(given: dict[str, Any]) -> order_v1.Order:
    """The same, by the page."""
    choices = dict(given)
    classes = choices.pop("classes", None)
    pairs = None if classes is None else [(float(w), rows) for w, rows in classes]
    if "weights" in choices:
        choices["weights"] = [float(w) for w in choices["weights"]]
    made = order_v1_windows.InWindows if "windows" in choices else order_v1.Order
    return made(choices.pop("population"), classes=pairs, **choices)


# -- the vectors of the page -----------------------------------------------------------------------


@pytest.mark.parametrize("vector", of_kind("key"), ids=str)
def test_keys(vector: dict[str, Any]) -> None:
    key, told = vector["key"], (vector["low"], vector["high"])
    ours = key_of(key)
    assert (hexadecimal(ours.low), hexadecimal(ours.high)) == told
    assert tuple(map(hexadecimal, order_v1.key_of(**key))) == told


@pytest.mark.parametrize("vector", of_kind("random"), ids=str)
def test_random_numbers(vector: dict[str, Any]) -> None:
    low, high, t = (int(vector["random"][name], 16) for name in ("low", "high", "t"))
    a, b = rng.philox_twin(rng.Key(low, high), np.array([t], np.uint64).view(np.int64))
    told = vector["a"], vector["b"]
    assert (hexadecimal(int(a[0])), hexadecimal(int(b[0]))) == told
    assert tuple(map(hexadecimal, order_v1.random((low, high), t))) == told


@pytest.mark.parametrize("vector", of_kind("permutation"), ids=str)
def test_permutations(vector: dict[str, Any]) -> None:
    n, rounds, key = (vector["permutation"][name] for name in ("n", "rounds", "key"))
    at = np.array(vector["of"], np.int64)
    assert permute.permutation(n, key_of(key), rounds)(at).tolist() == vector["gives"]
    plain = order_v1.permutation(n, order_v1.key_of(**key), rounds)
    assert [plain(x) for x in vector["of"]] == vector["gives"]


@pytest.mark.parametrize("vector", of_kind("within"), ids=str)
def test_places_within_cells(vector: dict[str, Any]) -> None:
    n, a, b = vector["within"]["n"], *(int(vector["within"][k], 16) for k in "ab")
    x = np.array(vector["of"], np.int64)
    keys = (np.full(x.size, k, np.uint64) for k in (a, b))
    assert placing.within_twin(x, np.full(x.size, n), *keys).tolist() == vector["gives"]
    assert [order_v1.within(v, n, a, b) for v in vector["of"]] == vector["gives"]


@pytest.mark.parametrize("vector", of_kind("logarithm"), ids=str)
def test_logarithms(vector: dict[str, Any]) -> None:
    x, told = vector["logarithm"], vector["gives"]
    assert float(wr.minus_log_twin(np.array([x], np.uint64))[0]).hex() == told
    assert order_v1.minus_log(x).hex() == told


@pytest.mark.parametrize("vector", of_kind("units"), ids=str)
def test_units_of_weights(vector: dict[str, Any]) -> None:
    values = vector["units"]
    table = row_table(RowWeights(np.array(values, np.float64)))
    assert np.diff(table.upto[: len(values)], prepend=np.uint64(0)).tolist() == vector["gives"]
    assert order_v1.units(values) == vector["gives"]


@pytest.mark.parametrize("vector", of_kind("plan"), ids=lambda v: json.dumps(v["plan"])[:90])
def test_rows_of_plans(vector: dict[str, Any]) -> None:
    epoch, at = vector["epoch"], vector["positions"]
    plan = plan_of(vector["plan"])
    assert plan.at(np.array(at, np.int64), epoch=epoch).tolist() == vector["rows"]
    order = order_of(vector["plan"])
    assert [order.row(p, epoch) for p in at] == vector["rows"]
    assert len(plan) == order.draws


@pytest.mark.parametrize("vector", of_kind("sample"), ids=str)
def test_seeds_of_samples(vector: dict[str, Any]) -> None:
    given, row, copy, epoch = (vector[k] for k in ("sample", "row", "copy", "epoch"))
    ours = plan_of(given).seeds(np.array([row]), np.array([copy]), epoch)
    assert hexadecimal(ours[0]) == vector["seed"]
    assert hexadecimal(order_of(given).sample_seed(row, copy, epoch)) == vector["seed"]


@pytest.mark.parametrize("vector", of_kind("parts"), ids=str)
def test_fingerprints(vector: dict[str, Any]) -> None:
    assert digest.of_json(vector["parts"]) == vector["fingerprint"]
    assert order_v1.fingerprint(vector["parts"]) == vector["fingerprint"]
    weights = ClassWeights(np.array([1.0, 2.5]), (Range(0, 3, 5), Range(3, 5, 5)))
    plan = make_plan(
        rowset.everything(5), weights, size=4, seed=1, mix="epoch", edges=np.array([0, 2, 5]),
        source_fingerprint="ab", origin={"é": 0.1}, rounds=vector["parts"].get("rounds", 6),
    )  # fmt: skip
    assert dict(plan.parts) == vector["parts"] and plan.fingerprint == vector["fingerprint"]


def test_digests_of_arrays_and_rows_are_as_said() -> None:
    values = np.arange(1_000_000) * 3
    told = order_v1.array_digest("<i8", values.size, values.tobytes())
    assert digest.of_array(values) == told
    ids = rowset.Ids(values, 3_000_000)
    assert digest.of_rows(ids) == order_v1.fingerprint({"ids": told, "universe": 3_000_000})
    span = {"range": [2, 5], "universe": 9}
    assert digest.of_rows(Range(2, 5, 9)) == order_v1.fingerprint(span)
    words = rowset.from_mask(np.arange(100) % 2 == 0)
    assert isinstance(words, rowset.Bitmap)
    named = order_v1.array_digest("<u8", 2, words.words.tobytes())
    assert digest.of_rows(words) == order_v1.fingerprint({"bitmap": named, "universe": 100})
    assert digest.of_weights(RowWeights(np.ones(3))) == order_v1.fingerprint(
        {"rows": order_v1.array_digest("<f8", 3, np.ones(3).tobytes())}
    )


def test_the_version_of_the_page_is_that_of_the_package() -> None:
    assert PAGE.startswith(f"# Order {rng.ORDER_VERSION}\n")
    assert f'{{"order": {ORDER}, ' in PAGE


def test_every_kind_of_plan_has_a_vector() -> None:
    plans = [vector["plan"] for vector in of_kind("plan")]
    for mix in ("iid", "epoch", "batch"):
        for kind in ("classes", "weights"):
            for replace in (True, False):
                wanted = (mix, replace)
                assert any(
                    kind in p and (p.get("mix", "iid"), p.get("replace", True)) == wanted
                    for p in plans
                ), (mix, kind, replace)
    for option in ("size", "shuffle", "resample", "rounds", "edges", "block"):
        assert any(option in p for p in plans), option
    windowed = [p for p in plans if "windows" in p]
    for mix in ("iid", "epoch"):
        for kind in ("classes", "weights"):
            assert any(kind in p and p.get("mix", "iid") == mix for p in windowed), (mix, kind)
    assert any("classes" not in p and "weights" not in p for p in windowed)


# -- any other plan --------------------------------------------------------------------------------

weight = st.sampled_from([0.0, 0.25, 1.0, 1.0, 3.0, 1e-9, 1e12, 5e-324, 1e300])


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    given: dict[str, Any] = {"fingerprint": draw(st.sampled_from(["a", "order v1", "é"]))}
    given["seed"] = draw(st.integers(-5, 2**70))
    kind = draw(st.sampled_from(["none", "classes", "weights", "many weights"]))
    match kind:
        case "classes":
            values = draw(st.lists(weight, min_size=1, max_size=draw(st.sampled_from([4, 70]))))
            sizes = [draw(st.sampled_from([0, 1, 3, 4, 31])) for _ in values]
            values, sizes = [*values, 2.0], [*sizes, draw(st.sampled_from([1, 7, 250]))]
            given["classes"] = [list(pair) for pair in zip(values, sizes)]
            given["population"] = sum(sizes)
            positive = sum(n for w, n in zip(values, sizes) if w > 0)
        case "weights" | "many weights":
            some = draw(st.lists(weight, min_size=1, max_size=60))
            if kind == "many weights":
                rng_ = np.random.default_rng(draw(st.integers(0, 2**32)))
                some += rng_.lognormal(sigma=3, size=draw(st.integers(66, 150))).tolist()
            given["weights"] = [*some, 2.0]
            given["population"], positive = len(some) + 1, sum(w > 0 for w in some) + 1
        case _:
            given["population"] = positive = draw(st.sampled_from([1, 5, 199, 200, 300]))
    given["shuffle"] = draw(st.booleans())
    given["resample"] = draw(st.sampled_from(["epoch", "once"]))
    given["rounds"] = draw(st.sampled_from([6, 8]))
    if kind != "none" or draw(st.booleans()):
        given["replace"] = draw(st.booleans())
        most = 2 * given["population"] if given["replace"] else positive
        given["size"] = draw(st.integers(1, most))
        given["mix"] = draw(st.sampled_from(["iid", "epoch", "batch"]))
        if given["mix"] == "batch":
            given["block"] = draw(st.integers(1, 40))
        if given["mix"] != "iid" and draw(st.booleans()):
            inner = draw(st.lists(st.integers(0, given["population"]), max_size=4))
            given["edges"] = [0, *sorted(inner), given["population"]]
    if given.get("mix") != "batch" and draw(st.booleans()):
        if given.get("mix", "iid") == "iid":
            given["replace"] = True
        given["shuffle"] = True
        inner = draw(st.lists(st.integers(0, given["population"]), max_size=12))
        given["edges"] = [0, *sorted(inner), given["population"]]
        given["windows"] = {
            "length": draw(st.sampled_from([1, 3, 20, 90, 2**40])),
            "lanes": draw(st.sampled_from([1, 2, 3, 8])), "max_passes": draw(st.sampled_from([1, 2, 8])),
        }  # fmt: skip
    return given


@settings(max_examples=examples(150, 5_000))
@given(plans(), st.integers(0, 2**40))
def test_plans_are_what_the_page_says(given: dict[str, Any], epoch: int) -> None:
    ours = plan_of(given).ids(epoch).tolist()
    order = order_of(given)
    some = list(range(0, len(ours), max(1, len(ours) // 60)))
    assert len(ours) == order.draws
    assert [order.row(p, epoch) for p in some] == [ours[p] for p in some]


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 40))
def test_ranks_get_the_positions_of_the_page(world: int, batch: int, origin: int) -> None:
    plan = make_plan(rowset.everything(97))
    for rank in range(world):
        stream = plan.stream(0, rank, world, origin, batch)
        found = [p for i in range(stream.batches) for p in stream.batch(i).positions.tolist()]
        told = [order_v1.position_of(j, rank, world, batch, origin) for j in range(97)]
        assert found == [p for p in told if p < 97]


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 40), st.integers(1, 6))
def test_ranks_get_the_lanes_of_the_page(world: int, batch: int, origin: int, lanes: int) -> None:
    windows, edges = Windows(10, lanes), np.array([0, 50, 97])
    plan = make_plan(rowset.everything(97), shuffle=True, windows=windows, edges=edges)
    for rank in range(world):
        stream = plan.stream(0, rank, world, origin, batch, "pad")
        found = [p for i in range(stream.batches) for p in stream.batch(i).positions.tolist()]
        told = []
        for begin in range(origin, 97, world * batch):
            step = range(begin, begin + world * batch)
            first = sorted((p for p in step if p < 97), key=lambda p: (p % lanes, p))
            every = [*first, *((p - 97) % 97 for p in step if p >= 97)]
            told += every[rank * batch : (rank + 1) * batch]
        assert found == told
