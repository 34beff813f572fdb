"""Parquet footers: read once, and asked for what they know of each column."""

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types as kind

from tql.diagnostics import TqlDataError, counted, data_error, error
from tql.forks import ForkLock
from tql.schema import Binary, Bool, DType, Float, Int, Json, Label, List, Opaque, Text, Time
from tql.sources.classes import unlabelled
from tql.sources.files import File, unreadable
from tql.sources.fingerprint import digest
from tql.sources.protocol import ColumnStats
from tql.sources.stored import StoredColumn

_MAGIC: Final = b"PAR1"
_ENCRYPTED: Final = b"PARE"
_TAIL_BYTES: Final = 1 << 16
_SURELY_WHOLE_TEXT: Final = 31
"""Writers that cut texts in statistics keep 32 bytes or more of them."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What one file says of itself; `leaves` numbers the Parquet columns of each Arrow column."""

    file: File
    metadata: pq.FileMetaData
    schema: pa.Schema
    leaves: Mapping[str, range]
    digest: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return footer_of, (self.file, self.metadata, self.digest)


def read_footer(file: File) -> Footer:
    """The footer of one file, in one read where it is short.

    Of a file that is not local it is remembered, and read anew once the size or the time of the
    file is another.
    """
    key = _key(file)
    kept = None if key is None else _recalled(key)
    if kept is not None and kept.file.place.given is file.place.given:
        return footer_of(file, kept.metadata, kept.digest)
    try:
        file = file.stamped()  # before it is read: what is written later has another
        with file.open() as handle:
            tail = _tail(handle, file)
        footer = footer_of(file, pq.read_metadata(pa.BufferReader(tail)), digest(tail))
    except (OSError, pa.ArrowException) as e:
        if isinstance(e, FileNotFoundError | PermissionError):
            raise unreadable(file.shown, e) from e
        raise _damaged(file, f"its footer cannot be decoded: {e}") from e
    if key is not None:
        _remember(key, footer)
    return footer


def refuse_changed(footer: Footer) -> None:
    """Raise a source error where the file is not the one whose footer was read.

    Its size and time are compared, of a file that is not local with one request. Where they differ
    or are not told, the footer is read again: a copy of the file, or one that was touched, has the
    same, and is the same data.
    """
    file = footer.file
    try:
        if file.stamp is not None and file.has_stamp(file.stamp_now()):
            return
        with file.open() as handle:
            same = digest(_tail(handle, file)) == footer.digest
    except (OSError, pa.ArrowException) as e:
        raise unreadable(file.shown, e) from e
    if not same:
        raise data_error(
            "source",
            f"'{file.shown}' has changed since it was opened: its footer is another",
            help="open the data set again",
        )


_Key: TypeAlias = tuple[int, str | None, str, tuple[int, int]]

_REMEMBERED: Final = OrderedDict[_Key, Footer]()
_REMEMBERING: Final = ForkLock()
_REMEMBERED_BYTES: Final = 256 << 20
_remembered_bytes = 0
_DECODED: Final = 12
"""Times its size in the file is what a footer takes in memory, at the most: 7 (hundreds of row groups
or columns) to 11 (ten columns) were measured, with its Arrow schema."""

_SETTLED_NS: Final = 60 * 10**9
"""A file this old has another time when it is written again, also where clocks differ a little."""


def remembered() -> Sequence[Footer]:
    """The footers of remote files that this process need not read again; the last used last."""
    with _REMEMBERING:
        return list(_REMEMBERED.values())


def _key(file: File) -> _Key | None:
    """What names a file and its state; None where it is local, or could change unseen."""
    place, stamp = file.place, file.stamp
    if place.local or stamp is None or stamp[1] > time.time_ns() - _SETTLED_NS:
        return None
    return id(place.given), place.uri, file.path, stamp


def _recalled(key: _Key) -> Footer | None:
    with _REMEMBERING:
        if key in _REMEMBERED:
            _REMEMBERED.move_to_end(key)
        return _REMEMBERED.get(key)


def _remember(key: _Key, footer: Footer) -> None:
    """Keep a footer (and so the file system that its key names), and of the old ones what fits."""
    global _remembered_bytes
    with _REMEMBERING:  # a child that is forked meanwhile may count too much, never too little
        _remembered_bytes += _size(footer)
        old = _REMEMBERED.pop(key, None)
        _REMEMBERED[key] = footer
        if old is not None:
            _remembered_bytes -= _size(old)
        while _remembered_bytes > _REMEMBERED_BYTES and len(_REMEMBERED) > 1:
            _, dropped = _REMEMBERED.popitem(last=False)
            _remembered_bytes -= _size(dropped)


def _size(footer: Footer) -> int:
    """Bytes of memory that a footer takes, about."""
    return int(footer.metadata.serialized_size) * _DECODED


def footer_of(file: File, metadata: pq.FileMetaData, digest: bytes) -> Footer:
    """The footer that pyarrow has decoded; `digest` is of its bytes."""
    schema = metadata.schema.to_arrow_schema()
    return Footer(file, metadata, schema, _leaves(schema), digest)


def _tail(handle: Any, file: File) -> bytes:
    size = handle.size()
    if size < 12:
        raise _not_parquet(file, f"it has {counted(size, 'byte')}")
    tail: bytes = handle.read_at(min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
    mark = tail[-4:]
    if mark == _ENCRYPTED:
        raise error(
            "unsupported",
            f"'{file.shown}' has an encrypted footer",
            help="decrypt it first, with pyarrow or Spark",
        )
    if mark != _MAGIC:
        head = handle.read_at(4, 0)
        if head == _MAGIC:
            raise _damaged(file, f"it ends with {mark!r} after {counted(size, 'byte')}")
        raise _not_parquet(file, f"it starts with {head!r}")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length > size - 4:
        raise _damaged(file, f"it names a footer of {counted(length, 'byte')} and has {size:,}")
    if length > len(tail):
        tail = handle.read_at(length, size - length)
    return tail[-length:]


def _not_parquet(file: File, found: str) -> TqlDataError:
    return data_error(
        "source",
        f"'{file.shown}' is not a Parquet file: {found}; expected 'PAR1' at start and end",
        help="check the path, or convert the file to Parquet",
    )


def _damaged(file: File, found: str) -> TqlDataError:
    return data_error(
        "source",
        f"'{file.shown}' is truncated or damaged: {found}; expected a Parquet footer and 'PAR1'",
        help="copy or write the file again",
    )


def _leaves(schema: pa.Schema) -> dict[str, range]:
    leaves = {}
    start = 0
    for field in schema:
        count = len(_leaf_types(field.type))
        leaves[field.name] = range(start, start + count)
        start += count
    return leaves


def _leaf_types(stored: pa.DataType) -> list[pa.DataType]:
    if isinstance(stored, pa.BaseExtensionType):
        return _leaf_types(stored.storage_type)
    if kind.is_map(stored):
        return _leaf_types(stored.key_type) + _leaf_types(stored.item_type)
    if kind.is_struct(stored):
        return [leaf for field in stored for leaf in _leaf_types(field.type)]
    return _leaf_types(stored.value_type) if kind.is_nested(stored) else [stored]


def without_nulls(footer: Footer, columns: Iterable[StoredColumn]) -> set[str]:
    """The columns of which every row group says that no row is null."""
    groups = [footer.metadata.row_group(g) for g in range(footer.metadata.num_row_groups)]
    found = set()
    for s in columns:
        leaves = leaves_of(footer, s)
        required = s.part is None and not footer.schema.field(s.stored_as).nullable
        if required or all(_is_full(group, leaves) for group in groups):
            found.add(s.name)
    return found


def _is_full(group: pq.RowGroupMetaData, leaves: Iterable[int]) -> bool:
    """Whether one of the leaves says that it has no null; it counts those above it, too."""
    for i in leaves:
        stats = group.column(i).statistics
        if stats is not None and stats.has_null_count and not stats.null_count:
            return True
    return False


def leaves_of(footer: Footer, stored: StoredColumn) -> Sequence[int]:
    """The Parquet columns that hold what is delivered of a column."""
    leaves = footer.leaves[stored.stored_as]
    if stored.part is None:
        return leaves
    path = f"{stored.stored_as}.{stored.part}"
    return [i for i in leaves if footer.metadata.schema.column(i).path == path]


def _nulls(stats: pq.Statistics | None) -> int | None:
    return stats.null_count if stats is not None and stats.has_null_count else None


def repeats_texts(chunk: pq.ColumnChunkMetaData) -> bool:
    """Whether a text column's chunk is stored as codes into a dictionary of fewer values.

    Writers fall back to plain texts silently, but a plain text takes 4 bytes and more.
    """
    return bool(chunk.has_dictionary_page and chunk.total_uncompressed_size <= 4 * chunk.num_values)


def stats_reader(footer: Footer, stored: StoredColumn) -> Callable[[int], ColumnStats]:
    """A function that tells what the footer says of a column in one row group."""
    leaves = footer.leaves[stored.stored_as]
    as_stored = footer.schema.field(stored.stored_as).type
    if len(leaves) > 1 or kind.is_nested(as_stored):
        types = dict(zip(leaves, _leaf_types(as_stored), strict=True))
        parts = [(i, types[i]) for i in leaves_of(footer, stored)]
        return partial(_nested_stats, footer.metadata, parts)
    return partial(_flat_stats, footer.metadata, leaves[0], as_stored, stored)


def _nested_stats(
    metadata: pq.FileMetaData, parts: Sequence[tuple[int, pa.DataType]], group: int
) -> ColumnStats:
    whole = metadata.row_group(group)
    chunks = [(whole.column(i), leaf) for i, leaf in parts]
    size = sum(c.total_uncompressed_size for c, _ in chunks)
    values = sum(_decoded(c, leaf) for c, leaf in chunks)
    return ColumnStats(bytes=size, decoded=values + 4 * whole.num_rows)  # offsets of lists


def _flat_stats(
    metadata: pq.FileMetaData, leaf: int, as_stored: pa.DataType, stored: StoredColumn, group: int
) -> ColumnStats:
    chunk = metadata.row_group(group).column(leaf)
    stats, size = chunk.statistics, chunk.total_uncompressed_size
    low, high = _bounds(stats, chunk, stored)
    decoded = _decoded(chunk, as_stored) if stored.column.dtype == Binary() else None
    return ColumnStats(nulls=_nulls(stats), low=low, high=high, bytes=size, decoded=decoded)


def _decoded(chunk: pq.ColumnChunkMetaData, leaf: pa.DataType) -> int:
    """Bytes of the values of a chunk once they are not codes any more, about."""
    count = int(chunk.num_values)
    if chunk.physical_type != "BYTE_ARRAY":
        return 0 if kind.is_null(leaf) else count * int(leaf.bit_width) // 8
    stats, longest = chunk.statistics, 0
    if chunk.has_dictionary_page and stats is not None and stats.has_min_max:
        # Nothing tells the lengths of what stands as codes; those of two values are some of them.
        longest = max(len(stats.min_raw), len(stats.max_raw))
    return max(int(chunk.total_uncompressed_size), count * (4 + longest))


class FooterStats(Mapping[str, ColumnStats]):
    """The statistics of one row group; decoded when first asked for, as most never are."""

    __slots__ = ("_columns", "_decoded", "_footer", "_group")

    def __init__(self, footer: Footer, group: int, columns: Mapping[str, StoredColumn]) -> None:
        self._footer, self._group, self._columns = footer, group, columns
        self._decoded: dict[str, ColumnStats] = {}

    def __getitem__(self, name: str) -> ColumnStats:
        known = self._decoded.get(name)
        if known is None:
            known = stats_reader(self._footer, self._columns[name])(self._group)
            self._decoded[name] = known
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __len__(self) -> int:
        return len(self._columns)


def _bounds(
    stats: pq.Statistics | None, chunk: pq.ColumnChunkMetaData, stored: StoredColumn
) -> tuple[Any, Any]:
    """The least and the greatest value, or (None, None) where they are unknown or in doubt."""
    if stats is None or not stats.has_min_max or stored.names is not None:
        return None, None
    match stored.column.dtype:
        case Bool() | Int() | Label() | Float(bits=32 | 64):
            low, high = stats.min, stats.max
            known = _ordered(low, high, unlabelled(stored.column.dtype))
            return (low, high) if known else (None, None)
        case Time(unit=unit):
            # The 96 bits of old timestamps have no order that all writers agree on.
            days = unit == "D"
            sure = chunk.physical_type == ("INT32" if days else "INT64")
            return _time_bounds(stats) if sure else (None, None)
        case Text():
            return _text_bounds(stats)
        case Float() | Binary() | List() | Json() | Opaque():
            return None, None


def _ordered(low: Any, high: Any, dtype: DType) -> bool:
    """False for a NaN, and where an old writer compared unsigned numbers as signed."""
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return False
    unsigned = isinstance(dtype, Int) and not dtype.signed
    return low <= high and not (unsigned and low < 0)


def _time_bounds(stats: pq.Statistics) -> tuple[Any, Any]:
    low, high = stats.min_raw, stats.max_raw
    assert not isinstance(low, date | datetime), "raw statistics are integers"
    return (low, high) if low <= high else (None, None)


def _text_bounds(stats: pq.Statistics) -> tuple[str | None, str | None]:
    """Bounds of texts, whole or cut: pyarrow does not say which (it hides the flags is_exact).

    The start of a text is not above it, so what is cut still bounds from below. From above, only
    what follows every text that starts so is sure: not all writers round up where they cut.
    """
    low, high = stats.min_raw, stats.max_raw
    if low > high:
        return None, None
    try:
        # Cut within a character, at the most.
        least, greatest = _whole(low), _whole(high)
    except UnicodeDecodeError:
        return None, None
    above = greatest if len(high) <= _SURELY_WHOLE_TEXT else _after(greatest)
    return (None, None) if above is None else (least, above)


def _whole(text: bytes) -> str:
    """The characters of a text that may end within one; UnicodeDecodeError for other flaws."""
    try:
        return text.decode()
    except UnicodeDecodeError as e:
        if e.start < len(text) - 3 or len(text) <= _SURELY_WHOLE_TEXT:
            raise
        return text[: e.start].decode()


def _after(start: str) -> str | None:
    """The least text above all that begin with `start`; None where there is none."""
    for at in range(len(start) - 1, -1, -1):
        code = ord(start[at]) + 1
        if code <= sys.maxunicode:
            # No text holds half of a surrogate pair.
            return start[:at] + chr(0xE000 if 0xD800 <= code < 0xE000 else code)
    return None
