"""Sums of float64 over the elements of one row, in the one order of `tql.engine.reductions`.

What lies side by side in a column is added by the functions of `runs`; here is the rest: elements
that are worked out, picked, or may be NULL.
"""

from collections.abc import Callable, Sequence
from typing import Final

from tql.engine.kernels.build import Build
from tql.engine.kernels.elements import Array, Cell, each

LANES: Final = 8


def sum_of(build: Build, array: Array, term: Callable[[Cell], str]) -> str:
    """The sum of a float64 `term` over the elements of a row that are not NULL."""
    totals, seen = _lanes(build), build.variable("k", "0")
    with each(build, array) as cell:
        _add(build, totals, term(cell), f"{seen} & 7", cell.valid)
        build.emit(f"{seen} += {f'np.int64({cell.valid})' if cell.valid else '1'}")
    return _together(build, totals)


def sums(build: Build, count: str, terms: Callable[[str], Sequence[str]], many: int) -> list[str]:
    """The sums of `many` float64 terms, none NULL, for k = 0 … count - 1; all in one loop."""
    several = [_lanes(build) for _ in range(many)]
    with build.loop(count) as k:
        for totals, term in zip(several, terms(k), strict=True):
            _add(build, totals, term, f"{k} & 7", None)
    return [_together(build, totals) for totals in several]


def _lanes(build: Build) -> list[str]:
    return [build.variable("f64", "0.0") for _ in range(LANES)]


def _add(build: Build, totals: Sequence[str], term: str, lane: str, valid: str | None) -> None:
    """Add the term to the total of its lane, unless it is NULL."""
    x = build.variable("f64", term)
    there = f" & {valid}" if valid else ""
    for n, total in enumerate(totals):
        build.emit(f"{total} = {total} + {x} if ({lane} == {n}){there} else {total}")


def _together(build: Build, lanes: Sequence[str]) -> str:
    """Neighbours first, then pairs, then halves."""
    left = list(lanes)
    while len(left) > 1:
        left = [f"({a} + {b})" for a, b in zip(left[::2], left[1::2], strict=True)]
    return build.variable("f64", left[0])
