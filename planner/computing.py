"""How a plan computes: its stages from positions to rows, and what they are made of, kept beside it.

Whatever is kept (`Made`) follows from the plan alone, and can be made again at any time.
"""

from collections.abc import Callable
from typing import Protocol

from tql.planner.deal import dealing
from tql.planner.draw import DrawTable, class_table, row_table
from tql.planner.in_cells import DrawsInCells, draws_in_cells
from tql.planner.layout import Layout, layout
from tql.planner.line import draw_line
from tql.planner.permute import permutation
from tql.planner.quota import Quota, quota, quotas
from tql.planner.rng import Int64s, Key, stream_key
from tql.planner.runs import Runs, runs_by_quota, runs_of_all
from tql.planner.stages import Independent, Made, Stage, ready
from tql.planner.windows import InWindows, Windows, in_windows
from tql.planner.without_replacement import Taken, take
from tql.rowset import RowSet
from tql.weights import AnyWeights, ClassWeights, FragmentWeights, RowWeights, Weights


class Planned(Protocol):
    """What is computed with of a plan."""

    @property
    def population(self) -> RowSet: ...
    @property
    def weights(self) -> AnyWeights | None: ...
    @property
    def draws(self) -> int: ...
    @property
    def replace(self) -> bool: ...
    @property
    def shuffle(self) -> bool: ...
    @property
    def seed(self) -> int: ...
    @property
    def mix(self) -> str: ...
    @property
    def resample(self) -> str: ...
    @property
    def edges(self) -> Int64s | None: ...
    @property
    def block(self) -> int | None: ...
    @property
    def windows(self) -> Windows | None: ...
    @property
    def rounds(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def _made(self) -> Made: ...


def stages_of(plan: Planned, size: int, epoch: int) -> list[Callable[[Int64s], None]]:
    """Position → draw → slot → row."""
    order = order_of(plan, epoch)
    sampler = None if plan.weights is None else sampler_of(plan, plan.weights, epoch)
    stages = [ready(stage, size) for stage in (order, sampler) if stage is not None]
    return [*stages, layout_of(plan).mapper(size)]


def order_of(plan: Planned, epoch: int) -> Stage | None:
    """Where the draws stand; independent ones stand in the order in which they are made."""
    if plan.windows is not None:
        return windowed_of(plan, epoch)
    return plan._made.of_epoch(plan._made.order, epoch, lambda: _permuted(plan, epoch))


def _permuted(plan: Planned, epoch: int) -> Stage | None:
    """The order of a plan without windows."""
    keyed = epoch if plan.shuffle or plan.resample == "epoch" else None
    match plan.mix:
        case "batch" if plan.weights is not None and plan.block is not None:
            hands, places = key_of(plan, "deal hands", keyed), key_of(plan, "deal places", keyed)
            return dealing(plan.draws, plan.block, hands, places, plan.rounds)
        case "epoch" | "batch" if plan.weights is not None:
            return permutation(plan.draws, key_of(plan, "quota order", keyed), plan.rounds)
        case _ if plan.shuffle:
            return permutation(plan.draws, key_of(plan, "shuffle", epoch), plan.rounds)
        case _:
            return None


def sampler_of(plan: Planned, weights: AnyWeights, epoch: int) -> Stage:
    """What each draw takes."""
    keyed = None if plan.resample == "once" else epoch
    if plan.mix != "iid" or isinstance(weights, FragmentWeights):
        return quota_of(plan, weights, keyed)
    if plan.windows is not None:
        return _in_cells(plan, weights, keyed)
    if plan.replace:
        return Independent(draw_table(plan, weights), key_of(plan, "sample", keyed))
    return _taken(plan, weights, keyed)


def windowed_of(plan: Planned, epoch: int) -> InWindows | None:
    """Where the draws stand in an order in windows."""
    windows = plan.windows
    if windows is None:
        return None
    made = plan._made.windowed.get(epoch)
    if made is not None:
        return made
    runs = _runs(plan, windows, epoch)

    def new() -> InWindows:
        line = draw_line(runs, windows.length, windows.lanes, key_of(plan, "deal units", epoch))
        within, cut = key_of(plan, "within windows", epoch), key_of(plan, "within units", epoch)
        return in_windows(line, windows, within, cut)

    return plan._made.of_epoch(plan._made.windowed, epoch, new)


def _runs(plan: Planned, windows: Windows, epoch: int) -> Runs:
    """Which draws are of which fragment."""
    assert plan.edges is not None
    if plan.weights is None:
        return runs_of_all(plan.population, plan.edges)
    sampler = sampler_of(plan, plan.weights, epoch)
    if isinstance(sampler, DrawsInCells):
        return sampler.runs
    made, of = quota_of(plan, plan.weights, None if plan.resample == "once" else epoch), plan._made
    assert of.quotas is not None
    return runs_by_quota(of.quotas, made, plan.population, plan.edges, windows.max_passes)


def _in_cells(plan: Planned, weights: Weights, epoch: int | None) -> DrawsInCells:
    assert plan.windows is not None and plan.edges is not None
    most, edges, table = plan.windows.max_passes, plan.edges, draw_table(plan, weights)
    counting, inside = key_of(plan, "sample", epoch), key_of(plan, "sample rows", epoch)
    return plan._made.of_epoch(
        plan._made.in_cells,
        epoch,
        lambda: draws_in_cells(
            weights, table, plan.population, edges, plan.draws, most, counting, inside
        ),
    )


def key_of(plan: Planned, purpose: str, epoch: int | None) -> Key:
    return stream_key(plan.seed, epoch, plan.fingerprint, purpose)


def layout_of(plan: Planned) -> Layout:
    with plan._made.lock:
        if plan._made.layout is None:
            match plan.weights:
                case ClassWeights(members=members):
                    plan._made.layout = layout(members)
                case _:
                    plan._made.layout = layout((plan.population,))
        return plan._made.layout


def draw_table(plan: Planned, weights: Weights) -> DrawTable:
    with plan._made.lock:
        if plan._made.table is None:
            match weights:
                case ClassWeights():
                    plan._made.table = class_table(weights)
                case RowWeights():
                    plan._made.table = row_table(weights)
        return plan._made.table


def _taken(plan: Planned, weights: Weights, epoch: int | None) -> Taken:
    return plan._made.of_epoch(
        plan._made.taken,
        epoch,
        lambda: take(weights, plan.draws, plan.seed, epoch, plan.fingerprint, plan.rounds),
    )


def quota_of(plan: Planned, weights: AnyWeights, epoch: int | None) -> Quota:
    def made() -> Quota:
        if plan._made.quotas is None:
            plan._made.quotas = quotas(
                weights, plan.population, plan.draws, plan.replace, plan.edges
            )
        offset, inside = key_of(plan, "quota offset", epoch), key_of(plan, "quota rows", epoch)
        if plan.windows is None:
            return quota(plan._made.quotas, plan.draws, offset, inside)
        window, most = plan.windows.length * plan.windows.lanes, plan.windows.max_passes
        return quota(plan._made.quotas, plan.draws, offset, inside, window, most)

    return plan._made.of_epoch(plan._made.quota, epoch, made)
