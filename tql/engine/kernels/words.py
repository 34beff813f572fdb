"""Conditions over rows, 64 of them in one word."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tql.engine.kernels import arguments
from tql.engine.kernels.arrays import misfit, subscripted, zero_step
from tql.engine.kernels.build import Build, Unsuitable, what_it_is
from tql.engine.kernels.elements import Array, Cell
from tql.engine.kernels.kinds import c_kind
from tql.engine.kernels.logic import Logic
from tql.engine.kernels.ragged import starts
from tql.engine.kernels.reductions import failed, is_reduction, known, may_fail, reduced
from tql.language.expr import (
    Call,
    Column,
    CompareOp,
    CompareText,
    Elementwise,
    Expr,
    Slot,
    Subscript,
    TextIs,
    TextRule,
    TextTest,
    children,
)
from tql.rng import random_key
from tql.schema import Bool, Json, List, Opaque


@dataclass(slots=True)
class Words(Logic):
    """A truth value is the name of a word; in a lane `i` is the row and `b` its bit."""

    @staticmethod
    def over(build: Build) -> "Words":
        return Words(build, everywhere="ALL", nowhere="ZERO")

    def leaf(self, condition: Callable[[], str]) -> str:
        return self.build.lane(condition, self.active, self._undecided)

    def _undecided(self) -> str | None:
        """The rows that the condition being written decides, as a word; None for all."""
        word = self.where(self.active)
        return None if word == self.everywhere else word

    def join(self, op: str, parts: Sequence[str]) -> str:
        return self.build.word(f" {op} ".join(parts))

    def invert(self, part: str) -> str:
        return self.build.word(f"~{part}")

    # -- columns -------------------------------------------------------------------------------

    def stored(self, e: Column | Slot | Call | Subscript) -> str:
        match e:
            case Column(name, Bool()):
                bits = self.build.argument(
                    ("bits", name), "u64[]", lambda t: arguments.value_bits(t, name)
                )
                return self.build.word(f"{bits}[w]")
            case Call() if is_reduction(e):
                return self.leaf(lambda: reduced(e, self))
            case Subscript():
                return self.leaf(lambda: self._cell(e).value)
            case _:
                raise Unsuitable(what_it_is(e))

    def stored_valid(self, e: Column | Slot | Call | Subscript) -> str | None:
        match e:
            case Column(_, Json() | Opaque()):  # JSON's null is in the values, others have no mask
                raise Unsuitable(f"NULL of {e.dtype}")
            case Column(name):
                bits = self.build.argument(
                    ("valid", name), "u64[]", lambda t: arguments.validity(t, name)
                )
                return self.build.word(f"{bits}[w]")
            case Call() if is_reduction(e):
                return self._all_and(e, known(e, self))
            case Call("shape"):
                return self.all_valid(children(e))
            case Subscript(dtype=List()):
                return self._all_and(e, lambda: _array(subscripted(e, self)).fits or "True")
            case Subscript():
                return self._all_and(e, lambda: self._cell(e).valid or "True")
            case _:
                raise Unsuitable(what_it_is(e))

    def _all_and(self, e: Expr, condition: Callable[[], str] | None) -> str:
        """Where no operand is NULL and the condition holds."""
        valid = self.all_valid(children(e))
        return valid if condition is None else self.combine("&", [valid, self.leaf(condition)])

    def _cell(self, e: Subscript) -> Cell:
        found = subscripted(e, self)
        assert isinstance(found, Cell)
        return found

    def stored_failure(self, e: Expr) -> str | None:
        match e:
            case Column(name, List() as dtype):
                # Asked for in any case: that is where lists of different lengths are noticed.
                self.build.argument(("starts", name), "i32[]", lambda t: starts(t, name, dtype))
                return None
            case Elementwise():
                return self.leaf(lambda: misfit(e, self))
            case Subscript():
                return self.leaf(lambda: zero_step(e, self))
            case Call() if is_reduction(e):
                return self.leaf(lambda: failed(e, self)) if may_fail(e) else None
            case _:
                raise Unsuitable(what_it_is(e))

    def one(self, truth: str) -> str:
        return f"np.uint8(({truth} >> np.uint64(b)) & ONE)"

    def given(self, e: Column | Slot | Call | Subscript) -> str:
        match e:
            case Column(name, dtype):
                made = self.build.argument(
                    ("values", name), f"{c_kind(dtype)}[]",
                    lambda t: arguments.values(t, name, dtype),
                )  # fmt: skip
                return f"{made}[i]"
            case Call("row_number"):
                return f"({self._start()} + i)"
            case Call("random", site=site):
                key = self.build.argument(
                    ("random", site), "u64", lambda t: random_key(t.seed, site)
                )
                return f"random31({key}, {self._start()} + i)"
            case Call() if is_reduction(e):
                return reduced(e, self)
            case Subscript():
                return self._cell(e).value
            case _:
                raise Unsuitable(what_it_is(e))

    def _start(self) -> str:
        return self.build.argument("start", "i64", lambda t: t.start)

    # -- text ----------------------------------------------------------------------------------

    def text(self, e: CompareText | TextTest) -> str:
        match e:
            case CompareText(op, Column(left), Column(right)):
                a, b = self._rank(left, right), self._rank(right, left)
                return self.leaf(lambda: f"({a} {op.value} {b})")
            case TextTest(Column(name), rule):
                return self.leaf(lambda: self._rule(name, rule))
            case _:
                raise Unsuitable("text of another kind than a stored column")

    def _codes(self, name: str) -> str:
        return self.build.argument(
            ("codes", name), "code[]", lambda t: arguments.codes(t, name), codes_of=name
        )

    def _rank(self, name: str, other: str) -> str:
        table = self.build.argument(
            ("ranks", name, other), "i32[]", lambda t: arguments.ranks(t, name, other)
        )
        return f"{table}[{self._codes(name)}[i]]"

    def _rule(self, name: str, rule: TextRule) -> str:
        codes = self._codes(name)
        if isinstance(rule, TextIs) and rule.op in (CompareOp.EQ, CompareOp.NE):
            value = rule.value
            sought = self.build.argument(
                ("code of", name, value), "code",
                lambda t: arguments.code_of(t, name, value), codes_of=name,
            )  # fmt: skip
            return f"({codes}[i] {rule.op.value} {sought})"
        table = self.build.argument(
            ("hits", name, rule), "u8[]", lambda t: arguments.hits(t, name, rule)
        )
        return f"({table}[{codes}[i]] != 0)"


def _array(found: Array | Cell) -> Array:
    assert not isinstance(found, Cell)
    return found
