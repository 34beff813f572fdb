"""Random bits and permutations: bijective, keyed, the same from both tiers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tql.planner import rng
from tql.planner.permute import permutation
from tql.planner.rng import Key, stream_key

KEY = stream_key(0, 0, "", "test")


def test_philox_gives_the_numbers_of_its_publication() -> None:
    # Known answers of Random123: counter and key all zero, then all ones.
    a, b = rng.philox_twin(Key(0, 0), np.array([0]))
    assert [f"{int(x) & 0xFFFFFFFF:08x} {int(x) >> 32:08x}" for x in (a[0], b[0])] == [
        "6627e8d5 e169c58d",
        "bc57ac4c 9b00dbd8",
    ]
    ones = (1 << 64) - 1
    a, b = rng.philox_twin(Key(ones, ones), np.array([-1]))
    assert [f"{int(x) & 0xFFFFFFFF:08x} {int(x) >> 32:08x}" for x in (a[0], b[0])] == [
        "408f276d 41c83b0e",
        "a20bc7c6 6d5451fd",
    ]


@settings(deadline=None)
@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 2**62), min_size=1, max_size=50),
)
def test_the_kernels_give_the_bits_of_their_twins(
    low: int, high: int, positions: list[int]
) -> None:
    key, at = Key(low, high), np.array(positions, np.int64)
    a, b = np.empty(at.size, np.uint64), np.empty(at.size, np.uint64)
    rng.PAIRS(key.array(), at, a, b)
    assert all(np.array_equal(x, y) for x, y in zip((a, b), rng.philox_twin(key, at)))
    rng.SEEDS(key.array(), at[::-1].copy(), at, a)
    assert np.array_equal(a, rng.philox_twin(key, at, at[::-1])[0])


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_high_product_is_that_of_whole_integers(a: int, b: int) -> None:
    product = rng.high_product_twin(np.array([a], np.uint64), np.array([b], np.uint64))
    assert int(product[0]) == (a * b) >> 64


def test_no_two_streams_of_seeds_and_epochs_are_the_same() -> None:
    first = {
        tuple(rng.philox_twin(stream_key(s, e, f, p), np.arange(2))[0].tolist())
        for s in range(20)
        for e in (None, *range(20))
        for f in ("", "a")
        for p in ("sample", "shuffle")
    }
    assert len(first) == 20 * 21 * 2 * 2


def test_a_permutation_of_every_length_is_a_bijection() -> None:
    for n in range(1, 2001):
        image = permutation(n, KEY)(np.arange(n))
        assert np.array_equal(np.sort(image), np.arange(n)), n


@pytest.mark.parametrize("rounds", [6, 8])
@pytest.mark.parametrize("k", range(9, 18))
def test_a_permutation_is_a_bijection_around_powers(k: int, rounds: int) -> None:
    for n in (2**k - 1, 2**k, 2**k + 1):
        image = np.arange(n)
        permutation(n, KEY, rounds).apply(image, fast=True)
        assert np.array_equal(np.bincount(image, minlength=n), np.ones(n, np.int64))


@pytest.mark.parametrize("n", [2**18 + 1, 2**20 + 1, 4**8 + 1, 10**6 + 3])
def test_no_row_is_lost_where_power_of_four_networks_lose_one(n: int) -> None:
    image = permutation(n, KEY)(np.arange(n))
    assert np.array_equal(np.bincount(image, minlength=n), np.ones(n, np.int64))


@pytest.mark.parametrize("n", [2**31, 2**34 + 1, 2**40 - 1, 2**50 + 1, 2**62])
def test_distinct_positions_of_a_huge_permutation_stay_distinct(n: int) -> None:
    at = np.unique(np.concatenate([np.arange(20_000), n - 1 - np.arange(20_000)]))
    image = permutation(n, KEY)(at)
    assert image.min() >= 0 and image.max() < n and np.unique(image).size == at.size


@settings(deadline=None)
@given(st.integers(200, 2**62), st.integers(0, 2**32), st.sampled_from([6, 8]))
def test_the_permutation_kernel_maps_as_its_twin(n: int, seed: int, rounds: int) -> None:
    perm = permutation(n, stream_key(seed, 0, "", ""), rounds)
    some = np.random.default_rng(seed).integers(0, n, 300)
    fast, slow = some.copy(), some.copy()
    perm.apply(fast, fast=True)
    perm.apply(slow, fast=False)
    assert np.array_equal(fast, slow)
    assert fast.min() >= 0 and fast.max() < n


@pytest.mark.parametrize("n", [65_536, 65_537, 1_000_000, 1_048_576, 1_281_167])
def test_neighbours_differ_as_those_of_a_random_order_do(n: int) -> None:
    # Distinct XOR values of adjacent outputs: a weak network repeats a few. Twenty random orders
    # give the mean and deviation; beyond 5 deviations a good network falls once in 2 million runs.
    m = min(n, 100_001)
    random = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(n)[:m]
        random.append(np.unique(order[1:] ^ order[:-1]).size)
    ours = permutation(n, KEY)(np.arange(m))
    found = np.unique(ours[1:] ^ ours[:-1]).size
    assert abs(found - np.mean(random)) < 5 * np.std(random) + 1


def test_first_places_are_uniform_over_keys() -> None:
    # Where positions 0 and 1 go, over 2,000 keys and 40 bins: chi-square with 39 degrees of
    # freedom stays below 86 but for one set of keys in 50,000.
    n, keys = 1000, 2000
    ends = np.array([permutation(n, stream_key(k, 0, "", "u"))(np.arange(2)) for k in range(keys)])
    for column in ends.T:
        counts = np.bincount(column * 40 // n, minlength=40)
        assert ((counts - keys / 40) ** 2 / (keys / 40)).sum() < 86


@pytest.mark.parametrize("n", [3, 4])
def test_a_small_permutation_takes_every_order_equally_often(n: int) -> None:
    # Chi-square with 5 or 23 degrees of freedom: one set of keys in 100,000 exceeds the limit.
    orders, limit, runs = {3: 6, 4: 24}[n], {3: 30.9, 4: 61.1}[n], 4800
    seen: dict[tuple[int, ...], int] = {}
    for k in range(runs):
        order = tuple(permutation(n, stream_key(k, 0, "", "small"))(np.arange(n)).tolist())
        seen[order] = seen.get(order, 0) + 1
    expected = runs / orders
    assert len(seen) == orders
    assert sum((c - expected) ** 2 / expected for c in seen.values()) < limit


def test_this_key_means_this_order_for_ever() -> None:
    # Users keep seeds in papers. A change here is a breaking change: say so in the changelog.
    key = stream_key(7, 3, "data", "shuffle")
    assert permutation(10, key)(np.arange(10)).tolist() == [7, 2, 6, 4, 5, 3, 0, 1, 8, 9]
    assert permutation(1_000_003, key)(np.arange(5)).tolist() == [
        696412,
        64868,
        350964,
        872565,
        114938,
    ]
    assert permutation(1 << 62, key)(np.arange(2)).tolist() == [
        3916980985102273491,
        3313141629713536855,
    ]
    assert rng.philox_twin(key, np.arange(2))[0].tolist() == [
        9550067993098672179,
        528217099419458185,
    ]
