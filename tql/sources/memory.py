"""Data in memory: Arrow tables and everything that becomes one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa

from tql.schema import Schema
from tql.sources.arrow_types import is_text_dictionary
from tql.sources.classes import Features, merged_dictionary
from tql.sources.fingerprint import digest_of, names_part, table_parts
from tql.sources.protocol import ColumnStats, Fragment, ImagesElsewhere
from tql.sources.stored import (
    as_schema,
    chosen,
    has_all_bytes,
    laid_out,
    never_null,
    pick,
    stored_columns,
)

FRAGMENT_ROWS: Final = 1 << 20
"""Rows in a slice; a multiple of 64, so that the bitmaps of slices lie side by side."""


class SliceStats(Mapping[str, ColumnStats]):
    """What a slice of a table knows of its columns; counted when asked for."""

    __slots__ = ("_rows", "_start", "_table")

    def __init__(self, table: pa.Table, start: int, rows: int) -> None:
        self._table, self._start, self._rows = table, start, rows

    def __getitem__(self, name: str) -> ColumnStats:
        if name not in self:
            raise KeyError(name)
        column = self._table.column(name).slice(self._start, self._rows)
        return ColumnStats(nulls=column.null_count, bytes=column.nbytes)

    def __contains__(self, name: object) -> bool:
        return name in self._table.column_names

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.column_names)

    def __len__(self) -> int:
        return int(self._table.num_columns)


class MemorySource(ImagesElsewhere):
    """Columns of an Arrow table; fragments are slices, whatever the table's chunks are."""

    def __init__(
        self,
        table: pa.Table,
        *,
        columns: Sequence[str] | None = None,
        class_names: Mapping[str, Sequence[str]] | None = None,
        features: Features | None = None,
        where: str = "the table",
        kind: str = "memory",
    ) -> None:
        self._kind = kind
        dictionaries = {
            field.name: values
            for i, field in enumerate(table.schema)
            if is_text_dictionary(field.type)
            and (values := merged_dictionary([table.column(i)])) is not None
        }
        stored = stored_columns(
            table.schema,
            where,
            class_names=class_names,
            dictionaries=dictionaries,
            features=features,
        )
        stored = pick(stored, chosen(columns, table.column_names))
        self._unembedded = frozenset(
            s.of
            for s in stored
            if s.of is not None and not has_all_bytes(table.schema, [table], s.of)
        )
        arrays = [laid_out(table.column(s.stored_as), s, where) for s in stored]
        full = {s.name for s, a in zip(stored, arrays, strict=True) if not a.null_count}
        self._table = pa.Table.from_arrays(arrays, names=[s.name for s in stored])
        self._schema = as_schema(never_null(stored, full))
        self._fragments = _slices(self._table, where)
        self._names_part = names_part(class_names)
        self._digest = ""

    @property
    def kind(self) -> str:
        return self._kind

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def fragments(self) -> Sequence[Fragment]:
        return self._fragments

    @property
    def rows(self) -> int:
        return int(self._table.num_rows)

    @property
    def fingerprint(self) -> str:
        # No cached_property here and in the other sources: in Python 3.11 it holds a lock, which
        # would stay closed in a child that is forked meanwhile.
        if not self._digest:
            self._digest = self._fingerprint()
        return self._digest

    def _fingerprint(self) -> str:
        described = "\n".join(f"{c.name!r} {c.dtype!r}" for c in self._schema)
        parts = table_parts(self._table, FRAGMENT_ROWS)
        return digest_of([b"memory", described.encode(), self._names_part, *parts])

    def unembedded(self) -> frozenset[str]:
        """The image columns of which some row has a path and no bytes."""
        return self._unembedded

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        part = self._fragments[fragment]
        return self._table.select(list(columns)).slice(part.start, part.rows)


def _slices(table: pa.Table, where: str) -> tuple[Fragment, ...]:
    starts = range(0, table.num_rows, FRAGMENT_ROWS)
    return tuple(
        Fragment(
            index=i,
            start=start,
            rows=(rows := min(FRAGMENT_ROWS, table.num_rows - start)),
            origin=where if len(starts) == 1 else f"{where}, slice {i}",
            columns=SliceStats(table, start, rows),
            in_place=True,
        )
        for i, start in enumerate(starts)
    )
