"""Large requests in blocks that fit the cache, on a few threads; small ones on the caller's."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tql.cpus import usable_cpus

BLOCK: Final = 1 << 16  # positions: 512 KB of int64, which a second-level cache holds
_MOST_THREADS: Final = 8


def over_blocks(work: Callable[[int, int], None], size: int, block: int = BLOCK) -> None:
    """Call `work(start, stop)` for blocks that cover 0 … size; an exception in one is raised."""
    starts = range(0, size, block)
    threads = min(usable_cpus(), _MOST_THREADS, len(starts))
    if threads <= 1:
        for start in starts:
            work(start, min(start + block, size))
        return
    # Made for this call and gone after it: nothing to close, nothing that a fork could break.
    with ThreadPoolExecutor(threads, thread_name_prefix="tql-plan") as pool:
        for done in [pool.submit(work, s, min(s + block, size)) for s in starts]:
            done.result()
