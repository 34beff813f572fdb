"""Subscripts of arrays, for all rows at once: which elements stand where, and then one gather.

NumPy's rules within each row, but an index out of range is NULL (reference §9). An axis whose
extent nobody knows, because there is nothing along the axes before it (the list of lists [] has
shape (0, 0)), takes every index: what comes out is empty.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.engine.arrays import as_constant, by_row
from tql.engine.columns import Arrays, Mask, Numbers, Vec, pick, pick_where

Int64s: TypeAlias = NDArray[np.int64]


class Picking(NamedTuple):
    """`start:stop:step`, each shape (n,) or (), None where it is left out; no valid step is 0."""

    start: Numbers | None
    stop: Numbers | None
    step: Numbers | None


class _Walk(NamedTuple):
    """Along one axis of each row, int64 (n,): the first place, from one to the next, how many.

    `drops` says that the axis is gone from the result.
    """

    first: Int64s
    step: Int64s
    many: Int64s
    drops: bool


def picked(arrays: Arrays, parts: Sequence[Numbers | Picking], n: int) -> Vec:
    """`arrays[parts]` for `n` rows: an index for each of the first axes, or a slice of it.

    Arrays where an axis is left, else what the elements are; NULL in rows where an index is out of
    range or NULL, or a part of a slice is NULL.
    """
    constant = arrays.shapes.ndim == 1
    numbers = numbers_in(parts)
    if constant and all(x.values.ndim == 0 and x.valid is None for x in numbers):
        return as_constant(picked(by_row(arrays), parts, 1), n)
    shapes = np.broadcast_to(arrays.shapes, (n, arrays.rank))
    there = np.ones(n, np.bool_) if arrays.valid is None else arrays.valid.copy()
    for x in numbers:
        if x.valid is not None:
            there &= x.valid
    walks = []
    empty = np.zeros(n, np.bool_)
    for axis in range(arrays.rank):
        extent = shapes[:, axis]
        if axis >= len(parts):
            walk = _Walk(np.zeros(n, np.int64), np.ones(n, np.int64), extent, False)
        else:
            part = parts[axis]
            walk = _slice(part, extent) if isinstance(part, Picking) else _index(part, extent)
            if walk.drops:
                there &= (walk.first >= 0) | (empty & (extent == 0))
        empty |= extent == 0
        walks.append(walk)
    kept = [w for w in walks if not w.drops]
    starts = np.zeros(n, np.int64) if constant else arrays.offsets[:-1]
    if not kept:
        return pick_where(arrays.items, _places(starts, shapes, walks), there)
    counts = np.stack([np.where(there, w.many, 0) for w in kept], axis=1)
    within = _places(starts, shapes, walks, counts)
    return Arrays(pick(arrays.items, within), counts, None if there.all() else there)


def numbers_in(parts: Sequence[Numbers | Picking]) -> list[Numbers]:
    """Every number of the subscripts, from left to right."""
    every = (x for p in parts for x in (p if isinstance(p, Picking) else (p,)))
    return [x for x in every if x is not None]


def _places(
    starts: Int64s, shapes: Int64s, walks: Sequence[_Walk], counts: Int64s | None = None
) -> Int64s:
    """Where in the items each element of the result lies: one per row where no axis is kept.

    counts  int64 (n, axes kept): the shapes of the result
    """
    n = len(starts)
    rows = np.arange(n) if counts is None else np.repeat(np.arange(n), counts.prod(axis=1))
    stride = np.ones(n, np.int64)
    at = starts[rows]
    left: Int64s = rows  # the number of the element within its row
    along = 0
    if counts is not None:
        each = counts.prod(axis=1)
        left = np.arange(len(rows)) - np.repeat(np.cumsum(each) - each, each)
        along = counts.shape[1]
    for axis in range(len(walks) - 1, -1, -1):
        walk = walks[axis]
        at += (walk.first * stride)[rows]
        if not walk.drops:
            assert counts is not None
            along -= 1
            extent = counts[rows, along]
            at += left % extent * (walk.step * stride)[rows]
            left = np.floor_divide(left, extent)
        stride = stride * shapes[:, axis]
    return at


def _whole(x: Numbers, extent: Int64s) -> Int64s:
    """int64 (n,): the numbers, those beyond int64 as its largest; 0 where they are NULL."""
    values = x.values
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(2**63 - 1))
    values = np.broadcast_to(values.astype(np.int64), extent.shape)
    return values if x.valid is None else np.where(x.valid, values, 0)


def _index(x: Numbers, extent: Int64s) -> _Walk:
    """One element; `first` is negative where it is out of range."""
    at = _whole(x, extent)
    at = np.where(at < 0, at + extent, at)
    inside: Mask = (at >= 0) & (at < extent)
    ones = np.ones(len(extent), np.int64)
    return _Walk(np.where(inside, at, -1), ones, ones, True)


def _slice(p: Picking, extent: Int64s) -> _Walk:
    """What Python's `slice.indices` gives, for every row."""
    step = np.ones(len(extent), np.int64) if p.step is None else _whole(p.step, extent)
    # A step longer than the axis takes one element at most, whatever its length; 0 is NULL here.
    step = np.where(step == 0, 1, np.clip(step, -extent - 1, extent + 1))
    back = step < 0
    lowest, highest = np.where(back, -1, 0), np.where(back, extent - 1, extent)

    def end(x: Numbers | None, default: Int64s) -> Int64s:
        if x is None:
            return default
        at = _whole(x, extent)
        return np.clip(np.where(at < 0, at + extent, at), lowest, highest)

    first = end(p.start, np.where(back, highest, lowest))
    last = end(p.stop, np.where(back, lowest, highest))
    span = np.where(back, first - last, last - first)
    count = np.maximum(0, -(-span // np.abs(step)))
    return _Walk(first, step, count, False)
