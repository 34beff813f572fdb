"""Positions of an epoch that are passed over, and the numbers of those that are not.

Positions keep their numbers, so that states and tools mean the same rows with and without. What a
stream cuts into batches is the row of positions that are left.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tql.diagnostics import error
from tql.planner.rng import Int64s

Skip: TypeAlias = tuple[int, range]  # of this epoch, these positions


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """The positions of an epoch that are left: runs of neighbours.

    begins  int64 (k,), the first position of each run, ascending
    firsts  int64 (k + 1,), how many positions are left before each run; last: in all
    """

    begins: Int64s
    firsts: Int64s

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def number(self, position: int) -> int:
        """How many positions before this one are left."""
        run = bisect_right(self.begins, position) - 1
        if run < 0:
            return 0
        first, begin = int(self.firsts[run]), int(self.begins[run])
        return min(first + position - begin, int(self.firsts[run + 1]))

    def positions(self, numbers: Int64s) -> Int64s:
        """The positions with these numbers, each from 0 to len - 1; int64 (n,) → int64 (n,)."""
        run = np.searchsorted(self.firsts, numbers, side="right") - 1
        found: Int64s = self.begins[run] + (numbers - self.firsts[run])
        return found


def left(length: int, skipped: Iterable[range]) -> Left:
    """What is left of an epoch of `length` positions without those of the ranges."""
    begins, ends, at = [], [], 0
    for gap in sorted(skipped, key=lambda r: r.start):
        if gap.start > at:
            begins.append(at)
            ends.append(gap.start)
        at = max(at, gap.stop)
    if at < length:
        begins.append(at)
        ends.append(length)
    sizes = np.array(ends, np.int64) - np.array(begins, np.int64)
    return Left(
        np.array(begins, np.int64), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    )


def checked_range(positions: Any) -> range:
    """A range of positions that a user gave."""
    if not isinstance(positions, range) or positions.step != 1:
        raise error("type", f"positions to skip are {positions!r}; expected a range with step 1",
                    help="for example .skip(range(1_000, 2_000)); several calls skip several")  # fmt: skip
    if positions.start < 0 or positions.stop < positions.start:
        raise error("value", f"positions to skip are {positions!r}",
                    help="positions run from 0 to the length of an epoch, the first one first")  # fmt: skip
    return positions
