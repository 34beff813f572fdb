"""What a fresh process costs: the first query of a new shape, and the command line.

The first query is timed inside the process, with nothing in the kernel cache, once as it comes
(`auto`) and once with compiling forbidden (`reference`): the difference is what a user pays for
having a compiler aboard, and has to stay small.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from statistics import median

FIRST_QUERY = """
import sys, time
import numpy as np
import tql
from tql.engine.scan import Settings
from tql.queries import ask
rng = np.random.default_rng(0)
ds = tql.open({{"labels": rng.integers(0, 10, 1_000_000).astype(np.int32), "score": rng.random(1_000_000)}})
tql.parse("select *")
start = time.perf_counter()
ask(ds.source, "select * where labels != 5 and score > 0.5", settings=Settings("{tier}")).answer()
print(time.perf_counter() - start)
"""


@dataclass(frozen=True, slots=True)
class Cold:
    """Seconds of fresh processes: best and median of the repeats."""

    name: str
    best: float
    middle: float


def measure(repeats: int) -> list[Cold]:
    """First query by tier, and whole commands, in turn."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TQL_CACHE_DIR": cache}
        commands = {
            "tql --help": ["-m", "tql", "--help"],
            'tql explain demo:digits "select * where labels != 5"': [
                "-m", "tql", "explain", "demo:digits", "select * where labels != 5",
            ],
        }  # fmt: skip
        times: dict[str, list[float]] = {}
        for _ in range(repeats):
            for tier in ("auto", "reference"):
                name = f"first query, 1 M rows, {tier}"
                times.setdefault(name, []).append(_first_query(tier, environment))
            for name, arguments in commands.items():
                times.setdefault(name, []).append(_command(arguments, environment))
    return [Cold(name, min(t), median(t)) for name, t in times.items()]


def _first_query(tier: str, environment: dict[str, str]) -> float:
    code = FIRST_QUERY.format(tier=tier)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def _command(arguments: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)
    return time.perf_counter() - start
