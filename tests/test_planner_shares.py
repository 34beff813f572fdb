"""Where shares begin that lie end to end: against the same in Python integers, one after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.profiles import examples
from tql.planner import shares
from tql.planner.rng import Int64s
from tql.planner.shares import Shares, shares_of


def one_by_one(of: Shares, order: Int64s, phase: int) -> tuple[list[int], list[int]]:
    begins, fractions = [0] * order.size, [0] * order.size
    before = 0
    for c in order.tolist():
        begins[c], fractions[c] = divmod((before << 64) // of.unit + phase, 1 << 64)
        before += of.exact[c]
    return begins, fractions


def agree(of: Shares, seed: int, phase: int) -> None:
    order = np.random.default_rng(seed).permutation(len(of.exact))
    begins, fractions = of.begins(order, phase)
    assert begins.dtype == np.int64 and fractions.dtype == np.uint64
    assert (begins.tolist(), fractions.tolist()) == one_by_one(of, order, phase)


PHASES = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**63, 2**64 - 1]))


@settings(deadline=None, max_examples=examples(200))
@given(
    exact=st.lists(
        st.one_of(st.just(0), st.integers(0, 2**20), st.integers(0, 2**150)), max_size=40
    ),
    unit=st.one_of(st.integers(1, 100), st.integers(1, 2**200)),
    seed=st.integers(0, 2**32),
    phase=PHASES,
)
def test_classes_begin_where_integers_say(
    exact: list[int], unit: int, seed: int, phase: int
) -> None:
    agree(shares_of([e % (unit << 40) for e in exact], unit), seed, phase)


@settings(deadline=None, max_examples=examples(100))
@given(
    share=st.integers(1, 50), unit=st.sampled_from([1, 2, 3, 7, 48, 2**64, 3 * 2**64, 2**64 - 1]),
    classes=st.integers(1, 60), seed=st.integers(0, 2**32), phase=PHASES,
)  # fmt: skip
def test_so_they_do_where_sums_meet_whole_draws(
    share: int, unit: int, classes: int, seed: int, phase: int
) -> None:
    """Equal shares of which some make whole draws together: cut fractions fall just short of them."""
    agree(shares_of([share] * classes, unit), seed, phase)


def test_without_the_exact_way_a_sum_that_is_whole_would_be_missed() -> None:
    of = shares_of([1, 1, 1, 5], 3)
    order = np.arange(4)
    low, _ = shares._before(of.low[order])
    assert int(low[3]) == 2**64 - 1, "3 x 1/3, each cut to 2^-128"
    assert of.begins(order, 0)[0].tolist() == [0, 0, 0, 1]
    assert of.begins(order, 0)[1].tolist()[3] == 0


@pytest.mark.parametrize("classes", [20_000])
def test_of_many_classes_none_is_divided_one_by_one(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    exact = [int(x) ** 3 + 1 for x in rng.integers(1, 2**40, classes)]
    of = shares_of(exact, sum(exact) // 10**6)
    order = rng.permutation(classes)
    expected = one_by_one(of, order, 12345)
    monkeypatch.setattr(shares, "divmod", lambda *_: pytest.fail("one by one"), raising=False)
    begins, fractions = of.begins(order, 12345)
    assert (begins.tolist(), fractions.tolist()) == expected
