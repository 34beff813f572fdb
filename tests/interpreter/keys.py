"""Equality of keys, as DISTINCT and GROUP BY see it, and their order."""

from typing import Any

import numpy as np

from tests.interpreter import json_values
from tests.interpreter.kinds import IRREGULAR, RowError, Value


def canonical(v: Value) -> Any:
    """Equal exactly where two values of one kind are one key: NULL is NULL, NaN is NaN."""
    data = v.data
    if data is None:
        return None
    if v.kind.name == "json":
        return json_values.canonical(data)
    if data is IRREGULAR:
        raise RowError("shape")
    if v.kind.name == "array":
        if isinstance(data, list):
            return ("members", tuple(canonical(Value(v.kind.element, m)) for m in data))
        inner = v.kind.element
        return (np.shape(data), tuple(canonical(Value(inner, x)) for x in data.flat))
    if data != data:
        return "NaN"
    return (type(data).__name__ == "str", data)


def order(a: Value, b: Value, descending: bool) -> int:
    """NaN after all numbers and NULL after that, in both directions."""
    (x, p), (y, q) = _place(a), _place(b)
    if x != y:
        return -1 if x < y else 1
    if x or p == q:
        return 0
    return -1 if (p < q) != descending else 1


def _place(v: Value) -> tuple[int, Any]:
    data = json_values.rank(v.data) if v.kind.name == "json" else v.data
    if data is None:
        return 2, None
    return (1, None) if data != data else (0, data)
