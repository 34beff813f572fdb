"""All figures as Markdown: the page docs/figures.md."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks import kernels, opening, profiles, scaling
from benchmarks.bandwidth import Bandwidth, fastest
from benchmarks.calls import CALLS, Calls
from benchmarks.loading import report as loading
from benchmarks.measure import OF_FLOOR, OURS, Result, Timing
from benchmarks.parsing import Read
from benchmarks.peers.figures import PARTS, Part
from benchmarks.peers.tasks import NOT_ASKED, PEERS
from benchmarks.peers.with_tqlkit import ANEW, AS_IDS, OFTEN
from benchmarks.startup import Cold

HEAD: Final = """# Figures

Written by `python -m benchmarks.peers --readme`; [performance.md](performance.md) says what they mean
for a user, and how to measure again."""

NAMES: Final = tuple(peer.name for peer in PEERS)

NOTES: Final = (
    "Milliseconds, best / median of the repeated runs, in turn in one process, in a new order each "
    f"round, after every answer was compared; how many times faster {OURS} is by the best runs, and the "
    "goal where there is one. —: has nothing for it.",
    f"Everybody ran before, unmeasured, {OURS} {OFTEN} times in filters, the others once, over data that "
    "it keeps open, in its own form and with its own types as far as it has them, and may use what it kept "
    f"of that: others their statistics and caches; {OURS} compiled kernels, the query as it was parsed and bound, zone maps (a range over a "
    "column that is nearly sorted), dictionaries of plain texts; no result. "
    f"“{ANEW}” opens the table in each run, and has of these only kernels and the parsed text. "
    "Parquet files are opened anew in each run by everybody; they lie in the system's page cache.",
    f"{OURS} and Deep Lake answer a filter with a row set, the others with row numbers; “{AS_IDS}” is "
    "with these. The weights of rows are a row set for each weight here, a float64 for each row there. "
    f"Kernels of {OURS} were compiled beforehand: the first calls are below.",
    "“of memory”: bytes of the columns read / time, against the fastest that memory gave in the same "
    "run; — where zone maps or dictionaries may spare some of them.",
)


def whole(parts: Mapping[str, Part]) -> str:
    """Every figure that there is."""
    tasks = {name: part for name, part in parts.items() if name not in PARTS}
    shown = [_tasks(tasks)] if tasks else []
    tables: dict[str, Callable[[Part], str]] = {
        "calls": lambda p: f"## Cold and warm\n\n{_calls(p.found)}",
        "starts": lambda p: f"## Fresh processes\n\n{_cold(p.found)}",
        "texts": lambda p: f"## Reading a query\n\n{_texts(p.found)}",
        "scaling": lambda p: f"## How the time grows\n\n{scaling.table(p.found)}",
        "kernels": lambda p: "## Kernels alone\n\n" + kernels.table(
            [b for b in p.memory if b.threads == 1], p.found),
        "plans": lambda p: f"## Plans\n\n{opening.table(p.found)}",
        "loading": lambda p: f"## Loading\n\n{loading.table(p.found)}",
        "limits": lambda p: f"## Where the time goes, and the limits\n\n{profiles.table(p.found)}",
    }  # fmt: skip
    shown += [table(parts[name]) for name, table in tables.items() if name in parts]
    return "\n\n".join([*shown, _memory(parts), conditions(parts)])


def conditions(parts: Mapping[str, Part]) -> str:
    """On what the parts were measured, when, and how quiet it was; a paragraph for each machine."""
    told = []
    for where in dict.fromkeys(part.where for part in parts.values()):
        these = {name: part for name, part in parts.items() if part.where == where}
        which = "" if len(these) == len(parts) else f" ({', '.join(these)})"
        at = sorted(part.at for part in these.values())
        minutes = sum(part.seconds for part in these.values()) / 60
        own = ", ".join(f"{n} {k}" for n, k in next(iter(these.values())).threads.items())
        told.append(
            f"Measured{which} on {where}. From {at[0]} to {at[-1]} UTC, {minutes:.1f} minutes. "
            f"{quiet(list(these.values()))}"
            + (f" Threads that each takes by itself: {own}; the others do not say." if own else "")
        )
    return "## Where and when\n\n" + "\n\n".join(told)


def quiet(parts: Sequence[Part]) -> str:
    """How many CPUs others kept busy while these were measured."""
    known = [(p.others, p.seconds) for p in parts if p.others is not None]
    if not known:
        return "What else ran is not known."
    mean = sum(cpus * seconds for cpus, seconds in known) / max(sum(s for _, s in known), 1e-9)
    most = max(cpus for cpus, _ in known)
    return (
        f"Other programs kept {mean:.2f} CPUs busy meanwhile, at most {most:.2f} during one part."
    )


def times(timing: Timing) -> str:
    """Best / median milliseconds."""
    return f"{timing.best * 1e3:,.2f} / {timing.middle * 1e3:,.2f}"


def factor(ratio: float) -> str:
    """A ratio for readers: 12x, 3.4x, 0.25x."""
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def _tasks(parts: Mapping[str, Part]) -> str:
    heads = ["task", OURS, "of memory", *NAMES, "also"]
    lines = [f"| {' | '.join(heads)} |", "|---|--:|--:" + "|---" * (len(NAMES) + 1) + "|"]
    for part in parts.values():
        r: Result = part.found
        peers = [_peer(r, name) for name in NAMES]
        also = "; ".join(
            f"{t.name}: {_against(r, t)}" for t in r.timings if t.name not in (OURS, *NAMES)
        )
        ours = f"{times(r.ours)} | {_of_memory(r, part.memory)}"
        lines.append(f"| {r.task} | {ours} | {' | '.join(peers)} | {also} |")
    reasons = dict.fromkeys(r for part in parts.values() for r in _refusals(part.found))
    told = [line for note in (*NOTES, *reasons) for line in ("", note)]
    return "\n".join(["## Against the peers", "", *lines, *told])


def _of_memory(result: Result, memory: Sequence[Bandwidth]) -> str:
    speed = result.bandwidth
    return NOT_ASKED if speed is None else f"{speed / fastest(memory).bytes_per_second:.0%}"


def _against(result: Result, timing: Timing) -> str:
    """A peer's times, the ratio, and the goal."""
    name = timing.name
    ratio, goal = result.ratio(name), result.goals.get(name)
    assert ratio is not None
    shown = f"{times(timing)} **{factor(ratio)}**"
    if goal is None:
        return shown
    aim = f"{OF_FLOOR:g}x of decoding" if result.by_floor(name) else f"{goal:g}x"
    return f"{shown}, goal {aim}{'' if result.met(name) else ' NOT'} met"


def _peer(result: Result, name: str) -> str:
    timing = result.timing(name)
    if timing is not None:
        return _against(result, timing)
    return result.absent.get(name, NOT_ASKED).split(":")[0]


def _refusals(result: Result) -> Iterator[str]:
    """What those who cannot said; of a path its last name."""
    for name, reason in result.absent.items():
        if reason.startswith("cannot: "):
            said = re.sub(r"[^\s']*/([^\s'/]+)/?", r"\1", reason.removeprefix("cannot: "))
            yield f"{name} cannot: {said[:160]}"


def _calls(calls: Sequence[Calls]) -> str:
    heads = " | ".join(f"call {k}" for k in CALLS)
    lines = [f"| fresh process, median ms | kernel cache | {heads} |",
             "|---|---|" + "--:|" * len(CALLS)]  # fmt: skip
    for c in calls:
        figures = " | ".join(f"{s * 1e3:,.2f}" for s in c.seconds)
        lines.append(f"| `{c.condition}` | {c.cache} | {figures} |")
    told = (
        "The calls follow each other at once; before the last, a child that compiles is waited for."
    )
    return "\n".join([*lines, "", told])


def _cold(cold: Sequence[Cold]) -> str:
    return _table(
        "fresh process, empty kernel cache",
        [(c.name, c.best, c.middle, _goal(c.goal, c.met)) for c in cold],
    )


def _texts(texts: Sequence[Read]) -> str:
    return _table(
        "text, read by a warm process",
        [(t.name, t.best, t.middle, _goal(t.goal, t.goal is None or t.best <= t.goal))
         for t in texts],
    )  # fmt: skip


def _goal(goal: float | None, met: bool | None) -> str:
    return NOT_ASKED if goal is None else f"{_ms(goal)} {'met' if met else 'NOT met'}"


def _table(head: str, rows: Sequence[tuple[Any, ...]]) -> str:
    lines = [f"| {head} | best | median | goal |", "|---|--:|--:|--:|"]
    lines += [f"| {name} | {_ms(best)} | {_ms(middle)} | {goal} |"
              for name, best, middle, goal in rows]  # fmt: skip
    return "\n".join(lines)


def _memory(parts: Mapping[str, Part]) -> str:
    """The best of all runs, each kind."""
    found = [b for part in parts.values() for b in part.memory]
    kinds = dict.fromkeys((b.name, b.threads) for b in found)
    lines = ["## Memory", "", "| NumPy, 256 MB | threads | GB/s read |", "|---|--:|--:|"]
    for name, threads in kinds:
        best = fastest([b for b in found if (b.name, b.threads) == (name, threads)])
        lines.append(f"| {name} | {threads} | {best.bytes_per_second / 1e9:.1f} |")
    return "\n".join([*lines, "", "A copy writes as many bytes again."])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms"
