"""`python -m benchmarks.peers`: ours and the other engines, the same tasks, in turn in one process.

Every answer is compared before any time is taken. Each part is written to the file of figures when
it is done; a run that was cut short is gone on with by `--resume`, and `--only` measures parts anew.
`--show` measures nothing. `--readme` writes the tables from that file, whichever runs it is from.

All of it is estimated at 18 minutes on a quiet machine with 2 CPUs and 10 M rows: the tasks 9 (draws 5,
weights 1), calls 1.5, starts 1, texts 0.5, scaling 1, kernels 1.5, limits 3. The first run also makes the data,
which takes 5 minutes and 1 GB of disk. Each part says what it took.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import bandwidth, calls, kernels, opening, parsing, profiles, scaling, startup
from benchmarks.loading import rounds
from benchmarks.loading.data import Files
from benchmarks.loading.tasks import IMAGES, NUMBERS, PASSES, TASKS
from benchmarks.measure import run
from benchmarks.neighbours import watched
from benchmarks.peers import figures, report
from benchmarks.peers.data import Data
from benchmarks.peers.figures import PARTS, ROOT, Part
from benchmarks.peers.readme import short_table
from benchmarks.peers.tasks import PEERS, Peer, keys, tasks
from benchmarks.peers.threads import threads

README = ROOT / "README.md"
PAGE = ROOT / "docs" / "figures.md"
FOLDER = Path(tempfile.gettempdir()) / "tqlkit-benchmarks"
START, END = "<!-- benchmarks: start -->", "<!-- benchmarks: end -->"
COLD_REPEATS = 5  # fresh processes of each kind; four times as many of those that take no second
SCALING_SECONDS = 1.0  # for each number of rows, after which 3 runs are enough
LIMITS_SECONDS = 3.0  # for each contender and each thing that bounds one of our steps


def main(arguments: Sequence[str] | None = None, peers: Sequence[Peer] = PEERS) -> None:
    """Run what the command line asks for; `peers` may be fewer, for tests."""
    given = _parser().parse_args(arguments)
    data = Data(given.rows, given.data)
    file = given.json or given.data / f"figures-{given.rows}.json"
    known = figures.load(file)
    for name, part in _measured(given, data, _wanted(given, data, known), peers):
        known[name] = part
        figures.save(file, known, keys(data))
    if not known:
        sys.exit(f"{file} has no figures; leave --show out to measure")
    text = report.whole(known)
    print(text)
    print(f"figures: {file}", file=sys.stderr)
    if given.readme:
        README.write_text(with_table(README.read_text("utf-8"), short_table(known)), "utf-8")
        PAGE.write_text(f"{report.HEAD}\n\n{text}\n", "utf-8")


def with_table(readme: str, text: str) -> str:
    """The README with `text` between its markers."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n{text}\n{END}{after}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="after these a contender of a task drops out, but not before 3 runs",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=FOLDER,
        help=f"where the files of the data are kept (default: {FOLDER})",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="PART",
        help=f"just these: {', '.join((*keys(Data(1, FOLDER)), *PARTS))}",
    )
    parser.add_argument("--resume", action="store_true", help="leave out what the file has")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    parser.add_argument("--json", type=Path, help="the file of figures (default: with the data)")
    parser.add_argument(
        "--readme", action="store_true", help="write README.md's table and docs/figures.md"
    )
    parser.add_argument("--scaling", action="store_true", help="the same as --only scaling")
    parser.add_argument("--scaling-rows", type=int, nargs="+", default=scaling.ROWS, metavar="N")
    return parser


def _wanted(given: argparse.Namespace, data: Data, known: dict[str, Part]) -> list[str]:
    """The parts to measure, in their order."""
    there_are = [*keys(data), *PARTS]
    asked = [*given.only, *(["scaling"] if given.scaling else [])]
    wrong = set(asked) - set(there_are)
    if wrong:
        sys.exit(f"there is no part {', '.join(sorted(wrong))}; there are: {', '.join(there_are)}")
    if given.show:
        return []
    return [
        name
        for name in there_are
        if (not asked or name in asked) and not (given.resume and name in known)
    ]


def _measured(
    given: argparse.Namespace, data: Data, wanted: Sequence[str], peers: Sequence[Peer]
) -> Iterator[tuple[str, Part]]:
    """The parts as they are done; at the end, those of this run once more, as the speed of memory is
    measured before and after.
    """
    if not wanted:
        return
    _say("memory")
    memory = bandwidth.measure(given.repeats)
    where, own_threads = figures.machine(), threads()
    done = {}
    for name, work in _works(given, data, wanted, peers):
        _say(name)
        began, start = datetime.now(UTC), time.perf_counter()
        with watched() as noise:
            found = work()
        took = time.perf_counter() - start
        _say(f"{name}: {took:.0f} s")
        at = f"{began:%Y-%m-%d %H:%M}"
        done[name] = Part(found, memory, where, own_threads, at, took, noise.cpus)
        yield name, done[name]
    memory = bandwidth.best_of(memory, bandwidth.measure(given.repeats))
    yield from ((name, replace(part, memory=memory)) for name, part in done.items())


def _works(
    given: argparse.Namespace, data: Data, wanted: Sequence[str], peers: Sequence[Peer]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each part's name, and what measures it."""
    asked = [name for name in wanted if name not in PARTS]
    if asked:
        _say("loading the data into every engine")
        for task in tasks(data, peers, asked):
            yield task.key, partial(run, task, given.repeats, given.seconds)
    cold, few = min(COLD_REPEATS, given.repeats), min(given.rows, 1_000_000)
    parts: dict[str, Callable[[], Any]] = {
        "calls": lambda: calls.measure(cold, data.arrow),
        "starts": lambda: startup.measure(4 * cold, few, data.parquet),
        "texts": lambda: parsing.measure(cold),
        "scaling": lambda: list(scaling.measure(
            cold, min(given.seconds, SCALING_SECONDS), given.scaling_rows)),
        "kernels": lambda: kernels.measure(given.rows)[1],
        "plans": lambda: list(opening.measure(given.rows, given.repeats)),
        "loading": lambda: list(rounds.measure(
            TASKS, Files(given.data, min(given.rows, IMAGES), min(given.rows, NUMBERS)),
            min(given.repeats, PASSES))),
        "limits": lambda: list(profiles.measure(
            data, peers, given.repeats, min(given.seconds, LIMITS_SECONDS))),
    }  # fmt: skip
    yield from ((name, work) for name, work in parts.items() if name in wanted)


def _say(what: str) -> None:
    print(f"… {what}", file=sys.stderr)


if __name__ == "__main__":
    main()
