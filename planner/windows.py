"""Orders in windows: positions that are near each other draw from few fragments.

The draws of an epoch stand on a line, fragment by fragment (`line.py`). The line is cut into lanes of
equal length, by draws and through fragments, and a lane into windows. Position t is place t div C of
lane t mod C; within its window it is permuted, so that a window is a random order of the draws of a
few fragments, which are all that has to be in memory. A piece of the line that belongs to one pass
over one fragment and that the edge of a window cuts is put in a keyed order first: either part is a
fair sample of it, however large fragments are.

The order depends on no world size: who gets which positions is the stream's affair.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tql.diagnostics import error
from tql.jit import kernel
from tql.planner.arguments import whole
from tql.planner.line import DrawLine
from tql.planner.placing import last_from, within, within_twin
from tql.planner.rng import Int64s, Key, Uint64s, philox, philox_twin

MOST_LANES: Final = 1 << 16
MOST_PASSES: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class Windows:
    """How an order keeps to few fragments at a time.

    length      draws of a window; the last of a lane is shorter
    lanes       equal cuts of the line of draws; the first len % lanes of them have one draw more
    max_passes  copies of a row are in as many different passes over the data as they can, at most
                this many
    """

    length: int
    lanes: int = 1
    max_passes: int = 8

    def __post_init__(self) -> None:
        for name, most in (("length", 1 << 62), ("lanes", MOST_LANES), ("max_passes", MOST_PASSES)):
            value = whole(f"windows: {name}", getattr(self, name))
            if not 1 <= value <= most:
                raise error("value", f"windows with {name} {value}",
                            help=f"give {name} from 1 to {most}")  # fmt: skip
            object.__setattr__(self, name, value)  # a NumPy number becomes Python's

    def as_json(self) -> dict[str, int]:
        """What the fingerprint and plan files say of them."""
        return {"length": self.length, "lanes": self.lanes, "max_passes": self.max_passes}


@dataclass(frozen=True, slots=True, eq=False)
class InWindows:
    """Which draw stands at which position of one epoch.

    length  draws of a window, at most those of the longest lane
    """

    line: DrawLine
    lanes: int
    length: int
    window_key: Key
    unit_key: Key

    def pays(self, count: int) -> bool:
        """Whether to use the kernel for `count` positions."""
        return PLACE_IN_WINDOWS.pays(2000.0 * count)

    def apply(self, positions: Int64s, fast: bool) -> None:
        """Replace each position by the draw that stands there."""
        place = PLACE_IN_WINDOWS if fast else place_in_windows_twin
        at, of = self.line, (self.window_key.array(), self.unit_key.array())
        cuts = (at.draws, self.lanes, self.length)
        place(*of, *cuts, at.begins, at.heads, at.firsts, at.starts, at.strides, positions)


def in_windows(line: DrawLine, windows: Windows, window_key: Key, unit_key: Key) -> InWindows:
    """The order of the epoch whose draws lie on `line`."""
    length = max(1, min(windows.length, -(-line.draws // windows.lanes)))
    return InWindows(line, windows.lanes, length, window_key, unit_key)


# -- NumPy ----------------------------------------------------------------------------------------


def place_in_windows_twin(
    window_key: Uint64s, unit_key: Uint64s, draws: int, lanes: int, length: int, begins: Int64s,
    heads: Int64s, firsts: Int64s, starts: Int64s, strides: Int64s, positions: Int64s,
) -> None:  # fmt: skip
    """What `PLACE_IN_WINDOWS` does."""
    base, longer = divmod(draws, lanes)
    at, lane = np.divmod(positions, lanes)
    lane_begin = lane * base + np.minimum(lane, longer)
    lane_end = lane_begin + base + (lane < longer)
    window, inside = np.divmod(at, length)
    begin = lane_begin + window * length
    end = np.minimum(begin + length, lane_end)
    a, b = philox_twin(_key(window_key), lane * -(-(base + 1) // length) + window)
    place = begin + within_twin(inside, end - begin, a, b)
    unit = np.searchsorted(begins, place, side="right") - 1
    first, size = begins[unit], begins[unit + 1] - begins[unit]
    cut = np.flatnonzero((first < begin) | (first + size > end))
    a, b = philox_twin(_key(unit_key), unit[cut])
    place[cut] = first[cut] + within_twin(place[cut] - first[cut], size[cut], a, b)
    segment = np.searchsorted(firsts, place, side="right") - 1
    positions[:] = starts[segment] + (place - firsts[segment]) * strides[segment]


def _key(key: Uint64s) -> Key:
    return Key(int(key[0]) | int(key[1]) << 32, int(key[2]))


# -- kernels --------------------------------------------------------------------------------------


@kernel("u64[], u64[], i64, i64, i64, i64[], i64[], i64[], i64[], i64[], i64[]")
def PLACE_IN_WINDOWS(
    window_key: Uint64s, unit_key: Uint64s, draws: int, lanes: int, length: int, begins: Int64s,
    heads: Int64s, firsts: Int64s, starts: Int64s, strides: Int64s, positions: Int64s,
) -> None:  # fmt: skip
    """Each position becomes the draw that stands there."""
    base = draws // lanes
    longer = draws - base * lanes
    per_lane = base // length + 1  # ⌈(base + 1) / length⌉
    number = np.int64(-1)
    a: Any = np.uint64(0)
    b: Any = np.uint64(0)
    for i in range(positions.size):
        at = positions[i] // lanes
        lane = positions[i] - at * lanes
        lane_begin = lane * base + min(lane, longer)
        lane_end = lane_begin + base + np.int64(lane < longer)
        window = at // length
        begin = lane_begin + window * length
        end = min(begin + length, lane_end)
        if lane * per_lane + window != number:  # with one lane, neighbours share a window
            number = lane * per_lane + window
            a, b = philox(np.uint64(number), window_key[2], window_key[0], window_key[1])
        inside = np.uint64(at - window * length)
        place = begin + np.int64(within(inside, np.uint64(end - begin), a, b))
        unit = last_from(begins, place)
        first = begins[unit]
        size = begins[unit + 1] - first
        if first < begin or first + size > end:
            c, d = philox(np.uint64(unit), unit_key[2], unit_key[0], unit_key[1])
            place = first + np.int64(within(np.uint64(place - first), np.uint64(size), c, d))
        low = heads[unit]
        high = heads[unit + 1]
        while high - low > 1:
            middle = (low + high) >> 1
            if firsts[middle] <= place:
                low = middle
            else:
                high = middle
        positions[i] = starts[low] + (place - firsts[low]) * strides[low]
