"""Data sets of `datasets` as they are: features, images in files, views, and Parquet as the Hub has it."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Array2D, Array3D, ClassLabel, Features, Sequence, Value
from datasets.table import embed_table_storage
from PIL import Image

import tql
from tql.diagnostics import TqlDataError, TqlNameError, TqlTypeError
from tql.schema import Binary, Column, Float, Int, Label, List, Text
from tql.sources import open_source
from tql.sources.beside import FilesSource

N = 6
FEATURES = Features(
    {
        "image": datasets.Image(),
        "label": ClassLabel(names=["cat", "dog"]),
        "plane": Array2D((2, 3), "float32"),
        "cube": Array3D((None, 2, 2), "uint8"),
        "tags": Sequence(ClassLabel(names=["u", "v"])),
        "pair": Sequence(Value("int32"), length=2),
        "text": Value("string"),
    }
)


def picture(folder: Path, i: int) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / f"{i}.png"
    Image.new("RGB", (5, 4), (i, i, i)).save(path)
    return os.fspath(path)


def made(folder: Path, embedded: bool = False) -> datasets.Dataset:
    ds = datasets.Dataset.from_dict(
        {
            "image": [picture(folder, i) for i in range(N)],
            "label": [i % 2 for i in range(N)],
            "plane": [np.full((2, 3), i) for i in range(N)],
            "cube": [np.full((1 + i % 2, 2, 2), i) for i in range(N)],
            "tags": [[0] * (i % 3) for i in range(N)],
            "pair": [[i, -i] for i in range(N)],
            "text": [None if i == 2 else f"t{i}" for i in range(N)],
        },
        features=FEATURES,
    )
    if embedded:
        embed = embed_table_storage
        ds = ds.with_format("arrow").map(embed, batched=True).with_format(None)
    return ds


def as_parquet(ds: datasets.Dataset, path: Path, **options: Any) -> Path:
    # As `Dataset.to_parquet` writes it, which would show a progress bar.
    pq.write_table(ds.data.table, path, **options)
    return path


def pixels(ds: tql.Dataset) -> list[int]:
    return [int(v[0, 0, 0]) for b in ds.dataloader().batch(4).numpy() for v in b["image"]]


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("form", ["object", "parquet", "groups", "arrow", "saved"])
def test_features_become_types_and_images_are_found(
    tmp_path: Path, form: str, embedded: bool
) -> None:
    theirs = made(tmp_path / "images", embedded)
    source: Any = theirs
    match form:
        case "parquet":
            source = as_parquet(theirs, tmp_path / "x.parquet")
        case "groups":
            source = as_parquet(theirs, tmp_path / "x.parquet", row_group_size=2)
        case "arrow":
            source = tmp_path / "x.arrow"
            with pa.ipc.new_stream(source, theirs.data.table.schema) as out:
                out.write_table(theirs.data.table)
        case "saved":
            theirs.save_to_disk(tmp_path / "saved", num_proc=None)
            source = sorted((tmp_path / "saved").glob("*.arrow"))
    ds = tql.open(source)
    assert {c.name: c.dtype for c in ds.schema} == {
        "image": Binary(image=True),
        "label": Label(("cat", "dog")),
        "plane": List(List(Float(32), 3), 2),
        "cube": List(List(List(Int(8, False), 2), 2)),
        "tags": List(Label(("u", "v"))),
        "pair": List(Int(32), 2),
        "text": Text(),
    }
    elsewhere = not embedded and form != "saved"  # which embeds them
    assert isinstance(ds.source, FilesSource) == elsewhere
    assert ds.query("select * where label == 'dog' and plane[0, 0] > 1").row_ids.tolist() == [3, 5]
    assert pixels(ds) == list(range(N))
    (batch,) = ds.dataloader().batch(N).numpy()
    assert batch["plane"].shape == (N, 2, 3) and batch["plane"].dtype == np.float32
    assert [c.shape for c in batch["cube"]] == [(1 + i % 2, 2, 2) for i in range(N)]
    assert pixels(tql.open(source, columns=["label", "image"])) == list(range(N))
    again = pickle.loads(pickle.dumps(ds.source))
    assert again.read(0, ["image"]).num_rows and again.fingerprint == ds.fingerprint


def test_the_path_of_an_image_can_be_asked_for_and_is_in_no_batch(tmp_path: Path) -> None:
    theirs = made(tmp_path / "images")
    for source in (theirs, as_parquet(theirs, tmp_path / "x.parquet")):
        ds = tql.open(source)
        assert "image.path" not in ds.columns
        view = ds.query("select *, image.path as file where image.path like '*3.png'")
        assert view.row_ids.tolist() == [3]
        assert view["file"].to_pylist() == [str(tmp_path / "images" / "3.png")]
        assert ds.query("select image['path'] as p where row_number() == 4")["p"].to_pylist() == [
            str(tmp_path / "images" / "4.png")
        ]
        assert ds["image.path"][5].as_py().endswith("5.png")
        with pytest.raises(TqlNameError, match="image"):
            ds.query("select * where image.pth == 'x'")
        with pytest.raises(TqlNameError):
            ds.query("select * where label.path == 'x'")
        assert "image.path" in str(ds.explain("select * where image.path like '*3.png'"))


@pytest.mark.parametrize("form", ["select", "shuffle", "filter", "shard", "take"])
def test_rows_are_those_of_the_view_and_nothing_is_flattened(tmp_path: Path, form: str) -> None:
    theirs = made(tmp_path / "images")
    match form:
        case "select":
            theirs = theirs.select([5, 1, 1, 3])
        case "shuffle":
            theirs = theirs.shuffle(seed=4, keep_in_memory=True)
        case "filter":
            theirs = theirs.filter(lambda i: i % 2 == 1, input_columns="label", keep_in_memory=True)
        case "shard":
            theirs = theirs.shard(2, 1, contiguous=False)
        case _:
            theirs = theirs.take(3)
    ds = tql.open(theirs)
    assert ds["pair"].to_pylist() == [list(p) for p in theirs["pair"]]
    assert pixels(ds) == [np.asarray(image)[0, 0, 0] for image in theirs["image"]]
    (tmp_path / "images" / "1.png").unlink()
    if form == "select":
        with pytest.raises(TqlDataError, match="row 1, column 'image'"):
            pixels(ds)


def test_formats_and_transforms_of_theirs_change_nothing_here(tmp_path: Path) -> None:
    theirs = made(tmp_path / "images")
    for other in (theirs.with_format("numpy"), theirs.with_transform(lambda batch: batch)):
        assert pixels(tql.open(other)) == list(range(N))
        assert tql.open(other).fingerprint == tql.open(theirs).fingerprint


def test_rows_with_and_without_bytes_or_path_stand_side_by_side(tmp_path: Path) -> None:
    picture(tmp_path, 1)
    content = (tmp_path / "1.png").read_bytes()
    rows = [{"bytes": content, "path": "gone.png"}, {"bytes": None, "path": "1.png"}]
    rows += [None, {"bytes": None, "path": None}, {"bytes": content, "path": None}]
    stored = pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    feature = {"info": {"features": {"image": {"_type": "Image"}}}}
    table = pa.table({"image": stored}).replace_schema_metadata(
        {"huggingface": json.dumps(feature)}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    for source in (tmp_path / "x.parquet", table):
        ds = tql.open(source, root=tmp_path)
        assert ds.schema["image"] == Column("image", Binary(image=True), True)
        images = ds["image"].to_pylist()
        assert images == [content, content, None, None, content]
    assert tql.open(tmp_path / "x.parquet")[1]["image"][0, 0, 0] == 1  # beside the file


def test_rows_in_parquet_with_a_null_image_keep_their_fragments_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path, 1)
    content = (tmp_path / "1.png").read_bytes()
    rows = [None if i == 7 else {"bytes": content, "path": None} for i in range(40)]
    theirs = datasets.Dataset.from_dict({"image": rows}, Features({"image": datasets.Image()}))
    ds = tql.open(as_parquet(theirs, tmp_path / "x.parquet", row_group_size=20))
    assert isinstance(ds.source, FilesSource)
    reads = []
    below = ds.source._table
    read = below.read
    monkeypatch.setattr(below, "read", lambda f, names: reads.append(f) or read(f, names))
    loader = ds.dataloader(seed=1).shuffle().batch(4).numpy()
    assert sum(len(b["index"]) for b in loader) == 40
    assert sorted(reads) == [0, 1]


def test_a_stream_of_rows_is_refused_with_a_way_out(tmp_path: Path) -> None:
    theirs = made(tmp_path / "images")
    for source in (
        theirs.to_iterable_dataset(),
        datasets.IterableDatasetDict({"train": theirs.to_iterable_dataset()}),
    ):
        with pytest.raises(TqlTypeError, match="streaming=False"):
            tql.open(source)
    with pytest.raises(TqlTypeError, match="splits 'train'"):
        tql.open(datasets.DatasetDict({"train": theirs}))


def test_an_array_of_another_shape_than_its_feature_says_is_refused() -> None:
    storage = pa.array([[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]], pa.list_(pa.list_(pa.float32())))
    feature = {
        "info": {"features": {"x": {"shape": [1, 2], "dtype": "float32", "_type": "Array2D"}}}
    }
    table = pa.table({"x": storage}).replace_schema_metadata({"huggingface": json.dumps(feature)})
    with pytest.raises(
        TqlDataError, match=r"column 'x' is said to be list\[list\[float32, 2\], 1\]"
    ):
        open_source(table)
    nulls = pa.table({"x": pa.array([None, [[1.0, 2.0]]], storage.type)})
    nulls = nulls.replace_schema_metadata({"huggingface": json.dumps(feature)})
    assert open_source(nulls).read(0, ["x"])["x"].to_pylist() == [None, [[1.0, 2.0]]]
