"""AND and OR of arrays whose terms may be an error: each element guards what is beside it.

`l != 0 and 10 % l = 0`: where l != 0 is FALSE for an element, nobody asks for its remainder.
"""

from collections.abc import Callable, Sequence

from tql.diagnostics import Span
from tql.language.array_types import array_type, broadcast_sizes
from tql.language.expr import (
    And,
    Arith,
    Call,
    Compare,
    Const,
    Elementwise,
    Expr,
    InSet,
    IsNull,
    Not,
    Once,
    Or,
    Slot,
    Truth,
    can_raise,
    children,
    raises,
    rewrite,
    unfolded,
    unfolds_small,
    walk,
    with_children,
)
from tql.language.operators.elements import adapted, by_element, unfit
from tql.language.operators.operands import element_type
from tql.schema import List


def joined_by_element(
    terms: Sequence[Expr], build: Callable[[Sequence[Expr]], Expr], span: Span
) -> Expr:
    """AND or OR, as `build` makes it of scalars, for every element.

    What may be an error in a later term goes into the body, behind the terms before it. In a group
    every term is evaluated as a whole.
    """
    grouped = any(isinstance(t.dtype, List) and t.dtype.grouped for t in terms)
    if grouped or not any(_fails_by_element(t) for t in terms[1:]):
        return by_element(terms, build, span, three_valued=True)
    operands: list[Expr] = []
    open: set[int] = set()
    first, *rest = adapted(terms)
    parts = [_leaf(first, True, operands, open)]
    parts += [_opened(t, True, operands, open) for t in rest]
    sizes, _, never = broadcast_sizes([o.dtype for o in operands])
    if never:
        raise unfit(operands, span)
    body = build(parts)
    dtype = array_type(body.dtype, sizes)
    assert isinstance(dtype, List)
    return Elementwise(tuple(operands), body, dtype, frozenset(open), span=span)


def _fails_by_element(e: Expr) -> bool:
    """Whether something in it may be an error that is no error of shapes."""
    return any(
        can_raise(n.body)
        if isinstance(n, Elementwise)
        else isinstance(n, Arith | Call) and raises(n)
        for n in walk(e)
    )


def _opened(e: Expr, null_is_open: bool, operands: list[Expr], open: set[int]) -> Expr:
    """`e` for one element: what may fail as an expression, of slots for all else.

    null_is_open  whether a scalar that is NULL is a NULL beside each element
    """
    if not _fails_by_element(e):
        return _leaf(e, null_is_open, operands, open)
    match e:
        case Elementwise(inner, body) if not e.dtype.grouped:
            found = [_opened(o, at in e.open, operands, open) for at, o in enumerate(inner)]
            return rewrite(body, lambda n: found[n.at] if isinstance(n, Slot) else n)
        case Once() if unfolds_small(e):
            return _opened(unfolded(e), null_is_open, operands, open)
        case Arith() | Compare() | Truth() | Not() | InSet() | Call("abs"):
            pass
        case And() | Or() | IsNull() if null_is_open:
            pass
        case _:
            return _leaf(e, null_is_open, operands, open)
    parts = [_opened(c, null_is_open, operands, open) for c in children(e)]
    return with_children(e, tuple(parts))


def _leaf(e: Expr, null_is_open: bool, operands: list[Expr], open: set[int]) -> Expr:
    """A slot for the value of `e`, one for all that are the same."""
    scalar = not isinstance(e.dtype, List)
    if scalar and isinstance(e, Const):
        return e
    is_open = null_is_open and scalar and e.nullable
    at = next(
        (k for k, o in enumerate(operands) if o == e and (k in open) == is_open), len(operands)
    )
    if at == len(operands):
        operands.append(e)
        if is_open:
            open.add(at)
    return Slot(at, element_type(e.dtype), not scalar or is_open, span=e.span)
