"""What operators mean where an operand is JSON (reference §10).

The type of a JSON value is known row by row, so nothing is converted: equality between different
JSON types is false, their order is NULL, and a place that needs a number, a text or a truth value
takes NULL for any other value. A stored column of JSON counts as an object and not as a value; what
is taken out of it may be anything.
"""

from collections.abc import Sequence
from typing import Any

from tql.diagnostics import Note, Span, TqlError, error
from tql.language.expr import (
    Call,
    Column,
    CompareOp,
    Const,
    Expr,
    JsonAs,
    JsonCompare,
    JsonItem,
    described,
)
from tql.schema import Binary, Bool, DType, Float, Int, Json, Label, List, Opaque, Text, Time


def is_json(*operands: Expr) -> bool:
    """Whether any of the operands is JSON."""
    return any(isinstance(o.dtype, Json) for o in operands)


def item(operand: Expr, key: Expr, span: Span) -> Expr:
    """`operand[key]`: a member by text, an element by integer."""
    if not isinstance(key.dtype, Text | Int):
        raise error("type", f"the key of a JSON value is text or a whole number, not {key.dtype}",
                    key.span, help="write  column['key'],  or  column[0]  for an element")  # fmt: skip
    return JsonItem(operand, key, span=span)


def _value(e: Expr, use: str) -> Expr:
    """The JSON operand, which has to be a value and not a whole column of objects."""
    if _is_object(e):
        raise error("type", f"{use} needs one value per row, not whole JSON objects",
                    e.span, help=_name_a_member(e))  # fmt: skip
    return e


def _is_object(e: Expr) -> bool:
    return e.dtype == Json()


def _name_a_member(e: Expr) -> str:
    name = e.name if isinstance(e, Column) else "value"
    return f"name a member of it: {name}['key'], or an element: {name}[0]"


def truth(e: Expr) -> Expr:
    """True, false, or a number that is zero or not; anything else is NULL."""
    return JsonAs(_value(e, "a condition"), Bool(), span=e.span)


def number(e: Expr) -> Expr:
    """A JSON operand of arithmetic as float64, NULL where it is no number; others as they are."""
    if not isinstance(e.dtype, Json):
        return e
    return JsonAs(_value(e, "arithmetic"), Float(64), span=e.span)


def text(e: Expr) -> Expr:
    """A JSON operand as text, NULL where it is none; others as they are."""
    return JsonAs(e, Text(), span=e.span) if isinstance(e.dtype, Json) else e


def sortable(e: Expr) -> Expr:
    """A JSON key of ORDER BY: bool < number < text, NULL last, and objects and arrays with it."""
    return _value(e, "ORDER BY")


def compare(op: CompareOp, left: Expr, right: Expr, span: Span) -> Expr:
    """`left OP right`, of which one is JSON at least and none is an array."""
    for e, other in ((left, right), (right, left)):
        if isinstance(other.dtype, Time | Binary | Opaque):
            raise mismatch("compare", left, right, span)
        if _is_object(e) and not _is_object(other):
            raise error("type", f"cannot compare a whole JSON object with {other.dtype}", span,
                        notes=[Note("this holds objects", e.span)], help=_name_a_member(e))  # fmt: skip
    return JsonCompare(op, left, right, span=span)


def memberships(e: Expr, constants: Sequence[Const]) -> list[Expr]:
    """Tests whether the JSON value `e` is one of the constants, one for each kind of constant."""
    _value(e, "IN")
    kinds: dict[DType, list[Any]] = {}
    for c in constants:
        kinds.setdefault(_kind(c.dtype), []).append(c.value)
    return [
        Call("in", (e, Const(tuple(values), List(kind), span=e.span)), Bool(), True, span=e.span)
        for kind, values in kinds.items()
    ]


def _kind(dtype: DType) -> DType:
    return Float(64) if isinstance(dtype, Int | Float | Label) else dtype


def contains(haystack: Expr, needle: Expr, span: Span) -> Expr:
    """Membership in an array, a part of a string, a key of an object, else equality."""
    if isinstance(needle.dtype, Time | Binary | Opaque | List):
        raise mismatch("look for", needle, haystack, span, joint="in")
    return Call("contains", (haystack, needle), Bool(), True, span=span)


def mismatch(verb: str, left: Expr, right: Expr, span: Span, joint: str = "with") -> TqlError:
    notes = tuple(Note(f"this is {described(e)}", e.span) for e in (left, right))
    return error("type", f"cannot {verb} {described(left)} {joint} {described(right)}", span, notes=notes,
                 help="JSON has truth values, numbers, text, arrays and objects")  # fmt: skip
