"""Random numbers addressed by (seed, purpose, position): no state, any order, any machine.

`random()` in a query takes its numbers here; the planner has its own keyed order.
"""

from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def random31(seed: int, site: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Uniform int64 in [0, 2^31) for each position; `site` separates the calls of one query.

    SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over a key from BLAKE2b: the position is the
    counter, so the number of a row depends on nothing but seed, call and row.
    """
    digest = blake2b(f"tql random {seed} {site}".encode(), digest_size=8).digest()
    key = np.uint64(int.from_bytes(digest, "little"))
    with np.errstate(over="ignore"):
        x = (positions.astype(np.uint64) + np.uint64(1)) * _STEP + key
        x = (x ^ (x >> np.uint64(30))) * _FIRST
        x = (x ^ (x >> np.uint64(27))) * _SECOND
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(33)).astype(np.int64)
