"""Reductions of arrays: the elements of a row, or those along one axis, to one value each.

Every element goes to a cell: its row, or its place in what is left when an axis is gone. The cells
are filled by passes over all elements in order, so that a cell sees its elements in order. Sums of
floats have one order in every tier (design §4.5), in float64 with each term rounded before it is
added, and no fused multiply-add:

    lanes = [0.0] * 8; for the k-th element x that is not NULL: lanes[k % 8] += float64(x)
    total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + (… the same of lanes[4] to lanes[7])

Eight lanes are what a processor adds at once; one after the other, each add waits for the last.
Products of floats are made from left to right, from 1.0. float16 and float32 results are rounded
once, at the end. Integer sums and products are exact in 64 bits, or an error.

Elements that are NULL are passed over. Columns are taken in blocks, so that what is made on the way
stays small beside the column.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.engine.columns import Arrays, Mask, Numbers
from tql.language.expr import CallName

Int64s: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[Any]

LANES: Final = 8
BLOCK: Final = 1 << 17  # elements: what a block of float64 and places takes stays in the cache


class Cells(NamedTuple):
    """The elements of some rows, NULLs left out, and the cell of each.

    into  int64: the cell of each element
    many  how many cells there are
    ask   bool (many,): the cells whose result matters, so that they may raise
    """

    values: Values
    into: Int64s
    many: int
    ask: Mask


class Result(NamedTuple):
    """A value per cell; `known` is None where none is NULL; `bad` the cells that do not fit."""

    values: Values
    known: Mask | None = None
    bad: Mask | None = None


def reduce(
    function: CallName, arrays: Arrays, axis: int | None, dtype: Any, active: Mask
) -> Result:
    """`function` over the numbers of each row, or along `axis`; not for constants or sequences of
    arrays.

    dtype   the NumPy type of the result
    active  bool (n,): rows whose result matters
    """
    items = arrays.items
    assert isinstance(items, Numbers)
    parts = []
    for start, stop, low, high in _blocks(arrays):
        values = items.values[low:high]
        shapes = arrays.shapes[start:stop]
        into, many, rows = cells_of(shapes, axis)
        if items.valid is not None:
            keep = items.valid[low:high]
            values, into = values[keep], into[keep]
        cells = Cells(values, into, many, active[start:stop][rows])
        with np.errstate(all="ignore"):
            parts.append(_FUNCTIONS[function](cells, dtype))
    return _joined(parts, dtype)


def _blocks(arrays: Arrays) -> Iterator[tuple[int, int, int, int]]:
    """(first row, row behind the last, first element, element behind the last), of whole rows."""
    offsets = arrays.offsets
    n = len(offsets) - 1
    start = 0
    while start < n or start == 0:
        stop = int(np.searchsorted(offsets, offsets[start] + BLOCK, side="right")) - 1
        stop = min(n, max(stop, start + 1))
        yield start, stop, int(offsets[start]), int(offsets[stop])
        if stop >= n:
            return
        start = stop


def cells_of(shapes: Int64s, axis: int | None) -> tuple[Int64s, int, Int64s]:
    """The cell of each element, the number of cells, and the row of each cell."""
    n = len(shapes)
    counts = shapes.prod(axis=1)
    rows = np.repeat(np.arange(n), counts)
    if axis is None:
        return rows, n, np.arange(n)
    left = np.delete(shapes, axis, axis=1).prod(axis=1)  # cells of each row
    first = np.cumsum(left) - left
    inner = shapes[:, axis + 1 :].prod(axis=1)
    step = (inner * shapes[:, axis])[rows]
    at = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    inner = inner[rows]
    into = first[rows] + at // step * inner + at % inner
    return into, int(left.sum()), np.repeat(np.arange(n), left)


def _joined(parts: list[Result], dtype: Any) -> Result:
    known = bad = None
    if any(p.known is not None for p in parts):
        known = np.concatenate(
            [np.ones(len(p.values), np.bool_) if p.known is None else p.known for p in parts]
        )
    if any(p.bad is not None for p in parts):
        bad = np.concatenate(
            [np.zeros(len(p.values), np.bool_) if p.bad is None else p.bad for p in parts]
        )
    return Result(np.concatenate([p.values for p in parts]).astype(dtype, copy=False), known, bad)


# -- truth -------------------------------------------------------------------------------------


def _any(c: Cells, _: Any) -> Result:
    found = np.zeros(c.many, np.bool_)
    found[c.into[c.values != 0]] = True
    return Result(found)


def _all(c: Cells, _: Any) -> Result:
    found = np.ones(c.many, np.bool_)
    found[c.into[c.values == 0]] = False
    return Result(found)


def _all_strict(c: Cells, dtype: Any) -> Result:
    return Result(_all(c, dtype).values & (_counts(c) > 0))


def _counts(c: Cells) -> Int64s:
    return np.bincount(c.into, minlength=c.many).astype(np.int64, copy=False)


# -- sums and products -------------------------------------------------------------------------


def added(values: Values, into: Int64s, many: int) -> NDArray[np.float64]:
    """float64 (many,): the sums in the one order."""
    real = values.astype(np.float64, copy=False)
    counts = np.bincount(into, minlength=many)
    ordered = bool((into[1:] >= into[:-1]).all())
    if many and ordered and (counts == counts[0]).all():
        return _together(_equal_lanes(real.reshape(many, -1)))
    if ordered:
        place = np.arange(len(into)) - (np.cumsum(counts) - counts)[into]
    else:
        by_cell = np.argsort(into, kind="stable")
        place = np.empty(len(into), np.int64)
        place[by_cell] = np.arange(len(into)) - np.repeat(np.cumsum(counts) - counts, counts)
    # bincount adds the elements as they come
    lanes = np.bincount(into * LANES + place % LANES, real, many * LANES)
    return _together(lanes.astype(np.float64, copy=False).reshape(many, LANES))


def _equal_lanes(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (n, 8): the lanes of each row of a matrix."""
    n, width = rows.shape
    whole = width - width % LANES
    blocks = rows[:, :whole].reshape(n, whole // LANES, LANES)
    lanes: NDArray[np.float64] = np.add.reduce(blocks, axis=1, initial=0.0)  # block by block
    lanes[:, : width - whole] += rows[:, whole:]
    return lanes


def _together(lanes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Neighbours first, then pairs, then halves."""
    while lanes.shape[1] > 1:
        lanes = lanes[:, ::2] + lanes[:, 1::2]
    return lanes[:, 0]


def _sum(c: Cells, dtype: Any) -> Result:
    if np.dtype(dtype).kind == "f":
        return Result(added(c.values, c.into, c.many).astype(dtype))
    wide = c.values.astype(dtype)
    most = int(_counts(c).max(initial=0))
    if not len(wide) or max(-int(wide.min()), int(wide.max())) * most < 2**63:
        total = np.zeros(c.many, dtype)
        np.add.at(total, c.into, wide)
        return Result(total)
    # Halves of 32 bits add up without loss: fewer than 2^31 elements.
    high, low = np.zeros(c.many, dtype), np.zeros(c.many, dtype)
    half, mask = dtype.type(32), dtype.type(2**32 - 1)
    np.add.at(high, c.into, wide >> half)
    np.add.at(low, c.into, wide & mask)
    high += low >> half
    ends = (-(2**31), 2**31) if dtype.kind == "i" else (0, 2**32)
    bad = (high < ends[0]) | (high >= ends[1])
    return Result((high << half) | (low & mask), bad=bad & c.ask)


def _prod(c: Cells, dtype: Any) -> Result:
    if np.dtype(dtype).kind == "f":
        product = np.ones(c.many)
        np.multiply.at(product, c.into, c.values.astype(np.float64))
        return Result(product.astype(dtype))
    wide = c.values.astype(dtype)
    whole = np.ones(c.many, dtype)
    np.multiply.at(whole, c.into, wide)
    size = np.ones(c.many)
    np.multiply.at(size, c.into, np.abs(c.values.astype(np.float64)))
    # The bound is off by far less than a factor of 2.
    doubtful = ~(size < 2.0**62) & c.ask
    return Result(whole, bad=exceeding(c, doubtful, np.iinfo(dtype), _multiplied))


def exceeding(
    c: Cells, doubtful: Mask, limits: Any, exactly: Callable[[list[int]], int]
) -> Mask | None:
    """The doubtful cells whose exact result, worked out in Python, is beyond the type."""
    if not doubtful.any():
        return None
    bad = np.zeros(c.many, np.bool_)
    chosen = np.flatnonzero(doubtful[c.into])
    order = chosen[np.argsort(c.into[chosen], kind="stable")]
    cells, starts = np.unique(c.into[order], return_index=True)
    for cell, values in zip(cells, np.split(c.values[order], starts[1:]), strict=True):
        bad[cell] = not limits.min <= exactly(values.tolist()) <= limits.max
    return bad


def _multiplied(values: list[int]) -> int:
    """The product; where it is beyond 64 bits, and no factor is 0, some number that is so too."""
    if 0 in values:
        return 0
    product = 1
    for v in values:
        product *= v
        if abs(product) > 2**64:  # no later factor makes it smaller; 2^63 times -1 would fit
            break
    return product


def _avg(c: Cells, _: Any) -> Result:
    counts = _counts(c)
    some = counts > 0
    mean = added(c.values, c.into, c.many) / np.where(some, counts, 1)
    return Result(mean, None if some.all() else some)


# -- extremes ----------------------------------------------------------------------------------


def _extreme(choose: Any) -> Callable[[Cells, Any], Result]:
    def reduced(c: Cells, dtype: Any) -> Result:
        some = _counts(c) > 0
        # float16 and bool have no fast loop; NaN wins over every number.
        values = c.values
        if values.dtype == np.float16:
            values = values.astype(np.float32)
        elif values.dtype == np.bool_:
            values = values.view(np.uint8)
        best = np.zeros(c.many, values.dtype)
        best[c.into] = values  # some element of each cell, to begin with
        choose.at(best, c.into, values)
        if values.dtype.kind == "f":
            _sign_zeros(best, c, values, negative=choose is np.minimum)
        return Result(best.astype(dtype), None if some.all() else some)

    return reduced


def _sign_zeros(best: Values, c: Cells, values: Values, *, negative: bool) -> None:
    """-0.0 is below 0.0, which NumPy's minimum and maximum take for equal, and leave to the machine."""
    zero = best == 0
    if not zero.any():
        return
    found = np.zeros(c.many, np.bool_)
    found[c.into[(values == 0) & (np.signbit(values) == negative)]] = True
    best[zero] = np.where(found == negative, -0.0, 0.0)[zero]


# -- norms -------------------------------------------------------------------------------------


def _l1(c: Cells, _: Any) -> Result:
    return Result(added(np.abs(c.values.astype(np.float64)), c.into, c.many))


def _l2(c: Cells, _: Any) -> Result:
    real = c.values.astype(np.float64)
    return Result(np.sqrt(added(real * real, c.into, c.many)))


def _linf(c: Cells, _: Any) -> Result:
    greatest = np.zeros(c.many)
    np.maximum.at(greatest, c.into, np.abs(c.values.astype(np.float64)))
    return Result(greatest)


_FUNCTIONS: Final[Mapping[CallName, Callable[[Cells, Any], Result]]] = {
    "any": _any,
    "all": _all,
    "all_strict": _all_strict,
    "sum": _sum,
    "prod": _prod,
    "avg": _avg,
    "amin": _extreme(np.minimum),
    "amax": _extreme(np.maximum),
    "l1_norm": _l1,
    "l2_norm": _l2,
    "linf_norm": _linf,
}
REDUCTIONS: Final = frozenset(_FUNCTIONS)
