"""Arrays of one row: operators by element, subscripts, reductions, vectors (reference §9, §12).

An element that is NULL gives NULL in an operator, is passed over by a reduction, and makes a product
or a distance of two vectors NULL.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from tests.interpreter import scalars
from tests.interpreter.kinds import (
    BOOL,
    FLOAT64,
    INT64,
    Kind,
    RowError,
    Value,
    array_of,
    filled,
    objects,
)

Subscript = int | slice | None
"""An index, a slice, or None for an index that is NULL."""


# -- by element --------------------------------------------------------------------------------

_postponed = [False]


@contextmanager
def postponing(on: bool) -> Iterator[bool]:
    """Whether an error of an element is, from here on, its value, for AND and OR to pass over.

    Gives whether it was so before.
    """
    _postponed.append(on)
    try:
        yield _postponed[-2]
    finally:
        _postponed.pop()


def _applied(
    operation: Callable[..., Value], operands: Sequence[Value], kind: Kind, lazy: bool
) -> Value:
    """The operation on scalars; a `lazy` one looks at errors among them itself."""
    late = [o.data for o in operands if isinstance(o.data, RowError)]
    if late and not lazy:
        return Value(kind, late[0])
    try:
        return operation(*operands)
    except RowError as e:
        if not _postponed[-1]:
            raise
        return Value(kind, e)


def by_element(
    operation: Callable[..., Value], *operands: Value, three_valued: bool = False
) -> Value:
    """What `operation` makes of scalars, for every element; NumPy's rules join the shapes.

    Behind an axis without elements nobody knows an extent: it is that of what it meets.
    A scalar that is NULL makes all NULL, or where `three_valued` is a NULL beside each element.
    """
    if not any(o.kind.name == "array" for o in operands):
        item = operation(*(Value(o.kind, None) for o in operands)).kind
        return _applied(operation, operands, item, three_valued)
    if any(_of_members(o) for o in operands):
        return _by_member(operation, operands)
    item = operation(*(Value(_inner(o), None) for o in operands)).kind
    rank = max(o.kind.rank for o in operands)
    grouped = any(o.kind.grouped for o in operands)
    constant = all(o.kind.constant for o in operands)
    kind = replace(array_of(item, rank, grouped), constant=constant)
    if any(o.data is None for o in operands if o.kind.name == "array" or not three_valued):
        return Value(kind, None)
    try:
        spread = np.broadcast_arrays(*_of_known_width([_boxed(o) for o in operands]))
    except ValueError:
        raise RowError("shape") from None
    kinds = [_inner(o) for o in operands]
    found = [
        _applied(operation, [Value(k, x) for k, x in zip(kinds, xs)], item, three_valued).data
        for xs in zip(*(a.flat for a in spread))
    ]
    return Value(kind, objects(spread[0].shape, found))


def _of_known_width(arrays: list[Any]) -> list[Any]:
    """The arrays, where an axis behind an empty one is as long as that of the others."""

    def extent(a: Any, axis: int) -> int:
        if _is_known(a, axis):
            return int(a.shape[axis])
        others = [o for o in arrays if o.ndim >= -axis and _is_known(o, axis)]
        return max((o.shape[axis] for o in others if o.shape[axis] != 1), default=0)

    return [a.reshape([extent(a, axis) for axis in range(-a.ndim, 0)]) for a in arrays]


def _is_known(a: Any, axis: int) -> bool:
    return a.shape[axis] > 0 or 0 not in a.shape[:axis]


def of_one_shape(a: Any, b: Any) -> bool:
    """Whether two arrays have the same extents, those aside that nobody knows."""
    return a.ndim == b.ndim and all(
        a.shape[axis] == b.shape[axis] or not (_is_known(a, axis) and _is_known(b, axis))
        for axis in range(a.ndim)
    )


def _inner(o: Value) -> Kind:
    return o.kind.element


def _boxed(o: Value) -> Any:
    return o.data if o.kind.name == "array" else objects((), [o.data])


def _of_members(o: Value) -> bool:
    return o.kind.grouped and o.kind.element.name == "array"


def _by_member(operation: Callable[..., Value], operands: Sequence[Value]) -> Value:
    """Sequences of arrays: for every member, which the other operands meet as they are."""
    inner = [Value(o.kind.element, None) if o.kind.grouped else o for o in operands]
    kind = array_of(by_element(operation, *inner).kind, 1, grouped=True)
    if any(o.data is None for o in operands):
        return Value(kind, None)
    (length, *_) = {len(o.data) for o in operands if o.kind.grouped}
    members = [
        by_element(
            operation,
            *(Value(o.kind.element, o.data[at]) if o.kind.grouped else o for o in operands),
        ).data
        for at in range(length)
    ]
    return Value(kind, members)


# -- subscripts --------------------------------------------------------------------------------


def subscripted(v: Value, subscripts: Sequence[Subscript]) -> Value:
    """NumPy's rules, but an index out of range is NULL.

    Behind an axis without elements nobody knows an extent: it takes every index.
    """
    if _of_members(v):
        first, *rest = subscripts
        assert not isinstance(first, slice) or not rest, "which members? not drawn"
        if isinstance(first, slice):
            return Value(v.kind, None if v.data is None else v.data[checked(first)])
        member = Value(v.kind.element, None)
        if v.data is not None and first is not None and -len(v.data) <= first < len(v.data):
            member = Value(v.kind.element, v.data[first])
        return subscripted(member, rest) if rest else member
    picked = sum(not isinstance(s, slice) for s in subscripts)
    assert len(subscripts) <= v.kind.rank, f"too many subscripts for {v.kind}"
    kind = array_of(v.kind.element, v.kind.rank - picked, v.kind.grouped)
    if v.data is None or any(s is None for s in subscripts):
        return Value(kind, None)
    data = v.data
    for at, s in enumerate(subscripts):
        extent = data.shape[at]
        if isinstance(s, slice):
            checked(s)
        elif extent == 0 and 0 in data.shape[:at]:
            data = objects((*data.shape[:at], 1, *data.shape[at + 1 :]), [])
            subscripts = [*subscripts[:at], 0, *subscripts[at + 1 :]]
        elif s is None or not -extent <= s < extent:
            return Value(kind, None)
    return Value(kind, data[tuple(subscripts)])


def checked(s: slice) -> slice:
    if s.step == 0:
        raise RowError("value")
    return s


# -- reductions --------------------------------------------------------------------------------


def elements(v: Value) -> list[Any]:
    """The elements that are not NULL, in row-major order; a scalar is an array of one."""
    if v.kind.name != "array":
        return [v.data]
    members = v.data if _of_members(v) else [v.data]
    return [x for m in members if m is not None for x in m.flat if x is not None]


def along(v: Value, axis: int, fold: Callable[[list[Any]], Any], item: Kind) -> Value:
    """`fold` over the elements along one axis, for every place of the others."""
    kind = array_of(item, v.kind.rank - 1)
    if v.data is None:
        return Value(kind, None)
    lanes = np.moveaxis(v.data, axis, -1)
    shape = lanes.shape[:-1]
    found = [fold([x for x in lanes[at] if x is not None]) for at in np.ndindex(*shape)]
    return Value(kind, objects(shape, found) if shape or kind.rank else found[0])


def reduced(v: Value, axis: int | None, fold: Callable[[list[Any]], Any], item: Kind) -> Value:
    if axis is not None:
        return along(v, axis, fold, item)
    return Value(item, None if v.data is None else fold(elements(v)))


def any_true(xs: list[Any]) -> bool:
    return any(x != 0 for x in xs)


def all_true(xs: list[Any]) -> bool:
    return all(x != 0 for x in xs)


def all_strict(xs: list[Any]) -> bool:
    return bool(xs) and all_true(xs)


def total_kind(k: Kind) -> Kind:
    if k.name == "float":
        return replace(k, constant=False)
    return Kind("int", 64, not (k.name == "int" and k.bits == 64 and not k.signed))


def total(k: Kind) -> Callable[[list[Any]], Any]:
    """Floats in float64, then in their own type; integers exactly."""
    return _folded(k, _added, sum)


def product(k: Kind) -> Callable[[list[Any]], Any]:
    """Floats from left to right in float64, then in their own type; integers exactly."""
    return _folded(k, lambda xs: math.prod(xs, start=1.0), math.prod)


def _folded(
    k: Kind, floats: Callable[[list[float]], float], whole: Callable[[list[int]], int]
) -> Callable[[list[Any]], Any]:
    kind = total_kind(k)

    def fold(xs: list[Any]) -> Any:
        if kind.name == "float":
            return scalars.rounded(kind.bits, floats([float(x) for x in xs]))
        return scalars.fitting(whole([int(x) for x in xs]), kind)

    return fold


def mean(xs: list[Any]) -> float | None:
    """Added in float64, integers too."""
    return _added([float(x) for x in xs]) / len(xs) if xs else None


def _added(xs: list[float]) -> float:
    """In eight lanes, one element each in turn; then neighbours, pairs and halves of them."""
    lanes = [0.0] * 8
    for at, x in enumerate(xs):
        lanes[at % 8] += x
    while len(lanes) > 1:
        lanes = [a + b for a, b in zip(lanes[::2], lanes[1::2])]
    return lanes[0]


def least(xs: list[Any]) -> Any:
    return _extreme(xs, min)


def greatest(xs: list[Any]) -> Any:
    return _extreme(xs, max)


def _extreme(xs: list[Any], pick: Callable[..., Any]) -> Any:
    """As NumPy: NaN where there is one; NULL of nothing. -0.0 counts as less than 0.0."""

    def signed(x: Any) -> Any:
        return (x, math.copysign(1, x))

    return next((x for x in xs if x != x), pick(xs, key=signed)) if xs else None


def norm(kind: str) -> Callable[[list[Any]], float]:
    def fold(xs: list[Any]) -> float:
        sizes = [abs(scalars.to_float(x)) for x in xs]
        if kind == "linf":
            return math.nan if any(map(math.isnan, sizes)) else max(sizes, default=0.0)
        return _added(sizes) if kind == "l1" else math.sqrt(_added([x * x for x in sizes]))

    return fold


def nonzero(v: Value) -> Value:
    """Row-major positions of the elements that are not zero."""
    kind = array_of(INT64)
    if v.data is None:
        return Value(kind, None)
    flat = v.data.flat if v.kind.name == "array" else [v.data]
    return Value(kind, filled([at for at, x in enumerate(flat) if x is not None and x != 0]))


def shape(v: Value) -> Value:
    data = () if v.kind.name != "array" else v.data.shape if v.data is not None else ()
    return Value(array_of(INT64), None if v.data is None else filled(list(data)))


def contains(haystack: Value, needle: Value) -> Value:
    """An element of the array, or a slice of it along its first axis."""
    if haystack.data is None or needle.data is None:
        return Value(BOOL, None)
    slices = list(haystack.data) if needle.kind.name == "array" else haystack.data.flat
    below = array_of(haystack.kind.element, needle.kind.rank)
    return Value(BOOL, any(_equal(Value(below, s), needle) for s in slices))


def _equal(a: Value, b: Value) -> bool:
    if a.kind.name != "array":
        return scalars.compare("==", a, b).data is True
    if not of_one_shape(a.data, b.data):
        return False
    equal = by_element(lambda x, y: scalars.compare("==", x, y), a, b)
    return all(x is True for x in equal.data.flat)


# -- vectors -----------------------------------------------------------------------------------


def _pair(a: Value, b: Value) -> tuple[list[Any], list[Any]] | None:
    """The elements of two vectors of one length; None where one of them is NULL."""
    if a.data is None or b.data is None:
        return None
    if len(a.data) != len(b.data):
        raise RowError("shape")
    xs, ys = list(a.data), list(b.data)
    return None if None in xs or None in ys else (xs, ys)


def dot(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    whole = "float" not in (a.kind.element.name, b.kind.element.name)
    if pair is None:
        return Value(INT64 if whole else FLOAT64, None)
    if whole:
        exact = sum(int(x) * int(y) for x, y in zip(*pair))
        return Value(INT64, scalars.fitting(exact, INT64))
    return Value(FLOAT64, _dot(*pair))


def _dot(xs: list[Any], ys: list[Any]) -> float:
    return _added([float(x) * float(y) for x, y in zip(xs, ys)])


def cosine(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    return Value(FLOAT64, None if pair is None else _cosine(*pair))


def _cosine(xs: list[Any], ys: list[Any]) -> float:
    """0 where one of the two is all zero, or empty."""
    if not any(xs) or not any(ys):
        return 0.0
    xs, ys = [_near_one(xs), _near_one(ys)]
    near = _dot(xs, ys) / (math.sqrt(_dot(xs, xs)) * math.sqrt(_dot(ys, ys)))
    return near if math.isnan(near) else max(-1.0, min(1.0, near))


def _near_one(xs: list[Any]) -> list[float]:
    """The vector with the same direction whose largest number is 1, nearly."""
    floats = [float(x) for x in xs]
    if not all(map(math.isfinite, floats)):
        return floats
    _, exponent = math.frexp(max(map(abs, floats)))
    return [math.ldexp(x, -exponent) for x in floats]


def hamming(a: Value, b: Value) -> Value:
    pair = _pair(a, b)
    if pair is None:
        return Value(INT64, None)
    inner = [Value(v.kind.element, None) for v in (a, b)]
    differs = [
        scalars.compare("!=", inner[0]._replace(data=x), inner[1]._replace(data=y)).data
        for x, y in zip(*pair)
    ]
    return Value(INT64, sum(differs))


def maxsim(document: Value, query: Value) -> Value:
    """For every vector of the query the nearest of the document, summed."""
    d, q = document.data, query.data
    if d is None or q is None or any(x is None for m in (d, q) for x in m.flat):
        return Value(FLOAT64, None)
    if len(d) == 0:
        return Value(FLOAT64, None)
    if len(q) and d.shape[1] != q.shape[1]:
        raise RowError("shape")
    return Value(FLOAT64, float(sum(max(_cosine(list(r), list(s)) for r in d) for s in q)))
