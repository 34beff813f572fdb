"""Write tql/demo/digits.parquet, the data set behind `tql.open("demo:digits")`.

The 1,797 handwritten digits (8x8, grey) that scikit-learn carries: the test part of "Optical
Recognition of Handwritten Digits" of the UCI Machine Learning Repository, by E. Alpaydin and
C. Kaynak (1998), doi 10.24432/C50P49, licence CC BY 4.0. Pixel values 0..16 become 0..255.

Run by hand, in an environment of its own; the same versions give the same bytes:

    pip install -r requirements/digits.txt
    python scripts/make_digits.py [OUTPUT]
"""

import io
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ROWS = 1797
ROW_GROUPS = 8
TARGET = Path(__file__).resolve().parents[1] / "tql" / "demo" / "digits.parquet"
PINNED = Path(__file__).resolve().parents[1] / "requirements" / "digits.txt"
CREDIT = {
    "title": "Optical Recognition of Handwritten Digits (test part, 1,797 images)",
    "creators": "E. Alpaydin, C. Kaynak",
    "source": "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49",
    "licence": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    "changes": "pixel values 0..16 scaled to 0..255 and stored as 8x8 grey PNG; "
    "labels stored as class labels with English names",
}


def png(pixels: np.ndarray) -> bytes:
    """One 8x8 uint8 image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def table() -> pa.Table:
    """Columns `images` (binary, PNG) and `labels` (int8 with class names), in the set's own order."""
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    assert grey.shape == (ROWS, 8, 8), grey.shape
    assert sorted(set(digits.target.tolist())) == list(range(10))
    schema = pa.schema(
        [
            pa.field("images", pa.binary(), nullable=False, metadata={"tql:image": "png"}),
            pa.field(
                "labels",
                pa.int8(),
                nullable=False,
                metadata={"tql:class_names": json.dumps(NAMES)},
            ),
        ],
        metadata=CREDIT,
    )
    images = pa.array([png(image) for image in grey], pa.binary())
    labels = pa.array(digits.target.astype(np.int8))
    return pa.Table.from_arrays([images, labels], schema=schema)


def check_versions() -> None:
    """Other versions may compress differently, and the file would change for no reason."""
    pins = [line for line in PINNED.read_text("utf-8").splitlines() if not line.startswith("#")]
    for name, wanted in (pin.split("==") for pin in pins):
        if version(name) != wanted:
            sys.exit(f"{name} is {version(name)}, wanted {wanted}: see requirements/digits.txt")


def main() -> None:
    check_versions()
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    half_written = target.with_suffix(".part")
    pq.write_table(
        table(),
        half_written,
        row_group_size=-(-ROWS // ROW_GROUPS),
        compression="zstd",
        use_dictionary=["labels"],
        write_statistics=["labels"],
    )
    written = pq.ParquetFile(half_written).metadata
    assert written.num_rows == ROWS, written
    assert written.num_row_groups == ROW_GROUPS, written
    assert half_written.stat().st_size < 1_000_000
    os.replace(half_written, target)
    print(f"{target}: {ROWS} rows, {ROW_GROUPS} row groups, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
