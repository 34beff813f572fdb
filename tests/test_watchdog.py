"""A batch that does not come: the error and the notice say which, where it is stuck, and in what."""

import gc
import logging
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.loader_fakes import loader_of, mixed, workers
from tql.diagnostics import TqlDataError
from tql.loader import watchdog
from tql.loader.batch import Columns
from tql.loader.processes import Workers
from tql.loader.transforms import applied
from tql.loader.watchdog import Stall, Stalled, outcome
from tql.sources import parquet


def nothing(waited: float) -> Stall:
    return Stall(waited, "read", "epoch 0, step 3", {"read": [3, 4]}, ["a.parquet"], ())


def stuck(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["x"] == 13:
        time.sleep(600)
    return sample


def test_the_error_of_a_timeout_has_the_stacks_and_all_that_is_under_way() -> None:
    release = threading.Event()

    def dream(x: int) -> int:
        if x >= 5:
            release.wait(30)
        return x

    loader = loader_of(mixed(), batch_size=4, timeout=4.0, transform={"x": dream}, num_threads=2)
    try:
        # The threads sleep in the transforms of any two batches: the one that is waited for may be
        # decoded, and wait for a thread.
        with pytest.raises(TqlDataError, match=r"in stage '(transform|decode)'") as caught:
            list(loader)
        (note,) = caught.value.__notes__
        assert "'transform' (" in note.splitlines()[0] and "by stage: " in note
        assert "tql-decode_" in note and "in dream\n" in note and "release.wait(30)" in note
        assert "without work" in note
        assert "worker processes" not in note
    finally:
        release.set()


def test_it_names_the_fragments_that_are_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"x": np.arange(100)}), tmp_path / "a.parquet", row_group_size=10)
    ds = tql.open(str(tmp_path / "a.parquet"))
    release = threading.Event()
    read = parquet.read_group

    def slow(*args: Any) -> Any:
        release.wait(30)
        return read(*args)

    monkeypatch.setattr(parquet, "read_group", slow)
    try:
        with pytest.raises(TqlDataError, match="in stage 'read'") as caught:
            list(ds.dataloader(timeout=4.0).batch(20).numpy())
        (note,) = caught.value.__notes__
        assert "a.parquet, row group 0," in note and "a.parquet, row group 1" in note
        assert "in slow\n" in note
    finally:
        release.set()


def test_of_worker_processes_it_says_where_they_are() -> None:
    made = Workers(applied(stuck, {}), 1)
    try:
        batch = Columns(np.array([13]), {"x": np.array([13])})
        going = made.submit(batch, range(1), [0])
        until = time.monotonic() + 60
        while "in stuck" not in (told := "\n".join(made.described())) and time.monotonic() < until:
            time.sleep(0.05)
        assert ": at work" in told and "test_watchdog.py" in told and "in stuck" in told
        made.kill()
        with pytest.raises(TqlDataError, match="killed by SIGKILL"):
            going.result(60)
        assert "ended with -9" in "\n".join(made.described())
    finally:
        made.close()


def test_without_a_timeout_there_is_one_notice(caplog: pytest.LogCaptureFixture) -> None:
    done: Future[int] = Future()
    told = threading.Event()

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    handler = Telling()
    logging.getLogger("tql").addHandler(handler)
    try:
        threading.Thread(target=lambda: (told.wait(30), done.set_result(5))).start()
        with caplog.at_level(logging.WARNING, "tql"):
            assert outcome(done, None, nothing, notice=0.01) == 5
    finally:
        logging.getLogger("tql").removeHandler(handler)
    (record,) = caplog.records
    assert record.name == "tql" and record.levelno == logging.WARNING
    message = record.getMessage()
    assert message.startswith("no batch for 0 seconds, in stage 'read' of epoch 0, step 3\n")
    assert "'read' (2 steps: 3, 4)" in message and "read from: a.parquet" in message


def test_a_batch_that_comes_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    assert sum(1 for _ in loader_of(mixed(), batch_size=4, timeout=500.0)) == 13
    assert caplog.records == []
    assert watchdog.NOTICE == 60.0


def test_a_timeout_of_the_user_is_told_from_ours() -> None:
    done: Future[int] = Future()
    with pytest.raises(Stalled):
        outcome(done, 0.01, nothing)
    with pytest.raises(Stalled):
        outcome(done, 0.03, nothing, notice=0.01)
    done.set_exception(TimeoutError("of the user"))
    for timeout in (None, 0.01, 100.0):
        with pytest.raises(TimeoutError, match="of the user"):
            outcome(done, timeout, nothing, notice=0.01)


def test_threads_of_others_are_left_out() -> None:
    gc.collect()
    release, inside = threading.Event(), threading.Event()

    def alien() -> None:
        inside.set()
        release.wait(30)

    other = threading.Thread(target=alien, name="alien")
    other.start()
    assert inside.wait(30)
    try:
        assert "alien" not in str(nothing(1.0))
    finally:
        release.set()
        other.join()
    until = time.monotonic() + 30
    while workers() and time.monotonic() < until:
        time.sleep(0.01)
    assert workers() == []
