"""A function run by each process of a gloo group, and what it returned."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def of_ranks(work: Callable[[int, int], Any], world: int) -> list[Any]:
    """What `work(rank, world)` returns on each rank; the environment is torchrun's."""
    context = multiprocessing.get_context("spawn")
    out, port = context.Queue(), free_port()
    ranks = [context.Process(target=_run, args=(work, r, world, port, out)) for r in range(world)]
    for process in ranks:
        process.start()
    try:
        found = dict(out.get(timeout=120) for _ in ranks)
    finally:
        for process in ranks:
            process.join(60)
            process.kill()
    assert [process.exitcode for process in ranks] == [0] * world
    return [found[rank] for rank in range(world)]


def _run(work: Callable[[int, int], Any], rank: int, world: int, port: int, out: Any) -> None:
    import torch.distributed as dist

    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1",
    )  # fmt: skip
    dist.init_process_group("gloo", rank=rank, world_size=world)
    try:
        out.put((rank, work(rank, world)))
        dist.barrier()
    finally:
        dist.destroy_process_group()
