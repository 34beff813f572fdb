"""Draws: distributed as the weights say, exactly, the same from both tiers."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tql import rowset
from tql.partition import partition
from tql.planner import draw, layout, sample
from tql.planner import without_replacement as wr
from tql.planner.rng import Key, stream_key
from tql.rowset import Bitmap, Ids, Range, RowSet
from tql.weights import ClassWeights, RowWeights

KEY = stream_key(0, 0, "", "test")
weight = st.floats(1e-12, 1e12) | st.just(0.0)


def _classes(values: list[float], sizes: list[int]) -> ClassWeights:
    ends = np.cumsum([0, *sizes]).tolist()
    members = tuple(Range(a, b, ends[-1]) for a, b in pairwise(ends))
    return ClassWeights(np.array(values, np.float64), members)


def _chi_square(counts: np.ndarray, shares: np.ndarray) -> float:
    expected = counts.sum() * shares
    return float((((counts - expected) ** 2)[expected > 0] / expected[expected > 0]).sum())


# -- both tiers agree -----------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.tuples(weight, st.integers(0, 9)), min_size=1, max_size=30),
    st.integers(0, 2**32),
)
def test_class_draws_are_the_same_from_kernel_and_twin(
    classes: list[tuple[float, int]], seed: int
) -> None:
    values, sizes = map(list, zip(*classes))
    weights = _classes(values, sizes)
    if not any(w * n for w, n in classes):
        return
    table = draw.class_table(weights)
    at = np.random.default_rng(seed).integers(0, 2**62, 3000)
    fast, slow = at.copy(), at.copy()
    key = stream_key(seed, 0, "", "")
    table.apply(key, fast, fast=True)
    table.apply(key, slow, fast=False)
    assert np.array_equal(fast, slow)
    each = np.repeat(values, sizes)
    assert (each[fast] > 0).all()


@settings(deadline=None)
@given(st.lists(weight, min_size=1, max_size=300).filter(any), st.integers(0, 2**32))
def test_row_draws_are_the_same_from_kernel_and_twin(values: list[float], seed: int) -> None:
    v = np.array(values)
    table = draw.row_table(RowWeights(v))
    at = np.random.default_rng(seed).integers(0, 2**62, 3000)
    fast, slow = at.copy(), at.copy()
    table.apply(KEY, fast, fast=True)
    table.apply(KEY, slow, fast=False)
    assert np.array_equal(fast, slow)
    assert (v[fast] > 0).all()


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=300).filter(any), st.data())
def test_the_sums_of_row_weights_are_the_same_from_kernel_and_twin(
    values: list[float], data: st.DataObject
) -> None:
    v = np.array(values)
    down, up = draw._power_near(62, v)
    rough = np.zeros(1, np.uint64)
    draw.SUM_UNITS(v, down, up, rough)
    assert int(rough[0]) == int(draw._units_twin(v, down, up).sum(dtype=np.uint64))
    fast, slow = np.empty(v.size, np.uint64), np.empty(v.size, np.uint64)
    more = 2.0 ** data.draw(st.integers(0, 1))
    draw.RUNNING_SUM(v, down, up, more, fast)
    draw.running_sum_twin(v, down, up, more, slow)
    assert np.array_equal(fast, slow)
    shift = data.draw(st.integers(int(fast[-1]).bit_length() // 2 + 25, 63))
    guides = [np.empty((int(fast[-1] - np.uint64(1)) >> shift) + 2, np.uint32) for _ in range(2)]
    draw.GUIDE(fast, shift, guides[0])
    draw.guide_twin(fast, shift, guides[1])
    assert np.array_equal(guides[0], guides[1])


@settings(deadline=None)
@given(st.lists(weight, min_size=1, max_size=400), st.floats(1e-14, 1e14), st.integers(0, 2**32))
def test_exponential_keys_are_the_same_from_kernel_and_twin(
    values: list[float], limit: float, seed: int
) -> None:
    v, key = np.array(values), stream_key(seed, 0, "", "")
    at, keys, count = np.empty(v.size, np.int64), np.empty(v.size), np.zeros(1, np.int64)
    scratch = np.empty(1024, np.uint64)
    wr.KEYS(key.array(), v, 128, limit, scratch, at, keys, count)
    n = int(count[0])
    other_at, other_keys = wr.keys_twin(key, v, 128, limit)
    assert np.array_equal(at[:n], other_at)
    assert keys[:n].tobytes() == other_keys.tobytes()  # to the last bit


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-9, 1e9), st.integers(1, 40)), min_size=1, max_size=9),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_class_counts_are_the_same_from_kernel_and_twin(
    classes: list[tuple[float, int]], share: float, seed: int
) -> None:
    values, sizes = map(list, zip(*classes))
    draws, key = int(share * sum(sizes)), stream_key(seed, 0, "", "")
    units = np.array([int(v / sum(values) * 2**55) << 1 for v in values], np.uint64)
    states = []
    for step in (wr.COUNT_CLASSES, wr.count_classes_twin):
        left, done = np.array(sizes, np.int64), np.zeros(1, np.int64)
        step(key.array(), units, draws, left, done)
        states.append((left.tolist(), done.tolist()))
    assert states[0] == states[1]
    counts = wr.class_counts(np.array(values), sizes, draws, key)
    assert sum(counts) == draws and all(c <= n for c, n in zip(counts, sizes))


def test_our_logarithm_is_the_logarithm() -> None:
    x = np.random.default_rng(0).integers(0, 2**52, 20_000).astype(np.uint64) * np.uint64(2)
    x += np.uint64(1)
    x[:3] = [1, 3, 2**53 - 1]
    exact = np.array([-math.log1p(-float(2**53 - int(i)) * 2.0**-53) for i in x])
    exact[:2] = [53 * math.log(2), 53 * math.log(2) - math.log(3)]
    assert np.allclose(wr.minus_log_twin(x), exact, rtol=2e-15, atol=0)


# -- the distribution -----------------------------------------------------------------------------


def test_class_shares_are_the_weights_times_the_rows() -> None:
    # Chi-square, 3 degrees of freedom: below 25.9 but for one key in 100,000; the key is fixed.
    weights = _classes([10, 5, 1, 0, 2], [100, 700, 3000, 50, 1])
    table = draw.class_table(weights)
    slots = np.arange(200_000)
    table.apply(KEY, slots, fast=True)
    counts = np.bincount(
        np.searchsorted(np.cumsum([100, 700, 3000, 50, 1]), slots, "right"), minlength=5
    )
    shares = np.array([1000, 3500, 3000, 0, 2]) / 7502
    assert counts[3] == 0 and _chi_square(counts, shares) < 25.9


def test_rows_inside_a_class_are_drawn_alike() -> None:
    # Chi-square, 99 degrees of freedom: below 167 but for one key in 50,000.
    slots = np.arange(100_000)
    draw.class_table(_classes([1, 1], [50, 50])).apply(KEY, slots, fast=True)
    assert _chi_square(np.bincount(slots, minlength=100), np.full(100, 0.01)) < 167


def test_row_shares_are_the_weights() -> None:
    # Chi-square, 49 degrees of freedom: below 100 but for one key in 50,000.
    v = np.random.default_rng(3).lognormal(size=50)
    slots = np.arange(300_000)
    draw.row_table(RowWeights(v)).apply(KEY, slots, fast=True)
    assert _chi_square(np.bincount(slots, minlength=50), v / v.sum()) < 100


def test_neighbouring_draws_are_independent() -> None:
    # The 25 pairs of classes of draws t and t + 1: below 57 but for one key in 5,000 (24 degrees).
    slots = np.arange(200_001)
    draw.class_table(_classes([1] * 5, [1] * 5)).apply(KEY, slots, fast=True)
    pairs = np.bincount(slots[:-1] * 5 + slots[1:], minlength=25)
    assert _chi_square(pairs, np.full(25, 0.04)) < 57


@pytest.mark.parametrize("ratio", [1e12, 2.0**60])
def test_masses_keep_an_extreme_ratio_of_weights(ratio: float) -> None:
    table = draw.class_table(_classes([1.0, ratio], [2**24 + 1, 1]))
    light = 2**24 + 1
    exact = -(-(light << 64) // (light + int(ratio)))
    assert int(table.thresholds[0]) == exact
    by_row = draw.row_table(RowWeights(np.array([1.0, ratio, 1.0, 0.0])))
    units = np.diff(by_row.upto[:4].astype(object), prepend=0)
    assert units[0] == units[2] >= 1 and units[3] == 0
    assert abs(units[1] / units[0] / ratio - 1) < 2.0**-2


def test_a_weight_too_small_for_the_fixed_point_still_counts() -> None:
    table = draw.row_table(RowWeights(np.array([1e300, 5e-324, 0.0])))
    assert np.diff(table.upto[:3].astype(object), prepend=0).tolist()[1:] == [1, 0]


def test_more_rows_than_2_to_24_are_drawn_by_class() -> None:
    n = 2**24 + 1
    mask = np.zeros(n, np.bool_)
    mask[[7, n - 1]] = True
    rare, rest = rowset.from_mask(mask), rowset.from_mask(~mask)
    assert isinstance(rest, Bitmap)
    weights = ClassWeights(np.array([float(n - 2), 1.0]), (rare, rest))
    ids, _ = sample(rowset.everything(n), weights, 3000, True, 1, "test")
    last = np.count_nonzero(ids == n - 1)
    # Binomial(3000, 1/3): within 5 deviations but for one seed in a million.
    assert abs(last - 1000) < 5 * math.sqrt(3000 / 3 * 2 / 3)
    assert ids.min() >= 0 and ids.max() == n - 1


# -- without replacement --------------------------------------------------------------------------


def _successive(values: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """The definition: draw, remove, renormalise."""
    left, taken = values.astype(float).copy(), []
    for _ in range(k):
        i = int(rng.choice(left.size, p=left / left.sum()))
        taken.append(i)
        left[i] = 0
    return taken


VALUES = np.array([8.0, 8.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0, 0.0])


def _inclusion_by_definition(k: int) -> np.ndarray:
    """Exact inclusion probabilities, from all sequences by recursion over sets."""
    states = {frozenset[int](): 1.0}
    for _ in range(k):
        following: dict[frozenset[int], float] = {}
        for taken, p in states.items():
            left = [i for i in range(VALUES.size) if i not in taken and VALUES[i] > 0]
            total = sum(VALUES[i] for i in left)
            for i in left:
                bigger = taken | {i}
                following[bigger] = following.get(bigger, 0.0) + p * VALUES[i] / total
        states = following
    return np.array([sum(p for s, p in states.items() if i in s) for i in range(VALUES.size)])


@pytest.mark.parametrize("k", [1, 4, 7])
@pytest.mark.parametrize("by_class", [True, False])
def test_inclusion_is_that_of_successive_draws(k: int, by_class: bool) -> None:
    # 3,000 seeds; each of 10 frequencies within 5 deviations: one set of seeds in 100,000 fails.
    weights: ClassWeights | RowWeights = RowWeights(VALUES)
    if by_class:
        weights = _classes([8, 3, 1, 0], [2, 3, 4, 1])
    runs = 3000
    counts = np.zeros(VALUES.size)
    for seed in range(runs):
        taken = wr.take(weights, k, seed, 0, "")
        slots = np.arange(k)
        taken.apply(slots, fast=False)
        assert np.unique(slots).size == k
        counts[slots] += 1
    p = _inclusion_by_definition(k)
    assert counts[-1] == 0
    assert (np.abs(counts - runs * p) <= 5 * np.sqrt(runs * p * (1 - p)) + 1e-9).all()


def test_the_recursion_of_the_test_agrees_with_drawing_by_definition() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros(VALUES.size)
    for _ in range(2000):
        counts[_successive(VALUES, 4, rng)] += 1
    p = _inclusion_by_definition(4)
    assert (np.abs(counts - 2000 * p) <= 5 * np.sqrt(2000 * p * (1 - p)) + 1e-9).all()


@settings(deadline=None)
@given(st.lists(weight, min_size=1, max_size=80), st.data())
def test_without_replacement_never_repeats_and_never_takes_weight_zero(
    values: list[float], data: st.DataObject
) -> None:
    v = np.array(values)
    positive = int((v > 0).sum())
    k = data.draw(st.integers(0, positive))
    chosen = wr.smallest_keys(v, k, KEY)
    assert chosen.size == k and (np.diff(chosen) > 0).all() and (v[chosen] > 0).all()
    counts = wr.class_counts(v, [1] * v.size, k, KEY)
    assert sum(counts) == k and all(c == 0 or w > 0 for c, w in zip(counts, v))


@pytest.mark.parametrize("k", [1, 10, 500, 4999])
def test_the_smallest_keys_do_not_depend_on_the_limit_tried_first(
    k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    v = np.random.default_rng(1).lognormal(sigma=3, size=5000)
    every = wr.keys_twin(KEY, v, 0, math.inf)[1]
    exact = np.sort(np.argsort(every, kind="stable")[:k])
    assert np.array_equal(wr.smallest_keys(v, k, KEY), exact)
    monkeypatch.setattr(wr, "_limit_near", lambda weights, k: 1e-6)
    assert np.array_equal(wr.smallest_keys(v, k, KEY), exact)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-250, 1e300])
def test_weights_near_the_ends_of_the_float_range_are_drawn_alike(scale: float) -> None:
    # Equal weights: how often each of 20 rows is among 5, over 1,000 keys, within 5 deviations
    # (one set of keys in 80,000 is not).
    v, counts = np.full(20, scale), np.zeros(20)
    for seed in range(1000):
        counts[wr.smallest_keys(v, 5, stream_key(seed, 0, "", "k"))] += 1
    assert (np.abs(counts - 250) < 5 * math.sqrt(1000 * 0.25 * 0.75)).all()


ENDS = [(1e300, 1e-300), (1.0, 1e-320), (1e308, 5e-324), (1.0, 1e-300), (1e308, 1e-10)]


@pytest.mark.parametrize(("heavy", "light"), ENDS)
def test_light_rows_beside_a_far_heavier_one_are_drawn_alike(heavy: float, light: float) -> None:
    # The heavy row always, and 5 of 40 light ones: each within 5 deviations over 1,000 keys (one set
    # of keys in 40,000 is not).
    v, counts = np.array([*[light] * 20, heavy, *[light] * 20]), np.zeros(41)
    for seed in range(1000):
        counts[wr.smallest_keys(v, 6, stream_key(seed, 0, "", "k"))] += 1
    assert counts[20] == 1000
    counts[20] = 125
    assert (np.abs(counts - 125) < 5 * math.sqrt(1000 * 0.125 * 0.875)).all()


@pytest.mark.parametrize("unit", [1e-300, 2.0**-1070, 1e307])
def test_light_rows_beside_a_far_heavier_one_keep_their_ratios(unit: float) -> None:
    # As `test_inclusion_is_that_of_successive_draws`: the exact probabilities of 4 draws of VALUES.
    # Multiples of 2^-1070 are exact, so the ratios are, down there too.
    v = np.concatenate([[1e300] if unit < 1 else [], VALUES * unit, [unit / 1e300] * 3])
    first = v.size - VALUES.size - 3
    runs, counts = 3000, np.zeros(v.size)
    for seed in range(runs):
        counts[wr.smallest_keys(v, 4 + first, stream_key(seed, 0, "", "k"))] += 1
    p = _inclusion_by_definition(4)
    assert counts[:first].tolist() == [runs] * first and (counts[-3:] == 0).all()
    off = np.abs(counts[first:-3] - runs * p)
    assert (off <= 5 * np.sqrt(runs * p * (1 - p)) + 1e-9).all()


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1.7e308) | st.floats(-1074, 1023).map(lambda e: 2.0**e), min_size=1),
    st.data(),
)
def test_the_rows_taken_are_those_of_the_smallest_exact_keys(
    values: list[float], data: st.DataObject
) -> None:
    v = np.array(values)
    rows = np.flatnonzero(v > 0)
    k = data.draw(st.integers(0, rows.size))
    logs = wr.keys_twin(KEY, np.ones(v.size), 0, math.inf)[1]
    exact = sorted(rows.tolist(), key=lambda i: Fraction(logs[i]) / Fraction(v[i]))
    assert wr.smallest_keys(v, k, KEY).tolist() == sorted(exact[:k])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(wr.KEYS), "pays", lambda self, ns: True)
        assert wr.smallest_keys(v, k, KEY).tolist() == sorted(exact[:k])


@pytest.mark.parametrize("fast", [True, False])
def test_every_ratio_of_weights_comes_to_an_end(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(wr.KEYS), "pays", lambda self, ns: fast)
    v = np.array([1e300, 5e-324, 0.0, 1.0, 1e-300])
    assert wr.smallest_keys(v, 1, KEY).tolist() == [0]
    assert wr.smallest_keys(v, 2, KEY).tolist() == [0, 3]
    assert wr.smallest_keys(v, 3, KEY).size == 3


def test_ties_of_keys_go_to_the_first_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        wr, "_keys_below", lambda *_: (np.arange(6), np.array([2.0, 1.0, 2.0, 2.0, 1.0, 3.0]))
    )
    assert wr.smallest_keys(np.ones(6), 4, KEY).tolist() == [0, 1, 2, 4]


def test_light_classes_keep_their_ratio_when_the_heavy_one_is_gone() -> None:
    # One row of weight 2^200 goes first; then classes of 1 and 3 share 100 draws. The mean of the
    # second over 400 keys is within 5 deviations but for one set of keys in a million.
    values, sizes = np.array([2.0**200, 1.0, 3.0]), [1, 10_000, 10_000]
    counts = np.array(
        [wr.class_counts(values, sizes, 101, stream_key(s, 0, "", "c")) for s in range(400)]
    )
    assert (counts[:, 0] == 1).all()
    assert abs(counts[:, 2].mean() - 75) < 5 * math.sqrt(100 * 0.75 * 0.25 / 400) + 0.2


@pytest.mark.parametrize("by_class", [True, False])
def test_every_part_of_the_result_has_the_same_mix(by_class: bool) -> None:
    # A tenth of the rows has nine times the weight. Peers give heavy rows first; here the mix of
    # every tenth is that of all, within 5 deviations of a hypergeometric draw.
    n, k = 20_000, 10_000
    heavy = np.arange(n) % 10 == 0
    population = rowset.everything(n)
    weights: ClassWeights | RowWeights = RowWeights(np.where(heavy, 9.0, 1.0))
    if by_class:
        members = partition((~heavy).astype(np.uint8), 2, population)
        weights = ClassWeights(np.array([9.0, 1.0]), members)
    ids, notes = sample(population, weights, k, False, 5, "test")
    assert notes == () and np.unique(ids).size == k
    share = heavy[ids].mean()
    assert abs(share - 0.199) < 0.01  # not 0.5: what drawing half of all rows leaves
    tenths = heavy[ids].reshape(10, -1).mean(axis=1)
    deviation = math.sqrt(share * (1 - share) / 1000 * 0.9)
    assert (np.abs(tenths - share) < 5 * deviation).all()


def test_many_classes_are_drawn_without_replacement() -> None:
    weights = _classes([float(c % 7) for c in range(200)], [3] * 200)
    ids, notes = sample(rowset.everything(600), weights, 600, False, 0, "test")
    assert np.array_equal(np.sort(ids), np.flatnonzero(np.arange(600) // 3 % 7))
    assert ids.size == 513 and "only 513 rows can be drawn, not 600" in notes[0]


# -- from slots to rows ---------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(0, 2**32), st.booleans())
def test_a_bulk_request_maps_slots_as_a_small_one_does(k: int, seed: int, lists: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9000))
    codes = rng.integers(0, k, n).astype(np.uint8)
    parts: tuple[RowSet, ...] = partition(codes, k, rowset.everything(n))
    if lists:
        parts = tuple(Ids(rng.permutation(p.to_numpy()), n) for p in parts)
    laid = layout.layout(parts)
    slots = rng.integers(0, n, 500)
    exact = np.concatenate([p.to_numpy() for p in parts])[slots]
    table = laid._table()
    bulk, small = slots.copy(), slots.copy()
    layout.GATHER(table, bulk)
    laid._look_up(small)
    assert np.array_equal(bulk, exact) and np.array_equal(small, exact)
    mapped = slots.copy()
    laid.mapper(slots.size)(mapped)
    assert np.array_equal(mapped, exact)


def test_keys_have_two_halves() -> None:
    assert Key(1 << 32 | 5, 7).array().tolist() == [5, 1, 7]
