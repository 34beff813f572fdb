"""Somebody's data in the order of a plan, by position: for readers that bring no order of their own.

It has what Grain calls a RandomAccessDataSource, what a stock torch DataLoader calls a map-style data
set, and `__getitems__`, which both use for a batch.
"""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, SupportsIndex

import numpy as np

from tql.diagnostics import error
from tql.planner.arguments import count, whole
from tql.planner.rng import Int64s

_BLOCK: Final = 1024  # rows found at once, for readers that ask for one item after another


class ByRow(Protocol):
    """Data that is asked by row number."""

    def __getitem__(self, row: int, /) -> Any: ...


class Placed(Protocol):
    """What is needed of a plan."""

    def __len__(self) -> int: ...

    def at(self, positions: Int64s, *, epoch: int = 0) -> Int64s: ...


class PlannedSource:
    """Item i is the row of `data` that stands at position i of epoch `epoch`, and on into later ones.

    data    anything that gives item `row` for the plan's row ids; its `__getitems__`, where it has
            one, is asked for several at once
    epochs  how many epochs lie end to end; item i is of epoch `epoch` + i // len(plan)

    It can be pickled if `data` can, so worker processes may have it.
    """

    def __init__(self, plan: Placed, data: ByRow, epoch: int = 0, epochs: int = 1) -> None:
        self.plan: Final = plan
        self.data: Final = data
        self.first: Final = count("epoch", epoch)
        self.epochs: Final = whole("epochs", epochs)
        if self.epochs < 1:
            raise error("value", f"{epochs} epochs", help="give 1 or more")
        self._block: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return len(self.plan) * self.epochs

    def __repr__(self) -> str:
        return f"<PlannedSource {self.plan!r} of {type(self.data).__name__}>"

    def __getitem__(self, i: SupportsIndex) -> Any:
        at = self._checked(i)
        number, rows = self._block  # one look: threads may change it meanwhile
        if at // _BLOCK != number:
            number = at // _BLOCK
            rows = self.rows(
                np.arange(number * _BLOCK, min((number + 1) * _BLOCK, len(self)))
            ).tolist()
            self._block = (number, rows)
        return self.data[rows[at - number * _BLOCK]]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[Any]:
        """The items at these indices, in their order."""
        rows = self.rows(np.array([self._checked(i) for i in indices], np.int64)).tolist()
        together = getattr(self.data, "__getitems__", None)
        return [self.data[row] for row in rows] if together is None else list(together(rows))

    def rows(self, items: Int64s) -> Int64s:
        """The row ids of items, int64 (n,) → int64 (n,)."""
        epochs, positions = np.divmod(items, max(1, len(self.plan)))
        out = np.empty_like(items)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            out[here] = self.plan.at(positions[here], epoch=self.first + epoch)
        return out

    def _checked(self, i: SupportsIndex) -> int:
        at, n = operator.index(i), len(self)
        if not -n <= at < n:
            # IndexError is what Python's own iteration and the readers expect of a sequence
            raise IndexError(f"item {at} of {n}")
        return at % n
