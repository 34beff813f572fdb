"""DuckDB: tables in memory, row ids as an Arrow table, which it hands out fastest."""

from collections.abc import Iterator
from typing import Any

import duckdb

from benchmarks.measure import Contender, Rows
from benchmarks.peers.data import CATEGORIES, Data

NAME = "DuckDB"
WEIGHT = """case when labels = 4 and score > 0.5 then 7.0::double when score > 0.9 then 6.0
    when score < 0.1 then 5.0 when labels = 3 then 4.0 when labels = 2 then 3.0
    when labels = 1 then 2.0 when labels = 0 then 1.0 else 0.5 end"""


def contenders(data: Data) -> Iterator[tuple[str, Contender]]:
    """Every task but the draws."""
    connection = _loaded(data)
    tests = _tests(data)
    for key, test in tests.items():
        yield key, _query(connection, f"select rowid from rows where {test}")
    for key, path, test in (
        ("parquet_number", data.parquet, tests["labels_not"]),
        ("parquet_text", data.parquet, tests["text_is"]),
        ("parquet_range", data.sorted_parquet, tests["range"]),
    ):
        text = f"select file_row_number from read_parquet('{path}', file_row_number=true)"
        yield key, _query(connection, f"{text} where {test}")
    wide = "len(list_filter(boxes, lambda box: box[3] > 100)) > 0"
    yield "boxes", _query(connection, f"select rowid from boxes where {wide}")
    yield "weights", _query(connection, f"select {WEIGHT} as weight from rows")
    similarity = "array_cosine_similarity(emb, getvariable('wanted')::float[256])"
    yield (
        "cosine",
        _query(connection, f"select rowid from embeddings order by {similarity} desc limit 10"),
    )


def _tests(data: Data) -> dict[str, str]:
    low, high = data.hundredth
    return {
        "labels_not": "labels <> 5",
        "label_and_score": "labels = 5 and score > 0.9",
        "text_is": "cat = 'c3'",
        "text_like": "cat like '%3'",
        "kind_is": "kind = 'c3'",
        "kind_like": "kind like '%3'",
        "range": f"stamp between {low} and {high}",
    }


def _loaded(data: Data) -> Any:
    """A connection with the tables; a dictionary column is an enum."""
    connection = duckdb.connect()
    names = ", ".join(f"'{name}'" for name in CATEGORIES)
    connection.execute(f"create type kinds as enum ({names})").fetchall()
    for name, table in (
        ("rows", data.table),
        ("boxes", data.boxes),
        ("embeddings", data.embeddings),
    ):
        connection.register("given", table)
        columns = "* replace (kind::kinds as kind)" if name == "rows" else "*"
        connection.execute(f"create table {name} as select {columns} from given").fetchall()
        connection.unregister("given")
    wanted = [float(x) for x in data.wanted]
    connection.execute("set variable wanted = ?", [wanted]).fetchall()
    return connection


def _query(connection: Any, text: str) -> Contender:
    return Contender(NAME, lambda: connection.sql(text).to_arrow_table(), _first_column)


def _first_column(table: Any) -> Rows:
    found: Rows = table.column(0).to_numpy()
    return found
