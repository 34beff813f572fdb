"""EXPAND BY: the neighbours of rows, as positions in FROM."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from tql.engine.computed import Computed, Fetch, Int64s, blocks_of
from tql.engine.derived import DerivedSource
from tql.engine.grouping import table_of
from tql.language.plan import Windows
from tql.memory_size import within_budget
from tql.rowset import RowSet, from_ids
from tql.sources.protocol import Fragment, Source

_BYTES: Final = 32  # of a row while the rows are made


class Expanded(NamedTuple):
    """Runs of rows, each of them `starts[i]` … `stops[i]` - 1, one after the other."""

    starts: Int64s
    stops: Int64s
    universe: int

    @property
    def rows(self) -> RowSet:
        lengths = self.stops - self.starts
        before = np.cumsum(lengths) - lengths
        with within_budget(
            int(lengths.sum(dtype=np.float64)), _BYTES, "this EXPAND BY",
            "take smaller windows, fewer matches, or leave OVERLAP out",
        ):  # fmt: skip
            ids = np.arange(lengths.sum()) + np.repeat(self.starts - before, lengths)
            return from_ids(ids, self.universe)

    @property
    def windows(self) -> Int64s:
        """int64: the number of the run of each row."""
        return np.repeat(np.arange(len(self.starts)), self.stops - self.starts)


def expand(rows: RowSet, before: int, after: int, overlap: bool) -> Expanded:
    """The neighbours of `rows`, clipped at the ends of the universe.

    With `overlap` a run for each row; else runs that meet are one, and they ascend.
    """
    n = rows.universe
    matches = rows.to_numpy() if overlap or rows.ascending else rows.to_bitmap().to_numpy()
    starts = np.maximum(matches - min(before, n), 0)
    stops = np.minimum(matches + (min(after, n) + 1), n)
    if overlap:
        return Expanded(starts, stops, n)
    fresh = np.ones(len(matches), np.bool_)  # whether a run begins here
    fresh[1:] = starts[1:] > stops[:-1]
    last = np.ones(len(matches), np.bool_)
    last[:-1] = fresh[1:]
    return Expanded(starts[fresh], stops[last], n)


class WindowSource(Computed):
    """The rows of `inner`, which are runs of rows of FROM, with the number of the run as a column.

    windows  int64 (rows of inner,)
    """

    def __init__(self, inner: DerivedSource, leaf: Windows, windows: Int64s) -> None:
        self.inner = inner
        self.windows = windows
        self.name = leaf.name
        self.schema = leaf.schema
        self.stand_on(inner)

    @property
    def kind(self) -> str:
        return "windows"

    @property
    def rows(self) -> int:
        return self.inner.rows

    @property
    def fragments(self) -> Sequence[Fragment]:
        return blocks_of(self.rows)

    @property
    def fingerprint(self) -> str:
        digest = blake2b(f"{self.name} {self.inner.fingerprint}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.windows).data)
        return digest.hexdigest()

    @property
    def below(self) -> tuple[Source, ...]:
        return (self.inner,)

    @property
    def root(self) -> Source:
        return self.inner.root

    def identify(self, positions: Int64s) -> Int64s:
        """The rows of the data set that FROM names, at these positions."""
        return self.inner.identify(positions)

    def take(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns at these positions, in the order given."""
        others = [c for c in columns if c != self.name]
        table = self.inner.take(rows, others, fetch) if others else None
        arrays = [
            pa.array(self.windows[rows]) if c == self.name or table is None else table.column(c)
            for c in columns
        ]
        return table_of(self.schema.select(columns), arrays)
