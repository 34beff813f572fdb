"""`python -m benchmarks.limits`: what keeps tasks from being faster, step by step, in one run.

What is measured is told in `benchmarks.profiles`. It goes into the file of figures of
`python -m benchmarks.peers` (rows that `--only` leaves out stay), and `--readme` writes docs/figures.md
from that file. All tasks take about two minutes on a quiet machine, and a minute before that to load
the data into every engine.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import bandwidth
from benchmarks.neighbours import watched
from benchmarks.peers import __main__ as command_line
from benchmarks.peers import figures, report
from benchmarks.peers.data import Data
from benchmarks.peers.figures import Part
from benchmarks.peers.tasks import PEERS, Peer, keys
from benchmarks.peers.threads import threads
from benchmarks.profiles import TASKS, Profile, measure, table


def main(arguments: Sequence[str] | None = None, peers: Sequence[Peer] = PEERS) -> None:
    """Run what the command line asks for; `peers` may be fewer, for tests."""
    given = _parser().parse_args(arguments)
    data = Data(given.rows, given.data)
    file = given.json or given.data / f"figures-{given.rows}.json"
    known = figures.load(file)
    began, start = datetime.now(UTC), time.perf_counter()
    memory = bandwidth.measure(given.repeats)
    found = {}
    with watched() as noise:
        for profile in measure(data, peers, given.repeats, given.seconds, given.only):
            print(f"… {profile.key}", file=sys.stderr)
            found[profile.key] = profile
    kept: list[Profile] = known["limits"].found if "limits" in known else []
    every = {**{p.key: p for p in kept}, **found}
    known["limits"] = Part(
        [every[key] for key in TASKS if key in every],
        bandwidth.best_of(memory, bandwidth.measure(given.repeats)),
        figures.machine(), threads(), f"{began:%Y-%m-%d %H:%M}", time.perf_counter() - start,
        noise.cpus,
    )  # fmt: skip
    figures.save(file, known, keys(data))
    print(table([p for p in known["limits"].found if p.key in found]))
    print(f"figures: {file}", file=sys.stderr)
    if given.readme:
        page = f"{report.HEAD}\n\n{report.whole(known)}\n"
        command_line.PAGE.write_text(page, "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.limits", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0,
                        help="after these a contender drops out, but not before 3 runs")  # fmt: skip
    parser.add_argument("--data", type=Path, default=command_line.FOLDER,
                        help="where the files of the data are kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--only", nargs="+", default=[], choices=list(TASKS), metavar="TASK",
                        help=f"just these: {', '.join(TASKS)}")  # fmt: skip
    parser.add_argument("--json", type=Path, help="the file of figures (default: with the data)")
    parser.add_argument("--readme", action="store_true", help="write docs/figures.md")
    return parser


if __name__ == "__main__":
    main()
