"""`python -m benchmarks [--rows N] [--json FILE] [--readme]`: all tasks, beside their peers."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import draws, filters, parsing, startup
from benchmarks.measure import OURS, Result, run

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- benchmarks: start -->", "<!-- benchmarks: end -->"
PEERS = ("polars", "duckdb", "numpy", "torch", "pyarrow", "numba")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    results = []
    for task in (*filters.tasks(arguments.rows), *draws.tasks(arguments.rows)):
        print(f"… {task.name}", file=sys.stderr)
        results.append(run(task, arguments.repeats))
    print("… fresh processes", file=sys.stderr)
    cold = startup.measure(3 * arguments.repeats)
    print("… texts", file=sys.stderr)
    read = parsing.measure(arguments.repeats)
    text = table(results, cold, read)
    print(text)
    if arguments.json:
        content = {"machine": machine(), "results": [asdict(r) for r in results]}
        content["fresh processes"] = [asdict(c) for c in cold]
        content["texts"] = [asdict(r) for r in read]
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    if arguments.readme:
        before, rest = README.read_text("utf-8").split(START)
        after = rest.split(END)[1]
        README.write_text(f"{before}{START}\n{text}\n{END}{after}", "utf-8")


def table(results: list[Result], cold: list[startup.Cold], read: list[parsing.Read]) -> str:
    """The results as Markdown: best of the runs, and how many times faster ours is."""
    lines = ["| task | ours | peers |", "|---|--:|---|"]
    for r in results:
        ours = next(t for t in r.timings if t.name == OURS)
        peers = [
            f"{t.name} {t.best * 1e3:,.1f} ms (**{r.ratio(t.name):.1f}x**)"
            for t in r.timings
            if t.name != OURS
        ]
        peers += [f"{name}: missing" for name in r.missing]
        lines.append(f"| {r.task} | {ours.best * 1e3:,.1f} ms | {', '.join(peers)} |")
    lines += ["", "| fresh process, empty kernel cache | best | median |", "|---|--:|--:|"]
    lines += [f"| {c.name} | {c.best * 1e3:.1f} ms | {c.middle * 1e3:.1f} ms |" for c in cold]
    lines += ["", "| text, read by a warm process | best | median | goal |", "|---|--:|--:|--:|"]
    for r in read:
        goal = "—" if r.goal is None else f"{r.goal * 1e3:,.0f} ms"
        lines.append(f"| {r.name} | {r.best * 1e3:,.2f} ms | {r.middle * 1e3:,.2f} ms | {goal} |")
    lines += ["", machine()]
    return "\n".join(lines)


def machine() -> str:
    """What this was measured on and with."""
    found = []
    for name in PEERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    cpus = os.cpu_count()
    python = platform.python_version()
    return (
        f"Best of the repeated runs, in turn in one process, on {cpus} CPUs "
        f"({platform.machine()}), Python {python}, {', '.join(found)}. "
        "The filters' kernels were compiled beforehand, on purpose: left alone, a query shape runs in "
        "NumPy until that has cost about 0.9 s in the process, and is slower until then, for the "
        "second filter slower than the peers that answer it fastest."
    )


if __name__ == "__main__":
    main()
