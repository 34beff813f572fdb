"""What is known of an expression before it is evaluated: whether it may raise, how large it can be."""

from typing import Literal

from tql.language.array_types import array_of, broadcast_sizes, is_rectangular, scalar_of, sizes_of
from tql.language.expr.nodes import (
    Arith,
    Balanced,
    Call,
    Column,
    Compare,
    CompareText,
    CompareTimes,
    Const,
    Elementwise,
    Expr,
    JsonCompare,
    Slice,
    Slot,
    Subscript,
    UserCall,
)
from tql.language.expr.symbols import ArithOp, CompareOp, TotalName
from tql.language.expr.walks import walk
from tql.schema import Binary, Bool, DType, Float, Int, Json, Label, List, Time


def described(e: Expr) -> str:
    """The type of an operand as messages name it: that of an array, where `e` is one of its elements."""
    of_array = isinstance(e, Slot) and e.nullable  # a scalar beside an array is never NULL there
    return f"a list of {e.dtype}" if of_array else str(e.dtype)


def can_raise(e: Expr) -> bool:
    """Whether evaluating `e` on some row may be an error (overflow, integer modulo by zero, arrays
    whose shapes do not fit).
    """
    return any(raises(n) for n in walk(e))


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
        case Call("dot" | "cosine_similarity" | "hamming_distance", (left, right)):
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
        case Column() if e.computed:
            return True
        case Column(_, List() as dtype):
            return not is_rectangular(dtype) or isinstance(array_of(dtype)[0], Json)
        case Column(_, Json()):  # what is stored may not be JSON
            return True
        case _:
            return False


def equated(e: Expr) -> tuple[Expr, Expr] | None:
    """The two values that `e` says to be equal; None where it says something else."""
    match e:
        case (
            Compare(CompareOp.EQ, a, b)
            | CompareText(CompareOp.EQ, a, b)
            | JsonCompare(CompareOp.EQ, a, b)
            | CompareTimes(CompareOp.EQ, a, b)
        ):
            return a, b
        case _:
            return None


def _is_narrow(function: Literal[TotalName, "dot"], dtype: DType) -> bool:
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
