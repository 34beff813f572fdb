"""The positions of a step in the order of their lanes, so that a rank reads as few lanes as can be.

Position t is in lane t mod C. Ranks take equal blocks of a step's positions in this order: when the
world size divides the lanes and the lanes divide the step, rank r of W has exactly the lanes from
r C / W on, C / W of them; otherwise two ranks share a lane here and there, as they do in the last step of an epoch where that is
short. Which positions make up a step does not depend on it.
"""

import numpy as np

from tql.planner.rng import Int64s


def by_lane(begin: Int64s, size: Int64s, place: Int64s, lanes: int) -> Int64s:
    """The position at each place among begin … begin + size - 1, lane after lane, 0 ≤ place < size.

    All arrays int64 (n,). Within a lane positions ascend.
    """
    each, longer = np.divmod(size, lanes)  # some lanes have one more: a ring from `first` on
    first = begin % lanes
    over = np.maximum(first + longer - lanes, 0)
    # Zones of lanes of one length: [0, a) and [b, lanes) are alike, [a, b) is the other kind.
    wrapped = over > 0
    a = np.where(wrapped, over, first)
    b = np.where(wrapped, first, first + longer)
    outer, inner = each + wrapped, each + ~wrapped
    at_a = a * outer
    at_b = at_a + (b - a) * inner
    zone = (place >= at_a).astype(np.int64) + (place >= at_b)
    begun = np.choose(zone, [np.zeros_like(a), a, b])
    inside = place - np.choose(zone, [np.zeros_like(a), at_a, at_b])
    lane, turn = np.divmod(inside, np.maximum(np.where(zone == 1, inner, outer), 1))
    lane += begun
    positions: Int64s = begin + (lane - first) % lanes + turn * lanes
    return positions
