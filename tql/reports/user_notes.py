"""What an explanation says of the Python functions that a query calls."""

from collections.abc import Iterable

from tql.language.expr import Expr, UserCall, walk
from tql.language.plan import Bound
from tql.language.plan_parts import expressions, walk_plan


def called_in(bound: Bound) -> tuple[str, ...]:
    """One note per user function in the query; not for what its subqueries call."""
    return notes_on(
        [e for plan in walk_plan(bound.plan) for e in expressions(plan)]
        + [o.expr for o in bound.outputs]
    )


def notes_on(many: Iterable[Expr]) -> tuple[str, ...]:
    """One note per user function in the expressions, by name."""
    called = {n.function for e in many for n in walk(e) if isinstance(n, UserCall)}
    return tuple(
        f"{f.name}() is a function of yours ({f.digest}), called "
        f"{'with many rows at once' if f.batch else 'row by row'} and never compiled"
        for f in sorted(called, key=repr)
    )
