"""Constants as the reference tier holds them: as few copies of a value as its kind allows."""

from typing import Any

import numpy as np
import pyarrow as pa

from tql.engine import json_text
from tql.engine.columns import Arrays, Arrow, Numbers, Objects, Vec, numpy_dtype, pick
from tql.language.array_types import array_of, sizes_of
from tql.schema import DType, Json, List, Text


def constant(value: Any, dtype: DType, rows: int) -> Vec:
    """A value of `Const` for every row; numbers and arrays are not repeated."""
    match dtype:
        case List():
            return _array(value, dtype)
        case Json():
            one, _ = json_text.parsed(pa.array([value], pa.string()))
            return Objects(np.repeat(one, rows))
        case Text():
            return Arrow(pa.repeat(pa.scalar(value, pa.string()), rows))
        case _:
            return Numbers(np.asarray(value, numpy_dtype(dtype)))


def everywhere_the_same(one: Vec, rows: int) -> Vec:
    """The value of a `Vec` of one row in every row; an array is not repeated."""
    if isinstance(one, Arrays) and one.valid is None:
        return Arrays(one.items, one.shapes[0])
    return pick(one, np.zeros(rows, np.int64))


def _array(value: Any, dtype: List) -> Arrays:
    """A nested tuple as the array that every row has."""
    element = array_of(dtype)[0]
    shape = sizes_of(dtype)  # of a constant all are known, also where it is empty
    flat = [value]
    for _ in shape:
        flat = [item for part in flat for item in part]
    items = (
        Arrow(pa.array(flat, pa.string()))
        if isinstance(element, Text)
        else Numbers(np.array(flat, numpy_dtype(element)))
    )
    return Arrays(items, np.array(shape, np.int64))
