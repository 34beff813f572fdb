"""Sizes of memory as people write them, and how much of it one step of a query may take."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from tql.cgroups import memory_limits
from tql.diagnostics import NOWHERE, Span, error

_UNITS: Final = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


def bytes_of(size: int | str) -> int:
    """Bytes of `2147483648`, "2GiB" or "500 MB"."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
        if isinstance(size, str)
        else None
    )
    if found and found[2].upper() in _UNITS and float(found[1]) > 0:
        return int(float(found[1]) * _UNITS[found[2].upper()])
    raise error(
        "parameter",
        f"memory must be a size, not {size!r}",
        help='for example "2GiB" or 2_000_000_000',
    )


def shown(size: float) -> str:
    """The size for people: "1.3 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def budget() -> int:
    """Bytes that one step of a query may take at once: half of the memory of the machine, or of the
    container or job that the process is in, where that is less.
    """
    return _memory() // 2


@cache
def _memory() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *memory_limits()])


@contextmanager
def within_budget(
    rows: int, bytes_per_row: int, what: str, help: str, span: Span = NOWHERE
) -> Iterator[None]:
    """A block that makes so many rows. A range error that says `what` they are before it runs where
    they would take more than `budget()`, and instead of a MemoryError.
    """
    needed = rows * bytes_per_row
    if needed > budget():
        raise error("range", f"{what} would have {rows:,} rows, whose numbers take {shown(needed)}: "
                    "more than half of the memory", span, help=help)  # fmt: skip
    try:
        yield
    except MemoryError as e:
        raise error("range", f"{what} would have {rows:,} rows, which do not fit in memory", span,
                    help=help) from e  # fmt: skip
