"""Rows to batch values; images are left as tasks, so that several threads can share them.

Rows are read once each, in ascending order; `inverse` says which of them each slot of the batch
shows, so that a row drawn five times is fetched and decoded once.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tql import images
from tql.diagnostics import data_error
from tql.images import AS_STORED, BrokenImage, Encoded, Header, Pixels
from tql.loader.arrow_values import encoded_values, values_of
from tql.loader.batch import INDEX, Columns, Values
from tql.loader.failures import Report, raise_it
from tql.loader.memory import Room
from tql.loader.options import Method, Options, as_stored
from tql.loader.ragged import Padding, paddings
from tql.loader.rows import Rows
from tql.schema import Binary, Column
from tql.sources.protocol import Run, UnreadableRow, in_turn

Ids: TypeAlias = npt.NDArray[np.int64]
Task: TypeAlias = Callable[[], None]
Take: TypeAlias = Callable[[Ids, Sequence[str], Run], pa.Table]

_FIRST_LOOK: Final = 16
_LARGEST_LOOK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """One column of the batches; `image` says that its values are encoded images."""

    column: Column
    method: Method
    image: bool
    pixels: Pixels = AS_STORED
    padding: Padding | None = None


@dataclass(frozen=True, slots=True)
class Decoder:
    """How to decode rows; `origin` says where a row is stored, in messages."""

    origin: Callable[[int], str]
    wanted: tuple[Wanted, ...]
    return_index: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(w.column.name for w in self.wanted)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was read for a batch: `table`, `ids` and `known`, the rows as users number them, have
    each row once; `inverse` has one entry a slot of the batch, the place of its row in them.
    """

    table: pa.Table
    ids: Ids
    known: Ids
    inverse: Ids

    @property
    def nbytes(self) -> int:
        """Of the table. Arrow's own count takes 6 µs a chunk, and there are as many as fragments."""
        return sum(map(_stored_nbytes, self.table.columns))


@dataclass(frozen=True, slots=True)
class Decoding:
    """A batch by column, complete once every task has run, in any order and thread."""

    batch: Columns
    tasks: list[Task]
    nbytes: int


def resolve(rows: Rows, columns: Sequence[Column], options: Options) -> Decoder:
    """The decoder for these columns.

    A binary column that is not marked as images counts as images when its first value that is not
    null, in the order of the source, starts as an image file does that can be decoded: whatever the
    plan, the rank or the place where a job resumes. Only such columns are read for this.
    """
    padded = {p.name: p for p in paddings(options.ragged, as_stored(options, columns)) if p.image}
    methods: dict[str, Method] = {c.name: options.decode.get(c.name, "numpy") for c in columns}
    unsure = [c.name for c in columns if c.dtype == Binary() and methods[c.name] == "numpy"]
    found = {name for name, data in _first_values(rows, unsure).items() if images.is_image(data)}
    wanted = []
    for column in columns:
        method = methods[column.name]
        image = column.dtype == Binary(image=True) or column.name in found
        image = image or method == "pil"
        pixels, padding = options.pixels(column.name), padded.get(column.name)
        wanted.append(Wanted(column, method, image, pixels, padding))
    return Decoder(rows.origin, tuple(wanted), options.return_index)


def fetch(
    rows: Rows, decoder: Decoder, ids: Ids, run: Run = in_turn, take: Take | None = None
) -> Fetched:
    """Read these rows, int64 (n,), in any order and with repeats; by `take`, or else `rows.take`."""
    unique, inverse = np.unique(ids, return_inverse=True)
    table = (take or rows.take)(unique, decoder.names, run)
    assert table.num_rows == len(unique), "rows were lost on the way"
    return Fetched(table, unique, rows.identify(unique), inverse)


def start(decoder: Decoder, fetched: Fetched, memory: Room, report: Report = raise_it) -> Decoding:
    """Decode everything but images. Rows that cannot be decoded, now or by a task, are reported by
    their place in `fetched.ids`.
    """
    known, inverse = fetched.known, fetched.inverse
    values: dict[str, Values] = {}
    tasks: list[Task] = []
    for wanted in decoder.wanted:
        name, array = wanted.column.name, fetched.table[wanted.column.name]
        if wanted.image and wanted.method != "tobytes":
            job = _ImageColumn(decoder, wanted, fetched, encoded_values(array), report)
            made, more = job.start(memory)
            values.update(made)
            tasks += more
        else:
            plain = values_of(wanted.column, wanted.method, array, known, report)
            values[name] = _spread(plain, inverse, memory)
    nbytes = fetched.nbytes + sum(map(_nbytes, values.values()))
    slots = memory.array(inverse.shape, np.int64)
    np.take(known, inverse, out=slots, mode="clip")
    if decoder.return_index:
        values[INDEX] = slots
    return Decoding(Columns(slots, values), tasks, nbytes)


def _first_values(rows: Rows, names: Sequence[str]) -> dict[str, Encoded]:
    """The first value of each column that is not null; none for a column that has only nulls."""
    found: dict[str, Encoded] = {}
    first, look = 0, _FIRST_LOOK
    while missing := [name for name in names if name not in found]:
        ids = rows.in_order(first, first + look)
        if not len(ids):
            break
        for table in _readable(rows, ids, missing):
            for name in missing:
                values = (v for v in encoded_values(table[name]) if v is not None)
                found.update(
                    (name, v) for v in [next(values, None)] if v is not None and name not in found
                )
        first, look = first + look, min(4 * look, _LARGEST_LOOK)
    return found


def _readable(rows: Rows, ids: Ids, names: Sequence[str]) -> Iterator[pa.Table]:
    """These rows, without those that cannot be read: whoever asks for them will be told."""
    try:
        yield rows.take(ids, names)
        return
    except UnreadableRow:
        if len(ids) == 1:
            return
    for half in np.array_split(ids, 2):
        yield from _readable(rows, half, names)


@dataclass(frozen=True, slots=True)
class _ImageColumn:
    decoder: Decoder
    wanted: Wanted
    fetched: Fetched
    encoded: list[Encoded | None]
    report: Report

    def start(self, memory: Room) -> tuple[dict[str, Values], list[Task]]:
        """Room for the column, with what comes beside it, and a task for each image not null."""
        name = self.wanted.column.name
        inverse = self.fetched.inverse
        slots = _slots_of(inverse, len(self.fetched.ids))
        listed: list[Any] = [None] * len(inverse)
        if self.wanted.method == "pil":
            return {name: listed}, [
                partial(self._decode_pil, k, data, slots[k], listed)
                for k, data in enumerate(self.encoded)
                if data is not None
            ]
        headers = [self._header(k, data) for k, data in enumerate(self.encoded)]
        shapes = [None if h is None else h.shape for h in headers]
        extent, padding = _extent(shapes), self.wanted.padding
        values: Values = listed
        made: dict[str, Values] = {name: listed}
        if extent is not None and padding is not None:
            # At once in its place: `padded` would copy every image.
            values = made[name] = memory.array((len(inverse), *extent), np.uint8)
            of_slots = [shapes[k] for k in inverse.tolist()]
            made[padding.companion] = padding.tell(values, of_slots, memory)
        elif extent is not None and len(set(shapes)) == 1:
            values = made[name] = memory.array((len(inverse), *extent), np.uint8)
        else:
            for header, where in zip(headers, slots, strict=True):
                for slot in where if header is not None else ():
                    assert header is not None
                    listed[slot] = np.empty(header.shape, np.uint8)
        return made, [
            partial(self._decode, k, data, header, slots[k], values)
            for k, (data, header) in enumerate(zip(self.encoded, headers, strict=True))
            if data is not None and header is not None
        ]

    def _header(self, k: int, data: Encoded | None) -> Header | None:
        if data is None:
            return None
        try:
            return images.read_header(data, self.wanted.pixels)
        except BrokenImage as cause:
            self._corrupt(k, cause)
            return None

    def _decode(
        self, k: int, data: Encoded, header: Header, slots: Sequence[int], values: Values
    ) -> None:
        first, *others = slots
        height, width, _ = header.shape
        room = values[first]
        room[height:] = 0  # padding, where there is any
        room[:height, width:] = 0
        try:
            images.decode_into(data, header, room[:height, :width])
        except BrokenImage as cause:
            self._corrupt(k, cause)
        for slot in others:
            values[slot][...] = values[first]

    def _decode_pil(self, k: int, data: Encoded, slots: Sequence[int], values: list[Any]) -> None:
        first, *others = slots
        try:
            values[first] = images.to_pil(data, self.wanted.pixels)
        except BrokenImage as cause:
            self._corrupt(k, cause)
            return
        for slot in others:
            values[slot] = values[first].copy()

    def _corrupt(self, k: int, cause: BrokenImage) -> None:
        origin, name = self.decoder.origin(int(self.fetched.ids[k])), self.wanted.column.name
        found = data_error(
            "corrupt",
            f"row {self.fetched.known[k]}, column '{name}' ({origin}): "
            f"not a readable image: {cause}",
            help=f"decode_method={{'{name}': 'tobytes'}} gives the stored bytes; on_error='skip' or "
            "'replace' goes on without such rows",
        )
        found.__cause__ = cause
        self.report(k, found)


def _extent(shapes: Sequence[tuple[int, int, int] | None]) -> tuple[int, int, int] | None:
    """Height and width that hold all of these images; None where one is null or they differ in channels."""
    there = [s for s in shapes if s is not None]
    if not there or len(there) < len(shapes) or len({s[2] for s in there}) > 1:
        return None
    return max(s[0] for s in there), max(s[1] for s in there), there[0][2]


def _slots_of(inverse: Ids, unique: int) -> list[list[int]]:
    slots: list[list[int]] = [[] for _ in range(unique)]
    for slot, k in enumerate(inverse.tolist()):
        slots[k].append(slot)
    return slots


def _spread(values: Values, inverse: Ids, memory: Room) -> Values:
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


def _stored_nbytes(column: pa.ChunkedArray) -> int:
    try:
        return len(column) * int(column.type.bit_width) // 8
    except ValueError:  # as long as each value is
        return int(column.nbytes)


def _nbytes(values: Values) -> int:
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(v.nbytes if isinstance(v, np.ndarray) else 64 for v in values)
