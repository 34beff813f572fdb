"""Annotations in the form of COCO: one row an image, with lists of what is annotated in it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tql
from tql.diagnostics import TqlDataError
from tql.schema import Label, List

IMAGES = [
    {"id": 7, "file_name": "b.png", "height": 4, "width": 6, "license": 3},
    {"id": 3, "file_name": "a.png", "height": 5, "width": 6},
    {"id": 9, "file_name": "c.png", "height": 4, "width": 6},
]
CATEGORIES = [
    {"id": 90, "name": "dog", "supercategory": "animal"},
    {"id": 1, "name": "person"},
    {"id": 4, "name": "café"},
]
ANNOTATIONS: list[dict[str, Any]] = [
    {"id": 11, "image_id": 9, "category_id": 90, "bbox": [1, 2, 3.5, 4], "area": 12, "iscrowd": 0,
     "segmentation": [[1.5, 2.5]]},
    {"id": 12, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 0.5, "iscrowd": 1,
     "segmentation": {"counts": [1, 2], "size": [4, 6]}},
    {"id": 13, "image_id": 9, "category_id": 4, "bbox": [5, 6, 7, 8], "area": 56, "iscrowd": 0,
     "keypoints": None},
]  # fmt: skip


def write(folder: Path, indent: int | None = None, **parts: Any) -> Path:
    document = {
        "info": {"year": 2017}, "licenses": [], "images": IMAGES, "annotations": ANNOTATIONS,
        "categories": CATEGORIES, **parts,
    }  # fmt: skip
    path = folder / "instances.json"
    path.write_text(json.dumps(document, indent=indent))
    for i, image in enumerate(document["images"]):
        if "file_name" in image:
            Image.new("L", (6, 4), i).save(folder / image["file_name"])
    return path


@pytest.mark.parametrize("indent", [None, 1])
def test_annotations_become_one_row_an_image(tmp_path: Path, indent: int | None) -> None:
    ds = tql.open(write(tmp_path, indent))
    assert ds.columns == (
        "image", "image_id", "file_name", "height", "width", "labels", "boxes", "areas", "iscrowd",
        "ids",
    )  # fmt: skip
    assert ds.schema["labels"].dtype == List(Label(("person", "café", "dog")))
    assert str(ds.schema["boxes"].dtype) == "list[list[float32, 4]]"
    rows = ds.take([0, 1, 2], ds.columns[1:]).to_pylist()
    assert [r["image_id"] for r in rows] == [7, 3, 9]
    assert [r["height"] for r in rows] == [4, 5, 4]
    assert [r["labels"] for r in rows] == [[0], [], [2, 1]]
    assert [r["boxes"] for r in rows] == [[[0, 0, 1, 1]], [], [[1, 2, 3.5, 4], [5, 6, 7, 8]]]
    assert [r["areas"] for r in rows] == [[0.5], [], [12, 56]]
    assert [r["iscrowd"] for r in rows] == [[1], [], [0, 0]]
    assert [r["ids"] for r in rows] == [[12], [], [11, 13]]
    assert ds.query("select * where contains(labels, 'dog')").row_ids.tolist() == [2]
    assert ds.query("select * where any(areas > 20)").row_ids.tolist() == [2]
    (batch,) = ds.dataloader().batch(3).numpy()
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 1, 2]
    assert [b.shape for b in batch["boxes"]] == [(1, 4), (0, 4), (2, 4)]
    assert [b.dtype for b in batch["boxes"]] == [np.float32] * 3


def test_root_names_the_folder_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    write(tmp_path)
    path = (tmp_path / "instances.json").rename(tmp_path / "annotations" / "instances.json")
    assert tql.open(path, root=tmp_path)[2]["image"][0, 0, 0] == 2
    with pytest.raises(TqlDataError, match="root="):
        tql.open(path)[2]
    assert tql.open(path, columns=["labels"])["labels"].to_pylist() == [[0], [], [2, 1]]


def test_what_no_annotation_has_is_left_out(tmp_path: Path) -> None:
    told = [{"id": 1, "image_id": 3, "caption": "a cat"}, {"id": 2, "image_id": 3, "caption": "é"}]
    ds = tql.open(write(tmp_path, annotations=told, categories=[]))
    assert ds.columns[5:] == ("ids", "captions")
    assert ds["captions"].to_pylist() == [[], ["a cat", "é"], []]
    ds = tql.open(write(tmp_path, annotations=[]))
    assert ds.columns == ("image", "image_id", "file_name", "height", "width")
    images = [{"id": 1, "coco_url": "http://images.example/val2017/0001.jpg"}]
    ds = tql.open(write(tmp_path, images=images, annotations=[]))
    assert ds["file_name"].to_pylist() == ["val2017/0001.jpg"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"images": []}, 'no list "images"'),
        ({"images": [*IMAGES, {"id": 3, "file_name": "b.png"}]}, "two images have the id 3"),
        ({"images": [*IMAGES, {"file_name": "b.png"}]}, "image 3, counted from 0, has no id"),
        ({"categories": CATEGORIES[:2]}, "annotation 13 is of category 4, which is not"),
        ({"categories": [*CATEGORIES, {"id": 4}]}, "two categories have the id 4"),
        ({"categories": [*CATEGORIES, {"id": 5, "name": "dog"}]}, "both named 'dog'"),
        ({"annotations": [{"id": 1, "image_id": 8}]}, "annotation 1 is of image 8"),
        ({"annotations": [{"image_id": 8}]}, "annotation 0, counted from 0, is of image 8"),
        ({"annotations": [{"id": 1}]}, "has no image_id"),
        ({"annotations": [*ANNOTATIONS, {"id": 5, "image_id": 3}]}, "annotation 5 has no category"),
        ({"annotations": [ANNOTATIONS[0] | {"bbox": [1, 2, 3]}]}, "bbox of annotation 11 is"),
        ({"annotations": [ANNOTATIONS[0] | {"bbox": [1, 2, 3, None]}]}, "four numbers"),
        ({"annotations": [ANNOTATIONS[0] | {"category_id": "x"}]}, "in the form of COCO"),
    ],
)
def test_annotations_that_contradict_themselves_are_named(
    tmp_path: Path, parts: dict[str, Any], words: str
) -> None:
    with pytest.raises(TqlDataError, match=words) as caught:
        tql.open(write(tmp_path, **parts))
    assert "instances.json" in str(caught.value)


@pytest.mark.parametrize("keep", [1, 40, 300])
def test_annotations_that_are_cut_off_are_named(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, indent=1)
    path.write_bytes(path.read_bytes()[:-keep])
    with pytest.raises(TqlDataError, match=r"instances\.json"):
        tql.open(path)


def test_many_annotations_are_grouped_as_a_loop_would(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    ids = rng.permutation(1000)[:300].tolist()
    images = [{"id": i, "file_name": f"{i % 3}.png", "height": 1, "width": 1} for i in ids]
    made = [
        {"id": k, "image_id": ids[rng.integers(300)], "category_id": [1, 4, 90][k % 3],
         "bbox": [k, 0, 1, 1], "area": 1, "iscrowd": 0}
        for k in range(3000)
    ]  # fmt: skip
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"images": images, "annotations": made, "categories": CATEGORIES}))
    ds = tql.open(path)
    for row, i in zip(ds.take(range(300), ["ids", "labels"]).to_pylist(), ids):
        assert row["ids"] == [a["id"] for a in made if a["image_id"] == i]
        assert row["labels"] == [
            [1, 4, 90].index(a["category_id"]) for a in made if a["image_id"] == i
        ]
