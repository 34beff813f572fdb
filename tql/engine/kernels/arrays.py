"""Arrays of one row, within a lane: stored and constant ones, and those that are made of others,
by element, by subscripts, or as a shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tql.engine.kernels import ragged
from tql.engine.kernels.build import Build, Unsuitable, what_it_is
from tql.engine.kernels.elements import Array, Cell, Elements, Looped, each
from tql.engine.kernels.kinds import NUMPY, c_kind
from tql.engine.kernels.logic import Logic
from tql.engine.kernels.numbers import number
from tql.language.array_types import array_of, sizes_of
from tql.language.expr import (
    And,
    Call,
    Column,
    Const,
    Elementwise,
    Expr,
    Or,
    Slice,
    Slot,
    Subscript,
    can_raise,
)
from tql.schema import Bool, List


def array_in(e: Expr, rows: Logic) -> Array:
    """The array `e` of row i, in the lane being written."""
    if not isinstance(e.dtype, List) or e.dtype.grouped:
        raise Unsuitable(f"a value of type {e.dtype} in the place of an array")
    match e:
        case Column(name, List() as dtype):
            return _stored(name, dtype, rows.build)
        case Const(value, List() as dtype):
            return _constant(value, dtype, rows.build)
        case Subscript():
            found = subscripted(e, rows)
            assert isinstance(found, Looped)
            return found
        case Elementwise():
            return _by_element(e, rows)
        case Call("logical_and" | "logical_or", (left, right)):
            return _logical(e, array_in(left, rows), array_in(right, rows), rows.build)
        case Call("shape", (operand,)):
            return _shape(array_in(operand, rows), rows.build)
        case _:
            raise Unsuitable(what_it_is(e))


# -- stored and constant arrays ----------------------------------------------------------------


def _stored(name: str, dtype: List, build: Build) -> Array:
    element, rank = array_of(dtype)
    c_kind(element)
    begin = places(name, dtype, build)
    first = build.variable("k", begin("i"))
    count = build.variable("k", f"{begin('i + 1')} - {first}")
    dims: tuple[str, ...] = (count,)
    if rank > 1:
        dims = tuple(_dimension(name, dtype, axis, build) for axis in range(rank))

    def element_at(place: str) -> Cell:
        return stored_element(name, dtype, place, build)

    def at(index: Sequence[str], guard: str | None) -> Cell:
        place = f"{first} + {_row_major(index, dims)}"
        return element_at(build.variable("k", f"{place} if {guard} else 0" if guard else place))

    def flat(k: str) -> Cell:
        return element_at(build.variable("k", f"{first} + {k}"))

    def run() -> tuple[str, str]:
        return stored_elements(name, dtype, build), first

    side_by_side = not build.null_elements and not isinstance(element, Bool)
    return Looped(dims, at, count, flat, run=run if side_by_side else None)


def places(name: str, dtype: List, build: Build) -> Callable[[str], str]:
    """The place of the first element of a row among those of all rows."""
    inner = ragged.inner_size(dtype)
    if inner is not None and dtype.size is not None:
        return lambda row: f"({row}) * {inner * (dtype.size or 0)}"
    starts = build.argument(("starts", name), "i32[]", lambda t: ragged.starts(t, name, dtype))
    return lambda row: f"np.int64({starts}[{row}])" + ("" if inner in (None, 1) else f" * {inner}")


def _dimension(name: str, dtype: List, axis: int, build: Build) -> str:
    if ragged.inner_size(dtype) is None:
        sizes = build.argument(
            ("dimension", name, axis), "i32[]", lambda t: ragged.dimension(t, name, dtype, axis)
        )
        return build.variable("k", f"np.int64({sizes}[i])")
    size = sizes_of(dtype)[axis]
    if size is not None:
        return str(size)
    starts = build.argument(("starts", name), "i32[]", lambda t: ragged.starts(t, name, dtype))
    return build.variable("k", f"np.int64({starts}[i + 1]) - np.int64({starts}[i])")


def _row_major(index: Sequence[str], dims: Sequence[str]) -> str:
    place = index[0]
    for k, d in zip(index[1:], dims[1:], strict=True):
        place = f"({place} * {d} + {k})"
    return place


def stored_elements(name: str, dtype: List, build: Build) -> str:
    """The argument with the elements of all rows; bools as bits."""
    element, nulls = array_of(dtype)[0], build.null_elements
    build.has_elements = True
    kind = "u64" if isinstance(element, Bool) else c_kind(element)
    return build.argument(
        ("elements", name), f"{kind}[]", lambda t: ragged.elements(t, name, dtype, nulls=nulls)
    )


def stored_element(name: str, dtype: List, place: str, build: Build) -> Cell:
    """The element of a column that stands at `place` among those of all rows."""
    element, values = array_of(dtype)[0], stored_elements(name, dtype, build)
    valid = None
    if build.null_elements:
        bits = build.argument(
            ("elements valid", name), "u64[]", lambda t: ragged.element_validity(t, name, dtype)
        )
        valid = build.variable("t", _bit(bits, place))
    if isinstance(element, Bool):
        return Cell(build.variable("t", _bit(values, place)), valid)
    # Without a sign, as it is never below 0: with one, Numba looks whether it counts from the end, and
    # LLVM gathers what it could load (`any(e > 0.99)`, 64 float32 a row: 34 ns a row, now 4.1).
    return Cell(build.variable(c_kind(element), f"{values}[np.uint64({place})]"), valid)


def _bit(words: str, place: str) -> str:
    return f"(({words}[{place} >> 6] >> np.uint64({place} & 63)) & ONE) != ZERO"


def _constant(value: Any, dtype: List, build: Build) -> Array:
    element = array_of(dtype)[0]
    kind = c_kind(element)
    flattened = [value]
    for _ in sizes_of(dtype):
        flattened = [item for part in flattened for item in part]
    numbers = np.array(flattened or [0], NUMPY[kind])
    values = build.argument(("array", kind, tuple(flattened)), f"{kind}[]", lambda _: numbers)
    dims = tuple(build.literal(size or 0, "i64") for size in sizes_of(dtype))

    def element_at(place: str) -> Cell:
        if isinstance(element, Bool):
            return Cell(build.variable("t", f"{values}[{place}] != 0"))
        return Cell(build.variable(kind, f"{values}[np.uint64({place})]"))

    def at(index: Sequence[str], guard: str | None) -> Cell:
        place = _row_major(index, dims)
        return element_at(build.variable("k", f"{place} if {guard} else 0" if guard else place))

    count = build.literal(len(flattened), "i64")
    run = None if isinstance(element, Bool) else lambda: (values, "0")
    return Looped(dims, at, count, element_at, run=run)


def _shape(array: Array, build: Build) -> Array:
    """The dimensions as an array of int64."""

    def at(index: Sequence[str], guard: str | None) -> Cell:
        chosen = array.dims[-1]
        for axis in range(len(array.dims) - 2, -1, -1):
            chosen = f"({array.dims[axis]} if {index[0]} == {axis} else {chosen})"
        return Cell(build.variable("i64", chosen))

    rank = build.literal(len(array.dims), "i64")
    return Looped((rank,), at, rank, lambda k: at([k], None))


def _logical(e: Call, a: Array, b: Array, build: Build) -> Array:
    """AND or OR by element; one element that is false where the shapes differ."""
    extents = list(zip(_extents(a, build), _extents(b, build), strict=True))
    same = [f"(({m} == {n}) | ({m} < 0) | ({n} < 0))" for m, n in extents]
    fit = build.variable("t", " & ".join(same))
    two = tuple(Slot(n, Bool(), True) for n in range(2))
    body = And(two) if e.function == "logical_and" else Or(two)

    def at(index: Sequence[str], guard: str | None) -> Cell:
        inside = f"({fit} & {guard})" if guard else fit
        cell = Elements.over(build, [x.at(index, inside) for x in (a, b)]).cell(body)
        value = build.variable("t", f"{fit} & {cell.value}")
        valid = None if cell.valid is None else build.variable("t", f"{cell.valid} | (not {fit})")
        return Cell(value, valid)

    met = [f"max({n} if ({m} < 0) & ({n} != 1) else {m}, 0)" for m, n in extents]
    dims = tuple(build.variable("k", f"{d} if {fit} else 1") for d in met)
    if len(dims) == 1:
        return Looped(dims, at, dims[0], lambda k: at([k], None))
    return Looped(dims, at)


# -- by element --------------------------------------------------------------------------------


def _by_element(e: Elementwise, rows: Logic) -> Array:
    met = _met(e, rows)

    def body(slots: Sequence[Cell]) -> Cell:
        return Elements.over(rows.build, slots).cell(e.body)

    flat = met.flat
    return Looped(
        met.dims,
        lambda index, guard: body(met.at(index, guard)),
        met.count,
        None if flat is None else lambda k: body(flat(k)),
        met.fits,
    )


def _met(e: Elementwise, rows: Logic) -> Looped[Sequence[Cell]]:
    """The operands of each element, broadcast by NumPy's rules."""
    build = rows.build
    given = [
        array_in(o, rows) if isinstance(o.dtype, List) else _scalar(o, rows, at in e.open)
        for at, o in enumerate(e.operands)
    ]
    arrays = [g for g in given if isinstance(g, Looped)]
    if len(arrays) == 1:
        (one,) = arrays

        def beside(cell: Cell) -> list[Cell]:
            return [cell if isinstance(g, Looped) else g for g in given]

        inner = one.flat
        return Looped(
            one.dims,
            lambda index, guard: beside(one.at(index, guard)),
            one.count,
            None if inner is None else lambda k: beside(inner(k)),
            one.fits,
        )
    dims, fits = _broadcast(arrays, build)
    steps = {id(a): [build.variable("k", f"np.int64({d} != 1)") for d in a.dims] for a in arrays}

    def at(index: Sequence[str], guard: str | None) -> list[Cell]:
        cells = []
        for g in given:
            if isinstance(g, Looped):
                own = index[len(index) - len(g.dims) :]
                places = [f"{k} * {s}" for k, s in zip(own, steps[id(g)], strict=True)]
                cells.append(g.at(places, guard))
            else:
                cells.append(g)
        return cells

    if len(dims) == 1:
        return Looped(dims, at, dims[0], lambda k: at([k], None), fits)
    return Looped(dims, at, fits=fits)


def _scalar(e: Expr, rows: Logic, open: bool) -> Cell:
    """An operand that is the same for all elements, worked out before the loop over them."""
    known = rows.valid(e) if open else None
    valid = None if known is None else rows.build.variable("t", f"{rows.one(known)} != 0")
    if isinstance(e.dtype, Bool):
        return Cell(rows.build.variable("t", f"{rows.one(rows.true(e))} != 0"), valid)
    return Cell(rows.build.variable(c_kind(e.dtype), number(e, rows)), valid)


def _broadcast(arrays: Sequence[Array], build: Build) -> tuple[tuple[str, ...], str]:
    """The dimensions of the result, 0 where the arrays do not fit each other; and where they do."""
    fits = " & ".join(a.fits for a in arrays if a.fits is not None) or "True"
    shapes = [_extents(a, build) for a in arrays]
    dims: list[str] = []
    for axis in range(max(map(len, shapes)), 0, -1):
        found, *others = [extents[-axis] for extents in shapes if len(extents) >= axis]
        for d in others:
            fits += (
                f" & (({found} == {d}) | ({found} == 1) | ({d} == 1) | ({found} < 0) | ({d} < 0))"
            )
            open_ended = f"({found} == 1) | (({found} < 0) & ({d} != 1))"
            found = build.variable("k", f"{d} if {open_ended} else {found}")
        dims.append(found)
    fit = build.variable("t", fits)
    return tuple(build.variable("k", f"max({d}, 0) if {fit} else 0") for d in dims), fit


def _extents(array: Array, build: Build) -> Sequence[str]:
    """The dimensions, -1 for those behind one of 0: [] as a list of lists fits any width."""
    first, *others = array.dims
    found, empty = [first], f"({first} == 0)"
    for d in others:
        found.append(build.variable("k", f"-1 if ({d} == 0) & ({empty}) else {d}"))
        empty += f" | ({d} == 0)"
    return found


def misfit(e: Elementwise, rows: Logic) -> str:
    """Where the shapes of the operands do not fit, or the body is an error for some element."""
    build = rows.build
    met = _met(e, rows)
    bad = build.variable("t", "False" if met.fits is None else f"not {met.fits}")
    if can_raise(e.body):
        with each(build, met) as slots:
            scope = Elements.over(build, slots)
            scope.check(e.body)
            build.emit(f"{bad} = {' | '.join([bad, *scope.failures])}")
    return bad


# -- subscripts --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Walk:
    """Along one axis: the first place, from one to the next, how many; None, None for one place."""

    first: str
    step: str | None = None
    many: str | None = None


def subscripted(e: Subscript, rows: Logic) -> Array | Cell:
    """`operand[subscripts]`: an array, or the element where no dimension is left; `valid` then says
    that it is in range and not NULL.
    """
    build = rows.build
    operand = array_in(e.operand, rows)
    parts = [*e.subscripts, *[Slice(None, None, None)] * (len(operand.dims) - len(e.subscripts))]
    walks, inside, empty = [], [], ""
    for part, extent in zip(parts, operand.dims, strict=True):
        if isinstance(part, Slice):
            walks.append(_slice(part, extent, rows))
        else:
            place = _whole(part, rows)
            place = build.variable("k", f"{place} + {extent} if {place} < 0 else {place}")
            found = f"(({place} >= 0) & ({place} < {extent}))"
            # Where nothing lies along an earlier axis, nobody knows how far this one goes.
            inside.append(f"({found} | (({empty}) & ({extent} == 0)))" if empty else found)
            walks.append(_Walk(place))
        empty = f"{empty} | ({extent} == 0)" if empty else f"({extent} == 0)"
    if operand.fits is not None:
        inside.append(operand.fits)
    fits = build.variable("t", " & ".join(inside)) if inside else None

    def at(index: Sequence[str], guard: str | None) -> Cell:
        left = iter(index)
        places = [
            w.first if w.step is None else f"({w.first} + {next(left)} * {w.step})" for w in walks
        ]
        return operand.at(places, guard)

    kept = [w.many for w in walks if w.many is not None]
    if not kept:
        cell = at([], fits)
        both = [p for p in (fits, cell.valid) if p is not None]
        return Cell(cell.value, " & ".join(both) if both else None)
    dims = tuple(build.variable("k", f"{m} if {fits} else 0") if fits else m for m in kept)
    if len(dims) == 1:
        return Looped(dims, at, dims[0], lambda k: at([k], None), fits)
    return Looped(dims, at, fits=fits)


def _whole(e: Expr, rows: Logic) -> str:
    """An integer as int64, those beyond as its largest."""
    kind, x = c_kind(e.dtype), number(e, rows)
    if kind == "u64":
        return rows.build.variable("k", f"within_i64({x})")
    return rows.build.variable("k", f"np.int64({x})")


def _slice(part: Slice, extent: str, rows: Logic) -> _Walk:
    build = rows.build
    if part.step is None:
        step = "1"
    else:
        step = build.variable("k", f"slice_step({_whole(part.step, rows)}, {extent})")

    def end(e: Expr | None, default: str) -> str:
        if e is None:
            return build.variable("k", f"{default}({extent}, {step})")
        return build.variable("k", f"slice_end({_whole(e, rows)}, {extent}, {step})")

    if part == Slice(None, None, None):
        return _Walk("0", "1", extent)
    first, last = end(part.start, "slice_first"), end(part.stop, "slice_last")
    return _Walk(first, step, build.variable("k", f"slice_count({first}, {last}, {step})"))


def zero_step(e: Subscript, rows: Logic) -> str:
    """Where a step that is no constant is 0."""
    steps = [s.step for s in e.subscripts if isinstance(s, Slice) and s.step is not None]
    return " | ".join(f"({number(s, rows)} == 0)" for s in steps if not isinstance(s, Const))
