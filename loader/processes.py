"""User transforms in processes of their own, for Python code that holds the interpreter's lock.

Samples go there and what is made of them comes back through shared memory: arrays as they are, the
rest pickled. Processes are spawned, never forked, so a transform must be importable; it is sent
once. Reading, decoding and collating stay in threads.
"""

import faulthandler
import os
import pickle
import secrets
import shutil
import signal
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, TypeAlias

from tql.diagnostics import TqlError, data_error, error
from tql.loader.batch import Columns, Sample
from tql.loader.transforms import Apply
from tql.pool import before_the_end

Outcome: TypeAlias = Sample | Exception

_ALIGNED: Final = 64
_TELL: Final[int | None] = getattr(
    signal, "SIGUSR1", None
)  # upon which a process writes where it is
_TOLD_WITHIN: Final = 0.2  # seconds
_NOTICED: Final = 1.0  # seconds until the system tells how a process ended whose pipe is closed


@dataclass(frozen=True, slots=True)
class Parcel:
    """An object on its way to another process: what is pickled, and the arrays in shared memory.

    places  (start, bytes) of each array in the block; no block where there is no array
    """

    pickled: bytes
    block: str | None
    places: tuple[tuple[int, int], ...]


class Workers:
    """Processes that apply one transform; made when the first samples are sent."""

    def __init__(self, apply: Apply, processes: int) -> None:
        self.processes: Final = processes
        self._pid: Final = os.getpid()
        self._broken = False
        self._how: str | None = None  # the first process that died did
        self._stacks: Final = mkdtemp(prefix="tql-stacks-")  # what processes are at, when asked
        weakref.finalize(self, _removed, self._stacks, self._pid)
        self._pool: Final = ProcessPoolExecutor(
            processes,
            get_context("spawn"),
            initializer=_begin,
            initargs=(_sent(apply), self._stacks),
        )
        _ALIVE.add(self)

    def submit(self, batch: Columns, slots: range, seeds: Sequence[int]) -> "Future[list[Outcome]]":
        """Apply the transform to these samples of a batch; each gives a sample or an exception."""
        part = Columns(
            batch.rows[slots.start : slots.stop],
            {name: values[slots.start : slots.stop] for name, values in batch.values.items()},
        )
        parcel = pack((part, list(seeds[slots.start : slots.stop])))
        answer = _new_name()  # known here, so that it can be freed when the process is not there to
        landed: Future[list[Outcome]] = Future()
        try:
            with _deaf():
                going = self._pool.submit(_apply, parcel, answer)
        except RuntimeError as e:  # a process died before, or the pool is shut down
            discard(parcel)
            landed.set_exception(self._died() if isinstance(e, BrokenProcessPool) else e)
            return landed

        def arrived(done: "Future[Parcel]") -> None:
            discard(parcel)
            if done.cancelled():
                landed.cancel()
            elif isinstance(done.exception(), BrokenProcessPool):
                free(answer)
                landed.set_exception(self._died())
            elif (cause := done.exception()) is not None:
                landed.set_exception(cause)
            else:
                landed.set_result(unpack(done.result()))

        going.add_done_callback(arrived)
        return landed

    @property
    def usable(self) -> bool:
        """Whether more can be submitted: not in a forked child, nor once a process has died."""
        return not self._broken and self._pid == os.getpid()

    def close(self) -> None:
        """End the processes, each with the sample it is at; those nobody refers to end by themselves."""
        self._broken = True
        if self._pid == os.getpid():
            self._pool.shutdown(wait=True, cancel_futures=True)

    def kill(self) -> None:
        """End the processes at once, whatever they are at."""
        self._broken = True
        for process in list((self._pool._processes or {}).values()):  # kill_workers() from 3.14 on
            process.kill()

    def described(self) -> Sequence[str]:
        """A line for each process, and the stacks of those that can tell where they are."""
        processes = dict(self._pool._processes or {})
        places = {pid: Path(self._stacks, str(pid)) for pid in processes}
        asked = {pid: place.stat().st_size for pid, place in places.items() if place.exists()}
        for pid in asked:
            if _TELL is not None and processes[pid].is_alive():
                os.kill(pid, _TELL)
        time.sleep(_TOLD_WITHIN if asked else 0)
        lines = []
        for pid, process in processes.items():
            code = process.exitcode
            lines.append(f"{pid}: {'at work' if code is None else f'ended with {code}'}")
            if pid in asked:
                with places[pid].open(errors="replace") as told:
                    told.seek(asked[pid])
                    lines += [f"  {line.rstrip()}" for line in told]
        return lines

    def _died(self) -> TqlError:
        """What is known of the process that died; the others are ended because of it."""
        self._broken = True
        self._how = how = self._how or self._ending()
        return data_error(
            "source",
            f"{how} while it was transforming samples",
            help="it may have been out of memory, or crashed in native code (then its stack is on "
            "standard error); a script that uses num_workers must start its work under: "
            "if __name__ == '__main__':",
        )

    def _ending(self) -> str:
        until = time.monotonic() + _NOTICED
        while True:
            processes = list((self._pool._processes or {}).values())
            for process in processes:
                code = process.exitcode
                if code and code > 0:
                    return f"worker process {process.pid} died with exit code {code}"
                if code and code != -signal.SIGTERM:  # which the others are sent
                    named = {s.value: s.name for s in signal.Signals}
                    by = named.get(-code, f"signal {-code}")
                    return f"worker process {process.pid} died: it was killed by {by}"
            if time.monotonic() > until or not any(p.is_alive() for p in processes):
                return "a worker process died"
            time.sleep(0.01)


_ALIVE: Final[weakref.WeakSet[Workers]] = weakref.WeakSet()


def _end_all() -> None:
    """The program ends: nobody waits for a sample any more, which may take as long as it likes."""
    for workers in list(_ALIVE):
        if workers._pid == os.getpid():
            workers.kill()


before_the_end(_end_all)


def _removed(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # not by a forked child
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started now do not hear Ctrl-C, from their first moment on."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _new_name() -> str:
    return f"psm_tql_{secrets.token_hex(8)}"


def pack(content: Any, name: str | None = None) -> Parcel:
    """`content` as a parcel; whoever unpacks or discards it frees the block, which may be named."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(content, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    starts, size = [], 0
    for view in views:
        starts.append(size)
        size += -(-view.nbytes // _ALIGNED) * _ALIGNED
    if not size:
        return Parcel(pickled, None, tuple((0, 0) for _ in views))
    block = SharedMemory(name or _new_name(), create=True, size=size)
    room = block.buf
    assert room is not None
    for start, view in zip(starts, views, strict=True):
        room[start : start + view.nbytes] = view
    room.release()
    places = tuple((start, view.nbytes) for start, view in zip(starts, views, strict=True))
    block.close()
    return Parcel(pickled, block.name, places)


def unpack(parcel: Parcel) -> Any:
    """The content, in memory of its own; the block is freed."""
    if parcel.block is None:
        return pickle.loads(parcel.pickled, buffers=[bytearray() for _ in parcel.places])
    block = SharedMemory(parcel.block)
    room = block.buf
    assert room is not None
    try:
        copies = [bytearray(room[start : start + size]) for start, size in parcel.places]
    finally:
        room.release()
        block.close()
        block.unlink()
    return pickle.loads(parcel.pickled, buffers=copies)


def discard(parcel: Parcel) -> None:
    """Free the block of a parcel that has been unpacked, or will not be."""
    if parcel.block is not None:
        free(parcel.block)


def free(name: str) -> None:
    """Free the block of that name, where there is one."""
    try:
        block = SharedMemory(name)
    except FileNotFoundError:
        return
    block.close()
    block.unlink()


def _sent(apply: Apply) -> bytes:
    try:
        return pickle.dumps(apply)
    except Exception as cause:
        raise error(
            "type",
            f"the transform cannot be sent to worker processes: {cause}",
            help="define it at the top of a module (no lambda, no function within a function), "
            "or use threads: num_workers=0",
        ) from cause


# -- in the worker --------------------------------------------------------------------------------

_applied: Apply | None = None
_told: Any = None  # the file that stacks are written to, which must stay open


def _begin(pickled: bytes, stacks: str) -> None:
    global _applied, _told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, who ends its workers
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    faulthandler.enable()
    if _TELL is not None:
        place = Path(stacks, str(os.getpid()))
        _told = place.with_suffix(".new").open("a")
        faulthandler.register(_TELL, _told)
        place.with_suffix(".new").rename(place)  # to say that the signal does not end it any more
    _applied = pickle.loads(pickled)


def _apply(parcel: Parcel, answer: str) -> Parcel:
    assert _applied is not None
    batch, seeds = unpack(parcel)
    made: list[Outcome] = []
    for i, seed in enumerate(seeds):
        try:
            made.append(_applied(batch, i, seed))
        except Exception as e:  # noqa: BLE001  it is raised again where the batch is made
            made.append(_picklable(e))
        except SystemExit as e:  # it would end the trainer
            left = RuntimeError(f"the transform called sys.exit({e.code!r})")
            left.add_note(f"tql: in the transform of row {batch.rows[i]}")
            made.append(left)
    return pack(made, answer)


def _picklable(cause: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(cause))
    except Exception:  # noqa: BLE001  whatever stands in the way, the message must get through
        made = RuntimeError(f"{type(cause).__name__}: {cause}")
        for note in getattr(cause, "__notes__", ()):
            made.add_note(note)
        return made
    return cause
