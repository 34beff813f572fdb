"""Plans that go on with other weights from a declared position on.

Each part is a plan of its own: before the change every position has the rows it would have without,
after it those of the plan with the new weights at the same positions. So it is as seekable as they
are, and states that were taken before the change fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from tql.planner.rng import Int64s, Uint64s

Earlier: TypeAlias = tuple[str, int, int]
"""Short name of a plan, and the epoch and position up to which it is the same."""


class Part(Protocol):
    """What is needed of the plans that follow each other."""

    @property
    def draws(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def at(self, positions: Int64s, *, epoch: int = 0) -> Int64s: ...

    def copies(self, positions: Int64s, epoch: int = 0) -> Int64s: ...

    def substitutes(self, positions: Int64s, tries: Int64s, epoch: int = 0) -> Int64s: ...

    def seeds(self, rows: Int64s, copies: Int64s, epoch: int = 0) -> Uint64s: ...


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """From this position of this epoch on, `plan` says which rows there are."""

    epoch: int
    position: int
    plan: Part


def pieces(parts: Sequence[Change], epoch: int) -> list[tuple[int, int, Part]]:
    """(start, stop, plan): who gives which positions of an epoch; the first part begins at (0, 0)."""
    draws = parts[0].plan.draws
    begun = [p for p in parts if (p.epoch, p.position) <= (epoch, 0)][-1]
    inside = [p for p in parts if p.epoch == epoch and p.position > 0]
    starts = [0, *(p.position for p in inside), draws]
    plans = [begun.plan, *(p.plan for p in inside)]
    return [
        (a, b, plan) for a, b, plan in zip(starts[:-1], starts[1:], plans, strict=True) if a < b
    ]


def rows_of(parts: Sequence[Change], positions: Int64s, epoch: int) -> Int64s:
    """See `Plan.at`."""
    out = np.empty_like(positions)
    for start, stop, plan in pieces(parts, epoch):
        here = (positions >= start) & (positions < stop)
        if here.any():
            out[here] = plan.at(positions[here], epoch=epoch)
    return out


def copies_of(parts: Sequence[Change], positions: Int64s, epoch: int) -> Int64s:
    """See `Plan.copies`: after a change within the epoch, numbers that nothing before has."""
    out = np.empty_like(positions)
    for k, (start, stop, plan) in enumerate(pieces(parts, epoch)):
        here = (positions >= start) & (positions < stop)
        out[here] = plan.copies(positions[here], epoch) if k == 0 else positions[here] + plan.draws
    return out


def substitutes_of(parts: Sequence[Change], positions: Int64s, tries: Int64s, epoch: int) -> Int64s:
    """See `Plan.substitutes`."""
    out = np.empty_like(positions)
    for start, stop, plan in pieces(parts, epoch):
        here = (positions >= start) & (positions < stop)
        if here.any():
            out[here] = plan.substitutes(positions[here], tries[here], epoch)
    return out


class Named(Protocol):
    """What states are compared with."""

    @property
    def short(self) -> str: ...

    @property
    def earlier(self) -> tuple[Earlier, ...]: ...


def adopted(state: Any, plan: Named) -> Any:
    """A state of a plan that `plan` goes on from, as one of `plan`; any other as it is."""
    match state:
        case {"plan": str(name), "epoch": int(epoch), "position": int(position)}:
            known = [(e, p) for short, e, p in plan.earlier if short == name]
            if known and (epoch, position) <= known[-1]:
                return {**state, "plan": plan.short}
    return state
