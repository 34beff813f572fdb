"""Who loads what: a pass over data as batches, the same for everybody, and the check of one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from benchmarks.loading.data import HEIGHT, WIDTH, Files
from benchmarks.measure import Disagreement

BATCH: Final = 128
NUMBERS_BATCH: Final = 1024
THREADS: Final = 2
LIMIT: Final = "decoding alone"
MISSING: Final = "missing: not installed"
_LOOKED_AT: Final = 8  # pictures of a pass that are compared with Pillow's
_NEAR: Final = 1.5  # mean difference of a channel, of 255


class Batch(NamedTuple):
    """Pictures (b, height, width, 3) or (b, 3, height, width) uint8, or None; labels and row numbers."""

    images: Any
    labels: Any
    ids: Any


Pass = Callable[[], Iterable[Batch]]
"""One pass over the data, as often as it is called."""

Open = Callable[[Files], Pass]


class CannotTakePart(Exception):
    """Why an entrant has nothing for a task on this machine; it is listed with that."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """Somebody who loads.

    package  what it is imported as, to tell whether it is there
    module   of this package: its `ENTRANTS` gives an Open by key
    key      None: the name
    """

    name: str
    package: str
    module: str
    key: str | None = None

    def missing(self) -> str | None:
        """Why it does not take part; None where it does."""
        return MISSING if find_spec(self.package) is None else None

    def open(self, files: Files) -> Pass:
        """Everything that is done once; raises CannotTakePart."""
        entrants: Mapping[str, Open] = import_module(f"benchmarks.loading.{self.module}").ENTRANTS
        return entrants[self.key or self.name](files)


def check(batches: Iterable[Batch], files: Files, rows: int, every: bool) -> int:
    """`rows`, of a pass. Raises Disagreement unless it has so many, labels and pictures are those of
    their rows and, with `every`, each row comes once.
    """
    seen: list[NDArray[np.int64]] = []
    looked = 0
    stored: pa.Table | None = None
    for images, labels, ids in batches:
        numbers = _array(ids).reshape(-1).copy()
        seen.append(numbers)
        if not np.array_equal(_array(labels).reshape(-1), files.labels(numbers)):
            raise Disagreement("labels are not those of the rows")
        if images is None or looked == _LOOKED_AT:
            continue
        stored = files.table() if stored is None else stored
        first = int(numbers[0])
        _compare(_array(images[0]), stored["image"][first].as_py(), first)
        looked += 1
    found = np.concatenate(seen) if seen else np.empty(0, np.int64)
    if len(found) != rows:
        raise Disagreement(f"{len(found)} rows, not {rows}")
    if every and not np.array_equal(np.sort(found), np.arange(rows)):
        raise Disagreement(f"{rows} rows are not each once")
    return rows


def count(batches: Iterable[Batch]) -> int:
    """Rows of a pass, each batch dropped when the next one is asked for."""
    return sum(len(batch.ids) for batch in batches)


def _array(value: Any) -> NDArray[Any]:
    """A tensor or a list as an array."""
    found: NDArray[Any] = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    return found


def _compare(pixels: NDArray[Any], encoded: bytes, row: int) -> None:
    if pixels.shape == (3, HEIGHT, WIDTH):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.dtype != np.uint8 or pixels.shape != (HEIGHT, WIDTH, 3):
        raise Disagreement(f"row {row} is {pixels.dtype} {pixels.shape}")
    right = np.asarray(Image.open(BytesIO(encoded)).convert("RGB"), np.int16)
    off = float(np.abs(right - pixels).mean())
    if off > _NEAR:
        raise Disagreement(f"row {row} is {off:.1f} off Pillow's pixels on average")
