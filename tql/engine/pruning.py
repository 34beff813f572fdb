"""What statistics alone say of a condition: which fragments need not be read.

A fragment's least and greatest values and its count of NULLs bound what a condition can be there.
Where it can be nothing but TRUE, or never TRUE, its bitmap is known and no column is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag
from typing import Any

from tql.language.expr import (
    And,
    Column,
    Compare,
    CompareOp,
    Const,
    Expr,
    InSet,
    IsNull,
    Not,
    Or,
    TextContains,
    TextIn,
    TextIs,
    TextLike,
    TextRule,
    TextTest,
    Truth,
)
from tql.schema import Float, Json, List
from tql.sources.protocol import Fragment


class Outcome(Flag):
    """What a condition may be in some row of a fragment."""

    TRUE = 1
    FALSE = 2
    NULL = 4


NOTHING = Outcome(0)
ANYTHING = Outcome.TRUE | Outcome.FALSE | Outcome.NULL


@dataclass(frozen=True, slots=True)
class _Values:
    """What an expression may be: from `low` to `high`, both None where unbounded; NaN; NULL."""

    low: Any
    high: Any
    nan: bool
    null: bool
    some: bool = True  # whether a row may have a value at all


def outcomes(condition: Expr, fragment: Fragment) -> Outcome:
    """Everything that `condition` may be in the rows of `fragment`; never too little."""
    match condition:
        case Const(value):
            return Outcome.TRUE if value else Outcome.FALSE
        case Not(operand):
            return _negated(outcomes(operand, fragment))
        case And(terms):
            return _negated(_any([_negated(outcomes(t, fragment)) for t in terms]))
        case Or(terms):
            return _any([outcomes(t, fragment) for t in terms])
        case Compare(op, left, right):
            return _compared(op, _values(left, fragment), _values(right, fragment))
        case InSet(operand, values):
            return _within(values, _values(operand, fragment))
        case TextTest(operand, rule):
            return _tested(rule, _values(operand, fragment))
        case Truth(operand):
            zero = _Values(0, 0, nan=False, null=False)
            return _compared(CompareOp.NE, _values(operand, fragment), zero)
        case IsNull(operand):
            v = _values(operand, fragment)
            return (Outcome.TRUE if v.null else NOTHING) | (Outcome.FALSE if v.some else NOTHING)
        case Column():
            one = _Values(True, True, nan=False, null=False)
            return _compared(CompareOp.EQ, _values(condition, fragment), one)
        case _:
            return ANYTHING


def kept(fragments: Sequence[Fragment], conditions: Sequence[Expr]) -> Sequence[Fragment]:
    """The fragments in which one of the conditions at least may be TRUE."""
    return [
        f for f in fragments if f.in_place or any(outcomes(c, f) & Outcome.TRUE for c in conditions)
    ]


def _negated(o: Outcome) -> Outcome:
    result = o & Outcome.NULL
    if Outcome.TRUE in o:
        result |= Outcome.FALSE
    if Outcome.FALSE in o:
        result |= Outcome.TRUE
    return result


def _any(parts: list[Outcome]) -> Outcome:
    """OR of conditions that may be these: all are FALSE, or one is TRUE, or none is but one is NULL."""
    result = NOTHING
    if any(Outcome.TRUE in p for p in parts):
        result |= Outcome.TRUE
    if all(Outcome.FALSE in p for p in parts):
        result |= Outcome.FALSE
    if any(p == Outcome.TRUE for p in parts):
        return Outcome.TRUE
    if any(Outcome.NULL in p for p in parts):
        result |= Outcome.NULL
    return result


def _values(e: Expr, fragment: Fragment) -> _Values:
    match e:
        case Const(value, dtype):
            nan = value != value
            known = not nan and not isinstance(dtype, List)
            return _Values(value if known else None, value if known else None, nan, null=False)
        case Column(_, Json()):  # JSON's null is a value to the statistics
            return _Values(None, None, nan=True, null=True)
        case Column(name, dtype, nullable) if name in fragment.columns:
            stats = fragment.columns[name]
            null = nullable if stats.nulls is None else stats.nulls > 0
            some = stats.nulls is None or stats.nulls < fragment.rows
            return _Values(stats.low, stats.high, isinstance(dtype, Float), null, some)
        case _:
            return _Values(None, None, nan=True, null=True)


def _compared(op: CompareOp, a: _Values, b: _Values) -> Outcome:
    result = Outcome.NULL if a.null or b.null else NOTHING
    if not (a.some and b.some):
        return result
    if a.nan or b.nan:
        result |= Outcome.TRUE if op is CompareOp.NE else Outcome.FALSE
    if None in (a.low, a.high, b.low, b.high):
        return result | Outcome.TRUE | Outcome.FALSE
    if _may_hold(op, a, b):
        result |= Outcome.TRUE
    if _may_hold(op.negated, a, b):
        result |= Outcome.FALSE
    return result


def _may_hold(op: CompareOp, a: _Values, b: _Values) -> bool:
    """Whether numbers or texts, none of them NaN, within these bounds may compare so."""
    match op:
        case CompareOp.EQ:
            return bool(a.low <= b.high and b.low <= a.high)
        case CompareOp.NE:
            return not a.low == a.high == b.low == b.high
        case CompareOp.LT:
            return bool(a.low < b.high)
        case CompareOp.LE:
            return bool(a.low <= b.high)
        case CompareOp.GT:
            return bool(a.high > b.low)
        case CompareOp.GE:
            return bool(a.high >= b.low)


def _within(values: tuple[Any, ...] | frozenset[str], v: _Values) -> Outcome:
    result = Outcome.NULL if v.null else NOTHING
    if not v.some:
        return result
    if v.low is None or v.high is None:
        return result | Outcome.TRUE | Outcome.FALSE
    if any(v.low <= x <= v.high for x in values):
        result |= Outcome.TRUE
    if v.nan or v.low != v.high or v.low not in values:
        result |= Outcome.FALSE
    return result


def _tested(rule: TextRule, v: _Values) -> Outcome:
    match rule:
        case TextIs(op, value):
            return _compared(op, v, _Values(value, value, nan=False, null=False))
        case TextIn(values):
            return _within(values, v)
        case TextLike(pattern, fold_case):
            prefix = _prefix(pattern)
            result = Outcome.NULL if v.null else NOTHING
            if not v.some:
                return result
            if fold_case or v.low is None or v.high is None:
                return result | Outcome.TRUE | Outcome.FALSE
            if v.low[: len(prefix)] <= prefix <= v.high:
                result |= Outcome.TRUE
            return result | Outcome.FALSE
        case TextContains():
            both = Outcome.TRUE | Outcome.FALSE if v.some else NOTHING
            return both | (Outcome.NULL if v.null else NOTHING)


def _prefix(pattern: str) -> str:
    """What every text that matches the LIKE pattern starts with."""
    prefix = ""
    escaped = False
    for c in pattern:
        if not escaped and c in "*%?":
            break
        if not escaped and c == "\\":
            escaped = True
            continue
        prefix += c
        escaped = False
    return prefix
