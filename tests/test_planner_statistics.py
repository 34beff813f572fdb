"""Chi-square and G-tests of draws, at 10^3, 2^24 + 1 and 10^8 rows.

Seeds are fixed, so a run is red or green for ever; what chance could do is said once, for all of them:
were the seeds new, a planner without fault would fail any test of CHECKS with the probability
FALSE_ALARM at most. Each of them gets an equal part of it (Bonferroni), half at either end: draws may
neither be further from what the weights promise than chance takes them, nor nearer.

What the tests can see is shown below them, with samplers that have the faults of others.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

import numpy as np
import pytest

from tests.profiles import NIGHTLY
from tql import rowset
from tql.partition import partition
from tql.planner import Plan, make_plan, quota
from tql.planner.rng import Key, philox_twin
from tql.rowset import Range
from tql.weights import ClassWeights, RowWeights

FALSE_ALARM: Final = 1e-4
DRAWS: Final = 300_000
ROWS: Final = (10**3, 2**24 + 1, 10**8)
BINS: Final = 50
WEIGHTS: Final = np.array([10.0, 5.0, 1.0, 0.5, 3.0, 0.0, 2.0])
SHARES: Final = np.array([0.05, 0.15, 0.3, 0.2, 0.05, 0.15, 0.1])  # of the rows
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


# -- how likely ------------------------------------------------------------------------------------


def tail(statistic: float, freedom: int) -> float:
    """The probability that chi-square with `freedom` degrees of freedom is `statistic` or more.

    The upper incomplete gamma function: its series below the mean, a continued fraction above.
    """
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for k in range(1, 10_000):
            term *= x / (a + k)
            total += term
            if term < total * 1e-16:
                break
        return 1.0 - scale * total
    b = x + 1 - a
    c, d = 1e300, 1 / b
    h = d
    for k in range(1, 10_000):
        b += 2
        d = 1 / (b - k * (k - a) * d)
        c = b - k * (k - a) / c
        h *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return scale * h


def g_test(counts: Ints, shares: Floats) -> float:
    """How likely counts at least so far from the shares are (likelihood ratio)."""
    assert (counts[shares == 0] == 0).all(), "something without weight was drawn"
    counts, shares = counts[shares > 0], shares[shares > 0] / shares.sum()
    expected = counts.sum() * shares
    assert expected.min() > 20, "too few draws for this test"
    seen = counts > 0
    g = 2 * (counts[seen] * np.log(counts[seen] / expected[seen])).sum()
    return tail(float(g), counts.size - 1)


def chi_square(counts: Floats, means: Floats, variances: Floats, freedom: int) -> float:
    """The same for counts that have these means and variances."""
    return tail(float(((counts - means) ** 2 / variances).sum()), freedom)


# -- plans -----------------------------------------------------------------------------------------


def cuts(rows: int, parts: int) -> Ints:
    """Where `parts` parts of so many rows begin, and their end: row r is in part r * parts // rows."""
    return -(-np.arange(parts + 1) * rows // parts)


def sizes_of(rows: int) -> Ints:
    sizes = (SHARES * rows).astype(np.int64)
    sizes[-1] += rows - sizes.sum()
    return sizes


@lru_cache(maxsize=3)
def classes(rows: int) -> ClassWeights:
    """Rows in seven classes: scattered in bitmaps, or, of 10^8, one range after another."""
    sizes = sizes_of(rows)
    if rows > 10**7 * 5:
        ends = np.cumsum(sizes).tolist()
        return ClassWeights(WEIGHTS, tuple(map(Range, [0, *ends[:-1]], ends, [rows] * 7)))
    labels = np.repeat(np.arange(7), sizes).astype(np.uint8)
    labels = np.random.default_rng(0).permutation(labels)
    return ClassWeights(WEIGHTS, partition(labels, 7, rowset.everything(rows)))


def class_of(weights: ClassWeights, ids: Ints) -> Ints:
    found = np.full(ids.size, -1)
    for c, members in enumerate(weights.members):
        found[members.contains(ids)] = c
    return found


def plan_by_class(rows: int, seed: int = 1, size: int = DRAWS, **choices: Any) -> Plan:
    return make_plan(rowset.everything(rows), classes(rows), seed=seed, size=size, **choices)


def masses(rows: int) -> Floats:
    return (WEIGHTS * sizes_of(rows)).astype(np.float64)


@lru_cache(maxsize=1)
def row_weights(rows: int) -> Floats:
    """Log-normal, from 10^-5 to 10^5 or so."""
    return np.random.default_rng(7).lognormal(sigma=2, size=rows)


def bins_by_weight(values: Floats) -> Ints:
    """BINS kinds of rows, from the lightest to the heaviest, of about equal sums of weights."""
    some = np.sort(values[:: max(1, values.size // 100_000)])
    sums = np.cumsum(some)
    between = some[np.searchsorted(sums, sums[-1] * np.arange(1, BINS) / BINS)]
    return np.searchsorted(between, values, side="right").astype(np.int64)


def summed(bins: Ints, values: Floats) -> Floats:
    """The sum of the values of each bin."""
    return np.bincount(bins, values, BINS).astype(np.float64)


# -- independent draws -----------------------------------------------------------------------------


def class_shares(rows: int, seed: int = 1, draws: int = DRAWS) -> float:
    """Of the classes: weight times rows."""
    weights = classes(rows)
    ids = plan_by_class(rows, seed, draws).ids()
    return g_test(np.bincount(class_of(weights, ids), minlength=7), masses(rows))


def rows_of_classes(rows: int) -> float:
    """Of rows within their class, in 20 parts of it."""
    weights, ids = classes(rows), plan_by_class(rows).ids()
    counts, shares = [], []
    for c in np.flatnonzero(WEIGHTS > 0).tolist():
        members = weights.members[c]
        mine = ids[members.contains(ids)]
        at = members.rank(mine) * 20 // len(members)
        counts.append(np.bincount(at, minlength=20))
        shares.append(np.diff(cuts(len(members), 20)) * WEIGHTS[c])
    return g_test(np.concatenate(counts), np.concatenate(shares))


def neighbours(rows: int) -> float:
    """Of the pairs of classes that stand at t and t + 1, of even t."""
    found = class_of(classes(rows), plan_by_class(rows).ids())
    pairs = np.bincount(found[::2] * 7 + found[1::2], minlength=49)
    share = masses(rows) / masses(rows).sum()
    return g_test(pairs, np.outer(share, share).reshape(-1))


def epochs(rows: int) -> float:
    """Of the pairs of classes that stand at the same place in two epochs."""
    plan, weights = plan_by_class(rows), classes(rows)
    first, second = (class_of(weights, plan.ids(e)) for e in (4, 5))
    share = masses(rows) / masses(rows).sum()
    return g_test(np.bincount(first * 7 + second, minlength=49), np.outer(share, share).reshape(-1))


def row_shares(rows: int) -> float:
    """Of rows with a weight each, the lightest to the heaviest."""
    values = row_weights(rows)
    plan = make_plan(rowset.everything(rows), RowWeights(values), seed=3, size=DRAWS)
    bins = bins_by_weight(values)
    shares = summed(bins, values)
    return g_test(np.bincount(bins[plan.ids()], minlength=BINS), shares)


def places_of_rows(rows: int) -> float:
    """Of rows with a weight each, the first to the last."""
    values = row_weights(rows)
    plan = make_plan(rowset.everything(rows), RowWeights(values), seed=4, size=DRAWS)
    bins = np.arange(rows) * BINS // rows
    return g_test(np.bincount(bins[plan.ids()], minlength=BINS), summed(bins, values))


# -- without replacement ---------------------------------------------------------------------------


def heavy_counts(heavy: int, light: int, ratio: float, draws: int) -> Floats:
    """The exact probabilities of 0 … draws heavy rows among so many successive draws."""
    chance = np.zeros(draws + 1)
    chance[0] = 1.0
    x = np.arange(draws + 1)
    for t in range(draws):
        mass = np.maximum(heavy - x, 0) * ratio
        p = mass / (mass + np.maximum(light - (t - x), 0) + 1e-300)
        p[x > t] = 0
        chance[1:] = chance[1:] * (1 - p[1:]) + chance[:-1] * p[:-1]
        chance[0] *= 1 - p[0]
    return chance


def counts_without_replacement(rows: int, by_class: bool = True) -> float:
    """Of how many heavy rows 40 draws take, over 1,500 epochs."""
    heavy, draws, runs = rows // 20, 40, 1500
    members = (Range(0, heavy, rows), Range(heavy, rows, rows))
    weights: ClassWeights | RowWeights = ClassWeights(np.array([30.0, 1.0]), members)
    if not by_class:
        weights = RowWeights(np.where(np.arange(rows) < heavy, 30.0, 1.0))
    plan = make_plan(rowset.everything(rows), weights, size=draws, replace=False, seed=8)
    found = np.array([int((plan.ids(e) < heavy).sum()) for e in range(runs)])
    chance = heavy_counts(heavy, rows - heavy, 30.0, draws)
    # Counts that are expected fewer than 21 times are put together with their neighbours.
    low = int(np.searchsorted(np.cumsum(chance), 21 / runs))
    high = int(draws - np.searchsorted(np.cumsum(chance[::-1]), 21 / runs))
    clipped = np.bincount(np.clip(found, low, high) - low, minlength=high - low + 1)
    shares = chance[low : high + 1].copy()
    shares[0] += chance[:low].sum()
    shares[-1] += chance[high + 1 :].sum()
    return g_test(clipped, shares)


def rows_without_replacement(rows: int) -> float:
    """Of which rows a hundredth of them are, the lightest to the heaviest.

    A row is among them with probability 1 - exp(-w x s), but for parts of 1 / draws: of so many,
    that is far below chance.
    """
    values = row_weights(rows)
    draws = rows // 100
    plan = make_plan(rowset.everything(rows), RowWeights(values), size=draws, replace=False, seed=5)
    s = draws / values.sum()  # too small; Newton's steps come from below, as the sum is concave
    for _ in range(8):
        out = np.exp(-values * s)
        s += (draws - (1 - out).sum()) / (values * out).sum()
    p = -np.expm1(-values * s)
    assert abs(p.sum() / draws - 1) < 1e-9
    bins = bins_by_weight(p)
    counts = np.bincount(bins[plan.ids()], minlength=BINS).astype(np.float64)
    means, variances = summed(bins, p), summed(bins, p * (1 - p))
    # As many as were asked for, never more nor fewer: one degree of freedom is gone.
    return chi_square(counts, means, variances, BINS - 1)


def prefix_of_a_class(rows: int) -> float:
    """Of rows of equal weight among 20,000 taken of them (at 1,000 rows: 500, in 400 epochs)."""
    draws, runs = (500, 400) if rows == 1000 else (20_000, 10)
    plan = make_plan(rowset.everything(rows), size=draws, replace=False, seed=6)
    counts = np.zeros(BINS)
    for epoch in range(runs):
        counts += np.bincount(plan.ids(epoch) * BINS // rows, minlength=BINS)
    means = runs * draws * np.diff(cuts(rows, BINS)) / rows
    # Each epoch takes exactly so many: hypergeometric, whose part of the variance this is.
    variances = means * (rows - draws) / (rows - 1)
    return chi_square(counts, means, variances, BINS - 1)


# -- by quota --------------------------------------------------------------------------------------


def offsets(rows: int, kind: str = "classes") -> float:
    """Of the epochs in which a class (its rows together) is rounded up: the fraction of its quota."""
    half = rows // 2
    weights: ClassWeights | RowWeights
    if kind == "rows":
        values = np.where(np.arange(rows) < half, 1.0, 2.7) + 1e-3 * np.arange(rows) / rows
        weights, mass = RowWeights(values), (values[:half].sum(), values[half:].sum())
    else:
        members = (Range(0, half, rows), Range(half, rows, rows))
        weights, mass = ClassWeights(np.array([1.0, 2.7]), members), (half, (rows - half) * 2.7)
    draws, runs = 101, 1000
    edges = np.array([0, half, rows])
    plan = make_plan(rowset.everything(rows), weights, size=draws, mix="epoch", seed=2, edges=edges)
    due = float(draws * mass[0] / sum(mass))
    found = np.array([int((plan.ids(e) < half).sum()) for e in range(runs)]) - math.floor(due)
    assert set(found.tolist()) <= {0, 1}
    return g_test(np.bincount(found, minlength=2), np.array([1 - due % 1, due % 1]))


def rows_by_quota(rows: int) -> float:
    """Of rows within cells of class and fragment, in 10 parts of each.

    A cell of s rows that has m draws takes m of them: hypergeometric, as its variance says.
    """
    parts, size = 10, rows // 40
    edges = np.append(np.arange(40) * size, rows)
    members = (Range(0, 20 * size, rows), Range(20 * size, rows, rows))
    weights = ClassWeights(np.array([1.0, 3.0]), members)
    draws = min(rows // 4, DRAWS)
    runs = 60 if rows < 10**4 else 1
    plan = make_plan(rowset.everything(rows), weights, size=draws, mix="epoch", seed=2, edges=edges)
    inner = size * 39
    statistic, freedom = 0.0, 0
    counts = np.zeros((39, parts))
    means, variances = np.zeros((39, parts)), np.zeros((39, parts))
    part_sizes = np.diff(cuts(size, parts))
    for epoch in range(runs):
        ids = plan.ids(epoch)
        ids = ids[ids < inner]
        cell, at = np.divmod(ids, size)
        seen = np.zeros((39, parts))
        np.add.at(seen, (cell, at * parts // size), 1)
        m = seen.sum(1, keepdims=True)
        counts += seen
        means += m * part_sizes / size
        variances += m * part_sizes / size * (size - m) / (size - 1)
    freedom = 39 * (parts - 1)
    statistic = float(((counts - means) ** 2 / variances).sum())
    return tail(statistic, freedom)


# -- all of them -----------------------------------------------------------------------------------


def every_check() -> dict[str, Callable[[], float]]:
    """Name → a probability, even between 0 and 1 if draws are what they ought to be."""
    by_rows: dict[str, Callable[[int], float]] = {
        "classes": class_shares,
        "rows of classes": rows_of_classes,
        "neighbours": neighbours,
        "epochs": epochs,
        "counts without replacement": counts_without_replacement,
        "rows of equal weight without replacement": prefix_of_a_class,
        "offsets of quotas": offsets,
        "rows by quota": rows_by_quota,
    }
    checks = {
        f"{name}, {rows} rows": partial(check, rows)
        for name, check in by_rows.items()
        for rows in ROWS
    }
    checks["counts without replacement by row, 1000 rows"] = partial(
        counts_without_replacement, 1000, False
    )
    checks["offsets of quotas by row, 1000 rows"] = partial(offsets, 1000, "rows")
    # 10^8 weights of their own and all that is made of them take 5 GB.
    for rows in ROWS if NIGHTLY else ROWS[:2]:
        checks[f"rows, {rows} rows"] = partial(row_shares, rows)
        checks[f"places of rows, {rows} rows"] = partial(places_of_rows, rows)
        if rows > 1000:
            checks[f"rows without replacement, {rows} rows"] = partial(
                rows_without_replacement, rows
            )
    return checks


CHECKS: Final = every_check()
LEVEL: Final = FALSE_ALARM / len(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_draws_are_what_the_weights_say_within_chance(check: str) -> None:
    p = CHECKS[check]()
    assert LEVEL / 2 < p < 1 - LEVEL / 2


# -- what the tests see ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statistic", "freedom", "p"),
    [(3.841459, 1, 0.05), (18.30704, 10, 0.05), (37.56623, 14, 6.02e-4), (149.449, 100, 1e-3),
     (2.558212, 10, 0.99), (1.0, 1, 0.3173105), (59.698, 4, 3.4e-12)],
)  # fmt: skip
def test_the_tail_of_chi_square_is_that_of_the_tables(
    statistic: float, freedom: int, p: float
) -> None:
    assert abs(tail(statistic, freedom) / p - 1) < 0.02


def test_chance_is_as_large_as_it_is_said_to_be() -> None:
    """Of 400 seeds, a twentieth is beyond the twentieth; 5 standard deviations are allowed."""
    found = np.array([class_shares(1000, seed, 20_000) for seed in range(400)])
    for level in (0.05, 0.5, 0.95):
        assert abs((found < level).mean() - level) < 5 * math.sqrt(level * (1 - level) / 400)


def test_a_weight_that_is_off_by_a_fiftieth_is_seen() -> None:
    biased = WEIGHTS.copy()
    biased[2] *= 1.02
    rows, right = 10**8, masses(10**8)
    weights = ClassWeights(biased, classes(rows).members)
    plan = make_plan(rowset.everything(rows), weights, seed=1, size=DRAWS * 4)
    assert g_test(np.bincount(class_of(weights, plan.ids()), minlength=7), right) < LEVEL / 2


def test_sums_in_32_bit_floats_are_seen() -> None:
    """What draws of 2^24 rows by a running sum of float32 do: late rows of weight 1 get nothing."""
    rows = 2**24 + 1
    values = np.ones(rows)
    values[: rows // 2] = 8.0
    sums = np.cumsum(values.astype(np.float32))
    u = np.random.default_rng(0).random(DRAWS) * sums[-1]
    ids = np.minimum(np.searchsorted(sums, u.astype(np.float32), side="right"), rows - 1)
    bins = np.arange(rows) * BINS // rows
    assert g_test(np.bincount(bins[ids], minlength=BINS), summed(bins, values)) < LEVEL / 2


def test_draws_that_are_too_even_are_seen() -> None:
    """Draws by quota are no independent draws."""
    rows = 10**8
    weights = classes(rows)
    ids = plan_by_class(rows, mix="epoch").ids()
    assert g_test(np.bincount(class_of(weights, ids), minlength=7), masses(rows)) > 1 - LEVEL / 2


def test_a_quota_that_is_always_rounded_the_same_way_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = philox_twin(Key(1, 2), np.arange(100))
    monkeypatch.setattr(quota, "philox_twin", lambda key, at: tuple(k[at] for k in kept))
    assert offsets(1000) < LEVEL / 2


def test_heavy_rows_taken_too_early_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys u / w instead of -log(u) / w: right for few draws of equal rows, wrong for others."""
    from tql.planner import without_replacement as module

    real = module.minus_log_twin
    monkeypatch.setattr(type(module.KEYS), "pays", lambda self, ns: False)
    monkeypatch.setattr(module, "minus_log_twin", lambda x: 1 - np.exp(-real(x)))
    assert counts_without_replacement(1000, False) < LEVEL / 2
