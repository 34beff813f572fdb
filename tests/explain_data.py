"""Small data with everything an explanation speaks of: class names, nulls, text, a payload."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

import tql
from tql.dataset import Dataset
from tql.schema import Schema
from tql.sources.memory import MemorySource
from tql.sources.protocol import Fragment

ROWS = 40
SPECIES = ("cat", "dog", "owl", "yak")


def small_table() -> pa.Table:
    rows = range(ROWS)
    return pa.table(
        {
            "id": pa.array(list(rows), pa.int64()),
            "species": pa.array([None if i % 10 == 9 else i * i % 3 for i in rows], pa.int8()),
            "score": pa.array([None if i % 8 == 7 else i / ROWS for i in rows], pa.float64()),
            "kind": pa.array([("fish", "bird", "frog")[i % 3] for i in rows]),
            "tame": pa.array([i % 2 == 0 for i in rows]),
            "big": pa.array([i % 37 for i in rows], pa.int16()),
            "picture": pa.array([bytes(16) for _ in rows], pa.binary()),
        }
    )


def small() -> Dataset:
    names = {"species": SPECIES, "big": tuple(f"class {i}" for i in range(37))}
    return Dataset(MemorySource(small_table(), class_names=names), "small")


def digits() -> Dataset:
    return tql.open("demo:digits")


class Watched:
    """A source that notes which columns are read of it, and how often."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.reads: list[tuple[int, tuple[str, ...]]] = []

    @property
    def kind(self) -> str:
        return str(self.source.kind)

    @property
    def schema(self) -> Schema:
        schema: Schema = self.source.schema
        return schema

    @property
    def fragments(self) -> Sequence[Fragment]:
        fragments: Sequence[Fragment] = self.source.fragments
        return fragments

    @property
    def rows(self) -> int:
        return int(self.source.rows)

    @property
    def fingerprint(self) -> str:
        return str(self.source.fingerprint)

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        self.reads.append((fragment, tuple(columns)))
        return self.source.read(fragment, columns)

    @property
    def columns_read(self) -> set[str]:
        return {name for _, columns in self.reads for name in columns}
