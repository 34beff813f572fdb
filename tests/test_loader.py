"""The contract of tql.loader.pipeline, clause by clause."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.loader_fakes import (
    FakePlan,
    encoded,
    eventually,
    loader_of,
    mixed,
    picture,
    source_of,
    workers,
)
from tql import images as images_module
from tql.diagnostics import TqlDataError, TqlPlanError, TqlTypeError, TqlUnsupportedError
from tql.loader import FragmentRows, Loader, Options, numpy_collate
from tql.loader.fragments import Io
from tql.loader.rows import Unplanned
from tql.loader.schedule import Course
from tql.schema import Binary, Int
from tql.sources.protocol import Run, in_turn


def shuffled(n: int, seed: int = 0) -> FakePlan:
    return FakePlan(np.random.default_rng(seed).permutation(n).astype(np.int64))


@pytest.fixture(autouse=True)
def no_threads_stay() -> Iterator[None]:
    yield
    assert eventually(lambda: workers() == [])


class SlowRows:
    """Rows whose reading can be held back; notes which batches were begun."""

    def __init__(self, source: Any, delays: Sequence[float] = ()) -> None:
        self.inner = FragmentRows(source)
        self.kind, self.schema = self.inner.kind, self.inner.schema
        self.delays = list(delays)
        self.begun: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def take(
        self, rows: npt.NDArray[np.int64], columns: Sequence[str], run: Run = in_turn
    ) -> pa.Table:
        self.begun.append(int(rows[0]))
        if self.delays:
            time.sleep(self.delays[int(rows[0]) % len(self.delays)])
        assert self.gate.wait(10)
        return self.inner.take(rows, columns, run)

    local = True

    def follow(self, course: Course, io: Io) -> Unplanned:
        return Unplanned(self)

    def identify(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return rows + 1000

    def origin(self, row: int) -> str:
        return self.inner.origin(row)

    def in_order(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return self.inner.in_order(start, stop)

    def release(self) -> None:
        self.inner.release()


def loader_on(rows: SlowRows, **options: Any) -> Loader:
    n = rows.inner.source.rows
    return Loader(rows, FakePlan(np.arange(n, dtype=np.int64)), Options(**options), numpy_collate)


# 1. Order


def test_batches_come_in_plan_order_whatever_order_they_finish_in() -> None:
    rows = SlowRows(mixed(40), delays=[0.03, 0.0, 0.02, 0.0, 0.01])
    loader = loader_on(rows, batch_size=3, num_threads=4, prefetch_factor=4)
    seen = [b["index"].tolist() for b in loader]
    assert seen == [[1000 + r for r in range(i, min(i + 3, 40))] for i in range(0, 40, 3)]


def test_values_belong_to_the_rows_that_index_names() -> None:
    plan = shuffled(50)
    for batch in loader_of(mixed(), plan, batch_size=7, num_threads=3):
        assert batch["x"].tolist() == batch["index"].tolist()
        assert batch["name"] == [f"row {i}" for i in batch["index"]]
        for row, image in zip(batch["index"], batch["image"]):
            assert np.array_equal(image, picture(int(row)))


# 2. Bound


def test_no_more_batches_are_begun_than_the_bound_allows() -> None:
    rows = SlowRows(mixed(200))
    loader = loader_on(rows, batch_size=2, num_threads=2, prefetch_factor=3, columns=("x",))
    in_flight = 1 + 3 * 1
    iterator = iter(loader)
    for delivered in range(1, 20):
        next(iterator)
        assert eventually(lambda d=delivered: len(rows.begun) == d + in_flight)
        time.sleep(0.002)  # a batch too many would be begun now
        assert len(rows.begun) == delivered + in_flight
    loader.close()


def test_a_small_memory_budget_leaves_one_batch_in_the_making() -> None:
    rows = SlowRows(mixed(60))
    loader = loader_on(rows, batch_size=4, num_threads=4, prefetch_factor=8, memory_bytes=1)
    iterator = iter(loader)
    for delivered in range(1, 12):
        next(iterator)
        ahead = 2 if delivered == 1 else 1  # two were begun before the first was measured
        time.sleep(0.01)
        assert len(rows.begun) <= delivered + ahead
    loader.close()


# 3. Lazy


def test_nothing_is_read_and_no_thread_runs_before_the_first_next() -> None:
    source = mixed()
    iterator = iter(loader_of(source, batch_size=4))
    assert source.reads == []
    assert workers() == []
    next(iterator)
    assert source.reads != []


# 4. Failure


def corrupt_at(bad: int, n: int = 40) -> Any:
    data = [encoded(picture(i)) for i in range(n)]
    data[bad] = data[bad][:60]
    return source_of(image=(Binary(image=True), pa.array(data, pa.binary())))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_failure_comes_in_its_turn_and_names_the_rows(threads: int) -> None:
    loader = loader_of(corrupt_at(17), batch_size=5, num_threads=threads, prefetch_factor=8)
    seen: list[list[int]] = []
    with pytest.raises(TqlDataError) as caught:
        seen.extend(batch["index"].tolist() for batch in loader)
    assert len(seen) == 3
    error = caught.value
    assert error.diagnostic.code == "corrupt"
    assert "row 17, column 'image' (fragment 1)" in error.diagnostic.message
    assert error.__notes__ == [
        "tql: while loading epoch 0, step 3, position 15, rows [15, 16, 17, 18, 19]"
    ]
    assert loader.state_dict()["position"] == 15
    assert workers() == []


def test_of_several_failures_in_one_batch_the_same_one_surfaces() -> None:
    def fail(x: int) -> int:
        if x in (3, 9, 27):
            time.sleep(0.01 if x == 3 else 0.0)
            raise KeyError(x)
        return x

    for _ in range(5):
        loader = loader_of(mixed(), batch_size=30, num_threads=8, transform={"x": fail})
        with pytest.raises(KeyError) as caught:
            list(loader)
        assert caught.value.args == (3,)


def test_what_a_transform_raises_keeps_its_type_even_if_it_is_a_timeout_or_an_exit() -> None:
    for kind in (TimeoutError, SystemExit, ZeroDivisionError):

        def fail(sample: dict[str, Any], kind: type[BaseException] = kind) -> dict[str, Any]:
            raise kind("of the user")

        with pytest.raises(kind, match="of the user"):
            list(loader_of(mixed(), batch_size=3, transform=fail))


def test_a_reader_that_fails_fails_the_batch_and_not_the_process() -> None:
    source = mixed()
    broken = RuntimeError("the disk is gone")

    def read(fragment: int, columns: Sequence[str]) -> pa.Table:
        raise broken

    source.read = read  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the disk is gone") as caught:
        list(loader_of(source, batch_size=3, num_threads=4))
    assert len(caught.value.__notes__) == 1


def test_a_batch_that_takes_too_long_is_an_error_that_names_stage_and_rows() -> None:
    rows = SlowRows(mixed())
    rows.gate.clear()
    try:
        with pytest.raises(TqlDataError, match=r"no batch within 0\.05 seconds") as caught:
            next(iter(loader_on(rows, batch_size=2, timeout=0.05)))
        assert "in stage 'read' of epoch 0, step 0, position 0, rows [1000, 1001]" in str(
            caught.value
        )
    finally:
        rows.gate.set()


@pytest.mark.parametrize("then", ["nothing", "close", "with"])
def test_the_error_of_a_timeout_and_close_do_not_wait_for_the_stuck_worker(then: str) -> None:
    release, ended = threading.Event(), threading.Event()

    def stuck(x: int) -> int:
        if x == 5:
            release.wait(10)
            ended.set()
        return x

    loader = loader_of(mixed(), batch_size=4, timeout=0.5, transform={"x": stuck}, num_threads=2)
    iterator = iter(loader)
    try:
        assert next(iterator)["x"].tolist() == [0, 1, 2, 3]
        with pytest.raises(TqlDataError, match=r"in stage 'transform' of .* rows \[4, 5, 6, 7\]"):
            if then == "with":
                with loader:
                    next(iterator)
            else:
                next(iterator)
        if then == "close":
            loader.close()
        assert not ended.is_set()
        with pytest.raises(StopIteration):
            next(iterator)
    finally:
        release.set()
    assert eventually(lambda: workers() == [])
    assert len(list(loader_of(mixed(), batch_size=4))) == 13


# 5. Close


def test_no_thread_is_left_after_the_end_of_a_pass() -> None:
    assert sum(1 for _ in loader_of(mixed(), batch_size=3, num_threads=4)) == 17
    assert workers() == []


def test_close_waits_for_the_workers_and_may_be_called_twice() -> None:
    inside, left = threading.Event(), threading.Event()

    def slow(x: int) -> int:
        inside.set()
        time.sleep(0.05)
        left.set()
        return x

    loader = loader_of(mixed(), batch_size=1, num_threads=2, transform={"x": slow})
    iterator = iter(loader)
    messages: list[str] = []

    def consume() -> None:
        try:
            list(iterator)
        except TqlPlanError as e:
            messages.append(e.diagnostic.message)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert inside.wait(10)
    loader.close()
    assert left.is_set()
    loader.close()
    assert workers() == []
    consumer.join(10)
    assert len(messages) == 1
    assert messages[0].startswith("the loader was closed before epoch 0, step")


def test_next_after_close_is_an_error_and_a_new_pass_works() -> None:
    loader = loader_of(mixed(), batch_size=5)
    iterator = iter(loader)
    next(iterator)
    loader.close()
    with pytest.raises(TqlPlanError, match="the loader was closed before epoch 0, step 1"):
        next(iterator)
    assert [b["index"][0] for b in loader] == list(range(0, 50, 5))


def test_close_lets_go_of_the_fragments_that_were_read() -> None:
    source = mixed()
    loader = loader_of(source, batch_size=5)
    list(loader)
    list(loader)
    assert sorted(source.reads) == [0, 1, 2, 3, 4]
    loader.close()
    list(loader)
    assert sorted(source.reads) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_leaving_a_with_block_stops_the_threads() -> None:
    with loader_of(mixed(), batch_size=1, num_threads=3) as loader:
        iterator = iter(loader)
        next(iterator)
        assert workers() != []
    assert workers() == []


def test_an_iterator_that_is_dropped_closes_itself() -> None:
    loader = loader_of(mixed(), batch_size=1, num_threads=3)
    for _ in loader:
        break
    gc.collect()
    assert eventually(lambda: workers() == [])


def test_leaving_a_loop_does_not_wait_for_a_transform() -> None:
    release, ended = threading.Event(), threading.Event()

    def stuck(x: int) -> int:
        if x > 0:
            release.wait(10)
            ended.set()
        return x

    for _ in loader_of(mixed(), batch_size=1, num_threads=3, transform={"x": stuck}):
        break
    assert not ended.is_set()
    release.set()
    assert eventually(lambda: workers() == [])


def test_an_iterator_collected_while_its_locks_are_held_does_not_deadlock() -> None:
    """The collector runs wherever something is allocated, inside our locks and the user's."""
    lock, waiting = threading.Lock(), threading.Event()

    def locked(x: int) -> int:
        if x > 0:
            waiting.set()
        with lock:
            return x

    holder: dict[str, Any] = {}
    loader = loader_of(mixed(), batch_size=1, num_threads=2, transform={"x": locked})
    holder["iterator"] = iter(loader)
    next(holder["iterator"])
    pipeline = next(iter(loader._running))
    assert waiting.wait(10)
    with lock, pipeline._lock:
        holder.clear()
        gc.collect()
        assert pipeline._stopped
    del pipeline
    assert eventually(lambda: workers() == [])


def test_an_iterator_dropped_by_a_worker_closes_without_joining_itself() -> None:
    """A batch's transform may hold the last reference, by a cycle that the collector finds there."""
    holder: dict[str, Any] = {}
    ready, dropped = threading.Event(), threading.Event()

    def drop(x: int) -> int:
        if x == 3:
            assert ready.wait(10)
            holder.clear()
            gc.collect()
            dropped.set()
        return x

    loader = loader_of(mixed(), batch_size=1, num_threads=2, transform={"x": drop})
    holder["iterator"] = iter(loader)
    next(holder["iterator"])
    ready.set()
    assert dropped.wait(10)
    assert eventually(lambda: workers() == [])


SCRIPT = """
import sys, time
sys.path.insert(0, {root!r})
from tests.loader_fakes import loader_of, mixed

def slow(sample):
    time.sleep(0.01)
    return sample

if __name__ == "__main__":
    loader = loader_of(mixed(400), batch_size=4, num_threads=4, transform=slow)
    iterator = iter(loader)
    next(iterator)
    print("ready", flush=True)
    {then}
"""


def script(then: str) -> "subprocess.Popen[str]":
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = SCRIPT.format(root=root, then=then)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)


def test_the_interpreter_ends_while_an_iterator_is_open() -> None:
    process = script("sys.exit(7)")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 7
    assert errors == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_an_interrupt_ends_a_program_that_waits_for_batches() -> None:
    process = script("list(iterator); list(loader)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0


# 6. Same


def flat(batches: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [
        (name, v.tobytes() if isinstance(v, np.ndarray) else v)
        for batch in batches
        for name, v in batch.items()
    ]


def test_one_and_eight_threads_give_the_same_bytes() -> None:
    plan = FakePlan(np.random.default_rng(3).integers(0, 50, 200))
    one, eight = (
        flat(list(loader_of(mixed(), plan, batch_size=9, num_threads=n, prefetch_factor=n)))
        for n in (1, 8)
    )
    assert one == eight


# 7. Once


def test_a_row_drawn_five_times_is_decoded_once_and_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[int] = []
    original = images_module.decode_into

    def counting(data: Any, header: Any, out: Any) -> None:
        decoded.append(len(data))
        original(data, header, out)

    monkeypatch.setattr(images_module, "decode_into", counting)
    source = mixed()
    rows = np.array([8, 8, 31, 8, 8, 31, 8], np.int64)
    (batch,) = loader_of(source, FakePlan(rows), batch_size=7)
    assert len(decoded) == 2
    assert sorted(source.reads) == [0, 3]
    assert batch["index"].tolist() == rows.tolist()
    for slot, row in enumerate(rows):
        assert np.array_equal(batch["image"][slot], picture(int(row)))


def test_repeated_rows_do_not_share_memory() -> None:
    plan = FakePlan(np.array([4, 4, 4], np.int64))
    source = source_of(
        image=(Binary(image=True), [encoded(picture(i, height=4 + i % 2)) for i in range(6)]),
        x=(Int(64), np.arange(6)),
    )
    (batch,) = loader_of(source, plan, batch_size=3)
    batch["image"][0][...] = 0
    batch["x"][0] = -1
    assert np.array_equal(batch["image"][1], picture(4, height=4))
    assert batch["x"].tolist() == [-1, 4, 4]


def test_each_fragment_is_read_once_for_all_batches_that_need_it() -> None:
    source = mixed(60, size=20)
    source.delay = 0.01
    list(loader_of(source, shuffled(60), batch_size=4, num_threads=8, prefetch_factor=8))
    assert sorted(source.reads) == [0, 1, 2]


# 8. Fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_is_refused_the_parents_iterator_and_can_load_anew() -> None:
    loader = loader_of(mixed(), batch_size=5, num_threads=3)
    iterator = iter(loader)
    next(iterator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork with threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            try:
                next(iterator)
            except TqlUnsupportedError as e:
                if "parent process" in e.diagnostic.message and len(list(loader)) == 10:
                    code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(iterator)) == 9


# Transforms, which run in the same threads


def test_a_callable_transform_gets_samples_with_index_and_its_keyword_arguments() -> None:
    def times(sample: dict[str, Any], *, factor: int) -> dict[str, Any]:
        assert sorted(sample) == ["flag", "image", "index", "name", "x", "y"]
        assert sample["image"].shape == (6, 5, 3)
        return {"double": sample["x"] * factor, "text": sample["name"]}

    loader = loader_of(mixed(), batch_size=4, transform=times, transform_kwargs={"factor": 2})
    batch = next(iter(loader))
    assert batch["double"].tolist() == [0, 2, 4, 6]
    assert batch["double"].dtype == np.int32
    assert batch["text"] == ["row 0", "row 1", "row 2", "row 3"]
    assert batch["index"].tolist() == [0, 1, 2, 3]


def test_a_dict_transform_names_the_columns_to_load_and_leaves_none_alone() -> None:
    loader = loader_of(mixed(), batch_size=4, transform={"image": np.mean, "x": None})
    batch = next(iter(loader))
    assert list(batch) == ["image", "x", "index"]
    assert batch["image"].tolist() == [picture(i).mean() for i in range(4)]
    assert batch["x"].tolist() == [0, 1, 2, 3]


def test_without_return_index_neither_sample_nor_batch_has_one() -> None:
    def check(sample: dict[str, Any]) -> dict[str, Any]:
        assert "index" not in sample
        return sample

    loader = loader_of(mixed(), batch_size=4, transform=check, return_index=False)
    assert "index" not in next(iter(loader))


def test_results_of_different_shapes_stay_a_list() -> None:
    def grow(sample: dict[str, Any]) -> dict[str, Any]:
        return {"a": np.zeros(sample["x"]), "b": np.zeros(2), "c": 1.5}

    batch = next(iter(loader_of(mixed(), batch_size=3, transform=grow)))
    assert [a.shape for a in batch["a"]] == [(0,), (1,), (2,)]
    assert batch["b"].shape == (3, 2)
    assert batch["c"].dtype == np.float64


def test_a_transform_that_returns_no_dict_or_other_keys_is_told_so() -> None:
    with pytest.raises(TqlTypeError, match="the transform returned tuple for row 0"):
        next(iter(loader_of(mixed(), batch_size=2, transform=lambda s: (s["x"], 1))))
    with pytest.raises(TqlTypeError, match=r"keys \['b'\] for row 1, but \['a'\] for row 0"):
        odd = {"transform": lambda s: {"b" if s["x"] else "a": 1}, "return_index": False}
        next(iter(loader_of(mixed(), batch_size=2, **odd)))


def test_what_a_transform_raises_names_row_and_column() -> None:
    def fail(x: Any) -> Any:
        raise ValueError("of the user")

    rows = SlowRows(mixed())
    with pytest.raises(ValueError, match="of the user") as caught:
        next(iter(loader_on(rows, batch_size=2, transform={"name": None, "x": fail})))
    assert caught.value.__notes__[0] == "tql: in the transform of row 1000, column 'x'"
    assert caught.value.__notes__[1].startswith("tql: while loading epoch 0, step 0")
    with pytest.raises(ValueError, match="of the user") as caught:
        next(iter(loader_on(rows, batch_size=2, transform=fail)))
    assert caught.value.__notes__[0] == "tql: in the transform of row 1000"


def test_stats_count_every_stage_and_give_one_line_of_advice() -> None:
    loader = loader_of(mixed(), batch_size=5, transform=lambda s: s)
    assert loader.stats().advice == "nothing was loaded yet"
    list(loader)
    stats = loader.stats()
    assert [s.batches for s in stats.stages.values()] == [10, 10, 10, 10]
    assert stats.stages["read"].rows == 50
    assert stats.delivered == 10
    assert str(stats).splitlines()[-1] == stats.advice
    assert not loader.errors()


def test_stats_tell_what_waits_in_front_of_each_stage() -> None:
    loader = loader_of(mixed(), batch_size=5, num_threads=2)
    batches = iter(loader)
    next(batches)
    # In flight are the batch in hand's successors: 1 + 2 x (2 threads / 5 rows, rounded up).
    assert eventually(lambda: loader.stats().queues["deliver"].most == 3)
    stats = loader.stats()
    assert stats.queues["deliver"].most_bytes > 3 * 5 * 6 * 5 * 3
    list(batches)
    stats = loader.stats()
    assert stats.queues["deliver"].waited > 0 and stats.queues["decode"].most >= 1
    assert stats.queues["read"].mean == pytest.approx(stats.queues["read"].waited / stats.elapsed)
    told = stats.to_dict()
    assert json.loads(json.dumps(told)) == told and told["advice"] == stats.advice
    assert told["fetches"]["fragments"] == 5 and not stats.held
    assert "5 fragments were read, 0 of them again" in str(stats)


def test_memory_that_holds_batches_back_is_said() -> None:
    def slow(x: int) -> int:
        time.sleep(0.001)
        return x

    loader = loader_of(mixed(), batch_size=5, memory_bytes=1, transform={"x": slow})
    list(loader)
    assert loader.stats().held >= 9
    assert "memory=" in loader.stats().advice


def test_memory_is_used_again_only_when_nobody_holds_the_batch() -> None:
    n = 64
    source = source_of(
        16, image=(Binary(image=True), [encoded(picture(i, 80, 80)) for i in range(n)])
    )
    held: list[tuple[int, npt.NDArray[np.uint8]]] = []
    addresses: set[int] = set()
    loader = loader_of(source, batch_size=64, prefetch_factor=1)
    for pass_ in range(12):
        for batch in loader:
            addresses.add(batch["image"].ctypes.data)
            if pass_ < 3:
                held.append((int(batch["index"][5]), batch["image"][5]))
            del batch
    assert len(addresses) < 12
    for row, image in held:  # a view of one image keeps the whole batch from being overwritten
        assert np.array_equal(image, picture(row, 80, 80))
