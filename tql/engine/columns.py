"""Columns as the engine computes with them.

Numbers, bools, class labels and times are NumPy arrays with a validity mask; text and everything
that is only carried stay Arrow arrays; lists are the elements of all rows with a shape per row;
JSON is Python values.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from tql.engine import json_text
from tql.language.array_types import array_of, sizes_of
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

    def take(self, places: NDArray[np.int64]) -> "Numbers":
        """These rows, of no constant."""
        return Numbers(self.values[places], None if self.valid is None else self.valid[places])


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


@dataclass(frozen=True, slots=True)
class Arrays:
    """One array per row, all of one rank.

    items   the elements of all rows, row-major, one after the other; NULL elements are NULL there.
            Of a group's arrays: `Arrays` again, one per member
    shapes  int64 (n, rank); or (rank,) for a constant, the same array in every row
    valid   bool (n,), None where no row is NULL; the shape of a NULL row is all zeros
    """

    items: "Vec"
    shapes: NDArray[np.int64]
    valid: Mask | None = None

    @property
    def rank(self) -> int:
        return int(self.shapes.shape[-1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 (n,), or () for a constant: how many elements each row has."""
        return np.asarray(self.shapes.prod(axis=-1))

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64 (n + 1,): where the elements of each row start in `items`. Not for a constant."""
        return np.concatenate([[0], np.cumsum(self.counts)])


@dataclass(frozen=True, slots=True)
class Objects:
    """JSON as Python values, object (n,): dict, list, str, bool, int, float; None is NULL."""

    values: NDArray[np.object_]

    @property
    def valid(self) -> Mask | None:
        mask = np.array([v is not None for v in self.values], np.bool_)
        return None if mask.all() else mask


Vec: TypeAlias = Numbers | Arrow | Arrays | Objects


def pick(vec: Vec, index: NDArray[np.int64]) -> Vec:
    """The rows `index` of `vec`, in that order, with repeats; a constant stays one."""
    match vec:
        case Numbers(values, valid):
            return Numbers(
                values if values.ndim == 0 else values[index],
                valid if valid is None or valid.ndim == 0 else valid[index],
            )
        case Arrow(array):
            return Arrow(array.take(pa.array(index)))
        case Objects(values):
            return Objects(values[index])
        case Arrays(items, shapes, valid):
            if shapes.ndim == 1:
                return vec
            counts = vec.counts[index]
            inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            elements = np.repeat(vec.offsets[index], counts) + inside
            return Arrays(
                pick(items, elements), shapes[index], None if valid is None else valid[index]
            )
        case _:
            assert_never(vec)


def pick_where(vec: Vec, index: NDArray[np.int64], there: Mask) -> Vec:
    """The rows `index` of `vec` where `there`, and NULL elsewhere, whatever the index is.

    Not for a constant.
    """
    if there.all():
        return pick(vec, index)
    match vec:
        case Numbers(values, valid):
            found = np.zeros(len(index), values.dtype)
            found[there] = values[index[there]]
            known = there.copy()
            if valid is not None:
                known[there] = valid[index[there]]
            return Numbers(found, known)
        case Arrow(array):
            return Arrow(array.take(pa.array(index, mask=~there)))
        case Objects(values):
            members = np.full(len(index), None, np.object_)
            members[there] = values[index[there]]
            return Objects(members)
        case Arrays():
            some = pick(vec, index[there])
            assert isinstance(some, Arrays) and vec.shapes.ndim == 2
            shapes = np.zeros((len(index), vec.rank), np.int64)
            shapes[there] = some.shapes
            known = there.copy()
            if some.valid is not None:
                known[there] = some.valid
            return Arrays(some.items, shapes, known)
        case _:
            assert_never(vec)


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


class Flaw(NamedTuple):
    """Rows of a column that contradict its type: bool (n,), and the error they are if needed.

    `reasons` says more of single rows.
    """

    rows: Mask
    code: str
    what: str
    help: str
    reasons: Mapping[int, str] = MappingProxyType({})


def from_arrow(column: Any, dtype: DType) -> Vec:
    """An Arrow array or chunked array as a `Vec` of the column type `dtype`.

    Rows that have flaws are NULL here; `read` tells which they are.
    """
    return read(column, dtype)[0]


def read(column: Any, dtype: DType) -> tuple[Vec, tuple[Flaw, ...]]:
    """`from_arrow`, and the rows that contradict the type: lists that should make one array and
    differ in length, text that is not JSON.
    """
    array = one_array(column)
    match dtype:
        case Bool() | Int() | Float() | Label() | Time():
            return _numbers(array, dtype), ()
        case List():
            arrays, wrong, problems = _arrays(array, dtype)
            flaws = [_irregular(wrong)] if wrong.any() else []
            return arrays, (*flaws, *_not_json(problems, len(array)))
        case Json():
            values, problems = json_text.parsed(array)
            return Objects(values), tuple(_not_json(problems, len(array)))
        case Text() | Binary() | Opaque():
            return Arrow(array), ()
        case _:
            assert_never(dtype)


def _irregular(rows: Mask) -> Flaw:
    return Flaw(rows, "shape", "the lists of {} differ in length",
                "exclude such rows with WHERE, before this expression")  # fmt: skip


def _not_json(problems: Mapping[int, str], n: int) -> Iterator[Flaw]:
    if problems:
        rows = np.zeros(n, np.bool_)
        rows[list(problems)] = True
        yield Flaw(rows, "value", "the text of {} is not JSON",
                   "write it again with a JSON writer, or exclude such rows with WHERE", problems)  # fmt: skip


def _arrays(array: Any, dtype: List) -> tuple[Arrays, Mask, Mapping[int, str]]:
    """The arrays; the rows whose lists differ in length; and the rows with text that is not JSON."""
    n = len(array)
    rows = np.arange(n)  # of each list at the level looked at
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False) if array.null_count else None
    wrong = np.zeros(n, np.bool_)
    element, rank = array_of(dtype)
    shapes = np.zeros((n, rank), np.int64)
    level: DType = dtype
    items: Vec
    problems: Mapping[int, str] = {}
    lengths = np.zeros(n, np.int64)
    for axis in range(rank):
        assert isinstance(level, List)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
        size = level.size
        filled = None
        if axis and array.null_count:
            missing = pc.is_null(array).to_numpy(zero_copy_only=False)
            if size is None:
                wrong |= np.bincount(rows[missing], minlength=n) > 0
            else:  # as many elements as any other, all NULL
                lengths = np.full(len(array), size)
                absent = np.repeat(missing, size)
                filled = pa.array(np.cumsum(~absent) - 1, mask=absent)
        if size is not None:
            shapes[:, axis] = size
        shapes[rows, axis] = lengths
        wrong |= np.bincount(rows[lengths != shapes[rows, axis]], minlength=n) > 0
        if axis < rank - 1:
            rows = np.repeat(rows, lengths)
        array, level = pc.list_flatten(array), level.item
        if filled is not None:
            array = array.take(filled)
    if isinstance(element, List):
        items, within, problems = _arrays(array, element)
        wrong |= np.bincount(np.repeat(rows, lengths)[within], minlength=n) > 0
    elif isinstance(element, Json):
        values, problems = json_text.parsed(array)
        items = Objects(values)
    else:
        items = from_arrow(array, element)
    gone = wrong if valid is None else wrong | ~valid
    if gone.any():
        shapes[gone] = 0
        if wrong.any():
            # Not for every column: the rows of its elements may be larger than all it holds.
            items, valid = pick(items, np.flatnonzero(~wrong[np.repeat(rows, lengths)])), ~gone
    inside = {}
    if problems:
        of = np.repeat(rows, lengths)
        inside = {int(of[at]): why for at, why in problems.items()}
    return Arrays(items, shapes, valid), wrong, inside


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
            full = np.ascontiguousarray(np.broadcast_to(values, (rows,)))
            missing = None if valid is None else ~np.broadcast_to(valid, (rows,))
            made = pa.array(full.astype(numpy_dtype(dtype), copy=False), mask=missing)
            return _times(made, dtype) if isinstance(dtype, Time) else made
        case Arrays():
            assert isinstance(dtype, List)
            return _lists(vec, dtype, rows)
        case Objects(values):
            texts = [None if v is None else json_text.written(v) for v in values]
            return pa.array(texts, pa.string())
        case _:
            assert_never(vec)


def _times(counts: Any, dtype: Time) -> Any:
    """int64 counts as the Arrow type of the times they are."""
    if dtype.date:
        return (
            counts.cast(pa.int32()).view(pa.date32())
            if dtype.unit == "D"
            else counts.view(pa.date64())
        )
    return counts.view(pa.timestamp(dtype.unit, dtype.zone))


def _lists(vec: Arrays, dtype: List, rows: int) -> Any:
    """The arrays as nested lists: large_list, or fixed_size_list where `dtype` has a size."""
    if vec.shapes.ndim == 1:
        vec = repeated(vec, rows)
    element, rank = array_of(dtype)
    sizes = sizes_of(dtype)
    array = to_arrow(vec.items, element, int(vec.counts.sum()))
    for axis in range(rank - 1, -1, -1):
        lengths = np.repeat(vec.shapes[:, axis], vec.shapes[:, :axis].prod(axis=1))
        missing = None if axis or vec.valid is None else ~vec.valid
        array = _nested(array, lengths, sizes[axis], missing)
    return array


def _nested(items: Any, lengths: NDArray[np.int64], size: int | None, missing: Mask | None) -> Any:
    """Lists of these lengths, which are `size` where that is given but 0 where a list is missing."""
    if size is None:
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
        mask = None if missing is None else pa.array(missing)
        return pa.LargeListArray.from_arrays(offsets, items, mask=mask)
    if not size:
        return _empty_lists(items, lengths, missing)
    if missing is None:
        return pa.FixedSizeListArray.from_arrays(items, size)
    # A missing list of fixed size has elements all the same; they are NULL here.
    absent = np.repeat(missing, size)
    filled = items.take(pa.array(np.cumsum(~absent) - 1, mask=absent))
    return pa.FixedSizeListArray.from_arrays(filled, size, mask=pa.array(missing))


def _empty_lists(items: Any, lengths: NDArray[np.int64], missing: Mask | None) -> Any:
    """Lists of size 0, whose number no element shows."""
    kind = pa.list_(items.type, 0)
    valid = None if missing is None else pa.array(~missing).buffers()[1]
    nulls = 0 if missing is None else int(missing.sum())
    return pa.Array.from_buffers(kind, len(lengths), [valid], nulls, children=[items])


def repeated(vec: Arrays, rows: int) -> Arrays:
    """A constant array, once for every row."""
    assert vec.shapes.ndim == 1
    count = int(vec.counts)
    index = np.tile(np.arange(count), rows)
    return Arrays(pick(vec.items, index), np.tile(vec.shapes, (rows, 1)))
