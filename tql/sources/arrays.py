"""A dict of arrays as a table: NumPy of any number of dimensions, Arrow arrays, lists."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.diagnostics import TqlTypeError, error


def table_of_arrays(arrays: Mapping[Any, Any]) -> pa.Table:
    """One column per entry; numbers in NumPy arrays are shared, not copied."""
    if not arrays:
        raise error(
            "schema",
            "the dict has no columns; expected at least one name with an array",
            help='for example tql.open({"labels": [0, 1, 1]})',
        )
    columns = {}
    for name, values in arrays.items():
        if not isinstance(name, str):
            raise error(
                "type",
                f"a column is named {name!r}, a {type(name).__name__}; expected text",
                help="use texts as the keys of the dict",
            )
        columns[name] = _column(name, values)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"'{n}' has {rows:,}" for n, rows in lengths.items())
        raise error(
            "shape",
            f"columns differ in length: {shown} rows",
            help="give every column one value per row",
        )
    return pa.table(columns)


def _column(name: str, values: Any) -> Any:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    try:
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
        if hasattr(values, "__arrow_c_array__"):
            return pa.array(values)
        if hasattr(values, "__array__"):
            return _from_numpy(name, np.ma.asanyarray(values))
        if isinstance(values, Sequence) and not isinstance(values, str | bytes):
            return pa.array(values if isinstance(values, list) else list(values))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as e:
        if isinstance(e, TqlTypeError):
            raise
        raise error(
            "type",
            f"column '{name}' cannot be made an Arrow array: {e}",
            help="give every row a value of one type, or None",
        ) from e
    raise error(
        "type",
        f"column '{name}' is a {type(values).__name__}; expected a NumPy array, an Arrow array "
        "or a list",
        help="give one value per row",
    )


def _from_numpy(name: str, array: NDArray[Any]) -> pa.Array:
    if array.ndim == 0:
        raise error(
            "shape",
            f"column '{name}' is a single {array.dtype}; expected one value per row",
            help="put it into a list",
        )
    if array.dtype.names is not None:
        raise error(
            "type",
            f"column '{name}' is a structured NumPy array",
            help=f"pass each of its fields as a column: {', '.join(array.dtype.names)}",
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    mask = np.ma.getmaskarray(array).ravel() if np.ma.is_masked(array) else None
    flat = np.ascontiguousarray(np.ma.getdata(array)).reshape(-1)
    values = pa.array(flat, mask=mask)
    rows = array.shape[0]
    for size in reversed(array.shape[1:]):
        if size == 0:
            return pa.array([[]] * rows, pa.list_(values.type, 0))
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values
