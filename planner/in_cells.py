"""Independent draws in windows: how many of them each cell has is counted, then each picks its row.

D draws made one by one and then put in the order of their cells are the same draws. So an epoch first
makes them all, keeps only how many fall into each cell (a class in a fragment; a fragment, where rows
have weights of their own), and lays the cells end to end; each draw of a cell picks a row of it by a
random number of its own. Rows have the same distribution as without windows, draws still know
nothing of each other, and any of them is found without the others. Counting takes a pass over the
draws in each epoch and the memory of a number a cell.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tql.forks import ForkLock
from tql.jit import kernel
from tql.planner.bulk import over_blocks
from tql.planner.draw import ClassTable, DrawTable, RowTable
from tql.planner.placing import last_from
from tql.planner.quota import cells
from tql.planner.rng import (
    Int64s,
    Key,
    Uint64s,
    high_product,
    high_product_twin,
    philox,
    philox_twin,
)
from tql.planner.runs import Runs, in_passes
from tql.rowset import RowSet
from tql.weights import ClassWeights, RowWeights

_COUNTED: Final = 1 << 19  # draws counted at a time, 4 MB a thread


@dataclass(frozen=True, slots=True, eq=False)
class DrawsInCells:
    """The draws of one epoch: firsts[c] … firsts[c + 1] - 1 are independent draws of cell c.

    firsts  int64 (C + 1,); bases, masses  uint64 (C,): a draw takes the point ⌊u x mass⌋ from the
            base on; a point is a slot, and with `rows` a place in their running sum
    runs    where the draws of each fragment lie
    key     of the numbers u, one for each draw
    """

    firsts: Int64s
    bases: Uint64s
    masses: Uint64s
    rows: RowTable | None
    runs: Runs
    key: Key

    def pays(self, count: int) -> bool:
        """Whether to use the kernels for `count` draws."""
        return DRAW_IN_CELLS.pays(400.0 * count)

    def apply(self, draws: Int64s, fast: bool) -> None:
        """Replace each draw by the slot it takes."""
        draw = DRAW_IN_CELLS if fast else draw_in_cells_twin
        draw(self.key.array(), self.firsts, self.bases, self.masses, draws)
        if self.rows is not None:
            self.rows.find(draws, fast)


def draws_in_cells(
    weights: ClassWeights | RowWeights, table: DrawTable, population: RowSet, edges: Int64s,
    draws: int, most: int, counting: Key, inside: Key,
) -> DrawsInCells:  # fmt: skip
    """The epoch that has these keys; a cell's draws are in at most `most` passes."""
    match weights, table:
        case ClassWeights(), ClassTable():
            found = cells(weights, edges)
            starts, sizes, of, fragments = found.starts, found.sizes, found.of, found.fragments
            edges, rows = found.edges, None
            bases, masses = starts.astype(np.uint64), sizes.astype(np.uint64)
        case RowWeights(), RowTable():
            ends = population.rank(edges)
            fragments = np.flatnonzero(np.diff(ends))
            starts, sizes, of = ends[fragments], np.diff(ends)[fragments], np.zeros_like(fragments)
            rows = table
            upto = np.append(np.uint64(0), table.upto[: len(weights)])
            bases, masses = upto[starts], upto[starts + sizes] - upto[starts]
        case _:
            raise AssertionError("a table of other weights")
    counts = _counted(table, counting, starts, draws)
    firsts = np.append(0, np.cumsum(counts))
    runs = in_passes(fragments, of, firsts[:-1], counts, sizes, most, edges)
    return DrawsInCells(firsts, bases, masses, rows, runs, inside)


def _counted(table: DrawTable, key: Key, starts: Int64s, draws: int) -> Int64s:
    """How many of the draws fall into the cells that begin at the slots `starts`."""
    counts, lock = np.zeros(starts.size, np.int64), ForkLock()
    fast = table.pays(draws)

    def work(start: int, stop: int) -> None:
        slots = np.arange(start, stop, dtype=np.int64)
        table.apply(key, slots, fast)
        slots.sort()  # then each cell is looked up once, not each draw
        found = np.diff(np.searchsorted(slots, starts), append=slots.size)
        with lock:
            np.add(counts, found, out=counts)

    over_blocks(work, draws, _COUNTED)
    return counts


def draw_in_cells_twin(
    key: Uint64s, firsts: Int64s, bases: Uint64s, masses: Uint64s, draws: Int64s
) -> None:
    """What `DRAW_IN_CELLS` does."""
    cell = np.searchsorted(firsts, draws, side="right") - 1
    a, _ = philox_twin(Key(int(key[0]) | int(key[1]) << 32, int(key[2])), draws)
    draws[:] = (bases[cell] + high_product_twin(a, masses[cell])).astype(np.int64)


@kernel("u64[], i64[], u64[], u64[], i64[]")
def DRAW_IN_CELLS(
    key: Uint64s, firsts: Int64s, bases: Uint64s, masses: Uint64s, draws: Int64s
) -> None:
    """Each draw becomes the point it takes."""
    k0 = key[0]
    k1 = key[1]
    high = key[2]
    for i in range(draws.size):
        cell = last_from(firsts, draws[i])
        a: Any
        a, _ = philox(np.uint64(draws[i]), high, k0, k1)
        draws[i] = np.int64(bases[cell] + high_product(a, masses[cell]))
