"""Conditions by polarity, in whatever stands for a truth value: a word of 64 rows, or one bit.

`true(e)` is where e is TRUE, `false(e)` where it is FALSE; NULL is in neither. So three-valued
logic needs no third value, and NOT costs nothing.

The terms of AND and OR are written one after the other, each for what those before it have left
undecided: elsewhere its truth values are arbitrary, as the joint outcome is known.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tql.engine.costs import reference_ns
from tql.engine.kernels.build import Build, Unsuitable, what_it_is
from tql.engine.kernels.numbers import failure, outcome, times
from tql.language.expr import (
    And,
    Arith,
    Call,
    Column,
    Compare,
    CompareOp,
    CompareText,
    CompareTimes,
    Const,
    Elementwise,
    Expr,
    InSet,
    IsNull,
    Not,
    Once,
    Or,
    Slot,
    StoredValue,
    Subscript,
    TextTest,
    Truth,
    can_raise,
    children,
    raises,
    unfolded,
)
from tql.schema import Bool

# Truth values, each with whether it is to be TRUE or not: where all of them are as they are to be.
Active: TypeAlias = tuple[tuple[str, bool], ...]

# What a term takes in the reference tier, ns a row, from which on it is put behind others.
_DEAR_NS: Final = 3.0


@dataclass(slots=True)
class Logic(ABC):
    """`everywhere` and `nowhere` are the truth values TRUE and FALSE; all others are names, or
    expressions that may be repeated.
    """

    build: Build
    everywhere: str
    nowhere: str
    failures: list[str] = field(default_factory=list)
    narrowing: bool = True  # whether terms are written for what those before them have left
    active: Active = ()  # what the condition being written decides
    _known: dict[tuple[str, int, Active], str | None] = field(default_factory=dict)
    _bodies: dict[int, Expr] = field(default_factory=dict)

    # -- what a scope has to say ---------------------------------------------------------------

    @abstractmethod
    def leaf(self, condition: Callable[[], str]) -> str:
        """A condition of one row, or element, as a truth value."""

    @abstractmethod
    def join(self, op: str, parts: Sequence[str]) -> str:
        """Two truth values or more, joined by & or |."""

    @abstractmethod
    def invert(self, part: str) -> str: ...

    @abstractmethod
    def stored(self, e: Column | Slot | Call | Subscript) -> str:
        """A truth value that is there already, or that only this scope can compute; right where it
        is not NULL.
        """

    @abstractmethod
    def stored_valid(self, e: Column | Slot | Call | Subscript) -> str | None:
        """Where such a value is not NULL."""

    @abstractmethod
    def stored_failure(self, e: Expr) -> str | None:
        """Where what only this scope can compute is an error."""

    @abstractmethod
    def one(self, truth: str) -> str:
        """A truth value of the row, or element, of the lane, as the number 0 or 1."""

    def bit(self, e: Expr) -> str:
        """A condition as the number 0 or 1; see `numbers.Scope`."""
        return self.one(self.true(e))  # NULL is no 1, and that is all that is asked for

    @abstractmethod
    def given(self, e: Column | Slot | Call | Subscript) -> str:
        """A number that is there already, or that only this scope can compute."""

    @abstractmethod
    def text(self, e: CompareText | TextTest) -> str:
        """The outcome of a test of text, right where it is not NULL."""

    # -- truth ---------------------------------------------------------------------------------

    def true(self, e: Expr) -> str:
        """Where `e` is TRUE."""
        return self._once("true", e, self._true)

    def false(self, e: Expr) -> str:
        """Where `e` is FALSE."""
        return self._once("false", e, self._false)

    def valid(self, e: Expr) -> str | None:
        """Where `e` is not NULL; None where it never is."""
        if not e.nullable:
            return None
        return self._once("valid", e, self._valid)

    def _once(self, what: str, e: Expr, make: Callable[[Expr], str]) -> str:
        # A comparison of conditions asks for both polarities of both sides: without a memory
        # the work would double with every level. Nodes live as long as the predicates do. For the
        # same reason only what is asked for one polarity, terms of terms, is narrowed further.
        key = (what, id(e), self.active)
        if key not in self._known:
            narrowing = self.narrowing
            self.narrowing = narrowing and what != "valid" and isinstance(e, And | Or | Not)
            self._known[key] = make(e)
            self.narrowing = narrowing
        found = self._known[key]
        assert found is not None
        return found

    def _unfolded(self, e: Once) -> Expr:
        """The one expression that stands for `e`; what it repeats is one node, written once."""
        if id(e) not in self._bodies:
            self._bodies[id(e)] = unfolded(e)
        return self._bodies[id(e)]

    def _true(self, e: Expr) -> str:
        match e:
            case Const(value):
                return self.everywhere if value else self.nowhere
            case Not(operand):
                return self.false(operand)
            case And(terms):
                return self._joined("&", terms, self.true)
            case Or(terms):
                return self._joined("|", terms, self.true)
            case IsNull(operand):
                return self._negated(self.valid(operand) or self.everywhere)
            case Compare(op, left, right) if _both_bool(left, right):
                return self._compare_bools(op, left, right)
            case Once():
                return self.true(self._unfolded(e))
            case _:
                return self._known_to_be(e, self._outcome(e))

    def _false(self, e: Expr) -> str:
        match e:
            case Const(value):
                return self.nowhere if value else self.everywhere
            case Not(operand):
                return self.true(operand)
            case And(terms):
                return self._joined("|", terms, self.false)
            case Or(terms):
                return self._joined("&", terms, self.false)
            case IsNull(operand):
                return self.valid(operand) or self.everywhere
            case Compare(op, left, right) if _both_bool(left, right):
                return self._compare_bools(op.negated, left, right)
            case Once():
                return self.false(self._unfolded(e))
            case _:
                return self._known_to_be(e, self._negated(self._outcome(e)))

    def _joined(self, op: str, terms: Sequence[Expr], part_of: Callable[[Expr], str]) -> str:
        """The parts of the terms joined, the dear ones last where the order cannot be noticed."""
        if not self.narrowing:
            return self.combine(op, [part_of(t) for t in terms])
        if not any(map(can_raise, terms)):
            terms = sorted(terms, key=_dearness)
        active, parts = self.active, []
        for t in terms:
            with self._within(active):
                parts.append(part_of(t))
            active = self._after(active, parts[-1], op == "&")
        return self.combine(op, parts)

    @contextmanager
    def _within(self, active: Active) -> Iterator[None]:
        outer, self.active = self.active, active
        try:
            yield
        finally:
            self.active = outer

    def _after(self, active: Active, part: str, wanted: bool) -> Active:
        """What is left undecided of `active` when `part` is known."""
        # Once each: a chain of 100,000 terms repeats the few conditions that a kernel has room for.
        if part in (self.everywhere, self.nowhere) or (part, wanted) in active:
            return active
        return (*active, (part, wanted))

    def where(self, active: Active) -> str:
        """As one truth value."""
        return self.combine("&", [p if wanted else self._negated(p) for p, wanted in active])

    def _outcome(self, e: Expr) -> str:
        """A truth value that is right wherever `e` is not NULL."""
        match e:
            case InSet(_, values) if not values:
                return self.nowhere
            case Compare() | Truth() | InSet():
                return self.leaf(lambda: outcome(e, self))
            case CompareTimes(op, left, right):
                return self.leaf(lambda: times(op, left, right, self))
            case Column() | Slot() | Call() | Subscript():
                return self.stored(e)
            case CompareText() | TextTest():
                return self.text(e)
            case _:
                raise Unsuitable(what_it_is(e))

    def _known_to_be(self, e: Expr, part: str) -> str:
        valid = self.valid(e)
        return part if valid is None else self.combine("&", [part, valid])

    def _valid(self, e: Expr) -> str:
        match e:
            case Column() | Slot() | Subscript():
                return self.stored_valid(e) or self.everywhere
            case Call("abs" | "sqrt"):
                return self.all_valid(children(e))
            case Once():
                return self.valid(self._unfolded(e)) or self.everywhere
            case Call():
                return self.stored_valid(e) or self.everywhere
            case And() | Or():
                return self.combine("|", [self.true(e), self.false(e)])
            case StoredValue():
                raise Unsuitable(what_it_is(e))
            case _:
                return self.all_valid(_strict(e))

    def all_valid(self, operands: Sequence[Expr]) -> str:
        """Where none of the operands is NULL."""
        parts = [self.valid(o) for o in operands]
        return self.combine("&", [p for p in parts if p is not None])

    def _compare_bools(self, op: CompareOp, left: Expr, right: Expr) -> str:
        lt, lf, rt, rf = self.true(left), self.false(left), self.true(right), self.false(right)
        both, neither = self.combine("&", [lt, rt]), self.combine("&", [lf, rf])
        less, more = self.combine("&", [lf, rt]), self.combine("&", [lt, rf])
        chosen = {
            CompareOp.EQ: [both, neither],
            CompareOp.NE: [less, more],
            CompareOp.LT: [less],
            CompareOp.GT: [more],
            CompareOp.LE: [less, both, neither],
            CompareOp.GE: [more, both, neither],
        }
        return self.combine("|", chosen[op])

    def combine(self, op: str, parts: Sequence[str]) -> str:
        """The parts joined by & or |, without those that decide nothing."""
        neutral, absorbing = (
            (self.everywhere, self.nowhere) if op == "&" else (self.nowhere, self.everywhere)
        )
        if absorbing in parts:
            return absorbing
        kept = list(dict.fromkeys(p for p in parts if p != neutral))
        if len(kept) <= 1:
            return kept[0] if kept else neutral
        return self.join(op, kept)

    def _negated(self, part: str) -> str:
        if part in (self.everywhere, self.nowhere):
            return self.nowhere if part == self.everywhere else self.everywhere
        return self.invert(part)

    # -- errors --------------------------------------------------------------------------------

    def check_condition(self, e: Expr) -> None:
        """Note where a WHERE of `e` is an error: behind a term that is not TRUE it is none."""
        self._check_terms(e.terms if isinstance(e, And) else (e,), (), self.true, wanted=True)

    def check(self, e: Expr, active: Active = ()) -> None:
        """Note in `failures` where `e`, or a part of it, is an error in rows that are `active`."""
        if not can_raise(e):
            return
        match e:
            case And(terms):
                self._check_terms(terms, active, self.false, wanted=False)
            case Or(terms):
                self._check_terms(terms, active, self.true, wanted=False)
            case Once():  # its operand would be looked at for each time it is named
                raise Unsuitable("a value that is named several times and may be an error")
            case _:
                for child in children(e):
                    self.check(child, active)
                with self._within(active):
                    own = self._failure(e)
                    valid = self.all_valid(_strict(e))
                if own is not None:
                    self.failures.append(self.combine("&", [own, valid, self.where(active)]))

    def _check_terms(
        self, terms: Sequence[Expr], active: Active, part_of: Callable[[Expr], str], *, wanted: bool
    ) -> None:
        """Each term where the parts of those before it are all TRUE (`wanted`), or all are not."""
        for at, t in enumerate(terms):
            if not any(map(can_raise, terms[at:])):
                return
            self.check(t, active)
            with self._within(active):
                part = part_of(t)
            if part == (self.nowhere if wanted else self.everywhere):
                return
            active = self._after(active, part, wanted)

    def _failure(self, e: Expr) -> str | None:
        """Where `e` is an error though its operands are not; None where it never is."""
        if not raises(e):
            return None
        match e:
            case Arith() | Call("abs"):
                return self.leaf(lambda: failure(e, self))
            case _:
                return self.stored_failure(e)


def _strict(e: Expr) -> Sequence[Expr]:
    """The operands whose NULL makes `e` NULL."""
    return e.strict if isinstance(e, Elementwise) else children(e)


def _both_bool(left: Expr, right: Expr) -> bool:
    return isinstance(left.dtype, Bool) and isinstance(right.dtype, Bool)


def _dearness(e: Expr) -> float:
    ns = reference_ns([e])
    return ns if ns > _DEAR_NS else 0.0
