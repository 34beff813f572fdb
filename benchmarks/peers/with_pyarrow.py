"""pyarrow: its compute functions on whole columns; and what decoding alone costs."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.measure import FLOOR, Contender
from benchmarks.peers.data import Data

NAME = "pyarrow"


def contenders(data: Data) -> Iterator[tuple[str, Contender]]:
    """Filters in memory and from files, and lists."""
    low, high = data.hundredth
    for key, test in (
        ("labels_not", lambda t: pc.not_equal(t["labels"], 5)),
        ("label_and_score", _label_and_score),
        ("text_is", lambda t: pc.equal(t["cat"], "c3")),
        ("text_like", lambda t: pc.ends_with(t["cat"], "3")),
        ("range", lambda t: _between(t, low, high)),
        ("kind_is", lambda t: _by_value(t["kind"], lambda names: pc.equal(names, "c3"))),
        ("kind_like", lambda t: _by_value(t["kind"], lambda names: pc.ends_with(names, "3"))),
    ):
        yield key, Contender(NAME, lambda test=test: pc.indices_nonzero(test(data.table)))
    yield "boxes", Contender(NAME, lambda: _wide(data.boxes["boxes"].combine_chunks()))
    for key, column, test in (
        ("parquet_number", "labels", lambda c: pc.not_equal(c, 5)),
        ("parquet_text", "cat", lambda c: _by_value(c, lambda names: pc.equal(names, "c3"))),
    ):
        read = partial(_decoded, data.parquet, column)
        work = lambda read=read, test=test: pc.indices_nonzero(test(read()))  # noqa: E731
        yield key, Contender(NAME, work)
        yield key, Contender(FLOOR, read, None)


def _decoded(path: Path, column: str) -> Any:
    """A column of a Parquet file, a text as a dictionary, which is the faster."""
    return pq.read_table(path, columns=[column], read_dictionary=["cat"])[column]


def _by_value(column: Any, test: Callable[[Any], Any]) -> Any:
    """A test of the values of a dictionary column, made once for each value."""
    return pa.chunked_array([test(c.dictionary).take(c.indices) for c in column.chunks])


def _label_and_score(table: pa.Table) -> Any:
    return pc.and_(pc.equal(table["labels"], 5), pc.greater(table["score"], 0.9))


def _between(table: pa.Table, low: int, high: int) -> Any:
    stamp = table["stamp"]
    return pc.and_(pc.greater_equal(stamp, low), pc.less_equal(stamp, high))


def _wide(boxes: Any) -> Any:
    """Rows with a box whose third number is above 100."""
    thirds = pc.list_element(boxes.values, 2)
    return np.unique(pc.list_parent_indices(boxes).filter(pc.greater(thirds, 100)).to_numpy())
