"""select B where q from (select A where p from X) → select B(A) where q(A) of p of X.

The outer query's expressions are rewritten over the inner one's source, so that the inner result
is never made. Not where the outer query asks for positions, as `row_number()`, `random()` and
EXPAND BY do, which count the rows of the inner result; nor under a set operation, which would run a
sampling inner query once per branch.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from tql.language.expr import Expr, is_positional, is_small, needs_source, substitute
from tql.language.fold import refold
from tql.language.plan import Bound, Combine, Derived, Expand, Leaf, Output, Plan, Windows
from tql.language.plan_parts import (
    expressions,
    inputs,
    source_of,
    subqueries,
    walk_plan,
    with_expressions,
    with_inputs,
    with_leaf,
    with_plan,
    with_subqueries,
)


def merge_subqueries(bound: Bound) -> Bound:
    """No subquery in FROM that its outer query can be written without."""
    source = source_of(bound.plan)
    if not isinstance(source, Derived):
        merge = _merge_below if isinstance(source, Windows) else merge_subqueries
        leaf = with_subqueries(source, tuple(map(merge, subqueries(source))))
        return with_plan(bound, with_leaf(bound.plan, leaf))
    inner = merge_subqueries(source.query)
    kept = replace(bound, plan=with_leaf(bound.plan, replace(source, query=inner)))
    bars = any(isinstance(p, Combine | Expand) for p in walk_plan(bound.plan))
    if bars or any(is_positional(e) or needs_source(e) for e in _all_expressions(bound)):
        return kept
    known = {o.name: o.expr for o in inner.outputs}
    merged = Bound(
        _over(bound.plan, inner.plan, lambda e: refold(substitute(e, known))),
        tuple(Output(o.name, refold(substitute(o.expr, known))) for o in bound.outputs),
    )
    return merged if all(map(is_small, _all_expressions(merged))) else kept


def _merge_below(bound: Bound) -> Bound:
    """The query with the subqueries of its subquery merged, but not that itself."""
    source = source_of(bound.plan)
    leaf = with_subqueries(source, tuple(map(merge_subqueries, subqueries(source))))
    return with_plan(bound, with_leaf(bound.plan, leaf))


def _over(plan: Plan, source: Plan, rule: Callable[[Expr], Expr]) -> Plan:
    """The plan with its source replaced and its expressions rewritten."""
    if isinstance(plan, Leaf):
        return source
    below = tuple(_over(p, source, rule) for p in inputs(plan))
    return with_expressions(with_inputs(plan, below), rule)


def _all_expressions(bound: Bound) -> chain[Expr]:
    in_plan = chain.from_iterable(expressions(p) for p in walk_plan(bound.plan))
    return chain((o.expr for o in bound.outputs), in_plan)
