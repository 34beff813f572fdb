"""The query as written: a closed union of frozen dataclasses.

Nothing here knows columns or types; `tql.language.bind` turns these nodes into typed ones. `span`
says where a node stands in the text and takes no part in equality, so `parse(format(q)) == q`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from tql.diagnostics import NOWHERE, Span


@dataclass(frozen=True, slots=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


# -- expressions -------------------------------------------------------------------------------


class UnaryOp(StrEnum):
    NOT = "not"
    NEG = "-"
    POS = "+"


class BinaryOp(StrEnum):
    OR = "or"
    AND = "and"
    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    MOD = "%"


@dataclass(frozen=True, slots=True)
class Number(Node):
    """`value` is an int where the literal is an integer, else a float; signs are operators."""

    value: int | float

    def __eq__(self, other: object) -> bool:  # 1 is not 1.0 in TQL
        return isinstance(other, Number) and (type(self.value), self.value) == (
            type(other.value),
            other.value,
        )

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


@dataclass(frozen=True, slots=True)
class String(Node):
    value: str


@dataclass(frozen=True, slots=True)
class Boolean(Node):
    value: bool


@dataclass(frozen=True, slots=True)
class Array(Node):
    items: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """`?` has the position (0, 1, …) as its key, `$name` the name."""

    key: int | str


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A column, or an alias; `source` is the part before the dot."""

    name: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Unary(Node):
    op: UnaryOp
    operand: "Expr"


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`op` is any but AND and OR, which are chains."""

    op: BinaryOp
    left: "Expr"
    right: "Expr"


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """`a or b or c …`: two or more terms joined by one `op`, AND or OR.

    Flat, because generated filters chain thousands of terms: walking them must not recurse.
    """

    op: BinaryOp
    terms: "tuple[Expr, ...]"


@dataclass(frozen=True, slots=True)
class Like(Node):
    operand: "Expr"
    pattern: "Expr"
    fold_case: bool = False
    negated: bool = False


@dataclass(frozen=True, slots=True)
class InList(Node):
    """`choices` is a tuple of expressions, an ARRAY literal, or a list parameter."""

    operand: "Expr"
    choices: "tuple[Expr, ...] | Array | Parameter"
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Between(Node):
    operand: "Expr"
    low: "Expr"
    high: "Expr"
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNull(Node):
    operand: "Expr"
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Slice(Node):
    start: "Expr | None"
    stop: "Expr | None"
    step: "Expr | None"


@dataclass(frozen=True, slots=True)
class Subscript(Node):
    """`value[a, b:c]`; a String subscript is JSON access."""

    value: "Expr"
    subscripts: "tuple[Expr | Slice, ...]"


@dataclass(frozen=True, slots=True)
class Star(Node):
    """The `*` of `count(*)`."""


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`function` is lower-case. `axis` is the value of a trailing `axis = <int>`."""

    function: str
    arguments: "tuple[Expr | Star, ...]"
    axis: "Expr | None" = None
    name_span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Arm(Node):
    """`condition: weight`."""

    condition: "Expr"
    weight: "Expr"


@dataclass(frozen=True, slots=True)
class WeightCall(Node):
    """`max_weight(…)` or `sum_weight(…)`."""

    function: str
    arms: tuple[Arm, ...]


Expr: TypeAlias = (
    Number
    | String
    | Boolean
    | Array
    | Parameter
    | Name
    | Unary
    | Binary
    | Chain
    | Like
    | InList
    | Between
    | IsNull
    | Subscript
    | Call
    | WeightCall
)


# -- queries -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AllColumns(Node):
    """`*` or `alias.*` in a select list."""

    source: str | None = None


@dataclass(frozen=True, slots=True)
class Item(Node):
    expr: Expr
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Table(Node):
    """`from name [as alias]`: a path, a URI or a name the caller knows."""

    name: str
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Subquery(Node):
    query: "Query"
    alias: str | None = None


class JoinKind(StrEnum):
    INNER = "inner"
    LEFT = "left"
    RIGHT = "right"
    FULL = "full"
    CROSS = "cross"


@dataclass(frozen=True, slots=True)
class Join(Node):
    """`left KIND join right on condition`, or `using (names)`; a comma in FROM is CROSS."""

    kind: JoinKind
    left: "Source"
    right: "Source"
    on: Expr | None = None
    using: tuple[Name, ...] = ()


Source: TypeAlias = Table | Subquery | Join


@dataclass(frozen=True, slots=True)
class OrderKey(Node):
    expr: Expr
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Limit(Node):
    """`limit count [percent]`; `count` is None for `limit all`."""

    count: Expr | None
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Sample(Node):
    """`replace` is None where the clause does not say (the default is true)."""

    weight: Expr
    replace: bool | None = None
    limit: Limit | None = None
    order: tuple[OrderKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Distinct(Node):
    """`keys` is empty for plain DISTINCT."""

    keys: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Expand(Node):
    before: int
    after: int
    overlap: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class GroupBy(Node):
    keys: tuple[Expr, ...]
    having: Expr | None = None


@dataclass(frozen=True, slots=True)
class Ungroup(Node):
    """`ungroup by split`."""


@dataclass(frozen=True, slots=True)
class Select(Node):
    """One SELECT without its tail. `top` is the TOP clause; it acts as a LIMIT of this select."""

    items: tuple[AllColumns | Item, ...]
    source: Source | None = None
    where: Expr | None = None
    top: int | None = None
    distinct: Distinct | None = None
    expand: Expand | None = None
    group: GroupBy | None = None
    ungroup: Ungroup | None = None


class SetOp(StrEnum):
    UNION = "union"
    INTERSECT = "intersect"
    EXCEPT = "except"


@dataclass(frozen=True, slots=True)
class SetStep(Node):
    """`OP [all] body`; the span begins where the set operation does, so it covers both sides."""

    op: SetOp
    body: "Body"
    all: bool = False


@dataclass(frozen=True, slots=True)
class Combined(Node):
    """`first OP [all] body OP [all] body …`, from the left, by operators that bind alike: UNION and
    EXCEPT, or INTERSECT. `first` is no such chain itself.

    Flat, because generated queries chain thousands of branches: walking them must not recurse.
    """

    first: "Body"
    steps: tuple[SetStep, ...]


Body: TypeAlias = "Select | Combined | Query"


@dataclass(frozen=True, slots=True)
class Query(Node):
    """A body with its tail. A parenthesised branch of a set operation is a Query of its own; one
    without a tail is written as its body, so that redundant parentheses leave no trace.
    """

    body: Body
    order: tuple[OrderKey, ...] = ()
    limit: Limit | None = None
    offset: Expr | None = None
    sample: Sample | None = None
