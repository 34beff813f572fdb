"""Parquet and Arrow IPC files: fragments, statistics, damage, forks, fingerprints."""

import datetime
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from tql.diagnostics import DATA_MISSING, TqlDataError
from tql.schema import Column, Int, Label, Text
from tql.sources import ColumnStats, gather, open_source

N = 1000
TABLE = pa.table(
    {
        "id": np.arange(N),
        "u": np.arange(N, dtype=np.uint64) + np.uint64(2**63 - 500),
        "x": np.linspace(-1, 1, N, dtype=np.float32),
        "s": [f"text {i % 7}" for i in range(N)],
        "unique": [f"text {i * 7919}" for i in range(N)],
        "when": pa.array([datetime.datetime(2024, 1, 1)] * N, pa.timestamp("ns")),
        "day": pa.array(np.arange(N, dtype=np.int32), pa.date32()),
        "some": [None if i % 400 == 0 else i for i in range(N)],
        "l": [[i, i] for i in range(N)],
    }
)


def read_all(source: Any, columns: list[str]) -> pa.Table:
    return gather(source, np.arange(source.rows), columns)


def write_ipc(path: Path, table: pa.Table, rows: int, compression: str | None = None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def write_stream(path: Path, table: pa.Table, rows: int, compression: str | None = None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


# Parquet


def test_a_row_group_is_a_fragment(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=300)
    pq.write_table(TABLE.slice(0, 10), tmp_path / "b.parquet")
    source = open_source(tmp_path)
    assert [(f.index, f.start, f.rows) for f in source.fragments] == [
        (0, 0, 300),
        (1, 300, 300),
        (2, 600, 300),
        (3, 900, 100),
        (4, 1000, 10),
    ]
    assert source.fragments[3].origin == f"{tmp_path}/a.parquet, row group 3"
    assert source.fragments[4].origin == f"{tmp_path}/b.parquet"
    assert source.read(3, ["x", "id"]).column_names == ["x", "id"]
    assert source.read(3, ["id"])["id"].to_pylist() == list(range(900, 1000))


def test_empty_row_groups_and_empty_files_are_no_fragments(tmp_path: Path) -> None:
    with pq.ParquetWriter(tmp_path / "a.parquet", TABLE.schema) as writer:
        for start, rows in ((0, 5), (5, 0), (5, 3)):
            writer.write_table(TABLE.slice(start, rows), row_group_size=max(rows, 1))
    pq.write_table(TABLE.slice(0, 0), tmp_path / "b.parquet")
    pq.write_table(TABLE.slice(8, 2), tmp_path / "c.parquet")
    source = open_source(tmp_path)
    assert [(f.start, f.rows) for f in source.fragments] == [(0, 5), (5, 3), (8, 2)]
    assert read_all(source, ["id"])["id"].to_pylist() == list(range(10))


@pytest.mark.parametrize("kind", ["parquet", "ipc", "memory"])
def test_a_data_set_without_rows_is_legal(tmp_path: Path, kind: str) -> None:
    empty = TABLE.slice(0, 0)
    data: Any = empty
    if kind == "parquet":
        data = tmp_path / "a.parquet"
        pq.write_table(empty, data)
    if kind == "ipc":
        data = write_ipc(tmp_path / "a.arrow", empty, 10)
    source = open_source(data)
    assert (source.rows, len(source.fragments)) == (0, 0)
    assert source.schema.names == tuple(TABLE.column_names)
    assert read_all(source, ["s", "id", "l"]).schema.names == ["s", "id", "l"]
    assert len(source.fingerprint) == 32


def test_footer_statistics_bound_each_fragment(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=500)
    columns = open_source(tmp_path / "a.parquet").fragments[1].columns

    def bounds(name: str) -> tuple[Any, Any, int | None]:
        stats = columns[name]
        assert stats.bytes is not None
        assert stats.bytes > 0
        return stats.low, stats.high, stats.nulls

    new_year = 1704067200 * 10**9
    assert bounds("id") == (500, 999, 0)
    assert bounds("u") == (2**63, 2**63 + 499, 0)
    assert bounds("x") == (pytest.approx(0.001, abs=1e-4), 1.0, 0)
    assert bounds("s") == ("text 0", "text 6", 0)
    assert bounds("when") == (new_year, new_year, 0)
    assert bounds("day") == (500, 999, 0)
    assert bounds("some") == (500, 999, 1)
    assert bounds("l") == (None, None, None)
    assert list(columns) == TABLE.column_names
    with pytest.raises(KeyError):
        columns["none"]


def test_statistics_that_are_absent_or_in_doubt_are_unknown(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", write_statistics=False)
    stats = open_source(tmp_path / "a.parquet").fragments[0].columns["id"]
    assert (stats.low, stats.high, stats.nulls) == (None, None, None)
    doubtful = {
        "nan": pa.array([float("nan")] * 2),
        "half": pa.array(np.array([1, 2], np.float16)),
        "bytes": [b"a", b"b"],
        "null": pa.array([None, None], pa.int64()),
    }
    pq.write_table(pa.table(doubtful), tmp_path / "b.parquet")
    columns = open_source(tmp_path / "b.parquet").fragments[0].columns
    for name in doubtful:
        assert (columns[name].low, columns[name].high) == (None, None), name


def test_a_column_is_not_nullable_when_every_footer_says_that_it_has_no_null(
    tmp_path: Path,
) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=100)
    schema = open_source(tmp_path / "a.parquet").schema
    assert [c.name for c in schema if c.nullable] == ["some"]
    pq.write_table(TABLE, tmp_path / "b.parquet", write_statistics=False)
    assert all(c.nullable for c in open_source(tmp_path).schema)


def test_text_that_repeats_is_read_as_codes_and_other_text_plainly(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=500)
    source = open_source(tmp_path / "a.parquet")
    table = source.read(1, ["s", "unique"])
    assert table.schema.types == [pa.dictionary(pa.int32(), pa.string()), pa.string()]
    assert table["s"].to_pylist() == TABLE["s"].to_pylist()[500:]
    assert read_all(source, ["s"])["s"].type == pa.string()


def test_text_columns_of_one_file_in_many_widths_are_one_column(tmp_path: Path) -> None:
    types = [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
    ]
    for i, stored in enumerate(types):
        pq.write_table(
            pa.table({"s": pa.array(["x", "y"]).cast(stored)}), tmp_path / f"{i}.parquet"
        )
    source = open_source(tmp_path)
    assert source.schema["s"].dtype == Text()
    assert read_all(source, ["s"])["s"].to_pylist() == ["x", "y"] * 4
    shuffled = gather(source, np.array([7, 0, 4, 2]), ["s"])
    assert shuffled["s"].to_pylist() == ["y", "x", "x", "x"]


def test_dictionaries_of_several_files_become_one_class_label(tmp_path: Path) -> None:
    for i, values in enumerate((["b", "a"], ["c", "b", None], ["a"])):
        table = pa.table({"k": pa.array(values).dictionary_encode()})
        pq.write_table(table, tmp_path / f"{i}.parquet")
    for source in (open_source(tmp_path), open_source(sorted(tmp_path.iterdir()))):
        assert source.schema["k"] == Column("k", Label(("b", "a", "c"), Int(32)), True)
        codes = [source.read(i, ["k"])["k"].chunk(0).indices.to_pylist() for i in range(3)]
        assert codes == [[0, 1], [2, 0, None], [1]]
        assert read_all(source, ["k"])["k"].to_pylist() == ["b", "a", "c", "b", None, "a"]
        assert source.fragments[0].columns["k"].low is None


def test_class_names_in_the_metadata_number_a_dictionary(tmp_path: Path) -> None:
    values = pa.array(["b", "a"]).dictionary_encode()

    def write(names: str) -> Path:
        field = pa.field("k", values.type, metadata={"tql:class_names": names})
        pq.write_table(pa.table([values], schema=pa.schema([field])), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    source = open_source(write('["a", "b", "unused"]'))
    assert source.schema["k"].dtype == Label(("a", "b", "unused"), Int(32))
    assert source.read(0, ["k"])["k"].chunk(0).indices.to_pylist() == [1, 0]
    source = open_source(write('["b"]'))
    with pytest.raises(TqlDataError, match="value 'a' is not among the class names"):
        source.read(0, ["k"])


def test_columns_with_dots_in_their_names_are_not_taken_for_children(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": 1}], "a.b": [2], "a.b.c": [[3]]})
    pq.write_table(table, tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    for name in table.column_names:
        assert source.read(0, [name]).to_pydict() == table.select([name]).to_pydict()
    assert source.fragments[0].columns["a.b"].high == 2


def test_files_may_differ_in_the_order_of_columns(tmp_path: Path) -> None:
    pq.write_table(TABLE.select(["id", "s"]), tmp_path / "a.parquet")
    pq.write_table(TABLE.select(["s", "id"]), tmp_path / "b.parquet")
    source = open_source(tmp_path)
    assert source.schema.names == ("id", "s")
    assert read_all(source, ["id"])["id"].to_pylist() == list(range(N)) * 2


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"id": [1.0], "s": ["x"]}, "column 'id' is int64 there and float64 here"),
        ({"id": [1]}, "column 's' is in the first only"),
        ({"id": [1], "s": ["x"], "t": [1]}, "column 't' is in the second only"),
    ],
)
def test_files_with_different_schemas_are_named(
    tmp_path: Path, suffix: str, other: dict[str, Any], difference: str
) -> None:
    for name, table in (("a", TABLE.select(["id", "s"])), ("b", pa.table(other))):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            pq.write_table(table, path)
        else:
            write_ipc(path, table, 100)
    with pytest.raises(TqlDataError) as caught:
        open_source(tmp_path)
    message = caught.value.diagnostic.message
    assert f"a.{suffix}'" in message
    assert f"b.{suffix}'" in message
    assert difference in message


def test_files_with_different_class_names_are_refused_unless_names_are_given(
    tmp_path: Path,
) -> None:
    for name in ("x", "y"):
        field = pa.field("k", pa.int64(), metadata={"tql:class_names": f'["{name}"]'})
        table = pa.table([pa.array([0])], schema=pa.schema([field]))
        pq.write_table(table, tmp_path / f"{name}.parquet")
    with pytest.raises(TqlDataError, match="column 'k' has other class names"):
        open_source(tmp_path)
    given = open_source(tmp_path, class_names={"k": ["z"]})
    assert given.schema["k"].dtype == Label(("z",))


# Arrow IPC


@pytest.mark.parametrize("write", [write_ipc, write_stream])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_ipc_files_and_streams_are_read_batch_by_batch(
    tmp_path: Path, write: Any, compression: str | None
) -> None:
    path = write(tmp_path / "a.arrow", TABLE, 300, compression)
    source = open_source(path)
    assert source.kind == "ipc"
    assert source.rows == N
    assert read_all(source, TABLE.column_names).to_pydict() == TABLE.to_pydict()
    starts = [f.start for f in source.fragments]
    joined = compression is None or write is write_stream
    assert starts == ([0] if joined else [0, 300, 600, 900])
    assert source.read(0, ["id"]).num_rows == (N if joined else 300)
    assert source.schema["some"].nullable
    assert source.schema["id"].nullable is (not joined)


def test_small_batches_are_joined_and_large_ones_are_not(tmp_path: Path) -> None:
    table = pa.table({"id": np.arange(200_000)})
    source = open_source(write_ipc(tmp_path / "a.arrow", table, 1000))
    assert [f.rows for f in source.fragments] == [65_000, 65_000, 65_000, 5_000]
    assert source.fragments[1].origin.endswith("a.arrow, batches 65-129")
    assert source.read(1, ["id"])["id"].to_pylist() == list(range(65_000, 130_000))
    source = open_source(write_ipc(tmp_path / "b.arrow", table, 100_000))
    assert [f.rows for f in source.fragments] == [100_000, 100_000]
    assert source.fragments[1].columns["id"] == ColumnStats(nulls=0, bytes=800_000)


def test_uncompressed_ipc_is_not_copied(tmp_path: Path) -> None:
    table = pa.table({"id": np.arange(2_000_000), "b": [b"x" * 10] * 2_000_000})
    for write in (write_ipc, write_stream):
        path = write(tmp_path / f"{write.__name__}.arrow", table, 100_000)
        before = pa.total_allocated_bytes()
        source = open_source(path)
        read = [source.read(i, ["id", "b"]) for i in range(len(source.fragments))]
        assert pa.total_allocated_bytes() - before < 100_000
        assert sum(r.num_rows for r in read) == 2_000_000


def test_opening_compressed_ipc_does_not_unpack_it(tmp_path: Path) -> None:
    table = pa.table({"wide": [b"x" * 1000] * 20_000, "n": np.zeros(20_000, np.int8)})
    path = write_ipc(tmp_path / "a.arrow", table, 5_000, "lz4")
    before = pa.total_allocated_bytes()
    source = open_source(path)
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert len(source.fragments) == 4


def test_dictionaries_of_ipc_batches_become_one_class_label(tmp_path: Path) -> None:
    batches = [
        pa.record_batch({"k": pa.array(values).dictionary_encode()})
        for values in (["b", "a"], ["c", None, "b"])
    ]
    with pa.ipc.new_stream(tmp_path / "a.arrow", batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    source = open_source(tmp_path / "a.arrow")
    assert source.schema["k"] == Column("k", Label(("b", "a", "c"), Int(32)), True)
    assert read_all(source, ["k"])["k"].to_pylist() == ["b", "a", "c", None, "b"]


def test_ipc_is_read_through_a_given_file_system(tmp_path: Path) -> None:
    write_ipc(tmp_path / "a.arrow", TABLE, 300)
    write_stream(tmp_path / "b.arrow", TABLE, 300)
    filesystem = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    source = open_source("*.arrow", filesystem=filesystem)
    assert source.rows == 2 * N
    assert gather(source, np.array([1999, 5]), ["id"])["id"].to_pylist() == [999, 5]


# Damage


def damaged(path: Path) -> TqlDataError:
    with pytest.raises(TqlDataError) as caught:
        open_source(path)
    error = caught.value
    assert error.diagnostic.code == "source"
    assert error.exit_code == DATA_MISSING
    assert path.name in error.diagnostic.message
    assert error.diagnostic.help
    return error


@pytest.mark.parametrize("keep", [0, 3, 11, 100, -1, -5, -20])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path)
    path.write_bytes(path.read_bytes()[:keep])
    message = damaged(path).diagnostic.message
    assert ("not a Parquet file" if keep in (0, 3, 11) else "truncated or damaged") in message
    assert "'PAR1'" in message


def test_a_footer_that_cannot_be_decoded_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path)
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little")
    content[-8 - footer : -8] = b"\xff" * footer
    path.write_bytes(content)
    assert "footer cannot be decoded" in damaged(path).diagnostic.message
    content[-8:-4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    assert "names a footer of 2,147,483,655 bytes" in damaged(path).diagnostic.message


def test_a_row_group_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path, row_group_size=500)
    content = bytearray(path.read_bytes())
    second = pq.read_metadata(path).row_group(1).column(0)
    start = second.dictionary_page_offset
    content[start : start + second.total_compressed_size] = b"\xff" * second.total_compressed_size
    path.write_bytes(content)
    source = open_source(path)
    assert source.read(0, ["id"]).num_rows == 500
    with pytest.raises(TqlDataError, match=r"a\.parquet, row group 1 cannot be read") as caught:
        source.read(1, ["id"])
    assert caught.value.diagnostic.code == "source"
    assert caught.value.__cause__ is not None


def test_a_file_that_vanishes_after_opening_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path)
    source = open_source(path)
    path.unlink()
    with pytest.raises(TqlDataError, match=r"a\.parquet"):
        source.read(0, ["id"])


def test_files_that_are_no_data_say_what_they_start_with(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.arrow", "a.txt"):
        (tmp_path / name).write_text("id,s\n1,x\n2,y\n3,z\n")
    assert "not a Parquet file: it starts with b'id,s'" in str(damaged(tmp_path / "a.parquet"))
    assert "not an Arrow IPC file" in str(damaged(tmp_path / "a.arrow"))
    assert "not a data file" in str(damaged(tmp_path / "a.txt"))


@pytest.mark.parametrize("write", [write_ipc, write_stream])
@pytest.mark.parametrize("keep", [0, 6, 20, 300])
def test_a_truncated_ipc_file_is_named(tmp_path: Path, write: Any, keep: int) -> None:
    path = write(tmp_path / "a.arrow", TABLE, 100)
    path.write_bytes(path.read_bytes()[:keep])
    damaged(path)


def test_a_stream_that_ends_within_a_batch_is_damage(tmp_path: Path) -> None:
    path = write_stream(tmp_path / "a.arrow", TABLE, 100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated or damaged" in str(damaged(path))


def test_missing_files_offer_the_nearest_name(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "train.parquet")
    assert damaged(tmp_path / "trian.parquet").diagnostic.help == "did you mean 'train.parquet'?"
    assert "'train.parquet'" in str(damaged(tmp_path / "zzz"))
    assert "does not exist either" in str(damaged(tmp_path / "no" / "a.parquet"))
    assert "no file matches" in str(damaged(tmp_path / "tra*n.arrow"))
    assert "did you mean 'train.parquet'" in str(damaged(tmp_path / "tran*.parquet"))
    assert "folder" in str(damaged(tmp_path / "no" / "*.parquet"))


def test_missing_data_sets_and_paths_are_refused() -> None:
    for source, message in (
        ("demo:digit", "did you mean 'demo:digits'?"),
        ("demo:Digits", "did you mean 'demo:digits'?"),
        ("demo:", "there is 'demo:digits'"),
        ("demo:zzz", "there is 'demo:digits'"),
        ("", "the path is empty"),
        ([], "the list of paths is empty"),
        ("nosuchscheme://x/y.parquet", "cannot be opened"),
    ):
        with pytest.raises(TqlDataError, match=message):
            open_source(source)


def test_a_folder_without_data_says_what_it_has(tmp_path: Path) -> None:
    assert "found nothing" in str(damaged(tmp_path))
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    (tmp_path / ".hidden.parquet").touch()
    assert "found 2 .txt" in str(damaged(tmp_path))


def test_files_of_both_kinds_are_refused_together(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet")
    write_ipc(tmp_path / "b.arrow", TABLE, 100)
    assert "both Parquet and Arrow" in str(damaged(tmp_path))
    with pytest.raises(TqlDataError, match=r"a\.parquet' is Parquet and .*b\.arrow' is Arrow IPC"):
        open_source([tmp_path / "b.arrow", tmp_path / "a.parquet"])


class Forbidden(pafs.FileSystemHandler):
    """A file system that shows its files and lets nobody read them."""

    def __init__(self) -> None:
        self.local = pafs.LocalFileSystem()

    def get_type_name(self) -> str:
        return "forbidden"

    def get_file_info(self, paths: Any) -> Any:
        return self.local.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        return self.local.get_file_info(selector)

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("sources only read")

    open_input_stream = open_output_stream = open_append_stream = _refuse
    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = _refuse


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a"])
def test_a_file_without_read_permission_says_so(tmp_path: Path, name: str) -> None:
    pq.write_table(TABLE, tmp_path / name)
    with pytest.raises(TqlDataError, match=f"{name}' may not be read: permission denied") as caught:
        open_source(tmp_path / name, filesystem=pafs.PyFileSystem(Forbidden()))
    assert caught.value.exit_code == DATA_MISSING


# Threads, forks, fingerprints


@pytest.mark.parametrize("kind", ["parquet", "ipc", "ipc lz4", "memory"])
def test_many_threads_read_at_once(tmp_path: Path, kind: str) -> None:
    data: Any = TABLE
    if kind == "parquet":
        data = tmp_path / "a.parquet"
        pq.write_table(TABLE, data, row_group_size=50)
    elif kind != "memory":
        data = write_ipc(tmp_path / "a.arrow", TABLE, 50, "lz4" if "lz4" in kind else None)
    source = open_source(data)
    count = len(source.fragments)

    def read(i: int) -> int:
        return sum(source.read(i % count, ["id", "s"])["id"].to_pylist())

    with ThreadPoolExecutor(8) as pool:
        total = sum(pool.map(read, range(4 * count)))
    assert total == 4 * sum(range(N))


FORK = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from tql.sources import gather, open_source

source = open_source(sys.argv[1])
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda i: source.read(i, ["id", "s"]), range(len(source.fragments))))
children = []
for _ in range(3):
    pid = os.fork()
    if not pid:
        rows = gather(source, np.arange(source.rows)[::-1], ["id", "s", "l"])
        os._exit(0 if rows["id"].to_pylist() == list(range(1000))[::-1] else 1)
    children.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""


@pytest.mark.parametrize("kind", ["parquet", "ipc", "ipc lz4"])
def test_a_source_is_read_in_forked_children(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(TABLE, path, row_group_size=100)
    else:
        path = write_ipc(tmp_path / "a.arrow", TABLE, 100, "lz4" if "lz4" in kind else None)
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def changed(table: pa.Table) -> pa.Table:
    ids = np.arange(N)
    ids[500] = -1
    return table.set_column(0, "id", pa.array(ids))


@pytest.mark.parametrize("kind", ["parquet", "ipc", "stream"])
def test_a_fingerprint_is_of_the_content_not_of_path_or_time(tmp_path: Path, kind: str) -> None:
    def write(path: Path, table: pa.Table) -> Path:
        if kind == "parquet":
            pq.write_table(table, path)
            return path
        return (write_ipc if kind == "ipc" else write_stream)(path, table, 100)

    suffix = "parquet" if kind == "parquet" else "arrow"
    first = write(tmp_path / f"a.{suffix}", TABLE)
    second = Path(shutil.copy(first, tmp_path / f"b.{suffix}"))
    os.utime(second, (1, 1))
    third = write(tmp_path / f"c.{suffix}", changed(TABLE))
    print_of = {p: open_source(p).fingerprint for p in (first, second, third)}
    assert print_of[first] == print_of[second]
    assert print_of[first] == open_source(first, columns=["s"]).fingerprint
    assert print_of[first] != print_of[third]
    both = open_source([first, third]).fingerprint
    assert both != open_source([third, first]).fingerprint
    assert both == open_source([second, third]).fingerprint


def test_a_large_ipc_file_is_sampled_at_both_ends(tmp_path: Path) -> None:
    path = write_ipc(tmp_path / "a.arrow", pa.table({"a": np.zeros(1_000_000)}), 100_000)
    before = open_source(path).fingerprint
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    assert open_source(path).fingerprint != before


def test_the_fingerprint_of_arrays_is_of_their_values_not_of_their_layout() -> None:
    table = TABLE.append_column("b", pa.array([i % 3 == 0 for i in range(N)]))
    table = table.append_column("st", pa.array([{"a": i} for i in range(N)]))
    table = table.append_column("k", table["s"].dictionary_encode())
    fingerprint = open_source(table).fingerprint
    pieces = pa.concat_tables([table.slice(0, 13), table.slice(13, 500), table.slice(513)])
    padded = pa.concat_tables([table.slice(7, 5), table, table]).combine_chunks().slice(5, N)
    assert open_source(pieces).fingerprint == fingerprint
    assert open_source(padded).fingerprint == fingerprint
    assert open_source(changed(table)).fingerprint != fingerprint
    assert open_source(table.rename_columns([*"abcdefghijkl"])).fingerprint != fingerprint


@pytest.mark.parametrize("name", [*TABLE.column_names, "b", "st", "k"])
def test_one_changed_value_changes_the_fingerprint(name: str) -> None:
    table = TABLE.append_column("b", pa.array([i % 3 == 0 for i in range(N)]))
    table = table.append_column("st", pa.array([{"a": i} for i in range(N)]))
    table = table.append_column("k", table["s"].dictionary_encode()).select([name])
    swapped = np.arange(N)
    swapped[[400, 501]] = swapped[[501, 400]]
    other = table.take(pa.array(swapped))
    same = table[name][400].as_py() == table[name][501].as_py()
    assert (open_source(other).fingerprint == open_source(table).fingerprint) is same


def test_what_stands_behind_a_null_does_not_enter_the_fingerprint() -> None:
    valid = np.packbits([True, False, True], bitorder="little").tobytes()
    arrays = [
        pa.Array.from_buffers(
            pa.int64(), 3, [pa.py_buffer(valid), pa.py_buffer(np.array([1, garbage, 3]).tobytes())]
        )
        for garbage in (0, 99)
    ]
    assert len({open_source({"a": a}).fingerprint for a in arrays}) == 1
    assert open_source({"a": [1, 0, 3]}).fingerprint != open_source({"a": arrays[0]}).fingerprint
