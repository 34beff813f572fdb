"""Functions of a row's array that give one value, as loops over its elements.

Floats are added in float64 in the order of `tql.engine.reductions`, so both tiers agree bit for
bit. Elements that are NULL are passed over. Integers wrap; `overflow` says where.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from tql.engine.kernels.arrays import array_in
from tql.engine.kernels.build import Build, Unsuitable
from tql.engine.kernels.elements import Array, Cell, Elements, each
from tql.engine.kernels.flat import flat
from tql.engine.kernels.kinds import NUMPY, c_kind
from tql.engine.kernels.logic import Logic
from tql.engine.kernels.numbers import outcome
from tql.engine.kernels.sums import sum_of, sums
from tql.language.array_types import scalar_of
from tql.language.expr import Call, CallName, Compare, CompareOp, Expr, Slot
from tql.schema import Bool, DType, Float, List

PAIRED: Final[frozenset[CallName]] = frozenset(["dot", "cosine_similarity", "hamming_distance"])
_FLOATS: Final[frozenset[CallName]] = frozenset(["avg", "l1_norm", "l2_norm", "linf_norm"])
# What is added for each element, and the function that does it where they lie side by side.
_TERMS: Final[Mapping[CallName, str]] = {
    "sum": "{0}",
    "avg": "{0}",
    "l1_norm": "abs({0})",
    "l2_norm": "{0} * {0}",
}
_RUNS: Final[Mapping[CallName, str]] = {
    "sum": "run_sum({0}, {1}, {2})",
    "avg": "run_sum({0}, {1}, {2})",
    "l1_norm": "run_sizes({0}, {1}, {2})",
    "l2_norm": "run_product({0}, {1}, {0}, {1}, {2})",
}


def reduced(e: Call, rows: Logic) -> str:
    """The value of the call for row i, in the lane being written; right where it is not NULL."""
    if e.function in PAIRED:
        return _paired(e, rows)
    if isinstance(e.dtype, List) or len(e.arguments) != 1:
        raise Unsuitable(f"{e.function}() along an axis")  # along an axis
    (operand,) = e.arguments
    if e.function in ("any", "all", "all_strict"):
        return _truth(e.function, operand, rows)
    element = scalar_of(operand.dtype)
    build, array = rows.build, array_in(operand, rows)
    match e.function:
        case "amin" | "amax":
            return _extreme(e.function, array, element, build)
        case "sum" | "prod":
            return _total(e, array, element, build)
        case name if name in _FLOATS:
            return _float(name, array, element, build)
        case _:
            raise Unsuitable(f"{e.function}()")


def known(e: Call, rows: Logic) -> Callable[[], str] | None:
    """Where the value is not NULL though the arrays are there; None where it always is."""
    build = rows.build
    if e.function in ("avg", "amin", "amax"):
        return lambda: f"{_counted(array_in(e.arguments[0], rows), build)} > 0"
    if e.function in PAIRED:
        return lambda: " & ".join(_whole(array_in(a, rows), build) for a in e.arguments)
    return None


def _number(cell: Cell, element: DType) -> str:
    """The element as a number of its C type."""
    return f"np.uint8({cell.value})" if isinstance(element, Bool) else cell.value


def _hit(cell: Cell, element: DType) -> str:
    return cell.value if isinstance(element, Bool) else f"({cell.value} != 0)"


def _counted(array: Array, build: Build) -> str:
    """The number of elements that are not NULL."""
    # Elements are looked at even where they cannot be NULL: that is where it is noticed if one is.
    count = build.variable("k", "0")
    with each(build, array) as cell:
        build.emit(f"{count} += {'1' if cell.valid is None else f'np.int64({cell.valid})'}")
    return count


def _whole(array: Array, build: Build) -> str:
    """Whether no element is NULL."""
    whole = build.variable("t", "True")
    with each(build, array) as cell:
        build.emit(f"{whole} = {whole} & {cell.valid or 'True'}")
    return whole


def _truth(function: CallName, operand: Expr, rows: Logic) -> str:
    build, element, whole = rows.build, scalar_of(operand.dtype), flat(operand, rows)
    result = build.variable("t", "False")

    def decisive(cell: Cell) -> str:
        """Whether the element is TRUE, which is enough for any, or FALSE, which is for all not to be."""
        hit = _hit(cell, element)
        return " & ".join(filter(None, [hit if function == "any" else f"(not {hit})", cell.valid]))

    def search() -> None:
        with each(build, array_in(operand, rows)) as cell:
            build.emit(f"{result} = {result} | ({decisive(cell)})")

    if whole is None:
        search()
    else:
        known, found = whole.any(decisive, build)
        with build.under(f"if {known}:"):
            build.emit(f"{result} = {found}")
        with build.under("else:"):
            search()
    if function == "any":
        return result
    if function == "all":
        return f"(not {result})"
    return build.variable("t", f"(not {result}) & ({_counted(array_in(operand, rows), build)} > 0)")


def _total(e: Call, array: Array, element: DType, build: Build) -> str:
    """A sum, or a product, in the type of the result."""
    if e.dtype == Float(16):
        raise Unsuitable(f"{e.function}() in float16")  # rounded to a type that kernels have not
    kind = c_kind(e.dtype)
    real = kind[0] == "f"
    if real and e.function == "sum":
        total = _added(e.function, array, element, build)
        return f"np.{NUMPY[kind]}({total})"
    joint, start = ("+", "ZERO") if e.function == "sum" else ("*", "1.0" if real else "ONE")
    total = build.variable("f64" if real else "u64", start)
    with each(build, array) as cell:
        x = _number(cell, element)
        term = f"np.float64({x})" if real else f"np.uint64(np.{NUMPY[kind]}({x}))"
        after = f"{total} {joint} {term}"
        build.emit(f"{total} = {f'{after} if {cell.valid} else {total}' if cell.valid else after}")
    return f"np.{NUMPY[kind]}({total})"


def _float(function: CallName, array: Array, element: DType, build: Build) -> str:
    """What is worked out in float64 whatever the elements are."""
    if function == "linf_norm":
        return _farthest_from_zero(array, element, build)

    total = _added(function, array, element, build)
    match function:
        case "l2_norm":
            return f"np.sqrt({total})"
        case "avg":
            return f"({total} / np.float64(max({_counted(array, build)}, 1)))"
        case _:
            return total


def _added(function: CallName, array: Array, element: DType, build: Build) -> str:
    """The sum of what the function adds for each element, in float64."""
    if array.run is not None and array.count is not None:
        return build.variable("f64", _RUNS[function].format(*array.run(), array.count))

    def term(cell: Cell) -> str:
        x = build.variable("f64", f"np.float64({_number(cell, element)})")
        return _TERMS[function].format(x)

    return sum_of(build, array, term)


def _farthest_from_zero(array: Array, element: DType, build: Build) -> str:
    total = build.variable("f64", "0.0")
    with each(build, array) as cell:
        best = f"larger({total}, abs(np.float64({_number(cell, element)})))"
        build.emit(f"{total} = {f'{best} if {cell.valid} else {total}' if cell.valid else best}")
    return total


def _extreme(function: CallName, array: Array, element: DType, build: Build) -> str:
    """The least or greatest; NaN if one is."""
    kind = c_kind(element)
    start = _farthest(element, below=function == "amax")
    best = build.variable(kind, build.literal(start, kind))
    choose = "larger" if function == "amax" else "smaller"
    with each(build, array) as cell:
        x = f"np.{NUMPY[kind]}({choose}({best}, {_number(cell, element)}))"
        build.emit(f"{best} = {f'{x} if {cell.valid} else {best}' if cell.valid else x}")
    return best


def _farthest(element: DType, *, below: bool) -> int | float:
    """The number of this type that no other is below, or above."""
    if isinstance(element, Bool):
        return 0 if below else 1  # what becomes a bit must be one, for arrays without elements too
    kind = c_kind(element)
    if kind[0] == "f":
        return -math.inf if below else math.inf
    info = np.iinfo(NUMPY[kind])
    return int(info.min if below else info.max)


# -- two vectors -------------------------------------------------------------------------------


def _vectors(e: Call, rows: Logic) -> tuple[Array, Array, str]:
    """Both vectors, and how many elements there are if they are equally long, else 0."""
    a, b = (array_in(v, rows) for v in e.arguments)
    if len(a.dims) != 1 or len(b.dims) != 1:
        raise Unsuitable(f"{e.function}() of more than vectors")
    count = rows.build.variable("k", f"{a.dims[0]} if {a.dims[0]} == {b.dims[0]} else 0")
    return a, b, count


def _paired(e: Call, rows: Logic) -> str:
    a, b, count = _vectors(e, rows)
    left, right = (scalar_of(v.dtype) for v in e.arguments)
    build = rows.build
    if e.function == "hamming_distance":
        differ = build.variable("k", "0")
        with build.loop(count) as k:
            scope = Elements.over(build, [a.at([k], None), b.at([k], None)])
            unequal = Compare(CompareOp.NE, Slot(0, left, False), Slot(1, right, False))
            build.emit(f"{differ} += np.int64({outcome(unequal, scope)})")
        return differ
    if c_kind(e.dtype) == "i64":
        total = build.variable("u64", "ZERO")
        with build.loop(count) as k:
            x, y = (
                f"np.uint64(np.int64({_number(v.at([k], None), t)}))"
                for v, t in ((a, left), (b, right))
            )
            build.emit(f"{total} = {total} + {x} * {y}")
        return f"np.int64({total})"
    careful = Float(64) in (left, right)
    if a.run is not None and b.run is not None:
        name = {False: "run_cosine", True: "run_careful_cosine"}[careful]
        name = "run_product" if e.function == "dot" else name
        return build.variable("f64", f"{name}({', '.join([*a.run(), *b.run()])}, {count})")
    if e.function == "dot":
        (dot,) = sums(build, count, lambda k: [" * ".join(_facing(a, b, left, right, k))], 1)
        return dot

    def products(k: str, factors: tuple[str, str] | None = None) -> list[str]:
        x, y = (build.variable("f64", v) for v in _facing(a, b, left, right, k))
        if factors is not None:
            scaled = (f"{v} * {f}" for v, f in zip((x, y), factors, strict=True))
            x, y = (build.variable("f64", v) for v in scaled)
        return [f"{x} * {y}", f"{x} * {x}", f"{y} * {y}"]

    found = sums(build, count, products, 3)
    if careful:
        found = _careful(found, products, count, build)
    return f"cosine({', '.join(found)})"


def _facing(a: Array, b: Array, left: DType, right: DType, k: str) -> list[str]:
    """Element k of both vectors as float64."""
    return [f"np.float64({_number(v.at([k], None), t)})" for v, t in ((a, left), (b, right))]


def _careful(
    found: list[str], products: Callable[[str, tuple[str, str] | None], list[str]],
    count: str, build: Build,
) -> list[str]:  # fmt: skip
    """The products, or those of scaled vectors where one is out of range.

    The loop of the second time runs no step for usual vectors.
    """
    f, g = (build.variable("f64", f"vector_factor({x})") for x in found[1:])
    again = build.variable("k", f"0 if ({f} == 1.0) & ({g} == 1.0) else {count}")
    scaled = sums(build, again, lambda k: products(k, (f, g)), 3)
    pairs = zip(found, scaled, strict=True)
    return [build.variable("f64", f"{y} if {again} > 0 else {x}") for x, y in pairs]


# -- errors ------------------------------------------------------------------------------------


def may_fail(e: Call) -> bool:
    """Whether a call that `raises` can be an error in a fragment of fewer than 2^31 elements."""
    narrow = all(c_kind(scalar_of(a.dtype)) not in ("i64", "u64") for a in e.arguments)
    return e.function != "sum" or not narrow


def failed(e: Call, rows: Logic) -> str:
    """Where the call is an error though its arguments are not, or where that is not sure."""
    build = rows.build
    if e.function in PAIRED:
        a, b, count = _vectors(e, rows)
        bad = f"({a.dims[0]} != {b.dims[0]})"
        if e.function == "dot" and c_kind(e.dtype) == "i64":
            left, right = (scalar_of(v.dtype) for v in e.arguments)
            size = build.variable("f64", "0.0")
            with build.loop(count) as k:
                x, y = (
                    f"np.float64({_number(v.at([k], None), t)})" for v, t in ((a, left), (b, right))
                )
                build.emit(f"{size} = {size} + abs({x} * {y})")
            bad += f" | ({size} >= {build.literal(2.0**62, 'f64')})"
        return bad
    if e.function not in ("sum", "prod") or len(e.arguments) != 1:
        raise Unsuitable(f"{e.function}() that may be an error")
    return _overflow(e, array_in(e.arguments[0], rows), scalar_of(e.arguments[0].dtype), build)


def _overflow(e: Call, array: Array, element: DType, build: Build) -> str:
    """Where some part of the sum or product is beyond the type."""
    sign = "u64" if c_kind(e.dtype) == "u64" else "i64"
    total = build.variable("u64", "ZERO" if e.function == "sum" else "ONE")
    bad = build.variable("t", "False")
    high_of = f"high_{sign}"
    with each(build, array) as cell:
        wide = build.variable(sign, f"np.{NUMPY[sign]}({_number(cell, element)})")
        x, high = f"np.uint64({wide})", f"{high_of}({wide})"
        own = f"np.{NUMPY[sign]}({total})"
        function = "sum_high" if e.function == "sum" else "product_high"
        after = f"{total} {'+' if e.function == 'sum' else '*'} {x}"
        leaves = f"leaves_{sign}({after}, {function}({total}, {high_of}({own}), {x}, {high}))"
        keep = cell.valid
        build.emit(f"{bad} = {bad} | ({leaves}{f' & {keep}' if keep else ''})")
        build.emit(f"{total} = {f'{after} if {keep} else {total}' if keep else after}")
    return bad


def is_reduction(e: Expr) -> bool:
    """Whether `e` is a call over arrays that gives one value."""
    return (
        isinstance(e, Call)
        and not isinstance(e.dtype, List)
        and len(e.arguments) > 0
        and all(isinstance(a.dtype, List) for a in e.arguments)
    )
