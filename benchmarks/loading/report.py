"""The loading as Markdown: a table a task, rows per second."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from benchmarks.loading.entrants import BATCH, LIMIT, THREADS
from benchmarks.loading.rounds import Pace
from benchmarks.measure import OURS

NOTE: Final = (
    f"Rows per second by the best pass and by the median one; how many times faster {OURS} is, by the best "
    "passes of each, in turn and in a new order each round, everybody in a process of its own. Before, one "
    "pass of each is checked: each row once, labels, pixels against Pillow's; “first” is what that one took. "
    f"“{LIMIT}” is simplejpeg in {THREADS} threads over bytes in memory, each into one buffer, without "
    "batches: a limit, not a peer. Where data are opened before, peers hold all encoded pictures in memory, and "
    f"{OURS} keeps the fragments that it read in the first pass; Deep Lake reads its own format, from the "
    f"system's page cache. Where they are opened in each pass, peers read the whole file by pyarrow.\n\n"
    f"Everybody gives batches of {BATCH} and has {THREADS} threads or processes, which stay from pass to pass "
    "where data are opened before. A torch DataLoader takes pictures from a map-style data set over a list of "
    "bytes; Grain and SPDL get the same list. Grain has no decoder and is given simplejpeg; SPDL has FFmpeg's. "
    "Deep Lake's batches come in the order of the rows: it does not shuffle them."
)


def table(paces: Sequence[Pace]) -> str:
    """All tasks, each with whoever took part and why others did not."""
    parts = [NOTE]
    for (_, name), group in groupby(paces, key=lambda p: (p.key, p.task)):
        found = list(group)
        lines = [f"**{name}**, {found[0].rows:,} rows", "",
                 f"| | rows/s, best | median | first pass | {OURS} is faster | goal |",
                 "|---|--:|--:|--:|--:|--:|"]  # fmt: skip
        lines += [_line(pace) for pace in found]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(pace: Pace) -> str:
    goal = "" if pace.goal is None else f"{pace.goal:g}x"
    if pace.best is None or pace.middle is None or pace.first is None:
        return f"| {pace.name} | {pace.absent} | | | | {goal} |"
    ratio = "" if pace.ratio is None else f"{pace.ratio:.2f}x"
    if pace.met is not None:
        goal += " met" if pace.met else " NOT met"
    rates = " | ".join(f"{pace.rows / s:,.0f}" for s in (pace.best, pace.middle, pace.first))
    return f"| {pace.name} | {rates} | {ratio} | {goal} |"
