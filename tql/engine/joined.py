"""Two sources side by side: pairs of their rows as rows of one source."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.casting import as_type
from tql.engine.columns import Vec, pc
from tql.engine.computed import (
    FRAGMENT_ROWS,
    Computed,
    Fetch,
    Int64s,
    blocks_of,
    row_name,
    take,
)
from tql.engine.framing import frame_over
from tql.engine.matching import Key, check_pairs, matches, with_missing
from tql.engine.reference import is_true
from tql.engine.whole_columns import WholeColumns
from tql.grammar.syntax import JoinKind
from tql.language.expr import Expr, columns_of
from tql.language.plan import JoinColumn, Joined
from tql.rowset import RowSet
from tql.schema import Schema
from tql.sources.export import field_metadata
from tql.sources.movable import movable
from tql.sources.protocol import Fragment, Source

_BLOCK: Final = 1 << 20  # pairs that a condition is evaluated for at once


@dataclass(frozen=True, slots=True)
class Crossed:
    """Every row of the left with every row of the right: computed, never stored."""

    left: int
    right: int

    def __len__(self) -> int:
        return self.left * self.right

    def at(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """The rows of both sides at these positions."""
        left = positions // self.right
        return left, positions - left * self.right


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Pairs one by one, int32 where that is enough; -1 stands for a missing side."""

    left: NDArray[np.signedinteger]
    right: NDArray[np.signedinteger]

    def __len__(self) -> int:
        return len(self.left)

    def at(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """The rows of both sides at these positions."""
        return self.left[positions].astype(np.int64), self.right[positions].astype(np.int64)


Pairs: TypeAlias = Crossed | Matched


class JoinedSource(Computed):
    """Pairs of rows of `left` and `right`; columns are gathered when they are read, no others.

    `plan` says how the pairs came about: sources of one fingerprint give the same rows.
    """

    def __init__(self, left: Source, right: Source, pairs: Pairs, plan: Joined) -> None:
        self.left, self.right = left, right
        self.pairs = pairs
        self.plan = plan
        self.schema: Schema = plan.schema
        self.stand_on(left, right)
        self._columns = {c.column.name: c for c in plan.columns}
        self._blocks: Sequence[Fragment] = ()
        self._digest = ""
        self._whole = WholeColumns(-(-self.rows // FRAGMENT_ROWS))

    @property
    def kind(self) -> str:
        return "join"

    @property
    def rows(self) -> int:
        return len(self.pairs)

    @property
    def fragments(self) -> Sequence[Fragment]:
        if not self._blocks:
            self._blocks = blocks_of(self.rows)
        return self._blocks

    @property
    def fingerprint(self) -> str:
        if not self._digest:
            self._digest = self._fingerprint()
        return self._digest

    @property
    def below(self) -> tuple[Source, ...]:
        return (self.left, self.right)

    def _fingerprint(self) -> str:
        plan = self.plan
        said = (plan.kind, plan.columns, plan.keys, plan.only_left, plan.only_right, plan.rest)
        digest = blake2b(repr(said).encode(), digest_size=16)
        digest.update(self.left.fingerprint.encode())
        digest.update(self.right.fingerprint.encode())
        return digest.hexdigest()

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        """The columns of one block of pairs."""
        f = self.fragments[fragment]
        table = self.take(np.arange(f.start, f.stop), columns, self._whole.fetch_for(columns))
        self._whole.done(columns)
        return table

    def read_for(self, columns: Collection[str], *, keys: bool = True) -> tuple[set[str], set[str]]:
        """What is read of the left, and of the right, for these columns; also for finding the pairs
        if `keys`.
        """
        return read_of_sides(self.plan, columns, keys=keys)

    def take(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns of these pairs; each side is asked for its own once."""
        ours, theirs = self.pairs.at(rows)
        wanted = [self._columns[name] for name in columns]
        left = _side(self.left, ours, [c.left for c in wanted], fetch)
        right = _side(self.right, theirs, [c.right for c in wanted], fetch)
        arrays = [self._column(c, left, right, rows) for c in wanted]
        fields = [
            pa.field(
                c.column.name, a.type, c.column.nullable, field_metadata(c.column.dtype) or None
            )
            for c, a in zip(wanted, arrays, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _column(self, c: JoinColumn, left: Any, right: Any, rows: Int64s) -> Any:
        match c.left, c.right:
            case str(ours), None:
                return left.column(ours)
            case None, str(theirs):
                return right.column(theirs)
            case str(ours), str(theirs):
                dtype = c.column.dtype
                sides = (left, self.left, ours, "left"), (right, self.right, theirs, "right")
                first, second = (
                    as_type(
                        table.column(name), source.schema[name].dtype, dtype, rows,
                        f"column {name!r} of the {which} side",
                    )
                    for table, source, name, which in sides
                )  # fmt: skip
                return pc.coalesce(first, second)
            case _:
                raise AssertionError("a column of no side")


def read_of_sides(
    plan: Joined, columns: Collection[str], *, keys: bool = True
) -> tuple[set[str], set[str]]:
    """The columns of the left, and of the right, that these columns of the join are; also those
    that its condition reads if `keys`.
    """
    left, right = set[str](), set[str]()
    if keys:
        columns = {*columns, *_read_by(plan.rest)}
        left.update(_read_by(plan.only_left, *(a for a, _ in plan.keys)))
        right.update(_read_by(plan.only_right, *(b for _, b in plan.keys)))
    for c in plan.columns:
        if c.column.name in columns:
            left.update(() if c.left is None else (c.left,))
            right.update(() if c.right is None else (c.right,))
    return left, right


def _read_by(*expressions: Expr | None) -> frozenset[str]:
    return frozenset[str]().union(*(columns_of(e) for e in expressions if e is not None))


def _side(source: Source, rows: Int64s, names: Sequence[str | None], fetch: Fetch | None) -> Any:
    """These columns of one side; NULL for rows of -1."""
    wanted = list(dict.fromkeys(n for n in names if n is not None))
    if not wanted:
        return None
    missing = rows < 0
    if not missing.any():
        return take(source, rows, wanted, fetch)
    table = take(source, rows[~missing], wanted, fetch)
    index = np.cumsum(~missing) - 1
    return movable(table).take(pa.array(index, mask=missing))


# -- making one --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """A source, its rows that may have partners, and how expressions are evaluated for rows."""

    source: Source
    rows: RowSet
    values: Callable[[RowSet, Expr], Vec]


def join(plan: Joined, left: Side, right: Side, seed: int) -> JoinedSource:
    """The rows of a join. Only key columns, and those of its condition, are read."""
    a, b = left.source, right.source
    if plan.kind is JoinKind.CROSS:
        check_pairs(a.rows * b.rows, plan.span,
                    "write  join … on LEFT.column == RIGHT.column, or filter the sides first")  # fmt: skip
        return JoinedSource(a, b, Crossed(a.rows, b.rows), plan)
    keys = [
        Key(
            left.values(left.rows, ours),
            right.values(right.rows, theirs),
            (ours.dtype, theirs.dtype),
        )
        for ours, theirs in plan.keys
    ]
    ours, theirs = matches(keys, len(left.rows), len(right.rows), plan.span)
    ours, theirs = _numbers_of(left, ours), _numbers_of(right, theirs)
    if plan.rest is not None:
        keep = _tested(plan, plan.rest, a, b, (ours, theirs), seed)
        ours, theirs = ours[keep], theirs[keep]
    match plan.kind:
        case JoinKind.INNER:
            pairs = ours, theirs
        case JoinKind.LEFT | JoinKind.RIGHT | JoinKind.FULL as kind:
            pairs = with_missing(
                (ours, theirs), a.rows, b.rows,
                left=kind is not JoinKind.RIGHT, right=kind is not JoinKind.LEFT,
            )  # fmt: skip
        case _:
            assert_never(plan.kind)
    check_pairs(len(pairs[0]), plan.span, "join fewer rows")
    return JoinedSource(a, b, Matched(_narrow(pairs[0], a.rows), _narrow(pairs[1], b.rows)), plan)


def _numbers_of(side: Side, positions: Int64s) -> Int64s:
    if len(side.rows) == side.source.rows:
        return positions
    return side.rows.select(positions)


def _narrow(rows: Int64s, universe: int) -> NDArray[np.signedinteger]:
    return rows.astype(np.int32) if universe <= np.iinfo(np.int32).max else rows


def _tested(
    plan: Joined,
    condition: Expr,
    left: Source,
    right: Source,
    pairs: tuple[Int64s, Int64s],
    seed: int,
) -> NDArray[np.bool_]:
    """bool (n,): the pairs for which the condition is TRUE. An error names the left row."""
    candidates = JoinedSource(left, right, Matched(*pairs), plan)
    needed = sorted(columns_of(condition))
    kept = [np.zeros(0, np.bool_)]
    for start in range(0, len(candidates.pairs), _BLOCK):
        positions = np.arange(start, min(start + _BLOCK, len(candidates.pairs)))
        frame = frame_over(candidates, positions, needed, seed)
        ours = replace(frame, positions=pairs[0][positions], name=partial(row_name, left))
        kept.append(is_true(condition, ours))
    return np.concatenate(kept)
