"""A batch that does not come: where it is stuck, for the error of a timeout and for a notice in the log.

Without a timeout a loader waits for ever, as it was told, but not in silence: once in each such wait a
warning under the logger "tql" says the same as the error would.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Protocol, TypeVar

from tql import pool
from tql.diagnostics import counted, first_names
from tql.loader.recipe import Recipe

T = TypeVar("T")

NOTICE: Final = 60.0
"""Seconds after which a wait is worth a notice."""

_LINES: Final = 12  # of a stack, from the innermost out


@dataclass(frozen=True, slots=True)
class Stall:
    """What is known when a batch does not come.

    waited     seconds
    stage      of the batch that is waited for
    place      epoch, step, position and rows of it
    in_flight  stage → the steps that are in it
    reading    files and fragments that hold the rows of batches in the stage 'read'
    processes  a line for each worker process, or for each line of its stack
    """

    waited: float
    stage: str
    place: str
    in_flight: Mapping[str, Sequence[int]]
    reading: Sequence[str]
    processes: Sequence[str]

    def __str__(self) -> str:
        stages = ", ".join(f"'{s}' {_steps(steps)}" for s, steps in self.in_flight.items())
        lines = [f"tql: batches under way, by stage: {stages or 'none'}"]
        if self.reading:
            lines.append(f"tql: read from: {first_names(self.reading, 8)}")
        lines += ["tql: threads:", *(f"  {line}" for line in _threads())]
        if self.processes:
            lines += ["tql: worker processes:", *(f"  {line}" for line in self.processes)]
        return "\n".join(lines)


class Job(Protocol):
    """A batch under way."""

    @property
    def step(self) -> int: ...
    @property
    def stage(self) -> str: ...
    @property
    def done(self) -> "Future[Any]": ...


class Stalled(Exception):
    """A batch did not come in time."""


def stall_of(job: Job, jobs: Iterable[Job], recipe: Recipe, waited: float) -> Stall:
    """What is known of the batch that is waited for, and of the others."""
    in_flight: dict[str, list[int]] = {}
    reading: dict[str, None] = {}
    for other in sorted(jobs, key=lambda j: j.step):
        stage = "ready" if other.done.done() else other.stage
        in_flight.setdefault(stage, []).append(other.step)
        if stage == "read":
            reading |= dict.fromkeys(recipe.origins(other.step))
    processes = () if recipe.workers is None else recipe.workers.described()
    place = recipe.place(job.step)
    return Stall(waited, job.stage, place, in_flight, tuple(reading), processes)


def outcome(
    done: "Future[T]",
    timeout: float | None,
    stall: Callable[[float], Stall],
    notice: float = NOTICE,
) -> T:
    """The result of `done`; Stalled after `timeout` seconds, and a notice in the log after `notice`."""
    if timeout is not None and timeout <= notice:
        return _within(done, timeout)
    try:
        return _within(done, notice)
    except Stalled:
        found = stall(notice)
    logging.getLogger("tql").warning(
        "no batch for %.0f seconds, in stage '%s' of %s\n%s",
        found.waited, found.stage, found.place, found,
    )  # fmt: skip
    return _within(done, None if timeout is None else timeout - notice)


def _within(done: "Future[T]", seconds: float | None) -> T:
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():  # then it is of the batch, or that has just been made
            return done.result()
        raise Stalled from None


def _steps(steps: Sequence[int]) -> str:
    return f"({counted(len(steps), 'step')}: {', '.join(map(str, steps))})"


def _threads() -> Iterable[str]:
    """What the threads of this package are at; those that wait for work in one line."""
    names = {t.ident: t.name for t in threading.enumerate() if t.name.startswith("tql")}
    idle = 0
    for ident, frame in sys._current_frames().items():
        if ident not in names:
            continue
        if _waits(frame):
            idle += 1
            continue
        yield f"{names[ident]}:"
        stack = traceback.extract_stack(frame)[-_LINES:]
        yield from (
            f"  {line}" for entry in traceback.format_list(stack) for line in entry.splitlines()
        )
    if idle:
        yield f"{counted(idle, 'thread')} without work"


def _waits(frame: FrameType) -> bool:
    return frame.f_code is pool.work.__code__
