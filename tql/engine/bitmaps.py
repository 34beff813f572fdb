"""Bitmaps as Arrow and row sets hold them: bit r % 64 of word r // 64, little-endian."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tql.rowset import pack


def aligned_words(buffer: Any, offset: int, rows: int) -> NDArray[np.uint64]:
    """Bits `offset` to `offset + rows` of an Arrow bitmap as uint64 words, shape (ceil(rows/64),).

    A view where the offset is a whole number of words and the buffer is padded, as Arrow's
    usually are; else a copy. Bits beyond `rows` are arbitrary.
    """
    count = (rows + 63) // 64
    if offset % 64 == 0 and buffer.size >= (offset // 64 + count) * 8:
        return np.frombuffer(buffer, np.uint64, count, offset // 8)
    octets = np.frombuffer(buffer, np.uint8)
    bits = np.unpackbits(octets, bitorder="little", count=offset + rows)
    return pack(bits[offset:].view(np.bool_))
