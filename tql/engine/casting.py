"""Columns in another type, where those of several sources become one."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.diagnostics import data_error
from tql.engine.columns import from_arrow, to_arrow
from tql.schema import DType, Json, Label, Opaque, Text
from tql.sources.arrow_types import arrow_type


def as_type(array: Any, dtype: DType, wanted: DType, rows: NDArray[np.int64]) -> Any:
    """A column of type `dtype` in the Arrow type that `wanted` is written as.

    `rows` are what the rows are called, int64 (n,). Text keeps wide offsets. Raises a range error
    for a value that does not fit: of uint64 in int64, and of times in a finer unit.
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
    try:
        return array.cast(target, safe=not pa.types.is_floating(target))
    except pa.ArrowInvalid as e:
        row = rows[_first_unfit(array, target)]
        raise data_error(
            "range", f"a value of {dtype} does not fit in {wanted}, in row {row}",
            help="leave such rows out with WHERE before the columns become one",
        ) from e  # fmt: skip


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
