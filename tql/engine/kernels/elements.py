"""Elements of the array of one row: conditions over them, and loops.

No array is ever made: an array is its dimensions and a way to any of its elements. Rows whose array
does not exist (an index out of range, shapes that do not fit) have dimensions of 0, so that no
element is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from tql.engine.kernels.build import Build, Unsuitable
from tql.engine.kernels.kinds import c_kind
from tql.engine.kernels.logic import Logic
from tql.engine.kernels.numbers import number
from tql.language.expr import (
    Call,
    Column,
    CompareText,
    Expr,
    Slot,
    Subscript,
    TextTest,
)
from tql.schema import Bool, List


@dataclass(frozen=True, slots=True)
class Cell:
    """One element: an expression of its C type, or of a truth value; `valid` None if never NULL."""

    value: str
    valid: str | None = None


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Looped(Generic[T]):
    """What row i has for each element of an array.

    dims   the name of each dimension, int64, or its number
    at     it, at an index for each dimension; where the guard, if given, does not hold, anything,
           but no memory of others is read
    count  how many elements there are, and
    flat   it, for the element of that number in row-major order; both None where only `at` finds it
    fits   where the array exists, beyond what its operands say; None where it always does
    run    where they are numbers side by side: asks for the argument with them, and says its name
           and the place of the first
    """

    dims: tuple[str, ...]
    at: Callable[[Sequence[str], str | None], T]
    count: str | None = None
    flat: Callable[[str], T] | None = None
    fits: str | None = None
    run: Callable[[], tuple[str, str]] | None = None


Array: TypeAlias = Looped[Cell]


@dataclass(slots=True)
class Elements(Logic):
    """Conditions of one element: a truth value is a variable in the innermost loop."""

    slots: tuple[Cell, ...] = field(kw_only=True)

    @staticmethod
    def over(build: Build, slots: Sequence[Cell]) -> "Elements":
        return Elements(
            build, everywhere="True", nowhere="False", narrowing=False, slots=tuple(slots)
        )

    def leaf(self, condition: Callable[[], str]) -> str:
        return self.build.variable("t", condition())  # for any element: `active` may be anything

    def join(self, op: str, parts: Sequence[str]) -> str:
        return self.build.variable("t", f" {op} ".join(parts))

    def invert(self, part: str) -> str:
        return self.build.variable("t", f"not {part}")

    def one(self, truth: str) -> str:
        return f"np.uint8({truth})"

    def given(self, e: Column | Slot | Call | Subscript) -> str:
        return self._cell(e).value

    def stored(self, e: Column | Slot | Call | Subscript) -> str:
        return self._cell(e).value

    def stored_valid(self, e: Column | Slot | Call | Subscript) -> str | None:
        return self._cell(e).valid

    def stored_failure(self, e: Expr) -> str | None:
        raise Unsuitable("elements that may be an error")

    def text(self, e: CompareText | TextTest) -> str:
        raise Unsuitable("text within lists")

    def _cell(self, e: Column | Slot | Call | Subscript) -> Cell:
        if not isinstance(e, Slot) or isinstance(e.dtype, List):
            raise Unsuitable("a value within lists other than a stored one")
        return self.slots[e.at]

    def cell(self, e: Expr) -> Cell:
        """The value of `e`."""
        if isinstance(e.dtype, Bool):
            return Cell(self.true(e), self.valid(e))
        value = self.build.variable(c_kind(e.dtype), number(e, self))
        return Cell(value, self.valid(e))


@contextmanager
def each(build: Build, array: Looped[T]) -> Iterator[T]:
    """A loop over the elements in row-major order; statements within are for one of them."""
    if array.flat is not None:
        assert array.count is not None
        with build.loop(array.count) as k:
            yield array.flat(k)
        return
    with ExitStack() as loops:
        index = [loops.enter_context(build.loop(d)) for d in array.dims]
        yield array.at(index, None)
