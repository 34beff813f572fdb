"""Polars: its streaming engine, the fastest of its engines here; `arg_true` gives the rows."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from benchmarks.measure import Contender, Rows
from benchmarks.peers.data import Data

NAME = "Polars"


def contenders(data: Data) -> Iterator[tuple[str, Contender]]:
    """Every task but the draws."""
    frame: Any = pl.from_arrow(data.table)
    tests = _tests(data)
    for key, test in tests.items():
        yield key, _streaming(frame.lazy().select(test.arg_true()))
    for key in ("labels_not", "label_and_score"):
        eager = lambda test=tests[key]: frame.select(test.arg_true())  # noqa: E731
        yield key, Contender("Polars, eager", eager, _first_column)
    for key, path, test in (
        ("parquet_number", data.parquet, tests["labels_not"]),
        ("parquet_text", data.parquet, tests["text_is"]),
        ("parquet_range", data.sorted_parquet, tests["range"]),
    ):
        yield key, _file(str(path), test)
    boxes: Any = pl.from_arrow(data.boxes)
    wide = pl.element().arr.get(2) > 100
    yield (
        "boxes",
        _streaming(boxes.lazy().select(pl.col("boxes").list.eval(wide).list.any().arg_true())),
    )
    yield "weights", _streaming(frame.lazy().select(_weight()))
    yield "cosine", _streaming(_nearest(data))


def _tests(data: Data) -> dict[str, pl.Expr]:
    labels, score, low_high = pl.col("labels"), pl.col("score"), data.hundredth
    return {
        "labels_not": labels != 5,
        "label_and_score": (labels == 5) & (score > 0.9),
        "text_is": pl.col("cat") == "c3",
        "text_like": pl.col("cat").str.ends_with("3"),
        "kind_is": pl.col("kind") == "c3",
        "kind_like": pl.col("kind").cat.ends_with("3"),
        "range": pl.col("stamp").is_between(*low_high),
    }


def _weight() -> pl.Expr:
    labels, score = pl.col("labels"), pl.col("score")
    arms = {1.0: labels == 0, 2.0: labels == 1, 3.0: labels == 2, 4.0: labels == 3,
            5.0: score < 0.1, 6.0: score > 0.9, 7.0: (labels == 4) & (score > 0.5)}  # fmt: skip
    heavy = sorted(arms, reverse=True)
    chain: Any = pl.when(arms[heavy[0]]).then(heavy[0])
    for weight in heavy[1:]:
        chain = chain.when(arms[weight]).then(weight)
    found: pl.Expr = chain.otherwise(0.5)
    return found.alias("weight")


def _nearest(data: Data) -> pl.LazyFrame:
    emb, wanted = pl.col("emb"), pl.lit(pl.Series([data.wanted], dtype=pl.Array(pl.Float32, 256)))
    cosine = (emb * wanted).arr.sum() / (emb * emb).arr.sum().sqrt()  # but for a constant
    frame: Any = pl.from_arrow(data.embeddings)
    found: pl.LazyFrame = frame.lazy().select("id", cosine=cosine).top_k(10, by="cosine")
    return found.select("id")


def _streaming(query: pl.LazyFrame) -> Contender:
    return Contender(NAME, lambda: query.collect(engine="streaming"), _first_column)


def _file(path: str, test: pl.Expr) -> Contender:
    def work() -> pl.DataFrame:
        return pl.scan_parquet(path, row_index_name="row").filter(test).select("row").collect()

    return Contender(NAME, work, _first_column)


def _first_column(frame: pl.DataFrame) -> Rows:
    return frame.to_series(0).to_numpy()
