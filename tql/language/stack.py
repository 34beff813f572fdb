"""UNION of different sources: the rows of both sides one after the other."""

from typing import Final

from tql.diagnostics import NOWHERE, Note, Span, error
from tql.grammar import syntax as s
from tql.language.common_types import common_type
from tql.language.expr import Column, can_raise
from tql.language.operators.labels import differing
from tql.language.plan import Bound, Output, Stacked
from tql.schema import Column as SchemaColumn
from tql.schema import DType, Float, Int, Label, List, Schema
from tql.stack import make_room

_LEVELS: Final = 2  # of a tree that one stack in another adds: itself and its branch


def stacked(left: Bound, right: Bound, q: s.SetStep) -> Bound:
    """The query that gives the rows of the left, then those of the right, nothing removed.

    Columns are matched by name, in the left's order and in a type for the values of both.
    """
    columns = []
    for a in left.schema:
        b = right.schema[a.name]
        dtype = common_type(a.dtype, b.dtype)
        if dtype is None:
            raise error(
                "schema", f"column {a.name!r} is {a.dtype} on the left and {b.dtype} on the right",
                place_of(right, a.name, q), notes=_notes(a, b), help=_way_out(a, b),
            )  # fmt: skip
        columns.append(SchemaColumn(a.name, dtype, a.nullable or b.nullable))
    schema = Schema(columns)
    branches, every = _grown(left, schema)
    leaf = Stacked((*branches, right), schema, (*every, q.all), span=q.span)
    made = {o.name for o in (*left.outputs, *right.outputs) if can_raise(o.expr)}
    outputs = tuple(
        Output(c.name, Column(c.name, c.dtype, c.nullable, computed=c.name in made))
        for c in columns
    )
    return Bound(leaf, outputs)


def _grown(left: Bound, schema: Schema) -> tuple[tuple[Bound, ...], tuple[bool, ...]]:
    """The branches that one more is stacked on: those of a stack itself, so that it stays flat.

    Not where integers become floats: some were uint64, and must have fitted into int64 on the way.
    """
    match left.plan:
        case Stacked(branches, older, every) if not any(map(_int64_to_float, older, schema)):
            return branches, every
        case below:
            depth = 0
            while isinstance(below, Stacked):
                below, depth = below.branches[0].plan, depth + 1
            make_room(_LEVELS * depth)
            return (left,), ()


def _int64_to_float(a: SchemaColumn, b: SchemaColumn) -> bool:
    return _element(a.dtype) == Int(64) and isinstance(_element(b.dtype), Float)


def _element(dtype: DType) -> DType:
    while isinstance(dtype, List):
        dtype = dtype.item
    return dtype


def place_of(branch: Bound, name: str, q: s.SetStep) -> Span:
    """Where a branch selects the column of this name; the set operation where nobody knows."""
    selected = next((o.expr.span for o in branch.outputs if o.name == name), NOWHERE)
    return q.span if selected == NOWHERE else selected


def _notes(a: SchemaColumn, b: SchemaColumn) -> tuple[Note, ...]:
    match a.dtype, b.dtype:
        case Label(names), Label(others):
            return (Note(differing(names, others)),)
        case _:
            return ()


def _way_out(a: SchemaColumn, b: SchemaColumn) -> str:
    types = (a.dtype, b.dtype)
    if all(isinstance(t, Label) for t in types):
        return "open both with the same class_names=, so that an index means one class"
    if any(isinstance(t, Label) for t in types) and any(isinstance(t, Int | Float) for t in types):
        return f"to unite the indices as numbers, select  {a.name} + 0 as {a.name}  on the side of labels"
    return "select columns of one type under that name"
