"""Comparison, BETWEEN and IN: exact, with literals in the type of the column they meet."""

import math
from collections.abc import Callable
from typing import Any, Final, assert_never

import numpy as np

from tql.diagnostics import Span, error
from tql.language import json_rules, times
from tql.language.expr import (
    Compare,
    CompareOp,
    CompareText,
    Const,
    Expr,
    InSet,
    Once,
    Slot,
    TextIn,
    TextIs,
    TextTest,
    can_raise,
    integer_range,
    integer_type,
    is_small,
)
from tql.language.membership import representable, round_to
from tql.language.operators.elements import by_element
from tql.language.operators.labels import label_index, names_to_labels
from tql.language.operators.logic import always, conjunction, disjunction, negate_truth
from tql.language.operators.operands import any_list, is_number, mismatch, scalar_type
from tql.schema import Bool, Float, Int, Label, List, Text, Time


def compare(op: CompareOp, left: Expr, right: Expr, span: Span) -> Expr:
    """`left OP right`; of arrays, by element."""
    if any_list(left, right):
        return by_element((left, right), lambda two: compare(op, two[0], two[1], span), span)
    if json_rules.is_json(left, right):
        return json_rules.compare(op, left, right, span)
    left, right = names_to_labels(left, right, span)
    a, b = left.dtype, right.dtype
    if is_number(a) and is_number(b):
        return _compare_numbers(op, left, right, span)
    if isinstance(a, Text) and isinstance(b, Text):
        return _compare_texts(op, left, right, span)
    if isinstance(a, Time) or isinstance(b, Time):
        found = times.compare(op, left, right, span)
        return _settled(found, left, right, span) if isinstance(found, bool) else found
    raise mismatch("compare", left, right, span)


def _settled(outcome: bool, left: Expr, right: Expr, span: Span) -> Expr:
    """The outcome of comparing an operand that varies with one that does not."""
    varying = right if isinstance(left, Const) else left
    constant = isinstance(varying, Const)
    return Const(outcome, Bool(), span=span) if constant else always(varying, outcome, span)


def _compare_texts(op: CompareOp, left: Expr, right: Expr, span: Span) -> Expr:
    match left, right:
        case Const(a), Const(b):
            return Const(holds(op, a, b), Bool(), span=span)
        case _, Const(value):
            return TextTest(left, TextIs(op, value), span=span)
        case Const(value), _:
            return TextTest(right, TextIs(op.mirrored, value), span=span)
        case _:
            return CompareText(op, left, right, span=span)


def holds(op: CompareOp, a: Any, b: Any) -> bool:
    """`a OP b` for two numbers or two texts; Python compares an int with a float exactly."""
    match op:
        case CompareOp.EQ:
            return bool(a == b)
        case CompareOp.NE:
            return bool(a != b)
        case CompareOp.LT:
            return bool(a < b)
        case CompareOp.LE:
            return bool(a <= b)
        case CompareOp.GT:
            return bool(a > b)
        case CompareOp.GE:
            return bool(a >= b)
        case _:
            assert_never(op)


def _compare_numbers(op: CompareOp, left: Expr, right: Expr, span: Span) -> Expr:
    match left, right:
        case Const(a), Const(b):
            return Const(holds(op, a, b), Bool(), span=span)
        case Const(), _:
            return _compare_numbers(op.mirrored, right, left, span)
        case _, Const(value):
            return _compare_with(op, left, value, span)
        case _:
            return Compare(op, left, right, span=span)


def _compare_with(op: CompareOp, e: Expr, value: Any, span: Span) -> Expr:
    """`e OP value`, the value in the type of `e`, so that the loop compares like with like."""
    match e.dtype:
        case Bool():
            at_false, at_true = holds(op, 0, value), holds(op, 1, value)
            if at_false == at_true:
                return always(e, at_true, span)
            return e if at_true else negate_truth(e, span)
        case Float(bits):
            return _compare_float(op, e, bits, value, span)
        case dtype:
            whole = integer_type(dtype)
            assert whole is not None
            return _compare_integer(op, e, whole, value, span)


def _compare_float(op: CompareOp, e: Expr, bits: int, value: int | float, span: Span) -> Expr:
    rounded = round_to(bits, value)
    if math.isinf(rounded) and not (isinstance(value, float) and math.isinf(value)):
        # Beyond the type: nothing finite lies between its largest number and the literal.
        if op in (CompareOp.EQ, CompareOp.NE):
            return always(e, op is CompareOp.NE, span)
        rounded = math.copysign(float(np.finfo(f"float{bits}").max), rounded)
        above = rounded > 0
        if op in (CompareOp.LT, CompareOp.LE):
            op = CompareOp.LE if above else CompareOp.LT
        else:
            op = CompareOp.GT if above else CompareOp.GE
    return Compare(op, e, Const(rounded, e.dtype), span=span)


def _compare_integer(op: CompareOp, e: Expr, whole: Int, value: Any, span: Span) -> Expr:
    if isinstance(value, float):
        if math.isnan(value):
            return always(e, op is CompareOp.NE, span)
        if math.isinf(value):
            return always(e, holds(op, 0.0, value), span)
        if value != math.floor(value):  # 2.5: nothing equals it; < 2.5 is <= 2, > 2.5 is > 2
            if op in (CompareOp.EQ, CompareOp.NE):
                return always(e, op is CompareOp.NE, span)
            op = CompareOp.LE if op in (CompareOp.LT, CompareOp.LE) else CompareOp.GT
        value = math.floor(value)
    value = int(value)
    low, high = integer_range(e)
    if low <= value <= high:
        return Compare(op, e, Const(value, whole), span=span)
    return always(e, holds(op, low, value), span)


def between(e: Expr, low: Expr, high: Expr, span: Span) -> Expr:
    """`e between low and high`, both ends included, bounds not exchanged."""
    if isinstance(e.dtype, List):
        low_word, high_word = ("'a'", "'c'") if isinstance(scalar_type(e), Text) else ("2", "5")
        raise error("type", f"BETWEEN needs one value per row, not {e.dtype}", e.span,
                    help=f"any(x >= {low_word} and x <= {high_word}) looks at every element of x")  # fmt: skip

    def within(x: Expr) -> Expr:
        ends = [compare(CompareOp.GE, x, low, span), compare(CompareOp.LE, x, high, span)]
        return conjunction(ends, span)

    if can_raise(low) or can_raise(high):
        return within(e)  # as terms of a larger AND, so that no row is asked that `e` rejects
    return _once(e, [low, high], within, span)


def _once(e: Expr, others: list[Expr], build: Callable[[Expr], Expr], span: Span) -> Expr:
    """`build(e)`, which names `e` more than once, with a large `e` bound to a slot: without that
    the work would double with every level of IN within IN.
    """
    if is_small(e, _SMALL) or any(isinstance(o.dtype, List) for o in others):
        return build(e)
    body = build(Slot(0, e.dtype, e.nullable, span=e.span))
    return Once(e, body, body.nullable, span=span)


_SMALL: Final = 16  # nodes that may stand in a condition several times


def one_of(e: Expr, choices: list[Expr], span: Span) -> Expr:
    """`e in (choices)`, equality as `==`."""
    if isinstance(e.dtype, List):
        one, other = ("'cat'", "'cow'") if isinstance(scalar_type(e), Text) else ("2", "3")
        raise error(
            "type", f"IN needs one value per row on its left, not {e.dtype}", e.span,
            help=f"use contains(column, value), or of several values  any(x == {one} or x == {other})",
        )  # fmt: skip
    if json_rules.is_json(e, *choices):
        return _one_of_json(e, choices, span)
    if isinstance(e.dtype, Label):
        choices = [label_index(c, e.dtype) for c in choices]
    if isinstance(e.dtype, Time) and all(isinstance(c, Const) for c in choices):
        return _one_of_times(e, e.dtype, choices, span)
    for c in choices:
        if is_number(c.dtype) != is_number(e.dtype) or (
            isinstance(c.dtype, Text) != isinstance(e.dtype, Text)
            and Time not in (type(c.dtype), type(e.dtype))
        ):
            raise mismatch("compare", e, c, c.span)
    constants = [c.value for c in choices if isinstance(c, Const)]
    if isinstance(e.dtype, Bool) and len(constants) == len(choices) and not isinstance(e, Const):
        return _bool_in(e, constants, span)
    if len(constants) < len(choices) or isinstance(e, Const) or isinstance(e.dtype, Bool | Time):

        def any_equal(x: Expr) -> Expr:
            return disjunction([compare(CompareOp.EQ, x, c, span) for c in choices], span)

        return _once(e, choices, any_equal, span)
    if isinstance(e.dtype, Text):
        return TextTest(e, TextIn(frozenset(constants)), span=span)
    return InSet(e, representable(e, constants), span=span)


def _bool_in(e: Expr, values: list[Any], span: Span) -> Expr:
    """`e in (values)` with `e` once, so that IN within IN does not double with every level."""
    of_false, of_true = (any(holds(CompareOp.EQ, b, v) for v in values) for b in (0, 1))
    if of_false == of_true:
        return always(e, of_true, span)
    return e if of_true else negate_truth(e, span)


def _one_of_times(e: Expr, dtype: Time, choices: list[Expr], span: Span) -> Expr:
    constants = [c for c in choices if isinstance(c, Const)]
    for c in constants:
        if not isinstance(c.dtype, Text | Time):
            raise times.mismatch(e, c, c.span)
    if isinstance(e, Const):
        return disjunction([compare(CompareOp.EQ, e, c, span) for c in constants], span)
    return InSet(e, times.counts_of(constants, dtype), span=span)


def _one_of_json(e: Expr, choices: list[Expr], span: Span) -> Expr:
    known = [c for c in choices if isinstance(c, Const)] if json_rules.is_json(e) else []
    others = [c for c in choices if c not in known]

    def any_equal(x: Expr) -> Expr:
        equal = [compare(CompareOp.EQ, x, c, span) for c in others]
        return disjunction([*json_rules.memberships(x, known), *equal], span)

    return _once(e, others, any_equal, span)
