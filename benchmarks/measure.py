"""Contenders for one task, run in turn in one process, and what their times say."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from random import Random
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

OURS: Final = "tqlkit"
FLOOR: Final = "pyarrow, decoding alone"  # less work than the task: a limit, not a peer
OF_FLOOR: Final = 0.9
OWN_DECODER: Final = "Polars"
LEAST_RUNS: Final = 3

Rows = NDArray[Any]


class Disagreement(Exception):
    """Two contenders give different answers: nothing is timed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who does a task.

    work     does all of it; what it returns is the answer in the contender's own form
    rows     that answer as an array to compare, outside of the time; None: not an answer
    refuses  what `work` raises where the contender cannot do the task, which is then listed
    """

    name: str
    work: Callable[[], Any]
    rows: Callable[[Any], Rows] | None = np.asarray
    refuses: tuple[type[Exception], ...] = ()


Agree = Callable[[Mapping[str, Rows]], None]


def same_rows(answers: Mapping[str, Rows]) -> None:
    """Raise Disagreement unless all hold the same row numbers, in whatever order."""
    expected = np.sort(answers[OURS])
    for name, rows in answers.items():
        if not np.array_equal(np.sort(rows), expected):
            raise Disagreement(f"{name} gives {len(rows):,} rows that are not the "
                               f"{len(expected):,} of {OURS}")  # fmt: skip


def same_values(answers: Mapping[str, Rows]) -> None:
    """Raise Disagreement unless all hold the same numbers in the same order."""
    for name, values in answers.items():
        if not np.array_equal(values, answers[OURS]):
            raise Disagreement(f"{name} gives other values than {OURS}")


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work.

    contenders  ours among them, under the name OURS
    absent      the peers that do not take part → why
    goals       peer → how many times faster ours is to be
    nbytes      bytes of the columns in memory that the answer depends on; None for files
    agree       raises Disagreement unless the answers (by name) say the same
    """

    key: str
    name: str
    contenders: tuple[Contender, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    goals: Mapping[str, float] = field(default_factory=dict)
    nbytes: int | None = None
    agree: Agree = same_rows


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of the repeated runs of one contender; `first` is the run before them."""

    name: str
    first: float
    best: float
    middle: float
    runs: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a task's runs took; `absent` as in the task, and who refused, in its own words."""

    key: str
    task: str
    timings: tuple[Timing, ...]
    absent: Mapping[str, str]
    goals: Mapping[str, float]
    nbytes: int | None

    def timing(self, name: str) -> Timing | None:
        return next((t for t in self.timings if t.name == name), None)

    def of(self, name: str) -> Timing:
        """The timing of who took part."""
        found = self.timing(name)
        assert found is not None, f"{self.key} was run without {name}"
        return found

    @property
    def ours(self) -> Timing:
        return self.of(OURS)

    def ratio(self, peer: str) -> float | None:
        """How many times faster ours is than `peer`, by the best run of each."""
        timing = self.timing(peer)
        return None if timing is None else timing.best / self.ours.best

    def by_floor(self, peer: str) -> bool:
        """Whether the goal against `peer` is OF_FLOOR of decoding the column in its place.

        Polars has a decoder of its own, which may take less time than pyarrow's, that ours uses.
        """
        timing, floor = self.timing(peer), self.timing(FLOOR)
        if peer != OWN_DECODER or timing is None or floor is None:
            return False
        return floor.best > timing.best

    def met(self, peer: str) -> bool | None:
        """Whether the goal against `peer` is reached; None without a goal, or without the peer."""
        goal = self.goals.get(peer)
        ratio = self.ratio(FLOOR if self.by_floor(peer) else peer)
        if goal is None or ratio is None:
            return None
        return ratio >= (OF_FLOOR if self.by_floor(peer) else goal)

    @property
    def bandwidth(self) -> float | None:
        """Bytes per second that ours went through, by its best run."""
        return None if self.nbytes is None else self.nbytes / self.ours.best


def run(task: Task, repeats: int, seconds: float, slow: float = inf) -> Result:
    """Every contender once, to compare the answers; then in turn, `repeats` times each.

    The order of a round is drawn anew: an engine leaves threads awake and caches full of its own
    data behind, and the same neighbour each time would be the one to pay for that.
    Whoever has used up `seconds` drops out after LEAST_RUNS runs; whoever took more than `slow`
    seconds the first time is not run again: that run counts.
    """
    with few_objects_to_collect():
        first, refused = _compared(task)
        present = [c for c in task.contenders if c.name in first]
        times: dict[str, list[float]] = {c.name: [] for c in present}
        times |= {name: [took] for name, took in first.items() if took > slow}
        present = [c for c in present if first[c.name] <= slow]
        order = Random(0)
        for _ in range(repeats):
            for c in order.sample(present, len(present)):
                if len(times[c.name]) < LEAST_RUNS or sum(times[c.name]) < seconds:
                    times[c.name].append(timed(c.work)[0])
    absent = {**task.absent, **refused}
    timings = tuple(Timing(n, first[n], min(t), median(t), len(t)) for n, t in times.items())
    return Result(task.key, task.name, timings, absent, dict(task.goals), task.nbytes)


def _compared(task: Task) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of everybody's first run, and who refused; raises Disagreement."""
    first: dict[str, float] = {}
    refused: dict[str, str] = {}
    answers: dict[str, Rows] = {}
    for c in task.contenders:
        try:
            first[c.name], answer = timed(c.work)
        except c.refuses as refusal:
            refused[c.name] = "cannot: " + " ".join(str(refusal).split())
            continue
        if c.rows is not None:
            answers[c.name] = c.rows(answer)
    task.agree(answers)
    return first, refused


@contextmanager
def few_objects_to_collect() -> Iterator[None]:
    """Without what is there already, collecting the garbage between two runs takes no time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and what it returned; no garbage is collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        answer = work()
        return time.perf_counter() - start, answer
    finally:
        gc.enable()
