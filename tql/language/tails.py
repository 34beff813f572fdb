"""What follows a SELECT or a set operation: ORDER BY, LIMIT and OFFSET, SAMPLE BY."""

from fractions import Fraction

from tql.diagnostics import error
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.language import json_rules, operators
from tql.language.bind_expr import ExprBinder
from tql.language.expr import Const, Expr
from tql.language.keys import refuse_constant
from tql.language.operators.operands import scalar_type
from tql.language.plan import Bound, Count, Cut, Order, Percent, Plan, Sample, Size, SortKey
from tql.schema import Binary, Json, List, Text


def tail(bound: Bound, scope: ExprBinder, q: s.Query) -> Bound:
    """`bound` with the clauses that follow it, in the order of evaluation."""
    plan = bound.plan
    if q.order:
        plan = Order(plan, _sort_keys(scope, q.order), span=q.order[0].span)
    if q.limit is not None or q.offset is not None:
        offset = _whole(scope, q.offset, "OFFSET") if q.offset is not None else 0
        plan = Cut(plan, offset, _size(scope, q.limit), span=q.span)
    if q.sample is not None:
        plan = _sample(plan, scope, q.sample)
    return Bound(plan, bound.outputs)


def _sort_keys(scope: ExprBinder, keys: tuple[s.OrderKey, ...]) -> tuple[SortKey, ...]:
    bound = []
    for key in keys:
        e = scope.bind(key.expr)
        refuse_constant("ORDER BY", "unsupported", e, key.expr)
        if isinstance(e.dtype, List):
            one = "a key of GROUP BY, count(*), or a value of the group such as amin(x) or x[0]"
            value = "shape(x)[0]" if isinstance(scalar_type(e), Text) else "sum(x)"
            element = f"an element, x[0], or by a value of the array such as {value}"
            way_out = one if e.dtype.grouped else element
            raise error("type", f"ORDER BY needs one value per row, not {e.dtype}", e.span,
                        help=f"order by {way_out}")  # fmt: skip
        if isinstance(e.dtype, Binary):
            raise error("type", f"ORDER BY needs values with an order, not {e.dtype}", e.span,
                        help="order by a column of numbers, text or times")  # fmt: skip
        if isinstance(e.dtype, Json):
            e = json_rules.sortable(e)
        bound.append(SortKey(e, key.descending, format_expr(key.expr)))
    return tuple(bound)


def _size(scope: ExprBinder, limit: s.Limit | None) -> Size | None:
    if limit is None or limit.count is None:
        return None
    if not limit.percent:
        return Count(_whole(scope, limit.count, "LIMIT"))
    _refuse_word(scope, limit.count, "LIMIT", " percent")
    e = scope.bind(limit.count)
    if not isinstance(e, Const) or not operators.is_number(e.dtype) or isinstance(e.value, bool):
        raise error("type", "PERCENT needs a constant number", e.span, help="write a number, or ?")
    if not 0 <= e.value < float("inf"):
        raise error(
            "value", f"PERCENT cannot be {e.value}", e.span, help="use a number from 0 to 100"
        )
    return Percent(Fraction(str(e.value)))


def _whole(scope: ExprBinder, e: s.Expr, clause: str) -> int:
    _refuse_word(scope, e, clause)
    bound = scope.bind(e)
    way_out = f"write a whole number from 0 up, for example  {clause.lower()} 10"
    if not isinstance(bound, Const):
        raise error("type", f"{clause} needs a constant, not a value of each row", bound.span,
                    help=way_out)  # fmt: skip
    value = bound.value
    if not isinstance(value, int) or isinstance(value, bool):
        code = "value" if isinstance(value, float) else "type"
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        raise error(code, f"{clause} needs a whole number, not {shown}", bound.span, help=way_out)
    if value < 0:
        raise error("value", f"{clause} cannot be negative", bound.span, help=way_out)
    return value


def _refuse_word(scope: ExprBinder, e: s.Expr, clause: str, unit: str = "") -> None:
    """A name error for a word that names no column: `limit ten`."""
    if isinstance(e, s.Name) and e.source is None and not scope.names.knows(e.name):
        raise error("unknown_column", f"{clause} needs a number, found the word {e.name!r}", e.span,
                    help=f"write it in digits, for example  {clause.lower()} 10{unit};  or ?, and "
                    "pass it with params=")  # fmt: skip


def weight(scope: ExprBinder, e: s.Expr) -> Expr:
    """The expression of a SAMPLE BY, a number per row."""
    bound = json_rules.number(scope.bind_weight(e))
    if not operators.is_number(bound.dtype):
        met = "any(x > 3)" if isinstance(bound.dtype, List) else "condition"
        raise error("type", f"a weight must be a number, not {bound.dtype}", bound.span,
                    help=f"give conditions their weights: max_weight({met}: 2, true: 1)")  # fmt: skip
    return bound


def _sample(plan: Plan, scope: ExprBinder, q: s.Sample) -> Plan:
    weighed = weight(scope, q.weight)
    replace, size = q.replace is not False, _size(scope, q.limit)
    fraction = isinstance(q.weight, s.Number | s.Parameter) and isinstance(weighed, Const)
    if fraction and q.limit is None and isinstance(weighed, Const) and 0 < weighed.value < 1:
        replace = q.replace is True
        size = Percent(Fraction(str(weighed.value)) * 100)
        weighed = Const(1.0, weighed.dtype, span=weighed.span)
    text, site = format_expr(q.weight), scope.next_site()
    sampled = Sample(plan, weighed, replace, size, site, span=q.span, text=text)
    if not q.order:
        return sampled
    return Order(sampled, _sort_keys(scope, q.order), span=q.order[0].span)
