"""Expressions over JSON in the reference tier (reference §10).

JSON is Python values, row by row. Where a path leads through an Arrow struct to a child that has one
scalar type, that child is taken as it lies in Arrow, and no dictionary of a row is made.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types as kind

from tql.engine.columns import Arrays, Arrow, Numbers, Objects, Vec, from_arrow, one_array, pc
from tql.engine.comparing import both, compare, compare_texts
from tql.engine.json_text import objects
from tql.language.expr import (
    Call,
    Column,
    CompareOp,
    Const,
    Expr,
    JsonAs,
    JsonCompare,
    JsonItem,
)
from tql.schema import Bool, DType, Float, Int, Json, Label, Text

Evaluate: TypeAlias = Callable[[Expr], Vec]
Stored: TypeAlias = Callable[[str], Any]  # a column of the table as it lies in Arrow

# Orders the kinds of JSON values as ORDER BY does; objects and arrays have no place in it.
KIND: Final[dict[type, int]] = {bool: 0, int: 1, float: 1, str: 2, dict: 3, list: 4}
_LAST_SCALAR: Final = 2


class Reader:
    """What evaluating JSON needs of the rows: their number, other expressions, stored columns."""

    __slots__ = ("evaluate", "rows", "stored")

    def __init__(self, rows: int, evaluate: Evaluate, stored: Stored) -> None:
        self.rows = rows
        self.evaluate = evaluate
        self.stored = stored


def json_value(e: JsonItem | JsonCompare | JsonAs, reader: Reader) -> Vec:
    """The value of the node for every row."""
    match e:
        case JsonItem():
            child = _child(e, reader)
            return (
                child[0] if isinstance(child[0], Objects) else Objects(_objects(child[0], reader))
            )
        case JsonAs(operand, dtype):
            return _as(_child(operand, reader), dtype, reader.rows)
        case JsonCompare(op, left, right):
            a, b = _child(left, reader), _child(right, reader)
            if isinstance(a[0], Objects) or isinstance(b[0], Objects):
                return _three_valued(
                    _outcome(op, x, y)
                    for x, y in zip(_objects(a[0], reader), _objects(b[0], reader), strict=True)
                )
            return _compare_typed(op, a, b, reader.rows)
        case _:
            assert_never(e)


def json_call(e: Call, reader: Reader) -> Vec:
    """A function with an argument that is JSON."""
    first, *others = (reader.evaluate(a) for a in e.arguments if not _is_list_of_values(a))
    values = _objects(first, reader)
    match e.function, e.arguments:
        case "keys", _:
            return _keys(values)
        case "in", (_, Const(tuple(choices))):
            kinds, known = {KIND[type(c)] for c in choices}, frozenset(choices)
            hits = (None if v is None else KIND[type(v)] in kinds and v in known for v in values)
            return _three_valued(hits)
        case "contains", _:
            needles = _objects(others[0], reader)
            return _three_valued(map(_contains, values, needles))
        case _:
            raise AssertionError(f"no reference for {e.function}() of JSON")


def _is_list_of_values(e: Expr) -> bool:
    return isinstance(e, Const) and isinstance(e.value, tuple)


# -- scalars -----------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal: of one type, numbers by value, the rest by content."""
    match a, b:
        case dict(), dict():
            return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
        case list(), list():
            return len(a) == len(b) and all(map(same, a, b))
        case None, None:
            return True
        case _:
            return KIND.get(type(a)) == KIND.get(type(b)) and bool(a == b)


def _outcome(op: CompareOp, a: Any, b: Any) -> bool | None:
    if a is None or b is None:
        return None
    if op is CompareOp.EQ:
        return same(a, b)
    if op is CompareOp.NE:
        return not same(a, b)
    at = KIND[type(a)]
    if at != KIND[type(b)] or at > _LAST_SCALAR:
        return None
    match op:
        case CompareOp.LT:
            return bool(a < b)
        case CompareOp.LE:
            return bool(a <= b)
        case CompareOp.GT:
            return bool(a > b)
        case CompareOp.GE:
            return bool(a >= b)
        case _:
            assert_never(op)


def _contains(haystack: Any, needle: Any) -> bool | None:
    if haystack is None or needle is None:
        return None
    match haystack:
        case list():
            return any(same(v, needle) for v in haystack)
        case str():
            return isinstance(needle, str) and needle in haystack
        case dict():
            return isinstance(needle, str) and needle in haystack
        case _:
            return same(haystack, needle)


def pick_item(value: Any, key: Any) -> Any:
    """The member or element of one JSON value; None where there is none."""
    match value, key:
        case dict(), str():
            return value.get(key)
        case list(), int() if -len(value) <= key < len(value):
            return value[key]
        case _:
            return None


# -- columns -----------------------------------------------------------------------------------


def _three_valued(outcomes: Iterable[bool | None]) -> Numbers:
    found = list(outcomes)
    valid = np.array([o is not None for o in found], np.bool_)
    return Numbers(np.array([o is True for o in found], np.bool_), None if valid.all() else valid)


def _objects(vec: Vec, reader: Reader) -> NDArray[np.object_]:
    """object (n,): the values of any scalars as Python values."""
    match vec:
        case Objects(values):
            return values
        case Arrow(array):
            return objects(one_array(array))
        case Numbers(values, valid):
            result = np.broadcast_to(values, (reader.rows,)).astype(np.object_)
            if valid is not None:
                result[~valid] = None
            return result
        case Arrays():
            raise AssertionError("an array is no JSON value")
        case _:
            assert_never(vec)


Typed: TypeAlias = tuple[Vec, DType]
"""Values with the type they have in every row; Json() where that is not known."""


def _child(e: Expr, reader: Reader) -> Typed:
    """The value of `e`: in one scalar type where the type says so, else as Python values."""
    if not isinstance(e.dtype, Json):
        return reader.evaluate(e), e.dtype
    match e:
        case JsonItem(operand, key):
            struct = _struct_path(e, reader)
            if struct is not None:
                return struct
            inner = _child(operand, reader)[0]
            keys = _objects(reader.evaluate(key), reader)
            values = np.empty(reader.rows, np.object_)
            values[:] = list(map(pick_item, _objects(inner, reader), keys))
            return Objects(values), Json()
        case _:
            return reader.evaluate(e), Json()


def _struct_path(e: JsonItem, reader: Reader) -> Typed | None:
    """The child of a struct column that constant keys lead to; None where `e` is something else."""
    keys: list[Any] = []
    at: Expr = e
    while isinstance(at, JsonItem):
        if not isinstance(at.key, Const):
            return None
        keys.append(at.key.value)
        at = at.operand
    if not isinstance(at, Column):
        return None
    array = one_array(reader.stored(at.name))
    if not kind.is_struct(array.type):
        return None
    keys.reverse()
    while keys and kind.is_struct(array.type):
        key = keys.pop(0)
        found = array.type.get_all_field_indices(key) if isinstance(key, str) else []
        if not found:
            return Objects(np.full(reader.rows, None, np.object_)), Json()
        array = pc.struct_field(array, [found[0]])
    dtype = None if keys else _scalar(array.type)
    if dtype is not None:
        return from_arrow(array, dtype), dtype
    values = objects(array)
    for key in keys:
        values[:] = [pick_item(v, key) for v in values]
    return Objects(values), Json()


def _scalar(stored: pa.DataType) -> DType | None:
    """The column type of what needs no conversion to be a JSON value."""
    if kind.is_boolean(stored):
        return Bool()
    if kind.is_integer(stored):
        return Int(stored.bit_width, kind.is_signed_integer(stored))
    if kind.is_float64(stored):
        return Float(64)
    return Text() if kind.is_string(stored) or kind.is_large_string(stored) else None


def _rank(dtype: DType) -> int:
    match dtype:
        case Bool():
            return KIND[bool]
        case Text():
            return KIND[str]
        case Int() | Float() | Label():
            return KIND[int]
        case _:
            raise AssertionError(f"{dtype} is no JSON scalar")


def _compare_typed(op: CompareOp, left: Typed, right: Typed, rows: int) -> Numbers:
    (a, s), (b, t) = left, right
    valid = both(a.valid, b.valid)
    if _rank(s) != _rank(t):
        if op in (CompareOp.EQ, CompareOp.NE):
            return Numbers(np.asarray(op is CompareOp.NE), valid)
        return Numbers(np.zeros(rows, np.bool_), np.zeros(rows, np.bool_))
    if isinstance(a, Numbers) and isinstance(b, Numbers):
        return Numbers(compare(op, a.values, b.values), valid)
    assert isinstance(a, Arrow) and isinstance(b, Arrow)
    return compare_texts(op, a.array, b.array)


def _as(value: Typed, dtype: DType, rows: int) -> Vec:
    vec, found = value
    if not isinstance(vec, Objects):
        return _typed_as(vec, found, dtype, rows)
    match dtype:
        case Text():
            return Arrow(
                pa.array([v if isinstance(v, str) else None for v in vec.values], pa.string())
            )
        case Bool():
            return _three_valued(bool(v) if KIND.get(type(v), 9) < 2 else None for v in vec.values)
        case Float(64):
            numbers = np.zeros(len(vec.values))
            valid = np.zeros(len(vec.values), np.bool_)
            for at, v in enumerate(vec.values):
                if KIND.get(type(v)) == 1:
                    numbers[at], valid[at] = _float(v), True
            return Numbers(numbers, valid)
        case _:
            raise AssertionError(f"JSON is never read as {dtype}")


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _typed_as(vec: Vec, found: DType, dtype: DType, rows: int) -> Vec:
    match vec, dtype:
        case Arrow(), Text():
            return vec
        case Numbers(values, valid), Bool():
            return Numbers(values != 0, valid)
        case Numbers(values, valid), Float(64) if not isinstance(found, Bool):
            return Numbers(values.astype(np.float64), valid)
        case _, Text():
            return Arrow(pa.nulls(rows, pa.string()))
        case _, Bool():
            return Numbers(np.zeros(rows, np.bool_), np.zeros(rows, np.bool_))
        case _:
            return Numbers(np.zeros(rows), np.zeros(rows, np.bool_))


def _keys(values: NDArray[np.object_]) -> Arrays:
    keys = [sorted(v) if isinstance(v, dict) else () for v in values]
    valid = np.array([isinstance(v, dict) for v in values], np.bool_)
    items = Arrow(pa.array([k for each in keys for k in each], pa.string()))
    shapes = np.array([len(each) for each in keys], np.int64).reshape(len(keys), 1)
    return Arrays(items, shapes, None if valid.all() else valid)
