"""Arrow IPC files and streams, memory-mapped: what is not looked at is never read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from pyarrow import types as kind

from tql.diagnostics import counted, data_error
from tql.schema import Schema
from tql.sources.arrow_types import is_text_dictionary
from tql.sources.classes import merged_dictionary
from tql.sources.files import File, unreadable
from tql.sources.fingerprint import digest, digest_of, names_part
from tql.sources.protocol import ColumnStats, Fragment, ImagesElsewhere, Placed
from tql.sources.stored import (
    StoredColumn,
    as_label,
    as_schema,
    check_agreement,
    chosen,
    has_all_bytes,
    laid_out,
    never_null,
    pick,
    stored_columns,
    without_missing,
)

_FILE_MAGIC: Final = b"ARROW1"
_STREAM_MAGIC: Final = b"\xff\xff\xff\xff"

# Hugging Face writes 1,000 rows to a batch; a bitmap and a task for each would cost more than they
# hold. Batches are joined up to these limits.
_JOINED_ROWS: Final = 1 << 16
_JOINED_BYTES: Final = 32 << 20

_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class IpcFile:
    """One file: its batches where they lie in memory, uncompressed; else None, and their rows.

    `data` is the memory map, or None for a file that is opened anew for each read.
    """

    file: File
    schema: pa.Schema
    data: Any
    batches: tuple[pa.RecordBatch, ...] | None
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Batches `first` to `last` (exclusive) of one file: what a fragment reads."""

    file: IpcFile
    first: int
    last: int

    def table(self, names: Sequence[str]) -> pa.Table:
        """These columns as stored."""
        if self.file.batches is not None:
            kept = self.file.batches[self.first : self.last]
            schema = pa.schema([self.file.schema.field(n) for n in names])
            return pa.Table.from_batches([b.select(list(names)) for b in kept], schema)
        fields = [self.file.schema.get_field_index(n) for n in names]
        with _handle(self.file.file, self.file.data) as data:
            reader = _reader(data, fields)
            batches = [reader.get_batch(i) for i in range(self.first, self.last)]
        return pa.Table.from_batches(batches).select(list(names))


def open_ipc(file: File) -> IpcFile:
    """Map one file and number its batches."""
    try:
        data = pa.memory_map(file.path) if file.place.local else None
        with _handle(file, data) as handle:
            head: bytes = handle.read_at(min(8, handle.size()), 0)
            if head.startswith(_FILE_MAGIC):
                return _open_random(file, data, handle)
            if head.startswith(_STREAM_MAGIC):
                return _open_stream(file, data, handle)
    except (OSError, pa.ArrowException) as e:
        if isinstance(e, FileNotFoundError | PermissionError):
            raise unreadable(file.shown, e) from e
        raise data_error(
            "source",
            f"'{file.shown}' is truncated or damaged: {e}; expected an Arrow IPC file or stream",
            help="copy or write the file again",
        ) from e
    raise data_error(
        "source",
        f"'{file.shown}' is not an Arrow IPC file: it starts with {head!r}; expected 'ARROW1', or "
        "FF FF FF FF for a stream",
        help="check the path, or convert the file with pyarrow.feather or pyarrow.parquet",
    )


def _handle(file: File, data: Any) -> AbstractContextManager[Any]:
    return file.open() if data is None else nullcontext(data)


def _reader(data: Any, fields: Sequence[int]) -> Any:
    options = pa.ipc.IpcReadOptions(included_fields=list(fields))
    return pa.ipc.open_file(data, options=options)


def _open_random(file: File, data: Any, handle: Any) -> IpcFile:
    reader = pa.ipc.open_file(handle)
    schema, count = reader.schema, reader.num_record_batches
    if not len(schema):
        return IpcFile(file, schema, data, (), ())
    if data is not None and _lies_uncompressed(data, reader):
        batches = tuple(reader.get_batch(i) for i in range(count))
        return IpcFile(file, schema, data, batches, tuple(b.num_rows for b in batches))
    narrow = _reader(handle, [_narrowest(schema)])
    rows = tuple(narrow.get_batch(i).num_rows for i in range(count))
    return IpcFile(file, schema, data, None, rows)


def _open_stream(file: File, data: Any, handle: Any) -> IpcFile:
    # A stream has no index, so its batches are all kept: as views of the map, or, where they are
    # compressed or remote, as copies.
    handle.seek(0)
    reader = pa.ipc.open_stream(handle)
    batches = tuple(reader)
    return IpcFile(file, reader.schema, data, batches, tuple(b.num_rows for b in batches))


def _lies_uncompressed(data: Any, reader: Any) -> bool:
    """Whether the first batch is views of the map; then so are all, and they cost nothing to keep."""
    data.seek(0)
    whole = data.read_buffer(data.size())
    addresses = range(whole.address, whole.address + whole.size + 1)
    for i in range(reader.num_record_batches):
        batch = reader.get_batch(i)
        if batch.num_rows:
            buffers = [b for column in batch.columns for b in column.buffers() if b is not None]
            return all(b.address in addresses for b in buffers if b.size)
    return True


def _narrowest(schema: pa.Schema) -> int:
    """The column that tells the number of rows with the least to unpack."""
    return min(range(len(schema)), key=lambda i: _width(schema.field(i).type))


def _width(stored: pa.DataType) -> int:
    try:
        return int(stored.bit_width)
    except ValueError:  # of variable width
        return 1 << 20


class RunStats(Mapping[str, ColumnStats]):
    """What batches in memory know of their columns; counted when asked for."""

    __slots__ = ("_names", "_run")

    def __init__(self, run: Run, names: tuple[str, ...]) -> None:
        self._run, self._names = run, names

    def __getitem__(self, name: str) -> ColumnStats:
        if name not in self._names:
            raise KeyError(name)
        if self._run.file.batches is None:
            return ColumnStats()
        column = self._run.table([name]).column(0)
        return ColumnStats(nulls=_nulls(column), bytes=column.nbytes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _nulls(column: pa.ChunkedArray) -> int | None:
    return None if kind.is_struct(column.type) else column.null_count


class IpcSource(ImagesElsewhere, Placed):
    """Rows of Arrow IPC files in the order of the files."""

    def __init__(
        self,
        files: Sequence[File],
        *,
        columns: Sequence[str] | None = None,
        class_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._files = tuple(open_ipc(f) for f in files)
        first = self._files[0]
        names = chosen(columns, first.schema.names)
        stored = stored_columns(first.schema, first.file.shown, class_names=class_names)
        for other in self._files[1:]:
            if not other.schema.equals(first.schema, check_metadata=True):
                shown = first.file.shown, other.file.shown
                theirs = stored_columns(other.schema, other.file.shown)
                check_agreement(stored, theirs, shown, frozenset(class_names or ()))
                stored = without_missing(stored, theirs)
        places = [_in_place(f, pick(stored, names)) for f in self._files]
        self._fragments, self._runs = _fragments(self._files, names, places)
        labels = []
        for s in pick(stored, names):
            values = self._classes(s)
            labels.append(s if values is None else as_label(s, values))
        resolved = never_null(labels, _without_nulls(self._files, labels))
        self._stored = {s.name: s for s in resolved}
        self._schema = as_schema(resolved)
        self._class_names = {k: tuple(v) for k, v in (class_names or {}).items()}
        self._digest = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Files, not what lies in them: a memory map is cheaper to open than to send."""
        seen = tuple((f.file, f.schema, f.rows) for f in self._files)
        return _reopened, (seen, self._schema.names, self._class_names)

    @property
    def kind(self) -> str:
        return "ipc"

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def local(self) -> bool:
        return all(f.file.place.local for f in self._files)

    @property
    def fragments(self) -> Sequence[Fragment]:
        return self._fragments

    @property
    def rows(self) -> int:
        return self._fragments[-1].stop if self._fragments else 0

    @property
    def fingerprint(self) -> str:
        """Of the schemas, the rows of every batch and samples of the bytes, in file order.

        A file of up to 4 MiB enters whole.
        """
        if not self._digest:
            parts = [b"ipc", names_part(self._class_names)]
            for f in self._files:
                parts += [f.schema.serialize().to_pybytes(), repr(f.rows).encode(), _sampled(f)]
            self._digest = digest_of(parts)
        return self._digest

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        origin = self._fragments[fragment].origin
        try:
            stored = [self._stored[n] for n in columns]
            table = self._runs[fragment].table(list(dict.fromkeys(s.stored_as for s in stored)))
            arrays = [laid_out(table.column(s.stored_as), s, origin) for s in stored]
        except (OSError, pa.ArrowException) as e:
            raise data_error(
                "source",
                f"{origin} cannot be read: {e}",
                help="the file is damaged, or changed since it was opened: open it again",
            ) from e
        return pa.Table.from_arrays(arrays, names=list(columns))

    def file_of(self, fragment: int) -> File:
        """The file that a fragment lies in."""
        return self._runs[fragment].file.file

    def unembedded(self) -> frozenset[str]:
        """The image columns of which some row may have a path and no bytes."""
        return frozenset(
            s.of
            for s in self._stored.values()
            if s.of is not None
            and not all(
                f.batches is not None and has_all_bytes(f.schema, f.batches, s.of)
                for f in self._files
            )
        )

    def _classes(self, stored: StoredColumn) -> pa.Array | None:
        """The values of a column that is a dictionary of texts in every file; else None."""
        if stored.names is not None or not all(
            is_text_dictionary(f.schema.field(stored.stored_as).type) for f in self._files
        ):
            return None
        return merged_dictionary(run.table([stored.name]).column(0) for run in self._runs)


def _reopened(
    seen: Sequence[tuple[File, pa.Schema, tuple[int, ...]]],
    columns: Sequence[str],
    class_names: Mapping[str, Sequence[str]],
) -> IpcSource:
    """The source in another process, which must find the files as they were."""
    source = IpcSource([file for file, _, _ in seen], columns=columns, class_names=class_names)
    for now, (file, schema, rows) in zip(source._files, seen, strict=True):
        if now.rows != rows or not now.schema.equals(schema, check_metadata=True):
            raise data_error(
                "source",
                f"'{file.shown}' has changed since it was opened: expected "
                f"{counted(sum(rows), 'row')} in {counted(len(rows), 'batch', 'batches')} and the same columns, "
                f"found {counted(sum(now.rows), 'row')} in {len(now.rows):,}",
                help="open the data set again",
            )
    return source


def _without_nulls(files: Sequence[IpcFile], stored: Sequence[StoredColumn]) -> set[str]:
    full = set()
    for s in stored:
        if s.part is None and all(  # a part may be null where the whole is not
            not f.schema.field(s.name).nullable
            or (
                f.batches is not None
                and not any(
                    b.column(f.schema.get_field_index(s.name)).null_count for b in f.batches
                )
            )
            for f in files
        ):
            full.add(s.name)
    return full


def _sampled(f: IpcFile) -> bytes:
    """A digest of stretches of the file at even distances, ends included."""
    with _handle(f.file, f.data) as handle:
        size = handle.size()
        starts = (i * max(0, size - _SAMPLE_BYTES) // (_SAMPLES - 1) for i in range(_SAMPLES))
        parts = [size.to_bytes(8, "little")]
        if size <= _SAMPLES * _SAMPLE_BYTES:
            parts.append(handle.read_at(size, 0))
        else:
            parts += [handle.read_at(_SAMPLE_BYTES, start) for start in starts]
    return digest(b"".join(parts))


def _in_place(f: IpcFile, stored: Sequence[StoredColumn]) -> bool:
    """Whether reading takes no work: the batches lie in memory and no column is converted."""
    types = {s.name: f.schema.field(s.name).type for s in stored if s.part is None}
    converted = any(types.get(s.name, s.type) != s.type for s in stored)
    return f.batches is not None and not converted


def _fragments(
    files: Sequence[IpcFile], names: tuple[str, ...], in_place: Sequence[bool]
) -> tuple[tuple[Fragment, ...], tuple[Run, ...]]:
    """Non-empty runs of batches, as fragments and as the places to read them from."""
    fragments: list[Fragment] = []
    runs: list[Run] = []
    start = 0
    for f, there in zip(files, in_place, strict=True):
        in_file = list(_runs(f))
        for run in in_file:
            rows = sum(f.rows[run.first : run.last])
            origin = f.file.shown
            if len(in_file) > 1:
                one = run.last - run.first == 1
                which = f"batch {run.first}" if one else f"batches {run.first}-{run.last - 1}"
                origin = f"{origin}, {which}"
            fragments.append(Fragment(len(runs), start, rows, origin, RunStats(run, names), there))
            runs.append(run)
            start += rows
    return tuple(fragments), tuple(runs)


def _runs(f: IpcFile) -> Iterator[Run]:
    """Batches of a file, joined while they stay small; compressed ones stay alone."""
    first, rows, size = 0, 0, 0
    for i, more in enumerate(f.rows):
        grown = f.batches[i].nbytes if f.batches is not None else _JOINED_BYTES
        if rows and (rows + more > _JOINED_ROWS or size + grown > _JOINED_BYTES):
            yield Run(f, first, i)
            first, rows, size = i, 0, 0
        rows, size = rows + more, size + grown
    if rows:
        yield Run(f, first, len(f.rows))
