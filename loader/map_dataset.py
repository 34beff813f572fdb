"""Rows by index, for a stock torch DataLoader that brings its own sampler and workers."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, SupportsIndex

import numpy as np
import numpy.typing as npt

from tql.loader.batch import Columns, Sample, sample_at
from tql.loader.decode import Decoder, fetch, resolve, start
from tql.loader.memory import Memory
from tql.loader.options import Method, Options, Transform, loaded_columns
from tql.loader.rows import Rows
from tql.loader.transforms import function, transform_sample, transform_value
from tql.rowset import RowSet, from_ids


class MapDataset:
    """A map-style data set: `ds[i]` is the sample of row `row_ids[i]`, a dict of NumPy values.

    `__getitems__` reads the rows of a batch at once; a DataLoader calls it by itself. What is read
    lies in the memory of each worker process; a fork or a spawn starts with an empty cache.
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
    ) -> None:
        self.rows: Final = rows
        self.row_ids: Final = _compact(row_ids)
        self._options: Final = Options(
            columns=columns, transform=transform, decode=decode or {}, return_index=return_index
        )
        self._columns: Final = loaded_columns(self._options, rows.schema)
        self._decoder: Decoder | None = None

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
        fetched = fetch(self.rows, self._decoder, self.row_ids.select(at))
        decoding = start(self._decoder, fetched, Memory(0, 0))
        for task in decoding.tasks:
            task()
        return self._transformed(decoding.batch)

    def _transformed(self, batch: Columns) -> list[Sample]:
        slots = range(len(batch.rows))
        match self._options.transform:
            case None:
                return [sample_at(batch, i) for i in slots]
            case Mapping() as given:
                functions = {name: function(fn) for name, fn in given.items() if fn is not None}
                return [
                    {
                        name: transform_value(functions[name], batch, name, i, None)
                        if name in functions
                        else value
                        for name, value in sample_at(batch, i).items()
                    }
                    for i in slots
                ]
            case fn:
                made = function(fn)
                return [transform_sample(made, batch, i, None) for i in slots]

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
