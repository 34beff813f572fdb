"""Columns of stored sources that the blocks of a scan over a join take rows from, in any order.

Without this, each block would read and decode the same fragments of the files again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from tql.engine.computed import Fetch, Int64s
from tql.forks import ForkLock
from tql.sources.gathering import gather, widened
from tql.sources.protocol import Source

_LARGEST: Final = 1 << 30  # bytes of the columns of one source that are kept


@dataclass(slots=True)
class _Kept:
    """Whole columns for the blocks that are `left` to be read."""

    left: int
    tables: dict[int, pa.Table] = field(default_factory=dict)
    lock: ForkLock = field(default_factory=ForkLock)

    def fetch(self, source: Source, rows: Int64s, columns: Sequence[str]) -> pa.Table:
        if not _worth_keeping(source, columns):
            return gather(source, rows, columns)
        with self.lock:
            table = self.tables.get(id(source))
            if table is None:
                table = widened(gather(source, np.arange(source.rows), columns).combine_chunks())
            for name in columns:
                if name not in table.column_names:
                    more = widened(gather(source, np.arange(source.rows), [name]).combine_chunks())
                    table = table.append_column(more.schema.field(name), more.column(name))
            self.tables[id(source)] = table
        return table.select(list(columns)).take(pa.array(rows))


class WholeColumns:
    """What is kept for the blocks of one source; each set of columns goes when all have been read."""

    def __init__(self, blocks: int) -> None:
        self._blocks: Final = blocks
        self._lock: Final = ForkLock()
        self._kept: Final[dict[tuple[str, ...], _Kept]] = {}

    def __reduce__(self) -> tuple[type["WholeColumns"], tuple[int]]:
        return WholeColumns, (self._blocks,)

    def fetch_for(self, columns: Sequence[str]) -> Fetch | None:
        """How a block that is read for these columns gets them; None where nothing is to be saved."""
        if self._blocks < 2:
            return None
        with self._lock:
            return self._kept.setdefault(tuple(columns), _Kept(self._blocks)).fetch

    def done(self, columns: Sequence[str]) -> None:
        """A block has been read for these columns."""
        with self._lock:
            kept = self._kept.get(tuple(columns))
            if kept is not None:
                kept.left -= 1
                if kept.left == 0:
                    del self._kept[tuple(columns)]


def _worth_keeping(source: Source, columns: Sequence[str]) -> bool:
    """Whether the columns must be decoded, and are known to be of moderate size."""
    total = 0
    for f in source.fragments:
        if f.in_place:
            return False
        for name in columns:
            stats = f.columns.get(name)
            if stats is None or stats.bytes is None:
                return False
            total += stats.bytes
    return total <= _LARGEST
