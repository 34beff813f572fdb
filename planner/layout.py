"""From slots to rows: the population laid out class after class, never copied while idle."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tql.bits import Words, popcount
from tql.jit import kernel
from tql.planner.bulk import over_blocks
from tql.planner.rng import Int64s
from tql.rowset import Bitmap, Ids, Range, RowSet

_SELECT_COSTS: Final = 20  # finding one row in a bitmap costs as much as expanding so many
_LARGEST_TABLE: Final = 1 << 28  # rows: 1 GiB of uint32 while a bulk request runs


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Row sets one after another; a slot is a place in that sequence.

    starts  int64 (K + 1,) first slot of each set, then the number of slots
    """

    parts: tuple[RowSet, ...]
    starts: Int64s

    def __len__(self) -> int:
        return int(self.starts[-1])

    def mapper(self, count: int) -> Callable[[Int64s], None]:
        """What replaces slots by rows in place, for a request of `count` slots in all."""
        if len(self.parts) == 1:
            match self.parts[0]:
                case Range(start=start):
                    return lambda slots: _shift(start, slots)
                case Ids(ids=ids):
                    return lambda slots: _take(ids, slots)
                case Bitmap():
                    pass
        small = self.parts[0].universe <= 1 << 32 and len(self) <= _LARGEST_TABLE
        if small and count * _SELECT_COSTS >= len(self) and GATHER.pays(400.0 * count):
            table = self._table()
            return lambda slots: GATHER(table, slots)
        return self._look_up

    def _table(self) -> NDArray[np.uint32]:
        """Every row of the layout, uint32 (n,): it lives as long as one bulk request."""
        table = np.empty(len(self), np.uint32)
        jobs: list[tuple[RowSet, int, int, int]] = []
        for part, start in zip(self.parts, self.starts[:-1].tolist(), strict=True):
            match part:
                case Bitmap(ranks=ranks):
                    for block in range(0, len(ranks) - 1, 512):
                        stop = min(block + 512, len(ranks) - 1)
                        jobs.append((part, start + int(ranks[block]), block, stop))
                case _:
                    jobs.append((part, start, 0, 0))

        def work(first: int, last: int) -> None:
            for part, at, block, stop in jobs[first:last]:
                match part:
                    case Bitmap(words=words, ranks=ranks):
                        members = int(ranks[stop] - ranks[block])
                        piece = words[block * 32 : stop * 32]
                        EXPAND_NARROW(piece, block * 2048, table[at : at + members])
                    case _:
                        table[at : at + len(part)] = part.to_numpy()

        over_blocks(work, len(jobs), block=max(1, len(jobs) // 64))
        return table

    def _look_up(self, slots: Int64s) -> None:
        """Set by set, those slots that lie in it."""
        if len(self.parts) == 1:
            slots[:] = self.parts[0].select(slots)
            return
        part = np.searchsorted(self.starts, slots, side="right") - 1
        order = np.argsort(part, kind="stable")
        present, begins = np.unique(part[order], return_index=True)
        groups = np.split(order, begins[1:])
        for p, group in zip(present.tolist(), groups, strict=True):
            slots[group] = self.parts[p].select(slots[group] - self.starts[p])


def layout(parts: tuple[RowSet, ...]) -> Layout:
    """The row sets one after another."""
    assert parts
    return Layout(parts, np.concatenate([[0], np.cumsum([len(p) for p in parts], dtype=np.int64)]))


def _shift(start: int, slots: Int64s) -> None:
    slots += start


def _take(ids: Int64s, slots: Int64s) -> None:
    slots[:] = ids[slots]


# -- kernels --------------------------------------------------------------------------------------

_ONE: Final = np.uint64(1)
_ZERO: Final = np.uint64(0)


@kernel("u32[], i64[]")
def GATHER(table: NDArray[np.uint32], slots: Int64s) -> None:
    """Each slot becomes what the table holds there."""
    for i in range(slots.size):
        slots[i] = table[np.uint64(slots[i])]


@kernel("u64[], i64, u32[]")
def EXPAND_NARROW(words: Words, base: int, out: NDArray[np.uint32]) -> None:
    """The rows of the bits set in `words`, ascending; bit 0 of the first word is row `base`."""
    j = 0
    for w in range(words.size):
        x = words[w]
        row = base + w * 64
        while x != _ZERO:
            out[j] = row + np.int64(popcount((x - _ONE) & ~x))
            x &= x - _ONE
            j += 1
