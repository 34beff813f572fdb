"""Reading by the plan when something goes wrong: reads that fail, passes that end, sizes that mislead."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tql
from tests.loader_fakes import FakePlan, FakeSource
from tql.loader import FragmentRows, Loader, Options, numpy_collate
from tql.schema import Column, Int, Schema
from tql.sources.protocol import Fragment

PATIENCE = 60.0  # seconds that a busy machine may take; what hangs would hang for ever


class Mishap(FakeSource):
    """Numbers in fragments of several sizes; `fail` is called before each read."""

    def __init__(self, sizes: Sequence[int]) -> None:
        rows = sum(sizes)
        super().__init__(pa.table({"x": np.arange(rows)}), Schema([Column("x", Int(64))]), 100)
        starts = np.cumsum([0, *sizes])
        self.fragments = [
            Fragment(i, int(starts[i]), size, f"fragment {i}") for i, size in enumerate(sizes)
        ]

    def fail(self, fragment: int) -> None:
        """Nothing goes wrong."""

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        self.fail(fragment)
        return super().read(fragment, columns)


def loader(rows: FragmentRows, order: Any, batch: int, **options: Any) -> Loader:
    chosen = Options(batch_size=batch, timeout=PATIENCE, **options)
    return Loader(rows, FakePlan(np.asarray(order)), chosen, numpy_collate)


def test_a_read_that_fails_while_another_of_its_batch_waits_for_room_is_told() -> None:
    class Broken(Mishap):
        def fail(self, fragment: int) -> None:
            if fragment == 10:
                time.sleep(0.2)  # so that its sibling comes to wait
                raise OSError("fragment 10 is broken")

    rows = FragmentRows(Broken([100] * 10 + [10, 200]), 1000 * 8)
    paused = iter(
        loader(rows, np.tile(np.arange(0, 1000, 100), 200), 10, num_threads=1, io_threads=2)
    )
    next(paused)
    time.sleep(0.3)  # until it holds all memory there is
    broken = iter(loader(rows, [1000, 1010, 1011, 1005], 4, num_threads=1, io_threads=2))
    with pytest.raises(OSError, match="fragment 10 is broken"):
        next(broken)


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_pass_that_ends_while_it_reads_does_not_end_another(how: str) -> None:
    reading, ended = threading.Event(), threading.Event()

    class CalledOff(Mishap):
        first = True

        def fail(self, fragment: int) -> None:
            if fragment == 1 and self.first:
                self.first = False
                reading.set()
                assert ended.wait(PATIENCE)
                raise CancelledError  # as a request does that is being tried again

    rows = FragmentRows(CalledOff([10] * 4), 1 << 20)
    one = loader(rows, np.arange(40), 10, num_threads=1, io_threads=1)
    first = iter(one)
    next(first)
    assert reading.wait(PATIENCE)
    second = iter(loader(rows, np.arange(40), 10, num_threads=1, io_threads=1))
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.extend(batch["x"].tolist() for batch in second))
    thread.start()
    time.sleep(0.2)  # until it waits for the read of the first
    if how == "drop":
        del first, one
        ended.set()
    else:
        threading.Timer(0.1, ended.set).start()
        one.close()
    thread.join(PATIENCE)
    assert got == np.arange(40).reshape(4, 10).tolist()


def test_an_error_belongs_to_the_batch_that_needs_the_fragment() -> None:
    class Once(Mishap):
        failed = False

        def fail(self, fragment: int) -> None:
            time.sleep(0.002)
            if fragment == 12 and not self.failed:
                self.failed = True
                raise OSError("fragment 12 failed")

    for _ in range(20):
        rows, delivered = FragmentRows(Once([10] * 80), 1 << 20), 0
        try:
            for _ in loader(
                rows, np.arange(800), 40, num_threads=2, io_threads=4, prefetch_factor=80
            ):
                delivered += 1
        except OSError:
            assert delivered == 3  # rows 120 … 159
        else:
            assert delivered == 20  # it was read ahead, and once more when it was needed


def test_memory_is_kept_to_where_nothing_tells_the_bytes_of_fragments(tmp_path: Path) -> None:
    file, rng = tmp_path / "a.arrow", np.random.default_rng(0)
    schema = pa.schema([("data", pa.binary())])
    with (
        pa.OSFile(str(file), "wb") as out,
        pa.ipc.new_file(out, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer,
    ):
        for size in (10, *[10_000] * 12):
            values = [rng.bytes(size) for _ in range(100)]
            writer.write_batch(pa.record_batch([pa.array(values, pa.binary())], schema))
    loader = tql.open(file).dataloader(memory=8_000_000, io_threads=1)
    chain = loader.shuffle().batch(20).numpy(num_threads=1)
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for batch in chain:
        most, rows = max(most, pa.total_allocated_bytes() - before), rows + len(batch["index"])
    assert rows == 1300
    # Half of it is for fragments, of which each reader may have one in its hands besides.
    assert most < 4_000_000 + 5 * 1_000_000
