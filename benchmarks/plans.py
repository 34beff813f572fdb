"""`python -m benchmarks.plans`: draws, permutations and plans, in one run with NumPy and torch.

As many weighted draws as rows, one row in a hundred without replacement, a permutation of all rows, with
the peers that can; then what a plan takes to open anywhere, and in bytes (`benchmarks.opening`). All
goes into the file of figures of `python -m benchmarks.peers`, part by part as it is done (`--resume` goes
on with a run that was cut short), and `--readme` writes docs/figures.md from that file.

It is estimated at three minutes on a quiet machine with 10 M rows, of which two are the slow peers: who
takes more than a few seconds runs once. Loading the data takes some seconds before.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import bandwidth, opening
from benchmarks.measure import run
from benchmarks.neighbours import watched
from benchmarks.peers import __main__ as command_line
from benchmarks.peers import figures, report
from benchmarks.peers.data import Data
from benchmarks.peers.figures import Part
from benchmarks.peers.tasks import PEERS, Peer, keys, tasks
from benchmarks.peers.threads import threads
from benchmarks.peers.weighing import TAKEN

TASKS: Final = (*TAKEN, *TAKEN.values(), "permuted")
PLANS: Final = "plans"
WHO: Final = ("NumPy", "torch", "Deep Lake 4")
SLOW: Final = 2.5  # seconds, after which a peer's first run is its only one


def main(arguments: Sequence[str] | None = None, peers: Sequence[Peer] = PEERS) -> None:
    """Run what the command line asks for; `peers` may be fewer, for tests."""
    given = _parser().parse_args(arguments)
    data = Data(given.rows, given.data)
    file = given.json or given.data / f"figures-{given.rows}.json"
    known = figures.load(file)
    wanted = [
        name
        for name in (*TASKS, PLANS)
        if name in (given.only or (*TASKS, PLANS)) and not (given.resume and name in known)
    ]
    memory = bandwidth.measure(given.repeats) if wanted else []
    for name, work in _works(given, data, wanted, [p for p in peers if p.name in WHO]):
        began, start = datetime.now(UTC), time.perf_counter()
        with watched() as noise:
            found = work()
        took = time.perf_counter() - start
        print(f"… {name}: {took:.0f} s", file=sys.stderr)
        known[name] = Part(found, memory, figures.machine(), threads(), f"{began:%Y-%m-%d %H:%M}",
                           took, noise.cpus)  # fmt: skip
        figures.save(file, known, keys(data))
    print(report.whole({n: known[n] for n in (*TASKS, PLANS) if n in known}))
    print(f"figures: {file}", file=sys.stderr)
    if given.readme:
        page = f"{report.HEAD}\n\n{report.whole(known)}\n"
        command_line.PAGE.write_text(page, "utf-8")


def _works(
    given: argparse.Namespace, data: Data, wanted: Sequence[str], peers: Sequence[Peer]
) -> "Sequence[tuple[str, Callable[[], Any]]]":
    asked = [name for name in wanted if name != PLANS]
    found: list[tuple[str, Callable[[], Any]]] = []
    if asked:
        print("… loading the data into every engine", file=sys.stderr)
        found += [
            (task.key, partial(run, task, given.repeats, given.seconds, SLOW))
            for task in tasks(data, peers, asked)
        ]
    if PLANS in wanted:
        found.append((PLANS, lambda: list(opening.measure(given.rows, given.repeats, given.large))))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plans", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--large", type=int, default=opening.LARGE,
                        help="rows of the plans over synthetic fragments (default: 10^9)")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=5.0,
                        help="after these a contender drops out, but not before 3 runs")  # fmt: skip
    parser.add_argument("--data", type=Path, default=command_line.FOLDER,
                        help="where the files of the data are kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--only", nargs="+", default=[], choices=(*TASKS, PLANS), metavar="PART",
                        help=f"just these: {', '.join((*TASKS, PLANS))}")  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="leave out what the file has")
    parser.add_argument("--json", type=Path, help="the file of figures (default: with the data)")
    parser.add_argument("--readme", action="store_true", help="write docs/figures.md")
    return parser


if __name__ == "__main__":
    main()
