"""What statistics alone say of a condition: which rows need not be read.

The least and greatest values of a stretch of rows (a fragment, or a zone of one) and its count of
NULLs bound what a condition can be there. Where it can be nothing but TRUE, or never TRUE, its bits
are known and no column is read. All stretches are asked at once.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
from tql.sources.bounds import Bounded, ColumnBounds, side_by_side
from tql.sources.protocol import ColumnStats, Source

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stretches:
    """Stretches of rows: how many rows each has, int64 (n,), and what is known of a column there."""

    rows: NDArray[np.int64]
    bounds: Callable[[str], ColumnBounds | None]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Whether a condition may be TRUE, FALSE, NULL in some row of a stretch: bool (n,) or (1,) each."""

    true: Mask
    false: Mask
    null: Mask

    @property
    def surely(self) -> Mask:
        """Where it is TRUE in every row."""
        return self.true & ~self.false & ~self.null


@dataclass(frozen=True, slots=True)
class _Values:
    """What an expression may be in each stretch, arrays (n,) or (1,).

    `low` and `high` bound its numbers and texts where `known`. `nan`: whether it may be NaN;
    `null`: whether it may be NULL; `some`: whether a row may have a value at all.
    """

    low: NDArray[np.object_]
    high: NDArray[np.object_]
    known: Mask
    nan: bool
    null: Mask
    some: Mask


_YES: Mask = np.ones(1, np.bool_)
_NO: Mask = np.zeros(1, np.bool_)
_ANYTHING = Outcomes(_YES, _YES, _YES)
_NOWHERE = np.full(1, None, np.object_)
_UNKNOWN = _Values(_NOWHERE, _NOWHERE, _NO, nan=True, null=_YES, some=_YES)


def decided(source: Source, conditions: Sequence[Expr]) -> tuple[Mask, Mask]:
    """Which conditions the statistics of the fragments decide: bool (conditions, fragments) each.

    The first says where a condition is TRUE in every row, the second where it is TRUE in none. What
    is read in place is read at no cost, and its statistics would have to be counted: undecided.
    """
    count = len(source.fragments)
    always, never = np.zeros((2, len(conditions), count), np.bool_)
    if all(f.in_place for f in source.fragments):
        return always, never
    elsewhere = np.array([not f.in_place for f in source.fragments], np.bool_)
    stretches = fragments_of(source)
    for k, condition in enumerate(conditions):
        found = outcomes(condition, stretches)
        always[k] = found.surely & elsewhere
        never[k] = ~found.true & elsewhere
    return always, never


def fragments_of(source: Source) -> Stretches:
    """The fragments of a source, each a stretch."""
    fragments = source.fragments
    rows = np.fromiter((f.rows for f in fragments), np.int64, len(fragments))
    if isinstance(source, Bounded):
        return Stretches(rows, source.bounds)

    def bounds(name: str) -> ColumnBounds | None:
        stats = [f.columns.get(name) for f in fragments]
        if not any(stats):
            return None
        return side_by_side([s or ColumnStats() for s in stats])

    return Stretches(rows, bounds)


def outcomes(condition: Expr, stretches: Stretches) -> Outcomes:
    """Everything that `condition` may be in the rows of each stretch; never too little."""
    match condition:
        case Const(value):
            return Outcomes(_YES, _NO, _NO) if value else Outcomes(_NO, _YES, _NO)
        case Not(operand):
            return _negated(outcomes(operand, stretches))
        case And(terms):
            return _negated(_any([_negated(outcomes(t, stretches)) for t in terms]))
        case Or(terms):
            return _any([outcomes(t, stretches) for t in terms])
        case Compare(op, left, right):
            return _compared(op, _values(left, stretches), _values(right, stretches))
        case InSet(operand, values):
            return _within(values, _values(operand, stretches))
        case TextTest(operand, rule):
            return _tested(rule, _values(operand, stretches))
        case Truth(operand):
            return _compared(CompareOp.NE, _values(operand, stretches), _constant(0))
        case IsNull(operand):
            v = _values(operand, stretches)
            return Outcomes(v.null, v.some, _NO)
        case Column():
            return _compared(CompareOp.EQ, _values(condition, stretches), _constant(True))
        case _:
            return _ANYTHING


def _negated(o: Outcomes) -> Outcomes:
    return Outcomes(o.false, o.true, o.null)


def _any(parts: list[Outcomes]) -> Outcomes:
    """OR of conditions that may be these: all are FALSE, or one is TRUE, or none is but one is NULL."""
    true, false, null, surely = _NO, _YES, _NO, _NO
    for p in parts:
        true, false = true | p.true, false & p.false
        null, surely = null | p.null, surely | p.surely
    return Outcomes(true, false & ~surely, null & ~surely)


def _constant(value: Any) -> _Values:
    if value != value:
        return _Values(_NOWHERE, _NOWHERE, _NO, nan=True, null=_NO, some=_YES)
    at = np.empty(1, np.object_)
    at[0] = value
    return _Values(at, at, _YES, nan=False, null=_NO, some=_YES)


def _values(e: Expr, stretches: Stretches) -> _Values:
    match e:
        case Const(_, List()):
            return _Values(_NOWHERE, _NOWHERE, _NO, nan=False, null=_NO, some=_YES)
        case Const(value):
            return _constant(value)
        case Column(_, Json()):  # JSON's null is a value to the statistics
            return _UNKNOWN
        case Column(name, dtype, nullable):
            b = stretches.bounds(name)
            if b is None:
                return _UNKNOWN
            null = np.where(b.nulls < 0, nullable, b.nulls > 0)
            some = b.nulls < stretches.rows
            return _Values(b.low, b.high, b.known, isinstance(dtype, Float), null, some)
        case _:
            return _UNKNOWN


def _compared(op: CompareOp, a: _Values, b: _Values) -> Outcomes:
    true = false = ~(a.known & b.known)
    if not true.all():
        true, false = true | _may_hold(op, a, b), false | _may_hold(op.negated, a, b)
    if a.nan or b.nan:
        true, false = (_YES, false) if op is CompareOp.NE else (true, _YES)
    some = a.some & b.some
    return Outcomes(true & some, false & some, a.null | b.null)


def _may_hold(op: CompareOp, a: _Values, b: _Values) -> Mask:
    """Whether numbers or texts, none of them NaN, within these bounds may compare so."""
    found: Mask
    match op:
        case CompareOp.EQ:
            found = (a.low <= b.high) & (b.low <= a.high)
        case CompareOp.NE:
            found = ~((a.low == a.high) & (a.high == b.low) & (b.low == b.high))
        case CompareOp.LT:
            found = a.low < b.high
        case CompareOp.LE:
            found = a.low <= b.high
        case CompareOp.GT:
            found = a.high > b.low
        case CompareOp.GE:
            found = a.high >= b.low
    return found


def _within(values: Iterable[Any], v: _Values) -> Outcomes:
    unknown = ~v.known
    if unknown.all():
        return Outcomes(v.some, v.some, v.null)
    known = sorted(x for x in values if x == x)
    true = unknown | _mask(v, lambda low, high: _one_between(known, low, high))
    among = frozenset(known)
    one = _mask(v, lambda low, high: low == high and low in among)
    false = _YES if v.nan else unknown | ~one
    return Outcomes(true & v.some, false & v.some, v.null)


def _one_between(values: Sequence[Any], low: Any, high: Any) -> bool:
    at = bisect_left(values, low)
    return at < len(values) and bool(values[at] <= high)


def _mask(v: _Values, test: Callable[[Any, Any], bool]) -> Mask:
    """The test of the bounds of each stretch; nonsense where they are not known."""
    pairs = zip(v.low, v.high, strict=True)
    return np.fromiter((test(low, high) for low, high in pairs), np.bool_, len(v.low))


def _tested(rule: TextRule, v: _Values) -> Outcomes:
    match rule:
        case TextIs(op, value):
            return _compared(op, v, _constant(value))
        case TextIn(values):
            return _within(values, v)
        case TextLike(pattern, fold_case):
            unknown = ~v.known
            if fold_case or unknown.all():
                return Outcomes(v.some, v.some, v.null)
            prefix, alone = _prefix(pattern)
            size = len(prefix)
            true = unknown | _mask(v, lambda low, high: low[:size] <= prefix <= high)
            # What lies between two texts that start so starts so itself.
            both = _mask(v, lambda low, high: low.startswith(prefix) and high.startswith(prefix))
            false = unknown | ~both if alone else _YES
            return Outcomes(true & v.some, false & v.some, v.null)
        case TextContains():
            return Outcomes(v.some, v.some, v.null)


def _prefix(pattern: str) -> tuple[str, bool]:
    """What every text that matches the LIKE pattern starts with, and whether that is enough."""
    prefix = ""
    escaped = False
    for at, c in enumerate(pattern):
        if not escaped and c in "*%?":
            return prefix, not pattern[at:].strip("*%")
        if not escaped and c == "\\":
            escaped = True
            continue
        prefix += c
        escaped = False
    return prefix, False
