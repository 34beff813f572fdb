"""Tasks side by side in threads, with the help of whoever waits for them."""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Final, Generic, TypeAlias, TypeVar

from tql.forks import ForkLock
from tql.pool import Pool

T = TypeVar("T")
Help: TypeAlias = Callable[[], None]


def side_by_side(
    tasks: Sequence[Callable[[], T]],
    helpers: int,
    call: Callable[[Help], None],
    stopped: Callable[[], bool] = lambda: False,
) -> list[T]:
    """The results of the tasks, in order; of failures the first by the order of the tasks.

    `call` asks a thread to help, up to `helpers` times; it may do so late or never, since the
    calling thread works as well: a full pool, or a task that has tasks of its own, cannot be a
    deadlock. Once `stopped`, no task is begun, and CancelledError is raised.
    """
    if len(tasks) < 2:
        return [task() for task in tasks]
    shared: _Shared[T] = _Shared(tasks, stopped)
    for _ in range(min(helpers, len(tasks) - 1)):
        call(shared.work)
    shared.work()
    return shared.results()


class Crew:
    """Threads for `side_by_side`, started when they are first needed.

    They end when nobody holds the crew any more. A forked child and a copy start their own.
    """

    def __init__(self, threads: int) -> None:
        self._threads: Final = threads
        self._lock: Final = ForkLock()
        self._pool: Pool | None = None
        self._pid = 0

    def __reduce__(self) -> tuple[type["Crew"], tuple[int]]:
        return Crew, (self._threads,)

    def run(self, tasks: Sequence[Callable[[], T]], /) -> list[T]:
        """A `Run` (see tql.sources.protocol)."""
        return side_by_side(tasks, self._threads, self._call)

    def _call(self, help: Help) -> None:
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._pool = Pool(self._threads, "tql-read")
            pool = self._pool
        try:
            pool.submit(help)
        except RuntimeError:  # the interpreter is shutting down: the caller does it alone
            return


class _Shared(Generic[T]):
    """Tasks that several threads take from the front, each the next one."""

    def __init__(self, tasks: Sequence[Callable[[], T]], stopped: Callable[[], bool]) -> None:
        self._tasks: Final = tasks
        self._stopped: Final = stopped
        self._next: Final = deque(range(len(tasks)))
        self._results: Final[dict[int, T]] = {}
        self._failures: Final[dict[int, BaseException]] = {}
        self._at_work = 0
        self._quiet: Final = threading.Condition()

    def work(self) -> None:
        """Do tasks until none is left to begin."""
        with self._quiet:
            self._at_work += 1
        try:
            while not self._failures and not self._stopped():
                try:
                    i = self._next.popleft()
                except IndexError:
                    return
                try:
                    self._results[i] = self._tasks[i]()
                except BaseException as e:  # noqa: BLE001  raised by `results`, for who asked
                    self._failures[i] = e
        finally:
            with self._quiet:
                self._at_work -= 1
                self._quiet.notify_all()

    def results(self) -> list[T]:
        """Wait for those who are still at work."""
        with self._quiet:
            self._quiet.wait_for(lambda: self._at_work == 0)
        self._next.clear()  # who comes late begins nothing
        if self._failures:
            # Tasks are begun in order, so those before the first that failed have all been done.
            first = self._failures[min(self._failures)]
            self._failures.clear()
            try:
                raise first
            finally:
                del first  # it holds this frame, and with it the results
        if len(self._results) < len(self._tasks):
            raise CancelledError
        return [self._results[i] for i in range(len(self._tasks))]
