"""Arrow columns to batch values; images are left as tasks, so that several threads can share them.

Rows come unique and ascending, as they were fetched; `inverse` says which of them each slot of the
batch shows, so that a row drawn five times is fetched and decoded once.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tql.diagnostics import TqlError, data_error
from tql.loader import images
from tql.loader.batch import Values
from tql.loader.images import BrokenImage, Encoded, Header
from tql.loader.memory import Memory
from tql.loader.options import Method
from tql.loader.rows import Rows
from tql.schema import Binary, Bool, Column, Float, Int, Json, Label, List, Opaque, Text, Time

Ids: TypeAlias = npt.NDArray[np.int64]
Task: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One column of the batches; `image` says that its values are encoded images."""

    column: Column
    method: Method
    image: bool


@dataclass(frozen=True, slots=True)
class Decoder:
    """How to decode rows of a source; `kind` names the source in messages."""

    kind: str
    wanted: tuple[Wanted, ...]
    max_pixels: int = images.MAX_PIXELS

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(w.column.name for w in self.wanted)


@dataclass(frozen=True, slots=True)
class Decoding:
    """A batch by column, complete once every task has run, in any order and thread."""

    values: dict[str, Values]
    tasks: list[Task]
    nbytes: int


def start(decoder: Decoder, table: pa.Table, rows: Ids, inverse: Ids, memory: Memory) -> Decoding:
    """Decode everything but images; `table` has the unique `rows`, `inverse` one entry per slot."""
    values: dict[str, Values] = {}
    tasks: list[Task] = []
    for wanted in decoder.wanted:
        name, array = wanted.column.name, table[wanted.column.name]
        if wanted.image and wanted.method != "tobytes":
            job = _ImageColumn(decoder, wanted, rows, inverse, _encoded(array))
            values[name], more = job.start(memory)
            tasks += more
        else:
            values[name] = _spread(_plain(wanted, array, rows), inverse, memory)
    return Decoding(values, tasks, table.nbytes + sum(map(_nbytes, values.values())))


def resolve(
    rows: Rows, columns: Sequence[Column], methods: Mapping[str, Method], first: Callable[[], Ids]
) -> Decoder:
    """The decoder for these columns.

    A binary column that is not marked as images counts as images when the first value that is
    not null among the rows `first()` starts as an image file does; they are read only for this.
    """
    unsure = [c.name for c in columns if c.dtype == Binary(image=False) and c.name not in methods]
    images_found: set[str] = set()
    if unsure:
        table = rows.take(first(), unsure)
        images_found = {name for name in unsure if _starts_as_image(table[name])}
    wanted = []
    for column in columns:
        method = methods.get(column.name, "numpy")
        image = column.dtype == Binary(image=True) or column.name in images_found
        wanted.append(Wanted(column, method, image or method == "pil"))
    return Decoder(rows.kind, tuple(wanted))


def _starts_as_image(column: pa.ChunkedArray) -> bool:
    first = next((data for data in _encoded(column) if data is not None), b"")
    return images.is_image(first)


@dataclass(frozen=True, slots=True)
class _ImageColumn:
    decoder: Decoder
    wanted: Wanted
    rows: Ids
    inverse: Ids
    encoded: list[Encoded | None]

    def start(self, memory: Memory) -> tuple[Values, list[Task]]:
        """Room for the column, and one task for each image that is not null."""
        slots = _slots_of(self.inverse, len(self.rows))
        listed: list[Any] = [None] * len(self.inverse)
        if self.wanted.method == "pil":
            return listed, [
                partial(self._decode_pil, k, data, slots[k], listed)
                for k, data in enumerate(self.encoded)
                if data is not None
            ]
        headers = [self._header(k, data) for k, data in enumerate(self.encoded)]
        shapes = {None if h is None else h.shape for h in headers}
        shape = shapes.pop() if len(shapes) == 1 else None
        values: Values = listed
        if shape is not None:
            values = memory.array((len(self.inverse), *shape), np.uint8)
        else:
            for header, where in zip(headers, slots, strict=True):
                for slot in where if header is not None else ():
                    assert header is not None
                    listed[slot] = np.empty(header.shape, np.uint8)
        return values, [
            partial(self._decode, k, data, header, slots[k], values)
            for k, (data, header) in enumerate(zip(self.encoded, headers, strict=True))
            if data is not None and header is not None
        ]

    def _header(self, k: int, data: Encoded | None) -> Header | None:
        if data is None:
            return None
        try:
            return images.read_header(data, self.decoder.max_pixels)
        except BrokenImage as cause:
            raise self._corrupt(k, cause) from cause

    def _decode(
        self, k: int, data: Encoded, header: Header, slots: Sequence[int], values: Values
    ) -> None:
        first, *others = slots
        try:
            images.decode_into(data, header, values[first])
        except BrokenImage as cause:
            raise self._corrupt(k, cause) from cause
        for slot in others:
            values[slot][...] = values[first]

    def _decode_pil(self, k: int, data: Encoded, slots: Sequence[int], values: list[Any]) -> None:
        first, *others = slots
        try:
            values[first] = images.to_pil(data, self.decoder.max_pixels)
        except BrokenImage as cause:
            raise self._corrupt(k, cause) from cause
        for slot in others:
            values[slot] = values[first].copy()

    def _corrupt(self, k: int, cause: BrokenImage) -> TqlError:
        return data_error(
            "corrupt",
            f"row {self.rows[k]}, column '{self.wanted.column.name}' ({self.decoder.kind}): "
            f"not a readable image: {cause}",
            help=f"decode_method={{'{self.wanted.column.name}': 'tobytes'}} gives the stored bytes",
        )


def _slots_of(inverse: Ids, unique: int) -> list[list[int]]:
    slots: list[list[int]] = [[] for _ in range(unique)]
    for slot, k in enumerate(inverse.tolist()):
        slots[k].append(slot)
    return slots


def _plain(wanted: Wanted, column: pa.ChunkedArray, rows: Ids) -> Values:
    """The values of a column that is no image to decode; may share Arrow's memory."""
    match wanted.column.dtype:
        case Text():
            return _text(column, wanted.method)
        case Label():
            return _with_nulls(_codes(column), _numbers_as_int64)
        case Bool() | Int() | Float() | Time():
            return _with_nulls(_joined(column), _numbers)
        case List():
            return _with_nulls(_joined(column), _lists)
        case Json():
            return _json(column, wanted.column.name, rows)
        case Binary():
            return [None if data is None else bytes(data) for data in _encoded(column)]
        case Opaque():
            listed: list[Any] = column.to_pylist()
            return listed
        case _ as never:
            assert_never(never)


def _spread(values: Values, inverse: Ids, memory: Memory) -> Values:
    """One value a slot, in memory that the batch owns."""
    if isinstance(values, np.ndarray):
        out = memory.array((len(inverse), *values.shape[1:]), values.dtype)
        np.take(values, inverse, axis=0, out=out, mode="clip")  # "raise" would copy `out`
        return out
    seen: set[int] = set()
    spread: list[Any] = []
    for k in inverse.tolist():
        value = values[k]
        if isinstance(value, np.ndarray):
            spread.append(value.copy())
        else:
            spread.append(copy.deepcopy(value) if k in seen else value)
        seen.add(k)
    return spread


def _joined(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what older pyarrow gives where there is no chunk
        array = pa.concat_arrays(array.chunks)
    return array


def _codes(column: pa.ChunkedArray) -> pa.Array:
    """The integers of a class label; in a dictionary array they are the codes."""
    if pa.types.is_dictionary(column.type):
        return pa.concat_arrays([chunk.indices for chunk in column.chunks])
    return _joined(column)


def _text(column: pa.ChunkedArray, method: Method) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if method == "tobytes":
        column = column.cast(pa.large_binary())
    listed: list[Any] = column.to_pylist()
    return listed


def _json(column: pa.ChunkedArray, name: str, rows: Ids) -> list[Any]:
    listed = _storage(column).to_pylist()
    parsed: list[Any] = []
    for row, value in zip(rows, listed, strict=True):
        if not isinstance(value, str | bytes):
            parsed.append(value)
            continue
        try:
            parsed.append(json.loads(value))
        except ValueError as cause:
            raise data_error(
                "value", f"row {row}, column '{name}': not a JSON value: {cause}"
            ) from cause
    return parsed


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([c.storage for c in column.chunks], column.type.storage_type)
    return column


def _encoded(column: pa.ChunkedArray) -> list[Encoded | None]:
    """Views of the bytes in Arrow's memory."""
    column = _storage(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return [_view(value) if value.is_valid else None for chunk in column.chunks for value in chunk]


def _view(value: pa.Scalar) -> Encoded:
    buffer = value.as_buffer()
    return memoryview(buffer).cast("B") if buffer.size else b""


def _with_nulls(array: pa.Array, convert: Callable[[pa.Array], Values]) -> Values:
    if not array.null_count:
        return convert(array)
    dense = iter(convert(array.drop_null()))
    return [next(dense) if valid else None for valid in array.is_valid().to_pylist()]


def _numbers(array: pa.Array) -> npt.NDArray[Any]:
    """Numbers, booleans and times without nulls, as the NumPy type of the same width."""
    numbers: npt.NDArray[Any]
    if pa.types.is_timestamp(array.type):  # a zone is dropped: the values count from 1970 in UTC
        unit = f"datetime64[{array.type.unit}]"
        numbers = array.view(pa.int64()).to_numpy().view(unit)
    else:
        numbers = array.to_numpy(zero_copy_only=False)
    return numbers


def _numbers_as_int64(array: pa.Array) -> npt.NDArray[np.int64]:
    return _numbers(array).astype(np.int64)


def _lists(array: pa.Array) -> Values:
    """One array where all rows have one shape, otherwise one value a row."""
    if isinstance(array, pa.FixedShapeTensorArray):
        tensors: npt.NDArray[Any] = array.to_numpy_ndarray()
        return tensors
    tensor = _tensor(array)
    if tensor is not None:
        return tensor
    rows = (array.slice(i, 1).flatten() for i in range(len(array)))
    tensors_or_none = ((row, _tensor(row)) for row in rows)
    return [row.to_pylist() if values is None else values for row, values in tensors_or_none]


def _tensor(array: pa.Array) -> npt.NDArray[Any] | None:
    """The array with one axis for each level of lists; None if ragged, not numeric or with nulls."""
    kind = array.type
    if array.null_count:
        return None
    if pa.types.is_fixed_size_list(kind):
        length = int(kind.list_size)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = array.value_lengths().unique().to_pylist()
        if len(lengths) > 1:
            return None
        length = int(lengths[0]) if lengths else 0
    elif pa.types.is_primitive(kind):
        return _numbers(array)
    else:
        return None
    inner = _tensor(array.flatten())
    if inner is None:
        return None
    return inner.reshape(len(array), length, *inner.shape[1:])


def _nbytes(values: Values) -> int:
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(v.nbytes if isinstance(v, np.ndarray) else 64 for v in values)
