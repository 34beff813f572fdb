"""Grain: a map data set over encoded pictures in memory, read by two threads; it has no decoder of its
own, and decodes with simplejpeg here.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import grain

from benchmarks.loading.data import Files
from benchmarks.loading.entrants import BATCH, THREADS, Batch, Open, Pass
from benchmarks.loading.with_torch import by_simplejpeg

_AHEAD: Final = 2 * BATCH


def _open(files: Files) -> Pass:
    table = files.table()
    encoded, labels, ids = (table[n].to_pylist() for n in ("image", "label", "id"))
    reading = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=_AHEAD)
    seeds = count()

    def load(row: int) -> Any:
        return by_simplejpeg(encoded[row]), labels[row], ids[row]

    def one_pass() -> Iterator[Batch]:
        rows = grain.MapDataset.range(len(encoded)).shuffle(seed=next(seeds)).map(load)
        return (Batch(*batch) for batch in rows.to_iter_dataset(reading).batch(BATCH))

    return one_pass


ENTRANTS: Final[dict[str, Open]] = {"Grain": _open}
