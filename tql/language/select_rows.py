"""What stands between FROM and the select list: EXPAND BY, GROUP BY, UNGROUP BY, and DISTINCT."""

from dataclasses import replace

from tql.diagnostics import error
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.language import operators
from tql.language.bind_expr import ExprBinder
from tql.language.expr import Column, Expr
from tql.language.grouping import GroupBinder, groups
from tql.language.keys import refuse_constant
from tql.language.layers import WindowBinder, split, windows
from tql.language.plan import Bound, Distinct, Expand, Filter, Output, Plan
from tql.language.select_list import name_outputs, names_in
from tql.schema import DType, Int, List, Opaque


def makes_new_rows(q: s.Select) -> bool:
    """Whether the select list is over other rows than those of FROM."""
    numbered = q.expand is not None and q.expand.name is not None
    return numbered or q.group is not None or q.ungroup is not None


def check_where(rows: ExprBinder, q: s.Select) -> None:
    """A name error where WHERE uses a select item: those are of the new rows, which come later."""
    later = {i.alias for i in q.items if isinstance(i, s.Item) and i.alias is not None}
    found = sorted(n for n in names_in(q.where) & later if not rows.names.knows(n))
    if found and q.where is not None:
        way_out = "use HAVING" if q.group is not None else "write the expression itself"
        raise error("unknown_column", f"{found[0]!r} is not known yet in WHERE, which looks at "
                    "single rows of FROM", q.where.span, help=way_out)  # fmt: skip


def over_new_rows(rows: ExprBinder, plan: Plan, q: s.Select) -> tuple[Bound, ExprBinder]:
    """The SELECT over the rows that its clauses make of those of `plan`, and its scope."""
    scope = rows
    if q.expand is not None and q.expand.name is not None:
        scope = over = windows(rows, plan, q.expand)
        plan = over.layer.leaf()
    else:
        plan = expanded(plan, q.expand)
    outputs: tuple[Output, ...] | None = None
    if q.group is not None:
        named = {i.alias: i.expr for i in q.items if isinstance(i, s.Item) and i.alias is not None}
        scope = grouped = groups(scope, plan, q.group, named)
        plan = grouped.layer.leaf()
        if q.ungroup is None:
            outputs = name_outputs(grouped, q.items)
        plan = _having(grouped, plan, q.group.having)
        grouped.single = q.ungroup is None
    if q.ungroup is not None:
        scope = parted = split(scope, plan, q.ungroup.span)
        plan = parted.layer.leaf()
    if outputs is None:
        outputs = name_outputs(scope, q.items)
    if isinstance(scope, WindowBinder):
        outputs = _with_window(outputs, scope.window, q)
    scope.prefer_alias = True
    return distinct(Bound(plan, outputs), scope, q.distinct), scope


def expanded(plan: Plan, e: s.Expand | None) -> Plan:
    """The plan with the neighbours of its rows."""
    if e is None:
        return plan
    return Expand(plan, e.before, e.after, e.overlap, span=e.span)


def _having(scope: GroupBinder, plan: Plan, condition: s.Expr | None) -> Plan:
    if condition is None:
        return plan
    scope.single = scope.prefer_alias = True
    predicate = operators.truth(scope.bind(condition))
    scope.single = scope.prefer_alias = False
    return Filter(plan, predicate, span=condition.span, text=format_expr(condition))


def _with_window(outputs: tuple[Output, ...], name: str, q: s.Select) -> tuple[Output, ...]:
    """The window's number is a column of the result, whether it is selected or not."""
    window = Output(name, Column(name, Int(64), False))
    same = [o for o in outputs if o.name == name]
    if not same:
        return (*outputs, window)
    if same != [window]:
        assert q.expand is not None
        raise error("duplicate_column", f"two columns would be named {name!r}", q.expand.span,
                    help="give the number of the window another name")  # fmt: skip
    return outputs


def distinct(bound: Bound, scope: ExprBinder, clause: s.Distinct | None) -> Bound:
    """The query without repeated rows; `scope` is that of what follows the select list."""
    if clause is None:
        return bound
    if not clause.keys:
        keys = tuple(o.expr for o in bound.outputs)
        text = ", ".join(o.name for o in bound.outputs)
        for o in bound.outputs:
            _comparable(o.expr, o.name, clause)
    else:
        keys = tuple(_distinct_key(scope, k, clause) for k in clause.keys)
        text = ", ".join(map(format_expr, clause.keys))
    plan = Distinct(bound.plan, keys, span=clause.span, text=text)
    return replace(bound, plan=plan)


def _distinct_key(scope: ExprBinder, e: s.Expr, clause: s.Distinct) -> Expr:
    bound = scope.bind(e)
    refuse_constant("DISTINCT ON", "type", bound, e)
    _comparable(bound, format_expr(e), clause)
    return bound


def _comparable(e: Expr, name: str, clause: s.Distinct) -> None:
    dtype: DType = e.dtype
    while isinstance(dtype, List):
        dtype = dtype.item
    if isinstance(dtype, Opaque):
        raise error("unsupported", f"DISTINCT cannot tell values of type {dtype} apart, which "
                    f"{name} has", clause.span, help="name other columns: distinct on (…)")  # fmt: skip
