"""Draws by quota: classes, fragments, rows and batches get what their weights are worth, ±1."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plain_kernels import run_as_python
from tests.profiles import examples
from tql import rowset
from tql.diagnostics import TqlPlanError, TqlTypeError
from tql.partition import partition
from tql.planner import Plan, deal, make_plan, placing, quota
from tql.planner.rng import Key, philox_twin
from tql.rowset import RowSet
from tql.weights import ClassWeights, RowWeights, Weights, integer_weights

# -- what the weights promise, in exact fractions ----------------------------------------------


def promised(values: list[float], draws: int, replace: bool) -> list[Fraction]:
    """The quota of each row; with `replace` false a quota above 1 is 1 and the others share more."""
    units = [Fraction(u) for u in integer_weights(np.array(values))]
    full: set[int] = set()
    while True:
        mass = sum(u for i, u in enumerate(units) if i not in full)
        left = draws - len(full)
        rate = Fraction(left) / mass if mass else Fraction(0)
        over = {i for i, u in enumerate(units) if i not in full and u * rate > 1}
        if replace or not over:
            return [Fraction(1) if i in full else u * rate for i, u in enumerate(units)]
        full |= over


def within_one(count: int, quota: Fraction, slack: Fraction = Fraction(0)) -> bool:
    return abs(count - quota) < 1 + slack


def weights_of(values: np.ndarray[Any, Any], population: RowSet, by_class: bool) -> Weights:
    if not by_class:
        return RowWeights(values)
    distinct, codes = np.unique(values, return_inverse=True)
    return ClassWeights(distinct, partition(codes.astype(np.uint8), distinct.size, population))


# -- counts ------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A plan by quota, the weight of each row of its population, and where fragments begin."""
    universe = draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random(universe) < draw(st.sampled_from([0.05, 0.5, 1.0]))
    mask[rng.integers(universe)] = True
    population = rowset.from_mask(mask)
    kinds = draw(st.sampled_from([[1.0], [1.0, 3.0], [0.0, 1e-9, 0.3, 7.0], [1.0, 1e12]]))
    values = rng.choice(kinds, len(population))
    values[rng.integers(values.size)] = max(kinds)
    by_class = draw(st.booleans())
    replace = draw(st.booleans())
    most = int((values > 0).sum()) if not replace else 3 * universe
    size = draw(st.integers(1, most))
    edges = np.sort(rng.integers(0, universe, draw(st.integers(0, 6))))
    edges = np.concatenate([[0], edges, [universe]])
    mix = draw(st.sampled_from(["epoch", "batch"]))
    plan = make_plan(
        population, weights_of(values, population, by_class), size=size, replace=replace, mix=mix,
        block=draw(st.integers(1, 40)) if mix == "batch" else None, edges=edges,
        seed=draw(st.integers(0, 9)), shuffle=draw(st.booleans()),
        resample=draw(st.sampled_from(["epoch", "once"])),
    )  # fmt: skip
    return plan, values, edges


@settings(max_examples=examples(150, 3_000))
@given(plans(), st.integers(0, 3))
def test_each_row_class_and_fragment_comes_as_often_as_it_is_worth(
    case: tuple[Plan, np.ndarray[Any, Any], np.ndarray[Any, Any]], epoch: int
) -> None:
    plan, values, edges = case
    rows = plan.population.to_numpy()
    quotas = promised(values.tolist(), len(plan), plan.replace)
    ids = plan.ids(epoch)
    times = dict(zip(*(a.tolist() for a in np.unique(ids, return_counts=True))))
    counts = [times.pop(row, 0) for row in rows.tolist()]
    assert not times and sum(counts) == len(plan) == ids.size
    # Weights of single rows are rounded to 2^-62 of their sum.
    slack = Fraction(
        0 if isinstance(plan.weights, ClassWeights) else len(plan) * 2 * rows.size, 2**62
    )
    assert plan.replace or max(counts) == 1
    for count, due in zip(counts, quotas):
        assert within_one(count, due, slack)
    fragment = np.searchsorted(edges, rows, side="right")
    kinds = values if isinstance(plan.weights, ClassWeights) else np.zeros(values.size)
    for kind in np.unique(kinds):
        for f in [None, *np.unique(fragment)]:
            cell = np.flatnonzero((kinds == kind) & ((fragment == f) if f is not None else True))
            due = sum((quotas[i] for i in cell), Fraction(0))
            assert within_one(sum(counts[i] for i in cell), due, slack), (kind, f)


@settings(max_examples=examples(100, 2_000))
@given(plans(), st.integers(0, 3))
def test_copies_number_the_draws_of_a_row(
    case: tuple[Plan, np.ndarray[Any, Any], np.ndarray[Any, Any]], epoch: int
) -> None:
    plan, _, _ = case
    rows, copies, seeds = plan.locate(0, len(plan), epoch)
    assert np.array_equal(rows, plan.ids(epoch))
    of_row: dict[int, list[int]] = {}
    for row, copy in zip(rows.tolist(), copies.tolist()):
        of_row.setdefault(row, []).append(copy)
    assert all(sorted(found) == list(range(len(found))) for found in of_row.values())
    assert np.unique(seeds).size == len(plan)


@settings(max_examples=examples(60, 1_000))
@given(plans(), st.data())
def test_kernels_and_their_twins_place_the_same(
    case: tuple[Plan, np.ndarray[Any, Any], np.ndarray[Any, Any]], data: st.DataObject
) -> None:
    plan, _, _ = case
    at = data.draw(st.lists(st.integers(0, len(plan) - 1), min_size=1, max_size=60))
    positions = np.array(at, np.int64)
    with pytest.MonkeyPatch.context() as patch:
        calls = run_as_python(patch)
        patch.setattr("tql.jit.Kernel.pays", lambda self, slow_ns: True)
        fast = plan.at(positions)
        assert any(calls[name] for name in ("PLACE_IN_CELLS", "PLACE_IN_ROWS")), calls
    assert np.array_equal(fast, plan.at(positions)) and np.array_equal(fast, plan.ids()[positions])


# -- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 31, 32, 640, 1000, 2009])
@pytest.mark.parametrize("replace", [True, False])
def test_each_batch_has_its_share_of_every_class(size: int, replace: bool) -> None:
    n, block = 3000, 32
    labels = (np.arange(n) // 300).astype(np.uint8)  # sorted: without dealing, a batch is one class
    everything = rowset.everything(n)
    weights = ClassWeights(np.arange(1.0, 11.0), partition(labels, 10, everything))
    plan = make_plan(everything, weights, size=size, replace=replace, mix="batch", block=block)
    quotas = promised(weights.values[labels].tolist(), size, replace)
    shares = [sum((quotas[i] for i in np.flatnonzero(labels == c)), Fraction(0)) for c in range(10)]
    for epoch in (0, 1):
        ids = plan.ids(epoch)
        for start in range(0, size, block):
            batch = labels[ids[start : start + block]]
            for c, share in enumerate(shares):
                due = float(share * batch.size / size)
                assert abs(np.count_nonzero(batch == c) - due) < 2
        assert size < 64 or not np.array_equal(ids, plan.ids(epoch + 1))


def test_a_rank_of_many_has_balanced_batches_of_its_own() -> None:
    n, block = 1000, 20
    labels = (np.arange(n) % 4 == 0).astype(np.uint8)
    weights = ClassWeights(np.array([1.0, 3.0]), partition(labels, 2, rowset.everything(n)))
    plan = make_plan(rowset.everything(n), weights, mix="batch", block=block)
    for rank in range(3):
        stream = plan.stream(rank=rank, world_size=3, batch_size=block, remainder="drop")
        for rows in stream:
            assert labels[rows].sum() == 10


@pytest.mark.parametrize(("draws", "size"), [(1, 1), (7, 3), (40, 40), (41, 40), (1000, 7), (5, 9)])
def test_dealing_is_a_bijection(draws: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dealt = deal.dealing(draws, size, Key(1, 2), Key(3, 4))
    slow, fast = np.arange(draws), np.arange(draws)
    dealt.apply(slow, False)
    run_as_python(monkeypatch)
    dealt.apply(fast, True)
    assert np.array_equal(slow, fast) and np.array_equal(np.sort(slow), np.arange(draws))


# -- which rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 13, 50])
def test_every_row_and_every_pair_of_a_cell_is_as_likely(n: int) -> None:
    """Chi-square of single rows and pairs over 20,000 keys; both thresholds are 5 sigma."""
    keys, take = 20_000, max(1, n // 2)
    a, b = philox_twin(Key(12345, 678), np.arange(keys))
    places = np.stack(
        [placing.within_twin(np.full(keys, x), np.full(keys, n), a, b) for x in range(n)], axis=1
    )
    assert np.array_equal(np.sort(places, axis=1), np.broadcast_to(np.arange(n), places.shape))
    taken = np.zeros((keys, n))
    np.put_along_axis(taken, places[:, :take], 1, axis=1)
    share = take / n
    assert np.abs(taken.sum(0) - keys * share).max() < 5 * np.sqrt(keys * share * (1 - share))
    if take > 1:
        together = (taken.T @ taken)[np.triu_indices(n, 1)]
        share = take * (take - 1) / (n * (n - 1))
        assert np.abs(together - keys * share).max() < 5 * np.sqrt(keys * share * (1 - share))


@pytest.mark.parametrize("by_class", [True, False])
def test_over_epochs_a_row_comes_as_often_as_its_weight_says(by_class: bool) -> None:
    """4,000 epochs of 10 draws from 30 rows: every mean is within 5 sigma of the quota."""
    values = np.repeat([1.0, 2.0, 6.0], 10)
    if not by_class:
        values = values + np.linspace(0, 1e-3, 30)
    population = rowset.everything(30)
    plan = make_plan(
        population, weights_of(values, population, by_class), size=10, mix="epoch",
        edges=np.array([0, 7, 30]),
    )  # fmt: skip
    epochs = 4000
    counts = sum(np.bincount(plan.ids(e), minlength=30) for e in range(epochs))
    due = values / values.sum() * 10
    sigma = np.sqrt(epochs * (due % 1) * (1 - due % 1)) + 1e-9
    assert (np.abs(counts - epochs * due) < 5 * sigma + 1).all()


def test_classes_of_a_fragment_are_rounded_apart() -> None:
    """100 classes, each worth half a draw in each of two fragments: 50 draws a fragment, ± 5 sigma
    of coins (a cell order that stays would give 0 or 100), and not the same in each epoch.
    """
    n = 2000
    kinds = (np.arange(n) % 100).astype(np.uint8)
    everything = rowset.everything(n)
    weights = ClassWeights(np.ones(100), partition(kinds, 100, everything))
    plan = make_plan(everything, weights, size=100, mix="epoch", edges=np.array([0, n // 2, n]))
    first = [int((plan.ids(e) < n // 2).sum()) for e in range(40)]
    assert max(abs(f - 50) for f in first) < 25 and len(set(first)) > 5
    assert abs(sum(first) - 40 * 50) < 5 * np.sqrt(40 * 25)


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("replace", [True, False])
def test_neighbours_in_the_file_are_not_tied_together(by_class: bool, replace: bool) -> None:
    """Half of 1,000 rows: even rows are half of it ± 5 sigma, and neighbours come together in a
    quarter of the epochs.
    """
    n, epochs = 1000, 60
    everything = rowset.everything(n)
    values = np.ones(n) if by_class else 1 + 1e-6 * np.random.default_rng(0).random(n)
    weights = weights_of(values, everything, by_class)
    plan = make_plan(everything, weights, size=n // 2, replace=replace, mix="epoch")
    taken = np.stack([np.bincount(plan.ids(e), minlength=n) for e in range(epochs)])
    even = taken[:, ::2].sum(1)
    assert np.abs(even - n / 4).max() < 5 * np.sqrt(n / 16)
    together = (taken[:, :-1] * taken[:, 1:]).mean()
    assert abs(together - 0.25) < 5 * np.sqrt(0.1875 / (epochs * n))


@pytest.mark.parametrize("by_class", [True, False])
def test_batches_of_another_epoch_have_other_rows_together(by_class: bool) -> None:
    n, block = 1000, 32
    everything = rowset.everything(n)
    values = np.ones(n) if by_class else 1 + 1e-6 * np.random.default_rng(0).random(n)
    plan = make_plan(everything, weights_of(values, everything, by_class), mix="batch", block=block)
    sets = [
        {frozenset(plan.ids(e)[a : a + block].tolist()) for a in range(0, n, block)} for e in (0, 1)
    ]
    assert len(sets[0] & sets[1]) == 0


# -- keys, files, refusals ----------------------------------------------------------------------

N = 400
KINDS = ClassWeights(
    np.array([1.0, 4.0]),
    partition((np.arange(N) % 5 == 0).astype(np.uint8), 2, rowset.everything(N)),
)
# "v1" of the order: another value here is another meaning of every seed.
VECTORS = {
    ("epoch", None): [391, 82, 228, 245, 5, 219, 290, 27, 340, 380],
    ("batch", 16): [210, 210, 86, 205, 141, 266, 71, 350, 60, 291],
}


@pytest.mark.parametrize(("mix", "block"), VECTORS)
def test_the_order_is_pinned(mix: str, block: int | None) -> None:
    plan = make_plan(
        rowset.everything(N), KINDS, size=300, mix=mix, block=block, seed=7,
        edges=np.array([0, 100, 250, N]),
    )  # fmt: skip
    assert plan.draw(100, 110, epoch=2).tolist() == VECTORS[(mix, block)]


def test_the_fingerprint_knows_mix_fragments_and_block() -> None:
    def made(**choices: Any) -> str:
        return make_plan(rowset.everything(N), KINDS, **choices).fingerprint

    edges = np.array([0, 100, N])
    names = [
        made(), made(mix="epoch"), made(mix="epoch", edges=edges), made(mix="batch", block=8),
        made(mix="batch", block=9), made(mix="batch", block=8, edges=edges),
    ]  # fmt: skip
    assert len(set(names)) == len(names)
    assert made(edges=edges) == made()  # independent draws know no fragments


def test_one_draw_is_kept_or_every_epoch_has_its_own() -> None:
    kept = make_plan(rowset.everything(N), KINDS, size=50, mix="epoch", resample="once")
    assert np.array_equal(kept.ids(0), kept.ids(3))
    again = make_plan(
        rowset.everything(N), KINDS, size=50, mix="epoch", resample="once", shuffle=True
    )
    assert np.array_equal(np.sort(again.ids(0)), np.sort(again.ids(3)))
    assert not np.array_equal(again.ids(0), again.ids(3))


def test_what_cannot_be_is_refused() -> None:
    everything = rowset.everything(N)
    with pytest.raises(TqlTypeError, match="without a batch size"):
        make_plan(everything, KINDS, mix="batch")
    with pytest.raises(TqlPlanError, match="2147483649 draws"):
        make_plan(everything, KINDS, size=2**31 + 1, mix="epoch")
    with pytest.raises(TqlPlanError, match="expected 'iid', 'epoch' or 'batch'"):
        make_plan(everything, KINDS, mix="quota")
    with pytest.raises(TqlPlanError, match="block of 0"):
        make_plan(everything, KINDS, mix="batch", block=0)
    with pytest.raises(TqlPlanError, match="offset 7 within a batch of 20"):
        make_plan(everything, KINDS, mix="batch", block=20, offset=7)
    for edges in (np.array([0]), np.array([1, N]), np.array([0, 9, 5, N]), np.array([0.0, N])):
        with pytest.raises(TqlPlanError, match="edges of fragments"):
            make_plan(everything, KINDS, mix="epoch", edges=edges)


def test_many_draws_of_many_rows_stay_in_64_bits() -> None:
    """2^31 draws of 2^32 rows in two classes: the last draws are of the last rows, and add up."""
    n = 1 << 32
    halves = (rowset.Range(0, n // 2, n), rowset.Range(n // 2, n, n))
    weights = ClassWeights(np.array([1.0, 3.0]), halves)
    draws, edges = 1 << 31, np.array([0, 5, n // 4, n // 2 + 3, n - 1, n])
    of = quota.quotas(weights, rowset.everything(n), draws, True, edges)
    made = quota.quota(of, draws, Key(1, 2), Key(3, 4))
    assert isinstance(made, quota.QuotaOfCells)
    counts = np.diff(made.firsts).tolist()
    for start, size, count in zip(made.starts.tolist(), made.sizes.tolist(), counts):
        each = Fraction(draws, 4) if start < n // 2 else Fraction(draws * 3, 4)
        assert within_one(count, each * size / (n // 2))
    assert sum(counts) == draws and sum(made.sizes.tolist()) == n


@pytest.mark.parametrize("kinds", [1, 2, 40, 64, 65, 300])
@pytest.mark.parametrize("rows", [1, 7, 3000])
def test_kinds_are_found_block_by_block(
    kinds: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sorting all of them would tell, wherever a kind comes first."""
    monkeypatch.setattr("tql.planner.making.BLOCK", 50)
    rng = np.random.default_rng(kinds)
    values = rng.random(kinds)[np.sort(rng.integers(0, kinds, rows))]
    values[rows // 2] = -0.0
    values[-1] = 2.0
    plan = make_plan(rowset.everything(rows), RowWeights(values), mix="epoch")
    distinct, codes = np.unique(values + 0.0, return_inverse=True)
    if distinct.size > 64:
        assert isinstance(plan.weights, RowWeights)
        return
    assert isinstance(plan.weights, ClassWeights)
    assert plan.weights.values.tobytes() == distinct.tobytes()
    for k, members in enumerate(plan.weights.members):
        assert members.to_numpy().tolist() == np.flatnonzero(codes == k).tolist()


def test_few_kinds_of_numbers_are_classes() -> None:
    """An array of two weights has its quotas as max_weight() has, in all and in each batch."""
    rare = np.arange(1000) % 10 == 0
    weights = RowWeights(np.where(rare, 9.0, 1.0))
    plan = make_plan(rowset.everything(1000), weights, mix="batch", block=20)
    for epoch in range(3):
        batches = rare[plan.ids(epoch)].reshape(50, 20).sum(1)
        assert (abs(batches - 10) <= 1).all() and batches.sum() == 500


def test_copies_of_repeated_rows_differ() -> None:
    population = rowset.Ids(np.array([5, 5, 9, 5]), 10)
    plan = make_plan(population, RowWeights(np.array([1.0, 2.0, 3.0, 4.0])), size=8, mix="epoch")
    rows, copies, seeds = plan.locate(0, 8)
    assert len(set(zip(rows.tolist(), copies.tolist()))) == 8 and len(set(seeds.tolist())) == 8
    with pytest.raises(TqlPlanError, match="positions -5"):
        plan.copies(np.array([-5]))
