"""Where shares that lie end to end begin, exactly, for tens of thousands of them in each epoch.

A share is a fraction of Python integers of any size. Of each, the whole draws, and what is left in units
of 2^-128 of one, are kept as 64-bit numbers; these are added up. Cutting a fraction to 2^-128 loses less
than one such unit, so K of them lose less than K: a sum whose last 64 bits are not that close to the
next one is cut to 2^-64 just as the exact one would be. The few others are divided exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

from tql.planner.rng import Int64s, Uint64s

_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Class k expects exact[k] / unit draws.

    wholes  uint64 (K,): of these the whole ones; a sum of all stays below 2^63
    high    uint64 (K,): what is left of each, in 2^-64 of a draw, rounded down
    low     uint64 (K,): and what is left of that, in 2^-128, rounded down
    """

    exact: tuple[int, ...]
    unit: int
    wholes: Uint64s
    high: Uint64s
    low: Uint64s

    def begins(self, order: Int64s, phase: int) -> tuple[Int64s, Uint64s]:
        """Where each class begins when they lie in this order, from `phase` / 2^64 on: in whole draws,
        int64 (K,), and 2^-64 of one, uint64 (K,), rounded down; by class.
        """
        low, more = _before(self.low[order])
        parts, over = _before(self.high[order])
        for plus in (more, np.uint64(phase)):
            parts = parts + plus
            over += parts < plus
        wholes = self.wholes[order]
        whole = np.cumsum(wholes) - wholes + over
        close = np.flatnonzero(low > np.uint64((1 << 64) - 1 - order.size))
        if close.size:
            exact = list(accumulate((self.exact[c] for c in order.tolist()), initial=0))
            for k in close.tolist():
                at = (exact[k] << 64) // self.unit + phase
                whole[k], parts[k] = divmod(at, 1 << 64)
        begins, fractions = np.empty(order.size, np.int64), np.empty(order.size, np.uint64)
        begins[order], fractions[order] = whole.astype(np.int64), parts
        return begins, fractions


def shares_of(exact: Sequence[int], unit: int) -> Shares:
    """The shares exact[k] / unit, each below 2^63 draws."""
    wholes, rest = zip(*(divmod(s, unit) for s in exact), strict=True) if exact else ((), ())
    fine = [(r << 128) // unit for r in rest]
    return Shares(
        tuple(exact), unit, np.array(wholes, np.uint64),
        np.array([f >> 64 for f in fine], np.uint64),
        np.array([f & ((1 << 64) - 1) for f in fine], np.uint64),
    )  # fmt: skip


def _before(x: Uint64s) -> tuple[Uint64s, Uint64s]:
    """The sum of those before each, modulo 2^64, and how often 2^64 goes into it; below 2^32 of them."""
    a, b = np.cumsum(x & _LOW) - (x & _LOW), np.cumsum(x >> _HALF) - (x >> _HALF)
    b += a >> _HALF
    return (b << _HALF) | (a & _LOW), b >> _HALF
