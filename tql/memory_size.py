"""Sizes of memory as people write them."""

import re
from typing import Final

from tql.diagnostics import error

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
