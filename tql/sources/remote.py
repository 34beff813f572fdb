"""A file that is not local, read in ranges that come whole or not at all.

Ranges that will be needed are fetched ahead, side by side, in our own threads: there a read can be
tried again, counted and called off. What decodes the file then finds them in memory, and reads the
rest as it goes.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.sources.retrying import WATCHER, again
from tql.threads import in_order

_HOLE: Final = 1 << 13  # bytes between two ranges that are read with them: cheaper than a request
_LARGEST: Final = 1 << 25  # bytes up to which ranges are joined; beyond, they are read side by side
_AT_ONCE: Final = 8  # requests for one file

_MARK: Final = 0xA5


class ShortRead(OSError):
    """Fewer bytes came than were asked for."""


class RemoteFile:
    """A file as `pyarrow.PythonFile` wants one; for one thread at a time.

    open_  opens the file anew, as a pyarrow.NativeFile
    shown  the file as people know it
    """

    def __init__(self, open_: Callable[[], Any], shown: str, retry_for: float) -> None:
        self._open: Final = open_
        self._shown: Final = shown
        self._retry_for: Final = retry_for
        self._watcher: Final = WATCHER.get()  # of whoever opens: decoders read in threads of theirs
        self._idle: Final[list[Any]] = []
        self._starts: list[int] = []
        self._fetched: list[NDArray[np.uint8]] = []
        self._at = 0
        self._size = again(shown, retry_for, self._ask_size, self._watcher)
        self.closed = False

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read these ranges, (start, stop) each, ahead; side by side where there are several."""
        wanted = _joined(ranges)
        self._fetched = list(in_order(wanted, self._range, min(_AT_ONCE, len(wanted))))
        self._starts = [start for start, _ in wanted]

    def read(self, size: int = -1) -> Any:
        """`size` bytes from where it stands on, fewer only at the end of the file."""
        start = self._at
        stop = self._size if size < 0 else min(self._size, start + size)
        if start >= stop:
            return b""
        self._at = stop
        at = bisect_right(self._starts, start) - 1
        if at >= 0 and stop <= self._starts[at] + len(self._fetched[at]):
            first = start - self._starts[at]
            return self._fetched[at][first : first + stop - start].data
        return self._range((start, stop)).data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Stand elsewhere: counted from the start (0), from here (1) or from the end (2)."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        """Where it stands."""
        return self._at

    def close(self) -> None:
        """Let go of what was fetched and of the connections."""
        self.closed = True
        self._starts, self._fetched = [], []
        while self._idle:
            self._idle.pop().close()

    def _ask_size(self) -> int:
        handle = self._open()
        self._idle.append(handle)
        return int(handle.size())

    def _range(self, wanted: tuple[int, int]) -> NDArray[np.uint8]:
        def request() -> NDArray[np.uint8]:
            # One that failed is not used again: what it asks anew also says why it may not.
            handle = self._idle.pop() if self._idle else self._open()
            try:
                found = _whole(handle, *wanted)
            except BaseException:
                with suppress(Exception):  # what went wrong is told already
                    handle.close()
                raise
            self._idle.append(handle)
            return found

        return again(self._shown, self._retry_for, request, self._watcher)


def _joined(ranges: Iterable[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """The ranges in order, those that lie near each other as one while that stays small."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= _HOLE and stop - joined[-1][0] <= _LARGEST:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        elif start < stop:
            joined.append((start, stop))
    return joined


def _whole(handle: Any, start: int, stop: int) -> NDArray[np.uint8]:
    """The bytes from `start` to `stop`, all of them; else ShortRead, or what reading raises."""
    if handle.size() < stop:
        raise pa.ArrowInvalid(f"it has {handle.size():,} bytes now, expected {stop:,} or more")
    room = np.empty(stop - start, np.uint8)
    # pyarrow 26 takes a body of S3 for whole that is shorter than the range, if its header says so:
    # what came is told by the last byte alone.
    room[-1] = _MARK
    got = 0
    while got < len(room):
        handle.seek(start + got)
        more = handle.readinto(room[got:])
        if not more:
            raise ShortRead(f"{got:,} bytes came of {len(room):,} from byte {start:,} on")
        got += more
    if room[-1] == _MARK and not _ends_in_mark(handle, stop):
        raise ShortRead(f"fewer bytes came than {len(room):,} from byte {start:,} on")
    return room


def _ends_in_mark(handle: Any, stop: int) -> bool:
    """Whether the byte before `stop` is the mark by chance."""
    last = np.array([_MARK ^ 0xFF], np.uint8)
    handle.seek(stop - 1)
    return handle.readinto(last) == 1 and bool(last[0] == _MARK)
