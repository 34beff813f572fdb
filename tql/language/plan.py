"""The typed query: which rows, in which order, and what each result column is.

Every node but a `Leaf` keeps the row numbers of the leaf below it, so a row set says everything
about the rows; `Bound.outputs` says what the columns are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias, TypeGuard, assert_never

from tql.diagnostics import NOWHERE, Span
from tql.grammar.syntax import JoinKind, SetOp
from tql.language.expr import Column, Expr, can_raise
from tql.schema import Column as SchemaColumn
from tql.schema import DType, Int, List, Schema


@dataclass(frozen=True, slots=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Scan(Node):
    """All rows of the data set named `table`; None is the one the query was asked of.

    computed  the columns that this one, a view, makes by expressions which may raise
    """

    table: str | None
    schema: Schema
    computed: frozenset[str] = field(default=frozenset(), compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Derived(Node):
    """All rows of a subquery's result, numbered from 0."""

    query: "Bound"

    @property
    def schema(self) -> Schema:
        return self.query.schema


@dataclass(frozen=True, slots=True)
class Grouped(Node):
    """The groups of a query's rows that agree in `keys`, which name columns of it.

    Groups nest: by the first key in order of appearance, within it by the second, and so on. Each
    column of `query` becomes the sequence of a group's values, in row order. Beside them stand the
    single value of each key (`key_columns`) and the number of rows (`count_column`).

    visible  the columns that a query names; the others are what its expressions need of the rows
    """

    query: "Bound"
    keys: tuple[str, ...]
    visible: tuple[str, ...]
    text: str = field(default="", compare=False, kw_only=True)

    @property
    def schema(self) -> Schema:
        sequences = [
            SchemaColumn(c.name, List(c.dtype, grouped=True), False) for c in self.query.schema
        ]
        return Schema([*sequences, *self.key_columns.values(), self.count_column])

    @property
    def key_columns(self) -> dict[str, SchemaColumn]:
        """By key, the value that all rows of a group have."""
        below = self.query.schema
        taken = frozenset(below.names)
        return {
            key: SchemaColumn(unused(f"{key} of the group", taken), c.dtype, c.nullable)
            for key in self.keys
            for c in (below[key],)
        }

    @property
    def count_column(self) -> SchemaColumn:
        return SchemaColumn(unused("rows of the group", self.query.schema.names), Int(64), False)


@dataclass(frozen=True, slots=True)
class Split(Node):
    """The members of the sequences of a query's rows, one row each; other columns repeat."""

    query: "Bound"
    visible: tuple[str, ...]

    @property
    def schema(self) -> Schema:
        return Schema(
            SchemaColumn(c.name, c.dtype.item, True) if is_sequence(c.dtype) else c
            for c in self.query.schema
        )


@dataclass(frozen=True, slots=True)
class Windows(Node):
    """The rows of EXPAND BY … AS name: `Expand` of the query's rows, with the window's number."""

    query: "Bound"
    before: int
    after: int
    overlap: bool
    name: str
    visible: tuple[str, ...]

    @property
    def schema(self) -> Schema:
        return Schema([*self.query.schema, SchemaColumn(self.name, Int(64), False)])


@dataclass(frozen=True, slots=True)
class JoinColumn:
    """A column of a join: that of the left side, of the right, or, where both are named, the left's
    for the rows that have a left side, else the right's.
    """

    column: SchemaColumn
    left: str | None
    right: str | None


@dataclass(frozen=True, slots=True)
class Joined(Node):
    """Pairs of rows of two leaves, numbered from 0: those of each left row in the left's order, in
    the right's order; then, of RIGHT and FULL, the right rows without a partner.

    keys        (over the columns of the left, over those of the right): equal in each pair
    only_left   what else is TRUE of the left row of each pair, over the left's columns
    only_right  the same of the right
    rest        what else is TRUE of the pair, over `columns`
    text        the condition in canonical TQL; empty for CROSS, which has none of these
    """

    kind: JoinKind
    left: "Leaf"
    right: "Leaf"
    columns: tuple[JoinColumn, ...]
    keys: tuple[tuple[Expr, Expr], ...] = ()
    only_left: Expr | None = None
    only_right: Expr | None = None
    rest: Expr | None = None
    text: str = field(default="", compare=False, kw_only=True)

    @property
    def schema(self) -> Schema:
        return Schema(c.column for c in self.columns)


@dataclass(frozen=True, slots=True)
class Stacked(Node):
    """The rows of several queries one after the other, numbered from 0: UNION of different sources.

    Each has columns of these names, in any order and in types that fit into those of `schema`.
    `all` says of each but the first whether UNION ALL added it.
    """

    branches: "tuple[Bound, ...]"
    schema: Schema
    all: tuple[bool, ...]


Leaf: TypeAlias = Scan | Derived | Grouped | Split | Windows | Joined | Stacked
"""What rows come from: every plan ends in one, whose rows its row numbers count."""


def computed_in(leaf: Leaf) -> frozenset[str]:
    """The columns of what FROM names that subqueries, or views, make by expressions which may raise."""
    match leaf:
        case Scan():
            return leaf.computed
        case Derived(query) | Grouped(query) | Split(query) | Windows(query):
            return frozenset(o.name for o in query.outputs if can_raise(o.expr))
        case Stacked(branches):
            outputs = (o for branch in branches for o in branch.outputs)
            return frozenset(o.name for o in outputs if can_raise(o.expr))
        case Joined(_, left, right, columns):
            ours, theirs = computed_in(left), computed_in(right)
            return frozenset(c.column.name for c in columns if c.left in ours or c.right in theirs)
        case _:
            assert_never(leaf)


def in_scope(leaf: Leaf) -> Schema:
    """The columns of `leaf` that a query over it may name."""
    match leaf:
        case Scan() | Derived() | Joined() | Stacked():
            return leaf.schema
        case Grouped(_, _, visible) | Split(_, visible):
            return leaf.schema.select(visible)
        case Windows():
            return leaf.schema.select([*leaf.visible, leaf.name])
        case _:
            assert_never(leaf)


def is_sequence(dtype: DType) -> TypeGuard[List]:
    """Whether a value is the sequence of a group's values."""
    return isinstance(dtype, List) and dtype.grouped


def unused(name: str, taken: Iterable[str]) -> str:
    """`name`, marked where a column has it already."""
    known = frozenset(taken)
    while name in known:
        name += "'"
    return name


@dataclass(frozen=True, slots=True)
class Filter(Node):
    """The rows for which `predicate` is TRUE. `text` is the condition in canonical TQL."""

    input: "Plan"
    predicate: Expr
    text: str = field(default="", compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Expand(Node):
    """Also the rows up to `before` ahead of and `after` behind each row, as far as there are any.

    Each row once, ascending; with `overlap` one window for each row that arrives, in their order.
    """

    input: "Plan"
    before: int
    after: int
    overlap: bool


@dataclass(frozen=True, slots=True)
class Distinct(Node):
    """The first of the rows that agree in all keys; NULL and NaN agree with themselves.

    `text` is what the keys are, for people.
    """

    input: "Plan"
    keys: tuple[Expr, ...]
    text: str = field(default="", compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class SortKey:
    expr: Expr
    descending: bool
    text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Order(Node):
    """Stable; NULL last and NaN just before it, in both directions."""

    input: "Plan"
    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """So many rows."""

    rows: int


@dataclass(frozen=True, slots=True)
class Percent:
    """This part of the rows that arrive, rounded down."""

    percent: Fraction


Size: TypeAlias = Count | Percent


@dataclass(frozen=True, slots=True)
class Cut(Node):
    """`offset` rows are passed over, then `size` kept (all where it is None)."""

    input: "Plan"
    offset: int
    size: Size | None


@dataclass(frozen=True, slots=True)
class Sample(Node):
    """Draws in proportion to `weight`, in draw order. `size` None draws as many as arrive.

    `site` numbers the random clauses and calls of a query, so that no two share their draws.
    """

    input: "Plan"
    weight: Expr
    replace: bool
    size: Size | None
    site: int
    text: str = field(default="", compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class SetStep:
    """`OP [all] plan`."""

    op: SetOp
    all: bool
    plan: "Plan"


@dataclass(frozen=True, slots=True)
class Combine(Node):
    """Set operations on the row numbers of one source, from the left; what one gives is ascending
    unless it is UNION ALL. Flat, since there may be thousands.
    """

    first: "Plan"
    steps: tuple[SetStep, ...]


Plan: TypeAlias = Leaf | Filter | Expand | Distinct | Order | Cut | Sample | Combine


@dataclass(frozen=True, slots=True)
class Output:
    """One column of the result."""

    name: str
    expr: Expr

    @property
    def stored(self) -> str | None:
        """The source column this is, where it is one as it stands."""
        return self.expr.name if isinstance(self.expr, Column) else None

    @property
    def column(self) -> SchemaColumn:
        return SchemaColumn(self.name, self.expr.dtype, self.expr.nullable)


@dataclass(frozen=True, slots=True)
class Bound:
    """A query, bound. `outputs` are expressions over the columns of the plan's source.

    kept  what running it once found of its conditions (`engine.remembered`), and goes with it
    """

    plan: Plan
    outputs: tuple[Output, ...]
    kept: list[Any] = field(default_factory=list, compare=False, repr=False)

    @property
    def schema(self) -> Schema:
        return Schema(o.column for o in self.outputs)
