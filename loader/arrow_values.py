"""Arrow columns to the values of a batch, one a row; images stay encoded."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tql.diagnostics import data_error
from tql.images import Encoded
from tql.loader.batch import Values
from tql.loader.failures import Report
from tql.loader.options import Method
from tql.schema import (
    Binary,
    Bool,
    Column,
    DType,
    Float,
    Int,
    Json,
    Label,
    List,
    Opaque,
    Text,
    Time,
)
from tql.sources.movable import movable_array


def values_of(
    wanted: Column,
    method: Method,
    column: pa.ChunkedArray,
    rows: npt.NDArray[np.int64],
    report: Report,
) -> Values:
    """The values of a column that is no image to decode; may share Arrow's memory.

    rows  int64 (n,), the numbers by which errors name the rows
    """
    match wanted.dtype:
        case Text():
            return _text(column, method)
        case Label():
            return _with_nulls(_codes(column), _numbers_as_int64)
        case Bool() | Int() | Float() | Time():
            return _with_nulls(_joined(column), _numbers)
        case List() as dtype:
            return _with_nulls(_joined(column), lambda array: _lists(array, dtype))
        case Json():
            return _json(column, wanted.name, rows, report)
        case Binary():
            return [None if data is None else bytes(data) for data in encoded_values(column)]
        case Opaque():
            listed: list[Any] = column.to_pylist()
            return listed
        case _ as never:
            assert_never(never)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what older pyarrow gives where there is no chunk
        array = pa.concat_arrays(array.chunks)
    return array


def _codes(column: pa.ChunkedArray) -> pa.Array:
    """The integers of a class label; in a dictionary array they are the codes."""
    if pa.types.is_dictionary(column.type):
        return pa.concat_arrays([chunk.indices for chunk in column.chunks])
    return _joined(column)


def _text(column: pa.ChunkedArray, method: Method) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if method == "tobytes":
        column = column.cast(pa.large_binary())
    listed: list[Any] = column.to_pylist()
    return listed


def _json(
    column: pa.ChunkedArray, name: str, rows: npt.NDArray[np.int64], report: Report
) -> list[Any]:
    parsed: list[Any] = _storage(column).to_pylist()
    for i, value in enumerate(parsed):
        if isinstance(value, str | bytes):
            try:
                parsed[i] = json.loads(value)
            except ValueError as cause:
                message = f"row {rows[i]}, column '{name}': not a JSON value: {cause}"
                found = data_error("value", message)
                found.__cause__ = cause
                report(i, found)
    return parsed


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([c.storage for c in column.chunks], column.type.storage_type)
    return column


def encoded_values(column: pa.ChunkedArray) -> list[Encoded | None]:
    """Views of the bytes in Arrow's memory."""
    column = _storage(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return [value for chunk in column.chunks for value in _encoded_values(chunk)]


def _encoded_values(array: pa.Array) -> list[Encoded | None]:
    kind = array.type
    if pa.types.is_large_binary(kind) or pa.types.is_large_string(kind):
        width: type[np.signedinteger[Any]] = np.int64
    elif pa.types.is_binary(kind) or pa.types.is_string(kind):
        width = np.int32
    else:
        return [_view(value) if value.is_valid else None for value in array]
    _, ends, data = array.buffers()
    if not len(array) or data is None:
        return [b"" if valid else None for valid in array.is_valid().to_pylist()]
    # By their places in the buffer: a scalar of pyarrow costs 10 µs each.
    whole = memoryview(data).cast("B")
    at = np.frombuffer(ends, width, len(array) + 1, array.offset * width().itemsize).tolist()
    values: list[Encoded | None] = [whole[a:b] for a, b in pairwise(at)]
    if array.null_count:
        there = array.is_valid().to_pylist()
        values = [v if valid else None for v, valid in zip(values, there, strict=True)]
    return values


def _view(value: pa.Scalar) -> Encoded:
    buffer = value.as_buffer()
    return memoryview(buffer).cast("B") if buffer.size else b""


def _with_nulls(array: pa.Array, convert: Callable[[pa.Array], Values]) -> Values:
    if not array.null_count:
        return convert(array)
    dense = iter(convert(movable_array(array).drop_null()))
    return [next(dense) if valid else None for valid in array.is_valid().to_pylist()]


def _numbers(array: pa.Array) -> npt.NDArray[Any]:
    """Numbers, booleans and times without nulls, as the NumPy type of the same width."""
    numbers: npt.NDArray[Any]
    if pa.types.is_timestamp(array.type):  # a zone is dropped: the values count from 1970 in UTC
        unit = f"datetime64[{array.type.unit}]"
        numbers = array.view(pa.int64()).to_numpy().view(unit)
    else:
        numbers = array.to_numpy(zero_copy_only=False)
    return numbers


def _numbers_as_int64(array: pa.Array) -> npt.NDArray[np.int64]:
    return _numbers(array).astype(np.int64)


def _lists(array: pa.Array, dtype: List) -> Values:
    """One array where the type gives every length; otherwise one value a row, of whatever lengths.

    Not where the lengths happen to agree: the form of a column would change from batch to batch.
    """
    numbers = _numbers_as_int64 if isinstance(_leaf(dtype), Label) else _numbers
    if isinstance(array, pa.FixedShapeTensorArray):
        tensors: npt.NDArray[Any] = array.to_numpy_ndarray()
        return tensors
    whole = _tensor(array, numbers) if _is_sized(dtype) else None
    if whole is not None:
        return whole
    rows = (array.slice(i, 1).flatten() for i in range(len(array)))
    made = ((row, _tensor(row, numbers)) for row in rows)
    return [row.to_pylist() if values is None else values for row, values in made]


def _leaf(dtype: DType) -> DType:
    return _leaf(dtype.item) if isinstance(dtype, List) else dtype


def _is_sized(dtype: DType) -> bool:
    """Whether all lists, at any depth, have a length that the type states."""
    return not isinstance(dtype, List) or (dtype.size is not None and _is_sized(dtype.item))


def _tensor(
    array: pa.Array, numbers: Callable[[pa.Array], npt.NDArray[Any]]
) -> npt.NDArray[Any] | None:
    """The array with one axis for each level of lists; None if ragged, not numeric or with nulls."""
    kind = array.type
    if array.null_count:
        return None
    if pa.types.is_fixed_size_list(kind):
        length = int(kind.list_size)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = array.value_lengths().unique().to_pylist()
        if len(lengths) > 1:
            return None
        length = int(lengths[0]) if lengths else 0
    elif pa.types.is_primitive(kind):
        return numbers(array)
    else:
        return None
    inner = _tensor(array.flatten(), numbers)
    if inner is None:
        return None
    return inner.reshape(len(array), length, *inner.shape[1:])
