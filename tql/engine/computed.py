"""Sources made of other sources: queries over data, groups of rows, joins.

They give rows by number themselves, and read no more of what lies below than those rows need.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.diagnostics import error
from tql.schema import Schema
from tql.sources.gathering import gather
from tql.sources.protocol import Fragment, Source
from tql.stack import make_room

Int64s: TypeAlias = NDArray[np.int64]
FRAGMENT_ROWS = 1 << 20

# (stored source, its rows, columns) -> their table; a caller that caches fragments hands one in.
Fetch: TypeAlias = Callable[[Source, Int64s, Sequence[str]], pa.Table]


MOST_DEEP: Final = 250
"""Computed sources between one and stored data: a read goes through all of them, a few calls each."""


class Computed(ABC):
    """What such sources share. `generation` counts the queries between one and stored data, `depth`
    the computed sources, itself included.
    """

    schema: Schema
    generation: int
    depth: int

    def stand_on(self, *below: Source) -> None:
        """Note what lies below. Raises an unsupported error where that is too much to read through."""
        self.generation = max(map(generation, below))
        self.depth = 1 + max(s.depth if isinstance(s, Computed) else 0 for s in below)
        if self.depth > MOST_DEEP:
            raise error(
                "unsupported", f"this would be {self.depth} views on top of each other; "
                f"at most {MOST_DEEP} are read through",
                help="write one of them to a file, for example with "
                "pyarrow.parquet.write_table(view.to_arrow(), path), and go on with tql.open(path)",
            )  # fmt: skip
        make_room(self.depth)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        make_room(self.depth)  # in the process that it came to

    @property
    @abstractmethod
    def kind(self) -> str: ...

    @property
    @abstractmethod
    def rows(self) -> int: ...

    @property
    @abstractmethod
    def fragments(self) -> Sequence[Fragment]: ...

    @property
    @abstractmethod
    def fingerprint(self) -> str: ...

    @property
    @abstractmethod
    def below(self) -> tuple[Source, ...]:
        """The sources it is made of."""

    @abstractmethod
    def take(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns at these positions of this source, in the order given, with repeats."""

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        """The columns of one block of rows."""
        f = self.fragments[fragment]
        return self.take(np.arange(f.start, f.stop), columns)

    @property
    def root(self) -> Source:
        """The source whose rows users number these rows by: itself, where it makes new rows."""
        return self

    def identify(self, positions: Int64s) -> Int64s:
        """The rows of `root` that stand at these positions."""
        return positions


def take(
    source: Source, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None
) -> pa.Table:
    """Rows of any source in the order given, with repeats."""
    if isinstance(source, Computed):
        return source.take(rows, columns, fetch)
    return gather(source, rows, columns) if fetch is None else fetch(source, rows, columns)


def root_of(source: Source) -> Source:
    """The source whose row numbers name the rows of `source`."""
    return source.root if isinstance(source, Computed) else source


def identify(source: Source, positions: Int64s) -> Int64s:
    """The rows of the root that stand at these positions of `source`."""
    return source.identify(positions) if isinstance(source, Computed) else positions


def row_name(source: Source, position: int) -> int:
    """The row of the root data set that stands at this position of `source`."""
    return int(identify(source, np.array([position]))[0])


def stored_below(source: Source) -> tuple[Source, ...]:
    """The stored sources that `source` reads, each once, from the left."""
    found: dict[int, Source] = {}
    seen = set[int]()
    waiting = [source]
    while waiting:
        s = waiting.pop()
        if id(s) in seen:  # both sides of a join may stand on one view
            continue
        seen.add(id(s))
        if isinstance(s, Computed):
            waiting += reversed(s.below)
        else:
            found[id(s)] = s
    return tuple(found.values())


def generation(source: Source | None) -> int:
    """How many queries lie between this source and stored data."""
    return source.generation if isinstance(source, Computed) else 0


def blocks_of(rows: int, size: int = FRAGMENT_ROWS) -> list[Fragment]:
    """Fragments of `size` rows each."""
    return [
        Fragment(n, start, min(size, rows - start), f"rows {start}…")
        for n, start in enumerate(range(0, rows, size))
    ]
