"""Numbers, comparison, patterns and times of single values (reference §5, §7, §8)."""

import math
import re
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.interpreter import json_values
from tests.interpreter.kinds import BOOL, FLOAT64, Kind, RowError, Value

# -- truth -------------------------------------------------------------------------------------


def truth(v: Value) -> bool | None:
    """A number is true when it is not zero; a JSON value that is neither number nor bool is NULL."""
    if v.kind.name == "json":
        return bool(v.data) if isinstance(v.data, bool | int | float) else None
    assert v.kind.is_number, f"no truth value: {v}"
    return None if v.data is None else bool(v.data != 0)


def negation(x: bool | None) -> bool | None:
    return None if x is None else not x


def conjunction(x: bool | None, y: bool | None) -> bool | None:
    if x is False or y is False:
        return False
    return None if x is None or y is None else True


def disjunction(outcomes: list[bool | None]) -> bool | None:
    return True if True in outcomes else None if None in outcomes else False


# -- numbers -----------------------------------------------------------------------------------


def rounded(bits: int, x: float) -> float:
    """The float of so many bits nearest to `x`; infinite beyond its range."""
    if bits == 64 or math.isnan(x) or math.isinf(x):
        return x
    code = "f" if bits == 32 else "e"
    try:
        return float(struct.unpack(code, struct.pack(code, x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


def fitting(x: int, kind: Kind) -> int:
    """`x`, if 64 bits hold it; an error of the row if not."""
    low, high = (-(2**63), 2**63) if kind.signed else (0, 2**64)
    if kind.constant:
        low = -(2**63)
        high = 2**64
    if not low <= x < high:
        raise RowError("range")
    return x


def arithmetic_kind(op: str, a: Kind, b: Kind) -> Kind:
    """int64, uint64 where both are (literals apart), float32 where all of it fits, else float64."""
    if "json" in (a.name, b.name):
        return FLOAT64
    columns = [k for k in (a, b) if not k.constant]
    if "float" not in (a.name, b.name):
        if op == "/":
            return Kind("float", constant=not columns)
        wide = [k.name == "int" and k.bits == 64 and not k.signed for k in columns]
        unsigned = columns and all(wide) and not (a.negative or b.negative)
        return Kind("int", 64, not unsigned, not columns)
    narrow = all(k.bits <= (32 if k.name == "float" else 16) for k in columns)
    single = narrow and any(k.name == "float" for k in columns)
    return Kind("float", 32 if single else 64, constant=not columns)


def arithmetic(op: str, left: Value, right: Value) -> Value:
    kind = arithmetic_kind(op, left.kind, right.kind)
    a, b = _operand(left), _operand(right)
    if a is None or b is None:
        return Value(kind, None)
    if kind.name == "int":
        a, b = int(a), int(b)
        if op == "%":
            if b == 0:
                raise RowError("value")
            return Value(kind, fitting((1 if a >= 0 else -1) * (abs(a) % abs(b)), kind))
        return Value(kind, fitting({"+": a + b, "-": a - b, "*": a * b}[op], kind))
    x, y = rounded(kind.bits, to_float(a)), rounded(kind.bits, to_float(b))
    return Value(kind, rounded(kind.bits, _ieee(op, x, y)))


def _operand(v: Value) -> Any:
    """What is no number in JSON is NULL in arithmetic, also true and false."""
    if v.kind.name == "json":
        return None if isinstance(v.data, bool) or not isinstance(v.data, int | float) else v.data
    return v.data


def to_float(x: int | float) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.copysign(math.inf, x)


def _ieee(op: str, x: float, y: float) -> float:
    if op == "%":
        return math.nan if math.isinf(x) or y == 0 or math.isnan(y) else math.fmod(x, y)
    if op == "/":
        if y == 0:
            sign = math.copysign(1.0, x) * math.copysign(1.0, y)
            return math.nan if x == 0 or math.isnan(x) else sign * math.inf
        return x / y
    return {"+": x + y, "-": x - y, "*": x * y}[op]


def minus(v: Value) -> Value:
    k = v.kind
    if k.name == "json":
        kind: Kind = FLOAT64
    elif k.name == "float":
        kind = k if k.constant else Kind("float", max(k.bits, 32))
    else:
        kind = Kind("int", constant=k.constant)
    x = _operand(v)
    if x is None:
        return Value(kind, None)
    return Value(kind, rounded(kind.bits, -x) if kind.name == "float" else fitting(-int(x), kind))


def absolute(v: Value) -> Value:
    k, x = v.kind, _operand(v)
    kind = k if k.name == "float" else Kind("int", 64, k.signed or k.bits < 64)
    kind = FLOAT64 if k.name == "json" else replace(kind, constant=False)
    if x is None:
        return Value(kind, None)
    return Value(kind, abs(x) if kind.name == "float" else fitting(abs(int(x)), kind))


def square_root(v: Value) -> Value:
    kind = Kind("float", 32 if (v.kind.name, v.kind.bits) == ("float", 32) else 64)
    x = _operand(v)
    if x is None:
        return Value(kind, None)
    x = to_float(x)
    if x == 0:
        return Value(kind, x)  # the root of -0.0 is -0.0
    return Value(kind, math.nan if x < 0 or math.isnan(x) else rounded(kind.bits, math.sqrt(x)))


# -- comparison --------------------------------------------------------------------------------


def compare(op: str, left: Value, right: Value) -> Value:
    """By mathematical value; a literal takes the float type of what it meets."""
    if "json" in (left.kind.name, right.kind.name):
        return Value(BOOL, json_values.compare(op, left.data, right.data))
    x, y = left.data, right.data
    if x is None or y is None:
        return Value(BOOL, None)
    k, j = left.kind, right.kind
    if j.constant and k.name == "float" and not k.constant:
        y = _adapted(k.bits, y)
    if k.constant and j.name == "float" and not j.constant:
        x = _adapted(j.bits, x)
    x, y = _beside(x, k, j), _beside(y, j, k)
    return Value(BOOL, holds(op, x, y))


def holds(op: str, x: Any, y: Any) -> bool:
    outcome = {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}.get(op)
    equal: bool = x == y
    return outcome if outcome is not None else equal if op in ("=", "==") else not equal


def _adapted(bits: int, x: Any) -> Any:
    """A literal in the type of the column it meets; as it is where it is beyond that type."""
    near = rounded(bits, to_float(x))
    return x if math.isinf(near) else near


def _beside(x: Any, kind: Kind, other: Kind) -> Any:
    """A text beside a class label is the index of the class, beside a time it is a time."""
    if not isinstance(x, str):
        return x
    if other.name == "label":
        return other.names.index(x)
    return instant(x, other) if other.name == "time" else x


# -- times -------------------------------------------------------------------------------------

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:\d\d)?"
)


def instant(text: str, kind: Kind) -> int:
    """Nanoseconds since 1970 of ISO 8601 text; without an offset it is a time of the column's zone."""
    found = _ISO.fullmatch(text)
    assert found, f"no time: {text!r}"
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    at = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0)
    )
    if not offset and kind.zone is not None:
        at = at.replace(tzinfo=ZoneInfo(kind.zone)).astimezone(UTC).replace(tzinfo=None)
    if offset and offset != "Z":
        sign = -1 if offset[0] == "-" else 1
        at -= sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[4:]))
    since = at - datetime(1970, 1, 1)
    whole = since.days * 86_400 + since.seconds
    return whole * 10**9 + int((fraction or "").ljust(9, "0"))


# -- text --------------------------------------------------------------------------------------


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


def whole_index(v: Value) -> int | None:
    assert v.kind.name in ("int", "bool"), f"no index: {v}"
    return None if v.data is None else int(v.data)
