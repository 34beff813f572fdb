"""Training that is killed with all its processes, in the middle of an epoch, and goes on with fewer.

Four ranks of a gloo group read a filtered, weighted, shuffled plan from Parquet. Each writes the rows
of a step and its state behind them into a file of its own, and all meet after each step. SIGKILL ends
all of them wherever they are. What all have done is the checkpoint, as it is of a model: what some were
ahead is done again. Three ranks go on from there; row by row, what all have done together is the sequence
of the plan.
"""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql

ROWS: Final = 700
BATCH: Final = 3
PATIENCE: Final = 120.0  # seconds; only a hang takes as long


def loader_of(file: Path, mix: str, **output: Any) -> tql.DataLoader:
    loader = tql.open(file).dataloader(seed=9).query("select * where kind != 2")
    loader = loader.sample_by("max_weight(kind == 0: 5, kind == 1: 0.5, true: 1)", mix=mix)
    return loader.shuffle().batch(BATCH).pytorch(remainder="mask", **output)


def train(
    file: Path, folder: Path, mix: str, rank: int, world: int, state: dict[str, Any] | None,
    epochs: int,
) -> None:  # fmt: skip
    """One rank, in a process of its own: all epochs before `epochs`."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if Path("/sys/class/net/lo").exists():
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever networks there are
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world
    )
    loader = loader_of(file, mix, distributed=True)
    if state is not None:
        loader.load_state_dict(state)
    steps = torch.zeros(1)
    with open(folder / f"rank {rank}", "ab", buffering=0) as out:
        while loader.state_dict()["epoch"] < epochs:
            for batch in loader:
                done = {
                    "rows": batch["index"][~batch["_pad"]].tolist(),
                    "state": loader.state_dict(),
                }
                out.write(json.dumps(done).encode() + b"\n")
                dist.all_reduce(steps)
    dist.destroy_process_group()


def start(folder: Path, world: int, *args: Any) -> list[Any]:
    """The processes of `world` ranks: train(file, folder, mix, rank, world, …)."""
    file, mix, *rest = args
    folder.mkdir()
    # Not a fork of this process, whose threads it would lack, but of one that has only imported.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "tql.loader.to_torch", __name__])
    ranks = [
        context.Process(target=train, args=(file, folder, mix, rank, world, *rest))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    return ranks


def logged(folder: Path, rank: int) -> list[dict[str, Any]]:
    """The steps that a rank has written down whole."""
    path = folder / f"rank {rank}"
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def when(step: dict[str, Any]) -> tuple[int, int]:
    return step["state"]["epoch"], step["state"]["position"]


def joined(folder: Path, world: int) -> tuple[list[int], dict[str, Any]]:
    """The rows of the steps that all ranks have done, in global order, and the state behind them."""
    logs = [logged(folder, rank) for rank in range(world)]
    together = min(len(log) for log in logs)
    steps = list(zip(*(log[:together] for log in logs)))
    assert all(len({when(done) for done in step}) == 1 for step in steps)
    rows = [row for step in steps for done in step for row in done["rows"]]
    return rows, steps[-1][0]["state"]


@pytest.fixture
def no_processes_left() -> Iterator[list[Any]]:
    started: list[Any] = []
    yield started
    for process in started:
        process.kill()
        process.join(60)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize(("mix", "steps"), [("iid", 7), ("epoch", 70)])
def test_four_ranks_killed_and_three_that_go_on_give_the_whole_sequence(
    mix: str, steps: int, tmp_path: Path, no_processes_left: list[Any]
) -> None:
    file = tmp_path / "train.parquet"
    kind = np.random.default_rng(0).integers(0, 4, ROWS)
    pq.write_table(pa.table({"id": np.arange(ROWS), "kind": kind}), file, row_group_size=100)

    four = start(tmp_path / "four", 4, file, mix, None, 1_000_000)
    no_processes_left += four
    until = time.monotonic() + PATIENCE
    while len(logged(tmp_path / "four", 0)) < steps:
        assert time.monotonic() < until and all(p.is_alive() for p in four)
        time.sleep(0.001)
    for process in four:
        os.kill(process.pid, signal.SIGKILL)
    for process in four:
        process.join(60)
    assert [process.exitcode for process in four] == [-signal.SIGKILL] * 4
    seen, state = joined(tmp_path / "four", 4)
    assert len(json.dumps(state).encode()) <= 128

    last = state["epoch"] + 2  # the rest of this epoch, and one more
    three = start(tmp_path / "three", 3, file, mix, state, last)
    no_processes_left += three
    for process in three:
        process.join(PATIENCE)
    assert [process.exitcode for process in three] == [0, 0, 0]
    seen += joined(tmp_path / "three", 3)[0]
    assert len({len(logged(tmp_path / "three", rank)) for rank in range(3)}) == 1

    plan = loader_of(file, mix).plan
    assert len(plan) > 450 and state["position"] > 0
    assert seen == [row for epoch in range(last) for row in plan.ids(epoch).tolist()]
