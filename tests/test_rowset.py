"""Row sets: three forms, one behaviour."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tql import bits, rowset
from tql.partition import partition
from tql.rowset import Bitmap, Ids, Range, RowSet

masks = st.one_of(
    st.lists(st.booleans(), max_size=300),
    st.integers(0, 9000).flatmap(
        lambda n: st.floats(0, 1).map(lambda d: [bool(x) for x in _random(n) < d])
    ),
).map(lambda m: np.array(m, np.bool_))


def _random(n: int) -> np.ndarray:
    return np.random.default_rng(n).random(n)


def _forms(mask: np.ndarray) -> list[RowSet]:
    """The same ascending set in every form that can hold it."""
    ids = np.flatnonzero(mask)
    forms: list[RowSet] = [
        Bitmap(bits.pack(mask), mask.size),
        Ids(ids, mask.size),
        rowset.from_mask(mask),
    ]
    if ids.size and ids[-1] - ids[0] + 1 == ids.size:
        forms.append(Range(int(ids[0]), int(ids[-1]) + 1, mask.size))
    return forms


@given(masks)
def test_every_form_of_a_set_answers_alike(mask: np.ndarray) -> None:
    ids = np.flatnonzero(mask)
    every = np.arange(mask.size, dtype=np.int64)
    edges = np.arange(mask.size + 1, dtype=np.int64)
    around = np.arange(-2, mask.size + 3, dtype=np.int64)
    for rows in _forms(mask):
        assert len(rows) == ids.size and rows.universe == mask.size and rows.ascending
        assert np.array_equal(rows.to_numpy(), ids)
        assert np.array_equal(rows.select(np.arange(ids.size)), ids)
        assert np.array_equal(rows.contains(every), mask)
        assert np.array_equal(rows.contains(around)[2:-3], mask)
        assert not rows.contains(around)[[0, 1, -3, -2, -1]].any()
        assert np.array_equal(rows.rank(edges), np.concatenate([[0], np.cumsum(mask)]))
        assert np.array_equal(rows.to_bitmap().to_numpy(), ids)


@given(masks, st.data())
def test_slices_and_blocks_are_those_of_the_list(mask: np.ndarray, data: st.DataObject) -> None:
    ids = np.flatnonzero(mask)
    a = data.draw(st.none() | st.integers(-5, ids.size + 5))
    b = data.draw(st.none() | st.integers(-5, ids.size + 5))
    size = data.draw(st.integers(1, 700))
    for rows in _forms(mask):
        part = rows[a:b]
        assert np.array_equal(part.to_numpy(), ids[a:b]) and part.universe == mask.size
        blocks = list(rows.blocks(size))
        assert [x.size for x in blocks[:-1]] == [size] * (len(blocks) - 1)
        assert np.array_equal(np.concatenate([np.empty(0, np.int64), *blocks]), ids)


@given(masks, st.integers(0, 2**32))
def test_set_operations_are_those_of_sets(mask: np.ndarray, seed: int) -> None:
    other = np.random.default_rng(seed).random(mask.size) < 0.3
    for a in _forms(mask):
        for b in _forms(other):
            assert np.array_equal(rowset.union(a, b).to_numpy(), np.flatnonzero(mask | other))
            assert np.array_equal(rowset.intersect(a, b).to_numpy(), np.flatnonzero(mask & other))
            assert np.array_equal(rowset.subtract(a, b).to_numpy(), np.flatnonzero(mask & ~other))
            joined = rowset.concat(a, b)
            assert np.array_equal(joined.ids, np.r_[np.flatnonzero(mask), np.flatnonzero(other)])


def test_sets_of_few_rows_in_a_huge_universe_make_no_bitmap() -> None:
    n = 1 << 50
    a = rowset.from_ids(np.array([3, 1 << 45, 5]), n)
    b = rowset.from_ids(np.array([5, 7]), n)
    assert rowset.union(a, b).to_numpy().tolist() == [3, 5, 7, 1 << 45]
    assert rowset.intersect(a, b).to_numpy().tolist() == [5]
    assert rowset.subtract(a, b).to_numpy().tolist() == [3, 1 << 45]


@given(masks)
def test_the_form_depends_on_the_set_alone(mask: np.ndarray) -> None:
    ids = np.flatnonzero(mask)
    made = [
        rowset.from_mask(mask),
        rowset.from_ids(ids, mask.size),
        rowset.from_words(bits.pack(mask), mask.size),
        rowset.union(Ids(ids, mask.size), Range(0, 0, mask.size)),
    ]
    assert len({type(rows) for rows in made}) == 1


def test_a_contiguous_set_becomes_a_range_and_a_sparse_one_a_list() -> None:
    assert rowset.from_ids(np.arange(3, 9), 10) == Range(3, 9, 10)
    assert rowset.from_mask(np.ones(130, np.bool_)) == rowset.everything(130)
    assert isinstance(rowset.from_ids(np.array([0, 999]), 1000), Ids)
    assert isinstance(rowset.from_ids(np.arange(0, 1000, 2), 1000), Bitmap)
    assert rowset.from_ids(np.empty(0, np.int64), 7) == Range(0, 0, 7)


@given(st.lists(st.integers(0, 40), max_size=60))
def test_ids_keep_their_order_and_their_repeats(ids: list[int]) -> None:
    array = np.array(ids, np.int64)
    rows = rowset.from_ids(array, 41)
    assert rows.to_numpy().tolist() == ids and len(rows) == len(ids)
    assert rows.ascending == (ids == sorted(set(ids)))
    assert rows.to_bitmap().to_numpy().tolist() == sorted(set(ids))
    assert rows[1:4].to_numpy().tolist() == ids[1:4]
    assert rows.contains(np.arange(41)).tolist() == [k in ids for k in range(41)]


@given(st.lists(masks, max_size=6))
def test_joined_bitmaps_are_the_bitmap_of_the_joined_masks(parts: list[np.ndarray]) -> None:
    joined = bits.join_bits([(bits.pack(m), m.size) for m in parts])
    whole = np.concatenate([np.empty(0, np.bool_), *parts])
    assert np.array_equal(joined, bits.pack(whole))


@given(st.lists(masks, max_size=6), st.booleans(), st.randoms(use_true_random=False))
def test_a_bitmap_is_written_in_parts_in_any_order(
    parts: list[np.ndarray], blank: bool, random: Random
) -> None:
    edges = np.cumsum([0, *(m.size for m in parts)]).tolist()
    writer = bits.BitWriter(edges[-1], blank=blank)
    if not blank:
        writer.words[:] = 0x5555  # what memory happens to hold
    for k in random.sample(range(len(parts)), len(parts)):
        mask, start = parts[k], edges[k]
        place = writer.place(start, mask.size)
        if blank and not mask.any() and random.random() < 0.7:
            continue
        if mask.size and mask.all():
            writer.fill(start, mask.size)
        elif place is None or random.random() < 0.3:
            writer.put(start, mask.size, bits.pack(mask))
        else:
            place[:] = bits.pack(mask)
    whole = np.concatenate([np.empty(0, np.bool_), *parts])
    assert np.array_equal(writer.finish(), bits.pack(whole))


@settings(deadline=None)
@given(masks)
def test_ranks_are_the_counts_before_each_block(mask: np.ndarray) -> None:
    words = bits.pack(mask)
    expected = [int(mask[: 2048 * b].sum()) for b in range(-(-words.size // 32) + 1)]
    for write in (bits.RANKS, bits.RANKS.python, bits.ranks_twin):
        ranks = np.full(len(expected), -1)
        with np.errstate(over="ignore"):
            write(words, ranks)
        assert ranks.tolist() == expected
    if mask.any():
        found = np.flatnonzero(mask)
        assert bits.first_and_last(words, ranks) == (found[0], found[-1])


@settings(deadline=None)
@given(masks, st.integers(1, 70), st.sampled_from([np.uint8, np.uint16, np.int64]), st.booleans())
def test_a_partition_puts_every_member_in_its_class(
    mask: np.ndarray, k: int, dtype: type, shuffled: bool
) -> None:
    rows = rowset.from_mask(mask)
    if shuffled:  # any order, some rows twice
        ids = np.random.default_rng(5).permutation(np.repeat(rows.to_numpy(), 2))
        rows = Ids(ids, mask.size)
    codes = np.random.default_rng(k).integers(0, k, len(rows)).astype(dtype)
    classes = partition(codes, k, rows)
    assert len(classes) == k
    for c in range(k):
        assert np.array_equal(classes[c].to_numpy(), rows.to_numpy()[codes == c])


@pytest.mark.parametrize(("start", "stop"), [(0, 640), (0, 100), (5, 69), (64, 128), (7, 640)])
def test_a_range_is_partitioned_wherever_it_starts(start: int, stop: int) -> None:
    codes = np.random.default_rng(1).integers(0, 3, stop - start).astype(np.uint8)
    for c, part in enumerate(partition(codes, 3, Range(start, stop, 640))):
        assert np.array_equal(part.to_numpy(), start + np.flatnonzero(codes == c))


@given(masks)
def test_the_kernels_write_what_their_twins_write(mask: np.ndarray) -> None:
    bitmap = Bitmap(bits.pack(mask), mask.size)
    out = np.empty(len(bitmap), np.int64)
    bits.EXPAND(bitmap.words, 640, out)
    assert np.array_equal(out, bits.expand_twin(bitmap.words, 640))
    assert np.array_equal(out, bits.expand_few(bitmap.words, 640))
    ks = np.random.default_rng(2).permutation(len(bitmap))
    found = np.empty_like(ks)
    bits.SELECT(bitmap.words, bitmap.ranks, ks, found)
    assert np.array_equal(found, bits.select_twin(bitmap.words, bitmap.ranks, ks))
    codes = np.random.default_rng(3).integers(0, 5, mask.size).astype(np.uint8)
    size = bitmap.words.size
    by_kernel, by_twin = np.zeros(5 * size, np.uint64), np.zeros(5 * size, np.uint64)
    first = np.array([3, 1, 3, 0, 4]) * size
    bits.MARK(codes, first, size, by_kernel)
    bits.mark_twin(codes, first, size, by_twin)
    assert np.array_equal(by_kernel, by_twin)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("rows", [64, 640, 6400])
def test_members_are_written_in_their_place_and_nowhere_else(rows: int, share: float) -> None:
    """However many bits the words have; two are written ahead, but not beyond the end."""
    words = bits.pack(np.random.default_rng(rows).random(rows) < share)
    expected = bits.expand_twin(words, 128)
    for expand in (bits.EXPAND, bits.EXPAND.python):
        around = np.full(expected.size + 4, -7, np.int64)
        with np.errstate(over="ignore"):  # of Python's own way, which a product of bits warns of
            expand(words, 128, around[2:-2])
        assert np.array_equal(around, [-7, -7, *expected, -7, -7])


def test_select_crosses_the_blocks_of_the_rank_directory() -> None:
    mask = np.zeros(1_000_000, np.bool_)
    mask[[0, 2047, 2048, 500_000, 999_999]] = True
    mask[300_000:310_000] = True
    bitmap = Bitmap(bits.pack(mask), mask.size)
    ks = np.arange(len(bitmap))
    out = np.empty_like(ks)
    bits.SELECT(bitmap.words, bitmap.ranks, ks, out)
    assert np.array_equal(out, np.flatnonzero(mask))
    assert np.array_equal(bits.select_twin(bitmap.words, bitmap.ranks, ks), out)
    assert bitmap.rank(np.flatnonzero(mask)).tolist() == ks.tolist()


def test_a_bitmap_costs_an_eighth_of_a_byte_a_row_and_five_percent() -> None:
    bitmap = Bitmap(bits.pack(np.arange(1_000_000) % 3 == 0), 1_000_000)
    assert bitmap.nbytes <= 1.05 * 1_000_000 / 8


BAD: list[Callable[[], object]] = [
    lambda: Bitmap(np.array([1 << 63], np.uint64), 63),
    lambda: Bitmap(np.zeros(2, np.uint64), 64),
    lambda: Ids(np.array([4]), 4),
    lambda: Ids(np.array([2, -1, 3]), 4),
    lambda: rowset.everything(3).select(3),
    lambda: rowset.everything(3).select(np.array([-1])),
    lambda: Ids(np.array([2, 1]), 4).rank(1),
    lambda: rowset.union(rowset.everything(3), rowset.everything(4)),
    lambda: partition(np.array([0, 3], np.uint8), 3, rowset.everything(2)),
    lambda: bits.join_bits([(np.array([4], np.uint64), 2)]),
]


@pytest.mark.parametrize("wrong", BAD)
def test_what_cannot_be_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(AssertionError):
        wrong()


def test_the_arrays_of_a_row_set_cannot_be_written_to() -> None:
    rows = Ids(np.array([2, 1]), 4)
    with pytest.raises(ValueError, match="read-only"):
        rows.ids[0] = 3


def test_row_sets_of_any_size_show_themselves_in_one_line() -> None:
    mask = np.arange(100_000) % 3 == 0
    assert repr(rowset.from_mask(mask)) == "<Bitmap 33,334 of 100,000 rows>"
    ids = np.arange(0, 1000, 7)
    assert repr(Ids(ids, 100_000)) == "<Ids 143 of 100,000 rows, ascending>"
    assert repr(Ids(ids[::-1], 100_000)) == "<Ids 143 of 100,000 rows, in an order of their own>"


@given(masks, masks, masks)
def test_words_that_are_known_to_be_zero_change_nothing(
    before: np.ndarray, mask: np.ndarray, after: np.ndarray
) -> None:
    whole = np.concatenate([np.zeros_like(before), mask, np.zeros_like(after)])
    within = rowset.Range(before.size, before.size + mask.size, whole.size)
    words = bits.pack(whole)
    found = rowset.from_words(words, whole.size, within)
    plain = rowset.from_words(words, whole.size)
    assert type(found) is type(plain)
    assert np.array_equal(found.to_numpy(), np.flatnonzero(whole))
    if isinstance(found, rowset.Bitmap):
        assert isinstance(plain, rowset.Bitmap) and np.array_equal(found.ranks, plain.ranks)


def test_words_that_are_known_to_be_zero_are_not_looked_at() -> None:
    rows, part = 1 << 20, rowset.Range(500_000, 520_000, 1 << 20)
    whole = np.zeros(rows, np.bool_)
    whole[part.start : part.stop : 3] = True
    words = bits.pack(whole)
    words[0] = words[-1] = 1  # which nobody may notice
    assert np.array_equal(rowset.Bitmap(words, rows, part).to_numpy(), np.flatnonzero(whole))


def test_ranks_of_many_blocks_are_added_part_by_part() -> None:
    words = np.random.default_rng(3).integers(0, 1 << 63, 2 * 1024 * 32 + 45, np.uint64)
    ranks = np.empty(-(-words.size // 32) + 1, np.int64)
    bits.ranks_twin(words, ranks)
    upto = np.cumsum(np.bitwise_count(words), dtype=np.int64)
    assert ranks.tolist() == [0, *upto[31:-1:32].tolist(), upto[-1]]
