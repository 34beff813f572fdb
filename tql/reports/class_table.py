"""How often each class stands in the data, passes the filter, and is expected among the draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np

from tql.engine.computed import Computed
from tql.engine.joined import JoinedSource
from tql.engine.scan import Settings
from tql.language.expr import Column, Expr, WeightCase, walk
from tql.language.plan import Output
from tql.planner.expecting import at_most_once, shared
from tql.reports.class_counts import Cells, Drawing, can_class, tally
from tql.rowset import RowSet
from tql.schema import Label
from tql.sources.protocol import Source
from tql.weights import ClassWeights, RowWeights, class_masses, integer_weights

MOST_CLASSES: Final = 1000  # distinct values of a column without class names that make a table
MOST_LINES: Final = 20
_MOST_PAIRS: Final = 100_000_000  # of a join; counting so many takes six seconds


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
    found = tally(source, by, population, drawing, settings, MOST_CLASSES)
    if found is None:
        return None
    names, before, cells = found
    expected, approximate = (None, False) if drawing is None else _expected(cells, drawing)
    rows = cells.counts.sum(axis=1)
    total = max(1, int(rows.sum()))
    lines = [
        ClassLine(name, int(before[c]), int(rows[c]), int(rows[c]) / total)
        if drawing is None or expected is None
        else ClassLine(
            name, int(before[c]), int(rows[c]), int(rows[c]) / total,
            float(cells.low[c]) if rows[c] else None, float(cells.high[c]) if rows[c] else None,
            expected[c], expected[c] / drawing.size,
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
            counts = np.array([len(m) for m in members], np.int64)[:, None]
            column = values[:, None]
            cells = Cells(counts, column, values, values, values * counts[:, 0])
            if drawing.replace:
                expected, approximate = shared(class_masses(drawing.weights), drawing.size), False
            else:
                expected, approximate = _at_most_once(cells, drawing)
            total = max(1, len(population))
            lines = [
                ClassLine(
                    f"weight {v:g}", len(m), len(m), len(m) / total, v, v, e, e / drawing.size
                )
                for v, m, e in zip(values.tolist(), members, expected, strict=True)
            ]
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
    if not drawing.replace:
        return _at_most_once(cells, drawing)
    match drawing.weights:
        case ClassWeights(values):
            units = integer_weights(values)
            masses = [
                sum(n * u for n, u in zip(row, units, strict=True) if n)
                for row in cells.counts.tolist()
            ]
            return shared(masses, drawing.size), False
        case RowWeights():
            shares = cells.mass / cells.mass.sum()
            return [float(drawing.size * share) for share in shares], False
        case _:
            assert_never(drawing.weights)


def _at_most_once(cells: Cells, drawing: Drawing) -> tuple[list[float], bool]:
    known = isinstance(drawing.weights, ClassWeights)  # others were counted by ranges of weights
    independent = drawing.mix == "iid"
    return at_most_once(cells.counts, cells.weights, drawing.size, known, independent)


# -- the column that the table is about --------------------------------------------------------


def tabled(
    source: Source, population: RowSet, drawing: Drawing | None, weight: Expr | None,
    where: Sequence[Expr], outputs: Sequence[Output], settings: Settings, notes: list[str],
) -> ClassTable | None:  # fmt: skip
    """The class table by the column that the query speaks of most; else by weight. A table that
    would take too long is left out, which `notes` then say.
    """
    for name in _candidates(source, weight, where, outputs):
        if too_many_pairs(source):
            notes.append(f"a table by {name} is left out: it would count {source.rows:,} pairs of "
                         "rows")  # fmt: skip
            break
        table = class_table(source, name, population, drawing, settings)
        if table is not None:
            return table
    return None if drawing is None else weight_table(population, drawing)


def too_many_pairs(source: Source) -> bool:
    """Whether counting the classes of all its rows would take too long."""
    return source.rows > _MOST_PAIRS and _is_of_pairs(source)


def _is_of_pairs(source: Source) -> bool:
    """Whether each row has to be put together from two others before it can be counted."""
    return isinstance(source, JoinedSource) or (
        isinstance(source, Computed) and any(_is_of_pairs(s) for s in source.below)
    )


def _candidates(
    source: Source, weight: Expr | None, where: Sequence[Expr], outputs: Sequence[Output]
) -> Iterator[str]:
    def labels(e: Expr) -> Iterator[str]:
        return (n.name for n in walk(e) if isinstance(n, Column) and isinstance(n.dtype, Label))

    named = [
        *(labels(weight) if weight is not None else ()),
        *(n for e in where for n in labels(e)),
    ]
    shown = [
        n for o in outputs for n in [o.stored] if n and isinstance(source.schema[n].dtype, Label)
    ]
    chosen = [*named, *shown][:1]
    if chosen:
        yield chosen[0]
    elif isinstance(weight, WeightCase):
        conditions = (n for arm in weight.arms for n in walk(arm.condition))
        named = [n.name for n in conditions if isinstance(n, Column) and can_class(n.dtype)]
        yield from dict.fromkeys(named)
