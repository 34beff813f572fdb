"""How often each class stands in the data, passes the filter, and is expected among the draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tql.engine.columns import Numbers, from_arrow, one_array
from tql.engine.scan import Settings, over
from tql.rowset import Bitmap, Ids, Range, RowSet
from tql.schema import Bool, DType, Int, Label, Text
from tql.sources.protocol import Fragment, Source
from tql.weights import ClassWeights, RowWeights, Weights, integer_weights

Int64s: TypeAlias = NDArray[np.int64]
Float64s: TypeAlias = NDArray[np.float64]

MOST_CLASSES: Final = 1000  # distinct values of a column without class names that make a table
MOST_LINES: Final = 20
_BINS: Final = 512  # of the logarithm of per-row weights, for draws without replacement
_NULL: Final = "null"
_UNNAMED: Final = "no name"


@dataclass(frozen=True, slots=True)
class ClassLine:
    """One class, or several that are shown as one; expected is per epoch.

    Weights and expected are None where nothing is drawn.
    """

    name: str
    source_rows: int
    rows: int
    share: float
    weight_low: float | None = None
    weight_high: float | None = None
    expected: float | None = None
    expected_share: float | None = None
    classes: int = 1

    @property
    def repeats(self) -> float | None:
        """How often a row of the class is expected to be drawn."""
        return None if self.expected is None or not self.rows else self.expected / self.rows

    @property
    def dropped(self) -> bool:
        """Whether the filter leaves no row of it."""
        return self.rows == 0


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes of column `by`; None is by weight. `approximate` is about the expected draws."""

    by: str | None
    lines: tuple[ClassLine, ...]
    weighted: bool
    approximate: bool = False
    absent: int = 0


@dataclass(frozen=True, slots=True)
class Drawing:
    """`size` draws by `weights` from a population (its rows in the order of RowWeights)."""

    weights: Weights
    size: int
    replace: bool


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


def class_table(
    source: Source,
    by: str,
    population: RowSet,
    drawing: Drawing | None,
    settings: Settings,
    *,
    most_lines: int | None = MOST_LINES,
) -> ClassTable | None:
    """The table of column `by`; None where it has too many distinct values.

    Reads that column alone. `population` are rows of `source`.
    """
    tally = _tally(source, by, population, drawing, settings)
    if tally is None:
        return None
    names, before, cells = tally
    expected, approximate = (None, False) if drawing is None else _expected(cells, drawing)
    rows = cells.counts.sum(axis=1)
    total = max(1, int(rows.sum()))
    lines = [
        ClassLine(name, int(before[c]), int(rows[c]), int(rows[c]) / total)
        if drawing is None or expected is None
        else ClassLine(
            name, int(before[c]), int(rows[c]), int(rows[c]) / total,
            float(cells.low[c]) if rows[c] else None, float(cells.high[c]) if rows[c] else None,
            expected[c], expected[c] / max(drawing.size, 1e-300),
        )
        for c, name in enumerate(names)
    ]  # fmt: skip
    present = [line for line in lines if line.source_rows]
    dtype = source.schema[by].dtype
    named = len(dtype.names) if isinstance(dtype, Label) else 0
    absent = sum(1 for line in lines[:named] if not line.source_rows)
    kept = tuple(present) if most_lines is None else _shortened(present, most_lines)
    return ClassTable(by, kept, drawing is not None, approximate, absent)


def weight_table(population: RowSet, drawing: Drawing) -> ClassTable | None:
    """A line for each distinct weight; None where every row has its own."""
    match drawing.weights:
        case ClassWeights(values, members):
            counts = np.array([[len(m) if k == c else 0 for k in range(len(members))]
                               for c, m in enumerate(members)], np.int64).reshape(len(members), -1)  # fmt: skip
            cells = _cells_of_classes(counts, values)
            expected, approximate = _expected(cells, drawing)
            total = max(1, len(population))
            lines = [
                ClassLine(f"weight {value:g}", len(m), len(m), len(m) / total, value, value, e,
                          e / max(drawing.size, 1e-300))
                for value, m, e in zip(values.tolist(), members, expected, strict=True)
            ]  # fmt: skip
            return ClassTable(None, _shortened(lines, MOST_LINES), True, approximate)
        case RowWeights():
            return None
        case _:
            assert_never(drawing.weights)


def _shortened(lines: Sequence[ClassLine], most: int) -> tuple[ClassLine, ...]:
    """At most `most`, those with the largest share, and the sum of the others."""
    if len(lines) <= most:
        return tuple(lines)

    def share(line: ClassLine) -> tuple[float, int]:
        return (line.share if line.expected_share is None else line.expected_share, line.rows)

    ordered = sorted(lines, key=share, reverse=True)
    return (*ordered[:most], _other(ordered[most:]))


def _other(rest: Sequence[ClassLine]) -> ClassLine:
    lows = [line.weight_low for line in rest if line.weight_low is not None]
    highs = [line.weight_high for line in rest if line.weight_high is not None]
    drawn = [line for line in rest if line.expected is not None]
    return ClassLine(
        f"other ({len(rest):,})",
        sum(line.source_rows for line in rest),
        sum(line.rows for line in rest),
        sum(line.share for line in rest),
        min(lows, default=None),
        max(highs, default=None),
        sum(line.expected or 0.0 for line in drawn) if drawn else None,
        sum(line.expected_share or 0.0 for line in drawn) if drawn else None,
        len(rest),
    )


# -- expected draws ----------------------------------------------------------------------------


def _expected(cells: Cells, drawing: Drawing) -> tuple[list[float], bool]:
    """Expected draws per class, and whether they are approximate."""
    size = drawing.size
    if drawing.replace:
        match drawing.weights:
            case ClassWeights(values):
                units = integer_weights(values)
                masses = [sum(n * u for n, u in zip(row, units, strict=True))
                          for row in cells.counts.tolist()]  # fmt: skip
                total = sum(masses)
                return [float(Fraction(size * m, total)) for m in masses], False
            case RowWeights():
                shares = cells.mass / cells.mass.sum()
                return [float(size * share) for share in shares], False
            case _:
                assert_never(drawing.weights)
    positive = np.where(cells.weights > 0, cells.counts, 0)
    everyone = int(positive.sum())
    used = cells.weights[np.broadcast_to(cells.weights > 0, cells.counts.shape) & (cells.counts > 0)] if (
        cells.weights.shape == cells.counts.shape
    ) else cells.weights[0, (cells.counts.sum(axis=0) > 0) & (cells.weights[0] > 0)]  # fmt: skip
    if size >= everyone or used.size == 0:
        return [float(n) for n in positive.sum(axis=1)], False
    if used.min() == used.max():
        return [float(Fraction(size * int(n), everyone)) for n in positive.sum(axis=1)], False
    rate = _rate(positive, cells.weights, size)
    return (positive * -np.expm1(-cells.weights * rate)).sum(axis=1).tolist(), True


def _rate(counts: Int64s, weights: Float64s, size: int) -> float:
    """The rate at which `size` rows in the mean are drawn: Σ counts·(1 - exp(-weight·rate)) = size.

    Drawing without replacement in proportion to weights takes the rows in the order of exponential
    clocks; this is the time by which `size` of them have rung.
    """
    scaled = weights / weights.max()

    def drawn(rate: float) -> float:
        return float((counts * -np.expm1(-scaled * rate)).sum())

    high = 1.0
    while drawn(high) < size and high < 1e300:
        high *= 2.0
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if drawn(middle) < size else (low, middle)
    return high / float(weights.max())


# -- counting ----------------------------------------------------------------------------------

# What one fragment gives: its values where they are not known beforehand, rows before, cells.
_Part: TypeAlias = tuple[list[Any] | None, Int64s, Cells]


def _tally(
    source: Source, by: str, population: RowSet, drawing: Drawing | None, settings: Settings
) -> tuple[list[str], Int64s, Cells] | None:
    """The classes of `by`, int64 (C,) rows of each in the source, and the population by weight.

    None where there are too many.
    """
    dtype = source.schema[by].dtype
    count = _counter(population, drawing)

    def part(fragment: Fragment) -> _Part | None:
        values, codes = _codes(source.read(fragment.index, [by]).column(by), dtype)
        if values is not None and len(values) > MOST_CLASSES:
            return None
        classes = len(dtype.names) + 2 if isinstance(dtype, Label) else len(values or ())
        before = np.bincount(codes, minlength=classes).astype(np.int64)
        return values, before, count(fragment, codes, classes)

    parts = []
    for found in over(source.fragments, part, settings):
        if found is None:
            return None
        parts.append(found)
    if isinstance(dtype, Label):
        names = [*dtype.names, _NULL, _UNNAMED]
        slots = [np.arange(len(names)) for _ in parts]
    else:
        known: dict[Any, int] = {}
        slots = [np.array([known.setdefault(v, len(known)) for v in values or ()], np.int64)
                 for values, _, _ in parts]  # fmt: skip
        if len(known) > MOST_CLASSES:
            return None
        names = [_shown(v) for v in known]
    before = np.zeros(len(names), np.int64)
    for at, (_, rows, _) in zip(slots, parts, strict=True):
        before[at] += rows
    width = 1 if drawing is None else _width_of(drawing)
    cells = _merged([c for _, _, c in parts], slots, len(names), width)
    if isinstance(dtype, Label):
        return names, before, cells
    ordered = sorted(known.items(), key=lambda item: _sort_key(item[0]))
    order = [c for _, c in ordered]
    return [names[c] for c in order], before[order], _reordered(cells, order)


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


def _codes(column: Any, dtype: DType) -> tuple[list[Any] | None, NDArray[np.integer[Any]]]:
    """The class of each row, unsigned (n,); for labels by index with NULL and nameless last."""
    if isinstance(dtype, Label):
        vec = from_arrow(column, dtype)
        assert isinstance(vec, Numbers)
        size = len(dtype.names)
        small = np.uint8 if size + 2 <= 1 << 8 else np.uint16 if size + 2 <= 1 << 16 else np.uint32
        values = vec.values
        if len(values) and (values.max() >= size or values.min() < 0):
            values = np.where((values >= 0) & (values < size), values, size + 1)
        codes: NDArray[Any] = values.astype(small)
        if vec.valid is not None:
            codes[~vec.valid] = size
        return None, codes
    array = one_array(column)
    if not pa.types.is_dictionary(array.type):
        array = one_array(pc.dictionary_encode(array))
    elif len(set(array.dictionary.to_pylist())) < len(array.dictionary):
        array = one_array(pc.dictionary_encode(array.dictionary_decode()))
    known: list[Any] = array.dictionary.to_pylist()
    indices = array.indices
    if indices.null_count:
        indices = pc.fill_null(indices, len(known))
        known.append(None)
    return known, indices.to_numpy(zero_copy_only=False).astype(np.uint32)


def _width_of(drawing: Drawing) -> int:
    return len(drawing.weights.members) if isinstance(drawing.weights, ClassWeights) else _BINS + 1


class _counter:
    """Counts the rows of the population in one fragment by class and weight; thread-safe."""

    def __init__(self, population: RowSet, drawing: Drawing | None) -> None:
        self.values: Float64s | None = None
        if drawing is not None and isinstance(drawing.weights, RowWeights):
            rows, values = population.to_numpy(), drawing.weights.values
            if not population.ascending:
                order = np.argsort(rows, kind="stable")
                rows, values = rows[order], values[order]
            self.sorted, self.values = rows, values
            positive = values[values > 0]
            self.low = float(np.log2(positive.min())) if positive.size else 0.0
            self.step = (float(np.log2(positive.max())) - self.low) / (_BINS - 1) if positive.size else 1.0  # fmt: skip
        else:
            members = (population,) if drawing is None else drawing.weights.members  # type: ignore[union-attr]
            self.weights = np.ones(1) if drawing is None else drawing.weights.values
            self.members = [m if not isinstance(m, Ids) else np.sort(m.ids) for m in members]

    def __call__(self, f: Fragment, codes: NDArray[np.integer[Any]], classes: int) -> Cells:
        if self.values is not None:
            a, b = np.searchsorted(self.sorted, [f.start, f.stop])
            return self._by_bin(codes[self.sorted[a:b] - f.start], self.values[a:b], classes)
        k = len(self.members)
        kind: np.dtype[Any] = np.dtype(np.uint8 if k < 255 else np.uint32)
        groups: NDArray[Any] = np.zeros(f.rows, kind)
        listed = np.zeros((classes, k), np.int64)
        for at, member in enumerate(self.members):
            match member:
                case Range(start, stop):
                    groups[max(0, start - f.start) : max(0, stop - f.start)] = at + 1
                case Bitmap(words):
                    groups += bits(words, f.start, f.rows).astype(kind) * kind.type(at + 1)
                case ids:
                    a, b = np.searchsorted(ids, [f.start, f.stop])
                    listed[:, at] = np.bincount(codes[ids[a:b] - f.start], minlength=classes)
        key: NDArray[Any] = codes.astype(np.uint16 if classes * (k + 1) <= 1 << 16 else np.int64)
        key *= key.dtype.type(k + 1)
        key += groups.astype(key.dtype)
        both = np.bincount(key, minlength=classes * (k + 1)).reshape(classes, k + 1)
        return _cells_of_classes(both[:, 1:] + listed, self.weights)

    def _by_bin(self, codes: NDArray[np.integer[Any]], w: Float64s, classes: int) -> Cells:
        """Column 0 is weight 0, then bins of equal width in the logarithm."""
        bins = np.zeros(w.size, np.int64)
        positive = w > 0
        if self.step > 0:
            bins[positive] = ((np.log2(w[positive]) - self.low) / self.step).astype(np.int64)
        bins[positive] = np.clip(bins[positive], 0, _BINS - 1) + 1
        key = codes.astype(np.int64) * (_BINS + 1) + bins
        shape = (classes, _BINS + 1)
        size = classes * (_BINS + 1)
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


def bits(words: NDArray[np.uint64], start: int, rows: int) -> NDArray[np.uint8]:
    """Bits `start` to `start + rows` of a bitmap as 0 and 1, uint8 (rows,)."""
    octets = words.view(np.uint8)[start // 8 : (start + rows + 7) // 8]
    return np.unpackbits(octets, bitorder="little")[start % 8 : start % 8 + rows]


def _cells_of_classes(counts: Int64s, values: Float64s) -> Cells:
    here = counts > 0
    low = np.where(here, values, np.inf).min(axis=1, initial=np.inf)
    high = np.where(here, values, -np.inf).max(axis=1, initial=-np.inf)
    return Cells(counts, values[None, :], low, high, counts @ values)


def _merged(parts: Sequence[Cells], slots: Sequence[Int64s], classes: int, width: int) -> Cells:
    counts = np.zeros((classes, width), np.int64)
    low, high = np.full(classes, np.inf), np.full(classes, -np.inf)
    mass = np.zeros(classes)
    sums = np.zeros((classes, width))
    for at, part in zip(slots, parts, strict=True):
        counts[at] += part.counts
        sums[at] += part.counts * part.weights
        low[at] = np.minimum(low[at], part.low)
        high[at] = np.maximum(high[at], part.high)
        mass[at] += part.mass
    shared = [p.weights for p in parts if p.weights.shape == (1, width)]
    if shared:
        weights = shared[0]
    else:
        weights = np.divide(sums, counts, out=np.zeros((classes, width)), where=counts > 0)
    return Cells(counts, weights, low, high, mass)


def _reordered(cells: Cells, order: list[int]) -> Cells:
    weights = cells.weights if cells.weights.shape[0] == 1 else cells.weights[order]
    return Cells(
        cells.counts[order], weights, cells.low[order], cells.high[order], cells.mass[order]
    )


def can_class(dtype: DType) -> bool:
    """Whether a column's distinct values may be counted as classes."""
    return isinstance(dtype, Bool | Int | Label | Text)


__all__ = [
    "MOST_CLASSES", "ClassLine", "ClassTable", "Drawing", "bits", "can_class", "class_table",
    "weight_table",
]  # fmt: skip
