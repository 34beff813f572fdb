"""What a run found, as JSON and as the Markdown table of the README."""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from benchmarks.bandwidth import Bandwidth, fastest
from benchmarks.calls import CALLS, Calls
from benchmarks.measure import OF_FLOOR, OURS, Result, Timing
from benchmarks.parsing import Read
from benchmarks.peers.tasks import NOT_ASKED, PEERS
from benchmarks.peers.with_tqlkit import ANEW
from benchmarks.startup import Cold

DISTRIBUTIONS: Final = (
    "polars", "duckdb", "numpy", "pyarrow", "torch", "deeplake", "numba",
)  # fmt: skip
NAMES: Final = tuple(peer.name for peer in PEERS)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run has measured; `threads` is what each engine takes by itself."""

    results: list[Result]
    bandwidth: list[Bandwidth]
    calls: list[Calls]
    cold: list[Cold]
    texts: list[Read]
    threads: Mapping[str, int]
    load: float | None  # programs that wanted a CPU, on average, in the minute before the run


def as_json(report: Report) -> dict[str, Any]:
    """Every figure, in seconds and bytes, with the ratios, the goals, and whether they are met."""
    return {
        "machine": machine(report),
        "load": report.load,
        "bandwidth": [asdict(b) for b in report.bandwidth],
        "tasks": [_result(r, report.bandwidth) for r in report.results],
        "calls": {"numbers": CALLS, "queries": [asdict(c) for c in report.calls]},
        "fresh processes": [{**asdict(c), "met": c.met} for c in report.cold],
        "texts": [asdict(t) for t in report.texts],
    }


def table(report: Report) -> str:
    """The same for a reader."""
    parts = [_tasks(report), _calls(report.calls), _cold(report.cold), _texts(report.texts),
             _bandwidth(report.bandwidth), machine(report)]  # fmt: skip
    return "\n\n".join(parts)


def machine(report: Report) -> str:
    """What this was measured on and with."""
    found = []
    for name in DISTRIBUTIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    own = ", ".join(f"{name} {count}" for name, count in report.threads.items())
    load = "" if report.load is None else f" Load of the machine before: {report.load:.1f}."
    return (
        f"Measured on {os.cpu_count()} CPUs ({platform.machine()}), Python "
        f"{platform.python_version()}, {', '.join(found)}. Threads are those that each takes by "
        f"itself: {own}; the others do not say.{load}"
    )


def _result(result: Result, bandwidth: list[Bandwidth]) -> dict[str, Any]:
    names = [t.name for t in result.timings if t.name != OURS]
    return {
        **asdict(result),
        "ratios": {name: result.ratio(name) for name in names},
        "middle ratios": {t.name: t.middle / result.ours.middle for t in result.timings
                          if t.name != OURS},
        "met": {name: result.met(name) for name in result.goals},
        "bytes_per_second": result.bandwidth,
        "of_memory": _of_memory(result, bandwidth),
    }  # fmt: skip


def _of_memory(result: Result, bandwidth: list[Bandwidth]) -> float | None:
    speed = result.bandwidth
    return None if speed is None else speed / fastest(bandwidth).bytes_per_second


def _tasks(report: Report) -> str:
    heads = ["task", OURS, "of memory", *NAMES, "also"]
    lines = [f"| {' | '.join(heads)} |", "|---|--:|--:" + "|---" * (len(NAMES) + 1) + "|"]
    for r in report.results:
        share = _of_memory(r, report.bandwidth)
        of_memory = NOT_ASKED if share is None else f"{share:.0%}"
        peers = [_peer(r, name) for name in NAMES]
        also = "; ".join(
            f"{t.name}: {_against(r, t)}" for t in r.timings if t.name not in (OURS, *NAMES)
        )
        lines.append(f"| {r.task} | {times(r.ours)} | {of_memory} | {' | '.join(peers)} | {also} |")
    lines += [
        "",
        "Milliseconds, best / median of the repeated runs, in turn in one process, in a new order "
        "each round, all with the same answer; how many times faster "
        f"{OURS} is by the best runs, and the goal where there is one. "
        "“of memory”: bytes of the columns read / time, against the fastest figure for memory below; "
        "— where what ours keeps of a data set that is open, zone maps and dictionaries, may "
        f"spare it some of them. “{ANEW}” has nothing kept from earlier runs. "
        f"{OURS} and Deep Lake answer a filter with a row set, the others with row numbers. "
        f"Kernels of {OURS} were compiled beforehand: see “When kernels are compiled”. "
        "Parquet files are opened anew each time. "
        "—: has nothing for it.",
    ]
    reasons = dict.fromkeys(_refusals(report.results))
    return "\n".join([*lines, *(["", *reasons] if reasons else [])])


def times(timing: Timing) -> str:
    """Best / median milliseconds."""
    return f"{timing.best * 1e3:,.2f} / {timing.middle * 1e3:,.2f}"


def _against(result: Result, timing: Timing) -> str:
    """A peer's times, the ratio, and the goal."""
    name = timing.name
    ratio, goal = result.ratio(name), result.goals.get(name)
    assert ratio is not None
    shown = (
        f"{times(timing)} **{ratio:,.0f}x**" if ratio >= 10 else f"{times(timing)} **{ratio:.2g}x**"
    )
    if goal is None:
        return shown
    aim = f"{OF_FLOOR:g}x of decoding" if result.by_floor(name) else f"{goal:g}x"
    return f"{shown}, goal {aim}{'' if result.met(name) else ' NOT'} met"


def _peer(result: Result, name: str) -> str:
    timing = result.timing(name)
    if timing is not None:
        return _against(result, timing)
    return result.absent.get(name, NOT_ASKED).split(":")[0]


def _refusals(results: list[Result]) -> Iterator[str]:
    """What those who cannot said; of a path its last name."""
    for r in results:
        for name, reason in r.absent.items():
            if reason.startswith("cannot: "):
                said = re.sub(r"[^\s']*/([^\s'/]+)/?", r"\1", reason.removeprefix("cannot: "))
                yield f"{name} cannot: {said[:160]}"


def _calls(calls: list[Calls]) -> str:
    heads = " | ".join(f"call {k}" for k in CALLS)
    lines = [f"| fresh process, median ms | kernel cache | {heads} |",
             "|---|---|" + "--:|" * len(CALLS)]  # fmt: skip
    for c in calls:
        figures = " | ".join(f"{s * 1e3:,.2f}" for s in c.seconds)
        lines.append(f"| `{c.condition}` | {c.cache} | {figures} |")
    return "\n".join(lines)


def _cold(cold: list[Cold]) -> str:
    lines = ["| fresh process, empty kernel cache | best | median | goal |", "|---|--:|--:|--:|"]
    for c in cold:
        aim = NOT_ASKED if c.goal is None else f"{_ms(c.goal)} {'met' if c.met else 'NOT met'}"
        lines.append(f"| {c.name} | {_ms(c.best)} | {_ms(c.middle)} | {aim} |")
    return "\n".join(lines)


def _texts(texts: list[Read]) -> str:
    lines = ["| text, read by a warm process | best | median | goal |", "|---|--:|--:|--:|"]
    for t in texts:
        goal = NOT_ASKED if t.goal is None else _ms(t.goal)
        lines.append(f"| {t.name} | {_ms(t.best)} | {_ms(t.middle)} | {goal} |")
    return "\n".join(lines)


def _bandwidth(bandwidth: list[Bandwidth]) -> str:
    lines = ["| memory, NumPy | threads | GB/s read |", "|---|--:|--:|"]
    lines += [f"| {b.name} | {b.threads} | {b.bytes_per_second / 1e9:.1f} |" for b in bandwidth]
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"
