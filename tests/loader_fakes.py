"""A plan, rows and images for the tests of the loader; the plan is the simplest that keeps the rules."""

import io
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from tql.loader import FragmentRows, Loader, Options, numpy_collate
from tql.loader.batch import Collate
from tql.loader.loader import Plan
from tql.planner.stream import Remainder
from tql.schema import Binary, Bool, Column, DType, Float, Int, Schema, Text
from tql.sources.protocol import Fragment


@dataclass(frozen=True)
class FakeBatch:
    rows: npt.NDArray[np.int64]
    pad: npt.NDArray[np.bool_]

    positions: npt.NDArray[np.int64]

    def only(self, kept: npt.NDArray[np.bool_], /) -> "FakeBatch":
        return FakeBatch(self.rows[kept], self.pad[kept], self.positions[kept])

    @property
    def seeds(self) -> npt.NDArray[np.uint64]:
        return self.rows.astype(np.uint64)


@dataclass(frozen=True)
class FakeStream:
    order: npt.NDArray[np.int64]
    rank: int
    world: int
    offset: int
    size: int
    remainder: Remainder

    def positions(self) -> npt.NDArray[np.int64]:
        """Of this rank: sample j is at (j // B)·B·W + r·B + j % B behind the offset."""
        step, left = self.size * self.world, len(self.order) - self.offset
        if self.remainder == "drop":
            left -= left % step
        elif self.remainder in ("pad", "mask"):
            left += -left % step
        j = np.arange(left, dtype=np.int64)
        return (j + self.offset)[(j // self.size) % self.world == self.rank]

    def __len__(self) -> int:
        return len(self.positions())

    @property
    def batches(self) -> int:
        return -(-len(self) // self.size)

    def batch(self, i: int, /) -> FakeBatch:
        positions = self.positions()[i * self.size : (i + 1) * self.size]
        rows, pad = self.order[positions % len(self.order)], positions >= len(self.order)
        return FakeBatch(rows, pad, positions)

    def rows(self, first: int, stop: int, /) -> npt.NDArray[np.int64]:
        positions = self.positions()[first * self.size : stop * self.size]
        return self.order[positions % len(self.order)]

    def replaced(
        self, batch: FakeBatch, bad: npt.NDArray[np.int64], tries: npt.NDArray[np.int64], /
    ) -> FakeBatch:
        """The rows that follow those that failed."""
        rows = batch.rows.copy()
        rows[bad] = (rows[bad] + 1) % len(self.order)
        return FakeBatch(rows, batch.pad, batch.positions)

    def position_after(self, i: int, /) -> int:
        return min(len(self.order), self.offset + (i + 1) * self.size * self.world)


@dataclass(frozen=True)
class FakePlan:
    """Each epoch turns the rows by 7 more places; `rows` may repeat."""

    rows: npt.NDArray[np.int64]
    short: str = "plan-a"
    earlier: tuple[tuple[str, int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def ids(self, epoch: int = 0) -> npt.NDArray[np.int64]:
        return np.roll(self.rows, -7 * epoch)

    def stream(
        self,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        offset: int = 0,
        batch_size: int = 1,
        remainder: Remainder = "short",
    ) -> FakeStream:
        return FakeStream(self.ids(epoch), rank, world_size, offset, batch_size, remainder)


class FakeSource:
    """A table in fragments of `size` rows, which counts what is read of it."""

    def __init__(self, table: pa.Table, schema: Schema, size: int = 10) -> None:
        self.table: Final = table
        self.schema: Final = schema
        self.kind: Final = "fake"
        self.fingerprint: Final = "0"
        self.rows: Final = table.num_rows
        starts = range(0, table.num_rows, size)
        self.fragments: Sequence[Fragment] = [
            Fragment(i, s, min(size, table.num_rows - s), f"fragment {i}")
            for i, s in enumerate(starts)
        ]
        self.reads: Final[list[int]] = []
        self.delay = 0.0

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        self.reads.append(fragment)
        time.sleep(self.delay)
        f = self.fragments[fragment]
        return self.table.slice(f.start, f.rows).select(list(columns))


def source_of(size: int = 10, **columns: tuple[DType, Any]) -> FakeSource:
    """A source of named columns, each a type and an Arrow array (or what makes one)."""
    schema = Schema(Column(name, dtype) for name, (dtype, _) in columns.items())
    return FakeSource(pa.table({name: data for name, (_, data) in columns.items()}), schema, size)


def mixed(n: int = 50, size: int = 10) -> FakeSource:
    """`n` rows: a number, a float, a text, a flag and a PNG of one size, all told by the row."""
    return source_of(
        size,
        x=(Int(32), pa.array(np.arange(n, dtype=np.int32))),
        y=(Float(32), pa.array(np.arange(n, dtype=np.float32) / 4)),
        name=(Text(), [f"row {i}" for i in range(n)]),
        flag=(Bool(), [i % 3 == 0 for i in range(n)]),
        image=(Binary(image=True), pa.array([encoded(picture(i)) for i in range(n)], pa.binary())),
    )


def picture(seed: int, height: int = 6, width: int = 5, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Pixels that differ with the seed, uint8 (height, width, channels)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    return pixels.astype(np.uint8)


def encoded(pixels: npt.NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file of that kind."""
    squeezed = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    out = io.BytesIO()
    Image.fromarray(squeezed).save(out, kind, **options)
    return out.getvalue()


def loader_of(
    source: FakeSource,
    plan: Plan | None = None,
    collate: Collate = numpy_collate,
    **options: Any,
) -> Loader:
    """A loader over all rows in order, unless a plan says otherwise."""
    plan = plan or FakePlan(np.arange(source.rows, dtype=np.int64))
    return Loader(FragmentRows(source), plan, Options(**options), collate)


def workers() -> list[str]:
    """Names of the loader's threads that are alive."""
    return [t.name for t in threading.enumerate() if t.name.startswith("tql-")]


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it comes true within ten seconds, which is for ever on any machine."""
    end = time.monotonic() + 10
    while not holds() and time.monotonic() < end:
        time.sleep(0.005)
    return holds()
