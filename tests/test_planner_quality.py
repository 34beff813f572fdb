"""What is predicted of orders in windows is what the orders are like, counted row by row."""

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.orders import (
    cycled,
    distinct_xors,
    kept_by_window,
    measured_classes,
    measured_vif,
)
from tests.profiles import examples
from tql import rowset
from tql.loader.schedule import Course, Schedule
from tql.partition import partition
from tql.planner import DrawLine, Plan, Windows, make_plan
from tql.planner.permute import permutation
from tql.planner.quality import (
    Quality,
    Units,
    icc,
    lane_starts,
    length_of_vif,
    log_none,
    noise_of_rows,
    quality,
    units_of,
)
from tql.planner.reading import Reading, length_of_bytes, random_reads, reading
from tql.planner.rng import stream_key
from tql.weights import ClassWeights, RowWeights

N, CLASSES, CHUNK, BATCH = 60_000, 60, 200, 256
KEY = stream_key(0, 0, "", "test")


# -- data and orders ------------------------------------------------------------------------------


def labels_of(layout: str, n: int = N) -> np.ndarray[Any, Any]:
    """Classes of unequal size: in order, with half of the rows anywhere, or all of them."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 10, CLASSES)
    ordered = np.repeat(np.arange(CLASSES), sizes * n // sizes.sum())
    ordered = np.append(ordered, np.full(n - ordered.size, CLASSES - 1))
    match layout:
        case "sorted":
            return ordered
        case "half":
            moved = np.flatnonzero(rng.random(n) < 0.5)
            ordered[moved] = ordered[rng.permutation(moved)]
            return ordered
        case _:
            return rng.permutation(ordered)


def fragments_of(kind: str, n: int = N) -> np.ndarray[Any, Any]:
    """Where fragments begin, and the end."""
    if kind == "equal":
        return np.arange(0, n + 1, CHUNK)
    sizes = np.random.default_rng(2).integers(20, 2 * CHUNK, 2 * n // CHUNK)
    edges = np.append(0, np.cumsum(sizes))
    return np.append(edges[edges < n], n)


@dataclass(frozen=True)
class Case:
    """A plan in windows, the class of each row, and the mix of classes in each cell."""

    plan: Plan
    labels: np.ndarray[Any, Any]
    shares: np.ndarray[Any, Any]

    @property
    def cut(self) -> tuple[int, int]:
        assert self.plan.windows is not None
        lanes = self.plan.windows.lanes
        return min(self.plan.windows.length, -(-len(self.plan) // lanes)), lanes

    def units(self, epoch: int = 0) -> Units:
        return units_of(self.plan.draw_line(epoch), self.shares, self.noise)

    @property
    def noise(self) -> float:
        match self.plan.weights:
            case RowWeights(values) if self.plan.mix != "iid":
                line = self.plan.draw_line()
                fragment = np.searchsorted(line.edges, np.arange(values.size), side="right") - 1
                return noise_of_rows(values, fragment, line, len(self.plan), self.plan.replace)
            case None:
                return 0.0
            case _:
                return float(self.plan.mix == "iid")

    def quality(self, batch: int = BATCH) -> Quality:
        return quality(self.units(), *self.cut, batch)

    def reading(self, sizes: np.ndarray[Any, Any], epoch: int = 0, batch: int = BATCH) -> Reading:
        return reading(self.units(epoch), sizes, *self.cut, batch)

    def windows(self, epoch: int = 0) -> list[list[np.ndarray[Any, Any]]]:
        """The fragments of the draws of each window of each lane, from the rows themselves."""
        length, lanes = self.cut
        line = self.plan.draw_line(epoch)
        fragments = np.searchsorted(line.edges, self.plan.ids(epoch), side="right") - 1
        of_lanes = [fragments[lane::lanes] for lane in range(lanes)]
        return [[f[a : a + length] for a in range(0, f.size, length)] for f in of_lanes]


def case(layout: str, drawn: str, windows: Windows, fragments: str = "equal", n: int = N) -> Case:
    labels, edges = labels_of(layout, n), fragments_of(fragments, n)
    population = rowset.everything(n)
    rng = np.random.default_rng(3)
    groups = np.zeros(n, np.int64)
    weights: ClassWeights | RowWeights | None = None
    values = np.ones(1)
    match drawn:
        case "balanced":
            groups = labels
            values = 1 / np.bincount(labels)
        case "heavy" | "iid":
            groups = (rng.random(n) < 0.1).astype(np.int64)  # says nothing of the classes
            values = np.array([1.0, 5.0])
        case "rows":
            weights = RowWeights(rng.lognormal(0, 1, n))
    if drawn in ("balanced", "heavy", "iid"):
        members = partition(groups.astype(np.uint8), int(groups.max()) + 1, population)
        weights = ClassWeights(values, members)
    plan = make_plan(
        population, weights, shuffle=True, seed=5, windows=windows, edges=edges,
        mix="iid" if drawn == "iid" else "epoch",
    )  # fmt: skip
    width = int(groups.max()) + 1
    fragment = np.repeat(np.arange(edges.size - 1), np.diff(edges))
    counts = np.zeros((width, edges.size - 1, CLASSES))
    mass = weights.values if isinstance(weights, RowWeights) else np.ones(n)
    np.add.at(counts, (groups, fragment, labels), mass)
    return Case(plan, labels, counts / np.maximum(counts.sum(axis=2, keepdims=True), 1e-300))


# -- mixing ---------------------------------------------------------------------------------------

WINDOWS = [
    Windows(10 * CHUNK),
    Windows(75 * CHUNK),
    Windows(75 * CHUNK + 1),
    Windows(1600, 8),
    Windows(7500, 3),
    Windows(300),  # a unit and a half
    Windows(1 << 40),
]


@pytest.mark.parametrize("windows", WINDOWS, ids=lambda w: f"{w.length}x{w.lanes}")
@pytest.mark.parametrize("drawn", ["all", "balanced", "heavy", "iid", "rows"])
@pytest.mark.parametrize("layout", ["sorted", "half", "shuffled"])
def test_the_predicted_variance_is_that_of_the_batches(
    layout: str, drawn: str, windows: Windows
) -> None:
    """A VIF within 10 %, and as many classes within 4 %, of those counted in one epoch."""
    of = case(layout, drawn, windows)
    told, found = of.quality(), of.labels[of.plan.ids()]
    assert told.vif == pytest.approx(measured_vif(found, BATCH), rel=0.10)
    assert told.classes == pytest.approx(measured_classes(found, BATCH), rel=0.04)
    assert told.classes <= told.ideal * 1.01


@pytest.mark.parametrize("windows", WINDOWS[:5], ids=lambda w: f"{w.length}x{w.lanes}")
@pytest.mark.parametrize("layout", ["sorted", "half", "shuffled"])
def test_fragments_of_unequal_size_are_predicted_as_well(layout: str, windows: Windows) -> None:
    of = case(layout, "all", windows, "unequal")
    found = of.labels[of.plan.ids()]
    for batch in (7, 64, 1000):
        told = of.quality(batch)
        assert told.vif == pytest.approx(measured_vif(found, batch), rel=0.10)
        assert told.classes == pytest.approx(measured_classes(found, batch), rel=0.06)


def test_a_mean_over_keys_is_predicted_to_a_percent() -> None:
    """The same line of fragments, and 40 orders within its windows."""
    of = case("half", "all", Windows(20 * CHUNK))
    line, rng = of.plan.draw_line(0), np.random.default_rng(7)
    rows = np.concatenate(
        [np.arange(a, b) for a, b in zip(line.edges[line.fragment], line.edges[line.fragment + 1])]
    )
    cut = np.arange(20 * CHUNK, N, 20 * CHUNK)
    measured = [
        measured_vif(of.labels[np.concatenate([*map(rng.permutation, np.split(rows, cut))])], BATCH)
        for _ in range(40)
    ]
    assert of.quality().vif == pytest.approx(np.mean(measured), rel=0.01)


def test_some_batches_stand_for_all_of_many() -> None:
    of = case("half", "all", Windows(20 * CHUNK))
    every = quality(of.units(), *of.cut, 8, most=1 << 20)
    some = quality(of.units(), *of.cut, 8)
    assert N // 8 > 2048
    assert some.vif == pytest.approx(every.vif, rel=0.03)
    assert some.classes == pytest.approx(every.classes, rel=0.03)


def test_draws_of_one_class_have_no_variance() -> None:
    plan = make_plan(
        rowset.everything(100), shuffle=True, windows=Windows(10), edges=np.arange(0, 101, 5)
    )
    told = quality(units_of(plan.draw_line(), np.ones((1, 20, 1))), 10, 1, 32)
    assert told == Quality(None, 1.0, 1.0)


def test_a_batch_longer_than_the_epoch_is_the_epoch() -> None:
    of = case("sorted", "all", Windows(40), n=1200)
    told = of.quality(10**6)
    assert told.vif == pytest.approx(0, abs=1e-9)
    assert told.classes == pytest.approx(np.unique(of.labels).size)


def test_the_chance_of_none_is_that_of_counted_draws() -> None:
    for size, count, taken in ((50, 7, 10), (50, 45, 10), (10**6, 3, 256), (5, 0, 5), (5, 1, 5)):
        exact = comb(size - count, taken) / comb(size, taken)
        found = log_none(
            np.array([float(size)]), np.array([float(count)]), np.array([float(taken)])
        )
        assert found[0] == (pytest.approx(log(exact), abs=1e-6) if exact else -np.inf)


# -- how alike the rows of a fragment are ------------------------------------------------------


def test_rows_of_pure_fragments_are_alike_and_those_of_shuffled_ones_are_not() -> None:
    pure = np.kron(np.eye(10, dtype=np.int64) * 200, np.ones((5, 1), np.int64))
    assert icc(pure) == pytest.approx(1)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(200, np.full(10, 0.1), 500)
    assert icc(counts) < 0.002
    assert icc(np.array([[5, 5]])) == icc(np.array([[5, 0], [7, 0]])) == 0


def test_the_likeness_is_that_of_an_analysis_of_variance() -> None:
    """Two classes have one indicator: its mean squares are those of the textbook."""
    rng = np.random.default_rng(1)
    groups = [rng.random(n) < p for n, p in ((30, 0.1), (50, 0.5), (20, 0.8), (41, 0.3))]
    rows, k = sum(g.size for g in groups), len(groups)
    mean = sum(g.sum() for g in groups) / rows
    between = sum(g.size * (g.mean() - mean) ** 2 for g in groups) / (k - 1)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (rows - k)
    usual = (rows - sum(g.size**2 for g in groups) / rows) / (k - 1)
    histogram = np.array([[g.sum(), g.size - g.sum()] for g in groups])
    wanted = (between - within) / (between + (usual - 1) * within)
    assert icc(histogram) == pytest.approx(wanted)


# -- reading --------------------------------------------------------------------------------------


@settings(max_examples=examples(150, 3_000))
@given(
    st.integers(1, 400), st.integers(1, 60), st.sampled_from([1, 2, 3, 7, 500]),
    st.sampled_from(["all", "heavy", "iid"]), st.sampled_from([1, 3, 17, 90, 1 << 40]),
    st.integers(0, 1000),
)  # fmt: skip
def test_fragments_are_read_as_often_as_a_walk_over_the_rows_finds(
    n: int, fragments: int, lanes: int, drawn: str, length: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    edges = np.concatenate([[0], np.sort(rng.integers(0, n + 1, fragments)), [n]])
    population = rowset.from_mask(rng.random(n) < 0.9)
    if not len(population):
        return
    weights = None
    if drawn != "all":
        codes = (rng.random(len(population)) < 0.3).astype(np.uint8)
        weights = ClassWeights(np.array([1.0, 4.0]), partition(codes, 2, population))
    plan = make_plan(
        population, weights, shuffle=True, seed=seed, edges=edges, windows=Windows(length, lanes),
        mix="iid" if drawn == "iid" else "epoch",
    )  # fmt: skip
    line = plan.draw_line(1)
    of = Case(plan, np.zeros(n, np.int64), np.ones((2, line.edges.size - 1, 1)))
    sizes = rng.integers(0, 10**12, line.edges.size - 1)
    told, walked = of.reading(sizes, 1), windows_walked(of, 1)
    assert told.fetches == sum(map(kept_by_window, walked))
    assert told.nbytes == sum(int(sizes[f].sum()) for lane in walked for f in new_in(lane))
    at_once = [
        np.unique(np.concatenate([lane[j] for lane in walked if j < len(lane)]))
        for j in range(max(map(len, walked)))
    ]
    assert told.live_fragments == max(f.size for f in at_once)
    assert told.live_bytes == max(int(sizes[f].sum()) for f in at_once)


def windows_walked(of: Case, epoch: int) -> list[list[np.ndarray[Any, Any]]]:
    """As `Case.windows`, where fragments may be empty."""
    length, lanes = of.cut
    edges = of.plan.draw_line(epoch).edges
    found = np.searchsorted(edges, of.plan.ids(epoch), side="right") - 1
    of_lanes = [found[lane::lanes] for lane in range(lanes)]
    return [[f[a : a + length] for a in range(0, f.size, length)] for f in of_lanes]


def new_in(windows: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Of each window, the fragments that the one before has not."""
    return [
        np.setdiff1d(now, before) for before, now in zip([np.empty(0, np.int64), *windows], windows)
    ]


@pytest.mark.parametrize("layout", ["sorted", "shuffled"])
@pytest.mark.parametrize("drawn", ["all", "balanced", "heavy"])
def test_more_lanes_read_no_more_than_their_edges(layout: str, drawn: str) -> None:
    units = case(layout, drawn, Windows(1600)).units().of.size
    for lanes in (1, 8, 16):
        of = case(layout, drawn, Windows(1600, lanes))
        sizes = np.ones(of.plan.draw_line().edges.size - 1, np.int64)
        assert of.reading(sizes).fetches <= units + lanes - 1
        assert of.reading(sizes).fetches == sum(map(kept_by_window, of.windows()))


def test_the_bytes_of_the_first_batch_are_those_of_its_fragments_in_the_mean() -> None:
    of = case("sorted", "all", Windows(75 * CHUNK), "unequal")
    line = of.plan.draw_line(0)
    sizes = np.random.default_rng(0).integers(1, 1000, line.edges.size - 1)
    walked = []
    for epoch in range(60):
        ids = of.plan.draw(0, 32, epoch=epoch)
        found = np.unique(np.searchsorted(line.edges, ids, side="right") - 1)
        walked.append(int(sizes[found].sum()))
    told = np.mean([of.reading(sizes, epoch, 32).first_bytes for epoch in range(60)])
    assert told == pytest.approx(np.mean(walked), rel=0.05)  # 5 standard errors are 4 %


@pytest.mark.parametrize("kept", [10, 100, 200, 270, 300])
@pytest.mark.parametrize("batch", [16, 256])
@pytest.mark.parametrize("alike", [True, False])
def test_a_permutation_of_everything_reads_what_a_cache_lets_through(
    kept: int, batch: int, alike: bool
) -> None:
    """A reader that takes each fragment of a batch once, and gives up what it needs last."""
    fragments = N // CHUNK
    order = permute(N, 1)
    sizes = np.full(fragments, 10)
    if not alike:
        sizes = np.random.default_rng(0).integers(5, 16, fragments)
    memory = kept * int(sizes.sum()) // fragments
    count = -(-N // batch)
    schedule = Schedule(
        Course(lambda a, b: order[a * batch : b * batch], count, batch),
        np.arange(0, N, CHUNK), np.zeros(fragments, np.bool_), lambda f: int(sizes[f]), memory,
    )  # fmt: skip
    for step in range(count):
        schedule.uses(step)
    walked = np.array([load.nbytes for load in schedule.loads])
    reads, nbytes = random_reads(np.full(fragments, float(CHUNK)), sizes, batch, memory)
    assert reads == pytest.approx(walked.size, rel=0.08)
    assert nbytes == pytest.approx(walked.sum(), rel=0.08)


# -- the other way round -------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("drawn", ["all", "balanced", "heavy", "iid", "rows"])
@pytest.mark.parametrize("layout", ["sorted", "half", "shuffled"])
def test_windows_for_a_target_meet_it_and_are_no_longer_than_they_need(
    layout: str, drawn: str, lanes: int
) -> None:
    of = case(layout, drawn, Windows(1 << 40, lanes))
    line, noise = of.plan.draw_line(), of.noise
    for target in (1.2, 1.5, 3.0):
        length = length_of_vif(line, of.shares, target, lanes, BATCH, KEY, noise)
        met = case(layout, drawn, Windows(length, lanes))
        found = measured_vif(met.labels[met.plan.ids()], BATCH)
        assert found <= 1.1 * target
        shorter = length // (4 if noise else 2)  # few units of independent draws are told roughly
        unit = -(-line.draws // line.fragment.size)
        if layout == "shuffled" and not noise:
            assert length <= 2 * CHUNK
        elif unit < shorter and length * lanes < N:
            assert (case(layout, drawn, Windows(shorter, lanes)).quality().vif or 0) > target


def test_a_target_that_nothing_less_meets_is_all_draws() -> None:
    of = case("sorted", "all", Windows(1 << 40))
    assert length_of_vif(of.plan.draw_line(), of.shares, 0.99, 1, BATCH, KEY) == N


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("drawn", ["all", "balanced"])
@pytest.mark.parametrize("fragments", ["equal", "unequal"])
def test_windows_for_bytes_stay_within_them(fragments: str, drawn: str, lanes: int) -> None:
    of = case("sorted", drawn, Windows(1 << 40, lanes), fragments)
    edges = of.plan.draw_line().edges
    sizes = np.diff(edges) * 10
    for memory in (60_000, 200_000, 400_000):
        length = length_of_bytes(of.units(), sizes, memory, lanes)
        assert length is not None
        got = case("sorted", drawn, Windows(length, lanes), fragments)
        live = max(got.reading(sizes, epoch).live_bytes for epoch in range(3))
        assert live <= memory * (1.02 if fragments == "equal" and drawn == "all" else 1.25)
        assert live >= 0.4 * memory
    assert length_of_bytes(of.units(), sizes, 10 * N, lanes) == N
    assert length_of_bytes(of.units(), sizes, int(sizes.max()), lanes) is None


# -- a permutation of everything -------------------------------------------------------------------


def permute(n: int, seed: int) -> np.ndarray[Any, Any]:
    out = np.arange(n, dtype=np.int64)
    permutation(n, stream_key(seed, 0, "", "shuffle")).apply(out, False)
    return out


def two_rounds(n: int, seed: int) -> np.ndarray[Any, Any]:
    a = int(np.ceil(np.sqrt(n)))
    return cycled(
        a, -(-n // a), 2, np.random.default_rng(seed).integers(0, 2**63, 2).astype(np.uint64), n
    )


def test_a_permutation_of_everything_is_as_good_as_chance() -> None:
    """A mean over 60 classes and 5 seeds; its standard error is 0.004."""
    for layout in ("sorted", "half"):
        labels = labels_of(layout)
        found = [measured_vif(labels[permute(N, seed)], BATCH) for seed in range(5)]
        assert np.mean(found) == pytest.approx((N - BATCH) / (N - 1), abs=0.02)


@pytest.mark.parametrize("n", [65_536, 65_537, 1_000_000, 1_048_576, 1_281_167])
def test_neighbours_are_as_different_as_those_of_chance(n: int) -> None:
    """Distinct values of the XOR of neighbours: what too few rounds make too few."""
    rng = np.random.default_rng(0)
    by_chance = [distinct_xors(rng.permutation(n)) for _ in range(6)]
    off = 6 * np.std(by_chance) + 60  # by chance, once in a million seeds
    for seed in range(3):
        assert abs(distinct_xors(permute(n, seed)) - np.mean(by_chance)) < off
    if n == 65_536:
        assert abs(distinct_xors(two_rounds(n, 0)) - np.mean(by_chance)) > 3 * off


def in_batches(order: np.ndarray[Any, Any], statistic: Callable[[Any], float]) -> float:
    return statistic(
        [np.unique(b).size for b in (order // CHUNK)[: order.size // 32 * 32].reshape(-1, 32)]
    )


@pytest.mark.parametrize("statistic", [np.mean, np.var])
def test_fragments_meet_in_batches_as_often_as_by_chance(statistic: Callable[[Any], float]) -> None:
    """Distinct fragments of the rows of batches of 32: their mean and their variance."""
    rng = np.random.default_rng(1)
    by_chance = [in_batches(rng.permutation(N), statistic) for _ in range(20)]
    for seed in range(5):
        found = in_batches(permute(N, seed), statistic)
        assert abs(found - np.mean(by_chance)) < 6 * np.std(by_chance)


def test_lanes_are_as_long_as_the_positions_that_are_theirs() -> None:
    for draws, lanes in ((10, 3), (3, 8), (12, 4), (1, 1)):
        wanted = [np.arange(lane, draws, lanes).size for lane in range(lanes)]
        assert np.diff(lane_starts(draws, lanes)).tolist() == wanted


def test_a_line_and_its_units_say_the_same() -> None:
    of = case("sorted", "balanced", Windows(1600))
    line: DrawLine = of.plan.draw_line()
    units = of.units()
    assert len(units) == line.draws == len(of.plan)
    assert units.classes.sum(axis=1) == pytest.approx(np.diff(units.begins))
    counts = np.bincount(of.labels[of.plan.ids()], minlength=CLASSES)
    assert units.classes.sum(axis=0) == pytest.approx(counts)
