"""Rows by number: what the loader asks of data, and the cache that answers from fragments."""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tql.schema import Schema
from tql.sources.gathering import gather
from tql.sources.protocol import Run, Source, in_turn

RowIds = npt.NDArray[np.int64]


class Rows(Protocol):
    """Rows to load, by number. Implementations are immutable to the eye and thread-safe."""

    @property
    def kind(self) -> str:
        """One word for messages: memory, parquet, …"""
        ...

    @property
    def schema(self) -> Schema:
        """The columns that `take` can give."""
        ...

    def take(self, rows: RowIds, columns: Sequence[str], run: Run = in_turn) -> pa.Table:
        """These columns of these rows (int64, any order, repeats allowed), in the order given.

        What has to wait for storage is given to `run`.
        """
        ...

    def identify(self, rows: RowIds) -> RowIds:
        """The numbers that users know these rows by: what `index` and messages show."""
        ...

    def origin(self, row: int) -> str:
        """Where a row is stored, for people: file and group, as far as that is known."""
        ...

    def in_order(self, start: int, stop: int) -> RowIds:
        """Of the rows there are, in the order of the source, those from `start` to `stop`.

        int64; fewer, down to none, where `stop` is beyond the last.
        """
        ...

    def release(self) -> None:
        """Let go of what is kept to answer faster; reading goes on to work."""
        ...


class FragmentRows:
    """The rows of a source; fragments already read are kept, up to `memory_bytes` of them.

    The one read last is kept however large it is. A fragment that several threads want is read
    once, and the others wait for it. What is kept is forgotten in a forked child and when this
    object is pickled. Fragments that lie in memory anyway are not kept.
    """

    def __init__(self, source: Source, memory_bytes: int = 1 << 30) -> None:
        self.source: Final = source
        self.memory_bytes: Final = memory_bytes
        self._cache = _Cache(memory_bytes)

    def __reduce__(self) -> tuple[type["FragmentRows"], tuple[Source, int]]:
        return FragmentRows, (self.source, self.memory_bytes)

    @property
    def kind(self) -> str:
        return self.source.kind

    @property
    def schema(self) -> Schema:
        return self.source.schema

    def take(self, rows: RowIds, columns: Sequence[str], run: Run = in_turn) -> pa.Table:
        """Each fragment that holds one of `rows` is read, or found in the cache, exactly once."""
        return gather(self.source, rows, columns, self._fragment, run)

    def identify(self, rows: RowIds) -> RowIds:
        """The same numbers: the rows of a source are known by their place in it."""
        return rows

    def origin(self, row: int) -> str:
        """The fragment that holds the row."""
        fragments = self.source.fragments
        return fragments[bisect_right(fragments, row, key=lambda f: f.start) - 1].origin

    def in_order(self, start: int, stop: int) -> RowIds:
        """Row numbers as they are."""
        return np.arange(start, min(stop, self.source.rows), dtype=np.int64)

    def release(self) -> None:
        """Forget the fragments that are kept."""
        self._cache = _Cache(self.memory_bytes)

    def _fragment(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        if self.source.fragments[fragment].in_place:
            return self.source.read(fragment, columns)
        if self._cache.pid != os.getpid():  # a lock or a read in flight may not survive a fork
            self._cache = _Cache(self.memory_bytes)
        return self._cache.get(fragment, tuple(columns), self.source)


class _Cache:
    """Fragments by (number, columns), least recently used out first."""

    def __init__(self, memory_bytes: int) -> None:
        self.pid: Final = os.getpid()
        self._budget: Final = memory_bytes
        self._lock: Final = threading.Lock()
        self._reads: Final[dict[Any, Future[pa.Table]]] = {}
        self._kept: Final[OrderedDict[Any, pa.Table]] = OrderedDict()
        self._bytes = 0

    def get(self, fragment: int, names: tuple[str, ...], source: Source) -> pa.Table:
        key = (fragment, names)
        with self._lock:
            table = self._kept.get(key)
            if table is not None:
                self._kept.move_to_end(key)
                return table
            reading, mine = self._reads.get(key), False
            if reading is None:
                reading, mine = Future(), True
                self._reads[key] = reading
        if not mine:
            return reading.result()
        try:
            table = _one_chunk(source.read(fragment, names))
        except BaseException as e:
            with self._lock:
                del self._reads[key]
            reading.set_exception(e)
            raise
        with self._lock:
            del self._reads[key]
            self._keep(key, table)
        reading.set_result(table)
        return table

    def _keep(self, key: Any, table: pa.Table) -> None:
        self._kept[key] = table
        self._bytes += table.nbytes
        while self._bytes > self._budget and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.nbytes


def _one_chunk(table: pa.Table) -> pa.Table:
    """Taking rows from a column of many chunks would join the chunks again each time."""
    if all(column.num_chunks <= 1 for column in table.columns):
        return table
    return table.combine_chunks()
