"""Runs a bound query: which rows, in which order.

Row numbers are those of the query's source: the FROM of a SELECT, or the result of a subquery,
which is run first and becomes a source itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import groupby
from math import floor
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import NOWHERE, Span, TqlError
from tql.engine.coded import Coded, coded
from tql.engine.columns import Vec
from tql.engine.derived import DerivedSource, column_at, frame_at
from tql.engine.equality import codes, combined, first_rows
from tql.engine.every_row import column, has_more, is_suitable, top_rows
from tql.engine.expanding import WindowSource, expand
from tql.engine.grouping import GroupedSource, group
from tql.engine.joined import JoinedSource, Side, join
from tql.engine.ordering import stable_order
from tql.engine.pairing import Paired, paired
from tql.engine.reference import is_true
from tql.engine.remembered import the_same
from tql.engine.scan import Settings, rows_where, scan
from tql.engine.settle import settled
from tql.engine.splitting import SplitSource
from tql.engine.stacked import StackedSource
from tql.engine.weigh import weigh
from tql.grammar.syntax import SetOp
from tql.language.expr import Column, Expr, can_raise
from tql.language.plan import (
    Bound,
    Combine,
    Count,
    Cut,
    Derived,
    Distinct,
    Expand,
    Filter,
    Grouped,
    Joined,
    Leaf,
    Order,
    Output,
    Percent,
    Plan,
    Sample,
    Scan,
    Size,
    SortKey,
    Split,
    Stacked,
    Windows,
)
from tql.language.plan_parts import source_of, walk_plan
from tql.memory_size import within_budget
from tql.rowset import RowSet, concat, everything, from_ids, intersect, subtract, union
from tql.sources.protocol import Source
from tql.weights import Weights

# (population, weights, how many or None, replace, site) -> row ids in draw order, notes.
Draw: TypeAlias = Callable[
    [RowSet, Weights, int | None, bool, int], tuple[NDArray[np.int64], tuple[str, ...]]
]


MadeLeaf: TypeAlias = Derived | Grouped | Split | Windows
"""A leaf over the result of a query."""

# Each holds a bit of every row while it runs; what is kept of few rows is smaller.
FILTERS_PER_PASS: Final = 64

# Rows per wanted row up to which a whole column is evaluated and then indexed.
_SPARSE: Final = 8


@dataclass(frozen=True, slots=True)
class Environment:
    """What a query runs against. `tables` holds the sources that FROM names; `here` is the one it
    was asked of. `draw` samples: the planner's, handed in because the engine does not know it.
    """

    here: Source | None
    tables: Mapping[str, Source]
    seed: int
    draw: Draw
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of `source`, in result order, and the columns over it; `notes` say what a user should know
    of them.
    """

    source: Source
    rows: RowSet
    outputs: tuple[Output, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Population:
    """The rows that reach a SAMPLE BY, how heavily each counts, and how many draws are asked for
    (None: as many as there are rows). Rows are those of `source`, and `outputs` columns over it.
    """

    source: Source
    rows: RowSet
    outputs: tuple[Output, ...]
    weights: Weights
    size: int | None
    replace: bool


@dataclass(slots=True)
class Run:
    """One evaluation of one plan over one source; filters over the whole source share a pass.

    paired  by the id of its condition, what a filter keeps that did not look at every pair
    kept    that of the query whose conditions these are
    """

    source: Source
    environment: Environment
    notes: list[str] = field(default_factory=list)
    paired: dict[int, Paired] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    _filtered: dict[int, RowSet] = field(default_factory=dict)

    def rows(self, plan: Plan) -> RowSet:
        """The rows of `plan`, in order."""
        match plan:
            case Scan() | Derived() | Grouped() | Split() | Windows() | Joined() | Stacked():
                return everything(self.source.rows)
            case Filter(input, predicate):
                if id(plan) in self._filtered:
                    return self._filtered[id(plan)]
                return self._filter(self.rows(input), predicate)
            case Expand(input, before, after, overlap):
                with pointing_at(plan.span):
                    return expand(self.rows(input), before, after, overlap).rows
            case Distinct(input, distinct_keys):
                rows = self.rows(input)
                found = combined([codes(self.values(rows, k), len(rows)) for k in distinct_keys])
                return from_ids(rows.select(first_rows(found)), rows.universe)
            case Order(input, keys):
                return self._ordered(self.rows(input), keys, 0, None)
            case Cut(Order(input, keys), offset, size):  # what is cut off need not be sorted
                return self._ordered(self.rows(input), keys, offset, size)
            case Cut(input, offset, size):
                rows = self.rows(input)[offset:]
                return rows if size is None else rows[: rows_of(size, len(rows))]
            case Sample():
                return self._sample(plan)
            case Combine(first, steps):
                rows = self.rows(first)
                for (op, keep_all), run in groupby(steps, lambda s: (s.op, s.all)):
                    rows = _combine(op, keep_all, rows, [self.rows(s.plan) for s in run])
                return rows
            case _:
                assert_never(plan)

    def population(self, sample: Sample, outputs: tuple[Output, ...]) -> Population:
        """Who takes part in `sample`, and with what weight; nothing is drawn."""
        rows = self.rows(sample.input)
        size = None if sample.size is None else rows_of(sample.size, len(rows))
        return Population(
            self.source, rows, outputs, self.weights(sample.weight, rows), size, sample.replace
        )

    def weights(self, weight: Expr, rows: RowSet) -> Weights:
        """How heavily each of `rows` counts."""
        what = "group" if isinstance(self.source, GroupedSource) else "row"
        return weigh(weight, rows, self._scan, self.values, partial(self._coded, rows), what)

    def _coded(self, rows: RowSet, column: Column) -> Coded | None:
        """The column of all rows as codes, where `rows` are so many of them that it pays."""
        if not self._most(rows):
            return None
        return coded(self.source, column, self.environment.settings)

    def _most(self, rows: RowSet) -> bool:
        """Whether it is better to read a column from end to end than to pick these rows."""
        return len(rows) * _SPARSE > self.source.rows > 0

    def values(self, rows: RowSet, e: Expr) -> Vec:
        """The value of `e` for each of `rows`, in their order."""
        if (
            self._most(rows)
            and rows.ascending
            and (len(rows) == self.source.rows or not can_raise(e))
            and is_suitable(e)
        ):
            # Most of the column is wanted: reading all of it beats picking rows out of Arrow.
            everywhere = column(self.source, e, self.environment.seed, self.environment.settings)
            if len(rows) == self.source.rows:
                return everywhere
            return everywhere.take(rows.to_numpy())
        return column_at(self.source, rows.to_numpy(), e, self.environment.seed)

    def prepare(self, plan: Plan) -> None:
        """Evaluate every filter that ranges over the whole source, many in one pass over the data."""
        nodes = walk_plan(plan)
        filters = self.unpaired(
            [f for f in nodes if isinstance(f, Filter) and isinstance(f.input, Leaf)]
        )
        for start in range(0, len(filters), FILTERS_PER_PASS):
            self._evaluate(filters[start : start + FILTERS_PER_PASS])

    def _evaluate(self, filters: Sequence[Filter]) -> None:
        """One pass over the data for these filters of the whole source."""
        found = rows_where(
            self.source,
            the_same(self.kept, [f.predicate for f in filters]),
            self.environment.seed,
            self.environment.settings,
        )
        self._filtered.update(zip(map(id, filters), found, strict=True))

    def unpaired(self, filters: Sequence[Filter]) -> list[Filter]:
        """The filters that have to look at every row; the others are answered, as they range over
        a cross join and say which pairs can be among its rows.
        """
        rest: list[Filter] = []
        for f in filters:
            seed, settings = self.environment.seed, self.environment.settings
            found = paired(self.source, f.predicate, seed, settings, self._of_all)
            if found is None:
                rest.append(f)
            else:
                self.paired[id(f.predicate)] = found
                self._filtered[id(f)] = found.rows
        return rest

    def _of_all(self, source: Source, e: Expr) -> Vec:
        """The value of `e` for each row of another source."""
        return Run(source, self.environment).values(everything(source.rows), e)

    def _scan(self, conditions: Sequence[Expr]) -> list[NDArray[np.uint64]]:
        asked = the_same(self.kept, conditions)
        return scan(self.source, asked, self.environment.seed, self.environment.settings)

    def _filter(self, rows: RowSet, predicate: Expr) -> RowSet:
        """A filter over a part of the source: only these rows are looked at, and may raise."""
        frame = frame_at(self.source, rows.to_numpy(), [predicate], self.environment.seed)
        kept = np.flatnonzero(is_true(predicate, frame))
        return from_ids(rows.select(kept), rows.universe)

    def _ordered(
        self, rows: RowSet, keys: tuple[SortKey, ...], offset: int, size: Size | None
    ) -> RowSet:
        most = None
        if size is not None:
            left = max(0, len(rows) - offset)
            most = min(offset, len(rows)) + min(rows_of(size, left), left)
        if most is not None and has_more(self.source, most) and self._whole(rows, keys):
            wanted, environment = [(k.expr, k.descending) for k in keys], self.environment
            ids = top_rows(self.source, wanted, most, environment.seed, environment.settings)
            return from_ids(ids[offset:], rows.universe)
        vecs = [(self.values(rows, k.expr), k.descending) for k in keys]
        order = stable_order(vecs, len(rows), most)
        return from_ids(rows.select(order[offset:]), rows.universe)

    def _whole(self, rows: RowSet, keys: tuple[SortKey, ...]) -> bool:
        """Whether these are all rows as they stand, and the keys are for `top_rows`."""
        return (
            rows.ascending
            and len(rows) == self.source.rows
            and all(is_suitable(k.expr) for k in keys)
            # Of two keys that are errors the first one counts, wherever its row stands.
            and sum(can_raise(k.expr) for k in keys) <= 1
        )

    def _sample(self, sample: Sample) -> RowSet:
        rows = self.rows(sample.input)
        size = None if sample.size is None else rows_of(sample.size, len(rows))
        if size == 0:
            return rows[:0]
        with pointing_at(sample.span):
            weights = self.weights(sample.weight, rows)
        with pointing_at(sample.span), drawable(size, sample.replace):
            ids, notes = self.environment.draw(rows, weights, size, sample.replace, sample.site)
        self.notes += notes
        return from_ids(ids, rows.universe)


_BYTES_PER_DRAW: Final = 24  # while they are drawn


def drawable(size: int | None, replace: bool) -> AbstractContextManager[None]:
    """A block that draws so many rows: a range error where their ids cannot lie in memory."""
    return within_budget(
        size if replace and size is not None else 0, _BYTES_PER_DRAW, "these draws",
        "draw fewer here; a data loader repeats them epoch by epoch",
    )  # fmt: skip


@contextmanager
def pointing_at(span: Span) -> Iterator[None]:
    """Errors raised inside without a place get this one."""
    try:
        yield
    except TqlError as e:
        if e.diagnostic.span != NOWHERE:
            raise
        raise type(e)(replace(e.diagnostic, span=span), e.query) from e.__cause__


def select(bound: Bound, environment: Environment) -> Selection:
    """Run the query."""
    source, bound = resolve(bound, environment)
    run = Run(source, environment, kept=bound.kept)
    run.prepare(bound.plan)
    rows = run.rows(bound.plan)
    return Selection(source, rows, bound.outputs, tuple(run.notes))


def resolve(bound: Bound, environment: Environment) -> tuple[Source, Bound]:
    """The source that the plan's row numbers count, a subquery or a join being run; and the query
    without calls that need to see all of it.
    """
    source = source_at(source_of(bound.plan), environment)
    return source, settled(bound, source, environment.seed, environment.settings)


def source_at(leaf: Leaf, environment: Environment) -> Source:
    """The source whose rows are those of the leaf."""
    match leaf:
        case Scan(name):
            here = environment.here if name is None else environment.tables[name]
            assert here is not None
            return here
        case Joined(_, left, right):
            return over_several(
                leaf, [source_at(x, environment) for x in (left, right)], environment
            )
        case Stacked(branches):
            parts = [source_at(Derived(b), environment) for b in branches]
            return over_several(leaf, parts, environment)
        case _:
            found = select(leaf.query, environment)
            leaf = replace(leaf, query=replace(leaf.query, outputs=found.outputs))
            return over_result(leaf, found.source, found.rows, environment)


def over_several(
    leaf: Joined | Stacked, parts: Sequence[Source], environment: Environment
) -> JoinedSource | StackedSource:
    """The source that a leaf makes of the sides of a join, or of the branches of a union."""
    match leaf:
        case Joined():
            left, right = parts
            return _joined(leaf, left, right, environment)
        case Stacked(_, schema):
            return StackedSource(parts, schema)
        case _:
            assert_never(leaf)


def _joined(plan: Joined, left: Source, right: Source, environment: Environment) -> JoinedSource:
    """The join of two sources that are there; what its condition says of one side is asked first."""

    def side(leaf: Leaf, source: Source, condition: Expr | None) -> Side:
        run = Run(source, environment)
        if condition is None:
            return Side(source, everything(source.rows), run.values)
        allowed = Filter(leaf, condition)
        run.prepare(allowed)
        return Side(source, run.rows(allowed), run.values)

    sides = side(plan.left, left, plan.only_left), side(plan.right, right, plan.only_right)
    return join(plan, *sides, environment.seed)


def over_result(leaf: MadeLeaf, source: Source, rows: RowSet, environment: Environment) -> Source:
    """The source that a leaf makes of the result of its query, which is `rows` of `source`."""
    query, seed = leaf.query, environment.seed
    match leaf:
        case Derived():
            return DerivedSource(source, rows, query.outputs, seed)
        case Grouped(_, keys):
            known = {o.name: o.expr for o in query.outputs}
            run = Run(source, environment)
            values = [run.values(rows, known[k]) for k in keys]
            return group(DerivedSource(source, rows, query.outputs, seed), leaf, values)
        case Split():
            return SplitSource(DerivedSource(source, rows, query.outputs, seed), leaf)
        case Windows(_, before, after, overlap):
            with pointing_at(leaf.span):
                runs = expand(rows, before, after, overlap)
                expanded = runs.rows
            inner = DerivedSource(source, expanded, query.outputs, seed)
            return WindowSource(inner, leaf, runs.windows)
        case _:
            assert_never(leaf)


def rows_of(size: Size, arriving: int) -> int:
    """How many rows a LIMIT lets through (not more than arrive, for a LIMIT without SAMPLE)."""
    match size:
        case Count(rows):
            return rows
        case Percent(percent):
            return floor(arriving * percent / 100)
        case _:
            assert_never(size)


def _combine(op: SetOp, keep_all: bool, left: RowSet, others: Sequence[RowSet]) -> RowSet:
    """One set operation, with one set after the other; unions of many take one step."""
    match op, keep_all:
        case SetOp.UNION, True:
            return concat(left, *others)
        case SetOp.UNION, False:
            return union(left, *others)
        case SetOp.INTERSECT, False:
            return reduce(intersect, others, left)
        case SetOp.EXCEPT, False:
            return subtract(left, union(*others))
        case _:
            return reduce(partial(_multiset, op), others, left)


def _multiset(op: SetOp, left: RowSet, right: RowSet) -> RowSet:
    """INTERSECT ALL keeps min(l, r) copies of a row, EXCEPT ALL max(l - r, 0); ascending."""
    rows, counts = np.unique(left.to_numpy(), return_counts=True)
    other, other_counts = np.unique(right.to_numpy(), return_counts=True)
    theirs = np.zeros_like(counts)
    common = np.isin(rows, other)
    theirs[common] = other_counts[np.searchsorted(other, rows[common])]
    kept = np.minimum(counts, theirs) if op is SetOp.INTERSECT else np.maximum(counts - theirs, 0)
    return from_ids(np.repeat(rows, kept), left.universe)
