"""Bitmaps: row r is bit r % 64 of word r // 64, little-endian, as Arrow's bitmaps are.

Packing, joining, expanding and ranking them, and the kernels that do it for large ones.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.jit import CALL_NS, Kernel, device, kernel

Int64s: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]

assert sys.byteorder == "little", "bitmaps are read as little-endian bytes"

BLOCK_WORDS: Final = 32  # words per entry of the rank directory: 64 bits on 2,048, 3.1 %
ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_FEW: Final = 20  # up to one row in so many, members are found faster by words than by rows
LOW: Final = np.array([(1 << b) - 1 for b in range(64)], np.uint64)
_SELECT_IN_BYTE: Final = np.argsort(
    1 - np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"),
    axis=1,
    kind="stable",
).astype(np.int64)


_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_TWO: Final = np.uint64(2)
_FOUR: Final = np.uint64(4)
_FIFTY_SIX: Final = np.uint64(56)
_PAIRS: Final = np.uint64(0x5555555555555555)
_QUADS: Final = np.uint64(0x3333333333333333)
_OCTETS: Final = np.uint64(0x0F0F0F0F0F0F0F0F)
_ONES: Final = np.uint64(0x0101010101010101)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory, not to be written through what is returned."""
    view = array.view()
    view.flags.writeable = False
    return view


def pack(mask: NDArray[np.bool_]) -> Words:
    """Bool (n,) as bits, uint64 (⌈n / 64⌉,)."""
    octets = np.packbits(mask, bitorder="little")
    padded = np.zeros(-(-mask.size // 64) * 8, np.uint8)
    padded[: octets.size] = octets
    return padded.view(np.uint64)


def unpack(words: Words, rows: int) -> NDArray[np.bool_]:
    """bool (rows,): each bit as an element; `pack` the other way round."""
    return np.unpackbits(words.view(np.uint8), count=rows, bitorder="little").view(np.bool_)


def pays(loop: Kernel, twin_ns: float) -> bool:
    """Whether to call the kernel: `Kernel.pays`, but it is not looked for on disk, which takes 0.1 ms,
    for less than a call of it costs.
    """
    return twin_ns > CALL_NS and loop.pays(twin_ns)


def expand(words: Words, base: int, members: int) -> Int64s:
    """Row ids, int64 (members,), of the `members` bits set in `words`; bit 0 is row `base`."""
    # 10 M rows, of which 1 % are members: 0.3 ms, the twins 1.4 and 2.8; 10 %: 1.5, 12 and 9.
    few = members * _FEW < 64 * words.size
    if pays(
        EXPAND, 2.0 * words.size + 12.0 * members if few else 32.0 * words.size + 3.0 * members
    ):
        out = np.empty(members, np.int64)
        EXPAND(np.ascontiguousarray(words), base, out)
        return out
    return expand_few(words, base) if few else expand_twin(words, base)


def expand_twin(words: Words, base: int) -> Int64s:
    """What `EXPAND` writes."""
    parts = [
        np.flatnonzero(
            np.unpackbits(words[a : a + 65_536].view(np.uint8), bitorder="little").view(np.bool_)
        )
        + (base + 64 * a)
        for a in range(0, words.size, 65_536)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def expand_few(words: Words, base: int) -> Int64s:
    """What `EXPAND` writes, word by word that is not 0: the lowest bit of each, the next of those
    that have one, and so on.
    """
    at = np.flatnonzero(words)
    left, rows = words[at], at * 64 + base
    upto = np.bitwise_count(left).cumsum(dtype=np.int64)
    place = upto - np.bitwise_count(left)
    out = np.empty(int(upto[-1]) if upto.size else 0, np.int64)
    while left.size:
        out[place] = rows + np.bitwise_count((left - _ONE) & ~left)
        left = left & (left - _ONE)
        more = np.flatnonzero(left)
        left, rows, place = left[more], rows[more], place[more] + 1
    return out


def select_twin(words: Words, ranks: Int64s, ks: Int64s) -> Int64s:
    """What `SELECT` writes."""
    out = np.empty(ks.size, np.int64)
    for a in range(0, ks.size, 4096):
        k = ks[a : a + 4096]
        block = np.searchsorted(ranks, k, side="right") - 1
        rest = k - ranks[block]
        grid = block[:, None] * BLOCK_WORDS + np.arange(BLOCK_WORDS)
        word, rest = _descend(np.bitwise_count(words_at(words, grid)), rest)
        word += block * BLOCK_WORDS
        octets = words[word].view(np.uint8).reshape(-1, 8)
        octet, rest = _descend(np.bitwise_count(octets), rest)
        bit = _SELECT_IN_BYTE[octets[np.arange(k.size), octet], rest]
        out[a : a + 4096] = word * 64 + octet * 8 + bit
    return out


def _descend(counts: NDArray[np.uint8], rest: Int64s) -> tuple[Int64s, Int64s]:
    """Per line of counts (n, m): the part that holds bit number `rest`, and its number there."""
    upto = counts.cumsum(axis=1, dtype=np.int64)
    part = (upto <= rest[:, None]).sum(axis=1)
    return part, rest - np.where(part > 0, upto[np.arange(rest.size), part - 1], 0)


def mark_twin(codes: NDArray[np.uint8], first: Int64s, size: int, marks: Words) -> None:
    """What `MARK` writes."""
    for start in np.unique(first).tolist():
        here = np.flatnonzero(first == start)
        # A comparison takes 0.1 ns a row, a look-up 1.5.
        hit = codes == int(here[0]) if here.size == 1 else (first == start)[codes]
        marks[start : start + size] |= pack(hit)


def words_at(words: Words, at: Int64s) -> Words:
    """`words[at]`, zero beyond the end."""
    if words.size == 0:
        return np.zeros(at.shape, np.uint64)
    found = words[np.minimum(at, words.size - 1)]
    found[at >= words.size] = 0
    return found


def low_bits(bits: int) -> np.uint64:
    return np.uint64(LOW[bits])


def ranks_of(words: Words, start: int = 0, stop: int | None = None) -> Int64s:
    """Members before each block of 2,048 rows, then all of them: int64 (⌈words / 32⌉ + 1,).

    Words before `start` and from `stop` on are known to be zero, and not looked at.
    """
    ranks = np.empty(-(-words.size // BLOCK_WORDS) + 1, np.int64)
    first = start // BLOCK_WORDS
    last = -(-(words.size if stop is None else stop) // BLOCK_WORDS)
    part = words[first * BLOCK_WORDS : last * BLOCK_WORDS]
    ranks[:first] = 0
    # 10 M rows: 0.02 ms, the twin 0.14.
    if pays(RANKS, 0.9 * part.size):
        RANKS(np.ascontiguousarray(part), ranks[first : last + 1])
    else:
        ranks_twin(part, ranks[first : last + 1])
    ranks[last + 1 :] = ranks[last]
    return ranks


def ranks_twin(words: Words, ranks: Int64s) -> None:
    """What `RANKS` writes."""
    ranks[0] = 0
    counts = np.bitwise_count(words)
    step = 1024  # blocks at a time: NumPy widens all counts before it adds them
    for block in range(0, ranks.size - 1, step):
        part = counts[block * BLOCK_WORDS : (block + step) * BLOCK_WORDS]
        starts = np.arange(0, part.size, BLOCK_WORDS)
        np.add.reduceat(part, starts, dtype=np.int64, out=ranks[block + 1 :][: starts.size])
    np.cumsum(ranks, out=ranks)


def first_and_last(words: Words, ranks: Int64s) -> tuple[int, int]:
    """The first and the last row of a set that has some."""
    block = int(np.searchsorted(ranks, 0, side="right")) - 1
    start = block * BLOCK_WORDS
    part = words[start : start + BLOCK_WORDS]
    at = int((part != 0).argmax())
    low = int(part[at])
    first = (start + at) * 64 + (low & -low).bit_length() - 1
    block = int(np.searchsorted(ranks, ranks[-1], side="left")) - 1
    start = block * BLOCK_WORDS
    at = start + int(np.flatnonzero(words[start : start + BLOCK_WORDS])[-1])
    return first, at * 64 + int(words[at]).bit_length() - 1


class BitWriter:
    """A bitmap of `rows` rows that is written in parts, by several threads at once.

    Each word is written once, by the part in which it begins; where a part begins within a word,
    its first bits are kept until `finish`. So nothing is cleared, locked or copied beforehand.

    blank  parts that are all zero may be left out: the system hands out zeros, and has no memory
           for them until they are looked at
    """

    __slots__ = ("_edges", "words")

    def __init__(self, rows: int, *, blank: bool = False) -> None:
        made = np.zeros if blank else np.empty
        self.words: Final[Words] = made(-(-rows // 64), np.uint64)
        self._edges: Final[list[tuple[int, np.uint64]]] = []

    def place(self, start: int, rows: int) -> Words | None:
        """The words of rows `start` to `start + rows`, to be written, unused bits zero; None where
        they begin within a word: then they have to be `put`.
        """
        return self.words[start // 64 : -(-(start + rows) // 64)] if start % 64 == 0 else None

    def put(self, start: int, rows: int, part: Words) -> None:
        """Write `part`, uint64 (⌈rows / 64⌉,), unused bits zero."""
        assert part.shape == (-(-rows // 64),) and part.dtype == np.uint64
        assert not rows % 64 or not part[-1] >> np.uint64(rows % 64), "an unused bit is set"
        own = self.words[-(-start // 64) : -(-(start + rows) // 64)]
        up = np.uint64(start % 64)
        if not rows or not up:
            own[:] = part
            return
        self._edges.append((start // 64, part[0] << up))
        np.right_shift(part[: own.size], np.uint64(64) - up, out=own)
        rest = part[1:]
        own[: rest.size] |= rest << up

    def fill(self, start: int, rows: int) -> None:
        """Write so many bits that are set."""
        stop = start + rows
        self.words[-(-start // 64) : -(-stop // 64)] = ALL
        if start % 64:
            edge = ~low_bits(start % 64)
            if start // 64 == stop // 64:
                edge &= low_bits(stop % 64)
            self._edges.append((start // 64, edge))
        if stop % 64 and -(-start // 64) <= stop // 64:
            self.words[stop // 64] = low_bits(stop % 64)

    def finish(self) -> Words:
        """The bitmap, once every row is written."""
        for at, bits in self._edges:
            self.words[at] |= bits
        self._edges.clear()
        return self.words


def join_bits(parts: Sequence[tuple[Words, int]]) -> Words:
    """One bitmap after another: each part is (uint64 (⌈rows / 64⌉,), rows), unused bits zero."""
    writer = BitWriter(sum(rows for _, rows in parts))
    at = 0
    for words, rows in parts:
        writer.put(at, rows, words)
        at += rows
    return writer.finish()


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


@device
def popcount(x: np.uint64) -> np.uint64:
    """The number of bits set; this shape of it is what LLVM knows as one instruction."""
    x = x - ((x >> _ONE) & _PAIRS)
    x = (x & _QUADS) + ((x >> _TWO) & _QUADS)
    x = (x + (x >> _FOUR)) & _OCTETS
    return (x * _ONES) >> _FIFTY_SIX


@kernel("u64[], i64[]")
def RANKS(words: Words, ranks: Int64s) -> None:
    """ranks[i] = the number of bits set in the words before block i of 32; the last is of all."""
    total = np.int64(0)
    full = words.size >> 5
    for block in range(full):
        ranks[block] = total
        count = _ZERO
        for w in range(32):
            count += popcount(words[block * 32 + w])
        total += np.int64(count)
    ranks[full] = total
    for w in range(full * 32, words.size):
        total += np.int64(popcount(words[w]))
    ranks[ranks.size - 1] = total


@kernel("u64[], i64, i64[]")
def EXPAND(words: Words, base: int, out: Int64s) -> None:
    """The rows of the bits set in `words`, ascending; bit 0 of the first word is row `base`."""
    # Where words of one or two bits alternate with others, the end of a loop over bits is guessed
    # wrongly again and again: two rows are written whether they are there or not, while there is room.
    # 1 % of 10 M rows: 0.33 ms, without 0.72. Nearly all words being 0, the loop is faster alone.
    ahead = out.size - 1 if out.size * 6 > words.size else 0
    j = 0
    for w in range(words.size):
        x = words[w]
        row = base + w * 64
        if j < ahead:
            out[j] = row + np.int64(popcount((x - _ONE) & ~x))
            j += int(x != _ZERO)
            x &= x - _ONE
            out[j] = row + np.int64(popcount((x - _ONE) & ~x))
            j += int(x != _ZERO)
            x &= x - _ONE
        while x != _ZERO:
            out[j] = row + np.int64(popcount((x - _ONE) & ~x))
            x &= x - _ONE
            j += 1


@kernel("u64[], i64[], i64[], i64[]")
def SELECT(words: Words, ranks: Int64s, ks: Int64s, out: Int64s) -> None:
    """out[i] = the row of member number ks[i]."""
    for i in range(ks.size):
        k = ks[i]
        low = 0
        high = ranks.size - 1
        while high - low > 1:
            middle = (low + high) >> 1
            if ranks[middle] <= k:
                low = middle
            else:
                high = middle
        rest = k - ranks[low]
        w = low * 32
        n = np.int64(popcount(words[w]))
        while rest >= n:
            rest -= n
            w += 1
            n = np.int64(popcount(words[w]))
        x = words[w]
        for _ in range(rest):
            x &= x - _ONE
        out[i] = w * 64 + np.int64(popcount((x - _ONE) & ~x))


@kernel("u8[], i64[], i64, u64[]")
def MARK(codes: NDArray[np.uint8], first: Int64s, size: int, marks: Words) -> None:
    """Bit i of the `size` words from `first[codes[i]]` on is set."""
    for w in range(size):
        base = w * 64
        for b in range(min(64, codes.size - base)):
            marks[first[codes[base + b]] + w] |= _ONE << np.uint64(b)
