"""select B where q from (select A where p from X) → select B(A) where q(A) of p of X.

The outer query's expressions are rewritten over the inner one's source, so that the inner result
is never made. Not where the outer query asks for positions, `row_number()` and `random()`, which
count the rows of the inner result; nor under a set operation, which would run a sampling inner
query once per branch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import assert_never

from tql.language.expr import Expr, is_positional, is_small, substitute
from tql.language.plan import (
    Bound,
    Combine,
    Cut,
    Derived,
    Filter,
    Order,
    Output,
    Plan,
    Sample,
    Scan,
    source_of,
)


def merge_subqueries(bound: Bound) -> Bound:
    """No subquery in FROM that its outer query can be written without."""
    source = source_of(bound.plan)
    if isinstance(source, Scan):
        return bound
    inner = merge_subqueries(source.query)
    expressions = [o.expr for o in bound.outputs] + list(_expressions(bound.plan))
    if _has_combination(bound.plan) or any(map(is_positional, expressions)):
        return replace(bound, plan=_over(bound.plan, replace(source, query=inner), None))
    known = {o.name: o.expr for o in inner.outputs}
    outputs = tuple(Output(o.name, substitute(o.expr, known)) for o in bound.outputs)
    merged = Bound(_over(bound.plan, inner.plan, known), outputs)
    if not all(map(is_small, (*(o.expr for o in outputs), *_expressions(merged.plan)))):
        return replace(bound, plan=_over(bound.plan, replace(source, query=inner), None))
    return merged


def _over(plan: Plan, source: Plan, known: Mapping[str, Expr] | None) -> Plan:
    """The plan with its source replaced, and column names by the expressions `known` for them.

    None leaves the expressions as they are: the source has the same columns.
    """
    match plan:
        case Scan() | Derived():
            return source
        case Filter(input, predicate):
            return replace(
                plan, input=_over(input, source, known), predicate=_known(predicate, known)
            )
        case Order(input, keys):
            rewritten = tuple(replace(k, expr=_known(k.expr, known)) for k in keys)
            return replace(plan, input=_over(input, source, known), keys=rewritten)
        case Cut(input):
            return replace(plan, input=_over(input, source, known))
        case Sample(input, weight):
            return replace(plan, input=_over(input, source, known), weight=_known(weight, known))
        case Combine(_, _, left, right):
            return replace(plan, left=_over(left, source, known), right=_over(right, source, known))
        case _:
            assert_never(plan)


def _known(e: Expr, known: Mapping[str, Expr] | None) -> Expr:
    return e if known is None else substitute(e, known)


def _has_combination(plan: Plan) -> bool:
    match plan:
        case Scan() | Derived():
            return False
        case Combine():
            return True
        case _:
            return _has_combination(plan.input)


def _expressions(plan: Plan) -> Iterator[Expr]:
    match plan:
        case Scan() | Derived():
            return
        case Filter(input, predicate):
            yield predicate
            yield from _expressions(input)
        case Order(input, keys):
            yield from (k.expr for k in keys)
            yield from _expressions(input)
        case Sample(input, weight):
            yield weight
            yield from _expressions(input)
        case Cut(input):
            yield from _expressions(input)
        case Combine(_, _, left, right):
            yield from _expressions(left)
            yield from _expressions(right)
        case _:
            assert_never(plan)
