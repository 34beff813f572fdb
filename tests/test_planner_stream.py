"""Streams: one global sequence, whatever the ranks, batches, threads and interruptions."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tql import rowset
from tql.diagnostics import TqlPlanError, TqlTypeError
from tql.planner import IndexStream, check_state, make_plan
from tql.weights import RowWeights

N = 131
PLAN = make_plan(rowset.everything(N), RowWeights(np.arange(1.0, N + 1)), seed=2)


def _interleaved(streams: list[IndexStream]) -> list[int]:
    """The batches of all ranks, step by step."""
    out: list[int] = []
    for i in range(max(s.batches for s in streams)):
        for s in streams:
            if i < s.batches:
                out += s.batch(i).rows.tolist()
    return out


def _ranks(world: int, **choices: Any) -> list[IndexStream]:
    return [PLAN.stream(rank=r, world_size=world, **choices) for r in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("batch", [1, 4, 7, 32, 256])
@pytest.mark.parametrize("offset", [0, 5, N])
def test_the_ranks_together_give_the_global_sequence(world: int, batch: int, offset: int) -> None:
    whole = PLAN.ids(1)[offset:].tolist()
    short = _ranks(world, batch_size=batch, offset=offset, epoch=1)
    assert _interleaved(short) == whole
    assert [len(s) for s in short] == [sum(b.size for b in s) for s in short]
    dropped = _ranks(world, batch_size=batch, offset=offset, epoch=1, remainder="drop")
    kept = len(whole) // (world * batch) * world * batch
    assert _interleaved(dropped) == whole[:kept]
    assert len({s.batches for s in dropped}) == 1
    for remainder in ("pad", "mask"):
        padded = _ranks(world, batch_size=batch, offset=offset, epoch=1, remainder=remainder)
        steps = -(-len(whole) // (world * batch))
        assert {s.batches for s in padded} == {steps} and {len(s) for s in padded} == {
            steps * batch
        }
        again = PLAN.ids(1).tolist() * (1 + world * batch // N)
        assert _interleaved(padded) == (whole + again)[: steps * world * batch]
        pads = [s.batch(i).pad for i in range(steps) for s in padded]
        marked = np.concatenate([np.empty(0, np.bool_), *pads])
        assert marked.tolist() == [False] * len(whole) + [True] * (marked.size - len(whole))


def test_sample_j_of_a_rank_is_where_the_rule_says() -> None:
    world, batch, offset = 3, 4, 10
    for r, s in enumerate(_ranks(world, batch_size=batch, offset=offset)):
        positions = np.concatenate([s.batch(i).positions for i in range(s.batches)])
        j = np.arange(len(s))
        exact = offset + (j // batch) * batch * world + r * batch + j % batch
        assert np.array_equal(positions, exact)


@pytest.mark.parametrize("position", range(N + 1))
def test_a_stream_resumes_at_every_position_on_any_number_of_ranks(position: int) -> None:
    whole = PLAN.ids(4).tolist()
    state = {"order": 1, "plan": PLAN.short, "epoch": 4, "position": position}
    for world in (1, 2, 3):
        streams = _ranks(world, batch_size=5)
        for s in streams:
            s.load_state_dict(state)
            assert s.position == position and s.epoch == 4
        assert _interleaved(streams) == whole[position:]


def test_a_state_taken_inside_the_loop_counts_the_batch_in_hand() -> None:
    whole = PLAN.ids().tolist()
    for stop_at in range(1, 12):
        stream, seen = PLAN.stream(batch_size=13), []
        for i, rows in enumerate(stream, start=1):
            seen += rows.tolist()
            if i == stop_at:
                break
        state = json.loads(json.dumps(stream.state_dict()))
        resumed = PLAN.stream(batch_size=13)
        resumed.load_state_dict(state)
        rest = [row for rows in resumed for row in rows.tolist()]
        assert seen + rest == whole
        # A second interruption in the same epoch, with other batches.
        twice = PLAN.stream(batch_size=2)
        twice.load_state_dict(state)
        assert [row for rows in twice for row in rows.tolist()] == rest


def test_a_stream_goes_on_from_where_its_iteration_stopped() -> None:
    stream = PLAN.stream(batch_size=10)
    batches = iter(stream)
    first = [row for _ in range(4) for row in next(batches).tolist()]
    assert first == PLAN.ids()[:40].tolist() and stream.position == 40
    rest = [row for rows in stream for row in rows.tolist()]
    assert rest == PLAN.ids()[40:].tolist() and stream.position == N
    assert list(stream) == []


def test_seeking_moves_the_origin() -> None:
    stream = PLAN.stream(batch_size=10, offset=3)
    assert stream.batches == 13 and stream.position_after(0) == 13
    stream.seek(100)
    assert stream.batches == 4 and len(stream) == 31 and stream.position_after(3) == N
    assert stream.batch(0).positions.tolist() == list(range(100, 110))


@pytest.mark.parametrize("remainder", ["short", "drop", "pad", "mask"])
@pytest.mark.parametrize("world", [1, 2, 5])
def test_the_position_after_a_batch_is_the_same_on_every_rank(remainder: Any, world: int) -> None:
    streams = _ranks(world, batch_size=6, offset=2, remainder=remainder)
    for i in range(min(s.batches for s in streams)):
        assert {s.position_after(i) for s in streams} == {min(2 + (i + 1) * 6 * world, N)}


def test_a_state_is_small_json() -> None:
    plan = make_plan(rowset.everything(10**18), shuffle=True)
    stream = plan.stream(epoch=10**6, offset=10**18)
    assert len(json.dumps(stream.state_dict()).encode()) <= 128


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (
            {"plan": "0123456789ab"},
            TqlPlanError,
            ["plan: the state has '0123456789ab', here it is"],
        ),
        ({"order": 2}, TqlPlanError, ["order: the state has 2, here it is 1"]),
        ({"order": True}, TqlPlanError, ["order: the state has True, here it is 1"]),
        ({"order": 2, "plan": "x"}, TqlPlanError, ["order: the state has 2", "plan: the state"]),
        ({"position": N + 1}, TqlPlanError, [f"position {N + 1}; expected", f"from 0 to {N}"]),
        ({"position": -1}, TqlPlanError, ["position -1; expected"]),
        ({"position": True}, TqlPlanError, ["position True; expected"]),
        ({"epoch": "1"}, TqlPlanError, ["epoch '1' and"]),
        ({"epoch": 1.0}, TqlPlanError, ["epoch 1.0 and"]),
        ({"epoch": None}, TqlTypeError, ["found ['order', 'plan', 'position'], expected"]),
        ({"rank": 3}, TqlTypeError, ["'rank'"]),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    change: dict[str, Any], kind: type[Exception], says: list[str]
) -> None:
    stream = PLAN.stream(batch_size=10, offset=20, epoch=1)
    state = {k: v for k, v in (stream.state_dict() | change).items() if v is not None}
    with pytest.raises(kind) as e:
        stream.load_state_dict(state)
    assert all(part in str(e.value) for part in says)
    assert (stream.epoch, stream.position, stream.origin) == (1, 20, 20)


@pytest.mark.parametrize("state", [None, [], "state", 3])
def test_what_is_no_dict_is_no_state(state: Any) -> None:
    with pytest.raises(TqlTypeError, match=f"found {type(state).__name__}, expected a dict"):
        check_state(state, PLAN.short, N)


def test_a_state_is_checked_against_a_plan_by_name_and_length() -> None:
    state = PLAN.stream(epoch=3, offset=5).state_dict()
    assert check_state(state, PLAN.short, N) == check_state(state, PLAN.short, 5) == (3, 5)
    with pytest.raises(TqlPlanError, match="from 0 to 4"):
        check_state(state, PLAN.short, 4)


@pytest.mark.parametrize(
    "choices",
    [
        {"batch_size": 0},
        {"rank": 2, "world_size": 2},
        {"rank": -1},
        {"world_size": 0},
        {"remainder": "wrap"},
        {"offset": N + 1},
        {"offset": -1},
        {"epoch": -1},
        {"batch_size": 2**40, "world_size": 2**22},
        {"epoch": 2**200},
    ],
)
def test_impossible_streams_are_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(TqlPlanError):
        PLAN.stream(**choices)


@pytest.mark.parametrize("name", ["epoch", "rank", "world_size", "offset", "batch_size"])
@pytest.mark.parametrize("value", [0.5, 1.0, "1", None, True, [1]])
def test_what_counts_must_be_a_whole_number(name: str, value: Any) -> None:
    with pytest.raises(TqlTypeError, match="is not a whole number"):
        PLAN.stream(**{name: value})


def test_a_position_to_seek_must_be_a_whole_number() -> None:
    with pytest.raises(TqlTypeError, match=r"position 0\.5 is not a whole number"):
        PLAN.stream().seek(0.5)  # type: ignore[arg-type]
    stream = PLAN.stream()
    stream.seek(np.int32(7))  # type: ignore[arg-type]
    assert stream.position == 7 and type(stream.position) is int


@pytest.mark.parametrize("remainder", ["short", "drop"])
def test_a_batch_far_longer_than_the_epoch_costs_what_the_epoch_costs(remainder: Any) -> None:
    stream = PLAN.stream(batch_size=2**58, rank=0, world_size=4, remainder=remainder)
    rows = [b.tolist() for b in stream]
    assert rows == ([PLAN.ids().tolist()] if remainder == "short" else [])
    assert list(PLAN.stream(batch_size=2**58, rank=3, world_size=4)) == []


def test_a_batch_beyond_the_last_is_an_index_error() -> None:
    stream = PLAN.stream(batch_size=100)
    for i in (-1, 2):
        with pytest.raises(IndexError):
            stream.batch(i)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**32))
def test_batches_may_be_asked_in_any_order_by_any_thread(batch: int, world: int, seed: int) -> None:
    plan = make_plan(rowset.everything(20_000), shuffle=True, seed=seed)
    whole = plan.ids()
    stream = plan.stream(rank=world - 1, world_size=world, batch_size=batch)
    asked = np.random.default_rng(seed).integers(0, stream.batches, 60).tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(stream.batch, asked))
    for b in found:
        assert np.array_equal(b.rows, whole[b.positions])
        assert np.array_equal(b.seeds, plan.seeds(b.rows, b.positions))
        assert np.array_equal(b.copies, b.positions)


def test_a_stream_keeps_a_bounded_number_of_batches() -> None:
    plan = make_plan(rowset.everything(10**6), shuffle=True)
    stream = plan.stream(batch_size=100)
    for i in range(0, stream.batches, 20):
        stream.batch(i)
    held = sum(b.rows.nbytes + b.seeds.nbytes + b.positions.nbytes for b in stream._groups.values())
    assert held <= 4 * 4096 * 24


def test_what_a_batch_holds_cannot_be_changed_for_others() -> None:
    stream = PLAN.stream(batch_size=10)
    with pytest.raises(ValueError, match="read-only"):
        stream.batch(0).rows[0] = 1


def test_a_short_epoch_is_repeated_as_often_as_padding_needs() -> None:
    plan = make_plan(rowset.everything(3))
    streams = [plan.stream(rank=r, world_size=2, batch_size=4, remainder="pad") for r in range(2)]
    assert streams[0].batch(0).rows.tolist() == [0, 1, 2, 0]
    assert streams[1].batch(0).rows.tolist() == [1, 2, 0, 1]
    assert streams[1].batch(0).pad.all()


def test_after_the_last_batch_every_rank_is_at_the_end() -> None:
    for s in _ranks(4, batch_size=10):
        assert sum(b.size for b in s) == len(s) and s.position == N
    for s in _ranks(4, batch_size=10, remainder="drop"):
        assert sum(b.size for b in s) == 30 and s.position == 120
