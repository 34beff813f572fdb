"""Functions that generated kernels call: exact comparison of 64-bit numbers, sets, remainder."""

from typing import Any

import numpy as np

from tql.jit import device

ZERO = np.uint64(0)
ONE = np.uint64(1)
ALL = np.uint64(2**64 - 1)
TWO_63 = 2.0**63
TWO_64 = 2.0**64


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
def in_table(table: Any, at: Any) -> Any:
    """Whether `at` is inside the uint8 table and marked there."""
    return at >= 0 and at < table.size and table[at] != 0


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
    """a modulo b with the sign of a, for b other than 0."""
    r = a % b
    if r != 0 and ((r < 0) != (a < 0)):
        r -= b
    return r


NAMES = {
    "ZERO": ZERO,
    "ONE": ONE,
    "ALL": ALL,
    "sign_i64_u64": sign_i64_u64,
    "sign_i64_f64": sign_i64_f64,
    "sign_u64_f64": sign_u64_f64,
    "in_table": in_table,
    "in_sorted": in_sorted,
    "remainder": remainder,
}
