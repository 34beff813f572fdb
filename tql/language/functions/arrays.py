"""Functions of the array that a row has; a scalar counts as an array of one (reference §12).

A group's sequence is one array; where its members are arrays, it is all their elements one after the
other. Elements that are NULL are passed over, as the aggregates of SQL do; an array of nothing but
NULLs is as an empty one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from tql.diagnostics import counted, error
from tql.language import operators
from tql.language.array_types import array_of, array_type, rank_of, scalar_of, sizes_of
from tql.language.expr import (
    Arith,
    ArithOp,
    Call,
    Const,
    Expr,
    ExtremeName,
    LogicalName,
    ReductionName,
    TotalName,
    TruthName,
    integer_type,
)
from tql.language.functions.function import Arguments, Example, Function, numbers, wrong_type
from tql.language.operators import INT64, UINT64
from tql.schema import Binary, Bool, DType, Float, Int, Json, List, Time

Axis = int | None


def reduced(
    name: ReductionName, e: Expr, axis: Axis, dtype: DType, nullable: bool, a: Arguments
) -> Expr:
    """The call over the whole array; or along one axis, given as a second argument that counts from
    the first dimension. `dtype` and `nullable` are those of the values that come out.
    """
    sizes = sizes_of(e.dtype)
    if axis is not None and not -len(sizes) <= axis < len(sizes):
        raise error(
            "value", f"there is no axis {axis} in {e.dtype}, which has {counted(len(sizes), 'dimension')}", a.span,
            help=f"axes go from {-len(sizes)} to {len(sizes) - 1}",
        )  # fmt: skip
    if axis is None or len(sizes) == 1:
        return Call(name, (e,), dtype, nullable or e.nullable, span=a.span)
    axis %= len(sizes)
    left = array_type(dtype, (*sizes[:axis], *sizes[axis + 1 :]))
    return Call(name, (e, Const(axis, INT64)), left, e.nullable, span=a.span)


def _one_or_array(e: Expr, axis: Axis, a: Arguments) -> Expr | None:
    """The scalar, whose only axis is 0; None where `e` is an array."""
    if isinstance(e.dtype, List):
        return None
    if axis not in (None, 0, -1):
        raise error("value", f"there is no axis {axis} in a single value", a.span,
                    help="leave the axis out")  # fmt: skip
    return e


def _of_truths(name: TruthName) -> Callable[[Arguments], Expr]:
    def bind(a: Arguments) -> Expr:
        (e,) = numbers(name, a.values)
        one = _one_or_array(e, a.axis, a)
        return operators.truth(one) if one else reduced(name, e, a.axis, Bool(), False, a)

    return bind


def widened(dtype: DType) -> Int | Float:
    """The type of a sum: 64 bits for integers, that of the elements for floats."""
    element = scalar_of(dtype)
    if isinstance(element, Float):
        return element
    return UINT64 if integer_type(element) == UINT64 else INT64


def _total(name: TotalName) -> Callable[[Arguments], Expr]:
    def bind(a: Arguments) -> Expr:
        (e,) = numbers(name, a.values)
        dtype = widened(e.dtype)
        one = _one_or_array(e, a.axis, a)
        if one is None:
            return reduced(name, e, a.axis, dtype, False, a)
        if isinstance(dtype, Float):
            return one
        return Arith(ArithOp.ADD, one, Const(0, dtype), dtype, span=a.span)

    return bind


def as_float64(e: Expr) -> Expr:
    """The scalar as float64."""
    if e.dtype == Float(64):
        return e
    return Arith(ArithOp.MUL, e, Const(1.0, Float(64)), Float(64), span=e.span)


def _avg(a: Arguments) -> Expr:
    (e,) = numbers("avg", a.values)
    one = _one_or_array(e, a.axis, a)
    return as_float64(one) if one else reduced("avg", e, a.axis, Float(64), True, a)


def _extreme(name: ExtremeName) -> Callable[[Arguments], Expr]:
    def bind(a: Arguments) -> Expr:
        (e,) = a.values
        element = scalar_of(e.dtype)
        if not isinstance(element, Time):
            numbers(name, a.values)
        return _one_or_array(e, a.axis, a) or reduced(name, e, a.axis, element, True, a)

    return bind


def _shape(a: Arguments) -> Expr:
    (e,) = a.values
    match e.dtype:
        case Binary(image=True):
            return Call("shape", (e,), List(INT64, 3), e.nullable, span=a.span)
        case Binary():
            raise wrong_type("shape", "an array or an image", e.dtype, e.span,
                             "bytes have a shape where they are known to be images")  # fmt: skip
        case Json():
            raise wrong_type("shape", "an array", e.dtype, e.span,
                             "store the values as a column of lists")  # fmt: skip
        case List(item, _, True) as dtype:
            rank = 1 + (rank_of(item) if array_of(dtype)[1] == 1 else 0)
            return Call("shape", (e,), List(INT64, rank), e.nullable, span=a.span)
        case _:
            sizes = sizes_of(e.dtype)
            if None not in sizes and not e.nullable:
                return Const(sizes, List(INT64, len(sizes)), span=a.span)
            return Call("shape", (e,), List(INT64, len(sizes)), e.nullable, span=a.span)


def _nonzero(a: Arguments) -> Expr:
    (e,) = numbers("nonzero", a.values)
    return Call("nonzero", (e,), List(INT64), e.nullable, span=a.span)


def _logical(name: LogicalName) -> Callable[[Arguments], Expr]:
    join = operators.conjunction if name == "logical_and" else operators.disjunction

    def bind(a: Arguments) -> Expr:
        given = operators.adapted(numbers(name, a.values))
        left, right = (_truths(e) for e in given)
        if not isinstance(left.dtype, List) and not isinstance(right.dtype, List):
            return join([left, right], a.span)
        if any(isinstance(operators.element_type(e.dtype), List) for e in (left, right)):
            # Sequences of arrays: member by member.
            return operators.by_element(
                (left, right), lambda two: bind(a._replace(values=tuple(two))), a.span
            )
        sizes = [sizes_of(e.dtype) if isinstance(e.dtype, List) else (1,) for e in (left, right)]
        grouped = any(isinstance(e.dtype, List) and e.dtype.grouped for e in (left, right))
        if len(sizes[0]) != len(sizes[1]):
            return Const(False, Bool(), span=a.span)  # shapes that are never the same
        both = isinstance(left.dtype, List) and isinstance(right.dtype, List)
        if both and sizes[0] == sizes[1] and None not in sizes[0] and not grouped:
            return join([left, right], a.span)
        dtype = array_type(Bool(), [None] * len(sizes[0]), grouped)
        nullable = left.nullable or right.nullable
        return Call(name, (left, right), dtype, nullable, span=a.span)

    return bind


def _truths(e: Expr) -> Expr:
    if not isinstance(e.dtype, List):
        return operators.truth(e)
    if isinstance(scalar_of(e.dtype), Bool):
        return e
    return operators.by_element((e,), _truths_of_one, e.span)


def _truths_of_one(each: Sequence[Expr]) -> Expr:
    return _truths(each[0])


def as_selected(e: Expr) -> Expr:
    """A value that is selected: logical_and() and logical_or() give `false`, and no array, where the
    shapes differ, which only a JSON column can hold.
    """
    match e:
        case Call("logical_and" | "logical_or", _, List()):
            return replace(e, dtype=Json())
        case _:
            return e


_NUMBERS: Final = "numbers or bools: an array, or one value, which is an array of one"
_ELEMENTS: Final = "NULL where x is NULL; elements that are NULL are passed over"

ARRAYS: Final = (
    Function(
        "all", "all(x [, axis])", (1, 1), "whether every element is true, that is, not 0",
        _of_truths("all"), axis=True, takes=_NUMBERS, result="bool; an array of bool with an axis",
        nulls=_ELEMENTS, special="true for an empty array",
        example=Example("select all(embedding < 1) as a limit 2", (False, True)),
        kernel=True,
    ),
    Function(
        "all_strict", "all_strict(x)", (1, 1),
        "whether there are elements, and every one of them is true", _of_truths("all_strict"),
        takes=_NUMBERS, result="bool", nulls=_ELEMENTS, special="false for an empty array",
        example=Example("select all_strict(boxes[:, 0] > 20) as a limit 2", (False, True)),
        kernel=True,
    ),
    Function(
        "amax", "amax(x [, axis])", (1, 1), "the greatest element", _extreme("amax"), axis=True,
        takes=f"{_NUMBERS}; or times", result="the type of the elements",
        nulls=_ELEMENTS, special="NULL for an empty array; NaN where an element is NaN",
        example=Example("select amax(embedding) as a limit 2", (1.0, 0.75)),
        kernel=True,
    ),
    Function(
        "amin", "amin(x [, axis])", (1, 1), "the least element", _extreme("amin"), axis=True,
        takes=f"{_NUMBERS}; or times", result="the type of the elements",
        nulls=_ELEMENTS, special="NULL for an empty array; NaN where an element is NaN",
        example=Example("select amin(boxes, 0) as a limit 1", ([10.0, 20.0, 110.0, 220.0],)),
        kernel=True,
    ),
    Function(
        "any", "any(x [, axis])", (1, 1), "whether some element is true, that is, not 0",
        _of_truths("any"), axis=True, takes=_NUMBERS, result="bool; an array of bool with an axis",
        nulls=_ELEMENTS, special="false for an empty array",
        example=Example("select any(boxes[:, 0] > 20) as a limit 2", (False, True)),
        kernel=True,
    ),
    Function(
        "avg", "avg(x [, axis])", (1, 1), "the mean of the elements", _avg, axis=True,
        takes=_NUMBERS, result="float64", nulls=_ELEMENTS, special="NULL for an empty array",
        example=Example("select avg(boxes[:, 0]) as a limit 3", (10.0, 40.0, 300.0)),
        kernel=True,
    ),
    Function(
        "logical_and", "logical_and(a, b)", (2, 2),
        "a AND b by element; false, and no array, where their shapes differ",
        _logical("logical_and"), takes="two arrays of bools or numbers, or two single values",
        result="an array of bool; selected, JSON where shapes may differ",
        nulls="as AND has it, by element; NULL where an array is NULL",
        example=Example(
            "select logical_and(embedding > 0.5, embedding < 1) as a limit 2",
            ([False, False, False], [True, False, False]),
        ),
        kernel=True,
    ),
    Function(
        "logical_or", "logical_or(a, b)", (2, 2),
        "a OR b by element; false, and no array, where their shapes differ",
        _logical("logical_or"), takes="two arrays of bools or numbers, or two single values",
        result="an array of bool; selected, JSON where shapes may differ",
        nulls="as OR has it, by element; NULL where an array is NULL",
        example=Example(
            "select logical_or(embedding == 1, embedding == 0) as a limit 2",
            ([True, True, True], [False, False, True]),
        ),
        kernel=True,
    ),
    Function(
        "nonzero", "nonzero(x)", (1, 1), "the positions of the elements that are not 0, row by row",
        _nonzero, takes=_NUMBERS, result="an array of int64", nulls=_ELEMENTS,
        example=Example("select nonzero(embedding) as a limit 2", ([0], [0, 1])),
    ),
    Function(
        "prod", "prod(x [, axis])", (1, 1), "the product of the elements", _total("prod"), axis=True,
        takes=_NUMBERS, result="int64, uint64 of uint64; the type of floats", nulls=_ELEMENTS,
        special="1 for an empty array; an integer beyond 64 bits is an error",
        example=Example("select prod(boxes[:, 0]) as a limit 2", (10.0, 40.0)),
        kernel=True,
    ),
    Function(
        "shape", "shape(x)", (1, 1),
        "how long each dimension is; of an image height, width and channels, read from its header",
        _shape, takes="an array, an image, or one value", result="an array of int64",
        special="an empty array for a single value; of a group its length first, then the "
        "dimensions of its members, NULL where these differ",
        example=Example("select shape(boxes) as a limit 3", ([1, 4], [1, 4], [2, 4])),
        kernel=True,
    ),
    Function(
        "sum", "sum(x [, axis])", (1, 1), "the sum of the elements", _total("sum"), axis=True,
        takes=_NUMBERS, result="int64, uint64 of uint64; the type of floats", nulls=_ELEMENTS,
        special="0 for an empty array; an integer beyond 64 bits is an error",
        example=Example("select sum(embedding > 0) as a limit 2", (1, 2)),
        kernel=True,
    ),
)  # fmt: skip
