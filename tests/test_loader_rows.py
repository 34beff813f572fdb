"""Fragments kept in memory, and memory used again."""

import os
import pickle
import threading
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader_fakes import FakeSource, source_of
from tql.loader import FragmentRows
from tql.loader.memory import Memory
from tql.schema import Int
from tql.sources import open_source


def numbers(n: int = 40, size: int = 10) -> FakeSource:
    return source_of(size, x=(Int(64), np.arange(n)), y=(Int(64), np.arange(n) * 2))


def take(rows: FragmentRows, ids: Sequence[int], columns: Sequence[str] = ("x",)) -> list[int]:
    table = rows.take(np.array(ids, np.int64), columns)
    values: list[int] = table[columns[0]].to_pylist()
    return values


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 39), max_size=30))
def test_rows_come_in_the_order_asked_for_and_each_fragment_is_read_once(ids: list[int]) -> None:
    source = numbers()
    rows = FragmentRows(source)
    assert take(rows, ids) == ids
    assert take(rows, ids) == ids
    assert sorted(source.reads) == sorted({i // 10 for i in ids} or {0})


def test_what_does_not_fit_the_budget_is_read_again_the_least_recently_used_first() -> None:
    source = numbers()
    rows = FragmentRows(source, memory_bytes=2 * 10 * 8)
    for row in (0, 10, 0, 20, 0, 10):
        take(rows, [row])
    assert source.reads == [0, 1, 2, 1]
    tiny = numbers()
    for _ in range(2):
        take(FragmentRows(tiny, memory_bytes=1), [0, 5, 9])
    assert tiny.reads == [0, 0]


def test_a_fragment_larger_than_the_budget_is_read_once_for_the_batches_in_a_row() -> None:
    source = numbers()
    rows = FragmentRows(source, memory_bytes=1)
    for start in range(0, 40, 5):
        assert take(rows, range(start, start + 5)) == list(range(start, start + 5))
    assert source.reads == [0, 1, 2, 3]


def test_what_was_released_is_read_again() -> None:
    source = numbers()
    rows = FragmentRows(source)
    for _ in range(2):
        assert take(rows, [3]) == [3]
        rows.release()
    assert source.reads == [0, 0]


def test_a_table_in_chunks_is_neither_joined_nor_kept() -> None:
    chunks = [pa.array([bytes([c]) * 1_000_000]) for c in range(30)]
    rows = FragmentRows(open_source(pa.table({"b": pa.chunked_array(chunks)})))
    held = pa.total_allocated_bytes()
    for row in range(30):
        assert rows.take(np.array([row]), ["b"])["b"].to_pylist() == [bytes([row]) * 1_000_000]
        assert pa.total_allocated_bytes() - held < 2_000_000


def test_other_columns_of_a_fragment_are_another_read() -> None:
    source = numbers()
    rows = FragmentRows(source)
    assert take(rows, [3], ["x"]) == [3]
    assert take(rows, [3], ["y", "x"]) == [6]
    assert source.reads == [0, 0]


def test_threads_that_want_one_fragment_share_one_read() -> None:
    source = numbers()
    source.delay = 0.05
    rows = FragmentRows(source)
    seen: list[list[int]] = []
    start = threading.Barrier(6)

    def work() -> None:
        start.wait(10)
        seen.append(take(rows, [7]))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [[7]] * 6
    assert source.reads == [0]


def test_a_read_that_failed_is_tried_again_by_the_next_caller() -> None:
    source = numbers()
    rows = FragmentRows(source)
    read, failures = source.read, [OSError("gone")]

    def flaky(fragment: int, columns: Sequence[str]) -> pa.Table:
        if failures:
            raise failures.pop()
        return read(fragment, columns)

    source.read = flaky  # type: ignore[method-assign]
    with pytest.raises(OSError, match="gone"):
        take(rows, [0])
    assert take(rows, [0]) == [0]


def test_pickled_rows_read_anew() -> None:
    source = numbers()
    rows = FragmentRows(source, memory_bytes=1000)
    take(rows, [0])
    copy = pickle.loads(pickle.dumps(rows))
    assert copy.memory_bytes == 1000
    assert take(copy, [0]) == [0]
    assert copy.source.reads == [0, 0]  # the first came along with the source


def test_a_block_is_given_out_again_once_no_view_of_it_is_left() -> None:
    memory = Memory(blocks=4, nbytes=1 << 30)
    first = memory.array((2, 1 << 20), np.uint8)
    first[...] = 7
    view = first[1, 5:9]
    del first
    second = memory.array((1 << 19,), np.float32)  # as large, and another type
    second[...] = 1.0
    assert view.tolist() == [7, 7, 7, 7]
    del view
    third = memory.array((2, 1 << 20), np.uint8)
    assert third[0, 0] == 7
    assert third.flags.writeable
    assert not np.shares_memory(second, third)


def test_blocks_that_everybody_holds_are_not_kept_beyond_the_number_given() -> None:
    memory = Memory(blocks=2, nbytes=1 << 30)
    arrays = [memory.array((1 << 20,), np.uint8) for _ in range(6)]
    for i, array in enumerate(arrays):
        array[...] = i
    assert [int(a[0]) for a in arrays] == list(range(6))


def test_blocks_are_kept_within_the_bytes_given() -> None:
    memory = Memory(blocks=100, nbytes=3 << 20)
    addresses = set()
    for _ in range(4):  # three blocks fit, and are used again
        held = [memory.array((1 << 20,), np.uint8) for _ in range(3)]
        addresses.update(a.ctypes.data for a in held)
        del held
    assert len(addresses) == 3
    assert memory.nbytes == 3 << 20
    large = memory.array((2 << 20,), np.uint8)
    assert memory.nbytes <= 3 << 20
    beyond = memory.array((4 << 20,), np.uint8)
    beyond[...] = large[0] = 7
    assert memory.nbytes <= 3 << 20
    assert large[0] == 7


def test_a_copy_and_a_forked_child_have_blocks_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = Memory(blocks=2, nbytes=3 << 20)
    address = memory.array((1 << 20,), np.uint8).ctypes.data
    copy = pickle.loads(pickle.dumps(memory))
    assert copy.nbytes == 0
    kept = [copy.array((1 << 20,), np.uint8) for _ in range(2)]
    assert copy.nbytes == 2 << 20 and len(kept) == 2
    assert memory.array((1 << 20,), np.uint8).ctypes.data == address
    inherited = list(memory._blocks)  # they live on while the child makes its own
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert memory.array((1 << 20,), np.uint8).ctypes.data != address
    assert memory.nbytes == 1 << 20 and len(inherited) == 1
