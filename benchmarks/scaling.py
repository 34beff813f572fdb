"""How the time grows: with the rows, on one and two threads, by selectivity, by number of weights.

The time is fitted by a straight line over the rows; what it is off by says whether it is one. The
data lies in memory, 8 bytes a row for a filter and 1 for weights: below 3 M and 30 M rows it may stay
in a cache. With up to 100 M rows all lines take about two minutes and 3 GB.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import tql
from benchmarks.measure import LEAST_RUNS, timed
from tql.engine.scan import Settings
from tql.engine.select import Population
from tql.queries import ask

ROWS: Final = (1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)
THREADS: Final = (1, 2)
PERCENT: Final = (0.1, 1.0, 10.0, 50.0, 90.0, 99.0)
WEIGHTS: Final = (2, 10, 50, 200)
OFF_BY: Final = 0.25  # of the line's time: above, it is not called linear


@dataclass(frozen=True, slots=True)
class Line:
    """Best seconds for each number of rows, and the line through them.

    fixed, per_row  the line's seconds for no row, and for each row
    deviation       the largest distance of a time from the line, as a part of the line's time
    """

    name: str
    threads: int
    rows: tuple[int, ...]
    seconds: tuple[float, ...]
    fixed: float
    per_row: float
    deviation: float

    @property
    def linear(self) -> bool:
        return self.deviation <= OFF_BY


def measure(
    repeats: int,
    seconds: float,
    rows: Sequence[int] = ROWS,
    percent: Sequence[float] = PERCENT,
    weights: Sequence[int] = WEIGHTS,
) -> Iterator[Line]:
    """A line per selectivity or number of weights, and per number of threads."""
    rng = np.random.default_rng(0)
    score = rng.random(max(rows))
    for share in percent:
        check = _share(share)
        for threads in THREADS:
            yield _line(f"`score < t`, {share:g} % of the rows", {"score": score},
                        f"select * where score < {share / 100}", threads, rows,
                        (repeats, seconds), check)  # fmt: skip
    del score
    group = rng.integers(0, 200, max(rows)).astype(np.uint8)
    for count in weights:
        arms = ", ".join(f"group_ == {k}: {k + 1}" for k in range(count - 1))
        text = f"select * sample by max_weight({arms}, true: 0.5)"
        for threads in THREADS:
            yield _line(f"`max_weight` of {count} arms", {"group_": group}, text, threads, rows,
                        (repeats, seconds), _weighs_all)  # fmt: skip


def fit(rows: Sequence[int], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Fixed seconds, seconds per row, largest deviation: the line with the least relative errors.

    Needs two different numbers of rows; with just two, the line goes through both.
    """
    x, y = np.asarray(rows, float), np.asarray(seconds)
    basis: NDArray[Any] = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    (fixed, per_row), *_ = np.linalg.lstsq(basis, np.ones_like(y), rcond=None)
    line = fixed + per_row * x
    return float(fixed), float(per_row), float(np.max(np.abs(y - line) / np.abs(line)))


def table(lines: Sequence[Line]) -> str:
    """The lines as Markdown."""
    rows = lines[0].rows
    heads = ["work", "threads", *(f"{n / 1e6:g} M" for n in rows), "ns per row", "fixed", "off by"]
    text = [f"| {' | '.join(heads)} | linear |", "|---|--:" + "|--:" * (len(rows) + 3) + "|---|"]
    for line in lines:
        times = " | ".join(f"{s * 1e3:,.2f} ms" for s in line.seconds)
        text.append(
            f"| {line.name} | {line.threads} | {times} | {line.per_row * 1e9:.3f} "
            f"| {line.fixed * 1e3:.2f} ms | {line.deviation:.0%} "
            f"| {'yes' if line.linear else 'no'} |"
        )
    return "\n".join([*text, "", growth(lines), "", _TOLD])


def growth(lines: Sequence[Line]) -> str:
    """How many times as long the most rows take as the fewest that are at least a tenth of them."""
    rows = lines[0].rows
    few = min((n for n in rows if 10 * n >= rows[-1]), default=rows[0])
    ratios = sorted(line.seconds[-1] / line.seconds[rows.index(few)] for line in lines)
    most = max(line.seconds[-1] / rows[-1] for line in lines) * 1e9
    return (
        f"From {few / 1e6:g} M to {rows[-1] / 1e6:g} M rows, {rows[-1] / few:g} times as many, the time "
        f"grows {ratios[0]:.1f} to {ratios[-1]:.1f} times, {ratios[len(ratios) // 2]:.1f} in the middle; "
        f"{sum(line.linear for line in lines)} of {len(lines)} lines are straight. "
        f"At {rows[-1] / 1e6:g} M rows a row takes at most {most:.1f} ns."
    )


_TOLD: Final = (
    "Best of the runs, kernels compiled, answers checked. “fixed” and “ns per row” are the line with the "
    "least relative errors, “off by” the largest distance of a time from it; “linear”: at most "
    f"{OFF_BY:.0%}. A filter gives a row set, weights a row set for each weight."
)


def _line(
    name: str,
    columns: dict[str, NDArray[Any]],
    text: str,
    threads: int,
    rows: Sequence[int],
    budget: tuple[int, float],
    check: Callable[[Any, int], None],
) -> Line:
    best = []
    for count in rows:
        ds = tql.open({name: values[:count] for name, values in columns.items()})
        best.append(_best(ds, text, threads, budget, lambda found, n=count: check(found, n)))
    return Line(name, threads, tuple(rows), tuple(best), *fit(rows, best))


def _best(
    ds: tql.Dataset,
    text: str,
    threads: int,
    budget: tuple[int, float],
    check: Callable[[Any], None],
) -> float:
    """Best seconds of the repeats, the kernels compiled beforehand and the answer checked."""
    repeats, most = budget

    def answer(tier: str) -> Any:
        question = ask(ds.source, text, settings=Settings(tier, threads))  # type: ignore[arg-type]
        return question.population() or question.answer()

    check(answer("kernel"))
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < LEAST_RUNS or sum(seconds) < most):
        seconds.append(timed(lambda: answer("kernel"))[0])
    return min(seconds)


def _share(percent: float) -> Callable[[Any, int], None]:
    """Checks that a filter has kept about that share: within six standard deviations."""

    def check(selection: Any, rows: int) -> None:
        share = percent / 100
        off = abs(len(selection.rows) - share * rows)
        if off > 6 * (rows * share * (1 - share)) ** 0.5:
            raise AssertionError(f"{len(selection.rows):,} of {rows:,} rows are not {percent:g} %")

    return check


def _weighs_all(population: Population, rows: int) -> None:
    if len(population.weights) != rows:
        raise AssertionError(f"{len(population.weights):,} of {rows:,} rows have a weight")
