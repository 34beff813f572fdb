"""What an order in windows reads: known before anything is read, and the windows for given bytes."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tql.planner.quality import (
    Float64s,
    Units,
    in_order,
    lane_starts,
    log_none,
    parts_of,
    ranges,
    strata_of,
)
from tql.planner.rng import Int64s

_MOST: Final = 1 << 18  # windows looked at at once
_FRAGMENTS: Final = 1 << 31  # more than there are: window x this + fragment is one number


@dataclass(frozen=True, slots=True)
class Reading:
    """What an epoch reads where the fragments of a window are kept until it ends.

    fetches         times that a fragment is read, and `nbytes` what they add up to
    live_fragments  most fragments that the windows under way, one of each lane, have rows of
    live_bytes      most bytes that such fragments have
    first_bytes     expected bytes of the fragments that the first batch has rows of
    """

    fetches: int
    nbytes: int
    live_fragments: int
    live_bytes: int
    first_bytes: int


def reading(of: Units, sizes: Int64s, length: int, lanes: int, batch: int) -> Reading:
    """What an epoch reads; int64 `sizes` (F,) are the bytes of the fragments. Exact, but for
    `first_bytes`, which is a mean.
    """
    begins = lane_starts(len(of), lanes)
    # Between windows in which a unit begins lie only such as go on with the one before.
    lane = np.searchsorted(begins, of.begins[:-1], side="right") - 1
    number = (of.begins[:-1] - begins[lane]) // length
    used = np.flatnonzero(np.diff(begins))
    busy = _unique(np.append(lane, used), np.append(number, np.zeros_like(used)))
    now = _fragments(of, begins, length, busy)
    before = _fragments(of, begins, length, _Windows(busy.lane, busy.number - 1))
    read = now[~np.isin(now, before)] % _FRAGMENTS
    # The windows under way together have one number.
    steps = np.unique(busy.number)
    count, nbytes = 0, 0
    for some in np.array_split(steps, max(1, steps.size * lanes // _MOST)):
        each, other = np.divmod(np.arange(some.size * lanes), lanes)
        whole = _Windows(other, some[each])
        live = np.unique(_fragments(of, begins, length, whole, each))
        step = live // _FRAGMENTS
        count = max(count, int(np.bincount(step).max()))
        nbytes = max(
            nbytes,
            int(
                np.add.reduceat(
                    sizes[live % _FRAGMENTS], np.flatnonzero(np.diff(step, prepend=-1))
                ).max()
            ),
        )
    first_bytes = _first(of, sizes, length, lanes, min(batch, len(of)))
    return Reading(read.size, int(sizes[read].sum()), count, nbytes, first_bytes)


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Windows by lane and number in it; int64 (n,) both."""

    lane: Int64s
    number: Int64s


def _unique(lane: Int64s, number: Int64s) -> _Windows:
    order = np.lexsort((number, lane))
    lane, number = lane[order], number[order]
    new = np.append(True, (np.diff(lane) > 0) | (np.diff(number) > 0))
    return _Windows(lane[new], number[new])


def _fragments(
    of: Units, begins: Int64s, length: int, windows: _Windows, named: Int64s | None = None
) -> Int64s:
    """named[w] x 2^31 + fragment of each fragment that window w has draws of, unique, ascending.

    A window before the first of its lane has none.
    """
    starts = begins[windows.lane] + windows.number * length
    stops = np.minimum(starts + length, begins[windows.lane + 1])
    first = np.searchsorted(of.begins, starts, side="right") - 1
    last = np.searchsorted(of.begins, stops, side="left")
    there = (windows.number >= 0) & (stops > starts)
    each, number = ranges(np.where(there, last - first, 0))
    name = np.arange(starts.size, dtype=np.int64) if named is None else named
    return np.unique(name[each] * _FRAGMENTS + of.of[first[each] + number])


def _first(of: Units, sizes: Int64s, length: int, lanes: int, batch: int) -> int:
    """Expected bytes of the fragments of the first batch."""
    starts, stops, taken, _ = parts_of(len(of), np.zeros(1, np.int64), batch, length, lanes)
    first = np.searchsorted(of.begins, starts, side="right") - 1
    last = np.searchsorted(of.begins, stops, side="left")
    each, number = ranges(last - first)
    s = first[each] + number
    inside = np.minimum(of.begins[s + 1], stops[each]) - np.maximum(of.begins[s], starts[each])
    size = (stops - starts)[each].astype(np.float64)
    none = log_none(size, inside.astype(np.float64), taken[each].astype(np.float64))
    absent = np.bincount(of.of[s], none, sizes.size)
    return round(float((sizes * -np.expm1(absent)).sum()))


def random_reads(drawn: Float64s, sizes: Int64s, batch: int, memory: int) -> tuple[int, int]:
    """Times that fragments are read, and bytes, by an order without windows, in the mean.

    Each batch reads those of its rows, one after the other in the order of the data; `memory` bytes
    are kept, and of these the one given up whose next use is farthest, as loaders do that know it.
    float64 `drawn` (F,): draws that are rows of each fragment; int64 `sizes` (F,): their bytes.

    So a fragment is kept from one use to the next if that is no more than so many batches later,
    and so many batches are what fills the memory, one fragment beside: the one just read.
    """
    some = drawn > 0
    drawn, sizes = drawn[some], sizes[some]
    total, draws = int(sizes.sum()), float(drawn.sum())
    if total <= memory or not draws:
        return drawn.size, total
    batch = min(batch, round(draws))
    none = log_none(np.full(drawn.size, draws), drawn, np.full(drawn.size, float(batch)))
    used = -np.expm1(none)  # probability that a batch uses the fragment
    room = max(0.0, memory - float(used @ (sizes * sizes)) / float(used @ sizes))

    def kept(batches: int) -> float:
        """Bytes kept if uses up to so many batches apart are kept for each other."""
        return float((sizes * -np.expm1(batches * none + np.log1p(batches * used))).sum())

    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if kept(middle) <= room else (low, middle)
    # Of uses that are one batch farther apart, the part that there is still room for.
    part = min(1.0, (room - kept(low)) / max(kept(low + 1) - kept(low), 1e-300))
    farther = np.exp(low * none) * (1 - part * used)
    again = np.maximum(used * max(1.0, draws / batch) - 1, 0)
    reads = 1 + again * farther
    return round(float(reads.sum())), round(float(reads @ sizes))


def length_of_bytes(of: Units, sizes: Int64s, memory: int, lanes: int) -> int | None:
    """The longest windows, in draws, whose fragments are at most `memory` bytes on all lanes
    together; None where not even windows of one unit are. int64 `sizes` (F,): bytes of fragments.

    A window that begins within a unit has one more: there is room for the largest in each lane.
    """
    if int(sizes[np.unique(of.of)].sum()) <= memory:
        return len(of)
    nbytes = sizes[of.of[in_order(of)]]
    room = memory - lanes * int(nbytes.max())
    low, high = 0, -(-nbytes.size // lanes) + 1  # `low` units of each lane have room, `high` not
    while high - low > 1:
        middle = (low + high) // 2
        strata = strata_of(nbytes.size, min(middle * lanes, nbytes.size))
        largest = np.maximum.reduceat(nbytes, strata[:-1])
        low, high = (middle, high) if int(largest.sum()) <= room else (low, middle)
    return of.length(low) if low else None
