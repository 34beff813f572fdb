"""Each function once: its name, its signature, what it means, and how its call is typed.

`tql functions`, the binder's arity errors and the suggestions for misspelt names come from this
table. Functions that the language has and this version has not are listed in `LATER`, so that
they are never mistaken for misspellings.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from tql.diagnostics import Span, error
from tql.language import operators
from tql.language.expr import Call, CompareOp, Expr, integer_type
from tql.schema import Float, Int, List


class Function(NamedTuple):
    name: str
    signature: str
    arguments: tuple[int, int]  # fewest and most
    meaning: str  # one sentence, with what happens to NULL, NaN or the empty value
    bind: Callable[[tuple[Expr, ...], Span, int], Expr]  # (arguments, span, call site)


def _contains(arguments: tuple[Expr, ...], span: Span, site: int) -> Expr:
    return operators.contains(arguments[0], arguments[1], span)


def _equals(arguments: tuple[Expr, ...], span: Span, site: int) -> Expr:
    return operators.compare(CompareOp.EQ, arguments[0], arguments[1], span)


def _abs(arguments: tuple[Expr, ...], span: Span, site: int) -> Expr:
    (e,) = _numbers("abs", arguments)
    whole = integer_type(e.dtype)
    dtype = e.dtype if isinstance(e.dtype, Float) else Int(64, signed=whole is None or whole.signed)
    if whole is not None and not whole.signed and whole.bits < 64:
        dtype = Int(64)
    return Call("abs", (e,), dtype, e.nullable, span=span)


def _sqrt(arguments: tuple[Expr, ...], span: Span, site: int) -> Expr:
    (e,) = _numbers("sqrt", arguments)
    dtype = Float(32) if e.dtype == Float(32) else Float(64)
    return Call("sqrt", (e,), dtype, e.nullable, span=span)


def _row_number(arguments: tuple[Expr, ...], span: Span, site: int) -> Expr:
    return Call("row_number", (), Int(64), False, span=span)


def _random(arguments: tuple[Expr, ...], span: Span, site: int) -> Expr:
    return Call("random", (), Int(64), False, site, span=span)


def _numbers(name: str, arguments: tuple[Expr, ...]) -> tuple[Expr, ...]:
    for e in arguments:
        if isinstance(e.dtype, List):
            raise error("unsupported", f"{name}() over lists is not in this version", e.span,
                        help="work it out before, and store it as a column of its own")  # fmt: skip
        if not operators.is_number(e.dtype):
            raise error("type", f"{name}() needs a number, not {e.dtype}", e.span,
                        help="name a column of numbers")  # fmt: skip
    return arguments


FUNCTIONS: Final = {
    f.name: f
    for f in (
        Function("abs", "abs(x)", (1, 1), "absolute value; integers in 64 bits", _abs),
        Function(
            "contains", "contains(haystack, needle)", (2, 2),
            "needle is an element of the list, a part of the text, or equal to the number; "
            "'' is part of every text, nothing is in an empty list", _contains,
        ),
        Function("equals", "equals(x, y)", (2, 2), "the same as x == y", _equals),
        Function(
            "random", "random()", (0, 0),
            "a whole number from 0 to 2^31 - 1, fixed by seed, call and row", _random,
        ),
        Function("row_number", "row_number()", (0, 0), "position of the row in FROM, from 0", _row_number),
        Function("sqrt", "sqrt(x)", (1, 1), "square root; NaN for negative numbers", _sqrt),
    )
}  # fmt: skip

WEIGHTS: Final = {
    "max_weight": "max_weight(condition: weight, …)",
    "sum_weight": "sum_weight(condition: weight, …)",
}

LATER: Final = frozenset(
    [
        "all",
        "all_strict",
        "amax",
        "amin",
        "any",
        "avg",
        "balanced",
        "bm25_similarity",
        "cosine_similarity",
        "count",
        "data",
        "dot",
        "hamming_distance",
        "keys",
        "l1_norm",
        "l2_norm",
        "linf_norm",
        "logical_and",
        "logical_or",
        "maxsim",
        "nonzero",
        "prod",
        "shape",
        "sum",
    ]
)


def instead_of(name: str) -> str:
    """What to do while the function of `LATER` is missing."""
    match name:
        case "any" | "all" | "all_strict":
            return "contains(column, value) tests whether a list holds a value"
        case "balanced":
            return "write the weights out: max_weight(column == 'class': 2, …)"
        case "count":
            return "take len() of the result"
        case "data":
            return "pass the value as a parameter"
        case _:
            return "work it out before, and store it as a column of its own"


def known_names() -> tuple[str, ...]:
    """Names to suggest for a function that does not exist."""
    return (*FUNCTIONS, *WEIGHTS, *sorted(LATER))


def check_arity(function: Function, given: int, span: Span) -> None:
    """Raise an arity error that shows the signature."""
    fewest, most = function.arguments
    if not fewest <= given <= most:
        expected = str(fewest) if fewest == most else f"{fewest} to {most}"
        noun = "argument" if expected == "1" else "arguments"
        raise error(
            "arity", f"{function.name}() takes {expected} {noun}, not {given}", span,
            help=f"write {function.signature}",
        )  # fmt: skip
