"""Deep Lake 4: a data set in a local folder, written once, that holds the same JPEGs; its batches, which
come in the order of the rows (it has no shuffling for them).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import deeplake
from deeplake import types

from benchmarks.loading.data import Files
from benchmarks.loading.entrants import BATCH, Batch, CannotTakePart, Open, Pass
from benchmarks.peers.data import Data


def _open(files: Files) -> Pass:
    if files.late:
        raise CannotTakePart("cannot: takes no file system of Arrow, nor files of others")
    folder = Data(files.images, files.folder).kept("pictures-deeplake", partial(_write, files))
    ds = deeplake.open_read_only(str(folder))

    def one_pass() -> Iterator[Batch]:
        return (Batch(b["image"], b["label"], b["id"]) for b in ds.batches(BATCH))

    return one_pass


def _write(files: Files, folder: Path) -> None:
    ds: Any = deeplake.create(str(folder))
    ds.add_column("image", types.Image(sample_compression="jpeg"))
    ds.add_column("label", types.Int64())
    ds.add_column("id", types.Int64())
    for batch in files.table().to_batches(max_chunksize=BATCH):
        ds.append(batch.to_pydict())
    ds.commit()


ENTRANTS: Final[dict[str, Open]] = {"Deep Lake 4": _open}
