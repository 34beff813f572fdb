"""Arrays as Hugging Face data sets store them: lists of lists, whose shape only the features tell."""

import re
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as kind

_ARRAY: Final = re.compile(r"Array[2-5]D")
_EXTENSION: Final = "datasets.features."


def is_hugging_face_array(stored: pa.DataType) -> bool:
    """Whether it is the type that `datasets`, once imported, registers for its arrays."""
    name = getattr(stored, "extension_name", None)
    return isinstance(name, str) and name.startswith(_EXTENSION)


def shaped_as(feature: Any, stored: pa.DataType) -> pa.DataType | None:
    """The lists of `stored` with the sizes that the feature gives; None where it is no array of fixed
    shape. The first size may be left open.
    """
    if not isinstance(feature, Mapping) or not _ARRAY.fullmatch(str(feature.get("_type"))):
        return None
    sizes, item = feature.get("shape"), stored
    if not isinstance(sizes, list | tuple):
        return None
    for _ in sizes:
        if not (kind.is_list(item) or kind.is_large_list(item)):
            return None
        item = item.value_type
    for size in reversed(sizes):
        if size is not None and (type(size) is not int or size < 0):
            return None
        item = pa.list_(item, -1 if size is None else size)
    return item


def sized(lists: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Lists in the type `wanted`, of fixed sizes; of the same values, without a copy where no row is
    null. pa.ArrowInvalid where a list has another size.
    """
    if not kind.is_fixed_size_list(wanted):
        return lists if lists.type == wanted else lists.cast(wanted)
    plain = kind.is_list(lists.type) or kind.is_large_list(lists.type)
    if not plain or lists.null_count or not wanted.list_size:
        return lists.cast(wanted)
    lengths = pc.call_function("list_value_length", [lists])
    if len(lists) and pc.call_function("min_max", [lengths]).as_py() != {
        "min": wanted.list_size, "max": wanted.list_size
    }:  # fmt: skip
        raise pa.ArrowInvalid(f"a list of another size than {wanted.list_size}")
    return pa.FixedSizeListArray.from_arrays(sized(lists.flatten(), wanted.value_type), type=wanted)
