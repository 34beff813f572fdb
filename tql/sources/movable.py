"""Arrow data from which pyarrow takes and filters rows correctly.

`take`, `filter` and `drop_null` of pyarrow 26 read beside the buffers of a slice whose type is a
fixed-size list of fixed-size lists of numbers, also inside a struct: they apply the offset of the
slice twice. Such slices get their offset moved into the values, which copies nothing.
"""

from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import types as kind

Data = TypeVar("Data", pa.Table, pa.RecordBatch)


def movable(data: Data) -> Data:
    """The same rows; columns that cannot be taken from as they lie are laid out anew."""
    for at, field in enumerate(data.schema):
        if _nests_fixed_lists(field.type):
            data = data.set_column(at, field, movable_array(data.column(at)))
    return data


def movable_array(array: Any) -> Any:
    """The same values, of an array or a chunked array."""
    if not _nests_fixed_lists(array.type):
        return array
    if isinstance(array, pa.ChunkedArray):
        return pa.chunked_array(map(_without_offset, array.chunks), array.type)
    return _without_offset(array)


def _nests_fixed_lists(stored: pa.DataType) -> bool:
    if kind.is_struct(stored):
        return any(_nests_fixed_lists(field.type) for field in stored)
    return bool(kind.is_fixed_size_list(stored) and kind.is_fixed_size_list(stored.value_type))


def _without_offset(array: Any) -> Any:
    """The array with offset 0; numbers at the bottom, and lists of nothing, may keep one, which
    does no harm.
    """
    stored = array.type
    mask = array.is_null() if array.null_count else None
    if kind.is_struct(stored):
        children = [_without_offset(array.field(at)) for at in range(stored.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(stored), mask=mask)
    if not kind.is_fixed_size_list(stored) or stored.list_size == 0:
        return array  # from_arrays would divide by the size, and end the process
    size = stored.list_size
    values = _without_offset(array.values.slice(array.offset * size, len(array) * size))
    return pa.FixedSizeListArray.from_arrays(values, type=stored, mask=mask)
