"""What the language knows of one function, and how a call of it is typed."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tql.diagnostics import Span, TqlError, error
from tql.language import operators
from tql.language.array_types import scalar_of
from tql.language.expr import Expr
from tql.schema import DType, Json, List, Text


class Arguments(NamedTuple):
    """A call as written: its bound arguments; `axis` where it has one; `site` numbers the random
    calls of a query.
    """

    values: tuple[Expr, ...]
    axis: int | None
    span: Span
    site: int


class Example(NamedTuple):
    """A query over one of the embedded data sets, and the values of its first column."""

    query: str
    result: tuple[Any, ...]
    source: str = "demo:photos"


class Function(NamedTuple):
    """All that is known of one function: binder, messages, `tql functions` and manual read it here.

    signature  optional parts in brackets, … for any number
    arguments  fewest and most, without the axis
    meaning    one sentence
    bind       types a call
    axis       whether it may be given an axis, by name or as the last argument
    takes      what the arguments may be
    result     the type of the result
    nulls      what happens to NULL
    special    what happens to empty, zero and other special values; '' where there are none
    example    a query that tests run
    kernel     whether calls of it are compiled, of text as far as it is a dictionary; not along an axis
    as_weight  types a call that is a whole weight, where that is another thing
    """

    name: str
    signature: str
    arguments: tuple[int, int]
    meaning: str
    bind: Callable[[Arguments], Expr]
    axis: bool = False
    takes: str = ""
    result: str = ""
    nulls: str = "NULL where an argument is NULL"
    special: str = ""
    example: Example | None = None
    kernel: bool = False
    as_weight: Callable[[Arguments], Expr] | None = None


def check_arity(function: Function, given: int, has_axis: bool, span: Span) -> None:
    """Raise an arity error that shows the signature; `given` is without the axis."""
    fewest, most = function.arguments
    if not fewest <= given <= most:
        most += function.axis  # which may be the last argument
        between = "or" if most == fewest + 1 else "to"
        expected = str(fewest) if fewest == most else f"{fewest} {between} {most}"
        noun = "argument" if expected == "1" else "arguments"
        raise error(
            "arity", f"{function.name}() takes {expected} {noun}, not {given + has_axis}", span,
            help=f"write {function.signature}",
        )  # fmt: skip


# Functions of the numbers that a comparison of texts gives.
_OF_TRUTHS: Final = ("any", "all", "all_strict", "sum", "avg", "nonzero")


def numbers(name: str, values: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The arguments, checked to be numbers or arrays of numbers."""
    for e in values:
        if scalar_of(e.dtype) == operators.NOTHING:
            raise error("parameter", f"{name}() cannot tell what an empty list holds", e.span,
                        help="pass a NumPy array: numpy.zeros(0, 'int64')")  # fmt: skip
        if not operators.is_number(scalar_of(e.dtype)):
            raise not_numbers(name, e)
    return values


def not_numbers(name: str, e: Expr) -> TqlError:
    match scalar_of(e.dtype):
        case Text() if isinstance(e.dtype, List):
            one = name if name in _OF_TRUTHS else "any"
            help = f"make numbers of it first, by element: {one}(column == 'text')"
        case Json():
            help = "its values are of many types; store the numbers as a column of lists"
        case _:
            help = "name a column of numbers"
    return wrong_type(name, "numbers", e.dtype, e.span, help)


def wrong_type(name: str, expected: str, found: DType, span: Span, help: str) -> TqlError:
    """A function was given a value of another type than it takes."""
    return error("type", f"{name}() needs {expected}, not {found}", span, help=help)
