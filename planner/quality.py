"""How well an order in windows mixes classes, and what it reads: known before anything is read.

A batch takes m draws of a window of L, each set of m as likely as any other, and what the L are is
known from the draw line: so the number of a class among the m is hypergeometric, and its mean and
variance are exact. What is wanted of them:

* the *variance inflation* of a batch (VIF): the variance of a class's count over the batches of an
  epoch, in units of B p (1 - p), which independent draws would have, as a mean over the classes.
  1 is as good as chance, 4 means that a batch tells as much as one of a quarter its size;
* the distinct classes of a batch.

The other way round, the length of windows follows from a VIF: there, the variance between windows is
that of units within their strata, since a window has one unit of each.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.planner.line import DrawLine, draw_line
from tql.planner.rng import Int64s, Key
from tql.planner.runs import Runs

Float64s: TypeAlias = NDArray[np.float64]

_MOST: Final = 1 << 18  # numbers looked at once: of parts of batches, times classes
_BATCHES: Final = 2048  # batches looked at, evenly spread, where an epoch has more
_TRIED: Final = 256  # and while the length of windows is sought


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The draws of an epoch in the order in which windows take them: unit after unit.

    begins   int64 (U + 1,) where each unit begins, and the number of draws; none is empty
    of       int64 (U,) the fragment that its rows lie in; passes  int64 (U,) over that fragment
    classes  float64 (U, K) how many of its draws are of each class
    noise    how much the classes of a unit's draws vary about `classes`, of what they would if its
             draws picked their rows independently: 1 where they do, 0 where rows come in turn
    """

    begins: Int64s
    of: Int64s
    passes: Int64s
    classes: Float64s
    noise: float = 0.0

    def __post_init__(self) -> None:
        assert self.begins.size - 1 == self.of.size == self.passes.size == len(self.classes)
        assert (np.diff(self.begins) > 0).all(), "a unit without draws"

    def __len__(self) -> int:
        """Draws in an epoch."""
        return int(self.begins[-1])

    def length(self, units: int) -> int:
        """The draws of a window that so many units make, of average length."""
        return max(1, -(-len(self) * units // self.of.size))


def units_of(line: DrawLine, shares: Float64s, noise: float = 0.0) -> Units:
    """The units of a draw line; float64 `shares` (W, F, K) are those of each class in the draws of
    rows of weight class w in fragment f of the line; W = 1 is for all of them.
    """
    classes = line.classes if len(shares) > 1 else np.zeros_like(line.classes)
    counts = np.diff(line.firsts)[:, None] * shares[classes, line.fragment[line.unit]]
    held = np.add.reduceat(counts, line.heads[:-1])
    return Units(line.begins, line.fragment, line.pass_, held, noise)


def noise_of_rows(
    values: Float64s, fragment: Int64s, line: DrawLine, draws: int, replace: bool
) -> float:
    """The noise of units that draw rows by quotas: a row of quota q in a pass is there ⌊q⌋ or ⌈q⌉ times.

    values    float64 (n,) weights of the rows; `fragment`, int64 (n,), is the one of `line` that each
              is in
    """
    passes = np.zeros(line.edges.size - 1, np.int64)
    np.maximum.at(passes, line.fragment, line.pass_ + 1)
    quotas = values * (draws / values.sum())
    quotas = quotas if replace else np.minimum(quotas, 1)
    each = np.maximum(passes[fragment], 1)
    part = (quotas / each) % 1
    return float((each * part * (1 - part)).sum() / quotas.sum())


@dataclass(frozen=True, slots=True)
class Quality:
    """What batches of an order are like.

    vif      variance inflation; None where all draws are of one class
    classes  expected number of distinct classes in a batch
    ideal    what it would be for batches of independent draws
    """

    vif: float | None
    classes: float
    ideal: float


def icc(histogram: NDArray[np.int64]) -> float:
    """How alike the rows of a fragment are: the intra-class correlation of int64 (F, K) counts.

    1 where each fragment has rows of one class only, about 0 where rows lie as chance would have
    it; from an analysis of variance of each class's indicator, classes weighing 1 / p (1 - p).
    """
    counts = histogram[histogram.sum(axis=1) > 0].astype(np.float64)
    sizes, rows, groups = counts.sum(axis=1), counts.sum(), len(counts)
    if groups < 2 or rows <= groups:
        return 0.0
    p = counts.sum(axis=0) / rows
    some = (p > 0) & (p < 1)
    if not some.any():
        return 0.0
    shares = counts[:, some] / sizes[:, None]
    scale = 1 / (p[some] * (1 - p[some]))
    between = float((sizes @ (shares - p[some]) ** 2 * scale).mean()) / (groups - 1)
    within = float((sizes @ (shares * (1 - shares)) * scale).mean()) / (rows - groups)
    usual = (rows - float(sizes @ sizes) / rows) / (groups - 1)
    total = between + (usual - 1) * within
    return max(0.0, (between - within) / total) if total > 0 else 0.0


# -- how batches are mixed ------------------------------------------------------------------------


def quality(of: Units, length: int, lanes: int, batch: int, most: int = _BATCHES) -> Quality:
    """The batches of `batch` positions of an order in windows of `length` draws on `lanes` lanes.

    In the mean over all keys of the orders within windows and units, for the batches looked at: all
    of them where an epoch has up to `most`, else as many, evenly spread. A last batch that is not
    full counts only where there is no other. `vif` is exact where windows end with units and near
    it elsewhere; `classes` takes a batch to have of a unit that is cut what is its share.
    """
    draws, batch = len(of), min(batch, len(of))
    upto = np.zeros((of.of.size + 1, of.classes.shape[1]))
    np.cumsum(of.classes, axis=0, out=upto[1:])
    p = upto[-1] / draws
    mixed = (p > 0) & (p < 1)
    alike = _alike_upto(of) if of.noise else None
    per_batch = 3 * lanes * p.size
    spread = _spread(draws // batch, min(most, max(64, 64 * _MOST // per_batch)))
    vif, classes = 0.0, 0.0
    for some in np.array_split(spread, max(1, spread.size * per_batch // _MOST)):
        parts = parts_of(draws, some * batch, batch, length, lanes)
        drawn, first = _drawn(of, upto, alike, parts)
        missing = _log_missing(drawn)
        classes += float(-np.expm1(np.add.reduceat(missing, first)).sum())
        if mixed.any():
            off, variance = _moments(drawn, p, mixed, of.noise)
            off, variance = np.add.reduceat(off, first), np.add.reduceat(variance, first)
            scale = batch * p[mixed] * (1 - p[mixed])
            vif += float(((variance + off * off) / scale).mean(axis=1).sum())
    ideal = float((1 - (1 - p) ** batch).sum())
    return Quality(vif / spread.size if mixed.any() else None, classes / spread.size, ideal)


def _spread(there: int, most: int) -> Int64s:
    """At most so many of 0 … `there` - 1, evenly spread."""
    some = min(there, most)
    return (np.arange(some, dtype=np.int64) * 2 + 1) * there // (2 * some)


def lane_starts(draws: int, lanes: int) -> Int64s:
    """Where the lanes begin on the line of draws, and its end: int64 (lanes + 1,)."""
    size, longer = divmod(draws, lanes)
    lane = np.arange(lanes + 1, dtype=np.int64)
    return lane * size + np.minimum(lane, longer)


def parts_of(
    draws: int, first: Int64s, batch: int, length: int, lanes: int
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """What batches of positions first[i] … first[i] + batch - 1 take of windows.

    For each part: where its window starts and stops on the line, and how many of its draws the
    batch takes; then the first part of each batch. Batches come in order, all of them have parts;
    neighbouring windows that a batch takes whole are one part.
    """
    begins = lane_starts(draws, lanes)
    lane = np.arange(lanes, dtype=np.int64)
    low = (first[:, None] - lane + lanes - 1) // lanes  # places of each lane that come before
    high = (first[:, None] + batch - lane + lanes - 1) // lanes
    head, tail = -(-low // length), high // length  # windows taken whole: from head to tail
    within = head > tail  # one window, neither end of which is taken
    from_ = np.stack([low, head * length, tail * length], axis=2)
    to = np.stack([np.where(within, high, head * length), tail * length, high], axis=2)
    at = np.stack([low // length, head, tail], axis=2)
    upto = np.stack([low // length + 1, tail, tail + 1], axis=2)
    taken = to - from_
    taken[within, 2] = 0
    there = taken > 0
    begin, end = begins[:-1][None, :, None], begins[1:][None, :, None]
    starts = np.broadcast_to(begin + at * length, there.shape)[there]
    stops = np.minimum(begin + upto * length, end)[there]
    parts = there.sum(axis=(1, 2))
    return starts, stops, taken[there], np.cumsum(parts) - parts


def ranges(sizes: Int64s) -> tuple[Int64s, Int64s]:
    """0 repeated sizes[0] times, 1 …; and beside it the numbers from 0 on of each run."""
    each = np.repeat(np.arange(sizes.size), sizes)
    return each, np.arange(each.size) - (np.cumsum(sizes) - sizes)[each]


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Draws without replacement from stretches of the line; float64 all, (n,) or (n, K).

    taken   of each stretch; it is the end of a unit, whole units, and the begin of one: three parts
    sizes   (3, n) of the parts; 0 where there is none
    counts  (3, n, K) draws of each class in them, in the mean over the orders within units
    whole   (3, n) sizes of what the parts are a fair sample of: of the unit, or of themselves
    alike   (n, K) sums over the draws of the square of their unit's share of the class, where rows
            are picked independently
    """

    taken: Float64s
    sizes: Float64s
    counts: Float64s
    whole: Float64s
    alike: Float64s | None


def _alike_upto(of: Units) -> Float64s:
    """Running sum of `_Drawn.alike` over the units, float64 (U + 1, K)."""
    upto = np.zeros((of.of.size + 1, of.classes.shape[1]))
    np.square(of.classes, out=upto[1:])
    upto[1:] /= np.diff(of.begins)[:, None]
    return np.cumsum(upto, axis=0, out=upto)


def _drawn(
    of: Units, upto: Float64s, alike_upto: Float64s | None,
    parts: tuple[Int64s, Int64s, Int64s, Int64s],
) -> tuple[_Drawn, Int64s]:  # fmt: skip
    """What batches draw, and the first stretch of each batch; float64 (U + 1, K) are running sums."""
    starts, stops, taken, first = parts
    low = np.searchsorted(of.begins, starts, side="right") - 1
    high = np.searchsorted(of.begins, stops, side="left") - 1
    # What lies within one unit is a fair sample of it, and so are several neighbours together.
    inside = low == high
    new = np.append(True, (low[1:] != low[:-1]) | ~(inside[1:] & inside[:-1]))
    new[first] = True
    at = np.flatnonzero(new)
    first = (np.cumsum(new) - 1)[first]
    taken, low, high, inside = np.add.reduceat(taken, at), low[at], high[at], inside[at]
    starts = np.where(inside, of.begins[low], starts[at])
    stops = np.where(inside, of.begins[low + 1], stops[at])
    head = np.where(of.begins[low] < starts, of.begins[low + 1] - starts, 0)
    tail = np.where(stops < of.begins[high + 1], stops - of.begins[high], 0)
    size = np.diff(of.begins)
    between = upto[high + (tail == 0)] - upto[low + (head > 0)]
    sizes = np.stack([head, stops - starts - head - tail, tail]).astype(np.float64)
    ends = [(n / size[u])[:, None] * of.classes[u] for n, u in ((head, low), (tail, high))]
    whole = np.stack([size[low], sizes[1], size[high]]).astype(np.float64)
    counts = np.stack([ends[0], np.maximum(between, 0), ends[1]])
    alike = None
    if alike_upto is not None:
        alike = alike_upto[high + (tail == 0)] - alike_upto[low + (head > 0)]
        for n, u in ((head, low), (tail, high)):
            alike += n[:, None] * (of.classes[u] / size[u][:, None]) ** 2
    return _Drawn(taken.astype(np.float64), sizes, counts, whole, alike), first


def _moments(
    of: _Drawn, p: Float64s, some: NDArray[np.bool_], noise: float
) -> tuple[Float64s, Float64s]:
    """Mean less what the classes' shares p make of it, and variance of the number of each class;
    float64 (n, K) of `some` classes.
    """
    taken, size = of.taken[:, None], of.sizes.sum(axis=0)[:, None]
    chance = of.counts.sum(axis=0)[:, some] / size
    off, finite = taken * (chance - p[some]), (size - taken) / np.maximum(size - 1, 1)
    if of.alike is not None:
        # A batch is drawn without replacement from what the window was given, which varies itself.
        alike, within = of.alike[:, some] / size, finite * chance * (1 - chance)
        return off, taken * (within + noise * (1 - finite) * np.maximum(chance - alike, 0))
    unsure = np.zeros_like(chance)  # the variance of `chance`
    for part in (0, 2):
        n, whole = of.sizes[part][:, None], of.whole[part][:, None]
        share = of.counts[part][:, some] / np.maximum(n, 1)
        unsure += n * (whole - n) / np.maximum(whole - 1, 1) * share * (1 - share)
    unsure /= size * size
    variance = taken * finite * np.maximum(chance * (1 - chance) - unsure, 0)
    return off, variance + taken * taken * unsure


def _log_missing(of: _Drawn) -> Float64s:
    """The logarithm of the chance that a stretch gives none of a class, float64 (n, K)."""
    log = np.zeros(of.counts.shape[1:])
    size = of.sizes.sum(axis=0)
    if of.alike is not None:
        share = np.minimum(of.counts.sum(axis=0) / size[:, None], 1)
        with np.errstate(divide="ignore"):  # the logarithm of no chance
            return np.where(share > 0, of.taken[:, None] * np.log1p(-share), log)
    for n, counts, whole in zip(of.sizes, of.counts, of.whole, strict=True):
        here = np.flatnonzero(n)
        taken = (of.taken * n / size)[here]
        enlarged = counts[here] * (whole / np.maximum(n, 1))[here][:, None]
        fewer = np.floor(taken)
        none = np.exp(log_none(whole[here][:, None], enlarged, fewer[:, None]))
        more = np.flatnonzero(taken > fewer)
        at = here[more]
        one_more = log_none(whole[at][:, None], enlarged[more], fewer[more][:, None] + 1)
        none[more] += (taken - fewer)[more][:, None] * (np.exp(one_more) - none[more])
        with np.errstate(divide="ignore"):  # the logarithm of no chance
            log[here] += np.log(none)
    return log


def log_none(size: Float64s, counts: Float64s, taken: Float64s) -> Float64s:
    """The logarithm of the chance that `taken` of `size` draws have none of `counts`."""
    rest = np.maximum(size - counts, 0.0)
    possible = rest - taken > -1e-6  # counts may be no whole numbers
    safe = np.where(possible, rest, taken)
    left = np.maximum(safe - taken, 0.0)
    log = _log_factorial(safe) - _log_factorial(left)
    log = log - (_log_factorial(size) - _log_factorial(size - taken))
    return np.where(possible, np.minimum(log, 0.0), -np.inf)


def _log_factorial(n: NDArray[np.float64]) -> Float64s:
    """ln n! of real n ≥ 0, to 10^-9: Stirling's series of n + 8, less what lies between."""
    x = n + 8.0
    between = (n + 1) * (n + 2) * (n + 3) * (n + 4) * (n + 5) * (n + 6) * (n + 7) * (n + 8)
    series = (x + 0.5) * np.log(x) - x + 0.5 * np.log(2 * np.pi) + 1 / (12 * x)
    log: Float64s = series - 1 / (360 * x**3) + 1 / (1260 * x**5) - np.log(between)
    return log


# -- from a target to the length of windows -------------------------------------------------------


def length_of_vif(
    line: DrawLine, shares: Float64s, vif: float, lanes: int, batch: int, key: Key,
    noise: float = 0.0,
) -> int:  # fmt: skip
    """The shortest windows, in draws, whose batches have at most this VIF, or all draws.

    line    of any windows on so many lanes; shares, noise  as for `units_of`
    key     of a dealing to try
    """
    of = units_of(line, shares, noise)
    dealt, most = _Dealt(of), -(-of.of.size // lanes)
    vif *= 1 + 1e-9  # sums of floats differ in the last bits among machines; windows must not
    low, high = 0, most  # `high` units of each lane do, `low` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if dealt.vif(middle, lanes, batch) <= vif else (middle, high)
    while high < most:
        length = of.length(high)
        tried = units_of(dealt_anew(line, length, lanes, key), shares, noise)
        found = quality(tried, length, lanes, batch, _TRIED).vif
        if found is None or found <= vif:
            break
        high = min(most, high + 1 + high // 16)
    return of.length(high) if high < most else len(of)


def dealt_anew(line: DrawLine, length: int, lanes: int, key: Key) -> DrawLine:
    """The same units for windows of another length."""
    of, counts = line.unit, np.diff(line.firsts)
    fragments, passes = line.fragment[of], line.pass_[of]
    runs = Runs(fragments, passes, line.starts, line.strides, counts, line.classes, line.edges)
    return draw_line(runs, length, lanes, key)


def in_order(of: Units) -> Int64s:
    """The units in the order of the data, in which they are cut into strata."""
    return np.lexsort((of.passes, of.of))


def strata_of(units: int, strata: int) -> Int64s:
    """Where the strata begin, and their end."""
    return np.arange(strata + 1, dtype=np.int64) * units // strata


class _Dealt:
    """Windows of one unit of each stratum."""

    def __init__(self, of: Units) -> None:
        order, draws = in_order(of), len(of)
        p = of.classes.sum(axis=0) / draws
        mixed = (p > 0) & (p < 1)
        self._units = of
        self._scale = 1 / (p[mixed] * (1 - p[mixed]))
        # How alike draws of a unit are: one of the other, where none of its rows comes twice.
        self._alike = 1.0
        if of.noise and mixed.any():
            squares = of.classes[:, mixed] ** 2
            alike = (1 / np.diff(of.begins)) @ squares / draws
            self._alike = float(((alike - p[mixed] ** 2) * self._scale).mean())
        # What a unit has of a class beyond the class's share, and its square, summed from the left.
        over = of.classes[order][:, mixed] - np.outer(np.diff(of.begins)[order], p[mixed])
        none = np.zeros((1, over.shape[1]))
        self._sums = np.concatenate([none, np.cumsum(over, axis=0)])
        self._squares = np.concatenate([none, np.cumsum(over * over, axis=0)])

    def vif(self, alive: int, lanes: int, batch: int) -> float:
        """With `alive` units in a window of each lane: near enough to begin with."""
        if not self._scale.size:
            return 1.0
        units = self._units.of.size
        ends = strata_of(units, min(alive * lanes, units))
        members = np.diff(ends)[:, None]
        mean = np.diff(self._sums[ends], axis=0) / members
        spread = np.maximum(np.diff(self._squares[ends], axis=0) / members - mean * mean, 0)
        length = self._units.length(alive)
        # Of the windows of all lanes together; that of each is about `lanes` times as much.
        between = float((spread.sum(axis=0) * self._scale).mean()) / (length * lanes) ** 2
        taken = min(batch / lanes, length)
        finite = (length - taken) / max(length - 1, 1)
        apart = lanes * between
        within = finite * max(1 - apart, 0)
        varying = self._units.noise * (1 - finite) * max(1 - self._alike, 0)
        return within + varying + taken * apart
