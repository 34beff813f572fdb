"""Functions of JSON values (reference §10)."""

from typing import Final

from tql.language.expr import Call, Expr
from tql.language.functions.function import Arguments, Example, Function, wrong_type
from tql.schema import Json, List, Text


def _keys(a: Arguments) -> Expr:
    (e,) = a.values
    if not isinstance(e.dtype, Json):
        raise wrong_type(
            "keys", "a JSON value", e.dtype, e.span, "name a column of JSON or structs"
        )
    return Call("keys", (e,), List(Text()), True, span=a.span)


JSON: Final = (
    Function(
        "keys", "keys(json)", (1, 1),
        "the keys of a JSON object, sorted", _keys,
        takes="JSON", result="list[text]",
        nulls="NULL for NULL and for what is no object", special="[] of an object without keys",
        example=Example("select keys(meta) as k limit 2", (("author", "iso", "place"), ("author", "iso"))),
    ),
)  # fmt: skip
