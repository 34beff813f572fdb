"""The line on which the draws of an epoch stand, fragment by fragment, for orders in windows.

A segment is a run of draws of one fragment; what the sampler would do with them it still does. A unit
is what one pass over a fragment reads: its segments lie side by side.

Units are dealt. In the order of the data they are cut into strata, as many as units are alive at a
time in all lanes, and each stratum is put in a keyed order. A round takes one unit of each stratum,
lane l those strata that are l, less the number of the round, modulo the lanes. Every round of a lane
takes its strata in the same order, spread evenly over the data, so any stretch of a lane as long as a
window has a unit of each, wherever it begins. On sorted data that halves what random windows add to
the variance of batches.

The line costs a few numbers a segment and epoch; nothing is kept per row.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np

from tql.planner.placing import ORDER_ROWS, order_rows_twin
from tql.planner.rng import Int64s, Key, philox_twin
from tql.planner.runs import Runs


@dataclass(frozen=True, slots=True, eq=False)
class DrawLine:
    """The draws of an epoch in the order in which fragments are read; S segments in U units.

    firsts    int64 (S + 1,) place at which each segment begins, then the number of draws
    starts    int64 (S,) the draw at its first place; strides  int64 (S,) from each to the next
    classes   int64 (S,) class of equal weights, 0 where there are none
    unit      int64 (S,) number of the unit, ascending
    heads     int64 (U + 1,) first segment of each unit, then S
    begins    int64 (U + 1,) place at which each unit begins, then the number of draws
    fragment  int64 (U,) of `edges`; pass_  int64 (U,), from 0
    edges     int64 (F + 1,) rows at which fragments begin, and the number of rows; where there were
              too many cells, fragments that share one are one
    """

    firsts: Int64s
    starts: Int64s
    strides: Int64s
    classes: Int64s
    unit: Int64s
    heads: Int64s
    begins: Int64s
    fragment: Int64s
    pass_: Int64s
    edges: Int64s

    @property
    def draws(self) -> int:
        return int(self.firsts[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, the edges left out."""
        segments = self.firsts.nbytes + 4 * self.unit.nbytes
        return segments + 2 * self.heads.nbytes + 2 * self.fragment.nbytes


def draw_line(runs: Runs, length: int, lanes: int, key: Key) -> DrawLine:
    """The runs as units, dealt for windows of `length` draws in each of `lanes` lanes."""
    held = np.flatnonzero(runs.counts)
    passes = int(runs.passes.max(initial=0)) + 1
    of = runs.fragments[held] * passes + runs.passes[held]
    by_unit = np.argsort(of, kind="stable")
    held, of = held[by_unit], of[by_unit]
    heads = np.flatnonzero(np.diff(of, prepend=-1))  # of each unit, in the order of the data
    sizes = np.diff(heads, append=held.size)
    units, draws = heads.size, int(runs.counts.sum())
    alive = (2 * length * units + draws) // (2 * draws) if draws else 1
    dealt = _dealt(units, lanes, max(1, min(alive, -(-units // lanes))), key)
    sizes = sizes[dealt]
    new_heads = np.append(0, np.cumsum(sizes))
    at = held[np.repeat(heads[dealt] - new_heads[:-1], sizes) + np.arange(held.size)]
    firsts = np.append(0, np.cumsum(runs.counts[at]))
    first = at[new_heads[:-1]]
    return DrawLine(
        firsts,
        runs.starts[at],
        runs.strides[at],
        runs.classes[at],
        np.repeat(np.arange(units), sizes),
        new_heads,
        firsts[new_heads],
        runs.fragments[first],
        runs.passes[first],
        runs.edges,
    )


def _dealt(units: int, lanes: int, alive: int, key: Key) -> Int64s:
    """The unit, 0 … units - 1 in the order of the data, that stands at each place of the line."""
    if not units:
        return np.empty(0, np.int64)
    strata = min(alive * lanes, units)
    bounds = np.arange(strata + 1) * units // strata
    sizes = np.diff(bounds)
    of_lane = -(-strata // lanes)
    # Strata of a lane in steps of the golden ratio: any stretch of them is spread over the data.
    step = of_lane * 2654435769 >> 32
    while gcd(step, of_lane) != 1:
        step += 1
    numbers = [int(n) for n in philox_twin(key, np.array([-1, -2]))[0]]
    shift, start = numbers[0] * lanes >> 64, numbers[1] * of_lane >> 64
    turn = (np.arange(of_lane) * step + start) % of_lane
    lane = np.arange(lanes)[:, None, None]
    rounds = np.arange(int(sizes.max()))[:, None]
    stratum = turn * lanes + (lane - rounds + shift) % lanes
    there = stratum < strata
    there &= rounds < sizes[np.minimum(stratum, strata - 1)]
    places = (bounds[np.minimum(stratum, strata - 1)] + rounds)[there]
    order = ORDER_ROWS if ORDER_ROWS.pays(600.0 * units) else order_rows_twin
    order(key.array(), bounds, places)
    return places
