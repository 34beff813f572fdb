"""Orders in windows: every draw once, from few fragments at a time, for any number of ranks."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plain_kernels import run_as_python
from tests.profiles import examples
from tql import rowset
from tql.diagnostics import TqlPlanError, TqlTypeError, TqlUnsupportedError
from tql.partition import partition
from tql.planner import DrawLine, Plan, Windows, load, make_plan
from tql.planner.computing import draw_table, key_of, layout_of, order_of, sampler_of
from tql.planner.in_cells import DrawsInCells
from tql.planner.lanes import by_lane
from tql.planner.rng import Int64s
from tql.rowset import RowSet
from tql.weights import ClassWeights, RowWeights, Weights, integer_weights


def weights_of(values: np.ndarray[Any, Any], population: RowSet, by_class: bool) -> Weights:
    if not by_class:
        return RowWeights(values)
    distinct, codes = np.unique(values, return_inverse=True)
    return ClassWeights(distinct, partition(codes.astype(np.uint8), distinct.size, population))


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, np.ndarray[Any, Any] | None]:
    """A plan in windows and the weight of each row of its population; none for a plain shuffle."""
    universe = draw(st.integers(1, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random(universe) < draw(st.sampled_from([0.02, 0.5, 1.0]))
    mask[rng.integers(universe)] = True
    population = rowset.from_mask(mask)
    edges = np.sort(rng.integers(0, universe + 1, draw(st.sampled_from([0, 1, 5, 40]))))
    edges = np.concatenate([[0], edges, [universe]])
    windows = Windows(
        draw(st.sampled_from([1, 2, 7, 40, 200, 1 << 40])),
        draw(st.sampled_from([1, 2, 3, 8, 350])),
        draw(st.sampled_from([1, 2, 8])),
    )
    common: dict[str, Any] = {
        "windows": windows, "edges": edges, "shuffle": True, "seed": draw(st.integers(0, 9)),
    }  # fmt: skip
    if draw(st.integers(0, 3)) == 0:
        return make_plan(population, **common), None
    kinds = draw(st.sampled_from([[1.0], [1.0, 3.0], [0.0, 1e-9, 0.3, 7.0], [1.0, 1e12], None]))
    values = rng.lognormal(size=len(population)) if kinds is None else rng.choice(kinds, len(mask))
    values = values[: len(population)]
    values[rng.integers(values.size)] = values.max() or 1.0
    mix = draw(st.sampled_from(["iid", "epoch"]))
    replace = mix == "iid" or draw(st.booleans())
    most = 3 * universe if replace else int((values > 0).sum())
    by_class = kinds is not None and draw(st.booleans())
    plan = make_plan(
        population, weights_of(values, population, by_class), mix=mix, replace=replace,
        size=draw(st.integers(1, most)), resample=draw(st.sampled_from(["epoch", "once"])), **common,
    )  # fmt: skip
    return plan, values


Case = tuple[Plan, "np.ndarray[Any, Any] | None"]


def pass_of_draws(line: DrawLine) -> tuple[Int64s, Int64s]:
    """Fragment and pass of each draw, from the line."""
    fragment, pass_ = np.full(line.draws, -1), np.full(line.draws, -1)
    for s, (begin, end) in enumerate(zip(line.firsts[:-1].tolist(), line.firsts[1:].tolist())):
        draws = line.starts[s] + np.arange(end - begin) * line.strides[s]
        assert end > begin and (pass_[draws] == -1).all()
        fragment[draws] = line.fragment[line.unit[s]]
        pass_[draws] = line.pass_[line.unit[s]]
    assert (pass_ >= 0).all()
    return fragment, pass_


def draws_of(plan: Plan, positions: Int64s, epoch: int) -> Int64s:
    order = order_of(plan, epoch)
    assert order is not None
    draws = positions.copy()
    order.apply(draws, False)
    return draws


# -- every draw once ------------------------------------------------------------------------------


@settings(max_examples=examples(400, 10_000))
@given(plans(), st.integers(0, 3))
def test_every_draw_has_one_position(case: Case, epoch: int) -> None:
    plan, _ = case
    n = len(plan)
    draws = draws_of(plan, np.arange(n), epoch)
    assert np.array_equal(np.sort(draws), np.arange(n))
    line = plan.draw_line(epoch)
    fragment, pass_ = pass_of_draws(line)
    assert np.array_equal(line.begins, line.firsts[line.heads]) and line.draws == n
    assert (np.diff(line.unit) >= 0).all() and line.unit[-1] + 1 == line.fragment.size
    units = {*zip(line.fragment.tolist(), line.pass_.tolist())}
    assert len(units) == line.fragment.size  # a pass over a fragment is in one place
    assert plan.windows is not None and pass_.max() < plan.windows.max_passes
    ids = plan.ids(epoch)
    found = np.searchsorted(line.edges, ids, side="right") - 1
    while (beyond := line.edges[found] == line.edges[found + 1]).any():
        found -= beyond
    begins, ends = line.edges[fragment[draws]], line.edges[fragment[draws] + 1]
    assert ((begins <= ids) & (ids < ends)).all()
    some = np.random.default_rng(n).integers(0, n, 30)
    assert np.array_equal(plan.at(some, epoch=epoch), ids[some])
    assert np.array_equal(plan.draw(n // 3, n, epoch=epoch), ids[n // 3 :])


@settings(max_examples=examples(300, 5_000))
@given(plans(), st.integers(0, 3))
def test_rows_come_as_often_as_they_are_worth(case: Case, epoch: int) -> None:
    plan, values = case
    rows, ids = plan.population.to_numpy(), plan.ids(epoch)
    times = np.bincount(np.searchsorted(rows, ids), minlength=rows.size)
    assert np.array_equal(rows[np.searchsorted(rows, ids)], ids) and times.sum() == len(plan)
    if values is None:
        assert (times == 1).all()
    elif plan.mix == "iid":
        assert (times[values == 0] == 0).all()
    elif not plan.replace:
        assert times.max() == 1 and (times[values == 0] == 0).all()
    else:
        exact = integer_weights(values)
        slack = Fraction(2 * len(plan) * rows.size, 2**62)
        by_kind: dict[int, tuple[int, Fraction]] = {}
        for unit, count in zip(exact, times.tolist()):
            due = Fraction(unit * len(plan), sum(exact))
            assert abs(count - due) < 1 + slack
            have, owed = by_kind.get(unit, (0, Fraction(0)))
            by_kind[unit] = (have + count, owed + due)
        if isinstance(plan.weights, ClassWeights):
            assert all(abs(have - owed) < 1 for have, owed in by_kind.values())


@settings(max_examples=examples(150, 3_000))
@given(plans(), st.integers(0, 3))
def test_copies_are_numbered_and_in_different_passes(case: Case, epoch: int) -> None:
    plan, _ = case
    rows, copies, seeds = plan.locate(0, len(plan), epoch)
    if plan.weights is None or plan.mix == "iid":
        assert np.array_equal(copies, np.arange(len(plan)))
        return
    assert len(set(zip(rows.tolist(), copies.tolist()))) == len(set(seeds.tolist())) == len(plan)
    _, pass_ = pass_of_draws(plan.draw_line(epoch))
    passes = pass_[draws_of(plan, np.arange(len(plan)), epoch)]
    assert plan.windows is not None
    most = plan.windows.max_passes
    for row in np.unique(rows):
        of_row = passes[rows == row]
        assert sorted(copies[rows == row].tolist()) == list(range(of_row.size))
        used = np.bincount(of_row)
        # Of up to `most` copies each has a pass of its own; more are shared out evenly.
        assert np.count_nonzero(used) == min(of_row.size, most)
        assert used.max() <= -(-of_row.size // min(of_row.size, most)) + 1


@settings(max_examples=examples(150, 3_000))
@given(plans(), st.data())
def test_kernels_and_their_twins_place_the_same(case: Case, data: st.DataObject) -> None:
    plan, _ = case
    at = data.draw(st.lists(st.integers(0, len(plan) - 1), min_size=1, max_size=60))
    positions = np.array(at, np.int64)
    slow = plan.at(positions)
    again = make_again(plan)
    with pytest.MonkeyPatch.context() as patch:
        calls = run_as_python(patch)
        patch.setattr("tql.jit.Kernel.pays", lambda self, slow_ns: True)
        assert np.array_equal(again.at(positions), slow)
        assert calls["PLACE_IN_WINDOWS"] and calls["ORDER_ROWS"]


def make_again(plan: Plan) -> Plan:
    """The same plan, with nothing computed yet."""
    return make_plan(
        plan.population, plan.weights, size=plan.size, replace=plan.replace, shuffle=plan.shuffle,
        seed=plan.seed, mix=plan.mix, resample=plan.resample, edges=plan.edges,
        windows=plan.windows,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "classes", "rows", "iid classes", "iid rows"])
def test_compiled_kernels_and_twins_place_the_same(kind: str) -> None:
    plan = some_plan(kind, Windows(800, 8))
    draws = len(plan)
    for stage in (order_of(plan, 1), sampler_of(plan, plan.weights, 1) if plan.weights else None):
        if stage is not None:
            slow, fast = np.arange(0, draws, 7), np.arange(0, draws, 7)
            stage.apply(slow, False)
            stage.apply(fast, True)
            assert np.array_equal(slow, fast)


# -- fragments ------------------------------------------------------------------------------------

N = 100_000
EDGES = np.arange(0, N + 1, 200)
LABELS = np.repeat(np.arange(100), N // 100)  # sorted
EVERYTHING = rowset.everything(N)
UNEVEN = np.arange(1.0, 101.0)


def some_plan(kind: str, windows: Windows, **choices: Any) -> Plan:
    weights: Weights | None = None
    if "classes" in kind:
        weights = ClassWeights(UNEVEN, partition(LABELS.astype(np.uint8), 100, EVERYTHING))
    elif "rows" in kind:
        weights = RowWeights(0.5 + np.arange(N) * 7919 % 1009 / 500.0)
    mix = "iid" if "iid" in kind else "epoch"
    choices = {"windows": windows, "edges": EDGES, "shuffle": True, "seed": 3, **choices}
    return make_plan(EVERYTHING, weights, mix=mix, **choices)


def fetched(plan: Plan, world_size: int, batch_size: int) -> int:
    """Fragments read by all ranks. A rank keeps what the present window and the one before are of,
    in each lane that it reads. Walks every row.
    """
    assert plan.windows is not None
    length, reads = plan.windows.length, 0
    for rank in range(world_size):
        stream = plan.stream(rank=rank, world_size=world_size, batch_size=batch_size)
        positions = np.concatenate([stream.batch(i).positions for i in range(stream.batches)])
        fragments = np.searchsorted(EDGES, plan.at(positions), side="right") - 1
        lanes, windows = positions % plan.lanes, positions // plan.lanes // length
        kept: dict[int, tuple[int, set[int], set[int]]] = {}
        for lane, window, f in zip(lanes.tolist(), windows.tolist(), fragments.tolist()):
            current, now, before = kept.get(lane, (-1, set(), set()))
            if current != window:
                now, before = set(), now
            reads += f not in now and f not in before
            now.add(f)
            kept[lane] = window, now, before
    return reads


def pieces(line: DrawLine, windows: Windows) -> int:
    """Fragments to be read, from the line alone: runs of one fragment, cut by lanes."""
    base, longer = divmod(line.draws, windows.lanes)
    cuts = np.arange(windows.lanes) * base + np.minimum(np.arange(windows.lanes), longer)
    begins = line.begins[:-1][np.diff(line.fragment, prepend=-1) != 0]
    return int(np.union1d(cuts, begins).size)


@pytest.mark.parametrize(
    ("kind", "lanes", "length", "classes_exact"),
    [("plain", 1, 10_000, True), ("plain", 8, 1_600, True), ("classes", 8, 800, True),
     ("classes", 16, 800, True), ("rows", 8, 800, False), ("iid classes", 8, 800, False)],
)  # fmt: skip
def test_fragments_are_read_once_a_pass_whatever_the_world_size(
    kind: str, lanes: int, length: int, classes_exact: bool
) -> None:
    windows = Windows(length, lanes)
    plan = some_plan(kind, windows)
    line = plan.draw_line()
    units = line.fragment.size
    due = pieces(line, windows)
    assert due <= units + lanes - 1
    # A fragment of two passes close together is read once where the line reads it twice.
    reads = [fetched(plan, w, 400 // w) for w in ((1, 4, 8) if lanes > 1 else (1,))]
    assert len(set(reads)) == 1 and due - units // 50 <= reads[0] <= due, (units, due, reads)
    if kind == "plain":
        assert reads[0] == due <= 500 + lanes - 1
    if classes_exact:
        weight = UNEVEN if "classes" in kind else np.ones(100)
        counts = np.bincount(LABELS[plan.ids()], minlength=100)
        assert np.abs(counts - weight / weight.sum() * N).max() < 1


def inflation(labels: Int64s, batch: int) -> float:
    """Variance of a batch's class counts over that of a random batch (VIF)."""
    whole = labels[: labels.size // batch * batch].reshape(-1, batch)
    counts = np.stack([np.bincount(b, minlength=100) for b in whole])
    p = np.bincount(labels, minlength=100) / labels.size
    return float((counts.var(0) / (batch * p * (1 - p))).mean())


@pytest.mark.parametrize(
    ("lanes", "length", "most"),
    [(1, 10_000, 4.0), (1, 25_000, 1.8), (1, 50_000, 1.2), (1, N, 1.1), (8, 1_600, 3.6), (4, N, 1.1)],
)  # fmt: skip
def test_dealt_windows_mix_sorted_data_better_than_random_ones(
    lanes: int, length: int, most: float
) -> None:
    """Random windows of 50, 125 and 250 of 500 fragments have 5.6, 2.5 and 1.5; of all, 1.0."""
    plan = some_plan("plain", Windows(length, lanes))
    assert [e for e in range(3) if inflation(LABELS[plan.ids(e)], 256) > most] == []


@pytest.mark.parametrize("length", [500, 5_000])
def test_fragments_larger_than_a_window_are_mixed_before_they_are_cut(length: int) -> None:
    """Two fragments, each sorted: windows of one are fair samples of it."""
    plan = some_plan("plain", Windows(length), edges=np.array([0, N // 2, N]))
    labels = LABELS[plan.ids()]
    for half in (labels[: N // 2], labels[N // 2 :]):
        assert np.unique(half).size == 50
    first = np.bincount(labels[:length] % 50, minlength=50)
    assert np.abs(first - length / 50).max() < 5 * np.sqrt(length / 50)


def test_neighbouring_draws_do_not_stay_together() -> None:
    """Ten epochs of one window each: pairs of neighbours in the file are as far apart as chance."""
    plan = make_plan(
        rowset.everything(1000), shuffle=True, windows=Windows(1000), edges=np.arange(0, 1001, 50)
    )
    for epoch in range(10):
        where = np.argsort(plan.ids(epoch))
        apart = np.abs(np.diff(where))
        assert abs(apart.mean() - 1000 / 3) < 5 * np.sqrt(1000**2 / 18 / 999)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    for kind in ("plain", "classes", "rows", "iid classes"):
        plan = some_plan(kind, Windows(5_000, 2))
        a, b = plan.ids(0), plan.ids(1)
        other = some_plan(kind, Windows(5_000, 2), seed=4).ids(0)
        assert np.mean(a == b) < 0.01 and np.mean(a == other) < 0.01
        units = [plan.draw_line(e).fragment for e in (0, 1)]
        assert not np.array_equal(units[0][:100], units[1][:100])


# -- independent draws ----------------------------------------------------------------------------


@pytest.mark.parametrize("by_class", [True, False])
def test_independent_draws_stay_independent(by_class: bool) -> None:
    """1,500 epochs of 30 draws from 12 rows in windows: counts of rows, and of pairs of rows, have
    the mean and the covariance of independent draws, within 5 sigma.
    """
    values = np.array([1.0, 2.0, 5.0, 0.0] * 3)
    if not by_class:
        values[values > 0] += np.linspace(0, 0.5, 9)
    population = rowset.everything(12)
    plan = make_plan(
        population, weights_of(values, population, by_class), size=30, shuffle=True,
        edges=np.array([0, 3, 8, 12]), windows=Windows(5, 2),
    )  # fmt: skip
    epochs, p = 1500, values / values.sum()
    counts = np.stack([np.bincount(plan.ids(e), minlength=12) for e in range(epochs)])
    sigma = np.sqrt(30 * p * (1 - p) / epochs)
    assert (np.abs(counts.mean(0) - 30 * p) <= 5 * sigma).all()
    away = counts - 30 * p
    covariance = away.T @ away / epochs
    due = 30 * (np.diag(p) - np.outer(p, p))
    scale = np.sqrt((np.outer(np.diag(due), np.diag(due)) * 2 + 30 * np.outer(p, p)) / epochs)
    assert (np.abs(covariance - due) <= 5 * scale).all()
    # The same row twice in a place of the order and the next: as often as chance has it.
    first = np.stack([plan.draw(0, 2, epoch=e) for e in range(epochs)])
    assert (np.bincount(first[:, 0], minlength=12)[values == 0] == 0).all()


def test_counts_of_cells_are_those_of_the_draws_themselves() -> None:
    for kind in ("iid classes", "iid rows"):
        plan = some_plan(kind, Windows(1_000))
        made = sampler_of(plan, plan.weights, 2) if plan.weights else None
        assert isinstance(made, DrawsInCells) and made.firsts[-1] == N
        drawn = np.arange(N)
        draw_table(plan, plan.weights).apply(key_of(plan, "sample", 2), drawn, False)  # type: ignore[arg-type]
        rows = layout_of(plan)
        rows.mapper(drawn.size)(drawn)
        per_fragment = np.bincount(drawn // 200, minlength=500)
        again = np.bincount(plan.ids(2) // 200, minlength=500)
        assert np.array_equal(per_fragment, again)


# -- ranks ----------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 60), st.integers(0, 200))
def test_positions_of_a_step_lane_after_lane(lanes: int, size: int, begin: int) -> None:
    t = np.arange(begin, begin + size)
    places = np.arange(size)
    found = by_lane(np.full(size, begin), np.full(size, size), places, lanes)
    assert np.array_equal(found, t[np.lexsort((t, t % lanes))])


SMALL = make_plan(
    rowset.everything(151), shuffle=True, windows=Windows(10, 4), edges=np.append(np.arange(0, 150, 10), 151)
)  # fmt: skip


@pytest.mark.parametrize("remainder", ["short", "drop", "pad", "mask"])
@pytest.mark.parametrize(
    ("world", "batch"), [(1, 12), (2, 6), (3, 4), (4, 3), (12, 1), (5, 7), (1, 300)]
)
def test_steps_have_the_same_positions_for_any_world_size(
    world: int, batch: int, remainder: Any
) -> None:
    n, step = 151, world * batch
    for offset in (0, 5, 150, 151):
        streams = [
            SMALL.stream(1, r, world, offset, batch, remainder=remainder) for r in range(world)
        ]
        for i in range(max(s.batches for s in streams)):
            begin = offset + i * step
            parts = [s.batch(i) for s in streams if i < s.batches]
            positions = np.concatenate([p.positions[~p.pad] for p in parts])
            assert np.array_equal(np.sort(positions), np.arange(begin, min(begin + step, n)))
            assert np.array_equal(np.concatenate([p.rows for p in parts]),
                                  SMALL.at(np.concatenate([p.positions for p in parts]), epoch=1))  # fmt: skip
            if begin + step <= n and step % 4 == 0 and 4 % world == 0:
                for r, part in enumerate(parts):
                    assert {*(part.positions % 4).tolist()} == {
                        *range(r * 4 // world, (r + 1) * 4 // world)
                    }
        lengths = [len(s) for s in streams]
        assert lengths == [sum(s.batch(i).rows.size for i in range(s.batches)) for s in streams]
        if remainder != "short":
            assert len(set(lengths)) == 1


def test_a_stream_resumes_at_every_position_on_any_number_of_ranks() -> None:
    whole = SMALL.ids(4)
    for position in range(152):
        state = {"order": 1, "plan": SMALL.short, "epoch": 4, "position": position}
        for world in (1, 2, 3, 8):
            got: list[int] = []
            for r in range(world):
                stream = SMALL.stream(rank=r, world_size=world, batch_size=5)
                stream.load_state_dict(state)
                got += [row for rows in stream for row in rows.tolist()]
            assert sorted(got) == sorted(whole[position:].tolist())


def test_one_lane_changes_nothing_for_ranks() -> None:
    plan = make_plan(
        rowset.everything(90), shuffle=True, windows=Windows(20), edges=np.array([0, 40, 90])
    )
    for r in range(3):
        stream = plan.stream(rank=r, world_size=3, batch_size=4, remainder="pad")
        j = np.arange(len(stream))
        positions = np.concatenate([stream.batch(i).positions for i in range(stream.batches)])
        assert np.array_equal(positions, (j // 4 * 12 + r * 4 + j % 4) % 90)


# -- size -----------------------------------------------------------------------------------------


def test_a_plan_over_a_billion_rows_is_opened_anywhere() -> None:
    n, fragments = 10**9, 20_000
    edges = np.arange(fragments + 1) * (n // fragments)
    plan = make_plan(rowset.everything(n), shuffle=True, edges=edges, windows=Windows(5_000_000, 8))
    line = plan.draw_line(3)
    assert line.nbytes < 100 * fragments
    start = 987_654_321
    ids = plan.draw(start, start + 64, epoch=3)
    assert np.unique(ids).size == 64 and np.unique(ids // (n // fragments)).size > 30
    assert np.array_equal(ids[10:], plan.at(np.arange(start + 10, start + 64), epoch=3))


def test_more_cells_than_are_kept_apart_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tql.planner.quota.MOST_CELLS", 2_000)
    plan = some_plan("classes", Windows(1_000, 4), edges=np.arange(0, N + 1, 20))
    line = plan.draw_line()
    assert line.edges.size < 2_000 and line.edges[-1] == N and line.fragment.max() < line.edges.size
    counts = np.bincount(LABELS[plan.ids()], minlength=100)
    assert np.abs(counts - UNEVEN / UNEVEN.sum() * N).max() < 1


# -- names, files, refusals -----------------------------------------------------------------------

# "v1" of the order: another value here is another meaning of every seed.
VECTORS = {
    "plain": [29591, 81772, 82884, 89637, 93162, 21028, 74127, 75628],
    "classes": [89523, 80657, 94830, 37633, 95951, 85273, 85099, 74722],
    "rows": [5539, 95061, 22788, 72693, 10829, 1922, 40519, 3444],
    "iid classes": [94273, 96449, 99956, 65394, 66031, 54679, 32462, 93916],
    "iid rows": [79310, 67648, 20551, 19389, 91872, 56022, 59836, 77398],
}


@pytest.mark.parametrize("kind", ["plain", "classes", "rows", "iid classes", "iid rows"])
def test_the_order_is_pinned(kind: str) -> None:
    plan = some_plan(kind, Windows(800, 8), seed=7)
    assert plan.draw(50_000, 50_008, epoch=2).tolist() == VECTORS[kind]


def test_the_fingerprint_knows_windows_and_fragments() -> None:
    def made(**choices: Any) -> str:
        return make_plan(rowset.everything(100), shuffle=True, **choices).fingerprint

    edges = np.array([0, 50, 100])
    names = [
        made(), made(windows=Windows(10), edges=edges), made(windows=Windows(11), edges=edges),
        made(windows=Windows(10, 2), edges=edges), made(windows=Windows(10, 1, 4), edges=edges),
        made(windows=Windows(10), edges=np.array([0, 49, 100])),
    ]  # fmt: skip
    assert len(set(names)) == len(names) and made(edges=edges) == made()


def test_a_plan_file_tells_of_windows(tmp_path: Any) -> None:
    plan = some_plan("classes", Windows(800, 8))
    plan.save(tmp_path / "plan.json")
    kept = load(tmp_path / "plan.json")
    assert kept.verify(make_again(plan)) == ()
    assert kept.parts["windows"] == {"length": 800, "lanes": 8, "max_passes": 8}
    (line,) = kept.verify(some_plan("classes", Windows(800, 4)))
    assert line == "windows.lanes: 8 in the plan file, 4 now"


def test_what_cannot_be_is_refused() -> None:
    everything, edges = rowset.everything(10), np.array([0, 5, 10])
    weights = RowWeights(np.arange(10.0))
    windows = Windows(4)
    for bad in ({"length": 0}, {"length": 3, "lanes": 0}, {"length": 3, "max_passes": 0}):
        with pytest.raises(TqlPlanError, match="windows with"):
            Windows(**bad)
    with pytest.raises(TqlTypeError, match=r"windows: lanes 1\.5 is not a whole number"):
        Windows(3, lanes=1.5)  # type: ignore[arg-type]
    with pytest.raises(TqlTypeError, match="shuffle is False"):
        make_plan(everything, windows=windows, edges=edges)
    with pytest.raises(TqlTypeError, match="windows without fragments"):
        make_plan(everything, windows=windows, shuffle=True)
    with pytest.raises(TqlUnsupportedError, match="an order of their own"):
        make_plan(rowset.Ids(np.array([3, 1]), 10), windows=windows, shuffle=True, edges=edges)
    with pytest.raises(TqlUnsupportedError, match="mix='batch' in windows") as found:
        make_plan(
            everything, weights, mix="batch", block=2, windows=windows, shuffle=True, edges=edges
        )
    assert "mix='epoch'" in (found.value.diagnostic.help or "")
    with pytest.raises(TqlUnsupportedError, match="without replacement in windows"):
        make_plan(everything, weights, replace=False, windows=windows, shuffle=True, edges=edges)
    with pytest.raises(TqlPlanError, match="2147483649 draws in an epoch in windows"):
        make_plan(everything, weights, size=2**31 + 1, windows=windows, shuffle=True, edges=edges)
    with pytest.raises(TqlPlanError, match="has no line of draws"):
        make_plan(everything).draw_line()


def test_an_empty_population_is_an_empty_order() -> None:
    plan = make_plan(rowset.from_mask(np.zeros(9, np.bool_)), shuffle=True, windows=Windows(3),
                     edges=np.array([0, 4, 9]))  # fmt: skip
    assert plan.ids().size == 0 and plan.draw_line().draws == 0
