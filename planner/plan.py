"""A plan: which row stands at which position of which epoch, as a pure function.

Nothing here iterates or remembers where somebody is: `draw(start, stop, epoch=e)` may be asked in
any order, on any thread, and gives the same rows. What makes that fast (tables, one epoch's
without-replacement result) is held beside the plan and can be made again from it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, assert_never, cast, get_args

import numpy as np

from tql.diagnostics import error
from tql.forks import ForkLock
from tql.planner import digest, plan_file
from tql.planner.arguments import count, whole, yes_or_no
from tql.planner.bulk import BLOCK, over_blocks
from tql.planner.draw import MOST_ROWS, DrawTable, class_table, row_table
from tql.planner.layout import Layout, layout
from tql.planner.permute import LARGEST, permutation
from tql.planner.rng import ORDER_VERSION, Int64s, Uint64s, seeds, stream_key
from tql.planner.stream import IndexStream, Remainder
from tql.planner.without_replacement import Taken, take
from tql.rowset import RowSet
from tql.weights import ClassWeights, RowWeights, Weights, check, positive_rows

Resample: TypeAlias = Literal["epoch", "once"]
Mix: TypeAlias = Literal["iid"]

SHORT: Final = 12  # hex digits of a fingerprint that states carry
_FEW_CLASSES: Final = 64


class _Made:
    """What was computed for a plan: its layout, its draw table, the rows taken in two epochs."""

    __slots__ = ("layout", "lock", "table", "taken")

    def __init__(self) -> None:
        self.lock: Final = ForkLock()
        self.layout: Layout | None = None
        self.table: DrawTable | None = None
        self.taken: dict[int | None, Taken] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The order of an epoch and of all that follow; make one with `make_plan`.

    draws        samples in an epoch
    size         what was asked for, None for the size of the population
    offset       position at which the first epoch of a chain starts; no part of the fingerprint
    notes        facts a user should see: a shortfall, weights without effect
    fingerprint  64 hex digits that change when the order might
    """

    population: RowSet
    weights: Weights | None
    size: int | None
    replace: bool
    shuffle: bool
    seed: int
    mix: Mix
    resample: Resample
    source_fingerprint: str
    origin: Mapping[str, Any]
    offset: int
    draws: int
    notes: tuple[str, ...]
    fingerprint: str
    parts: Mapping[str, Any]  # what the fingerprint is a hash of, itself hashed where it is long
    _made: _Made = field(default_factory=_Made, repr=False)

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
            case _:
                assert_never(self.weights)
        if self.weights is not None and not self.replace:
            how.append("without replacement")
        if self.shuffle or self.weights is None:
            how.append("shuffled" if self.shuffle else "in order")
        return f"<Plan {self.short}: {self.draws:,} draws, {', '.join(how)}, seed {self.seed}>"

    @property
    def short(self) -> str:
        """The first 12 digits of the fingerprint."""
        return self.fingerprint[:SHORT]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays the plan was made from."""
        match self.weights:
            case None:
                return self.population.nbytes
            case ClassWeights(members=(only,)) if only is self.population:
                return self.population.nbytes
            case _:
                return self.population.nbytes + self.weights.nbytes

    def draw(self, start: int, stop: int, *, epoch: int = 0) -> Int64s:
        """Row ids of positions `start` … `stop` - 1, int64 (stop - start,)."""
        start, stop = whole("start", start), whole("stop", stop)
        self._check_range(start, stop)
        return self._rows(stop - start, lambda a, b: np.arange(start + a, start + b), epoch)

    def at(self, positions: Int64s, *, epoch: int = 0) -> Int64s:
        """Row ids of any positions, int64 (n,) → int64 (n,)."""
        found: Any = getattr(positions, "dtype", type(positions).__name__)
        if found != np.int64:
            raise error("type", f"positions are {found}", help="give an int64 array")
        if positions.ndim != 1:
            raise error("shape", f"positions are {positions.ndim}-d", help="give a 1-d array")
        if positions.size:
            self._check_range(int(positions.min()), int(positions.max()) + 1)
        return self._rows(positions.size, lambda a, b: positions[a:b], epoch)

    def ids(self, epoch: int = 0) -> Int64s:
        """Row ids of the whole epoch, int64 (len,)."""
        return self.draw(0, self.draws, epoch=epoch)

    def locate(self, start: int, stop: int, epoch: int = 0) -> tuple[Int64s, Int64s, Uint64s]:
        """(row, copy, seed64) of each position: int64, int64, uint64, all (stop - start,).

        The copy is the position, so that repeats of a row differ; seed64 is a random number of
        (row, copy, epoch) for whoever augments that sample.
        """
        rows = self.draw(start, stop, epoch=epoch)
        copies = np.arange(start, stop, dtype=np.int64)
        return rows, copies, self.seeds(rows, copies, epoch)

    def seeds(self, rows: Int64s, copies: Int64s, epoch: int = 0) -> Uint64s:
        """The random number of each (row, copy), uint64 (n,)."""
        epoch = count("epoch", epoch)
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

    def to_json(self) -> dict[str, Any]:
        """What `save` writes: everything but the rows themselves, which are hashed."""
        return {
            "format": plan_file.FORMAT,
            "version": plan_file.VERSION,
            **self.parts,
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
        stages = self._stages(size, epoch) if size else []
        out = np.empty(size, np.int64)

        def work(a: int, b: int) -> None:
            slots = out[a:b]
            slots[:] = positions(a, b)
            for stage in stages:
                stage(slots)

        over_blocks(work, size, BLOCK)
        return out

    def _stages(self, size: int, epoch: int) -> list[Callable[[Int64s], None]]:
        """Position → shuffled position → slot → row."""
        stages: list[Callable[[Int64s], None]] = []
        if self.shuffle:
            order = permutation(
                self.draws, stream_key(self.seed, epoch, self.fingerprint, "shuffle")
            )
            fast = order.pays(size)
            stages.append(lambda slots: order.apply(slots, fast))
        if self.weights is not None:
            stages.append(self._sampling(self.weights, size, epoch))
        stages.append(self._layout().mapper(size))
        return stages

    def _sampling(self, weights: Weights, size: int, epoch: int) -> Callable[[Int64s], None]:
        keyed = None if self.resample == "once" else epoch
        if self.replace:
            table = self._table(weights)
            fast = table.pays(size)
            key = stream_key(self.seed, keyed, self.fingerprint, "sample")
            return lambda slots: table.apply(key, slots, fast)
        taken = self._taken(weights, keyed)
        fast = taken.pays(size)
        return lambda slots: taken.apply(slots, fast)

    def _layout(self) -> Layout:
        with self._made.lock:
            if self._made.layout is None:
                match self.weights:
                    case ClassWeights(members=members):
                        self._made.layout = layout(members)
                    case _:
                        self._made.layout = layout((self.population,))
            return self._made.layout

    def _table(self, weights: Weights) -> DrawTable:
        with self._made.lock:
            if self._made.table is None:
                match weights:
                    case ClassWeights():
                        self._made.table = class_table(weights)
                    case RowWeights():
                        self._made.table = row_table(weights)
            return self._made.table

    def _taken(self, weights: Weights, epoch: int | None) -> Taken:
        with self._made.lock:
            if epoch not in self._made.taken:
                while len(self._made.taken) > 1:  # this epoch and the one before: bounded memory
                    del self._made.taken[next(iter(self._made.taken))]
                taken = take(weights, self.draws, self.seed, epoch, self.fingerprint)
                self._made.taken[epoch] = taken
            return self._made.taken[epoch]

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.draws:
            raise error(
                "range",
                f"positions {start} to {stop} of an epoch of {self.draws}",
                help=f"positions run from 0 to {self.draws}",
            )


def make_plan(
    population: RowSet,
    weights: Weights | None = None,
    *,
    size: int | None = None,
    replace: bool = True,
    shuffle: bool = False,
    seed: int = 0,
    mix: str = "iid",
    resample: str = "epoch",
    source_fingerprint: str = "",
    origin: Mapping[str, Any] = MappingProxyType({}),
    offset: int = 0,
) -> Plan:
    """The plan of these choices, checked.

    Without weights and size: every row of the population once, in its order or shuffled anew each
    epoch. With weights: `size` draws (None: as many as the population has rows), drawn anew each
    epoch unless `resample` is "once". A size without weights draws uniformly. `origin` is anything
    JSON that the caller wants to find again in the plan's file.
    """
    replace, shuffle = yes_or_no("replace", replace), yes_or_no("shuffle", shuffle)
    if size is not None:
        size = whole("size", size)
        if size <= 0:
            raise error("value", f"size {size}: nothing to draw", help="ask for 1 row or more")
        if weights is None:
            weights = ClassWeights(np.ones(1), (population,))
    if weights is not None:
        _check_weights(weights, population)
    if mix not in get_args(Mix):
        raise error("unsupported", f"mix {mix!r} is not offered", help="use mix='iid'")
    if resample not in get_args(Resample):
        raise error("value", f"resample {resample!r}: expected 'epoch' or 'once'")
    draws, notes = _draws(population, weights, size, replace)
    if draws > LARGEST:
        raise error(
            "range", f"{draws} draws in an epoch", help=f"at most {LARGEST} (2^62) are possible"
        )
    offset = whole("offset", offset)
    if not 0 <= offset <= draws:
        help = f"an offset from 0 to {draws} is possible; at {draws} nothing is left"
        raise error("range", f"offset {offset} in an epoch of {draws} samples", help=help)
    parts: dict[str, Any] = {
        "order": ORDER_VERSION,
        "source": source_fingerprint,
        "origin": _as_json(origin),
        "population": {"rows": len(population), "digest": digest.of_rows(population)},
        "weights": None if weights is None else _describe_weights(weights),
        "replace": replace,
        "size": size,
        "shuffle": shuffle,
        "seed": whole("seed", seed),
        "mix": mix,
        "resample": resample,
    }
    return Plan(
        population=population,
        weights=weights,
        size=size,
        replace=replace,
        shuffle=shuffle,
        seed=parts["seed"],
        mix=cast(Mix, mix),
        resample=cast(Resample, resample),
        source_fingerprint=source_fingerprint,
        origin=MappingProxyType(parts["origin"]),
        offset=offset,
        draws=draws,
        notes=notes,
        fingerprint=digest.of_json(parts),
        parts=MappingProxyType(parts),
    )


def sample(
    population: RowSet,
    weights: Weights | None,
    size: int | None,
    replace: bool,
    seed: int,
    purpose: str,
) -> tuple[Int64s, tuple[str, ...]]:
    """One frozen draw: row ids in draw order, int64 (n,), and notes.

    No weights: every row alike. No size: as many as the population has rows. `purpose` tells
    apart several draws that one seed makes. The draw depends on nothing else but which place of
    the population has which weight: the same population in other row numbers, as a rewritten
    query gives it, draws the same places.
    """
    weights = weights if weights is not None else ClassWeights(np.ones(1), (population,))
    plan = make_plan(
        population,
        weights,
        size=size,
        replace=replace,
        seed=seed,
        resample="once",
        origin={"purpose": purpose},
    )
    key = digest.of_json({"order": ORDER_VERSION, "purpose": purpose})
    return replace_fields(plan, fingerprint=key).ids(), plan.notes


def _as_json(origin: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(digest.canonical(dict(origin)))
    except (TypeError, ValueError, RecursionError) as e:
        raise error(
            "type",
            f"the origin of a plan is not JSON: {e}",
            help="give texts, finite numbers, lists and dicts with texts as keys",
        ) from e
    return content


def _check_weights(weights: Weights, population: RowSet) -> None:
    if len(weights) != len(population):
        raise error(
            "value",
            f"weights for {len(weights)} rows, but {len(population)} rows to draw from",
            help="give one weight for each row of the population, in its order",
        )
    check(weights)
    if isinstance(weights, RowWeights) and len(weights) > MOST_ROWS:
        raise error(
            "unsupported",
            f"{len(weights)} rows with a weight each: at most {MOST_ROWS} are offered",
            help="give few distinct weights (max_weight), which have no such limit",
        )


def _draws(
    population: RowSet, weights: Weights | None, size: int | None, replace: bool
) -> tuple[int, tuple[str, ...]]:
    """Samples in an epoch, and what a user should know about that."""
    wanted = len(population) if size is None else size
    if weights is None or replace:
        return wanted, ()
    positive = positive_rows(weights)
    notes = []
    if wanted > positive:
        notes.append(
            f"without replacement only {positive} rows can be drawn, not {wanted}: "
            f"{len(population)} rows, {positive} of them with a weight above 0"
        )
    if wanted >= positive and not _equal(weights):
        notes.append(
            "without replacement every row with a weight above 0 is drawn once: "
            "how the weights differ makes no difference"
        )
    return min(wanted, positive), tuple(notes)


def _equal(weights: Weights) -> bool:
    positive = weights.values[weights.values > 0]
    return bool((positive == positive[0]).all())


def _describe_weights(weights: Weights) -> dict[str, Any]:
    """What a plan file says of weights: all of a few classes, and a digest of everything."""
    match weights:
        case ClassWeights(values=values, members=members):
            few = {"values": values.tolist(), "rows": [len(m) for m in members]}
            named = few if len(members) <= _FEW_CLASSES else {"classes": len(members)}
            return {"kind": "classes", **named, "digest": digest.of_weights(weights)}
        case RowWeights():
            return {"kind": "rows", "digest": digest.of_weights(weights)}
        case _:
            assert_never(weights)
