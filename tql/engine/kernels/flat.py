"""Arrays whose elements are those of a column, one by one: a condition of theirs can be looked at for
all rows of a word at once, in vectors, before each row asks whether it holds for any of its own.

The loop over a row's elements leaves at another step than that of the row before, which the processor
guesses wrongly each time: 9 ns a row of short lists (`_Pass`, in `build`, takes 1 to 3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tql.engine.kernels.arrays import places, stored_element, stored_elements
from tql.engine.kernels.build import Build
from tql.engine.kernels.elements import Cell, Elements
from tql.engine.kernels.kinds import c_kind
from tql.engine.kernels.logic import Logic
from tql.engine.kernels.numbers import number
from tql.engine.kernels.ragged import inner_size
from tql.language.array_types import array_of, sizes_of
from tql.language.expr import Column, Const, Elementwise, Expr, Slice, Subscript
from tql.schema import Bool, List


@dataclass(frozen=True, slots=True)
class Flat:
    """An array of each row.

    begin   the place of a row's first element among those of all rows
    values  the argument with the elements of all
    cell    what stands in the array for the element at a place
    picked  of the row's elements, those to be looked at: at which place of each so many; None: all
    """

    begin: Callable[[str], str]
    values: str
    cell: Callable[[str], Cell]
    picked: tuple[int, int] | None = None

    def any(self, condition: Callable[[Cell], str], build: Build) -> tuple[str, str]:
        """In the lane being written: where it is known by its bits whether the condition holds for
        any element of row i; and that.
        """
        bits = build.bits(self.begin, self.values, lambda place: condition(self.cell(place)))
        first = build.variable("k", self.begin("i"))
        count = build.variable("k", f"{self.begin('i + 1')} - {first}")
        found = f"bits_from({bits}, {first} - from_{bits}, {count})"
        if self.picked is not None:
            place, width = build.literal(self.picked[0], "i64"), self.picked[1]
            found += f" & (every({width}) << np.uint64({place}))"
        return f"flat_{bits} and {count} <= 64", f"({found}) != ZERO"


def flat(e: Expr, rows: Logic) -> Flat | None:
    """The array `e` as one of these; None where it is another."""
    build = rows.build
    match e:
        case Column(name, List(grouped=False) as dtype) if array_of(dtype)[0] != Bool():
            return Flat(
                places(name, dtype, build), stored_elements(name, dtype, build),
                lambda place: stored_element(name, dtype, place, build),
            )  # fmt: skip
        case Elementwise():
            return _by_element(e, rows)
        case Subscript(operand=Column(_, List() as dtype) as column, subscripts=parts):
            place, width = _last_of(parts), sizes_of(dtype)[-1]
            whole = flat(column, rows)
            if whole is None or place is None or width is None or len(parts) < array_of(dtype)[1]:
                return None
            if not inner_size(dtype) or not -width <= place < width <= 64:
                return None
            return Flat(whole.begin, whole.values, whole.cell, (place % width, width))
        case _:
            return None


def _by_element(e: Elementwise, rows: Logic) -> Flat | None:
    arrays = [o for o in e.operands if isinstance(o.dtype, List)]
    others = [o for o in e.operands if not isinstance(o.dtype, List)]
    if len(arrays) != 1 or not all(isinstance(o, Const) and not o.nullable for o in others):
        return None
    inner = flat(arrays[0], rows)
    if inner is None or any(isinstance(o.dtype, Bool) for o in others):
        return None

    def cell(place: str) -> Cell:
        slots = [
            inner.cell(place)
            if isinstance(o.dtype, List)
            else Cell(rows.build.variable(c_kind(o.dtype), number(o, rows)))
            for o in e.operands
        ]
        return Elements.over(rows.build, slots).cell(e.body)

    return Flat(inner.begin, inner.values, cell, inner.picked)


def _last_of(parts: Sequence[Expr | Slice]) -> int | None:
    """The place along the last axis, where all of the others are wanted."""
    *others, last = parts
    if any(p != Slice(None, None, None) for p in others) or not others:
        return None
    return last.value if isinstance(last, Const) and isinstance(last.value, int) else None
