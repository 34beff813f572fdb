"""A lock that a forked child finds open, whoever held it in the parent at that moment."""

import os
import threading
import weakref
from typing import Final


class ForkLock:
    """A mutual exclusion of the threads of one process; `with lock:` is all it offers.

    A child made by fork has only the thread that forked: a plain lock that another thread held
    would stay closed in it for ever. What it guards must be published whole, by one assignment,
    so that the child finds it either made or not.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type["ForkLock"], tuple[()]]:
        return ForkLock, ()

    def locked(self) -> bool:
        """Whether a thread of this process holds it."""
        return self._lock.locked()

    def _open(self) -> None:
        self._lock = threading.Lock()


_LOCKS: Final[weakref.WeakSet[ForkLock]] = weakref.WeakSet()


def _open_all() -> None:
    for lock in _LOCKS:
        lock._open()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
