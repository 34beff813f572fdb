"""User transforms in processes of their own, for Python code that holds the interpreter's lock.

Samples go there and what is made of them comes back through shared memory: arrays as they are, the
rest pickled. Processes are spawned, never forked, so a transform must be importable; it is sent
once. Reading, decoding and collating stay in threads.
"""

import os
import pickle
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Final, TypeAlias

from tql.diagnostics import TqlError, data_error, error
from tql.loader.batch import Columns, Sample
from tql.loader.transforms import Apply

Outcome: TypeAlias = Sample | Exception

_ALIGNED: Final = 64


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
        self._pool: Final = ProcessPoolExecutor(
            processes, get_context("spawn"), initializer=_begin, initargs=(_sent(apply),)
        )

    def submit(self, batch: Columns, slots: range, seeds: Sequence[int]) -> "Future[list[Outcome]]":
        """Apply the transform to these samples of a batch; each gives a sample or an exception."""
        part = Columns(
            batch.rows[slots.start : slots.stop],
            {name: values[slots.start : slots.stop] for name, values in batch.values.items()},
        )
        parcel = pack((part, list(seeds[slots.start : slots.stop])))
        landed: Future[list[Outcome]] = Future()
        try:
            going = self._pool.submit(_apply, parcel)
        except RuntimeError as e:  # a process died before, or the pool is shut down
            discard(parcel)
            landed.set_exception(self._died() if isinstance(e, BrokenProcessPool) else e)
            return landed

        def arrived(done: "Future[Parcel]") -> None:
            discard(parcel)
            if done.cancelled():
                landed.cancel()
            elif isinstance(done.exception(), BrokenProcessPool):
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

    def _died(self) -> TqlError:
        self._broken = True
        return data_error(
            "source",
            "a worker process died while it was transforming samples",
            help="it may have been out of memory, or crashed in native code; a script that uses "
            "num_workers must start its work under: if __name__ == '__main__':",
        )


def pack(content: Any) -> Parcel:
    """`content` as a parcel; whoever unpacks or discards it frees the block."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(content, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    starts, size = [], 0
    for view in views:
        starts.append(size)
        size += -(-view.nbytes // _ALIGNED) * _ALIGNED
    if not size:
        return Parcel(pickled, None, tuple((0, 0) for _ in views))
    block = SharedMemory(create=True, size=size)
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
        try:
            block = SharedMemory(parcel.block)
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


def _begin(pickled: bytes) -> None:
    global _applied
    _applied = pickle.loads(pickled)


def _apply(parcel: Parcel) -> Parcel:
    assert _applied is not None
    batch, seeds = unpack(parcel)
    made: list[Outcome] = []
    for i, seed in enumerate(seeds):
        try:
            made.append(_applied(batch, i, seed))
        except Exception as e:  # noqa: BLE001  it is raised again where the batch is made
            made.append(_picklable(e))
    return pack(made)


def _picklable(cause: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(cause))
    except Exception:  # noqa: BLE001  whatever stands in the way, the message must get through
        made = RuntimeError(f"{type(cause).__name__}: {cause}")
        for note in getattr(cause, "__notes__", ()):
            made.add_note(note)
        return made
    return cause
