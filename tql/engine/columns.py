"""Arrow columns as the engine computes with them, and back.

Numbers, bools, class labels and times are NumPy arrays with a validity mask; text, lists and
everything that is only carried stay Arrow arrays.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from tql.schema import (
    Binary,
    Bool,
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

# Arrow makes these functions when it is imported, where no type checker sees them.
pc: Any = pyarrow.compute

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Numbers:
    """`values` has shape (n,), or () for a constant; `valid` is None where nothing is NULL.

    What stands in `values` where `valid` is false is arbitrary but defined.
    """

    values: NDArray[Any]
    valid: Mask | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """A column of n rows that stays in Arrow: text (plain or dictionary), lists, the rest."""

    array: Any

    @property
    def valid(self) -> Mask | None:
        if not self.array.null_count:
            return None
        mask: Mask = pc.is_valid(self.array).to_numpy(zero_copy_only=False)
        return mask


Vec: TypeAlias = Numbers | Arrow


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy type of a column that becomes `Numbers`."""
    match dtype:
        case Bool():
            return np.dtype(np.bool_)
        case Int(bits, signed):
            return np.dtype(f"{'int' if signed else 'uint'}{bits}")
        case Label(_, storage):
            return numpy_dtype(storage)
        case Float(bits):
            return np.dtype(f"float{bits}")
        case Time():
            return np.dtype(np.int64)
        case _:
            raise AssertionError(f"{dtype} is not numbers")


def one_array(column: Any) -> Any:
    """A chunked array as one array; no copy where it is one chunk already."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def from_arrow(column: Any, dtype: DType) -> Vec:
    """An Arrow array or chunked array as a `Vec` of the column type `dtype`."""
    array = one_array(column)
    match dtype:
        case Bool() | Int() | Float() | Label() | Time():
            return _numbers(array, dtype)
        case Text() | List() | Binary() | Json() | Opaque():
            return Arrow(array)


def _numbers(array: Any, dtype: DType) -> Numbers:
    if pa.types.is_dictionary(array.type):
        array = array.indices
    valid = None
    if array.null_count:
        valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    values = storage(array)
    wanted = numpy_dtype(dtype)
    return Numbers(values if values.dtype == wanted else values.astype(wanted), valid)


def storage(array: Any) -> NDArray[Any]:
    """The values buffer of a fixed-width array as NumPy, whatever stands behind its nulls.

    Bool arrays are unpacked; all others are views of Arrow's memory and must not be written.
    """
    if pa.types.is_boolean(array.type):
        bits: NDArray[Any] = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
        return bits
    kind = array.type
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        name = "int32"
    elif pa.types.is_timestamp(kind) or pa.types.is_date64(kind) or pa.types.is_duration(kind):
        name = "int64"
    else:
        name = {"halffloat": "float16", "float": "float32", "double": "float64"}.get(
            str(kind), str(kind)
        )
    item = np.dtype(name)
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), item)
    view: NDArray[Any] = np.frombuffer(buffer, item, len(array), array.offset * item.itemsize)
    return view


def to_arrow(vec: Vec, dtype: DType, rows: int) -> Any:
    """The computed `Vec` as an Arrow array of `rows` rows, of the type that `dtype` is written as.

    Not for times: they can be selected and compared, and no expression makes one.
    """
    match vec:
        case Arrow(array):
            return array
        case Numbers(values, valid):
            assert not isinstance(dtype, Time), f"a computed {dtype}"
            full = np.ascontiguousarray(np.broadcast_to(values, (rows,)))
            missing = None if valid is None else ~np.broadcast_to(valid, (rows,))
            return pa.array(full.astype(numpy_dtype(dtype), copy=False), mask=missing)
        case _:
            assert_never(vec)
