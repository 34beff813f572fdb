"""Cold and warm: the first, second and tenth call of a query in a fresh process.

Once with an empty kernel cache, as after installation, and once with the kernels compiled
beforehand by another process that left them in the cache.
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
CALLS: Final = (1, 2, 10)
CODE: Final = """
import json, sys, time
from pathlib import Path
import tql
from benchmarks.peers.data import Data
from tql.engine.scan import Settings
from tql.queries import ask
rows, condition, compile_only = json.loads(sys.argv[1])
table = Data(rows, Path()).table
ds = tql.open(table)
text = f"select * where {condition}"
if compile_only:
    ask(ds.source, text, settings=Settings("kernel")).answer()
seconds = []
for _ in range(0 if compile_only else 10):
    start = time.perf_counter()
    ds.query(text).rowset
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
"""
CONDITIONS: Final = ("labels != 5", "labels == 5 and score > 0.9", "cat like '*3'")


@dataclass(frozen=True, slots=True)
class Calls:
    """Seconds of the calls numbered CALLS, the median over the fresh processes."""

    condition: str
    cache: str
    seconds: tuple[float, ...]


def measure(repeats: int, rows: int, conditions: Sequence[str] = CONDITIONS) -> list[Calls]:
    """Each condition over `rows` rows in memory, `repeats` fresh processes each way."""
    found = []
    for condition in conditions:
        empty, full = [], []
        with tempfile.TemporaryDirectory() as compiled:
            _process(rows, condition, compiled, compile_only=True)
            for _ in range(repeats):
                with tempfile.TemporaryDirectory() as nothing:
                    empty.append(_process(rows, condition, nothing))
                full.append(_process(rows, condition, compiled))
        found += [_calls(condition, "empty", empty), _calls(condition, "compiled", full)]
    return found


def _calls(condition: str, cache: str, processes: list[list[float]]) -> Calls:
    return Calls(condition, cache, tuple(median(p[k - 1] for p in processes) for k in CALLS))


def _process(rows: int, condition: str, cache: str, *, compile_only: bool = False) -> list[float]:
    given = json.dumps([rows, condition, compile_only])
    done = subprocess.run(
        [sys.executable, "-c", CODE, given], cwd=ROOT,
        env={**os.environ, "TQL_CACHE_DIR": cache}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds: list[float] = json.loads(done.stdout)
    return seconds
