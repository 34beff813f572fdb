"""What is loaded in which way, who takes part, and the goals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from benchmarks.loading.data import LATENCY
from benchmarks.loading.entrants import BATCH, LIMIT, NUMBERS_BATCH, THREADS, Entrant
from benchmarks.measure import OF_FLOOR, OURS

IMAGES, NUMBERS, PASSES = 2048, 500_000, 3
DEEP_LAKE: Final = "Deep Lake 4"
PILLOW: Final = "torch DataLoader, Pillow, 2 workers"
SEQUENTIAL: Final = f"{OURS}, in order"

_OURS: Final = tuple(Entrant(name, "tql", "with_tqlkit") for name in (OURS, f"{OURS}, torch"))
_STOCK: Final = tuple(
    Entrant(f"{OURS}, torch DataLoader, {n} workers", "tql", "with_tqlkit") for n in (0, 2)
)
_TORCH: Final = tuple(
    Entrant(f"torch DataLoader, {codec}, {n} workers", "torch", "with_torch")
    for codec in ("Pillow", "simplejpeg")
    for n in (0, 2)
)
_PEERS: Final = (
    Entrant("Grain", "grain", "with_grain"),
    Entrant("SPDL", "spdl", "with_spdl"),
    Entrant("SPDL, simplejpeg", "spdl", "with_spdl"),
    Entrant("Hugging Face datasets", "datasets", "with_datasets"),
    Entrant(DEEP_LAKE, "deeplake", "with_deep_lake"),
)
_LIMIT: Final = Entrant(LIMIT, "simplejpeg", "with_simplejpeg")
_ALL: Final = (_LIMIT, *_OURS, *_STOCK, *_TORCH, *_PEERS)
_OF_FILES: Final = (_LIMIT, *_OURS, *(e for e in _TORCH if e.name == PILLOW), *_PEERS)
_GOALS: Final = {LIMIT: OF_FLOOR, "Grain": 1.6, "SPDL": 2.0, PILLOW: 2.2, DEEP_LAKE: 6.0}


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of loading.

    what   the file: pictures, or numbers
    fresh  whether each pass opens the data anew, within its time
    late   whether each read of the file takes LATENCY longer
    every  whether a pass has each row once; else it has as many rows, drawn
    """

    key: str
    name: str
    entrants: tuple[Entrant, ...]
    goals: Mapping[str, float] = field(default_factory=dict)
    what: Literal["pictures", "numbers"] = "pictures"
    fresh: bool = False
    late: bool = False
    every: bool = True


def _sampled(key: str, name: str, what: Literal["pictures", "numbers"], late: bool = False) -> Task:
    """Sampled and filtered, against the rows in order; `key` is that of the way in `with_sampling`."""
    way = key.removesuffix("_late")
    both = tuple(Entrant(n, "tql", "with_sampling", f"{way} {k}")
                 for n, k in ((OURS, "sampled"), (SEQUENTIAL, "in order")))  # fmt: skip
    return Task(key, name, both, {SEQUENTIAL: OF_FLOOR}, what, late, late, every=False)


_ROW: Final = f"JPEG 480 x 640 → uint8, batches of {BATCH}, {THREADS} threads, shuffled"
_DRAWN: Final = "filtered and sampled, against all in order"
_LATE: Final = f"each read {LATENCY * 1e3:.0f} ms late"
_SMALL: Final = f"small numeric rows, batches of {NUMBERS_BATCH:,}"

TASKS: Final = (
    Task("pictures", f"{_ROW}; data opened before", _ALL, _GOALS),
    Task("pictures_file", f"{_ROW}; opened and read in each pass", _OF_FILES, _GOALS, fresh=True),
    Task("pictures_late", f"{_ROW}; opened and read in each pass, {_LATE}", _OF_FILES, _GOALS,
         fresh=True, late=True),
    _sampled("sampled", f"JPEG, {_DRAWN}; all fragments fit in memory", "pictures"),
    _sampled("sampled_late", f"JPEG, {_DRAWN}; opened in each pass, {_LATE}", "pictures", True),
    _sampled("windowed", f"JPEG, {_DRAWN}; windows, memory for 16 of 32 fragments", "pictures"),
    _sampled("windowed_late", f"JPEG, {_DRAWN}; windows, memory for 16 of 32 fragments, opened in each "
             f"pass, {_LATE}", "pictures", True),
    _sampled("numbers", f"{_SMALL}, {_DRAWN}; all fragments fit in memory", "numbers"),
    _sampled("numbers_windowed", f"{_SMALL}, {_DRAWN}; windows, memory for 16 of 32 fragments",
             "numbers"),
    _sampled("numbers_late", f"{_SMALL}, {_DRAWN}; opened in each pass, {_LATE}", "numbers", True),
)  # fmt: skip
KEYS: Final = tuple(task.key for task in TASKS)
