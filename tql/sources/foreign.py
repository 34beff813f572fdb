"""Data sets of other libraries, known by their shape, never imported."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.diagnostics import error
from tql.schema import Schema
from tql.sources.classes import NO_FEATURES, Features, given_names
from tql.sources.files import File, Place
from tql.sources.fingerprint import digest, digest_of
from tql.sources.gathering import gather
from tql.sources.memory import FRAGMENT_ROWS, MemorySource
from tql.sources.parquet import ParquetSource
from tql.sources.protocol import Fragment, ImagesElsewhere, Source
from tql.sources.stored import chosen


class ChosenRows(ImagesElsewhere):
    """Rows of another source in an order of their own, fetched when they are read."""

    def __init__(self, base: Source, row_ids: NDArray[np.int64]) -> None:
        self._base, self._row_ids = base, row_ids
        self._digest = ""
        self._fragments = tuple(
            Fragment(i, start, min(FRAGMENT_ROWS, len(row_ids) - start), f"rows from {start:,}")
            for i, start in enumerate(range(0, len(row_ids), FRAGMENT_ROWS))
        )

    @property
    def kind(self) -> str:
        return self._base.kind

    @property
    def schema(self) -> Schema:
        return self._base.schema

    @property
    def fragments(self) -> Sequence[Fragment]:
        return self._fragments

    @property
    def rows(self) -> int:
        return len(self._row_ids)

    @property
    def fingerprint(self) -> str:
        if not self._digest:
            ids = digest(np.ascontiguousarray(self._row_ids))
            self._digest = digest_of([b"chosen", self._base.fingerprint.encode(), ids])
        return self._digest

    def unembedded(self) -> frozenset[str]:
        base = self._base
        return base.unembedded() if isinstance(base, ImagesElsewhere) else frozenset()

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        part = self._fragments[fragment]
        return gather(self._base, self._row_ids[part.start : part.stop], columns)


def is_hugging_face(source: Any) -> bool:
    """Whether this is a `datasets.Dataset`, judged by its parts."""
    return hasattr(source, "features") and isinstance(
        getattr(getattr(source, "data", None), "table", None), pa.Table
    )


def open_hugging_face(
    source: Any,
    columns: Sequence[str] | None,
    class_names: Mapping[str, Sequence[str]] | None,
) -> Source:
    """A `datasets.Dataset`: its table as it lies, seen through its map of row numbers."""
    features: Features = source.features.to_dict() if source.features else NO_FEATURES
    base = MemorySource(
        source.data.table,
        columns=columns,
        class_names=class_names,
        features=features,
        where="the Hugging Face data set",
    )
    indices = getattr(source, "_indices", None)
    if indices is None:
        return base
    ids = indices.column(0).to_numpy().astype(np.int64, copy=False)
    return ChosenRows(base, ids)


def refuse_stream(source: Any) -> None:
    """Rows of a `datasets.IterableDataset` come in its order only, and cannot be asked for."""
    if hasattr(source, "features") and hasattr(source, "_ex_iterable"):
        raise error(
            "type",
            f"a {type(source).__name__} gives its rows in its own order; expected data whose rows can "
            "be asked for by number",
            help="load it with streaming=False, or open its files: tql.open('hf://datasets/…/*.parquet')",
        )


def refuse_splits(source: Mapping[Any, Any]) -> None:
    """A `DatasetDict` is a dict of data sets, not of columns: say which splits it has."""
    for value in source.values():
        refuse_stream(value)
    if source and all(is_hugging_face(v) for v in source.values()):
        splits = ", ".join(f"'{k}'" for k in source)
        raise error(
            "type",
            f"this is a {type(source).__name__} with the splits {splits}; expected one of them",
            help=f"open one split: tql.open(data[{next(iter(source))!r}])",
        )


def is_arrow_dataset(source: Any) -> bool:
    """Whether this is a `pyarrow.dataset.Dataset`."""
    # Imported here, the module would import pandas: 150 ms that nobody else should pay.
    module = sys.modules.get("pyarrow.dataset")
    return module is not None and isinstance(source, module.Dataset)


def open_arrow_dataset(
    dataset: Any,
    columns: Sequence[str] | None,
    class_names: Mapping[str, Sequence[str]] | None,
) -> Source:
    """A `pyarrow.dataset.Dataset`: its Parquet files where it is no more than those, else in memory.

    Filters, partition columns, other schemas and other formats need pyarrow's own scan.
    """
    if _is_plain_parquet(dataset):
        place = Place(dataset.filesystem)
        files = [File(place, path, path) for path in dataset.files]
        return ParquetSource(files, columns=columns, class_names=class_names)
    given_names(class_names, dataset.schema.names)
    wanted = list(chosen(columns, dataset.schema.names))
    kept = {n: v for n, v in (class_names or {}).items() if n in wanted}
    where = "the pyarrow data set"
    return MemorySource(dataset.to_table(columns=wanted), class_names=kept, where=where)


def _is_plain_parquet(dataset: Any) -> bool:
    if getattr(getattr(dataset, "format", None), "default_extname", None) != "parquet":
        return False
    try:
        first = next(iter(dataset.get_fragments()), None)
    except ValueError:  # how pyarrow says that the data set has a filter
        return False
    return first is not None and bool(first.physical_schema.equals(dataset.schema))
