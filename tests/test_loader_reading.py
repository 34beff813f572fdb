"""Reading by the plan: how often each fragment is read, how many at once, and what is held meanwhile."""

import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.loader_fakes import FakePlan, FakeSource, eventually, workers
from tests.test_loader_schedule import GROUP, PLANS, ROWS, STARTS, farthest
from tql.loader import FragmentRows, Loader, Options, numpy_collate
from tql.schema import Column, Int, Schema

SIZE = GROUP * 8  # bytes of a fragment


class Counted(FakeSource):
    """Numbers in fragments; counts reads, and what is read and being read but not let go of."""

    def __init__(self, rows: int = ROWS, size: int = GROUP) -> None:
        table = pa.table({"x": np.arange(rows)})
        super().__init__(table, Schema([Column("x", Int(64))]), size)
        self.lock = threading.Lock()
        self.live = self.most_live = self.now = self.most_now = 0
        self.broken: set[int] = set()

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        with self.lock:
            self.live += 1
            self.now += 1
            self.most_live = max(self.most_live, self.live)
            self.most_now = max(self.most_now, self.now)
        try:
            if fragment in self.broken:
                raise OSError(f"fragment {fragment} is broken")
            values = super().read(fragment, columns)["x"].to_numpy().copy()
        except BaseException:
            self._gone()
            raise
        finally:
            with self.lock:
                self.now -= 1
        weakref.finalize(values, self._gone)
        return pa.table({"x": values})  # a view of `values`, which it holds

    def _gone(self) -> None:
        with self.lock:
            self.live -= 1


def batches_of(order: npt.NDArray[np.int64], batch: int) -> list[list[int]]:
    owner = order // GROUP
    return [sorted(set(owner[a : a + batch].tolist())) for a in range(0, len(order), batch)]


def loader_over(
    rows: FragmentRows, order: npt.NDArray[np.int64], batch: int, **options: Any
) -> Loader:
    chosen = Options(batch_size=batch, **options)
    return Loader(rows, FakePlan(order), chosen, numpy_collate)


@pytest.mark.parametrize("threads", [1, 16])
@pytest.mark.parametrize("kept", [1, 8, 60])
@pytest.mark.parametrize("name", PLANS)
def test_fragments_are_read_as_often_as_the_farthest_next_use_says(
    name: str, kept: int, threads: int
) -> None:
    """However many threads read: the loads and their order are settled before. Of several threads one
    may find what another is still taking rows of, and then it is not read again.
    """
    source, order = Counted(), PLANS[name]()
    loader = loader_over(
        FragmentRows(source, kept * SIZE), order, 16, num_threads=2, io_threads=threads
    )
    seen = np.concatenate([b["x"] for b in loader])
    assert np.array_equal(seen, order)
    expected = farthest(batches_of(order, 16), [SIZE] * len(STARTS), kept * SIZE)
    reads, most = Counter(source.reads), Counter(f for _, f in expected)
    assert reads == most if threads == 1 else reads <= most
    assert reads.total() >= 0.9 * most.total()
    fetches = loader.stats().fetches
    assert fetches.fragments == reads.total()
    assert fetches.again == reads.total() - len(reads)
    assert fetches.bytes == reads.total() * SIZE
    # Those that threads take rows of are let go of a moment after they have made room.
    assert source.most_live <= kept + threads + 2


def test_a_pass_that_had_room_for_everything_leaves_it_for_the_next() -> None:
    source, order = Counted(), PLANS["shuffled"]()
    loader = loader_over(FragmentRows(source, 80 * SIZE), order, 16)
    for _ in range(3):
        assert len(list(loader)) == ROWS // 16
    assert sorted(source.reads) == list(range(80))
    loader.close()
    assert eventually(lambda: source.live == 0)


def test_what_has_no_further_use_is_let_go_of_at_once() -> None:
    source = Counted()
    loader = loader_over(FragmentRows(source, 40 * SIZE), np.arange(ROWS), 25, prefetch_factor=1)
    live = [source.live for _ in loader]
    assert max(live) <= 40 and live[-1] <= 2
    assert eventually(lambda: source.live == 0)
    assert sorted(source.reads) == list(range(80))


def test_other_fragments_are_read_while_a_slow_one_is_waited_for() -> None:
    """Sixteen at a time of those of one batch, and of those that later ones need."""
    for batch in (400, 25):
        source = Counted()
        source.delay = 0.02
        loader = loader_over(FragmentRows(source, 1 << 20), np.arange(ROWS), batch, io_threads=16)
        assert len(list(loader)) == ROWS // batch
        assert source.most_now >= 12
        assert loader.stats().fetches.ahead_bytes > 0


def test_fragments_larger_than_all_memory_are_read_once_for_batches_in_a_row() -> None:
    source = Counted()
    loader = loader_over(FragmentRows(source, 1), np.arange(ROWS), 10, io_threads=4)
    assert np.concatenate([b["x"] for b in loader]).tolist() == list(range(ROWS))
    assert sorted(source.reads) == list(range(80))


@pytest.mark.parametrize("kept", [4, 20, 80])
def test_several_passes_over_one_memory_go_on_and_share_it(kept: int) -> None:
    source = Counted()
    rows = FragmentRows(source, kept * SIZE)
    orders = [PLANS["shuffled"](), PLANS["sampled"](), PLANS["in order"]()]
    loaders = [loader_over(rows, order, 50, num_threads=2) for order in orders]
    seen: list[list[Any]] = [[] for _ in orders]
    for parts in zip_longest(*loaders):
        for mine, part in zip(seen, parts, strict=True):
            mine.append(part["x"])
    for order, mine in zip(orders, seen, strict=True):
        assert np.array_equal(np.concatenate(mine), order)
    assert source.most_live <= kept + 12
    if kept == 80:
        assert len(source.reads) <= 100  # two passes may read one at the same moment


def test_a_pass_left_in_the_middle_is_no_burden_to_the_next() -> None:
    source = Counted()
    rows = FragmentRows(source, 10 * SIZE)
    held = iter(loader_over(rows, PLANS["shuffled"](), 50))
    next(held)
    dropped = iter(loader_over(rows, PLANS["shuffled"](), 50))
    next(dropped)
    del dropped
    order = PLANS["in order"]()
    assert np.array_equal(np.concatenate([b["x"] for b in loader_over(rows, order, 50)]), order)
    assert len(list(held)) == ROWS // 50 - 1


def test_a_fragment_that_cannot_be_read_fails_in_the_turn_of_its_batch() -> None:
    source = Counted()
    source.broken = {3}
    loader = loader_over(FragmentRows(source, 20 * SIZE), np.arange(ROWS), GROUP, io_threads=4)
    batches = iter(loader)
    assert [next(batches)["x"][0] for _ in range(3)] == [0, 25, 50]
    with pytest.raises(OSError, match="fragment 3 is broken"):
        next(batches)
    source.broken.clear()
    assert len(list(loader)) == 80
    assert eventually(lambda: workers() == [])


@pytest.mark.parametrize("first", [0, 900])
def test_rows_that_cannot_be_told_fail_in_the_turn_of_their_batch(first: int) -> None:
    """Weights of fragments that are looked up as they come may be read from data that is broken."""

    class Torn(FakePlan):
        def stream(self, *args: Any, **options: Any) -> Any:
            whole = super().stream(*args, **options)

            class Stream:
                batches, position_after = whole.batches, whole.position_after

                def __len__(self) -> int:
                    return len(whole)

                def batch(self, i: int, /) -> Any:
                    self.rows(i, i + 1)
                    return whole.batch(i)

                def rows(self, a: int, b: int, /) -> Any:
                    if a * 50 <= 1_000 < b * 50 or (a * 50 <= first < b * 50 and b - a > 1):
                        raise OSError("no weight of row 1,000")
                    return whole.rows(a, b)

            return Stream()

    source = Counted()
    plan, chosen = Torn(np.arange(ROWS)), Options(batch_size=50)
    batches = iter(Loader(FragmentRows(source, 20 * SIZE), plan, chosen, numpy_collate))
    assert [next(batches)["x"][0] for _ in range(20)] == list(range(0, 1_000, 50))
    with pytest.raises(OSError, match="no weight"):
        next(batches)


def test_closing_while_threads_wait_for_room_ends_them() -> None:
    source = Counted()
    source.delay = 0.001
    rows = FragmentRows(source, 2 * SIZE)
    for _ in range(3):
        loader = loader_over(rows, PLANS["shuffled"](), 64, io_threads=8)
        batches = iter(loader)
        next(batches)
        loader.close()
    with ThreadPoolExecutor(2) as pool:
        loaders = [loader_over(rows, PLANS["shuffled"](), 64, io_threads=4) for _ in range(2)]
        assert [len(b) for b in pool.map(list, loaders)] == [32, 32]
    assert eventually(lambda: workers() == [])
