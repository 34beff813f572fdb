"""What is loaded: JPEGs in Parquet, and a table of numbers; files that answer at once or late."""

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import simplejpeg
from numpy.typing import NDArray

from benchmarks.peers.data import Data

HEIGHT, WIDTH = 480, 640
QUALITY: Final = 90
GROUPS: Final = 32  # row groups of each file
CLASSES: Final = 10
LATENCY: Final = 0.020  # seconds that each read of a late file takes longer
_NOISE: Final = 4.0
_SHAPES: Final = 12


@dataclass(frozen=True)
class Files:
    """`images` rows of JPEGs and `numbers` rows of numbers in `folder`, made when first asked for.

    late  whether each read of them takes LATENCY seconds longer
    """

    folder: Path
    images: int
    numbers: int
    late: bool = False

    @property
    def pictures(self) -> Path:
        """image binary (JPEG, 480 x 640, 4:2:0), label int64 0 … 9, id int64 the row number."""
        return Data(self.images, self.folder).kept(
            f"pictures-{GROUPS}.parquet", self._write_pictures
        )

    @property
    def measures(self) -> Path:
        """x and y float32, label int64 0 … 9, id int64 the row number."""
        return Data(self.numbers, self.folder).kept(
            f"measures-{GROUPS}.parquet", self._write_measures
        )

    @property
    def filesystem(self) -> pafs.FileSystem:
        """What to read the files through."""
        return pafs.PyFileSystem(_LateFiles()) if self.late else pafs.LocalFileSystem()

    def table(self) -> pa.Table:
        """All pictures, read at once."""
        return pq.read_table(str(self.pictures), filesystem=self.filesystem)

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of rows of either file: a third has class 0, the others share the rest."""
        mixed = (rows * 2654435761 % (1 << 32)) >> 16
        found: NDArray[np.int64] = np.where(mixed % 3 == 0, 0, 1 + mixed // 3 % (CLASSES - 1))
        return found

    def _write_pictures(self, path: Path) -> None:
        schema = pa.schema({"image": pa.binary(), "label": pa.int64(), "id": pa.int64()})
        with pq.ParquetWriter(path, schema, compression="none") as file:
            for rows in _groups(self.images):
                with ThreadPoolExecutor() as pool:
                    encoded = list(pool.map(picture, rows.tolist()))
                columns = [pa.array(encoded, pa.binary()), self.labels(rows), rows]
                file.write_table(pa.table(columns, schema=schema), row_group_size=len(rows))

    def _write_measures(self, path: Path) -> None:
        rng = np.random.default_rng(0)
        rows = np.arange(self.numbers)
        table = pa.table({
            "x": rng.standard_normal(self.numbers, np.float32),
            "y": rng.random(self.numbers, np.float32), "label": self.labels(rows), "id": rows,
        })  # fmt: skip
        pq.write_table(table, path, row_group_size=max(-(-self.numbers // GROUPS), 1))


def _groups(rows: int) -> Iterator[NDArray[np.int64]]:
    """The row numbers of each row group."""
    yield from (g for g in np.array_split(np.arange(rows), GROUPS) if len(g))


def picture(row: int) -> bytes:
    """A JPEG that takes as long to decode as a photograph: soft light, edges, and noise."""
    rng = np.random.default_rng([7, row])
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j].astype(np.float32)
    slopes = rng.uniform(-80, 80, (3, 3)).astype(np.float32)
    pixels = np.stack([128 + a * x + b * y + c * np.sin(6 * x * y) for a, b, c in slopes], axis=2)
    for _ in range(_SHAPES):
        cx, cy, rx, ry = rng.uniform((0, 0, 0.03, 0.03), (1, 1, 0.25, 0.25))
        color, round_ = rng.uniform(-90, 90, 3).astype(np.float32), rng.random() < 0.5
        dx, dy = np.abs(x - cx) / rx, np.abs(y - cy) / ry
        inside = dx * dx + dy * dy < 1 if round_ else np.maximum(dx, dy) < 1
        pixels[inside] += color
    pixels += rng.normal(0, _NOISE, pixels.shape[:2]).astype(np.float32)[:, :, None]
    stored = np.clip(pixels, 0, 255).astype(np.uint8)
    encoded: bytes = simplejpeg.encode_jpeg(stored, quality=QUALITY, colorsubsampling="420")
    return encoded


class _LateFiles(pafs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """Local files, each read of which takes LATENCY seconds longer."""

    def __init__(self) -> None:
        self.local = pafs.LocalFileSystem()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LateFiles)

    def __hash__(self) -> int:
        return hash(_LateFiles)

    def get_type_name(self) -> str:
        return "late"

    def normalize_path(self, path: str) -> str:
        return str(self.local.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> Any:
        return self.local.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        return self.local.get_file_info(selector)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_LateFile(path), mode="r")

    open_input_stream = open_input_file

    def _only_read(self, *_: Any) -> Any:
        raise NotImplementedError("late files are only read")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _only_read
    delete_file = move = copy_file = open_output_stream = open_append_stream = _only_read


class _LateFile(io.FileIO):
    """One answer to each request, however much it asks for."""

    def __del__(self) -> None:
        self.close()  # Arrow lets go of a file without closing it

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(LATENCY)
        return super().read(-1 if size is None else size)
