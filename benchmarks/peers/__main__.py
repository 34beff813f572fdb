"""`python -m benchmarks.peers`: ours and the other engines, the same tasks, in turn in one run.

Every answer is compared before any time is taken. `--scaling` measures ours alone, by rows,
threads, selectivity and number of weights, in place of the tasks.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import bandwidth, calls, parsing, scaling, startup
from benchmarks.measure import run
from benchmarks.peers.data import Data
from benchmarks.peers.report import Report, as_json, table
from benchmarks.peers.tasks import PEERS, Peer, keys, tasks
from benchmarks.peers.threads import threads

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- benchmarks: start -->", "<!-- benchmarks: end -->"


def main(arguments: Sequence[str] | None = None, peers: Sequence[Peer] = PEERS) -> None:
    """Run what the command line asks for; `peers` may be fewer, for tests."""
    given = _parser().parse_args(arguments)
    if given.scaling:
        content, text = _scaling(given)
    else:
        report = _tasks(given, peers)
        content, text = as_json(report), table(report)
    print(text)
    if given.json:
        given.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    if given.readme:
        README.write_text(with_table(README.read_text("utf-8"), text), "utf-8")


def with_table(readme: str, text: str) -> str:
    """The README with `text` between its markers."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n{text}\n{END}{after}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    folder = Path(tempfile.gettempdir()) / "tqlkit-benchmarks"
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="after these a contender of a task drops out, but not before 3 runs",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=folder,
        help=f"where the files of the data are kept (default: {folder})",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="TASK",
        help=f"just these tasks, and nothing else: {', '.join(keys(Data(1, folder)))}",
    )
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.add_argument("--scaling", action="store_true", help="measure how the time grows instead")
    parser.add_argument("--scaling-rows", type=int, nargs="+", default=scaling.ROWS, metavar="N")
    return parser  # fmt: skip


def _tasks(given: argparse.Namespace, peers: Sequence[Peer]) -> Report:
    data = Data(given.rows, given.data)
    wrong = set(given.only) - set(keys(data))
    if wrong:
        sys.exit(f"there is no task {', '.join(sorted(wrong))}; there are: {', '.join(keys(data))}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    _say("memory")
    memory = bandwidth.measure(given.repeats)
    _say("loading the data into every engine")
    results = []
    for task in tasks(data, peers, given.only):
        _say(task.name)
        results.append(run(task, given.repeats, given.seconds))
    memory = bandwidth.best_of(memory, bandwidth.measure(given.repeats))
    if given.only:
        return Report(results, memory, [], [], [], threads(), load)
    _say("fresh processes")
    called = calls.measure(given.repeats, given.rows)
    cold = startup.measure(3 * given.repeats, min(given.rows, 1_000_000), data.parquet)
    _say("texts")
    texts = parsing.measure(given.repeats)
    return Report(results, memory, called, cold, texts, threads(), load)


def _scaling(given: argparse.Namespace) -> tuple[dict[str, Any], str]:
    lines = []
    for line in scaling.measure(given.repeats, given.seconds, given.scaling_rows):
        _say(f"{line.name}, {line.threads} threads")
        lines.append(line)
    return {"scaling": [{**asdict(s), "linear": s.linear} for s in lines]}, scaling.table(lines)


def _say(what: str) -> None:
    print(f"… {what}", file=sys.stderr)


if __name__ == "__main__":
    main()
