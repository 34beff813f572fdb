"""Functions of a value; of an array, by element."""

from typing import Final

from tql.language import json_rules, operators
from tql.language.expr import Call, CompareOp, Expr, integer_type
from tql.language.functions.function import Arguments, Example, Function, numbers
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
    Function(
        "abs", "abs(x)", (1, 1), "absolute value; of an array, by element", _abs,
        takes="number or bool, or an array of them", result="int64 or uint64; the type of a float",
        special="integers are widened to 64 bits; the least int64 is an error",
        example=Example("select abs(frame - 2) as a limit 3", (2, 1, 2)),
        kernel=True,
    ),
    Function(
        "contains", "contains(haystack, needle)", (2, 2),
        "whether needle is an element of an array, a part of a text, or equal to a single value",
        _contains, takes="an array and one of its elements; two texts; or two values that compare",
        result="bool", special="'' is part of every text; nothing is in an empty array; NaN is in none",
        example=Example("select id where contains(tags, 'grass')", (2, 5)),
        kernel=True,
    ),
    Function(
        "equals", "equals(x, y)", (2, 2), "the same as x == y", _equals,
        takes="two values that compare", result="bool",
        special="NaN equals nothing",
        example=Example("select id where equals(animal, 'horse')", (5, 7)),
        kernel=True,
    ),
    Function(
        "sqrt", "sqrt(x)", (1, 1), "square root; of an array, by element", _sqrt,
        takes="number or bool, or an array of them", result="float64; float32 for float32",
        special="NaN for negative numbers",
        example=Example("select sqrt(frame + 7) as root where id == 4", (3.0,)),
        kernel=True,
    ),
)  # fmt: skip
