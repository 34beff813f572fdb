"""The row ids of an epoch as a file, for programs that take a list of rows: NumPy's format, or Arrow's.

They are written block by block as they are computed, so an epoch of any length needs the memory of
one block (beside what the plan itself needs).
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np

from tql.diagnostics import data_error, error
from tql.planner.plan_file import path_of
from tql.planner.rng import Int64s

COLUMN: Final = "row_id"
_BLOCK: Final = 1 << 20


class Drawn(Protocol):
    """What is needed of a plan."""

    def __len__(self) -> int: ...

    def draw(self, start: int, stop: int, *, epoch: int = 0) -> Int64s: ...


def write(plan: Drawn, path: str | Path, epoch: int) -> None:
    """Write the ids; another process sees the old file or the new one, nothing between."""
    target = path_of(path)
    into = _WRITERS.get(target.suffix.lower())
    if into is None:
        raise error("value", f"ids in {target}: no format is known by {target.suffix or 'no extension'}",
                    help="name the file .npy (numpy.load) or .arrow (pyarrow.ipc.open_file)")  # fmt: skip
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".ids-")
        with os.fdopen(handle, "wb") as out:
            into(out, len(plan), _blocks(plan, epoch))
        os.chmod(temporary, 0o644)  # a temporary file is private, ids are not
        os.replace(temporary, target)
        temporary = ""
    except OSError as e:
        raise data_error("source", f"the ids could not be written to {target}: {e.strerror or e}",
                         help="give a path in a folder that exists and can be written to") from e  # fmt: skip
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)


def _blocks(plan: Drawn, epoch: int) -> Iterator[Int64s]:
    for start in range(0, len(plan), _BLOCK):
        yield plan.draw(start, min(start + _BLOCK, len(plan)), epoch=epoch)


def _as_npy(out: IO[bytes], count: int, blocks: Iterator[Int64s]) -> None:
    described = {"descr": "<i8", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(out, described)
    for ids in blocks:
        out.write(ids.astype("<i8", copy=False).data)


def _as_arrow(out: IO[bytes], count: int, blocks: Iterator[Int64s]) -> None:
    import pyarrow as pa

    schema = pa.schema([pa.field(COLUMN, pa.int64(), nullable=False)])
    with pa.ipc.new_file(out, schema) as writer:
        for ids in blocks:
            writer.write_batch(pa.record_batch([pa.array(ids)], schema=schema))


_WRITERS: Final[dict[str, Callable[[IO[bytes], int, Iterator[Int64s]], Any]]] = {
    ".npy": _as_npy,
    ".arrow": _as_arrow,
    ".feather": _as_arrow,
    ".ipc": _as_arrow,
}
