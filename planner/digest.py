"""Names for content: what a plan is made from, as short hashes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, assert_never

import numpy as np
from numpy.typing import NDArray

from tql.planner.bulk import over_blocks
from tql.rowset import Bitmap, Ids, Range, RowSet
from tql.weights import AnyWeights, ClassWeights, FragmentWeights, RowWeights

_PIECE: Final = 1 << 22  # bytes hashed by one thread at a time


def canonical(value: Any) -> str:
    """JSON with one spelling: keys sorted, no spaces, ASCII; NaN is not JSON."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def of_json(value: Mapping[str, Any]) -> str:
    """The hex digest of a JSON object."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def of_array(array: NDArray[Any]) -> str:
    """The hex digest of an array's type and bytes: a hash of the hashes of 4 MiB pieces."""
    data = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    pieces = [b""] * -(-data.size // _PIECE)

    def work(start: int, stop: int) -> None:
        pieces[start // _PIECE] = hashlib.sha256(data[start:stop].data).digest()

    over_blocks(work, data.size, _PIECE)
    whole = hashlib.sha256(f"{array.dtype.str} {array.size}\0".encode())
    whole.update(b"".join(pieces))
    return whole.hexdigest()


def of_rows(rows: RowSet) -> str:
    """The hex digest of a row set: form, universe and content."""
    match rows:
        case Range():
            return of_json({"range": [rows.start, rows.stop], "universe": rows.universe})
        case Bitmap():
            return of_json({"bitmap": of_array(rows.words), "universe": rows.universe})
        case Ids():
            return of_json({"ids": of_array(rows.ids), "universe": rows.universe})
        case _:
            assert_never(rows)


def of_weights(weights: AnyWeights) -> str:
    """The hex digest of weights: every value, and which rows have it."""
    match weights:
        case ClassWeights():
            return of_json(
                {
                    "classes": [of_rows(m) for m in weights.members],
                    "values": of_array(weights.values),
                }
            )
        case RowWeights():
            return of_json({"rows": of_array(weights.values)})
        case FragmentWeights(counts=counts, digest=units):
            return of_json({"fragments": of_array(counts), "units": units})
        case _:
            assert_never(weights)
