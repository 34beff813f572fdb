"""Functions that generated kernels call: exact comparison and arithmetic in 64 bits, sets, random."""

from typing import Any

import numpy as np

from tql.bits import popcount
from tql.engine.vectors import FACTOR, LARGEST, SMALLEST
from tql.jit import device
from tql.rng import FIRST, SECOND, STEP

ZERO = np.uint64(0)
ONE = np.uint64(1)
ALL = np.uint64(2**64 - 1)
THREE = np.uint64(3)
SEVEN = np.uint64(7)
SIXTY_THREE = np.uint64(63)
HALF = np.uint64(32)
LOW_HALF = np.uint64(2**32 - 1)
TOP = np.uint64(2**63)
GREATEST = np.int64(2**63 - 1)
THIRTY = np.uint64(30)
TWENTY_SEVEN = np.uint64(27)
THIRTY_ONE = np.uint64(31)
THIRTY_THREE = np.uint64(33)
TWO_63 = 2.0**63
TWO_64 = 2.0**64


@device
def lowest(x: Any) -> Any:
    """The place of the lowest bit that is set in the uint64 x, which is not 0; one instruction."""
    return np.int64(popcount((x - ONE) & ~x))


@device
def bits_from(words: Any, place: Any, count: Any) -> Any:
    """`count` bits, 64 at most, from bit `place` of these words on, below which one more word lies."""
    w, up = np.uint64(place >> 6), np.uint64(place & 63)
    x = (words[w] >> up) | ((words[w + ONE] << ONE) << (SIXTY_THREE - up))
    return x & (ALL >> np.uint64((64 - count) & 63)) if count > 0 else ZERO


@device
def every(width: Any) -> Any:
    """Bit 0, and each that is a multiple of `width`, from 1 on, away from it."""
    x, step = ONE, max(width, 1)
    while step < 64:
        x |= x << np.uint64(step)
        step += step
    return x


@device
def sign_i64_u64(a: Any, b: Any) -> Any:
    """The sign of a - b, for int64 a and uint64 b."""
    if a < 0:
        return -1
    x = np.uint64(a)
    return np.int64(x > b) - np.int64(x < b)


@device
def sign_i64_f64(a: Any, b: Any) -> Any:
    """The sign of a - b, for int64 a and float64 b; 0 where b is NaN."""
    if b >= TWO_63:
        return -1
    if b < -TWO_63:
        return 1
    if b != b:
        return 0
    whole = np.int64(b)  # towards zero
    rest = b - np.float64(whole)
    if a != whole:
        return np.int64(a > whole) - np.int64(a < whole)
    return np.int64(rest < 0) - np.int64(rest > 0)


@device
def sign_u64_f64(a: Any, b: Any) -> Any:
    """The sign of a - b, for uint64 a and float64 b; 0 where b is NaN."""
    if b >= TWO_64:
        return -1
    if b < 0:
        return 1
    if b != b:
        return 0
    whole = np.uint64(b)
    rest = b - np.float64(whole)
    if a != whole:
        return np.int64(a > whole) - np.int64(a < whole)
    return np.int64(rest < 0) - np.int64(rest > 0)


@device
def sign_times(fine: Any, coarse: Any, ratio: Any) -> Any:
    """The sign of fine / ratio - coarse, for int64 and a ratio above 0."""
    whole = fine // ratio
    if whole != coarse:
        return np.int64(whole > coarse) - np.int64(whole < coarse)
    return np.int64(fine - whole * ratio > 0)


@device
def in_word(word: Any, x: Any, low: Any) -> Any:
    """Whether the uint64 word, whose lowest bit is that of the int64 `low`, has x and its bit is set."""
    at = np.uint64(x) - np.uint64(low)  # unsigned, so that it may wrap
    return ((word >> (at & SIXTY_THREE)) & np.uint64(at <= SIXTY_THREE)) != ZERO


@device
def in_table(table: Any, x: Any, low: Any) -> Any:
    """Whether x has its bit set in the uint8 table, whose first bit is that of the int64 `low` and whose
    last is not set.
    """
    # Without a jump, several rows are looked up at once: 0.45 ns a row. With one, in a table of bytes,
    # it was 1.0, and 2.4 where it could not be guessed.
    at = np.uint64(x) - np.uint64(low)  # unsigned, so that it may wrap
    at = min(at, np.uint64(8 * table.size - 1))
    return (np.uint64(table[np.int64(at >> THREE)]) >> (at & SEVEN)) & ONE != ZERO


@device
def in_sorted(values: Any, x: Any) -> Any:
    """Whether x is among the ascending values; never for NaN."""
    low, high = 0, values.size
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < x:
            low = middle + 1
        else:
            high = middle
    return low < values.size and values[low] == x


@device
def remainder(a: Any, b: Any) -> Any:
    """int64 a modulo b with the sign of a; 0 for b = 0."""
    r = a % b
    if r != 0 and ((r < 0) != (a < 0)):
        r -= b
    return r


# A 64-bit integer of either sign is its low 64 bits and a high word: all ones below zero, else 0.
# Together they are the number in 128 bits, where sums and products of two of them are exact.


@device
def high_i64(a: Any) -> Any:
    return ALL if a < 0 else ZERO


@device
def high_u64(a: Any) -> Any:
    return ZERO


@device
def size_of(low: Any, high: Any) -> Any:
    """|a| as uint64."""
    return ZERO - low if high != ZERO else low


@device
def high_product(a: Any, b: Any) -> Any:
    """The high 64 bits of the 128-bit product of two uint64."""
    a0, a1, b0, b1 = a & LOW_HALF, a >> HALF, b & LOW_HALF, b >> HALF
    middle = a1 * b0 + ((a0 * b0) >> HALF)
    other = a0 * b1 + (middle & LOW_HALF)
    return a1 * b1 + (middle >> HALF) + (other >> HALF)


@device
def sum_high(a: Any, a_high: Any, b: Any, b_high: Any) -> Any:
    """The high word of a + b."""
    low = a + b
    return a_high + b_high + np.uint64(low < a)


@device
def difference_high(a: Any, a_high: Any, b: Any, b_high: Any) -> Any:
    """The high word of a - b."""
    return a_high - b_high - np.uint64(a < b)


@device
def product_high(a: Any, a_high: Any, b: Any, b_high: Any) -> Any:
    """The high word of a * b; a negative factor is 2^64 less than its low word says."""
    return high_product(a, b) - (a_high & b) - (b_high & a)


@device
def leaves_i64(low: Any, high: Any) -> Any:
    """Whether the 128-bit number is none of int64."""
    return high != (ZERO - (low >> SIXTY_THREE))


@device
def leaves_u64(low: Any, high: Any) -> Any:
    """Whether the 128-bit number is none of uint64; it is one of int128."""
    return high != ZERO


@device
def modulo(a: Any, a_high: Any, b: Any, b_high: Any) -> Any:
    """The low word of a modulo b with the sign of a; 0 for b = 0."""
    divisor = size_of(b, b_high)
    if divisor == ZERO:
        return ZERO
    size = size_of(a, a_high) % divisor
    return ZERO - size if a_high != ZERO else size


@device
def modulo_leaves_i64(low: Any, a_high: Any) -> Any:
    """Whether `modulo(…)`, whose low word this is, is none of int64."""
    return size_of(low, a_high) > TOP if a_high != ZERO else low >= TOP


@device
def modulo_leaves_u64(low: Any, a_high: Any) -> Any:
    """Whether `modulo(…)`, whose low word this is, is negative."""
    return a_high != ZERO and low != ZERO


@device
def random31(key: Any, position: Any) -> Any:
    """int64 in [0, 2^31): what `tql.rng.random31` gives for this position."""
    x = (np.uint64(position) + ONE) * STEP + key
    x = (x ^ (x >> THIRTY)) * FIRST
    x = (x ^ (x >> TWENTY_SEVEN)) * SECOND
    x = x ^ (x >> THIRTY_ONE)
    return np.int64(x >> THIRTY_THREE)


@device
def within_i64(x: Any) -> Any:
    """The uint64 x as int64; its largest where it is beyond."""
    return np.int64(x) if x < TOP else GREATEST


# `start:stop:step` along an axis of `extent` places, as Python's slice.indices counts them.


@device
def slice_step(step: Any, extent: Any) -> Any:
    """The step, never 0; one longer than the axis takes one element, however long it is."""
    if step == 0:
        return 1
    return max(-extent - 1, min(step, extent + 1))


@device
def slice_end(x: Any, extent: Any, step: Any) -> Any:
    """Where a slice starts or stops that says so."""
    low = -1 if step < 0 else 0
    high = extent - 1 if step < 0 else extent
    place = x + extent if x < 0 else x
    return max(low, min(place, high))


@device
def slice_first(extent: Any, step: Any) -> Any:
    """Where a slice starts that does not say so."""
    return extent - 1 if step < 0 else 0


@device
def slice_last(extent: Any, step: Any) -> Any:
    """Where a slice stops that does not say so."""
    return -1 if step < 0 else extent


@device
def slice_count(first: Any, last: Any, step: Any) -> Any:
    """How many places there are from the first to before the last."""
    span = first - last if step < 0 else last - first
    size = -step if step < 0 else step
    return (span + size - 1) // size if span > 0 else 0


@device
def larger(best: Any, x: Any) -> Any:
    """The greater of two numbers, NaN if one is NaN, 0.0 of 0.0 and -0.0."""
    if best == x:
        return best + x if x == 0 else x
    return best if best > x or best != best else x


@device
def smaller(best: Any, x: Any) -> Any:
    """The lesser of two numbers, NaN if one is NaN, -0.0 of 0.0 and -0.0."""
    if best == x:
        return -(-best - x) if x == 0 else x
    return best if best < x or best != best else x


@device
def vector_factor(squares: Any) -> Any:
    """What to multiply a vector with, given its product with itself; see `tql.engine.vectors`."""
    if squares > LARGEST:
        return 1.0 / FACTOR
    return FACTOR if squares < SMALLEST else 1.0


@device
def cosine(product: Any, aa: Any, bb: Any) -> Any:
    """The cosine from the product of two vectors and that of each with itself; 0 where one is 0."""
    a, b = np.sqrt(aa), np.sqrt(bb)
    if a == 0.0 or b == 0.0:
        return 0.0
    c = product / (a * b)
    return -1.0 if c < -1.0 else 1.0 if c > 1.0 else c


NAMES = {
    "ZERO": ZERO,
    "ONE": ONE,
    "ALL": ALL,
    **{
        d.__name__: d
        for d in (
            popcount,
            lowest,
            bits_from,
            every,
            sign_i64_u64,
            sign_i64_f64,
            sign_u64_f64,
            sign_times,
            in_word,
            in_table,
            in_sorted,
            remainder,
            high_i64,
            high_u64,
            size_of,
            sum_high,
            difference_high,
            product_high,
            leaves_i64,
            leaves_u64,
            modulo,
            modulo_leaves_i64,
            modulo_leaves_u64,
            random31,
            within_i64,
            slice_step,
            slice_end,
            slice_first,
            slice_last,
            slice_count,
            larger,
            smaller,
            vector_factor,
            cosine,
        )
    },
}
