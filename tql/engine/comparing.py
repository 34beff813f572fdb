"""Comparing columns: numbers by mathematical value, text by code point; validity put together."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Mask, Numbers, one_array, pc, storage
from tql.language.expr import CompareOp


def both(a: Mask | None, b: Mask | None) -> Mask | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def bools(array: Any) -> Numbers:
    array = one_array(array)
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False) if array.null_count else None
    return Numbers(pc.fill_null(array, False).to_numpy(zero_copy_only=False), valid)


def compare(op: CompareOp, a: NDArray[Any], b: NDArray[Any]) -> Mask:
    """Element-wise comparison by mathematical value, for any two number types."""
    if a.dtype.kind == "b" and b.dtype.kind == "b":
        a, b = a.view(np.uint8), b.view(np.uint8)
    if {a.dtype.kind, b.dtype.kind} & {"f"} and _wide(a) != _wide(b):
        sign, known = three_way(a, b) if _wide(a) else three_way(b, a)
        a, b = (sign, np.zeros_like(sign)) if _wide(a) else (np.zeros_like(sign), sign)
        result = _NUMPY_COMPARE[op](a, b)
        return np.where(known, result, op is CompareOp.NE)
    result = _NUMPY_COMPARE[op](a, b)  # NumPy 2 compares signed with unsigned exactly
    return np.asarray(result)


def _wide(a: NDArray[Any]) -> bool:
    """Whether float64 does not hold every value of the type."""
    return a.dtype.kind in "iu" and a.dtype.itemsize == 8


def three_way(whole: NDArray[Any], real: NDArray[Any]) -> tuple[NDArray[np.int8], Mask]:
    """The sign of `whole - real` exactly, int8, and where it is known (not NaN)."""
    real = real.astype(np.float64)
    info = np.iinfo(whole.dtype)
    low, high = float(info.min), float(info.max)  # high rounds up to 2^63 or 2^64
    above, below = real >= high, real < low
    inside = np.where(above | below | np.isnan(real), 0.0, real)
    part = np.trunc(inside)
    near = part.astype(whole.dtype)
    sign = (whole > near).astype(np.int8) - (whole < near).astype(np.int8)
    sign = np.where(sign == 0, -np.sign(inside - part), sign)
    sign = np.where(above, -1, np.where(below, 1, sign)).astype(np.int8)
    return sign, ~np.isnan(real)


_NUMPY_COMPARE: Mapping[CompareOp, Any] = {
    CompareOp.EQ: np.equal,
    CompareOp.NE: np.not_equal,
    CompareOp.LT: np.less,
    CompareOp.LE: np.less_equal,
    CompareOp.GT: np.greater,
    CompareOp.GE: np.greater_equal,
}


ARROW_COMPARE: Final[Mapping[CompareOp, Any]] = {
    CompareOp.EQ: pc.equal,
    CompareOp.NE: pc.not_equal,
    CompareOp.LT: pc.less,
    CompareOp.LE: pc.less_equal,
    CompareOp.GT: pc.greater,
    CompareOp.GE: pc.greater_equal,
}


def compare_texts(op: CompareOp, left: Any, right: Any) -> Numbers:
    """Two Arrow arrays of text, plain or dictionaries, row by row."""
    if _by_code(left) and _by_code(right):
        texts = [plain_text(a.dictionary).cast(pa.large_string()) for a in (left, right)]
        together = pc.rank(pa.concat_arrays(map(one_array, texts)), tiebreaker="dense").to_numpy()
        (a, known), (b, also) = codes_of(left), codes_of(right)
        first, second = np.split(together, [len(left.dictionary)])
        valid = both(known, also)
        if not (len(first) and len(second)):  # then a side has nothing but NULL
            return Numbers(np.zeros(len(left), np.bool_), valid)
        return Numbers(_NUMPY_COMPARE[op](np.take(first, a), np.take(second, b)), valid)
    a, b = plain_text(left), plain_text(right)
    if a.type != b.type:
        a, b = a.cast(pa.large_string()), b.cast(pa.large_string())
    return bools(ARROW_COMPARE[op](a, b))


_RANKING: Final = 32  # to put a text in its place takes as long as to compare so many rows


def _by_code(array: Any) -> bool:
    """Whether comparing codes is less work than comparing texts."""
    return (
        pa.types.is_dictionary(array.type)
        and not array.dictionary.null_count
        and _RANKING * len(array.dictionary) <= len(array)
    )


def codes_of(array: Any) -> tuple[NDArray[Any], Mask | None]:
    """The codes of a dictionary array, those of NULL rows 0, and where it is not NULL."""
    codes = storage(array.indices)
    if not array.indices.null_count:
        return codes, None
    valid = array.indices.is_valid().to_numpy(zero_copy_only=False)
    return np.where(valid, codes, codes.dtype.type(0)), valid


def plain_text(array: Any) -> Any:
    """Text as string or large_string, no dictionary."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.large_string()) if pa.types.is_string_view(array.type) else array
