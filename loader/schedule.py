"""Which fragments the batches of a pass read, and how long each is kept: worked out before it is read.

The plan is known, so the fragment to give up is the one whose next use is farthest (Belady's rule,
which no other can beat where fragments are of one size): those with no use in sight first, of them
the least recently used. What comes out does not depend on time or threads: a list of loads, each
with the batches that use it, to be done in their order.

Batches are looked at a stretch at a time, and one stretch further than loads are decided for: a use
that is farther away counts as none. Stretches grow from `_FIRST` rows to `HORIZON`: the first batch
does not wait until thousands are planned, nor for weights that lie in storage.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]

HORIZON: Final = 1 << 16

_FIRST: Final = 1 << 11
_NEVER: Final = 1 << 62  # less the last use: so the least recently used is farthest
_PROBE: Final = 32
_DENSE: Final = 64  # a table of steps by fragments may have so many cells a row


class Untold(Exception):
    """The rows of batches to come cannot be told: whoever makes one of these raises why."""


@dataclass(frozen=True, slots=True)
class Course:
    """The rows of the batches of a pass.

    rows     rows(first, stop): those of batches `first` … `stop` - 1 end to end, int64
    batches  how many there are; `batch_size` rows in each but the last
    """

    rows: Callable[[int, int], Ids]
    batches: int
    batch_size: int

    def told(self, first: int, stop: int) -> Ids:
        """Those rows; Untold where the plan cannot tell them."""
        try:
            return self.rows(first, stop)
        except Exception as cause:
            raise Untold from cause


@dataclass(slots=True, eq=False)
class Load:
    """One reading of a fragment.

    step    the batch it is read for
    nbytes  what it was taken to hold when it was decided
    held    what it holds, as far as is known
    uses    batches that have still to use it, as far as is decided; none will follow once `closed`
    begun   whether it was given to somebody to read
    """

    fragment: int
    step: int
    nbytes: int
    uses: int = 0
    held: int = 0
    closed: bool = False
    begun: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """Requests of steps `first` … `stop` - 1: each step's fragments, ascending."""

    first: int
    stop: int
    begins: Ids
    fragments: npt.NDArray[Any]


class Schedule:
    """The loads of a pass, decided stretch by stretch. Not thread-safe.

    starts  int64 (F,) first rows of the fragments; size(f) tells the bytes of one, and is asked when
            a load of it is decided; there is nothing to load of fragments that are `free`, bool (F,)
    """

    def __init__(
        self,
        course: Course,
        starts: Ids,
        free: npt.NDArray[np.bool_],
        size: Callable[[int], int],
        budget: int,
        horizon: int = HORIZON,
    ) -> None:
        self.loads: Final[deque[Load]] = deque()  # decided, and not yet taken from here
        self.planned = 0  # steps that loads are decided for
        self.tight = False  # whether anything had to be given up for want of room
        self._course: Final = course
        self._starts: Final = starts
        self._free: Final = free if free.any() else None
        self._even: Final = _even(starts)
        self._size: Final = size
        self._budget: Final = budget
        self._longest: Final = max(1, horizon // course.batch_size)
        # steps decided at once
        self.stretch = max(1, min(horizon, _FIRST) // course.batch_size)
        self._next = self._look(0)
        self._numbered = 0  # requests that loads are decided for
        self._used: dict[int, list[tuple[int, Load]]] = {}
        self._slot: Final = np.full(len(starts), -1, np.int32)
        self._held: Final[list[Load | None]] = []
        self._bytes = 0
        self._idle: Final[list[int]] = []
        self._far = np.zeros(0, np.int64)  # by slot: the next use, -1 where nothing is held
        self._last = np.zeros(0, np.int64)

    @property
    def complete(self) -> bool:
        """Whether all batches are planned."""
        return self.planned == self._course.batches

    def uses(self, step: int) -> list[tuple[int, Load]]:
        """The loads that a batch uses, with their fragments, ascending; told once."""
        while self.planned <= step:
            self.extend()
        return self._used.pop(step)

    def next_steps(self) -> dict[int, int]:
        """The next step that uses each load (by id()), of the steps that were not told yet."""
        found: dict[int, int] = {}
        for step in sorted(self._used):
            for _, load in self._used[step]:
                found.setdefault(id(load), step)
        return found

    def extend(self) -> None:
        """Decide the loads of one more stretch."""
        now = self._next
        self.stretch = min(2 * self.stretch, self._longest)
        self._next = ahead = self._look(now.stop)
        requests = now.fragments
        following, first = _next_uses(requests, ahead.fragments, len(self._starts))
        at = self._numbered + np.arange(len(requests))
        far = np.where(following < 0, _NEVER - at, following + self._numbered)
        self._sight(first)
        loads = self._decide(now, requests, at, far)
        self._numbered += len(requests)
        if ahead.stop == self._course.batches:  # what has no use in sight has none
            for slot in np.flatnonzero(self._far > _NEVER // 2).tolist():
                self._give_up(slot)
        fragments = requests.tolist()
        for step, (a, b) in enumerate(zip(now.begins[:-1], now.begins[1:], strict=True), now.first):
            self._used[step] = list(zip(fragments[a:b], loads[a:b], strict=True))
        self.planned = now.stop

    def _look(self, first: int) -> _Stretch:
        stop = min(first + self.stretch, self._course.batches)
        count, width = stop - first, len(self._starts)
        if not count:
            return _Stretch(first, stop, np.zeros(1, np.int64), np.zeros(0, np.int64))
        rows = self._course.told(first, stop)
        if self._even:
            owner = np.minimum(rows // self._even, width - 1)
        else:
            owner = np.searchsorted(self._starts, rows, side="right") - 1
        step = np.arange(len(rows)) // self._course.batch_size
        cell = step * width + owner
        if count * width <= _DENSE * len(rows):
            there = np.zeros(count * width, np.bool_)
            there[cell] = True
            cell = np.flatnonzero(there)
        else:
            cell = np.unique(cell)
        step, owner = np.divmod(cell, width)
        if self._free is not None:
            kept = ~self._free[owner]
            step, owner = step[kept], owner[kept]
        begins = np.searchsorted(step, np.arange(count + 1))
        return _Stretch(first, stop, begins, owner)

    def _sight(self, first: Ids) -> None:
        """Put the next uses of what is held right: more is in sight than before."""
        held = [(slot, load) for slot, load in enumerate(self._held) if load is not None]
        if held:
            slots = np.array([slot for slot, _ in held])
            found = first[[load.fragment for _, load in held]]
            self._far[slots] = np.where(
                found < 0, _NEVER - self._last[slots], found + self._numbered
            )

    def _decide(self, now: _Stretch, requests: Ids, at: Ids, far: Ids) -> list[Load]:
        """The load that serves each request."""
        loads: list[Load] = []
        r, probe, n = 0, _PROBE, len(requests)
        while r < n:
            slots = self._slot[requests[r : r + probe]]
            missing = slots < 0
            hits = int(missing.argmax()) if missing.any() else len(slots)
            if hits:
                slots, stop = slots[:hits], r + hits
                self._far[slots] = far[r:stop]  # the last one wins, where a slot repeats
                self._last[slots] = at[r:stop]
                for slot in slots.tolist():
                    load = self._held[slot]
                    assert load is not None
                    load.uses += 1
                    loads.append(load)
                r, probe = stop, min(2 * probe, 1 << 16)
                continue
            step = now.first + int(np.searchsorted(now.begins, r, side="right")) - 1
            load = self._load(int(requests[r]), step)
            slot = self._place(load)
            self._far[slot], self._last[slot] = far[r], at[r]
            loads.append(load)
            r, probe = r + 1, _PROBE
        return loads

    def _load(self, fragment: int, step: int) -> Load:
        """A new load, with room made for it; the one that is alone may be larger than all room."""
        load = Load(fragment, step, self._size(fragment), 1)
        while self._bytes and self._bytes + load.nbytes > self._budget:
            self.tight = True
            self._give_up(int(self._far.argmax()))
        self.loads.append(load)
        return load

    def _place(self, load: Load) -> int:
        if not self._idle:
            more = max(64, len(self._held))
            self._idle.extend(range(len(self._held), len(self._held) + more))
            self._held.extend([None] * more)
            self._far = np.append(self._far, np.full(more, -1))
            self._last = np.append(self._last, np.zeros(more, np.int64))
        slot = self._idle.pop()
        self._held[slot] = load
        self._slot[load.fragment] = slot
        self._bytes += load.nbytes
        return slot

    def _give_up(self, slot: int) -> None:
        load = self._held[slot]
        assert load is not None
        load.closed = True
        self._held[slot] = None
        self._slot[load.fragment] = -1
        self._far[slot] = -1
        self._bytes -= load.nbytes
        self._idle.append(slot)


def _even(starts: Ids) -> int:
    """The rows of each fragment but the last, where these are alike; else 0."""
    sizes = np.diff(starts)
    return int(sizes[0]) if len(sizes) and (sizes == sizes[0]).all() else 0


def _next_uses(now: Ids, ahead: Ids, fragments: int) -> tuple[Ids, Ids]:
    """For each request of `now` the number of the next one of its fragment, and for each fragment its
    first; counted through `now` and `ahead`, -1 where there is none.
    """
    both = np.concatenate([now, ahead]).astype(np.min_scalar_type(fragments))
    order = np.argsort(both, kind="stable")  # of two bytes by radix
    following = np.full(len(both), -1)
    same = both[order[1:]] == both[order[:-1]]
    following[order[:-1][same]] = order[1:][same]
    first = np.full(fragments, -1)
    new = np.append(True, ~same)[: len(both)]
    first[both[order[new]]] = order[new]
    return following[: len(now)], first
