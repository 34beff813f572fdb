"""Kernels compiled by a child process: when, where to, and what is left when things go wrong."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tql import kernel_cache, kernel_jobs
from tql.jit import COMPILE_NS, PATIENCE_NS, START_NS, Kernel, generated
from tql.planner import draw

ROOT = Path(__file__).parents[1]
SOURCE = """def add(n, x, out):
    for i in range(n):
        out[i] = x[i] + {plus}
"""
DEADLINE = 120.0  # of an event; it comes within 2 s on a machine that does nothing else


def new_kernel(plus: int = 7) -> Kernel:
    source = SOURCE.format(plus=plus)
    return generated("add", "i64, i64[], i64[]", source, "tql.engine.kernels.devices")


def answer(k: Kernel) -> list[int]:
    out = np.zeros(3, np.int64)
    k(3, np.arange(3), out)
    return out.tolist()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    cache = tmp_path / "kernels"
    monkeypatch.setenv("TQL_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TQL_COMPILE", "background")
    fresh = kernel_jobs._State()
    for f in fields(fresh):
        monkeypatch.setattr(kernel_jobs._STATE, f.name, getattr(fresh, f.name))
    yield cache
    kernel_jobs._stop()


def child() -> "subprocess.Popen[bytes]":
    job = kernel_jobs._STATE.job
    assert job is not None, "no child is at work"
    return job.process


def kinds(folder: Path) -> list[str]:
    return sorted(f.suffix or f.name for f in folder.iterdir())


def test_the_kernel_arrives_while_the_slow_twin_answers(folder: Path) -> None:
    k = new_kernel()
    assert not k.pays(START_NS * 0.9)
    assert kernel_jobs._STATE.job is None, "it has not cost enough"
    assert not k.pays(START_NS * 0.2)
    process = child()
    assert not k.pays(COMPILE_NS), "nobody waits for the compiler"
    kernel_jobs.settle(DEADLINE)
    assert process.returncode == 0
    assert k.cached and not k.compiled
    assert k.pays(0.0)
    assert answer(k) == [7, 8, 9]
    assert kinds(folder) == [".o"]


def test_a_kernel_of_a_module_is_found_by_its_name(folder: Path) -> None:
    k = draw.SUM_UNITS
    again = Kernel(k.__name__, k.signature, lambda: k.python, module=k.module)
    assert not again.pays(START_NS)
    kernel_jobs.settle(DEADLINE)
    assert again.cached, kernel_jobs.failure(again.file_name)


def test_a_loop_from_elsewhere_is_compiled_here(folder: Path) -> None:
    """A child cannot be told of it."""
    k = Kernel("add", "i64, i64[], i64[]", lambda: new_kernel().python, source=SOURCE)
    assert not k.pays(COMPILE_NS * 0.9)
    assert kernel_jobs._STATE.job is None
    assert k.pays(COMPILE_NS * 0.2)


def test_one_child_at_a_time(folder: Path) -> None:
    first, second = new_kernel(1), new_kernel(2)
    assert not first.pays(START_NS)
    process = child()
    assert not second.pays(COMPILE_NS), "its turn comes"
    assert child() is process
    kernel_jobs.settle(DEADLINE)
    assert not second.pays(1.0)
    kernel_jobs.settle(DEADLINE)
    assert (answer(first), answer(second)) == ([1, 2, 3], [2, 3, 4])


def test_after_a_killed_child_the_kernel_is_compiled_here(folder: Path) -> None:
    k = new_kernel()
    assert not k.pays(START_NS)
    child().kill()
    kernel_jobs.settle(DEADLINE)
    assert "exit code -9" in str(kernel_jobs.failure(k.file_name))
    assert kinds(folder) == [], "neither a lock nor a part is left"
    assert k.pays(COMPILE_NS)
    assert not new_kernel(8).pays(START_NS)
    assert child().poll() is None, "other kernels still have a child"


def test_after_three_failures_no_child_is_started(folder: Path) -> None:
    for plus in range(3):
        assert not new_kernel(plus).pays(START_NS)
        child().kill()
        kernel_jobs.settle(DEADLINE)
    k = new_kernel(9)
    assert not k.pays(START_NS)
    assert kernel_jobs._STATE.job is None
    assert "3 children failed" in str(kernel_jobs.why_not())
    assert k.pays(COMPILE_NS)


def test_who_needs_a_kernel_more_than_a_child_is_late_compiles_it(folder: Path) -> None:
    k = new_kernel()
    assert not k.pays(START_NS)
    assert child().poll() is None
    assert not k.would_pay(PATIENCE_NS - START_NS - 1) and k.would_pay(PATIENCE_NS - START_NS)
    assert k.outlook(1)[0] == "wait"
    assert not k.pays(PATIENCE_NS - START_NS - 1)
    assert k.pays(1), "the child is at work still, but the slow twin has cost too much"
    assert answer(k) == [7, 8, 9]


def test_a_folder_that_can_only_be_read_is_stood_in_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bool:
        if _.parent == folder:
            raise PermissionError("read-only file system")
        return True

    monkeypatch.setattr(kernel_jobs, "take_lock", refuse)
    k = new_kernel()
    assert not k.pays(START_NS)
    kernel_jobs.settle(DEADLINE)
    assert answer(k) == [7, 8, 9]
    private = kernel_jobs._STATE.private
    assert private is not None and kinds(private) == [".o"]
    assert private.stat().st_mode & 0o777 == 0o700
    kernel_jobs._stop()
    assert not private.exists()


def test_a_folder_that_others_may_write_to_is_stood_in_for(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    k = new_kernel()
    assert not k.pays(START_NS)
    kernel_jobs.settle(DEADLINE)
    assert k.pays(0.0) and answer(k) == [7, 8, 9]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi", "/opt/app/trainer"])
def test_no_child_without_a_python(executable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    k = new_kernel()
    assert not k.pays(START_NS)
    assert kernel_jobs._STATE.job is None
    assert "no Python" in str(kernel_jobs.why_not())
    assert k.pays(COMPILE_NS)


def test_a_python_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python3")
    k = new_kernel()
    assert not k.pays(START_NS)
    assert "no child can be started" in str(kernel_jobs.failure(k.file_name))
    assert k.pays(COMPILE_NS)


def test_a_private_folder_that_was_removed_or_taken_is_made_anew(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    k = new_kernel()
    for _ in "12":
        assert not k.pays(START_NS)
        private = kernel_jobs._STATE.private
        assert private is not None and private in kernel_jobs.folders()
        child().kill()
        shutil.rmtree(private)
        kernel_jobs.settle(DEADLINE)
        assert kernel_jobs.failure(k.file_name) is None, "that is not the compiler's"
        private.mkdir()
        private.chmod(0o777)
        assert private not in kernel_jobs.folders()
        private.rmdir()


def test_a_child_that_is_late_is_ended_and_no_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    k = new_kernel()
    monkeypatch.setattr(kernel_jobs, "ABANDONED", -1.0)
    assert not k.pays(START_NS)
    process = child()
    kernel_jobs.look()
    assert process.returncode is not None and kernel_jobs._STATE.job is None
    assert kernel_jobs.failure(k.file_name) is None and kernel_jobs.why_not() is None
    assert kinds(folder) == []


def test_who_compiles_it_at_once_puts_an_ended_child_away(folder: Path) -> None:
    k = new_kernel()
    assert not k.pays(START_NS)
    process = child()
    while process.poll() is None:
        time.sleep(0.02)
    assert k.pays(0.0)
    assert kernel_jobs._STATE.job is None


# -- several processes -------------------------------------------------------------------------


def test_a_kernel_that_another_process_makes_is_left_to_it(folder: Path) -> None:
    k = new_kernel()
    folder.mkdir(mode=0o700)
    lock = kernel_cache.lock_of(folder / k.file_name)
    lock.write_text(f"{os.getppid()} {os.uname().nodename}")
    assert not k.pays(COMPILE_NS)
    assert kernel_jobs._STATE.job is None
    assert lock.exists()


@pytest.mark.parametrize("how", ["its process has ended", "it is old"])
def test_a_lock_that_nobody_holds_is_taken_over(how: str, folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    k = new_kernel()
    folder.mkdir(mode=0o700)
    lock = kernel_cache.lock_of(folder / k.file_name)
    if how == "it is old":
        lock.write_text("1 elsewhere")
        os.utime(lock, (0, 0))
    else:
        lock.write_text(f"{ended.pid} {os.uname().nodename}")
    assert not k.pays(START_NS)
    kernel_jobs.settle(DEADLINE)
    assert k.cached


def python(code: str, folder: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TQL_CACHE_DIR": str(folder.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE + code], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE,
    )  # fmt: skip


PREPARE = f"""
import os, sys, time, warnings
warnings.simplefilter("error", ResourceWarning)
from tql import kernel_jobs
from tql.jit import START_NS, generated
k = generated("add", "i64, i64[], i64[]", {SOURCE.format(plus=7)!r}, "tql.engine.kernels.devices")
assert not k.pays(START_NS)
"""


def test_two_processes_at_once_compile_once(folder: Path) -> None:
    code = """
while not k.pays(0.0):
    time.sleep(0.02)
print(kernel_jobs.failure(k.file_name))
"""
    both = [python(code, folder) for _ in "12"]
    for process in both:
        out, err = process.communicate(timeout=DEADLINE)
        assert (out, err) == ("None\n", "")
    assert kinds(folder) == [".o"]


def test_a_process_ends_at_once_while_its_child_compiles(folder: Path) -> None:
    """It neither waits for the compiler nor leaves a file, or the child."""
    process = python("print(kernel_jobs._STATE.job.process.pid)", folder)
    out, err = process.communicate(timeout=DEADLINE)
    assert err == ""
    assert kinds(folder) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(out), 0)


@pytest.mark.skipif(os.name != "posix", reason="the pipe is for POSIX systems")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_with_a_process_that_is_killed(how: signal.Signals, folder: Path) -> None:
    process = python(
        "print(kernel_jobs._STATE.job.process.pid, flush=True)\ntime.sleep(600)", folder
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    os.kill(pid, signal.SIGSTOP)  # so that it does not end by itself
    process.send_signal(how)
    process.communicate(timeout=DEADLINE)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not is_running(pid))
    assert kinds(folder) == [], "neither a kernel nor a lock"


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_neither_waits_for_the_child_nor_ends_it(folder: Path) -> None:
    code = """
pid = os.fork()
if pid == 0:
    assert kernel_jobs._STATE.job is None
    sys.exit(0)  # runs what is to be done at exit
assert os.waitpid(pid, 0)[1] == 0
assert kernel_jobs._STATE.job.process.poll() is None or k.cached
kernel_jobs.settle(120)
print(k.cached, kernel_jobs.failure(k.file_name))
"""
    process = python(code, folder)
    assert process.communicate(timeout=DEADLINE) == ("True None\n", "")


def test_ctrl_c_is_for_the_parent(folder: Path) -> None:
    k = new_kernel()
    assert not k.pays(START_NS)
    process = child()
    wait_until(lambda: ignores_interrupts(process.pid))
    process.send_signal(signal.SIGINT)
    kernel_jobs.settle(DEADLINE)
    assert k.cached


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ignores_interrupts(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        pytest.skip("this system has no /proc")
    (line,) = [s for s in status.read_text().splitlines() if s.startswith("SigIgn:")]
    return bool(int(line.split()[1], 16) & 1 << (signal.SIGINT - 1))


def test_a_worker_of_multiprocessing_starts_none(folder: Path) -> None:
    code = """
import multiprocessing as mp
def work(queue):
    queue.put(kernel_jobs.why_not())
context = mp.get_context("fork")
queue = context.Queue()
worker = context.Process(target=work, args=(queue,), daemon=True)
worker.start()
print(queue.get())
worker.join()
"""
    out, err = python(code, folder).communicate(timeout=DEADLINE)
    assert (out, err) == ("this is a worker process of multiprocessing\n", "")
