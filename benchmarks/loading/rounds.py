"""Everybody in a process of its own, which stays for all rounds; one works while the others wait.

So nobody meets another's threads, memory or caches, and nobody starts up within its time. The first
pass of each is checked, and tells what a first pass takes; those after it are timed.
"""

import multiprocessing
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from random import Random
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.loading.data import Files
from benchmarks.loading.entrants import CannotTakePart, Entrant, Pass, check, count
from benchmarks.loading.tasks import Task
from benchmarks.measure import OURS, timed

_PATIENCE: Final = 300.0  # seconds for one pass
_CHECKED, _TIMED, _END = "checked", "timed", "end"


@dataclass(frozen=True, slots=True)
class Pace:
    """What one entrant took for a task, in seconds a pass.

    absent  why there are none
    goal    how many times faster ours is to be
    ratio   how many times faster ours was, by the best passes
    """

    key: str
    task: str
    name: str
    rows: int
    first: float | None
    best: float | None
    middle: float | None
    passes: int
    goal: float | None
    ratio: float | None
    absent: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether ours reached the goal against this one."""
        return None if self.goal is None or self.ratio is None else self.ratio >= self.goal


def measure(tasks: Sequence[Task], files: Files, passes: int) -> Iterator[Pace]:
    """Each task by everybody who can; ours is one of them."""
    for task in tasks:
        start = perf_counter()
        yield from _paces(task, replace(files, late=task.late), passes)
        print(f"… {task.key}: {perf_counter() - start:.0f} s", file=sys.stderr)


class _Process:
    """One entrant, in a process that does a pass whenever it is told to."""

    def __init__(self, task: Task, entrant: Entrant, files: Files) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.name: Final = entrant.name
        self._process = context.Process(target=_serve, args=(theirs, task, entrant, files))
        self._process.start()
        theirs.close()

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._connection.send(_END)
            self._process.join(10)
        except OSError:  # it has ended
            pass
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()

    def one_pass(self, how: str) -> float:
        """Seconds; raises CannotTakePart, and what failed there as RuntimeError."""
        try:
            self._connection.send(how)
            if not self._connection.poll(_PATIENCE):
                raise CannotTakePart(f"cannot: no pass within {_PATIENCE:.0f} s")
            kind, answer = self._connection.recv()
        except (EOFError, OSError) as cause:
            raise RuntimeError(f"the process of {self.name} ended by itself") from cause
        if kind == "absent":
            raise CannotTakePart(answer)
        if kind == "failed":
            raise RuntimeError(f"{self.name} failed:\n{answer}")
        return float(answer)


def _paces(task: Task, files: Files, passes: int) -> Iterator[Pace]:
    first: dict[str, float] = {}
    absent: dict[str, str] = {}
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        present: dict[str, _Process] = {}
        for entrant in task.entrants:
            why = entrant.missing()
            if why is not None:
                absent[entrant.name] = why
                continue
            process = stack.enter_context(_Process(task, entrant, files))
            try:
                first[entrant.name] = process.one_pass(_CHECKED)
            except CannotTakePart as reason:
                absent[entrant.name] = str(reason)
                continue
            present[entrant.name], times[entrant.name] = process, []
        order = Random(0)
        for _ in range(passes):
            for name in order.sample(list(present), len(present)):
                try:
                    times[name].append(present[name].one_pass(_TIMED))
                except CannotTakePart as reason:
                    absent[name], times[name] = str(reason), []
                    del present[name]
    assert times.get(OURS), f"{OURS} takes part in {task.key}: {absent.get(OURS)}"
    ours, rows = min(times[OURS]), rows_of(task, files)
    for name in (entrant.name for entrant in task.entrants):
        goal, found = task.goals.get(name), times.get(name, [])
        if not found:
            yield Pace(
                task.key, task.name, name, rows, None, None, None, 0, goal, None, absent[name]
            )
            continue
        ratio = None if name == OURS else min(found) / ours
        yield Pace(task.key, task.name, name, rows, first[name], min(found), median(found),
                   len(found), goal, ratio)  # fmt: skip


def rows_of(task: Task, files: Files) -> int:
    """Rows of a pass."""
    return files.images if task.what == "pictures" else files.numbers


def _serve(connection: Connection, task: Task, entrant: Entrant, files: Files) -> None:
    """What the process does: passes, until it is told to end."""
    opened: Pass | None = None
    rows = rows_of(task, files)
    while (how := connection.recv()) != _END:
        try:
            if opened is None and not task.fresh:
                opened = entrant.open(files)
            seconds, found = timed(partial(_pass, opened, how, task, entrant, files))
            assert found == rows, f"{found} rows, not {rows}"
            connection.send(("done", seconds))
        except CannotTakePart as reason:
            connection.send(("absent", str(reason)))
        except Exception:  # noqa: BLE001  it is raised where the rounds are
            connection.send(("failed", traceback.format_exc()))


def _pass(opened: Pass | None, how: str, task: Task, entrant: Entrant, files: Files) -> int:
    """One pass, of what is opened first where it is not; the rows of it."""
    batches = (opened or entrant.open(files))()
    if how == _CHECKED:
        return check(batches, files, rows_of(task, files), task.every)
    return count(batches)
