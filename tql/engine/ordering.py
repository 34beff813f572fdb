"""ORDER BY: stable, exact for 64-bit keys, NaN after all numbers and NULL last in both directions."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Arrays, Arrow, Numbers, Objects, Vec, one_array, pc
from tql.engine.comparing import codes_of, plain_text
from tql.engine.json_values import KIND

# Sorting is left for selecting where so many times more rows arrive than are wanted.
_SELECTIVE: Final = 4


def stable_order(
    keys: Sequence[tuple[Vec, bool]], rows: int, most: int | None = None
) -> NDArray[np.int64]:
    """Positions 0 … rows-1 sorted by (column, descending) keys, the first key deciding first.

    Of them the first `most`, where that is given: the others are not sorted.
    """
    arrays: list[NDArray[Any]] = []
    for vec, descending in keys:
        arrays += _sortable(vec, descending, rows)
    if most is None or most * _SELECTIVE > rows:
        return _sorted(arrays)[:most]
    if not most:
        return np.zeros(0, np.int64)
    places = _leading(arrays, most)
    return places[_sorted([a[places] for a in arrays])]


def _sorted(arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """The stable order by the first array, then the next."""
    if len(arrays) == 1:
        return np.argsort(arrays[0], kind="stable")
    return np.lexsort(arrays[::-1])


def _leading(arrays: Sequence[NDArray[Any]], most: int) -> NDArray[np.int64]:
    """The `most` (1 … rows) positions that come first in the stable order, ascending."""
    tied: NDArray[np.int64] = np.arange(len(arrays[0]))  # equal in the arrays looked at so far
    found, wanted = [], most
    for array in arrays:
        if wanted == len(tied):
            break
        values = array if len(tied) == len(array) else array[tied]
        bound = np.partition(values, wanted - 1)[wanted - 1]
        before = tied[values < bound]  # fewer than are wanted
        found.append(before)
        wanted -= len(before)
        tied = tied[values == bound]
    return np.sort(np.concatenate([*found, tied[:wanted]]))


def _sortable(vec: Vec, descending: bool, rows: int) -> list[NDArray[Any]]:
    """Arrays that sort ascending as the key should: first where it has no value, then the value."""
    values, valid = _comparable(vec)
    values = np.broadcast_to(values, (rows,))
    last = np.zeros(rows, np.int8)
    if values.dtype.kind == "f":
        last[np.isnan(values)] = 1
    if valid is not None:
        last[~valid] = 2
    if descending:
        values = -values if values.dtype.kind == "f" else ~values
    if not last.any():
        return [values]
    return [last, np.where(last == 0, values, values.dtype.type(0))]


def _comparable(vec: Vec) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    match vec:
        case Numbers(values, valid):
            return (values.view(np.uint8) if values.dtype.kind == "b" else values), valid
        case Arrow(array):
            return _text_ranks(array), vec.valid
        case Objects(values):
            return _json_ranks(values)
        case Arrays():
            raise AssertionError("ORDER BY takes one value per row")


def _json_ranks(values: NDArray[np.object_]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The rank of each JSON scalar, exactly: bool < number < text; and which values have one.

    Objects and arrays have no place in the order. Ranks are float64 so that NaN, which a struct may
    hold, stays what it is; there are fewer than 2^53 of them.
    """
    kinds = np.array([KIND.get(type(v), -1) for v in values], np.int8)
    ranks = np.zeros(len(values))
    for kind in range(3):
        where = np.flatnonzero(kinds == kind)
        known = sorted({v for v in values[where] if v == v})
        rank_of = {v: len(values) * kind + at for at, v in enumerate(known)}
        ranks[where] = [rank_of.get(v, math.nan) for v in values[where]]
    return ranks, (kinds >= 0) & (kinds < 3)


def _text_ranks(array: Any) -> NDArray[np.int64]:
    """int64 (n,): the rank of each text among the distinct ones, by code point."""
    if not pa.types.is_dictionary(array.type):
        array = one_array(pc.dictionary_encode(plain_text(array)))
    words = plain_text(array.dictionary)
    if not len(words):
        return np.zeros(len(array), np.int64)
    ranks = pc.rank(words, sort_keys="ascending", tiebreaker="dense").to_numpy()
    codes, _ = codes_of(array)
    return np.take(ranks.astype(np.int64), codes)
