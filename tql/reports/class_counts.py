"""Rows of a data set by class and weight, counted fragment by fragment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tql.engine.coded import narrowed
from tql.engine.columns import Numbers, from_arrow, one_array
from tql.engine.scan import Settings, over
from tql.partition import count
from tql.rowset import Bitmap, Ids, Range, RowSet
from tql.schema import Bool, DType, Int, Label, Text
from tql.sources.protocol import Fragment, Source
from tql.weights import ClassWeights, RowWeights, Weights

Int64s: TypeAlias = NDArray[np.int64]
Float64s: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.integer[Any]]

_BINS: Final = 512  # of the logarithm of per-row weights, for draws without replacement
_NULL: Final = "null"
_UNNAMED: Final = "no name"


@dataclass(frozen=True, slots=True)
class Drawing:
    """`size` draws by `weights` from a population (its rows in the order of RowWeights)."""

    weights: Weights
    size: int
    replace: bool
    mix: str = "iid"


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Rows by class and weight.

    counts   int64 (C, K) rows of each class that have each weight
    weights  float64 (C, K) or (1, K): that weight, or the mean of such weights
    low, high, mass  float64 (C,): least and greatest weight of a class, and the sum of all; NaN
             and 0 where it has no rows
    """

    counts: Int64s
    weights: Float64s
    low: Float64s
    high: Float64s
    mass: Float64s


# What one fragment gives: its values where they are not known beforehand, rows before, cells.
_Part: TypeAlias = tuple[list[Any] | None, Int64s, Cells]


def tally(
    source: Source,
    by: str,
    population: RowSet,
    drawing: Drawing | None,
    settings: Settings,
    most: int,
) -> tuple[list[str], Int64s, Cells] | None:
    """The classes of `by`, int64 (C,) rows of each in the source, and the population by weight.

    A class label's names come first, then NULL and what has no name, all of them with or without
    rows. None where another column has more than `most` values.
    """
    dtype = source.schema[by].dtype
    counter = _counter_of(population, drawing)
    named = len(dtype.names) + 2 if isinstance(dtype, Label) else None

    def part(fragment: Fragment) -> _Part | None:
        values, codes = _codes(source.read(fragment.index, [by]).column(by), dtype)
        classes = len(values or ()) if named is None else named
        if named is None and classes > most:
            return None
        before = count(codes, classes)
        return values, before, counter.count(fragment, codes, classes)

    known: dict[Any, int] = {}
    total = _Total(most if named is None else named, counter)
    for found in over(source, source.fragments, part, settings, [by]):
        if found is None:
            return None
        values, before, cells = found
        if named is None:
            slots = [known.setdefault(v, len(known)) for v in values or ()]
            if len(known) > most:
                return None
            total.add(np.array(slots, np.int64), before, cells)
        else:
            total.add(np.arange(named), before, cells)
    if isinstance(dtype, Label):
        return [*dtype.names, _NULL, _UNNAMED], *total.of(np.arange(len(dtype.names) + 2))
    order = sorted(known, key=_sort_key)
    return [_shown(v) for v in order], *total.of(np.array([known[v] for v in order], np.int64))


def by_fragment(
    source: Source, by: str, population: RowSet, weights: Weights | None, settings: Settings,
    most: int,
) -> tuple[int, list[tuple[Int64s, Float64s]]] | None:  # fmt: skip
    """The classes of `by` in each fragment, and in draws of its rows: their number K, and for each
    fragment which classes there are, int64 (k,), and float64 (k, W) how much weight they have.

    W  classes of equal weights, whose members are counted; 1 where rows have weights of their own,
       which are added up, or none. None where there are more than `most` classes.
    """
    dtype = source.schema[by].dtype
    drawing = None if weights is None else Drawing(weights, 1, True)
    counter = _counter_of(population, drawing)
    own = isinstance(weights, RowWeights)

    def part(fragment: Fragment) -> tuple[list[Any] | None, Float64s] | None:
        values, codes = _codes(source.read(fragment.index, [by]).column(by), dtype)
        classes = len(dtype.names) + 2 if isinstance(dtype, Label) else len(values or ())
        if classes > most:
            return None
        cells = counter.count(fragment, codes, classes)
        return values, cells.mass[:, None] if own else cells.counts.astype(np.float64)

    known: dict[Any, int] = {}
    parts = []
    for found in over(source, source.fragments, part, settings, [by]):
        if found is None or len(known) > most:
            return None
        values, counts = found
        slots = (
            np.arange(len(counts))
            if values is None
            else np.array([known.setdefault(v, len(known)) for v in values], np.int64)
        )
        here = np.flatnonzero(counts.any(axis=1))
        parts.append((slots[here], counts[here]))
    if isinstance(dtype, Label):
        return len(dtype.names) + 2, parts
    return None if len(known) > most else (len(known), parts)


class _Total:
    """The sum of what fragments give, for `classes` classes at most."""

    def __init__(self, classes: int, counter: "_Counter") -> None:
        self.before = np.zeros(classes, np.int64)
        self.counts = np.zeros((classes, counter.width), np.int64)
        self.sums = np.zeros((classes, counter.width))
        self.low, self.high = np.full(classes, np.inf), np.full(classes, -np.inf)
        self.weights = counter.weights

    def add(self, at: Int64s, before: Int64s, part: Cells) -> None:
        """Add a fragment whose classes 0, 1, … are `at` here; int64 (classes of the fragment,)."""
        self.before[at] += before
        self.counts[at] += part.counts
        if self.weights is None:
            self.sums[at] += part.counts * part.weights
        self.low[at] = np.minimum(self.low[at], part.low)
        self.high[at] = np.maximum(self.high[at], part.high)

    def of(self, order: Int64s) -> tuple[Int64s, Cells]:
        """Rows before and cells of these classes, in this order."""
        counts, sums = self.counts[order], self.sums[order]
        if self.weights is None:
            weights = np.divide(sums, counts, out=np.zeros(sums.shape), where=counts > 0)
            mass = sums.sum(axis=1)
        else:
            weights, mass = self.weights[None, :], counts @ self.weights
        return self.before[order], Cells(counts, weights, self.low[order], self.high[order], mass)


def _shown(value: Any) -> str:
    match value:
        case None:
            return _NULL
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _sort_key(value: Any) -> tuple[int, Any]:
    return (1, 0) if value is None else (0, value)


def _codes(column: Any, dtype: DType) -> tuple[list[Any] | None, Codes]:
    """The class of each row, unsigned (n,); for labels by index with NULL and nameless last."""
    if isinstance(dtype, Label):
        vec = from_arrow(column, dtype)
        assert isinstance(vec, Numbers)
        size = len(dtype.names)
        small = np.uint8 if size + 2 <= 1 << 8 else np.uint16 if size + 2 <= 1 << 16 else np.uint32
        values = vec.values
        if len(values) and (values.max() >= size or values.min() < 0):
            values = np.where((values >= 0) & (values < size), values, size + 1)
        # The memory is the user's: should it change meanwhile, `count` still stays in its table.
        codes: NDArray[Any] = np.minimum(values.astype(small), small(size + 1))
        if vec.valid is not None:
            codes[~vec.valid] = size
        return None, codes
    if isinstance(dtype, Int):
        near = _near(column, dtype)
        if near is not None:
            return near
    array = one_array(column)
    if not pa.types.is_dictionary(array.type):
        array = one_array(array.dictionary_encode())
    elif len(set(array.dictionary.to_pylist())) < len(array.dictionary):
        array = one_array(array.dictionary_decode().dictionary_encode())
    known: list[Any] = array.dictionary.to_pylist()
    indices = array.indices
    if indices.null_count:
        indices = pc.fill_null(indices, len(known))
        known.append(None)
    codes = indices.to_numpy(zero_copy_only=False).astype(np.uint32)
    return known, np.minimum(codes, max(len(known), 1) - 1, out=codes)


def _near(column: Any, dtype: Int) -> tuple[list[Any], Codes] | None:
    """The values that are there and the class of each row; None where they lie far apart."""
    vec = from_arrow(column, dtype)
    assert isinstance(vec, Numbers)
    its = narrowed(vec.values, vec.valid)
    if its is None or not len(vec.values):
        return None
    low, high, codes = its
    null = high - low + 1
    if vec.valid is not None:
        codes[~vec.valid] = null
    here = np.flatnonzero(count(codes, null + 1))
    if here[-1] >= len(here):  # numbers are left out
        places = np.zeros(null + 1, codes.dtype)
        places[here] = np.arange(len(here))
        codes = places[codes]
    return [None if c == null else low + c for c in here.tolist()], codes


class _ByMember:
    """Counts the members of a few row sets, one per weight; thread-safe."""

    def __init__(self, members: Sequence[RowSet], weights: Float64s) -> None:
        self.weights: Float64s | None = weights
        self.width = len(members)
        self._values = weights
        self._members = [m if not isinstance(m, Ids) else np.sort(m.ids) for m in members]

    def count(self, f: Fragment, codes: Codes, classes: int) -> Cells:
        """The cells of one fragment; `codes` (rows,) says the class of each of its rows."""
        k = self.width
        kind: np.dtype[Any] = np.dtype(np.uint8 if k < 255 else np.uint32)
        groups: NDArray[Any] = np.zeros(f.rows, kind)  # 0 is outside the population
        listed = np.zeros((classes, k), np.int64)
        for at, member in enumerate(self._members):
            match member:
                case Range(start, stop):
                    groups[max(0, start - f.start) : max(0, stop - f.start)] = at + 1
                case Bitmap(words):
                    groups += bits(words, f.start, f.rows).astype(kind) * kind.type(at + 1)
                case ids:
                    a, b = np.searchsorted(ids, [f.start, f.stop])
                    listed[:, at] = count(codes[ids[a:b] - f.start], classes)
        key: NDArray[Any] = codes.astype(np.uint16 if classes * (k + 1) <= 1 << 16 else np.int64)
        key *= key.dtype.type(k + 1)
        key += groups.astype(key.dtype)
        both = count(key, classes * (k + 1)).reshape(classes, k + 1)
        counts = both[:, 1:] + listed
        here, values = counts > 0, self._values
        low = np.where(here, values, np.inf).min(axis=1, initial=np.inf)
        high = np.where(here, values, -np.inf).max(axis=1, initial=-np.inf)
        return Cells(counts, values[None, :], low, high, counts @ values)


class _ByRow:
    """Counts rows that have a weight each; thread-safe.

    Column 0 is weight 0; `bins` more are of equal width in the logarithm (one holds them all).
    """

    def __init__(self, population: RowSet, values: Float64s, bins: int) -> None:
        rows = population.to_numpy()
        if not population.ascending:
            order = np.argsort(rows, kind="stable")
            rows, values = rows[order], values[order]
        self.weights: Float64s | None = None
        self.width = bins + 1
        self._rows, self._values, self._bins = rows, values, bins
        positive = values[values > 0]
        assert positive.size, "weights are checked before they are counted"
        self._low = float(np.log2(positive.min()))
        self._step = (float(np.log2(positive.max())) - self._low) / bins

    def count(self, f: Fragment, codes: Codes, classes: int) -> Cells:
        """The cells of one fragment; `codes` (rows,) says the class of each of its rows."""
        a, b = np.searchsorted(self._rows, [f.start, f.stop])
        codes, w = codes[self._rows[a:b] - f.start], self._values[a:b]
        key = codes.astype(np.int64) * self.width + self._bin(w)
        shape, size = (classes, self.width), classes * self.width
        counts = np.bincount(key, minlength=size).reshape(shape)
        sums = np.bincount(key, w, minlength=size).reshape(shape)
        low, high = np.full(classes, np.inf), np.full(classes, -np.inf)
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        if present.size:
            low[present] = np.minimum.reduceat(w[order], starts)
            high[present] = np.maximum.reduceat(w[order], starts)
        means = np.divide(sums, counts, out=np.zeros(shape), where=counts > 0)
        return Cells(counts, means, low, high, sums.sum(axis=1))

    def _bin(self, w: Float64s) -> Int64s:
        positive = w > 0
        if self._bins == 1 or self._step == 0:
            return positive.astype(np.int64)
        bins = np.zeros(w.size, np.int64)
        found = ((np.log2(w[positive]) - self._low) / self._step).astype(np.int64)
        bins[positive] = np.clip(found, 0, self._bins - 1) + 1
        return bins


_Counter: TypeAlias = _ByMember | _ByRow


def _counter_of(population: RowSet, drawing: Drawing | None) -> _Counter:
    if drawing is None:
        return _ByMember((population,), np.ones(1))
    match drawing.weights:
        case ClassWeights(values, members):
            return _ByMember(members, values)
        case RowWeights(values):
            return _ByRow(population, values, 1 if drawing.replace else _BINS)
        case _:
            assert_never(drawing.weights)


def bits(words: NDArray[np.uint64], start: int, rows: int) -> NDArray[np.uint8]:
    """Bits `start` to `start + rows` of a bitmap as 0 and 1, uint8 (rows,)."""
    octets = words.view(np.uint8)[start // 8 : (start + rows + 7) // 8]
    return np.unpackbits(octets, bitorder="little")[start % 8 : start % 8 + rows]


def can_class(dtype: DType) -> bool:
    """Whether a column's distinct values may be counted as classes."""
    return isinstance(dtype, Bool | Int | Label | Text)
