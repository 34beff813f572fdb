"""Ours: the loader with either output, and the map-style data set under a stock torch DataLoader."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import tql
from benchmarks.loading.data import Files
from benchmarks.loading.entrants import BATCH, THREADS, Batch, Open, Pass
from benchmarks.measure import OURS


def open_pictures(files: Files) -> tql.Dataset:
    """The file of pictures."""
    return tql.open(str(files.pictures), filesystem=files.filesystem)


def batches(loader: Any) -> Iterator[Batch]:
    """A pass of what has batches as dicts."""
    return (Batch(b.get("image"), b["label"], b["id"]) for b in loader)


def _numpy(files: Files) -> Pass:
    chain = open_pictures(files).dataloader().shuffle().batch(BATCH)
    return partial(batches, chain.numpy(num_threads=THREADS))


def _torch(files: Files) -> Pass:
    chain = open_pictures(files).dataloader().shuffle().batch(BATCH)
    return partial(batches, chain.pytorch(num_threads=THREADS))


def _stock(workers: int, files: Files) -> Pass:
    from benchmarks.loading.with_torch import stock

    return partial(batches, stock(open_pictures(files).pytorch(), workers))


ENTRANTS: Final[dict[str, Open]] = {
    OURS: _numpy,
    f"{OURS}, torch": _torch,
    **{f"{OURS}, torch DataLoader, {n} workers": partial(_stock, n) for n in (0, 2)},
}
