"""filter q of (filter p of X) → filter (p and q) of X;  filter TRUE of X → X.

AND keeps the order, so a row that p rejects still never raises in q.
"""

from tql.language.expr import Const
from tql.language.operators import conjunction
from tql.language.plan import Bound, Filter, Leaf, Plan
from tql.language.plan_parts import inputs, subqueries, with_inputs, with_plan, with_subqueries


def merge_filters(bound: Bound) -> Bound:
    """One filter over each source, none that lets everything through."""
    return with_plan(bound, _merge(bound.plan))


def _merge(plan: Plan) -> Plan:
    if isinstance(plan, Leaf):
        return with_subqueries(plan, tuple(map(merge_filters, subqueries(plan))))
    plan = with_inputs(plan, tuple(map(_merge, inputs(plan))))
    match plan:
        case Filter(below, Const(True)):
            return below
        case Filter(Filter(source, first) as below, second):
            both = conjunction([first, second], plan.span)
            text = " and ".join(_bracketed(t) for t in (below.text, plan.text))
            return Filter(source, both, span=plan.span, text=text)
        case _:
            return plan


def _bracketed(text: str) -> str:
    return f"({text})" if " or " in text else text
