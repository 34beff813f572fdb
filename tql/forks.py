"""A lock that a forked child finds open, whoever held it in the parent at that moment."""

import os
import threading
from typing import Final


class ForkLock:
    """A mutual exclusion of the threads of one process; `with lock:` is all it offers.

    A child made by fork has only the thread that forked: a plain lock that another thread held
    would stay closed in it for ever. What it guards must be published whole, by one assignment,
    so that the child finds it either made or not.
    """

    __slots__ = ("_by_process",)

    def __init__(self) -> None:
        self._by_process: Final = {os.getpid(): threading.Lock()}

    def __enter__(self) -> None:
        self._mine().acquire()

    def __exit__(self, *exc: object) -> None:
        self._mine().release()

    def __reduce__(self) -> tuple[type["ForkLock"], tuple[()]]:
        return ForkLock, ()

    def locked(self) -> bool:
        """Whether a thread of this process holds it."""
        return self._mine().locked()

    def _mine(self) -> threading.Lock:
        process = os.getpid()
        lock = self._by_process.get(process)
        # Two threads of a child may come here at once: setdefault gives both the same lock.
        return lock or self._by_process.setdefault(process, threading.Lock())
