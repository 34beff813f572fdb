"""The table of the README: the best runs and how many times as long the peers took, no more."""

from collections.abc import Mapping
from typing import Final

from benchmarks.measure import OURS, Result
from benchmarks.peers.figures import PARTS, Part
from benchmarks.peers.report import NAMES, factor, quiet
from benchmarks.peers.tasks import NOT_ASKED
from benchmarks.peers.with_tqlkit import ANEW, AS_IDS

_MORE: Final = "docs/figures.md"


def short_table(parts: Mapping[str, Part]) -> str:
    """Tasks, fresh processes, and on what; of the parts that there are."""
    shown = []
    tasks = [part.found for name, part in parts.items() if name not in PARTS]
    if tasks:
        shown += [_tasks(tasks), _TOLD]
    if "starts" in parts:
        shown.append(_starts(parts["starts"]))
    machines = (part.where.split(f"; {OURS}: code ")[0] for part in parts.values())
    where = "; ".join(dict.fromkeys(machines))
    shown.append(
        f"{quiet(list(parts.values()))} Medians, goals, first calls, how the time grows, kernels "
        f"against the speed of memory: [{_MORE}]({_MORE}). {where}."
    )
    return "\n\n".join(shown)


_TOLD: Final = (
    "Milliseconds, the best of the repeated runs, in turn in one process, after all answers were "
    "found to be the same (or drawn from the same distribution); in brackets, how many times as long "
    f"as {OURS} it took. Everybody is warm: the data open, the same asked before. “as ids” is the "
    "answer spelt out as row numbers, as the peers give it (Deep Lake gives a view); “opened anew” "
    "opens the data for each query, so that no bound query, zone map or dictionary is left of earlier "
    "ones; Parquet files everybody opens for each query. Kernels were compiled beforehand: until then "
    "a query runs in NumPy, see “When kernels are compiled”. —: has nothing for it."
)


def _tasks(results: list[Result]) -> str:
    heads = ["milliseconds", OURS, "as ids", "opened anew", *NAMES]
    lines = [f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    for r in results:
        own = [_best(r, name) for name in (OURS, AS_IDS, ANEW)]
        peers = [_peer(r, name) for name in NAMES]
        lines.append(f"| {r.task} | {' | '.join([*own, *peers])} |")
    return "\n".join(lines)


def _best(result: Result, name: str) -> str:
    timing = result.timing(name)
    return "" if timing is None else _ms(timing.best)


def _peer(result: Result, name: str) -> str:
    timing, ratio = result.timing(name), result.ratio(name)
    if timing is None or ratio is None:
        return result.absent.get(name, NOT_ASKED).split(":")[0]
    return f"{_ms(timing.best)} ({factor(ratio)})"


def _starts(part: Part) -> str:
    lines = ["| fresh process | best | median |", "|---|--:|--:|"]
    lines += [f"| {c.name} | {_ms(c.best)} ms | {_ms(c.middle)} ms |" for c in part.found]
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    """Three digits at the most after the first."""
    ms = seconds * 1e3
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"
