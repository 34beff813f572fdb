"""Arrays in the reference tier: what is done element by element, and how shapes meet.

Nothing here loops over rows: the elements of all rows lie one after the other, and an operation by
element is the operation on scalars over all of them (reference §9).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tql.engine.columns import Arrays, Mask, Numbers, Vec, pick, pick_where

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Broadcast:
    """How the arrays of each row meet.

    shapes  int64 (n, rank) of the result; all zeros in rows without one
    rows    int64: the row of each element of the result
    wrong   bool (n,): rows whose shapes do not fit each other
    valid   bool (n,) or None: where no operand is NULL, those aside that may be
    flat    the operands, one value per element of the result (a scalar constant stays one)
    """

    shapes: Int64s
    rows: Int64s
    wrong: Mask
    valid: Mask | None
    flat: tuple[Vec, ...]


def broadcast(
    operands: Sequence[Vec],
    n: int,
    whole: Sequence[bool] = (),
    open: frozenset[int] = frozenset(),
) -> Broadcast:
    """The operands of `n` rows by NumPy's broadcasting rules, within each row.

    [] as a list of lists shows no width, so it fits any: how far an axis goes behind one without
    elements is not known, and what it meets decides.

    whole  per operand, whether an array is one value that every element of the others meets
    open   the operands, by number, that may be NULL where the result is not
    """
    takes_part = [isinstance(o, Arrays) for o in operands]
    if whole:
        takes_part = [t and not w for t, w in zip(takes_part, whole, strict=True)]
    arrays = [o for o, t in zip(operands, takes_part, strict=True) if t and isinstance(o, Arrays)]
    rank = max(a.rank for a in arrays)
    shapes = np.ones((n, rank), np.int64)
    wrong = np.zeros(n, np.bool_)
    for a in arrays:
        theirs = np.where(_unknown(a, n, rank), -1, _aligned(a, n, rank))
        fits = (theirs == shapes) | (theirs == 1) | (shapes == 1) | (theirs < 0) | (shapes < 0)
        shapes = np.where((shapes == 1) | ((shapes < 0) & (theirs != 1)), theirs, shapes)
        wrong |= ~fits.all(axis=1)
    shapes = np.maximum(shapes, 0)
    valid = None
    for at, o in enumerate(operands):
        if o.valid is not None and at not in open:
            valid = o.valid if valid is None else valid & o.valid
    if valid is not None:
        valid = np.broadcast_to(valid, (n,))
        wrong &= valid
    gone = wrong if valid is None else wrong | ~valid
    shapes = np.where(gone[:, None], 0, shapes)
    rows = np.repeat(np.arange(n), shapes.prod(axis=1))
    flat = tuple(
        _spread(o, shapes, rows) if t and isinstance(o, Arrays) else pick(o, rows)
        for o, t in zip(operands, takes_part, strict=True)
    )
    return Broadcast(shapes, rows, wrong, valid, flat)


def _aligned(a: Arrays, n: int, rank: int) -> Int64s:
    """int64 (n, rank): the shapes of `a` with ones put in front."""
    shapes = np.broadcast_to(a.shapes, (n, a.rank))
    return np.concatenate([np.ones((n, rank - a.rank), np.int64), shapes], axis=1)


def _unknown(a: Arrays, n: int, rank: int) -> Mask:
    """bool (n, rank): the axes of the aligned shapes that are 0 behind another that is."""
    none: Mask = _aligned(a, n, rank) == 0
    before = np.logical_or.accumulate(none, axis=1)[:, :-1]
    none[:, 1:] &= before
    none[:, :1] = False
    return none


def _spread(o: Arrays, shapes: Int64s, rows: Int64s) -> Vec:
    """One value of `o` per element of arrays of these shapes."""
    n, rank = shapes.shape
    theirs = _aligned(o, n, rank)
    if o.shapes.ndim == 2:
        empty = (theirs == 0).any(axis=1) & (shapes == 0).any(axis=1)
        if ((theirs == shapes).all(axis=1) | empty).all():
            return o.items
    starts: Int64s = np.zeros(n, np.int64) if o.shapes.ndim == 1 else o.offsets[:-1]
    counts = shapes.prod(axis=1)
    left: Int64s = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    index = starts[rows]
    stride = np.ones(n, np.int64)
    for axis in range(rank - 1, -1, -1):
        extent = shapes[rows, axis]
        at = left % extent
        left = np.floor_divide(left, extent)
        index += np.where(theirs[rows, axis] == 1, 0, at) * stride[rows]
        stride *= theirs[:, axis]
    return pick(o.items, index)


def any_of(counts: Int64s, hits: Mask) -> Mask:
    """bool (n,): the rows of which some element is hit; `hits` has `counts[i]` elements of row i."""
    before = np.concatenate([[0], np.cumsum(hits)])
    found = before[np.concatenate([[0], np.cumsum(counts)])]
    return np.asarray(found[1:] > found[:-1])


def as_arrays(vec: Vec, n: int) -> Arrays:
    """Arrays as they are; of `n` numbers each an array of one, without elements where it is NULL."""
    if isinstance(vec, Arrays):
        return vec
    assert isinstance(vec, Numbers)
    if vec.values.ndim == 0 and vec.valid is None:
        return Arrays(Numbers(vec.values[None]), np.ones(1, np.int64))
    values = np.broadcast_to(vec.values, (n,))
    if vec.valid is None:
        return Arrays(Numbers(values), np.ones((n, 1), np.int64))
    valid = np.broadcast_to(vec.valid, (n,))
    return Arrays(Numbers(values[valid]), valid.astype(np.int64)[:, None], valid)


def flattened(arrays: Arrays) -> Arrays:
    """Sequences of arrays as arrays of rank 1: the elements of all members, one after the other.

    A member that is NULL gives none. Others are as they are.
    """
    while isinstance(arrays.items, Arrays):
        members = arrays.items
        before = np.concatenate([[0], np.cumsum(members.counts)])
        ends = before[arrays.offsets]
        arrays = Arrays(members.items, np.diff(ends)[:, None], arrays.valid)
    return arrays


def by_row(arrays: Arrays) -> Arrays:
    """A constant as the only row of a column; others as they are."""
    if arrays.shapes.ndim == 2:
        return arrays
    return Arrays(arrays.items, arrays.shapes[None, :])


def as_constant(one: Vec, n: int) -> Vec:
    """The only row of `one` as a constant, or `n` times where a constant cannot be so."""
    match one:
        case Arrays(items, shapes, None):
            return Arrays(items, shapes[0])
        case Numbers(values, None):
            return Numbers(values[0])
        case _:
            return pick(one, np.zeros(n, np.int64))


def same_shapes(a: Arrays, b: Arrays, n: int) -> Mask:
    """bool (n,): the rows where both have one shape; an extent that is not known is that of the other."""
    if a.rank != b.rank:
        return np.zeros(n, np.bool_)
    alike: Mask = ((a.shapes == b.shapes) | _unknown(a, n, a.rank) | _unknown(b, n, b.rank)).all(-1)
    return alike


def restricted(arrays: Arrays, rows: Mask) -> Arrays:
    """These rows as they are, the others NULL."""
    if rows.all() and arrays.shapes.ndim == 2:
        return arrays
    n = len(rows)
    index = np.zeros(n, np.int64) if arrays.shapes.ndim == 1 else np.arange(n)
    found = pick_where(by_row(arrays), index, rows)
    assert isinstance(found, Arrays)
    return found
