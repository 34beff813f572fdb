"""Weights that make classes equally heavy: one over how often a class comes, to a power, or how much
rarer than a threshold it is.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import Span, TqlError, data_error
from tql.engine.coded import classes_counted, classes_of
from tql.engine.columns import Arrays, Arrow, Numbers, Objects, Vec, one_array, pc
from tql.engine.comparing import plain_text
from tql.language.expr import Balanced
from tql.partition import count
from tql.rowset import RowSet
from tql.weights import ClassWeights

Codes = NDArray[np.int64]
Float64s = NDArray[np.float64]

_SPARSE: Final = (
    4  # integers whose range is at most so many times their number are counted directly
)


def balance(e: Balanced, values: Vec, population: RowSet) -> ClassWeights:
    """The weights of `population`, whose rows have `values` in their order.

    The class of a row is its value; all NaN are one class. A row with a list weighs as the rarest
    of the classes in it (the largest of their weights), each class counted once per row that has
    it; rows with an empty list are a class of their own.
    """
    _refuse_null(values, population, e.span)
    n = len(population)
    if isinstance(values, Arrays):
        return classes_of(*_rarest(e, values, n), population)
    codes, classes = _codes(values, n)
    counts = np.bincount(codes, minlength=classes)
    return classes_counted(codes, _weights(e, counts, n), counts, population)


def balance_coded(e: Balanced, codes: NDArray[Any], size: int, population: RowSet) -> ClassWeights:
    """`balance` by a column's codes below `size`; the last is that of NULL, and has to be absent."""
    counts = count(codes, size)
    if counts[-1]:
        raise _no_class(population.select(int(np.argmax(codes == size - 1))), e.span)
    return classes_counted(codes, _weights(e, counts, len(codes)), counts, population)


def _refuse_null(values: Vec, population: RowSet, span: Span) -> None:
    valid = values.valid
    if valid is not None and not valid.all():
        row = population.select(int(np.argmin(np.broadcast_to(valid, (len(population),)))))
        raise _no_class(row, span)


def _no_class(row: int, span: Span) -> TqlError:
    return data_error("value", f"balanced() has no class for row {row}: its value is NULL",
                      span=span, help="exclude such rows with  where … is not null")  # fmt: skip


def _weights(e: Balanced, counts: NDArray[np.int64], n: int) -> Float64s:
    """float64 (classes,): what rows of a class weigh that so many of the `n` rows have; 0 for a
    class without rows.
    """
    known = counts.astype(np.float64)
    weights = np.zeros(len(counts))
    if e.threshold is None:
        np.divide(1.0, known**e.power, out=weights, where=counts > 0)
    else:
        # A class at the threshold or above weighs 1 exactly, whatever dividing would round to.
        np.divide(e.threshold * n, known, out=weights, where=counts > 0)
        weights = np.where(counts > 0, np.maximum(weights, 1.0) ** e.power, 0.0)
    return weights


def _codes(values: Vec, n: int) -> tuple[Codes, int]:
    """int64 (n,): the same number for the same value, below the number given with them."""
    match values:
        case Numbers(numbers):
            return _number_codes(np.broadcast_to(numbers, (n,)))
        case Arrow(array):
            encoded = one_array(pc.dictionary_encode(plain_text(array)))
            codes = encoded.indices.to_numpy().astype(np.int64)
            return codes, len(encoded.dictionary)
        case Arrays() | Objects():
            raise AssertionError("the binder lets numbers, bools, times and text through")


def _number_codes(numbers: NDArray[Any]) -> tuple[Codes, int]:
    if not len(numbers):
        return np.empty(0, np.int64), 0
    if numbers.dtype.kind in "biu":
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < _SPARSE * len(numbers) + 1024:
            return (
                numbers.astype(np.int64) - low if low else numbers.astype(np.int64)
            ), high - low + 1
    else:
        numbers = numbers + 0.0  # -0.0 is 0.0
    known, codes = np.unique(numbers, return_inverse=True)
    return codes.astype(np.int64), len(known)


def _rarest(e: Balanced, arrays: Arrays, n: int) -> tuple[Codes, Float64s]:
    """int64 (n,): which weight the rarest class in each row's list gives it; float64: the weights."""
    counts = np.broadcast_to(arrays.counts, (n,))
    rows = np.repeat(np.arange(n), counts)
    items = arrays.items
    if arrays.shapes.ndim == 1:  # one list for all rows
        at = np.tile(np.arange(int(arrays.counts)), n)
        codes, classes = _codes(items, int(arrays.counts))
        codes = codes[at]
    else:
        codes, classes = _codes(items, len(rows))
    valid = items.valid
    if valid is not None:
        present = np.broadcast_to(valid, codes.shape)
        rows, codes = rows[present], codes[present]
    pairs = np.unique(rows * max(classes, 1) + codes)  # a class counts once in a row
    rows, codes = np.divmod(pairs, max(classes, 1))
    weights = _weights(e, np.bincount(codes, minlength=classes), n)
    result = np.zeros(n)
    np.maximum.at(result, rows, weights[codes])
    bare = np.ones(n, np.bool_)
    bare[rows] = False
    result[bare] = _weights(e, np.array([np.count_nonzero(bare)]), n)[0]
    known, which = np.unique(result, return_inverse=True)
    return which.astype(np.int64), known
