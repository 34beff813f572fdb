"""What memory gives: the speed of copying and of reading a big array, on one and two threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from benchmarks.measure import few_objects_to_collect, timed

NBYTES: Final = 1 << 28
THREADS: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes read per second, by the best run. A copy writes as many again, which do not count."""

    name: str
    threads: int
    bytes_per_second: float


def measure(
    repeats: int, nbytes: int | None = None, threads: Sequence[int] = THREADS
) -> list[Bandwidth]:
    """Copy, sum and maximum of one array of `nbytes` (NBYTES), by one thread, and by two that take a
    half each.
    """
    nbytes = NBYTES if nbytes is None else nbytes
    source = np.arange(nbytes // 8, dtype=np.int64)
    target = np.zeros_like(source)
    jobs: list[tuple[str, Callable[[slice], Any]]] = [
        ("copy", lambda part: np.copyto(target[part], source[part])),
        ("sum", lambda part: source[part].sum()),
        ("maximum", lambda part: source[part].max()),
    ]
    found = []
    with few_objects_to_collect(), ThreadPoolExecutor(max(threads)) as pool:
        for name, job in jobs:
            for count in threads:
                parts = _parts(len(source), count)
                seconds = [timed(lambda j=job, p=parts: list(pool.map(j, p)))[0]
                           for _ in range(repeats + 1)]  # fmt: skip
                found.append(Bandwidth(name, count, source.nbytes / min(seconds)))
    return found


def fastest(found: Sequence[Bandwidth]) -> Bandwidth:
    """What a scan is held against: not the copy, most often, since that has to write as well."""
    return max(found, key=lambda b: b.bytes_per_second)


def best_of(one: Sequence[Bandwidth], other: Sequence[Bandwidth]) -> list[Bandwidth]:
    """The better of two measurements of each kind."""
    return [fastest(pair) for pair in zip(one, other, strict=True)]


def _parts(items: int, threads: int) -> list[slice]:
    edges = [items * k // threads for k in range(threads + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]
