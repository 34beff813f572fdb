"""Columns in another type, where those of several sources become one."""

from typing import Any

import pyarrow as pa

from tql.diagnostics import data_error
from tql.engine.columns import from_arrow, to_arrow
from tql.schema import DType, Json, Label, Opaque, Text
from tql.sources.arrow_types import arrow_type


def as_type(array: Any, dtype: DType, wanted: DType) -> Any:
    """A column of type `dtype` in the Arrow type that `wanted` is written as.

    Text keeps wide offsets. Raises a range error for integers that do not fit; the types are such
    that only uint64 can be too large, for int64.
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
        raise data_error(
            "range", f"a value of {dtype} does not fit in {wanted}",
            help="leave such rows out with WHERE before the columns become one",
        ) from e  # fmt: skip


def _json_text(array: Any) -> Any:
    """JSON as text, whatever it is stored as."""
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return array.cast(pa.string())
    made = to_arrow(from_arrow(array, Json()), Json(), len(array))
    return pa.chunked_array([made])
