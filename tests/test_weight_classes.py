"""Classes of weights: the same bytes whichever way they are found, and no column is read twice."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plain_kernels import run_as_python
from tests.strategies import Pieces
from tql import partition, rowset
from tql.engine import weigh
from tql.engine.coded import narrowed
from tql.engine.columns import Numbers
from tql.engine.scan import Settings
from tql.jit import Kernel
from tql.language.expr import WeightKind
from tql.planner import digest
from tql.queries import ask, weigh_by
from tql.reports import class_counts
from tql.rowset import Ids, RowSet
from tql.schema import Label
from tql.weights import ClassWeights

KINDS = ("i8", "u8_n", "i16_n", "u16", "i32", "i64_n", "u64", "label_n")
RANGES = {"i8": (-128, 128), "u64": (2**64 - 9, 2**64), "label_n": (0, 5), "i16_n": (-300, 300)}
OTHERS = ("{c} < {v}", "{c} in ({v}, 3)", "{c} is null", "not {c} >= {v}", "{c} == 7 or {c} == {v}")


class Counting(Pieces):
    """Counts how often each column of each fragment is read."""

    def __init__(self, table: pa.Table, cuts: Sequence[int]) -> None:
        super().__init__(table, cuts)
        self.reads: Counter[tuple[int, str]] = Counter()

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        self.reads.update((fragment, name) for name in columns)
        return super().read(fragment, columns)


def _source(kind: str, rows: int, seed: int, cuts: Sequence[int]) -> tuple[Counting, list[Any]]:
    rng = np.random.default_rng(seed)
    low, high = RANGES.get(kind, (0, 200))
    # A few values are frequent and the others rare, so that there are bitmaps and lists.
    drawn = rng.zipf(1.3, rows) % (high - low)
    values = [low + int(v) for v in drawn]
    if kind.endswith("_n"):
        values = [None if rng.random() < 0.1 else v for v in values]
    name = {"u": "uint", "i": "int"}.get(kind[0], "int16")
    arrow = pa.int16() if kind == "label_n" else pa.type_for_alias(name + kind[1:].split("_")[0])
    table = pa.table({kind: pa.array(values, arrow), "f64": rng.random(rows)})
    return Counting(table, cuts), values


def _found(source: Counting, weight: str, where: str, few: int) -> ClassWeights:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weigh, "FEW_ARMS", dict.fromkeys(WeightKind, few))
        population = ask(source, f"select * {where} sample by {weight}").population()
    assert population is not None and isinstance(population.weights, ClassWeights)
    return population.weights


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(KINDS), st.sampled_from([0, 1, 64, 700, 3000]), st.integers(0, 2**32),
    st.lists(st.integers(1, 2999), max_size=3), st.sampled_from(["max_weight", "sum_weight"]),
    st.sampled_from(["", "where f64 > 0.5", "where f64 > 0.99", "order by f64", "limit 600"]),
)  # fmt: skip
def test_arms_over_one_column_weigh_as_their_bitmaps_do(
    kind: str, rows: int, seed: int, cuts: list[int], function: str, where: str
) -> None:
    source, _ = _source(kind, rows, seed, cuts)
    rng = np.random.default_rng(seed)
    low, high = RANGES.get(kind, (0, 200))
    tests = [f"{{c}} == {low + k}" for k in range(min(40, high - low))]
    tests += [t.replace("{v}", str(rng.integers(0, 100))) for t in OTHERS]
    if kind == "label_n":
        tests = [f"{{c}} == '{name}'" for name in ("cat", "dog", "Cat")] + ["{c} is null"]
    weights = ["-0.0", *(str(k / 4) for k in range(9))]
    arms = ", ".join(f"{t.format(c=kind)}: {rng.choice(weights)}" for t in tests)
    by_codes = _found(source, f"{function}({arms})", where, 0)
    by_bitmaps = _found(source, f"{function}({arms})", where, 1000)
    assert by_codes.values.tolist() == by_bitmaps.values.tolist()
    assert digest.of_weights(by_codes) == digest.of_weights(by_bitmaps)


@pytest.mark.parametrize(
    "weight",
    ["-0.0", "max_weight(i32 < 9: -0.0)", "sum_weight(i32 < 9: -0.0)", "i32 * -0.0",
     "max_weight(i32 < 9: -0.0, f64 > 0.5: f64)"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["", "order by f64"])
@pytest.mark.parametrize("few", [0, 1000])
def test_a_weight_of_minus_zero_has_the_bytes_of_zero(weight: str, where: str, few: int) -> None:
    source, _ = _source("i32", 70, 1, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weigh, "FEW_ARMS", dict.fromkeys(WeightKind, few))
        population = ask(source, f"select * {where} sample by {weight}").population()
    assert population is not None and not np.signbit(population.weights.values).any()


def test_a_fragment_of_nulls_alone_does_not_widen_the_codes() -> None:
    high = 10**9
    values = [high + k % 30 for k in range(100)] + [None] * 50 + [high + 3] * 10
    source = Counting(pa.table({"i64": pa.array(values, pa.int64())}), [100, 150])
    arms = "max_weight(" + ", ".join(f"i64 == {high + k}: {k}" for k in range(30)) + ")"
    by_bitmaps = _found(source, arms, "", 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(weigh, "_by_bitmaps")
        by_codes = _found(source, arms, "", 0)
    assert digest.of_weights(by_codes) == digest.of_weights(by_bitmaps)


def test_a_column_of_nulls_alone_is_weighed() -> None:
    source = Counting(pa.table({"i64": pa.array([None] * 90, pa.int64())}), [64])
    found = _found(source, "max_weight(i64 == 1: 2, i64 is null: 3)", "", 0)
    assert found.values.tolist() == [3] and len(found) == 90


class Changing(np.ndarray[Any, Any]):
    """Memory that somebody changes as soon as its greatest value is known."""

    def max(self, *args: Any, **kwargs: Any) -> Any:
        found = np.asarray(self).max(*args, **kwargs)
        np.asarray(self)[0] += 200
        return found


@pytest.mark.parametrize("name", ["int32", "uint8", "int64"])
def test_codes_stay_in_their_table_when_the_memory_changes_meanwhile(name: str) -> None:
    found = narrowed(np.array([3, 5, 4], name).view(Changing), None)
    assert found is not None
    low, high, codes = found
    assert (low, high) == (3, 5) and codes.tolist() == [2, 2, 1]


def test_labels_stay_in_their_table_when_the_memory_changes_meanwhile() -> None:
    labels = Numbers(np.array([0, 1, 1], np.int64).view(Changing), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_counts, "from_arrow", lambda *_: labels)
        _, codes = class_counts._codes(None, Label(("cat", "dog")))
    assert codes.tolist() == [3, 1, 1]  # the first one has no name any more


def test_values_far_apart_are_weighed_by_bitmaps() -> None:
    table = pa.table({"i64": pa.array([-(2**63), 5, 2**63 - 1, 5] * 20)})
    arms = ", ".join(f"i64 == {k}: {k}" for k in range(30))
    found = weigh_by(Counting(table, [7]), f"max_weight({arms})")
    assert isinstance(found, ClassWeights)
    assert found.values.tolist() == [0, 5] and [len(m) for m in found.members] == [40, 40]


@settings(deadline=None)
@given(
    st.integers(0, 1500), st.sampled_from([1, 3, 17, 70, 300]), st.integers(0, 2**32),
    st.sampled_from(["all", "some", "few", "shuffled", "shifted"]),
)  # fmt: skip
def test_the_rows_are_split_as_sorting_them_by_class_splits_them(
    n: int, k: int, seed: int, form: str
) -> None:
    rng = np.random.default_rng(seed)
    rows: RowSet = {
        "all": lambda: rowset.everything(n),
        "some": lambda: rowset.from_mask(rng.random(n) < 0.5),
        "few": lambda: rowset.from_mask(rng.random(n) < 0.01),
        "shuffled": lambda: Ids(rng.integers(0, max(n, 1), n), max(n, 1)),
        "shifted": lambda: rowset.Range(n // 3, n, n + 100),
    }[form]()
    codes = (rng.zipf(1.5, len(rows)) % (2 * k)).astype(np.uint16)
    classes = rng.permutation(2 * k).astype(np.uint32) % k
    counts = np.bincount(classes[codes], minlength=k)
    wanted = partition.split_twin(codes, classes, counts, rows)
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        patch.setattr(Kernel, "pays", lambda *_: True)
        assert partition.count(codes, 2 * k).tolist() == partition.count_twin(codes, 2 * k).tolist()
        for few in (0, 16):
            patch.setattr(partition, "_FEW", few)
            found = partition.split(codes, classes, counts, rows)
            assert [digest.of_rows(m) for m in found] == [digest.of_rows(m) for m in wanted]


def test_the_compiled_loops_split_alike() -> None:
    rng = np.random.default_rng(4)
    rows = rowset.from_mask(rng.random(200_000) < 0.7)
    codes = (rng.zipf(1.5, len(rows)) % 100).astype(np.uint8)
    counts = np.bincount(codes, minlength=100)
    every = np.arange(100, dtype=np.uint32)
    wanted = partition.split_twin(codes, every, counts, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "pays", lambda *_: True)
        assert partition.count(codes, 100).tolist() == counts.tolist()
        found = partition.split(codes, every, counts, rows)
    assert [digest.of_rows(m) for m in found] == [digest.of_rows(m) for m in wanted]
    assert {type(m).__name__ for m in found} >= {"Bitmap", "Ids"}


FORTY = "max_weight(" + ", ".join(f"i32 == {k}: {k + 1}" for k in range(40)) + ")"


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        ("select * where i32 == 1 union (select * where i32 > 5 or f64 > 0.5)", {"i32": 1, "f64": 1}),
        ("select * where i32 < 9 except (select * where f64 > 0.5) intersect (select * where i32 > 1)",
         {"i32": 1, "f64": 1}),
        ("select * sample by max_weight(i32 == 1: 2, i32 == 2: 3, f64 > 0.5: 4, f64 > 0.7: 5)",
         {"i32": 1, "f64": 1}),
        (f"select * sample by {FORTY}", {"i32": 1}),
        ("select * sample by balanced(i32)", {"i32": 1}),
        # One pass for the filter, one for the weights.
        ("select * where f64 > 0.1 sample by max_weight(f64 > 0.5: 4, i32 == 1: 2)",
         {"i32": 1, "f64": 2}),
        (f"select * where i32 >= 0 sample by {FORTY}", {"i32": 2}),
        # And one for the key: whole columns are read again, as nothing of them is kept.
        ("select * where i32 >= 0 order by f64", {"i32": 1, "f64": 1}),
        (f"select * where i32 >= 0 order by i32 sample by {FORTY}", {"i32": 3}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tier", ["reference", "kernel"])
def test_each_pass_reads_a_column_of_a_fragment_once(
    query: str, passes: dict[str, int], tier: Any
) -> None:
    source, _ = _source("i32", 900, 3, [100, 500])
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        ask(source, query, settings=Settings(tier)).answer()
    assert source.reads == {(f, name): n for f in range(3) for name, n in passes.items()}
