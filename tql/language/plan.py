"""The typed query: which rows, in which order, and what each result column is.

Every node but a `Leaf` keeps the row numbers of the leaf below it, so a row set says everything
about the rows; `Bound.outputs` says what the columns are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias, assert_never

from tql.diagnostics import NOWHERE, Span
from tql.grammar.syntax import SetOp
from tql.language.expr import Column, Expr
from tql.schema import Column as SchemaColumn
from tql.schema import Schema


@dataclass(frozen=True, slots=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Scan(Node):
    """All rows of the data set named `table`; None is the one the query was asked of."""

    table: str | None
    schema: Schema


@dataclass(frozen=True, slots=True)
class Derived(Node):
    """All rows of a subquery's result, numbered from 0."""

    query: "Bound"

    @property
    def schema(self) -> Schema:
        return self.query.schema


Leaf: TypeAlias = Scan | Derived
"""What rows come from: every plan ends in one, whose rows its row numbers count."""


@dataclass(frozen=True, slots=True)
class Filter(Node):
    """The rows for which `predicate` is TRUE. `text` is the condition in canonical TQL."""

    input: "Plan"
    predicate: Expr
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
class Combine(Node):
    """A set operation on the row numbers of one source; ascending unless UNION ALL."""

    op: SetOp
    all: bool
    left: "Plan"
    right: "Plan"


Plan: TypeAlias = Leaf | Filter | Order | Cut | Sample | Combine


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
    """A query, bound. `outputs` are expressions over the columns of the plan's source."""

    plan: Plan
    outputs: tuple[Output, ...]

    @property
    def schema(self) -> Schema:
        return Schema(o.column for o in self.outputs)


def inputs(plan: Plan) -> tuple[Plan, ...]:
    """The plans that this one takes rows from; a subquery is a source, not an input."""
    match plan:
        case Scan() | Derived():
            return ()
        case Filter(input) | Order(input) | Cut(input) | Sample(input):
            return (input,)
        case Combine(_, _, left, right):
            return (left, right)
        case _:
            assert_never(plan)


def with_inputs(plan: Plan, new: tuple[Plan, ...]) -> Plan:
    """The plan over other inputs, as many as `inputs(plan)` has."""
    match plan:
        case Scan() | Derived():
            return plan
        case Filter() | Order() | Cut() | Sample():
            return replace(plan, input=new[0])
        case Combine():
            return replace(plan, left=new[0], right=new[1])
        case _:
            assert_never(plan)


def expressions(plan: Plan) -> tuple[Expr, ...]:
    """The expressions of this node alone."""
    match plan:
        case Filter(_, predicate):
            return (predicate,)
        case Order(_, keys):
            return tuple(k.expr for k in keys)
        case Sample(_, weight):
            return (weight,)
        case Scan() | Derived() | Cut() | Combine():
            return ()
        case _:
            assert_never(plan)


def with_expressions(plan: Plan, rule: Callable[[Expr], Expr]) -> Plan:
    """The node with `rule` applied to each of its expressions."""
    match plan:
        case Filter(_, predicate):
            return replace(plan, predicate=rule(predicate))
        case Order(_, keys):
            return replace(plan, keys=tuple(replace(k, expr=rule(k.expr)) for k in keys))
        case Sample(_, weight):
            return replace(plan, weight=rule(weight))
        case Scan() | Derived() | Cut() | Combine():
            return plan
        case _:
            assert_never(plan)


def walk_plan(plan: Plan) -> Iterator[Plan]:
    """The plan and everything below it down to its source."""
    yield plan
    for below in inputs(plan):
        yield from walk_plan(below)


def source_of(plan: Plan) -> Leaf:
    """What the row numbers of `plan` count."""
    while not isinstance(plan, Leaf):
        plan = inputs(plan)[0]
    return plan
