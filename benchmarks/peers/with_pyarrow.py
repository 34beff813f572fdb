"""pyarrow: its compute functions on whole columns; and what decoding alone costs."""

from collections.abc import Iterator
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
        ("kind_is", lambda t: pc.equal(t["kind"], "c3")),
        ("range", lambda t: _between(t, low, high)),
    ):
        yield key, Contender(NAME, lambda test=test: pc.indices_nonzero(test(data.table)))
    yield "boxes", Contender(NAME, lambda: _wide(data.boxes["boxes"].combine_chunks()))
    for key, path, column, test in (
        ("parquet_number", data.parquet, "labels", lambda t: pc.not_equal(t["labels"], 5)),
        ("parquet_text", data.parquet, "cat", lambda t: pc.equal(t["cat"], "c3")),
    ):
        yield key, _file(path, column, test)
        yield key, Contender(FLOOR, lambda p=path, c=column: pq.read_table(p, columns=[c]), None)


def _label_and_score(table: pa.Table) -> Any:
    return pc.and_(pc.equal(table["labels"], 5), pc.greater(table["score"], 0.9))


def _between(table: pa.Table, low: int, high: int) -> Any:
    stamp = table["stamp"]
    return pc.and_(pc.greater_equal(stamp, low), pc.less_equal(stamp, high))


def _wide(boxes: Any) -> Any:
    """Rows with a box whose third number is above 100."""
    thirds = pc.list_element(boxes.values, 2)
    return np.unique(pc.list_parent_indices(boxes).filter(pc.greater(thirds, 100)).to_numpy())


def _file(path: Path, column: str, test: Any) -> Contender:
    return Contender(NAME, lambda: pc.indices_nonzero(test(pq.read_table(path, columns=[column]))))
