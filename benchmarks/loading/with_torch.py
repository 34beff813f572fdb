"""A stock torch DataLoader over a data set as people write it: a list of encoded pictures in memory,
one of which `__getitem__` decodes; workers are forked and stay from pass to pass.
"""

from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from typing import Any, Final

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.loading.data import Files
from benchmarks.loading.entrants import BATCH, Batch, Open, Pass


def by_pillow(encoded: bytes) -> NDArray[np.uint8]:
    """Height, width and three channels; writable, as torch wants its memory."""
    return np.array(Image.open(BytesIO(encoded)).convert("RGB"))


def by_simplejpeg(encoded: bytes) -> NDArray[np.uint8]:
    """The same by libjpeg-turbo's quick interface."""
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(encoded)
    return pixels


CODECS: Final = {"Pillow": by_pillow, "simplejpeg": by_simplejpeg}


class Pictures(Dataset[tuple[torch.Tensor, int, int]]):
    """Encoded pictures in memory."""

    def __init__(self, files: Files, decode: Callable[[bytes], NDArray[np.uint8]]) -> None:
        table = files.table()
        self.encoded: list[bytes] = table["image"].to_pylist()
        self.labels: list[int] = table["label"].to_pylist()
        self.ids: list[int] = table["id"].to_pylist()
        self.decode = decode

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int, int]:
        return torch.from_numpy(self.decode(self.encoded[at])), self.labels[at], self.ids[at]


def stock(dataset: Any, workers: int) -> Any:
    """A DataLoader that shuffles, with torch's way to start workers on Linux (this process was spawned,
    and would spawn its own).
    """
    more = {"persistent_workers": True, "multiprocessing_context": "fork"} if workers else {}
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, **more)


def _open(codec: str, workers: int, files: Files) -> Pass:
    loader = stock(Pictures(files, CODECS[codec]), workers)

    def one_pass() -> Iterator[Batch]:
        return (Batch(*batch) for batch in loader)

    return one_pass


ENTRANTS: Final[dict[str, Open]] = {
    f"torch DataLoader, {codec}, {n} workers": partial(_open, codec, n)
    for codec in CODECS
    for n in (0, 2)
}
