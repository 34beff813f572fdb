"""Which rows, in which order: a range, a bitmap or a list of row ids.

A row set belongs to a universe, the rows 0 … universe - 1 of one data set. `Range` and `Bitmap` are
ascending without repeats; `Ids` is any sequence. The `from_…` functions choose the form by the set
alone (contiguous: Range; at least one row in 64: Bitmap; else Ids), so that two ways of computing a
set end in the same bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from typing import Final, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from tql.bits import (
    BLOCK_WORDS,
    LOW,
    SELECT,
    BitWriter,
    Int64s,
    Words,
    expand,
    first_and_last,
    pack,
    pays,
    ranks_of,
    read_only,
    select_twin,
    words_at,
)

SPARSEST: Final = 64  # fewer than one row in 64 costs less as int64 ids than as a bitmap


class _Rows(ABC):
    """What the three forms share."""

    __slots__ = ()

    universe: int

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the arrays held."""

    @property
    @abstractmethod
    def ascending(self) -> bool:
        """Whether the rows strictly ascend, hence do not repeat."""

    @overload
    def select(self, k: int) -> int: ...
    @overload
    def select(self, k: Int64s) -> Int64s: ...
    def select(self, k: int | Int64s) -> int | Int64s:
        """The k-th row, 0 ≤ k < len; an int64 array gives an int64 array of its shape (n,)."""
        if not isinstance(k, np.ndarray):
            assert 0 <= k < len(self), f"row {k} of {len(self)}"
            return int(self._select(np.array([k], np.int64))[0])
        assert k.dtype == np.int64 and k.ndim == 1, f"select was given {k.dtype}, {k.ndim}-d"
        assert k.size == 0 or (k.min() >= 0 and k.max() < len(self)), f"a row beyond {len(self)}"
        return self._select(k)

    @overload
    def rank(self, rows: int) -> int: ...
    @overload
    def rank(self, rows: Int64s) -> Int64s: ...
    def rank(self, rows: int | Int64s) -> int | Int64s:
        """How many members are below each row, 0 ≤ row ≤ universe; of an ascending set only."""
        assert self.ascending, "rank of a row set that does not ascend"
        if not isinstance(rows, np.ndarray):
            return int(self._rank(np.array([rows], np.int64))[0])
        return self._rank(rows)

    @overload
    def contains(self, rows: int) -> bool: ...
    @overload
    def contains(self, rows: Int64s) -> NDArray[np.bool_]: ...
    def contains(self, rows: int | Int64s) -> bool | NDArray[np.bool_]:
        """Whether each row is a member; a row outside the universe is not."""
        if not isinstance(rows, np.ndarray):
            return bool(self._contains(np.array([rows], np.int64))[0])
        return self._contains(rows)

    def __getitem__(self, part: slice) -> "RowSet":
        """Members a … b - 1 in order; a step is not offered."""
        assert part.step in (None, 1), "a slice of a row set has no step"
        start, stop, _ = part.indices(len(self))
        return self._slice(start, max(start, stop))

    @abstractmethod
    def to_numpy(self) -> Int64s:
        """All rows in order, int64 (len,); read-only where it is not a copy."""

    @abstractmethod
    def to_bitmap(self) -> "Bitmap":
        """The distinct members."""

    def blocks(self, size: int) -> Iterator[Int64s]:
        """The rows in order, in int64 arrays of `size`; the last may be shorter."""
        assert size > 0
        for start in range(0, len(self), size):
            yield self._select(np.arange(start, min(start + size, len(self)), dtype=np.int64))

    @abstractmethod
    def _select(self, k: Int64s) -> Int64s: ...

    @abstractmethod
    def _rank(self, rows: Int64s) -> Int64s: ...

    @abstractmethod
    def _contains(self, rows: Int64s) -> NDArray[np.bool_]: ...

    @abstractmethod
    def _slice(self, start: int, stop: int) -> "RowSet": ...


@dataclass(frozen=True, slots=True)
class Range(_Rows):
    """Rows `start` … `stop` - 1."""

    start: int
    stop: int
    universe: int

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.stop <= self.universe, str(self)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def nbytes(self) -> int:
        return 0

    @property
    def ascending(self) -> bool:
        return True

    def to_numpy(self) -> Int64s:
        return np.arange(self.start, self.stop, dtype=np.int64)

    def to_bitmap(self) -> "Bitmap":
        bits = BitWriter(self.universe, blank=True)
        bits.fill(self.start, len(self))
        return Bitmap(bits.finish(), self.universe, self)

    def _select(self, k: Int64s) -> Int64s:
        return k + self.start

    def _rank(self, rows: Int64s) -> Int64s:
        return np.clip(rows - self.start, 0, len(self))

    def _contains(self, rows: Int64s) -> NDArray[np.bool_]:
        return (rows >= self.start) & (rows < self.stop)

    def _slice(self, start: int, stop: int) -> "RowSet":
        return Range(self.start + start, self.start + stop, self.universe)


@dataclass(frozen=True, slots=True, eq=False)
class Bitmap(_Rows):
    """Row r is bit r % 64 of `words[r // 64]`; bits from `universe` on are zero.

    words  uint64 (⌈universe / 64⌉,); not copied, not to be written to afterwards
    within  rows beyond which no bit is set, where that is known: no other words are looked at
    ranks  int64 (⌈words / 32⌉ + 1,): members before each block of 2,048 rows, then all of them.
           Built at once: the count of the members, which everyone asks for, costs as much.
    """

    words: Words
    universe: int
    within: InitVar[Range | None] = None
    ranks: Int64s = field(init=False, repr=False)

    def __post_init__(self, within: Range | None) -> None:
        assert self.words.dtype == np.uint64 and self.words.shape == (-(-self.universe // 64),)
        tail = self.universe % 64
        assert not tail or not self.words[-1] >> np.uint64(tail), "a bit beyond the universe is set"
        object.__setattr__(self, "words", read_only(self.words))
        span = (0, None) if within is None else (within.start // 64, -(-within.stop // 64))
        object.__setattr__(self, "ranks", read_only(ranks_of(self.words, *span)))

    def __len__(self) -> int:
        return int(self.ranks[-1])

    def __repr__(self) -> str:
        return f"<Bitmap {len(self):,} of {self.universe:,} rows>"

    @property
    def nbytes(self) -> int:
        return self.words.nbytes + self.ranks.nbytes

    @property
    def ascending(self) -> bool:
        return True

    def to_numpy(self) -> Int64s:
        # Blocks before the first member and after the last are not looked at.
        first = max(0, int(np.searchsorted(self.ranks, 0, side="right")) - 1)
        last = int(np.searchsorted(self.ranks, len(self)))
        words = self.words[first * BLOCK_WORDS : last * BLOCK_WORDS]
        return expand(words, first * BLOCK_WORDS * 64, len(self))

    def to_bitmap(self) -> "Bitmap":
        return self

    def blocks(self, size: int) -> Iterator[Int64s]:
        assert size > 0
        held: list[Int64s] = []
        count = 0
        for first in range(0, len(self.ranks) - 1, 512):  # 1 M rows at a time
            last = min(first + 512, len(self.ranks) - 1)
            words = self.words[first * BLOCK_WORDS : last * BLOCK_WORDS]
            members = int(self.ranks[last] - self.ranks[first])
            held.append(expand(words, first * BLOCK_WORDS * 64, members))
            count += members
            if count >= size:
                ids = np.concatenate(held)
                whole = count - count % size
                yield from (ids[a : a + size] for a in range(0, whole, size))
                held, count = [ids[whole:]], count - whole
        if count:
            yield np.concatenate(held)

    def _select(self, k: Int64s) -> Int64s:
        if pays(SELECT, 1e3 * k.size):
            out = np.empty(k.size, np.int64)
            SELECT(self.words, self.ranks, np.ascontiguousarray(k), out)
            return out
        return select_twin(self.words, self.ranks, k)

    def _rank(self, rows: Int64s) -> Int64s:
        assert rows.size == 0 or (rows.min() >= 0 and rows.max() <= self.universe)
        out = np.empty(rows.size, np.int64)
        for a in range(0, rows.size, 4096):
            r = rows[a : a + 4096]
            word, block = r >> 6, (r >> 6) // BLOCK_WORDS
            grid = block[:, None] * BLOCK_WORDS + np.arange(BLOCK_WORDS)
            seen = np.bitwise_count(words_at(self.words, grid)) * (grid < word[:, None])
            below = words_at(self.words, word) & LOW[r & 63]
            out[a : a + 4096] = self.ranks[block] + seen.sum(axis=1) + np.bitwise_count(below)
        return out

    def _contains(self, rows: Int64s) -> NDArray[np.bool_]:
        inside = (rows >= 0) & (rows < self.universe)
        at = np.where(inside, rows, 0)
        bits = words_at(self.words, at >> 6) >> (at & 63).astype(np.uint64)
        return inside & (bits & np.uint64(1)).astype(np.bool_)

    def _slice(self, start: int, stop: int) -> "RowSet":
        if start == 0 and stop == len(self):
            return self
        if (stop - start) * SPARSEST < self.universe:
            return from_ids(self._select(np.arange(start, stop, dtype=np.int64)), self.universe)
        first, last = self.select(start), self.select(stop - 1)
        kept = Range(first, last + 1, self.universe).to_bitmap().words
        return from_words(kept & self.words, self.universe)


@dataclass(frozen=True, slots=True, eq=False)
class Ids(_Rows):
    """Rows one by one, in any order, possibly repeated.

    ids  int64 (n,), each 0 ≤ id < universe; not copied, not to be written to afterwards
    """

    ids: Int64s
    universe: int
    _ascending: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        assert self.ids.dtype == np.int64 and self.ids.ndim == 1, f"{self.ids.dtype}"
        rising = bool((self.ids[1:] > self.ids[:-1]).all())
        ends = (
            self.ids[[0, -1]]
            if rising and self.ids.size
            else (self.ids.min(initial=0), self.ids.max(initial=0))
        )
        assert self.ids.size == 0 or (ends[0] >= 0 and ends[1] < self.universe), (
            f"row ids {ends[0]} to {ends[1]} in a universe of {self.universe}"
        )
        object.__setattr__(self, "ids", read_only(self.ids))
        object.__setattr__(self, "_ascending", rising)

    def __len__(self) -> int:
        return self.ids.size

    def __repr__(self) -> str:
        order = "ascending" if self.ascending else "in an order of their own"
        return f"<Ids {len(self):,} of {self.universe:,} rows, {order}>"

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes

    @property
    def ascending(self) -> bool:
        return self._ascending

    def to_numpy(self) -> Int64s:
        return self.ids

    def to_bitmap(self) -> Bitmap:
        mask = np.zeros(self.universe, np.bool_)
        mask[self.ids] = True
        return Bitmap(pack(mask), self.universe)

    def _select(self, k: Int64s) -> Int64s:
        return self.ids[k]

    def _rank(self, rows: Int64s) -> Int64s:
        return np.searchsorted(self.ids, rows).astype(np.int64)

    def _contains(self, rows: Int64s) -> NDArray[np.bool_]:
        return np.isin(rows, self.ids)

    def _slice(self, start: int, stop: int) -> "RowSet":
        part = self.ids[start:stop]
        # A part of an ascending list keeps its form only where the rule of `from_ids` says so.
        return from_ids(part, self.universe) if self._ascending else Ids(part, self.universe)


RowSet: TypeAlias = Range | Bitmap | Ids


# -- making them --------------------------------------------------------------------------------


def everything(n: int) -> Range:
    """All rows of a data set of `n` rows."""
    return Range(0, n, n)


def from_mask(mask: NDArray[np.bool_]) -> RowSet:
    """The rows where bool (n,) `mask` is true."""
    return from_words(pack(mask), mask.size)


def from_words(words: Words, universe: int, within: Range | None = None) -> RowSet:
    """The set that the bits of uint64 (⌈universe / 64⌉,) `words` say, in its leanest form; see
    `Bitmap` for `within`.
    """
    bitmap = Bitmap(words, universe, within)
    n = len(bitmap)
    if n == 0:
        return Range(0, 0, universe)
    first, last = first_and_last(bitmap.words, bitmap.ranks)
    if last - first + 1 == n:
        return Range(first, last + 1, universe)
    if n * SPARSEST < universe:
        return Ids(bitmap.to_numpy(), universe)
    return bitmap


def from_ids(ids: Int64s, universe: int) -> RowSet:
    """The rows of int64 (n,) `ids` in this order; repeats stay."""
    rows = Ids(ids, universe)
    n = len(rows)
    if n == 0:
        return Range(0, 0, universe)
    if not rows.ascending:
        return rows
    if int(ids[-1]) - int(ids[0]) + 1 == n:
        return Range(int(ids[0]), int(ids[-1]) + 1, universe)
    return rows if n * SPARSEST < universe else rows.to_bitmap()


def union(*parts: RowSet) -> RowSet:
    """The distinct rows of one or more sets, ascending."""
    universe = _shared_universe(*parts)
    if _few(*parts):
        return from_ids(np.unique(np.concatenate([p.to_numpy() for p in parts])), universe)
    lists = [rows for rows in parts if isinstance(rows, Ids)]
    others = [rows for rows in parts if not isinstance(rows, Ids)]
    words = np.zeros(-(-universe // 64), np.uint64)
    for rows in [*others, *([concat(*lists)] if lists else [])]:  # one bitmap for all lists
        words |= rows.to_bitmap().words
    return from_words(words, universe)


def intersect(a: RowSet, b: RowSet) -> RowSet:
    """The distinct rows of both, ascending."""
    universe = _shared_universe(a, b)
    if _few(a, b):
        return from_ids(np.intersect1d(a.to_numpy(), b.to_numpy()), universe)
    return from_words(a.to_bitmap().words & b.to_bitmap().words, universe)


def subtract(a: RowSet, b: RowSet) -> RowSet:
    """The distinct rows of `a` that are not in `b`, ascending."""
    universe = _shared_universe(a, b)
    if _few(a, b):
        return from_ids(np.setdiff1d(a.to_numpy(), b.to_numpy()), universe)
    return from_words(a.to_bitmap().words & ~b.to_bitmap().words, universe)


def concat(*parts: RowSet) -> Ids:
    """The rows of one or more sets, one after the other; repeats stay."""
    return Ids(np.concatenate([p.to_numpy() for p in parts]), _shared_universe(*parts))


def _shared_universe(a: RowSet, *others: RowSet) -> int:
    for b in others:
        assert a.universe == b.universe, f"row sets of {a.universe} and of {b.universe} rows"
    return a.universe


def _few(*parts: RowSet) -> bool:
    return sum(map(len, parts)) * SPARSEST < parts[0].universe
