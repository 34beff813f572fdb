"""Constants that a rewrite has put beside each other, folded; no answer and no type changes.

Binding folds as it goes, but reads a literal in the type of the column that it meets. Here every
constant has a type already, that of the expression it stands for, and keeps it: 0.1 of a float64
column that was replaced by its value does not equal a float32 column's 0.1.
"""

from collections.abc import Mapping
from typing import Any, Final, assert_never

import numpy as np

from tql.language.expr import (
    And,
    Arith,
    ArithOp,
    Call,
    Compare,
    CompareText,
    Const,
    Expr,
    InSet,
    IsNull,
    Not,
    Or,
    TextContains,
    TextIn,
    TextIs,
    TextTest,
    Truth,
    integer_type,
    rewrite,
)
from tql.language.membership import round_to
from tql.language.operators import (
    compare,
    conjunction,
    contains,
    disjunction,
    holds,
    is_number,
    like,
    negate_truth,
)
from tql.schema import Bool, Float, Int, Text


def refold(e: Expr) -> Expr:
    """`e`, rebuilt from its leaves up; the same object where there was nothing to fold."""
    return rewrite(e, _folded)


def _folded(e: Expr) -> Expr:
    """The node, whose operands are folded already."""
    match e:
        case And(terms) if any(isinstance(t, And | Const) for t in terms):
            return conjunction(list(terms), e.span)
        case Or(terms) if any(isinstance(t, Or | Const) for t in terms):
            return disjunction(list(terms), e.span)
        case Not(Const() | Not() as operand):
            return negate_truth(operand, e.span)
        case Compare(op, left, right) if _comparable(left, right):
            return compare(op, left, right, e.span)
        case CompareText(op, left, right) if isinstance(left, Const) or isinstance(right, Const):
            return compare(op, left, right, e.span)
        case IsNull(Const()):
            return Const(False, Bool(), span=e.span)
        case Truth(Const(value)):
            return Const(bool(value), Bool(), span=e.span)
        case InSet(Const(value), values):
            return Const(value in values, Bool(), span=e.span)
        case TextTest(Const(str(text)), TextIs() | TextIn() | TextContains() as rule):
            return Const(_holds(rule, text), Bool(), span=e.span)
        case Arith(op, Const(a), Const(b), dtype):
            value = _computed(op, a, b, dtype)
            return e if value is None else Const(value, dtype, span=e.span)
        case Call():
            return _call(e)
        case _:
            return e


def _comparable(left: Expr, right: Expr) -> bool:
    """Whether a constant can take the other side's place and type without another outcome."""
    if isinstance(left, Const) and isinstance(right, Const):
        return True
    constant, other = (left, right) if isinstance(left, Const) else (right, left)
    if not isinstance(constant, Const) or not is_number(other.dtype):
        return False
    if (
        isinstance(other.dtype, Float)
        and round_to(other.dtype.bits, constant.value) != constant.value
    ):
        return False
    return constant is left or constant.dtype not in (other.dtype, integer_type(other.dtype))


def _holds(rule: TextIs | TextIn | TextContains, text: str) -> bool:
    """Not for LIKE, whose matching belongs to the engine."""
    match rule:
        case TextIs(op, value):
            return holds(op, text, value)
        case TextIn(values):
            return text in values
        case TextContains(needle):
            return needle in text
        case _:
            assert_never(rule)


def _computed(op: ArithOp, a: Any, b: Any, dtype: Int | Float) -> int | float | None:
    """`a OP b` in `dtype`; None where that is an error of each row."""
    if isinstance(dtype, Float):
        with np.errstate(all="ignore"):
            return float(_FLOAT_OPS[op](_float(a, dtype), _float(b, dtype)))
    a, b = int(a), int(b)
    match op:
        case ArithOp.ADD:
            return _fitting(a + b, dtype)
        case ArithOp.SUB:
            return _fitting(a - b, dtype)
        case ArithOp.MUL:
            return _fitting(a * b, dtype)
        case ArithOp.MOD:
            remainder = abs(a) % abs(b) if b else None
            return remainder and _fitting(-remainder if a < 0 else remainder, dtype)
        case ArithOp.DIV:
            raise AssertionError("a quotient is a float")
        case _:
            assert_never(op)


_FLOAT_OPS: Final[Mapping[ArithOp, Any]] = {
    ArithOp.ADD: np.add,
    ArithOp.SUB: np.subtract,
    ArithOp.MUL: np.multiply,
    ArithOp.DIV: np.divide,
    ArithOp.MOD: np.fmod,
}


def _float(value: Any, dtype: Float) -> Any:
    # From the 64-bit integer straight to the float, as the engine does: rounded once.
    return np.asarray(value).astype(f"float{dtype.bits}")


def _fitting(value: int, dtype: Int) -> int | None:
    low, high = (-(2**63), 2**63) if dtype.signed else (0, 2**64)
    return value if low <= value < high else None


def _call(e: Call) -> Expr:
    match e.function, e.arguments:
        case "abs", (Const(value),):
            found = (
                float(np.abs(_float(value, e.dtype)))
                if isinstance(e.dtype, Float)
                else _fitting(abs(int(value)), Int(64, isinstance(e.dtype, Int) and e.dtype.signed))
            )
            return e if found is None else Const(found, e.dtype, span=e.span)
        case "sqrt", (Const(value),):
            assert isinstance(e.dtype, Float)
            with np.errstate(invalid="ignore"):
                return Const(float(np.sqrt(_float(value, e.dtype))), e.dtype, span=e.span)
        case "like" | "ilike" as word, (text, Const() as pattern):
            return like(text, pattern, word == "ilike", e.span)
        case "contains", (text, Const() as needle) if isinstance(text.dtype, Text):
            return _folded(contains(text, needle, e.span))
        case _:
            return e
