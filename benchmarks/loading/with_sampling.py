"""Ours, twice: rows filtered and drawn by weight, and all rows in their order. Both give as many rows."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import tql
from benchmarks.loading.data import GROUPS, Files
from benchmarks.loading.entrants import BATCH, NUMBERS_BATCH, THREADS, Open, Pass
from benchmarks.loading.with_tqlkit import batches, open_pictures

KEPT: Final = "select * where label != 5"
WEIGHTS: Final = "max_weight(label == 0: 1, label == 1: 4, label > 1: 2)"
_FIT: Final = 16  # fragments of GROUPS that are kept, where not all are
_IN_WINDOW: Final = 3


def _of_pictures(files: Files) -> tuple[tql.Dataset, int, int]:
    return open_pictures(files), BATCH, files.pictures.stat().st_size


def _of_numbers(files: Files) -> tuple[tql.Dataset, int, int]:
    source = tql.open(str(files.measures), filesystem=files.filesystem)
    return source, NUMBERS_BATCH, source.to_arrow().nbytes


def _open(data: Callable[[Files], tuple[tql.Dataset, int, int]], windowed: bool, sampled: bool,
          files: Files) -> Pass:  # fmt: skip
    source, batch, nbytes = data(files)
    one = nbytes // GROUPS
    # Half of the memory is for batches.
    chain: Any = source.dataloader(memory=2 * _FIT * one) if windowed else source.dataloader()
    if sampled:
        chain = chain.query(KEPT).sample_by(WEIGHTS, size=len(source))
        if windowed:
            chain = chain.shuffle(buffer_size=_IN_WINDOW * one / 1e6)
    return partial(batches, chain.batch(batch).numpy(num_threads=THREADS))


_WAYS: Final = {
    "sampled": (_of_pictures, False),
    "windowed": (_of_pictures, True),
    "numbers": (_of_numbers, False),
    "numbers_windowed": (_of_numbers, True),
}
ENTRANTS: Final[dict[str, Open]] = {
    f"{way} {what}": partial(_open, data, windowed, what == "sampled")
    for way, (data, windowed) in _WAYS.items()
    for what in ("sampled", "in order")
}
