"""Fragments in memory: those that a plan says are needed, and those that were read without one."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tql.loader.meter import Fetches
from tql.loader.packing import Packed
from tql.loader.schedule import Course, Load, Schedule, Untold
from tql.loader.sizes import Sizes
from tql.sources.gathering import Piece, gather_with, starts_of
from tql.sources.protocol import Run, Source

Ids: TypeAlias = npt.NDArray[np.int64]
Key: TypeAlias = tuple[int, tuple[str, ...]]

_AHEAD: Final = 2  # fragments read before they are used, for each thread that reads
_PACKED: Final = 8  # the part of the budget that one table for all fragments may take
_LOOK: Final = 0.1  # seconds after which one who waits for room looks whether all is over


@dataclass(frozen=True, slots=True)
class Io:
    """The threads that read for a pass.

    call     asks one of them, of which there are `threads`, to do something; it may never do it
    stopped  whether the pass is over
    fetches  counts what is read
    """

    call: Callable[[Callable[[], None]], None]
    threads: int
    stopped: Callable[[], bool]
    fetches: Fetches


class Store:
    """The fragments of one source in memory, `budget` bytes of them.

    What a pass has read ahead or keeps comes first; what was read without a plan, the least recently
    used first, makes room for it. The fragment read last is kept however large it is.
    """

    def __init__(self, source: Source, budget: int) -> None:
        self.pid: Final = os.getpid()
        self.source: Final = source
        self.budget: Final = budget
        self.changed: Final = threading.Condition()
        self.packed: Final = Packed(source, budget // _PACKED)
        self._spares: Final[OrderedDict[Key, pa.Table]] = OrderedDict()
        self._spare_bytes = 0
        self._reads: Final[dict[Key, Future[pa.Table]]] = {}
        self._passes: Final[weakref.WeakSet[Reading]] = weakref.WeakSet()

    def get(self, fragment: int, names: Sequence[str]) -> pa.Table:
        """These columns of a fragment."""
        if self.source.fragments[fragment].in_place:
            return self.source.read(fragment, names)
        key = (fragment, tuple(names))
        with self.changed:
            table = self.find(key)
        return self.read(key, partial(self.spare, key))[0] if table is None else table

    def read(self, key: Key, keep: Callable[[pa.Table], None]) -> tuple[pa.Table, bool]:
        """Read it, or wait for who is at it; and whether it was read here.

        `keep` is called before anybody could look for the table in vain, with the lock held.
        """
        own: Future[pa.Table] = Future()
        theirs = own
        try:
            while (theirs := self._registered(key, own)) is not own:
                with suppress(CancelledError):  # their pass is over, and this one reads it anew
                    table = theirs.result()
                    with self.changed:
                        keep(table)
                    return table, False
            table = one_chunk(self.source.read(*key))
            with self.changed:
                del self._reads[key]
                keep(table)
            own.set_result(table)
            return table, True
        except BaseException as e:
            with self.changed:
                if self._reads.get(key) is own:
                    del self._reads[key]
            if not own.done():
                own.set_exception(e)
            raise
        finally:
            del own, theirs  # an error holds this frame, and they hold the error

    def _registered(self, key: Key, own: "Future[pa.Table]") -> "Future[pa.Table]":
        """Who reads it: somebody, or else `own`."""
        with self.changed:
            return self._reads.setdefault(key, own)

    def get_each(
        self, fragments: Sequence[int], names: Sequence[str], piece: Piece, run: Run
    ) -> list[pa.Table]:
        """The pieces of these fragments; those that are there do without `run`."""
        columns = tuple(names)
        with self.changed:
            found = {k: self.find((f, columns)) for k, f in enumerate(fragments)}
        pieces = {k: piece(k, table) for k, table in found.items() if table is not None}

        def one(k: int) -> pa.Table:
            return piece(k, self.get(fragments[k], names))

        missing = [k for k in range(len(fragments)) if k not in pieces]
        pieces.update(zip(missing, run([partial(one, k) for k in missing]), strict=True))
        return [pieces[k] for k in range(len(fragments))]

    # -- with the lock of `changed` held

    def find(self, key: Key) -> pa.Table | None:
        """A table that is there, for whomever."""
        table = self._spares.get(key)
        if table is not None:
            self._spares.move_to_end(key)
            return table
        held = (p.held(key) for p in list(self._passes))
        return next((table for table in held if table is not None), None)

    def unspare(self, key: Key) -> pa.Table | None:
        """A table that is there for nobody, who is handed it."""
        table = self._spares.pop(key, None)
        if table is not None:
            self._spare_bytes -= table.nbytes
        return table

    def spare(self, key: Key, table: pa.Table) -> None:
        """Keep a table for whoever may want it, as long as there is room."""
        self.unspare(key)
        self._spares[key] = table
        self._spare_bytes += table.nbytes
        while self.used > self.budget and len(self._spares) > 1:
            self._drop_spare()

    def has_room(self, nbytes: int) -> bool:
        """Whether there is room for so much, made of what nobody needs if it must be."""
        while self._spares and self.used + nbytes > self.budget:
            self._drop_spare()
        used = self.used
        return used + nbytes <= self.budget or not used

    def offer(self, names: tuple[str, ...]) -> None:
        """Lay the fragments out as one table, once all of them are there."""
        there = len(self._spares) + sum(p.tables for p in list(self._passes))
        if there >= len(self.source.fragments):
            self.packed.offer(names, lambda f: self.find((f, names)))

    def could_have(self, key: Key, nbytes: int) -> bool:
        """Whether a table is there for nobody, or could have room."""
        used = self.used - self._spare_bytes
        return key in self._spares or not used or used + nbytes <= self.budget

    def take_room(self, nbytes: int) -> None:
        """Make room of what passes keep, where no other way is left: the farthest next use first."""
        idle = [(*found, p) for p in list(self._passes) for found in p.idle()]
        idle.sort(key=lambda one: one[0])
        while idle and self.used + nbytes > self.budget:
            _, load, reading = idle.pop()
            reading.take_away(load)

    @property
    def used(self) -> int:
        """Bytes in memory, and to be read now; what several passes share is there once."""
        passes = list(self._passes)
        if len(passes) < 2:
            shared = sum(p.nbytes for p in passes)
        else:
            shared = sum(dict(pair for p in passes for pair in p.parts()).values())
        return self._spare_bytes + shared + self.packed.nbytes

    def add(self, reading: "Reading") -> None:
        """Count what a pass holds, for as long as it lives."""
        self._passes.add(reading)

    def _drop_spare(self) -> None:
        _, table = self._spares.popitem(last=False)
        self._spare_bytes -= table.nbytes


class Reading:
    """The fragments of a pass, read in the order of its schedule, as early as there is room.

    Each is read as often as the schedule says, however many threads there are, or less often: where
    one thread still takes rows of what another would read again. Only what another pass takes away,
    which shares the memory and has no other way to go on, is read once more.
    """

    def __init__(self, store: Store, course: Course, io: Io) -> None:
        self.nbytes = 0  # of what is there, and of what is being read
        self._store: Final = store
        self._course: Final = course
        self._io: Final = io
        self._begin: Final = threading.Lock()
        self._names: tuple[str, ...] = ()
        self._schedule: Schedule | None = None
        self._sizes: Sizes | None = None
        self._tables: Final[dict[Load, pa.Table]] = {}
        self._last: Final[dict[int, Load]] = {}  # the load begun last, by fragment
        self._going: Final[set[Load]] = set()
        self._fresh: Final[set[Load]] = set()  # read, or being read, and not used yet
        self._pending: Final[dict[int, dict[int, Load]]] = {}  # what steps under way have to use
        self._finished: Final[set[int]] = set()
        self._low = 0  # the first step that is not finished
        self._aheads = 0  # threads that read ahead
        self._blind = False  # whether the rows of batches to come cannot be told
        with store.changed:
            store.add(self)

    def take(self, step: int, rows: Ids, columns: Sequence[str], run: Run) -> pa.Table:
        """These columns of rows of the batch `step`; other rows are read without a plan."""
        packed = self._store.packed.take(rows, columns)
        if packed is not None:
            return packed

        def each(fragments: Sequence[int], names: Sequence[str], piece: Piece) -> list[pa.Table]:
            piece = self._store.packed.watched(fragments, names, piece)
            uses = self._needed(step, tuple(names))
            if not uses:
                return self._store.get_each(fragments, names, piece, run)
            return self._pieces(step, uses, fragments, piece, run)

        return gather_with(self._store.source, rows, columns, each, run, self._store.get)

    def finish(self, step: int) -> None:
        """Let go of what the batch `step` has not used, and read on."""
        with self._store.changed:
            if step in self._finished or step < self._low:
                return
            self._finished.add(step)
            if self._schedule is not None:
                for load in self._pending_of(step).values():
                    self._release(load)
                del self._pending[step]
            while self._low in self._finished:
                self._finished.remove(self._low)
                self._low += 1
            self._store.changed.notify_all()
        self._read_on()

    def close(self) -> None:
        """Let go of everything; where all has had room it stays, for the next pass."""
        with self._store.changed:
            for load in list(self._tables):
                self._drop(load)

    # -- with the lock of the store held

    def held(self, key: Key) -> pa.Table | None:
        """A table that is there."""
        fragment, names = key
        load = self._last.get(fragment)
        return None if load is None or names != self._names else self._tables.get(load)

    @property
    def tables(self) -> int:
        """How many are there."""
        return len(self._tables)

    def parts(self) -> list[tuple[int, int]]:
        """What `nbytes` is made of: a name for each table, or load of one, and its bytes."""
        there = [(id(table), load.held) for load, table in self._tables.items()]
        return there + [(id(load), load.held) for load in self._going]

    def idle(self) -> list[tuple[float, Load]]:
        """What no batch under way needs, and after how many batches it is needed."""
        if self._schedule is None:
            return []
        following = self._schedule.next_steps()
        busy = {load for uses in self._pending.values() for load in uses.values()}
        return [
            (following.get(id(load), float("inf")) - self._low, load)
            for load in self._tables
            if load not in busy
        ]

    def take_away(self, load: Load) -> None:
        """Forget a table; if a batch needs it after all, it is read again."""
        del self._tables[load]
        if self._last.get(load.fragment) is load:
            del self._last[load.fragment]
        self._fresh.discard(load)
        self.nbytes -= load.held

    def _pending_of(self, step: int) -> dict[int, Load]:
        if step not in self._pending:
            schedule = self._schedule
            assert schedule is not None
            while schedule.planned <= step and self._extended():
                pass
            known = schedule.planned > step
            self._pending[step] = dict(schedule.uses(step)) if known else {}
        return self._pending[step]

    def _extended(self) -> bool:
        """Whether more could be planned; what turns out not to be used again is dropped."""
        assert self._schedule is not None
        if self._blind:
            return False
        try:
            self._schedule.extend()
        except Untold:  # the batch whose rows they are raises it in its turn
            self._blind = True
            return False
        for load in [load for load in self._tables if load.closed and not load.uses]:
            self._drop(load)
        return True

    def _release(self, load: Load) -> None:
        load.uses -= 1
        self._fresh.discard(load)
        if load.closed and not load.uses and load in self._tables:
            self._drop(load)

    def _drop(self, load: Load) -> None:
        table = self._tables[load]
        self.take_away(load)
        if self._schedule is not None and not self._schedule.tight:
            self._store.spare((load.fragment, self._names), table)
        self._store.changed.notify_all()

    def _next(self, *, forced: bool = False) -> Load | None:
        """The next load of the schedule, begun, if there is room for it or it is `forced`."""
        assert self._schedule is not None
        while self._schedule.loads:
            load = self._schedule.loads[0]
            if load.closed and not load.uses:  # its batches were given up
                self._schedule.loads.popleft()
                continue
            if not self._begun(load, forced=forced):
                return None
            return self._schedule.loads.popleft()
        return None

    def _begun(self, load: Load, *, forced: bool) -> bool:
        """Whether a load could be begun. It is there at once where the table is, for another use."""
        key = (load.fragment, self._names)
        table = self._store.unspare(key)
        if table is None:
            table = self._store.find(key)
        if table is None:
            assert self._sizes is not None
            load.held = self._sizes.of(load.fragment)
            if not self._store.has_room(load.held):
                if not forced:
                    return False
                self._store.take_room(load.held)
            self._going.add(load)
        else:
            self._tables[load] = table
            self._learn(load, table)
            self._store.changed.notify_all()
        load.begun = True
        self._last[load.fragment] = load
        self._fresh.add(load)
        self.nbytes += load.held
        return True

    # -- without

    def _needed(self, step: int, names: tuple[str, ...]) -> dict[int, Load]:
        """What a batch under way has still to use, by fragment; none of other columns."""
        with self._begin:
            if self._schedule is None and names and not self._blind:
                try:
                    self._plan(names)
                except Untold:  # as in `_extended`
                    self._blind = True
        with self._store.changed:
            known = self._schedule is not None and names == self._names
            if not known or step in self._finished or step < self._low:
                return {}
            uses = dict(self._pending_of(step))
        self._read_on()
        return uses

    def _plan(self, names: tuple[str, ...]) -> None:
        """Make the schedule, for the columns that are asked for first."""
        source = self._store.source
        sizes = Sizes(source, names)
        starts = starts_of(source)
        free = np.fromiter((f.in_place for f in source.fragments), np.bool_, len(starts))
        owners = np.searchsorted(starts, self._course.told(0, 1), side="right") - 1
        owners = owners[~free[owners]]
        if len(owners):
            # What statistics say is measured against the fragment that is read first anyway.
            first = int(owners.min())
            with suppress(Exception):  # its batch will say so in its turn
                sizes.learn(first, self._first(first, names).nbytes)
        schedule = Schedule(self._course, starts, free, sizes.of, self._store.budget)
        with self._store.changed:
            self._schedule, self._names, self._sizes = schedule, names, sizes
            for step in [*range(self._low), *self._finished]:
                for _, load in schedule.uses(step):
                    self._release(load)

    def _first(self, fragment: int, names: tuple[str, ...]) -> pa.Table:
        with self._store.changed:
            table = self._store.find((fragment, names))
        if table is None:
            table = self._store.get(fragment, names)
            self._io.fetches.read(fragment, table.nbytes)
        return table

    def _pieces(
        self,
        step: int,
        uses: dict[int, Load],
        fragments: Sequence[int],
        piece: Piece,
        run: Run,
    ) -> list[pa.Table]:
        with self._store.changed:
            there = {k: self._tables.get(uses[f]) for k, f in enumerate(fragments) if f in uses}
        found = {k: table for k, table in there.items() if table is not None}
        there.clear()
        pieces = {k: piece(k, table) for k, table in found.items()}
        with self._store.changed:
            for k in found:
                self._used(step, fragments[k])
        self._io.fetches.hits(len(found))
        found.clear()

        wanted = [uses[f] for f in fragments if f in uses]

        def one(k: int) -> pa.Table:
            f = fragments[k]
            try:
                if f in uses:
                    return piece(k, self._obtain(step, uses[f], wanted))
                return piece(k, self._store.get(f, self._names))
            finally:  # where it failed, too: others of the batch may wait for their turn
                with self._store.changed:
                    self._used(step, f)

        missing = [k for k in range(len(fragments)) if k not in pieces]
        pieces.update(zip(missing, run([partial(one, k) for k in missing]), strict=True))
        return [pieces[k] for k in range(len(fragments))]

    def _used(self, step: int, fragment: int) -> None:
        """With the lock held: a batch has taken its rows of a fragment."""
        load = self._pending.get(step, {}).pop(fragment, None)
        if load is not None:
            self._release(load)
            self._store.changed.notify_all()

    def _obtain(self, step: int, load: Load, wanted: Sequence[Load]) -> pa.Table:
        """The table of a load; whoever waits for it reads what comes before it."""
        while True:
            with self._store.changed:
                begun = self._turn(step, load, wanted)
                if not isinstance(begun, Load):
                    return begun
            try:
                self._read(begun)
            except Exception:
                if begun is load:
                    raise
                # Who needs that one reads it again, and is told.

    def _turn(self, step: int, load: Load, wanted: Sequence[Load]) -> pa.Table | Load:
        """With the lock held: wait for the table of `load`, or for a load that is to be read."""
        assert self._schedule is not None
        while True:
            if self._io.stopped():
                raise CancelledError
            table = self._tables.get(load)
            if table is not None:
                return table
            if load not in self._going:
                # By the schedule there is room for what is needed first; if there is none, what was
                # known of sizes was wrong, or another pass has taken it.
                left = self._pending.get(step, {})
                first = next((w for w in wanted if w.fragment in left), load)
                forced = step == self._low and first is load
                if load.begun:  # it failed when it was read ahead, or was taken away
                    if self._begun(load, forced=forced):
                        return load
                else:
                    begun = self._next(forced=forced)
                    if begun is not None:
                        return begun
            self._store.changed.wait(_LOOK)

    def _read(self, load: Load, *, ahead: bool = False) -> None:
        """Read what was begun, and was not found."""
        if load not in self._going:
            return
        key = (load.fragment, self._names)
        try:
            table, mine = self._store.read(key, partial(self._landed, load))
        except BaseException:
            with self._store.changed:
                self._going.remove(load)
                self._fresh.discard(load)
                self.nbytes -= load.held
                self._store.changed.notify_all()
            raise
        if mine:
            self._io.fetches.read(load.fragment, table.nbytes, ahead=ahead)
            with self._store.changed:
                self._store.offer(self._names)

    def _learn(self, load: Load, table: pa.Table) -> None:
        assert self._sizes is not None
        load.held = table.nbytes
        self._sizes.learn(load.fragment, table.nbytes)

    def _landed(self, load: Load, table: pa.Table) -> None:
        """With the lock held: the table is there."""
        self._going.remove(load)
        self._tables[load] = table
        self.nbytes -= load.held
        self._learn(load, table)
        self.nbytes += load.held
        if load.closed and not load.uses:
            self._drop(load)
        self._store.changed.notify_all()

    def _read_on(self) -> None:
        """Have threads read ahead, as many as there are."""
        while True:
            with self._store.changed:
                if self._aheads >= self._io.threads or not self._more():
                    return
                self._aheads += 1
            self._io.call(self._ahead)

    def _ahead(self) -> None:
        with self._store.changed:
            load = self._next() if self._more() else None
        if load is not None:
            with suppress(Exception):  # who needs it reads it again, and is told
                self._read(load, ahead=True)
        with self._store.changed:
            self._aheads -= 1
        if load is not None:
            self._read_on()

    def _more(self) -> bool:
        """Whether something should be read ahead. With the lock held."""
        schedule = self._schedule
        if schedule is None or self._io.stopped():
            return False
        if len(self._fresh) >= _AHEAD * self._io.threads or self._store.packed.has(self._names):
            return False
        far = schedule.planned - self._low >= 2 * schedule.stretch
        if not schedule.loads and not schedule.complete and not far:
            self._extended()
        if not schedule.loads:
            return False
        load = schedule.loads[0]
        assert self._sizes is not None
        nbytes = self._sizes.of(load.fragment)
        return self._store.could_have((load.fragment, self._names), nbytes)


def one_chunk(table: pa.Table) -> pa.Table:
    """Taking rows from a column of many chunks would join the chunks again each time."""
    if all(column.num_chunks <= 1 for column in table.columns):
        return table
    return table.combine_chunks()
