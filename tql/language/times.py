"""Times in expressions: what a text, a date or a datetime means beside a column of times.

A moment is an exact number of seconds, so a literal finer than a column's unit compares right. A
column with a zone holds instants: a literal without an offset is read in the column's zone. A
column without one holds local times: a literal with an offset has no place on their line, and is an
error. A date is its midnight.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, NamedTuple, assert_never
from zoneinfo import ZoneInfo

import numpy as np

from tql.diagnostics import Note, Span, TqlError, error
from tql.language.expr import Compare, CompareOp, CompareTimes, Const, Expr, described
from tql.schema import Text, Time

_PER_SECOND: Final = {
    "D": Fraction(1, 86_400),
    "s": Fraction(1),
    "ms": Fraction(10**3),
    "us": Fraction(10**6),
    "ns": Fraction(10**9),
}
_TEXT: Final = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"([ Tt](?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)([.,](?P<fraction>\d+))?)?"
    r" ?(?P<zone>[Zz]|[+-]\d\d(:?\d\d)?)?)?",
    re.ASCII,
)
_EXAMPLE: Final = "write it as '2024-05-01', '2024-05-01 12:30:00' or '2024-05-01T12:30:00+02:00'"


class Moment(NamedTuple):
    """Seconds since 1970: of UTC where `offset` is known, else by the clock on some wall."""

    seconds: Fraction
    offset: bool


# -- constants ---------------------------------------------------------------------------------


def parse(text: str, span: Span) -> Moment:
    """The moment that an ISO 8601 text names; a value error where it names none."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise error("value", f"{text!r} is not a date or a time", span, help=_EXAMPLE)
    part = found.groupdict()
    numbers = [int(part[k] or 0) for k in ("year", "month", "day", "hour", "minute", "second")]
    try:
        at = datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type,misc]
        offset = _offset(part["zone"])
    except ValueError as e:
        raise error("value", f"{text!r} is not a date or a time: {e}", span, help=_EXAMPLE) from e
    fraction = Fraction(int(part["fraction"] or 0), 10 ** len(part["fraction"] or ""))
    return Moment(_seconds(at - _EPOCH) + fraction - _seconds(offset), part["zone"] is not None)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _seconds(delta: timedelta) -> Fraction:
    return Fraction(delta // timedelta(microseconds=1), 10**6)


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone in "Zz":
        return timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
    if minutes > 59:
        raise ValueError(f"an offset has at most 59 minutes, not {minutes}")
    return timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)


def constant(value: Any, span: Span) -> Const | None:
    """A date, a datetime, a pandas Timestamp or a datetime64 as a constant; None for anything else.

    With a zone it is a timestamp of UTC.
    """
    aware = getattr(value, "tzinfo", None) is not None
    if hasattr(value, "to_datetime64"):  # pandas: nanoseconds, which datetime does not have
        value = value.to_datetime64()
    match value:
        case np.datetime64():
            if np.isnat(value):
                raise error("parameter", "the value is NaT, which is NULL", span,
                            help="use IS NULL in the query")  # fmt: skip
            return _of_datetime64(value, aware, span)
        case datetime():
            at = value.astimezone(UTC) if aware else value.replace(tzinfo=UTC)
            count = (at - _EPOCH) // timedelta(microseconds=1)
            return Const(count, Time("us", "UTC" if aware else None), span=span)
        case date():
            days = value.toordinal() - date(1970, 1, 1).toordinal()
            return Const(days, Time("D", date=True), span=span)
        case _:
            return None


_KEPT_IN: Final = (
    dict.fromkeys("YMWD", "D") | dict.fromkeys("hms", "s") | {u: u for u in ("ms", "us", "ns")}
)


def _of_datetime64(value: Any, aware: bool, span: Span) -> Const:
    unit, _ = np.datetime_data(value.dtype)
    wanted = _KEPT_IN.get(unit)
    if wanted is None:
        raise error("value", f"{value} is finer than nanoseconds", span,
                    help="round it: value.astype('datetime64[ns]')")  # fmt: skip
    value = value.astype(f"M8[{wanted}]")
    dtype = Time(wanted, date=True) if wanted == "D" else Time(wanted, "UTC" if aware else None)
    return Const(int(value.astype(np.int64)), dtype, span=span)


def _moment(c: Const) -> Moment:
    if isinstance(c.dtype, Time):
        return Moment(c.value / _PER_SECOND[c.dtype.unit], c.dtype.zone is not None)
    return parse(c.value, c.span)


# -- comparison --------------------------------------------------------------------------------


def count_of(c: Const, dtype: Time) -> Fraction:
    """The constant in the unit of `dtype`, exactly, as it is meant beside such a column."""
    moment = _moment(c)
    if moment.offset and dtype.zone is None:
        raise error(
            "type", f"{dtype} has no zone, and this time has an offset", c.span,
            help="leave the offset out: times without a zone compare by the clock",
        )  # fmt: skip
    seconds = moment.seconds
    if not moment.offset and dtype.zone is not None:
        seconds -= _seconds(_at_wall(seconds, dtype.zone, c.span))
    return seconds * _PER_SECOND[dtype.unit]


def _at_wall(seconds: Fraction, name: str, span: Span) -> timedelta:
    """The offset of the zone when its clocks show this; the earlier of two, where they show it
    twice, and the one before the change, where they never do.
    """
    try:
        wall = _EPOCH.replace(tzinfo=None) + timedelta(seconds=math.floor(seconds))
    except OverflowError as e:
        raise error("value", "a time without an offset lies between the years 1 and 9999", span,
                    help="give it an offset or a zone") from e  # fmt: skip
    offset = wall.replace(tzinfo=_zone(name, span)).utcoffset()
    assert offset is not None
    return offset


def _zone(name: str, span: Span) -> tzinfo:
    try:
        return _named_zone(name)
    except (KeyError, ValueError, OSError) as e:
        raise error("value", f"the column's time zone {name!r} is not known here", span,
                    help="write the time with its offset: '2024-05-01T12:30:00+02:00'") from e  # fmt: skip


@lru_cache(maxsize=64)
def _named_zone(name: str) -> tzinfo:
    if re.fullmatch(r"[+-]\d\d:?\d\d", name):
        return timezone(_offset(name))
    return UTC if name.upper() in ("UTC", "Z", "GMT") else ZoneInfo(name)


def compare(op: CompareOp, left: Expr, right: Expr, span: Span) -> Expr | bool:
    """`left OP right`, of which one is a time at least; a bool where that holds for every time.

    Constants come in the unit of the column beside them; columns of several units are compared by
    `CompareTimes`.
    """
    if isinstance(left, Const) and isinstance(right, Const):
        return _both_constant(op, left, right, span)
    if isinstance(left, Const):
        return compare(op.mirrored, right, left, span)
    s, t = left.dtype, right.dtype
    if isinstance(s, Time) and isinstance(right, Const) and isinstance(t, Text | Time):
        return _with_count(op, left, s, count_of(right, s), span)
    if not (isinstance(s, Time) and isinstance(t, Time)):
        raise mismatch(left, right, span)
    if (s.zone is None) != (t.zone is None):
        raise error(
            "type", f"cannot compare {s} with {t}: one holds instants, the other local times", span,
            notes=(Note(f"this is {s}", left.span), Note(f"this is {t}", right.span)),
            help="store both with a zone, or both without",
        )  # fmt: skip
    if s.unit == t.unit:
        return Compare(op, left, right, span=span)
    return CompareTimes(op, left, right, span=span)


def _both_constant(op: CompareOp, left: Const, right: Const, span: Span) -> bool:
    for e in (left, right):
        if not isinstance(e.dtype, Text | Time):
            raise mismatch(left, right, span)
    a, b = _moment(left), _moment(right)
    if a.offset != b.offset:
        raise error("type", "one of the two times has an offset, and the other has none", span,
                    help="give both an offset, or neither")  # fmt: skip
    return _holds(op, a.seconds, b.seconds)


def _with_count(op: CompareOp, e: Expr, dtype: Time, count: Fraction, span: Span) -> Expr | bool:
    """`e OP count`; between two counts of the unit nothing equals, and < is <= of the lower one."""
    if count.denominator != 1:
        if op in (CompareOp.EQ, CompareOp.NE):
            return op is CompareOp.NE
        op = CompareOp.LE if op in (CompareOp.LT, CompareOp.LE) else CompareOp.GT
    whole = math.floor(count)
    if -(2**63) <= whole < 2**63:
        return Compare(op, e, Const(whole, dtype), span=span)
    return _holds(op, Fraction(0), Fraction(whole))


def _holds(op: CompareOp, a: Fraction, b: Fraction) -> bool:
    match op:
        case CompareOp.EQ:
            return a == b
        case CompareOp.NE:
            return a != b
        case CompareOp.LT:
            return a < b
        case CompareOp.LE:
            return a <= b
        case CompareOp.GT:
            return a > b
        case CompareOp.GE:
            return a >= b
        case _:
            assert_never(op)


def counts_of(constants: Sequence[Const], dtype: Time) -> tuple[int, ...]:
    """The counts that a column of `dtype` can equal at all, sorted and distinct."""
    counts = {count_of(c, dtype) for c in constants}
    return tuple(sorted(int(n) for n in counts if n.denominator == 1 and -(2**63) <= n < 2**63))


def mismatch(left: Expr, right: Expr, span: Span) -> TqlError:
    """The error of a time beside something that is none."""
    other = right.dtype if isinstance(left.dtype, Time) else left.dtype
    help = (
        "only a text literal is read as a time; store the column as timestamps"
        if isinstance(other, Text)
        else "write the time as text: '2024-05-01' or '2024-05-01 12:30:00'"
    )
    return error(
        "type", f"cannot compare {described(left)} with {described(right)}", span,
        notes=tuple(Note(f"this is {described(e)}", e.span) for e in (left, right)),
        help=help,
    )  # fmt: skip


def per_day(dtype: Time) -> int:
    """Counts of the unit in a day."""
    return int(86_400 * _PER_SECOND[dtype.unit])
