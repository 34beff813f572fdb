"""Cold and warm: the first, second, tenth and a later call of a query in a fresh process.

Once with an empty kernel cache, as after installation, and once with the kernels compiled
beforehand by another process that left them in the cache. The data lies in memory, and is in
either case new to the process: it has no zone maps or dictionaries of it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

ROOT: Final = Path(__file__).parents[1]
CALLS: Final = (1, 2, 10, 41)
"""Of the calls whose time is kept; before the last one, a child that compiles is waited for."""
CODE: Final = """
import json, sys, time
import pyarrow as pa
import tql
from tql import kernel_jobs
from tql.engine.scan import Settings
from tql.queries import ask
file, text, fills, calls = json.loads(sys.argv[1])
with pa.OSFile(file) as f:
    ds = tql.open(pa.ipc.open_file(f).read_all())
seconds = []
for call in range(calls[-1]):
    if call == calls[-1] - 1:
        kernel_jobs.settle(60)
    start = time.perf_counter()
    ds.query(text).rowset
    seconds.append(time.perf_counter() - start)
if fills:
    ask(ds.source, text, settings=Settings("kernel")).answer()
    kernel_jobs.settle(60)
print(json.dumps(seconds))
"""
CONDITIONS: Final = ("labels != 5", "labels == 5 and score > 0.9", "cat like '*3'")


@dataclass(frozen=True, slots=True)
class Calls:
    """Seconds of the calls numbered CALLS, the median over the fresh processes."""

    condition: str
    cache: str
    seconds: tuple[float, ...]


def measure(repeats: int, arrow: Path, conditions: Sequence[str] = CONDITIONS) -> list[Calls]:
    """Each condition over the rows of an Arrow file, read into memory before; `repeats` fresh
    processes each way, in turn.
    """
    found = []
    for condition in conditions:
        text = f"select * where {condition}"
        empty, full = [], []
        with tempfile.TemporaryDirectory() as compiled:
            _process(arrow, text, compiled, fills=True)
            for _ in range(repeats):
                with tempfile.TemporaryDirectory() as nothing:
                    empty.append(_process(arrow, text, nothing))
                full.append(_process(arrow, text, compiled))
        found += [_calls(condition, "empty", empty), _calls(condition, "compiled", full)]
    return found


def _calls(condition: str, cache: str, processes: list[list[float]]) -> Calls:
    return Calls(condition, cache, tuple(median(p[k - 1] for p in processes) for k in CALLS))


def _process(arrow: Path, text: str, cache: str, *, fills: bool = False) -> list[float]:
    given = json.dumps([str(arrow.absolute()), text, fills, CALLS])
    done = subprocess.run(
        [sys.executable, "-c", CODE, given], cwd=ROOT,
        env={**os.environ, "TQL_CACHE_DIR": cache}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds: list[float] = json.loads(done.stdout)
    return seconds
