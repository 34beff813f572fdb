"""Weights that are looked up by fragment: the draws of weights held row by row, in little memory."""

import pickle
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.profiles import examples
from tql import rowset
from tql.diagnostics import TqlDataError, TqlPlanError, TqlUnsupportedError
from tql.planner import Plan, Windows, fragment_weights, load, make_plan
from tql.planner.computing import quota_of
from tql.planner.quota import QuotaOfFragments, RowQuotas, quotas
from tql.planner.rng import Int64s, Uint64s
from tql.rowset import RowSet
from tql.weights import FragmentWeights, RowWeights


def split(values: Any, population: RowSet, edges: Int64s) -> list[Any]:
    """The values of the rows of each fragment."""
    return np.split(values, population.rank(edges)[1:-1])


def of_units(units: Uint64s, population: RowSet, edges: Int64s) -> FragmentWeights:
    parts = split(units, population, edges)
    return FragmentWeights(
        np.array([p.size for p in parts]),
        np.array([p.sum(dtype=np.uint64) for p in parts], np.uint64),
        np.array([p.max(initial=0) for p in parts], np.uint64),
        parts.__getitem__,
        "these",
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[RowSet, np.ndarray[Any, Any], dict[str, Any]]:
    universe = draw(st.integers(70, 500))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random(universe) < draw(st.sampled_from([0.4, 1.0]))
    mask[:: universe // 66] = True
    population = rowset.from_mask(mask)
    values = rng.lognormal(sigma=draw(st.sampled_from([0.1, 2.0, 20.0])), size=len(population))
    values[rng.random(values.size) < draw(st.sampled_from([0.0, 0.01]))] = 0.0
    edges = np.sort(rng.integers(0, universe + 1, draw(st.sampled_from([0, 3, 40]))))
    windows = Windows(
        draw(st.sampled_from([1, 7, 60, 1 << 40])), draw(st.sampled_from([1, 3, 8])),
        draw(st.sampled_from([1, 8])),
    )  # fmt: skip
    return population, values, {
        "edges": np.concatenate([[0], edges, [universe]]), "windows": windows, "mix": "epoch",
        "shuffle": True, "seed": draw(st.integers(0, 9)), "size": draw(st.integers(1, 3 * universe)),
        "resample": draw(st.sampled_from(["epoch", "once"])),
    }  # fmt: skip


Case = tuple[RowSet, "np.ndarray[Any, Any]", dict[str, Any]]


@settings(max_examples=examples(200, 4_000))
@given(cases(), st.integers(0, 3))
def test_they_draw_what_weights_held_row_by_row_draw(case: Case, epoch: int) -> None:
    population, values, choices = case
    eager = make_plan(population, RowWeights(values), **choices)
    of = quotas(RowWeights(values), population, len(eager), True, choices["edges"])
    assert isinstance(of, RowQuotas)
    weights = of_units(of.units, population, choices["edges"])
    # Plans of different weights have different names, and names make the keys: here the same one.
    lazy = replace(make_plan(population, weights, **choices), fingerprint=eager.fingerprint)
    for ours, theirs in zip(lazy.locate(0, len(lazy), epoch), eager.locate(0, len(lazy), epoch)):
        assert np.array_equal(ours, theirs)
    some = np.random.default_rng(epoch).integers(0, len(lazy), 20)
    assert np.array_equal(lazy.at(some, epoch=epoch), eager.at(some, epoch=epoch))
    ours, theirs = lazy.draw_line(epoch), eager.draw_line(epoch)
    for name in ("firsts", "starts", "strides", "unit", "fragment", "pass_"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))


@settings(max_examples=examples(200, 4_000))
@given(cases())
def test_numbers_become_units_as_fine_as_can_be(case: Case) -> None:
    population, values, choices = case
    parts = split(values, population, choices["edges"])
    weights = fragment_weights(parts.__getitem__, np.array([p.size for p in parts]))
    total = sum(weights.sums.tolist())
    assert 1 << 60 < total < 1 << 63
    units = np.concatenate([weights.units(f) for f in range(len(parts))])
    assert np.array_equal(units > 0, values > 0)
    assert np.abs(units / total - values / values.sum()).max() < 1e-15
    for f, part in enumerate(np.split(units, np.cumsum([p.size for p in parts])[:-1])):
        assert weights.sums[f] == part.sum() and weights.heaviest[f] == part.max(initial=0)
    plan = make_plan(population, weights, **choices)
    rows, counts = population.to_numpy(), plan.ids(2)
    times = np.bincount(np.searchsorted(rows, counts), minlength=rows.size)
    assert np.abs(times - values / values.sum() * len(plan)).max() < 1 + 1e-6


# -- a billion rows ---------------------------------------------------------------------------------

ROWS, FRAGMENTS = 50_000, 20_000
_CYCLE = np.arange(ROWS, dtype=np.uint64) * np.uint64(7919) % np.uint64(1000) + np.uint64(1)


class Synthetic:
    """50,000 weights, 1 to 1,000 in turn, times 1 to 7 by fragment."""

    def __init__(self) -> None:
        self.read: Counter[int] = Counter()

    def __call__(self, fragment: int) -> Uint64s:
        self.read[fragment] += 1
        return np.roll(_CYCLE, fragment) * np.uint64(1 + fragment % 7)


def billion(units: Synthetic, **choices: Any) -> Plan:
    kind = np.arange(FRAGMENTS, dtype=np.uint64) % np.uint64(7) + np.uint64(1)
    weights = FragmentWeights(
        np.full(FRAGMENTS, ROWS),
        kind * _CYCLE.sum(dtype=np.uint64),
        kind * np.uint64(1000),
        units,
        "7",
    )
    return make_plan(
        rowset.everything(ROWS * FRAGMENTS), weights, mix="epoch", shuffle=True, seed=1,
        edges=np.arange(FRAGMENTS + 1) * ROWS, **choices,
    )  # fmt: skip


def test_a_billion_weighted_rows_are_opened_anywhere_in_little_memory() -> None:
    """Held row by row, weights take 8 GB, their running sum another 8."""
    billion(Synthetic(), windows=Windows(400_000, 2)).locate(0, 256)  # imports and compiles
    tracemalloc.start()
    try:
        units = Synthetic()
        plan = billion(units, windows=Windows(400_000, 2))
        start = 123_456_789
        rows, copies, _ = plan.locate(start, start + 256, 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(plan) == 10**9 and peak < 32 << 20, peak
    # The fragments of two windows, each looked up once; the same rows by another way.
    assert 4 <= len(units.read) <= 40 and set(units.read.values()) == {1}, units.read
    assert set((rows // ROWS).tolist()) == set(units.read)
    again = billion(Synthetic(), windows=Windows(400_000, 2))
    at = np.arange(start, start + 256)[::-1].copy()
    assert np.array_equal(again.at(at, epoch=5)[::-1], rows)
    assert np.array_equal(again.copies(at, 5)[::-1], copies)


def test_what_is_kept_of_fragments_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tql.planner.by_fragment._LEAST_KEPT", 1 << 20)
    units = Synthetic()
    plan = billion(units, windows=Windows(1_000_000), size=10**8)
    tracemalloc.start()
    try:
        plan.draw(0, 64)
        before, _ = tracemalloc.get_traced_memory()
        for start in range(0, 10**8, 10_000_000):
            plan.draw(start, start + 64)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    made = quota_of(plan, plan.weights, 0) if plan.weights is not None else None
    assert isinstance(made, QuotaOfFragments) and len(units.read) > 400
    kept = sum(found.nbytes for found in made.kept._found.values())
    assert kept <= (1 << 20) + 4 * 1_000_000 * 2 and after - before < 2 * kept
    assert 10 < len(made.kept._found) < len(units.read) / 2


def test_threads_read_a_fragment_once() -> None:
    units = Synthetic()
    plan = billion(units, windows=Windows(500_000))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: plan.draw(7_000 + k % 2, 7_100), range(16)))
    assert all(np.array_equal(f[-99:], found[0][-99:]) for f in found)
    assert set(units.read.values()) == {1}


# -- substitutes, files, refusals -------------------------------------------------------------------

VALUES = [np.arange(1.0, 41.0), np.zeros(0), np.full(60, 0.5)]
COUNTS = np.array([40, 0, 60])
EDGES = np.array([0, 40, 40, 100])


def values_of(fragment: int) -> Any:
    return VALUES[fragment]


def small(weights: FragmentWeights | None = None, /, **choices: Any) -> Plan:
    asked: dict[str, Any] = {
        "mix": "epoch",
        "shuffle": True,
        "edges": EDGES,
        "windows": Windows(30),
    }
    return make_plan(
        rowset.everything(100),
        weights or fragment_weights(values_of, COUNTS),
        **{**asked, **choices},
    )


# "v1" of the order: another value here is another meaning of every seed.
VECTOR = [7, 34, 20, 39, 17, 38, 15, 14, 30, 29]


def test_the_order_is_pinned() -> None:
    plan = small(seed=7, size=300)
    assert plan.draw(100, 110, epoch=2).tolist() == VECTOR


def test_substitutes_are_drawn_by_weight() -> None:
    """40,000 of them: every row within 5 sigma of its share."""
    plan = small(size=100)
    tries = 8
    found = np.concatenate(
        [plan.substitutes(np.arange(100), np.full(100, t % tries), t // tries) for t in range(400)]
    )
    share = np.concatenate(VALUES) / sum(v.sum() for v in VALUES)
    counts = np.bincount(found, minlength=100)
    assert (np.abs(counts - 40_000 * share) < 5 * np.sqrt(40_000 * share)).all()


def test_plans_are_saved_and_pickled(tmp_path: Any) -> None:
    plan = small()
    plan.save(tmp_path / "plan.json")
    assert load(tmp_path / "plan.json").verify(small()) == ()
    other = fragment_weights(lambda f: VALUES[f] * 3 + 1, COUNTS)
    assert load(tmp_path / "plan.json").verify(small(other)) != ()
    assert np.array_equal(pickle.loads(pickle.dumps(plan)).ids(1), plan.ids(1))
    assert "looked up by fragment" in repr(plan) and plan.nbytes < 10_000


def test_other_weights_than_those_added_up_are_refused() -> None:
    made = fragment_weights(values_of, COUNTS)
    changed = replace(made, units=lambda f: made.units(f) + np.uint64(f == 2))
    with pytest.raises(TqlDataError, match="the weights of fragment 2 add up to"):
        small(changed).ids()
    short = replace(made, units=lambda f: made.units(f)[:5])
    with pytest.raises(TqlDataError, match=r"are uint64 of shape \(5,\); expected uint64 of shape"):
        small(short).ids()


def test_what_cannot_be_is_refused() -> None:
    for choices, what in (
        ({"mix": "iid"}, "with mix='iid'"), ({"mix": "batch", "block": 4}, "mix='batch'"),
        ({"replace": False}, "without replacement"), ({"windows": None}, "without windows"),
    ):  # fmt: skip
        with pytest.raises(TqlUnsupportedError, match=what):
            small(**choices)
    with pytest.raises(TqlPlanError, match="weights for 3 fragments of rows, but 2 fragments"):
        small(edges=np.array([0, 40, 100]))
    with pytest.raises(TqlPlanError, match="weights for other numbers of rows"):
        small(edges=np.array([0, 39, 40, 100]))
    with pytest.raises(TqlPlanError, match=r"a weight is negative: -1\.0 \(row 1 of fragment 0\)"):
        fragment_weights(lambda f: np.array([2.0, -1.0]), np.array([2]))
    with pytest.raises(TqlDataError, match="float32 of shape"):
        fragment_weights(lambda f: np.ones(2, np.float32), np.array([2]))  # type: ignore[arg-type,return-value]
    with pytest.raises(TqlPlanError, match="every weight is zero"):
        small(fragment_weights(lambda f: np.zeros(COUNTS[f]), COUNTS))
