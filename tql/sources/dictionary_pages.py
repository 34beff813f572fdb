"""Text that a Parquet file stores as codes into a dictionary, read as that: codes and texts.

pyarrow reads it so as well, at 3.5 ns a row where rows may be NULL and 1.4 where not; the loops of
`page_kernels` take 0.6. What is not of the usual form, or damaged, is left to pyarrow: it reads it or
says what is wrong.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tql.sources.page_kernels import (
    BODY,
    DATA,
    DATA_2,
    DECODE_8,
    DECODE_16,
    DECODE_32,
    DICTIONARY,
    FIELDS,
    KIND,
    LAYOUT,
    OF_KIND,
    PLAIN_SIZE,
    SIZE,
    TEXTS,
)

# The codecs that mean one thing to all writers; LZ4 has been framed in two ways.
_CODECS: Final = frozenset({"SNAPPY", "ZSTD", "GZIP", "BROTLI"})
_PLAIN: Final = frozenset({0, 2})  # encodings of the texts of a dictionary: the same, by two names
_CODES: Final = frozenset({2, 8})  # and of codes
_RUNS: Final = 3
_ROWS_OF_A_PAGE: Final = 1024  # at least, on average

# What pyarrow takes for a row, in nanoseconds.
_NULLABLE_NS: Final = 3.5
_NEVER_NULL_NS: Final = 1.4


class _Odd(Exception):
    """The chunk is not as most are."""


class _Page(NamedTuple):
    """A page of data: its bytes, how many rows, and how many bytes say which of them are NULL."""

    parts: Sequence[Any]
    rows: int
    levels: int


def read_codes(
    handle: pa.NativeFile, chunk: pq.ColumnChunkMetaData, column: pq.ColumnSchema
) -> Any:
    """A chunk of text as an Arrow dictionary array, with codes as narrow as leave one number free;
    None where pyarrow should read it: it is stored otherwise, or so few rows that this does not pay.
    """
    if column.max_repetition_level or column.max_definition_level > 1:
        return None
    if chunk.physical_type != "BYTE_ARRAY" or not (
        chunk.compression in _CODECS or chunk.compression == "UNCOMPRESSED"
    ):
        return None
    nullable = column.max_definition_level == 1
    rows, start = chunk.num_values, chunk.dictionary_page_offset
    if not start or not start < chunk.data_page_offset:
        return None
    cost = rows * (_NULLABLE_NS if nullable else _NEVER_NULL_NS)
    ready = [k.pays(cost) for k in (LAYOUT, TEXTS)]  # both: what reading has cost counts for each
    if not all(ready):
        return None
    try:
        handle.seek(start)
        stored = memoryview(handle.read_buffer(chunk.total_compressed_size))
        first, *pages = _layout(stored, rows)
        decompress = None
        if chunk.compression != "UNCOMPRESSED":
            decompress = pa.Codec(chunk.compression.lower()).decompress
        texts = _texts(first, stored, decompress)
        found = list(_pages(pages, stored, decompress, nullable))
        return _array(found, texts, rows, nullable, cost)
    except (_Odd, pa.ArrowException, OSError):
        return None


def _layout(stored: memoryview, rows: int) -> list[list[int]]:
    """What LAYOUT says of each page, the dictionary first."""
    most = 16 + rows // _ROWS_OF_A_PAGE
    pages, result = np.full(most * FIELDS, -1, np.int64), np.zeros(1, np.int64)
    LAYOUT(np.frombuffer(stored, np.uint8), pages, result)
    if result[0] < 1:
        raise _Odd
    listed: list[list[int]] = pages.reshape(-1, FIELDS)[: result[0]].tolist()
    return listed


def _body(page: Sequence[int], stored: memoryview, skip: int, decompress: Any) -> Any:
    """The bytes of a page behind the first `skip` of them, decompressed."""
    start, size, plain = page[BODY] + skip, page[SIZE] - skip, page[PLAIN_SIZE] - skip
    if size < 0 or plain < 0:
        raise _Odd
    body = stored[start : start + size]
    return decompress(body, plain) if decompress and plain else body


def _texts(page: Sequence[int], stored: memoryview, decompress: Any) -> Any:
    """The dictionary as an Arrow array."""
    count, encoding = page[OF_KIND], page[OF_KIND + 1]
    if page[KIND] != DICTIONARY or encoding not in _PLAIN or count < 1:
        raise _Odd
    data = np.frombuffer(_body(page, stored, 0, decompress), np.uint8)
    if data.size < 4 * count:
        raise _Odd
    offsets, out = np.empty(count + 1, np.int32), np.empty(data.size - 4 * count, np.uint8)
    result = np.zeros(1, np.int64)
    TEXTS(data, offsets, out, result)
    if result[0] < 0:
        raise _Odd
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(out))


def _pages(
    pages: Sequence[Sequence[int]], stored: memoryview, decompress: Any, nullable: bool
) -> Iterator[_Page]:
    """The pages of data, decompressed."""
    for page in pages:
        rows, *more = page[OF_KIND:]
        match page[KIND]:
            case kind if kind == DATA:
                encoding, levels = more[:2]
                if nullable and levels != _RUNS:
                    raise _Odd
                parts, counted = [_body(page, stored, 0, decompress)], -1
            case kind if kind == DATA_2:
                _, _, encoding, counted, repeated, compressed = more
                if repeated or counted < 0:
                    raise _Odd
                start = page[BODY]
                codes = _body(page, stored, counted, decompress if compressed else None)
                parts = [stored[start : start + counted], codes]
            case _:
                raise _Odd
        if encoding not in _CODES or rows < 0:
            raise _Odd
        yield _Page(parts, rows, counted)


def _array(pages: Sequence[_Page], texts: Any, rows: int, nullable: bool, cost: float) -> Any:
    if sum(p.rows for p in pages) != rows:
        raise _Odd
    data = np.frombuffer(b"".join(part for p in pages for part in p.parts), np.uint8)
    ends = np.cumsum([sum(len(part) for part in p.parts) for p in pages])
    spans = np.empty((len(pages), 4), np.int64)
    spans[1:, 0], spans[:1, 0], spans[:, 1] = ends[:-1], 0, ends
    spans[:, 2] = [p.rows for p in pages]
    spans[:, 3] = [p.levels for p in pages]
    kind, kernel = _codes_for(len(texts))
    if not kernel.pays(cost):
        raise _Odd
    # Arrow's memory, which it keeps: what NumPy frees goes back to the system, and every page of it is
    # zeroed again for the next fragment (1 M rows: 1.1 ms of 2.3).
    memory = pa.allocate_buffer(rows * np.dtype(kind).itemsize)
    codes: NDArray[Any] = np.frombuffer(memory, kind)
    known = np.frombuffer(pa.allocate_buffer(rows if nullable else 0), np.uint8)
    result = np.zeros(2, np.int64)
    kernel(data, spans.reshape(-1), int(nullable), known, codes, result)
    if not 0 <= result[0] < len(texts):
        raise _Odd
    valid = None
    if result[1] < rows:
        valid = pa.py_buffer(np.packbits(known, bitorder="little"))
    arrow = pa.from_numpy_dtype(codes.dtype)
    indices = pa.Array.from_buffers(arrow, rows, [valid, memory])
    return pa.DictionaryArray.from_arrays(indices, texts, safe=False)


def _codes_for(texts: int) -> tuple[Any, Any]:
    """The type of the codes of so many texts, and the kernel that writes it."""
    if texts < 1 << 8:
        return np.uint8, DECODE_8
    return (np.uint16, DECODE_16) if texts < 1 << 16 else (np.int32, DECODE_32)
