"""From text to a typed query: parsing alone, and parsing with binding and rewriting."""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import pyarrow as pa

import tql
from benchmarks.measure import few_objects_to_collect
from tql.grammar.parser import forget, parse
from tql.queries import state

TERMS: Final = 10_000
TYPICAL: Final = (
    "select id, score * 2 as twice, caption where labels in ('cat', 'dog') and score > 0.5 "
    "and width between 640 and 1920 and caption not like '*draft*' "
    "order by score desc, id limit 100 "
    "sample by max_weight(labels == 'cat': 10, score > 0.9: 5, true: 1) replace false limit 50"
)


@dataclass(frozen=True, slots=True)
class Read:
    """Seconds to read one text, warm; `goal` is the most that is aimed at."""

    name: str
    best: float
    middle: float
    goal: float | None


def measure(repeats: int) -> list[Read]:
    """Each text `repeats` times, after once unmeasured; trees that are kept are not used."""
    with few_objects_to_collect():
        return [
            Read(name, *_timed(work, repeats * times), goal) for name, work, times, goal in _texts()
        ]


def _texts() -> Iterator[tuple[str, Callable[[], Any], int, float | None]]:
    """(name, work, runs for one repeat, goal in seconds)."""
    source = _dataset().source
    chain = " or ".join(f"id == {n}" for n in range(TERMS))
    mixed = " or ".join(f"id == {n} and width > {n}" for n in range(TERMS // 2))
    listed = ", ".join(map(str, range(TERMS)))
    for name, text, times, goal in (
        ("a typical query", TYPICAL, 20, 0.002),
        (f"in (…) of {TERMS:,} numbers", f"select * where id in ({listed})", 1, 0.3),
        (f"or of {TERMS:,} equalities", f"select * where {chain}", 1, None),
        (f"or of {TERMS // 2:,} pairs with and", f"select * where {mixed}", 1, None),
    ):
        yield f"{name}: parse", lambda text=text: (forget(), parse(text)), times, goal
        yield (
            f"{name}: parse and bind",
            lambda text=text: (forget(), state(source, text).rewritten()),
            times,
            goal,
        )


def _dataset() -> tql.Dataset:
    table = pa.table(
        {
            "id": pa.array([0, 1, 2], pa.int64()),
            "width": pa.array([640, 800, 1024], pa.int32()),
            "score": pa.array([0.1, 0.6, 0.95], pa.float32()),
            "caption": ["a cat", "a draft", None],
            "labels": pa.array([0, 1, 2], pa.int8()),
        }
    )
    return tql.open(table, class_names={"labels": ["cat", "dog", "horse"]})


def _timed(work: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Best and median seconds."""
    work()
    seconds = []
    for _ in range(runs):
        gc.collect()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), median(seconds)
