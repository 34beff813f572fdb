"""What an order of rows is like, measured on the order itself, and how other loaders order rows.

The orders of others are their rules, written anew from their documentation, at the size of the
data here; none of their code runs.
"""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]


# -- measures ---------------------------------------------------------------------------------


def counts(labels: Int64s, batch: int, classes: int) -> Int64s:
    """Rows of each class in each full batch, int64 (batches, classes)."""
    full = labels.size // batch
    cell = np.repeat(np.arange(full), batch) * classes + labels[: full * batch]
    return np.bincount(cell, minlength=full * classes).reshape(full, classes)


def measured_vif(labels: Int64s, batch: int) -> float:
    """The variance of the classes' counts over batches, in units of what chance gives.

    The mean over the classes of the mean of (count - B p)², by B p (1 - p).
    """
    share = np.bincount(labels) / labels.size
    mixed = (share > 0) & (share < 1)
    found, p = counts(labels, batch, share.size)[:, mixed], share[mixed]
    square = ((found - batch * p) ** 2).mean(axis=0)
    return float((square / (batch * p * (1 - p))).mean())


def measured_classes(labels: Int64s, batch: int) -> float:
    """Distinct classes in a batch, in the mean."""
    return float((counts(labels, batch, int(labels.max()) + 1) > 0).sum(axis=1).mean())


def distance(labels: Int64s, batch: int) -> float:
    """Total variation between the mix of a batch and of the epoch, in the mean: 0 alike, 1 apart."""
    found = counts(labels, batch, int(labels.max()) + 1) / batch
    share = np.bincount(labels) / labels.size
    return float(np.abs(found - share).sum(axis=1).mean() / 2)


def longest_run(labels: Int64s) -> int:
    """Most rows of one class in a row."""
    ends = np.flatnonzero(np.append(labels[1:] != labels[:-1], True))
    return int(np.diff(ends, prepend=-1).max())


def rank_correlation(rows: Int64s) -> float:
    """Of a row's place in the data and its place in the order, 0 to 1."""
    return float(abs(np.corrcoef(rows, np.arange(rows.size))[0, 1]))


def live_at_once(fragments: Int64s) -> int:
    """Most fragments that are begun and not done with at any position."""
    there, first = np.unique(fragments, return_index=True)
    last = fragments.size - 1 - np.unique(fragments[::-1], return_index=True)[1]
    change = np.zeros(fragments.size + 1, np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last + 1, -1)
    return int(np.cumsum(change).max(initial=min(there.size, 1)))


def least_recently_used(fragments: Int64s, kept: int) -> int:
    """How often a fragment is read by a reader that keeps the `kept` used last."""
    cache: OrderedDict[int, None] = OrderedDict()
    reads = 0
    new = np.append(True, fragments[1:] != fragments[:-1])
    for f in fragments[new].tolist():
        if f in cache:
            cache.move_to_end(f)
            continue
        reads += 1
        cache[f] = None
        if len(cache) > kept:
            cache.popitem(last=False)
    return reads


def kept_by_window(windows: Iterable[Int64s]) -> int:
    """How often a fragment is read where those of a window are kept until the next one begins,
    and those of both go on being kept; the windows as fragments of their draws, in turn.
    """
    reads, live = 0, np.empty(0, np.int64)
    for fragments in windows:
        here = np.unique(fragments)
        reads += int((~np.isin(here, live)).sum())
        live = here
    return reads


def distinct_xors(order: Int64s, pairs: int = 100_000) -> int:
    """Distinct values of the XOR of neighbours, among the first `pairs` of them."""
    first = order[: pairs + 1]
    return int(np.unique(first[1:] ^ first[:-1]).size)


# -- the orders of others -----------------------------------------------------------------------


def through_buffer(rows: Int64s, size: int, rng: np.random.Generator) -> Int64s:
    """The rows as they leave a buffer of `size`: each time one at random, and the next comes in."""
    held, out = rows[:size].tolist(), np.empty_like(rows)
    which = rng.integers(0, size, max(rows.size - size, 0)).tolist()
    for i, (row, at) in enumerate(zip(rows[size:].tolist(), which, strict=True)):
        out[i], held[at] = held[at], row
    out[len(which) :] = rng.permutation(np.array(held, np.int64))
    return out


def shards_shuffled(rows: int, shard: int, rng: np.random.Generator) -> Int64s:
    """Shards in a random order, the rows of each as they lie."""
    whole = np.arange(rows, dtype=np.int64).reshape(-1, shard)
    return whole[rng.permutation(len(whole))].ravel()


def shards_and_rows_shuffled(rows: int, shard: int, rng: np.random.Generator) -> Int64s:
    """Shards in a random order, and the rows of each in a random order."""
    whole = np.arange(rows, dtype=np.int64).reshape(-1, shard)
    return rng.permuted(whole[rng.permutation(len(whole))], axis=1).ravel()


def random_blocks(rows: int, shard: int, together: int, rng: np.random.Generator) -> Int64s:
    """Shards in a random order, `together` at a time, and their rows in a random order."""
    order = shards_shuffled(rows, shard, rng)
    size = shard * together
    parts = [rng.permutation(order[a : a + size]) for a in range(0, rows, size)]
    return np.concatenate(parts)


def cycled(a: int, b: int, rounds: int, keys: NDArray[np.uint64], n: int) -> Int64s:
    """A permutation of n by a Feistel network of a x b with so many rounds; for what few rounds do.

    keys  uint64 (rounds,)
    """
    assert a * b >= n
    out = np.arange(n, dtype=np.int64)
    walking = out.copy()
    while walking.size:
        x = out[walking]
        left, right = x // b, x % b
        for r in range(rounds):
            if r % 2 == 0:
                left = (left + (_mixed(right, keys[r]) % np.uint64(a)).astype(np.int64)) % a
            else:
                right = (right + (_mixed(left, keys[r]) % np.uint64(b)).astype(np.int64)) % b
        out[walking] = left * b + right
        walking = walking[out[walking] >= n]
    return out


def _mixed(x: Int64s, key: np.uint64) -> NDArray[np.uint64]:
    """A 64-bit mixer of x and a key."""
    z = x.astype(np.uint64) + key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))
