"""Whether a machine was quiet: how many CPUs others kept busy while something was measured."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STAT: Final = Path("/proc/stat")
_IDLE: Final = (3, 4)  # of the numbers of the first line: idle, waiting for a disk
_GUESTS: Final = 8  # from here on: counted among the others already


@dataclass(slots=True)
class Noise:
    """CPUs that other processes kept busy, on average; None where the system does not say."""

    cpus: float | None = None


@contextmanager
def watched() -> Iterator[Noise]:
    """What the others do meanwhile is known at the end."""
    noise = Noise()
    began, all_before, own_before = time.monotonic(), _busy(), _own()
    yield noise
    took, all_after, own_after = time.monotonic() - began, _busy(), _own()
    if all_before is not None and all_after is not None and took > 0:
        noise.cpus = max(0.0, (all_after - all_before - (own_after - own_before)) / took)


def _busy() -> float | None:
    """Seconds of work of all CPUs since the machine started, what a hypervisor took included."""
    if not _STAT.exists():
        return None
    ticks = [int(n) for n in _STAT.read_text().split("\n", 1)[0].split()[1:]]
    used = sum(n for k, n in enumerate(ticks) if k < _GUESTS and k not in _IDLE)
    return used / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Seconds of work of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
