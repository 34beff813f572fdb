"""How the loader reads a view: rows below it through fragment caches, then its columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tql.engine.computed import identify, stored_below
from tql.engine.derived import DerivedSource
from tql.loader import FragmentRows
from tql.loader.fragments import Io
from tql.loader.rows import Following, Unplanned
from tql.loader.schedule import Course
from tql.schema import Schema
from tql.sources.protocol import Run, Source, in_turn


class ViewRows:
    """Rows of a view by their number in the source directly below it; thread-safe.

    The caches of several stored sources share `memory_bytes` in equal parts.
    """

    def __init__(self, view: DerivedSource, memory_bytes: int) -> None:
        self.view = view
        stored = stored_below(view)
        self._below = [FragmentRows(s, memory_bytes // len(stored)) for s in stored]

    @property
    def kind(self) -> str:
        return " and ".join(dict.fromkeys(b.kind for b in self._below))

    @property
    def schema(self) -> Schema:
        return self.view.schema

    @property
    def local(self) -> bool:
        """Whether all stored rows are."""
        return all(below.local for below in self._below)

    def take(self, rows: NDArray[np.int64], columns: Sequence[str], run: Run = in_turn) -> Any:
        """These columns for these rows (int64, any order), in the order given."""

        def fetch(source: Source, below: NDArray[np.int64], names: Sequence[str]) -> Any:
            stored = next(b for b in self._below if b.source is source)
            return stored.take(below, names, run)

        return self.view.project(rows, columns, fetch)

    def follow(self, course: Course, io: Io) -> Following:
        """Ahead of the batches where the view is over stored rows; else the order below is not known."""
        below = self._below[0]
        if below.source is not self.view.parent:
            return Unplanned(self)
        return _Followed(self.view, below.follow(course, io))

    def identify(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Their row numbers in the root data set."""
        return identify(self.view.parent, rows)

    def origin(self, row: int) -> str:
        """The fragment that holds the row, where the view is over stored rows; else their kind."""
        below = self._below[0]
        return below.origin(row) if below.source is self.view.parent else self.kind

    def in_order(self, start: int, stop: int) -> NDArray[np.int64]:
        """Of the rows that the view has, each once, in the order of the source below it."""
        rows = self.view.selected
        ascending = rows if rows.ascending else rows.to_bitmap()
        return ascending.select(np.arange(start, min(stop, len(ascending)), dtype=np.int64))

    def release(self) -> None:
        """Forget the fragments that are kept."""
        for below in self._below:
            below.release()


class _Followed:
    """A pass over the rows of a view whose rows are stored."""

    def __init__(self, view: DerivedSource, stored: Following) -> None:
        self._view = view
        self._stored = stored
        self.finish = stored.finish
        self.close = stored.close

    def take(self, step: int, rows: NDArray[np.int64], columns: Sequence[str], run: Run) -> Any:
        """The columns of rows of the batch `step`."""

        def fetch(source: Source, below: NDArray[np.int64], names: Sequence[str]) -> Any:
            return self._stored.take(step, below, names, run)

        return self._view.project(rows, columns, fetch)
