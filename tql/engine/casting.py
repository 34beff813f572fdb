"""Columns in another type, where those of several sources become one."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.diagnostics import TqlError, data_error
from tql.engine.columns import from_arrow, pc, to_arrow
from tql.schema import DType, Json, Label, Opaque, Text
from tql.sources.arrow_types import arrow_type


def as_type(
    array: Any, dtype: DType, wanted: DType, rows: NDArray[np.int64], column: str
) -> Any:  # fmt: skip
    """A column of type `dtype` in the Arrow type that `wanted` is written as.

    `rows` are what the rows are called, int64 (n,), and `column` what the column is, for errors.
    Text keeps wide offsets. Raises a range error for a value that does not fit: of uint64 in int64,
    of 64-bit integers in float64 where it is none, and of times in a finer unit.
    """
    if isinstance(wanted, Opaque):
        return array
    kind = array.type
    if pa.types.is_dictionary(kind):
        if isinstance(dtype, Label):
            array = pa.chunked_array([c.indices for c in array.chunks], kind.index_type)
        else:
            array = array.cast(kind.value_type)
    if isinstance(wanted, Json):
        return _json_text(array)
    if isinstance(wanted, Text):
        return array if pa.types.is_large_string(array.type) else array.cast(pa.string())
    target = arrow_type(wanted)
    if array.type == target:
        return array
    at = _first_rounded(array, target)
    if at is not None:
        raise _unfit(dtype, wanted, column, rows[at])
    try:
        return array.cast(target, safe=not _is_real(target))
    except pa.ArrowInvalid as e:
        raise _unfit(dtype, wanted, column, rows[_first_unfit(array, target)]) from e


def _unfit(dtype: DType, wanted: DType, column: str, row: int) -> TqlError:
    return data_error(
        "range", f"{column}: a value of {dtype} does not fit in {wanted}, in row {row}",
        help="leave such rows out with WHERE before the columns become one",
    )  # fmt: skip


def _is_real(kind: Any) -> bool:
    """Whether the type is of floats, or of lists of them."""
    return pa.types.is_floating(kind) or (_is_list(kind) and _is_real(kind.value_type))


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _first_rounded(array: Any, target: Any) -> int | None:
    """The first value of 64-bit integers, or of lists of them, that floats would round."""
    if not _is_real(target):
        return None
    start = 0
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        at = _rounded_in(chunk)
        if at is not None:
            return start + at
        start += len(chunk)
    return None


def _rounded_in(array: Any) -> int | None:
    if _is_list(array.type):
        at = _rounded_in(pc.list_flatten(array))
        return None if at is None else pc.list_parent_indices(array)[at].as_py()
    if array.type not in (pa.int64(), pa.uint64()):
        return None
    values = (array.fill_null(0) if array.null_count else array).to_numpy(zero_copy_only=False)
    size = np.abs(values).view(np.uint64)  # of -2^63 too
    # A float64 has 53 bits from the highest that is set on: the lowest must be among them.
    rounded = (size >> np.uint64(53)) >= (size & (~size + np.uint64(1)))
    rounded &= size != 0
    return int(np.argmax(rounded)) if rounded.any() else None


def _first_unfit(array: Any, target: pa.DataType) -> int:
    """The first value that cannot be cast; there is one."""
    fits, fails = 0, len(array)  # so many values from the start
    while fails - fits > 1:
        middle = (fits + fails) // 2
        try:
            array.slice(fits, middle - fits).cast(target)
        except pa.ArrowInvalid:
            fails = middle
        else:
            fits = middle
    return fits


def _json_text(array: Any) -> Any:
    """JSON as text, whatever it is stored as."""
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return array.cast(pa.string())
    made = to_arrow(from_arrow(array, Json()), Json(), len(array))
    return pa.chunked_array([made])
