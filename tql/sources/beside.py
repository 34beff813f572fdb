"""A table and the files that its rows name: read row by row, for batches, never for queries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tql.diagnostics import TqlDataError
from tql.schema import Binary, Column, Schema
from tql.sources.bounds import Bounded, ColumnBounds, side_by_side
from tql.sources.fingerprint import digest_of
from tql.sources.folders import Folder, absent
from tql.sources.gathering import gather
from tql.sources.protocol import (
    ByRow,
    Changeable,
    ColumnStats,
    Fragment,
    Placed,
    Read,
    Run,
    Source,
    UnreadableRow,
    in_turn,
    is_local,
)

Wanted: TypeAlias = tuple[Folder, str]
"""A file: the folder that its name starts from where it is relative, and the name."""

_ASKED: Final = 1 << 16  # rows whose files are asked for at once


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column that has the bytes of files.

    path     the column of the table that names the file of each row, absolute or within a folder
    content  a column that has the bytes of some rows already; None where there is none
    image    whether they are encoded images
    """

    name: str
    path: str
    content: str | None = None
    image: bool = True


class FilesSource(ByRow, Bounded, Changeable, Placed):
    """The rows of `table`, with a column for files that its rows name.

    A relative path is one within the folder of its fragment: `folders` has one for each fragment, or
    one for all of them. The fingerprint is that of the table, paths included, and of `sizes`, where
    they are known without asking for each file; what lies in the files is not read for it.

    shown   the columns that `*` stands for; all of the table and of `files` by default
    sizes   a digest of the sizes of the files
    """

    def __init__(
        self,
        table: Source,
        files: Sequence[FileColumn],
        folders: Sequence[Folder],
        shown: Sequence[str] | None = None,
        sizes: bytes = b"",
    ) -> None:
        assert len(folders) in (1, len(table.fragments))
        self._table, self._folders, self._sizes = table, tuple(folders), sizes
        self._files = {f.name: f for f in files}
        made = [Column(f.name, Binary(image=f.image), self._nullable(f)) for f in files]
        new = {c.name: c for c in made}
        names = shown or [*table.schema.names, *(n for n in new if n not in table.schema)]
        # The bytes that stand in the table are asked for by another name, since `read` gives those
        # of the files beside them.
        self._embedded = {f"{f.name}.bytes": f.content for f in files if f.content is not None}
        raw = [Column(name, Binary(), True) for name in self._embedded]
        known = [c for c in (*table.schema, *table.schema.hidden) if c.name not in names]
        self._schema = Schema(
            (new.get(n) or table.schema[n] for n in names),
            [*known, *(c for c in raw if c.name not in table.schema)],
        )
        self._starts = np.array([f.start for f in table.fragments], np.int64)

    def _nullable(self, file: FileColumn) -> bool:
        return file.content is not None or self._table.schema[file.path].nullable

    @property
    def kind(self) -> str:
        return self._table.kind

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def fragments(self) -> Sequence[Fragment]:
        return self._table.fragments

    @property
    def rows(self) -> int:
        return self._table.rows

    @property
    def local(self) -> bool:
        """By the table and the folders; names that are URIs are not looked at."""
        return is_local(self._table) and all(f.place.local for f in self._folders)

    @property
    def columns_by_row(self) -> frozenset[str]:
        return frozenset(self._files)

    @property
    def fingerprint(self) -> str:
        files = repr(sorted((f.name, f.path, f.content) for f in self._files.values()))
        parts = [b"files", self._table.fingerprint.encode(), files.encode(), self._sizes]
        return digest_of(parts)

    def bounds(self, name: str) -> ColumnBounds:
        if isinstance(self._table, Bounded) and name not in self._embedded:
            return self._table.bounds(name)
        stats = [f.columns.get(name) for f in self.fragments]
        return side_by_side([s or ColumnStats() for s in stats])

    def refuse_changed(self) -> None:
        if isinstance(self._table, Changeable):
            self._table.refuse_changed()

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        """These columns of a fragment; one of files opens as many as the fragment has rows."""
        part = self.fragments[fragment]
        stored = [self._embedded.get(n, n) for n in columns if n not in self._files]
        found = self._table.read(fragment, list(dict.fromkeys(stored)))
        files = [n for n in columns if n in self._files]
        rows = np.arange(part.start, part.stop, dtype=np.int64)
        taken = self.take(rows, files, in_turn) if files else found
        arrays = [
            taken.column(n) if n in self._files else found.column(self._embedded.get(n, n))
            for n in columns
        ]
        return pa.Table.from_arrays(arrays, names=list(columns))

    def take(
        self,
        rows: NDArray[np.int64],
        columns: Sequence[str],
        run: Run = in_turn,
        read: Read | None = None,
    ) -> pa.Table:
        """The contents of the files of these rows; a file that several of them name is read once."""
        files = [self._files[n] for n in columns]
        named = self._named(files, rows, run, read)
        arrays = [self._contents(f, rows, named, run) for f in files]
        return pa.Table.from_arrays(arrays, names=list(columns))

    def missing(self) -> NDArray[np.int64]:
        """int64, ascending: the rows a file of which is not there. Each file is asked for, none read.

        Raises OSError, or what the file system raises, where that cannot be told.
        """
        found = [np.empty(0, np.int64)]
        for start in range(0, self.rows, _ASKED):
            rows = np.arange(start, min(start + _ASKED, self.rows), dtype=np.int64)
            for file in self._files.values():
                wanted = self._wanted(file, rows, self._named([file], rows))
                gone = absent({w for w in wanted if w is not None})
                found.append(rows[[w in gone for w in wanted]])
        return np.unique(np.concatenate(found))

    def _named(
        self,
        files: Sequence[FileColumn],
        rows: NDArray[np.int64],
        run: Run = in_turn,
        read: Read | None = None,
    ) -> pa.Table:
        """What the table has of the files of these rows: their paths, and what it has of them itself."""
        needed = dict.fromkeys(f.path for f in files)
        needed |= {f"{f.name}.bytes": None for f in files if f.content is not None}
        return gather(self, rows, list(needed), read, run)

    def _wanted(
        self, file: FileColumn, rows: NDArray[np.int64], named: pa.Table
    ) -> list[Wanted | None]:
        """The file of each row; None where it has none, or where the table has its content."""
        paths = named.column(file.path)
        if file.content is not None:
            here = named.column(f"{file.name}.bytes").is_valid()
            paths = pc.call_function("if_else", [here, pa.scalar(None, paths.type), paths])
        return [
            None if path is None else (self._folder_at(row), path)
            for row, path in zip(rows.tolist(), paths.to_pylist(), strict=True)
        ]

    def _contents(
        self, file: FileColumn, rows: NDArray[np.int64], named: pa.Table, run: Run
    ) -> pa.ChunkedArray:
        content = None if file.content is None else named.column(f"{file.name}.bytes")
        if content is not None and not content.null_count:
            return content
        wanted = self._wanted(file, rows, named)
        places = list(dict.fromkeys(w for w in wanted if w is not None))
        found = dict(zip(places, run([partial(_read, *place) for place in places]), strict=True))
        values: list[Any] = [None if w is None else found[w] for w in wanted]
        for i, value in enumerate(values):
            if isinstance(value, Exception):
                raise self._unreadable(file, int(rows[i]), wanted[i], value)
        read = pa.chunked_array([pa.array(values, pa.large_binary())])
        if content is None:
            return read
        return pc.call_function("coalesce", [content.cast(pa.large_binary()), read])

    def _folder_at(self, row: int) -> Folder:
        if len(self._folders) == 1:
            return self._folders[0]
        return self._folders[int(np.searchsorted(self._starts, row, side="right")) - 1]

    def _unreadable(
        self, file: FileColumn, row: int, wanted: Wanted | None, cause: Exception
    ) -> TqlDataError:
        assert wanted is not None
        folder, path = wanted
        at = int(np.searchsorted(self._starts, row, side="right")) - 1
        where = f"row {row}, column '{file.name}' ({self.fragments[at].origin})"
        found = folder.says(path, cause).diagnostic
        problem = UnreadableRow(replace(found, message=f"{where}: {found.message}"))
        problem.__cause__ = cause
        return problem


def _read(folder: Folder, path: str) -> bytes | Exception:
    """The file, or why it cannot be read: so that the others are read all the same."""
    try:
        return folder.read(path)
    except (OSError, ValueError, pa.ArrowException, TqlDataError) as e:
        return e
