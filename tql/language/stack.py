"""UNION of different sources: the rows of both sides one after the other."""

from tql.diagnostics import NOWHERE, Note, Span, error
from tql.grammar import syntax as s
from tql.language.common_types import common_type
from tql.language.expr import Column
from tql.language.operators.labels import differing
from tql.language.plan import Bound, Output, Stacked, computed
from tql.schema import Column as SchemaColumn
from tql.schema import Float, Int, Label, Schema


def stacked(branches: tuple[Bound, Bound], q: s.Combined) -> Bound:
    """The query that gives the rows of the left, then those of the right, nothing removed.

    Columns are matched by name, in the left's order and in a type for the values of both.
    """
    left, right = (branch.schema for branch in branches)
    columns = []
    for a in left:
        b = right[a.name]
        dtype = common_type(a.dtype, b.dtype)
        if dtype is None:
            raise error(
                "schema", f"column {a.name!r} is {a.dtype} on the left and {b.dtype} on the right",
                place_of(branches[1], a.name, q), notes=_notes(a, b), help=_way_out(a, b),
            )  # fmt: skip
        columns.append(SchemaColumn(a.name, dtype, a.nullable or b.nullable))
    leaf = Stacked(branches, Schema(columns), q.all, span=q.span)
    made = computed(leaf)
    outputs = tuple(
        Output(c.name, Column(c.name, c.dtype, c.nullable, computed=c.name in made))
        for c in columns
    )
    return Bound(leaf, outputs)


def place_of(branch: Bound, name: str, q: s.Combined) -> Span:
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
