"""What columns of a fragment take in memory, told before they are read: at least so much."""

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
from tql.sources.protocol import Fragment


def stored_bytes(fragment: Fragment, column: Column) -> int:
    """At least what the file says of the column's pages, where values may stand as codes."""
    stats = fragment.columns.get(column.name)
    if stats is None:
        return 0
    least = int(fragment.rows * width_of(column.dtype))
    return max(least, stats.bytes or 0, stats.decoded or 0)


def width_of(dtype: DType) -> float:
    """Bytes of a value, of one whose size varies those of its offset."""
    match dtype:
        case Bool():
            return 1
        case Int(bits) | Float(bits) | Label(storage=Int(bits)):
            return bits / 8
        case Time():
            return 8
        case List(item, size):
            return 4 if size is None else size * width_of(item)
        case Text() | Binary():
            return 4
        case Json() | Opaque():
            return 0
