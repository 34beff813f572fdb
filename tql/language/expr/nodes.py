"""Typed expressions: a closed union of frozen dataclasses.

Names are resolved, text that names a class is an index, numbers next to a narrower column have
that column's type. Both tiers of the engine evaluate exactly these nodes, with SQL's three-valued
logic: `nullable` says whether a node can be NULL."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from tql.diagnostics import NOWHERE, Span
from tql.language.expr.parts import Cell, TextRule
from tql.language.expr.symbols import ArithOp, CallName, CompareOp
from tql.language.user_function import UserFunction
from tql.schema import Bool, DType, Float, Int, Json, List


@dataclass(frozen=True, slots=True)
class Node:
    """`span` takes no part in equality or repr: a predicate is the same wherever it stands."""

    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Column(Node):
    """A column of the FROM source.

    computed  whether it is made by an expression below, of a subquery, that may raise
    """

    name: str
    dtype: DType
    nullable: bool
    computed: bool = field(default=False, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Const(Node):
    """A value known when the query is bound: bool, int, float, str, or a tuple of these."""

    value: Any
    dtype: DType

    @property
    def nullable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class StoredValue(Node):
    """What `data()` found, where no literal could stand for it: the same for every row."""

    cell: Cell
    dtype: DType
    nullable: bool


@dataclass(frozen=True, slots=True)
class Condition(Node):
    """A node whose value is a truth value."""

    @property
    def dtype(self) -> DType:
        return Bool()


@dataclass(frozen=True, slots=True)
class Not(Condition):
    operand: "Expr"

    @property
    def nullable(self) -> bool:
        return self.operand.nullable


@dataclass(frozen=True, slots=True)
class And(Condition):
    """Two terms or more, none of them an And. A row that an earlier term rejects never raises."""

    terms: tuple["Expr", ...]

    @property
    def nullable(self) -> bool:
        return any(t.nullable for t in self.terms)


@dataclass(frozen=True, slots=True)
class Or(Condition):
    """Two terms or more, none of them an Or. A row that an earlier term accepts never raises."""

    terms: tuple["Expr", ...]

    @property
    def nullable(self) -> bool:
        return any(t.nullable for t in self.terms)


@dataclass(frozen=True, slots=True)
class Compare(Condition):
    """Two numbers by mathematical value (bool counts as 0 and 1), or two times of one unit.

    Operands of different types are compared exactly: 2^53 + 1 is not 2^53.0.
    """

    op: CompareOp
    left: "Expr"
    right: "Expr"

    @property
    def nullable(self) -> bool:
        return self.left.nullable or self.right.nullable


@dataclass(frozen=True, slots=True)
class CompareText(Condition):
    """Two texts by code point, neither of them constant."""

    op: CompareOp
    left: "Expr"
    right: "Expr"

    @property
    def nullable(self) -> bool:
        return self.left.nullable or self.right.nullable


@dataclass(frozen=True, slots=True)
class CompareTimes(Condition):
    """Two times of different units, exactly: a moment between two counts is equal to neither."""

    op: CompareOp
    left: "Expr"
    right: "Expr"

    @property
    def nullable(self) -> bool:
        return self.left.nullable or self.right.nullable


@dataclass(frozen=True, slots=True)
class TextTest(Condition):
    """A rule about one text, so that it is decided once per distinct value."""

    operand: "Expr"
    rule: TextRule

    @property
    def nullable(self) -> bool:
        return self.operand.nullable


@dataclass(frozen=True, slots=True)
class InSet(Condition):
    """The number equals one of `values`, which are sorted, distinct and of the operand's type."""

    operand: "Expr"
    values: tuple[int | float, ...]

    @property
    def nullable(self) -> bool:
        return self.operand.nullable


@dataclass(frozen=True, slots=True)
class IsNull(Condition):
    operand: "Expr"

    @property
    def nullable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Truth(Condition):
    """A number read as a truth value: true when it is not zero (NaN is true)."""

    operand: "Expr"

    @property
    def nullable(self) -> bool:
        return self.operand.nullable


@dataclass(frozen=True, slots=True)
class Arith(Node):
    """Both operands are numbers; `dtype` says in which type the operation is done.

    int64 and uint64 raise when the result does not fit; `%` takes the dividend's sign and raises
    for an integer divisor of zero; `/` is IEEE.
    """

    op: ArithOp
    left: "Expr"
    right: "Expr"
    dtype: Int | Float

    @property
    def nullable(self) -> bool:
        return self.left.nullable or self.right.nullable


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of `tql.language.functions` other than the weights.

    `site` numbers the calls of a query from the left, so that two `random()` differ.
    """

    function: CallName
    arguments: tuple["Expr", ...]
    dtype: DType
    nullable: bool
    site: int = 0


@dataclass(frozen=True, slots=True)
class Bm25Score(Node):
    """`bm25_similarity()` once the statistics of the whole column are known.

    words, weights  the distinct words of the query, and what each counts
    mean_length     of the texts of the column, in words
    """

    operand: "Expr"
    words: tuple[str, ...]
    weights: tuple[float, ...]
    mean_length: float

    @property
    def dtype(self) -> DType:
        return Float(64)

    @property
    def nullable(self) -> bool:
        return self.operand.nullable


@dataclass(frozen=True, slots=True)
class Slot(Node):
    """One element of an operand of the `Elementwise` around it, or the operand itself if a scalar;
    in the body of a `Once`, the value of its operand.
    """

    at: int
    dtype: DType
    nullable: bool


@dataclass(frozen=True, slots=True)
class Elementwise(Node):
    """`body` for every element: an array, NULL where an operand is that is not `open`.

    `open` are the numbers of operands that are scalars and whose NULL is a NULL beside each element:
    those of AND and OR, where the other side may decide. `operands` are broadcast against each other within each row by NumPy's rules, a row whose shapes
    do not fit raises; `body` names them as slots, and is typed as if it stood alone.
    """

    operands: tuple["Expr", ...]
    body: "Expr"
    dtype: List
    open: frozenset[int] = frozenset()

    @property
    def strict(self) -> tuple["Expr", ...]:
        """The operands whose NULL makes the array NULL."""
        return tuple(o for at, o in enumerate(self.operands) if at not in self.open)

    @property
    def nullable(self) -> bool:
        return any(o.nullable for o in self.strict)


@dataclass(frozen=True, slots=True)
class Once(Condition):
    """`body`, which names the value of the scalar `operand` as slot 0, however often it needs it.

    The slots of a `Once` within the body, but not within its operand, are its own.
    """

    operand: "Expr"
    body: "Expr"
    nullable: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """`start:stop:step` within brackets, by NumPy's rules; each an integer or left out."""

    start: "Expr | None"
    stop: "Expr | None"
    step: "Expr | None"

    @property
    def parts(self) -> tuple["Expr", ...]:
        return tuple(p for p in (self.start, self.stop, self.step) if p is not None)


@dataclass(frozen=True, slots=True)
class Subscript(Node):
    """`operand[subscripts]` of an array. An index out of range is NULL; a slice is cut to fit."""

    operand: "Expr"
    subscripts: "tuple[Expr | Slice, ...]"
    dtype: DType
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class JsonItem(Node):
    """`operand[key]` of a JSON value: a member by text, an element by integer; NULL if there is none."""

    operand: "Expr"
    key: "Expr"

    @property
    def dtype(self) -> DType:
        return Json(item=True)

    @property
    def nullable(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class JsonCompare(Condition):
    """Two values of which one is JSON at least; values of different JSON types are not equal, and
    their order is NULL.
    """

    op: CompareOp
    left: "Expr"
    right: "Expr"

    @property
    def nullable(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class JsonAs(Node):
    """The JSON value where it is of this kind, else NULL.

    Text() is a string, Float(64) a number, Bool() the truth value of true, false or a number.
    """

    operand: "Expr"
    dtype: DType

    @property
    def nullable(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class UserCall(Node):
    """A registered Python function; NULL where an argument is, or where it gives None."""

    function: UserFunction
    arguments: tuple["Expr", ...]
    dtype: DType

    @property
    def nullable(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Arm:
    condition: "Expr"
    weight: "Expr"


class WeightKind(StrEnum):
    MAX = "max_weight"
    SUM = "sum_weight"


@dataclass(frozen=True, slots=True)
class WeightCase(Node):
    """The largest, or the sum, of the weights whose condition is TRUE; 0 where none is."""

    kind: WeightKind
    arms: tuple[Arm, ...]

    @property
    def dtype(self) -> DType:
        return Float(64)

    @property
    def nullable(self) -> bool:
        return any(arm.weight.nullable for arm in self.arms)


@dataclass(frozen=True, slots=True)
class Balanced(Node):
    """A weight: one over how many of the rows to draw from are of the row's class, to `power`.

    With a threshold, that over what a class of just so large a share of the rows would weigh, and 1
    where the class is larger: the repeat factor max(1, (threshold / share) ^ power).

    It depends on all these rows, so it stands alone as a weight, and no tier evaluates it by row.
    """

    operand: "Expr"
    power: float
    threshold: float | None = None

    @property
    def dtype(self) -> DType:
        return Float(64)

    @property
    def nullable(self) -> bool:
        return False


Expr: TypeAlias = (
    Column
    | Const
    | StoredValue
    | Not
    | And
    | Or
    | Compare
    | CompareText
    | CompareTimes
    | TextTest
    | InSet
    | IsNull
    | Truth
    | Arith
    | Call
    | Bm25Score
    | UserCall
    | WeightCase
    | Balanced
    | Slot
    | Elementwise
    | Once
    | Subscript
    | JsonItem
    | JsonCompare
    | JsonAs
)
