"""Rows by number: what the loader asks of data, and the cache that answers from fragments."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tql.loader.fragments import Io, Reading, Store
from tql.loader.schedule import Course
from tql.schema import Schema
from tql.sources.gathering import Piece, gather_with
from tql.sources.protocol import Run, Source, in_turn, is_local

RowIds = npt.NDArray[np.int64]


class Following(Protocol):
    """Rows of the batches of a pass, whose plan is known."""

    def take(self, step: int, rows: RowIds, columns: Sequence[str], run: Run) -> pa.Table:
        """`Rows.take` for rows of the batch `step`."""
        ...

    def finish(self, step: int) -> None:
        """Nothing more is taken for this batch; to be said once of each, whatever became of it."""
        ...

    def close(self) -> None:
        """The pass is over."""
        ...


class Unplanned:
    """A pass over rows that are not read in fragments of known order."""

    def __init__(self, rows: "Rows") -> None:
        self._rows: Final = rows

    def take(self, step: int, rows: RowIds, columns: Sequence[str], run: Run) -> pa.Table:
        """As `Rows.take`."""
        return self._rows.take(rows, columns, run)

    def finish(self, step: int) -> None:
        """Nothing is kept for a batch."""

    def close(self) -> None:
        """Nothing is kept for a pass."""


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

    @property
    def local(self) -> bool:
        """Whether all of it is on this machine: reading takes processors rather than time."""
        ...

    def follow(self, course: Course, io: Io) -> Following:
        """Read for a pass: what its batches need, ahead of them."""
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

    A pass that `follow` gives keeps what it needs next, and reads it ahead; `take` alone keeps what
    was used last. A fragment that several threads want is read once, and the others wait for it. The
    one read last is kept however large it is. What is kept is forgotten in a forked child and when
    this object is pickled. Fragments that lie in memory anyway are not kept.
    """

    def __init__(self, source: Source, memory_bytes: int = 1 << 30) -> None:
        self.source: Final = source
        self.memory_bytes: Final = memory_bytes
        self._kept = Store(source, memory_bytes)

    def __reduce__(self) -> tuple[type["FragmentRows"], tuple[Source, int]]:
        return FragmentRows, (self.source, self.memory_bytes)

    @property
    def kind(self) -> str:
        return self.source.kind

    @property
    def schema(self) -> Schema:
        return self.source.schema

    @property
    def local(self) -> bool:
        """As the source says."""
        return is_local(self.source)

    def take(self, rows: RowIds, columns: Sequence[str], run: Run = in_turn) -> pa.Table:
        """Each fragment that holds one of `rows` is read, or found in the cache, exactly once."""
        packed = self._store.packed.take(rows, columns)
        if packed is not None:
            return packed

        def each(fragments: Sequence[int], names: Sequence[str], piece: Piece) -> list[pa.Table]:
            piece = self._store.packed.watched(fragments, names, piece)
            return self._store.get_each(fragments, names, piece, run)

        return gather_with(self.source, rows, columns, each, run, self._store.get)

    def follow(self, course: Course, io: Io) -> Reading:
        """The fragments of a pass, see `Reading`."""
        return Reading(self._store, course, io)

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
        self._kept = Store(self.source, self.memory_bytes)

    @property
    def _store(self) -> Store:
        if self._kept.pid != os.getpid():  # a lock or a read in flight may not survive a fork
            self.release()
        return self._kept
