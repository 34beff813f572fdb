"""Draws by weights that are looked up fragment by fragment: memory for fragments, not for rows.

What is kept are exact sums of the fragments. Systematic draws over them give each fragment its quota
and say where within it its draws fall; which rows those are is found when the first of them is asked
for: the fragment's weights are read, put in the keyed order of the epoch, and added up. The draws are
those that weights held row by row give, bit for bit. What was found of a fragment is four bytes a
draw, and that of the fragments used last is kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import data_error
from tql.forks import ForkLock
from tql.planner import digest
from tql.planner.bulk import over_blocks
from tql.planner.placing import ORDER_ROWS, first_draws, order_rows_twin, points_twin
from tql.planner.rng import Int64s, Key, Uint64s
from tql.weights import FragmentWeights, check_values

Float64s: TypeAlias = NDArray[np.float64]
Uint32s: TypeAlias = NDArray[np.uint32]

_LEAST_KEPT: Final = 32 << 20  # bytes of opened fragments
_STRIPES: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class FragmentQuotas:
    """What the fragments are worth that have rows to draw from; H of them.

    fragments  int64 (H,); bounds  int64 (H + 1,) slots at which they begin, and their number
    upto       uint64 (H + 1,) running sum of what they weigh, from 0 on
    """

    weights: FragmentWeights
    fragments: Int64s
    bounds: Int64s
    upto: Uint64s

    @property
    def total(self) -> int:
        return int(self.upto[-1])

    def quota(
        self, draws: int, offset: int, key: Key, window: int, most: int
    ) -> "QuotaOfFragments":
        """The epoch of this offset, 0 ≤ offset < total, and this order within fragments.

        window, most  draws that are asked for again and again, each fragment's in one of so many
                      passes at most
        """
        firsts = np.append(first_draws(self.upto[:-1], self.total, draws, offset), draws)
        copies = -(-int(self.weights.heaviest.max()) * draws // self.total)
        alive = min(window * min(copies, most), draws)
        kept = _Opened(_LEAST_KEPT + 4 * alive)
        return QuotaOfFragments(self, draws, offset, firsts, key, kept)

    def slots(self, points: Uint64s) -> Int64s:
        """The slots whose weights, laid end to end, cover points below the total; int64 (n,)."""
        fragment = np.searchsorted(self.upto, points, side="right") - 1
        found = np.empty(points.size, np.int64)
        for h in np.unique(fragment).tolist():
            group = np.flatnonzero(fragment == h)
            upto = np.cumsum(_read(self.weights, int(self.fragments[h]))) + self.upto[h]
            found[group] = np.searchsorted(upto, points[group], side="right") + self.bounds[h]
        return found


def fragment_quotas(weights: FragmentWeights) -> FragmentQuotas:
    """The quotas of these weights."""
    held = np.flatnonzero(weights.counts)
    upto = np.append(np.uint64(0), np.cumsum(weights.sums[held], dtype=np.uint64))
    return FragmentQuotas(weights, held, np.append(0, np.cumsum(weights.counts[held])), upto)


@dataclass(frozen=True, slots=True, eq=False)
class QuotaOfFragments:
    """The draws of one epoch: firsts[h] … firsts[h + 1] - 1 are of the h-th fragment that has rows.

    Draw d takes the place that covers the point ⌊(d x total + offset) / draws⌋ of all weights, laid
    end to end, and the slot that stands there in the order of `key`.
    """

    of: FragmentQuotas
    draws: int
    offset: int
    firsts: Int64s
    key: Key
    kept: "_Opened"

    def pays(self, count: int) -> bool:
        """Draws are looked up, without a kernel."""
        return False

    def apply(self, draws: Int64s, fast: bool) -> None:
        """Replace each draw by the slot it takes."""
        for h, group in self._by_fragment(draws):
            draws[group] = self._opened(h)[draws[group] - self.firsts[h]] + self.of.bounds[h]

    def copies(self, draws: Int64s) -> Int64s:
        """How many draws before it took the same slot, int64 (n,)."""
        found = np.empty(draws.size, np.int64)
        for h, group in self._by_fragment(draws):
            slots = self._opened(h)
            begins = np.flatnonzero(np.append(True, slots[1:] != slots[:-1]))
            inside = draws[group] - self.firsts[h]
            found[group] = inside - begins[np.searchsorted(begins, inside, side="right") - 1]
        return found

    def _by_fragment(self, draws: Int64s) -> Iterator[tuple[int, Int64s]]:
        """Each fragment that has some of the draws, and where those stand."""
        fragment = np.searchsorted(self.firsts, draws, side="right") - 1
        order = np.argsort(fragment, kind="stable")
        present, begins = np.unique(fragment[order], return_index=True)
        yield from zip(present.tolist(), np.split(order, begins[1:]), strict=True)

    def _opened(self, h: int) -> Uint32s:
        return self.kept.get(h, lambda: self._open(h))

    def _open(self, h: int) -> Uint32s:
        """What each draw of a fragment takes, uint32 (its draws,): a slot less the first one."""
        begin, end = int(self.of.bounds[h]), int(self.of.bounds[h + 1])
        units = _read(self.of.weights, int(self.of.fragments[h]))
        slots = np.arange(begin, end)
        order = ORDER_ROWS if ORDER_ROWS.pays(600.0 * slots.size) else order_rows_twin
        order(self.key.array(), self.of.bounds, slots)
        slots -= begin
        draws = np.arange(self.firsts[h], self.firsts[h + 1])
        points = points_twin(draws, self.of.total, self.draws, self.offset) - self.of.upto[h]
        places = np.searchsorted(np.cumsum(units[slots]), points, side="right")
        opened: Uint32s = slots[places].astype(np.uint32)
        return opened


def _read(weights: FragmentWeights, fragment: int) -> Uint64s:
    """The units of a fragment, checked: other weights than those added up would draw other rows."""
    units, rows = weights.units(fragment), int(weights.counts[fragment])
    due = int(weights.sums[fragment])
    if units.dtype != np.uint64 or units.shape != (rows,):
        raise data_error(
            "value",
            f"the weights of fragment {fragment} are {units.dtype} of shape {units.shape}; "
            f"expected uint64 of shape ({rows},)",
            help="open the data set again and make the plan from it",
        )
    if int(units.sum(dtype=np.uint64)) != due:
        raise data_error(
            "value",
            f"the weights of fragment {fragment} add up to {int(units.sum(dtype=np.uint64))}; "
            f"they were {due} when the plan was made",
            help="the data has changed: make the plan again",
        )
    return units


class _Opened:
    """What was found of the fragments used last, up to a number of bytes; for many threads."""

    __slots__ = ("_bytes", "_found", "_lock", "_most", "_opening")

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._lock: Final = ForkLock()
        self._opening: Final = tuple(ForkLock() for _ in range(_STRIPES))
        self._found: Final[OrderedDict[int, Uint32s]] = OrderedDict()
        self._bytes = 0

    def get(self, fragment: int, make: Callable[[], Uint32s]) -> Uint32s:
        """What `make` gives for the fragment; threads that want the same one wait for the first."""
        found = self._kept(fragment)
        if found is not None:
            return found
        with self._opening[fragment % _STRIPES]:
            found = self._kept(fragment)
            if found is None:
                found = make()
                self._keep(fragment, found)
            return found

    def _kept(self, fragment: int) -> Uint32s | None:
        with self._lock:
            if fragment in self._found:
                self._found.move_to_end(fragment)
            return self._found.get(fragment)

    def _keep(self, fragment: int, found: Uint32s) -> None:
        with self._lock:
            self._found[fragment] = found
            self._bytes += found.nbytes
            while self._bytes > self._most and len(self._found) > 1:
                self._bytes -= self._found.popitem(last=False)[1].nbytes


# -- from numbers ---------------------------------------------------------------------------------


def fragment_weights(values: Callable[[int], Float64s], counts: Int64s) -> FragmentWeights:
    """Weights of which `values(f)` are those of the `counts[f]` rows of fragment f, float64.

    Reads every fragment twice: how fine units may be depends on all of them. A positive weight keeps
    an absolute error below 2^-60 of the total and counts at least one unit. `values` is asked again
    whenever a plan needs the fragment, by several threads at once, and must give the same.
    """
    rough: list[tuple[int, int]] = [(0, 0)] * counts.size

    def estimate(first: int, end: int) -> None:
        for f in range(first, end):
            rough[f] = _rough(values(f), f, int(counts[f]))

    over_blocks(estimate, counts.size, block=1)
    finest = max((power for _, power in rough), default=0)
    most = sum(units << (finest - power) for units, power in rough)
    power = finest + 62 - most.bit_length()
    scaled = _Scaled(values, power)
    sums, heaviest = np.zeros(counts.size, np.uint64), np.zeros(counts.size, np.uint64)
    digests = [""] * counts.size

    def add_up(first: int, end: int) -> None:
        for f in range(first, end):
            units = scaled(f)
            sums[f], heaviest[f] = units.sum(dtype=np.uint64), units.max(initial=0)
            digests[f] = digest.of_array(units)

    over_blocks(add_up, counts.size, block=1)
    return FragmentWeights(counts, sums, heaviest, scaled, digest.of_json({"units": digests}))


@dataclass(frozen=True, slots=True)
class _Scaled:
    """Weights as integers: times 2^power, rounded down; a positive one is at least 1."""

    values: Callable[[int], Float64s]
    power: int

    def __call__(self, fragment: int) -> Uint64s:
        v = self.values(fragment)
        units = np.ldexp(v, self.power).astype(np.uint64)
        units[(v > 0) & (units == 0)] = 1
        return units


def _rough(v: Float64s, fragment: int, rows: int) -> tuple[int, int]:
    """The sum of a fragment's weights times 2^power, at most one too high a row, and the power."""
    if v.dtype != np.float64 or v.shape != (rows,):
        raise data_error(
            "value",
            f"the weights of fragment {fragment} are {v.dtype} of shape {v.shape}; "
            f"expected float64 of shape ({rows},)",
            help="give one weight for each row of the population",
        )
    check_values(v, lambda row: f"row {row} of fragment {fragment}")
    _, exponent = np.frexp(v.max(initial=0.0))
    power = 62 - int(exponent) - rows.bit_length()
    return int(np.ldexp(v, power).astype(np.uint64).sum(dtype=np.uint64)) + rows, power
