"""The type that the values of two columns have together, where they become one column."""

from dataclasses import replace

from tql.schema import Binary, Bool, DType, Float, Int, Json, Label, List, Text, Time


def common_type(a: DType, b: DType) -> DType | None:
    """The narrowest type for the values of both; None where they are of different kinds.

    Integers and bools (as 0 and 1) go into an integer; uint64 with a signed type into int64, which
    larger values do not fit. Integers with floats go into float64. Class labels need the same names:
    an index means nothing beside other names, or none.
    """
    if a == b:
        return a
    match a, b:
        case Int() | Bool(), Int() | Bool():
            return _common_integer(a, b)
        case Float(x), Float(y):
            return Float(max(x, y))
        case (Int() | Bool() | Float(), Int() | Bool() | Float()):
            return Float(64)
        case Label(names, x), Label(others, y) if names == others:
            return Label(names, _common_integer(x, y))
        case Binary(), Binary():
            return Binary()
        case List(x, size, grouped), List(y, other, also) if grouped == also:
            item = common_type(x, y)
            return None if item is None else List(item, size if size == other else None, grouped)
        case Json(), Json():
            return Json(item=True)
        case Text(), Text():
            return a
        case Time(date=True), Time(date=True):
            return Time("ms", date=True)
        case Time() as x, Time() as y if (x.zone, x.date) == (y.zone, y.date):
            return replace(x, unit=max(x.unit, y.unit, key=_UNITS.index))
        case _:
            return None


_UNITS = ("D", "s", "ms", "us", "ns")


def _common_integer(a: Int | Bool, b: Int | Bool) -> Int:
    x, y = (Int(8, signed=False) if isinstance(t, Bool) else t for t in (a, b))
    if x.signed == y.signed:
        return Int(max(x.bits, y.bits), x.signed)
    signed, other = (x, y) if x.signed else (y, x)
    bits = max(signed.bits, 2 * other.bits)
    return Int(min(64, bits))
