"""Contenders for one task, run in turn in one process, and what their times say."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

OURS = "tqlkit"


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work. Every contender does all of it and returns the answer in its own form.

    contenders  name → a function that does the work; None for a peer that is not installed
    agree       raises AssertionError unless the answers (by name) say the same
    """

    name: str
    unit: str
    contenders: Mapping[str, Callable[[], Any] | None]
    agree: Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of the repeated runs of one contender; `first` is the run before them."""

    name: str
    first: float
    best: float
    middle: float


@dataclass(frozen=True, slots=True)
class Result:
    task: str
    unit: str
    timings: tuple[Timing, ...]
    missing: tuple[str, ...]

    def ratio(self, peer: str) -> float:
        """How many times faster ours is than `peer`, by the best run of each."""
        best = {t.name: t.best for t in self.timings}
        return best[peer] / best[OURS]


def run(task: Task, repeats: int) -> Result:
    """Every contender once, to check the answers; then in turn, `repeats` times each."""
    present = {name: work for name, work in task.contenders.items() if work is not None}
    missing = tuple(name for name, work in task.contenders.items() if work is None)
    first, answers = {}, {}
    for name, work in present.items():
        first[name], answers[name] = _timed(work)
    task.agree(answers)
    answers.clear()
    times: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(repeats):
        for name, work in present.items():
            times[name].append(_timed(work)[0])
    timings = tuple(Timing(n, first[n], min(t), median(t)) for n, t in times.items())
    return Result(task.name, task.unit, timings, missing)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        answer = work()
        return time.perf_counter() - start, answer
    finally:
        gc.enable()
