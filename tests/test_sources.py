"""Everything `open_source` accepts, and what it makes of the columns."""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.feather as feather
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from tql.diagnostics import TqlDataError, TqlError, TqlNameError, TqlTypeError
from tql.schema import (
    Binary,
    Bool,
    Column,
    DType,
    Float,
    Int,
    Json,
    Label,
    List,
    Opaque,
    Schema,
    Text,
    Time,
)
from tql.sources import (
    Fragment,
    Source,
    arrow_field,
    export_schema,
    export_table,
    gather,
    open_source,
    schema_of,
)
from tql.sources.classes import MOST_CLASSES

TABLE = pa.table({"n": pa.array([1, 2, 3], pa.int32()), "s": ["x", None, "z"]})


def everything(source: Source, columns: list[str] | None = None) -> dict[str, list[Any]]:
    names = list(source.schema.names) if columns is None else columns
    rows = gather(source, np.arange(source.rows), names)
    values: dict[str, list[Any]] = rows.to_pydict()
    return values


def write_parquet(path: Path, table: pa.Table = TABLE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


class Stream:
    """An object with nothing but the Arrow C stream interface."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class Array:
    """An object with nothing but the Arrow C array interface."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self.batch.__arrow_c_array__(requested_schema)


def wrong(value: Any) -> Any:
    """A value of a type that the signature does not allow."""
    return value


class Features(dict[str, Any]):
    def to_dict(self) -> dict[str, Any]:
        return dict(self)


class Wrapped:
    """What a Hugging Face table and its map of rows look like from outside."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def column(self, i: int) -> pa.ChunkedArray:
        return self.table.column(i)


class HuggingFace:
    def __init__(self, table: pa.Table, features: dict[str, Any], indices: Any = None) -> None:
        self.data = Wrapped(table)
        self.features = Features(features)
        self._indices = indices


@pytest.mark.parametrize(
    "make",
    [
        lambda: TABLE,
        lambda: TABLE.to_batches()[0],
        lambda: TABLE.to_reader(),
        lambda: pads.dataset(TABLE),
        lambda: Stream(TABLE),
        lambda: Array(TABLE.to_batches()[0]),
        lambda: pl.DataFrame({"n": pl.Series([1, 2, 3], dtype=pl.Int32), "s": ["x", None, "z"]}),
        lambda: pd.DataFrame({"n": np.array([1, 2, 3], np.int32), "s": ["x", None, "z"]}),
        lambda: duckdb.sql("select * from (values (1, 'x'), (2, null), (3, 'z')) t(n, s)"),
        lambda: {"n": np.array([1, 2, 3], np.int32), "s": ["x", None, "z"]},
        lambda: {"n": pa.array([1, 2, 3], pa.int32()), "s": pl.Series(["x", None, "z"])},
        lambda: {"n": np.array([1, 2, 3], ">i4"), "s": ("x", None, "z")},
        lambda: HuggingFace(TABLE, {}),
    ],
    ids=range(13),
)
def test_data_in_memory_opens_with_the_same_columns_and_rows(make: Any) -> None:
    source = open_source(make())
    assert source.kind == "memory"
    assert source.schema == Schema([Column("n", Int(32), False), Column("s", Text(), True)])
    assert source.rows == 3
    assert everything(source) == {"n": [1, 2, 3], "s": ["x", None, "z"]}


@pytest.mark.parametrize("kind", ["str", "Path", "folder", "glob", "deep glob", "list", "uri"])
def test_files_open_however_they_are_named(tmp_path: Path, kind: str) -> None:
    a = write_parquet(tmp_path / "x" / "a.parquet")
    b = write_parquet(tmp_path / "x" / "y" / "b.parquet")
    (tmp_path / "x" / "_SUCCESS").touch()
    (tmp_path / "x" / "notes.txt").write_text("no data")
    source: Any = {
        "str": str(a),
        "Path": a,
        "folder": tmp_path / "x",
        "glob": f"{tmp_path}/x/?.parq*",
        "deep glob": f"{tmp_path}/**/*.parquet",
        "list": [b, str(a)],
        "uri": a.as_uri(),
    }[kind]
    rows = 6 if kind in ("folder", "deep glob", "list") else 3
    opened = open_source(source)
    assert opened.kind == "parquet"
    assert opened.rows == rows
    assert everything(opened, ["n"])["n"] == [1, 2, 3] * (rows // 3)


def test_files_of_a_folder_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        write_parquet(tmp_path / f"{name}.parquet", pa.table({"name": [name]}))
    opened = open_source(tmp_path)
    assert everything(opened)["name"] == ["a", "b", "c"]
    assert [f.origin for f in opened.fragments] == [f"{tmp_path}/{n}.parquet" for n in "abc"]


def test_a_path_with_glob_signs_in_its_name_opens(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "data[1]" / "x*.parquet")
    assert open_source(path).rows == 3
    assert open_source(path.parent).rows == 3


def test_a_relative_path_keeps_its_meaning_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "sub" / "a.parquet")
    monkeypatch.chdir(tmp_path)
    source = open_source("sub/*.parquet")
    assert source.fragments[0].origin == "sub/a.parquet"
    monkeypatch.chdir(tmp_path.parent)
    assert everything(source)["n"] == [1, 2, 3]


@pytest.mark.parametrize(
    "path", ["root/a.parquet", "root", "root/*.parquet", "s3://root/*.parquet"]
)
def test_paths_are_read_through_a_given_file_system(tmp_path: Path, path: str) -> None:
    write_parquet(tmp_path / "root" / "a.parquet")
    filesystem = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    source = open_source(path, filesystem=filesystem)
    assert everything(source)["n"] == [1, 2, 3]
    assert source.fingerprint == open_source(tmp_path / "root").fingerprint


def test_an_fsspec_file_system_is_accepted(tmp_path: Path) -> None:
    import fsspec

    path = write_parquet(tmp_path / "a.parquet")
    assert open_source(str(path), filesystem=fsspec.filesystem("file")).rows == 3


def test_a_glob_with_a_uri_opens(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a b" / "1.parquet")
    assert open_source(f"{tmp_path.as_uri()}/a%20b/?.parquet").rows == 3


def test_a_file_without_a_known_extension_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "blob")
    feather.write_feather(TABLE, str(tmp_path / "blob2"))
    assert open_source(tmp_path / "blob").kind == "parquet"
    assert open_source(tmp_path / "blob2").kind == "ipc"


def test_the_embedded_digits_open_with_their_images_and_class_names() -> None:
    digits = open_source("demo:digits")
    assert digits.rows == 1797
    assert digits.schema["images"] == Column("images", Binary(image=True), False)
    label = digits.schema["labels"].dtype
    assert isinstance(label, Label)
    assert label.names[:3] == ("zero", "one", "two")
    assert digits.read(0, ["images"])["images"][0].as_py()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (pa.bool_(), Bool()),
        (pa.int8(), Int(8)),
        (pa.uint64(), Int(64, signed=False)),
        (pa.float16(), Float(16)),
        (pa.float64(), Float(64)),
        (pa.string(), Text()),
        (pa.large_string(), Text()),
        (pa.string_view(), Text()),
        (pa.date32(), Time("D", date=True)),
        (pa.date64(), Time("ms", date=True)),
        (pa.timestamp("us", "UTC"), Time("us", "UTC")),
        (pa.binary(), Binary()),
        (pa.large_binary(), Binary()),
        (pa.binary_view(), Binary()),
        (pa.binary(4), Binary()),
        (pa.list_(pa.large_list(pa.int8())), List(List(Int(8)))),
        (pa.list_(pa.list_(pa.float32(), 3), 2), List(List(Float(32), 3), 2)),
        (pa.list_(pa.string_view()), List(Text())),
        (pa.list_view(pa.int8()), Opaque("list_view<item: int8>")),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), List(Text())),
        (pa.list_(pa.struct({"a": pa.int8()})), List(Json())),
        (pa.list_(pa.json_()), List(Json())),
        (pa.struct({"a": pa.int8()}), Json()),
        (pa.json_(), Json()),
        (pa.dictionary(pa.int8(), pa.float32()), Float(32)),
        (pa.run_end_encoded(pa.int32(), pa.int16()), Int(16)),
        (pa.fixed_shape_tensor(pa.uint8(), [2, 3]), List(List(Int(8, False), 3), 2)),
        (pa.decimal128(5, 2), Opaque("decimal128(5, 2)")),
        (pa.duration("s"), Opaque("duration[s]")),
        (pa.time32("s"), Opaque("time32[s]")),
        (pa.map_(pa.string(), pa.int8()), Opaque("map<string, int8>")),
        (pa.null(), Opaque("null")),
    ],
    ids=str,
)
def test_every_arrow_type_has_its_column_type(stored: pa.DataType, dtype: DType) -> None:
    assert schema_of(pa.schema([pa.field("c", stored)])) == Schema([Column("c", dtype)])


DAY = datetime.date(2024, 5, 17)


@pytest.mark.parametrize(
    ("array", "delivered"),
    [
        (pa.array(["a", None], pa.string_view()), pa.large_string()),
        (pa.array([b"a", None], pa.binary_view()), pa.large_binary()),
        (pa.array([["a"], None, [None]], pa.list_(pa.string_view())), pa.list_(pa.large_string())),
        (pa.array([1, 1, None]).dictionary_encode(), pa.int64()),
        (pa.RunEndEncodedArray.from_arrays([2, 3], [1, None]), pa.int64()),
        (pa.array(['{"a":1}', None], pa.json_()), pa.string()),
        (pa.array([DAY, None], pa.date64()), pa.date64()),
        (pa.array([{"a": 1}, None]), pa.struct({"a": pa.int64()})),
        (pa.array([[["x"]], None]), pa.list_(pa.list_(pa.string()))),
    ],
    ids=lambda x: str(x) if isinstance(x, pa.DataType) else str(x.type),
)
def test_layouts_are_delivered_in_one_form_with_the_same_values(
    array: pa.Array, delivered: pa.DataType
) -> None:
    source = open_source({"c": array})
    column = source.read(0, ["c"])["c"]
    assert column.type == delivered
    assert column.to_pylist() == array.to_pylist()
    assert source.schema["c"].nullable


def test_a_tensor_column_is_delivered_as_nested_lists() -> None:
    values = np.arange(24, dtype=np.int16).reshape(4, 2, 3)
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    for array in (tensor, tensor[1:3]):
        column = open_source({"t": array}).read(0, ["t"])["t"]
        assert column.type == pa.list_(pa.list_(pa.int16(), 3), 2)
        assert column.to_pylist() == array.to_numpy_ndarray().tolist()


def test_a_field_that_cannot_be_null_is_not_nullable() -> None:
    field = pa.field("d", pa.int8(), nullable=False)
    assert schema_of(pa.schema([field])) == Schema([Column("d", Int(8), nullable=False)])


def test_arrays_of_more_dimensions_become_fixed_size_lists() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    source = open_source({"i": images[:, :, ::-1], "none": np.zeros((4, 0))})
    assert source.schema["i"].dtype == List(List(Int(8, False), 2), 3)
    assert source.schema["none"].dtype == List(Float(64), 0)
    assert source.read(0, ["i"])["i"].to_pylist() == images[:, :, ::-1].tolist()
    assert source.read(0, ["none"])["none"].to_pylist() == [[]] * 4


def test_masked_arrays_are_null_where_they_are_masked() -> None:
    masked = np.ma.masked_array([1, 2, 3], [False, True, False])
    assert everything(open_source({"a": masked}))["a"] == [1, None, 3]


def test_numbers_in_numpy_arrays_are_not_copied() -> None:
    values = np.arange(1000.0)
    column = open_source({"a": values}).read(0, ["a"])["a"]
    assert column.chunk(0).buffers()[1].address == values.ctypes.data


def test_fragments_are_slices_of_fixed_length_whatever_the_chunks_are() -> None:
    n = (1 << 20) + 100
    chunks = pa.chunked_array([np.arange(7), np.arange(7, n - 50), np.arange(n - 50, n)])
    source = open_source(pa.table({"a": chunks}))
    assert [(f.start, f.rows) for f in source.fragments] == [(0, 1 << 20), (1 << 20, 100)]
    assert source.read(1, ["a"])["a"].to_pylist() == list(range(1 << 20, n))
    assert source.fragments[1].columns["a"].nulls == 0
    assert source.fingerprint == open_source({"a": np.arange(n)}).fingerprint


# Class names


def test_a_dictionary_of_texts_is_a_class_label() -> None:
    chunks = pa.chunked_array(
        [
            pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.uint8()), ["b", "a"]),
            pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.uint8()), ["c", "b"]),
        ]
    )
    source = open_source(pa.table({"k": chunks}))
    assert source.schema["k"] == Column("k", Label(("b", "a", "c"), Int(32)), True)
    column = source.read(0, ["k"])["k"]
    assert [c.indices.to_pylist() for c in column.chunks] == [[1, 0], [0, None, 2]]
    assert column.to_pylist() == ["a", "b", "b", None, "c"]


def test_a_null_among_the_values_of_a_dictionary_is_a_null_of_the_column() -> None:
    array = pa.DictionaryArray.from_arrays([0, 1, 2, 1], pa.array(["a", None, "b"]))
    source = open_source({"k": array})
    assert source.schema["k"] == Column("k", Label(("a", "b"), Int(32)), True)
    column = source.read(0, ["k"])["k"]
    assert column.null_count == 2
    assert column.to_pylist() == ["a", None, "b", None]


def test_a_dictionary_of_very_many_texts_is_text() -> None:
    texts = [str(i) for i in range(MOST_CLASSES + 1)]
    source = open_source({"k": pa.array(texts).dictionary_encode()})
    assert source.schema["k"].dtype == Text()
    assert gather(source, np.array([5, 3]), ["k"])["k"].to_pylist() == ["5", "3"]


@pytest.mark.parametrize("kind", ["arrays", "parquet", "ipc"])
def test_class_names_given_to_integers_make_labels(tmp_path: Path, kind: str) -> None:
    table = pa.table({"a": pa.array([0, 7, -1], pa.int16()), "l": [[0], [1, 1], []]})
    data: Any = table
    if kind == "parquet":
        data = write_parquet(tmp_path / "a.parquet", table)
    if kind == "ipc":
        data = tmp_path / "a.arrow"
        feather.write_feather(table, str(data))
    source = open_source(data, class_names={"a": ["x", "y"], "l": ["u", "v"]})
    assert source.schema["a"].dtype == Label(("x", "y"), Int(16))
    assert source.schema["l"].dtype == List(Label(("u", "v")))
    assert everything(source)["a"] == [0, 7, -1]
    assert source.fingerprint != open_source(data).fingerprint


def test_given_class_names_win_over_those_in_the_metadata(tmp_path: Path) -> None:
    field = pa.field("a", pa.int64(), metadata={"tql:class_names": '["p", "q"]'})
    table = pa.table([pa.array([0, 1])], schema=pa.schema([field]))
    path = write_parquet(tmp_path / "a.parquet", table)
    for data in (table, path):
        assert open_source(data).schema["a"].dtype == Label(("p", "q"))
        given = open_source(data, class_names={"a": ["x", "y"]})
        assert given.schema["a"].dtype == Label(("x", "y"))


HF_FEATURES = {
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    "image": {"_type": "Image"},
    "tags": {"feature": {"names": ["u", "v"], "_type": "ClassLabel"}, "_type": "Sequence"},
    "old": [{"names": ["s", "t"], "_type": "ClassLabel"}],
    "n": {"dtype": "int64", "_type": "Value"},
}
HF_TABLE = pa.table(
    {
        "label": [1, 0, -1],
        "image": pa.array(
            [{"bytes": b"png0", "path": None}, None, {"bytes": b"png2", "path": "p"}],
            pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        ),
        "tags": [[0], [], [1, 1]],
        "old": [[0], [], [1, 1]],
        "n": [1, 2, 3],
    }
)
HF_METADATA = {b"huggingface": json.dumps({"info": {"features": HF_FEATURES}}).encode()}


@pytest.mark.parametrize("kind", ["object", "table", "parquet", "ipc", "stream"])
def test_hugging_face_features_give_class_names_and_images(tmp_path: Path, kind: str) -> None:
    table = HF_TABLE.replace_schema_metadata(HF_METADATA)
    data: Any
    match kind:
        case "object":
            data = HuggingFace(HF_TABLE, HF_FEATURES)
        case "table":
            data = table
        case "parquet":
            data = write_parquet(tmp_path / "a.parquet", table)
        case "ipc":
            data = tmp_path / "a.arrow"
            with pa.ipc.new_file(data, table.schema) as writer:
                writer.write_table(table)
        case _:
            data = tmp_path / "a.arrow"
            with pa.ipc.new_stream(data, table.schema) as writer:
                writer.write_table(table)
    source = open_source(data)
    assert [c.dtype for c in source.schema] == [
        Label(("cat", "dog")),
        Binary(image=True),
        List(Label(("u", "v"))),
        List(Label(("s", "t"))),
        Int(64),
    ]
    assert source.schema["image"].nullable
    read = source.read(0, ["image", "label"])
    assert read["image"].to_pylist() == [b"png0", None, b"png2"]
    assert read["label"].to_pylist() == [1, 0, -1]


def test_images_are_not_nullable_because_their_paths_are(tmp_path: Path) -> None:
    table = HF_TABLE.filter(pa.array([True, False, True]))
    path = write_parquet(tmp_path / "a.parquet", table.replace_schema_metadata(HF_METADATA))
    source = open_source(path)
    assert source.schema["image"] == Column("image", Binary(image=True), False)
    stats = source.fragments[0].columns["image"]
    assert stats.bytes == pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size


def test_a_class_label_that_only_counts_its_classes_numbers_them() -> None:
    features = {"n": {"num_classes": 4, "names": None, "_type": "ClassLabel"}}
    assert open_source(HuggingFace(HF_TABLE, features)).schema["n"].dtype == Label(tuple("0123"))
    for count in (None, 0, True, 10**12):
        features = {"n": {"num_classes": count, "_type": "ClassLabel"}}
        assert open_source(HuggingFace(HF_TABLE, features)).schema["n"].dtype == Int(64)


def test_a_class_name_that_occurs_twice_in_metadata_is_refused() -> None:
    features = {"n": {"names": ["cat", "dog", "cat"], "_type": "ClassLabel"}}
    message = "classes 0 and 2 of column 'n' are both named 'cat'"
    with pytest.raises(TqlDataError, match=message):
        open_source(HuggingFace(HF_TABLE, features))
    given = open_source(HuggingFace(HF_TABLE, features), class_names={"n": ["a", "b", "c", "d"]})
    assert given.schema["n"].dtype == Label(tuple("abcd"))
    field = pa.field("n", pa.int64(), metadata={"tql:class_names": '["cat", "dog", "cat"]'})
    with pytest.raises(TqlDataError, match=message):
        open_source(pa.table([pa.array([0, 1])], schema=pa.schema([field])))


def test_a_shuffled_hugging_face_data_set_is_seen_in_its_own_order() -> None:
    indices = Wrapped(pa.table({"indices": pa.array([2, 0], pa.uint64())}))
    source = open_source(HuggingFace(HF_TABLE, HF_FEATURES, indices))
    assert source.rows == 2
    assert everything(source, ["n", "image"]) == {"n": [3, 1], "image": [b"png2", b"png0"]}
    assert source.fingerprint != open_source(HuggingFace(HF_TABLE, HF_FEATURES)).fingerprint


def test_a_dict_of_splits_is_refused_with_the_names_of_the_splits() -> None:
    splits = {"train": HuggingFace(HF_TABLE, {}), "test": HuggingFace(HF_TABLE, {})}
    with pytest.raises(TqlTypeError, match="splits 'train', 'test'"):
        open_source(splits)


def test_class_names_and_images_survive_being_written_and_read(tmp_path: Path) -> None:
    source = open_source(
        {
            "a": pa.array([1, 0], pa.uint8()),
            "k": pa.array(["b", "a"]).dictionary_encode(),
            "l": [[0], [1]],
            "j": pa.array(["{}", "[]"], pa.json_()),
            "t": ["x", None],
        },
        class_names={"a": ["n\N{LATIN SMALL LETTER O WITH DIAERESIS}", "b"], "l": ["p", "q"]},
    )
    rows = gather(source, np.array([1, 0]), source.schema.names)
    exported = export_table(rows, source.schema)
    path = write_parquet(tmp_path / "a.parquet", exported)
    for again in (open_source(exported), open_source(path)):
        assert again.schema == source.schema
        assert everything(again)["k"] == ["a", "b"]
        assert everything(again)["a"] == [0, 1]


def test_a_schema_alone_can_be_written_and_read() -> None:
    columns = [
        Column("b", Bool()),
        Column("f", Float(16), False),
        Column("t", Text()),
        Column("c", Label(("x",), Int(8))),
        Column("l", List(List(Label(("y", "z"))), 3)),
        Column("d", Time("D", date=True)),
        Column("m", Time("ms", date=True)),
        Column("w", Time("ns", "UTC")),
        Column("i", Binary(image=True)),
    ]
    schema = Schema(columns)
    assert schema_of(export_schema(schema)) == schema
    assert arrow_field(columns[1]) == pa.field("f", pa.float16(), nullable=False)


def test_columns_restricts_and_orders_the_schema(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet")
    for data in (TABLE, path, pads.dataset(TABLE), pads.dataset(path)):
        assert open_source(data, columns=["s"]).schema.names == ("s",)
        assert open_source(data, columns=("s", "n")).schema.names == ("s", "n")


def test_a_pyarrow_data_set_of_plain_parquet_files_stays_on_disk(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    write_parquet(tmp_path / "year=7" / "b.parquet")
    plain = pads.dataset(tmp_path / "a.parquet")
    assert open_source(plain).kind == "parquet"
    filtered = open_source(plain.filter(pads.field("n") > 1))
    assert everything(filtered)["n"] == [2, 3]
    parted = open_source(pads.dataset(tmp_path, partitioning="hive"))
    assert everything(parted)["year"] == [None] * 3 + [7] * 3


# Mistakes


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda: open_source({"a": [1], "bc": [1, 2]}), "shape", "'a' has 1, 'bc' has 2 rows"),
        (lambda: open_source({}), "schema", "no columns"),
        (lambda: open_source({"a": 5}), "type", "column 'a' is a int"),
        (lambda: open_source({"a": "abc"}), "type", "column 'a' is a str"),
        (lambda: open_source({3: [1]}), "type", "named 3, a int"),
        (lambda: open_source({"a": ["x", 1]}), "type", "column 'a' cannot be made"),
        (lambda: open_source({"a": [2**70]}), "type", "column 'a' cannot be made"),
        (lambda: open_source({"a": np.array([1j])}), "type", "column 'a' cannot be made"),
        (lambda: open_source({"a": np.array(1.0)}), "shape", "'a' is a single float64"),
        (lambda: open_source({"a": np.zeros(2, "i4,f8")}), "type", "structured NumPy array"),
        (lambda: open_source(5), "type", "cannot open a int; expected a path"),
        (lambda: open_source(None), "type", "cannot open a NoneType"),
        (lambda: open_source(pl.LazyFrame({"a": [1]})), "type", "cannot open a LazyFrame"),
        (lambda: open_source([{"a": 1}]), "type", "entry 0 is a dict"),
        (lambda: open_source(TABLE, columns="n"), "type", "columns= is a str"),
        (lambda: open_source(TABLE, columns=["n", "n"]), "duplicate_column", "'n' twice"),
        (lambda: open_source(TABLE, columns=[]), "schema", "columns= is empty"),
        (lambda: open_source(TABLE, columns=["N"]), "unknown_column", "did you mean 'n'"),
        (lambda: open_source(TABLE, columns=["zzz"]), "unknown_column", "there are 'n', 's'"),
        (lambda: open_source(TABLE, class_names={"m": ["x"]}), "unknown_column", "column 'm'"),
        (lambda: open_source(TABLE, class_names={"s": ["x"]}), "type", "'s' of type text"),
        (lambda: open_source(TABLE, class_names={"n": "xy"}), "type", "'n' are a str"),
        (
            lambda: open_source(TABLE, class_names=wrong({"n": ["x", 1]})),
            "type",
            "class name 1 of 'n'",
        ),
        (lambda: open_source(TABLE, class_names={"n": ["x", "x"]}), "type", "'x' twice"),
        (lambda: open_source(TABLE, class_names=wrong(["x"])), "type", "class_names= is a list"),
        (lambda: open_source("x", filesystem=5), "type", "filesystem= is a int"),
        (lambda: open_source(b"x"), "type", "cannot open a bytes"),
        (
            lambda: open_source(pa.table([[1], [2]], names=["a", "a"])),
            "duplicate_column",
            "two columns are named 'a'",
        ),
        (lambda: open_source(pa.array([1])), "type", "gives no Arrow table"),
    ],
    ids=range(29),
)
def test_mistakes_say_what_was_found(make: Any, code: str, message: str) -> None:
    with pytest.raises(TqlError) as caught:
        make()
    assert caught.value.diagnostic.code == code
    assert message in str(caught.value)


def test_an_empty_fragment_is_no_fragment() -> None:
    """Sources of one's own leave them out: a share of its rows would be one of nothing."""
    with pytest.raises(AssertionError, match="an empty fragment: part 0"):
        Fragment(0, 0, 0, "part 0")
    assert Fragment(0, 0, 1, "part 0").stop == 1


def test_an_unknown_column_is_a_lookup_error() -> None:
    with pytest.raises(LookupError) as caught:
        open_source(TABLE, columns=["nn"])
    assert isinstance(caught.value, TqlNameError)


def test_class_names_in_metadata_that_are_no_list_are_refused() -> None:
    field = pa.field("a", pa.int64(), metadata={"tql:class_names": '{"p": 0}'})
    with pytest.raises(TqlError, match="expected a JSON list of texts"):
        open_source(pa.table([pa.array([0, 1])], schema=pa.schema([field])))
    broken = TABLE.replace_schema_metadata({"huggingface": "{"})
    with pytest.raises(TqlError, match="'huggingface' is not as Hugging Face datasets writes it"):
        open_source(broken)


def test_importing_the_sources_loads_no_data_frame_library() -> None:
    code = (
        "import sys, tql.sources; "
        "print(*sorted({'pandas', 'polars', 'pyarrow.dataset', 'numba', 'torch'} & set(sys.modules)))"
    )
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == []
