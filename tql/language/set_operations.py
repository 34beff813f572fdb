"""UNION, INTERSECT and EXCEPT: of the rows of one source, or one source after the other."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tql.diagnostics import did_you_mean, error
from tql.grammar import syntax as s
from tql.language.expr import Expr
from tql.language.layers import over_one_leaf
from tql.language.plan import Bound, Combine, Leaf, Plan, SetStep
from tql.language.plan_parts import source_of, with_leaf
from tql.language.stack import place_of, stacked


def combined(first: Bound, steps: Iterable[tuple[s.SetStep, Bound]]) -> Bound:
    """What each step makes of all before it and of its own query, which is bound.

    A loop that makes flat plans: programs write chains of thousands.
    """
    plans, taken = [first.plan], list[s.SetStep]()
    left = replace(first, plan=source_of(first.plan))  # the columns, over the leaf of all plans
    for step, right in steps:
        left, right = over_one_leaf(left, right)
        _check_same_columns(left, right, step)
        same_source = left.plan == source_of(right.plan)
        if same_source and _columns(left) == _columns(right):
            plans.append(right.plan)
            taken.append(step)
        elif step.op is s.SetOp.UNION:
            left = stacked(_applied(left, plans, taken), right, step)
            plans, taken = [left.plan], []
        else:
            what = "different expressions of one source" if same_source else "different sources"
            raise error("unsupported", f"{step.op.value.upper()} compares rows by their number, and "
                        f"has {what}", step.body.span,
                        help="give both sides the same FROM and the same select list")  # fmt: skip
    return _applied(left, plans, taken)


def _applied(left: Bound, plans: Sequence[Plan], taken: Sequence[s.SetStep]) -> Bound:
    """The columns `left` over the first plan and what the steps make of it with the others."""
    leaf = source_of(left.plan)
    first, *others = (_over(plan, leaf) for plan in plans)
    if not taken:
        return replace(left, plan=first)
    steps = tuple(SetStep(t.op, t.all, plan) for t, plan in zip(taken, others, strict=True))
    return replace(left, plan=Combine(first, steps, span=taken[-1].span))


def _over(plan: Plan, leaf: Leaf) -> Plan:
    """The plan over `leaf`, which has all that its own has, and what other branches need of it."""
    return plan if source_of(plan) == leaf else with_leaf(plan, leaf)


def _columns(query: Bound) -> dict[str, Expr]:
    return {o.name: o.expr for o in query.outputs}


def _check_same_columns(left: Bound, right: Bound, step: s.SetStep) -> None:
    a, b = left.schema, right.schema
    for here, there, side, having in ((a, b, "right", left), (b, a, "left", right)):
        missing = [n for n in here.names if n not in there]
        if missing:
            raise error(
                "schema", f"the {side} side of {step.op.value.upper()} has no column {missing[0]!r}",
                place_of(having, missing[0], step),
                help=did_you_mean(missing[0], there.names)
                or "select the same column names on both sides",
            )  # fmt: skip
