"""Functions of where a row stands in FROM, and of FROM as a whole."""

from typing import Final, NoReturn

from tql.diagnostics import error
from tql.language import json_rules
from tql.language.expr import Call, Column, Const, Expr
from tql.language.functions.function import Arguments, Example, Function, wrong_type
from tql.schema import Float, Int, Json, Text


def _count(a: Arguments) -> NoReturn:
    raise AssertionError("count(*) is bound by the groups that it counts")


def _row_number(a: Arguments) -> Expr:
    return Call("row_number", (), Int(64), False, span=a.span)


def _random(a: Arguments) -> Expr:
    return Call("random", (), Int(64), False, a.site, span=a.span)


def _data(a: Arguments) -> Expr:
    column, row = a.values
    if not isinstance(column, Column):
        raise error("type", "data() takes a column of FROM", column.span,
                    help="name the column alone, and compute with what it gives: data(x, 0) + 1")  # fmt: skip
    if not (isinstance(row, Const) and isinstance(row.dtype, Int)):
        raise error("type", "data() takes the number of a row, known beforehand", row.span,
                    help="write a whole number or ?, for example  data(x, 0),  or  data(x, -1)  "
                    "for the last row")  # fmt: skip
    nullable = column.nullable or isinstance(column.dtype, Json)
    return Call("data", (column, row), column.dtype, nullable, span=a.span)


def _bm25(a: Arguments) -> Expr:
    text, query = json_rules.text(a.values[0]), a.values[1]
    if not isinstance(text.dtype, Text):
        raise wrong_type("bm25_similarity", "text", text.dtype, text.span, "name a column of text")
    if not (isinstance(query, Const) and isinstance(query.dtype, Text)):
        raise error("type", "the query of bm25_similarity() is a text, known beforehand", query.span,
                    help="write it in quotes, or ?: bm25_similarity(caption, 'red car')")  # fmt: skip
    return Call("bm25_similarity", (text, query), Float(64), text.nullable, span=a.span)


ROWS: Final = (
    Function(
        "bm25_similarity", "bm25_similarity(text, 'words')", (2, 2),
        "how well the text answers the words (BM25, with the statistics of the whole column of FROM)",
        _bm25, takes="text; constant text", result="float64", special="no word in the text: 0",
        example=Example("select id order by bm25_similarity(caption, 'sleeping dog') desc limit 2", (4, 6)),
    ),
    Function(
        "data", "data(column, row)", (2, 2),
        "the value of the column in one row of FROM, before WHERE; -1 is the last row", _data,
        takes="a column; a constant whole number", result="the column's type",
        nulls="NULL where the value is", special="a row that is not there: an error", kernel=True,
        example=Example("select frame - data(frame, -1) as x where id < 3", (-1, 0, -1)),
    ),
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
