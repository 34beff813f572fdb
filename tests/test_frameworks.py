"""Accelerate, Lightning and torch around our loaders and samplers: nothing lost, nothing twice, and
whoever would share an order out a second time is told so. Ranks are processes of a real gloo group.
"""

import os
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

import tql
from tests.processes import free_port, of_ranks
from tql.diagnostics import TqlError, TqlPlanError, TqlTypeError

pytest.importorskip("accelerate")
pytest.importorskip("lightning")

N, B = 37, 4


def chain() -> tql.DataLoader:
    return tql.open({"x": np.arange(N)}).dataloader(seed=3).shuffle().batch(B)


ORDER = [chain().plan.ids(epoch).tolist() for epoch in range(3)]


class Mine(Dataset[int]):
    """Somebody's map-style data set."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> int:
        return i


class Wrapped(IterableDataset[Any]):
    """A loader as somebody's iterable data set."""

    def __init__(self, loader: tql.DataLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        yield from self.loader


def rows(batches: Any) -> list[list[int]]:
    return [(b["index"] if isinstance(b, dict) else b).tolist() for b in batches]


def outcome(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except TqlError as e:
        return type(e), str(e)


def dealt(rank: int, world: int, order: list[int], steps: int) -> list[list[int]]:
    """The batches of a rank, by the rule of the design."""
    return [order[(s * world + rank) * B :][:B] for s in range(steps)]


# -- torch.distributed and Accelerate ----------------------------------------------------------


def accelerated(rank: int, world: int) -> dict[str, Any]:
    """Runs in each process of a group."""
    import warnings

    from accelerate import Accelerator, DataLoaderConfiguration

    os.environ["ACCELERATE_USE_CPU"] = "true"
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == world
    here: dict[str, Any] = {"rank": rank, "world_size": world}

    def prepared(**options: Any) -> Any:
        return accelerator.prepare(DataLoader(Mine(), **options))

    found: dict[str, Any] = {}
    ours = accelerator.prepare(chain().pytorch(distributed=True))
    found["ours"] = [rows(ours) for _ in range(2)]
    own = DataLoader(
        Mine(), batch_sampler=chain().plan.batch_sampler(B, rank=rank, world_size=world)
    )
    found["own share"] = rows(own)
    for name, options in (
        ("batches", {"batch_sampler": chain().plan.batch_sampler(B)}),
        ("rows", {"sampler": chain().plan.sampler(), "batch_size": B}),
    ):
        both = prepared(**options)
        found[name] = [rows(both) for _ in range(2)]
    uneven = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(even_batches=False))
    all_batches = DataLoader(Mine(), batch_sampler=chain().plan.batch_sampler(B))
    found["not even"] = rows(uneven.prepare(all_batches))
    for name, options in (
        ("batches again", {"batch_sampler": chain().plan.batch_sampler(B, **here)}),
        ("rows again", {"sampler": chain().plan.sampler(**here), "batch_size": B}),
    ):
        found[name] = outcome(lambda options=options: rows(prepared(**options)))
    # Not prepared by default: there only the first process reads, and the others would wait for it.
    alone = DataLoaderConfiguration(dispatch_batches=False)
    here_only = Accelerator(cpu=True, dataloader_config=alone)
    shared = chain().pytorch(distributed=True)
    found["iterable again"] = outcome(
        lambda: rows(here_only.prepare(DataLoader(Wrapped(shared), batch_size=1, collate_fn=only)))
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        of_all = DataLoader(Wrapped(chain().pytorch()), batch_size=1, collate_fn=only)
        found["iterable"] = rows(here_only.prepare(of_all))
        found["unmoved"] = [str(w.message) for w in told if w.category is UserWarning]
        next(iter(chain().pytorch(world_size=1)))
        found["meant"] = len(told)
        alike = chain().pytorch()
        found["alike"] = rows(alike)
        rows(alike)
        found["told"] = [str(w.message) for w in told if "same batches" in str(w.message)]
    return found


def only(samples: list[Any]) -> Any:
    (sample,) = samples
    return sample


def with_both(rank: int, world: int) -> dict[str, Any]:
    return {"accelerate": accelerated(rank, world), "lightning": fitted(rank, world)}


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return of_ranks(with_both, 2)


@pytest.fixture
def found(ranks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [of_rank["accelerate"] for of_rank in ranks]


@pytest.fixture
def fits(ranks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [of_rank["lightning"] for of_rank in ranks]


def test_our_loader_passes_through_prepare_and_shares_itself_out(
    found: list[dict[str, Any]],
) -> None:
    for rank in range(2):
        assert found[rank]["ours"] == [dealt(rank, 2, order, 4) for order in ORDER[:2]]
        assert found[rank]["own share"] == dealt(rank, 2, ORDER[0], 4)


@pytest.mark.parametrize("kind", ["batches", "rows"])
def test_accelerate_deals_out_the_batches_of_a_plan_in_its_order(
    kind: str, found: list[dict[str, Any]]
) -> None:
    for rank in range(2):
        for epoch in range(2):
            given, order = found[rank][kind][epoch], ORDER[epoch]
            assert given[:4] == dealt(rank, 2, order, 4)
            assert len(given) == 5  # the fifth is filled from the start: even_batches
    last = [row for rank in range(2) for row in found[rank][kind][0][4]]
    assert last[:5] == ORDER[0][32:]
    assert last[5:] == ORDER[0][:3]


def test_without_even_batches_accelerate_gives_every_row_once(found: list[dict[str, Any]]) -> None:
    given = [row for rank in range(2) for batch in found[rank]["not even"] for row in batch]
    assert sorted(given) == sorted(ORDER[0])


@pytest.mark.parametrize("kind", ["batches again", "rows again", "iterable again"])
def test_sharing_out_what_is_one_ranks_already_is_refused(
    kind: str, found: list[dict[str, Any]]
) -> None:
    for rank in range(2):
        error, message = found[rank][kind]
        assert error is TqlPlanError
        assert (
            f"the rows of rank {rank} of 2 already, and Accelerate shares them out again" in message
        )
        assert "without accelerator.prepare()" in message


def test_a_loader_of_all_rows_may_be_shared_out_by_accelerate(found: list[dict[str, Any]]) -> None:
    assert found[0]["unmoved"] == []
    for rank in range(2):
        assert found[rank]["iterable"][:4] == dealt(rank, 2, ORDER[0], 4)


def test_processes_that_get_the_same_batches_are_warned_once(found: list[dict[str, Any]]) -> None:
    for rank in range(2):
        assert found[rank]["alike"] == dealt(0, 1, ORDER[0], 10)
        assert found[rank]["meant"] == 0
        (told,) = found[rank]["told"]
        assert "each of the 2 processes" in told and "distributed=True" in told


def test_a_state_is_kept_by_accelerates_checkpoints(tmp_path: Path) -> None:
    from accelerate import Accelerator

    accelerator, loader = Accelerator(cpu=True), chain().pytorch()
    accelerator.register_for_checkpointing(loader)
    begun = []
    for batch in loader:
        begun.append(batch["index"].tolist())
        if len(begun) == 3:
            accelerator.save_state(str(tmp_path))
            break
    resumed = chain().pytorch()
    other = Accelerator(cpu=True)
    other.register_for_checkpointing(resumed)
    other.load_state(str(tmp_path))
    assert begun + rows(resumed) == dealt(0, 1, ORDER[0], 10)
    assert rows(resumed) == dealt(0, 1, ORDER[1], 10)


def test_a_group_is_asked_when_the_loader_is_used_and_not_before() -> None:
    early = chain().pytorch(distributed=True)
    with pytest.raises(TqlPlanError, match="init_process_group"):
        len(early)
    port = free_port()
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1
    )
    try:
        assert rows(early) == dealt(0, 1, ORDER[0], 10)
        assert "10 batches" in str(early.explain())
    finally:
        torch.distributed.destroy_process_group()


def test_a_distributed_sampler_over_a_sampler_is_refused() -> None:
    for sampler in (chain().plan.sampler(), chain().plan.batch_sampler(4)):
        with pytest.raises(TqlTypeError, match="was given a sampler"):
            DistributedSampler(sampler, num_replicas=2, rank=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_loader_can_be_sent_to_another_process_whatever_was_made_of_it(used: bool) -> None:
    for made in (chain().pytorch(), chain().numpy(rank=1, world_size=2), chain().pytorch(distributed=True)):  # fmt: skip
        if used and made.output is not None and made.output.sharing is None:
            next(iter(made))
        other = pickle.loads(pickle.dumps(made))
        assert other.plan.fingerprint == made.plan.fingerprint
        if other.output.sharing is None:
            assert rows(other) == rows(made)


# -- Lightning ---------------------------------------------------------------------------------


def module(given: Callable[[], Any]) -> Any:
    """A LightningModule that notes the rows of its batches."""
    import lightning

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 1), list[Any]()

        def training_step(self, batch: Any, step: int) -> Any:
            self.seen += rows([batch])
            return self.layer(torch.ones(1)).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01)

        def train_dataloader(self) -> Any:
            return given()

    return Model()


def trainer(callbacks: Any = (), **options: Any) -> Any:
    import lightning

    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=list(callbacks), enable_checkpointing=bool(callbacks), **options,
    )  # fmt: skip


def fitted(rank: int, world: int) -> dict[str, Any]:
    """What Lightning's Trainer did with each kind of loader; runs in each process of a group."""
    os.environ["TORCHELASTIC_RUN_ID"] = "1"  # the processes are there: it is not to start some

    def fit(given: Callable[[], Any], **options: Any) -> Any:
        model = module(given)
        run = trainer(max_epochs=2, devices=world, strategy="ddp", **options)
        return outcome(lambda: run.fit(model)) or model.seen

    def batches(**options: Any) -> Any:
        return DataLoader(Mine(), batch_sampler=chain().plan.batch_sampler(B, **options))

    def single(**options: Any) -> Any:
        return DataLoader(Mine(), batch_size=B, sampler=chain().plan.sampler(**options))

    here, off = {"rank": rank, "world_size": world}, {"use_distributed_sampler": False}
    stock: Any = chain().dataset.pytorch()
    return {
        "ours": fit(lambda: chain().pytorch(distributed=True)),
        "own share": fit(lambda: batches(**here), **off),
        "stock": fit(lambda: DataLoader(stock, batch_size=B, collate_fn=indexed)),
        "rows": fit(single),
        "rows again": fit(lambda: single(**here)),
        "batches": fit(batches),
    }


def indexed(samples: list[Any]) -> Any:
    return torch.tensor([sample["x"] for sample in samples])


@pytest.mark.parametrize("kind", ["ours", "own share"])
def test_lightning_leaves_our_share_of_the_order_as_it_is(
    kind: str, fits: list[dict[str, Any]]
) -> None:
    for rank in range(2):
        wanted = [batch for order in ORDER[:2] for batch in dealt(rank, 2, order, 4)]
        assert fits[rank][kind] == wanted


def test_lightning_shares_out_a_stock_loader_over_our_data_set(fits: list[dict[str, Any]]) -> None:
    seen = [row for rank in range(2) for batch in fits[rank]["stock"] for row in batch]
    assert set(seen) == set(range(N))
    assert len(seen) == 2 * (N + 1)  # both ranks alike in length


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("rows", "a DistributedSampler of torch is about to shuffle this order"),
        ("rows again", "a DistributedSampler of torch shares them out again"),
        ("batches", "samplers are made by plan.sampler() and plan.batch_sampler()"),
    ],
)
def test_lightning_is_not_let_to_undo_an_order(
    kind: str, message: str, fits: list[dict[str, Any]]
) -> None:
    for rank in range(2):
        error, said = fits[rank][kind]
        assert issubclass(error, TqlError)
        assert message in said and "use_distributed_sampler=False" in said


def test_a_wrapper_that_does_not_shuffle_deals_out_the_order_of_a_sampler() -> None:
    from lightning.fabric.utilities.distributed import DistributedSamplerWrapper

    for rank in range(2):
        dealer = DistributedSamplerWrapper(chain().plan.sampler(), 2, rank, shuffle=False)
        for order in ORDER[:2]:
            assert list(dealer) == [*order, order[0]][rank::2]
        with pytest.raises(TqlPlanError, match="rank 1 of 2 already"):
            DistributedSamplerWrapper(chain().plan.sampler(1, 2), 2, rank, shuffle=False)


@pytest.mark.filterwarnings("ignore")  # of Lightning
def test_lightning_resumes_a_loader_from_any_checkpoint(tmp_path: Path) -> None:
    """Within an epoch, after its last step, and at its end; a run that was not interrupted tells."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    every_fifth = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
    ends = ModelCheckpoint(tmp_path, "end-{step}", save_top_k=-1)
    whole = module(chain().pytorch)
    trainer([every_fifth, ends], max_epochs=2).fit(whole)
    wanted = [batch for order in ORDER for batch in dealt(0, 1, order, 10)]
    assert whole.seen == wanted[:20]
    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    done = [int(path.stem.split("step=")[1]) for path in checkpoints]
    assert sorted(done) == [5, 10, 10, 15, 20, 20]
    for steps, path in zip(done, checkpoints):
        resumed = module(chain().pytorch)
        trainer(max_epochs=3).fit(resumed, ckpt_path=path, weights_only=False)
        assert resumed.seen == wanted[steps:], path.name


class SamplerOfSomebody(DistributedSampler[int]):
    """A wrapper as libraries have it, in a module of their own."""

    def __init__(self, sampler: Any, *args: Any, **options: Any) -> None:
        self.sampler = sampler
        super().__init__(list(sampler), *args, **options)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        order = list(self.sampler)
        return (order[i] for i in super().__iter__())


def test_a_wrapper_of_somebody_is_seen_too() -> None:
    whole = SamplerOfSomebody(chain().plan.sampler(), 2, 0, shuffle=False)
    assert list(whole) == [*ORDER[1], ORDER[1][0]][::2]  # the second time that it is asked
    with pytest.raises(TqlPlanError, match="about to shuffle"):
        list(SamplerOfSomebody(chain().plan.sampler(), 2, 0, shuffle=True))
    with pytest.raises(TqlPlanError, match="rank 1 of 2 already"):
        SamplerOfSomebody(chain().plan.sampler(1, 2), 2, 0, shuffle=False)


def test_looking_for_callers_keeps_no_batch_alive() -> None:
    class Trainer:
        def into_a_second_epoch(self, loader: tql.DataLoader) -> list[bool]:
            last: Any = None
            for batch in loader:
                last = weakref.ref(batch["x"])
            second = iter(loader)
            batch = next(second)
            return [last() is None, len(batch) == 2]

    assert Trainer().into_a_second_epoch(chain().pytorch(world_size=1)) == [True, True]
