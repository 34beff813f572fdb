"""Paths into JSON values, their comparison and their order (reference §10)."""

from typing import Any


def type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "text"
        case dict():
            return "object"
        case _:
            return "array"


def member(value: Any, key: Any) -> Any:
    """The member of an object, the element of an array; None where there is none."""
    match value, key:
        case dict(), str():
            return value.get(key)
        case list(), int():
            return value[key] if -len(value) <= key < len(value) else None
        case _:
            return None


def canonical(value: Any) -> Any:
    """Equal exactly where two JSON values are."""
    match value:
        case dict():
            return ("object", frozenset((k, canonical(v)) for k, v in value.items()))
        case list():
            return ("array", tuple(map(canonical, value)))
        case _:
            return (type_of(value), value)


def compare(op: str, a: Any, b: Any) -> bool | None:
    """Values of different types are unequal and have no order; numbers compare by value."""
    if a is None or b is None:
        return None
    if op in ("=", "=="):
        return bool(canonical(a) == canonical(b))
    if op in ("!=", "<>"):
        return bool(canonical(a) != canonical(b))
    if type_of(a) != type_of(b) or type_of(a) in ("object", "array"):
        return None
    return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op])


def contains(haystack: Any, needle: Any) -> bool | None:
    """Membership in an array, a part of a text, a key of an object; of anything else equality."""
    if haystack is None or needle is None:
        return None
    match haystack:
        case list():
            return any(canonical(v) == canonical(needle) for v in haystack)
        case str() | dict():
            return isinstance(needle, str) and needle in haystack
        case _:
            return bool(canonical(haystack) == canonical(needle))


def keys(value: Any) -> list[str] | None:
    return sorted(value) if isinstance(value, dict) else None


def rank(value: Any) -> tuple[int, Any] | None:
    """The place in ORDER BY: bool < number < text; objects and arrays have none, as NULL."""
    match value:
        case bool():
            return (0, value)
        case int() | float():
            return (1, value)
        case str():
            return (2, value)
        case _:
            return None
