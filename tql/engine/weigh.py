"""The weight expression of SAMPLE BY, over a population of rows.

Conditions with constant weights become classes: one row set per distinct weight, made from the
conditions' bitmaps by a few word operations per arm, so nothing per row is ever stored. Any other
expression gives one float64 per row. Which of the two it is depends on the expression alone,
never on the tier, since the draws differ.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import TqlError, data_error, error
from tql.engine.columns import Numbers, Vec
from tql.language.expr import Arm, Const, Expr, WeightCase, WeightKind, can_raise
from tql.rowset import RowSet, from_words, partition
from tql.weights import ClassWeights, RowWeights, Weights

Words = NDArray[np.uint64]
Scan = Callable[[Sequence[Expr]], list[Words]]
Values = Callable[[RowSet, Expr], Vec]


def weigh(weight: Expr, population: RowSet, scan: Scan, values: Values) -> Weights:
    """The weights of `population` (row numbers of the source).

    scan    bitmaps over the source of conditions that cannot raise
    values  the value of an expression for the rows of a row set, in its order
    """
    match weight:
        case Const(value):
            _check_constant(float(value), weight)
            return ClassWeights(np.array([float(value)]), (population,))
        case WeightCase(kind, arms) if all(isinstance(a.weight, Const) for a in arms):
            for arm in arms:
                _check_constant(_constant(arm), arm.weight)
            if population.ascending and not any(can_raise(a.condition) for a in arms):
                return _by_bitmaps(kind, arms, population, scan)
            return _by_values(_per_row(weight, population, values), population)
        case _:
            return RowWeights(_per_row(weight, population, values))


def _constant(arm: Arm) -> float:
    assert isinstance(arm.weight, Const)
    return float(arm.weight.value)


def _check_constant(value: float, e: Expr) -> None:
    if not 0 <= value < math.inf:
        raise bad_weight(value, e)


def bad_weight(value: float, e: Expr) -> TqlError:
    kind = "NaN" if math.isnan(value) else "infinite" if math.isinf(value) else "negative"
    shown = f": {value!r}" if kind == "negative" else ""
    return error("value", f"a weight cannot be {kind}{shown}", e.span,
                 help="weights are finite numbers from 0 up")  # fmt: skip


def _per_row(weight: Expr, population: RowSet, values: Values) -> NDArray[np.float64]:
    """float64 (n,): the weight of each row; a NULL weight is an error that names its row."""
    vec = values(population, weight)
    assert isinstance(vec, Numbers)
    n = len(population)
    if vec.valid is not None and not vec.valid.all():
        row = population.select(int(np.argmin(vec.valid)))
        raise data_error("value", f"the weight of row {row} is NULL", span=weight.span,
                         help="exclude such rows with  where … is not null")  # fmt: skip
    result = np.broadcast_to(vec.values.astype(np.float64), (n,))
    wrong = ~((result >= 0) & (result < math.inf))
    if wrong.any():
        at = int(np.argmax(wrong))
        kind = "NaN" if math.isnan(result[at]) else "negative" if result[at] < 0 else "infinite"
        shown = f": {float(result[at])!r}" if kind == "negative" else ""
        raise data_error(
            "value", f"the weight of row {population.select(at)} is {kind}{shown}",
            span=weight.span, help="weights are finite numbers from 0 up",
        )  # fmt: skip
    return np.ascontiguousarray(result)


def _by_values(weights: NDArray[np.float64], population: RowSet) -> ClassWeights:
    distinct, codes = np.unique(weights, return_inverse=True)
    return ClassWeights(
        distinct, partition(codes.astype(np.int64), max(1, len(distinct)), population)
        if len(distinct) else ()
    )  # fmt: skip


def _by_bitmaps(
    kind: WeightKind, arms: Sequence[Arm], population: RowSet, scan: Scan
) -> ClassWeights:
    """Split the population by one condition after the other, merging classes of equal weight."""
    hits = scan([a.condition for a in arms])
    everyone = population.to_bitmap().words
    weights = [_constant(a) for a in arms]
    classes = (
        _largest(weights, hits, everyone)
        if kind is WeightKind.MAX
        else _sums(weights, hits, everyone)
    )
    found = sorted((w, words) for w, words in classes.items() if words.any())
    members = tuple(from_words(words, population.universe) for _, words in found)
    return ClassWeights(np.array([w for w, _ in found], np.float64), members)


def _largest(weights: list[float], hits: list[Words], everyone: Words) -> dict[float, Words]:
    classes: dict[float, Words] = {}
    left = everyone.copy()
    for k in sorted(range(len(weights)), key=lambda k: -weights[k]):
        here = left & hits[k]
        left &= ~hits[k]
        known = classes.get(weights[k])
        classes[weights[k]] = here if known is None else known | here
    known = classes.get(0.0)
    classes[0.0] = left if known is None else known | left
    return classes


def _sums(weights: list[float], hits: list[Words], everyone: Words) -> dict[float, Words]:
    classes: dict[float, Words] = {0.0: everyone}
    for weight, hit in zip(weights, hits, strict=True):
        split: dict[float, Words] = {}
        for total, words in classes.items():
            for value, part in ((total + weight, words & hit), (total, words & ~hit)):
                if part.any():
                    split[value] = part | split[value] if value in split else part
        classes = split
    return classes
