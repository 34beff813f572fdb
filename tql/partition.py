"""Rows split into classes by one code each: a row set per class, written in one or two passes."""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.bits import MARK, Int64s, Words, join_bits, mark_twin
from tql.jit import kernel
from tql.rowset import SPARSEST, Range, RowSet, from_ids, from_words

Codes: TypeAlias = NDArray[np.integer[Any]]
Uint32s: TypeAlias = NDArray[np.uint32]

# Classes of a range that are bitmaps first, whatever they become. Three classes of 10 M rows: 18 ms,
# and 51 by `MARK_ROWS` and `LIST`; 51 classes with lists among them: 320 and 110.
_FEW: Final = 16
_MOST_MARKED: Final = 64
_BLOCK: Final = 1 << 15  # rows whose codes and ids lie in the cache together


def count(codes: Codes, k: int) -> Int64s:
    """int64 (k,): how often each of the codes 0 … k - 1 is there; no other may be."""
    if not COUNT.pays(_COUNT_TWIN_NS * codes.size):
        return count_twin(codes, k)
    four = np.zeros(4 * k, np.int64)
    for a in range(0, codes.size, _BLOCK):
        COUNT(codes[a : a + _BLOCK].astype(np.uint32), k, four)
    counts: Int64s = four.reshape(4, k).sum(axis=0)
    return counts


def count_twin(codes: Codes, k: int) -> Int64s:
    """What `count` gives."""
    counts = np.zeros(k, np.int64)
    block = max(_BLOCK, 8 * k)  # not all at once, as `bincount` copies what is not int64
    for a in range(0, codes.size, block):
        counts += np.bincount(codes[a : a + block], minlength=k)
    return counts


def partition(codes: Codes, k: int, rows: RowSet) -> tuple[RowSet, ...]:
    """The members of `rows` by class: `codes` (len(rows),) of 0 … k - 1, aligned with their order.

    Each class keeps the order of `rows`.
    """
    assert codes.shape == (len(rows),), f"{codes.shape} codes for {len(rows)} rows"
    assert codes.size == 0 or (codes.min() >= 0 and codes.max() < k), f"a class beyond {k}"
    if k == 1:
        return (rows,)
    return split(codes, np.arange(k, dtype=np.uint32), count(codes, k), rows)


def split(codes: Codes, classes: Uint32s, counts: Int64s, rows: RowSet) -> tuple[RowSet, ...]:
    """The members of `rows` by the class of their code.

    codes    (len(rows),) in the order of `rows`
    classes  uint32 (codes in use,): the class of each code; of more than one code, perhaps
    counts   int64 (K,): the rows of each class
    """
    # Which form a class takes is the rule of `from_ids`; a contiguous one is found out later.
    dense = (counts * SPARSEST >= rows.universe) & rows.ascending & (counts > 0)
    marked = len(counts) <= (_MOST_MARKED if dense.all() else _FEW)
    if marked and isinstance(rows, Range) and len(classes) <= 1 << 8:
        return _marked(codes, classes, len(counts), rows)
    needed = [k for k, used in ((MARK_ROWS, dense.any()), (LIST, not dense.all())) if used]
    # All of them are asked first: what this call has cost counts for each.
    ready = [k.pays(_TWIN_NS * codes.size) for k in needed]
    if not all(ready):
        return split_twin(codes, classes, counts, rows)
    size = -(-rows.universe // 64)
    few = np.flatnonzero(dense)
    # What is not wanted in one of the two forms is written into a bitmap, or an entry, for nobody.
    marks = np.zeros((len(few) + (len(few) < len(counts))) * size, np.uint64)
    first = np.full(len(counts), len(few) * size, np.int64)
    first[few] = np.arange(len(few)) * size
    listed = np.where(dense, 0, counts)
    ends = np.cumsum(listed)
    out = np.empty(int(ends[-1]) + 1, np.int64)
    cursor = np.where(dense, out.size - 1, ends - listed)
    step = (~dense).astype(np.int64)
    for part, ids in _blocks(codes, rows):
        if len(few):
            MARK_ROWS(part, classes, ids, first, marks)
        if len(few) < len(counts):
            LIST(part, classes, ids, cursor, step, out)
    return tuple(
        # A copy, so that a class which becomes a list does not keep the marks of all alive.
        from_words(marks[first[c] : first[c] + size].copy(), rows.universe)
        if dense[c]
        else from_ids(out[ends[c] - listed[c] : ends[c]], rows.universe)
        for c in range(len(counts))
    )


def _marked(codes: Codes, classes: Uint32s, k: int, rows: Range) -> tuple[RowSet, ...]:
    """One bitmap per class, shifted to where the range starts."""
    size = -(-len(rows) // 64)
    before = (np.zeros(-(-rows.start // 64), np.uint64), rows.start)
    after = rows.universe - rows.stop
    behind = (np.zeros(-(-after // 64), np.uint64), after)
    narrow = np.ascontiguousarray(codes.astype(np.uint8, copy=False))
    marks = np.zeros(k * size, np.uint64)
    first = classes.astype(np.int64) * size
    if MARK.pays(k * (0.15 if len(classes) == k else 1.5) * codes.size):
        MARK(narrow, first, size, marks)
    else:
        mark_twin(narrow, first, size, marks)
    whole = len(rows) == rows.universe
    members = []
    for c in range(k):
        words = marks[c * size : (c + 1) * size]
        # A copy, so that a class which becomes a list does not keep the marks of all alive.
        words = words.copy() if whole else join_bits([before, (words, len(rows)), behind])
        members.append(from_words(words, rows.universe))
    return tuple(members)


def split_twin(codes: Codes, classes: Uint32s, counts: Int64s, rows: RowSet) -> tuple[RowSet, ...]:
    """What `split` gives."""
    mine: NDArray[Any] = classes[codes]
    # Stable, and a radix sort for 16-bit codes: the order within a class stays.
    order = np.argsort(mine.astype(np.uint16) if len(counts) <= 1 << 16 else mine, kind="stable")
    grouped = rows.to_numpy()[order]
    ends = np.cumsum(counts)
    return tuple(
        from_ids(grouped[b - n : b].copy(), rows.universe)
        for b, n in zip(ends.tolist(), counts.tolist(), strict=True)
    )


def _blocks(codes: Codes, rows: RowSet) -> Iterator[tuple[Uint32s, Int64s]]:
    """The codes and the rows, a block at a time."""
    a = 0
    for ids in rows.blocks(_BLOCK):
        yield codes[a : a + ids.size].astype(np.uint32), ids
        a += ids.size


# Nanoseconds a row of `split_twin`, 10 M rows of a range in 200 classes.
_TWIN_NS: Final = 60.0

_COUNT_TWIN_NS: Final = 2.5

_ONE: Final = np.uint64(1)


@kernel("u32[], i64, i64[]")
def COUNT(codes: Uint32s, k: int, four: Int64s) -> None:
    """Add to the `k` counts of every fourth row: equal codes in a row do not wait for each other."""
    whole = codes.size & ~3
    for i in range(0, whole, 4):
        four[codes[i]] += 1
        four[k + codes[i + 1]] += 1
        four[2 * k + codes[i + 2]] += 1
        four[3 * k + codes[i + 3]] += 1
    for i in range(whole, codes.size):
        four[codes[i]] += 1


@kernel("u32[], u32[], i64[], i64[], u64[]")
def MARK_ROWS(codes: Uint32s, classes: Uint32s, rows: Int64s, first: Int64s, marks: Words) -> None:
    """Set the bit of each row in the bitmap of its class, which starts at `first[class]`."""
    for i in range(codes.size):
        row = rows[i]
        marks[first[classes[codes[i]]] + (row >> 6)] |= _ONE << np.uint64(row & 63)


@kernel("u32[], u32[], i64[], i64[], i64[], i64[]")
def LIST(
    codes: Uint32s, classes: Uint32s, rows: Int64s, cursor: Int64s, step: Int64s, out: Int64s
) -> None:
    """Write each row where the cursor of its class is, which goes on by `step[class]`."""
    for i in range(codes.size):
        c = classes[codes[i]]
        at = cursor[c]
        out[at] = rows[i]
        cursor[c] = at + step[c]
