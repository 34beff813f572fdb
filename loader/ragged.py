"""Values of several shapes as one array, filled up with zeros behind each axis.

A padded column comes with a second one, which tells what was there from what was filled in:

    "pad"   <name>_shape, int64 (batch, axes): the shape that each row had
    "mask"  <name>_mask, bool, of the shape of the array: true where a value was

A row may be ragged within itself, as lists of lists are: then its shape is the largest at each level, and
only the mask says where each of its lists ended. Padding comes last, behind transforms and before
`collate_fn`: so what a transform sees of a sample does not depend on the others of its batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from tql.diagnostics import TqlError, data_error, error
from tql.loader.batch import Batch, Columns, Values, as_columns
from tql.loader.failures import Report
from tql.loader.memory import Room
from tql.schema import Binary, Bool, Column, DType, Float, Int, Label, List

Ragged: TypeAlias = Literal["list", "pad", "mask"]
Shape: TypeAlias = tuple[int, ...]

RAGGED: Final[tuple[str, ...]] = get_args(Ragged)
_KINDS: Final = "biufc"
_COMPANION: Final = {"pad": "shape", "mask": "mask"}


@dataclass(frozen=True, slots=True)
class Padding:
    """How one column is padded.

    dtype  of the numbers, where the source says it; None for what a transform made
    image  its last axis, the channels, is never padded
    """

    name: str
    how: Ragged
    dtype: np.dtype[Any] | None = None
    image: bool = False

    @property
    def companion(self) -> str:
        """The name of the column that tells values from padding."""
        return f"{self.name}_{_COMPANION[self.how]}"

    def tell(
        self,
        array: npt.NDArray[Any],
        shapes: Sequence[Shape],
        memory: Room,
        values: Sequence[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """The companion of a padded array. `values` are needed of rows that are ragged in themselves."""
        if self.how == "pad":
            told = memory.array((len(array), array.ndim - 1), np.int64)
            told[...] = shapes
            return told
        mask = memory.array(array.shape, np.bool_)
        mask[...] = False
        for i, room in enumerate(mask):
            if values is None:
                room[tuple(slice(n) for n in shapes[i])] = True
            else:
                _fill(room, values[i], mark=True)
        return mask


def paddings(ragged: Mapping[str, Ragged], as_stored: Sequence[Column]) -> tuple[Padding, ...]:
    """What is to be padded; `as_stored` are the columns that no transform touches."""
    types = {column.name: column.dtype for column in as_stored}
    return tuple(
        Padding(name, how, _numpy_type(types.get(name)), isinstance(types.get(name), Binary))
        for name, how in ragged.items()
        if how != "list"
    )


def can_be_padded(dtype: DType) -> bool:
    """Whether a type is images (or bytes that may be), or lists of numbers at any depth."""
    return isinstance(dtype, Binary) or (isinstance(dtype, List) and _numpy_type(dtype) is not None)


def _numpy_type(dtype: DType | None) -> np.dtype[Any] | None:
    while isinstance(dtype, List):
        dtype = dtype.item
    match dtype:
        case Int(bits, signed):
            return np.dtype(f"{'int' if signed else 'uint'}{bits}")
        case Float(bits):
            return np.dtype(f"float{bits}")
        case Bool():
            return np.dtype(np.bool_)
        case Label():
            return np.dtype(np.int64)
        case _:
            return None


def padded(batch: Batch, columns: Sequence[Padding], memory: Room, report: Report) -> Columns:
    """The batch with these columns padded. A row that cannot be is reported by its place."""
    values = dict(as_columns(batch))
    for padding in columns:
        if padding.name not in values:
            raise error("unknown_column", f"ragged= names '{padding.name}', which batches do not have",
                        help=f"they have {', '.join(map(str, values))}")  # fmt: skip
        if padding.companion in values and padding.image:
            continue  # it was decoded into its place
        if padding.companion in values:
            raise clash(padding)
        array, more = _Column(padding, batch.rows, memory, report).padded(values[padding.name])
        values[padding.name], values[padding.companion] = array, more
    return Columns(batch.rows, values)


def clash(padding: Padding) -> TqlError:
    """The error where a column has the name that padding needs."""
    return error(
        "duplicate_column",
        f"there is a column named '{padding.companion}', and ragged={{'{padding.name}': "
        f"'{padding.how}'}} makes one of that name",
        help="choose the columns to load with tensors=, or leave the column as a list",
    )


class _Unfit(ValueError):
    """Why a value cannot be padded, and what to do about it where that is not what it always is."""

    def __init__(self, why: str, way_out: str = "") -> None:
        super().__init__(why)
        self.way_out: Final = way_out


@dataclass(frozen=True, slots=True)
class _Column:
    padding: Padding
    rows: npt.NDArray[np.int64]
    memory: Room
    report: Report

    def padded(self, values: Values) -> tuple[Values, Values]:
        """The array, and its shapes or its mask. What is returned after a report is of no use."""
        if isinstance(values, np.ndarray) and values.ndim > 1:
            shapes_alike = [values.shape[1:]] * len(values)
            return values, self.padding.tell(values, shapes_alike, self.memory)
        plain = [_plain(v) for v in values]
        kind = self.padding.dtype or _common_type(plain)
        shapes = self._shapes(plain, kind)
        if shapes is None:
            return values, values
        extent = tuple(np.array(shapes).max(axis=0).tolist())
        array = self.memory.array((len(plain), *extent), kind)
        array[...] = 0
        for room, value in zip(array, plain, strict=True):
            _fill(room, value)
        return array, self.padding.tell(array, shapes, self.memory, plain)

    def _shapes(self, values: Sequence[Any], kind: np.dtype[Any]) -> list[Shape] | None:
        """The shapes, all of one rank; None where a value was reported."""
        unfit: dict[int, _Unfit] = {}
        shapes: list[Shape] = []
        for i, value in enumerate(values):
            try:
                shapes.append(_checked(value, kind))
            except _Unfit as cause:
                unfit[i] = cause
                shapes.append(())
        rank = max(map(len, shapes))
        for i, shape in enumerate(shapes):
            if i in unfit:
                continue
            if shape == (0,) and isinstance(values[i], list | tuple):
                shape = shapes[i] = (0,) * rank  # an empty list may be of lists
            if len(shape) != rank:
                unfit[i] = _Unfit(f"has {len(shape)} axes, and others of its batch {rank}")
            elif self.padding.image and shape[-1] != (first := next(filter(None, shapes))[-1]):
                unfit[i] = _Unfit(
                    f"is an image of {shape[-1]} channels, and others of its batch have {first}",
                    f"channels={{'{self.padding.name}': 3}} makes all images RGB",
                )
        for i, why in unfit.items():
            self._report(i, why)
        return None if unfit else shapes

    def _report(self, i: int, cause: _Unfit) -> None:
        name = self.padding.name
        e = data_error(
            "shape",
            f"row {self.rows[i]}, column '{name}' {cause}, and cannot be padded",
            help=cause.way_out
            or f"ragged={{'{name}': 'list'}} gives values as they are; on_error='skip' or 'replace' "
            "goes on without such rows",
        )
        self.report(i, e)


def _checked(value: Any, kind: np.dtype[Any]) -> Shape:
    """The shape of a value that is numbers of this type."""
    if value is None:
        raise _Unfit("is null")
    shape = _shape_of(value)
    if not shape:
        raise _Unfit("is one number")
    if kind.kind not in _KINDS:
        raise _Unfit(f"holds {kind} values")
    if isinstance(value, np.ndarray) and value.dtype != kind:
        raise _Unfit(f"is {value.dtype}, and others of its batch {kind}")
    return shape


def _plain(value: Any) -> Any:
    """Arrays of other libraries as NumPy arrays."""
    foreign = hasattr(value, "__array__") and not isinstance(value, np.ndarray | np.generic)
    return np.asarray(value) if foreign else value


def _common_type(values: Sequence[Any]) -> np.dtype[Any]:
    """The type of the first array; without one, what holds the numbers of all lists."""
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    numbers = arrays[0] if arrays else np.asarray([n for v in values for n in _numbers_in(v)])
    kind: np.dtype[Any] = numbers.dtype
    return kind


def _numbers_in(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers_in(item)
    elif isinstance(value, np.ndarray):
        yield from value.ravel()[:1]
    elif value is not None:
        yield value


def _shape_of(value: Any) -> Shape:
    """The shape of an array, or the largest lengths of lists at each level."""
    if isinstance(value, np.ndarray):
        return tuple(value.shape)
    if isinstance(value, list | tuple):
        inner = [_shape_of(item) for item in value]
        rank = max(map(len, inner), default=0)
        # An empty list has no inner lengths of its own.
        whole = [s + (0,) * (rank - len(s)) if s and not s[-1] else s for s in inner]
        if any(len(s) != rank for s in whole):
            raise _Unfit("has lists beside numbers")
        return (len(value), *(max(lengths) for lengths in zip(*whole, strict=True)))
    if isinstance(value, bool | int | float | complex | np.bool_ | np.number):
        return ()
    raise _Unfit("holds null" if value is None else f"holds {type(value).__name__}")


def _fill(room: npt.NDArray[Any], value: Any, mark: bool = False) -> None:
    """Put the numbers of a value in the first places of each axis; or True there."""
    if isinstance(value, np.ndarray):
        room[tuple(slice(n) for n in value.shape)] = mark or value
    elif room.ndim == 1:
        room[: len(value)] = mark or value
    else:
        for inner, item in zip(room, value, strict=False):
            _fill(inner, item, mark)
