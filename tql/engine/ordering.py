"""ORDER BY: stable, exact for 64-bit keys, NaN after all numbers and NULL last in both directions."""

import math
from collections.abc import Sequence
from math import isqrt
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Arrays, Arrow, Numbers, Objects, Vec, one_array, pc
from tql.engine.comparing import codes_of, plain_text
from tql.engine.json_values import KIND

# Sorting is left for selecting where so many times more rows arrive than are wanted.
_SELECTIVE: Final = 4
# A part of the rows is searched for its own first ones where it has so many times more: what is
# done twice then costs a sixteenth.
_OWN: Final = 16

_BLOCK: Final = 1 << 16  # rows: a block and what is found in it stay in the cache
_SPARSE: Final = 16  # rows for each that is found in a block, from which on most are passed over

# A sample bounds what can be among the first where so many times more rows are there than wanted;
# and is of use where it leaves no more than this part of them.
_SAMPLED: Final = 128
_LEFT: Final = 1 / 8
_SCATTER: Final = 2654435761  # a large prime


class _Key(NamedTuple):
    """Numbers (n,) that sort as a key does, NaN and what is not `valid` last."""

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None
    descending: bool

    def at(self, places: NDArray[np.int64] | slice) -> "_Key":
        valid = None if self.valid is None else self.valid[places]
        return _Key(self.values[places], valid, self.descending)

    def numbers(self) -> NDArray[Any]:
        """The values that are one, in their order."""
        real = self.values if self.valid is None else self.values[self.valid]
        return real[real == real] if real.dtype.kind == "f" else real


def stable_order(
    keys: Sequence[tuple[Vec, bool]], rows: int, most: int | None = None
) -> NDArray[np.int64]:
    """Positions 0 … rows-1 sorted by (column, descending) keys, the first key deciding first.

    Of them the first `most`, where that is given: the others are not sorted.
    """
    found = _keys(keys, rows)
    if most is None or most * _SELECTIVE > rows:
        return _sorted(_sortable(found))[:most]
    places = _leading(found, rows, most)
    return places[_sorted(_sortable([k.at(places) for k in found]))]


def far_fewer(most: int, rows: int) -> bool:
    """Whether a part of so many rows is worth searching for its own first `most`."""
    return most * _OWN <= rows


def leading(
    keys: Sequence[tuple[Vec, bool]], rows: int, most: int, bound: Any = None
) -> NDArray[np.int64]:
    """Positions, ascending, of the first `most` (0 … rows) of the stable order; without some that are
    behind `bound` in the first key, where that is given.
    """
    found = _keys(keys, rows)
    if bound is not None:
        first = found[0]
        ahead = np.greater_equal if first.descending else np.less_equal
        places = _where(first, ahead, bound, most=int(_LEFT * rows))
        if places is not None:
            part = [k.at(places) for k in found]
            return places[_leading(part, len(places), min(most, len(places)))]
    return _leading(found, rows, most)


def last_of(key: tuple[Vec, bool]) -> Any:
    """The value that no other of the key is behind; None where one is no number, or there is none."""
    values, valid = _comparable(key[0])
    numbers = _Key(values, valid, key[1]).numbers()
    if not len(values) or len(numbers) < len(values):
        return None
    return numbers.min() if key[1] else numbers.max()


def _keys(keys: Sequence[tuple[Vec, bool]], rows: int) -> list[_Key]:
    found = []
    for vec, descending in keys:
        values, valid = _comparable(vec)
        found.append(_Key(np.broadcast_to(values, (rows,)), valid, descending))
    return found


def _sorted(arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """The stable order by the first array, then the next."""
    if len(arrays) == 1:
        return np.argsort(arrays[0], kind="stable")
    return np.lexsort(arrays[::-1])


def _leading(keys: Sequence[_Key], rows: int, most: int) -> NDArray[np.int64]:
    """The `most` (0 … rows) positions that come first in the stable order, ascending."""
    if not most:
        return np.zeros(0, np.int64)
    tied: NDArray[np.int64] | None = None  # equal in the keys looked at so far; None for all
    found, wanted = [], most
    for k, key in enumerate(keys):
        if wanted == (rows if tied is None else len(tied)):
            break
        last = k == len(keys) - 1
        before, equal = _split(key if tied is None else key.at(tied), wanted, last=last)
        found.append(before if tied is None else tied[before])
        wanted -= len(before)
        if equal is not None:
            tied = equal if tied is None else tied[equal]
    return np.sort(np.concatenate([*found, np.arange(wanted) if tied is None else tied[:wanted]]))


def _split(
    key: _Key, wanted: int, *, last: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """The places that come before the one of rank `wanted` (1 … n - 1), fewer than `wanted`, in any
    order; and those that are equal to it, ascending, None for all. Of the last key no more of them
    are looked for than are wanted.

    Whatever order the values have, what is done in vain costs a few hundredths of `_partitioned`.
    """
    bound = _bound(key, wanted)
    if bound is None:
        return _partitioned(key, wanted)
    many = int(_LEFT * len(key.values))
    before = _where(key, np.greater if key.descending else np.less, bound, most=many)
    if before is None:
        return _partitioned(key, wanted)
    if len(before) >= wanted:
        inner, equal = _partitioned(key.at(before), wanted)
        return before[inner], before[equal]
    tied = _where(key, np.equal, bound, enough=wanted - len(before) if last else len(key.values))
    assert tied is not None
    return before, None if len(tied) == len(key.values) else tied


def _bound(key: _Key, wanted: int) -> Any:
    """A value that `wanted` rows at least are not behind, as so many of a sample are not; None where
    no sample says so.

    Of a sample of s of n rows about n / s times as many as are wanted are before it. Both are few:
    each row of the sample, and each of these, costs about what it does to sort it.
    """
    rows = len(key.values)
    if rows < wanted * _SAMPLED:
        return None
    step = isqrt(rows // (2 * wanted))
    at = np.arange(0, rows - step, step)
    at += at * _SCATTER % step  # not at equal distances: the values may repeat at these
    sample = key.at(at).numbers()
    if len(sample) < wanted:
        return None
    return _ranked(sample, len(sample) - wanted if key.descending else wanted - 1)


def _ranked(values: NDArray[Any], rank: int) -> Any:
    return np.partition(values, rank)[rank]


def _partitioned(key: _Key, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What `_split` gives."""
    tied: NDArray[np.int64] = np.arange(len(key.values))
    found = [tied[:0]]
    for array in _sortable([key]):
        if wanted == len(tied):
            break
        values = array if len(tied) == len(array) else array[tied]
        bound = _ranked(values, wanted - 1)
        found.append(tied[values < bound])
        wanted -= len(found[-1])
        tied = tied[values == bound]
    return np.concatenate(found), tied


def _where(
    key: _Key, compare: Any, bound: Any, *, most: int | None = None, enough: int | None = None
) -> NDArray[np.int64] | None:
    """The places, ascending, whose number compares so with the bound; None where they are more than
    `most`; no more than the first of them if these are `enough`.
    """
    parts: list[NDArray[np.int64]] = []
    held = 0
    for start in range(0, len(key.values), _BLOCK):
        block = key.at(slice(start, start + _BLOCK))
        hit = compare(block.values, bound)
        if block.valid is not None:
            hit &= block.valid
        found = _true(hit)
        if len(found):
            parts.append(start + found)
            held += len(found)
            if most is not None and held > most:
                return None
            if enough is not None and held >= enough:
                break
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _true(hit: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The places that are true; where they are few, eight at a time are passed over."""
    if len(hit) % 8 or np.count_nonzero(hit) * _SPARSE > len(hit):
        return np.flatnonzero(hit)
    words = np.flatnonzero(hit.view(np.uint64) != 0)
    if not len(words):
        return words
    row, column = np.nonzero(hit.reshape(-1, 8)[words])
    return words[row] * 8 + column


def _sortable(keys: Sequence[_Key]) -> list[NDArray[Any]]:
    """Arrays that sort ascending as the keys should: for each, first where it has no value, then the
    value.
    """
    arrays: list[NDArray[Any]] = []
    for values, valid, descending in keys:
        last = np.zeros(len(values), np.int8)
        if values.dtype.kind == "f":
            last[np.isnan(values)] = 1
        if valid is not None:
            last[~valid] = 2
        if descending:
            values = -values if values.dtype.kind == "f" else ~values
        if last.any():
            values = np.where(last == 0, values, values.dtype.type(0))
            arrays.append(last)
        arrays.append(values)
    return arrays


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
