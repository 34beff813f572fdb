"""Where a loader is: length, epochs, offset, ranks, and resuming from everywhere."""

import json
from typing import Any, TypeAlias

import numpy as np
import pytest

from tests.loader_fakes import FakePlan, FakeSource, loader_of, mixed
from tql.diagnostics import TqlPlanError, TqlTypeError
from tql.loader import Loader
from tql.planner import Plan, make_plan
from tql.rowset import from_ids
from tql.weights import RowWeights

N = 37
CHOSEN = from_ids(np.sort(np.random.default_rng(5).permutation(50)[:N]), 50)
HEAVY = RowWeights(np.arange(1.0, N + 1))
PLANS = {
    "of the tests": FakePlan(np.random.default_rng(5).permutation(50)[:N].astype(np.int64)),
    "shuffled": make_plan(CHOSEN, shuffle=True, seed=3),
    "weighted": make_plan(CHOSEN, HEAVY, size=N, seed=3),
}
AnyPlan: TypeAlias = FakePlan | Plan


@pytest.fixture(params=PLANS.values(), ids=list(PLANS))
def plan(request: pytest.FixtureRequest) -> AnyPlan:
    made: AnyPlan = request.param
    return made


@pytest.fixture(scope="module")
def source() -> FakeSource:
    return mixed()


def load(source: FakeSource, plan: AnyPlan, **options: Any) -> Loader:
    return loader_of(source, plan, **{"batch_size": 4, "columns": ("x",), **options})


def rows_of(loader: Loader) -> list[list[int]]:
    return [b["index"].tolist() for b in loader]


def joined(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def interleaved(ranks: list[list[list[int]]]) -> list[int]:
    """The rows of all ranks, step by step."""
    steps = range(max(map(len, ranks)))
    return [row for s in steps for batches in ranks for row in (batches[s : s + 1] or [[]])[0]]


def order_of(plan: AnyPlan, epoch: int) -> list[int]:
    return [int(row) for row in plan.ids(epoch)]


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"offset": 6}, {"num_threads": 5}])
def test_resuming_at_every_batch_gives_the_same_rest(
    source: FakeSource, plan: AnyPlan, options: dict[str, Any]
) -> None:
    whole = load(source, plan, **options)
    states = [whole.state_dict()]
    first = []
    for batch in whole:
        first.append(batch["index"].tolist())
        states.append(whole.state_dict())
    second = rows_of(whole)
    for done, state in enumerate(states):
        resumed = load(source, plan, **options)
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert resumed.state_dict() == state
        assert len(resumed) == len(first) - done
        assert rows_of(resumed) == first[done:]
        assert rows_of(resumed) == second


def test_the_state_speaks_of_the_batch_delivered_and_not_of_what_was_read_ahead(
    source: FakeSource,
    plan: AnyPlan,
) -> None:
    loader = load(source, plan, prefetch_factor=8)
    iterator = iter(loader)
    assert loader.state_dict()["position"] == 0
    next(iterator)
    next(iterator)
    assert loader.state_dict() == {"order": 1, "plan": plan.short, "epoch": 0, "position": 8}
    assert len(json.dumps(loader.state_dict())) <= 128


def test_a_pass_advances_the_epoch_and_set_epoch_pins_it(source: FakeSource, plan: AnyPlan) -> None:
    loader = load(source, plan)
    for epoch in range(3):
        assert loader.epoch == epoch
        assert joined(rows_of(loader)) == order_of(plan, epoch)
    loader.set_epoch(1)
    for _ in range(2):
        assert joined(rows_of(loader)) == order_of(plan, 1)


def test_a_pass_that_was_left_is_begun_again(source: FakeSource, plan: AnyPlan) -> None:
    loader = load(source, plan)
    next(iter(loader))
    assert loader.state_dict()["position"] == 4
    assert joined(rows_of(loader)) == order_of(plan, 0)
    assert loader.epoch == 1


def test_setting_the_epoch_of_a_loaded_state_keeps_its_position(
    source: FakeSource, plan: AnyPlan
) -> None:
    state = {"order": 1, "plan": plan.short, "epoch": 2, "position": 16}
    loader = load(source, plan)
    loader.load_state_dict(state)
    loader.set_epoch(2)
    assert joined(rows_of(loader)) == order_of(plan, 2)[16:]
    loader.load_state_dict(state)
    loader.set_epoch(3)
    assert joined(rows_of(loader)) == order_of(plan, 3)


def test_offset_holds_for_the_first_epoch_only(source: FakeSource, plan: AnyPlan) -> None:
    loader = load(source, plan, offset=10)
    assert len(loader) == 7
    assert loader.state_dict()["position"] == 10
    next(iter(loader))  # a pass that was left: the next is still the first epoch
    assert joined(rows_of(loader)) == order_of(plan, 0)[10:]
    assert len(loader) == 10
    assert joined(rows_of(loader)) == order_of(plan, 1)


def test_an_offset_at_the_end_yields_nothing_and_then_the_next_epoch(
    source: FakeSource, plan: AnyPlan
) -> None:
    loader = load(source, plan, offset=N)
    assert len(loader) == 0
    assert rows_of(loader) == []
    assert joined(rows_of(loader)) == order_of(plan, 1)


def test_drop_last_leaves_out_the_batch_that_is_not_full(source: FakeSource, plan: AnyPlan) -> None:
    loader = load(source, plan, drop_last=True)
    assert len(loader) == 9
    batches = rows_of(loader)
    assert [len(b) for b in batches] == [4] * 9
    assert joined(batches) == order_of(plan, 0)[:36]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("offset", [0, 5])
def test_ranks_partition_the_sequence(
    source: FakeSource, plan: AnyPlan, world: int, offset: int
) -> None:
    loaders = [load(source, plan, rank=r, world_size=world, offset=offset) for r in range(world)]
    assert interleaved([rows_of(loader) for loader in loaders]) == order_of(plan, 0)[offset:]


def test_a_state_of_three_ranks_resumes_on_two(source: FakeSource, plan: AnyPlan) -> None:
    three = [load(source, plan, rank=r, world_size=3) for r in range(3)]
    iterators = [iter(loader) for loader in three]
    seen = [row for _ in range(2) for it in iterators for row in next(it)["index"].tolist()]
    (state,) = {json.dumps(loader.state_dict()) for loader in three}
    two = [load(source, plan, rank=r, world_size=2, batch_size=6) for r in range(2)]
    for loader in two:
        loader.load_state_dict(json.loads(state))
    rest = interleaved([rows_of(loader) for loader in two])
    assert seen + rest == order_of(plan, 0)


def test_drop_gives_every_rank_as_many_steps(source: FakeSource, plan: AnyPlan) -> None:
    loaders = [load(source, plan, rank=r, world_size=3, remainder="drop") for r in range(3)]
    assert [len(loader) for loader in loaders] == [3, 3, 3]
    assert [[len(b) for b in rows_of(loader)] for loader in loaders] == [[4, 4, 4]] * 3


@pytest.mark.parametrize("remainder", ["pad", "mask"])
def test_padding_repeats_the_start_of_the_epoch_and_is_marked(
    source: FakeSource, plan: AnyPlan, remainder: Any
) -> None:
    loaders = [load(source, plan, rank=r, world_size=3, remainder=remainder) for r in range(3)]
    batches = [list(loader) for loader in loaders]
    rows = [r for step in zip(*batches, strict=True) for b in step for r in b["index"].tolist()]
    pads = [p for step in zip(*batches, strict=True) for b in step for p in b["_pad"].tolist()]
    assert len(rows) == 48
    assert rows == order_of(plan, 0) + order_of(plan, 0)[: 48 - N]
    assert pads == [False] * N + [True] * (48 - N)


def test_a_state_of_another_plan_or_order_is_refused_with_the_differences(
    source: FakeSource,
    plan: AnyPlan,
) -> None:
    loader = load(source, plan)
    state = {"order": 2, "plan": "plan-b", "epoch": 0, "position": 4}
    with pytest.raises(TqlPlanError) as caught:
        loader.load_state_dict(state)
    notes = [note.message for note in caught.value.diagnostic.notes]
    assert notes == [
        "order: the state has 2, here it is 1",
        f"plan: the state has 'plan-b', here it is {plan.short!r}",
    ]
    assert loader.state_dict()["position"] == 0


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"position": N + 1}, TqlPlanError),
        ({"position": -1}, TqlPlanError),
        ({"position": 1.5}, TqlPlanError),
        ({"epoch": -1}, TqlPlanError),
        ({"epoch": True}, TqlPlanError),
        ({"order": True}, TqlPlanError),
        ({"more": 1}, TqlTypeError),
    ],
)
def test_a_state_that_is_impossible_is_refused(
    source: FakeSource, plan: AnyPlan, change: dict[str, Any], kind: type[Exception]
) -> None:
    loader = load(source, plan)
    with pytest.raises(kind):
        loader.load_state_dict({**loader.state_dict(), **change})
    with pytest.raises(TqlTypeError, match="found list"):
        loader.load_state_dict([1])  # type: ignore[arg-type]


def test_an_epoch_must_be_a_number_from_zero(source: FakeSource, plan: AnyPlan) -> None:
    with pytest.raises(TqlPlanError, match="epoch is -1"):
        load(source, plan).set_epoch(-1)
    with pytest.raises(TqlTypeError, match=r"epoch is 1\.5"):
        load(source, plan).set_epoch(1.5)  # type: ignore[arg-type]


def test_two_open_iterators_do_not_mix_and_the_state_is_of_the_one_begun_last(
    source: FakeSource,
    plan: AnyPlan,
) -> None:
    loader = load(source, plan)
    a, b = iter(loader), iter(loader)
    seen_a, seen_b = [next(a)["index"].tolist() for _ in range(3)], [next(b)["index"].tolist()]
    assert seen_a[0] == seen_b[0]
    assert loader.state_dict()["position"] == 4
    list(a)
    assert loader.epoch == 0
    list(b)
    assert loader.epoch == 1


def test_an_iterator_gives_the_pass_that_was_next_when_it_was_made(
    source: FakeSource, plan: AnyPlan
) -> None:
    loader = load(source, plan, offset=10)
    waiting = iter(loader)
    assert joined(rows_of(loader)) == order_of(plan, 0)[10:]
    assert loader.state_dict() == {"order": 1, "plan": plan.short, "epoch": 1, "position": 0}
    assert joined([b["index"].tolist() for b in waiting]) == order_of(plan, 0)[10:]
    assert loader.epoch == 1


def test_an_epoch_that_is_set_before_the_first_batch_is_that_of_the_iterator_made_last(
    source: FakeSource, plan: AnyPlan
) -> None:
    loader = load(source, plan)
    earlier, last = iter(loader), iter(loader)
    loader.set_epoch(5)
    assert joined([b["index"].tolist() for b in last]) == order_of(plan, 5)
    assert joined([b["index"].tolist() for b in earlier]) == order_of(plan, 0)
    assert loader.state_dict() == {"order": 1, "plan": plan.short, "epoch": 5, "position": 0}
    with_offset = load(source, plan, offset=10)
    waiting = iter(with_offset)
    with_offset.set_epoch(3)
    assert with_offset.state_dict()["position"] == 10
    assert joined([b["index"].tolist() for b in waiting]) == order_of(plan, 3)[10:]
    assert joined(rows_of(with_offset)) == order_of(plan, 3)


def test_a_pass_whose_last_batch_was_given_is_over_though_nobody_asked_for_more(
    source: FakeSource, plan: AnyPlan
) -> None:
    loader = load(source, plan)
    for epoch in range(3):
        batches = iter(loader)
        given = [next(batches)["index"].tolist() for _ in range(len(loader))]
        assert joined(given) == order_of(plan, epoch)
        assert loader.state_dict()["epoch"] == epoch


def test_a_pass_that_began_at_a_state_and_was_left_is_begun_again_there(
    source: FakeSource, plan: AnyPlan
) -> None:
    loader = load(source, plan, offset=4)
    loader.load_state_dict({"order": 1, "plan": plan.short, "epoch": 2, "position": 16})
    next(iter(loader))
    assert loader.state_dict()["position"] == 20
    assert joined(rows_of(loader)) == order_of(plan, 2)[16:]
    assert joined(rows_of(loader)) == order_of(plan, 3)


def test_offset_is_about_the_epoch_that_is_first_and_is_spent_with_it(
    source: FakeSource, plan: AnyPlan
) -> None:
    loader = load(source, plan, offset=10)
    loader.set_epoch(3)
    assert joined(rows_of(loader)) == order_of(plan, 3)[10:]
    assert joined(rows_of(loader)) == order_of(plan, 3)
    left = load(source, plan, offset=10)
    next(iter(left))
    left.set_epoch(1)
    assert joined(rows_of(left)) == order_of(plan, 1)


def test_a_pass_that_is_under_way_does_not_move_the_epoch_that_was_set_meanwhile(
    source: FakeSource, plan: AnyPlan
) -> None:
    loader = load(source, plan)
    iterator = iter(loader)
    next(iterator)
    loader.set_epoch(4)
    assert loader.state_dict()["position"] == 0
    list(iterator)
    assert loader.state_dict() == {"order": 1, "plan": plan.short, "epoch": 4, "position": 0}
    assert joined(rows_of(loader)) == order_of(plan, 4)
