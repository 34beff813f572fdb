"""Samplers in stock torch DataLoaders and in torchdata's stateful one: order, ranks, epochs, resuming."""

import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

import tql
from tql.diagnostics import TqlPlanError, TqlTypeError
from tql.planner import BatchSampler, Sampler, Windows, make_plan
from tql.rowset import from_ids
from tql.weights import RowWeights

N = 53
CHOSEN = from_ids(np.sort(np.random.default_rng(5).permutation(80)[:N]), 80)
HEAVY = RowWeights(np.arange(1.0, N + 1))
SHUFFLED = make_plan(CHOSEN, shuffle=True, seed=3)
WEIGHTED = make_plan(CHOSEN, HEAVY, seed=3)
IN_WINDOWS = make_plan(
    CHOSEN, shuffle=True, seed=3, edges=np.arange(0, 81, 10), windows=Windows(9, lanes=3)
)
PLANS = {
    "shuffled": SHUFFLED,
    "weighted": WEIGHTED,
    "in order": make_plan(CHOSEN),
    "in windows": IN_WINDOWS,
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))


class Mine(Dataset[int]):
    """Somebody's map-style data set: row i is 10 i."""

    def __len__(self) -> int:
        return 80

    def __getitem__(self, i: int) -> int:
        assert type(i) is int
        return 10 * i


def seen(loader: Any) -> list[list[int]]:
    """The rows of each batch."""
    return [[value // 10 for value in batch.tolist()] for batch in loader]


def joined(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


# -- what they give ----------------------------------------------------------------------------


@every_plan
def test_a_sampler_gives_the_epochs_of_the_plan_one_after_another(plan: tql.Plan) -> None:
    sampler, batches = plan.sampler(), plan.batch_sampler(8)
    assert (len(sampler), len(batches), batches.batch_size) == (N, 7, 8)
    for epoch in range(3):
        assert sampler.epoch == batches.epoch == epoch
        rows = plan.ids(epoch).tolist()
        assert list(sampler) == rows
        given = list(batches)
        assert [sorted(b) for b in given] == [sorted(b) for b in cut(rows, 8)]
        assert plan is IN_WINDOWS or given == cut(rows, 8)  # a step goes lane by lane


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stock_loader_gives_the_rows_of_the_plan(workers: int) -> None:
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    one = DataLoader(Mine(), batch_size=8, sampler=SHUFFLED.sampler(), **options)
    lists = DataLoader(Mine(), batch_sampler=SHUFFLED.batch_sampler(8), **options)
    assert len(one) == len(lists) == 7
    for epoch in range(3):
        wanted = cut(SHUFFLED.ids(epoch).tolist(), 8)
        assert seen(one) == seen(lists) == wanted


@every_plan
@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_ranks_together_take_the_positions_of_a_step(plan: tql.Plan, world: int) -> None:
    rows = plan.ids().tolist()
    ones = [list(plan.sampler(r, world, remainder="short")) for r in range(world)]
    for k in range(0, N, world):
        together = [one[k // world] for one in ones if k // world < len(one)]
        assert sorted(together) == sorted(rows[k : k + world])
        assert plan is IN_WINDOWS or together == rows[k : k + world]
    for size in (1, 4):
        lists = [
            list(plan.batch_sampler(size, False, r, world, remainder="drop")) for r in range(world)
        ]
        steps = N // (size * world)
        assert [len(batches) for batches in lists] == [steps] * world
        for s in range(steps):
            together = [row for batches in lists for row in batches[s]]
            wanted = rows[s * size * world : (s + 1) * size * world]
            assert sorted(together) == sorted(wanted)
            assert plan is IN_WINDOWS or together == wanted  # lanes are shared out
        streams = [plan.stream(0, r, world, 0, size, "drop") for r in range(world)]
        assert lists == [[b.tolist() for b in stream] for stream in streams]


def test_drop_last_leaves_out_what_is_no_batch_and_pad_fills_it() -> None:
    rows = SHUFFLED.ids().tolist()
    assert list(SHUFFLED.batch_sampler(8, drop_last=True)) == cut(rows, 8)[:-1]
    assert len(SHUFFLED.batch_sampler(8, drop_last=True)) == 6
    padded = [list(SHUFFLED.batch_sampler(8, rank=r, world_size=2, remainder="pad")) for r in (0, 1)]  # fmt: skip
    assert [len(batches) for batches in padded] == [4, 4]
    assert padded[1][-1] == rows[56 - N : 64 - N]


def test_large_batches_and_long_epochs_are_cut_alike() -> None:
    plan = make_plan(from_ids(np.arange(20_000), 20_000), shuffle=True, seed=1)
    rows = plan.ids().tolist()
    assert list(plan.sampler()) == rows
    for size in (3000, 4096, 5000, 50_000):
        assert list(plan.batch_sampler(size)) == cut(rows, size)


def test_an_offset_is_of_the_first_epoch_and_the_plan_knows_it() -> None:
    plan = make_plan(CHOSEN, shuffle=True, seed=3, offset=20)
    for given in (plan.sampler(), SHUFFLED.sampler(offset=20)):
        assert len(given) == 33
        assert list(given) == SHUFFLED.ids(0).tolist()[20:]
        assert list(given) == SHUFFLED.ids(1).tolist()


def test_a_pass_that_was_left_is_begun_again_and_set_epoch_pins() -> None:
    sampler = SHUFFLED.batch_sampler(8)
    next(iter(sampler))
    assert joined(list(sampler)) == SHUFFLED.ids(0).tolist()
    sampler.set_epoch(5)
    for _ in range(2):
        assert joined(list(sampler)) == SHUFFLED.ids(5).tolist()
    sampler.set_epoch(6)
    assert joined(list(sampler)) == SHUFFLED.ids(6).tolist()


def test_counting_steps_or_setting_the_epoch_late_is_enough() -> None:
    """Lightning does both: it stops after len(), and sets the epoch of an iterator it made before."""
    sampler = SHUFFLED.batch_sampler(8, offset=20)
    for epoch, start in ((0, 20), (1, 0), (2, 0)):
        steps = iter(sampler)
        given = [next(steps) for _ in range(len(sampler))]
        assert joined(given) == SHUFFLED.ids(epoch).tolist()[start:]
    late = SHUFFLED.batch_sampler(8, offset=20)
    earlier, last = iter(late), iter(late)
    late.set_epoch(5)
    assert joined(list(last)) == SHUFFLED.ids(5).tolist()[20:]
    assert joined(list(earlier)) == SHUFFLED.ids(0).tolist()[20:]
    assert joined(list(late)) == SHUFFLED.ids(5).tolist()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda p: p.sampler(2, 2), TqlPlanError),
        (lambda p: p.batch_sampler(0), TqlPlanError),
        (lambda p: p.sampler(offset=N + 1), TqlPlanError),
        (lambda p: p.sampler(remainder="mask"), TqlTypeError),
        (lambda p: p.sampler(remainder="all"), TqlPlanError),
        (lambda p: p.batch_sampler(4, drop_last="no"), TqlTypeError),
        (lambda p: p.sampler().set_epoch(-1), TqlPlanError),
        (lambda p: p.sampler().state_after(1), TqlPlanError),
    ],
)
def test_impossible_samplers_are_refused(
    make: Callable[[tql.Plan], Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        make(SHUFFLED)


# -- state -------------------------------------------------------------------------------------


def samplers(plan: tql.Plan) -> Iterator[Callable[[], Sampler | BatchSampler]]:
    yield plan.sampler
    yield lambda: plan.batch_sampler(8)
    yield lambda: plan.batch_sampler(8, drop_last=True)


@every_plan
def test_resuming_at_every_step_gives_the_same_rest(plan: tql.Plan) -> None:
    for make in samplers(plan):
        whole = make()
        states, first = [whole.state_dict()], []
        for step in whole:
            first.append(step)
            states.append(whole.state_dict())
        second = list(whole)
        for done, state in enumerate(states):
            assert len(json.dumps(state)) <= 128
            for resumed in (make(), whole):
                resumed.load_state_dict(json.loads(json.dumps(state)))
                assert resumed.state_dict() == state
                assert len(resumed) == len(first) - done
                assert list(resumed) == first[done:]
                assert list(resumed) == second


def test_the_state_of_an_iterator_is_its_own() -> None:
    sampler = SHUFFLED.sampler()
    a, b = iter(sampler), iter(sampler)
    for _ in range(5):
        next(a)
    next(b)
    assert (a.state_dict()["position"], b.state_dict()["position"]) == (5, 1)
    assert sampler.state_dict() == b.state_dict()
    assert a.state_after(3)["position"] == 3
    b.load_state_dict(a.state_dict())
    assert list(a) == list(b) == SHUFFLED.ids().tolist()[5:]
    assert sampler.epoch == 1
    assert a.state_dict() == b.state_dict() == {**sampler.state_dict(), "epoch": 0, "position": N}
    with pytest.raises(StopIteration):
        next(a)
    assert sampler.epoch == 1


def test_a_state_of_four_ranks_resumes_on_three() -> None:
    ranks = [SHUFFLED.batch_sampler(3, rank=r, world_size=4) for r in range(4)]
    iterators = [iter(sampler) for sampler in ranks]
    begun = [row for _ in range(2) for it in iterators for row in next(it)]
    (state,) = {json.dumps(sampler.state_dict()) for sampler in ranks}
    rest = []
    for rank in range(3):
        sampler = SHUFFLED.batch_sampler(3, rank=rank, world_size=3, remainder="short")
        sampler.load_state_dict(json.loads(state))
        rest.append(list(sampler))
    steps = [row for s in range(4) for batches in rest for row in joined(batches[s : s + 1])]
    assert begun + steps == SHUFFLED.ids().tolist()


def test_a_state_of_another_plan_is_refused() -> None:
    state = WEIGHTED.sampler().state_dict()
    with pytest.raises(TqlPlanError, match="another plan"):
        SHUFFLED.sampler().load_state_dict(state)
    with pytest.raises(TqlPlanError, match="another plan"):
        iter(SHUFFLED.sampler()).load_state_dict(state)


@pytest.mark.parametrize("size", [4, 11])  # of 5 batches all are asked for at once
def test_the_state_belongs_to_what_was_used_though_a_stock_loader_asks_ahead(size: int) -> None:
    sampler = SHUFFLED.batch_sampler(size)
    loader = DataLoader(Mine(), batch_sampler=sampler, num_workers=2, prefetch_factor=3)
    first = []
    for batch in loader:
        first.append([value // 10 for value in batch.tolist()])
        if len(first) == 3:
            break
    asked = sampler.state_dict()
    assert asked["epoch"] == 1 or asked["position"] > 3 * size  # asked for, not used
    state = sampler.state_after(len(first))
    assert (state["epoch"], state["position"]) == (0, 3 * size)
    resumed = SHUFFLED.batch_sampler(size)
    resumed.load_state_dict(state)
    assert first + list(resumed) == cut(SHUFFLED.ids().tolist(), size)


Make = Callable[[], StatefulDataLoader[int]]


def stateful(
    workers: int, persistent: bool, lists: bool, every: int = 1
) -> StatefulDataLoader[int]:
    options: dict[str, Any] = {
        "num_workers": workers,
        "persistent_workers": persistent,
        "snapshot_every_n_steps": every,
    }
    with warnings.catch_warnings():  # torchdata 0.11 calls a function that torch 2.13 is rid of
        warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)
        if lists:
            return StatefulDataLoader(Mine(), batch_sampler=SHUFFLED.batch_sampler(8), **options)
        return StatefulDataLoader(Mine(), batch_size=8, sampler=SHUFFLED.sampler(), **options)


@pytest.mark.parametrize("lists", [True, False], ids=["batch_sampler", "sampler"])
@pytest.mark.parametrize(
    ("workers", "persistent", "every"), [(0, False, 1), (2, False, 1), (2, True, 1), (2, False, 3)]
)
def test_a_stateful_loader_resumes_at_the_batch_that_was_handed_over(
    workers: int, persistent: bool, every: int, lists: bool
) -> None:
    wanted = [cut(SHUFFLED.ids(epoch).tolist(), 8) for epoch in range(3)]
    make = lambda: stateful(workers, persistent, lists, every)  # noqa: E731
    loader = make()
    assert seen(loader) == wanted[0]
    states, given = [], []
    for batch in loader:
        given.append([value // 10 for value in batch.tolist()])
        states.append(loader.state_dict())
    assert given == wanted[1]
    for done in (1, 2, 6, 7) if workers else range(1, 8):
        resumed = make()
        resumed.load_state_dict(pickle.loads(pickle.dumps(states[done - 1])))
        assert seen(resumed) == wanted[1][done:]
        assert seen(resumed) == wanted[2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("lists", [True, False], ids=["batch_sampler", "sampler"])
def test_a_stateful_loader_goes_on_with_the_next_epoch_after_a_whole_one(
    workers: int, lists: bool
) -> None:
    loader = stateful(workers, False, lists)
    before = loader.state_dict()
    assert seen(loader) == cut(SHUFFLED.ids(0).tolist(), 8)
    after = loader.state_dict()
    resumed = stateful(workers, False, lists)
    resumed.load_state_dict(after)
    assert seen(resumed) == cut(SHUFFLED.ids(1).tolist(), 8)
    resumed = stateful(workers, False, lists)
    resumed.load_state_dict(before)
    assert seen(resumed) == cut(SHUFFLED.ids(0).tolist(), 8)


def test_a_resumed_pass_may_be_saved_again() -> None:
    """A second resume in one epoch is where counts of batches go wrong."""
    loader = stateful(2, False, True)
    rows: list[list[int]] = []
    for taken in (2, 3):
        for batch in loader:
            rows.append([value // 10 for value in batch.tolist()])
            if len(rows) == sum((2, 3)[: (2, 3).index(taken) + 1]):
                break
        state = loader.state_dict()
        loader = stateful(2, False, True)
        loader.load_state_dict(state)
    rows += seen(loader)
    assert rows == cut(SHUFFLED.ids(0).tolist(), 8)


# -- of a chain --------------------------------------------------------------------------------


def test_the_samplers_of_a_chain_give_what_its_batches_hold() -> None:
    ds = tql.open({"id": np.arange(60) * 10, "kind": np.arange(60) % 4})
    chain = ds.query("select * where kind != 2")[5:].dataloader(seed=3)
    chain = chain.sample_by("kind + 1", size=31).offset(8).batch(4, drop_last=True)
    for rank in range(2):
        loader = chain.numpy(rank=rank, world_size=2, remainder="short")
        batches, rows = loader.batch_sampler, loader.sampler
        assert batches is loader.batch_sampler and rows is loader.sampler
        for _ in range(2):
            assert [b["index"].tolist() for b in loader] == list(batches)
        assert list(rows) == loader.plan.ids(0).tolist()[8 + rank :: 2]
        loader.batch_sampler.set_epoch(7)
        assert loader.state_dict()["epoch"] == 7
        assert [b["index"].tolist() for b in loader] == list(batches)


def test_rows_of_a_chain_are_named_as_the_data_set_names_them() -> None:
    ds = tql.open({"id": np.arange(60), "kind": np.arange(60) % 4})
    counted = ds.query("select *, row_number() as n where kind == 1").query(
        "select *, row_number() as m where n > 3"
    )
    chain = counted.dataloader(seed=3).shuffle().batch(4).numpy(remainder="mask")
    given = DataLoader(ds["id"].to_pylist(), batch_sampler=chain.batch_sampler)  # type: ignore[arg-type]
    assert [b.tolist() for b in given] == [b["id"].tolist() for b in chain]
    stock = DataLoader(ds.pytorch(), batch_sampler=chain.batch_sampler)  # type: ignore[arg-type]
    assert [b["id"].tolist() for b in stock] == [b["id"].tolist() for b in chain]
    assert torch.is_tensor(next(iter(stock))["kind"])
