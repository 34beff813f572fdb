"""`gather` against plain indexing."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tql.sources import Source, gather, open_source
from tql.sources.gathering import LARGEST_OFFSET, widened

N = 500
TABLE = pa.table(
    {
        "id": np.arange(N),
        "s": [None if i % 11 == 0 else f"text {i % 7}" for i in range(N)],
        "k": pa.array([f"class {i % 5}" for i in range(N)]).dictionary_encode(),
        "b": [bytes([i % 256]) * (i % 4) for i in range(N)],
        "l": [[i] * (i % 3) for i in range(N)],
        "f": pa.FixedSizeListArray.from_arrays(np.arange(2.0 * N), 2),
        "n": [None if i % 2 else i for i in range(N)],
        "d": [{"a": i} for i in range(N)],
    }
)
NAMES = TABLE.column_names
ORACLE = {name: TABLE[name].to_pylist() for name in NAMES}


class Cut:
    """A source's rows in fragments of uneven lengths, counting how often each is read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.reads: Counter[int] = Counter()

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        self.reads[fragment] += 1
        return self.source.read(fragment, columns)


@pytest.fixture(scope="module")
def sources() -> Iterator[list[Source]]:
    folder = Path(tempfile.mkdtemp())
    pq.write_table(TABLE.slice(0, 300), folder / "a.parquet", row_group_size=70)
    pq.write_table(TABLE.slice(300), folder / "b.parquet", row_group_size=1000)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(folder / "c.arrow", TABLE.schema, options=options) as writer:
        for start, rows in ((0, 1), (1, 99), (100, 0), (100, 400)):
            writer.write_table(TABLE.slice(start, rows))
    yield [open_source(folder / "*.parquet"), open_source(folder / "c.arrow"), open_source(TABLE)]
    shutil.rmtree(folder)


ROWS = st.lists(st.integers(0, N - 1), max_size=60) | st.integers(0, N).map(
    lambda n: list(range(n // 2, n))
)


@given(rows=ROWS, names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
def test_gather_gives_the_rows_in_the_order_asked_for(
    sources: list[Source], rows: list[int], names: list[str]
) -> None:
    for source in sources:
        table = gather(source, np.array(rows, np.int64), names)
        assert table.column_names == names
        assert table.num_rows == len(rows)
        assert table.to_pydict() == {n: [ORACLE[n][r] for r in rows] for n in names}


@given(rows=ROWS.filter(bool))
def test_gather_reads_each_fragment_once_and_only_those_it_needs(
    sources: list[Source], rows: list[int]
) -> None:
    for source in sources:
        cut = Cut(source)
        gather(source, np.array(rows, np.int64), ["id"], cut.read)
        starts = [f.start for f in source.fragments]
        needed = {int(np.searchsorted(starts, r, side="right")) - 1 for r in rows}
        assert cut.reads == dict.fromkeys(needed, 1)


@settings(max_examples=20)
@given(rows=ROWS)
def test_types_do_not_depend_on_the_rows(sources: list[Source], rows: list[int]) -> None:
    everything = np.arange(N)
    for source in sources:
        expected = gather(source, everything, NAMES).schema
        assert gather(source, np.array(rows, np.int64), NAMES).schema == expected


def test_many_rows_of_many_fragments_come_in_order(tmp_path: Path) -> None:
    n = 300_000
    pq.write_table(pa.table({"id": np.arange(n)}), tmp_path / "a.parquet", row_group_size=500)
    source = open_source(tmp_path)
    rows = np.random.default_rng(0).integers(0, n, n)
    assert np.array_equal(gather(source, rows, ["id"])["id"].to_numpy(), rows)


def test_rows_in_one_stretch_are_not_copied() -> None:
    values = np.arange(1000)
    source = open_source({"a": values})
    column = gather(source, np.arange(100, 200), ["a"])["a"]
    assert column.chunk(0).buffers()[1].address == values.ctypes.data


@pytest.mark.parametrize("row", [-1, N])
def test_rows_outside_the_source_are_a_bug(sources: list[Source], row: int) -> None:
    with pytest.raises(AssertionError, match="row outside"):
        gather(sources[0], np.array([0, row]), ["id"])


def test_columns_of_more_bytes_than_32_bits_number_get_wider_offsets() -> None:
    big = pa.array(["x" * (1 << 20)])
    rows = (LARGEST_OFFSET >> 20) + 2
    column = pa.chunked_array([big] * rows)
    table = widened(pa.table({"s": column, "b": column.cast(pa.binary()), "n": np.arange(rows)}))
    assert table.schema.types == [pa.large_string(), pa.large_binary(), pa.int64()]


@pytest.mark.parametrize("rows", [[5], [5, 6, 7], [90, 250, 251]])
def test_a_few_rows_do_not_hold_the_fragment_they_are_from(tmp_path: Path, rows: list[int]) -> None:
    blobs = pa.array([bytes([i % 256]) * 10_000 for i in range(300)])
    pq.write_table(pa.table({"b": blobs}), tmp_path / "a.parquet", row_group_size=100)
    source = open_source(tmp_path)
    before = pa.total_allocated_bytes()
    table = gather(source, np.array(rows), ["b"])
    assert pa.total_allocated_bytes() - before < 100_000
    assert table["b"].to_pylist() == [bytes([r % 256]) * 10_000 for r in rows]


def test_most_of_a_fragment_is_not_copied(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": np.arange(1000)}), tmp_path / "a.parquet")
    source = open_source(tmp_path)
    kept = source.read(0, ["a"])
    column = gather(source, np.arange(400, 900), ["a"], lambda f, c: kept)["a"]
    assert column.chunk(0).buffers()[1].address == kept["a"].chunk(0).buffers()[1].address


CHUNKS = pa.chunked_array([[bytes([c, i]) * 50_000 for i in range(10)] for c in range(20)])
WATCHED = pa.proxy_memory_pool(pa.default_memory_pool())  # must outlive what is allocated in it


@settings(max_examples=25)
@given(rows=st.lists(st.integers(0, 199), min_size=1, max_size=20))
def test_rows_of_a_table_in_many_chunks_are_taken_without_joining_them(rows: list[int]) -> None:
    source = open_source(pa.table({"b": CHUNKS, "x": np.arange(200)}))
    usual = pa.default_memory_pool()
    pa.set_memory_pool(WATCHED)
    try:
        table = gather(source, np.array(rows), ["b", "x"])
    finally:
        pa.set_memory_pool(usual)
    # Arrow's room for bytes grows by doubling, and rows out of order are copied once more.
    assert WATCHED.max_memory() < 4 * 20 * 101_000 < CHUNKS.nbytes
    assert table["x"].to_pylist() == rows
    assert table["b"].to_pylist() == [bytes([r // 10, r % 10]) * 50_000 for r in rows]


def test_uncompressed_arrow_files_and_tables_lie_in_place_and_other_files_do_not(
    sources: list[Source], tmp_path: Path
) -> None:
    plain = tmp_path / "plain.arrow"
    with pa.ipc.new_file(plain, TABLE.schema) as writer:
        writer.write_table(TABLE)
    parquet, compressed, table = sources
    opened = (parquet, compressed, table, open_source(plain))
    in_place = [{f.in_place for f in source.fragments} for source in opened]
    assert in_place == [{False}, {False}, {True}, {True}]
