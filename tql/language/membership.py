"""Being one of several values: which of them an operand can equal, and one test in place of many."""

import math
from typing import Any, Final, TypeAlias

import numpy as np

from tql.diagnostics import Span
from tql.language.expr import (
    Column,
    Compare,
    CompareOp,
    Const,
    Expr,
    InSet,
    TextIn,
    TextIs,
    TextTest,
    can_raise,
    integer_range,
)
from tql.schema import Float

Test: TypeAlias = TextTest | InSet | Compare

_MOST: Final = 8  # tests that are made one by one


def round_to(bits: int, value: float) -> float:
    """The float of `bits` bits that is nearest to `value`, as a Python float; may be infinite."""
    with np.errstate(over="ignore"):
        return float(np.dtype(f"float{bits}").type(value))


def representable(e: Expr, values: list[Any]) -> tuple[int | float, ...]:
    """The values that `e` can equal at all, in its type, sorted and distinct."""
    if isinstance(e.dtype, Float):
        bits = e.dtype.bits
        rounded = {(v, round_to(bits, v) + 0.0) for v in values if not math.isnan(v)}
        return tuple(sorted({r for v, r in rounded if math.isfinite(r) or v == r}))
    low, high = integer_range(e)
    whole = {int(v) for v in values if math.isfinite(v) and v == math.floor(v)}
    return tuple(sorted(v for v in whole if low <= v <= high))


def gathered(terms: list[Expr], span: Span) -> list[Expr]:
    """The terms of an OR, with `x == 1 or x == 2 or …` as `x in (1, 2, …)` where the first stood.

    Both are NULL where x is. Only who raises could differ, so nothing moves where a term may.
    """
    if len(terms) <= _MOST:
        return terms
    groups: dict[object, list[Test]] = {}
    for t in terms:
        found = _equality(t)
        if found is not None:
            groups.setdefault(found[0], []).append(found[1])
    large = {id(g[0]): g for g in groups.values() if len(g) > _MOST}
    if not large or any(map(can_raise, terms)):
        return terms
    gone = {id(t) for group in large.values() for t in group[1:]}
    return [
        _joined(large[id(t)], span) if id(t) in large else t for t in terms if id(t) not in gone
    ]


def _equality(t: Expr) -> tuple[object, Test] | None:
    """What a test for one of some values asks about, and the test itself."""
    match t:
        case Compare(CompareOp.EQ, operand, Const(value)) if _exact(operand, value):
            return _identity(operand), t
        case InSet(operand) | TextTest(operand, TextIs(CompareOp.EQ) | TextIn()):
            return _identity(operand), t
        case _:
            return None


def _exact(operand: Expr, value: Any) -> bool:
    """Whether `representable` would keep the value as it is; it rounds, as literals are."""
    return not isinstance(operand.dtype, Float) or round_to(operand.dtype.bits, value) == value


def _identity(operand: Expr) -> object:
    # Columns by name: hashing a type with thousands of class names takes long. Others by what
    # they print as: as objects, x * 0.0 equals x * -0.0.
    return ("column", operand.name) if isinstance(operand, Column) else repr(operand)


def _joined(tests: list[Test], span: Span) -> Expr:
    """One test for all the values that the tests, of one operand, ask for."""
    texts: set[str] = set()
    numbers: list[int | float] = []
    for test in tests:
        match test:
            case TextTest(_, TextIs(_, value)):
                texts.add(value)
            case TextTest(_, TextIn(values)):
                texts |= values
            case InSet(_, several):
                numbers += several
            case Compare(_, _, Const(number)):
                numbers.append(number)
            case _:
                raise AssertionError(f"{test} asks for no value")
    operand = tests[0].left if isinstance(tests[0], Compare) else tests[0].operand
    if isinstance(tests[0], TextTest):
        return TextTest(operand, TextIn(frozenset(texts)), span=span)
    return InSet(operand, representable(operand, numbers), span=span)
