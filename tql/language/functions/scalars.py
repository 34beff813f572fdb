"""Functions of a value; of an array, by element."""

from typing import Final

from tql.language import json_rules, operators
from tql.language.expr import Call, CompareOp, Expr, integer_type
from tql.language.functions.function import Arguments, Function, numbers
from tql.schema import DType, Float, Int, List


def _contains(a: Arguments) -> Expr:
    return operators.contains(a.values[0], a.values[1], a.span)


def _equals(a: Arguments) -> Expr:
    return operators.compare(CompareOp.EQ, a.values[0], a.values[1], a.span)


def _abs(a: Arguments) -> Expr:
    (e,) = numbers("abs", tuple(map(json_rules.number, a.values)))
    if isinstance(e.dtype, List):
        return operators.by_element((e,), lambda one: _abs(a._replace(values=tuple(one))), a.span)
    return Call("abs", (e,), _abs_type(e.dtype), e.nullable, span=a.span)


def _abs_type(dtype: DType) -> DType:
    if isinstance(dtype, Float):
        return dtype
    whole = integer_type(dtype)
    return Int(64, signed=whole is None or whole.signed or whole.bits < 64)


def _sqrt(a: Arguments) -> Expr:
    (e,) = numbers("sqrt", tuple(map(json_rules.number, a.values)))
    if isinstance(e.dtype, List):
        return operators.by_element((e,), lambda one: _sqrt(a._replace(values=tuple(one))), a.span)
    dtype = Float(32) if e.dtype == Float(32) else Float(64)
    return Call("sqrt", (e,), dtype, e.nullable, span=a.span)


SCALARS: Final = (
    Function("abs", "abs(x)", (1, 1), "absolute value; integers in 64 bits", _abs),
    Function(
        "contains", "contains(haystack, needle)", (2, 2),
        "needle is an element of the list, a part of the text, or equal to the number; "
        "'' is part of every text, nothing is in an empty list", _contains,
    ),
    Function("equals", "equals(x, y)", (2, 2), "the same as x == y", _equals),
    Function("sqrt", "sqrt(x)", (1, 1), "square root; NaN for negative numbers", _sqrt),
)  # fmt: skip
