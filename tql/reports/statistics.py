"""What is in a data set, column by column or class by class; payload columns are never read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tql.diagnostics import counted, error
from tql.engine.columns import Numbers, from_arrow, one_array
from tql.engine.comparing import plain_text
from tql.engine.scan import Settings, over
from tql.memory_size import shown
from tql.reports.class_counts import can_class
from tql.reports.class_table import MOST_CLASSES, class_table
from tql.reports.text_table import Side, cut, printable, table
from tql.rowset import everything
from tql.schema import Binary, Bool, Column, Float, Int, Json, Label, List, Opaque, Text, Time
from tql.sources.protocol import Fragment, Source

_WIDEST: Final = 24
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ColumnLine:
    """One column; None where it is not known without reading a payload column.

    low, high  of what is not NULL and not NaN, as people write it
    distinct   different values that occur
    bytes      of the column as it is stored
    """

    name: str
    type: str
    rows: int
    nulls: int | None
    low: str | None
    high: str | None
    distinct: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class ClassCount:
    """Rows of one class."""

    name: str
    rows: int
    share: float


@dataclass(frozen=True, slots=True, repr=False)
class Statistics:
    """Either a line per column, or, where `by` names a column, a line per class of it."""

    subject: str
    rows: int
    columns: tuple[ColumnLine, ...] = ()
    by: str | None = None
    classes: tuple[ClassCount, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON data; `version` changes when a key does."""
        head: dict[str, Any] = {"version": _VERSION, "source": self.subject, "rows": self.rows}
        if self.by is not None:
            classes = [{"class": c.name, "rows": c.rows, "share": c.share} for c in self.classes]
            return {**head, "by": self.by, "classes": classes}
        columns = [
            {
                "name": c.name, "type": c.type, "rows": c.rows, "nulls": c.nulls, "min": c.low,
                "max": c.high, "distinct": c.distinct, "bytes": c.bytes,
            }
            for c in self.columns
        ]  # fmt: skip
        return {**head, "columns": columns}

    def __str__(self) -> str:
        head = f"{printable(self.subject)}  ·  {counted(self.rows, 'row')}"
        lines = _class_lines(self) if self.by is not None else _column_lines(self.columns)
        return "\n".join([head, *lines])

    __repr__ = __str__  # a prompt shows what print shows

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def _column_lines(columns: Sequence[ColumnLine]) -> list[str]:
    heads = ["column", "type", "nulls", "min", "max", "distinct", "bytes"]
    sides: list[Side] = ["left", "left", "right", "right", "right", "right", "right"]
    rows = [
        [
            cut(printable(c.name), _WIDEST),
            cut(printable(c.type), _WIDEST),
            "" if c.nulls is None else f"{c.nulls:,}",
            cut(printable(c.low or ""), 14),
            cut(printable(c.high or ""), 14),
            "" if c.distinct is None else f"{c.distinct:,}",
            "" if c.bytes is None else shown(c.bytes),
        ]
        for c in columns
    ]
    return table(heads, sides, rows)


def _class_lines(s: Statistics) -> list[str]:
    assert s.by is not None
    rows = [
        [cut(printable(c.name), _WIDEST), f"{c.rows:,}", f"{100 * c.share:.1f} %"]
        for c in s.classes
    ]
    return table([cut(printable(s.by), _WIDEST), "rows", "share"], ["left", "right", "right"], rows)


def column_statistics(source: Source, name: str) -> Statistics:
    """A line per column of `source`; reads numbers and texts, but no image, list or other bytes."""
    read = [c for c in source.schema if not _is_payload(c)]
    parts: list[list[_Part]] = []
    if read:

        def part(fragment: Fragment) -> list[_Part]:
            data = source.read(fragment.index, [c.name for c in read])
            return [_part(data.column(c.name), c) for c in read]

        parts = list(over(source, source.fragments, part, Settings(), [c.name for c in read]))
    found = {c.name: _line(c, [p[k] for p in parts], source) for k, c in enumerate(read)}
    return Statistics(
        name, source.rows, tuple(found.get(c.name) or _line(c, [], source) for c in source.schema)
    )


def class_statistics(source: Source, name: str, by: str) -> Statistics:
    """A line per class of the column `by`: rows and share, the classes without a row left out."""
    dtype = source.schema[by].dtype
    if not can_class(dtype):
        raise error(
            "type", f"{by!r} is {dtype}: its rows fall into no classes",
            help="choose a column of class labels, integers, bools or text",
        )  # fmt: skip
    counted = class_table(source, by, everything(source.rows), None, Settings(), most_lines=None)
    if counted is None:
        raise error(
            "value", f"{by!r} has more than {MOST_CLASSES:,} distinct values",
            help="choose a column with fewer values",
        )  # fmt: skip
    classes = tuple(ClassCount(line.name, line.rows, line.share) for line in counted.lines)
    return Statistics(name, source.rows, (), by, classes)


# -- one column --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """One column in one fragment; `values` are the distinct ones, None where they are many."""

    nulls: int
    low: Any
    high: Any
    values: frozenset[Any] | None


def _is_payload(column: Column) -> bool:
    return isinstance(column.dtype, Binary | List | Json | Opaque)


def _part(column: Any, c: Column) -> _Part:
    match c.dtype:
        case Text():
            return _text_part(one_array(column))
        case _:
            vec = from_arrow(column, c.dtype)
    assert isinstance(vec, Numbers)
    values = vec.values if vec.valid is None else vec.values[vec.valid]
    nulls = len(vec.values) - len(values)
    if isinstance(c.dtype, Float):
        values = values[~np.isnan(values)]
    if not len(values):
        return _Part(nulls, None, None, frozenset())
    distinct = frozenset(np.unique(values).tolist()) if isinstance(c.dtype, Label | Bool) else None
    return _Part(nulls, values.min().item(), values.max().item(), distinct)


def _text_part(array: Any) -> _Part:
    nulls = int(array.null_count)
    if pa.types.is_dictionary(array.type):
        used = array.indices.drop_null().unique()
        words = frozenset(array.dictionary.take(used).to_pylist())
        return _Part(nulls, min(words, default=None), max(words, default=None), words)
    if len(array) == nulls:
        return _Part(nulls, None, None, None)
    ends = pc.call_function("min_max", [plain_text(array)]).as_py()
    return _Part(nulls, ends["min"], ends["max"], None)


def _line(c: Column, parts: Sequence[_Part], source: Source) -> ColumnLine:
    size = _bytes_of(source, c.name)
    if _is_payload(c):
        nulls = _nulls_of(source, c)
        return ColumnLine(c.name, str(c.dtype), source.rows, nulls, None, None, None, size)
    lows = [p.low for p in parts if p.low is not None]
    highs = [p.high for p in parts if p.high is not None]
    sets = [p.values for p in parts]
    known = [s for s in sets if s is not None]
    distinct = len(frozenset().union(*known)) if len(known) == len(sets) else None
    if isinstance(c.dtype, Int | Float | Time):
        distinct = None
    return ColumnLine(
        c.name, str(c.dtype), source.rows, sum(p.nulls for p in parts),
        _shown(min(lows), c) if lows else None, _shown(max(highs), c) if highs else None,
        distinct, size,
    )  # fmt: skip


def _shown(value: Any, c: Column) -> str:
    match c.dtype:
        case Label(names) if 0 <= value < len(names):
            return str(names[value])
        case Bool():
            return "true" if value else "false"
        case Float():
            return f"{value + 0.0:g}"  # no negative zero
        case Time(unit, _, date):
            kind = f"datetime64[{'D' if date else unit}]"
            return str(np.array(value, np.int64).astype(kind))
        case _:
            return str(value)


def _bytes_of(source: Source, name: str) -> int | None:
    return _total(f.columns[name].bytes if name in f.columns else None for f in source.fragments)


def _nulls_of(source: Source, c: Column) -> int | None:
    if not c.nullable:
        return 0
    return _total(
        f.columns[c.name].nulls if c.name in f.columns else None for f in source.fragments
    )


def _total(parts: Iterable[int | None]) -> int | None:
    """The sum; None where one of the parts is unknown."""
    total = 0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
