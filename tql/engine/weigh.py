"""The weight expression of SAMPLE BY, over a population of rows.

Conditions with constant weights become classes: one row set per distinct weight, made from the
conditions' bitmaps by a few word operations per arm, so nothing per row is stored. Where one
integer column decides and the arms are many, each of its values is weighed once instead, and the
rows are split by value; where the sums of weights are many, a code is kept for each row. All these
ways give the same classes in the same bytes. Any other expression gives one float64 per
row. Which of the two it is depends on the expression alone, never on the tier, since the draws
differ.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import TqlError, data_error, error
from tql.engine.balance import balance, balance_coded
from tql.engine.coded import Coder, classes_of, only_column
from tql.engine.columns import Numbers, Vec
from tql.language.expr import Arm, Balanced, Column, Const, Expr, WeightCase, WeightKind, can_raise
from tql.partition import partition
from tql.rowset import RowSet, from_words
from tql.weights import ClassWeights, RowWeights, Span, Weights, span_of

Words = NDArray[np.uint64]
Scan = Callable[[Sequence[Expr]], list[Words]]
Values = Callable[[RowSet, Expr], Vec]

# Arms up to which a bitmap each is made sooner than a code per row. 10 M rows, busy machine: 16 arms
# of max_weight take 131 ms as bitmaps and 189 as codes, 24 take 221 and 186, 50 take 437 and 203;
# eight of sum_weight 190 and 105.
FEW_ARMS: Final = {WeightKind.MAX: 16, WeightKind.SUM: 4}
_MOST_BITMAPS: Final = 64  # a code per row, and lists of rows, take less than more bitmaps
_BLOCK: Final = 1 << 20


def weigh(
    weight: Expr,
    population: RowSet,
    scan: Scan,
    values: Values,
    coded: Coder,
    what: str = "row",
) -> Weights:
    """The weights of `population` (row numbers of the source), each of which is a `what`.

    scan    bitmaps over the source of conditions that cannot raise
    values  the value of an expression for the rows of a row set, in its order
    coded   a column of all rows as small codes; None where it cannot be had, or does not pay
    """
    match weight:
        case Const(value):
            _check_constant(float(value), weight)
            return ClassWeights(np.array([float(value) + 0.0]), (population,))
        case WeightCase(kind, arms) if all(isinstance(a.weight, Const) for a in arms):
            for arm in arms:
                _check_constant(_constant(arm), arm.weight)
            column = only_column(weight) if len(arms) > FEW_ARMS[kind] else None
            codes = None if column is None else coded(column)
            if codes is not None:
                return classes_of(codes.of(population), codes.values(weight), population)
            if population.ascending and not any(can_raise(a.condition) for a in arms):
                return _by_bitmaps(kind, arms, population, scan)
            return _by_values(_per_row(weight, population, values, what)[0], population)
        case Balanced(operand):
            codes = coded(operand) if isinstance(operand, Column) else None
            if codes is not None:
                return balance_coded(weight, codes.of(population), codes.size, population)
            return balance(weight, values(population, operand), population)
        case _:
            return RowWeights(*_per_row(weight, population, values, what))


def is_per_row(weight: Expr) -> bool:
    """Whether `weigh` gives each row a weight of its own, found without the other rows."""
    match weight:
        case WeightCase(_, arms):
            return not all(isinstance(a.weight, Const) for a in arms)
        case _:
            return not isinstance(weight, Const | Balanced)


def _constant(arm: Arm) -> float:
    assert isinstance(arm.weight, Const)
    return float(arm.weight.value) + 0.0  # -0.0 is 0.0, whichever way the classes are found


def _check_constant(value: float, e: Expr) -> None:
    if not 0 <= value < math.inf:
        raise bad_weight(value, e)


def bad_weight(value: float, e: Expr) -> TqlError:
    kind = "NaN" if math.isnan(value) else "infinite" if math.isinf(value) else "negative"
    shown = f": {value!r}" if kind == "negative" else ""
    return error("value", f"a weight cannot be {kind}{shown}", e.span,
                 help="weights are finite numbers from 0 up")  # fmt: skip


def _per_row(
    weight: Expr, population: RowSet, values: Values, what: str
) -> tuple[NDArray[np.float64], Span]:
    """float64 (n,): the weight of each row, and what they lie between; a NULL weight is an error that
    names its row.
    """
    vec = values(population, weight)
    assert isinstance(vec, Numbers)
    n = len(population)
    if vec.valid is not None and not vec.valid.all():
        row = population.select(int(np.argmin(vec.valid)))
        raise data_error("value", f"the weight of {what} {row} is NULL", span=weight.span,
                         help="exclude such rows with  where … is not null")  # fmt: skip
    weights = np.asarray(vec.values, np.float64)
    span = span_of(weights.reshape(-1))
    if span.minus_zero:
        weights = weights + 0.0  # which makes 0.0 of it
    result = np.broadcast_to(weights, (n,))
    if not span.are_weights and n:
        at = int(np.argmax(~((result >= 0) & (result < math.inf))))
        kind = "NaN" if math.isnan(result[at]) else "negative" if result[at] < 0 else "infinite"
        shown = f": {float(result[at])!r}" if kind == "negative" else ""
        raise data_error(
            "value", f"the weight of {what} {population.select(at)} is {kind}{shown}",
            span=weight.span, help="weights are finite numbers from 0 up",
        )  # fmt: skip
    if weights.shape != (n,):  # one value for all
        span = Span(span.least, span.most, n if span.positive else 0, minus_zero=False)
    return np.ascontiguousarray(result), replace(span, minus_zero=False)


def _by_values(weights: NDArray[np.float64], population: RowSet) -> ClassWeights:
    starts = range(0, len(weights), _BLOCK)
    return _by_codes((weights[a : a + _BLOCK] for a in starts), population)


def _by_codes(blocks: Iterable[NDArray[np.float64]], population: RowSet) -> ClassWeights:
    """The classes of the weights, which come in the order of the population.

    Beside one code per row, 16 bits of it while that is enough, only a block is held.
    """
    codes: NDArray[Any] = np.empty(len(population), np.uint16)
    known = np.empty(0, np.float64)
    done = 0
    for block in blocks:
        grown = np.union1d(known, block)
        if len(grown) > 1 << 16 and codes.dtype == np.uint16:
            codes = codes.astype(np.int64)
        if len(grown) > len(known) > 0:
            codes[:done] = np.searchsorted(grown, known)[codes[:done]]
        known = grown
        codes[done : done + len(block)] = np.searchsorted(known, block)
        done += len(block)
    assert done == len(population), f"{done} weights for {len(population)} rows"
    if not len(known):
        return ClassWeights(known, ())
    return ClassWeights(known, partition(codes, len(known), population))


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
    if classes is None:
        return _by_codes(_totals(weights, hits, everyone), population)
    found = sorted((w, words) for w, words in classes.items() if words.any())
    members = tuple(from_words(words, population.universe) for _, words in found)
    return ClassWeights(np.array([w for w, _ in found], np.float64), members)


def _totals(
    weights: list[float], hits: list[Words], everyone: Words
) -> Iterator[NDArray[np.float64]]:
    """The sums of the weights, block by block, of the rows in `everyone`."""
    step = _BLOCK // 64
    for start in range(0, len(everyone), step):
        part = slice(start, start + step)
        total = np.zeros(64 * len(everyone[part]))
        for weight, hit in zip(weights, hits, strict=True):
            # Added in the order of the arms, as the reference does; a weight of 0.0 adds nothing.
            total += weight * _bools(hit[part])
        yield total[_bools(everyone[part])]


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


def _bools(words: Words) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little")
    return bits.view(np.bool_)


def _sums(weights: list[float], hits: list[Words], everyone: Words) -> dict[float, Words] | None:
    """The classes by their sum; None where they are too many to be bitmaps of all rows each.

    The classes of `_totals` are the same ones: which way they are found shows nowhere.
    """
    classes: dict[float, Words] = {0.0: everyone}
    for weight, hit in zip(weights, hits, strict=True):
        split: dict[float, Words] = {}
        for total, words in classes.items():
            for value, part in ((total + weight, words & hit), (total, words & ~hit)):
                if part.any():
                    split[value] = part | split[value] if value in split else part
        if len(split) > _MOST_BITMAPS:
            return None
        classes = split
    return classes
