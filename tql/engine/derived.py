"""The result of a query as a source again: rows of a parent, and expressions over its columns."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Vec, to_arrow
from tql.engine.reference import Frame, evaluate
from tql.language.expr import Column, Expr, columns_of, is_positional, is_small, substitute
from tql.language.plan import Output
from tql.rowset import RowSet, from_ids
from tql.schema import Schema
from tql.sources.export import field_metadata
from tql.sources.gathering import gather
from tql.sources.protocol import Fragment, Source

Int64s = NDArray[np.int64]
FRAGMENT_ROWS = 1 << 20

# (rows of the root source, columns) -> their table; a caller that caches fragments hands one in.
Fetch: TypeAlias = Callable[[Int64s, Sequence[str]], pa.Table]


class DerivedSource:
    """Rows `rows` of `parent`, with `outputs` as columns; nothing is evaluated until it is read."""

    kind = "view"

    def __init__(self, parent: Source, rows: RowSet, outputs: Sequence[Output], seed: int) -> None:
        self.parent = parent
        self.selected = rows
        self.outputs = tuple(outputs)
        self.seed = seed
        self.generation = generation(parent) + 1
        self.schema = Schema(o.column for o in self.outputs)
        self._by_name: Mapping[str, Expr] = {o.name: o.expr for o in self.outputs}

    @property
    def rows(self) -> int:
        return len(self.selected)

    @property
    def fragments(self) -> Sequence[Fragment]:
        return self._fragments

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fragments(self) -> Sequence[Fragment]:
        starts = range(0, self.rows, FRAGMENT_ROWS)
        return [
            Fragment(n, start, min(FRAGMENT_ROWS, self.rows - start), f"rows {start}…")
            for n, start in enumerate(starts)
        ]

    @cached_property
    def _fingerprint(self) -> str:
        digest = blake2b(self.parent.fingerprint.encode(), digest_size=16)
        digest.update(repr([(o.name, o.expr) for o in self.outputs]).encode())
        if any(is_positional(o.expr) for o in self.outputs):
            digest.update(str(self.seed).encode())
        for block in self.selected.blocks(FRAGMENT_ROWS):
            digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        """The columns of one block of rows."""
        f = self.fragments[fragment]
        return self.take(np.arange(f.start, f.stop), columns)

    def take(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns at these positions of this source, in the order given."""
        return self.project(self.selected.select(rows), columns, fetch)

    def project(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns for these rows of the parent."""
        needed = sorted(frozenset().union(*(columns_of(self._by_name[c]) for c in columns)))
        table = take(self.parent, rows, needed, fetch) if needed else None
        frame = Frame(table, rows, self.seed, partial(row_name, self.parent))
        arrays, fields = [], []
        for name in columns:
            e = self._by_name[name]
            if isinstance(e, Column):
                assert table is not None
                array = table.column(e.name)
            else:
                array = to_arrow(evaluate(e, frame), e.dtype, len(rows))
            arrays.append(array)
            column = self.schema[name]
            metadata = field_metadata(column.dtype)
            fields.append(pa.field(name, array.type, column.nullable, metadata or None))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def identify(self, rows: Int64s) -> Int64s:
        """The row numbers, in the source below all views, of these rows of the parent."""
        if isinstance(self.parent, DerivedSource):
            return self.parent.identify(self.parent.selected.select(rows))
        return rows


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


def generation(source: Source | None) -> int:
    """How many queries lie between this source and stored data."""
    return source.generation if isinstance(source, DerivedSource) else 0


def row_name(source: Source, position: int) -> int:
    """The row of the root data set that stands at this position of `source`."""
    if isinstance(source, DerivedSource):
        rows = source.selected.select(np.array([position]))
        return int(source.identify(rows)[0])
    return position


def root_of(source: Source) -> Source:
    """The source below all views."""
    return root_of(source.parent) if isinstance(source, DerivedSource) else source


def take(
    source: Source, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None
) -> pa.Table:
    """Rows of any source in the order given, with repeats."""
    if isinstance(source, DerivedSource):
        return source.take(rows, columns, fetch)
    return fetch(rows, columns) if fetch is not None else gather(source, rows, columns)


def column_at(source: Source, rows: Int64s, e: Expr, seed: int) -> Vec:
    """The value of `e` at these rows, as a `Vec` of len(rows) rows."""
    return evaluate(e, frame_at(source, rows, [e], seed))


def frame_at(source: Source, rows: Int64s, expressions: Sequence[Expr], seed: int) -> Frame:
    """What these expressions need of these rows."""
    needed = sorted(frozenset().union(*map(columns_of, expressions)))
    table = take(source, rows, needed) if needed else None
    return Frame(table, rows, seed, partial(row_name, source))
