"""Draws without replacement: successive weighted draws, each by the weights of what is left.

Class weights: only the number of rows taken from each class is drawn, in integers, one draw after
another (class c with probability weight x rows left). Which rows those are is a permutation of the
class, at what place they stand another permutation, both computed: an epoch costs K numbers of
memory and no pass over the rows.

Row weights: row i gets the key -log(u_i) / w_i, u_i from the counter generator, and the rows of the
smallest keys are taken (Efraimidis & Spirakis 2006): the same distribution, and mergeable across
shards by key. The logarithm is our own, from + - * / alone, so that every machine agrees on the
last bit. A draw of a small share looks at few logarithms: -log(u) ≥ 1 - u, so a row with
1 - u > w x limit has a key beyond the limit.

Successive draws come heavy rows first. The result is put in random order again, so that every part
of it has the same mix.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.jit import device, kernel
from tql.planner.bulk import over_blocks
from tql.planner.permute import ROUNDS, Permutation, permutation
from tql.planner.rng import (
    Int64s,
    Key,
    Uint64s,
    high_product,
    philox,
    philox_twin,
    stream_key,
)
from tql.weights import ClassWeights, RowWeights, integer_weights

Float64s: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TakenByClass:
    """The first `counts[c]` rows of a permutation of each class, all of them in random order.

    starts  int64 (K,) first slot of each class
    ends    int64 (K,) running sum of the counts
    """

    order: Permutation
    inside: tuple[Permutation, ...]
    starts: Int64s
    ends: Int64s

    def pays(self, count: int) -> bool:
        """Whether to use the kernels for `count` draws."""
        return bool(max([self.order.pays(count), *(p.pays(count) for p in self.inside)]))

    def apply(self, positions: Int64s, fast: bool) -> None:
        """Replace each position by the slot drawn there."""
        self.order.apply(positions, fast)
        c = np.searchsorted(self.ends, positions, side="right")
        for k, perm in enumerate(self.inside):
            mine = np.flatnonzero(c == k)
            if mine.size:
                slots = positions[mine] - (self.ends[k - 1] if k else 0)
                perm.apply(slots, fast)
                positions[mine] = slots + self.starts[k]


@dataclass(frozen=True, slots=True, eq=False)
class TakenRows:
    """The slots `chosen`, int64 (draws,) ascending, in random order."""

    order: Permutation
    chosen: Int64s

    def pays(self, count: int) -> bool:
        """Whether to use the kernels for `count` draws."""
        return self.order.pays(count)

    def apply(self, positions: Int64s, fast: bool) -> None:
        """Replace each position by the slot drawn there."""
        self.order.apply(positions, fast)
        positions[:] = self.chosen[positions]


Taken: TypeAlias = TakenByClass | TakenRows

MOST_CLASSES: Final = 64  # with more, the rows of each class get the class weight one by one


def take(
    weights: ClassWeights | RowWeights, draws: int, seed: int, epoch: int | None, fingerprint: str,
    rounds: int = ROUNDS[0],
) -> Taken:  # fmt: skip
    """`draws` rows of positive weight, without repeats; `rounds` is of their permutations."""

    def key(purpose: str) -> Key:
        return stream_key(seed, epoch, fingerprint, purpose)

    order = permutation(draws, key("sample order"), rounds)
    match weights:
        case ClassWeights(values=values, members=members) if len(members) <= MOST_CLASSES:
            sizes = [len(m) for m in members]
            counts = class_counts(values, sizes, draws, key("sample counts"))
            inside = tuple(
                permutation(n, key(f"sample class {c}"), rounds) for c, n in enumerate(sizes)
            )
            starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])[:-1]
            return TakenByClass(order, inside, starts, np.cumsum(counts, dtype=np.int64))
        case ClassWeights(values=values, members=members):
            each = np.repeat(values, [len(m) for m in members])
            return TakenRows(order, smallest_keys(each, draws, key("sample keys")))
        case RowWeights(values=values):
            positive = weights.span.positive
            return TakenRows(order, smallest_keys(values, draws, key("sample keys"), positive))


# -- by class -------------------------------------------------------------------------------------


def class_counts(values: Float64s, sizes: list[int], draws: int, key: Key) -> list[int]:
    """How many rows of each class `draws` successive draws take."""
    exact = integer_weights(values)
    left = np.array([n if w else 0 for n, w in zip(sizes, exact, strict=True)], np.int64)
    assert draws <= left.sum()
    if draws == left.sum():
        return [int(n) for n in left]
    before = left.copy()
    done = np.zeros(1, np.int64)
    fast = COUNT_CLASSES.pays(700.0 * draws)
    while int(done[0]) < draws:
        # Units that fill 62 bits with what is left: done again each time a sixteenth of them is
        # reached, so a class that was next to nothing beside heavy ones is exact after them.
        total = sum(w * int(n) for w, n in zip(exact, left, strict=True))
        units = [(w << 62) // total if n else 0 for w, n in zip(exact, left, strict=True)]
        step = COUNT_CLASSES if fast else count_classes_twin
        step(key.array(), np.array(units, np.uint64), draws, left, done)
    return [int(n) for n in before - left]


def count_classes_twin(
    key: Uint64s, units: Uint64s, draws: int, left: Int64s, done: Int64s
) -> None:
    """What `COUNT_CLASSES` does."""
    whole = Key(int(key[0]) | int(key[1]) << 32, int(key[2]))
    masses = [int(u) * int(n) for u, n in zip(units, left, strict=True)]
    total = sum(masses)
    t = int(done[0])
    while t < draws:
        bits, _ = philox_twin(whole, np.arange(t, min(t + 4096, draws), dtype=np.int64))
        for x in bits.tolist():
            if total < _RESCALE_BELOW:
                done[0] = t
                return
            rest = (x * total) >> 64
            c = 0
            while rest >= masses[c]:
                rest -= masses[c]
                c += 1
            masses[c] -= int(units[c])
            total -= int(units[c])
            left[c] -= 1
            t += 1
    done[0] = t


# -- by row ---------------------------------------------------------------------------------------


def smallest_keys(weights: Float64s, k: int, key: Key, positive: int | None = None) -> Int64s:
    """The places of the k smallest keys, ascending, int64 (k,); ties go to the first place.

    `positive` is how many weights are above 0, where that is known.
    """
    if positive is None:
        positive = int(np.count_nonzero(weights > 0))
    assert 0 <= k <= positive
    if k == positive:
        return np.flatnonzero(weights > 0)
    if k == 0:
        return np.empty(0, np.int64)
    at, keys = _at_least(k, weights, key)
    kth = float(np.partition(keys, k - 1)[k - 1])
    if not _LEAST <= kth <= _MOST:
        # Keys span more than a float does, but only their order near the k-th decides. Times a power
        # of two that brings that one into range, they are exact there; the weights that overflow
        # are taken, those that underflow are not, as they would be by their exact keys.
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ldexp(weights, 900 if kth > 1.0 else -900)
        at, keys = _at_least(k, scaled, key)
        kth = float(np.partition(keys, k - 1)[k - 1])
        assert _LEAST <= kth <= _MOST, f"the k-th key is {kth} after scaling"
    below = keys < kth
    ties = np.flatnonzero(keys == kth)[: k - int(np.count_nonzero(below))]
    below[ties] = True
    return at[below]


def _at_least(k: int, weights: Float64s, key: Key) -> tuple[Int64s, Float64s]:
    """The places and the keys of the k smallest keys, and of some more."""
    fast = KEYS.pays(120.0 * weights.size)
    limit, more = _limit_near(weights, k), 2.0
    at, keys = _keys_below(weights, limit, key, fast)
    while at.size < k:
        assert limit < np.inf, "a positive weight without a key"
        # Faster and faster, so that weights of any ratio end; a limit too high only costs time.
        limit = limit * more if limit < _MOST else np.inf
        more = min(more * more, 1e300)
        at, keys = _keys_below(weights, limit, key, fast)
    return at, keys


def _limit_near(weights: Float64s, k: int) -> float:
    """A limit that a few more than k keys are likely to be below, from 4,096 of the weights.

    Only the time depends on it, not the result.
    """
    step = max(1, weights.size // 4096)
    some = weights[step // 2 :: step]
    wanted = (k + 4 * np.sqrt(k) + 16) / weights.size * some.size
    some = some[some > 0] if (some > 0).any() else weights[weights > 0][:1]
    wanted = min(wanted, 0.999 * some.size)
    low, high = -960.0, 960.0  # of the logarithm to base 2
    with np.errstate(over="ignore", under="ignore"):
        for _ in range(18):  # to 1 %
            middle = (low + high) / 2
            if -np.expm1(-some * 2.0**middle).sum() < wanted:
                low = middle
            else:
                high = middle
    return float(2.0**high)


def _keys_below(weights: Float64s, limit: float, key: Key, fast: bool) -> tuple[Int64s, Float64s]:
    """The places whose key is at most `limit`, ascending, and those keys."""
    block = 1 << 16
    found: list[tuple[Int64s, Float64s]] = [
        (np.empty(0, np.int64), np.empty(0)) for _ in range(0, weights.size, block)
    ]

    def work(start: int, stop: int) -> None:
        part = weights[start:stop]
        if fast:
            at, keys = np.empty(part.size, np.int64), np.empty(part.size)
            count, scratch = np.zeros(1, np.int64), np.empty(1024, np.uint64)
            KEYS(key.array(), part, start, limit, scratch, at, keys, count)
            n = int(count[0])
            found[start // block] = (at[:n].copy(), keys[:n].copy())
        else:
            found[start // block] = keys_twin(key, part, start, limit)

    over_blocks(work, weights.size, block)
    return (
        np.concatenate([np.empty(0, np.int64), *(at for at, _ in found)]),
        np.concatenate([np.empty(0), *(keys for _, keys in found)]),
    )


def keys_twin(key: Key, weights: Float64s, start: int, limit: float) -> tuple[Int64s, Float64s]:
    """What `KEYS` writes."""
    places = np.arange(start, start + weights.size, dtype=np.int64)
    first, second = philox_twin(key, places >> 1)
    x = ((np.where(places & 1, second, first) >> _TWELVE) << _ONE) | _ONE
    far = (_TWO_53 - x).astype(np.float64) * _UNIT
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite limit only keeps every row
        near = np.flatnonzero(far <= (weights * limit) * _MARGIN)
        near = near[weights[near] > 0]
        keys = minus_log_twin(x[near]) / weights[near]
    kept = keys <= limit
    return places[near[kept]], keys[kept]


def minus_log_twin(x: Uint64s) -> Float64s:
    """What `minus_log` returns, for every x."""
    fraction, exponent = np.frexp(x.astype(np.float64))  # exact: x is below 2^53
    small = fraction < _ROOT_HALF
    f = np.where(small, fraction * 2.0, fraction)
    e = (exponent - 53 - small).astype(np.float64)
    s = (f - 1.0) / (f + 1.0)
    z = s * s
    p = np.full(x.size, _SERIES[-1])
    for c in _SERIES[-2::-1]:
        p = p * z + c
    out: Float64s = -(e * _LN_2 + s * p)
    return out


# -- kernels --------------------------------------------------------------------------------------

_RESCALE_BELOW: Final = 1 << 58
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_TWELVE: Final = np.uint64(12)
_TWO_53: Final = np.uint64(1 << 53)
_FLOOR: Final = np.uint64(_RESCALE_BELOW)
_UNIT: Final = 2.0**-53
# A key E / w within these has a w that is neither subnormal nor infinite: 2^-53 < E < 2^6.
_LEAST: Final = 2.0**-960
_MOST: Final = 2.0**960
_MARGIN: Final = 1.0000001  # rounding must not leave out a row: the keys decide
_ROOT_HALF: Final = 0.7071067811865476
_LN_2: Final = 0.6931471805599453
# log f = 2 s (1 + s²/3 + s⁴/5 + …), s = (f - 1) / (f + 1), |s| < 0.172: the next term is below 2^-60.
_SERIES: Final = tuple(2.0 / (2 * k + 1) for k in range(12))
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11 = _SERIES


@device
def minus_log(x: Any) -> Any:
    """-log(x / 2^53) of an odd integer below 2^53; relative error some 2^-51, the same everywhere."""
    f = np.float64(x) * _UNIT
    e = 0.0
    while f < _ROOT_HALF:  # two steps in the mean: an exact doubling each
        f = f * 2.0
        e -= 1.0
    s = (f - 1.0) / (f + 1.0)
    z = s * s
    p = _C11 * z + _C10
    p = p * z + _C9
    p = p * z + _C8
    p = p * z + _C7
    p = p * z + _C6
    p = p * z + _C5
    p = p * z + _C4
    p = p * z + _C3
    p = p * z + _C2
    p = p * z + _C1
    p = p * z + _C0
    return -(e * _LN_2 + s * p)


@kernel("u64[], f64[], i64, f64, u64[], i64[], f64[], i64[]")
def KEYS(
    key: Uint64s,
    weights: Float64s,
    start: int,
    limit: float,
    scratch: Uint64s,
    at: Int64s,
    keys: Float64s,
    count: Int64s,
) -> None:
    """The places start + i with a key of at most `limit`, and the keys; `start` is even.

    `scratch` is uint64 (1024,).
    """
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    n = 0
    for base in range(0, weights.size, 1024):
        size = min(1024, weights.size - base)
        pair = (start + base) // 2
        # The random bits first, in a loop of their own, which is vectorised.
        for half in range((size + 1) // 2):
            first, second = philox(np.uint64(pair + half), high, k0, k1)
            scratch[2 * half] = ((first >> _TWELVE) << _ONE) | _ONE
            scratch[2 * half + 1] = ((second >> _TWELVE) << _ONE) | _ONE
        for i in range(size):
            x = scratch[i]
            w = weights[base + i]
            if np.float64(np.int64(_TWO_53 - x)) * _UNIT <= (w * limit) * _MARGIN and w > 0.0:
                found = minus_log(x) / w
                if found <= limit:
                    at[n] = start + base + i
                    keys[n] = found
                    n += 1
    count[0] = n


@kernel("u64[], u64[], i64, i64[], i64[]")
def COUNT_CLASSES(key: Uint64s, units: Uint64s, draws: int, left: Int64s, done: Int64s) -> None:
    """Successive draws from done[0] on until `draws` are made or the units have become too coarse."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    total = _ZERO
    for c in range(units.size):
        total += units[c] * np.uint64(left[c])
    t = done[0]
    while t < draws and total >= _FLOOR:
        x, _ = philox(np.uint64(t), high, k0, k1)
        rest = high_product(x, total)
        c = 0
        mass = units[0] * np.uint64(left[0])
        while rest >= mass:
            rest -= mass
            c += 1
            mass = units[c] * np.uint64(left[c])
        left[c] -= 1
        total -= units[c]
        t += 1
    done[0] = t
