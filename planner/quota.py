"""Draws by quota: how often each row comes in an epoch is settled first, then where it stands.

A quota is the number of draws that a weight is worth, a fraction as a rule. The rows of each class
of equal weights in each fragment are a cell. In an order drawn anew in each epoch, class after
class, cells lie end to end, as long as their quotas, and a draw begins at every whole number, less
an offset (systematic resampling: Madow 1949, Kitagawa 1996). So each cell and each class has its
quota rounded down or up: a row of quota 0.3 is in three epochs of ten. Within a cell no row comes
again before all have come as often, each time in another keyed order.

Rows with a weight each lie end to end themselves, fragment after fragment, in a keyed order within
each, so that a fragment has its quota rounded, and neighbours in a file are not tied together. That
order takes a pass over the rows in each epoch.

Strict draws take no row twice: a quota above 1 becomes 1, and what it was more goes to the other
rows in proportion to their weights.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.planner.bulk import over_blocks
from tql.planner.by_fragment import FragmentQuotas, QuotaOfFragments, fragment_quotas
from tql.planner.draw import RowTable, row_table, table_of
from tql.planner.placing import (
    ORDER_ROWS,
    PLACE_IN_CELLS,
    PLACE_IN_ROWS,
    first_draws,
    order_rows_twin,
    place_in_cells_twin,
    place_in_rows_twin,
    points_twin,
)
from tql.planner.rng import Int64s, Key, Uint64s, high_product_twin, philox_twin
from tql.planner.shares import Shares, shares_of
from tql.rowset import RowSet
from tql.weights import (
    AnyWeights,
    ClassWeights,
    FragmentWeights,
    RowWeights,
    class_masses,
    integer_weights,
)

MOST_DRAWS: Final = 1 << 31  # of an epoch, and
MOST_ROWS: Final = 1 << 32  # of a population: their product stays in 64 bits
MOST_CELLS: Final = 1 << 17  # an epoch sorts them, in some 20 ms; fragments beyond it are joined


@dataclass(frozen=True, slots=True, eq=False)
class QuotaOfCells:
    """The draws of one epoch: draws firsts[c] … firsts[c + 1] - 1 are rows of the cell that has
    `sizes[c]` slots from `starts[c]` on.

    firsts  int64 (C + 1,); starts, sizes  int64 (C,)
    """

    firsts: Int64s
    starts: Int64s
    sizes: Int64s
    key: Key

    def pays(self, count: int) -> bool:
        """Whether to use the kernel for `count` draws."""
        return PLACE_IN_CELLS.pays(1500.0 * count)

    def apply(self, draws: Int64s, fast: bool) -> None:
        """Replace each draw by the slot it takes."""
        place = PLACE_IN_CELLS if fast else place_in_cells_twin
        place(self.key.array(), self.firsts, self.starts, self.sizes, draws)

    def copies(self, draws: Int64s) -> Int64s:
        """How many draws before it took the same slot, int64 (n,)."""
        cell = np.searchsorted(self.firsts, draws, side="right") - 1
        return (draws - self.firsts[cell]) // self.sizes[cell]


@dataclass(frozen=True, slots=True, eq=False)
class QuotaOfRows:
    """The draws of one epoch: after `always`, draw d takes the place that covers the point
    ⌊(d x total + offset) / draws⌋ of the table, and the slot that stands there.

    always  int64 (A,) slots drawn once, first of all; only strict draws have them
    draws   how many are left for the table
    offset  0 ≤ offset < total
    bounds  int64 (F + 1,) slots at which fragments begin, and their number
    key     of the order of slots within fragments
    """

    always: Int64s
    table: RowTable
    draws: int
    offset: int
    bounds: Int64s
    key: Key

    def pays(self, count: int) -> bool:
        """Whether to use the kernel for `count` draws."""
        return PLACE_IN_ROWS.pays(1500.0 * count)

    def apply(self, draws: Int64s, fast: bool) -> None:
        """Replace each draw by the slot it takes."""
        place = PLACE_IN_ROWS if fast else place_in_rows_twin
        t = self.table
        parts = (t.upto, t.guide, t.shift, t.total, self.draws, self.offset, self.bounds)
        place(self.key.array(), self.always, *parts, draws)

    def copies(self, draws: Int64s) -> Int64s:
        """How many draws before it took the same slot, int64 (n,)."""
        found = np.zeros(draws.size, np.int64)
        late = np.flatnonzero(draws >= self.always.size)
        if late.size:
            d = draws[late] - self.always.size
            place = np.searchsorted(self.table.upto, self._points(d), side="right")
            before = np.where(place > 0, self.table.upto[place - 1], np.uint64(0))
            found[late] = d - self._first_from(before)
        return found

    def first_draws(self, slots: Int64s) -> Int64s:
        """The first draw after `always` of each place in the table, or of a later one."""
        before = self.table.upto[np.maximum(slots - 1, 0)]
        return self._first_from(np.where(slots > 0, before, np.uint64(0)))

    def _first_from(self, at: Uint64s) -> Int64s:
        return first_draws(at, self.table.total, self.draws, self.offset)

    def _points(self, d: Int64s) -> Uint64s:
        return points_twin(d, self.table.total, self.draws, self.offset)


Quota: TypeAlias = QuotaOfCells | QuotaOfRows | QuotaOfFragments


# -- once for a plan ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The rows of each class in each fragment, class after class; none is empty.

    starts, sizes, of, fragments  int64 (C,): first slot, rows, class and fragment of each cell
    edges  int64 (F + 1,) rows at which these fragments begin, and the end: where there would be more
           than `MOST_CELLS` cells, neighbouring ones are joined
    """

    starts: Int64s
    sizes: Int64s
    of: Int64s
    fragments: Int64s
    edges: Int64s


@dataclass(frozen=True, slots=True, eq=False)
class ClassQuotas:
    """What the classes are worth.

    cells  what the shares are told apart by
    """

    shares: Shares
    cells: Cells


@dataclass(frozen=True, slots=True, eq=False)
class RowQuotas:
    """`always`, int64 (A,), are drawn once each; the others by `units`, uint64 (n,), 0 for those.

    bounds  int64 (F + 1,) slots at which fragments begin, and their number
    """

    always: Int64s
    units: Uint64s
    bounds: Int64s


Quotas: TypeAlias = ClassQuotas | RowQuotas | FragmentQuotas


def quotas(
    weights: AnyWeights, population: RowSet, draws: int, replace: bool,
    edges: Int64s | None,
) -> Quotas:  # fmt: skip
    """What `draws` draws are worth; `edges` are the rows at which fragments begin, and the end."""
    match weights:
        case ClassWeights():
            return ClassQuotas(_shares(weights, draws, replace), cells(weights, edges))
        case RowWeights(values=values):
            inside = _by_fragment(population, edges)
            bounds = np.append(0, np.cumsum(inside[inside > 0]))
            if replace:
                return RowQuotas(np.empty(0, np.int64), _units(values), bounds)
            return RowQuotas(*_at_most_once(values, draws), bounds)
        case FragmentWeights():
            return fragment_quotas(weights)


def _shares(weights: ClassWeights, draws: int, replace: bool) -> Shares:
    """Exact quotas of the classes, as shares of a unit; strict ones are at most their rows."""
    masses = class_masses(weights)
    mass, left = sum(masses), draws
    capped: set[int] = set()
    if not replace:
        exact = integer_weights(weights.values)
        for c in sorted(range(len(exact)), key=lambda c: -exact[c]):
            if not exact[c] or exact[c] * left <= mass:
                break  # lighter classes are worth less than one draw a row, too
            capped.add(c)
            mass, left = mass - masses[c], left - len(weights.members[c])
    unit = mass or 1  # all that can be drawn is drawn
    return shares_of(
        [len(m) * unit if c in capped else left * masses[c] for c, m in enumerate(weights.members)],
        unit,
    )


def cells(weights: ClassWeights, edges: Int64s | None) -> Cells:
    """The cells of these classes; `edges` None is one fragment."""
    while True:
        inside = [_by_fragment(rows, edges) for rows in weights.members]
        held = [np.flatnonzero(rows) for rows in inside]
        if edges is None or edges.size <= 2 or sum(h.size for h in held) <= MOST_CELLS:
            break
        edges = np.append(edges[:-1:2], edges[-1])
    if edges is None:
        edges = np.array([0, weights.members[0].universe], np.int64)
    sizes = np.concatenate([rows[h] for rows, h in zip(inside, held, strict=True)])
    of = np.repeat(np.arange(len(held)), [h.size for h in held])
    return Cells(np.cumsum(sizes) - sizes, sizes, of, np.concatenate(held), edges)


def _by_fragment(rows: RowSet, edges: Int64s | None) -> Int64s:
    """How many rows each fragment has."""
    return np.array([len(rows)], np.int64) if edges is None else np.diff(rows.rank(edges))


def _units(values: NDArray[np.float64]) -> Uint64s:
    """The weights as integers of a sum just below 2^63."""
    upto = row_table(RowWeights(values)).upto[: values.size]
    return np.diff(upto, prepend=np.uint64(0))


def _at_most_once(values: NDArray[np.float64], draws: int) -> tuple[Int64s, Uint64s]:
    """The slots that are drawn for certain, and the units of the others."""
    rest = values.copy()
    positive = np.flatnonzero(rest > 0)
    if draws == positive.size:
        return positive, np.zeros(values.size, np.uint64)
    units, always, left = _units(rest), np.zeros(values.size, np.bool_), draws
    while left:
        before = left
        while (over := units > np.uint64(int(units.sum(dtype=np.uint64)) // left)).any():
            always |= over
            units[over] = 0
            left -= int(np.count_nonzero(over))
            if not left:
                break
        if left in (0, before):
            break
        # Without the heaviest rows, the others are told apart in units as fine as can be.
        rest[always] = 0
        units = _units(rest.copy())
    return np.flatnonzero(always), units


# -- for an epoch ---------------------------------------------------------------------------------


def quota(
    of: Quotas, draws: int, offset: Key, inside: Key, window: int = 0, passes: int = 1
) -> Quota:
    """The draws of the epoch that has these keys; some `window` of them are asked for together, in
    an order that puts copies of a row into up to `passes` passes.
    """
    phase = int(philox_twin(offset, np.zeros(1, np.int64))[0][0])
    match of:
        case ClassQuotas():
            numbers = philox_twin(offset, np.arange(1 + of.shares.wholes.size + of.cells.of.size))[
                0
            ]
            order, firsts = _laid_out(of, draws, numbers)
            return QuotaOfCells(firsts, of.cells.starts[order], of.cells.sizes[order], inside)
        case RowQuotas(always, units, bounds):
            table = table_of(_in_order(units, bounds, inside))
            left = draws - always.size
            return QuotaOfRows(always, table, left, (phase * table.total) >> 64, bounds, inside)
        case FragmentQuotas(total=total):
            return of.quota(draws, (phase * total) >> 64, inside, window, passes)


def _laid_out(of: ClassQuotas, draws: int, numbers: Uint64s) -> tuple[Int64s, Int64s]:
    """The cells in the order in which they lie, and the first draw of each, then their number."""
    classes = of.shares.wholes.size
    by_number = np.argsort(numbers[1 : 1 + classes], kind="stable")
    turn = np.empty(classes, np.int64)
    turn[by_number] = np.arange(classes)
    # Stable sorts: by the class's turn, then by number. One of 16 bits takes 1 ms for 100,000 cells,
    # where np.lexsort of both takes 35.
    by_chance = np.argsort(numbers[1 + classes :], kind="stable")
    its = turn[of.cells.of[by_chance]]
    order = by_chance[
        np.argsort(its.astype(np.uint16) if classes <= 1 << 16 else its, kind="stable")
    ]
    sizes, klass = of.cells.sizes[order], of.cells.of[order]
    begins, fractions = of.shares.begins(by_number, int(numbers[0]))
    wholes, parts = of.shares.wholes, of.shares.high
    rows = np.bincount(of.cells.of, of.cells.sizes, classes).astype(np.uint64)
    behind = np.cumsum(rows[by_number]) - rows[by_number]
    first_row = np.empty(classes, np.uint64)
    first_row[by_number] = behind
    # begin + (rank x share / unit + rows x fraction) / rows, in 64 bits: the whole part of the
    # share, then the rest of it to 2^-64.
    rank = (np.cumsum(sizes) - sizes).astype(np.uint64) - first_row[klass]
    n, part = rows[klass], parts[klass]
    at, over = np.divmod(rank * wholes[klass], n)
    low = fractions[klass] * n
    carry = (rank * part + low) < low
    over += high_product_twin(rank, part) + high_product_twin(fractions[klass], n) + carry
    firsts = np.append(begins[klass] + (at + over // n).astype(np.int64), draws)
    # A cell that begins within 2^-64 of where the next class does must not begin after it.
    return order, np.minimum.accumulate(firsts[::-1])[::-1].copy()


def _in_order(units: Uint64s, bounds: Int64s, key: Key) -> Uint64s:
    """The units of the slot that stands at each place."""
    fast = ORDER_ROWS.pays(600.0 * units.size)
    placed = np.empty_like(units)

    def work(start: int, stop: int) -> None:
        slots = np.arange(start, stop, dtype=np.int64)
        (ORDER_ROWS if fast else order_rows_twin)(key.array(), bounds, slots)
        placed[start:stop] = units[slots]

    over_blocks(work, units.size)
    return placed
