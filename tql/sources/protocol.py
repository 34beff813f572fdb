"""What the rest of the package asks of data: names, fragments, columns of a fragment.

A fragment is the unit of reading and of parallel evaluation: a Parquet row group, an Arrow record
batch, a slice of a table in memory. Rows are numbered through the fragments in order, from 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.diagnostics import TqlDataError
from tql.schema import Schema

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """What is known of a column in one fragment without reading it; None where it is not.

    `low` and `high` bound the values that are neither null nor NaN, and need not occur among them;
    times are counts in the column's unit. `bytes` is the size uncompressed, `decoded` about what the
    column takes in memory where that is not told by its type and the number of rows.
    """

    nulls: int | None = None
    low: Any = None
    high: Any = None
    bytes: int | None = None
    decoded: int | None = None


@dataclass(frozen=True, slots=True)
class Fragment:
    """Rows `start` to `start + rows` of the source, at least one. `origin` names it for people (file,
    group).

    `in_place` says that `read` gives views of a table or a memory map that is there anyway: to keep
    or to copy what was read would only cost memory.
    """

    index: int
    start: int
    rows: int
    origin: str
    columns: Mapping[str, ColumnStats] = field(default_factory=dict)
    in_place: bool = False

    def __post_init__(self) -> None:
        assert self.rows > 0, f"an empty fragment: {self.origin}"

    @property
    def stop(self) -> int:
        return self.start + self.rows


@runtime_checkable
class Source(Protocol):
    """Rows to query and to load.

    Implementations are immutable and thread-safe: `read` is called from many threads at once.
    Nothing is opened at import; what is opened survives a fork (file handles are per call or
    re-opened, never shared with a parent).
    """

    @property
    def kind(self) -> str:
        """One word for `explain`: memory, parquet, ipc, …"""
        ...

    @property
    def schema(self) -> Schema:
        """The columns, with class names and images resolved."""
        ...

    @property
    def fragments(self) -> Sequence[Fragment]:
        """All fragments in row order; non-empty ones only; contiguous from row 0."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of the content (footers, schema, lengths, array bytes); not of paths or times."""
        ...

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        """These columns of one fragment, whole, in the order asked for.

        Types are as `schema` says: a Label column comes as plain integers or as a dictionary array
        whose codes are the labels, Text as string, large_string or dictionary<…, string>. Raises
        TqlDataError naming the file and fragment where it cannot be read.
        """
        ...


class Changeable(ABC):
    """A source over storage that others may write to while it is open."""

    @abstractmethod
    def refuse_changed(self) -> None:
        """Raise a TqlDataError where it sees that the data is not what was opened."""


class ImagesElsewhere(ABC):
    """A source of images some of which may lie in files, of which it has but the paths.

    Those of the column `image` are in the hidden column `image.path`.
    """

    @abstractmethod
    def unembedded(self) -> frozenset[str]:
        """The image columns of which some row may have a path and no bytes."""


class UnreadableRow(TqlDataError):
    """A row of a ByRow source that cannot be read, for a reason that lies in this row alone."""


Read: TypeAlias = Callable[[int, Sequence[str]], pa.Table]
"""Columns of a fragment, as `Source.read` gives them."""


class Placed(ABC):
    """A source in storage."""

    @property
    @abstractmethod
    def local(self) -> bool:
        """Whether all of it is on this machine, so that reading costs more work than waiting."""


REMOTE_READERS: Final = 16
"""Threads that read what is not local, unless told otherwise: they wait more than they work."""


def is_local(source: Source) -> bool:
    """Whether reading a source costs more work than waiting."""
    return not isinstance(source, Placed) or source.local


class Run(Protocol):
    """How several tasks that wait for storage are done: one after another, or side by side."""

    def __call__(self, tasks: Sequence[Callable[[], T]], /) -> list[T]:
        """Their results, in order. Of several failures the first, by the order of the tasks, is
        raised; tasks behind one that failed may be left out.
        """
        ...


def in_turn(tasks: Sequence[Callable[[], T]], /) -> list[T]:
    """A `Run` that does one after another, in the calling thread."""
    return [task() for task in tasks]


class ByRow(ABC):
    """A source some of whose columns are fetched a row at a time, such as those that are files.

    `read` gives them too, of a whole fragment; `gather` asks `take` for them.
    """

    @property
    @abstractmethod
    def columns_by_row(self) -> frozenset[str]:
        """The columns that `take` gives."""

    @abstractmethod
    def take(
        self,
        rows: NDArray[np.int64],
        columns: Sequence[str],
        run: Run,
        read: Read | None = None,
    ) -> pa.Table:
        """These of `columns_by_row`, of these rows: int64 (n,), any order, repeats and none allowed.

        What has to wait is given to `run`, task by task; `read` replaces `self.read` where other
        columns are needed to find them, for callers that keep fragments. Raises UnreadableRow where
        other rows may well be read.
        """
