"""Deep Lake 4: data sets in local folders, written once. It answers with a view, which is the
counterpart of a row set; the row numbers are read from a column of it, outside of the time.

Columns have no index, as in the other engines, but for `cat_indexed`, whose equality test is a
contender of its own. Texts are not kept as dictionaries: `cat` stands in for `kind`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import deeplake
import numpy as np
from deeplake import types

from benchmarks.measure import Contender, Rows
from benchmarks.peers.data import WIDTH, Data
from benchmarks.peers.weighing import ARMS, BY_CLASS, BY_ROW, TAKEN, some, weights

NAME = "Deep Lake 4"
INDEXED: Final = "Deep Lake 4, Exact index"
BATCH: Final = 1_000_000


def contenders(data: Data) -> Iterator[tuple[str, Contender]]:
    """Every task; it is asked to query a Parquet file in place, and refuses that itself."""
    rows = deeplake.open_read_only(str(data.kept("deeplake-rows", lambda p: _rows(data, p))))
    boxes = deeplake.open_read_only(str(data.kept("deeplake-boxes", lambda p: _boxes(data, p))))
    vectors = deeplake.open_read_only(
        str(data.kept("deeplake-vectors", lambda p: _vectors(data, p)))
    )
    tests = _tests(data)
    for key, test in tests.items():
        yield key, _query(rows, f"select * where {test}")
    yield "text_is", _query(rows, "select * where cat_indexed == 'c3'", INDEXED)
    for key, path, test in (
        ("parquet_number", data.parquet, tests["labels_not"]),
        ("parquet_text", data.parquet, tests["text_is"]),
        ("parquet_range", data.sorted_parquet, tests["range"]),
    ):
        text = f'select * from "{path}" where {test}'
        work = lambda text=text: deeplake.query(text)  # noqa: E731
        yield key, Contender(NAME, work, _ids, (RuntimeError,))
    yield "boxes", _query(boxes, "select * where any(boxes[:,2] > 100)")
    wanted = ", ".join(repr(float(x)) for x in data.wanted)
    nearest = f"select * order by cosine_similarity(emb, array[{wanted}]) desc limit 10"
    yield "cosine", _query(vectors, nearest)
    yield "weights", Contender(NAME, lambda: _weights(rows), refuses=(RuntimeError,))
    yield "draws_by_class", _query(rows, f"select * sample by {BY_CLASS}")
    yield "draws_by_row", _query(rows, f"select * sample by {BY_ROW}")
    of_rows = weights(data)
    for key, weight in (("draws_by_class", BY_CLASS), ("draws_by_row", BY_ROW)):
        text = f"select * sample by {weight} replace False limit {some(data)}"
        yield TAKEN[key], _weighed(_query(rows, text), of_rows[key])


def _tests(data: Data) -> dict[str, str]:
    low, high = data.hundredth
    return {
        "labels_not": "labels != 5",
        "label_and_score": "labels == 5 and score > 0.9",
        "text_is": "cat == 'c3'",
        "text_like": "cat like '*3'",
        "kind_is": "cat == 'c3'",
        "kind_like": "cat like '*3'",
        "range": f"stamp between {low} and {high}",
    }


def _query(ds: Any, text: str, name: str = NAME) -> Contender:
    def work() -> Any:
        view = ds.query(text)
        len(view)  # it has found them all
        return view

    return Contender(name, work, _ids, (RuntimeError,))


def _weighed(query: Contender, of_rows: Rows) -> Contender:
    """The query, which refuses where its first answer has heavy rows no more often than light ones."""
    seen = []

    def work() -> Any:
        view = query.work()
        if not seen:
            seen.append(float(of_rows[_ids(view)].mean() / of_rows.mean()))
            if seen[0] < 1.1:  # rows drawn in proportion weigh a third more in the mean, or more
                raise RuntimeError("takes rows whatever their weights, where none comes twice")
        return view

    return Contender(query.name, work, query.rows, query.refuses)


def _weights(ds: Any) -> Rows:
    """Read here: the view computes them when they are."""
    return np.asarray(ds.query(f"select max_weight({ARMS}) as weight")["weight"][:])


def _ids(view: Any) -> Rows:
    return np.asarray(view["id"][:])


def _rows(data: Data, folder: Path) -> None:
    table = data.table
    ds = deeplake.create(str(folder))
    for name, kind in (
        ("labels", types.Int32()), ("score", types.Float64()), ("cat", types.Text()),
        ("cat_indexed", types.Text(types.Exact)), ("stamp", types.Int64()), ("id", types.Int64()),
    ):  # fmt: skip
        ds.add_column(name, kind)
    for start in range(0, data.rows, BATCH):
        part = table.slice(start, BATCH)
        texts = part["cat"].to_pylist()
        numbers = {n: part[n].to_numpy() for n in ("labels", "score", "stamp", "id")}
        ds.append({**numbers, "cat": texts, "cat_indexed": texts})
    ds.commit()


def _boxes(data: Data, folder: Path) -> None:
    ds = deeplake.create(str(folder))
    ds.add_column("boxes", types.Array("int32", 2))
    ds.add_column("id", types.Int64())
    lists = data.boxes["boxes"].combine_chunks()
    offsets = lists.offsets.to_numpy()
    values = lists.values.flatten().to_numpy().reshape(-1, 4)
    for start in range(0, len(lists), BATCH):
        stop = min(start + BATCH, len(lists))
        rows = [values[offsets[k] : offsets[k + 1]] for k in range(start, stop)]
        ds.append({"boxes": rows, "id": np.arange(start, stop)})
    ds.commit()


def _vectors(data: Data, folder: Path) -> None:
    ds = deeplake.create(str(folder))
    ds.add_column("emb", types.Array("float32", [WIDTH]))  # an Embedding gets an inexact index
    ds.add_column("id", types.Int64())
    flat = data.embeddings["emb"].combine_chunks().flatten().to_numpy()
    ds.append({"emb": flat.reshape(-1, WIDTH), "id": np.arange(len(flat) // WIDTH)})
    ds.commit()
