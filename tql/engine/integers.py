"""64-bit integer arithmetic that is exact or an error, never a wrapped number."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tql.language.expr import ArithOp
from tql.schema import Int


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

    The result is computed with wrap-around and, where a float estimate comes near the limits,
    again with Python's integers.
    """
    rows = may_raise.shape
    wide = np.dtype(np.int64 if dtype.signed else np.uint64)
    info = np.iinfo(wide)
    x, y = np.broadcast_to(a, rows), np.broadcast_to(b, rows)
    if op is ArithOp.MOD:
        zero = (y == 0) & may_raise
        if zero.any():
            return x, Problem(int(np.argmax(zero)), "value", "integer modulo by zero")
        y = np.where(y == 0, 1, y)
        estimate = np.maximum(np.abs(x.astype(np.float64)), np.abs(y.astype(np.float64)))
        values = np.fmod(x.astype(wide), np.where(y == -1, 1, y).astype(wide))
    else:
        function: Any = {ArithOp.ADD: np.add, ArithOp.SUB: np.subtract, ArithOp.MUL: np.multiply}[
            op
        ]
        estimate = function(x.astype(np.float64), y.astype(np.float64))
        values = function(x.astype(wide), y.astype(wide))
    edge = 2.0**62
    near = np.abs(estimate) >= edge if dtype.signed else (estimate >= edge) | (estimate < 1)
    # Operands that do not fit `wide` themselves (uint64 in a signed result) were wrapped.
    near |= _outside(x, info) | _outside(y, info)
    for at in np.flatnonzero(near & may_raise):
        exact = _exactly(op, int(x[at]), int(y[at]))
        if not info.min <= exact <= info.max:
            return values, Problem(int(at), "range", f"{exact} does not fit in {dtype}")
        values[at] = exact
    return values, None


def _outside(x: NDArray[Any], info: Any) -> NDArray[np.bool_]:
    if x.dtype.kind == "b":
        return np.zeros(x.shape, np.bool_)
    return np.asarray((x < info.min) | (x > info.max))


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
