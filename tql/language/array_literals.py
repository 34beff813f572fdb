"""ARRAY[…], and lists passed as parameters: constants of one kind and one shape (reference §9)."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from tql.diagnostics import Span, error
from tql.language.array_types import array_type, sizes_of
from tql.language.expr import Const, Expr
from tql.language.fold import refold
from tql.language.operators import INT64, NOTHING, UINT64, constant
from tql.schema import Bool, DType, Float, List, Text

MOST_DIMENSIONS: Final = 64  # NumPy's limit


def literal(items: Sequence[Expr], span: Span) -> Const:
    """`ARRAY[items]`; every item is a constant, or an array literal of the shape of the others."""
    constants = []
    for item in map(refold, items):
        if not isinstance(item, Const):
            raise error(
                "type", "the elements of ARRAY[…] are constants, and this depends on the row",
                item.span, help="write numbers or text in quotes, for example array[0.5, 1]",
            )  # fmt: skip
        constants.append(item)
    first = sizes_of(constants[0].dtype)
    for c in constants:
        if sizes_of(c.dtype) != first:
            raise error(
                "shape", f"an element of shape {_shown(sizes_of(c.dtype))} beside one of shape "
                f"{_shown(first)}", c.span,
                help="the rows of a nested ARRAY[…] are equally long",
            )  # fmt: skip
    return _of_one_kind(tuple(c.value for c in constants), (len(constants), *first), span)


def listed(value: Any, span: Span, depth: int = 0) -> Const:
    """A list, a tuple or a NumPy array, of any rank, as an array literal."""
    if depth >= MOST_DIMENSIONS:
        raise error("parameter", f"a list nested {depth} deep", span,
                    help=f"arrays have at most {MOST_DIMENSIONS} dimensions")  # fmt: skip
    if isinstance(value, np.ndarray):
        return _of_array(value, span)
    if not any(isinstance(v, list | tuple | np.ndarray) for v in value):
        return _of_one_kind(tuple(_scalar(v, span) for v in value), (len(value),), span)
    shapes, values = set(), []
    for part in value:
        if not isinstance(part, list | tuple | np.ndarray):
            raise error("shape", "the list holds lists beside single values", span,
                        help="give every row of an array the same length")  # fmt: skip
        inner = listed(part, span, depth + 1)
        shapes.add(sizes_of(inner.dtype))
        values.append(inner.value)
    if len(shapes) > 1:
        shown = " and ".join(map(_shown, sorted(shapes, key=str)[:2]))
        raise error("shape", f"the list holds rows of shapes {shown}", span,
                    help="give every row of an array the same length")  # fmt: skip
    return _of_one_kind(tuple(values), (len(values), *shapes.pop()), span)


def _of_array(value: np.ndarray[Any, Any], span: Span) -> Const:
    kinds: dict[str, DType] = {"b": Bool(), "i": INT64, "u": INT64, "f": Float(64), "U": Text()}
    element = kinds.get(value.dtype.kind)
    if element is None:
        return listed(value.tolist(), span)
    if value.dtype.kind == "u" and value.size and int(value.max()) >= 2**63:
        element = UINT64
    return Const(_tuples(value.tolist()), array_type(element, value.shape), span=span)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _scalar(value: Any, span: Span) -> Any:
    if value is None:
        raise error("parameter", "a value in the list is None", span,
                    help="arrays of a query have no NULL; leave the value out")  # fmt: skip
    return constant(value, span).value


def _of_one_kind(value: tuple[Any, ...], shape: tuple[int | None, ...], span: Span) -> Const:
    """The nested tuples as a constant: all bools, all text, or numbers of one type."""
    flat: list[Any] = list(value)
    for _ in shape[1:]:
        flat = [v for part in flat for v in part]
    kinds = {type(v) for v in flat}
    element: DType
    if not kinds:
        element = NOTHING
    elif kinds == {bool}:
        element = Bool()
    elif kinds == {str}:
        element = Text()
    elif kinds == {int}:
        element = _integers(flat, span)
    elif kinds <= {int, float}:
        element, value = Float(64), _floats(value)
    else:
        names = " and ".join(sorted(_KINDS[k] for k in kinds))
        raise error("type", f"an array holds values of one kind, not {names}", span,
                    help="write all of them as numbers, or all of them as text")  # fmt: skip
    dtype = array_type(element, shape)
    assert isinstance(dtype, List)
    return Const(value, dtype, span=span)


_KINDS: Final = {bool: "bool", str: "text", int: "numbers", float: "decimal numbers"}


def _integers(flat: list[int], span: Span) -> DType:
    if max(flat) < 2**63:
        return INT64
    if min(flat) < 0:
        raise error(
            "range", f"no integer type holds both {min(flat)} and {max(flat)}", span,
            help="write one of them with a decimal point, and the array is of float64",
        )  # fmt: skip
    return UINT64


def _floats(value: Any) -> Any:
    return tuple(map(_floats, value)) if isinstance(value, tuple) else float(value)


def _shown(sizes: tuple[int | None, ...]) -> str:
    return str(sizes) if sizes else "() (one value)"
