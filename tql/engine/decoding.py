"""What fragments take in memory once they are decoded, told before they are read: at least so much."""

from collections.abc import Callable, Sequence

from tql.engine.computed import Computed, stored_below
from tql.schema import Binary, Column, List, Text
from tql.sources.protocol import Fragment, Source
from tql.sources.sizes import stored_bytes, width_of


def decoded_bytes(source: Source, columns: Sequence[str]) -> Callable[[Fragment], int]:
    """A function that tells it of these columns of a fragment of `source`; 0 where it is in place."""
    known = [(source.schema[name], _per_row_below(source, source.schema[name])) for name in columns]

    def decoded(fragment: Fragment) -> int:
        if fragment.in_place:
            return 0
        return sum(stored_bytes(fragment, c) or int(fragment.rows * below) for c, below in known)

    return decoded


def _per_row_below(source: Source, column: Column) -> float:
    """Bytes that a row of a column takes that no statistics are of: its type says it, or, where rows
    differ, what it is made of: the column of this name below, or all of its kind, in the first
    fragment.
    """
    width = width_of(column.dtype)
    if not isinstance(source, Computed) or not isinstance(column.dtype, Text | Binary | List):
        return width
    found = 0.0
    for stored in stored_below(source):
        if not stored.fragments:
            continue
        first = stored.fragments[0]
        like = [c for c in stored.schema if isinstance(c.dtype, type(column.dtype))]
        made_of = [c for c in like if c.name == column.name] or like
        found += sum(stored_bytes(first, c) for c in made_of) / first.rows
    return max(width, found)
