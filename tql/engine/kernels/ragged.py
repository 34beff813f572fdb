"""Lists of a fragment as kernels read them: where each row's elements start, and its dimensions."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import one_array
from tql.engine.kernels.arguments import as_kind, bits_of, valid_bits
from tql.engine.kernels.build import Columns, Unsuitable
from tql.language.array_types import array_of, sizes_of
from tql.schema import Bool, DType, List

Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
_MOST: int = np.iinfo(np.int32).max


class NullElements(Unsuitable):
    """An element is NULL, and the kernel was made for arrays of which none is."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """The arrays of n rows over the elements of all.

    starts    int32 (n + 1,): where each row starts, counted in elements, or in inner lists where
              the type says how long all of them are (`inner_size`); [0] where it says it of the rows' too
    dims      for other arrays of two dimensions or more, per dimension int32 (n,); 0 where a row is
              NULL
    elements  the Arrow array of all elements
    """

    starts: Int32s
    dims: tuple[Int32s, ...]
    elements: Any


def ragged(columns: Columns, name: str, dtype: List) -> Ragged:
    """The arrays of a column; Unsuitable where the lists of a row differ in length."""
    return columns.once(("ragged", name), lambda: _ragged(columns[name], dtype))  # type: ignore[no-any-return]


def inner_size(dtype: List) -> int | None:
    """How many elements lie in each item of the outer lists; None where the type does not say."""
    sizes = sizes_of(dtype)[1:]
    return None if None in sizes else math.prod(s for s in sizes if s is not None)


def _ragged(array: Any, dtype: List) -> Ragged:
    rank = array_of(dtype)[1]
    if inner_size(dtype) is not None:
        return _of_known_sizes(array, dtype, rank)
    at, child = _offsets(array)
    there = array.is_valid().to_numpy(zero_copy_only=False)
    dims = [np.where(there, np.diff(at), 0)]
    level: DType = dtype.item
    for _ in range(1, rank):
        assert isinstance(level, List)
        _whole(child)
        offsets, below = _offsets(child)
        first = np.full(len(array), level.size or 0, np.int64)
        if not pa.types.is_fixed_size_list(child.type):
            lengths, many = np.diff(offsets), np.diff(at)
            some = many > 0
            first[some] = lengths[at[:-1][some]]
            if (lengths != np.repeat(first, many))[np.repeat(there, many)].any():
                raise Unsuitable("the inner lists of a row differ in length")
        dims.append(np.where(there, first, 0))
        at, child, level = offsets[at], below, level.item
    if int(at[-1]) > _MOST:
        raise Unsuitable("the lists hold too many values")
    return Ragged(at.astype(np.int32), tuple(d.astype(np.int32) for d in dims), child)


def _of_known_sizes(array: Any, dtype: List, rank: int) -> Ragged:
    """Where the type says how long all lists within a row's are; nothing is made but views."""
    if dtype.size is None:
        at, items = _offsets(array)
    else:
        at, items = np.zeros(1, np.int32), _of_fixed(array)
    for _ in range(1, rank):
        _whole(items)
        items = _of_fixed(items)
    if max(len(items), int(at[-1])) > _MOST:
        raise Unsuitable("the lists hold too many values")
    return Ragged(np.ascontiguousarray(at.astype(np.int32, copy=False)), (), items)


def _whole(lists: Any) -> None:
    if lists.null_count:  # an error where the row is asked for, which the reference tier names
        raise Unsuitable("a list within a list is NULL")


def _of_fixed(array: Any) -> Any:
    """The elements of lists of one length."""
    size = array.type.list_size
    return one_array(array.values.slice(array.offset * size, len(array) * size))


def _offsets(array: Any) -> tuple[NDArray[Any], Any]:
    """Where each list starts in the elements of all, int32 or int64 (n + 1,), and these elements."""
    kind, n = array.type, len(array)
    if pa.types.is_fixed_size_list(kind):
        return np.arange(n + 1, dtype=np.int64) * kind.list_size, _of_fixed(array)
    item = np.dtype(np.int64 if pa.types.is_large_list(kind) else np.int32)
    if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        raise Unsuitable(f"{kind} is laid out otherwise")  # list views
    buffer = array.buffers()[1]
    if buffer is None or not n:
        return np.zeros(n + 1, item), array.values.slice(0, 0)
    offsets = np.frombuffer(buffer, item, n + 1, array.offset * item.itemsize)
    first, last = int(offsets[0]), int(offsets[-1])
    return offsets - first if first else offsets, array.values.slice(first, last - first)


def starts(columns: Columns, name: str, dtype: List) -> Int32s:
    return ragged(columns, name, dtype).starts


def dimension(columns: Columns, name: str, dtype: List, axis: int) -> Int32s:
    return ragged(columns, name, dtype).dims[axis]


def elements(columns: Columns, name: str, dtype: List, *, nulls: bool) -> NDArray[Any]:
    """The elements of all rows, at least one; bools as bits. With `nulls`, NULLs may be among them."""
    array = ragged(columns, name, dtype).elements
    if array.null_count and not nulls:
        raise NullElements
    element = array_of(dtype)[0]
    if pa.types.is_dictionary(array.type):
        array = array.indices
    values = bits_of(array) if isinstance(element, Bool) and len(array) else as_kind(array, element)
    if isinstance(element, Bool):
        return values if len(array) else np.zeros(1, np.uint64)
    return values if len(values) else np.zeros(1, values.dtype)


def element_validity(columns: Columns, name: str, dtype: List) -> NDArray[np.uint64]:
    """The bits of the elements that are not NULL, at least one word."""
    array = ragged(columns, name, dtype).elements
    return valid_bits(array) if len(array) else np.zeros(1, np.uint64)
