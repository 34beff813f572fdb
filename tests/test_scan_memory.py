"""What a filter over very many rows holds, and row sets of a thousand million rows."""

import threading
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.tiers import bound
from tql import rowset
from tql.engine.decoding import decoded_bytes
from tql.engine.scan import Settings, scan
from tql.planner import make_plan
from tql.rowset import Bitmap, Range
from tql.schema import Column, Float, Int, Schema
from tql.sources.protocol import ColumnStats, Fragment

PART: Final = 1 << 20
BILLION: Final = 1_000_000_000


class Repeated:
    """The same table of a million rows again and again, cut where fragments begin; nothing is kept.

    Fragments of `size` rows: where that is no multiple of 64 they begin within a word.
    """

    kind = "repeated"
    fingerprint = "repeated"

    def __init__(self, rows: int, size: int = PART) -> None:
        self.rows = rows
        at = np.arange(size)
        self.table = pa.table({"x": (at % 10).astype(np.int32), "y": (at % 100) / 100})
        self.schema = Schema([Column("x", Int(32), False), Column("y", Float(64), False)])
        self.fragments = tuple(
            Fragment(n, start, min(size, rows - start), f"part {n}", in_place=True)
            for n, start in enumerate(range(0, rows, size))
        )

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        return self.table.select(list(columns)).slice(0, self.fragments[fragment].rows)


CONDITIONS: Final = ("x != 5", "x == 5 and y > 0.4", "y < 0.5 or x > 7")


@pytest.mark.parametrize(("n", "size"), [(BILLION, PART), (BILLION // 10, PART - 23)])
def test_a_filter_holds_an_eighth_of_a_byte_a_row_and_five_percent(n: int, size: int) -> None:
    source = Repeated(n, size)
    conditions = [bound(c, source) for c in CONDITIONS]
    scan(Repeated(1000), conditions, 0, Settings("kernel"))  # compiled here
    tracemalloc.start()
    try:
        found = scan(source, conditions, 0, Settings("kernel", 2))
        peak = tracemalloc.get_traced_memory()[1]
        assert peak <= len(conditions) * 1.05 * n / 8
        rows = rowset.from_words(found[0], n)
        held = tracemalloc.get_traced_memory()[0]
        assert held <= (len(conditions) + 0.05) * 1.05 * n / 8
    finally:
        tracemalloc.stop()
    assert isinstance(rows, Bitmap) and rows.nbytes <= 1.05 * n / 8
    tail = n % size
    expected = n // size * (size - _fives(size)) + tail - _fives(tail)
    assert len(rows) == expected
    ids = rows.select(np.array([0, 4, 5, len(rows) // 2, len(rows) - 1]))
    assert ids[:3].tolist() == [0, 4, 6]
    assert rows.rank(ids).tolist() == [0, 4, 5, len(rows) // 2, len(rows) - 1]
    part = rows[1000 : len(rows) - 1000]
    assert len(part) == expected - 2000 and part.select(0) == rows.select(1000)
    assert next(rows.blocks(100)).tolist() == rows.select(np.arange(100)).tolist()


def _fives(n: int) -> int:
    return len(range(5, n, 10))


def test_sets_of_a_thousand_million_rows_meet_and_join() -> None:
    some = Range(1_000_001, BILLION - 7, BILLION).to_bitmap()
    assert len(some) == BILLION - 1_000_008
    every = rowset.everything(BILLION)
    other = Range(5, 900_000_000, BILLION)
    assert rowset.intersect(some, other) == Range(1_000_001, 900_000_000, BILLION)
    assert rowset.union(some, other) == Range(5, BILLION - 7, BILLION)
    assert rowset.subtract(every, some).to_numpy()[[0, -1]].tolist() == [0, BILLION - 1]
    assert every[10:20] == Range(10, 20, BILLION)
    assert every.select(BILLION - 1) == BILLION - 1


def test_a_plan_over_a_thousand_million_rows_holds_its_rows_and_no_more() -> None:
    words = np.full(BILLION // 64, np.uint64(0x5555555555555555))
    rows = Bitmap(words, BILLION)
    tracemalloc.start()
    try:
        plan = make_plan(rows, shuffle=True)
        batch = next(iter(plan.stream(batch_size=256)))
        assert tracemalloc.get_traced_memory()[1] <= 0.05 * BILLION / 8
    finally:
        tracemalloc.stop()
    assert batch.size == 256 and not (batch % 2).any() and len(np.unique(batch)) == 256


class Counting:
    """A stored source that counts what is being read at once."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.kind, self.schema, self.rows = source.kind, source.schema, source.rows
        self.fragments, self.fingerprint = source.fragments, source.fingerprint
        self.lock = threading.Lock()
        self.reading = 0
        self.most = 0
        self.reads = 0

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        with self.lock:
            self.reads += 1
            self.reading += 1
            self.most = max(self.most, self.reading)
        time.sleep(0.01)
        with self.lock:
            self.reading -= 1
        table: pa.Table = self.source.read(fragment, columns)
        return table


N: Final = 64_000
GROUP: Final = 8_000


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tql.Dataset:
    file: Path = tmp_path_factory.mktemp("stored") / "numbers.parquet"
    table = pa.table({"x": np.arange(N), "y": np.arange(N) % 97 / 97})
    pq.write_table(table, file, row_group_size=GROUP)
    return tql.open(str(file))


@pytest.mark.parametrize(("groups", "most"), [(0.5, 1), (1.5, 1), (2.5, 2), (100, 4)])
def test_row_groups_in_work_keep_to_the_memory_that_they_may_take(
    stored: tql.Dataset, groups: float, most: int
) -> None:
    """Two columns of eight bytes; one group that takes more than there is is read all the same."""
    source = Counting(stored.source)
    settings = Settings("reference", 4, memory_bytes=int(groups * GROUP * 16 * 1.05))
    condition = bound("x % 3 == 0 and y < 0.5", source)
    (words,) = scan(source, [condition], 0, settings)
    x = np.arange(N)
    expected = np.flatnonzero((x % 3 == 0) & (x % 97 / 97 < 0.5))
    assert rowset.from_words(words, N).to_numpy().tolist() == expected.tolist()
    assert source.reads == N // GROUP and 1 <= source.most <= most


def test_codes_in_the_file_count_as_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    file = tmp_path / "codes.parquet"
    pq.write_table(pa.table({"x": np.arange(N) % 3}), file, row_group_size=GROUP)
    opened = tql.open(str(file)).source
    stats: ColumnStats = opened.fragments[0].columns["x"]
    assert stats.bytes is not None and stats.bytes < GROUP  # two bits a row, not 64
    source = Counting(opened)
    scan(source, [bound("x == 1", source)], 0, Settings("reference", 4, memory_bytes=GROUP * 8))
    assert source.most == 1 and source.reads == N // GROUP


@pytest.mark.parametrize(
    ("name", "view"),
    [(n, v) for n in ("fixed", "lists", "texts", "bytes") for v in (False, True)]
    + [("text", False)],  # a view may make plain texts of codes, which no statistics tell of
)
def test_what_is_stored_as_codes_counts_as_it_is_read(
    tmp_path: Path, name: str, view: bool
) -> None:
    """Lists and texts of few values take little in a file: their size is told within a half."""
    file = tmp_path / "codes.parquet"
    rows = 10_000
    table = pa.table({
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(64 * rows)), 64),
        "lists": pa.array([[1.0] * 40] * rows),
        "text": ["x" * 20 + str(i % 3) for i in range(rows)],
        "texts": [["a long text that is repeated", "b"]] * rows,
        "bytes": [b"z" * 200] * rows,
    })  # fmt: skip
    pq.write_table(table, file)
    opened = tql.open(str(file))
    source = (
        opened.query(f"select {name}, 1 as one where {name} is not null").source
        if view
        else opened.source
    )
    told = decoded_bytes(source, [name])(source.fragments[0])
    assert not source.fragments[0].in_place
    read = source.read(0, [name]).nbytes
    assert read / 2 <= told <= 2 * read


def test_data_in_memory_does_not_count(stored: tql.Dataset) -> None:
    source = Counting(Repeated(4 * PART))
    scan(source, [bound("x == 1", source)], 0, Settings("reference", 2, memory_bytes=1))
    assert source.most == 2
