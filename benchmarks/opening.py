"""Plans by themselves: how long it takes to open one anywhere, what its state and its arrays weigh.

A plan is opened at random positions of epochs that it has not been asked for: 32 samples are located, as
the first batch of a rank needs them. Memory is what Python and NumPy allocate, by `tracemalloc`, at its
peak. A plan over 10^9 rows is made of synthetic fragments: no row of it is anywhere.
"""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tql import rowset
from tql.partition import partition
from tql.planner import Plan, make_plan
from tql.planner.windows import Windows
from tql.rowset import Range
from tql.weights import ClassWeights, FragmentWeights, RowWeights

BATCH: Final = 32
OPENED: Final = 0.05  # seconds: the goal, wherever no pass over the rows is needed
STATE: Final = 128  # bytes
SPARE: Final = 1.05  # of n / 8 bytes for a filter
LARGE: Final = 1_000_000_000
FRAGMENTS: Final = 10_000
CLASSES: Final = 10
PASS: Final = "a pass over the rows in each epoch"
COUNTED: Final = "a pass over the draws in each epoch"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about one kind of plan.

    unit    "s": of opening it, best, middle and worst; "bytes": all three the same
    goal    the most that it is to be; None without one, `why` says why
    """

    what: str
    unit: str
    best: float
    middle: float
    worst: float
    goal: float | None
    why: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached, by the middle."""
        return None if self.goal is None else self.middle <= self.goal


def measure(rows: int, repeats: int, large: int = LARGE) -> Iterator[Fact]:
    """Everything, with `rows` rows; the last ones with `large` rows."""
    for name, plan, why in plans(rows):
        seconds = opened(plan, repeats)
        goal = None if why else OPENED
        yield Fact(f"open {name}, {_many(rows)}", "s", *spread(seconds), goal, why)
    yield from _states(large)
    yield from _arrays(rows)
    for name, make, why in _large(large):
        yield from _opened_large(f"{name}, {_many(large)}", make, why)


def opened(plan: Plan, times: int) -> list[float]:
    """Seconds of opening `plan` at a random position, each time of another epoch."""
    rng, found = np.random.default_rng(0), []
    plan.locate(0, min(BATCH, len(plan)))  # what is made once for a plan
    for epoch in range(1, times + 1):
        at = int(rng.integers(0, len(plan)))
        start = time.perf_counter()
        plan.stream(epoch, offset=at, batch_size=BATCH).batch(0)
        found.append(time.perf_counter() - start)
    return found


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, middle and most."""
    return min(values), median(values), max(values)


# -- which plans -----------------------------------------------------------------------------------


def plans(rows: int) -> Iterator[tuple[str, Plan, str]]:
    """Each kind of plan; why it cannot be opened at once, where it cannot."""
    rng = np.random.default_rng(0)
    everything = rowset.everything(rows)
    kept = rowset.from_mask(rng.random(rows) < 0.5)
    labels = rng.integers(0, CLASSES, rows).astype(np.uint8)
    by_class = ClassWeights(np.arange(1.0, CLASSES + 1), partition(labels, CLASSES, everything))
    by_row = RowWeights(rng.random(rows))
    edges = np.linspace(0, rows, 101).astype(np.int64)
    quota: dict[str, Any] = {"mix": "epoch", "edges": edges}
    block: dict[str, Any] = {"mix": "batch", "block": BATCH, "edges": edges}
    near: dict[str, Any] = {"shuffle": True, "windows": Windows(max(rows // 50, 1)), "edges": edges}
    size = max(rows // 100, 1)
    for name, weights, choices, why in (
        ("in order", None, {}, ""),
        ("shuffled", None, {"shuffle": True}, ""),
        ("weighted by class", by_class, {}, ""),
        ("weighted by class, shuffled", by_class, {"shuffle": True}, ""),
        ("weighted by row", by_row, {}, ""),
        ("classes by quota", by_class, quota, ""),
        ("classes by quota in batches", by_class, block, ""),
        ("shuffled in windows", None, near, ""),
        ("weighted by class in windows", by_class, near, COUNTED),
        ("classes by quota in windows", by_class, {"mix": "epoch", **near}, ""),
        ("rows by quota", by_row, quota, PASS),
        ("by class without replacement", by_class, {"replace": False, "size": size}, COUNTED),
        ("by row without replacement", by_row, {"replace": False, "size": size}, PASS),
    ):
        yield name, make_plan(everything, weights, seed=1, **choices), why
    yield "filtered and shuffled", make_plan(kept, shuffle=True, seed=1), ""


def _large(rows: int) -> Iterator[tuple[str, Callable[[], Plan], str]]:
    """Plans over synthetic fragments, each class a tenth of the data; why one is not opened at once."""
    everything = rowset.everything(rows)
    ends = np.linspace(0, rows, CLASSES + 1).astype(np.int64).tolist()
    members = tuple(Range(a, b, rows) for a, b in pairwise(ends))
    by_class = ClassWeights(np.arange(1.0, CLASSES + 1), members)
    edges = np.linspace(0, rows, min(FRAGMENTS, rows) + 1).astype(np.int64)
    many = f"{edges.size - 1:,} fragments"
    quota: dict[str, Any] = {"mix": "epoch", "edges": edges}
    near: dict[str, Any] = {"shuffle": True, "edges": edges, "windows": Windows(rows // 100, 8)}
    few: dict[str, Any] = {**near, "windows": Windows(max(rows // 2500, 1), 2)}
    for name, weights, choices, why in (
        ("shuffled", None, {"shuffle": True}, ""),
        ("weighted by class", by_class, {}, ""),
        (f"classes by quota in {many}", by_class, quota, ""),
        (f"shuffled in windows of {many}", None, near, ""),
        (f"classes by quota in windows of {many}", by_class, quota | near, ""),
        (f"a weight per row by quota in windows of {many}", _looked_up(np.diff(edges)), quota | few,
         "a pass over the fragments that the batch is of"),
    ):  # fmt: skip
        yield name, partial(make_plan, everything, weights, **choices), why


def _looked_up(counts: NDArray[np.int64]) -> FragmentWeights:
    """Weights 1 … 1000 of rows, times 1 … 7 of fragments, as integers that are made when asked for."""
    cycle = 1 + np.arange(int(counts.max()), dtype=np.uint64) % np.uint64(1000)
    sums, most = np.cumsum(cycle), np.maximum.accumulate(cycle)
    times = 1 + np.arange(counts.size, dtype=np.uint64) % np.uint64(7)
    return FragmentWeights(
        counts, sums[counts - 1] * times, most[counts - 1] * times,
        lambda f: cycle[: counts[f]] * times[f], "synthetic",
    )  # fmt: skip


# -- bytes -----------------------------------------------------------------------------------------


def _states(rows: int) -> Iterator[Fact]:
    plan = make_plan(rowset.everything(rows), shuffle=True)
    state = plan.stream(10**6, offset=len(plan)).state_dict()
    size = len(json.dumps(state).encode())
    yield Fact(f"state at the end of epoch 10^6, {_many(rows)}", "bytes", size, size, size, STATE)


def _arrays(rows: int) -> Iterator[Fact]:
    """What plans keep, beside what the user handed in."""
    for name, plan, _ in plans(rows):
        peak = _peak(
            lambda plan=plan: plan.stream(3, offset=len(plan) // 2, batch_size=BATCH).batch(0)
        )
        words = rows / 8 * SPARE
        match plan.weights:
            case None:
                goal = words if name.startswith("filtered") else 0.0
            case ClassWeights():
                goal = CLASSES * words
            case RowWeights():
                goal = None
        yield Fact(f"arrays of a plan {name}, {_many(rows)}", "bytes", *[plan.nbytes] * 3, goal,
                   "the weights as they were given" if goal is None else "")  # fmt: skip
        yield Fact(f"peak while it is opened: {name}", "bytes", *[peak] * 3, None)


def _opened_large(name: str, make: Callable[[], Plan], why: str) -> Iterator[Fact]:
    seconds = opened(make(), 5)  # kernels are there, too, before memory is watched
    tracemalloc.start()
    try:
        start = time.perf_counter()
        plan = make()
        plan.stream(7, offset=int(0.7182818 * len(plan)), batch_size=BATCH).batch(0)
        took = time.perf_counter() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    yield Fact(f"make and open {name}", "s", *[took] * 3, None, "memory watched meanwhile")
    yield Fact(f"open {name}", "s", *spread(seconds), None if why else OPENED, why)
    yield Fact(f"peak of making and opening {name}", "bytes", *[peak] * 3, None)


def _peak(work: Callable[[], Any]) -> int:
    """Bytes allocated at most at one time while `work` runs."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# -- for readers -----------------------------------------------------------------------------------


def table(facts: Sequence[Fact]) -> str:
    """The facts as Markdown: times, then bytes."""
    lines = ["| plan | best | median | worst | goal |", "|---|--:|--:|--:|--:|"]
    for f in (f for f in facts if f.unit == "s"):
        times = " | ".join(f"{v * 1e3:,.2f} ms" for v in (f.best, f.middle, f.worst))
        goal = f.why or "—" if f.goal is None else f"{f.goal * 1e3:g} ms {_verdict(f)}"
        lines.append(f"| {f.what} | {times} | {goal} |")
    lines += ["", "| plan | bytes | goal |", "|---|--:|--:|"]
    for f in (f for f in facts if f.unit == "bytes"):
        goal = f.why or "—" if f.goal is None else f"{f.goal:,.0f} {_verdict(f)}"
        lines.append(f"| {f.what} | {f.worst:,.0f} | {goal} |")
    return "\n".join([*lines, "", _TOLD])


_TOLD: Final = (
    f"Opened: {BATCH} samples at a random position of an epoch that the plan has not been asked for, by the "
    "median. Bytes are those of arrays, and what Python and NumPy allocate at most while a plan is opened; "
    "a filter is to take n / 8 and 5 %, and each of K weights as much."
)


def _verdict(fact: Fact) -> str:
    return "met" if fact.met else "NOT met"


def _many(rows: int) -> str:
    return f"{rows / 1e6:g} M rows" if rows < LARGE else f"{rows / 1e9:g} · 10^9 rows"
