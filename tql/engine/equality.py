"""Which rows are equal, for GROUP BY and DISTINCT: NULL equals NULL, NaN equals NaN, 0.0 is -0.0.

Values become codes, int64 in order of first appearance; all further work is on codes. Numbers and
text are hashed by Arrow as a whole; an array is the row of its elements' codes.
"""

from typing import Any, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Arrays, Arrow, Mask, Numbers, Objects, Vec, one_array, pc, repeated
from tql.engine.comparing import plain_text

Int64s = NDArray[np.int64]


def codes(vec: Vec, rows: int) -> Int64s:
    """int64 (rows,): equal where the values are; 0, 1, … in order of first appearance."""
    match vec:
        case Numbers(values, valid):
            return _codes_of_numbers(
                np.broadcast_to(values, (rows,)),
                None if valid is None else np.broadcast_to(valid, (rows,)),
            )
        case Arrow(array):
            return _codes_of_arrow(array)
        case Arrays():
            return _codes_of_arrays(vec if vec.shapes.ndim == 2 else repeated(vec, rows))
        case Objects(values):
            return _dense(_first_seen([comparable_json(v) for v in values]))
        case _:
            assert_never(vec)


def combined(parts: list[Int64s]) -> Int64s:
    """int64 (n,): equal where all of `parts` are; in order of first appearance."""
    result = parts[0]
    for part in parts[1:]:
        result = paired(result, part)
    return result


def paired(a: Int64s, b: Int64s) -> Int64s:
    """Codes of the pairs of two kinds of codes, each of which is dense."""
    if not len(a):
        return a
    return _dense(a * (int(b.max()) + 1) + b)  # dense codes are below n: n * n fits in 63 bits


def first_rows(found: Int64s) -> Int64s:
    """int64: the first row of each code, in the order of the codes."""
    count = int(found.max()) + 1 if len(found) else 0
    first = np.empty(count, np.int64)
    first[found[::-1]] = np.arange(len(found) - 1, -1, -1)
    return first


def _codes_of_numbers(values: NDArray[Any], valid: Mask | None) -> Int64s:
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0.0 + 0.0 is 0.0
        values[np.isnan(values)] = np.nan  # one NaN, whatever its bits
    array = pa.array(np.ascontiguousarray(values), mask=None if valid is None else ~valid)
    return _encoded(array)


def _codes_of_arrow(array: Any) -> Int64s:
    array = one_array(array)
    if pa.types.is_dictionary(array.type):
        # A dictionary may hold a value twice, or NULL.
        of_words = _encoded(plain_text(array.dictionary))
        null = int(of_words.max()) + 1 if len(of_words) else 0
        if array.dictionary.null_count:
            missing = array.dictionary.is_null().to_numpy(zero_copy_only=False)
            null = int(of_words[np.argmax(missing)])
        at = pc.fill_null(array.indices, len(of_words)).to_numpy().astype(np.int64)
        return _dense(np.append(of_words, null)[at])
    if pa.types.is_string_view(array.type):
        array = plain_text(array)
    return _encoded(array)


def _codes_of_arrays(vec: Arrays) -> Int64s:
    """Equal shapes and equal elements: the bytes of both, for each row, as one binary value."""
    rows, rank = vec.shapes.shape
    elements = codes(vec.items, int(vec.counts.sum()))
    lengths = vec.counts + rank
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    words = np.empty(int(offsets[-1]), np.int64)
    starts = offsets[:-1]
    for axis in range(rank):
        words[starts + axis] = vec.shapes[:, axis]
    inside = np.arange(len(elements)) - np.repeat(vec.offsets[:-1], vec.counts)
    words[np.repeat(starts + rank, vec.counts) + inside] = elements
    mask = None if vec.valid is None else pa.py_buffer(np.packbits(vec.valid, bitorder="little"))
    buffers = [mask, pa.py_buffer(offsets * words.itemsize), pa.py_buffer(words)]
    return _encoded(pa.Array.from_buffers(pa.large_binary(), rows, buffers))


def _encoded(array: Any) -> Int64s:
    """Codes of an Arrow array by Arrow's hash table; NULL is a value of its own."""
    encoded = one_array(pc.dictionary_encode(array, null_encoding="encode"))
    return np.asarray(encoded.indices.to_numpy(), np.int64)


def _dense(found: Int64s) -> Int64s:
    """The codes numbered anew: 0, 1, … in order of first appearance."""
    return _encoded(pa.array(found))


def _first_seen(keys: list[Any]) -> Int64s:
    seen: dict[Any, int] = {}
    return np.fromiter((seen.setdefault(k, len(seen)) for k in keys), np.int64, len(keys))


def comparable_json(value: Any) -> Any:
    """A hashable value, equal for JSON values that are: by type, numbers by value, any key order."""
    match value:
        case dict():
            return "object", frozenset((k, comparable_json(v)) for k, v in value.items())
        case list() | tuple() | np.ndarray():
            return "array", tuple(map(comparable_json, value))
        case bool():
            return "bool", value
        case float() if value != value:
            return "nan"
        case _:
            return value
