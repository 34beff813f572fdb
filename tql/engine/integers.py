"""64-bit integer arithmetic that is exact or an error, never a wrapped number.

No row is ever looked at by Python: where the ends of the operands show that the result fits, it
is computed plainly; elsewhere the high half of the 128-bit result tells which rows do not fit.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tql.language.expr import ArithOp
from tql.schema import Int

Words = NDArray[np.uint64]

_SIGN: Final = np.uint64(63)
_HALF: Final = np.uint64(32)
_LOW_HALF: Final = np.uint64(2**32 - 1)
_ZERO: Final = np.uint64(0)
_TWO_63: Final = np.uint64(2**63)


class Problem(NamedTuple):
    """The first row that has no result."""

    at: int
    code: str
    message: str


def checked(
    op: ArithOp, a: NDArray[Any], b: NDArray[Any], dtype: Int, may_raise: NDArray[np.bool_]
) -> tuple[NDArray[Any], Problem | None]:
    """`a OP b` for integers of any width, in `dtype` (int64 or uint64), and the first problem.

    a, b       integer or bool arrays, shapes (n,) or ()
    may_raise  bool (n,): rows whose result matters; the others get an arbitrary number
    """
    x, y = _whole(a), _whole(b)
    with np.errstate(all="ignore"):
        if op is ArithOp.MOD:
            values, fails = _remainder(x, y, dtype)
        else:
            wide = np.dtype(np.int64 if dtype.signed else np.uint64)
            values = np.asarray(_WRAPPING[op](x.astype(wide), y.astype(wide)))
            fits = not may_raise.size or _surely_fits(op, x, y, dtype)
            fails = None if fits else _leaves(op, _split(x), _split(y), dtype)
    if fails is None or not (fails & may_raise).any():
        return values, None
    at = int(np.argmax(fails & may_raise))
    p, q = (int(np.broadcast_to(v, may_raise.shape)[at]) for v in (x, y))
    if op is ArithOp.MOD and q == 0:
        return values, Problem(at, "value", "integer modulo by zero")
    return values, Problem(at, "range", f"{_exactly(op, p, q)} does not fit in {dtype}")


_WRAPPING: Final = {
    ArithOp.ADD: np.add,
    ArithOp.SUB: np.subtract,
    ArithOp.MUL: np.multiply,
}


def _whole(a: NDArray[Any]) -> NDArray[Any]:
    return a.view(np.uint8) if a.dtype.kind == "b" else a


def _ends(a: NDArray[Any]) -> tuple[int, int]:
    return int(a.min()), int(a.max())


def _surely_fits(op: ArithOp, x: NDArray[Any], y: NDArray[Any], dtype: Int) -> bool:
    """Whether the least and greatest operands, of one row or more, already rule out an overflow."""
    corners = [_exactly(op, p, q) for p in _ends(x) for q in _ends(y)]
    low, high = _limits(dtype)
    return low <= min(corners) and max(corners) <= high


def _limits(dtype: Int) -> tuple[int, int]:
    return (-(2**63), 2**63 - 1) if dtype.signed else (0, 2**64 - 1)


def _split(a: NDArray[Any]) -> tuple[Words, Words]:
    """The low and high 64 bits of each number as a 128-bit one."""
    low = a.astype(np.uint64)  # a negative number wraps, which is its low half
    return low, _ZERO - (a < 0)


def _leaves(
    op: ArithOp, x: tuple[Words, Words], y: tuple[Words, Words], dtype: Int
) -> NDArray[np.bool_]:
    """Where the exact result, of which 128 bits are computed, is not a number of `dtype`."""
    (a, a_high), (b, b_high) = x, y
    match op:
        case ArithOp.ADD:
            low = a + b
            high = a_high + b_high + (low < a)
        case ArithOp.SUB:
            low = a - b
            high = a_high - b_high - (a < b)
        case _:
            low = a * b
            # A negative factor was read as 2^64 more than it is.
            high = _high_product(a, b) - (a_high & b) - (b_high & a)
    return np.asarray(high != (_ZERO - (low >> _SIGN) if dtype.signed else _ZERO))


def _high_product(a: Words, b: Words) -> Words:
    """The high 64 bits of the 128-bit products of unsigned numbers."""
    a0, a1, b0, b1 = a & _LOW_HALF, a >> _HALF, b & _LOW_HALF, b >> _HALF
    middle = a1 * b0 + ((a0 * b0) >> _HALF)
    other = a0 * b1 + (middle & _LOW_HALF)
    high: Words = a1 * b1 + (middle >> _HALF) + (other >> _HALF)
    return high


def _remainder(
    x: NDArray[Any], y: NDArray[Any], dtype: Int
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """The remainder with the sign of x, and where there is none or it does not fit.

    It is smaller than either operand, so it fits unless an operand is outside `dtype` itself.
    """
    zero = np.asarray(y == 0)
    if _held(x, dtype) and _held(y, dtype):
        wide = np.dtype(np.int64 if dtype.signed else np.uint64)
        # The least number modulo -1 is a division that overflows; modulo 1 it is 0 as well.
        unfit = zero | (y == -1) if dtype.signed else zero
        divisor = np.where(unfit, 1, y) if unfit.any() else y
        values = np.asarray(np.fmod(x.astype(wide), divisor.astype(wide)))
        return values, zero if zero.any() else None
    size = _magnitude(x) % np.where(zero, np.uint64(1), _magnitude(y))
    below = x < 0
    signed = np.where(below, _ZERO - size, size)
    if dtype.signed:
        return signed.view(np.int64), zero | np.where(below, size > _TWO_63, size >= _TWO_63)
    return signed, zero | (below & (size != 0))


def _held(a: NDArray[Any], dtype: Int) -> bool:
    """Whether `dtype` has every number of `a`."""
    if not a.size or (a.dtype.itemsize < 8 and (dtype.signed or a.dtype.kind == "u")):
        return True
    low, high = _limits(dtype)
    least, greatest = _ends(a)
    return low <= least and greatest <= high


def _magnitude(a: NDArray[Any]) -> Words:
    """|a| as uint64; that of -2^63, which int64 has not, included."""
    size: Words = a if a.dtype == np.uint64 else np.abs(a.astype(np.int64)).astype(np.uint64)
    return size


def _exactly(op: ArithOp, x: int, y: int) -> int:
    match op:
        case ArithOp.ADD:
            return x + y
        case ArithOp.SUB:
            return x - y
        case ArithOp.MUL:
            return x * y
        case _:
            remainder = abs(x) % abs(y)
            return remainder if x >= 0 else -remainder
