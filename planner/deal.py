"""Draws dealt to batches like cards: each batch has its share of every class.

With n draws in the order of their classes and m batches, batch b has draws b, b + m, b + 2m, …:
of a stretch of draws, ⌊length / m⌋ or ⌈length / m⌉. Which batch gets which hand, and the order
within a hand, are keyed permutations. A last batch that is not full gets draws spread evenly over
all of them before the others are dealt.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tql.jit import kernel
from tql.planner.permute import ROUNDS, Permutation, permutation
from tql.planner.placing import within, within_twin
from tql.planner.rng import Int64s, Key, Uint64s, philox, philox_twin

_BEYOND: Final = (1 << 63) - 1  # a number that no hand has


@dataclass(frozen=True, slots=True, eq=False)
class Dealing:
    """Which draw stands at which position.

    size   positions of a batch
    hands  the hand of each full batch
    last   int64 (r,) ascending, the draws of the batch that is not full
    key    of the order within batches
    """

    size: int
    hands: Permutation
    last: Int64s
    key: Key

    def pays(self, count: int) -> bool:
        """Whether to use the kernels for `count` positions."""
        return DEAL.pays(500.0 * count)

    def apply(self, positions: Int64s, fast: bool) -> None:
        """Replace each position by the draw that stands there."""
        batch, place = np.divmod(positions, self.size)
        full = batch < self.hands.n
        hand = batch[full]
        self.hands.apply(hand, fast)
        batch[full] = hand
        within_batch = DEAL if fast else deal_twin
        within_batch(self.key.array(), self.size, self.hands.n, self.last, batch, place)
        positions[:] = place


def dealing(draws: int, size: int, hands: Key, places: Key, rounds: int = ROUNDS[0]) -> Dealing:
    """The draws of an epoch dealt to batches of `size` positions."""
    full, rest = divmod(draws, size)
    offset = int(philox_twin(places, np.array([_BEYOND]))[0][0]) * draws >> 64
    last = (np.arange(rest, dtype=np.int64) * draws + offset) // max(rest, 1)
    return Dealing(size, permutation(full, hands, rounds), last, places)


# -- NumPy ----------------------------------------------------------------------------------------


def deal_twin(
    key: Uint64s, size: int, full: int, last: Int64s, hand: Int64s, place: Int64s
) -> None:
    """What `DEAL` does."""
    whole = Key(int(key[0]) | int(key[1]) << 32, int(key[2]))
    a, b = philox_twin(whole, hand)
    places = np.where(hand < full, size, last.size)
    place[:] = within_twin(place, places, a, b)
    dealt = place * full + hand
    dealt += np.searchsorted(last - np.arange(last.size), dealt, side="right")
    late = hand >= full
    dealt[late] = last[place[late]]
    place[:] = dealt


# -- kernels --------------------------------------------------------------------------------------


@kernel("u64[], i64, i64, i64[], i64[], i64[]")
def DEAL(key: Uint64s, size: int, full: int, last: Int64s, hand: Int64s, place: Int64s) -> None:
    """Each place in a hand becomes the draw that lies there."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    for i in range(place.size):
        places = size if hand[i] < full else last.size
        a, b = philox(np.uint64(hand[i]), high, k0, k1)
        at = np.int64(within(np.uint64(place[i]), np.uint64(places), a, b))
        if hand[i] >= full:
            place[i] = last[at]
        else:
            # Past those draws of the last batch that lie before.
            dealt = at * full + hand[i]
            low = 0
            end = last.size
            while low < end:
                middle = (low + end) >> 1
                if last[middle] - middle <= dealt:
                    low = middle + 1
                else:
                    end = middle
            place[i] = dealt + low
