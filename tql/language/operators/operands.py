"""What operands may be: kinds of numbers, constants, and errors that name both types."""

from typing import Any, Final

import numpy as np

from tql.diagnostics import Note, Span, TqlError, error
from tql.language import times
from tql.language.array_types import array_of, scalar_of
from tql.language.expr import Const, Expr, described
from tql.schema import Binary, Bool, DType, Float, Int, Label, List, Opaque, Text, Time

INT64 = Int(64)


UINT64 = Int(64, signed=False)


NOTHING = Opaque("nothing")  # what an empty list that was passed as a parameter holds


_SHOWN: Final = 21  # digits of a number in a message


LEAST_INT, GREATEST_INT = -(2**63), 2**64 - 1


def is_number(dtype: DType) -> bool:
    """Whether values of `dtype` compare and add as numbers (class labels by index, bool as 0/1)."""
    return isinstance(dtype, Int | Float | Bool | Label)


def element_type(dtype: DType) -> DType:
    """The type of the elements of an array; of anything else the type itself."""
    return array_of(dtype)[0] if isinstance(dtype, List) else dtype


def scalar_type(e: Expr) -> DType:
    """The type of the single values in an array, in a sequence, and in a sequence of arrays."""
    return scalar_of(e.dtype)


def any_list(*operands: Expr) -> bool:
    return any(isinstance(o.dtype, List) for o in operands)


def constant(value: Any, span: Span) -> Const:
    """A Python or NumPy scalar as a constant; range error outside -2^63 … 2^64-1."""
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    match value:
        case bool():
            return Const(value, Bool(), span=span)
        case int():
            if not LEAST_INT <= value <= GREATEST_INT:
                raise error(
                    "range", f"{_shown(value)} does not fit in 64 bits", span,
                    help="integers go from -9223372036854775808 to 18446744073709551615",
                )  # fmt: skip
            return Const(value, INT64 if value < 2**63 else UINT64, span=span)
        case float():
            return Const(value, Float(64), span=span)
        case str():
            return Const(value, Text(), span=span)
        case _:
            moment = times.constant(value, span)
            if moment is not None:
                return moment
            kind = type(value).__name__
            raise error("type", f"a {kind} cannot be a value in a query", span,
                        help="pass a bool, a number, text, a date or datetime, or a list of these")  # fmt: skip


def _shown(value: int) -> str:
    """The number, or its size: Python refuses to write thousands of digits."""
    if abs(value) < 10**_SHOWN:
        return str(value)
    return f"a whole number of {value.bit_length()} bits"


def mismatch(verb: str, left: Expr, right: Expr, span: Span, joint: str = "with") -> TqlError:
    help = _of_literal(left, right) or _of_literal(right, left) or _of_kinds(left, right)
    if verb.startswith("compute") and Text in (type(left.dtype), type(right.dtype)):
        help = "arithmetic takes numbers; on text there are comparison, LIKE and contains(…)"
    return error(
        "type", f"cannot {verb} {described(left)} {joint} {described(right)}", span,
        notes=tuple(Note(f"this is {described(e)}", e.span) for e in (left, right)),
        help=help,
    )  # fmt: skip


def _of_literal(e: Expr, other: Expr) -> str | None:
    """A way out where the literal `e` is written in another kind than `other`."""
    match e, other.dtype:
        case Const(str(text)), Int() | Float() | Label() | List():
            return (
                f"write the number without quotes: {text}"
                if text.replace(".", "", 1).isdigit()
                else "text is not converted to numbers; compare it with a column of text"
            )
        case Const(str(text)), Bool() if text.lower() in ("true", "false"):
            return f"write it without quotes: {text.lower()}"
        case Const(bool(value)), Text():
            return f"text compares with text; write '{str(value).lower()}'"
        case Const(value), Text() if is_number(e.dtype):
            return f"text compares with text; write '{value}'"
        case _:
            return None


def _of_kinds(left: Expr, right: Expr) -> str:
    kinds = {type(left.dtype), type(right.dtype)}
    if Binary in kinds:
        return "bytes and images can be selected and loaded, not compared"
    if Time in kinds:
        return "times can be compared, not computed with; store a number beside them"
    if List in kinds:
        return "an element is x[0]; any(…), all(…) and contains(…) look at all of them"
    if Text in kinds:
        return "text and numbers are not converted into each other; store both as one type"
    return "compare values of one kind: numbers with numbers, text with text"
