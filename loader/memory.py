"""Large arrays for batches, used again once nobody holds them.

Fresh memory costs a page fault every 4 KiB: decoding JPEGs into it runs at two thirds of the speed
of decoding into memory that is warm.
"""

import math
import os
import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tql.forks import ForkLock

_WORTH_KEEPING: Final = 1 << 20


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
        self._blocks: list[npt.NDArray[np.uint8]] = []
        self._idle: Final = _references([np.empty(1, np.uint8)], 0)

    def __reduce__(self) -> tuple[type["Memory"], tuple[int, int]]:
        return Memory, (self._most, self._budget)  # a copy, in another process, has its own blocks

    @property
    def nbytes(self) -> int:
        """What is kept, in use or not."""
        return self._bytes

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of undefined content, C-contiguous and writable."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < _WORTH_KEEPING:
            return np.empty(shape, kind)
        with self._lock:
            if self._pid != os.getpid():  # writing into the parent's blocks would copy them first
                self._pid, self._blocks, self._bytes = os.getpid(), [], 0
            return self._block(size)[:size].view(kind).reshape(shape)

    def _block(self, size: int) -> npt.NDArray[np.uint8]:
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
