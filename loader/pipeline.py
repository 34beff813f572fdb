"""Make batches in threads; hand them over in plan order.

The contract. Where the code disagrees with it, the code is wrong.

 1. Order    Batches come out in plan order, whatever order they finish in.
 2. Bound    At most `in_flight` batches are being made or waiting at any time; fewer where so many
             of the largest batch seen would hold more than `memory_bytes` (but always one, and no
             more than two until the size of the first is known).
 3. Lazy     Nothing is read, and no thread started, before the first `next()`.
 4. Failure  An error surfaces at its own batch's place in the order, in the caller's thread,
             with a note naming epoch, step, position and rows. Batches before it are delivered
             first. Of several errors in one batch, the same one surfaces every time.
 5. Close    `close()` may be called twice; when it returns, no worker is running our code. An
             iterator that is exhausted or that failed closes itself. One that nobody holds any
             more, that timed out or was interrupted lets go instead: it starts nothing, waits for
             nothing and takes no lock, and its threads end with what they are at. (The collector
             may drop an iterator in any thread, whatever locks that thread holds.)
 6. Same     What a batch holds does not depend on the number of threads, nor on their timing.
 7. Once     A row that is drawn several times in a batch is read and decoded once.
 8. Fork     A forked child cannot use an iterator of its parent, and is told so; new ones work.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar, assert_never

from tql.diagnostics import data_error, error
from tql.loader.crew import Help, side_by_side
from tql.loader.decode import Task
from tql.loader.fragments import Io
from tql.loader.meter import Meter, Ticket
from tql.loader.recipe import Awaited, Done, Next, Phase, Recipe
from tql.loader.rows import Following
from tql.loader.watchdog import Stall, Stalled, outcome, stall_of
from tql.pool import Pool
from tql.sources.retrying import WATCHER

_SHARES_PER_THREAD: Final = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """threads that decode, and that read; batches, and bytes of them, that may be in the making;
    seconds.
    """

    threads: int
    io_threads: int
    in_flight: int
    memory_bytes: int
    timeout: float | None


@dataclass(slots=True)
class _Job:
    """One batch on its way. `left` and `failures` are guarded by the pipeline's lock."""

    step: int
    done: Future[Done] = field(default_factory=Future)
    stage: str = "read"
    left: int = 0
    nbytes: int = 0
    ticket: Ticket | None = None  # of the queue that it waits in
    failures: dict[int, BaseException] = field(default_factory=dict)


class Pipeline:
    """The threads of one pass. Iterate it once."""

    def __init__(self, recipe: Recipe, limits: Limits, meter: Meter) -> None:
        self._recipe: Final = recipe
        self._limits: Final = limits
        self._meter: Final = meter
        self._pid: Final = os.getpid()
        self._lock: Final = threading.Lock()
        self._stopped = False  # no Event: setting one takes a lock
        self._workers: Final[set[int]] = set()
        self._following: Following | None = None
        self._readers: Pool | None = None
        self._decoders: Pool | None = None
        self._jobs: Final[dict[int, _Job]] = {}
        self._submitted = 0
        self._delivered = 0
        self._largest = 0
        self._sized = False  # whether the size of the first batch is known

    def __iter__(self) -> Iterator[Done]:
        """The batches of this pass, from step 0."""
        began = time.perf_counter()
        readers = self._limits.io_threads
        self._readers = self._pool(readers, "tql-read")
        self._decoders = self._pool(self._limits.threads, "tql-decode")
        io = Io(self._call, readers, lambda: self._stopped, self._meter.fetches)
        self._following = self._recipe.follow(io)
        try:
            for step in range(self._recipe.batches):
                asked = time.perf_counter()
                self._fill()
                batch = self._wait(step)
                with self._lock:
                    self._leave(self._jobs.pop(step, None))
                    self._delivered += 1
                    held = self._bound() < min(self._limits.in_flight, self._recipe.batches)
                self._fill()
                now = time.perf_counter()
                self._meter.delivered(now - asked, now - began, held=held and self._sized)
                yield batch
                del batch  # or its memory could not be used again until the next one is there
            self.close()
        except Exception:
            self.close()
            raise
        finally:
            self.let_go()

    def close(self) -> None:
        """Stop; workers finish the image, the read or the transform of a sample they are at."""
        self._stopped = True
        if self._pid != os.getpid():
            return  # the threads, and whoever held the lock, are in the parent
        with self._lock:
            pools, jobs = (self._readers, self._decoders), list(self._jobs.values())
            self._jobs.clear()
        for pool in pools:
            if pool is not None:
                wait = threading.get_ident() not in self._workers  # a transform may call close()
                pool.shutdown(wait=wait, cancel_futures=True)
        for job in jobs:
            job.done.cancel()
        following = self._following  # let_go() may forget it meanwhile
        if following is not None:
            following.close()

    def let_go(self) -> None:
        """Stop without waiting: what is running ends by itself, what is queued is not begun."""
        self._stopped = True
        # Threads of a pool that nobody refers to end once its queue is empty.
        self._readers = self._decoders = None
        self._following = None  # it knows this object: what it holds would wait for the collector

    def _wait(self, step: int) -> Done:
        with self._lock:
            job = self._jobs.get(step)
        if job is None:
            raise self._closed(step)
        try:
            return outcome(job.done, self._limits.timeout, partial(self._stall, job))
        except BaseException as e:
            if isinstance(e, CancelledError) and job.done.cancelled():
                raise self._closed(step) from None
            if isinstance(e, Stalled):
                late = self._too_slow(job)
                self._give_up()
                raise late from None
            if isinstance(e, Exception):
                e.add_note(f"tql: while loading {self._recipe.place(step)}")
            elif not job.done.done():  # Ctrl-C, while the caller waits
                self._give_up()
            raise

    def _give_up(self) -> None:
        """Let go, also of the processes: close() would wait for a worker that may be stuck."""
        self.let_go()
        if self._recipe.workers is not None:
            self._recipe.workers.kill()

    def _stall(self, job: _Job, waited: float) -> Stall:
        with self._lock:
            jobs = list(self._jobs.values())
        return stall_of(job, jobs, self._recipe, waited)

    def _too_slow(self, job: _Job) -> Exception:
        assert self._limits.timeout is not None
        stall = self._stall(job, self._limits.timeout)
        late = data_error(
            "source",
            f"no batch within {self._limits.timeout} seconds, in stage '{stall.stage}' of {stall.place}",
            help="a longer timeout=, or timeout=None to wait for ever",
        )
        late.add_note(str(stall))
        return late

    def _closed(self, step: int) -> Exception:
        return error(
            "value",
            f"the loader was closed before {self._recipe.place(step)}",
            help="iter(loader) starts a new pass",
        )

    # From here on: in the caller's thread or in a worker.

    def _fill(self) -> None:
        """Start as many batches as the bound allows."""
        if self._pid != os.getpid():
            raise error(
                "unsupported",
                "this iterator belongs to the parent process: its threads did not come along when "
                "the process was forked",
                help="call iter(loader) in the child",
            )
        with self._lock:
            while (
                not self._stopped
                and self._submitted < self._recipe.batches
                and self._submitted - self._delivered < self._bound()
            ):
                job = self._jobs[self._submitted] = _Job(self._submitted)
                self._submitted += 1
                job.ticket = self._meter.enter("read")
                self._submit(self._readers, job, partial(self._read, job))

    def _bound(self) -> int:
        if not self._sized:
            return min(self._limits.in_flight, 2)
        return max(
            1, min(self._limits.in_flight, self._limits.memory_bytes // max(1, self._largest))
        )

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for its batches any more."""
        return self._stopped

    def tried_again(self, waited: float, throttled: bool) -> None:
        """Count a request to storage that is made again."""
        self._meter.tried_again(waited, throttled)

    def _pool(self, threads: int, name: str) -> Pool:
        return Pool(threads, name, self._begin)

    def _begin(self) -> None:
        """In each thread, before all else."""
        self._workers.add(threading.get_ident())
        WATCHER.set(self)

    def _submit(self, pool: Pool | None, job: _Job, task: Task) -> None:
        if pool is None:  # let go
            job.done.cancel()
            return
        try:
            pool.submit(self._run, job, task)
        except RuntimeError:  # the pool, or the interpreter, is shutting down
            self._stopped = True
            job.done.cancel()

    def _run(self, job: _Job, task: Task) -> None:
        """Run `task` for `job`; what it raises becomes the outcome of the job."""
        if self._stopped:
            job.done.cancel()
            return
        try:
            task()
        except BaseException as e:  # noqa: BLE001  it is raised again in the caller's thread
            self._fail(job, e)

    def _fail(self, job: _Job, cause: BaseException) -> None:
        if self._stopped and isinstance(cause, CancelledError):
            job.done.cancel()
            return
        with suppress(InvalidStateError):  # closed meanwhile
            job.done.set_exception(cause)

    def _leave(self, job: _Job | None) -> None:
        """It waits no longer."""
        if job is not None and job.ticket is not None:
            self._meter.leave(job.ticket)
            job.ticket = None

    def _read(self, job: _Job) -> None:
        self._leave(job)
        then = self._recipe.read(job.step, self._side_by_side, self._following)
        job.stage = "decode"
        self._submit(self._decoders, job, lambda: self._go_on(job, then))

    def _side_by_side(self, tasks: Sequence[Callable[[], T]], /) -> list[T]:
        """The `Run` of what reads."""
        return side_by_side(tasks, self._limits.io_threads, self._call, lambda: self._stopped)

    def _call(self, help: Help) -> None:
        pool = self._readers
        if pool is not None:
            with suppress(RuntimeError):  # shutting down: whoever asks for help does it alone
                pool.submit(help)

    def _go_on(self, job: _Job, then: Callable[[], Next]) -> None:
        """Run phases until one is shared out, or the batch is done."""
        while not self._stopped:
            match then():
                case Done() as done:
                    job.ticket = self._meter.enter("deliver", job.nbytes)
                    with suppress(InvalidStateError):  # closed meanwhile
                        job.done.set_result(done)
                    return
                case Phase() as phase:
                    job.stage = phase.stage
                    job.nbytes = max(job.nbytes, phase.nbytes)
                    if phase.nbytes > self._largest or (job.step == 0 and not self._sized):
                        with self._lock:
                            self._largest = max(self._largest, phase.nbytes)
                            self._sized = self._sized or job.step == 0
                        self._fill()
                    shares = self._shares(phase.tasks)
                    if len(shares) > 1:
                        job.left, job.failures = len(shares), {}
                        job.ticket = self._meter.enter(phase.stage, job.nbytes)
                        for number, tasks in enumerate(shares):
                            share = partial(self._share, job, phase, number, tasks)
                            self._submit(self._decoders, job, share)
                        return
                    for tasks in shares:
                        self._do(phase, tasks)
                    then = phase.then
                case Awaited() as awaited:
                    self._await(job, awaited)
                    return
                case _ as never:
                    assert_never(never)

    def _await(self, job: _Job, awaited: Awaited) -> None:
        """Go on, in a thread that decodes, once every future is done; no thread waits."""
        job.stage, job.left = awaited.stage, len(awaited.futures)

        def landed(_: object) -> None:
            with self._lock:
                job.left -= 1
                last = job.left == 0
            if last:
                self._submit(self._decoders, job, lambda: self._go_on(job, awaited.then))

        for future in awaited.futures:
            future.add_done_callback(landed)

    def _shares(self, tasks: Sequence[Task]) -> list[Sequence[Task]]:
        """Cut into shares small enough that all threads are busy to the end."""
        size = max(1, -(-len(tasks) // (self._limits.threads * _SHARES_PER_THREAD)))
        return [tasks[i : i + size] for i in range(0, len(tasks), size)]

    def _share(self, job: _Job, phase: Phase, number: int, tasks: Sequence[Task]) -> None:
        """Do a share of a phase; whoever finishes the last share goes on."""
        failure: BaseException | None = None
        with self._lock:
            self._leave(job)  # the first share does
        try:
            self._do(phase, tasks)
        except BaseException as e:  # noqa: BLE001  raised below, once all shares are done
            failure = e
        with self._lock:
            if failure is not None:
                job.failures[number] = failure
            job.left -= 1
            last = job.left == 0
        if last and job.failures:
            raise job.failures[min(job.failures)]
        if last and not self._stopped:
            self._go_on(job, phase.then)

    def _do(self, phase: Phase, tasks: Sequence[Task]) -> None:
        began = time.perf_counter()
        for task in tasks:
            if self._stopped:
                return
            task()
        self._meter.add(phase.stage, time.perf_counter() - began)
