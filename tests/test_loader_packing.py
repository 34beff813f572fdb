"""Small tables of numbers in one piece: the same rows, without a fragment being looked at."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loader_fakes import FakePlan, FakeSource, source_of
from tql.loader import FragmentRows, Loader, Options, numpy_collate
from tql.loader.decode import Fetched
from tql.schema import Bool, Float, Int, Text

ROWS, SIZE = 40, 7


def numbers() -> FakeSource:
    """Six fragments of a number, a float with nulls, a flag and a text."""
    k = np.arange(ROWS)
    return source_of(
        SIZE,
        x=(Int(32), pa.array(k.astype(np.int32))),
        y=(Float(64), pa.array([None if i % 5 == 0 else i / 4 for i in range(ROWS)])),
        flag=(Bool(), pa.array([i % 3 == 0 for i in range(ROWS)])),
        name=(Text(), [f"row {i}" for i in range(ROWS)]),
    )


def taken(rows: FragmentRows, ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
    return rows.take(np.array(ids, np.int64), columns)


@given(st.lists(st.integers(0, ROWS - 1), max_size=60))
def test_rows_of_a_packed_table_are_those_of_the_fragments(ids: list[int]) -> None:
    source = numbers()
    columns = ["y", "flag", "x"]
    rows, apart = FragmentRows(source), FragmentRows(numbers(), memory_bytes=1)
    taken(rows, range(ROWS), columns)
    read = list(source.reads)
    rows._store._spares.clear()  # nothing else could answer without reading
    found = taken(rows, ids, columns)
    assert found.to_pydict() == taken(apart, ids, columns).to_pydict()
    assert found.schema.equals(taken(apart, ids, columns).schema)
    assert source.reads == read
    assert apart._store.packed.nbytes == 0


@pytest.mark.parametrize(
    ("ids", "columns", "memory_bytes"),
    [
        (range(ROWS - SIZE), ["x"], 1 << 20),  # not all fragments
        (range(ROWS), ["x", "name"], 1 << 20),  # a text
        (range(ROWS), ["x"], 8 * 4 * ROWS - 1),
    ],
)
def test_what_is_not_small_numbers_read_whole_stays_in_fragments(
    ids: Sequence[int], columns: list[str], memory_bytes: int
) -> None:
    rows = FragmentRows(numbers(), memory_bytes)
    assert taken(rows, ids, columns)["x"].to_pylist() == list(ids)
    assert rows._store.packed.nbytes == 0
    assert taken(rows, ids, columns)["x"].to_pylist() == list(ids)


def test_what_is_packed_counts_as_memory_and_is_let_go_of() -> None:
    rows = FragmentRows(numbers(), 8 * 4 * ROWS)
    taken(rows, range(ROWS), ["x"])
    assert rows._store.packed.nbytes == 4 * ROWS
    assert rows._store.used == 2 * 4 * ROWS
    rows.release()
    assert rows._store.packed.nbytes == rows._store.used == 0


def test_passes_over_a_packed_table_give_the_same_batches() -> None:
    source = numbers()
    order = np.random.default_rng(0).permutation(ROWS)
    options = Options(columns=["x", "y"], batch_size=20)
    loader = Loader(FragmentRows(source), FakePlan(order), options, numpy_collate)
    loader.set_epoch(0)
    first = [batch["x"].tolist() for batch in loader]
    read = list(source.reads)
    assert [batch["x"].tolist() for batch in loader] == first
    assert [x for batch in first for x in batch] == order.tolist()
    assert source.reads == read


def test_what_small_batches_have_read_between_them_is_packed() -> None:
    source = numbers()
    rows = FragmentRows(source)
    order = np.random.default_rng(0).permutation(ROWS)
    loader = Loader(rows, FakePlan(order), Options(columns=["x"], batch_size=2), numpy_collate)
    loader.set_epoch(0)
    for _ in range(2):
        assert [x for batch in loader for x in batch["x"].tolist()] == order.tolist()
    assert rows._store.packed.nbytes == 4 * ROWS
    assert sorted(source.reads) == sorted(set(source.reads))


def test_the_bytes_of_a_batch_are_counted_without_looking_at_each_chunk() -> None:
    chunks = [pa.table({"a": np.arange(4.0), "b": [["x"], [], ["yy"], []]}) for _ in range(3)]
    table = pa.concat_tables(chunks)
    ids = np.arange(12)
    assert Fetched(table, ids, ids, ids).nbytes == table.nbytes
