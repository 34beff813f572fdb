"""How one batch is made: read, decode, transform, collate, as phases that threads can share."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from tql.loader.batch import (
    PAD,
    Batch,
    Collate,
    Columns,
    Sample,
)
from tql.loader.decode import Decoder, Fetched, Take, Task, fetch, start
from tql.loader.failures import Failure, OnError, raise_it, without_locals
from tql.loader.fragments import Io
from tql.loader.memory import Lap, Memory, Ring, Room
from tql.loader.meter import Meter, Ticket
from tql.loader.processes import Workers
from tql.loader.ragged import Padding, padded
from tql.loader.rows import Following, Rows
from tql.loader.schedule import Course
from tql.loader.transforms import Apply
from tql.planner.plan import MOST_TRIES
from tql.sources.protocol import Run, UnreadableRow, in_turn

_ROWS_IN_NOTES: Final = 8


class Located(Protocol):
    """The rows of one batch of one rank (the planner's StreamBatch)."""

    @property
    def rows(self) -> npt.NDArray[np.int64]: ...
    @property
    def positions(self) -> npt.NDArray[np.int64]: ...
    @property
    def seeds(self) -> npt.NDArray[np.uint64]: ...
    @property
    def pad(self) -> npt.NDArray[np.bool_]: ...
    def only(self, kept: npt.NDArray[np.bool_], /) -> "Located": ...


class Stream(Protocol):
    """Random access to the batches of one rank in one epoch (the planner's IndexStream)."""

    def __len__(self) -> int: ...
    @property
    def batches(self) -> int: ...
    def batch(self, i: int, /) -> Located: ...
    def rows(self, first: int, stop: int, /) -> npt.NDArray[np.int64]: ...
    def position_after(self, i: int, /) -> int: ...
    def replaced(
        self, batch: Any, bad: npt.NDArray[np.int64], tries: npt.NDArray[np.int64], /
    ) -> Located: ...


@dataclass(frozen=True, slots=True)
class Phase:
    """Tasks that may run at once, in any thread; then `then` says how it goes on.

    `stage` is what the time is counted as; `nbytes` is what the batch holds, where it is known.
    """

    stage: str
    tasks: Sequence[Task]
    then: "Callable[[], Next]"
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The finished batch, the samples of it that could not be loaded, and what to give back to the
    ring once nobody needs the batch.
    """

    value: Any
    failures: tuple[Failure, ...] = ()
    lap: Lap | None = None


@dataclass(frozen=True, slots=True)
class Awaited:
    """Work that is done elsewhere; once all of it is, `then` says how it goes on."""

    stage: str
    futures: Sequence[Future[Any]]
    then: "Callable[[], Next]"


Next: TypeAlias = Phase | Awaited | Done


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A batch in the making: the samples that are tried now, and those that failed before.

    tries  int64 (b,), how many substitutes each of `located` is
    run    how what waits for storage is done
    bad    slot → why it failed; several threads write
    lap    where its arrays are, of a ring
    """

    located: Located
    tries: npt.NDArray[np.int64]
    run: Run
    failures: tuple[Failure, ...] = ()
    bad: dict[int, Exception] = field(default_factory=dict)
    lap: Lap | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Batches of one pass by step; safe to use from many threads."""

    stream: Stream
    batches: int
    batch_size: int
    epoch: int
    start: int
    rows: Rows
    decoder: Decoder
    apply: Apply | None
    workers: Workers | None
    mark_padding: bool
    paddings: tuple[Padding, ...]
    on_error: OnError
    collate: Collate
    memory: Memory
    ring: Ring | None
    meter: Meter

    def read(
        self, step: int, run: Run = in_turn, following: Following | None = None
    ) -> "Callable[[], Next]":
        """Read the rows of a batch; what is returned goes on, in a thread that decodes."""
        take = None if following is None else partial(following.take, step)
        try:
            located = self.stream.batch(step)
            attempt = _Attempt(located, np.zeros(len(located.rows), np.int64), run)
            return self._fetched(attempt, take)
        finally:
            if following is not None:
                following.finish(step)

    def follow(self, io: Io) -> Following:
        """Reading that knows which batches are to come."""
        return self.rows.follow(Course(self.stream.rows, self.batches, self.batch_size), io)

    def make(self, step: int) -> Any:
        """The finished batch, made in the calling thread."""
        then = self.read(step)
        while True:
            match then():
                case Done(value=value):
                    return value
                case Phase() as phase:
                    for task in phase.tasks:
                        task()
                    then = phase.then
                case Awaited(then=then):  # it waits for the futures by itself
                    pass
                case _ as never:
                    assert_never(never)

    def place(self, step: int) -> str:
        """Where a step is, for people."""
        rows = self.rows.identify(self.stream.batch(step).rows)
        shown = ", ".join(map(str, rows[:_ROWS_IN_NOTES].tolist()))
        dots = ", …" if len(rows) > _ROWS_IN_NOTES else ""
        position = self.stream.position_after(step - 1) if step else self.start
        return f"epoch {self.epoch}, step {step}, position {position}, rows [{shown}{dots}]"

    def origins(self, step: int) -> Sequence[str]:
        """The files and fragments that hold the rows of a step, for people."""
        rows = self.rows.identify(self.stream.batch(step).rows).tolist()
        return tuple(dict.fromkeys(self.rows.origin(row) for row in rows))

    def _fetch(self, attempt: _Attempt, take: Take | None = None) -> Fetched:
        began = time.perf_counter()
        fetched = fetch(self.rows, self.decoder, attempt.located.rows, attempt.run, take)
        seconds, table = time.perf_counter() - began, fetched.table
        self.meter.add("read", seconds, batches=1, rows=table.num_rows, bytes=fetched.nbytes)
        return fetched

    def _fetched(self, attempt: _Attempt, take: Take | None = None) -> "Callable[[], Next]":
        """Read the rows; where some of them cannot be, for a reason of their own, go on without."""
        try:
            fetched = self._fetch(attempt, take)
            ticket = self.meter.enter("decode", fetched.table.nbytes)
            return partial(self._decode, attempt, fetched, ticket)
        except UnreadableRow:
            if self.on_error == "raise" or not self._unreadable(attempt):
                raise
            return partial(self._again, attempt)

    def _unreadable(self, attempt: _Attempt) -> bool:
        """Find out which rows cannot be read, each on its own; whether there are any."""
        rows = attempt.located.rows

        def alone(row: int) -> UnreadableRow | None:
            try:
                fetch(self.rows, self.decoder, np.array([row], np.int64))
            except UnreadableRow as e:
                return e
            return None

        unique = np.unique(rows).tolist()
        tasks = [partial(alone, row) for row in unique]
        for row, cause in zip(unique, attempt.run(tasks), strict=True):
            if cause is not None:
                attempt.bad.update((slot, cause) for slot in np.flatnonzero(rows == row).tolist())
        return bool(attempt.bad)

    def _decode(self, attempt: _Attempt, fetched: Fetched, ticket: Ticket) -> Next:
        self.meter.leave(ticket)
        if self.ring is not None:
            if attempt.lap is None:
                attempt = replace(attempt, lap=self.ring.take())
            else:
                attempt.lap.restart()
        began, memory = time.perf_counter(), self._room(attempt)

        def report(k: int, cause: Exception) -> None:
            for slot in np.flatnonzero(fetched.inverse == k).tolist():
                attempt.bad.setdefault(slot, cause)

        strict = self.on_error == "raise"
        decoding = start(self.decoder, fetched, memory, raise_it if strict else report)
        if self.mark_padding:
            pad = memory.array(attempt.located.pad.shape, np.bool_)
            pad[...] = attempt.located.pad
            decoding.batch.values[PAD] = pad
        seconds, rows = time.perf_counter() - began, len(attempt.located.rows)
        self.meter.add("decode", seconds, batches=1, rows=rows, bytes=decoding.nbytes)
        then = partial(self._transform, attempt, decoding.batch)
        return Phase("decode", decoding.tasks, then, decoding.nbytes)

    def _again(self, attempt: _Attempt) -> Next:
        """The batch without the samples that failed, or with others in their place."""
        bad, located = np.array(sorted(attempt.bad)), attempt.located
        tries = attempt.tries.copy()
        if self.on_error == "skip":
            kept = np.ones(tries.size, np.bool_)
            kept[bad] = False
            if not kept.any():
                raise _noted(attempt, bad[0], "no sample of this batch can be loaded")
            tried, stand_ins = located.only(kept), [None] * bad.size
            tries = tries[kept]
        else:
            late = bad[tries[bad] == MOST_TRIES]
            if late.size:
                raise _noted(attempt, late[0], f"{MOST_TRIES} substitutes failed as well")
            tried = self.stream.replaced(located, bad, tries[bad])
            stand_ins = self.rows.identify(tried.rows[bad]).tolist()
            tries[bad] += 1
        rows = self.rows.identify(located.rows[bad]).tolist()
        causes = [without_locals(attempt.bad[slot]) for slot in bad.tolist()]
        failures = tuple(
            Failure(self.epoch, int(located.positions[slot]), row, cause, stand_in)
            for slot, row, cause, stand_in in zip(
                bad.tolist(), rows, causes, stand_ins, strict=True
            )
        )
        failed = attempt.failures + failures
        attempt = _Attempt(tried, tries, attempt.run, failed, lap=attempt.lap)
        return self._fetched(attempt)()

    def _transform(self, attempt: _Attempt, batch: Columns) -> Next:
        if attempt.bad:
            return self._again(attempt)
        if self.apply is None:
            return self._collate(attempt, batch)
        samples = len(batch.rows)
        self.meter.add("transform", 0.0, batches=1, rows=samples)
        if self.workers is not None:
            return self._in_processes(attempt, batch, self.apply, self.workers)
        made: list[Sample] = [{}] * samples
        seeds = attempt.located.seeds.tolist()

        def sample(i: int, apply: Apply) -> None:
            try:
                made[i] = apply(batch, i, seeds[i])
            except Exception as e:
                if self.on_error == "raise":
                    raise
                attempt.bad[i] = e

        tasks = [partial(sample, i, self.apply) for i in range(samples)]
        return Phase("transform", tasks, partial(self._join, attempt, batch, made))

    def _in_processes(
        self, attempt: _Attempt, batch: Columns, apply: Apply, workers: Workers
    ) -> Next:
        """The samples of the batch sent out in shares, one for each worker."""
        n, seeds = len(batch.rows), attempt.located.seeds.tolist()
        sent = apply.needed(batch)
        size = -(-n // workers.processes)
        shares = [range(a, min(a + size, n)) for a in range(0, n, size)]
        futures = [workers.submit(sent, share, seeds) for share in shares]

        def then() -> Next:
            made: list[Sample] = []
            for future in futures:
                for outcome in future.result():
                    if isinstance(outcome, Exception):
                        if self.on_error == "raise":
                            raise outcome
                        attempt.bad[len(made)] = outcome
                        made.append({})
                    else:
                        made.append(outcome)
            return self._join(attempt, batch, made)

        return Awaited("transform", futures, then)

    def _join(self, attempt: _Attempt, batch: Columns, made: list[Sample]) -> Next:
        if attempt.bad:
            return self._again(attempt)
        assert self.apply is not None
        return self._collate(attempt, self.apply.joined(batch, made, self._room(attempt)))

    def _collate(self, attempt: _Attempt, batch: Batch) -> Next:
        began = time.perf_counter()
        if self.paddings:
            report = raise_it if self.on_error == "raise" else attempt.bad.__setitem__
            batch = padded(batch, self.paddings, self._room(attempt), report)
            if attempt.bad:
                return self._again(attempt)
        value = self.collate(batch)
        self.meter.add("collate", time.perf_counter() - began, batches=1, rows=len(batch.rows))
        return Done(value, attempt.failures, attempt.lap)

    def _room(self, attempt: _Attempt) -> Room:
        return self.memory if attempt.lap is None else attempt.lap


def _noted(attempt: _Attempt, slot: int, why: str) -> Exception:
    failure = attempt.bad[slot]
    failure.add_note(f"tql: {why}")
    return failure
