"""Products and distances of vectors, in the one order of float sums (see `reductions`).

    dot(a, b)     the sum of float64(a[i]) * float64(b[i]) for each i
    cosine(a, b)  dot(a, b) / (sqrt(dot(a, a)) * sqrt(dot(b, b))), cut to -1 … 1;
                  0 where either root is 0. Where dot(a, a) or dot(b, b) is not from `SMALLEST` to
                  `LARGEST`, that vector is first multiplied by `FACTOR` or divided by it

Vectors are named by where they start in the elements of their column, so the vector of a constant,
which starts at 0 for every row, is stored once. Blocks of rows bound what is made on the way.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.engine.columns import Arrays, Mask, Numbers
from tql.engine.comparing import compare
from tql.engine.reductions import BLOCK, Cells, Result, added, exceeding
from tql.language.expr import CompareOp

Int64s: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


class Vectors(NamedTuple):
    """`values[starts[i] : starts[i] + lengths[i]]` for each i; numbers of any type, none NULL."""

    values: NDArray[Any]
    starts: Int64s
    lengths: Int64s


def vectors_of(arrays: Arrays, n: int) -> Vectors:
    """The vector of each of `n` rows; that of a constant is the same one in all of them."""
    assert isinstance(arrays.items, Numbers)
    if arrays.shapes.ndim == 1:
        zeros = np.zeros(n, np.int64)
        return Vectors(arrays.items.values, zeros, np.full(n, arrays.counts))
    return Vectors(arrays.items.values, arrays.offsets[:-1], arrays.counts)


def has_null(arrays: Arrays, n: int) -> Mask:
    """bool (n,): the rows in which an element is NULL."""
    items = arrays.items
    assert isinstance(items, Numbers)
    if items.valid is None:
        return np.zeros(n, np.bool_)
    if arrays.shapes.ndim == 1:
        return np.full(n, not items.valid.all())
    before = np.concatenate([[0], np.cumsum(~items.valid)])
    return np.diff(before[arrays.offsets]) > 0


class _Block(NamedTuple):
    """Pairs first … last of vectors: the elements of both, one beside the other, and their pairs."""

    first: int
    last: int
    a: NDArray[Any]
    b: NDArray[Any]
    into: Int64s


def _blocks(a: Vectors, b: Vectors) -> Iterator[_Block]:
    """The pairs (a[i], b[i]), which are equally long, some whole pairs at a time."""
    ends = np.cumsum(a.lengths)
    first = 0
    while first < len(ends):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + BLOCK, side="right")))
        lengths = a.lengths[first:last]
        into = np.repeat(np.arange(last - first), lengths)
        yield _Block(
            first, last, _elements(a, first, last, into), _elements(b, first, last, into), into
        )
        first = last


def _elements(v: Vectors, first: int, last: int, into: Int64s) -> NDArray[Any]:
    starts, lengths = v.starts[first:last], v.lengths[first:last]
    if np.array_equal(starts[1:], starts[:-1] + lengths[:-1]):
        return v.values[starts[0] : starts[-1] + lengths[-1]]
    if not starts.any() and (lengths == lengths[0]).all():
        return np.tile(v.values[: lengths[0]], last - first)
    within = np.arange(len(into)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found: NDArray[Any] = v.values[starts[into] + within]
    return found


def dots(a: Vectors, b: Vectors) -> Floats:
    """float64: the product of each pair, which are equally long."""
    result = np.zeros(len(a.lengths))
    with np.errstate(all="ignore"):
        for block in _blocks(a, b):
            products = block.a.astype(np.float64) * block.b.astype(np.float64)
            result[block.first : block.last] = added(products, block.into, block.last - block.first)
    return result


def integer_dots(a: Vectors, b: Vectors, active: Mask) -> Result:
    """int64: the product of each pair of vectors of integers; bad where int64 does not hold it."""
    result = np.zeros(len(a.lengths), np.int64)
    bad = np.zeros(len(a.lengths), np.bool_)
    for block in _blocks(a, b):
        many = block.last - block.first
        here = slice(block.first, block.last)
        x, y = block.a, block.b
        with np.errstate(all="ignore"):
            np.add.at(result[here], block.into, x.astype(np.int64) * y.astype(np.int64))
            size = added(np.abs(x.astype(np.float64) * y.astype(np.float64)), block.into, many)
        doubtful = ~(size < 2.0**62) & active[here]
        if doubtful.any():
            exact = x.astype(object) * y.astype(object)
            beyond = exceeding(Cells(exact, block.into, many, doubtful), doubtful,
                               np.iinfo(np.int64), sum)  # fmt: skip
            bad[here] = False if beyond is None else beyond
    return Result(result, bad=bad)


SMALLEST: Final = 2.0**-900
LARGEST: Final = 2.0**1000
"""Between these a sum of squares has neither overflowed nor lost what counts."""

FACTOR: Final = 2.0**600
"""What brings vectors beyond into this range, times it or over it: the least is 2^-1074 long."""


def cosines(a: Vectors, b: Vectors) -> Floats:
    """float64, -1 … 1: the cosine of each pair, which are equally long."""
    aa, bb = _squares(a), _squares(b)
    result = _cosine(dots(a, b), aa, bb)
    if np.float64 in (a.values.dtype, b.values.dtype):  # squares of others fit in float64
        f, g = _factors(aa), _factors(bb)
        doubtful = np.flatnonzero((f != 1.0) | (g != 1.0))
        if len(doubtful):
            x, y = _scaled(a, f, doubtful), _scaled(b, g, doubtful)
            result[doubtful] = _cosine(dots(x, y), dots(x, x), dots(y, y))
    return result


def _squares(v: Vectors) -> Floats:
    """Each vector times itself; that of one that stands in every row is worked out once."""
    if len(v.lengths) and not v.starts.any() and (v.lengths == v.lengths[0]).all():
        one = Vectors(v.values, v.starts[:1], v.lengths[:1])
        return np.full(len(v.lengths), dots(one, one)[0])
    return dots(v, v)


def _factors(squares: Floats) -> Floats:
    """What to multiply each vector with, given its product with itself; 1 for usual ones."""
    return np.where(squares > LARGEST, 1 / FACTOR, np.where(squares < SMALLEST, FACTOR, 1.0))


def _scaled(v: Vectors, factors: Floats, rows: Int64s) -> Vectors:
    """The vectors of these rows, each times its factor."""
    lengths = v.lengths[rows]
    into = np.repeat(rows, lengths)
    within = np.arange(len(into)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values = v.values[v.starts[into] + within].astype(np.float64) * factors[into]
    return Vectors(values, np.cumsum(lengths) - lengths, lengths)


def _cosine(product: Floats, aa: Floats, bb: Floats) -> Floats:
    """The cosine from the product of two vectors and that of each with itself."""
    a, b = np.sqrt(aa), np.sqrt(bb)
    with np.errstate(all="ignore"):
        cosine = np.clip(product / (a * b), -1.0, 1.0)
    return np.where((a == 0) | (b == 0), 0.0, cosine)


def differing(a: Vectors, b: Vectors) -> Int64s:
    """int64: at how many positions each pair, which are equally long, differs; NaN differs from NaN."""
    result = np.zeros(len(a.lengths), np.int64)
    for block in _blocks(a, b):
        unequal = compare(CompareOp.NE, block.a, block.b)
        counts = np.bincount(block.into[unequal], minlength=block.last - block.first)
        result[block.first : block.last] = counts
    return result


def maxsims(documents: Arrays, queries: Arrays, rows: Mask) -> Floats:
    """float64 (n,): for each vector of the query the greatest cosine with one of the document, added
    from the first query vector to the last; 0 for an empty query.

    rows  bool (n,): where both are matrices of one width without NULL, and the document is not empty;
          the other rows get 0
    """
    n = len(rows)
    d, q = _Matrices.of(documents, rows), _Matrices.of(queries, rows)
    pairs = d.many * q.many
    ends = np.cumsum(pairs)
    width = int(np.where(pairs > 0, d.width, 0).max(initial=0))
    best = np.full(int(q.many.sum()), -np.inf)  # of each query vector of each row
    first_query = np.cumsum(q.many) - q.many
    step = max(1, BLOCK // max(1, width))
    total = int(ends[-1]) if n else 0
    for low in range(0, total, step):
        at = np.arange(low, min(low + step, total))
        of = np.searchsorted(ends, at, side="right")
        within = at - (ends - pairs)[of]
        query, document = within // d.many[of], within % d.many[of]
        lengths = d.width[of]
        a = Vectors(d.values, d.starts[of] + document * lengths, lengths)
        b = Vectors(q.values, q.starts[of] + query * lengths, lengths)
        cosine = cosines(a, b)
        with np.errstate(invalid="ignore"):  # NaN wins over every number
            np.maximum.at(best, first_query[of] + query, cosine)
    with np.errstate(all="ignore"):
        of_row = np.repeat(np.arange(n), q.many)
        return np.bincount(of_row, best, n).astype(np.float64, copy=False)


class _Matrices(NamedTuple):
    """A matrix per row: where its elements start, how many vectors, how wide each."""

    values: NDArray[Any]
    starts: Int64s
    many: Int64s
    width: Int64s

    @classmethod
    def of(cls, arrays: Arrays, rows: Mask) -> "_Matrices":
        v = vectors_of(arrays, len(rows))
        shapes = np.broadcast_to(arrays.shapes, (len(rows), 2))
        return cls(v.values, v.starts, np.where(rows, shapes[:, 0], 0), shapes[:, 1])
