"""The functions of the language (reference §12, §29)."""

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tests.interpreter import arrays, json_values, scalars
from tests.interpreter.arrays import by_element
from tests.interpreter.kinds import BOOL, FLOAT64, TEXT, Kind, Value, array_of, filled

Fold = Callable[[list[Any]], Any]


def _truths(v: Value) -> Value:
    """Elements as truth values (the function asks whether they are zero)."""
    assert v.kind.scalar.is_number, f"no truth values: {v.kind}"
    return v


REDUCTIONS: Final[dict[str, Callable[[Kind], tuple[Fold, Kind]]]] = {
    "any": lambda k: (arrays.any_true, BOOL),
    "all": lambda k: (arrays.all_true, BOOL),
    "all_strict": lambda k: (arrays.all_strict, BOOL),
    "sum": lambda k: (arrays.total(k), arrays.total_kind(k)),
    "prod": lambda k: (arrays.product(k), arrays.total_kind(k)),
    "avg": lambda k: (arrays.mean, FLOAT64),
    "amin": lambda k: (arrays.least, k),
    "amax": lambda k: (arrays.greatest, k),
    "l1_norm": lambda k: (arrays.norm("l1"), FLOAT64),
    "l2_norm": lambda k: (arrays.norm("l2"), FLOAT64),
    "linf_norm": lambda k: (arrays.norm("linf"), FLOAT64),
}
BY_ELEMENT: Final[dict[str, Callable[..., Value]]] = {
    "abs": scalars.absolute,
    "sqrt": scalars.square_root,
}
OF_VALUES: Final[dict[str, Callable[..., Value]]] = {
    "equals": lambda x, y: by_element(lambda a, b: scalars.compare("==", a, b), x, y),
    "shape": arrays.shape,
    "nonzero": arrays.nonzero,
    "dot": arrays.dot,
    "cosine_similarity": arrays.cosine,
    "hamming_distance": arrays.hamming,
    "maxsim": arrays.maxsim,
    "logical_and": lambda x, y: logical(scalars.conjunction, x, y),
    "logical_or": lambda x, y: logical(lambda a, b: scalars.disjunction([a, b]), x, y),
    "contains": lambda x, y: contains(x, y),
    "keys": lambda x: keys(x),
}


def call(name: str, arguments: list[Value], axis: int | None) -> Value:
    if name in REDUCTIONS:
        (v,) = arguments
        fold, item = REDUCTIONS[name](v.kind.scalar)
        if name in ("sum", "prod", "avg") and v.kind.name == "float":
            return Value(item, v.data)  # of a single number: that number, also -0.0
        return arrays.reduced(_truths(v), axis, fold, item)
    if name in BY_ELEMENT:
        return by_element(BY_ELEMENT[name], *arguments)
    return OF_VALUES[name](*arguments)


def logical(join: Callable[[Any, Any], Any], a: Value, b: Value) -> Value:
    """By element; arrays of different shapes give a single false."""
    if (
        a.kind.name == b.kind.name == "array"
        and a.data is not None
        and b.data is not None
        and not arrays.of_one_shape(a.data, b.data)
    ):
        return Value(BOOL, False)
    return by_element(lambda x, y: Value(BOOL, join(scalars.truth(x), scalars.truth(y))), a, b)


def contains(haystack: Value, needle: Value) -> Value:
    if haystack.kind.name == "json":
        return Value(BOOL, json_values.contains(haystack.data, needle.data))
    if haystack.kind.name == "array":
        return arrays.contains(haystack, needle)
    if haystack.kind.name == "text":
        text, part = haystack.data, needle.data
        part = part if isinstance(part, str) else None
        return Value(BOOL, None if text is None or part is None else part in text)
    return scalars.compare("==", haystack, needle)


def keys(v: Value) -> Value:
    found = json_values.keys(v.data)
    return Value(array_of(TEXT), None if found is None else filled(found))


# -- BM25 --------------------------------------------------------------------------------------

K1: Final = 1.2
B: Final = 0.75


def tokens(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return re.findall(r"[^\W_]+", text.lower())


def bm25(column: list[str | None], text: str | None, query: str) -> float | None:
    """Okapi's score of a text among the texts of a column."""
    if text is None:
        return None
    documents = [tokens(t) for t in column if t is not None]
    mean = sum(map(len, documents)) / len(documents)
    own = tokens(text)
    counts = Counter(own)
    score = 0.0
    for term in tokens(query):
        having = sum(term in d for d in documents)
        idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        tf = counts[term]
        if tf:
            score += idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * len(own) / mean))
    return score
