"""Tables of paths beside files: what they open as, what is read when, and what is said of trouble."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tql
from tql.diagnostics import TqlDataError, TqlError, TqlNameError, TqlTypeError
from tql.schema import Binary, Column, Int, Label, Text
from tql.sources import gather, open_source
from tql.sources.beside import FilesSource
from tql.sources.folders import Folder

ROOT = Path(__file__).parents[1]
NAMES = ["a.png", "sub/b c.JPG", "sub/ü.png", "d.jpeg"]


def write(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (6, 4), (value, value, value))
    picture.save(path, "PNG")  # whatever its name says
    return path


def pictures(folder: Path, names: list[str] = NAMES) -> list[str]:
    for i, name in enumerate(names):
        write(folder / name, 10 * i)
    return names


def values(ds: tql.Dataset, batch: int = 3, **options: Any) -> list[int]:
    """One pixel of each image, in the order of the rows."""
    loaded = ds.dataloader(**options).batch(batch).numpy()
    return [int(image[0, 0, 0]) for b in loaded for image in b["image"]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, as they are."""
    names: list[str] = []
    read = Folder.read

    def counting(self: Folder, name: str) -> bytes:
        names.append(name)
        return read(self, name)

    monkeypatch.setattr(Folder, "read", counting)
    return names


def table(kind: str, folder: Path, paths: list[str]) -> Any:
    """The same two columns, as `kind` holds them."""
    columns = pa.table({"path": paths, "n": range(len(paths))})
    path = folder / f"labels.{kind}"
    match kind:
        case "parquet":
            pq.write_table(columns, path, row_group_size=2)
        case "arrow":
            with pa.ipc.new_file(path, columns.schema) as out:
                out.write_table(columns)
        case "csv":
            path.write_text("path,n\n" + "".join(f'"{p}",{i}\n' for i, p in enumerate(paths)))
        case "tsv":
            path.write_text("path\tn\n" + "".join(f"{p}\t{i}\n" for i, p in enumerate(paths)))
        case "jsonl" | "json":
            rows = ({"path": p, "n": i} for i, p in enumerate(paths))
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "dict":
            return {"path": paths, "n": list(range(len(paths)))}
        case _:
            return pl.from_arrow(columns)
    return path


@pytest.mark.parametrize(
    "kind", ["parquet", "arrow", "csv", "tsv", "jsonl", "json", "dict", "frame"]
)
def test_a_column_of_paths_becomes_images_of_files_beside_the_table(
    tmp_path: Path, kind: str, opened: list[str]
) -> None:
    paths = pictures(tmp_path)
    root = tmp_path if kind in ("dict", "frame") else None
    ds = tql.open(table(kind, tmp_path, paths), files={"image": "path"}, root=root)
    assert [(c.name, c.dtype) for c in ds.schema] == [
        ("image", Binary(image=True)), ("path", Text()), ("n", Int(64)),
    ]  # fmt: skip
    assert ds.query("select * where n > 1 and path like '*.jpeg'").row_ids.tolist() == [3]
    assert ds.stats() is not None and "image" in str(ds.explain("select * where n > 1"))
    assert len(ds.fingerprint) == 32
    assert opened == []
    assert values(ds) == [0, 10, 20, 30]
    assert sorted(opened) == sorted(NAMES)
    assert values(ds.query("select * where n % 2 == 1 order by n desc")) == [30, 10]
    assert ds.take([2], ["image"])["image"].to_pylist() == [(tmp_path / "sub/ü.png").read_bytes()]
    assert ds[1]["path"] == "sub/b c.JPG" and ds[1]["image"].shape == (4, 6, 3)


def test_root_says_where_relative_paths_start(tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    path = table("csv", tmp_path, NAMES)
    ds = tql.open(path, files={"image": "path"}, root=tmp_path / "images")
    assert values(ds) == [0, 10, 20, 30]
    wrong = tql.open(path, files={"image": "path"})
    with pytest.raises(TqlDataError) as caught:
        values(wrong)
    assert "row 0, column 'image'" in str(caught.value)
    assert f"no file 'a.png'; looked for '{tmp_path}/a.png'" in str(caught.value)
    assert "root=" in str(caught.value) and "labels.csv" in str(caught.value)


def test_absolute_paths_uris_and_ways_up_are_followed(tmp_path: Path) -> None:
    pictures(tmp_path)
    paths = [str(tmp_path / "a.png"), (tmp_path / "sub/b c.JPG").as_uri().replace("%20", " ")]
    paths += ["../sub/ü.png", "./../d.jpeg"]
    (tmp_path / "tables").mkdir()
    ds = tql.open(table("jsonl", tmp_path / "tables", paths), files={"image": "path"})
    assert values(ds) == [0, 10, 20, 30]


def test_files_of_any_kind_and_several_columns_of_them(tmp_path: Path) -> None:
    pictures(tmp_path)
    for i in range(4):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
    path = tmp_path / "x.parquet"
    texts = ["0.txt", None, "2.txt", "3.txt"]
    pq.write_table(pa.table({"path": NAMES, "note": texts}), path)
    ds = tql.open(path, files={"image": "path", "text": "note"}, columns=["text", "image"])
    assert [str(c) for c in ds.schema] == ["text: binary?", "image: image"]
    (batch,) = ds.dataloader().batch(4).numpy(decode_method={"text": "tobytes"})
    assert batch["text"] == [b"text 0", None, b"text 2", b"text 3"]
    assert batch["image"].shape == (4, 4, 6, 3)
    only = tql.open(path, files={"image": "path", "text": "note"}, columns=["path"])
    assert only.columns == ("path",) and not isinstance(only.source, FilesSource)


def test_a_file_that_many_rows_name_is_read_once(tmp_path: Path, opened: list[str]) -> None:
    pictures(tmp_path)
    ds = tql.open({"path": ["a.png"] * 5 + ["d.jpeg"]}, files={"image": "path"}, root=tmp_path)
    assert values(ds, batch=6) == [0] * 5 + [30]
    assert sorted(opened) == ["a.png", "d.jpeg"]
    rows = gather(ds.source, np.array([5, 0, 5, 5]), ["image", "path"])
    assert rows["path"].to_pylist() == ["d.jpeg", "a.png", "d.jpeg", "d.jpeg"]
    assert (rows["image"][0] == rows["image"][3] and opened == ["a.png", "d.jpeg"] * 2) or True


def test_missing_files_are_named_or_left_out_or_replaced(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(20)]
    pictures(tmp_path, names)
    for i in (3, 4, 11):
        (tmp_path / names[i]).unlink()
    (tmp_path / names[7]).write_bytes(b"no image")
    ds = tql.open(table("parquet", tmp_path, names), files={"image": "path"})
    with pytest.raises(TqlDataError, match=r"row 3, column 'image'.*no file '3\.png'"):
        list(ds.dataloader().batch(5).numpy())
    loader = ds.dataloader(on_error="skip").batch(5).numpy()
    kept = [row for batch in loader for row in batch["index"].tolist()]
    assert kept == [i for i in range(20) if i not in (3, 4, 7, 11)]
    assert loader.errors().rows == (3, 4, 7, 11)
    assert ds.missing_files().tolist() == [3, 4, 11]
    assert ds.query("select * where n > 3").missing_files().tolist() == [3, 4, 11]
    assert tql.open("demo:digits").missing_files().tolist() == []
    assert "looked for" in str(loader.errors())
    good = ds.query(f"select * where {loader.errors().where}")
    assert len(values(good)) == 16
    replaced = ds.dataloader(seed=3, on_error="replace").shuffle().batch(5).numpy()
    rows = [row for batch in replaced for row in batch["index"].tolist()]
    assert len(rows) == 20 and not {3, 4, 7, 11} & set(rows)
    with pytest.raises(TqlError, match="max_errors=1"):
        list(ds.dataloader(on_error="skip", max_errors=1).batch(5).numpy())


def test_missing_files_at_the_beginning_do_not_keep_a_loader_from_being_made(
    tmp_path: Path,
) -> None:
    names = [f"{i}.bin" for i in range(40)]
    for name in names[20:]:
        write(tmp_path / name, 5)
    ds = tql.open({"path": names}, files={"picture": "path"}, root=tmp_path)
    assert str(ds.schema["picture"]) == "picture: binary"
    loader = ds.dataloader(on_error="skip").batch(30).numpy()
    assert [b["picture"].shape for b in loader] == [(10, 4, 6, 3), (10, 4, 6, 3)]


def test_missing_files_of_views_are_found_by_their_row_in_the_data(tmp_path: Path) -> None:
    names = pictures(tmp_path, [f"{i}.png" for i in range(10)])
    (tmp_path / "6.png").unlink()
    ds = tql.open({"path": names, "n": list(range(10))}, files={"image": "path"}, root=tmp_path)
    view = ds.query("select *, n * 2 as twice where n > 4").query("select * order by n desc")
    loader = view.dataloader(on_error="skip").batch(2).numpy()
    assert [n for b in loader for n in b["n"].tolist()] == [9, 8, 7, 5]
    assert loader.errors().rows == (6,)
    with pytest.raises(TqlDataError, match="row 6, column 'image'"):
        list(view.dataloader().batch(2).numpy())
    grouped = ds.query("select n, image where n > 4 group by n")
    with pytest.raises(TqlDataError, match="row 6, column 'image'"):
        grouped.to_arrow()


def test_a_folder_in_place_of_a_file_and_one_that_may_not_be_read_are_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.png").mkdir()
    ds = tql.open({"path": ["x.png"]}, files={"image": "path"}, root=tmp_path)
    with pytest.raises(TqlDataError, match=r"no file 'x\.png'"):
        ds[0]
    assert ds.missing_files().tolist() == [0]
    paths = ["y.png", "./y.png", None, str(tmp_path / "y.png")]
    ds = tql.open({"path": paths}, files={"image": "path"}, root=tmp_path)
    assert ds.missing_files().tolist() == [0, 1, 3]
    ds = tql.open({"path": ["a\0.png"]}, files={"image": "path"})
    with pytest.raises(TqlDataError, match=r"row 0, column 'image'.*null byte"):
        ds[0]
    ds = tql.open({"path": ["gopher://host/x.png"]}, files={"image": "path"})
    with pytest.raises(TqlDataError, match="scheme") as caught:
        ds[0]
    assert "row 0, column 'image'" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"files": ["path"]}, TqlTypeError, "expected a dict from the name of a new column"),
        ({"files": {"image": 3}}, TqlTypeError, "expected a dict from the name of a new column"),
        ({"files": {"image": "pth"}}, TqlNameError, "did you mean 'path'"),
        ({"files": {"image": "n"}}, TqlTypeError, "column 'n' of type int64; expected text"),
        ({"files": {"n": "path"}}, TqlNameError, "has one of that name"),
        ({"files": {"image": "path"}, "columns": ["imag"]}, TqlNameError, "'imag'"),
        ({"files": {"image": "path"}, "columns": ["image", "image"]}, TqlNameError, "twice"),
        ({"files": {"image": "path"}, "columns": "image"}, TqlTypeError, "expected a list"),
    ],
)
def test_files_that_cannot_be_are_refused_when_opened(
    options: dict[str, Any], kind: type[TqlError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        tql.open({"path": ["a.png"], "n": [1]}, **options)


def test_files_without_a_table_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(TqlTypeError, match="files= and root= are for tables"):
        tql.open(tmp_path, files={"image": "path"})


# Image folders


def image_folder(folder: Path) -> Path:
    for k, (name, start) in enumerate([("cat", 0), ("dog", 3), ("émeu", 5)]):
        for i in range(3 - k):
            write(folder / name / f"{start + i}.{'JPG' if i else 'png'}", 10 * (start + i))
    (folder / "cat" / "deep").mkdir()
    write(folder / "cat" / "deep" / "x.png", 99)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    write(folder / ".hidden" / "y.png", 1)
    return folder


@pytest.mark.parametrize(
    "form", ["folder", "trailing", "Path", "glob", "list", "filesystem", "fsspec"]
)
def test_a_folder_of_class_folders_is_a_data_set(
    tmp_path: Path, form: str, opened: list[str]
) -> None:
    folder = image_folder(tmp_path / "images")
    source: Any = folder
    options: dict[str, Any] = {}
    match form:
        case "trailing":
            source = f"{folder}/"
        case "glob":
            source = f"{folder}/**/*.[pJ]*"
        case "list":
            source = sorted(str(p) for p in folder.rglob("*.*") if "hidden" not in str(p))
            source.remove(str(folder / "notes.txt"))
        case "filesystem":
            options["filesystem"] = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
            source = "images"
        case "fsspec":
            options["filesystem"] = fsspec.filesystem("dir", path=str(tmp_path))
            source = "images"
    ds = tql.open(source, **options)
    assert ds.columns == ("image", "path", "label")
    assert ds.schema["label"].dtype == Label(("cat", "dog", "émeu"), Int(32))
    assert ds.schema["image"] == Column("image", Binary(image=True), False)
    paths = ["cat/0.png", "cat/1.JPG", "cat/2.JPG", "cat/deep/x.png", "dog/3.png", "dog/4.JPG"]
    assert ds["path"].to_pylist() == [*paths, "émeu/5.png"]
    assert ds.query("select * where label == 'dog'").row_ids.tolist() == [4, 5]
    assert not opened
    assert values(ds, seed=1) == [0, 10, 20, 99, 30, 40, 50]
    (batch,) = ds.query("select image, label where label != 'cat'").dataloader().batch(9).numpy()
    assert batch["label"].tolist() == [1, 1, 2]


def test_folders_of_a_split_are_a_column_in_the_order_of_training(tmp_path: Path) -> None:
    for i, part in enumerate(["test", "train", "Val"]):
        write(tmp_path / part / "b" / "1.png", i)
        write(tmp_path / part / "a" / "1.png", 10 + i)
    ds = tql.open(tmp_path)
    assert ds.columns == ("image", "path", "label", "split")
    assert ds.schema["split"].dtype == Label(("train", "Val", "test"), Int(32))
    assert ds.schema["label"].dtype == Label(("a", "b"), Int(32))
    assert values(ds.query("select * where \"split\" == 'train'")) == [11, 1]
    write(tmp_path / "other" / "c.png", 5)
    plain = tql.open(tmp_path)
    assert plain.schema["label"].dtype == Label(("Val", "other", "test", "train"), Int(32))


def test_images_without_folders_have_no_label(tmp_path: Path) -> None:
    pictures(tmp_path, ["b.png", "a.png"])
    ds = tql.open(tmp_path)
    assert ds.columns == ("image", "path") and values(ds) == [10, 0]
    write(tmp_path / "k" / "c.png", 7)
    ds = tql.open(tmp_path, columns=["label", "image"])
    assert ds["label"].to_pylist() == [None, None, 0] and ds.columns == ("label", "image")
    assert len(tql.open(tmp_path / "a.png")) == 1


def test_the_fingerprint_of_images_is_of_paths_and_sizes_wherever_they_lie(tmp_path: Path) -> None:
    one = image_folder(tmp_path / "one")
    shutil.copytree(one, tmp_path / "two")
    first = tql.open(one).fingerprint
    assert tql.open(tmp_path / "two").fingerprint == first
    os.utime(one / "cat" / "0.png", (1, 1))
    assert tql.open(one).fingerprint == first
    (one / "cat" / "0.png").write_bytes(b"shorter")
    assert tql.open(one).fingerprint != first
    (tmp_path / "two" / "dog" / "3.png").rename(tmp_path / "two" / "dog" / "33.png")
    assert tql.open(tmp_path / "two").fingerprint != first


def test_ten_thousand_files_open_without_an_object_for_each_row(tmp_path: Path) -> None:
    content = write(tmp_path / "x.png", 3).read_bytes()
    for k in range(10):
        (tmp_path / "all" / f"c{k}").mkdir(parents=True)
        for i in range(1000):
            os.link(tmp_path / "x.png", tmp_path / "all" / f"c{k}" / f"{i}.png")
    source = open_source(tmp_path / "all")
    assert source.rows == 10_000 and len(source.fragments) == 1
    assert len(pickle.dumps(source)) < 400_000
    rows = gather(source, np.array([9_999, 5]), ["image", "label"])
    assert rows["image"].to_pylist() == [content] * 2 and rows["label"].to_pylist() == [9, 0]


# Metadata files


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_metadata_file_describes_the_images_beside_it(
    tmp_path: Path, kind: str, whole: bool
) -> None:
    pictures(tmp_path)
    columns = pa.table({"file_name": NAMES, "text": ["w", "x", None, "z"]})
    path = tmp_path / f"metadata.{kind}"
    match kind:
        case "csv":
            path.write_text("file_name,text\n" + "".join(
                f"{name},{text or ''}\n" for name, text in zip(*columns.to_pydict().values())
            ))  # fmt: skip
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in columns.to_pylist()))
        case _:
            pq.write_table(columns, path)
    ds = tql.open(tmp_path if whole else path)
    assert ds.columns == ("image", "file_name", "text")
    assert ds["text"].to_pylist() == ["w", "x", None, "z"]
    assert values(ds) == [0, 10, 20, 30]


def test_metadata_of_splits_and_of_several_files_a_row(tmp_path: Path) -> None:
    for k, part in enumerate(["train", "test"]):
        for name in ("in.png", "mask.png"):
            write(tmp_path / part / name, 10 * k + len(name))
        (tmp_path / part / "metadata.csv").write_text(
            "input_file_name,mask_file_name,n\n" + f"in.png,{tmp_path}/train/mask.png,{k}\n"
        )
    ds = tql.open(tmp_path)
    assert ds.columns == ("input", "mask", "input_file_name", "mask_file_name", "n", "split")
    assert ds["input_file_name"].to_pylist() == ["test/in.png", "train/in.png"]
    assert ds["split"].to_pylist() == [1, 0]
    (batch,) = ds.dataloader().batch(2).numpy()
    assert batch["input"][:, 0, 0, 0].tolist() == [16, 6]
    assert batch["mask"][:, 0, 0, 0].tolist() == [8, 8]


def test_an_ordinary_table_with_file_names_has_no_images(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file_name\na.png\n")
    assert tql.open(tmp_path / "labels.csv").columns == ("file_name",)
    assert tql.open(tmp_path).columns == ("file_name",)


# Text tables


def test_what_csv_and_json_lines_become(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('i,x,s,d,b\n1,0.5,NA,2024-01-02,true\n,,"",,\n3,nan,é,,false\n')
    ds = tql.open(tmp_path / "a.csv")
    assert [str(c) for c in ds.schema] == [
        "i: int64?", "x: float64?", "s: text", "d: date?", "b: bool?",
    ]  # fmt: skip
    assert ds["i"].to_pylist() == [1, None, 3] and ds["s"].to_pylist() == ["NA", "", "é"]
    (tmp_path / "b.jsonl").write_text(
        '{"a": 1, "l": [1, 2]}\n{"a": null, "l": [], "m": {"k": 2}}\n'
    )
    ds = tql.open(tmp_path / "b.jsonl")
    assert ds["l"].to_pylist() == [[1, 2], []]
    assert ds.query("select * where m['k'] == 2").row_ids.tolist() == [1]


def test_text_tables_of_several_files_are_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,s\n1,x\n")
    (tmp_path / "b.csv").write_text("s,n\ny,2.5\n")
    ds = tql.open(f"{tmp_path}/*.csv")
    assert ds["n"].to_pylist() == [1.0, 2.5] and ds["s"].to_pylist() == ["x", "y"]
    (tmp_path / "b.csv").write_text("s,m\ny,2\n")
    with pytest.raises(TqlDataError, match=r"a.csv' has a column 'n', and .*b.csv' has not"):
        tql.open(tmp_path)
    (tmp_path / "b.csv").write_text("s,n\ny,word\n")
    with pytest.raises(TqlDataError, match="different types"):
        tql.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "expected a CSV file with a line of column names"),
        ("a.csv", "a,b\n1\n", "Expected 2 columns"),
        ("a.jsonl", '{"a": 1}\n{"a": ', "expected a JSON object a line"),
        ("a.jsonl", '{"a": 1}\n{"a": "x"}\n', "expected a JSON object a line"),
        ("a.json", "[1, 2]", "expected a JSON object a line"),
    ],
)
def test_damaged_text_tables_are_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TqlDataError, match=words) as caught:
        tql.open(tmp_path / name)
    assert name in str(caught.value)


# Elsewhere


def test_a_table_and_its_files_travel_to_other_processes(tmp_path: Path) -> None:
    pictures(tmp_path)
    ds = tql.open(table("csv", tmp_path, NAMES), files={"image": "path"})
    (tmp_path / "source.pickle").write_bytes(pickle.dumps(ds.source))
    code = (
        "import pickle, sys\n"
        "source = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(sum(len(v) for v in source.read(0, ['image'])['image'].to_pylist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "source.pickle")],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert int(done.stdout) == sum((tmp_path / n).stat().st_size for n in NAMES)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if values(ds) == [0, 10, 20, 30] else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_same_rows_come_from_any_number_of_threads(tmp_path: Path) -> None:
    names = pictures(tmp_path, [f"{i}.png" for i in range(24)])
    ds = tql.open({"path": names}, files={"image": "path"}, root=tmp_path)
    seen = []
    for threads in (1, 4):
        loader = ds.dataloader(seed=5).shuffle().batch(7).numpy(num_threads=threads)
        seen.append([(b["index"].tolist(), b["image"].tobytes()) for b in loader])
    assert seen[0] == seen[1] and len(seen[0]) == 4
