"""`python -m benchmarks.shuffles`: what orders of sorted data are like, ours and those of others.

Two tables: how well batches mix classes and what has to be read for it, and what lanes cost. They have
no times in them: the same numbers come out on every machine. `--json FILE` writes them as data,
`--docs` into docs/shuffling.md.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.orders import (
    Int64s,
    distance,
    kept_by_window,
    least_recently_used,
    live_at_once,
    longest_run,
    measured_classes,
    measured_vif,
    random_blocks,
    rank_correlation,
    shards_and_rows_shuffled,
    shards_shuffled,
    through_buffer,
)
from tql import rowset
from tql.partition import partition
from tql.planner import Plan, Windows, make_plan
from tql.planner.quality import Quality, quality, units_of
from tql.weights import ClassWeights

ROWS: Final = 100_000
CLASSES: Final = 100
FRAGMENT: Final = 200  # rows
BATCH: Final = 256
KEPT: Final = 50  # fragments that a reader keeps
SEED: Final = 7
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "shuffling.md"
EDGES: Final = np.arange(0, ROWS + 1, FRAGMENT)


@dataclass(frozen=True, slots=True)
class Order:
    """One order of all rows, sorted by class in the data.

    distance   of the mix of a batch from that of the epoch, 0 to 1 (total variation)
    predicted  the VIF that was known beforehand; None for orders of others
    live       most fragments that are begun and not done with
    reads      of fragments, where the KEPT used last are kept
    """

    name: str
    classes: float
    distance: float
    vif: float
    predicted: float | None
    run: int
    correlation: float
    live: int
    reads: int


@dataclass(frozen=True, slots=True)
class Lanes:
    """An order in lanes.

    units     passes over fragments
    reads     of fragments by 1, 4 and 8 ranks, each of which keeps those of its own windows
    off       largest difference of a class's draws from its quota
    anywhere  reads of a global order of the same draws, KEPT fragments kept
    """

    data: str
    lanes: int
    length: int
    units: int
    reads: tuple[int, int, int]
    off: float
    vif: float
    predicted: float
    anywhere: int


# -- orders ---------------------------------------------------------------------------------------


def orders() -> Iterator[Order]:
    """The first table: others' rules, then ours."""
    labels = np.arange(ROWS) * CLASSES // ROWS
    rng = np.random.default_rng(SEED)
    rows = np.arange(ROWS)
    for name, order in (
        ("as the data lie", rows),
        ("buffer of 1,000 rows", through_buffer(rows, 1_000, rng)),
        ("buffer of 10,000 rows", through_buffer(rows, 10_000, rng)),
        ("shards shuffled, buffer of 1,000 rows",
         through_buffer(shards_shuffled(ROWS, FRAGMENT, rng), 1_000, rng)),
        ("shards shuffled, and the rows of each", shards_and_rows_shuffled(ROWS, FRAGMENT, rng)),
        ("50 shuffled shards at a time, their rows mixed", random_blocks(ROWS, FRAGMENT, 50, rng)),
        ("global permutation (NumPy)", rng.permutation(ROWS)),
    ):  # fmt: skip
        yield _order(name, order, labels, None)
    for count in (16, 50, 125, 250):
        windows = Windows(count * FRAGMENT)
        plan = make_plan(
            rowset.everything(ROWS), shuffle=True, seed=SEED, edges=EDGES, windows=windows
        )
        predicted = _predicted(plan, np.eye(CLASSES)[labels[EDGES[:-1]]][None])
        yield _order(f"**ours**, windows of {count} fragments", plan.ids(), labels, predicted)
    plan = make_plan(rowset.everything(ROWS), shuffle=True, seed=SEED)
    yield _order("**ours**, global permutation", plan.ids(), labels, (ROWS - BATCH) / (ROWS - 1))


def _order(name: str, order: Int64s, labels: Int64s, predicted: float | None) -> Order:
    found, fragments = labels[order], order // FRAGMENT
    return Order(
        name, measured_classes(found, BATCH), distance(found, BATCH), measured_vif(found, BATCH),
        predicted, longest_run(found), rank_correlation(order), live_at_once(fragments),
        least_recently_used(fragments, KEPT),
    )  # fmt: skip


def _predicted(plan: Plan, shares: np.ndarray[Any, Any]) -> float:
    assert plan.windows is not None
    told: Quality = quality(
        units_of(plan.draw_line(), shares), plan.windows.length, plan.windows.lanes, BATCH
    )
    assert told.vif is not None
    return told.vif


# -- lanes ----------------------------------------------------------------------------------------


def lanes() -> Iterator[Lanes]:
    """The second table. Where classes are balanced, they are of unequal size, 91 to 1."""
    sizes = 1 / (np.arange(CLASSES) + 1.1)
    unequal = np.repeat(np.arange(CLASSES), np.diff(np.round(np.cumsum(
        np.append(0, sizes)) * ROWS / sizes.sum()).astype(np.int64)))  # fmt: skip
    mixed = np.random.default_rng(SEED).permutation(unequal)
    for name, labels, balanced, cuts in (
        ("sorted, all rows", np.arange(ROWS) * CLASSES // ROWS, False, ((1, 10_000), (8, 1_600))),
        ("sorted, classes balanced", unequal, True, ((8, 800), (16, 800))),
        ("shuffled, classes balanced", mixed, True, ((8, 800),)),
    ):
        for count, length in cuts:
            yield _lanes(name, labels, balanced, Windows(length, count))


def _lanes(name: str, labels: Int64s, balanced: bool, windows: Windows) -> Lanes:
    rows = rowset.everything(ROWS)
    weights = None
    if balanced:
        of_class = partition(labels.astype(np.uint8), CLASSES, rows)
        weights = ClassWeights(1 / np.bincount(labels), of_class)
    make = partial(make_plan, rows, weights, shuffle=True, seed=SEED, mix="epoch", edges=EDGES)
    plan = make(windows=windows)
    line = plan.draw_line()
    if balanced:
        shares = np.repeat(np.eye(CLASSES)[:, None, :], EDGES.size - 1, axis=1)
    else:
        shares = np.eye(CLASSES)[labels[EDGES[:-1]]][None]
    ids = plan.ids()
    return Lanes(
        name, windows.lanes, windows.length, line.fragment.size,
        tuple(_reads(plan, world) for world in (1, 4, 8)),  # type: ignore[arg-type]
        float(np.abs(np.bincount(labels[ids]) - ROWS / CLASSES).max()) if balanced else 0.0,
        measured_vif(labels[ids], BATCH), _predicted(plan, shares),
        least_recently_used(make().ids() // FRAGMENT, KEPT),
    )  # fmt: skip


def _reads(plan: Plan, world: int) -> int:
    """What all ranks read, of the rows that their streams give in full steps: each keeps what windows
    of lanes of its own have, until the next window of that lane begins.
    """
    assert plan.windows is not None
    reads = 0
    for rank in range(world):
        stream = plan.stream(
            rank=rank, world_size=world, batch_size=BATCH // world, remainder="drop"
        )
        batches = [stream.batch(i) for i in range(stream.batches)]
        fragments = np.concatenate([b.rows for b in batches]) // FRAGMENT
        place, lane = np.divmod(np.concatenate([b.positions for b in batches]), plan.windows.lanes)
        for each in np.unique(lane):
            here = np.flatnonzero(lane == each)
            window = place[here] // plan.windows.length
            reads += kept_by_window(np.split(fragments[here], np.flatnonzero(np.diff(window)) + 1))
    return reads


# -- tables ---------------------------------------------------------------------------------------


def first_table(found: Sequence[Order]) -> str:
    """Markdown."""
    lines = [
        "| order | classes in a batch | distance | **VIF** | predicted | longest run | correlation "
        "with the data | fragments live | fragment reads |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {o.name} | {o.classes:.1f} | {o.distance:.2f} | {_factor(o.vif)} | "
        f"{'' if o.predicted is None else _factor(o.predicted)} | {o.run:,} | {o.correlation:.2f} | "
        f"{o.live} | {o.reads:,} |"
        for o in found
    ]
    return "\n".join(lines)


def second_table(found: Sequence[Lanes]) -> str:
    """Markdown."""
    lines = [
        "| data | lanes x window | units | fragment reads by 1 / 4 / 8 ranks | a class is off by | "
        "**VIF** | predicted | reads of a global order |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {t.data} | {t.lanes} x {t.length:,} | {t.units:,} | "
        f"{' / '.join(f'{n:,}' for n in t.reads)} | {t.off:g} | {_factor(t.vif)} | "
        f"{_factor(t.predicted)} | {t.anywhere:,} |"
        for t in found
    ]
    return "\n".join(lines)


def _factor(vif: float) -> str:
    return f"{vif:.0f}" if vif >= 20 else f"{vif:.1f}" if vif >= 2 else f"{vif:.2f}"


def with_tables(page: str, tables: Sequence[str]) -> str:
    """The page with these tables between its markers."""
    for number, table in enumerate(tables, 1):
        start, end = f"<!-- table {number}: start -->", f"<!-- table {number}: end -->"
        before, rest = page.split(start)
        page = f"{before}{start}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables; write what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shuffles", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--docs", action="store_true", help=f"write the tables into {PAGE.name}")
    given = parser.parse_args(arguments)
    first, second = list(orders()), list(lanes())
    tables = (first_table(first), second_table(second))
    print("\n\n".join(tables))
    if given.json is not None:
        content = {"orders": [asdict(o) for o in first], "lanes": [asdict(t) for t in second]}
        given.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    if given.docs:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables), "utf-8")


if __name__ == "__main__":
    main()
