"""filter q of (filter p of X) → filter (p and q) of X;  filter TRUE of X → X.

AND keeps the order, so a row that p rejects still never raises in q.
"""

from dataclasses import replace
from typing import assert_never

from tql.language.expr import Const
from tql.language.operators import conjunction
from tql.language.plan import (
    Bound,
    Combine,
    Cut,
    Derived,
    Filter,
    Order,
    Plan,
    Sample,
    Scan,
)


def merge_filters(bound: Bound) -> Bound:
    """One filter over each source, none that lets everything through."""
    return replace(bound, plan=_merge(bound.plan))


def _merge(plan: Plan) -> Plan:
    match plan:
        case Scan():
            return plan
        case Derived(query):
            return replace(plan, query=merge_filters(query))
        case Filter(input, predicate):
            below = _merge(input)
            if isinstance(predicate, Const) and predicate.value:
                return below
            if isinstance(below, Filter):
                both = conjunction([below.predicate, predicate], plan.span)
                text = " and ".join(_bracketed(t) for t in (below.text, plan.text))
                return Filter(below.input, both, span=plan.span, text=text)
            return replace(plan, input=below)
        case Order() | Cut() | Sample():
            return replace(plan, input=_merge(plan.input))
        case Combine(_, _, left, right):
            return replace(plan, left=_merge(left), right=_merge(right))
        case _:
            assert_never(plan)


def _bracketed(text: str) -> str:
    return f"({text})" if " or " in text else text
