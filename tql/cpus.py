"""How many threads are worth starting."""

import os


def usable_cpus() -> int:
    """Processors that this process may use: fewer than the machine has in a container or a job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
