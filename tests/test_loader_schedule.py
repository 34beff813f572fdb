"""The loads of a pass against Belady's rule and the least recently used, both written plainly."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tql.loader.schedule import Course, Schedule
from tql.planner import Plan, Windows, make_plan
from tql.rowset import everything

Batches = list[list[int]]


def farthest(batches: Batches, sizes: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """(step, fragment) of each read where the one needed last is given up, of those not needed any
    more the one used longest ago.
    """
    requests = [(step, f) for step, fragments in enumerate(batches) for f in fragments]
    places: dict[int, list[int]] = {}
    for place, (_, f) in enumerate(requests):
        places.setdefault(f, []).append(place)
    kept: dict[int, int] = {}  # fragment -> last use
    reads = []
    for now, (step, f) in enumerate(requests):
        if f not in kept:
            reads.append((step, f))

            def priority(g: int, now: int = now) -> tuple[float, int]:
                later = places[g][bisect_right(places[g], now) :]
                return later[0] if later else float("inf"), -kept[g]

            while kept and sum(sizes[g] for g in kept) + sizes[f] > budget:
                del kept[max(kept, key=priority)]
        kept[f] = now
    return reads


def least_recent(batches: Batches, sizes: Sequence[int], budget: int) -> int:
    kept: OrderedDict[int, None] = OrderedDict()
    reads = 0
    for f in (f for fragments in batches for f in fragments):
        if f in kept:
            kept.move_to_end(f)
            continue
        reads += 1
        while kept and sum(sizes[g] for g in kept) + sizes[f] > budget:
            kept.popitem(last=False)
        kept[f] = None
    return reads


def scheduled(
    order: np.ndarray, starts: np.ndarray, batch: int, sizes: Sequence[int], budget: int,
    horizon: int = 1 << 16,
) -> tuple[Batches, list[tuple[int, int]]]:  # fmt: skip
    """The fragments of each batch, and the reads; what is said of uses is checked on the way."""
    count = -(-len(order) // batch)
    course = Course(lambda a, b: order[a * batch : b * batch], count, batch)
    free = np.zeros(len(starts), np.bool_)
    schedule = Schedule(course, starts, free, lambda f: sizes[f], budget, horizon)
    owner = np.searchsorted(starts, order, side="right") - 1
    batches = [sorted(set(owner[a : a + batch].tolist())) for a in range(0, len(order), batch)]
    used: dict[int, int] = {}
    told = [schedule.uses(step) for step in range(count)]
    assert [[f for f, _ in uses] for uses in told] == batches
    assert schedule.complete and all(load.fragment == f for uses in told for f, load in uses)
    loads = list(schedule.loads)
    for load in (load for uses in told for _, load in uses):
        used[id(load)] = used.get(id(load), 0) + 1
    assert [load.uses for load in loads] == [used[id(load)] for load in loads]
    assert all(load.closed for load in loads)
    assert all(load in [x for _, x in told[load.step]] for load in loads)
    return batches, [(load.step, load.fragment) for load in loads]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_reads_are_those_of_the_farthest_next_use(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=12))
    if data.draw(st.booleans()):
        lengths = [lengths[0]] * len(lengths)
    starts = np.cumsum([0, *lengths])[:-1]
    rows = sum(lengths)
    order = np.array(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=80)))
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=len(lengths), max_size=len(lengths)))
    budget = data.draw(st.integers(1, sum(sizes) + 1))
    batch = data.draw(st.integers(1, 20))
    batches, reads = scheduled(order, starts, batch, sizes, budget)
    assert reads == farthest(batches, sizes, budget)
    _, short = scheduled(order, starts, batch, sizes, budget, horizon=2 * batch)
    assert len({f for _, f in reads}) <= len(reads)
    assert sorted({f for _, f in short}) == sorted({f for _, f in reads})


ROWS, GROUP = 2_000, 25
STARTS = np.arange(0, ROWS, GROUP)


def windowed() -> Plan:
    edges = np.append(STARTS, ROWS)
    return make_plan(everything(ROWS), seed=3, shuffle=True, edges=edges, windows=Windows(200))


PLANS = {
    "in order": lambda: np.arange(ROWS),
    "shuffled": lambda: make_plan(everything(ROWS), seed=3, shuffle=True).ids(),
    "windowed": lambda: windowed().ids(),
    "sampled": lambda: np.random.default_rng(0).integers(0, ROWS, ROWS) ** 2 // ROWS,
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("kept", [1, 8, 20, 60, 80])
@pytest.mark.parametrize("batch", [1, 16])
def test_never_more_reads_than_the_least_recently_used(name: str, kept: int, batch: int) -> None:
    sizes = [10] * len(STARTS)
    order = PLANS[name]()
    batches, reads = scheduled(order, STARTS, batch, sizes, 10 * kept)
    assert reads == farthest(batches, sizes, 10 * kept)
    assert len(reads) <= least_recent(batches, sizes, 10 * kept)
    assert kept < 80 or len(reads) == 80
    assert name != "windowed" or kept < 20 or len(reads) == 80


def test_what_lies_in_memory_anyway_is_not_loaded_and_sizes_are_asked_once_a_load() -> None:
    asked: list[int] = []

    def size(f: int) -> int:
        asked.append(f)
        return 1

    order = np.array([0, 10, 20, 0, 25])
    course = Course(lambda a, b: order[a:b], 5, 1)
    free = np.array([False, True, False])
    schedule = Schedule(course, np.array([0, 10, 20]), free, size, 100)
    assert not asked
    assert [[f for f, _ in schedule.uses(i)] for i in range(5)] == [[0], [], [2], [0], [2]]
    assert asked == [0, 2] and not schedule.tight
