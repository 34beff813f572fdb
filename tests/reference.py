"""The meaning of conditions, row by row, on Python values: an interpreter of the syntax tree.

It shares nothing with the package but the parser: neither the binder nor the engine. NULL is None,
integers are Python's, float32 and float16 are rounded after each operation, and `%` is `math.fmod`.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tql.grammar import syntax as s
from tql.schema import Bool, DType, Float, Int, Label, Text

Row = Mapping[str, Any]
Types = Mapping[str, DType]


class RowError(Exception):
    """This row has no result: an overflow, or an integer modulo by zero."""


@dataclass(frozen=True)
class Kind:
    """The static type of an expression; `constant` where no column is in it."""

    name: Literal["bool", "int", "float", "text"]
    bits: int = 64
    signed: bool = True
    constant: bool = False


def kind(e: s.Expr, types: Types) -> Kind:
    """The type that the language gives to `e`."""
    match e:
        case s.Number(value):
            return Kind("float" if isinstance(value, float) else "int", constant=True)
        case s.String():
            return Kind("text", constant=True)
        case s.Boolean():
            return Kind("bool", constant=True)
        case s.Name(name):
            return _stored(types[name])
        case s.Unary(s.UnaryOp.NOT):
            return Kind("bool")
        case s.Unary(_, operand):
            return _negated(kind(operand, types))
        case s.Binary(op, left, right) if op.value in "+-*/%":
            return _arithmetic(op.value, kind(left, types), kind(right, types))
        case s.Call("abs", (operand,)) if not isinstance(operand, s.Star):
            k = kind(operand, types)
            return k if k.name == "float" else Kind("int", 64, k.signed or k.bits < 64)
        case s.Call("sqrt", (operand,)) if not isinstance(operand, s.Star):
            k = kind(operand, types)
            return Kind("float", 32 if (k.name, k.bits) == ("float", 32) else 64)
        case _:
            return Kind("bool")


def _stored(dtype: DType) -> Kind:
    match dtype:
        case Bool():
            return Kind("bool", 8, False)
        case Int(bits, signed):
            return Kind("int", bits, signed)
        case Label(_, storage):
            return Kind("int", storage.bits, storage.signed)
        case Float(bits):
            return Kind("float", bits)
        case Text():
            return Kind("text")
        case _:
            raise AssertionError(f"no reference for {dtype}")


def _negated(k: Kind) -> Kind:
    if k.constant:
        return k
    return Kind("float", max(k.bits, 32)) if k.name == "float" else Kind("int")


def _arithmetic(op: str, a: Kind, b: Kind) -> Kind:
    columns = [k for k in (a, b) if not k.constant]
    if "float" not in (a.name, b.name):
        if op == "/":
            return Kind("float")
        wide = [k.name == "int" and k.bits == 64 and not k.signed for k in columns]
        return Kind("int", 64, not all(wide))
    narrow = all(k.bits <= (32 if k.name == "float" else 16) for k in columns)
    single = narrow and any(k.name == "float" for k in columns)
    return Kind("float", 32 if single else 64)


def rounded(bits: int, x: float) -> float:
    """The float of so many bits nearest to `x`; infinite beyond its range."""
    if bits == 64 or math.isnan(x) or math.isinf(x):
        return x
    code = "f" if bits == 32 else "e"
    try:
        return float(struct.unpack(code, struct.pack(code, x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


# -- values ------------------------------------------------------------------------------------


def is_true(e: s.Expr, row: Row, types: Types) -> bool:
    """Whether WHERE keeps the row; an AND is left at the first term that is not TRUE."""
    if isinstance(e, s.Chain) and e.op is s.BinaryOp.AND:
        return all(is_true(t, row, types) for t in e.terms)
    return truth(e, row, types) is True


def truth(e: s.Expr, row: Row, types: Types) -> bool | None:
    """`e` as a truth value: a number is true when it is not zero."""
    result = value(e, row, types)
    return None if result is None else bool(result != 0)


def value(e: s.Expr, row: Row, types: Types) -> Any:
    """The value of `e` for one row."""
    match e:
        case s.Number(number):
            return number
        case s.String(text):
            return text
        case s.Boolean(flag):
            return flag
        case s.Name(name):
            return row[name]
        case s.Unary(s.UnaryOp.NOT, operand):
            return _not(truth(operand, row, types))
        case s.Unary(s.UnaryOp.NEG, operand):
            x, k = value(operand, row, types), kind(e, types)
            if x is None:
                return None
            return rounded(k.bits, -x) if k.name == "float" else _fitting(-int(x), k, e, types)
        case s.Unary(_, operand):
            return value(operand, row, types)
        case s.Chain(op, terms):
            return _chain(op is s.BinaryOp.AND, terms, row, types)
        case s.Binary(op, left, right) if op.value in "+-*/%":
            return _compute(op.value, e, left, right, row, types)
        case s.Binary(op, left, right):
            return compare(op.value, left, right, row, types)
        case s.Between(operand, low, high, negated):
            above = compare(">=", operand, low, row, types)
            both = (
                False if above is False else _and(above, compare("<=", operand, high, row, types))
            )
            return _not(both) if negated else both
        case s.InList(operand, tuple() as choices, negated):
            found = _any([compare("==", operand, c, row, types) for c in choices])
            return _not(found) if negated else found
        case s.IsNull(operand, negated):
            return (value(operand, row, types) is None) != negated
        case s.Like(operand, pattern, fold_case, negated):
            text, p = value(operand, row, types), value(pattern, row, types)
            if text is None or p is None:
                return None
            return like(text, p, fold_case) != negated
        case s.Call(function, arguments):
            return _call(function, arguments, e, row, types)
        case _:
            raise AssertionError(f"no reference for {e}")


def _not(x: bool | None) -> bool | None:
    return None if x is None else not x


def _and(x: bool | None, y: bool | None) -> bool | None:
    if x is False or y is False:
        return False
    return None if x is None or y is None else True


def _any(outcomes: list[bool | None]) -> bool | None:
    return True if True in outcomes else None if None in outcomes else False


def _chain(both: bool, terms: tuple[s.Expr, ...], row: Row, types: Types) -> bool | None:
    """The first FALSE of an AND, the first TRUE of an OR decides; what follows is not looked at."""
    unknown = False
    for term in terms:
        t = truth(term, row, types)
        if t is (not both):
            return t
        unknown |= t is None
    return None if unknown else both


def compare(op: str, left: s.Expr, right: s.Expr, row: Row, types: Types) -> bool | None:
    """By mathematical value; a literal takes the float type of a column it meets."""
    x, y = value(left, row, types), value(right, row, types)
    if x is None or y is None:
        return None
    k, j = kind(left, types), kind(right, types)
    if j.constant and k.name == "float" and not k.constant:
        y = _adapted(k.bits, y)
    if k.constant and j.name == "float" and not j.constant:
        x = _adapted(j.bits, x)
    if isinstance(x, str) != isinstance(y, str):
        x, y = _class_index(x, right, left, types), _class_index(y, left, right, types)
    outcome = {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}.get(op)
    equal: bool = x == y
    return outcome if outcome is not None else equal if op in ("=", "==") else not equal


def _adapted(bits: int, x: float) -> float:
    """A literal in the type of the column it meets; as it is where it is beyond that type."""
    near = rounded(bits, float(x))
    return x if math.isinf(near) else near


def _class_index(v: Any, other: s.Expr, own: s.Expr, types: Types) -> Any:
    if not isinstance(v, str):
        return v
    named = [e for e in (other, own) if isinstance(e, s.Name)]
    (dtype,) = [types[e.name] for e in named if isinstance(types[e.name], Label)]
    assert isinstance(dtype, Label)
    return dtype.names.index(v)


def _fitting(x: int, k: Kind, e: s.Expr, types: Types) -> int:
    if k.constant:
        return x
    low, high = (-(2**63), 2**63) if k.signed else (0, 2**64)
    if not low <= x < high:
        raise RowError
    return x


def _compute(op: str, e: s.Expr, left: s.Expr, right: s.Expr, row: Row, types: Types) -> Any:
    a, b = value(left, row, types), value(right, row, types)
    if a is None or b is None:
        return None
    k = kind(e, types)
    if k.name == "int":
        a, b = int(a), int(b)
        if op == "%":
            if b == 0:
                raise RowError
            return _fitting((1 if a >= 0 else -1) * (abs(a) % abs(b)), k, e, types)
        return _fitting({"+": a + b, "-": a - b, "*": a * b}[op], k, e, types)
    x, y = rounded(k.bits, float(a)), rounded(k.bits, float(b))
    return rounded(k.bits, _ieee(op, x, y))


def _ieee(op: str, x: float, y: float) -> float:
    if op == "%":
        return math.nan if math.isinf(x) or y == 0 or math.isnan(y) else math.fmod(x, y)
    if op == "/":
        if y == 0:
            sign = math.copysign(1.0, x) * math.copysign(1.0, y)
            return math.nan if x == 0 or math.isnan(x) else sign * math.inf
        return x / y
    return {"+": x + y, "-": x - y, "*": x * y}[op]


def _call(function: str, arguments: tuple[Any, ...], e: s.Expr, row: Row, types: Types) -> Any:
    values = [value(a, row, types) for a in arguments]
    if None in values:
        return None
    match function, values:
        case "abs", [x]:
            k = kind(e, types)
            return abs(x) if k.name == "float" else _fitting(abs(int(x)), k, e, types)
        case "sqrt", [x]:
            x = float(x)
            root = math.nan if x < 0 or math.isnan(x) else math.sqrt(x)
            return math.copysign(rounded(kind(e, types).bits, root), x) if root == 0 else rounded(
                kind(e, types).bits, root
            )  # fmt: skip
        case "contains", [str() as text, str() as part]:
            return part in text
        case "contains" | "equals", _:
            return compare("==", arguments[0], arguments[1], row, types)
        case _:
            raise AssertionError(f"no reference for {function}()")


def like(text: str, pattern: str, fold_case: bool) -> bool:
    """`*` and `%` any run, `?` one code point, backslash takes what follows as it is."""
    reach = {0}  # how much of the text the pattern read so far can have matched
    at = 0
    while at < len(pattern):
        c = pattern[at]
        if c in "*%":
            reach = set(range(min(reach), len(text) + 1)) if reach else reach
        elif c == "?":
            reach = {r + 1 for r in reach if r < len(text)}
        else:
            if c == "\\" and at + 1 < len(pattern):
                at += 1
                c = pattern[at]
            reach = {r + 1 for r in reach if r < len(text) and _same(text[r], c, fold_case)}
        at += 1
    return len(text) in reach


def _same(a: str, b: str, fold_case: bool) -> bool:
    return a == b or (fold_case and (a.lower() == b.lower() or a.upper() == b.upper()))
