"""What a plan is made of while it is asked: steps from positions to rows, and what was computed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from tql.forks import ForkLock
from tql.planner.draw import DrawTable
from tql.planner.in_cells import DrawsInCells
from tql.planner.layout import Layout
from tql.planner.quota import Quota, Quotas
from tql.planner.rng import Int64s, Key
from tql.planner.windows import InWindows
from tql.planner.without_replacement import Taken

T = TypeVar("T")


class Stage(Protocol):
    """A step from positions to slots."""

    def pays(self, count: int, /) -> bool: ...

    def apply(self, positions: Int64s, fast: bool, /) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Independent:
    """Draws that know nothing of each other."""

    table: DrawTable
    key: Key

    def pays(self, count: int) -> bool:
        return self.table.pays(count)

    def apply(self, positions: Int64s, fast: bool) -> None:
        self.table.apply(self.key, positions, fast)


def ready(stage: Stage, size: int) -> Callable[[Int64s], None]:
    """The stage for a request of `size` positions."""
    fast = stage.pays(size)
    return lambda positions: stage.apply(positions, fast)


class Made:
    """What was computed for a plan: its layout, its tables, the draws of two epochs."""

    __slots__ = (
        "in_cells",
        "layout",
        "lock",
        "order",
        "quota",
        "quotas",
        "table",
        "taken",
        "windowed",
    )

    def __init__(self) -> None:
        self.lock: Final = ForkLock()
        self.layout: Layout | None = None
        self.table: DrawTable | None = None
        self.quotas: Quotas | None = None
        self.order: dict[int | None, Stage | None] = {}
        self.quota: dict[int | None, Quota] = {}
        self.taken: dict[int | None, Taken] = {}
        self.in_cells: dict[int | None, DrawsInCells] = {}
        self.windowed: dict[int | None, InWindows] = {}

    def of_epoch(self, kept: dict[int | None, T], epoch: int | None, make: Callable[[], T]) -> T:
        """What `make` gives, of this epoch and the one before: memory is bounded."""
        with self.lock:
            if epoch not in kept:
                while len(kept) > 1:
                    del kept[next(iter(kept))]
                kept[epoch] = make()
            return kept[epoch]
