"""Weights: what is refused, and sums that lose nothing."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
