"""Numbers as expressions of one row, or of one element of its array.

Each has the C type `c_kind` gives to its dtype. What stands where a number is NULL is arbitrary,
and so it is where the reference tier raises: `failure` says where that is.
"""

from typing import Final, Protocol

import numpy as np

from tql.engine.kernels.build import Build, Unsuitable, what_it_is
from tql.engine.kernels.kinds import NUMPY, c_kind
from tql.language.expr import (
    Arith,
    ArithOp,
    Call,
    Column,
    Compare,
    CompareOp,
    Const,
    Expr,
    InSet,
    Slot,
    Subscript,
    Truth,
    raises,
)
from tql.language.times import per_day
from tql.schema import Bool, Float, Int, Time

# Values that are compared one by one sooner than looked for in a word of 64 bits: 10 M int32, ns a
# row, five 0.22, a word 0.17 (a table 0.46).
_FEW: Final = 4

_LEAST, _GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class Scope(Protocol):
    """Where a number is computed: for each row, or for each element of an array."""

    build: Build

    def bit(self, e: Expr) -> str:
        """The truth value `e` as uint8, 0 or 1; right where it is not NULL."""
        ...

    def given(self, e: Column | Slot | Call | Subscript) -> str:
        """A number that is there already, or that only this scope can compute."""
        ...


def number(e: Expr, at: Scope) -> str:
    """The value of `e`; right where it is not NULL and no error."""
    if isinstance(e.dtype, Bool) and not isinstance(e, Const):
        return at.bit(e)
    match e:
        case Const(value):
            return at.build.literal(
                int(value) if value is True or value is False else value, c_kind(e.dtype)
            )
        case Arith(op, left, right, dtype):
            at.build.leaves += 1
            if isinstance(dtype, Float):
                return _floats(op, number(left, at), number(right, at), dtype)
            return _integers(e, left, right, dtype, at)
        case Call("abs", (operand,), dtype):
            if raises(e):
                return f"np.int64(size_of({', '.join(_parts(operand, at))}))"
            x = number(operand, at)
            return (
                f"abs(np.{NUMPY[c_kind(dtype)]}({x}))"
                if c_kind(dtype) != "u64"
                else f"np.uint64({x})"
            )
        case Call("sqrt", (operand,), dtype):
            return f"np.sqrt(np.{NUMPY[c_kind(dtype)]}({number(operand, at)}))"
        case Column() | Slot() | Call() | Subscript():
            return at.given(e)
        case _:
            raise Unsuitable(what_it_is(e))


def _floats(op: ArithOp, a: str, b: str, dtype: Float) -> str:
    x, y = f"np.float{dtype.bits}({a})", f"np.float{dtype.bits}({b})"
    return f"np.fmod({x}, {y})" if op is ArithOp.MOD else f"({x} {op.value} {y})"


# -- integers ----------------------------------------------------------------------------------


def _integers(e: Arith, left: Expr, right: Expr, dtype: Int, at: Scope) -> str:
    """The low 64 bits of the result, which are all where there is no error."""
    wide = c_kind(dtype)
    if e.op is ArithOp.MOD and "u64" in (wide, c_kind(left.dtype), c_kind(right.dtype)):
        return _as(wide, _modulo(left, right, at))
    at.build.check_size()
    a, b = number(left, at), number(right, at)
    if e.op is ArithOp.MOD:
        return f"remainder({_as(wide, a)}, {_as(wide, b)})"
    if raises(e):  # Numba tells LLVM that sums of signed numbers never overflow; unsigned ones may
        low = [f"np.uint64({_as(_whole(x), t)})" for x, t in ((left, a), (right, b))]
        return _as(wide, f"{low[0]} {e.op.value} {low[1]}")
    return f"({_as(wide, a)} {e.op.value} {_as(wide, b)})"


def _as(kind: str, x: str) -> str:
    return f"np.{NUMPY[kind]}({x})"


def _whole(e: Expr) -> str:
    """The 64-bit kind that an integer is widened to."""
    return "u64" if c_kind(e.dtype) == "u64" else "i64"


_SHORT: Final = 40  # characters that may stand in a kernel twice


def _named(kind: str, text: str, at: Scope) -> str:
    """`text`, or a variable with its value, to be written more than once.

    What an operand is written twice in would double with every level of nesting: a sum of 20 terms
    took 79 s to write.
    """
    return text if len(text) <= _SHORT else at.build.variable(f"n{kind}", text)


def _parts(e: Expr, at: Scope) -> tuple[str, str]:
    """The low and the high word of an integer in 128 bits."""
    kind = _whole(e)
    x = _named(kind, _as(kind, number(e, at)), at)
    return f"np.uint64({x})", f"high_{kind}({x})"


def _modulo(left: Expr, right: Expr, at: Scope) -> str:
    return f"modulo({', '.join([*_parts(left, at), *_parts(right, at)])})"


_HIGH: Final = {
    ArithOp.ADD: "sum_high",
    ArithOp.SUB: "difference_high",
    ArithOp.MUL: "product_high",
}


def failure(e: Expr, at: Scope) -> str:
    """Where `e`, a number that `raises`, is an error though its operands are not."""
    match e:
        case Arith(ArithOp.MOD, left, right, Int() as dtype):
            fails = (
                [] if isinstance(right, Const) and right.value else [f"({number(right, at)} == 0)"]
            )
            if "u64" in (c_kind(left.dtype), c_kind(right.dtype)):
                low, high = _modulo(left, right, at), _parts(left, at)[1]
                fails.append(f"modulo_leaves_{c_kind(dtype)}({low}, {high})")
            return " | ".join(fails)
        case Arith(op, Const(value), x, Int() as dtype):
            return _outside(x, _reach(op, int(value), dtype, left=True), at)
        case Arith(op, x, Const(value), Int() as dtype):
            return _outside(x, _reach(op, int(value), dtype, left=False), at)
        case Arith(op, left, right, Int() as dtype):
            (a, a_high), (b, b_high) = _parts(left, at), _parts(right, at)
            high = f"{_HIGH[op]}({a}, {a_high}, {b}, {b_high})"
            return f"leaves_{c_kind(dtype)}({a} {op.value} {b}, {high})"
        case Call("abs", (operand,)):
            return f"(np.int64({number(operand, at)}) == {at.build.literal(int(_LEAST), 'i64')})"
        case _:
            raise Unsuitable(what_it_is(e))


def _reach(op: ArithOp, c: int, dtype: Int, *, left: bool) -> tuple[int, int]:
    """The least and greatest x whose result with the constant c fits; none where least > greatest."""
    low, high = (int(_LEAST), int(_GREATEST)) if dtype.signed else (0, 2**64 - 1)
    match op:
        case ArithOp.ADD:
            return low - c, high - c
        case ArithOp.SUB:
            return (c - high, c - low) if left else (low + c, high + c)
        case _:
            assert c, "a product with zero fits"
            ends = (low, high) if c > 0 else (high, low)
            return -(-ends[0] // c), ends[1] // c


def _outside(x: Expr, reach: tuple[int, int], at: Scope) -> str:
    """Where x is below the first or above the second."""
    kind = c_kind(x.dtype)
    info = np.iinfo(NUMPY[kind])
    low, high = reach
    if low > info.max or high < info.min:
        return "True"
    value, tests = _named(kind, number(x, at), at), []
    if low > info.min:
        tests.append(f"({value} < {at.build.literal(low, kind)})")
    if high < info.max:
        tests.append(f"({value} > {at.build.literal(high, kind)})")
    return " | ".join(tests) or "False"


# -- tests of numbers --------------------------------------------------------------------------


def outcome(e: Compare | Truth | InSet, at: Scope) -> str:
    """A truth value that is right where `e` is not NULL and no error."""
    match e:
        case Compare(op, left, right):
            return _comparison(op, left, right, at)
        case Truth(operand):
            return f"({number(operand, at)} != 0)"
        case InSet(operand, values):
            return _membership(operand, values, at)


def times(op: CompareOp, left: Expr, right: Expr, at: Scope) -> str:
    """Two times of different units: the finer one is cut to the coarser unit."""
    assert isinstance(left.dtype, Time) and isinstance(right.dtype, Time)
    if per_day(left.dtype) < per_day(right.dtype):
        return times(op.mirrored, right, left, at)
    ratio = at.build.literal(per_day(left.dtype) // per_day(right.dtype), "i64")
    return f"(sign_times({number(left, at)}, {number(right, at)}, {ratio}) {op.value} 0)"


def _comparison(op: CompareOp, left: Expr, right: Expr, at: Scope) -> str:
    a, b = number(left, at), number(right, at)
    s, t = c_kind(left.dtype), c_kind(right.dtype)
    sign = op.value
    if s == t:
        return f"({a} {sign} {b})"
    if s[0] != "f" and t[0] != "f":
        if "u64" not in (s, t):
            return f"(np.int64({a}) {sign} np.int64({b}))"
        if (s == "u64" and t[0] == "u") or (t == "u64" and s[0] == "u"):
            return f"(np.uint64({a}) {sign} np.uint64({b}))"
        if s == "u64":
            return f"(-sign_i64_u64(np.int64({b}), {a}) {sign} 0)"
        return f"(sign_i64_u64(np.int64({a}), {b}) {sign} 0)"
    if s in ("i64", "u64") or t in ("i64", "u64"):
        whole, real, turn = (a, b, "") if t[0] == "f" else (b, a, "-")
        width = s if t[0] == "f" else t
        real = _named("f64", f"np.float64({real})", at)
        exact = f"{turn}sign_{width}_f64({whole}, np.float64({real}))"
        nan, known = (f"(np.float64({real}) {sign} np.float64({real}))" for sign in ("!=", "=="))
        if op is CompareOp.NE:
            return f"(({exact} != 0) | {nan})"
        return f"(({exact} {sign} 0) & {known})"
    return f"(np.float64({a}) {sign} np.float64({b}))"


def _membership(operand: Expr, values: tuple[int | float, ...], at: Scope) -> str:
    if not values:
        return "False"
    kind, build = c_kind(operand.dtype), at.build
    x = _named(kind, number(operand, at), at)
    close = kind[0] != "f" and kind != "u64" and values[-1] - values[0] < 64
    if close and len(values) > _FEW:
        word = sum(1 << int(v - values[0]) for v in values)
        low = build.literal(int(values[0]), "i64")
        return f"in_word({build.literal(word, 'u64')}, np.int64({x}), {low})"
    if len(values) <= 8:
        return "(" + " | ".join(f"({x} == {build.literal(v, kind)})" for v in values) + ")"
    key = ("set", kind, values)
    if kind[0] != "f" and kind != "u64" and values[-1] - values[0] < 1 << 16:
        marks = np.zeros(int(values[-1] - values[0]) + 2, np.bool_)
        marks[np.array(values, np.int64) - int(values[0])] = True
        table = np.packbits(marks, bitorder="little")
        name = build.argument(key, "u8[]", lambda _: table)
        low = build.literal(int(values[0]), "i64")
        return f"in_table({name}, np.int64({x}), {low})"
    ordered = np.array(values, NUMPY[kind])
    name = build.argument(key, f"{kind}[]", lambda _: ordered)
    return f"in_sorted({name}, {x})"
