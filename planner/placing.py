"""From a draw by quota to the slot it takes: the loops, and what they do in NumPy."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tql.jit import device, kernel
from tql.planner.permute import hashed_twin, two_rounds
from tql.planner.rng import Int64s, Key, Uint64s, philox, philox_twin

_TURN: Final = 20  # bits of a cell's number; above them its turns are counted
# Of the permutation within a cell: with 8, two rows of a cell of 8 are together 6 % too often.
_ROUNDS: Final = 12


# -- NumPy ----------------------------------------------------------------------------------------


def place_in_cells_twin(
    key: Uint64s, firsts: Int64s, starts: Int64s, sizes: Int64s, draws: Int64s
) -> None:
    """What `PLACE_IN_CELLS` does."""
    cell = np.searchsorted(firsts, draws, side="right") - 1
    turn, at = np.divmod(draws - firsts[cell], sizes[cell])
    a, b = philox_twin(_key(key), cell + (turn << _TURN))
    draws[:] = starts[cell] + within_twin(at, sizes[cell], a, b)


def order_rows_twin(key: Uint64s, bounds: Int64s, places: Int64s) -> None:
    """What `ORDER_ROWS` does."""
    f = np.searchsorted(bounds, places, side="right") - 1
    a, b = philox_twin(_key(key), f)
    places[:] = bounds[f] + within_twin(places - bounds[f], bounds[f + 1] - bounds[f], a, b)


def place_in_rows_twin(
    key: Uint64s, always: Int64s, upto: Uint64s, guide: NDArray[np.uint32], shift: int, total: int,
    left: int, offset: int, bounds: Int64s, draws: Int64s,
) -> None:  # fmt: skip
    """What `PLACE_IN_ROWS` does."""
    late = draws >= always.size
    draws[~late] = always[draws[~late]]
    if left:
        points = points_twin(draws[late] - always.size, total, left, offset)
        places = np.searchsorted(upto, points, side="right")
        order_rows_twin(key, bounds, places)
        draws[late] = places


def points_twin(d: Int64s, total: int, draws: int, offset: int) -> Uint64s:
    """⌊(d x total + offset) / draws⌋ for d ≤ draws ≤ 2^31, without leaving 64 bits."""
    whole, rest = divmod(total, draws)
    at = d.astype(np.uint64)
    points: Uint64s = (at * np.uint64(rest) + np.uint64(offset)) // np.uint64(draws)
    points += at * np.uint64(whole)
    return points


def first_draws(at: Uint64s, total: int, draws: int, offset: int) -> Int64s:
    """The first draw whose point (`points_twin`) is at `at` or beyond; `draws` where none is."""
    guess = (at.astype(np.float64) * draws - offset) / total
    d = np.maximum(np.floor(guess), 0).astype(np.int64)
    while (early := points_twin(d, total, draws, offset) < at).any():  # the float is a few off
        d += early
    while (late := (d > 0) & (points_twin(np.maximum(d - 1, 0), total, draws, offset) >= at)).any():
        d -= late
    return d


def within_twin(x: Int64s, n: Int64s, key: Uint64s, step: Uint64s) -> Int64s:
    """What `within` returns, for every x."""
    bits = np.array([(v - 1).bit_length() // 2 for v in n.tolist()], np.uint64)
    mask = (_ONE << bits) - _ONE
    a = (n.astype(np.uint64) + mask) >> bits
    out, walking = x.astype(np.uint64), np.arange(x.size)
    while walking.size:
        w = walking
        left, right = out[w] >> bits[w], out[w] & mask[w]
        k = key[w]
        for _ in range(_ROUNDS // 2):
            left = left + ((hashed_twin(right, k) * a[w]) >> _HALF)
            left = np.where(left >= a[w], left - a[w], left)
            right = (right + (hashed_twin(left, k + step[w]) >> (_HALF - bits[w]))) & mask[w]
            k = k + step[w] + step[w]
        out[w] = (left << bits[w]) | right
        walking = w[out[w] >= n[w].astype(np.uint64)]
    return out.astype(np.int64)


def _key(key: Uint64s) -> Key:
    return Key(int(key[0]) | int(key[1]) << 32, int(key[2]))


# -- kernels --------------------------------------------------------------------------------------

_ONE: Final = np.uint64(1)
_TWO: Final = np.uint64(2)
_HALF: Final = np.uint64(32)
_SHIFT: Final = np.uint64(_TURN)


@device
def within(x: Any, n: Any, key: Any, step: Any) -> Any:
    """Where a permutation of 0 … n - 1 that (key, step) names puts x; all are uint64."""
    bits = np.uint64(0)
    rest = n - _ONE
    while rest >= _TWO:
        rest >>= _TWO
        bits += _ONE
    a = (n + (_ONE << bits) - _ONE) >> bits
    while True:
        k = key
        for _ in range(_ROUNDS // 2):
            x = two_rounds(x, k, k + step, a, bits)
            k += step + step
        if x < n:
            return x


@device
def last_from(firsts: Any, d: Any) -> Any:
    """The last c with firsts[c] ≤ d; the end of `firsts` is beyond."""
    c = 0
    end = firsts.size - 1
    while end - c > 1:
        middle = (c + end) >> 1
        if firsts[middle] <= d:
            c = middle
        else:
            end = middle
    return c


@kernel("u64[], i64[], i64[], i64[], i64[]")
def PLACE_IN_CELLS(
    key: Uint64s, firsts: Int64s, starts: Int64s, sizes: Int64s, draws: Int64s
) -> None:
    """Each draw becomes the slot it takes."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    for i in range(draws.size):
        cell = last_from(firsts, draws[i])
        size = np.uint64(sizes[cell])
        d = np.uint64(draws[i] - firsts[cell])
        turn = d // size
        a, b = philox(np.uint64(cell) + (turn << _SHIFT), high, k0, k1)
        draws[i] = starts[cell] + np.int64(within(d - turn * size, size, a, b))


@kernel("u64[], i64[], i64[]")
def ORDER_ROWS(key: Uint64s, bounds: Int64s, places: Int64s) -> None:
    """Each place becomes the slot that stands there."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    for i in range(places.size):
        f = last_from(bounds, places[i])
        first = bounds[f]
        a, b = philox(np.uint64(f), high, k0, k1)
        x = np.uint64(places[i] - first)
        places[i] = first + np.int64(within(x, np.uint64(bounds[f + 1] - first), a, b))


@kernel("u64[], i64[], u64[], u32[], i64, u64, i64, u64, i64[], i64[]")
def PLACE_IN_ROWS(
    key: Uint64s, always: Int64s, upto: Uint64s, guide: NDArray[np.uint32], shift: int, total: int,
    left: int, offset: int, bounds: Int64s, draws: Int64s,
) -> None:  # fmt: skip
    """Each draw becomes the slot it takes."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    down = np.uint64(shift)
    count = np.uint64(max(left, 1))
    whole = total // count
    rest = total - whole * count
    for i in range(draws.size):
        d = draws[i]
        if d < always.size:
            draws[i] = always[d]
        else:
            late = np.uint64(d - always.size)
            point = late * whole + (late * rest + offset) // count
            row = np.uint64(guide[point >> down])
            while upto[row] <= point:
                row += _ONE
            place = np.int64(row)
            f = last_from(bounds, place)
            first = bounds[f]
            a, b = philox(np.uint64(f), high, k0, k1)
            x = np.uint64(place - first)
            draws[i] = first + np.int64(within(x, np.uint64(bounds[f + 1] - first), a, b))
