"""The batches of one rank: a plan seen from (epoch, rank, world size, batch size).

Sample j of rank r is global position origin + (j // B) x B x W + r x B + j % B. A position counts
what all ranks together were given, so a state taken by any rank resumes all of them, also on
another number of ranks. Positions that are skipped have no part in it: the others move up. Where the plan has lanes, ranks share a step lane by lane (`lanes.py`): the
step is made of the same positions.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias, assert_never, get_args

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import Note, error
from tql.forks import ForkLock
from tql.planner.arguments import count, whole
from tql.planner.changes import Earlier, adopted
from tql.planner.lanes import by_lane
from tql.planner.rng import Int64s, Uint64s
from tql.planner.skipping import Left, checked_range, left

Remainder: TypeAlias = Literal["short", "drop", "pad", "mask"]

ORDER: Final = 1  # version of the state and of the order; ORDER_VERSION in words is "v1"
_STATE_KEYS: Final = frozenset(("order", "plan", "epoch", "position"))
_LOOK_AHEAD: Final = 4096  # positions computed at once, so that a small batch costs no set-up
_LARGEST_STEP: Final = 1 << 61  # beyond it, positions would leave 64 bits
_KEPT: Final = 4  # groups of batches remembered: some 0.6 MB a stream


class Order(Protocol):
    """What a stream needs of a plan."""

    @property
    def short(self) -> str: ...

    @property
    def lanes(self) -> int: ...

    @property
    def earlier(self) -> tuple[Earlier, ...]: ...

    def __len__(self) -> int: ...

    def at(self, positions: Int64s, *, epoch: int = 0) -> Int64s: ...

    def copies(self, positions: Int64s, epoch: int = 0) -> Int64s: ...

    def seeds(self, rows: Int64s, copies: Int64s, epoch: int = 0) -> Uint64s: ...

    def substitutes(self, positions: Int64s, tries: Int64s, epoch: int = 0) -> Int64s: ...


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """What one rank gets in one step; all arrays are of one length b ≤ the batch size.

    rows       int64, row ids to fetch
    positions  int64, places in the epoch (of a padded sample: the place it repeats)
    copies     int64, which repeat of the row this is
    seeds      uint64, what a random transform of the sample seeds itself with
    pad        bool, true for a repeat that only fills the batch
    """

    rows: Int64s
    positions: Int64s
    copies: Int64s
    seeds: Uint64s
    pad: NDArray[np.bool_]

    def only(self, kept: NDArray[np.bool_]) -> "StreamBatch":
        """The samples where `kept`, bool (b,), is true."""
        return StreamBatch(
            self.rows[kept],
            self.positions[kept],
            self.copies[kept],
            self.seeds[kept],
            self.pad[kept],
        )


class IndexStream:
    """The batches of one rank, by number or one after another.

    `batch(i)` is pure and may be asked by any thread. Iterating gives row ids batch by batch and
    moves `position`; `seek` and `load_state_dict` move the origin too, so that `batch(0)`, `len`
    and `batches` are about what lies ahead.
    """

    def __init__(
        self,
        plan: Order,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        offset: int = 0,
        batch_size: int = 1,
        remainder: Remainder = "short",
    ) -> None:
        rank, world_size = whole("rank", rank), whole("world size", world_size)
        batch_size = whole("batch size", batch_size)
        if batch_size < 1:
            raise error("value", f"batch size {batch_size}", help="use a batch size of 1 or more")
        if not 0 <= rank < world_size:
            raise error(
                "value",
                f"rank {rank} of {world_size}",
                help=f"ranks run from 0 to world_size - 1; here 0 to {max(world_size, 1) - 1}",
            )
        if batch_size * world_size > _LARGEST_STEP:
            raise error(
                "range",
                f"batch size {batch_size} on {world_size} ranks",
                help=f"all ranks together take at most {_LARGEST_STEP} samples in a step",
            )
        if remainder not in get_args(Remainder):
            kinds = ", ".join(get_args(Remainder))
            raise error("value", f"remainder {remainder!r}", help=f"use one of: {kinds}")
        self.plan: Final = plan
        self.rank: Final = rank
        self.world_size: Final = world_size
        self.batch_size: Final = batch_size
        self.remainder: Final = remainder
        self._lock: Final = ForkLock()
        self._groups: OrderedDict[tuple[int, int, int], StreamBatch] = OrderedDict()
        self._skipped: Final[dict[int, list[range]]] = {}  # by epoch
        self._epoch: int = count("epoch", epoch)
        self._left: Left | None = None  # None: nothing is skipped in this epoch
        self._origin: int = self._checked(offset)
        self._position: int = self._origin

    # -- where we are -----------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch that the batches are of."""
        return self._epoch

    @property
    def origin(self) -> int:
        """The global position at which batch 0 starts."""
        return self._origin

    @property
    def position(self) -> int:
        """Samples of the epoch that iterating has given to all ranks together."""
        return self._position

    def seek(self, position: int) -> None:
        """Go on from a global position, 0 to the length of the epoch."""
        self._origin = self._position = self._checked(position)

    def skip(self, positions: range, *, epoch: int | None = None) -> None:
        """Leave out these positions of an epoch (None: of this one); several calls add up.

        The others keep their numbers, so states taken before fit. Batches are cut anew from
        `position` on.
        """
        positions = checked_range(positions)
        self._checked(positions.stop)
        of = self._epoch if epoch is None else count("epoch", epoch)
        self._skipped.setdefault(of, []).append(positions)
        self._enter(self._epoch)
        self.seek(self._position)

    def _enter(self, epoch: int) -> None:
        self._epoch = epoch
        skipped = self._skipped.get(epoch)
        self._left = left(len(self.plan), skipped) if skipped else None
        with self._lock:
            self._groups.clear()

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, at most 128 bytes of JSON; the same on every rank."""
        return {
            "order": ORDER,
            "plan": self.plan.short,
            "epoch": self._epoch,
            "position": self._position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; a state of another plan is refused."""
        state = adopted(state, self.plan)
        epoch, position = check_state(state, self.plan.short, len(self.plan))
        self._enter(epoch)
        self.seek(position)

    # -- how much there is ------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Positions from the origin on that are not skipped."""
        return self._total - self._first

    def __len__(self) -> int:
        """Samples that this rank gets from the origin on, padding included."""
        steps, rest = divmod(self.left, self._step)
        whole = steps * self.batch_size
        match self.remainder:
            case "drop":
                return whole
            case "pad" | "mask":
                return whole + (self.batch_size if rest else 0)
            case "short":
                return whole + min(max(rest - self.rank * self.batch_size, 0), self.batch_size)
            case _:
                assert_never(self.remainder)

    @property
    def batches(self) -> int:
        """Batches that this rank gets from the origin on."""
        return -(-len(self) // self.batch_size)

    def position_after(self, i: int) -> int:
        """The global position when every rank has had batch i."""
        given = self._first + (i + 1) * self._step
        if given >= self._total:
            return len(self.plan)
        return (
            given if self._left is None else int(self._left.positions(np.array([given - 1]))[0]) + 1
        )

    # -- the batches ------------------------------------------------------------------------------

    def batch(self, i: int) -> StreamBatch:
        """Batch i of this rank from the origin on, 0 ≤ i < `batches`."""
        if not 0 <= i < self.batches:
            raise IndexError(f"batch {i} of {self.batches}")
        per_group = max(1, _LOOK_AHEAD // self.batch_size)
        group, inside = divmod(i, per_group)
        whole = self._group(group * per_group, min((group + 1) * per_group, self.batches))
        part = slice(inside * self.batch_size, (inside + 1) * self.batch_size)
        return StreamBatch(
            whole.rows[part],
            whole.positions[part],
            whole.copies[part],
            whole.seeds[part],
            whole.pad[part],
        )

    def rows(self, first: int, stop: int) -> Int64s:
        """Row ids of batches `first` … `stop` - 1 end to end; nothing is remembered of them."""
        if not 0 <= first <= stop <= self.batches:
            raise IndexError(f"batches {first} to {stop} of {self.batches}")
        return self.plan.at(self._positions(first, stop)[0], epoch=self._epoch)

    def replaced(self, batch: StreamBatch, bad: Int64s, tries: Int64s) -> StreamBatch:
        """The batch with other rows at the places `bad`, int64 (n,), see `Plan.substitutes`."""
        rows, seeds = batch.rows.copy(), batch.seeds.copy()
        rows[bad] = self.plan.substitutes(batch.positions[bad], tries, self._epoch)
        seeds[bad] = self.plan.seeds(rows[bad], batch.copies[bad], self._epoch)
        return StreamBatch(rows, batch.positions, batch.copies, seeds, batch.pad)

    def __iter__(self) -> Iterator[Int64s]:
        """Row ids of the batches from `position` on, int64 (b,) each."""
        if self._position != self._origin:
            self.seek(self._position)
        for i in range(self.batches):
            rows = self.batch(i).rows
            # Before it is handed over: a state taken inside the loop counts the batch in hand.
            self._position = self.position_after(i)
            yield rows
        if self.remainder != "drop":  # other ranks may have had one batch more
            self._position = len(self.plan)

    @property
    def _step(self) -> int:
        return self.batch_size * self.world_size

    @property
    def _total(self) -> int:
        """Positions of the epoch that are not skipped; they are numbered from 0."""
        return len(self.plan) if self._left is None else len(self._left)

    @property
    def _first(self) -> int:
        """The number of the first one from the origin on."""
        return self._origin if self._left is None else self._left.number(self._origin)

    def _group(self, first: int, stop: int) -> StreamBatch:
        """Batches `first` … `stop` - 1 as one, remembered."""
        name = (self._epoch, self._origin, first)
        with self._lock:
            if name in self._groups:
                self._groups.move_to_end(name)
                return self._groups[name]
            made = self._compute(first, stop)
            self._groups[name] = made
            while len(self._groups) > (_KEPT if self.batch_size <= _LOOK_AHEAD else 1):
                self._groups.popitem(last=False)
            return made

    def _compute(self, first: int, stop: int) -> StreamBatch:
        positions, pad = self._positions(first, stop)
        rows = self.plan.at(positions, epoch=self._epoch)
        copies = self.plan.copies(positions, self._epoch)
        seeds = self.plan.seeds(rows, copies, self._epoch)
        for array in (rows, positions, copies, seeds, pad):
            array.flags.writeable = False  # several batches, several threads see it
        return StreamBatch(rows, positions, copies, seeds, pad)

    def _positions(self, first: int, stop: int) -> tuple[Int64s, NDArray[np.bool_]]:
        """The positions of batches `first` … `stop` - 1 end to end, and which only fill a batch."""
        last = min(stop * self.batch_size, len(self))  # a batch may be far longer than the epoch
        samples = np.arange(first * self.batch_size, last, dtype=np.int64)
        step, inside = np.divmod(samples, self.batch_size)
        begin, place = self._first + step * self._step, self.rank * self.batch_size + inside
        at = begin + place  # numbers of positions: positions themselves, where none is skipped
        total = self._total
        beyond = at >= total
        if self.plan.lanes > 1:
            begin, place = begin[~beyond], place[~beyond]
            at[~beyond] = self._by_lane(begin, np.minimum(self._step, total - begin), place)
        match self.remainder:
            case "short" | "drop":
                at = at[~beyond]
            case "pad" | "mask":
                at[beyond] = (at[beyond] - total) % total
            case _:
                assert_never(self.remainder)
        return at if self._left is None else self._left.positions(at), beyond[: at.size]

    def _by_lane(self, begin: Int64s, size: Int64s, place: Int64s) -> Int64s:
        """The numbers of a step's positions lane by lane; lanes are of positions, not of numbers."""
        moved = 0 if self._left is None else self._left.positions(begin) - begin
        return by_lane(begin + moved, size, place, self.plan.lanes) - moved

    def _checked(self, position: int) -> int:
        position = whole("position", position)
        if not 0 <= position <= len(self.plan):
            raise error(
                "range",
                f"position {position} in an epoch of {len(self.plan)} samples",
                help=f"positions run from 0 to {len(self.plan)}, where nothing is left",
            )
        return position


def check_state(state: Any, plan_short: str, length: int) -> tuple[int, int]:
    """Epoch and position of a state of the plan `plan_short`, whose epochs have `length` samples.

    An error lists whatever does not fit; nothing is guessed and nothing left over is ignored.
    """
    if not isinstance(state, Mapping) or set(state) != _STATE_KEYS:
        found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise error(
            "parameter",
            f"this is no state: found {found}, expected a dict with {sorted(_STATE_KEYS)}",
            help="load_state_dict takes what state_dict() gave",
        )
    differences = [
        Note(f"{name}: the state has {state[name]!r}, here it is {mine!r}")
        for name, mine in (("order", ORDER), ("plan", plan_short))
        if type(state[name]) is not type(mine) or state[name] != mine
    ]
    if differences:
        raise error(
            "value",
            "the state belongs to another plan: its position would name other rows here",
            notes=differences,
            help="use the same data, query, weights, shuffle and seed (or tql.load_plan), or start "
            "without the state; 'tql plan diff' lists what two saved plans differ in",
        )
    epoch, position = state["epoch"], state["position"]
    whole_numbers = type(epoch) is int and type(position) is int
    if not whole_numbers or epoch < 0 or not 0 <= position <= length:
        raise error(
            "value",
            f"the state has epoch {epoch!r} and position {position!r}; expected an epoch from 0 "
            f"and a position from 0 to {length}",
            help="load_state_dict takes what state_dict() gave",
        )
    return epoch, position
