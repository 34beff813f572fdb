"""Rewrites of a typed query, in order; each is a plain function, and verified.

A pass may change how an answer is found, never the answer, and never whether a row raises.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tql.language.passes.merge_filters import merge_filters
from tql.language.passes.merge_subqueries import merge_subqueries
from tql.language.plan import Bound
from tql.language.verify import verify


class Pass(NamedTuple):
    name: str
    run: Callable[[Bound], Bound]
    why_here: str


PASSES: tuple[Pass, ...] = (
    Pass("merge-subqueries", merge_subqueries, "first: it puts filters on top of filters"),
    Pass("merge-filters", merge_filters, "last: one condition per source is one scan"),
)


def stages(bound: Bound) -> Iterator[tuple[str, Bound]]:
    """Yield ("bound", query), then the query after each pass."""
    verify(bound, after="bind")
    yield "bound", bound
    for p in PASSES:
        before, bound = bound, p.run(bound)
        if bound is not before:
            verify(bound, after=p.name)
        yield p.name, bound


def optimize(bound: Bound) -> Bound:
    """The query after all passes."""
    for _, result in stages(bound):
        bound = result
    return bound
