"""Rows by number, in the order asked for, reading each fragment once."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types as kind

from tql.schema import Opaque, Text
from tql.sources.arrow_types import arrow_type
from tql.sources.protocol import Source

Read = Callable[[int, Sequence[str]], pa.Table]

LARGEST_OFFSET: Final = (1 << 31) - 1


def gather(
    source: Source, rows: NDArray[np.int64], columns: Sequence[str], read: Read | None = None
) -> pa.Table:
    """These columns of these rows; rows may repeat and stand in any order.

    `rows` is int64, shape (n,), each in 0 … source.rows - 1. `read` replaces `source.read`, for
    callers that keep fragments. Text comes plain, never as a dictionary.
    """
    names = list(columns)
    texts = [n for n in names if source.schema[n].dtype == Text()]
    fetch = source.read if read is None else read
    if not len(rows):
        if not source.fragments:
            return _without_rows(source, names)
        return _plain(fetch(0, names).slice(0, 0), texts)
    assert rows.min() >= 0 and rows.max() < source.rows, "row outside the source"
    starts = np.fromiter((f.start for f in source.fragments), np.int64, len(source.fragments))
    owner = _owners(starts, rows)
    order = None
    if np.any(owner[1:] < owner[:-1]):
        order = np.argsort(owner, kind="stable")
        rows, owner = rows[order], owner[order]
    cuts = np.flatnonzero(owner[1:] != owner[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(rows)]
    pieces = []
    for first, last in pairwise(bounds):
        fragment = int(owner[first])
        local = rows[first:last] - starts[fragment]
        pieces.append(_plain(_take(fetch(fragment, names), local), texts))
    joined = pa.concat_tables(_aligned(pieces, texts))
    if order is None:
        return joined
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return widened(joined).take(pa.array(inverse))


def _owners(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
    """The fragment of each row, in as few bytes as it needs: NumPy sorts two bytes by radix."""
    smallest = np.min_scalar_type(len(starts))
    return (np.searchsorted(starts, rows, side="right") - 1).astype(smallest)


def _take(table: pa.Table, local: NDArray[np.int64]) -> pa.Table:
    first, last = int(local[0]), int(local[-1])
    if last - first == len(local) - 1 and bool(np.all(local[1:] - local[:-1] == 1)):
        return table.slice(first, len(local))
    return table.take(pa.array(local))


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
