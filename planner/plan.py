"""A plan: which row stands at which position of which epoch, as a pure function.

Nothing here iterates or remembers where somebody is: `draw(start, stop, epoch=e)` may be asked in
any order, on any thread, and gives the same rows. What makes that fast (tables, one epoch's
without-replacement result) is held beside the plan and can be made again from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, assert_never

import numpy as np

from tql.diagnostics import error
from tql.planner import digest, ids_file, plan_file
from tql.planner.arguments import count, whole
from tql.planner.bulk import BLOCK, over_blocks
from tql.planner.by_fragment import fragment_quotas
from tql.planner.changes import Change, Earlier, copies_of, pieces, rows_of, substitutes_of
from tql.planner.computing import (
    draw_table,
    key_of,
    layout_of,
    order_of,
    quota_of,
    stages_of,
    windowed_of,
)
from tql.planner.explaining import PlanExplanation, explanation
from tql.planner.line import DrawLine
from tql.planner.rng import (
    Int64s,
    Uint64s,
    high_product_twin,
    philox_twin,
    seeds,
    stream_key,
)
from tql.planner.samplers import BatchSampler, Sampler
from tql.planner.source import ByRow, PlannedSource
from tql.planner.stages import Made
from tql.planner.stream import IndexStream, Remainder
from tql.planner.windows import Windows
from tql.rowset import RowSet
from tql.weights import AnyWeights, ClassWeights, FragmentWeights, RowWeights

Resample: TypeAlias = Literal["epoch", "once"]
Mix: TypeAlias = Literal["iid", "epoch", "batch"]

MOST_TRIES: Final = 8  # substitutes that are tried for one position
SHORT: Final = 12  # hex digits of a fingerprint that states carry


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The order of an epoch and of all that follow; make one with `make_plan`.

    draws        samples in an epoch
    size         what was asked for, None for the size of the population
    edges        int64, rows at which fragments begin and the end, where quotas are kept by fragment
    block        positions that have the weights' mix among themselves, with mix="batch"
    windows      how the order keeps to few fragments at a time; None: it does not
    rounds       of the permutations of an epoch, of a class and of batches: 6 or 8
    offset       position at which the first epoch of a chain starts; no part of the fingerprint
    notes        facts a user should see: a shortfall, weights without effect
    fingerprint  64 hex digits that change when the order might
    lineage      JSON that its file keeps beside it: which data was opened, which views were made
    changes      the plans that it is made of, each from a position on; () for one of its own, and
                 else the rest of what is said here is of the first
    """

    population: RowSet
    weights: AnyWeights | None
    size: int | None
    replace: bool
    shuffle: bool
    seed: int
    mix: Mix
    resample: Resample
    edges: Int64s | None
    block: int | None
    windows: Windows | None
    rounds: int
    source_fingerprint: str
    origin: Mapping[str, Any]
    offset: int
    draws: int
    notes: tuple[str, ...]
    fingerprint: str
    parts: Mapping[str, Any]  # what the fingerprint is a hash of, itself hashed where it is long
    lineage: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    _made: Made = field(default_factory=Made, repr=False)

    def __len__(self) -> int:
        return self.draws

    def __repr__(self) -> str:
        match self.weights:
            case None:
                how = []
            case ClassWeights(members=members):
                how = [f"{len(members)} weight class{'es' if len(members) != 1 else ''}"]
            case RowWeights():
                how = ["a weight per row"]
            case FragmentWeights():
                how = ["a weight per row, looked up by fragment"]
            case _:
                assert_never(self.weights)
        if self.weights is not None and not self.replace:
            how.append("without replacement")
        if self.shuffle or self.weights is None:
            how.append("shuffled" if self.shuffle else "in order")
        if self.windows is not None and self.windows.length * self.lanes < self.draws:
            how.append(f"in windows of {self.windows.length:,}")
        for change in self.changes[1:]:
            how.append(f"other weights from position {change.position:,} of epoch {change.epoch}")
        return f"<Plan {self.short}: {self.draws:,} draws, {', '.join(how)}, seed {self.seed}>"

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], "Plan"], tuple[dict[str, Any]]]:
        """What it was made from, and nothing of what was computed."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_made"}
        return _unpickled, ({k: dict(v) if isinstance(v, Mapping) else v for k, v in kept.items()},)

    @property
    def short(self) -> str:
        """The first 12 digits of the fingerprint."""
        return self.fingerprint[:SHORT]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays the plan was made from."""
        if self.changes:
            return sum(change.plan.nbytes for change in self.changes)
        match self.weights:
            case None:
                return self.population.nbytes
            case ClassWeights(members=(only,)) if only is self.population:
                return self.population.nbytes
            case _:
                return self.population.nbytes + self.weights.nbytes

    @property
    def earlier(self) -> tuple[Earlier, ...]:
        """The plans whose states fit, and up to where: those with fewer changes of weights."""
        found = []
        for k, change in enumerate(self.changes[1:]):
            told = {**self.parts, "changes": self.parts["changes"][:k]}
            if k == 0:
                del told["changes"]
            found.append((digest.of_json(told)[:SHORT], change.epoch, change.position))
        return tuple(found)

    @property
    def lanes(self) -> int:
        """Equal parts of the order: position t is in lane t mod lanes."""
        return 1 if self.windows is None else self.windows.lanes

    def draw(self, start: int, stop: int, *, epoch: int = 0) -> Int64s:
        """Row ids of positions `start` … `stop` - 1, int64 (stop - start,)."""
        start, stop = whole("start", start), whole("stop", stop)
        self._check_range(start, stop)
        return self._rows(stop - start, lambda a, b: np.arange(start + a, start + b), epoch)

    def at(self, positions: Int64s, *, epoch: int = 0) -> Int64s:
        """Row ids of any positions, int64 (n,) → int64 (n,)."""
        self._check_positions(positions)
        return self._rows(positions.size, lambda a, b: positions[a:b], epoch)

    def ids(self, epoch: int = 0) -> Int64s:
        """Row ids of the whole epoch, int64 (len,)."""
        return self.draw(0, self.draws, epoch=epoch)

    def save_ids(self, path: str | Path, epoch: int = 0) -> None:
        """Write the row ids of an epoch, block by block: however long it is, a few MB are enough.

        The name says the format: .npy, which `numpy.load(path, mmap_mode="r")` maps, or .arrow with
        one column, row_id. The file appears whole or not at all.
        """
        ids_file.write(self, path, count("epoch", epoch))

    def source(self, data: ByRow, epoch: int = 0, epochs: int = 1) -> PlannedSource:
        """`data` by position: item i is the row that stands at position i, over so many epochs.

            grain.MapDataset.source(plan.source(records))

        data  anything that gives item `row` for the row ids of the plan, `ds.pytorch()` for one
        """
        return PlannedSource(self, data, epoch, epochs)

    def locate(self, start: int, stop: int, epoch: int = 0) -> tuple[Int64s, Int64s, Uint64s]:
        """(row, copy, seed64) of each position: int64, int64, uint64, all (stop - start,).

        The copy tells repeats of a row apart, see `copies`; seed64 is a random number of
        (row, copy, epoch) for whoever augments that sample.
        """
        rows = self.draw(start, stop, epoch=epoch)
        copies = self.copies(np.arange(start, stop, dtype=np.int64), epoch)
        return rows, copies, self.seeds(rows, copies, epoch)

    def copies(self, positions: Int64s, epoch: int = 0) -> Int64s:
        """How many times the row of each position was drawn before, int64 (n,) → int64 (n,).

        Independent draws do not know, and a population may repeat rows: there it is a number that
        no other position of the epoch has, so that repeats differ.
        """
        self._check_positions(positions)
        epoch = count("epoch", epoch)
        if self.changes:
            return copies_of(self.changes, positions, epoch)
        if self.weights is None or self.mix == "iid" or not positions.size:
            return positions.copy()
        order = order_of(self, epoch)
        quota = quota_of(self, self.weights, None if self.resample == "once" else epoch)
        out = positions.copy()
        fast = order is not None and order.pays(out.size)

        def work(a: int, b: int) -> None:
            if order is not None:
                order.apply(out[a:b], fast)
            if self.population.ascending:
                out[a:b] = quota.copies(out[a:b])

        over_blocks(work, out.size, BLOCK)
        return out

    def explain(self) -> PlanExplanation:
        """What the plan will do: how many draws each weight expects, the order, what it reads."""
        return explanation(self)

    def draw_line(self, epoch: int = 0) -> DrawLine:
        """Where the draws of an epoch lie, fragment by fragment; of plans with windows."""
        if self.changes:
            part = pieces(self.changes, count("epoch", epoch))[0][2]
            assert isinstance(part, Plan)
            return part.draw_line(epoch)
        windowed = windowed_of(self, count("epoch", epoch))
        if windowed is None:
            raise error("value", "a plan without windows has no line of draws",
                        help="make it with windows=Windows(length)")  # fmt: skip
        return windowed.line

    def substitutes(self, positions: Int64s, tries: Int64s, epoch: int = 0) -> Int64s:
        """Rows to take in place of those at `positions`, where these cannot be loaded.

        positions, tries  int64 (n,): the place, and how many substitutes of it have failed as well,
                          0 to MOST_TRIES - 1

        int64 (n,): rows of the same weight class, or drawn by their weights where each row has its
        own; anew in each epoch, whatever else was drawn.
        """
        self._check_positions(positions)
        epoch = count("epoch", epoch)
        if self.changes:
            return substitutes_of(self.changes, positions, tries, epoch)
        draws, key = positions * MOST_TRIES + tries, key_of(self, "substitute", epoch)
        layout = layout_of(self)
        if isinstance(self.weights, RowWeights):
            draw_table(self, self.weights).apply(key, draws, fast=False)
        elif isinstance(self.weights, FragmentWeights):
            of = fragment_quotas(self.weights)
            total = np.full(draws.size, of.total, np.uint64)
            draws = of.slots(high_product_twin(philox_twin(key, draws)[0], total))
        else:
            slots = positions.copy()
            for stage in stages_of(self, slots.size, epoch)[:-1]:
                stage(slots)
            part = np.searchsorted(layout.starts, slots, side="right") - 1
            sizes = np.diff(layout.starts)[part].astype(np.uint64)
            draws = layout.starts[part] + high_product_twin(
                philox_twin(key, draws)[0], sizes
            ).astype(np.int64)
        layout.mapper(draws.size)(draws)
        return draws

    def seeds(self, rows: Int64s, copies: Int64s, epoch: int = 0) -> Uint64s:
        """The random number of each (row, copy), uint64 (n,)."""
        epoch = count("epoch", epoch)
        if (
            self.changes
        ):  # of the first: what was given before a change was declared stays as it was
            return self.changes[0].plan.seeds(rows, copies, epoch)
        return seeds(stream_key(self.seed, epoch, self.fingerprint, "augment"), rows, copies)

    def stream(
        self,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        offset: int = 0,
        batch_size: int = 1,
        remainder: Remainder = "short",
    ) -> IndexStream:
        """The batches of one rank from position `offset` of `epoch` on."""
        return IndexStream(self, epoch, rank, world_size, offset, batch_size, remainder)

    def sampler(
        self, rank: int = 0, world_size: int = 1, *, remainder: Remainder | None = None,
        offset: int | None = None,
    ) -> Sampler:  # fmt: skip
        """Row ids one at a time, for a stock torch DataLoader over data of one's own.

            DataLoader(dataset, batch_size=32, sampler=plan.sampler())

        remainder  "short", "drop" or "pad"; None: "drop" with several ranks, "short" with one
        offset     where the first epoch begins; None: at the offset of the plan
        """
        start = self.offset if offset is None else offset
        return Sampler(self, rank, world_size, 1, remainder, start)

    def batch_sampler(
        self, batch_size: int, drop_last: bool = False, rank: int = 0, world_size: int = 1,
        *, remainder: Remainder | None = None, offset: int | None = None,
    ) -> BatchSampler:  # fmt: skip
        """Lists of row ids, the batches that a loader would give on this rank; see `sampler`.

        DataLoader(dataset, batch_sampler=plan.batch_sampler(32, rank=1, world_size=4))
        """
        start = self.offset if offset is None else offset
        return BatchSampler(self, rank, world_size, batch_size, remainder, start, drop_last)

    def to_json(self) -> dict[str, Any]:
        """What `save` writes: everything but the rows themselves, which are hashed."""
        return {
            "format": plan_file.FORMAT,
            "version": plan_file.VERSION,
            **self.parts,
            **self.lineage,
            "offset": self.offset,
            "draws": self.draws,
            "notes": list(self.notes),
            "fingerprint": self.fingerprint,
        }

    def save(self, path: str | Path) -> None:
        """Write the plan as canonical JSON; the file appears whole or not at all."""
        plan_file.write(self.to_json(), path)

    # -- how it is computed -----------------------------------------------------------------------

    def _rows(self, size: int, positions: Callable[[int, int], Int64s], epoch: int) -> Int64s:
        """Stage by stage, each in place, over blocks that stay in the cache."""
        epoch = count("epoch", epoch)
        if self.changes:
            return rows_of(self.changes, np.ascontiguousarray(positions(0, size), np.int64), epoch)
        stages = stages_of(self, size, epoch) if size else []
        out = np.empty(size, np.int64)

        def work(a: int, b: int) -> None:
            slots = out[a:b]
            slots[:] = positions(a, b)
            for stage in stages:
                stage(slots)

        over_blocks(work, size, BLOCK)
        return out

    def _check_positions(self, positions: Int64s) -> None:
        found: Any = getattr(positions, "dtype", type(positions).__name__)
        if found != np.int64:
            raise error("type", f"positions are {found}", help="give an int64 array")
        if positions.ndim != 1:
            raise error("shape", f"positions are {positions.ndim}-d", help="give a 1-d array")
        if positions.size:
            self._check_range(int(positions.min()), int(positions.max()) + 1)

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.draws:
            raise error(
                "range",
                f"positions {start} to {stop} of an epoch of {self.draws}",
                help=f"positions run from 0 to {self.draws}",
            )


def _unpickled(content: dict[str, Any]) -> Plan:
    proxies = {n: MappingProxyType(v) for n, v in content.items() if isinstance(v, dict)}
    return Plan(**{**content, **proxies})
