"""What an explanation says of the Python functions that a query calls."""

from collections.abc import Iterator

from tql.language.expr import Expr, UserCall, walk_inside
from tql.language.plan import Bound, Leaf
from tql.language.plan_parts import expressions, subqueries, walk_plan


def called_in(bound: Bound) -> tuple[str, ...]:
    """One note per user function in the query and in what it is made of, by name."""
    called = {
        node.function
        for e in _expressions(bound)
        for node in walk_inside(e)
        if isinstance(node, UserCall)
    }
    return tuple(
        f"{f.name}() is a function of yours ({f.digest}), called "
        f"{'with many rows at once' if f.batch else 'row by row'} and never compiled"
        for f in sorted(called, key=repr)
    )


def _expressions(bound: Bound) -> Iterator[Expr]:
    yield from (o.expr for o in bound.outputs)
    for plan in walk_plan(bound.plan):
        yield from expressions(plan)
        if isinstance(plan, Leaf):
            for query in subqueries(plan):
                yield from _expressions(query)
