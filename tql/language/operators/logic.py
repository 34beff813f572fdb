"""Truth values, AND, OR and NOT."""

from tql.diagnostics import Span, error
from tql.language import json_rules
from tql.language.expr import (
    And,
    Const,
    Elementwise,
    Expr,
    InSet,
    Not,
    Or,
    Truth,
    can_raise,
    described,
)
from tql.language.membership import gathered
from tql.language.operators.elements import by_element
from tql.language.operators.guarded import joined_by_element
from tql.language.operators.operands import any_list, is_number
from tql.schema import Bool, Float, Int, Json, Label, List, Text


def truth(e: Expr) -> Expr:
    """`e` as a truth value: bool as is, a number true when not zero."""
    match e:
        case Const(value, dtype) if is_number(dtype):
            return Const(bool(value), Bool(), span=e.span)
    match e.dtype:
        case Bool():
            return e
        case Int() | Float() | Label():
            return Truth(e, span=e.span)
        case List():
            raise error(
                "type", f"a condition must be one truth value, not {e.dtype}", e.span,
                help=_instead_of_array(e),
            )  # fmt: skip
        case Text():
            hint = "compare it, for example  == 'text',  or use contains(…)"
            raise error("type", f"{described(e)} is not a truth value", e.span, help=hint)
        case Json():
            return json_rules.truth(e)
        case _:
            raise error("type", f"{described(e)} is not a truth value", e.span,
                        help="test for a value with  is not null")  # fmt: skip


def _instead_of_array(e: Expr) -> str:
    match e:
        case Elementwise((one, Const()) | (Const(), one)) if not isinstance(one.dtype, List):
            return "to test for one of several values, write  … in (1, 2)  or  … in ?"
        case _:
            return "use any(…), all(…) or contains(column, value)"


def condition(e: Expr) -> Expr:
    """An operand of AND, OR or NOT: a truth value, or an array, which is taken by element."""
    return e if isinstance(e.dtype, List) else truth(e)


def negate_truth(e: Expr, span: Span) -> Expr:
    """NOT of a truth value; of an array, by element."""
    if any_list(e):
        return by_element((e,), lambda one: negate_truth(truth(one[0]), span), span)
    match e:
        case Const(value):
            return Const(not value, Bool(), span=span)
        case Not(inner):
            return inner
        case _:
            return Not(e, span=span)


def conjunction(terms: list[Expr], span: Span) -> Expr:
    """AND of truth values, flattened; a constant decides or disappears. Of arrays, by element."""
    if any_list(*terms):
        return joined_by_element(
            terms, lambda each: conjunction(list(map(truth, each)), span), span
        )
    flat: list[Expr] = []
    for t in terms:
        flat += t.terms if isinstance(t, And) else (t,)
    kept = _decided([t for t in flat if not (isinstance(t, Const) and t.value)])
    if not kept:
        return _true(span)
    return And(tuple(kept), span=span) if len(kept) > 1 else kept[0]


def disjunction(terms: list[Expr], span: Span) -> Expr:
    """OR of truth values, flattened; a constant decides or disappears. Of arrays, by element."""
    if any_list(*terms):
        return joined_by_element(
            terms, lambda each: disjunction(list(map(truth, each)), span), span
        )
    flat: list[Expr] = []
    for t in terms:
        flat += t.terms if isinstance(t, Or) else (t,)
    kept = _decided([t for t in flat if not (isinstance(t, Const) and not t.value)])
    if not kept:
        return Const(False, Bool(), span=span)
    kept = gathered(kept, span)
    return Or(tuple(kept), span=span) if len(kept) > 1 else kept[0]


def _decided(terms: list[Expr]) -> list[Expr]:
    """The terms up to the first constant, which decides; it alone where no term before may raise."""
    for at, t in enumerate(terms):
        if isinstance(t, Const):
            return terms[: at + 1] if any(map(can_raise, terms[:at])) else [t]
    return terms


def _true(span: Span) -> Expr:
    return Const(True, Bool(), span=span)


def always(e: Expr, outcome: bool, span: Span) -> Expr:
    """`outcome` for every row where `e` is not NULL, NULL where it is; `e` is still evaluated."""
    if not e.nullable and not can_raise(e):
        return Const(outcome, Bool(), span=span)
    never = InSet(e, (), span=span)
    return Not(never, span=span) if outcome else never
