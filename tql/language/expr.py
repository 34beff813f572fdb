"""Typed expressions: a closed union of frozen dataclasses.

Names are resolved, text that names a class is an index, numbers next to a narrower column have
that column's type. Both tiers of the engine evaluate exactly these nodes, with SQL's three-valued
logic: `nullable` says whether a node can be NULL.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, TypeAlias, assert_never

from tql.diagnostics import NOWHERE, Span
from tql.language.array_types import array_of as array_of
from tql.language.array_types import broadcast_sizes, scalar_of, sizes_of
from tql.language.array_types import is_rectangular as is_rectangular
from tql.language.user_function import UserFunction
from tql.schema import Binary, Bool, DType, Float, Int, Json, Label, List, Time


class CompareOp(StrEnum):
    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="

    @property
    def mirrored(self) -> "CompareOp":
        """The operator with its operands exchanged."""
        return _MIRRORED[self]

    @property
    def negated(self) -> "CompareOp":
        """The operator that holds where this one does not; not for floats, where NaN is neither."""
        return _NEGATED[self]


_MIRRORED = {
    CompareOp.EQ: CompareOp.EQ,
    CompareOp.NE: CompareOp.NE,
    CompareOp.LT: CompareOp.GT,
    CompareOp.LE: CompareOp.GE,
    CompareOp.GT: CompareOp.LT,
    CompareOp.GE: CompareOp.LE,
}
_NEGATED = {
    CompareOp.EQ: CompareOp.NE,
    CompareOp.NE: CompareOp.EQ,
    CompareOp.LT: CompareOp.GE,
    CompareOp.LE: CompareOp.GT,
    CompareOp.GT: CompareOp.LE,
    CompareOp.GE: CompareOp.LT,
}


class ArithOp(StrEnum):
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    MOD = "%"


@dataclass(frozen=True, slots=True)
class Node:
    """`span` takes no part in equality or repr: a predicate is the same wherever it stands."""

    span: Span = field(default=NOWHERE, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Column(Node):
    """A column of the FROM source."""

    name: str
    dtype: DType
    nullable: bool


@dataclass(frozen=True, slots=True)
class Const(Node):
    """A value known when the query is bound: bool, int, float, str, or a tuple of these."""

    value: Any
    dtype: DType

    @property
    def nullable(self) -> bool:
        return False


class Cell:
    """One value of a column, which no literal could stand for: an Arrow array of length one.

    Cells are the same that have the same type and content.
    """

    __slots__ = ("_shown", "array")

    def __init__(self, array: Any) -> None:
        self.array = array
        content = repr((str(array.type), array.to_pylist())).encode()
        self._shown = f"Cell({blake2b(content, digest_size=16).hexdigest()})"

    def __repr__(self) -> str:
        return self._shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self._shown == other._shown

    def __hash__(self) -> int:
        return hash(self._shown)


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
class TextIs:
    """`text OP value`, by code point."""

    op: CompareOp
    value: str


@dataclass(frozen=True, slots=True)
class TextIn:
    """The text is one of `values`."""

    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class TextLike:
    """The whole text matches `pattern`: * or % any run, ? one code point, backslash escapes."""

    pattern: str
    fold_case: bool


@dataclass(frozen=True, slots=True)
class TextContains:
    """`needle` occurs in the text; '' occurs in every text."""

    needle: str


TextRule: TypeAlias = TextIs | TextIn | TextLike | TextContains


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

    function: str
    arguments: tuple["Expr", ...]
    dtype: DType
    nullable: bool
    site: int = 0


@dataclass(frozen=True, slots=True)
class Slot(Node):
    """One element of an operand of the `Elementwise` around it, or the operand itself if a scalar."""

    at: int
    dtype: DType
    nullable: bool


@dataclass(frozen=True, slots=True)
class Elementwise(Node):
    """`body` for every element: an array, NULL where an operand is.

    `operands` are broadcast against each other within each row by NumPy's rules, a row whose shapes
    do not fit raises; `body` names them as slots, and is typed as if it stood alone.
    """

    operands: tuple["Expr", ...]
    body: "Expr"
    dtype: List

    @property
    def nullable(self) -> bool:
        return any(o.nullable for o in self.operands)


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

    It depends on all these rows, so it stands alone as a weight, and no tier evaluates it by row.
    """

    operand: "Expr"
    power: float

    @property
    def dtype(self) -> DType:
        return Float(64)

    @property
    def nullable(self) -> bool:
        return False


Expr: TypeAlias = (
    Column
    | Const
    | Not
    | And
    | Or
    | Compare
    | CompareText
    | TextTest
    | InSet
    | IsNull
    | Truth
    | Arith
    | Call
    | UserCall
    | WeightCase
    | Balanced
    | Slot
    | Elementwise
    | Subscript
    | JsonItem
    | JsonCompare
    | JsonAs
)


def children(e: Expr) -> tuple[Expr, ...]:
    """The direct operands of `e`, from left to right."""
    match e:
        case Column() | Const() | Slot():
            return ()
        case Not(operand) | IsNull(operand) | Truth(operand) | JsonAs(operand) | Balanced(operand):
            return (operand,)
        case TextTest(operand) | InSet(operand):
            return (operand,)
        case Elementwise(operands):
            return operands
        case Subscript(operand, subscripts):
            return (operand, *_parts(subscripts))
        case JsonItem(operand, key):
            return (operand, key)
        case And(terms) | Or(terms):
            return terms
        case Compare(_, left, right) | CompareText(_, left, right) | Arith(_, left, right):
            return (left, right)
        case JsonCompare(_, left, right):
            return (left, right)
        case Call(_, arguments) | UserCall(_, arguments):
            return arguments
        case WeightCase(_, arms):
            return tuple(part for arm in arms for part in (arm.condition, arm.weight))
        case _:
            assert_never(e)


def _parts(subscripts: tuple[Expr | Slice, ...]) -> Iterator[Expr]:
    for s in subscripts:
        yield from s.parts if isinstance(s, Slice) else (s,)


def _with_parts(
    subscripts: tuple[Expr | Slice, ...], new: Iterator[Expr]
) -> Iterator[Expr | Slice]:
    for s in subscripts:
        match s:
            case Slice(start, stop, step):
                yield Slice(*(None if p is None else next(new) for p in (start, stop, step)))
            case _:
                yield next(new)


def walk(e: Expr) -> Iterator[Expr]:
    """`e` and everything below it, parents first; not the bodies of what is done by element."""
    yield e
    for child in children(e):
        yield from walk(child)


def walk_inside(e: Expr) -> Iterator[Expr]:
    """As `walk`, and the bodies of what is done by element."""
    for node in walk(e):
        yield node
        if isinstance(node, Elementwise):
            yield from walk_inside(node.body)


def columns_of(e: Expr) -> frozenset[str]:
    """Names of the columns that `e` reads."""
    return frozenset(n.name for n in walk(e) if isinstance(n, Column))


def rewrite(e: Expr, rule: Callable[[Expr], Expr]) -> Expr:
    """Apply `rule` to every node, children first; the same object where nothing changed."""
    before = children(e)
    after = tuple(rewrite(c, rule) for c in before)
    if any(a is not b for a, b in zip(after, before, strict=True)):
        e = _with_children(e, after)
    return rule(e)


def _with_children(e: Expr, new: tuple[Expr, ...]) -> Expr:
    match e:
        case And() | Or():
            return replace(e, terms=new)
        case Call() | UserCall():
            return replace(e, arguments=new)
        case WeightCase():
            pairs = zip(new[::2], new[1::2], strict=True)
            return replace(e, arms=tuple(Arm(c, w) for c, w in pairs))
        case Not() | IsNull() | Truth() | TextTest() | InSet() | JsonAs() | Balanced():
            return replace(e, operand=new[0])
        case Compare() | CompareText() | Arith() | JsonCompare():
            return replace(e, left=new[0], right=new[1])
        case Elementwise():
            return replace(e, operands=new)
        case Subscript(_, subscripts):
            kept = tuple(_with_parts(subscripts, iter(new[1:])))
            return replace(e, operand=new[0], subscripts=kept)
        case JsonItem():
            return replace(e, operand=new[0], key=new[1])
        case Column() | Const() | Slot():
            return e
        case _:
            assert_never(e)


def substitute(e: Expr, known: Mapping[str, Expr]) -> Expr:
    """`e` with each column replaced by the expression of that name."""
    return rewrite(e, lambda n: known[n.name] if isinstance(n, Column) else n)


LARGEST_MERGED = 500  # nodes; merging x + x over x + x … would double with every level


def is_small(e: Expr) -> bool:
    """Whether `e` has at most LARGEST_MERGED nodes, counted as the tree it is walked as."""
    return next(islice(walk(e), LARGEST_MERGED, None), None) is None


def is_positional(e: Expr) -> bool:
    """Whether the value depends on where in FROM a row stands."""
    return any(isinstance(n, Call) and n.function in ("random", "row_number") for n in walk(e))


def needs_source(e: Expr) -> bool:
    """Whether a call in it can be evaluated only once FROM is known as a whole."""
    return any(isinstance(n, Call) and n.function in _OF_THE_SOURCE for n in walk(e))


_OF_THE_SOURCE: Final = frozenset(["data", "bm25_similarity"])


def can_raise(e: Expr) -> bool:
    """Whether evaluating `e` on some row may be an error (overflow, integer modulo by zero, arrays
    whose shapes do not fit).
    """
    return any(raises(n) for n in walk(e))


_PAIRED: Final = frozenset(["dot", "cosine_similarity", "hamming_distance"])


def raises(e: Expr) -> bool:
    """Whether this node itself, not what it is made of, may be an error."""
    match e:
        case Call("abs", (operand,), Int(64, True)):
            return integer_range(operand)[0] == _lowest(Int(64))
        case Call("sum" | "prod" as name, (operand, *_), dtype):
            return isinstance(scalar_of(dtype), Int) and not _is_narrow(name, operand.dtype)
        case Call("dot", (left, right), Int()):
            narrow = _is_narrow("dot", left.dtype) and _is_narrow("dot", right.dtype)
            return not (narrow and _same_length(left.dtype, right.dtype))
        case Call(function, (left, right)) if function in _PAIRED:
            return not _same_length(left.dtype, right.dtype)
        case Call("maxsim", (document, query)):
            return not _same_length(document.dtype, query.dtype)
        case Call("shape", (operand,)):
            return isinstance(operand.dtype, Binary)  # bytes that are no image
        case Call():
            return False
        case Arith():
            return _arith_raises(e)
        case UserCall() | Balanced():
            return True
        case Elementwise(operands, body):
            return not broadcast_sizes([o.dtype for o in operands])[1] or can_raise(body)
        case Subscript(_, subscripts):
            steps = [s.step for s in subscripts if isinstance(s, Slice)]
            return any(s is not None and not isinstance(s, Const) for s in steps)
        case Column(_, List() as dtype):
            return not is_rectangular(dtype) or isinstance(array_of(dtype)[0], Json)
        case Column(_, Json()):  # what is stored may not be JSON
            return True
        case _:
            return False


def _is_narrow(function: str, dtype: DType) -> bool:
    """Whether no row that fits in memory can leave 64 bits: fewer than 2^31 elements."""
    whole = integer_type(scalar_of(dtype))
    assert whole is not None
    return whole.bits <= {"sum": 32, "dot": 16, "prod": 0}[function] or isinstance(
        scalar_of(dtype), Bool
    )


def _same_length(left: DType, right: DType) -> bool:
    """Whether the last dimensions are known to be equal; a scalar is an array of one."""
    a, b = (sizes_of(t)[-1] if isinstance(t, List) else 1 for t in (left, right))
    return a is not None and a == b


def _arith_raises(e: Arith) -> bool:
    if isinstance(e.dtype, Float) or e.op is ArithOp.DIV:
        return False
    if e.op is ArithOp.MOD:
        return not (isinstance(e.right, Const) and e.right.value != 0)
    return not _fits(e.dtype, _reach(e.op, integer_range(e.left), integer_range(e.right)))


def integer_range(e: Expr) -> tuple[int, int]:
    """The least and greatest integer `e` can be, from types and constants alone.

    Looks at every node once: sums nest 200 deep.
    """
    match e:
        case Const(value) if isinstance(value, int):
            return int(value), int(value)
        case Arith(ArithOp.MOD, left, Const(divisor), Int()) if divisor != 0:
            least, greatest = integer_range(left)
            most = abs(int(divisor)) - 1
            return (-most if least < 0 else 0), (most if greatest > 0 else 0)
        case Arith(ArithOp.ADD | ArithOp.SUB | ArithOp.MUL as op, left, right, Int() as dtype):
            reach = _reach(op, integer_range(left), integer_range(right))
            return reach if _fits(dtype, reach) else (_lowest(dtype), _highest(dtype))
        case _:
            return _lowest(e.dtype), _highest(e.dtype)


def _fits(dtype: DType, reach: tuple[int, int]) -> bool:
    return _lowest(dtype) <= reach[0] and reach[1] <= _highest(dtype)


def _reach(op: ArithOp, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    match op:
        case ArithOp.ADD:
            ends = [a[0] + b[0], a[1] + b[1]]
        case ArithOp.SUB:
            ends = [a[0] - b[1], a[1] - b[0]]
        case _:
            ends = [x * y for x in a for y in b]
    return min(ends), max(ends)


def _lowest(dtype: DType) -> int:
    whole = _counted(dtype)
    return -(2 ** (whole.bits - 1)) if whole.signed else 0


def _highest(dtype: DType) -> int:
    whole = _counted(dtype)
    return 1 if isinstance(dtype, Bool) else int(2 ** (whole.bits - whole.signed)) - 1


def _counted(dtype: DType) -> Int:
    """The integers that the values lie among; a time is a count of its unit."""
    whole = Int(64) if isinstance(dtype, Time) else integer_type(dtype)
    assert whole is not None
    return whole


def integer_type(dtype: DType) -> Int | None:
    """The integer that holds the values of `dtype` exactly; None if they are not integers."""
    match dtype:
        case Int():
            return dtype
        case Label(_, storage):
            return storage
        case Bool():
            return Int(8, signed=False)
        case _:
            return None
