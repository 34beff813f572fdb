"""Operators over arrays: what is typed for scalars, done by element (tql-reference §9)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tql.diagnostics import Note, Span, TqlError, error
from tql.language.array_types import array_type, broadcast_sizes, sizes_of
from tql.language.expr import Const, Elementwise, Expr, Slot
from tql.language.membership import round_to
from tql.language.operators.labels import label_index
from tql.language.operators.operands import (
    INT64,
    NOTHING,
    UINT64,
    element_type,
    is_number,
    scalar_type,
)
from tql.schema import Bool, DType, Float, Label, List, Text


def by_element(
    operands: Sequence[Expr],
    build: Callable[[Sequence[Expr]], Expr],
    span: Span,
    *,
    three_valued: bool = False,
) -> Expr:
    """What `build` makes of scalars, for every element of arrays; NumPy's rules join the shapes.

    Constant scalars go into the body itself, so that they take the type of the elements they meet.
    A scalar that is NULL makes the array NULL, or, where `three_valued`, is a NULL beside each element.
    """
    operands = adapted(operands)
    grouped = any(isinstance(o.dtype, List) and o.dtype.grouped for o in operands)
    kept: list[Expr] = []
    inside: list[Expr] = []
    meeting: list[DType] = []
    open: set[int] = set()
    for o in operands:
        # In a group every member meets the whole of an array that is no sequence.
        whole = grouped and isinstance(o.dtype, List) and not o.dtype.grouped
        if isinstance(o, Const) and (whole or not isinstance(o.dtype, List)):
            inside.append(o)
            continue
        one = o.dtype if whole else element_type(o.dtype)
        scalar = not isinstance(o.dtype, List)
        if three_valued and scalar and o.nullable:
            open.add(len(kept))
        inside.append(Slot(len(kept), one, not scalar or len(kept) in open, span=o.span))
        kept.append(o)
        meeting.append(Bool() if whole else o.dtype)
    sizes, _, never = broadcast_sizes(meeting)
    if never:
        raise unfit(kept, span)
    body = build(inside)
    dtype = array_type(body.dtype, sizes, grouped)
    assert isinstance(dtype, List)
    return Elementwise(tuple(kept), body, dtype, frozenset(open), span=span)


def unfit(operands: Sequence[Expr], span: Span) -> TqlError:
    """A shape error for arrays whose types say that they never fit each other."""
    arrays = [o for o in operands if isinstance(o.dtype, List)]
    shown = " and ".join(str(o.dtype) for o in arrays)
    return error(
        "shape", f"the shapes of {shown} do not fit each other", span,
        notes=tuple(Note(f"this is {o.dtype}", o.span) for o in arrays),
        help="make both of one length, for example with a slice: column[0:3]",
    )  # fmt: skip


def adapted(operands: Sequence[Expr]) -> Sequence[Expr]:
    """Array literals in the type of the numbers they meet, as scalar literals are; names of classes
    as indices.
    """
    others = [scalar_type(o) for o in operands if not isinstance(o, Const)]
    return [
        _literal_beside(o, others) if isinstance(o, Const) and isinstance(o.dtype, List) else o
        for o in operands
    ]


def _literal_beside(literal: Const, others: list[DType]) -> Const:
    element = element_type(literal.dtype)
    floats = [t for t in others if isinstance(t, Float)]
    labels = [t for t in others if isinstance(t, Label)]
    if element == NOTHING and others:
        return _literal_as(literal, others[0], lambda value: value)
    if labels and isinstance(element, Text):

        def index(name: Any) -> Any:
            found = label_index(Const(name, Text(), span=literal.span), labels[0])
            assert isinstance(found, Const)
            return found.value

        return _literal_as(literal, INT64, index)
    if floats and is_number(element):
        widest = max(floats, key=lambda t: t.bits)
        return _literal_as(literal, widest, lambda value: round_to(widest.bits, value))
    if element == INT64 and others and all(t == UINT64 for t in others):
        values = list(_single(literal.value))
        if min(values, default=0) >= 0:
            return _literal_as(literal, UINT64, lambda value: value)
    return literal


def _literal_as(literal: Const, element: DType, convert: Callable[[Any], Any]) -> Const:
    def each(value: Any) -> Any:
        return tuple(map(each, value)) if isinstance(value, tuple) else convert(value)

    dtype = array_type(element, sizes_of(literal.dtype))
    return Const(each(literal.value), dtype, span=literal.span)


def _single(value: Any) -> Iterator[Any]:
    """The elements of nested tuples."""
    if isinstance(value, tuple):
        for part in value:
            yield from _single(part)
    else:
        yield value
