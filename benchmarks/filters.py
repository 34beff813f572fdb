"""Filters over columns in memory → row numbers."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

import tql
from benchmarks.measure import OURS, Task
from tql.engine.scan import Settings
from tql.queries import ask


def tasks(rows: int) -> Iterator[Task]:
    """Two filters over `rows` rows: int32 labels 0 … 9 and float64 scores, uniform."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, rows).astype(np.int32)
    score = rng.random(rows)
    ds = tql.open({"labels": labels, "score": score})
    million = f"{rows / 1e6:g} M rows"
    queries = {
        "labels != 5": ("labels <> 5", lambda labels, _: labels != 5),
        "labels == 5 and score > 0.9": (
            "labels = 5 and score > 0.9",
            lambda labels, score: (labels == 5) & (score > 0.9),
        ),
    }
    peers = _Peers(labels, score)
    for condition, (sql, test) in queries.items():
        # Compile now what a program that asks often enough would have compiled by itself.
        ask(ds.source, f"select * where {condition}", settings=Settings("kernel")).answer()
        yield Task(
            f"`{condition}`, {million} in memory → row set",
            "ms",
            {
                OURS: lambda c=condition: ds.query(f"select * where {c}").rowset,
                "Polars": peers.polars(test),
                "DuckDB": peers.duckdb(sql),
                "NumPy": lambda t=test: np.flatnonzero(t(labels, score)),
            },
            _same_rows,
        )


def _same_rows(answers: Mapping[str, Any]) -> None:
    rows = {name: np.sort(_ids(a)) for name, a in answers.items()}
    for name, ids in rows.items():
        assert np.array_equal(ids, rows[OURS]), f"{name} selects other rows"


def _ids(answer: Any) -> Any:
    if hasattr(answer, "to_numpy"):
        return answer.to_numpy()
    return answer["rowid"] if isinstance(answer, dict) else answer


class _Peers:
    """The same columns in the other engines, loaded before anything is timed."""

    def __init__(self, labels: Any, score: Any) -> None:
        self.frame = self.connection = None
        if find_spec("polars"):
            import polars

            self.frame = polars.DataFrame({"labels": labels, "score": score})
        if find_spec("duckdb"):
            import duckdb
            import pyarrow as pa

            self.connection = duckdb.connect()
            self.connection.register("arrow_rows", pa.table({"labels": labels, "score": score}))
            self.connection.execute("create table rows as select * from arrow_rows")

    def polars(self, test: Any) -> Any:
        if self.frame is None:
            return None
        frame = self.frame
        return lambda: test(frame["labels"], frame["score"]).arg_true()

    def duckdb(self, condition: str) -> Any:
        if self.connection is None:
            return None
        connection = self.connection
        return lambda: connection.execute(f"select rowid from rows where {condition}").fetchnumpy()
