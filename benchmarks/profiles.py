"""Where the time of a task goes, and what keeps it from being less: memory, a decoder, or our own code.

In turn in one process run: a task as it is; the same with its steps watched (`benchmarks.steps`); its
peers; and, for each step that something outside of this project bounds, that something alone over the
same bytes: a copy, a sum and a maximum by NumPy, pyarrow's decoder, NumPy's reads at random places.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

import tql
from benchmarks.measure import FLOOR, OF_FLOOR, OURS, Contender, Result, Task, run
from benchmarks.peers.data import Data
from benchmarks.peers.tasks import Peer, tasks
from benchmarks.steps import Point, Watch, shares
from tql import dataset
from tql.bits import BitWriter
from tql.engine import scan
from tql.engine.kernels import Program
from tql.jit import Kernel
from tql.planner import making
from tql.sources import parquet

WATCHED: Final = f"{OURS}, its steps watched"
BOUND: Final = 0.5  # a step that takes up to twice as long as what bounds it is at its limit

FRONT: Final = "front: text, kernel, view"
OPEN: Final = "opening the file"
STATISTICS: Final = "statistics and zone maps"
DECODE: Final = "reading and decoding"
HAND_OVER: Final = "columns and output for the kernel"
KERNEL: Final = "kernel"
REFERENCE: Final = "NumPy and Arrow in its place"
ROWS: Final = "bitmap → row set"
WEIGHTS: Final = "weights of the rows"
SUMS: Final = "running sums of the weights"
DRAWS: Final = "draws"
PLAN: Final = "plan"

_KERNELS: Final = {"predicate": KERNEL, "DRAW_BY_ROW": DRAWS, "SUM_UNITS": SUMS,
                   "RUNNING_SUM": SUMS, "GUIDE": SUMS}  # fmt: skip


def _kernel(kernel: Kernel, *_: Any) -> str | None:
    """The step of a kernel; those of row sets belong to what calls them."""
    return _KERNELS.get(kernel.__name__)


POINTS: Final = (
    Point(tql, "open", OPEN),
    Point(dataset, "ask", FRONT), Point(dataset, "derive", FRONT), Point(scan, "paying", FRONT),
    Point(scan, "zones_of", STATISTICS), Point(scan, "decided", STATISTICS),
    Point(scan, "read_piece", DECODE), Point(parquet, "read_group", DECODE),
    Point(Program, "run", HAND_OVER), Point(BitWriter, "__init__", HAND_OVER),
    Point(BitWriter, "finish", HAND_OVER), Point(Kernel, "__call__", _kernel),
    Point(scan, "is_true", REFERENCE), Point(scan, "pack", REFERENCE),
    Point(scan, "from_words", ROWS),
    Point(dataset, "weigh_by", WEIGHTS), Point(dataset, "check", WEIGHTS),
    Point(making, "check", WEIGHTS), Point(making, "make_plan", PLAN),
)  # fmt: skip
"""What is watched; a function that is gone stops the run, so that no step is empty unnoticed."""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Something that bounds a step, done alone.

    nbytes  that it goes through; None where that says nothing
    """

    step: str
    name: str
    work: Callable[[], Any]
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One task; all seconds are those of best runs, in turn.

    watched                   of the best run whose steps were watched, which add up to it
    steps, step_seconds       of that run
    bounds                    "step: what bounds it", with its seconds, and the bytes it goes through
    peers, peer_seconds       those that there is a goal against, with the seconds ours may take
    """

    key: str
    task: str
    seconds: float
    watched: float
    steps: tuple[str, ...]
    step_seconds: tuple[float, ...]
    bounds: tuple[str, ...]
    bound_seconds: tuple[float, ...]
    bound_bytes: tuple[int | None, ...]
    peers: tuple[str, ...]
    peer_seconds: tuple[float, ...]
    may_take: tuple[float, ...]

    def bounding(self, step: str) -> list[tuple[str, float, int | None]]:
        """What bounds a step: name, seconds, bytes."""
        every = zip(self.bounds, self.bound_seconds, self.bound_bytes, strict=True)
        return [(name.removeprefix(f"{step}: "), seconds, nbytes)
                for name, seconds, nbytes in every if name.startswith(f"{step}: ")]  # fmt: skip

    def least(self, step: str) -> float | None:
        """What bounds the step took, the quickest of several; None where nothing does."""
        return min((seconds for _, seconds, _ in self.bounding(step)), default=None)

    @property
    def floor(self) -> float:
        """What all that bounds the steps takes together."""
        return sum(self.least(step) or 0.0 for step in self.steps)


@dataclass(slots=True)
class _Watched:
    """A task's work with its steps watched; the best run is kept."""

    work: Callable[[], Any]
    seconds: float = float("inf")
    steps: Mapping[str, float] = field(default_factory=dict)

    def __call__(self) -> Any:
        watch = Watch()
        with watch.on(POINTS):
            start = perf_counter()
            answer = self.work()
            stop = perf_counter()
        if stop - start < self.seconds:
            self.seconds, self.steps = stop - start, shares(watch.spans, start, stop)
        return answer


def measure(
    data: Data, peers: Sequence[Peer], repeats: int, seconds: float, only: Sequence[str] = ()
) -> Iterator[Profile]:
    """The tasks of TASKS, or those of them that `only` names."""
    for task in tasks(data, peers, [key for key in TASKS if not only or key in only]):
        yield profile(task, TASKS[task.key](data), repeats, seconds)


def profile(task: Task, bounds: Sequence[Yardstick], repeats: int, seconds: float) -> Profile:
    """One task, its peers that have goals, and what bounds its steps, in turn."""
    (ours,) = (c for c in task.contenders if c.name == OURS)
    watched = _Watched(ours.work)
    rivals = [c for c in task.contenders if c.name in (*task.goals, FLOOR)]
    sticks = {f"{b.step}: {b.name}": b for b in bounds}
    contenders = (
        ours, *rivals, Contender(WATCHED, watched, ours.rows),
        *(Contender(name, b.work, None) for name, b in sticks.items()),
    )  # fmt: skip
    result = run(replace(task, contenders=contenders), repeats, seconds)
    best = {t.name: t.best for t in result.timings}
    rated = [name for name in task.goals if name in best]
    return Profile(
        task.key, task.name, result.ours.best, watched.seconds,
        tuple(watched.steps), tuple(watched.steps.values()),
        tuple(sticks), tuple(best[name] for name in sticks), tuple(b.nbytes for b in bounds),
        tuple(rated), tuple(best[name] for name in rated), tuple(_may(result, n) for n in rated),
    )  # fmt: skip


def _may(result: Result, peer: str) -> float:
    """Seconds in which the goal against `peer` is met."""
    if result.by_floor(peer):
        return result.of(FLOOR).best / OF_FLOOR
    return result.of(peer).best / result.goals[peer]


# -- what bounds the steps -----------------------------------------------------------------------


def _columns(*names: str) -> Callable[[Data], list[Yardstick]]:
    """The kernel reads these columns of the table in memory; a bit of each row is looked at then."""

    def made(data: Data) -> list[Yardstick]:
        buffers = [b for name in names for b in _buffers(data, name)]
        return [*_reading(KERNEL, buffers), *_bitmap(data)]

    return made


def _buffers(data: Data, name: str) -> list[Any]:
    """The bytes that a condition on a column has to go through: of a dictionary, its codes."""
    column = data.table[name].combine_chunks()
    codes = column.indices if hasattr(column, "indices") else column
    return [np.frombuffer(codes.buffers()[1], np.uint8)]


def _codes(data: Data) -> list[Yardstick]:
    """The kernel reads a code of one byte for each row, which were made of the plain text before."""
    return [*_reading(KERNEL, [np.ones(data.rows, np.uint8)]), *_bitmap(data)]


def _bitmap(data: Data) -> list[Yardstick]:
    return _reading(ROWS, [np.ones(-(-data.rows // 8), np.uint8)], threads=(1,))


def _reading(step: str, buffers: Sequence[Any], threads: Sequence[int] = (1, 2)) -> list[Yardstick]:
    """Copy, sum and maximum of these bytes as 64-bit numbers, what is beyond the last whole one
    left out; on one thread, and on two that take a half of each buffer.
    """
    words = [b[: b.size // 8 * 8].view(np.int64) for b in buffers]
    copies = [np.zeros_like(w) for w in words]
    nbytes = sum(w.nbytes for w in words)
    jobs: dict[str, Callable[[int, slice], Any]] = {
        "copy": lambda k, part: np.copyto(copies[k][part], words[k][part]),
        "sum": lambda k, part: words[k][part].sum(),
        "maximum": lambda k, part: words[k][part].max(initial=0),
    }
    found = []
    for name, job in jobs.items():
        for count in threads:
            parts = [(k, slice(w.size * t // count, w.size * (t + 1) // count))
                     for t in range(count) for k, w in enumerate(words)]  # fmt: skip
            told = name if count == 1 else f"{name}, {count} threads"
            work = partial(_over, job, parts, _pool(count) if count > 1 else None)
            found.append(Yardstick(step, told, work, nbytes))
    return found


def _over(job: Callable[[int, slice], Any], parts: Sequence[tuple[int, slice]], pool: Any) -> None:
    for _ in (map if pool is None else pool.map)(job, *zip(*parts, strict=True)):
        pass


_POOLS: Final[dict[int, ThreadPoolExecutor]] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    return _POOLS.setdefault(threads, ThreadPoolExecutor(threads))


def _whole_file(column: str) -> Callable[[Data], list[Yardstick]]:
    """The column is decoded by pyarrow, as our source has it done."""

    def made(data: Data) -> list[Yardstick]:
        path = data.parquet
        table = partial(pq.read_table, path, columns=[column], read_dictionary=["cat"])
        decoded = table().nbytes
        found = [
            _footer(path),
            Yardstick(DECODE, "pyarrow, the whole column", table, decoded),
            Yardstick(DECODE, "pyarrow, group by group on two threads",
                      partial(_by_groups, path, column), decoded),
        ]  # fmt: skip
        return [*found, *_reading(KERNEL, [np.ones(decoded, np.uint8)]), *_bitmap(data)]

    return made


def _footer(path: Any) -> Yardstick:
    return Yardstick(OPEN, "pyarrow, the footer", partial(pq.read_metadata, path))


def _by_groups(path: Any, column: str) -> None:
    """Each row group by itself, as memory with a bound has it, two at a time."""
    metadata = pq.read_metadata(path)

    def one(group: int) -> Any:
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=["cat"]) as file:
            return file.read_row_group(group, columns=[column], use_threads=False)

    for _ in _pool(2).map(one, range(metadata.num_row_groups)):
        pass


def _one_group(data: Data) -> list[Yardstick]:
    """A range on the sorted column: the footer, and the groups that statistics do not decide."""
    path, (low, high) = data.sorted_parquet, data.hundredth
    metadata = pq.read_metadata(path)
    found = []
    for group in range(metadata.num_row_groups):
        told = metadata.row_group(group).column(0).statistics
        outside, inside = told.max < low or told.min > high, low <= told.min and told.max <= high
        if not outside and not inside:
            found.append(group)

    def work() -> Any:
        with pq.ParquetFile(path, metadata=metadata) as file:
            return file.read_row_groups(found, columns=["stamp"])

    return [
        _footer(path),
        Yardstick(DECODE, f"pyarrow, {len(found)} of {metadata.num_row_groups} groups", work,
                  work().nbytes),
    ]  # fmt: skip


def _weighted(data: Data) -> list[Yardstick]:
    """One weight per row: copied (the product keeps numbers of its own), added up, and then found at
    random places, as many as there are draws: each looks into a guide of two bytes a row, and then
    into the sums.
    """
    score = data.array("score")
    rng = np.random.default_rng(0)
    guide = rng.integers(0, data.rows, max(data.rows // 2, 1)).astype(np.uint32)
    places = np.array_split(rng.integers(0, guide.size, data.rows), 2)
    target = np.zeros_like(score)

    def look() -> None:
        for _ in _pool(2).map(lambda its: score.take(guide.take(its)), places):
            pass

    return [
        Yardstick(WEIGHTS, "copy", lambda: np.copyto(target, score), score.nbytes),
        Yardstick(SUMS, "np.cumsum", lambda: np.cumsum(score, out=target), score.nbytes),
        Yardstick(DRAWS, "two reads at random places each, two threads", look),
    ]  # fmt: skip


TASKS: Final[Mapping[str, Callable[[Data], list[Yardstick]]]] = {
    "labels_not": _columns("labels"),
    "label_and_score": _columns("labels", "score"),
    "text_is": _codes,
    "kind_is": _columns("kind"),
    "kind_like": _columns("kind"),
    "parquet_number": _whole_file("labels"),
    "parquet_text": _whole_file("cat"),
    "parquet_range": _one_group,
    "draws_by_row": _weighted,
}
"""Tasks with a goal that is not met, and one beside them that meets it; with what bounds their steps."""


# -- for readers ---------------------------------------------------------------------------------


def table(found: Sequence[Profile]) -> str:
    """Both tables as Markdown, and how to read them."""
    return "\n".join([
        _TOLD, "", "| task | ms | steps watched | bounds alone | goals: may take |",
        "|---|--:|--:|--:|---|", *(_line(p) for p in found),
        "", _STEPS, "", "| task | step | ms | of the task | GB/s | what bounds it, alone | limit |",
        "|---|---|--:|--:|--:|---|---|", *(line for p in found for line in _lines(p)),
    ])  # fmt: skip


_TOLD: Final = (
    "Milliseconds, the best of runs in turn in one process. “steps watched”: the same work while the "
    "calls below are timed. “bounds alone”: what the machine or pyarrow's decoder needs for this task "
    "at the least, measured in the same run: a goal below that is out of reach here for whoever reads "
    "these bytes each time (files: with this decoder)."
)
_STEPS: Final = (
    "The steps of the best run that was watched, which add up to it; the time of two threads that are "
    "in steps at once is shared between them. GB/s: the bytes that bound the step, by the time of the "
    "step. “at its limit”: it takes at most twice as long as the quickest of what bounds it, which is so "
    "many percent of its time. “our code”: nothing outside of this project bounds it, so it is not "
    "at a limit; “rest” is what no step covers, waiting for the other thread included."
)


def _line(p: Profile) -> str:
    goals = "; ".join(
        f"{name} {_ms(seconds)}: {_ms(may)}, {_verdict(p, may)}"
        for name, seconds, may in zip(p.peers, p.peer_seconds, p.may_take, strict=True)
    )
    return f"| {p.task} | {_ms(p.seconds)} | {_ms(p.watched)} | {_ms(p.floor)} | {goals} |"


def _verdict(p: Profile, may: float) -> str:
    if p.seconds <= may:
        return "met"
    return "**not met**, below the bounds" if may < p.floor else "**not met**"


def _lines(p: Profile) -> Iterator[str]:
    for step, seconds in zip(p.steps, p.step_seconds, strict=True):
        bounds = p.bounding(step)
        nbytes = next((n for _, _, n in bounds if n is not None), None)
        speed = "" if nbytes is None or not seconds else f"{nbytes / seconds / 1e9:.1f}"
        yield (
            f"| `{p.key}` | {step} | {_ms(seconds)} | {seconds / p.watched:.0%} | {speed} "
            f"| {'; '.join(_bound(*b) for b in bounds)} | {_limit(seconds, p.least(step))} |"
        )


def _bound(name: str, seconds: float, nbytes: int | None) -> str:
    told = f"{_ms(seconds)} ms" if nbytes is None else f"{nbytes / seconds / 1e9:.1f} GB/s"
    return f"{name}: {told}"


def _limit(seconds: float, least: float | None) -> str:
    if least is None:
        return "not at a limit: our code"
    share = f"{least / seconds:.0%}" if seconds else "100%"
    return f"at its limit: {share}" if seconds * BOUND <= least else f"not at a limit: {share}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f}"
