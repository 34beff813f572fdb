"""How many draws a group of rows expects, from how many rows it has of each weight."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]


def shared(masses: Sequence[int], size: int) -> list[float]:
    """`size` draws in proportion to exact masses."""
    total = sum(masses)
    return [float(Fraction(size * mass, total)) for mass in masses]


def at_most_once(
    counts: Int64s, weights: Float64s, size: int, known: bool, independent: bool
) -> tuple[list[float], bool]:
    """Draws of each group when no row is drawn twice, and whether that is approximate.

    counts       int64 (G, K), rows of each group that have each weight
    weights      float64, broadcast to (G, K); `known` unless rows of about this weight are meant
    independent  drawn one after another in proportion to weights; else by quota

    Exact where all weights in use are equal, or all rows with one are drawn; by quota, wherever the
    weights are known.
    """
    positive = np.where(weights > 0, counts, 0)
    each = positive.sum(axis=1).tolist()
    if size >= sum(each):
        return [float(n) for n in each], False
    used = np.broadcast_to(weights, positive.shape)[positive > 0]
    if used.min() == used.max():
        return shared(each, size), False
    of_row = _rung if independent else _due
    rate = _rate(positive, weights, size, of_row)
    return (positive * of_row(weights * rate)).sum(axis=1).tolist(), independent or not known


def _rung(x: Float64s) -> Float64s:
    """Drawing without replacement in proportion to weights takes the rows in the order of
    exponential clocks: the share of those of rate x that have rung at time 1.
    """
    rung: Float64s = -np.expm1(-x)
    return rung


def _due(x: Float64s) -> Float64s:
    """A quota of x, of which a row gets 1 at most."""
    return np.minimum(x, 1.0)


def _rate(
    counts: Int64s, weights: Float64s, size: int, of_row: Callable[[Float64s], Float64s]
) -> float:
    """The rate at which `size` rows in the mean are drawn: Σ counts·of_row(weight·rate) = size."""
    scaled = weights / weights.max()

    def drawn(rate: float) -> float:
        return float((counts * of_row(scaled * rate)).sum())

    high = 1.0
    while drawn(high) < size and high < 1e300:
        high *= 2.0
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if drawn(middle) < size else (low, middle)
    return high / float(weights.max())
