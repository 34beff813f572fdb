"""SPDL: a pipeline of two threads over encoded pictures in memory, which decode a batch each; with the
decoder it brings (FFmpeg's, whose libraries are the system's), and with simplejpeg.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

import numpy as np
import spdl.io
from spdl.pipeline import PipelineBuilder

from benchmarks.loading.data import Files
from benchmarks.loading.entrants import BATCH, THREADS, Batch, CannotTakePart, Open, Pass
from benchmarks.loading.with_torch import by_simplejpeg


def _by_its_own(encoded: Sequence[bytes]) -> Any:
    buffer = spdl.io.load_image_batch(encoded, width=None, height=None, pix_fmt="rgb24")
    return spdl.io.to_numpy(buffer)


def _by_simplejpeg(encoded: Sequence[bytes]) -> Any:
    return np.stack([by_simplejpeg(one) for one in encoded])


def _open(decode: Callable[[Sequence[bytes]], Any], files: Files) -> Pass:
    table = files.table()
    encoded, labels, ids = (table[n].to_pylist() for n in ("image", "label", "id"))
    _try(decode, encoded[:1])
    seeds = count()

    def load(rows: list[int]) -> Batch:
        images = decode([encoded[row] for row in rows])
        return Batch(images, [labels[row] for row in rows], [ids[row] for row in rows])

    def one_pass() -> Iterator[Batch]:
        order = np.random.default_rng(next(seeds)).permutation(len(encoded)).tolist()
        building = PipelineBuilder().add_source(order).aggregate(BATCH)
        pipeline = building.pipe(load, concurrency=THREADS).add_sink(2).build(num_threads=THREADS)
        with pipeline.auto_stop():
            yield from pipeline.get_iterator()

    return one_pass


def _try(decode: Callable[[Sequence[bytes]], Any], encoded: Sequence[bytes]) -> None:
    try:
        decode(encoded)
    except (ImportError, RuntimeError) as cause:
        raise CannotTakePart(f"missing: FFmpeg's libraries ({cause})") from cause


ENTRANTS: Final[dict[str, Open]] = {
    "SPDL": partial(_open, _by_its_own),
    "SPDL, simplejpeg": partial(_open, _by_simplejpeg),
}
