"""What a fresh process costs: the first query of a new shape, and the command line.

The first query is timed inside the process, with nothing in the kernel cache, once as it comes
(`auto`) and once with compiling forbidden (`reference`): the difference is what a user pays for
having a compiler aboard, and has to stay small.

Python's bytecode is there, as an installation leaves it: each kind of process runs once before, not
counted, and may write it. Files lie in the system's page cache. About 2 seconds for each repeat.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

FIRST_QUERY: Final = """
import time
import numpy as np
import tql
from tql.engine.scan import Settings
from tql.queries import ask
rng = np.random.default_rng(0)
labels = rng.integers(0, 10, {rows}).astype(np.int32)
ds = tql.open({{"labels": labels, "score": rng.random({rows})}})
tql.parse("select *")
start = time.perf_counter()
ask(ds.source, "select * where labels != 5 and score > 0.5", settings=Settings("{tier}")).answer()
print(time.perf_counter() - start)
"""
ROOT: Final = Path(__file__).parents[1]
OF_REFERENCE: Final = 1.2
HELP, EXPLAIN = 0.150, 0.700


@dataclass(frozen=True, slots=True)
class Cold:
    """Seconds of fresh processes: best and median of the repeats; `goal` is the most aimed at."""

    name: str
    best: float
    middle: float
    goal: float | None

    @property
    def met(self) -> bool | None:
        """By the median: the goal is about what a user meets, not about the luckiest start."""
        return None if self.goal is None else self.middle <= self.goal


def measure(repeats: int, rows: int, parquet: Path) -> list[Cold]:
    """First query over `rows` rows by tier, and whole commands, in turn, `repeats` times each; a
    first query finds a cache folder that is new.
    """
    with tempfile.TemporaryDirectory() as folder:
        caches = (str(Path(folder) / f"cache{k}") for k in count())
        environment = {**os.environ, "TQL_CACHE_DIR": next(caches)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        query = "select * where labels != 5"
        help_, explain = "`tql --help`", f'`tql explain {parquet.name} "{query}"`'
        jobs: dict[str, Callable[[], float]] = {
            tier: lambda tier=tier: _first_query(
                tier, rows, {**environment, "TQL_CACHE_DIR": next(caches)}
            )
            for tier in ("auto", "reference")
        }
        jobs[help_] = lambda: _command(["--help"], environment)
        file = str(parquet.absolute())
        jobs[explain] = lambda: _command(["explain", file, query], environment)
        times = {name: [] for name in jobs}  # type: dict[str, list[float]]
        for job in jobs.values():
            job()
        for _ in range(repeats):
            for name, job in jobs.items():
                times[name].append(job())
    auto, reference = times.pop("auto"), times.pop("reference")
    first = f"first query of a shape, {rows:,} rows"
    return [
        _cold(f"{first}, as it comes", auto, OF_REFERENCE * median(reference)),
        _cold(f"{first}, never compiled", reference, None),
        _cold(help_, times[help_], HELP),
        _cold(explain, times[explain], EXPLAIN),
    ]


def _cold(name: str, seconds: Sequence[float], goal: float | None) -> Cold:
    return Cold(name, min(seconds), median(seconds), goal)


def _first_query(tier: str, rows: int, environment: dict[str, str]) -> float:
    code = FIRST_QUERY.format(tier=tier, rows=rows)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return float(done.stdout)


def _command(arguments: list[str], environment: dict[str, str]) -> float:
    command = [sys.executable, "-m", "tql", *arguments]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start
