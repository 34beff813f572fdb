"""Rows by number, in the order asked for, reading each fragment once."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types as kind

from tql.schema import Opaque, Text
from tql.sources.arrow_types import arrow_type
from tql.sources.movable import movable
from tql.sources.protocol import ByRow, Read, Run, Source, in_turn

Piece = Callable[[int, pa.Table], pa.Table]
"""What becomes of the k-th fragment asked for; the table may be let go of behind it."""
Each = Callable[[Sequence[int], Sequence[str], Piece], list[pa.Table]]
"""The pieces of these fragments, ascending, and columns, in order."""
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)

LARGEST_OFFSET: Final = (1 << 31) - 1


def gather(
    source: Source,
    rows: NDArray[np.int64],
    columns: Sequence[str],
    read: Read | None = None,
    run: Run = in_turn,
) -> pa.Table:
    """These columns of these rows; rows may repeat and stand in any order.

    `rows` is int64, shape (n,), each in 0 … source.rows - 1. `read` replaces `source.read`; `run` is
    given one task for each fragment. Text comes plain, never as a dictionary. What is returned holds
    little more than its rows in memory, but for views of what is there anyway.
    """
    fetch = source.read if read is None else read

    def each(fragments: Sequence[int], names: Sequence[str], piece: Piece) -> list[pa.Table]:
        return run([partial(one, k, f, names, piece) for k, f in enumerate(fragments)])

    def one(k: int, fragment: int, names: Sequence[str], piece: Piece) -> pa.Table:
        return piece(k, fetch(fragment, names))

    return gather_with(source, rows, columns, each, run, read)


def gather_with(
    source: Source,
    rows: NDArray[np.int64],
    columns: Sequence[str],
    each: Each,
    run: Run,
    read: Read | None = None,
) -> pa.Table:
    """`gather` for callers that keep fragments: `each` reads, or finds, those that it is given, and
    `read` a single one that columns by the row need.
    """
    names = list(columns)
    single = [n for n in names if n in source.columns_by_row] if isinstance(source, ByRow) else []
    if not single:
        return _by_fragment(source, rows, names, each)
    assert isinstance(source, ByRow)
    taken = _plain(source.take(rows, single, run, read), _texts(source, single))
    others = [n for n in names if n not in source.columns_by_row]
    if others:
        more = _by_fragment(source, rows, others, each)
        for name in others:
            taken = taken.append_column(more.schema.field(name), more.column(name))
    return taken.select(names)


def _by_fragment(source: Source, rows: NDArray[np.int64], names: list[str], each: Each) -> pa.Table:
    texts = _texts(source, names)
    if not len(rows):
        if not source.fragments:
            return _without_rows(source, names)
        (piece,) = each([0], names, lambda _, table: _plain(table.slice(0, 0), texts))
        return piece
    assert rows.min() >= 0 and rows.max() < source.rows, "row outside the source"
    starts = starts_of(source)
    owner = _owners(starts, rows)
    order = _grouping(owner)
    if order is not None:
        rows, owner = rows[order], owner[order]
    stretches = list(_stretches(owner))

    def piece_of(k: int, table: pa.Table) -> pa.Table:
        fragment, part = stretches[k]
        local = rows[part] - starts[fragment]
        return _plain(_take(table, local, source.fragments[fragment].in_place), texts)

    pieces = each([fragment for fragment, _ in stretches], names, piece_of)
    return _restored(pa.concat_tables(_aligned(pieces, texts)), order)


def starts_of(source: Source) -> NDArray[np.int64]:
    """The first row of each fragment, int64 (F,)."""
    return np.fromiter((f.start for f in source.fragments), np.int64, len(source.fragments))


def _texts(source: Source, names: Sequence[str]) -> list[str]:
    return [n for n in names if source.schema[n].dtype == Text()]


def _owners(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
    """The fragment of each row, in as few bytes as it needs: NumPy sorts two bytes by radix."""
    smallest = np.min_scalar_type(len(starts))
    return (np.searchsorted(starts, rows, side="right") - 1).astype(smallest)


def _grouping(owner: NDArray[np.unsignedinteger]) -> NDArray[np.int64] | None:
    """What brings equal owners together, ascending; None where they are."""
    if np.any(owner[1:] < owner[:-1]):
        return np.argsort(owner, kind="stable")
    return None


def _restored(grouped: pa.Table, order: NDArray[np.int64] | None) -> pa.Table:
    """The rows as they stood before `_grouping` moved them."""
    if order is None:
        return grouped
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return movable(widened(grouped)).take(pa.array(inverse))


def _stretches(owner: NDArray[np.unsignedinteger]) -> Iterator[tuple[int, slice]]:
    """The runs of equal values, each with its place; (n,) with n > 0."""
    cuts = np.flatnonzero(owner[1:] != owner[:-1]) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(owner)]):
        yield int(owner[first]), slice(first, last)


def _take(table: pa.Table, local: NDArray[np.int64], in_place: bool) -> pa.Table:
    """Rows `local` of one fragment."""
    if all(column.num_chunks <= 1 for column in table.columns):
        return _pick(table, local, in_place)
    # Arrow would join the chunks, all of them, to take rows from their whole.
    chunks = table.to_batches()
    starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])[:-1]
    owner = _owners(starts, local)
    order = _grouping(owner)
    if order is not None:
        local, owner = local[order], owner[order]
    parts = [
        _pick(chunks[chunk], local[part] - starts[chunk], in_place)
        for chunk, part in _stretches(owner)
    ]
    return _restored(pa.Table.from_batches(parts), order)


def _pick(data: Rows, local: NDArray[np.int64], in_place: bool) -> Rows:
    """A view of one stretch of rows, but only where it holds little else in memory."""
    first, last = int(local[0]), int(local[-1])
    stretch = last - first == len(local) - 1
    if stretch and len(local) > 2:  # of many small chunks, most give one row: make that cheap
        stretch = bool((local[1:] - local[:-1] == 1).all())
    if stretch and (in_place or 2 * len(local) >= data.num_rows):
        return data.slice(first, len(local))
    return movable(data).take(pa.array(local))


def _plain(table: pa.Table, texts: Sequence[str]) -> pa.Table:
    """Text without dictionaries, which differ between fragments; those of labels do not."""
    for name in texts:
        at = table.schema.get_field_index(name)
        if kind.is_dictionary(table.schema.field(at).type):
            table = table.set_column(at, name, table.column(at).cast(pa.string()))
    return table


def _aligned(pieces: list[pa.Table], texts: Sequence[str]) -> list[pa.Table]:
    """Text of one type throughout: files may differ in the width of its offsets."""
    for name in texts:
        if len({p.schema.field(name).type for p in pieces}) > 1:
            pieces = [_cast(p, name, pa.large_string()) for p in pieces]
    return pieces


def widened(table: pa.Table) -> pa.Table:
    """Wider offsets where one chunk will hold more bytes than 32 bits can number."""
    for field in table.schema:
        if table.column(field.name).nbytes > LARGEST_OFFSET:
            if kind.is_string(field.type):
                table = _cast(table, field.name, pa.large_string())
            elif kind.is_binary(field.type):
                table = _cast(table, field.name, pa.large_binary())
    return table


def _cast(table: pa.Table, name: str, wanted: pa.DataType) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, name, table.column(at).cast(wanted))


def _without_rows(source: Source, names: Sequence[str]) -> pa.Table:
    fields = []
    for name in names:
        dtype = source.schema[name].dtype
        opaque = isinstance(dtype, Opaque)
        fields.append(pa.field(name, pa.null() if opaque else arrow_type(dtype)))
    return pa.schema(fields).empty_table()
