"""Samplers for a stock torch DataLoader over anybody's data set: row numbers, or lists of them.

torch takes any iterable for a sampler, so nothing here imports it. An iteration is one pass over one
epoch; a finished one advances the epoch, unless `set_epoch` has pinned it, and one that was left
early is begun again. A sampler and its iterators have the state that StatefulDataLoader of torchdata
keeps; it is the state of our own loader, four numbers for all ranks.

A DataLoader with worker processes asks for indices ahead of what it hands over. torchdata's keeps the
state that belongs to the batch handed over; beside a stock one, count batches and ask `state_after`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from tql.diagnostics import error
from tql.planner.arguments import count, whole, yes_or_no
from tql.planner.changes import Earlier, adopted
from tql.planner.epochs import Pass
from tql.planner.frameworks import refuse_second_sharing
from tql.planner.rng import Int64s
from tql.planner.skipping import Skip
from tql.planner.stream import ORDER, IndexStream, Remainder, check_state

T = TypeVar("T")

Naming: TypeAlias = Callable[[Int64s], Int64s]
_AHEAD: Final = 4096  # row numbers made at once


class Streamed(Protocol):
    """What samplers need of a plan."""

    @property
    def short(self) -> str: ...

    @property
    def earlier(self) -> tuple[Earlier, ...]: ...

    def __len__(self) -> int: ...

    def stream(
        self,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        offset: int = 0,
        batch_size: int = 1,
        remainder: Remainder = "short",
    ) -> IndexStream: ...


class _Base(ABC, Generic[T]):
    """Passes over the epochs of a plan, for one rank; `T` is what a step gives.

    naming  gives the rows of the plan other numbers
    pin     is told the epochs that are set
    skips   positions that are left out
    """

    def __init__(
        self, plan: Streamed, rank: int = 0, world_size: int = 1, batch_size: int = 1,
        remainder: Remainder | None = None, offset: int = 0, drop_last: bool = False,
        naming: Naming | None = None, pin: Callable[[int], None] | None = None,
        skips: Sequence[Skip] = (),
    ) -> None:  # fmt: skip
        if not hasattr(
            plan, "stream"
        ):  # Lightning makes a batch sampler anew, of a sampler of its own
            raise error("type", f"samplers are made by plan.sampler() and plan.batch_sampler(), and not of "
                        f"a {type(plan).__name__}",
                        help="with Lightning: Trainer(use_distributed_sampler=False), and rank= and "
                        "world_size= of this process")  # fmt: skip
        if remainder == "mask":
            raise error("parameter", "a sampler cannot mark samples, as remainder='mask' would",
                        help="use 'drop', 'pad' or 'short', or the loader: .pytorch(remainder='mask')")  # fmt: skip
        self.plan: Final = plan
        self.drop_last: Final = yes_or_no("drop_last", drop_last)
        self._shape: Final = (rank, world_size, batch_size)
        self._remainder: Final[Remainder] = remainder or ("short" if world_size == 1 else "drop")
        self._naming: Final = naming
        self._pin: Final = pin
        self._skips: Final = skips
        self._next = Pass(epoch=0, start=offset)
        self._pinned = False
        self._walk: Walk[T] | None = None  # the iterator made last, until it is over
        self._last: Walk[T] | None = None  # also then
        self._stream(self._next)  # an impossible rank or offset is an error here

    @property
    def epoch(self) -> int:
        """The epoch that the next `iter()` will give, or that is being given."""
        return self._next.epoch

    def set_epoch(self, epoch: int) -> None:
        """Pin the epoch: passes give this one until it is set again. A loaded position in it stays."""
        epoch = count("epoch", epoch)
        self._pinned = True
        if self._pin is not None:
            self._pin(epoch)
        if epoch == self._next.epoch:
            return
        if self._walk is not None and not self._walk.used:
            self._walk._begin(self._walk._begun.at_epoch(epoch))
        else:
            self._walk = None
        self._next = self._next.at_epoch(epoch)

    def __iter__(self) -> "Walk[T]":
        self._refuse_second_sharing()
        if self._walk is not None and self._walk.used_up:  # nobody asked what follows the last step
            self._given(self._walk, self._walk._begun)
        self._walk = self._last = Walk(self, self._next)
        return self._walk

    def __len__(self) -> int:
        """Steps that the next `iter()` will make on this rank."""
        self._refuse_second_sharing()
        return self._steps(self._stream(self._next))

    def state_dict(self) -> dict[str, Any]:
        """Where the iterator made last is; what the next `iter()` begins with, if there is none."""
        walk = self._walk
        return _state(self.plan, self._next) if walk is None else walk.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next `iter()` go on where `state` was taken, on any rank of any number of them."""
        state = adopted(state, self.plan)
        epoch, position = check_state(state, self.plan.short, len(self.plan))
        self._next, self._walk = Pass(epoch, position, begun=True), None

    def state_after(self, steps: int) -> dict[str, Any]:
        """The state when `steps` steps of the iterator made last were used, however many it gave."""
        if self._last is None:
            raise error("value", "no pass was begun", help="call iter(sampler) first")
        return self._last.state_after(steps)

    def _refuse_second_sharing(self) -> None:
        rank, world_size, _ = self._shape
        refuse_second_sharing(self, rank, world_size)

    def _stream(self, at: Pass) -> IndexStream:
        rank, world_size, batch_size = self._shape
        start, rule = at.start, self._remainder
        stream = self.plan.stream(at.epoch, rank, world_size, start, batch_size, rule)
        for epoch, positions in self._skips:
            stream.skip(positions, epoch=epoch)
        return stream

    def _steps(self, stream: IndexStream) -> int:
        return len(stream) // stream.batch_size if self.drop_last else stream.batches

    def _given(self, walk: "Walk[T]", begun: Pass) -> None:
        """A pass was given to its end."""
        if self._walk is walk:
            self._next, self._walk = begun.after(self._pinned), None

    @abstractmethod
    def _cut(self, rows: list[int], batch_size: int) -> Iterator[T]:
        """Steps out of the row numbers of whole batches."""


class Sampler(_Base[int]):
    """Row numbers, one at a time: `DataLoader(dataset, batch_size=…, sampler=plan.sampler())`.

    Sample k of rank r is position k x world_size + r (of a plan with lanes: one of the world_size
    positions from k x world_size on), so that W ranks with batches of B take W x B positions of the
    order together in a step.
    """

    def _cut(self, rows: list[int], batch_size: int) -> Iterator[int]:
        return iter(rows)


class BatchSampler(_Base[list[int]]):
    """The batches of a rank as lists of row numbers: `DataLoader(dataset, batch_sampler=…)`."""

    @property
    def batch_size(self) -> int:
        """Rows of a batch of one rank."""
        return self._shape[2]

    def _cut(self, rows: list[int], batch_size: int) -> Iterator[list[int]]:
        return (rows[i : i + batch_size] for i in range(0, len(rows), batch_size))


class Walk(Iterator[T]):
    """One pass. Its state is behind what it gave last, also when that was all; the sampler's is then
    the start of the next pass.
    """

    def __init__(self, of: _Base[T], begun: Pass) -> None:
        self._of: Final = of
        self._begin(begun)

    def _begin(self, begun: Pass) -> None:
        self._begun = begun
        self._stream = self._of._stream(begun)
        self._steps = self._of._steps(self._stream)
        self._done = 0  # steps given
        self._over = False
        self._ready: Iterator[T] = iter(())

    def __next__(self) -> T:
        if self._done == self._steps:
            if not self._over:
                self._over = True
                self._of._given(self, self._begun)
            raise StopIteration
        size = self._stream.batch_size
        ahead = max(1, _AHEAD // size)
        if self._done % ahead == 0:
            rows = self._stream.rows(self._done, min(self._done + ahead, self._steps))
            named = rows if self._of._naming is None else self._of._naming(rows)
            self._ready = self._of._cut(named.tolist(), size)
        self._done += 1
        return next(self._ready)

    @property
    def used(self) -> bool:
        """Whether it gave a step."""
        return self._done > 0

    @property
    def used_up(self) -> bool:
        """Whether it gave its last step."""
        return self.used and self._done == self._steps

    def state_dict(self) -> dict[str, Any]:
        """JSON of at most 128 bytes; the same on every rank after the same number of steps."""
        return self.state_after(self._done)

    def state_after(self, steps: int) -> dict[str, Any]:
        """The state behind so many steps of this pass."""
        steps = whole("steps", steps)
        if not 0 <= steps <= self._steps:
            raise error("range", f"{steps} steps of a pass of {self._steps}",
                        help=f"the pass has 0 to {self._steps} steps")  # fmt: skip
        at = self._stream.position_after(steps - 1) if steps else self._begun.start
        return _state(self._of.plan, Pass(self._begun.epoch, at))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        of = self._of
        state = adopted(state, of.plan)
        epoch, position = check_state(state, of.plan.short, len(of.plan))
        self._begin(Pass(epoch, position, begun=True))
        of._walk = of._last = self
        if (
            self._steps
        ):  # otherwise nothing is left to be begun again: the sampler knows what is next
            of._next = self._begun


def _state(plan: Streamed, at: Pass) -> dict[str, Any]:
    return {"order": ORDER, "plan": plan.short, "epoch": at.epoch, "position": at.start}
