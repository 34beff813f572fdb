"""Independent draws: which slot of the population each position draws.

A slot numbers the population in the planner's own layout: class after class for class weights, in
the order of the population for row weights. Every draw takes one Philox counter, its position, so
any of them can be asked for alone.

Class weights: one 64-bit number chooses the class against K - 1 thresholds that are exact integers
(⌈2^64 x mass before / all mass⌉, in Python integers), the other one the row inside the class by the
upper half of a product. Row weights: weights as integers of a total just below 2^63, their running
sum, and a guide table that leads a number to within some 3 entries of its row. (An alias table
would save a cache miss a draw, but costs a serial build of twice the time, and its entries say
nothing about a range of rows, which windows will need.) No floating-point sum is ever taken.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.jit import kernel
from tql.planner.rng import (
    Int64s,
    Key,
    Uint64s,
    high_product,
    high_product_twin,
    philox,
    philox_twin,
)
from tql.weights import ClassWeights, RowWeights, class_masses

Uint32s: TypeAlias = NDArray[np.uint32]
Float64s: TypeAlias = NDArray[np.float64]

MOST_ROWS: Final = (1 << 32) - 1  # rows with weights of their own; more are served by windows


@dataclass(frozen=True, slots=True, eq=False)
class ClassTable:
    """What draws by class need; classes without mass are left out.

    thresholds  uint64 (K - 1,): a number below thresholds[c] is of a class up to c
    sizes       uint64 (K,) rows of each class
    starts      int64 (K,) first slot of each class
    """

    thresholds: Uint64s
    sizes: Uint64s
    starts: Int64s

    def pays(self, count: int) -> bool:
        """Whether to use the kernel for `count` draws."""
        return DRAW_BY_CLASS.pays(220.0 * count)

    def apply(self, key: Key, positions: Int64s, fast: bool) -> None:
        """Replace each position by the slot it draws."""
        if fast:
            scratch = np.empty(4096, np.uint64)
            table = (self.thresholds, self.sizes, self.starts)
            DRAW_BY_CLASS(key.array(), *table, scratch, positions)
        else:
            draw_by_class_twin(key, self, positions)


@dataclass(frozen=True, slots=True, eq=False)
class RowTable:
    """What draws by row need.

    upto   uint64 (n + 4,) running sum of the integer weights; four times 2^64 - 1 at the end, so
           that four entries can be compared from any row on
    guide  uint32 (G + 1,): guide[j] is the first row whose sum exceeds j << shift; at the end, n - 1
    total  the sum of all
    """

    upto: Uint64s
    guide: Uint32s
    shift: int
    total: int

    @property
    def nbytes(self) -> int:
        return self.upto.nbytes + self.guide.nbytes

    def pays(self, count: int) -> bool:
        """Whether to use the kernel for `count` draws."""
        return DRAW_BY_ROW.pays(400.0 * count)

    def apply(self, key: Key, positions: Int64s, fast: bool) -> None:
        """Replace each position by the slot it draws."""
        if fast:
            scratch = np.empty(1024, np.uint64)
            table = (self.upto, self.guide, self.shift, self.total)
            DRAW_BY_ROW(key.array(), *table, scratch, positions)
        else:
            draw_by_row_twin(key, self, positions)

    def find(self, points: Int64s, fast: bool) -> None:
        """Replace each point, 0 ≤ p < total, by the row that covers it."""
        if fast:
            FIND_ROW(self.upto, self.guide, self.shift, points)
        else:
            points[:] = np.searchsorted(self.upto, points.astype(np.uint64), side="right")


DrawTable: TypeAlias = ClassTable | RowTable


def class_table(weights: ClassWeights) -> ClassTable:
    """The thresholds of `weights`, from exact masses."""
    masses = class_masses(weights)
    lengths = [len(m) for m in weights.members]
    first = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))])
    live = [c for c, mass in enumerate(masses) if mass]
    total, before, thresholds = sum(masses), 0, []
    for c in live[:-1]:
        before += masses[c]
        # A last class of less than 2^-64 would need the threshold 2^64: it gets one number.
        thresholds.append(min(-(-(before << 64) // total), (1 << 64) - 1))
    return ClassTable(
        np.array(thresholds, np.uint64),
        np.array([lengths[c] for c in live], np.uint64),
        first[live],
    )


def row_table(weights: RowWeights) -> RowTable:
    """The running sum of `weights` in fixed point, and its guide.

    A weight keeps an absolute error below 2^-62 of the total, and a positive one counts at least
    that much; so the draws differ from exact ones by less than n x 2^-62 in total variation.
    """
    v = weights.values
    down, up = _power_near(62, v)
    rough = np.zeros(1, np.uint64)
    if SUM_UNITS.pays(3.0 * v.size):
        SUM_UNITS(v, down, up, rough)
    else:
        rough[0] = _units_twin(v, down, up).sum(dtype=np.uint64)
    # The exact integer sum says how far to scale up: the same on every machine.
    up_more = 2.0 ** (62 - int(int(rough[0]) + v.size).bit_length())
    upto = np.empty(v.size + 4, np.uint64)
    sums = upto[: v.size]
    upto[v.size :] = _MOST
    fast = RUNNING_SUM.pays(6.0 * v.size)
    if fast:
        RUNNING_SUM(v, down, up, up_more, sums)
    else:
        running_sum_twin(v, down, up, up_more, sums)
    return _guided(upto)


def table_of(units: Uint64s) -> RowTable:
    """The running sum of weights that are integers already, of a sum below 2^63, and its guide."""
    upto = np.full(units.size + 4, _MOST, np.uint64)
    np.cumsum(units, out=upto[: units.size])
    return _guided(upto)


def _guided(upto: Uint64s) -> RowTable:
    sums = upto[:-4]
    total = int(sums[-1])
    if not total:  # nothing is left to draw
        return RowTable(upto, np.zeros(2, np.uint32), 0, 0)
    # One entry for every two rows or so.
    shift = max(0, (total - 1).bit_length() - max(0, sums.size.bit_length() - 2))
    guide = np.empty(((total - 1) >> shift) + 2, np.uint32)
    if GUIDE.pays(6.0 * sums.size):
        GUIDE(sums, shift, guide)
    else:
        guide_twin(sums, shift, guide)
    return RowTable(upto, guide, shift, total)


def _power_near(bits: int, v: Float64s) -> tuple[float, float]:
    """Two powers of two that scale the weights, one after the other, to a sum below 2^bits.

    Two, because the one they make up may be beyond what a float holds.
    """
    _, e = np.frexp(v.max())
    power = bits - int(e) - v.size.bit_length()
    first = max(-1000, min(1000, power))
    return 2.0**first, 2.0 ** (power - first)


# -- NumPy ----------------------------------------------------------------------------------------


def draw_by_class_twin(key: Key, table: ClassTable, positions: Int64s) -> None:
    """What `DRAW_BY_CLASS` does."""
    a, b = philox_twin(key, positions)
    c = np.searchsorted(table.thresholds, a, side="right")
    inside = high_product_twin(b, table.sizes[c])
    positions[:] = table.starts[c] + inside.astype(np.int64)


def draw_by_row_twin(key: Key, table: RowTable, positions: Int64s) -> None:
    """What `DRAW_BY_ROW` does."""
    a, _ = philox_twin(key, positions)
    u = high_product_twin(a, np.full(a.size, table.total, np.uint64))
    positions[:] = np.searchsorted(table.upto, u, side="right")


def _units_twin(v: Float64s, down: float, up: float) -> Uint64s:
    scaled = (v * down) * up
    return scaled.astype(np.uint64)


def running_sum_twin(v: Float64s, down: float, up: float, up_more: float, upto: Uint64s) -> None:
    """What `RUNNING_SUM` does."""
    units = (((v * down) * up) * up_more).astype(np.uint64)
    units[(v > 0) & (units == 0)] = 1
    np.cumsum(units, out=upto)


def guide_twin(upto: Uint64s, shift: int, guide: Uint32s) -> None:
    """What `GUIDE` does."""
    edges = np.arange(guide.size - 1, dtype=np.uint64) << np.uint64(shift)
    guide[:-1] = np.searchsorted(upto, edges, side="right")
    guide[-1] = upto.size - 1


# -- kernels --------------------------------------------------------------------------------------

_MOST: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_TWO: Final = np.uint64(2)
_THREE: Final = np.uint64(3)


@kernel("u64[], u64[], u64[], i64[], u64[], i64[]")
def DRAW_BY_CLASS(
    key: Uint64s,
    thresholds: Uint64s,
    sizes: Uint64s,
    starts: Int64s,
    scratch: Uint64s,
    positions: Int64s,
) -> None:
    """Each position becomes the slot it draws; `scratch` is uint64 (4096,)."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    # Stage by stage over 1,024 draws, so that each inner loop is vectorised.
    for base in range(0, positions.size, 1024):
        n = min(1024, positions.size - base)
        for i in range(n):
            x, y = philox(np.uint64(positions[base + i]), high, k0, k1)
            scratch[i] = x
            scratch[1024 + i] = y
        if thresholds.size <= 8:
            for i in range(n):
                scratch[2048 + i] = sizes[0]
                scratch[3072 + i] = np.uint64(starts[0])
            for k in range(thresholds.size):
                edge = thresholds[k]
                size = sizes[k + 1]
                start = np.uint64(starts[k + 1])
                for i in range(n):
                    above = scratch[i] >= edge
                    scratch[2048 + i] = size if above else scratch[2048 + i]
                    scratch[3072 + i] = start if above else scratch[3072 + i]
        else:
            for i in range(n):
                c = 0
                end = thresholds.size
                while c < end:
                    middle = (c + end) >> 1
                    if scratch[i] >= thresholds[middle]:
                        c = middle + 1
                    else:
                        end = middle
                scratch[2048 + i] = sizes[c]
                scratch[3072 + i] = np.uint64(starts[c])
        for i in range(n):
            inside = high_product(scratch[1024 + i], scratch[2048 + i])
            positions[base + i] = np.int64(scratch[3072 + i] + inside)


@kernel("u64[], u64[], u32[], i64, u64, u64[], i64[]")
def DRAW_BY_ROW(
    key: Uint64s,
    upto: Uint64s,
    guide: Uint32s,
    shift: int,
    total: int,
    scratch: Uint64s,
    positions: Int64s,
) -> None:
    """Each position becomes the slot it draws; `scratch` is uint64 (1024,) or more."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    down = np.uint64(shift)
    for base in range(0, positions.size, 1024):
        n = min(1024, positions.size - base)
        for i in range(n):
            x, _ = philox(np.uint64(positions[base + i]), high, k0, k1)
            scratch[i] = high_product(x, total)
        # Stages without a branch on what was read, so that many cache misses are under way at
        # once: where to look, then four entries compared together. Few draws need a fifth.
        for i in range(n):
            positions[base + i] = guide[scratch[i] >> down]
        unfinished = np.int64(0)
        for i in range(n):
            u = scratch[i]
            first = np.uint64(positions[base + i])
            seen = np.int64(upto[first] <= u) + np.int64(upto[first + _ONE] <= u)
            seen += np.int64(upto[first + _TWO] <= u)
            fourth = np.int64(upto[first + _THREE] <= u)
            positions[base + i] += seen + fourth
            unfinished += fourth
        if unfinished > 0:
            for i in range(n):
                while upto[np.uint64(positions[base + i])] <= scratch[i]:
                    positions[base + i] += 1


@kernel("u64[], u32[], i64, i64[]")
def FIND_ROW(upto: Uint64s, guide: Uint32s, shift: int, points: Int64s) -> None:
    """Each point becomes the row that covers it."""
    down = np.uint64(shift)
    for i in range(points.size):
        point = np.uint64(points[i])
        row = np.uint64(guide[point >> down])
        while upto[row] <= point:
            row += _ONE
        points[i] = np.int64(row)


@kernel("f64[], f64, f64, u64[]")
def SUM_UNITS(v: Float64s, down: float, up: float, out: Uint64s) -> None:
    """out[0] = the sum of the weights as integers, rounded down."""
    total = _ZERO
    for i in range(v.size):
        total += np.uint64((v[i] * down) * up)
    out[0] = total


@kernel("f64[], f64, f64, f64, u64[]")
def RUNNING_SUM(v: Float64s, down: float, up: float, up_more: float, upto: Uint64s) -> None:
    """The running sum of the weights as integers; a positive weight is at least 1."""
    total = _ZERO
    for i in range(v.size):
        unit = np.uint64(((v[i] * down) * up) * up_more)
        if unit == _ZERO and v[i] > 0.0:
            unit = _ONE
        total += unit
        upto[i] = total


@kernel("u64[], i64, u32[]")
def GUIDE(upto: Uint64s, shift: int, guide: Uint32s) -> None:
    """guide[j] = the first row whose running sum exceeds j << shift."""
    up = np.uint64(shift)
    j = 0
    last = guide.size - 1
    for i in range(upto.size):
        while j < last and (np.uint64(j) << up) < upto[i]:
            guide[j] = i
            j += 1
    guide[last] = upto.size - 1
