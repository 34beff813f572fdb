"""Rows by index, for a stock torch DataLoader that brings its own sampler and workers."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, SupportsIndex, Unpack

import numpy as np
import numpy.typing as npt

from tql.loader.batch import Columns, Sample, Samples, as_samples, sample_at
from tql.loader.crew import Crew
from tql.loader.decode import Decoder, fetch, resolve, start
from tql.loader.failures import raise_it
from tql.loader.memory import Memory
from tql.loader.options import Method, Options, Transform, as_stored, loaded_columns
from tql.loader.ragged import padded, paddings
from tql.loader.rows import Rows
from tql.loader.shaping import Shaping
from tql.loader.transforms import OfSamples, applied
from tql.rowset import RowSet, from_ids

_READERS: Final = 4
_BLOCKS: Final = 2  # of a column, whose memory is used again once the samples in it are dropped


class MapDataset:
    """A map-style data set: `ds[i]` is the sample of row `row_ids[i]`, a dict of NumPy values.

    `__getitems__` reads the rows of a batch at once; a DataLoader calls it by itself. What is read
    lies in the memory of each worker process; a fork or a spawn starts with an empty cache. What is to
    be padded is padded up to the largest of the rows that are read at once: the batch of a DataLoader.
    """

    def __init__(
        self,
        rows: Rows,
        row_ids: RowSet | npt.NDArray[np.int64],
        transform: Transform | None = None,
        *,
        columns: tuple[str, ...] | None = None,
        decode: Mapping[str, Method] | None = None,
        return_index: bool = False,
        **shaping: Unpack[Shaping],
    ) -> None:
        self.rows: Final = rows
        self.row_ids: Final = _compact(row_ids)
        self._options: Final = Options(
            columns=columns,
            transform=transform,
            decode=decode or {},
            return_index=return_index,
            **shaping,
        )
        self._columns: Final = loaded_columns(self._options, rows.schema)
        self._apply: Final = None if transform is None else applied(transform, {})
        self._paddings: Final = paddings(
            self._options.ragged, as_stored(self._options, self._columns)
        )
        self._decoder: Decoder | None = None
        self._crew: Final = Crew(_READERS)
        blocks = _BLOCKS * max(1, len(self._columns))
        self._memory: Final = Memory(blocks, self._options.memory_bytes)

    def __len__(self) -> int:
        return len(self.row_ids)

    def __getitem__(self, i: SupportsIndex) -> Sample:
        """The sample at `i`; any integer type, negative from the end."""
        return self.__getitems__([i])[0]

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[Sample]:
        """The samples at these indices, in their order, read together."""
        at = np.array([self._checked(i) for i in indices], np.int64)
        if self._decoder is None:
            self._decoder = resolve(self.rows, self._columns, self._options)
        fetched = fetch(self.rows, self._decoder, self.row_ids.select(at), self._crew.run)
        decoding = start(self._decoder, fetched, self._memory)
        for task in decoding.tasks:
            task()
        made = self._transformed(decoding.batch)
        if not self._paddings or not made:
            return made
        samples = Samples(decoding.batch.rows, made, self._memory)
        return as_samples(padded(samples, self._paddings, self._memory, raise_it))

    def _transformed(self, batch: Columns) -> list[Sample]:
        samples = [sample_at(batch, i) for i in range(len(batch.rows))]
        if self._apply is None:
            return samples
        made = [self._apply(batch, i, None) for i in range(len(samples))]
        whole = isinstance(self._apply, OfSamples)
        return made if whole else [{**old, **new} for old, new in zip(samples, made, strict=True)]

    def _checked(self, i: SupportsIndex) -> int:
        n = len(self.row_ids)
        at = operator.index(i)
        if not -n <= at < n:
            # IndexError is what Python's own iteration and torch expect of a sequence
            raise IndexError(f"index {at} is out of range: the data set has {n} rows")
        return at % n if n else at


def _compact(row_ids: RowSet | npt.NDArray[np.int64]) -> RowSet:
    if not isinstance(row_ids, np.ndarray):
        return row_ids
    ids = row_ids.astype(np.int64, copy=False)
    return from_ids(ids, int(ids.max(initial=-1)) + 1)
