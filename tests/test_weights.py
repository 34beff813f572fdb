"""Weights: what is refused, and sums that lose nothing."""

import gc
import pickle
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tql
from tql import rowset
from tql.diagnostics import TqlPlanError
from tql.rowset import Range
from tql.weights import (
    ClassWeights,
    RowWeights,
    check,
    class_masses,
    integer_weights,
    positive_rows,
    span_of,
)


def _classes(*values: float, rows: int = 4) -> ClassWeights:
    members = tuple(Range(k * rows, (k + 1) * rows, len(values) * rows) for k in range(len(values)))
    return ClassWeights(np.array(values), members)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (RowWeights(np.array([1.0, -2.0])), "negative: -2.0 (row 1 of the 2"),
        (RowWeights(np.array([1.0, 2.0, np.nan, -1.0])), "NaN: nan (row 2 of the 4"),
        (RowWeights(np.array([np.inf, 2.0])), "infinite: inf (row 0 of the 2"),
        (RowWeights(np.zeros(3)), "every weight is zero (3 rows)"),
        (RowWeights(np.empty(0)), "the population is empty"),
        (_classes(1.0, -1.0), "negative: -1.0 (weight 2 of 2, first at row 4)"),
        (_classes(np.nan), "NaN"),
        (_classes(np.inf, 1.0), "infinite"),
        (_classes(0.0, 0.0), "every weight is zero (8 rows)"),
        (_classes(1.0, rows=0), "the population is empty"),
        (ClassWeights(np.empty(0), ()), "the population is empty"),
    ],
)
def test_weights_nothing_can_be_drawn_by_are_refused(
    weights: ClassWeights | RowWeights, says: str
) -> None:
    with pytest.raises(TqlPlanError) as e:
        check(weights)
    assert e.value.diagnostic.code == "value" and e.value.diagnostic.help
    assert says in e.value.diagnostic.message


def test_a_weight_on_rows_that_do_not_exist_leaves_nothing_to_draw() -> None:
    empty = ClassWeights(np.array([5.0, 0.0]), (Range(0, 0, 4), rowset.everything(4)))
    with pytest.raises(TqlPlanError, match="every weight is zero"):
        check(empty)


def test_zero_is_a_weight_and_counts_no_row() -> None:
    weights = _classes(0.0, 2.5, 1.0)
    check(weights)
    assert len(weights) == 12 and positive_rows(weights) == 8
    assert positive_rows(RowWeights(np.array([0.0, 1.0, 5e-324]))) == 2


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=8))
def test_integer_weights_are_the_floats_exactly(values: list[float]) -> None:
    units = integer_weights(np.array(values))
    total, exact = sum(units), sum(map(Fraction, values))
    for unit, value in zip(units, values):
        assert unit * exact == Fraction(value) * total


def test_masses_of_classes_are_exact_at_a_ratio_of_1e12() -> None:
    heavy, light = class_masses(_classes(1e12, 0.1, rows=3))
    assert Fraction(heavy, light) == Fraction(10**12) / Fraction(0.1)


def test_weights_of_any_number_of_rows_show_themselves_in_one_line() -> None:
    assert repr(RowWeights(np.ones(5000))) == "<RowWeights of 5,000 rows>"
    assert repr(_classes(1.0, 2.0, rows=3000)) == "<ClassWeights 2 classes of 6,000 rows>"
    assert repr(_classes(1.0)) == "<ClassWeights 1 class of 4 rows>"


def test_what_weights_hold_cannot_be_written_through_them() -> None:
    weights = RowWeights(np.ones(3))
    with pytest.raises(ValueError, match="read-only"):
        weights.values[0] = 2.0


@given(st.lists(st.floats(), max_size=40), st.integers(0, 3))
def test_what_weights_lie_between_is_found_block_by_block(values: list[float], block: int) -> None:
    v = np.array(values * 3, np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tql.weights._LOOKED_AT", 1 << block)
        found = span_of(v)
    assert found.positive == int((v > 0).sum())
    assert found.are_weights == bool(((v >= 0) & (v < np.inf)).all())
    if v.size:
        assert np.array_equal([found.least, found.most], [v.min(), v.max()], equal_nan=True)
    if found.are_weights:
        assert found.minus_zero == bool((np.signbit(v) & (v == 0)).any())


def test_weights_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("tql.weights.span_of", lambda v: calls.append(v.size) or span_of(v))
    weights = RowWeights(np.array([0.0, 1.0, 3.0]))
    check(weights)
    check(weights)
    assert positive_rows(weights) == 2 and calls == [3]
    assert RowWeights(np.ones(2), span_of(np.ones(2))).span.positive == 2 and calls == [3]
    assert pickle.loads(pickle.dumps(weights)).span == weights.span


def weights_of(ds: tql.Dataset, text: str = "w") -> RowWeights:
    found = ds.weighed(text)[1]
    assert isinstance(found, RowWeights)
    return found


@pytest.mark.parametrize("rows", [1, 999, 3500])
def test_weights_of_a_column_in_memory_are_not_copied(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tql.sources.memory.FRAGMENT_ROWS", 1000)
    values = np.random.default_rng(0).random(rows)
    found = weights_of(tql.open({"w": values}))
    assert np.shares_memory(found.values, values) and not found.values.flags.writeable
    assert np.array_equal(found.values, values)
    assert found.span == span_of(values)


def test_pieces_that_do_not_lie_side_by_side_are_copied_and_outlive_the_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tql.sources.memory.FRAGMENT_ROWS", 1000)
    values = np.random.default_rng(0).random(5000)
    chunks = pa.chunked_array([values[2500:].copy(), values[:2500].copy()])
    ds = tql.open(pa.table({"w": chunks}))
    apart = weights_of(ds)
    side_by_side = weights_of(tql.open({"w": values.copy()}))
    del ds, chunks
    gc.collect()
    np.full((20, 5000), 7.0).sum()  # what was freed would be written over
    assert np.array_equal(apart.values, np.concatenate([values[2500:], values[:2500]]))
    assert np.array_equal(side_by_side.values, values)


def test_a_minus_zero_among_weights_is_a_zero() -> None:
    values = np.array([1.0, -0.0, 0.0, 2.0])
    found = weights_of(tql.open({"w": values}))
    assert not np.signbit(found.values).any() and not found.span.minus_zero
    assert np.signbit(values).tolist() == [False, True, False, False]
    assert found.span == span_of(found.values)
    one = weights_of(tql.open({"w": values}), "w * 0 + 2")
    assert one.span.positive == 4 and one.values.tolist() == [2.0] * 4
