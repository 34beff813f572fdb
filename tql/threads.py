"""Threads of this process for work that comes in parts: made on first use, used again, few.

Whoever asks works too. Threads of the pool only help, where one is free: a query inside a function
inside a query waits for nobody, and so cannot wait for itself.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from threading import Condition
from typing import Any, Final, Generic, TypeVar

from tql.cpus import usable_cpus
from tql.pool import Pool

A = TypeVar("A")
T = TypeVar("T")

# Many callers may share the pool; a caller that finds no thread free does its work alone.
_MOST_THREADS: Final = 64

# One entry at most: `setdefault` makes it, whichever thread comes first. A child has none of its
# parent's threads, so it starts anew.
_pools: Final[dict[str, Pool]] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def in_order(
    items: Sequence[A],
    work: Callable[[A], T],
    threads: int,
    size: Callable[[A], int] | None = None,
    budget: int = 0,
) -> Iterator[T]:
    """`work` of every item, in their order, on `threads` threads of which the caller's is one.

    size, budget  bytes that an item takes while it is worked on, and how many the items in work may
                  take together: fewer run at once where they are large. One alone may take more.
                  With several threads `size` is called first, on the caller's, for all items; what
                  it raises is raised before any item is begun.

    The error of the first item that fails is the one raised. Items are begun in order; those after
    one that failed may not be begun at all. With one thread they run one by one, as they are asked
    for, and on the caller's thread.
    """
    threads = min(threads, len(items))
    if threads <= 1:
        yield from map(work, items)
        return
    sizes = [size(item) for item in items] if size else [0] * len(items)
    shared = _Shared(items, work, sizes, budget)
    for _ in range(threads - 1):
        if not _lend(shared.help):
            break
    try:
        for at in range(len(items)):
            yield shared.outcome(at)
    finally:
        shared.close()


def called_off() -> bool:
    """Whether nobody waits any more for what this thread does: for tasks that can be left undone.

    Whoever asked was interrupted, or has an error to raise, and only waits for this thread to end.
    """
    shared = _SERVED.get()
    while shared is not None:
        if shared.closed:
            return True
        shared = shared.asked_by
    return False


def _lend(help: Callable[[], None]) -> bool:
    """Whether a thread of the pool may come to help."""
    pool = _pools.get("") or _pools.setdefault("", Pool(max(_MOST_THREADS, usable_cpus()), "tql"))
    try:
        pool.submit(help)
    except RuntimeError:  # the interpreter is about to end, or the system has no thread left
        return False
    return True


class _Shared(Generic[A, T]):
    """What the threads that work on one sequence share."""

    def __init__(
        self,
        items: Sequence[A],
        work: Callable[[A], T],
        sizes: Sequence[int],
        budget: int,
    ) -> None:
        self.asked_by: Final = _SERVED.get()  # what the thread that asks is itself a part of
        self.closed = False
        self._items: Final = items
        self._work: Final = work
        self._sizes: Final = sizes
        self._budget: Final = budget
        self._changed: Final = Condition()
        self._next = 0  # the first item that nobody has begun
        self._stop = len(items)  # items from here on are not begun
        self._held: Final[dict[int, int]] = {}  # bytes of the items that run
        self._helpers_at_work = 0
        self._done: Final[dict[int, T]] = {}
        self._failed: Final[dict[int, BaseException]] = {}

    def help(self) -> None:
        """Work until nothing is left to begin; on a thread of the pool."""
        _SERVED.set(self)
        try:
            self._help()
        finally:
            _SERVED.set(None)

    def _help(self) -> None:
        while True:
            with self._changed:
                while self._next < self._stop and not self._fits():
                    self._changed.wait()
                if self._next >= self._stop:
                    return
                at = self._begin()
                self._helpers_at_work += 1
            self._run(at)
            with self._changed:
                self._helpers_at_work -= 1
                self._changed.notify_all()

    def outcome(self, at: int) -> T:
        """The outcome of an item, helping until it is there; raises its error."""
        while True:
            with self._changed:
                while not (at in self._done or at in self._failed or self._free()):
                    self._changed.wait()
                if at in self._done:
                    return self._done.pop(at)
                if at in self._failed:
                    raise self._failed.pop(at)
                begun = self._begin()
            self._run(begun)
            problem = self._failed.get(begun)
            if problem is not None and not isinstance(problem, Exception):
                raise problem  # Ctrl-C, which belongs to no item

    def close(self) -> None:
        """Begin nothing more, and wait for what runs: it may use what the caller gives back."""
        self.closed = True
        with self._changed:
            self._stop = 0
            self._changed.notify_all()
            while self._helpers_at_work:
                self._changed.wait()

    def _free(self) -> bool:
        return self._next < self._stop and self._fits()

    def _fits(self) -> bool:
        held = self._held.values()
        return not held or sum(held) + self._sizes[self._next] <= self._budget

    def _begin(self) -> int:
        at = self._next
        self._held[at] = self._sizes[at]
        self._next += 1
        return at

    def _run(self, at: int) -> None:
        """Work on an item that was begun, and tell the others."""
        try:
            done = self._work(self._items[at])
        except BaseException as e:  # noqa: BLE001 - raised again by the thread that asked
            with self._changed:
                self._failed[at] = e
                self._stop = min(self._stop, at)
                self._end(at)
        else:
            with self._changed:
                self._done[at] = done
                self._end(at)

    def _end(self, at: int) -> None:
        del self._held[at]
        self._changed.notify_all()


_SERVED: Final[ContextVar[_Shared[Any, Any] | None]] = ContextVar("tql_served", default=None)
