"""What a plan will do, said from what it was made from: nothing is drawn and nothing is read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import numpy as np

from tql.diagnostics import counted
from tql.planner.computing import Planned
from tql.planner.expecting import at_most_once, shared
from tql.planner.line import DrawLine
from tql.planner.quality import units_of
from tql.planner.reading import reading
from tql.planner.telling import told
from tql.planner.windows import Windows
from tql.weights import ClassWeights, class_masses

_SHOWN: Final = 20  # groups of equal weights, those with the most draws


class Explained(Planned, Protocol):
    """What is looked at of a plan."""

    @property
    def short(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def nbytes(self) -> int: ...

    def to_json(self) -> dict[str, Any]: ...

    def draw_line(self, epoch: int = 0, /) -> DrawLine: ...


@dataclass(frozen=True, slots=True)
class WeightGroup:
    """The rows of one weight, and how many draws of an epoch they expect."""

    weight: float
    rows: int
    draws: float


@dataclass(frozen=True, slots=True)
class WindowReads:
    """Fragments that an epoch reads in windows, how often, and how many it needs at a time."""

    length: int
    lanes: int
    fragments: int
    reads: int
    live: int


@dataclass(frozen=True, slots=True)
class PlanExplanation:
    """`print(plan.explain())`, or `.to_dict()` for programs.

    text         what it was made from, in lines
    groups       by weight, the heaviest first; empty where rows have weights of their own or none
    approximate  whether their draws are: of independent draws in which no row comes twice
    nbytes       of the rows and weights that the plan holds
    """

    plan: str
    rows: int
    draws: int
    text: str
    groups: tuple[WeightGroup, ...]
    approximate: bool
    windows: WindowReads | None
    nbytes: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as numbers and texts that JSON can hold."""
        return {
            **{name: value for name, value in asdict(self).items() if name != "text"},
            "groups": [asdict(group) for group in self.groups],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [self.text]
        if self.windows is not None:
            w = self.windows
            lines.append(
                f"reads    {w.reads:,} in an epoch, of {counted(w.fragments, 'fragment')}; "
                f"{w.live:,} at a time at most"
            )
        lines.append(f"memory   {self.nbytes:,} bytes of rows and weights")
        return "\n".join([*lines, *self._table()])

    def _table(self) -> list[str]:
        if not self.groups:
            return []
        about = "about " if self.approximate else ""
        head = f"{'weight':>12} {'rows':>14} {about + 'draws':>16} {'share':>8} {'a row':>8}"
        shown, rest = self.groups[:_SHOWN], self.groups[_SHOWN:]
        lines = [self._line(f"{g.weight:.6g}", g.rows, g.draws) for g in shown]
        if rest:
            rows, draws = sum(g.rows for g in rest), sum(g.draws for g in rest)
            lines.append(self._line(f"{len(rest):,} others", rows, draws))
        return ["", head, *lines]

    def _line(self, name: str, rows: int, draws: float) -> str:
        share, each = draws / self.draws, draws / rows
        return f"{name:>12} {rows:>14,} {draws:>16,.1f} {share:>8.2%} {each:>8.2f}"


def explanation(plan: Explained) -> PlanExplanation:
    """What the plan will do in each epoch; of one that changes, in its first part."""
    groups, approximate = _groups(plan)
    return PlanExplanation(
        plan=plan.short,
        rows=len(plan.population),
        draws=plan.draws,
        text=told(plan.to_json()),
        groups=groups,
        approximate=approximate,
        windows=None if plan.windows is None or not plan.draws else _reads(plan, plan.windows),
        nbytes=plan.nbytes,
        notes=plan.notes,
    )


def _groups(plan: Explained) -> tuple[tuple[WeightGroup, ...], bool]:
    if not isinstance(plan.weights, ClassWeights):
        return (), False
    values, members = plan.weights.values, plan.weights.members
    rows, approximate = [len(m) for m in members], False
    draws: Sequence[float]
    if plan.replace:
        draws = shared(class_masses(plan.weights), plan.draws)
    else:
        counts = np.diag(np.array(rows, np.int64))
        draws, approximate = at_most_once(counts, values, plan.draws, True, plan.mix == "iid")
    groups = [
        WeightGroup(v, n, d) for v, n, d in zip(values.tolist(), rows, draws, strict=True) if n
    ]
    return tuple(sorted(groups, key=lambda g: -g.weight)), approximate


def _reads(plan: Explained, windows: Windows) -> WindowReads:
    line = plan.draw_line(0)
    fragments = line.edges.size - 1
    units = units_of(line, np.ones((1, fragments, 1)))
    sizes = np.ones(fragments, np.int64)
    found = reading(units, sizes, windows.length, windows.lanes, 1)
    used = np.unique(line.fragment).size
    return WindowReads(windows.length, windows.lanes, used, found.fetches, found.live_fragments)
