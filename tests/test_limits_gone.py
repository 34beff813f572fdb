"""What other loaders document as their limits, each shown to be none here.

Of Deep Lake 4: some two rows a second with `shuffle=True, num_workers=0`; workers that hang after a
fork; IterableDataset with `shuffle=True`; no shuffle in `batches`. Of its version 3: no shuffle of a
view, no sampling of one, no samplers of torch, an offset into a shuffled order that only a global
seed makes repeatable, an account for sampling. And of torch: weights for no more than 2^24 rows.
"""

import os
import random
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.loader_fakes import FakeSource, encoded, mixed, picture
from tql import images
from tql.dataset import Dataset

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
ROWS = 60


@pytest.fixture
def source() -> FakeSource:
    """Six fragments of ten rows, each with an image."""
    return mixed(ROWS)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """As many entries as images were decoded."""
    calls: list[int] = []
    really = images.decode_into

    def counted(*args: Any) -> None:
        calls.append(1)
        really(*args)

    monkeypatch.setattr(images, "decode_into", counted)
    yield calls


def numbers(batches: Any, name: str = "x") -> list[int]:
    return [int(x) for batch in batches for x in batch[name]]


# -- Deep Lake 4 -------------------------------------------------------------------------------


def test_a_shuffled_loader_without_workers_reads_a_fragment_once_and_decodes_a_row_once(
    source: FakeSource, decoded: list[int]
) -> None:
    data: Any = Dataset(source, "fake").pytorch()
    loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, num_workers=0)
    assert sorted(numbers(loader)) == list(range(ROWS))
    reads = list(source.reads)
    assert sorted(reads) == list(range(6))
    assert len(decoded) == ROWS
    assert sorted(numbers(loader)) == list(range(ROWS))
    assert source.reads == reads  # kept for the next epoch
    assert len(decoded) == 2 * ROWS


def test_a_row_that_is_drawn_again_in_a_batch_is_decoded_once(
    source: FakeSource, decoded: list[int]
) -> None:
    data: Any = Dataset(source, "fake").pytorch()
    sampler = torch.utils.data.WeightedRandomSampler([0.0] * 58 + [1.0, 1.0], 16)
    (batch,) = torch.utils.data.DataLoader(data, batch_size=16, sampler=sampler)
    assert set(batch["x"].tolist()) <= {58, 59}
    assert len(decoded) == len(set(batch["x"].tolist()))


FORKED = """
    import sys
    import torch
    import tql

    ds = tql.open(sys.argv[1])
    view = ds.query("select * where x % 3 != 0")  # compiles or not, and runs in threads
    assert len(list(view.dataloader().shuffle().batch(16).pytorch())) == 13  # threads that read and decode
    begun = iter(ds.dataloader().batch(4).pytorch(num_threads=2))
    next(begun)  # under way while the workers are forked
    loader = torch.utils.data.DataLoader(
        view.pytorch(), batch_size=16, shuffle=True, num_workers=2, multiprocessing_context="fork",
        persistent_workers=True,
    )
    for _ in range(2):
        assert sorted(x for batch in loader for x in batch["x"].tolist()) == [x for x in range(300) if x % 3]
    assert sum(len(batch["x"]) for batch in begun) == 296
    print("done")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """300 rows with an image each, in row groups of 50."""
    where = tmp_path / "pictures.parquet"
    image = pa.array([encoded(picture(i)) for i in range(300)], pa.binary())
    pq.write_table(pa.table({"x": np.arange(300), "image": image}), where, row_group_size=50)
    return where


def run(program: str, *arguments: Any, **environment: str) -> str:
    """What a program prints, in a process of its own; a hang is a failure."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(program)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [*command, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_workers_that_are_forked_while_threads_run_do_not_hang(file: Path) -> None:
    assert run(FORKED, file) == "done\n"


def test_shuffle_true_is_no_error_since_a_data_set_has_places(source: FakeSource) -> None:
    data: Any = Dataset(source, "fake").query("select * where x >= 20").pytorch()
    assert not isinstance(data, torch.utils.data.IterableDataset)
    first, second = (
        numbers(torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)) for _ in range(2)
    )
    assert sorted(first) == sorted(second) == list(range(20, ROWS))
    assert first != second


def test_batches_can_be_shuffled(source: FakeSource) -> None:
    ds = Dataset(source, "fake")
    shuffled = numbers(ds.batches(8, shuffle=True, seed=3))
    assert shuffled == numbers(ds.batches(8, shuffle=True, seed=3))
    assert sorted(shuffled) == list(range(ROWS))
    assert shuffled != numbers(ds.batches(8, shuffle=True, seed=4))
    assert numbers(ds.batches(8)) == list(range(ROWS))


# -- Deep Lake 3 -------------------------------------------------------------------------------


def test_a_view_is_shuffled(source: FakeSource) -> None:
    view = Dataset(source, "fake").query("select * where x % 2 == 0")[5:].query("select * limit 20")
    chain = view.dataloader(seed=3).shuffle().batch(6)
    order = numbers(chain.pytorch())
    assert sorted(order) == list(range(10, 50, 2))
    assert order != sorted(order)


def test_a_view_is_sampled_and_a_sample_is_viewed(source: FakeSource) -> None:
    ds = Dataset(source, "fake")
    view = ds.query("select * where x < 30")
    weights = "max_weight(x >= 25: 1, true: 0)"
    drawn = numbers(view.dataloader(seed=3).sample_by(weights, size=40).batch(8).pytorch())
    assert len(drawn) == 40 and set(drawn) == set(range(25, 30))
    again = view.sample_by(weights, size=40).query("select * where x > 27")
    assert set(numbers(again.dataloader().batch(8).pytorch())) == {28, 29}


def test_samplers_of_torch_draw_from_a_data_set(source: FakeSource) -> None:
    data: Any = Dataset(source, "fake").pytorch()
    samplers = torch.utils.data
    weighted = samplers.WeightedRandomSampler([1.0] * 10 + [0.0] * 50, 20)
    loader = samplers.DataLoader(data, batch_size=4, sampler=weighted)
    drawn = numbers(loader)
    assert len(drawn) == 20 and set(drawn) <= set(range(10))
    some = samplers.SubsetRandomSampler([3, 5, 59])
    assert sorted(numbers(samplers.DataLoader(data, batch_size=2, sampler=some))) == [3, 5, 59]


OFFSET = """
    import sys, numpy as np, torch, random, tql
    np.random.seed(int(sys.argv[1])); torch.manual_seed(int(sys.argv[1])); random.seed(int(sys.argv[1]))
    loader = tql.open({"x": np.arange(60)}).dataloader().shuffle().offset(int(sys.argv[2])).batch(7).pytorch()
    print(*[x for batch in loader for x in batch["x"].tolist()])
"""


def test_an_offset_into_a_shuffled_order_needs_no_seed_of_the_program() -> None:
    whole = numbers(tql.open({"x": np.arange(60)}).dataloader().shuffle().batch(7).pytorch())
    assert sorted(whole) == list(range(60))
    assert list(map(int, run(OFFSET, 2, 23).split())) == whole[23:]


def test_a_seed_of_the_program_does_not_reach_an_order(source: FakeSource) -> None:
    ds = Dataset(source, "fake")
    orders = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            orders.append(numbers(ds.dataloader().shuffle().offset(5).batch(7).pytorch()))
    assert orders[0] == orders[1]


OFFLINE = """
    import socket, sys

    def refuse(*_, **__):
        raise AssertionError("something wants the network")

    socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
    import tql

    ds = tql.open(sys.argv[1])
    loader = ds.dataloader().query("select * where x > 5").sample_by("max_weight(x > 200: 5, true: 1)")
    print(sum(len(batch["x"]) for batch in loader.shuffle().batch(32).pytorch()))
"""


def test_sampling_needs_no_account_no_network_and_no_home(file: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "no home"
    assert run(OFFLINE, file, HOME=str(nowhere)) == "294\n"
    assert not nowhere.exists()


# -- torch -------------------------------------------------------------------------------------


def test_weights_reach_rows_beyond_2_to_the_24() -> None:
    rows, tail = 2**24 + 1000, 10
    weights = np.zeros(rows, np.float32)
    weights[-tail:] = np.arange(1, tail + 1)
    with pytest.raises(RuntimeError, match=r"2\^24"):
        list(torch.utils.data.WeightedRandomSampler(torch.from_numpy(weights), 1))
    ds = tql.open({"rare": weights > 0})
    for by in (weights, "max_weight(rare: 1, true: 0)"):
        chain = ds.dataloader(seed=3).sample_by(by, size=2000).batch(500)
        drawn = np.concatenate([batch["index"].numpy() for batch in chain.pytorch()])
        assert np.unique(drawn).tolist() == list(range(rows - tail, rows))
    heaviest, lightest = (drawn == rows - 1).sum(), (drawn == rows - tail).sum()
    assert abs(int(heaviest) - int(lightest)) < 150  # 200 each: by class, all weigh the same
