"""Threads that a process can end without, for work that may be stuck: in storage, or in a user's code.

Those of concurrent.futures are waited for when a program ends, however long that takes: Ctrl-C would
seem to do nothing. These are told to stop, get a moment to do so, and are left behind.
"""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

_MOMENT: Final = 0.5  # seconds in all that threads get at the end of the program

_Task: TypeAlias = Callable[[], object]


class _Shared:
    """What a pool and its threads have in common; threads do not hold the pool itself."""

    def __init__(self, begin: Callable[[], object] | None) -> None:
        self.begin: Final = begin
        self.tasks: Final[SimpleQueue[_Task | None]] = SimpleQueue()  # None: nothing more will come
        self.free: Final = threading.Semaphore(0)  # threads that wait for a task
        self.threads: Final[list[threading.Thread]] = []
        self.dropped = False  # what is queued is not to be begun
        self.pid: Final = os.getpid()


class Pool:
    """Up to `threads` threads, started as they are needed, that do what is submitted in its order.

    Tasks must not raise. `begin` is called in each thread first. The threads end, once all is done,
    when nobody refers to the pool any more.
    """

    def __init__(self, threads: int, name: str, begin: Callable[[], object] | None = None) -> None:
        self._most: Final = threads
        self._name: Final = name
        self._lock: Final = threading.Lock()
        self._closed = False
        self._shared: Final = _Shared(begin)
        weakref.finalize(self, self._shared.tasks.put, None).atexit = False

    def submit(self, function: Callable[..., object], *args: Any) -> None:
        """Let a thread call `function(*args)`; RuntimeError once that cannot be."""
        shared = self._shared
        with self._lock:
            if self._closed or shared.dropped:
                raise RuntimeError("the pool is closed")
            if not shared.free.acquire(blocking=False) and len(shared.threads) < self._most:
                self._start()
            shared.tasks.put(lambda: function(*args))

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """Take no more tasks; wait for those that run, and those that are queued unless cancelled."""
        with self._lock:
            self._closed = True
            self._shared.dropped |= cancel_futures
        self._shared.tasks.put(None)
        if wait:
            for thread in self._shared.threads:
                thread.join()

    def _start(self) -> None:
        shared = self._shared
        thread = threading.Thread(
            target=work, name=f"{self._name}_{len(shared.threads)}", args=(shared,), daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system has none left: those there are must do, if there are any
            if not shared.threads:
                raise
            return
        shared.threads.append(thread)
        _POOLS.add(shared)


def work(shared: _Shared) -> None:
    """What a thread does; its frame is the innermost one only where it waits for a task."""
    if shared.begin is not None:
        shared.begin()
    while True:
        task = shared.tasks.get()
        if task is None:
            shared.tasks.put(None)  # for the others
            return
        if not shared.dropped:
            task()
        del task  # or what it holds would stay until the next one
        shared.free.release()


_POOLS: Final[weakref.WeakSet[_Shared]] = weakref.WeakSet()


def before_the_end(act: Callable[[], object]) -> None:
    """Call this when the program ends, before the threads and processes of others are waited for."""
    # atexit comes after concurrent.futures has waited; this is where that does so itself.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(act)


def _stop_all() -> None:
    mine = [shared for shared in _POOLS if shared.pid == os.getpid()]
    for shared in mine:
        shared.dropped = True
        shared.tasks.put(None)
    until = time.monotonic() + _MOMENT
    for shared in mine:
        for thread in shared.threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))


before_the_end(_stop_all)
