"""Arithmetic on numbers: result types, literals, folding (tql-reference §8)."""

import math
from typing import Any

import numpy as np

from tql.diagnostics import Span
from tql.language import json_rules
from tql.language.expr import Arith, ArithOp, Const, Expr, integer_type
from tql.language.membership import round_to
from tql.language.operators.elements import by_element
from tql.language.operators.operands import INT64, UINT64, any_list, constant, is_number, mismatch
from tql.schema import DType, Float, Int


def arith(op: ArithOp, left: Expr, right: Expr, span: Span) -> Expr:
    """`left OP right` for numbers, of arrays by element; integers in 64 bits, or with an error."""
    if any_list(left, right):
        return by_element((left, right), lambda two: arith(op, two[0], two[1], span), span)
    left, right = json_rules.number(left), json_rules.number(right)
    if not (is_number(left.dtype) and is_number(right.dtype)):
        raise mismatch(f"compute {op} of", left, right, span, joint="and")
    if isinstance(left, Const) and isinstance(right, Const):
        folded = _fold(op, left.value, right.value, span)
        if folded is not None:
            return folded
    dtype = _result_type(op, left, right)
    return Arith(op, _fitted(left, dtype), _fitted(right, dtype), dtype, span=span)


def negative(e: Expr, span: Span) -> Expr:
    """Unary minus; of an unsigned column it is a signed number."""
    if any_list(e):
        return by_element((e,), lambda one: negative(one[0], span), span)
    e = json_rules.number(e)
    if isinstance(e, Const) and is_number(e.dtype):
        return constant(-e.value if not isinstance(e.value, bool) else -int(e.value), span)
    if isinstance(integer_type(e.dtype), Int):
        return Arith(ArithOp.MUL, e, Const(-1, INT64), INT64, span=span)
    return arith(ArithOp.MUL, e, Const(-1.0, Float(64)), span)  # not 0 - x: keeps -0.0


def _result_type(op: ArithOp, left: Expr, right: Expr) -> Int | Float:
    a, b = integer_type(left.dtype), integer_type(right.dtype)
    if a is not None and b is not None:
        if op is ArithOp.DIV:
            return Float(64)
        unsigned = [t == UINT64 for t, e in ((a, left), (b, right)) if not isinstance(e, Const)]
        return UINT64 if all(unsigned) and unsigned else INT64
    narrow = [e for e in (left, right) if not isinstance(e, Const)]
    small = all(_fits_float32(e.dtype) for e in narrow)
    return Float(32) if small and any(isinstance(e.dtype, Float) for e in narrow) else Float(64)


def _fits_float32(dtype: DType) -> bool:
    if isinstance(dtype, Float):
        return dtype.bits <= 32
    whole = integer_type(dtype)
    return whole is not None and whole.bits <= 16


def _fitted(e: Expr, dtype: Int | Float) -> Expr:
    """A literal in the type of the operation; anything else as it is (the engine converts)."""
    if not isinstance(e, Const):
        return e
    if isinstance(dtype, Float):
        return Const(round_to(dtype.bits, e.value), dtype, span=e.span)
    return Const(int(e.value), e.dtype, span=e.span)


def _fold(op: ArithOp, a: Any, b: Any, span: Span) -> Const | None:
    """The constant `a OP b`; None where it has to be an error of each row (modulo by zero)."""
    if isinstance(a, float) or isinstance(b, float) or op is ArithOp.DIV:
        with np.errstate(all="ignore"):
            x, y = np.float64(a), np.float64(b)
            table = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod}
            return Const(float(table[op.value](x, y)), Float(64), span=span)
    a, b = int(a), int(b)
    match op:
        case ArithOp.ADD:
            return constant(a + b, span)
        case ArithOp.SUB:
            return constant(a - b, span)
        case ArithOp.MUL:
            return constant(a * b, span)
        case _:
            return constant(int(math.copysign(1, a)) * (abs(a) % abs(b)), span) if b else None
