"""`python -m benchmarks.loader`: batches, in one run with the other loaders.

Pictures in Parquet, shuffled, against what others load and against the decoder alone; then rows that are
filtered and drawn by weight against all rows in order. The files answer at once, or each read 20 ms late.
All goes into the file of figures of `python -m benchmarks.peers`; `--only` measures some tasks anew, and
`--readme` writes docs/figures.md from that file.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.loading import report as loading_report
from benchmarks.loading.data import Files
from benchmarks.loading.rounds import Pace, measure
from benchmarks.loading.tasks import IMAGES, KEYS, NUMBERS, PASSES, TASKS, Task
from benchmarks.neighbours import watched
from benchmarks.peers import __main__ as command_line
from benchmarks.peers import figures, report
from benchmarks.peers.figures import ROOT, Part

FOLDER: Final = ROOT / ".bench"
LOADING: Final = "loading"


def main(arguments: Sequence[str] | None = None, tasks: Sequence[Task] = TASKS) -> None:
    """Run what the command line asks for; `tasks` may be others, for tests."""
    given = _parser().parse_args(arguments)
    file = given.json or given.data / "figures-10000000.json"
    known = figures.load(file)
    asked = [task for task in tasks if not given.only or task.key in given.only]
    if not given.show:
        for part in _measured(asked, given, known.get(LOADING)):
            known[LOADING] = part
            figures.save(file, known)
    if LOADING not in known:
        sys.exit(f"{file} has no figures of loading; leave --show out to measure")
    print(loading_report.table(known[LOADING].found))
    print(f"figures: {file}", file=sys.stderr)
    if given.readme:
        page = f"{report.HEAD}\n\n{report.whole(known)}\n"
        command_line.PAGE.write_text(page, "utf-8")


def _measured(
    tasks: Sequence[Task], given: argparse.Namespace, before: Part | None
) -> Iterator[Part]:
    """All figures, what was known `before` of other tasks included, after each task."""
    files = Files(given.data, given.images, given.numbers)
    print(f"… data: {files.pictures}, {files.measures}", file=sys.stderr)
    began, start = datetime.now(UTC), time.perf_counter()
    found: list[Pace] = [] if before is None else before.found
    others = 0.0
    for task in tasks:
        since = time.perf_counter()
        with watched() as noise:
            paces = list(measure([task], files, given.passes))
        now = time.perf_counter()
        found = [*paces, *(pace for pace in found if pace.key != task.key)]
        found.sort(key=lambda pace: KEYS.index(pace.key))
        others += (noise.cpus or 0.0) * (now - since)
        mean = None if noise.cpus is None else others / (now - start)
        at = f"{began:%Y-%m-%d %H:%M}"
        yield Part(found, [], figures.machine(), {}, at, now - start, mean)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--numbers", type=int, default=NUMBERS, help="rows of the numeric table")
    parser.add_argument("--passes", type=int, default=PASSES, help="that are timed, of each")
    parser.add_argument("--data", type=Path, default=FOLDER,
                        help="where the files of the data are kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--only", nargs="+", default=[], choices=KEYS, metavar="TASK",
                        help=f"just these: {', '.join(KEYS)}")  # fmt: skip
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--json", type=Path, help="the file of figures (default: with the data)")
    parser.add_argument("--readme", action="store_true", help="write docs/figures.md")
    return parser


if __name__ == "__main__":
    main()
