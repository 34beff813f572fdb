"""Work in parts on threads: order, errors, memory, nesting, forks and the end of the interpreter."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import tql
from tql.threads import in_order

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0


@pytest.mark.parametrize("threads", [1, 2, 5, 100])
def test_outcomes_come_in_the_order_of_the_items(threads: int) -> None:
    def work(n: int) -> int:
        time.sleep(0.001 * (n % 3))
        return n * n

    assert list(in_order(range(40), work, threads)) == [n * n for n in range(40)]
    assert list(in_order([], work, threads)) == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_error_of_the_first_item_that_fails_is_raised(threads: int) -> None:
    later = threading.Event()

    def work(n: int) -> int:
        if n == 3 and threads > 1:  # until an item behind it has failed
            assert later.wait(PATIENCE)
        if n >= 3:
            later.set()
            raise ValueError(n)
        return n

    outcomes = in_order(range(30), work, threads)
    assert [next(outcomes) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"^3$"):
        next(outcomes)


def test_what_comes_after_a_failure_is_not_begun() -> None:
    begun = list[int]()

    def work(n: int) -> int:
        begun.append(n)
        raise ValueError(n)

    with pytest.raises(ValueError, match=r"^0$"):
        list(in_order(range(1000), work, 2))
    assert len(begun) <= 2


def test_a_caller_who_stops_leaves_nothing_running() -> None:
    running = set[int]()

    def work(n: int) -> int:
        running.add(n)
        time.sleep(0.01)
        running.remove(n)
        return n

    outcomes = in_order(range(1000), work, 4)
    assert isinstance(outcomes, Generator) and next(outcomes) == 0
    outcomes.close()
    assert not running


@pytest.mark.parametrize(("budget", "most"), [(0, 1), (100, 1), (250, 2), (10_000, 4)])
def test_no_more_is_in_work_than_the_budget_allows(budget: int, most: int) -> None:
    lock, at_work, seen = threading.Lock(), [0], [0]

    def work(n: int) -> int:
        with lock:
            at_work[0] += 1
            seen[0] = max(seen[0], at_work[0])
        time.sleep(0.003)
        with lock:
            at_work[0] -= 1
        return n

    assert list(in_order(range(30), work, 4, lambda _: 100, budget)) == list(range(30))
    assert 1 <= seen[0] <= most


def test_an_item_larger_than_the_budget_is_worked_on_alone() -> None:
    lock, at_work = threading.Lock(), list[int]()

    def work(n: int) -> int:
        with lock:
            at_work.append(n)
            assert sum(at_work) <= 10 or len(at_work) == 1, at_work
        time.sleep(0.002)
        with lock:
            at_work.remove(n)
        return n

    sizes = [1, 50, 2, 3, 40, 9, 1, 1, 60]
    assert list(in_order(sizes, work, 3, int, 10)) == sizes


def test_a_size_that_cannot_be_told_is_an_error_before_anything_is_begun() -> None:
    begun = list[int]()
    asked = list[bool]()

    def size(n: int) -> int:
        asked.append(threading.current_thread() is caller)
        if n == 5:
            raise ValueError(n)
        return 1

    caller = threading.current_thread()
    with pytest.raises(ValueError, match=r"^5$"):
        list(in_order(range(30), begun.append, 4, size, 10))
    assert all(asked) and not begun


def test_work_within_work_within_work_waits_for_nobody() -> None:
    def work(depth: int) -> int:
        return 1 + sum(in_order([depth - 1] * 3, work, 9)) if depth else 1

    found = list[int]()

    def ask() -> None:
        found.append(sum(in_order([4] * 30, work, 100)))

    asking = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for t in asking:
        t.start()
    for t in asking:
        t.join(PATIENCE)
    assert found == [30 * sum(3**k for k in range(5))] * 4


def test_a_query_inside_a_function_of_a_query_answers() -> None:
    source = tql.open(pa.table({"x": np.arange(3_000_000)}))

    def below(x: int) -> int:
        return len(source.query(f"select * where x % 7 < 3 and x < {x}"))

    tql.register_function(below, name="k_rows_below", returns="int64")
    try:
        few = tql.open(pa.table({"x": [10, 1_500_000, 2_999_999]}))
        found = few.query("select * where k_rows_below(x) > 100").rowset
    finally:
        tql.unregister_function("k_rows_below")
    assert found.to_numpy().tolist() == [1, 2]


FORKED = """
import os, signal
from tql.threads import in_order
def squares():
    return list(in_order(range(50), lambda n: n * n, 4))
assert squares() == [n * n for n in range(50)]
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    os._exit(squares() != [n * n for n in range(50)])
assert os.waitpid(pid, 0)[1] == 0
assert squares() == [n * n for n in range(50)]
"""

AT_EXIT = """
import atexit, threading
from tql.threads import in_order
def squares():
    print(sum(in_order(range(50), lambda n: n * n, 4)), flush=True)
atexit.register(squares)
squares()
"""

IMPORTED = """
import threading, tql, tql.engine.scan
assert threading.active_count() == 1, threading.enumerate()
"""


def _run(script: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_threads_of_its_own() -> None:
    _run(FORKED)


def test_idle_threads_do_not_keep_the_interpreter_and_its_end_can_still_ask() -> None:
    assert _run(AT_EXIT).split() == ["40425", "40425"]


def test_importing_starts_no_thread() -> None:
    _run(IMPORTED)


def test_an_interrupt_of_the_callers_own_work_is_raised_at_once() -> None:
    caller = threading.current_thread()
    held = threading.Event()

    def work(n: int) -> int:
        if threading.current_thread() is caller:
            raise KeyboardInterrupt
        held.wait(0.05)
        return n

    asked: Callable[[], object] = lambda: list(in_order(range(1000), work, 2))  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        asked()
