"""What fragments take in memory once they are decoded, told before they are read: at least so much."""

from collections.abc import Callable, Sequence

from tql.engine.computed import Computed, stored_below
from tql.schema import (
    Binary,
    Bool,
    Column,
    DType,
    Float,
    Int,
    Json,
    Label,
    List,
    Opaque,
    Text,
    Time,
)
from tql.sources.protocol import Fragment, Source


def decoded_bytes(source: Source, columns: Sequence[str]) -> Callable[[Fragment], int]:
    """A function that tells it of these columns of a fragment of `source`; 0 where it is in place."""
    known = [(source.schema[name], _per_row_below(source, source.schema[name])) for name in columns]

    def decoded(fragment: Fragment) -> int:
        if fragment.in_place:
            return 0
        return sum(_stored(fragment, c) or int(fragment.rows * below) for c, below in known)

    return decoded


def _stored(fragment: Fragment, column: Column) -> int:
    """At least what the file says of the column's pages, where values may stand as codes."""
    stats = fragment.columns.get(column.name)
    if stats is None:
        return 0
    least = int(fragment.rows * _width(column.dtype))
    return max(least, stats.bytes or 0, stats.decoded or 0)


def _per_row_below(source: Source, column: Column) -> float:
    """Bytes that a row of a column takes that no statistics are of: its type says it, or, where rows
    differ, what it is made of: the column of this name below, or all of its kind, in the first
    fragment.
    """
    width = _width(column.dtype)
    if not isinstance(source, Computed) or not isinstance(column.dtype, Text | Binary | List):
        return width
    found = 0.0
    for stored in stored_below(source):
        if not stored.fragments:
            continue
        first = stored.fragments[0]
        like = [c for c in stored.schema if isinstance(c.dtype, type(column.dtype))]
        made_of = [c for c in like if c.name == column.name] or like
        found += sum(_stored(first, c) for c in made_of) / first.rows
    return max(width, found)


def _width(dtype: DType) -> float:
    """Bytes of a value, of one whose size varies those of its offset."""
    match dtype:
        case Bool():
            return 1
        case Int(bits) | Float(bits) | Label(storage=Int(bits)):
            return bits / 8
        case Time():
            return 8
        case List(item, size):
            return 4 if size is None else size * _width(item)
        case Text() | Binary():
            return 4
        case Json() | Opaque():
            return 0
