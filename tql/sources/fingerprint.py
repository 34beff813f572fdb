"""Digests of content: equal for equal data wherever it lies and whenever it was written."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as kind

from tql.cpus import usable_cpus
from tql.sources.arrow_types import is_text_dictionary

_DIGEST_BYTES: Final = 16


def digest_of(parts: Iterable[bytes]) -> str:
    """One hex digest of a sequence of byte strings; their boundaries count."""
    h = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        h.update(len(part).to_bytes(8, "little"))
        h.update(part)
    return h.hexdigest()


def digest(data: Any) -> bytes:
    """The digest of one buffer."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def names_part(class_names: Mapping[str, Sequence[str]] | None) -> bytes:
    """The `class_names=` argument as bytes: it decides which rows a query means."""
    return repr(sorted((k, tuple(v)) for k, v in (class_names or {}).items())).encode()


_JOINED_ROWS: Final = 1 << 14  # rows of several chunks that are put together to be hashed


def table_parts(table: pa.Table, step: int) -> list[bytes]:
    """A digest for each column of each slice of `step` rows: values, not their chunks or layout.

    Runs on as many threads as there are cores.
    """
    tasks = [
        table.column(c).slice(start, step)
        for start in range(0, table.num_rows, step)
        for c in range(table.num_columns)
    ]
    with ThreadPoolExecutor(min(8, usable_cpus())) as pool:
        return list(pool.map(_column_digest, tasks))


def _column_digest(column: pa.ChunkedArray) -> bytes:
    h = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for start in range(0, max(1, len(column)), _JOINED_ROWS):
        part = column.slice(start, _JOINED_ROWS)
        array = part.chunk(0) if part.num_chunks == 1 else part.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], part.type)
        _feed(h, array)
    return h.digest()


def _feed(h: Any, array: pa.Array) -> None:
    """Add an array to the hash in a form that its offset and its garbage do not enter."""
    stored = array.type
    h.update(f"{len(array)},{array.null_count};".encode())
    if is_text_dictionary(stored):
        _feed(h, array.dictionary.cast(pa.large_string()))
        _feed(h, array.indices.cast(pa.int32()))
        return
    if array.null_count:
        h.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)))
    if kind.is_string(stored) or kind.is_binary(stored):
        _feed_variable(h, array, np.dtype(np.int32))
    elif kind.is_large_string(stored) or kind.is_large_binary(stored):
        _feed_variable(h, array, np.dtype(np.int64))
    elif kind.is_boolean(stored):
        bits = pc.fill_null(array, False) if array.null_count else array
        h.update(np.packbits(bits.to_numpy(zero_copy_only=False)))
    elif kind.is_list(stored) or kind.is_large_list(stored):
        lengths = pc.fill_null(pc.call_function("list_value_length", [array]), 0)
        h.update(lengths.to_numpy().astype(np.int64))
        _feed(h, array.flatten())
    elif kind.is_fixed_size_list(stored):
        _feed(h, array.flatten())  # leaves out what stands under a null
    elif kind.is_struct(stored):
        for child in array.flatten():
            _feed(h, child)
    elif kind.is_primitive(stored):
        _feed_fixed(h, array)
    else:
        batch = pa.record_batch([array], names=["values"])
        h.update(batch.serialize())


def _feed_fixed(h: Any, array: pa.Array) -> None:
    width = array.type.bit_width // 8
    values = array.buffers()[1]
    if values is None or not len(array):
        return
    start = array.offset * width
    data = np.frombuffer(values, np.uint8)[start : start + len(array) * width]
    if array.null_count:
        data = data.reshape(-1, width).copy()
        data[array.is_null().to_numpy(zero_copy_only=False)] = 0
    h.update(np.ascontiguousarray(data).reshape(-1))


def _feed_variable(h: Any, array: pa.Array, offset: np.dtype[Any]) -> None:
    _, offsets, data = array.buffers()
    if offsets is None or not len(array):
        return
    at = np.frombuffer(offsets, offset, len(array) + 1, array.offset * offset.itemsize)
    h.update(np.diff(at).astype(np.int64))
    if data is not None:
        h.update(np.frombuffer(data, np.uint8)[at[0] : at[-1]])
