"""Write tql/demo/photos.parquet, the data set behind `tql.open("demo:photos")`.

Eight made-up photographs, small enough to be read at a glance, with a column of every kind that the
language knows: the examples of the manual and of `tql functions` ask it. Run by hand:

    python scripts/make_photos.py [OUTPUT]
"""

import json
import sys
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TARGET = Path(__file__).resolve().parents[1] / "tql" / "demo" / "photos.parquet"
ANIMALS = ["cat", "dog", "horse"]

# caption, animal, score, width, height, tags
PHOTOS = [
    ("a cat on a mat", 0, 0.875, 640, 480, ["indoor", "sofa"]),
    ("a cat asleep", 0, 0.75, 640, 480, ["indoor"]),
    ("two dogs and a ball", 1, 0.625, 1280, 720, ["outdoor", "grass", "ball"]),
    (None, 1, None, 1280, 720, ["outdoor"]),
    ("a dog runs", 1, 0.25, 1920, 1080, []),
    ("a horse on a hill", 2, 0.8125, 1920, 1080, ["outdoor", "grass"]),
    ("a cat and a dog", 0, 0.5, 640, 480, ["indoor", "ball"]),
    ("", 2, 0.9375, 800, 600, ["outdoor"]),
]

# left, top, right, bottom of what is in the picture
BOXES = [
    [[10, 20, 110, 220]],
    [[40, 40, 240, 140]],
    [[0, 100, 300, 500], [600, 200, 900, 600]],
    [[100, 100, 500, 700]],
    [],
    [[500, 50, 1500, 1050]],
    [[20, 30, 220, 130], [300, 60, 600, 460]],
    [[0, 0, 800, 600]],
]
EMBEDDINGS = [
    [1.0, 0.0, 0.0],
    [0.75, 0.25, 0.0],
    [0.0, 1.0, 0.0],
    [0.0, 1.0, 0.5],
    [0.0, 0.0, 0.0],
    [0.0, 0.0, 2.0],
    [0.5, 0.5, 0.0],
    [0.0, 0.5, 1.5],
]
META = [
    {"author": "ann", "iso": 100, "place": {"city": "Ulm"}},
    {"author": "ann", "iso": 400},
    {"author": "bob", "iso": 200, "lenses": [24, 50]},
    {"author": "bob"},
    None,
    {"author": "eve", "iso": 800},
    {"author": "ann", "iso": None},
    {"author": "eve", "iso": 100, "place": {"city": "Rome"}},
]
SCENES = ["kitchen", "kitchen", "park", "park", "park", "hill", "kitchen", "hill"]
FRAMES = [0, 1, 0, 1, 2, 0, 2, 1]


def table() -> pa.Table:
    """The eight rows; class names and JSON are marked in the metadata of their fields."""
    caption, animal, score, width, height, tags = zip(*PHOTOS, strict=True)
    meta = [None if m is None else json.dumps(m) for m in META]
    taken = [datetime(2026, 5, 1 + day, 12) for day in range(len(PHOTOS))]
    box = pa.list_(pa.float32(), 4)
    columns = [
        ("id", pa.int64(), False, list(range(len(PHOTOS))), None),
        ("caption", pa.string(), True, caption, None),
        ("animal", pa.int8(), False, animal, {"tql:class_names": json.dumps(ANIMALS)}),
        ("score", pa.float32(), True, score, None),
        ("width", pa.int32(), False, width, None),
        ("height", pa.int32(), False, height, None),
        ("tags", pa.list_(pa.string()), False, tags, None),
        ("boxes", pa.list_(box), False, BOXES, None),
        ("embedding", pa.list_(pa.float32(), 3), False, EMBEDDINGS, None),
        ("meta", pa.string(), True, meta, {"ARROW:extension:name": "arrow.json",
                                           "ARROW:extension:metadata": ""}),
        ("taken", pa.timestamp("ms"), False, taken, None),
        ("scene", pa.string(), False, SCENES, None),
        ("frame", pa.int64(), False, FRAMES, None),
    ]  # fmt: skip
    schema = pa.schema(
        pa.field(name, kind, nullable, metadata) for name, kind, nullable, _, metadata in columns
    )
    return pa.Table.from_arrays(
        [pa.array(values, kind) for _, kind, _, values, _ in columns], schema=schema
    )


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    pq.write_table(table(), target, compression="none")
    print(f"{target}: {len(PHOTOS)} rows, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
