"""What is known of a column in many stretches of rows, side by side, so that it is asked at once."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tql.sources.protocol import ColumnStats


@dataclass(frozen=True, slots=True)
class ColumnBounds:
    """The `ColumnStats` of n stretches of rows.

    low, high   object (n,): Python numbers or texts, so that they compare exactly with any number;
                where `known` is false they are of the column's type and mean nothing
    known       bool (n,)
    nulls       int64 (n,), -1 where they were not counted
    """

    low: NDArray[np.object_]
    high: NDArray[np.object_]
    known: NDArray[np.bool_]
    nulls: NDArray[np.int64]


class Bounded(ABC):
    """A source that has the statistics of all its fragments side by side."""

    @abstractmethod
    def bounds(self, name: str) -> ColumnBounds:
        """Of the column `name`, for each fragment in order."""


def side_by_side(stats: Sequence[ColumnStats]) -> ColumnBounds:
    """The statistics of one column in n stretches, as arrays."""
    low, high = _objects([s.low for s in stats]), _objects([s.high for s in stats])
    known = np.array([s.low is not None and s.high is not None for s in stats], np.bool_)
    if known.any():
        at = int(np.argmax(known))
        low[~known], high[~known] = low[at], high[at]
    nulls = np.array([-1 if s.nulls is None else s.nulls for s in stats], np.int64)
    return ColumnBounds(low, high, known, nulls)


def _objects(values: list[Any]) -> NDArray[np.object_]:
    found = np.empty(len(values), np.object_)
    found[:] = values
    return found
