"""Functions of where a row stands in FROM."""

from typing import Final

from tql.language.expr import Call, Expr
from tql.language.functions.function import Arguments, Function
from tql.schema import Int


def _row_number(a: Arguments) -> Expr:
    return Call("row_number", (), Int(64), False, span=a.span)


def _random(a: Arguments) -> Expr:
    return Call("random", (), Int(64), False, a.site, span=a.span)


ROWS: Final = (
    Function(
        "random", "random()", (0, 0),
        "a whole number from 0 to 2^31 - 1, fixed by seed, call and row", _random,
    ),
    Function("row_number", "row_number()", (0, 0), "position of the row in FROM, from 0", _row_number),
)  # fmt: skip
