"""Positions that are left out: in streams, samplers and loaders, on any ranks, resumed anywhere."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tql
from tql.diagnostics import TqlPlanError, TqlTypeError
from tql.planner import IndexStream, Windows, make_plan
from tql.planner.skipping import left
from tql.rowset import everything
from tql.weights import RowWeights

N = 61
EDGES = np.array([0, 20, 40, N])
PLANS = {
    "shuffled": make_plan(everything(N), shuffle=True, seed=3),
    "weighted": make_plan(everything(N), RowWeights(np.arange(1.0, N + 1)), seed=2),
    "lanes": make_plan(
        everything(N), shuffle=True, seed=3, edges=EDGES, windows=Windows(9, lanes=3)
    ),
}
SHUFFLED = PLANS["shuffled"]


@st.composite
def ranges(draw: st.DrawFn, length: int = N) -> list[range]:
    """Up to four ranges that may overlap, touch, be empty, or be everything."""
    number = draw(st.integers(0, 4))
    ends = [sorted(draw(st.tuples(*[st.integers(0, length)] * 2))) for _ in range(number)]
    return [range(a, b) for a, b in ends]


def kept(skipped: list[range], start: int = 0, length: int = N) -> list[int]:
    return [t for t in range(start, length) if not any(t in gap for gap in skipped)]


def positions_of(streams: list[IndexStream]) -> list[list[int]]:
    """The positions of each step of all ranks together, padding left out."""
    steps = []
    for i in range(max(s.batches for s in streams)):
        batches = [s.batch(i) for s in streams if i < s.batches]
        steps.append([t for b in batches for t in b.positions[~b.pad].tolist()])
    return steps


# -- which positions are left ------------------------------------------------------------------


@given(ranges())
def test_positions_that_are_left_are_numbered_in_their_order(skipped: list[range]) -> None:
    wanted = kept(skipped)
    found = left(N, skipped)
    assert len(found) == len(wanted)
    assert found.positions(np.arange(len(wanted))).tolist() == wanted
    for position in range(N + 1):
        assert found.number(position) == sum(t < position for t in wanted)


@pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
@given(
    skipped=ranges(),
    start=st.integers(0, N),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    remainder=st.sampled_from(["short", "drop", "pad"]),
)
def test_ranks_share_what_is_left_step_by_step(
    plan: tql.Plan, skipped: list[range], start: int, shape: tuple[int, int], remainder: Any
) -> None:
    world, size = shape
    streams = [plan.stream(1, r, world, start, size, remainder) for r in range(world)]
    for stream in streams:
        for gap in skipped:
            stream.skip(gap)
    wanted = kept(skipped, start)
    whole = len(wanted) // (world * size)
    steps = positions_of(streams)
    lengths = [sum(s.batch(i).rows.size for i in range(s.batches)) for s in streams]
    assert lengths == [len(s) for s in streams]
    cut = [wanted[i : i + world * size] for i in range(0, len(wanted), world * size)]
    expected = cut[:whole] if remainder == "drop" else cut
    assert [sorted(step) for step in steps] == expected
    if plan.lanes == 1:
        assert steps == expected
    for stream in streams:
        rows = [stream.batch(i) for i in range(stream.batches)]
        for batch in rows:
            np.testing.assert_array_equal(batch.rows, plan.at(batch.positions, epoch=1))
        together = np.concatenate([np.empty(0, np.int64), *(b.rows for b in rows)])
        np.testing.assert_array_equal(stream.rows(0, stream.batches), together)
    if remainder == "pad" and wanted:
        again = kept(skipped)
        pads = [b.positions[b.pad] for s in streams for b in [s.batch(s.batches - 1)]]
        fill = np.concatenate(pads).tolist()
        assert sorted(fill) == sorted(again[i % len(again)] for i in range(len(fill)))


@given(ranges(), st.integers(1, 3), st.integers(1, 9))
def test_a_stream_resumes_at_every_step(skipped: list[range], world: int, size: int) -> None:
    def opened() -> IndexStream:
        stream = SHUFFLED.stream(0, world - 1, world, batch_size=size)
        for gap in skipped:
            stream.skip(gap)
        return stream

    whole = opened()
    batches, states = [], [whole.state_dict()]
    for batch in whole:
        batches.append(batch.tolist())
        states.append(whole.state_dict())
    for done, state in enumerate(states):
        resumed = opened()
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert [b.tolist() for b in resumed] == batches[done:]
    assert whole.position == N


def test_lanes_stay_with_their_ranks_before_and_behind_what_is_skipped() -> None:
    plan, step = PLANS["lanes"], 12
    for a, b in ((12, 24), (13, 26), (20, 21)):
        streams = [plan.stream(0, r, 3, batch_size=4) for r in range(3)]
        for stream in streams:
            stream.skip(range(a, b))
        for i in range(streams[0].batches - 1):
            lanes = [set((s.batch(i).positions % 3).tolist()) for s in streams]
            inside = sorted(t for s in streams for t in s.batch(i).positions.tolist())
            if inside[-1] - inside[0] == step - 1:  # no gap in it
                assert lanes == [{0}, {1}, {2}]


def test_skips_are_of_their_epoch_and_a_stream_goes_on_from_where_it_is() -> None:
    stream = SHUFFLED.stream(batch_size=5)
    stream.skip(range(50), epoch=3)
    iterator = iter(stream)
    first = [next(iterator).tolist() for _ in range(2)]
    stream.skip(range(12, 30))
    rest = [b.tolist() for b in stream]
    rows = SHUFFLED.ids().tolist()
    assert [r for b in first + rest for r in b] == rows[:12] + rows[30:]
    stream.load_state_dict({**stream.state_dict(), "epoch": 3, "position": 7})
    assert [r for b in stream for r in b.tolist()] == SHUFFLED.ids(3).tolist()[50:]


@pytest.mark.parametrize(
    ("positions", "kind"),
    [
        (range(5, 2), TqlPlanError),
        (range(-1, 2), TqlPlanError),
        (range(N + 1), TqlPlanError),
        (range(0, 10, 2), TqlTypeError),
        (slice(0, 10), TqlTypeError),
        ([1, 2], TqlTypeError),
    ],
)
def test_impossible_skips_are_refused(positions: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        SHUFFLED.stream().skip(positions)
    with pytest.raises(kind):
        len(tql.open({"id": np.arange(N)}).dataloader().skip(positions).numpy())


# -- in a chain --------------------------------------------------------------------------------


def chain(**options: Any) -> tql.DataLoader:
    ds = tql.open({"id": np.arange(N)})
    return ds.dataloader(seed=3).shuffle().batch(4).numpy(**options)


def rows_of(loader: Any) -> list[list[int]]:
    return [b["index"].tolist() for b in loader]


def test_a_loader_leaves_out_positions_of_the_epochs_that_are_named() -> None:
    plain = chain()
    loader = plain.skip(range(8, 20)).skip(range(30, 33)).skip(range(7), epoch=2)
    assert loader.plan.fingerprint == plain.plan.fingerprint
    for epoch, skipped in enumerate([[range(8, 20), range(30, 33)], [], [range(7)], []]):
        rows = plain.plan.ids(epoch)[kept(skipped)].tolist()
        assert len(loader) == -(-len(rows) // 4)
        assert rows_of(loader) == [rows[i : i + 4] for i in range(0, len(rows), 4)]


def test_a_state_that_was_taken_before_goes_on_behind_what_is_skipped() -> None:
    plain = chain()
    iterator = iter(plain)
    begun = [next(iterator)["index"].tolist() for _ in range(2)]
    state = plain.state_dict()
    loader = plain.skip(range(8, 24))
    loader.load_state_dict(state)
    rows = plain.plan.ids().tolist()
    assert [r for b in begun + rows_of(loader) for r in b] == rows[:8] + rows[24:]
    inside = plain.skip(range(4, 24))  # the state is of a position that is skipped
    inside.load_state_dict(state)
    assert [r for b in rows_of(inside) for r in b] == rows[24:]


@pytest.mark.parametrize("remainder", ["short", "drop", "pad", "mask"])
@pytest.mark.parametrize("threads", [1, 4])
def test_ranks_resume_and_their_samplers_agree(remainder: Any, threads: int) -> None:
    options = {"world_size": 3, "remainder": remainder, "num_threads": threads}
    made = [chain(rank=r, **options).skip(range(10, 41)) for r in range(3)]
    for rank, loader in enumerate(made):
        assert len(loader) == len(loader.batch_sampler)
        first, states = [], []
        for batch in loader:
            first.append(batch["index"].tolist())
            states.append(loader.state_dict())
        assert first == list(loader.batch_sampler)
        for done, state in enumerate(states, start=1):
            resumed = chain(rank=rank, **options).skip(range(10, 41))
            resumed.load_state_dict(json.loads(json.dumps(state)))
            assert rows_of(resumed) == first[done:]


def test_everything_may_be_skipped_and_the_next_epoch_comes() -> None:
    loader = chain().skip(range(N))
    assert len(loader) == 0 and rows_of(loader) == []
    assert sorted(r for b in rows_of(loader) for r in b) == list(range(N))


def test_skips_of_batches_by_quota_are_whole_batches() -> None:
    ds = tql.open({"id": np.arange(100), "rare": np.arange(100) % 10 == 0})
    made = ds.dataloader(seed=3).sample_by("max_weight(rare: 9, true: 1)", mix="batch").batch(20)
    loader = made.skip(range(20, 60)).numpy()
    assert [int(np.count_nonzero(b["rare"])) for b in loader] == [10, 10, 10]
    assert len(made.skip(range(60, 100)).numpy()) == 3
    for wrong in (range(10, 20), range(20, 30)):
        with pytest.raises(TqlPlanError, match="within a batch of 20"):
            len(made.skip(wrong).numpy())


def test_explain_tells_what_is_left_out() -> None:
    told = str(chain().skip(range(10, 41)).skip(range(1), epoch=4).explain())
    assert "epoch 0 leaves out 31 positions from 10 on" in told
    assert "epoch 4 leaves out 1 position from 0 on" in told
    assert "8 batches" in told
