"""The result of a query as a source again: rows of a parent, and expressions over its columns."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from tql.engine.columns import Vec, to_arrow
from tql.engine.computed import (
    FRAGMENT_ROWS,
    Computed,
    Fetch,
    Int64s,
    blocks_of,
    identify,
    root_of,
)
from tql.engine.frame import Frame
from tql.engine.framing import frame_over
from tql.engine.reference import evaluate
from tql.language.expr import (
    Column,
    Expr,
    can_raise,
    columns_of,
    is_positional,
    is_small,
    substitute,
)
from tql.language.plan import Output
from tql.rowset import RowSet, from_ids
from tql.schema import Schema
from tql.sources.export import field_metadata
from tql.sources.protocol import Fragment, Source


class DerivedSource(Computed):
    """Rows `rows` of `parent`, with `outputs` as columns; nothing is evaluated until it is read."""

    def __init__(self, parent: Source, rows: RowSet, outputs: Sequence[Output], seed: int) -> None:
        self.parent = parent
        self.selected = rows
        self.outputs = tuple(outputs)
        self.seed = seed
        self.stand_on(parent)
        self.generation += 1
        self.schema = Schema(o.column for o in self.outputs)
        self._by_name: Mapping[str, Expr] = {o.name: o.expr for o in self.outputs}
        self._blocks: Sequence[Fragment] = ()
        self._computed: frozenset[str] | None = None
        self._digest = ""

    @property
    def kind(self) -> str:
        return "view"

    @property
    def rows(self) -> int:
        return len(self.selected)

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
        return (self.parent,)

    @property
    def computed(self) -> frozenset[str]:
        """The columns that are made by expressions which may raise, here or in a view below."""
        if self._computed is None:
            self._computed = frozenset(o.name for o in self.outputs if can_raise(o.expr))
        return self._computed

    def _fingerprint(self) -> str:
        digest = blake2b(self.parent.fingerprint.encode(), digest_size=16)
        digest.update(repr([(o.name, o.expr) for o in self.outputs]).encode())
        if any(is_positional(o.expr) for o in self.outputs):
            digest.update(str(self.seed).encode())
        for block in self.selected.blocks(FRAGMENT_ROWS):
            digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()

    def take(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns at these positions of this source, in the order given."""
        return self.project(self.selected.select(rows), columns, fetch)

    def project(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns for these rows of the parent."""
        needed = sorted(frozenset().union(*(columns_of(self._by_name[c]) for c in columns)))
        frame = frame_over(self.parent, rows, needed, self.seed, fetch)
        everywhere = np.ones(len(rows), np.bool_)
        arrays, fields = [], []
        for name in columns:
            e = self._by_name[name]
            if isinstance(e, Column):
                array = frame.stored(e.name, everywhere)
            else:
                array = to_arrow(evaluate(e, frame), e.dtype, len(rows))
            arrays.append(array)
            column = self.schema[name]
            metadata = field_metadata(column.dtype)
            fields.append(pa.field(name, array.type, column.nullable, metadata or None))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    @property
    def root(self) -> Source:
        return root_of(self.parent)

    def identify(self, positions: Int64s) -> Int64s:
        """The row numbers, in the source below all views, of the rows at these positions."""
        return identify(self.parent, self.selected.select(positions))


def derive(parent: Source, rows: RowSet, outputs: Sequence[Output], seed: int) -> DerivedSource:
    """A view; a view of a view becomes one view of what lies below where that is the same thing.

    It is not where an output asks for its position, which would become another one.
    """
    if isinstance(parent, DerivedSource) and not any(is_positional(o.expr) for o in outputs):
        known = {o.name: o.expr for o in parent.outputs}
        replaced = tuple(Output(o.name, substitute(o.expr, known)) for o in outputs)
        below = from_ids(parent.selected.select(rows.to_numpy()), parent.selected.universe)
        keeps_draws = parent.seed == seed or not any(map(is_positional, known.values()))
        if keeps_draws and all(is_small(o.expr) for o in replaced):
            merged = DerivedSource(parent.parent, below, replaced, seed)
            merged.generation = parent.generation + 1
            return merged
    return DerivedSource(parent, rows, outputs, seed)


def computed_in(source: Source | None) -> frozenset[str]:
    """The columns of a view that are made by expressions which may raise; of stored data none are."""
    return source.computed if isinstance(source, DerivedSource) else frozenset()


def as_they_stand(source: Source, names: Iterable[str]) -> tuple[Output, ...]:
    """These columns of `source` as outputs of a query over it."""
    computed = computed_in(source)
    return tuple(
        Output(c.name, Column(c.name, c.dtype, c.nullable, computed=c.name in computed))
        for c in source.schema.select(names)
    )


def column_at(source: Source, rows: Int64s, e: Expr, seed: int) -> Vec:
    """The value of `e` at these rows, as a `Vec` of len(rows) rows."""
    return evaluate(e, frame_at(source, rows, [e], seed))


def frame_at(source: Source, rows: Int64s, expressions: Sequence[Expr], seed: int) -> Frame:
    """What these expressions need of these rows."""
    needed = sorted(frozenset().union(*map(columns_of, expressions)))
    return frame_over(source, rows, needed, seed)
