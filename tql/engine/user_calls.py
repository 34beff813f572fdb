"""Calls of registered Python functions, row by row or with whole arrays.

A row whose arguments hold a NULL, or that an earlier condition rejected, is never handed in: its
result is NULL. What the function raises becomes an error that names the row.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.diagnostics import Span, TqlDataError, TqlError, counted, data_error
from tql.engine.columns import Arrays, Arrow, Mask, Numbers, Objects, Vec, numpy_dtype, pick
from tql.language.user_function import UserFunction
from tql.language.user_functions import returned_type
from tql.schema import DType, Json, Text, Time

Rows = NDArray[np.int64]
Name = Callable[[int], int]


def call(
    function: UserFunction,
    dtype: DType,
    arguments: Sequence[tuple[Vec, DType]],
    active: Mask,
    name: Name,
    span: Span,
) -> Vec:
    """The results as a column of `dtype`, one for each row of `active`.

    active  bool (n,): the rows that count
    name    the row of the root data set at a place of the column, for messages
    """
    wanted = np.flatnonzero(_present(arguments, active))
    given = [_handed(vec, kind, wanted) for vec, kind in arguments]
    if function.batch:
        found = _in_one_call(function, given, wanted, name, span)
    else:
        found = _one_by_one(function, given, wanted, name, span)
    return _column(function, dtype, found, wanted, len(active), name, span)


def tried(
    function: UserFunction,
    arguments: Sequence[tuple[Vec, DType]],
    rows: int,
    name: Name,
    span: Span,
) -> DType | None:
    """The type of what the function gives for the first row (a batch of the first rows) without
    NULLs; None where there is no such row.
    """
    present = _present(arguments, np.ones(rows, np.bool_))
    wanted = np.flatnonzero(present)[: None if function.batch else 1]
    if not len(wanted):
        return None
    given = [_handed(vec, kind, wanted) for vec, kind in arguments]
    if function.batch:
        found = np.asarray(_in_one_call(function, given, wanted, name, span))
    else:
        (result,) = _one_by_one(function, given, wanted, name, span)
        found = np.asarray(result)
        if found.ndim:
            raise _not_one_value(function, found, name(int(wanted[0])), span)
    if found.dtype.kind == "O" and all(isinstance(v, str) for v in found.ravel()):
        return Text()
    try:
        return returned_type(found.dtype)
    except TqlError as e:
        raise data_error(
            "type", f"{function.name}() gives {_kind(found)}, which no column can hold", span=span,
            help="let it give a number, a bool or a text",
        ) from e  # fmt: skip


def _present(arguments: Sequence[tuple[Vec, DType]], active: Mask) -> Mask:
    for vec, _ in arguments:
        if vec.valid is not None:
            active = active & vec.valid
    return active


# -- arguments ---------------------------------------------------------------------------------


def _handed(vec: Vec, dtype: DType, wanted: Rows) -> Any:
    """The values of the wanted rows as the function gets them: NumPy arrays, or lists of objects."""
    match pick(vec, wanted):
        case Numbers(values):
            chosen = np.broadcast_to(values, wanted.shape)
            return chosen.astype(f"datetime64[{dtype.unit}]") if isinstance(dtype, Time) else chosen
        case Arrow(array):
            return array.to_pylist()
        case Objects(objects):
            return objects.tolist()
        case Arrays(shapes=shapes) as arrays if shapes.ndim == 1:
            return [_elements(arrays.items, int(arrays.counts)).reshape(shapes)] * len(wanted)
        case Arrays(items, shapes) as arrays:
            offsets = arrays.offsets
            elements = _elements(items, int(offsets[-1]))
            return [
                elements[start:stop].reshape(shape)
                for start, stop, shape in zip(offsets, offsets[1:], shapes, strict=False)
            ]
        case other:
            assert_never(other)


def _elements(items: Vec, count: int) -> NDArray[Any]:
    """The elements of arrays as one NumPy array; of objects where they are text or may be None."""
    match items:
        case Numbers(values, valid):
            full = np.broadcast_to(values, (count,))
            if valid is None or valid.all():
                return full
            objects: NDArray[Any] = full.astype(object)
            objects[~valid] = None
            return objects
        case Objects(found):
            return found
        case Arrow(array):
            return _objects(array.to_pylist())
        case Arrays():
            return _objects(_handed(items, Json(), np.arange(count)))
        case _:
            assert_never(items)


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    """Objects one by one in an array of shape (n,); NumPy would join arrays of one shape."""
    array = np.empty(len(values), object)
    for n, value in enumerate(values):
        array[n] = value
    return array


# -- calls -------------------------------------------------------------------------------------


def _one_by_one(
    function: UserFunction, given: Sequence[Any], wanted: Rows, name: Name, span: Span
) -> list[Any]:
    results = []
    for at, row in enumerate(wanted.tolist()):
        values = [a[at : at + 1].reshape(()) if isinstance(a, np.ndarray) else a[at] for a in given]
        try:
            results.append(function.function(*values))
        except Exception as e:
            raise _failed(function, e, f"row {name(row)}", span) from e
    return results


def _in_one_call(
    function: UserFunction, given: Sequence[Any], wanted: Rows, name: Name, span: Span
) -> Any:
    if not len(wanted):
        return []
    arrays = [a if isinstance(a, np.ndarray) else _objects(a) for a in given]
    first, last = name(int(wanted[0])), name(int(wanted[-1]))
    where = (
        f"row {first}"
        if len(wanted) == 1
        else f"a batch of {len(wanted)} rows from row {first} to {last}"
    )
    # A function without arguments cannot know how many rows there are.
    try:
        found = function.function(*arrays) if arrays else [function.function() for _ in wanted]
    except Exception as e:
        raise _failed(function, e, where, span) from e
    if np.ndim(found) != 1 or len(found) != len(wanted):
        shape = np.shape(found)
        raise data_error(
            "shape", f"{function.name}() was given {counted(len(wanted), 'row')} and gave an array of shape "
            f"{shape}, for {where}", span=span, help="let it give one value for each row",
        )  # fmt: skip
    return found


def _failed(function: UserFunction, e: Exception, where: str, span: Span) -> TqlDataError:
    said = str(e).split("\n")[0]
    return data_error(
        "value", f"{function.name}() raised {type(e).__name__}{': ' if said else ''}{said}, for {where}",
        span=span, help="what it raised is the cause of this error (__cause__)",
    )  # fmt: skip


# -- results -----------------------------------------------------------------------------------


def _column(
    function: UserFunction, dtype: DType, found: Any, wanted: Rows, rows: int, name: Name, span: Span
) -> Vec:  # fmt: skip
    """The results at the wanted rows; NULL everywhere else, and where a result is None."""
    if not isinstance(found, np.ndarray) or found.dtype.kind == "O":
        kept = [n for n, value in enumerate(found) if value is not None]
        if len(kept) < len(found):
            found, wanted = [found[n] for n in kept], wanted[kept]
    if isinstance(dtype, Text):
        return _texts(function, found, wanted, rows, name, span)
    kind = numpy_dtype(dtype)
    values = np.zeros(rows, kind)
    values[wanted] = _numbers(function, found, kind, wanted, name, span)
    if len(wanted) == rows:
        return Numbers(values)
    valid = np.zeros(rows, np.bool_)
    valid[wanted] = True
    return Numbers(values, valid)


def _texts(
    function: UserFunction, found: Any, wanted: Rows, rows: int, name: Name, span: Span
) -> Arrow:  # fmt: skip
    column: list[str | None] = [None] * rows
    for row, value in zip(wanted.tolist(), found, strict=True):
        if not isinstance(value, str):
            raise _wrong(function, np.asarray(value), "text", name(row), span)
        column[row] = str(value)
    return Arrow(pa.array(column, pa.string()))


_FITS: Final = {"b": "b", "i": "biu", "u": "biu", "f": "biuf"}  # kind of the column, of a value


def _numbers(
    function: UserFunction, found: Any, kind: np.dtype[Any], wanted: Rows, name: Name, span: Span
) -> NDArray[Any]:  # fmt: skip
    """The results in the column's type; an error for the first that is not one number of that kind.

    Floats are rounded to the type; integers must fit.
    """
    if not isinstance(found, np.ndarray) or found.dtype.kind == "O":
        for row, value in zip(wanted.tolist(), found, strict=True):
            one = np.asarray(value)
            if one.ndim:
                raise _not_one_value(function, one, name(row), span)
            if one.dtype.kind not in _FITS[kind.kind]:
                raise _wrong(function, one, str(kind), name(row), span)
        found = np.asarray(found) if len(found) else np.empty(0, kind)
    if found.dtype.kind not in _FITS[kind.kind]:
        raise _wrong(function, found[:1].reshape(()), str(kind), name(int(wanted[0])), span)
    with np.errstate(all="ignore"):
        result = found.astype(kind)
    if kind.kind in "iu":
        lost = result != found
        if lost.any():
            at = int(np.argmax(lost))
            raise data_error(
                "range", f"{function.name}() gave {found[at]} for row {name(int(wanted[at]))}, "
                f"which does not fit in {kind}", span=span,
                help="register it with a wider returns=",
            )  # fmt: skip
    return np.asarray(result)


def _kind(value: NDArray[Any]) -> str:
    """A value as a message names it."""
    if value.ndim:
        return f"an array of shape {value.shape}"
    if value.dtype.kind == "O":
        return f"a {type(value.item()).__name__}"
    return "text" if value.dtype.kind == "U" else str(value.dtype)


def _wrong(
    function: UserFunction, value: NDArray[Any], wanted: str, row: int, span: Span
) -> TqlDataError:
    return data_error(
        "type", f"{function.name}() gave {_kind(value)} for row {row}, not {wanted}", span=span,
        help="register it with the returns= of what it gives",
    )  # fmt: skip


def _not_one_value(
    function: UserFunction, value: NDArray[Any], row: int, span: Span
) -> TqlDataError:
    return data_error(
        "shape", f"{function.name}() gave {_kind(value)} for row {row}, not one value", span=span,
        help="let it give a number, a bool or a text",
    )  # fmt: skip
