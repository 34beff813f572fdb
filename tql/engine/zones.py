"""Zone maps: the least and greatest value in every 65,536 rows of a column in memory.

They are made when the same column has been searched for a range or a value again and again, and only
where the values lie in some order, so that most zones can be left out. They live as long as the
source. A result never depends on them, as data must not change while it is open. Where it was changed
all the same, as one can with NumPy's arrays, a few values of each zone usually tell, and the map goes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Numbers, from_arrow
from tql.engine.pruning import Stretches, decided, outcomes
from tql.engine.remembered import remembered
from tql.language.expr import (
    And,
    Column,
    Compare,
    CompareOp,
    Const,
    Expr,
    InSet,
    Not,
    Or,
    can_raise,
    walk_inside,
)
from tql.schema import Bool, DType, Float, Int, Label, Text, Time
from tql.sources.bounds import ColumnBounds, side_by_side
from tql.sources.protocol import ColumnStats, Fragment, Source

ZONE_ROWS: Final = 1 << 16
_LEAST_ROWS: Final = 16 * ZONE_ROWS  # below, reading everything takes 0.1 ms

# Making the map reads the column once more, zone by zone, which costs two to three scans of it. So it
# is made after as many, and has then cost at most twice what the best choice would have.
_SCANS: Final = 3

_SAMPLE: Final = 64  # values of each zone that tell whether the zones part at all
_WATCHED: Final = ZONE_ROWS // 4  # rows from one value that is compared again to the next
_PARTED: Final = 0.25  # of the whole range of values: a zone's part, on average, where it pays


@dataclass(frozen=True, slots=True)
class _Watch:
    """Values of a column in memory as they stood: unsigned integers of their bits."""

    memory: NDArray[Any]
    places: NDArray[np.int64]
    seen: NDArray[Any]

    def holds(self) -> bool:
        """Whether they still stand there."""
        return bool((self.memory[self.places] == self.seen).all())


@dataclass(slots=True)
class ZoneMaps:
    """What is known of one source: None for a column that is no use. `searched` counts scans;
    `cuts`, bool (zones - 1,), says where the next zone is of another fragment.
    """

    zones: tuple[Fragment, ...]
    rows: NDArray[np.int64]
    cuts: NDArray[np.bool_]
    columns: dict[str, ColumnBounds | None] = field(default_factory=dict)
    searched: dict[str, int] = field(default_factory=dict)
    watched: dict[str, tuple[_Watch, ...]] = field(default_factory=dict)


_MAPS: WeakKeyDictionary[Source, ZoneMaps] = WeakKeyDictionary()


def zones_of(
    source: Source, conditions: Sequence[Expr]
) -> tuple[Sequence[Fragment], NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Pieces of the fragments, in order; for each condition and piece, bool (conditions, pieces),
    whether it is TRUE in every row, and in none. None where nothing is known.

    A piece has the index of its fragment, and its own start and rows. A condition that may raise is
    left alone, as whether it raises must not depend on what was asked before.
    """
    if source.rows < _LEAST_ROWS or not all(f.in_place for f in source.fragments):
        return None
    names = _columns(conditions)
    if not names:
        return None
    maps = _MAPS.get(source)
    if maps is None:
        maps = _MAPS[source] = _cut(source)
    known = [name for name, dtype in names.items() if _known(maps, source, name, dtype)]
    return _joined(maps, *_told(maps, conditions, known)) if known else None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a scan would know beforehand of each of `pieces`, the fragments of a source, or its zones:
    bool (conditions, pieces), as `zones_of` gives them.
    """

    pieces: Sequence[Fragment]
    always: NDArray[np.bool_]
    never: NDArray[np.bool_]
    zoned: bool = False

    @property
    def kept(self) -> Sequence[Fragment]:
        """The pieces in which one of the conditions at least may be TRUE."""
        return self._where(~np.all(self.never, axis=0))

    @property
    def read(self) -> Sequence[Fragment]:
        """The pieces that have to be read to tell."""
        return self._where(~np.all(self.always | self.never, axis=0))

    def _where(self, mask: NDArray[np.bool_]) -> Sequence[Fragment]:
        return [self.pieces[at] for at in np.flatnonzero(mask).tolist()]


def outlook(source: Source, conditions: Sequence[Expr]) -> Outlook:
    """What a scan for these conditions would know now; nothing is counted, and no map is made."""
    maps = _MAPS.get(source)
    if maps is not None:
        asked = (n for n in _columns(conditions) if maps.columns.get(n) is not None)
        known = [n for n in asked if _holds(maps, n)]
        if known:
            return Outlook(maps.zones, *_told(maps, conditions, known), zoned=True)
    return Outlook(source.fragments, *decided(source, conditions))


def _told(
    maps: ZoneMaps, conditions: Sequence[Expr], known: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What the maps of the `known` columns say, which hold now: no other is used, there may be older
    ones of columns that stand in the conditions where nobody asks them, as behind `!=`.
    """
    always, never = np.zeros((2, len(conditions), len(maps.zones)), np.bool_)
    stretches = Stretches(maps.rows, {n: maps.columns[n] for n in known}.get)
    for k, condition in enumerate(conditions):
        found = outcomes(condition, stretches)
        always[k], never[k] = found.surely, ~found.true
    return always, never


@remembered
def _columns(conditions: Sequence[Expr]) -> Mapping[str, DType]:
    """The columns whose zones may tell; none where every row has to be seen."""
    if any(map(_must_see_all, conditions)):
        return {}
    return {c.name: c.dtype for e in conditions for c in _searched(e)}


def _must_see_all(e: Expr) -> bool:
    """Whether a row may be an error, be it one that contradicts the type of its column."""
    plain = Bool | Int | Float | Time | Label | Text
    columns = (n for n in walk_inside(e) if isinstance(n, Column))
    return can_raise(e) or not all(isinstance(c.dtype, plain) for c in columns)


def _searched(e: Expr) -> Iterator[Column]:
    """The columns of numbers that are compared so that their order can help."""
    match e:
        case And(terms) | Or(terms):
            for t in terms:
                yield from _searched(t)
        case Not(operand):
            yield from _searched(operand)
        case Compare(op, Column() as c, Const()) | Compare(op, Const(), Column() as c) if (
            op is not CompareOp.NE
        ):
            if _has_order(c.dtype):
                yield c
        case InSet(Column() as c):
            if _has_order(c.dtype):
                yield c


def _has_order(dtype: DType) -> bool:
    return isinstance(dtype, Int | Float | Time | Label)


def _cut(source: Source) -> ZoneMaps:
    zones = tuple(
        Fragment(f.index, start, min(ZONE_ROWS, f.stop - start), f.origin, in_place=True)
        for f in source.fragments
        for start in range(f.start, f.stop, ZONE_ROWS)
    )
    index = np.array([z.index for z in zones])
    return ZoneMaps(zones, np.array([z.rows for z in zones], np.int64), index[1:] != index[:-1])


def _known(maps: ZoneMaps, source: Source, name: str, dtype: DType) -> bool:
    if name in maps.columns and _holds(maps, name):
        return maps.columns.get(name) is not None
    if maps.columns.pop(name, None) is not None:  # the data was changed: count anew
        maps.searched[name] = 0
    times = maps.searched[name] = maps.searched.get(name, 0) + 1
    if times < _SCANS:
        return False
    maps.watched[name] = tuple(_watches(source, name))
    bounds = maps.columns[name] = _bounds(source, name, dtype)
    if bounds is None:
        maps.watched[name] = ()  # nothing depends on it
    return bounds is not None


def _holds(maps: ZoneMaps, name: str) -> bool:
    """Whether the column is what it was when its map was made, as far as can be seen."""
    return all(w.holds() for w in maps.watched[name])


def _watches(source: Source, name: str) -> Iterator[_Watch]:
    """Of the fragments that lie in one piece, as those of NumPy's arrays do."""
    for f in source.fragments:
        column = source.read(f.index, [name]).column(name)
        if source.kind != "memory" or column.num_chunks != 1:
            continue
        array = column.chunk(0)
        if pa.types.is_dictionary(array.type):
            array = array.indices
        if pa.types.is_primitive(array.type) and array.type.bit_width in (8, 16, 32, 64):
            bits = np.dtype(f"u{array.type.bit_width // 8}")
            start = array.offset * bits.itemsize
            memory = np.frombuffer(array.buffers()[1], bits, len(array), start)
            places = np.append(np.arange(0, len(memory), _WATCHED), len(memory) - 1)
            yield _Watch(memory, places, memory[places])


def _bounds(source: Source, name: str, dtype: DType) -> ColumnBounds | None:
    parts: list[Numbers] = []
    for f in source.fragments:
        vec = from_arrow(source.read(f.index, [name]).column(name), dtype)
        assert isinstance(vec, Numbers)
        parts.append(vec)
    if not _do_part([p.values for p in parts]):
        return None
    return side_by_side([s for p in parts for s in _stats(p)])


def _do_part(values: Sequence[NDArray[Any]]) -> bool:
    """Whether a sample of every zone says that a zone's values lie close together."""
    lows, highs = [], []
    for v in values:
        for start in range(0, len(v), ZONE_ROWS):
            sample = v[start : start + ZONE_ROWS : ZONE_ROWS // _SAMPLE].astype(np.float64)
            lows.append(np.fmin.reduce(sample))
            highs.append(np.fmax.reduce(sample))
    low, high = np.array(lows), np.array(highs)
    with np.errstate(invalid="ignore"):  # infinities: not parted
        whole = np.fmax.reduce(high) - np.fmin.reduce(low)
        return bool(np.mean(high - low) <= _PARTED * whole)


def _stats(part: Numbers) -> Iterator[ColumnStats]:
    for start in range(0, len(part.values), ZONE_ROWS):
        values = part.values[start : start + ZONE_ROWS]
        valid = None if part.valid is None else part.valid[start : start + ZONE_ROWS]
        nulls = 0 if valid is None else len(valid) - int(np.count_nonzero(valid))
        # What stands where a row is NULL is some value of the type: the bounds hold all the same.
        low, high = np.fmin.reduce(values).item(), np.fmax.reduce(values).item()
        yield ColumnStats(nulls) if low != low else ColumnStats(nulls, low, high)


def _joined(
    maps: ZoneMaps, always: NDArray[np.bool_], never: NDArray[np.bool_]
) -> tuple[Sequence[Fragment], NDArray[np.bool_], NDArray[np.bool_]]:
    """Zones of one fragment, side by side, of which the same is known, are one piece."""
    others = (always[:, 1:] != always[:, :-1]) | (never[:, 1:] != never[:, :-1])
    firsts = np.flatnonzero(np.append(True, maps.cuts | others.any(axis=0)))
    pieces = []
    for first, stop in pairwise([*firsts.tolist(), len(maps.zones)]):
        a, b = maps.zones[first], maps.zones[stop - 1]
        pieces.append(Fragment(a.index, a.start, b.stop - a.start, a.origin, in_place=True))
    return pieces, always[:, firsts], never[:, firsts]
