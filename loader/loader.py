"""The loader that users iterate: passes over a plan, one after another, resumable at any batch."""

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from tql.cpus import usable_cpus
from tql.diagnostics import error
from tql.loader.batch import Collate
from tql.loader.decode import Decoder, resolve
from tql.loader.failures import Failures, too_many
from tql.loader.memory import Memory, Ring, Supply
from tql.loader.meter import LoaderStats, Meter
from tql.loader.options import LOCAL_READERS, Options, as_stored, loaded_columns
from tql.loader.pipeline import Limits, Pipeline
from tql.loader.processes import Workers
from tql.loader.progress import with_bar
from tql.loader.ragged import Padding, paddings
from tql.loader.recipe import Recipe, Stream
from tql.loader.rows import Rows
from tql.loader.to_torch import in_dataloader_worker
from tql.loader.transforms import applied
from tql.planner.changes import Earlier, adopted
from tql.planner.epochs import Pass
from tql.planner.frameworks import refuse_second_sharing, restored_by_lightning
from tql.planner.samplers import BatchSampler, Naming, Sampler, Streamed
from tql.planner.skipping import Skip
from tql.planner.stream import ORDER, IndexStream, Remainder, check_state
from tql.schema import Column
from tql.sources.protocol import REMOTE_READERS

_ORDINARY: Final = Supply()
_FIRST: Final = 8  # rows that show what batches are


class Plan(Protocol):
    """What the loader needs of tql.planner.Plan."""

    def __len__(self) -> int: ...
    @property
    def short(self) -> str: ...
    @property
    def earlier(self) -> tuple[Earlier, ...]: ...
    def stream(
        self,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        offset: int = 0,
        batch_size: int = 1,
        remainder: Remainder = "short",
    ) -> Stream: ...


@dataclass(slots=True)
class _Cursor:
    """An open pass: the position after the batch that it delivered last, how many are to come.

    left  None until its first batch is asked for; until then it may be moved to another epoch
    """

    begun: Pass
    position: int
    left: int | None = None

    def at_epoch(self, epoch: int) -> None:
        """The same pass of another epoch."""
        self.begun = self.begun.at_epoch(epoch)
        self.position = self.begun.start


@dataclass(frozen=True, slots=True)
class _FirstBatch:
    """Rows of the source in its order."""

    rows: npt.NDArray[np.int64]

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self.rows))

    @property
    def seeds(self) -> npt.NDArray[np.uint64]:
        return np.zeros(len(self.rows), np.uint64)

    @property
    def pad(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self.rows), np.bool_)

    def only(self, kept: npt.NDArray[np.bool_], /) -> "_FirstBatch":
        return _FirstBatch(self.rows[kept])


@dataclass(frozen=True, slots=True)
class _First:
    """The stream of one batch."""

    first: _FirstBatch
    batches: int = 1

    def __len__(self) -> int:
        return len(self.first.rows)

    def batch(self, i: int, /) -> _FirstBatch:
        return self.first

    def rows(self, first: int, stop: int, /) -> npt.NDArray[np.int64]:
        return self.first.rows

    def position_after(self, i: int, /) -> int:
        return len(self)

    def replaced(
        self, batch: Any, bad: npt.NDArray[np.int64], tries: npt.NDArray[np.int64], /
    ) -> _FirstBatch:
        raise AssertionError("first rows that fail are left out")


class Loader:
    """Batches of `rows` in the order of `plan`; each `iter()` is one pass over one epoch.

    A finished pass advances the epoch by one, unless `set_epoch` has pinned it. A pass that was
    left before its last batch is begun again by the next `iter()`. Nothing is read before the first `next()`. Of
    several open iterators, epoch and state follow the one made last.
    """

    def __init__(
        self,
        rows: Rows,
        plan: Plan,
        options: Options,
        collate: Collate,
        supply: Supply = _ORDINARY,
    ) -> None:
        self.plan: Final = plan
        self.options: Final = options
        self._rows: Final = rows
        self._collate: Final = collate
        self._columns: Final = loaded_columns(options, rows.schema)
        self._threads: Final = options.num_threads or usable_cpus()
        t = options.transform
        self._apply: Final = None if t is None else applied(t, options.transform_kwargs)
        self._running: Final[weakref.WeakSet[Pipeline]] = weakref.WeakSet()
        self._processes: Final[weakref.WeakSet[Workers]] = weakref.WeakSet()
        self._kept: Workers | None = None
        self._decoder: Decoder | None = None
        self._sampler: Sampler | None = None
        self._batch_sampler: BatchSampler | None = None
        self._meter = Meter()
        self._failures = Failures()
        self._memory = self._new_memory()
        self._supply: Final = supply
        self._ring: Ring | None = None  # of the last pass that came to its end
        self._next = Pass(epoch=0, start=options.offset)
        self._pinned = False
        self._whole_epochs = False
        self._cursor: _Cursor | None = None  # of the pass begun last, until it ends
        self._stream(self._next)  # an impossible offset is an error here, not in the first pass

    @property
    def dataset(self) -> Rows:
        """The rows that batches are taken from."""
        return self._rows

    @property
    def batch_size(self) -> int:
        """Rows in a batch of one rank."""
        return self.options.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether a last batch that is not full is left out."""
        return self.options.drop_last

    @property
    def sampler(self) -> Sampler:
        """The rows of the passes one at a time, as `index` names them; see `Plan.sampler`."""
        if self._sampler is None:
            self._sampler = Sampler(*self._sampled(1), False, *self._named)
        return self._sampler

    @property
    def batch_sampler(self) -> BatchSampler:
        """The rows of the batches of this rank, as `index` names them; see `Plan.batch_sampler`."""
        if self._batch_sampler is None:
            shape, drop_last = self._sampled(self.batch_size), self.drop_last
            self._batch_sampler = BatchSampler(*shape, drop_last, *self._named)
        return self._batch_sampler

    def _sampled(self, batch_size: int) -> tuple[Streamed, int, int, int, Remainder, int]:
        o = self.options
        remainder: Remainder = "pad" if o.remainder == "mask" else o.remainder
        plan = cast(Streamed, self.plan)
        return plan, o.rank, o.world_size, batch_size, remainder, o.offset

    @property
    def _named(self) -> tuple[Naming, Callable[[int], None], Sequence[Skip]]:
        return self._rows.identify, self.set_epoch, self.options.skips

    @property
    def epoch(self) -> int:
        """The epoch that the next `iter()` will give, or that is being given."""
        return self._next.epoch

    def __len__(self) -> int:
        """Batches that the next `iter()` will yield on this rank.

        Those of a whole epoch once Lightning has loaded a state: it adds the ones it has had.
        """
        at = self._next
        if self._whole_epochs:
            at = replace(at, start=self.options.offset if at.epoch == 0 else 0)
        return self._batches(self._stream(at))

    def __iter__(self) -> Iterator[Any]:
        refuse_second_sharing(self, self.options.rank, self.options.world_size)
        if (
            self._cursor is not None and self._cursor.left == 0
        ):  # nobody asked what follows the last
            self._next = self._cursor.begun.after(self._pinned)
        # Now, and not at the first next(): another pass may end before that.
        begun = self._next
        self._cursor = cursor = _Cursor(begun, begun.start)
        self._next = replace(begun, begun=True)
        self._stream(begun)
        return self._batches_of(cursor)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop every pass that is under way and let go of memory; it can be iterated again."""
        for pipeline in list(self._running):
            pipeline.close()
        for workers in list(self._processes):
            workers.close()
        self._rows.release()
        self._memory, self._ring = self._new_memory(), None

    def set_epoch(self, epoch: int) -> None:
        """Pin the epoch: passes give this one until it is set again. A loaded position in it stays."""
        if isinstance(epoch, bool) or not hasattr(epoch, "__index__"):
            raise error("type", f"epoch is {epoch!r}; expected an integer")
        if epoch < 0:
            raise error("value", f"epoch is {epoch}; expected 0 or more")
        self._pinned = True
        if epoch == self._next.epoch:
            return
        if self._cursor is not None and self._cursor.left is None:  # Lightning sets it after iter()
            self._cursor.at_epoch(int(epoch))
            self._next = replace(self._cursor.begun, begun=True)
        else:
            self._next, self._cursor = self._next.at_epoch(int(epoch)), None

    def state_dict(self) -> dict[str, Any]:
        """Where the caller is: after the batch delivered last, however far ahead was read."""
        return {
            "order": ORDER,
            "plan": self.plan.short,
            "epoch": self._next.epoch,
            "position": self._next.start if self._cursor is None else self._cursor.position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next `iter()` go on behind the batch that `state` was taken after."""
        epoch, position = check_state(adopted(state, self.plan), self.plan.short, len(self.plan))
        self._next, self._cursor = Pass(epoch, position, begun=True), None
        self._whole_epochs = restored_by_lightning()
        if self._whole_epochs and not self._batches(self._stream(self._next)):
            # It never asks for the end of a pass, and goes on with the iterator it makes now.
            self._next = self._next.after(pinned=False)

    @property
    def columns_as_stored(self) -> tuple[Column, ...]:
        """The columns that no transform touches."""
        return as_stored(self.options, self._columns)

    @property
    def paddings(self) -> tuple[Padding, ...]:
        """The columns that are padded."""
        return paddings(self.options.ragged, self.columns_as_stored)

    def first_rows(self) -> Any:
        """A batch of the first rows of the source, whatever the plan: it shows what batches are.

        Rows that fail are left out of it wherever they need not raise: no plan says what to put there.
        """
        stream = _First(_FirstBatch(self._rows.in_order(0, _FIRST)))
        recipe = self._recipe(Pass(epoch=0, start=0), stream, Meter())
        if recipe.on_error == "replace":
            recipe = replace(recipe, on_error="skip")
        return recipe.make(0)

    def stats(self) -> LoaderStats:
        """What the pass begun last has done so far, and one line of advice."""
        return self._meter.stats()

    def errors(self) -> Failures:
        """The samples that were left out or replaced in the batches delivered so far."""
        return self._failures

    def _stream(self, at: Pass) -> Stream:
        o = self.options
        stream = self.plan.stream(
            epoch=at.epoch,
            rank=o.rank,
            world_size=o.world_size,
            offset=at.start,
            batch_size=o.batch_size,
            remainder=o.remainder,
        )
        for epoch, positions in o.skips:
            assert isinstance(stream, IndexStream)  # only chains skip, and their plans give these
            stream.skip(positions, epoch=epoch)
        return stream

    def _batches(self, stream: Stream) -> int:
        return len(stream) // self.batch_size if self.drop_last else stream.batches

    def _batches_of(self, cursor: _Cursor) -> Iterator[Any]:
        """The batches of a pass, which begins here: at the first `next()`."""
        begun, stream = cursor.begun, self._stream(cursor.begun)
        cursor.left = self._batches(stream)
        batches = self._delivered(begun, stream, cursor)
        if self.options.progress:
            batches = with_bar(batches, cursor.left, f"epoch {begun.epoch}")
        yield from batches

    def _delivered(self, begun: Pass, stream: Stream, cursor: _Cursor) -> Iterator[Any]:
        meter = self._meter = Meter()
        ring = self._ring_of_pass()
        recipe = self._recipe(begun, stream, meter, self._workers(), ring)
        pipeline = Pipeline(recipe, self._limits(), meter)
        self._running.add(pipeline)
        steps = itertools.count()  # enumerate() would hold on to a batch that the caller dropped
        failed, most = 0, self.options.max_errors
        for done in pipeline:
            self._failures = Failures(self._failures.found + done.failures)
            failed += len(done.failures)
            if most is not None and failed > most:
                pipeline.close()
                raise too_many(Failures(self._failures.found[-failed:]), most)
            cursor.position = stream.position_after(next(steps))
            assert cursor.left is not None
            cursor.left -= 1
            yield done.value
            if ring is not None and done.lap is not None:
                ring.give_back(done.lap)
            del done  # or its memory could not be used again until the next one is there
        self._ring = ring
        if self._cursor is cursor:
            self._next, self._cursor = begun.after(self._pinned), None

    def _workers(self) -> Workers | None:
        """The processes of a pass, which end when it does; the kept ones where some are to stay."""
        o = self.options
        if not o.num_workers or self._apply is None:
            return None
        if self._kept is not None and self._kept.usable:
            return self._kept
        made = Workers(self._apply, o.num_workers)
        self._processes.add(made)
        self._kept = made if o.persistent_workers else None
        return made

    def _ring_of_pass(self) -> Ring | None:
        """That of the pass before, if no other pass is using it; none in a worker of torch's DataLoader,
        which asks for the next batch while it still sends the last.
        """
        if not self.options.reuse or in_dataloader_worker():
            return None
        ring, self._ring = self._ring, None
        return ring or Ring(self._supply)

    def _limits(self) -> Limits:
        o = self.options
        busy = max(self._threads, o.num_workers)
        in_flight = 1 + o.prefetch_factor * -(-busy // o.batch_size)
        few = min(LOCAL_READERS, self._threads)
        io_threads = o.io_threads or (few if self._rows.local else REMOTE_READERS)
        return Limits(self._threads, io_threads, in_flight, o.memory_bytes, o.timeout)

    def _new_memory(self) -> Memory:
        """Blocks for the batches in the making, the one in use, and some to spare."""
        blocks = (self._limits().in_flight + 3) * max(1, len(self._columns))
        return Memory(blocks, self.options.memory_bytes)

    def _recipe(
        self,
        begun: Pass,
        stream: Stream,
        meter: Meter,
        workers: Workers | None = None,
        ring: Ring | None = None,
    ) -> Recipe:
        o = self.options
        if self._decoder is None:
            self._decoder = resolve(self._rows, self._columns, o)
        return Recipe(
            stream=stream,
            batches=self._batches(stream),
            batch_size=o.batch_size,
            epoch=begun.epoch,
            start=begun.start,
            rows=self._rows,
            decoder=self._decoder,
            apply=self._apply,
            workers=workers,
            mark_padding=o.remainder in ("pad", "mask"),
            paddings=self.paddings,
            on_error=o.on_error,
            collate=self._collate,
            memory=self._memory,
            ring=ring,
            meter=meter,
        )
