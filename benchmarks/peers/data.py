"""The data of the tasks: made from a seed, the files of it kept for the next run."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

VERSION: Final = 1  # raise it when what is made changes: kept files of before are not taken
CATEGORIES: Final = tuple(f"c{k}" for k in range(50))
WIDTH: Final = 256  # of an embedding
GROUP_ROWS: Final = 1 << 20
SORTED_GROUPS: Final = 100


@dataclass(frozen=True)
class Data:
    """`rows` rows, a tenth as many with lists, a hundredth as many with embeddings.

    folder  where the files lie, made when asked for
    """

    rows: int
    folder: Path

    @cached_property
    def table(self) -> pa.Table:
        """labels int32 0 … 9, score float64 [0, 1), cat text, kind the same as a dictionary,
        stamp int64 sorted, id int64 the row number."""
        codes = self._rng(2).integers(0, len(CATEGORIES), self.rows).astype(np.int32)
        kind = pa.DictionaryArray.from_arrays(codes, list(CATEGORIES))
        return pa.table(
            {
                "labels": self._rng(0).integers(0, 10, self.rows).astype(np.int32),
                "score": self._rng(1).random(self.rows),
                "cat": kind.cast(pa.string()),
                "kind": kind,
                "stamp": np.sort(self._rng(3).integers(0, 10 * self.rows, self.rows)),
                "id": np.arange(self.rows),
            }
        )

    @cached_property
    def boxes(self) -> pa.Table:
        """boxes: 0 … 5 rows of four int32 in 0 … 102 each; id."""
        rng = self._rng(4)
        rows = max(self.rows // 10, 1)
        offsets = np.zeros(rows + 1, np.int32)
        np.cumsum(rng.integers(0, 6, rows), out=offsets[1:])
        values = rng.integers(0, 103, int(offsets[-1]) * 4).astype(np.int32)
        inner = pa.FixedSizeListArray.from_arrays(values, 4)
        boxes = pa.ListArray.from_arrays(offsets, inner)
        return pa.table({"boxes": boxes, "id": np.arange(rows)})

    @cached_property
    def embeddings(self) -> pa.Table:
        """emb: float32 (WIDTH,) normally distributed; id."""
        rows = max(self.rows // 100, 20)
        values = self._rng(5).standard_normal(rows * WIDTH, dtype=np.float32)
        emb = pa.FixedSizeListArray.from_arrays(values, WIDTH)
        return pa.table({"emb": emb, "id": np.arange(rows)})

    @cached_property
    def wanted(self) -> NDArray[np.float32]:
        """What the embeddings are compared with: float32 (WIDTH,)."""
        return self._rng(6).standard_normal(WIDTH, dtype=np.float32)

    @cached_property
    def hundredth(self) -> tuple[int, int]:
        """Two values of `stamp`: about 1 % of the rows lie between them, both included."""
        start = self.rows // 2
        stamp = self.table["stamp"]
        return stamp[start].as_py(), stamp[min(start + self.rows // 100, self.rows - 1)].as_py()

    @cached_property
    def parquet(self) -> Path:
        """labels, score, cat and id; row groups of about a million rows."""
        return self.kept("plain.parquet", self._write_plain)

    @cached_property
    def arrow(self) -> Path:
        """labels, score and cat in an Arrow file, for processes that want them in memory at once."""
        return self.kept("plain.arrow", self._write_arrow)

    @cached_property
    def sorted_parquet(self) -> Path:
        """stamp, labels, score and id, sorted by stamp; a hundred row groups."""
        return self.kept("sorted.parquet", self._write_sorted)

    def array(self, column: str) -> NDArray[Any]:
        """A column of numbers, in place."""
        found: NDArray[Any] = self.table[column].combine_chunks().to_numpy()
        return found

    def kept(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file or folder `name`, made by `make` unless an earlier run has finished it."""
        path = self.folder / f"{self.rows}-v{VERSION}" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _unfinished(path) as draft:
                make(draft)
                os.replace(draft, path)
        return path

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([stream, self.rows])

    def _write_arrow(self, path: Path) -> None:
        table = self.table.select(["labels", "score", "cat"]).combine_chunks()
        with pa.OSFile(str(path), "wb") as f, pa.ipc.new_file(f, table.schema) as writer:
            writer.write_table(table)

    def _write_plain(self, path: Path) -> None:
        table = self.table.select(["labels", "score", "cat", "id"])
        pq.write_table(table, path, row_group_size=GROUP_ROWS)

    def _write_sorted(self, path: Path) -> None:
        table = self.table.select(["stamp", "labels", "score", "id"])
        pq.write_table(table, path, row_group_size=max(-(-self.rows // SORTED_GROUPS), 1))


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A name beside `path` for what is being made; nothing is left of it after a failure."""
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield draft
    finally:
        if draft.is_dir():
            rmtree(draft)
        else:
            draft.unlink(missing_ok=True)
