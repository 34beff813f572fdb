"""The limits that Linux sets to a container or a job: control groups of version 2 and version 1.

A process is in a group, which is within others; the least limit on the way holds. Inside a container
its own group is usually the root of what it sees.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MOUNT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


def memory_limits(mount: Path = _MOUNT, own: Path = _OWN) -> list[int]:
    """Bytes that the process may hold, for each group that limits it; empty where none does."""
    texts = [_text(folder / "memory.max") for folder in _folders(mount, own, "")]
    texts += [_text(f / "memory.limit_in_bytes") for f in _folders(mount, own, "memory")]
    return [int(text) for text in texts if text.isdecimal() and int(text) > 0]


def cpu_quotas(mount: Path = _MOUNT, own: Path = _OWN) -> list[float]:
    """Processors whose time the process may use, for each group that limits it."""
    pairs = [_text(folder / "cpu.max").split() for folder in _folders(mount, own, "")]
    pairs += [
        [_text(folder / f"cpu.cfs_{which}_us") for which in ("quota", "period")]
        for folder in _folders(mount, own, "cpu")
    ]
    # "max" and -1 say that there is no limit.
    return [
        int(pair[0]) / int(pair[1])
        for pair in pairs
        if len(pair) == 2 and all(number.isdecimal() and int(number) > 0 for number in pair)
    ]


def _folders(mount: Path, own: Path, controller: str) -> Iterator[Path]:
    """Where the files of the process's group are, and of those that it is within; "" is version 2."""
    root = mount / controller
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            group = Path(path.lstrip("/"))
            yield from (root / folder for folder in (group, *group.parents) if str(folder) != ".")
    yield root


def _text(file: Path) -> str:
    """What is in the file; nothing where there is none, or it may not be read."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
