"""Arrays for batches: large ones used again once nobody holds them, or all of them in a ring.

Fresh memory costs a page fault every 4 KiB: decoding JPEGs into it runs at two thirds of the speed
of decoding into memory that is warm.
"""

import math
import os
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tql.forks import ForkLock

Shape: TypeAlias = tuple[int, ...]
Block: TypeAlias = npt.NDArray[np.uint8]

_WORTH_KEEPING: Final = 1 << 20


class Room(Protocol):
    """Where the arrays of a batch are made."""

    def array(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of undefined content, C-contiguous and writable."""
        ...


class Memory:
    """Arrays to fill. A block is given out again only when no array refers to it any more.

    So a batch stays valid for as long as anybody holds it or a view of it, as with any array. No
    more than `blocks` are kept, of `nbytes` together; what is beyond that belongs to its users.
    """

    def __init__(self, blocks: int, nbytes: int) -> None:
        self._most: Final = blocks
        self._budget: Final = nbytes
        self._bytes = 0
        self._pid = os.getpid()
        self._lock: Final = ForkLock()
        self._blocks: list[Block] = []
        self._idle: Final = _references([np.empty(1, np.uint8)], 0)

    def __reduce__(self) -> tuple[type["Memory"], tuple[int, int]]:
        return Memory, (self._most, self._budget)  # a copy, in another process, has its own blocks

    @property
    def nbytes(self) -> int:
        """What is kept, in use or not."""
        return self._bytes

    def array(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of undefined content, C-contiguous and writable."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < _WORTH_KEEPING:
            return np.empty(shape, kind)
        with self._lock:
            if self._pid != os.getpid():  # writing into the parent's blocks would copy them first
                self._pid, self._blocks, self._bytes = os.getpid(), [], 0
            return self._block(size)[:size].view(kind).reshape(shape)

    def _block(self, size: int) -> Block:
        """Called with the lock held, which the caller keeps until it has made its view."""
        for i in range(len(self._blocks)):
            if size <= self._blocks[i].size <= 2 * size and self._is_idle(i):
                self._blocks.append(self._blocks.pop(i))
                return self._blocks[-1]
        fresh = np.empty(size, np.uint8)
        if self._most and size <= self._budget:
            self._blocks.append(fresh)
            self._bytes += size
        while len(self._blocks) > self._most or self._bytes > self._budget:
            self._bytes -= self._blocks.pop(0).size
        return fresh

    def _is_idle(self, i: int) -> bool:
        return _references(self._blocks, i) == self._idle


def _references(blocks: list[npt.NDArray[np.uint8]], i: int) -> int:
    """References to one block, those of this call included (how many differs among Pythons)."""
    return sys.getrefcount(blocks[i])


def fresh_block(size: int) -> Block:
    """So many bytes of ordinary memory."""
    return np.empty(size, np.uint8)


@dataclass(frozen=True, slots=True)
class Supply:
    """Where the memory of a ring comes from, and when it may be written again.

    allocate  bytes → a block of so many
    done      called in the thread that consumes batches when it is done with one; what it returns is
              called before the batch's memory is written again, and waits until nothing reads it
    """

    allocate: Callable[[int], Block] = fresh_block
    done: Callable[[], Callable[[], None]] | None = None


class Lap:
    """The memory of one batch at a time. Its first array is in the first block, and so on: batches ask
    for the same arrays in the same order, so that no block is made once all have been large enough.
    """

    def __init__(self, supply: Supply) -> None:
        self._supply: Final = supply
        self._blocks: Final[list[Block]] = []
        self._taken = 0
        self.wait: Callable[[], None] | None = None

    def array(self, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of undefined content, C-contiguous and writable."""
        kind = np.dtype(dtype)
        size, k = math.prod(shape) * kind.itemsize, self._taken
        self._taken += 1
        if k == len(self._blocks):
            self._blocks.append(self._supply.allocate(size))
        elif self._blocks[k].size < size:
            self._blocks[k] = self._supply.allocate(size)
        return self._blocks[k][:size].view(kind).reshape(shape)

    def restart(self) -> None:
        """From here on its memory is written again, as soon as nothing reads it any more."""
        if self.wait is not None:
            self.wait()
            self.wait = None
        self._taken = 0


class Ring:
    """As many laps as there are batches in the making and in use; the one that is free the longest
    comes next.
    """

    def __init__(self, supply: Supply) -> None:
        self._supply: Final = supply
        self._free: Final[deque[Lap]] = deque()  # its methods are atomic

    def take(self) -> Lap:
        """Memory for another batch."""
        try:
            lap = self._free.popleft()
        except IndexError:
            return Lap(self._supply)
        lap.restart()
        return lap

    def give_back(self, lap: Lap) -> None:
        """Nobody needs the batch that is in it; called by who consumes batches."""
        if self._supply.done is not None:
            lap.wait = self._supply.done()
        self._free.append(lap)
