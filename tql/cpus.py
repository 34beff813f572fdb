"""How many threads are worth starting."""

import math
import os
from functools import cache

from tql.cgroups import cpu_quotas


def usable_cpus() -> int:
    """Processors that this process may use: fewer than the machine has in a container or a job."""
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    return min([there, *_whole_quotas()])


@cache
def _whole_quotas() -> tuple[int, ...]:
    """A quota of one and a half is worth two threads."""
    return tuple(max(1, math.ceil(quota)) for quota in cpu_quotas())
