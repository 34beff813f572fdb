"""Passes that are left half-way leave nothing: no threads, no files, no processes, no memory."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql.loader import Loader
from tql.loader.pipeline import Pipeline

ROOT = Path(__file__).parents[1]
FOLDERS = Path("/proc/self/fd")
ROWS, WIDE = 400, 1 << 13  # 64 rows are 2 MB, all of them 13
MB = 1 << 20
pytestmark = pytest.mark.skipif(not FOLDERS.exists(), reason="open files are counted in /proc")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = tmp_path_factory.mktemp("abandoned") / "a.parquet"
    values = pa.array(np.arange(ROWS * WIDE, dtype=np.float32) % 251)
    wide = pa.FixedSizeListArray.from_arrays(values, WIDE)
    pq.write_table(pa.table({"x": np.arange(ROWS), "wide": wide}), found, row_group_size=50)
    return str(found)


def as_it_is(sample: dict[str, Any]) -> dict[str, Any]:
    return sample


def ours() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("tql-")]


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def settled(quiet: Callable[[], bool]) -> bool:
    """Whether it becomes so within a minute, which is for ever."""
    until = time.monotonic() + 60
    while not quiet() and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    return quiet()


def pipelines() -> int:
    return sum(type(o) is Pipeline for o in gc.get_objects())


def break_off(loader: Any) -> None:
    for i, _ in enumerate(loader):
        if i:
            break


def fail(loader: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        for i, _ in enumerate(loader):
            _ = 1 // (1 - i)


def drop(loader: Any) -> None:
    iterator = iter(loader)
    next(iterator)
    del iterator


def drop_loader(loader: Any) -> None:
    iterator = iter(loader)
    next(iterator)
    del loader
    next(iterator)


def close(loader: Any) -> None:
    batches = (batch for batch in loader)
    next(batches)
    batches.close()


def two_at_once(loader: Any) -> None:
    one, other = iter(loader), iter(loader)
    for iterator in (one, other, one):
        next(iterator)


WAYS = [break_off, fail, drop, drop_loader, close, two_at_once]


@pytest.mark.parametrize("output", ["numpy", "pytorch", "tensorflow"])
def test_ten_passes_left_early_leave_threads_files_and_memory_as_before(
    path: str, output: str
) -> None:
    def leave(ways: list[Callable[[Any], None]]) -> None:
        for way in ways:
            loader = getattr(tql.open(path).dataloader().shuffle().batch(64), output)(num_threads=2)
            way(loader)
            del loader

    leave(WAYS)  # what is imported, compiled and kept for good is not what is measured
    assert settled(lambda: not ours() and not pipelines())
    files, memory, threads = len(list(FOLDERS.iterdir())), resident(), threading.active_count()
    leave((WAYS * 2)[:10])
    assert settled(lambda: not ours() and not pipelines())
    assert settled(lambda: threading.active_count() <= threads)
    assert settled(lambda: len(list(FOLDERS.iterdir())) <= files)
    assert resident() < memory + 80 * MB  # ten passes hold 13 MB and more each


def test_data_sets_made_of_one_of_tensorflow_keep_its_loader_and_no_more(path: str) -> None:
    def made() -> Any:
        return tql.open(path).dataloader().batch(100).tensorflow(tensors=["x"])

    def rows(batches: Any) -> list[int]:
        gc.collect()
        return sorted(int(x) for batch in batches for x in batch["x"])

    assert rows(made().map(lambda batch: batch).prefetch(1)) == [*range(ROWS)]
    assert rows(iter(made())) == [*range(ROWS)]
    assert rows(made().take(2).concatenate(made().skip(2))) == [*range(ROWS)]
    assert rows(b for b in made().repeat(2).enumerate().map(lambda _, b: b).take(4)) == [
        *range(ROWS)
    ]
    assert settled(lambda: not any(type(o) is Loader for o in gc.get_objects()))


def test_passes_with_processes_left_early_leave_none(path: str) -> None:
    chain = tql.open(path).dataloader().batch(16).transform(as_it_is)
    for way in (break_off, drop_loader):
        loader = chain.numpy(num_workers=1, tensors=["x"])
        way(loader)
        del loader
    assert settled(lambda: not multiprocessing.active_children())
    assert settled(lambda: not ours() and not pipelines())


def test_a_loader_that_is_kept_can_be_left_and_used_again(path: str) -> None:
    loader = tql.open(path).dataloader().batch(64).numpy(tensors=["x"])
    for way in (break_off, fail, drop, close, two_at_once):
        way(loader)
        assert [x for b in loader for x in b["x"].tolist()] == [*range(ROWS)]
    assert settled(lambda: not ours() and not pipelines())


IMPORTED = """
import os, sys, threading
before = set(os.listdir("/proc/self/fd"))
import tql, tql.api, tql.chain, tql.dataset, tql.loader, tql.planner, tql.sources
chain = tql.open("demo:digits").dataloader().batch(4)
loaders = chain.numpy(), chain.pytorch()
iterator = iter(loaders[0])
assert threading.active_count() == 1, threading.enumerate()
assert set(os.listdir("/proc/self/fd")) == before
assert not {"torch", "tensorflow", "ray"} & set(sys.modules)
"""


def test_importing_and_building_starts_no_thread_and_opens_no_file() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


FORKED = """
import os, signal, sys, threading, time
import numpy as np
import tql
from tql.diagnostics import TqlUnsupportedError

def slow(sample):
    time.sleep(0.002)
    return sample

def child(ds, chain, iterator):
    try:
        next(iterator)
        return 2
    except TqlUnsupportedError:
        pass
    if [x for b in chain for x in b["x"].tolist()] != list(range(200)):
        return 3
    fresh = ds.dataloader().batch(10).numpy()
    if [x for b in fresh for x in b["x"].tolist()] != list(range(200)):
        return 4
    return 0 if ds.query("select x where x > 197").row_ids.tolist() == [198, 199] else 5

ds = tql.open(sys.argv[1])
chain = ds.dataloader().batch(10).transform(slow).numpy(num_threads=2)
ds.query("select x where x > 3")
iterator = iter(chain)
got = []
for _ in range(3):
    got += next(iterator)["x"].tolist()
    pid = os.fork()  # the threads are in the middle of batches
    if pid == 0:
        signal.alarm(60)
        os._exit(child(ds, chain, iterator))
    assert os.waitpid(pid, 0)[1] == 0
for batch in iterator:
    got += batch["x"].tolist()
assert got == list(range(200))
print("done")
"""


def test_a_child_forked_in_the_middle_of_a_pass_makes_its_own(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": np.arange(200)}), tmp_path / "a.parquet", row_group_size=20)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tmp_path / "a.parquet")],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
