"""How the loader reads a view: rows below it through a fragment cache, then its columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tql.engine.derived import DerivedSource, root_of
from tql.loader import FragmentRows
from tql.schema import Schema


class ViewRows:
    """Rows of a view by their number in the source directly below it; thread-safe."""

    def __init__(self, view: DerivedSource, memory_bytes: int) -> None:
        self.view = view
        self._below = FragmentRows(root_of(view), memory_bytes)

    @property
    def kind(self) -> str:
        return self._below.kind

    @property
    def schema(self) -> Schema:
        return self.view.schema

    def take(self, rows: NDArray[np.int64], columns: Sequence[str]) -> Any:
        """These columns for these rows (int64, any order), in the order given."""
        return self.view.project(rows, columns, self._below.take)

    def identify(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Their row numbers in the root data set."""
        return self.view.identify(rows)

    def in_order(self, start: int, stop: int) -> NDArray[np.int64]:
        """Of the rows that the view has, each once, in the order of the source below it."""
        rows = self.view.selected
        ascending = rows if rows.ascending else rows.to_bitmap()
        return ascending.select(np.arange(start, min(stop, len(ascending)), dtype=np.int64))

    def release(self) -> None:
        """Forget the fragments that are kept."""
        self._below.release()
