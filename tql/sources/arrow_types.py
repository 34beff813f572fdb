"""Arrow types as column types, and back.

`delivered_type` says in which of Arrow's many layouts a column reaches the engine; there are far
fewer of those, because views, run-end encoding and nested dictionaries are resolved on reading.
List views stay as they are and are opaque: pyarrow 26 casts them to lists with wrong offsets.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, assert_never

import pyarrow as pa
from pyarrow import types as kind

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
from tql.sources.shaped import is_hugging_face_array

_SCALARS: Final[Mapping[pa.DataType, DType]] = MappingProxyType(
    {
        pa.bool_(): Bool(),
        pa.int8(): Int(8),
        pa.int16(): Int(16),
        pa.int32(): Int(32),
        pa.int64(): Int(64),
        pa.uint8(): Int(8, signed=False),
        pa.uint16(): Int(16, signed=False),
        pa.uint32(): Int(32, signed=False),
        pa.uint64(): Int(64, signed=False),
        pa.float16(): Float(16),
        pa.float32(): Float(32),
        pa.float64(): Float(64),
        pa.string(): Text(),
        pa.large_string(): Text(),
        pa.date32(): Time("D", date=True),
        pa.date64(): Time("ms", date=True),
        pa.binary(): Binary(),
        pa.large_binary(): Binary(),
    }
)

DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())
"""The only dictionary type that `read` delivers."""


def is_text_dictionary(stored: pa.DataType) -> bool:
    """Whether values are texts stored once, with a code per row."""
    if not kind.is_dictionary(stored):
        return False
    value = stored.value_type
    return bool(kind.is_string(value) or kind.is_large_string(value) or kind.is_string_view(value))


def is_extension(stored: pa.DataType, name: str) -> bool:
    """Whether `stored` is the extension type registered under `name`."""
    return getattr(stored, "extension_name", None) == name


def delivered_type(stored: pa.DataType) -> pa.DataType:
    """The type in which `read` delivers a column stored as `stored`.

    A dictionary of texts stays one (with int32 codes) at the top level only.
    """
    return DICTIONARY if is_text_dictionary(stored) else _plain(stored)


def _plain(stored: pa.DataType) -> pa.DataType:
    if kind.is_dictionary(stored) or kind.is_run_end_encoded(stored):
        return _plain(stored.value_type)
    if kind.is_string_view(stored):
        return pa.large_string()
    if kind.is_binary_view(stored):
        return pa.large_binary()
    if is_extension(stored, "arrow.json"):
        return _plain(stored.storage_type)
    if is_hugging_face_array(stored):
        return _plain(stored.storage_type)
    if is_extension(stored, "arrow.fixed_shape_tensor") and _row_major(stored):
        item = _plain(stored.value_type)
        for size in reversed(stored.shape):
            item = pa.list_(item, size)
        return item
    if kind.is_fixed_size_list(stored):
        return pa.list_(_plain(stored.value_type), stored.list_size)
    if kind.is_list(stored):
        return pa.list_(_plain(stored.value_type))
    if kind.is_large_list(stored):
        return pa.large_list(_plain(stored.value_type))
    return stored


def _row_major(tensor: pa.DataType) -> bool:
    return tensor.permutation is None or list(tensor.permutation) == list(range(len(tensor.shape)))


def dtype_of(stored: pa.DataType) -> DType:
    """The column type of an Arrow type; a dictionary of texts counts as Text.

    Whether such a dictionary is a class label depends on its values: `tql.sources.stored` decides.
    """
    if is_text_dictionary(stored):
        return Text()
    if is_extension(stored, "arrow.json") or kind.is_struct(stored):
        return Json()
    if kind.is_dictionary(stored) or kind.is_run_end_encoded(stored):
        return dtype_of(stored.value_type)
    if is_hugging_face_array(stored):
        return dtype_of(stored.storage_type)
    delivered = _plain(stored)
    if delivered in _SCALARS:
        return _SCALARS[delivered]
    if kind.is_timestamp(delivered):
        return Time(delivered.unit, delivered.tz)
    if kind.is_fixed_size_binary(delivered) and not kind.is_decimal(delivered):
        return Binary()
    if kind.is_fixed_size_list(delivered):
        return List(_item(stored, delivered), delivered.list_size)
    if kind.is_list(delivered) or kind.is_large_list(delivered):
        return List(_item(stored, delivered))
    return Opaque(str(stored))


def _item(stored: pa.DataType, delivered: pa.DataType) -> DType:
    if is_extension(stored, "arrow.fixed_shape_tensor"):
        return dtype_of(delivered.value_type)
    return dtype_of(stored.value_type)  # JSON inside a list shows in the stored type only


def arrow_type(dtype: DType) -> pa.DataType:
    """The Arrow type a new column of this type is written with."""
    match dtype:
        case Bool():
            return pa.bool_()
        case Int(bits=bits, signed=signed):
            return pa.type_for_alias(f"{'int' if signed else 'uint'}{bits}")
        case Float(bits=bits):
            return pa.type_for_alias(f"float{bits}")
        case Text() | Json():
            return pa.string()
        case Label(storage=storage):
            return arrow_type(storage)
        case Time(date=True, unit=unit):
            return pa.date32() if unit == "D" else pa.date64()
        case Time(unit=unit, zone=zone):
            return pa.timestamp(unit, zone)
        case Binary():
            return pa.binary()
        case List(item=item, size=None):
            return pa.list_(arrow_type(item))
        case List(item=item, size=size):
            return pa.list_(arrow_type(item), size)
        case Opaque(name=name):
            raise AssertionError(f"nothing computes a column of type {name}")
        case _:
            assert_never(dtype)
