"""The loader on real files, read by tql.sources."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.loader_fakes import FakePlan, encoded, picture
from tql.diagnostics import TqlDataError
from tql.loader import FragmentRows, Loader, MapDataset, Options, numpy_collate
from tql.schema import Binary
from tql.sources import open_source

N = 60


def table(bad: int | None = None) -> pa.Table:
    """JPEG and PNG images, labels as a dictionary, ragged lists, text with nulls."""
    images = [encoded(picture(i, 8, 9), "PNG" if i % 2 else "JPEG") for i in range(N)]
    if bad is not None:
        images[bad] = images[bad][:-30]
    labels = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(N, dtype=np.int8) % 3), pa.array(["cat", "dog", "owl"])
    )
    return pa.table(
        {
            "image": pa.array(images, pa.binary()),
            "label": labels,
            "boxes": [[float(k) for k in range(i % 4)] for i in range(N)],
            "note": [None if i % 7 == 0 else f"note {i}" for i in range(N)],
        }
    )


def write(where: Path, kind: str, data: pa.Table) -> str:
    path = where / f"data.{kind}"
    if kind == "parquet":
        pq.write_table(data, path, row_group_size=16)
    else:
        with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, data.schema) as out:
            out.write_table(data, max_chunksize=16)
    return os.fspath(path)


def load(path: str, **options: Any) -> Loader:
    rows = FragmentRows(open_source(path))
    order = np.random.default_rng(2).permutation(N).astype(np.int64)
    return Loader(rows, FakePlan(order), Options(batch_size=7, **options), numpy_collate)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_batches_of_a_file_hold_what_was_written(tmp_path: Path, kind: str) -> None:
    data = table()
    seen = []
    for batch in load(write(tmp_path, kind, data), num_threads=3):
        seen += batch["index"].tolist()
        assert batch["image"].shape == (len(batch["index"]), 8, 9, 3)
        assert batch["label"].dtype == np.int64
        for slot, row in enumerate(batch["index"].tolist()):
            if row % 2:
                assert np.array_equal(batch["image"][slot], picture(row, 8, 9))
            assert batch["label"][slot] == row % 3
            assert batch["boxes"][slot].tolist() == data["boxes"][row].as_py()
            assert batch["note"][slot] == data["note"][row].as_py()
    assert sorted(seen) == list(range(N))


def test_a_corrupt_image_in_a_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", table(bad=23))
    with pytest.raises(
        TqlDataError,
        match=r"row 23, column 'image' \(.*data.parquet, row group 1\): not a readable",
    ):
        list(load(path))
    kept = [batch["image"] for batch in load(path, decode={"image": "tobytes"})]
    assert sum(map(len, kept)) == N


def test_a_map_dataset_of_a_file_gives_the_samples_of_its_rows(tmp_path: Path) -> None:
    rows = FragmentRows(open_source(write(tmp_path, "parquet", table())))
    data = MapDataset(rows, np.array([59, 1], np.int64))
    assert rows.schema["image"].dtype == Binary()  # unmarked: found to be images by its bytes
    assert np.array_equal(data[1]["image"], picture(1, 8, 9))
    assert data[0]["note"] == "note 59"


def test_images_of_a_view_are_found_among_its_own_rows() -> None:
    images = [None, b"no image", *(encoded(picture(i)) for i in range(2, 20))]
    data = tql.open(pa.table({"image": pa.array(images, pa.binary()), "x": np.arange(20)}))
    later = data.query("select image, x where x > 1 order by x desc")
    assert next(iter(later.dataloader().batch(3).numpy()))["image"].shape == (3, 6, 5, 3)
    assert next(iter(data.dataloader().shuffle().batch(20).numpy()))["image"].count(None) == 1
    assert b"no image" in next(iter(data.dataloader().shuffle().batch(20).numpy()))["image"]
    assert later.pytorch()[0]["image"].shape == (6, 5, 3)
    drawn_twice = data.query("select * where x > 1").sample_by("x", size=40)
    assert next(iter(drawn_twice.dataloader().batch(40).numpy()))["image"].shape == (40, 6, 5, 3)
