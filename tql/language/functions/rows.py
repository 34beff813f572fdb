"""Functions of where a row stands in FROM."""

from typing import Final, NoReturn

from tql.language.expr import Call, Expr
from tql.language.functions.function import Arguments, Example, Function
from tql.schema import Int


def _count(a: Arguments) -> NoReturn:
    raise AssertionError("count(*) is bound by the groups that it counts")


def _row_number(a: Arguments) -> Expr:
    return Call("row_number", (), Int(64), False, span=a.span)


def _random(a: Arguments) -> Expr:
    return Call("random", (), Int(64), False, a.site, span=a.span)


ROWS: Final = (
    Function(
        "count", "count(*)", (1, 1), "how many rows the group has; only with GROUP BY", _count,
        takes="*", result="int64", nulls="never NULL: rows are counted, not values",
        example=Example("select count(*) as n group by animal", (3, 3, 2)),
    ),
    Function(
        "random", "random()", (0, 0),
        "a whole number from 0 to 2^31 - 1, fixed by the seed, the call and the row", _random,
        result="int64", nulls="never NULL",
        special="two calls in one query give different numbers",
        example=Example("select id where random() < 0", ()),
        kernel=True,
    ),
    Function(
        "row_number", "row_number()", (0, 0), "where the row stands in FROM, from 0", _row_number,
        result="int64", nulls="never NULL",
        special="the same in every clause, before and after filters, orders and limits",
        example=Example("select row_number() as n where animal == 'dog'", (2, 3, 4)),
        kernel=True,
    ),
)  # fmt: skip
