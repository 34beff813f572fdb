"""Pairs of a cross join that a WHERE can keep, found by what it says of its sources.

`from a, b where a.x == b.y and a.z > 0` names pairs by their place among all of them, as every cross
join does, but looks only at those whose keys are equal. Row numbers, order, draws and errors are
those of looking at every pair: a condition is used only where no pair that it leaves out could have
raised an error.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from tql.diagnostics import NOWHERE, TqlError
from tql.engine.columns import Arrow, Numbers, Objects, Vec
from tql.engine.computed import Computed, Int64s, take
from tql.engine.framing import frame_over
from tql.engine.joined import Crossed, JoinedSource
from tql.engine.matching import Key, Numbered, Partners, combined, numbered, partners
from tql.engine.reference import is_true
from tql.engine.scan import Settings, Words, rows_where
from tql.engine.whole_columns import WholeColumns
from tql.language.expr import (
    And,
    Column,
    Expr,
    UserCall,
    can_raise,
    columns_of,
    equated,
    is_positional,
    substitute,
    walk_inside,
)
from tql.language.operators import conjunction
from tql.rowset import RowSet, everything, from_ids, from_words, intersect
from tql.sources.protocol import Source

_BLOCK: Final = 1 << 20  # pairs looked at at once
_MOST_AT_ONCE: Final = 1 << 25  # pairs held that are sorted, or matched with one more source
_SPARSEST: Final = 64  # fewer pairs than one in 64 take less as numbers than as a bitmap

# The value of an expression for every row of a source.
Values: TypeAlias = Callable[[Source, Expr], Vec]


@dataclass(frozen=True, slots=True)
class Paired:
    """What a condition over a cross join keeps, and how that was found.

    rows    of the join
    keys    (a, b): values of two sources that are equal in each pair looked at
    looked  how many pairs were looked at
    """

    rows: RowSet
    keys: tuple[tuple[Expr, Expr], ...]
    looked: int


def paired(
    source: Source, condition: Expr, seed: int, settings: Settings, values: Values
) -> Paired | None:
    """The rows of `source` for which the condition is TRUE; None where every row has to be looked at:
    it is no cross join, or too little is said of one source alone or of two that are equal.
    """
    if not (isinstance(source, JoinedSource) and isinstance(source.pairs, Crossed)):
        return None
    if not source.rows:
        return None
    parts = _parts(source, {c.column.name: c.column.name for c in source.plan.columns}, 1)
    known = _understood(condition, parts, seed, settings, values)
    if known is None or not _readable(parts, known.rest):
        return None
    groups = [
        _Group({at: rows}, rows * part.stride)
        for at, part in enumerate(parts)
        for rows in [known.allowed.get(at, everything(part.source.rows)).to_numpy()]
    ]
    blocks = _matched(groups, known.keys)
    if blocks is None or (known.rest is not None and blocks.total * 2 > source.rows):
        return None
    rows = _kept(source, blocks, known.rest, seed)
    return Paired(rows, tuple(k.written for k in known.keys), blocks.total)


# -- the sources, and what is said of them ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the sources that are crossed: its next row is `stride` rows of the join further on.
    `own` has its columns by their names in the join.
    """

    source: Source
    stride: int
    own: dict[str, Column]


def _parts(source: Source, names: dict[str, str], stride: int) -> list[_Part]:
    """The sources crossed in `source`, from the left; `names` leads from its names to the join's."""
    if not (isinstance(source, JoinedSource) and isinstance(source.pairs, Crossed)):
        columns = ((top, source.schema[name]) for name, top in names.items())
        own = {top: Column(c.name, c.dtype, c.nullable) for top, c in columns}
        return [_Part(source, stride, own)]
    left, right = dict[str, str](), dict[str, str]()
    for c in source.plan.columns:
        if c.column.name in names and c.left is not None:
            left[c.left] = names[c.column.name]
        elif c.column.name in names and c.right is not None:
            right[c.right] = names[c.column.name]
    return [
        *_parts(source.left, left, stride * source.right.rows),
        *_parts(source.right, right, stride),
    ]


@dataclass(frozen=True, slots=True)
class _PartKey:
    """An equality of values of two parts, and of each row of these its number."""

    sides: tuple[int, int]
    codes: Numbered
    nullable: bool
    written: tuple[Expr, Expr]


@dataclass(slots=True)
class _Known:
    """What a condition says: equalities, rows of single parts, and what is left to be asked."""

    keys: list[_PartKey] = field(default_factory=list)
    allowed: dict[int, RowSet] = field(default_factory=dict)
    rest: Expr | None = None


def _understood(
    condition: Expr, parts: Sequence[_Part], seed: int, settings: Settings, values: Values
) -> _Known | None:
    """What the condition says of the parts; None where that leaves no pair out.

    Terms are taken in their order up to one that may raise. A pair for which a term before that is
    NULL would raise there all the same, so then only terms that are never NULL are used.
    """
    terms = list(_terms(condition))
    used: dict[int, _PartKey | tuple[int, RowSet]] = {}
    raising = False
    for at, term in enumerate(terms):
        try:
            found = _about(term, parts, seed, settings, values)
        except TqlError:  # told, if it is one, when the pairs are looked at
            raising = True
            break
        if found is not None:
            used[at] = found
        elif can_raise(term):
            raising = True
            break
    if raising:
        used = {
            at: u
            for at, u in used.items()
            if not (u.nullable if isinstance(u, _PartKey) else terms[at].nullable)
        }
    if not used:
        return None
    known = _Known()
    for u in used.values():
        if isinstance(u, _PartKey):
            known.keys.append(u)
        else:
            part, rows = u
            before = known.allowed.get(part)
            known.allowed[part] = rows if before is None else intersect(before, rows)
    rest = [term for at, term in enumerate(terms) if at not in used]
    known.rest = conjunction(rest, NOWHERE) if rest else None
    return known


def _terms(condition: Expr) -> Iterator[Expr]:
    if isinstance(condition, And):
        for term in condition.terms:
            yield from _terms(term)
    else:
        yield condition


def _about(
    term: Expr, parts: Sequence[_Part], seed: int, settings: Settings, values: Values
) -> _PartKey | tuple[int, RowSet] | None:
    """The equality that a term is, or the part that it is about and the rows for which it is TRUE;
    None for anything else. Raises what evaluating it for some row of a part raises.
    """
    if is_positional(term) or any(isinstance(n, UserCall) for n in walk_inside(term)):
        return None
    one = _part_of(term, parts)
    if one is not None:
        part = parts[one]
        (rows,) = rows_where(part.source, [substitute(term, part.own)], seed, settings)
        return one, rows
    sides = equated(term)
    if sides is None:
        return None
    first, second = (_part_of(side, parts) for side in sides)
    if first is None or second is None:
        return None
    left, right = (
        values(parts[n].source, substitute(side, parts[n].own))
        for n, side in zip((first, second), sides, strict=True)
    )
    key = Key(left, right, (sides[0].dtype, sides[1].dtype))
    codes = numbered(key, parts[first].source.rows, parts[second].source.rows)
    return _PartKey((first, second), codes, _has_null(left) or _has_null(right), sides)


def _part_of(e: Expr, parts: Sequence[_Part]) -> int | None:
    """The one part whose columns, and no others, the expression reads."""
    read = columns_of(e)
    for at, part in enumerate(parts):
        if read and read <= part.own.keys():
            return at
    return None


def _has_null(vec: Vec) -> bool:
    match vec:
        case Numbers(_, valid):
            return valid is not None and not bool(np.all(valid))
        case Arrow(array):
            return bool(array.null_count)
        case Objects(values):
            return any(v is None for v in values)
        case _:
            raise AssertionError("an array is no join key")


def _readable(parts: Sequence[_Part], rest: Expr | None) -> bool:
    """Whether what is left to be asked can be read of all rows: columns of subqueries are computed,
    and may be an error in rows that are in none of the pairs looked at.
    """
    read = frozenset[str]() if rest is None else columns_of(rest)
    for part in parts:
        names = sorted({c.name for top, c in part.own.items() if top in read})
        if names and isinstance(part.source, Computed):
            try:
                take(part.source, np.arange(part.source.rows), names)
            except TqlError:  # told, if it is one, when the pairs are looked at
                return False
    return True


# -- pairs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of some parts side by side: of each part its positions, int64 (n,), and what they add to
    the number of a row of the join, ascending.
    """

    at: dict[int, Int64s]
    ids: Int64s


@dataclass(frozen=True, slots=True)
class _Blocks:
    """All pairs of two groups with equal keys, in ascending order, made block by block."""

    left: _Group
    right: _Group
    found: Partners
    total: int
    sorted: bool

    def __iter__(self) -> Iterator[Int64s]:
        size = _BLOCK if self.sorted else self.total
        ends = np.cumsum(self.found.each)
        start, done = 0, 0
        while done < self.total:
            stop = max(start + 1, int(np.searchsorted(ends, done + size, "right")))
            ours, theirs = self.found.pairs(start, stop)
            ids = self.left.ids[ours] + self.right.ids[theirs]
            if len(ids):
                yield ids if self.sorted else np.sort(ids)
            start, done = stop, int(ends[stop - 1])


def _matched(groups: list[_Group], keys: Sequence[_PartKey]) -> _Blocks | None:
    """The rows of the join in which all keys are equal; None where more would have to be held in
    memory than is worth it.
    """
    while True:
        left, right = _next(groups, keys)
        found = _partners(left, right, keys)
        if len(groups) == 2:
            ascending = max(left.at) < min(right.at)
            if not ascending and found.total > _MOST_AT_ONCE:
                return None
            return _Blocks(left, right, found, found.total, ascending)
        if found.total > _MOST_AT_ONCE:
            return None
        groups = [g for g in groups if g is not left and g is not right]
        groups.append(_together(left, right, found))


def _next(groups: Sequence[_Group], keys: Sequence[_PartKey]) -> tuple[_Group, _Group]:
    """Two groups that a key relates, else the two smallest; the one further left comes first."""
    for key in keys:
        a, b = (next(g for g in groups if side in g.at) for side in key.sides)
        if a is not b:
            return (a, b) if min(a.at) < min(b.at) else (b, a)
    a, b = sorted(groups, key=lambda g: len(g.ids))[:2]
    return (a, b) if min(a.at) < min(b.at) else (b, a)


def _partners(left: _Group, right: _Group, keys: Sequence[_PartKey]) -> Partners:
    between: list[Numbered] = []
    for key in keys:
        (first, second), (ours, theirs, size) = key.sides, key.codes
        if first in right.at and second in left.at:
            first, second, ours, theirs = second, first, theirs, ours
        if first in left.at and second in right.at:
            between.append((ours[left.at[first]], theirs[right.at[second]], size))
    return partners(*combined(between, len(left.ids), len(right.ids)))


def _together(left: _Group, right: _Group, found: Partners) -> _Group:
    ours, theirs = found.pairs(0, len(left.ids))
    ids = left.ids[ours] + right.ids[theirs]
    order = np.argsort(ids, kind="stable")
    ours, theirs = ours[order], theirs[order]
    at = {part: rows[ours] for part, rows in left.at.items()}
    at |= {part: rows[theirs] for part, rows in right.at.items()}
    return _Group(at, ids[order])


def _kept(source: JoinedSource, blocks: _Blocks, rest: Expr | None, seed: int) -> RowSet:
    """The rows in these blocks for which the rest of the condition is TRUE."""
    needed = [] if rest is None else sorted(columns_of(rest))
    fetch = WholeColumns(-(-blocks.total // _BLOCK)).fetch_for(needed)
    dense = blocks.total * _SPARSEST > source.rows
    words: Words = np.zeros(-(-source.rows // 64) if dense else 0, np.uint64)
    ids = [np.zeros(0, np.int64)]
    for block in blocks:
        kept = block
        if rest is not None:
            frame = frame_over(source, block, needed, seed, fetch)
            kept = block[is_true(rest, frame)]
        if dense:
            _mark(words, kept)
        else:
            ids.append(kept)
    return from_words(words, source.rows) if dense else from_ids(np.concatenate(ids), source.rows)


def _mark(words: Words, rows: Int64s) -> None:
    """Set the bits of these rows, which ascend."""
    if not len(rows):
        return
    at = rows >> 6
    first = np.flatnonzero(np.diff(at, prepend=-1))
    bits = np.uint64(1) << (rows & 63).astype(np.uint64)
    words[at[first]] |= np.bitwise_or.reduceat(bits, first)
