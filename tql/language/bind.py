"""The query as written → the typed plan: scopes, clauses, set operations, limits.

Evaluation order is the language's, whatever the spelling (tql-reference §2): FROM, WHERE, select
expressions, ORDER BY, OFFSET and LIMIT, SAMPLE BY, final ORDER BY.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from typing import Any

from tql.diagnostics import Span, TqlError, error, with_query
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.language import operators
from tql.language.bind_expr import ExprBinder, Parameters, Params
from tql.language.expr import Column, Const, Expr
from tql.language.plan import (
    Bound,
    Combine,
    Count,
    Cut,
    Derived,
    Filter,
    Leaf,
    Order,
    Output,
    Percent,
    Plan,
    Sample,
    Scan,
    Size,
    SortKey,
    source_of,
)
from tql.schema import Binary, Json, List, Opaque, Schema


@dataclass(frozen=True, slots=True)
class Binder:
    """Everything that binding one query text needs.

    `tables` gives the schema of a name in FROM, and raises a source error where there is none.
    `here` is the schema of the data set the query was asked of; None where FROM is required.
    """

    here: Schema | None
    tables: Callable[[str, Span], Schema]
    parameters: Parameters
    sites: Callable[[], int]


def bind(
    query: s.Query,
    text: str,
    *,
    here: Schema | None,
    tables: Callable[[str, Span], Schema],
    params: Params = None,
    first_site: int = 0,
) -> Bound:
    """Type the whole query; every name, type and parameter error is raised here.

    `first_site` is where the numbers of random clauses and calls start; queries of queries start
    where no query below them can have come to.
    """
    try:
        parameters = Parameters(params)
        binder = Binder(here, tables, parameters, count(first_site).__next__)
        bound = _query(binder, query)
        parameters.check_all_used()
    except TqlError as e:
        if e.query:
            raise
        with_query(e, text)
    return bound


def bind_weight(e: s.Expr, text: str, schema: Schema, params: Params = None) -> Expr:
    """Type a weight expression that stands alone, as `sample_by` takes it."""
    try:
        return _weight(ExprBinder(schema, Parameters(params), count().__next__), e)
    except TqlError as problem:
        with_query(problem, text)


# -- bodies ------------------------------------------------------------------------------------


def _query(b: Binder, q: s.Query) -> Bound:
    match q.body:
        case s.Select() as select:
            bound, scope = _select(b, select)
            if select.top is not None:  # TOP n is another spelling of LIMIT n
                if q.limit is not None:
                    raise error("syntax", "TOP and LIMIT say the same thing twice", q.limit.span,
                                help="keep one of them")  # fmt: skip
                top = s.Limit(s.Number(select.top, span=select.span), span=select.span)
                q = replace(q, limit=top)
        case s.Combined() as combined:
            bound = _combined(b, combined)
            scope = _scope_of(b, bound)
        case inner:
            bound = _query(b, inner)
            scope = _scope_of(b, bound)
    return _tail(bound, scope, q)


def _body(b: Binder, body: s.Body) -> Bound:
    return _query(b, body) if isinstance(body, s.Query) else _query(b, s.Query(body))


def _scope_of(b: Binder, bound: Bound) -> ExprBinder:
    """Names in the tail of a combination: its output columns, then those of the source."""
    schema = source_of(bound.plan).schema
    aliases = {o.name: o.expr for o in bound.outputs}
    return ExprBinder(schema, b.parameters, b.sites, aliases=aliases, prefer_alias=True)


def _select(b: Binder, q: s.Select) -> tuple[Bound, ExprBinder]:
    _refuse_what_is_not_built(q)
    plan, name = _from(b, q.source, q.span)
    scope = ExprBinder(plan.schema, b.parameters, b.sites, name)
    scope.selecting = True
    outputs = _outputs(scope, q.items)
    scope.selecting = False
    scope.aliases = {o.name: o.expr for o in outputs if o.stored != o.name}
    result: Plan = plan
    if q.where is not None:
        predicate = operators.truth(scope.bind(q.where))
        result = Filter(result, predicate, span=q.where.span, text=format_expr(q.where))
    scope.prefer_alias = True
    return Bound(result, outputs), scope


def _refuse_what_is_not_built(q: s.Select) -> None:
    for clause, name, instead in (
        (q.distinct, "DISTINCT", "remove repeated rows before the data is opened"),
        (q.expand, "EXPAND BY", "choose the neighbours with row_number() between … and …"),
        (q.group, "GROUP BY", "group the result: view.to_arrow().group_by(…)"),
    ):
        if clause is not None:
            raise error("unsupported", f"{name} is not in this version", clause.span, help=instead)
    if q.ungroup:
        raise error("unsupported", "UNGROUP BY is not in this version", q.span,
                    help="flatten the lists before the data is opened")  # fmt: skip


def _from(b: Binder, source: s.Source | None, span: Span) -> tuple[Leaf, str | None]:
    match source:
        case None:
            if b.here is None:
                raise error("source", "FROM is required here", span,
                            help='write  select … from "path"')  # fmt: skip
            return Scan(None, b.here), None
        case s.Table(name, alias):
            return Scan(name, b.tables(name, source.span), span=source.span), alias or name
        case s.Subquery(query, alias):
            return Derived(_query(b, query), span=source.span), alias
        case s.Join():
            raise error("unsupported", "joins are not in this version", source.span,
                        help="join the tables first, in Arrow, Polars or DuckDB, "
                        "and open the result")  # fmt: skip


def _outputs(scope: ExprBinder, items: tuple[s.AllColumns | s.Item, ...]) -> tuple[Output, ...]:
    outputs: dict[str, Output] = {}
    for item in items:
        match item:
            case s.AllColumns(source):
                if source is not None and source != scope.source_name:
                    raise error("unknown_alias", f"no source named {source!r}", item.span,
                                help="write  *  alone")  # fmt: skip
                new = [
                    Output(c.name, Column(c.name, c.dtype, c.nullable, span=item.span))
                    for c in scope.schema
                ]
            case s.Item(expr, alias):
                bound = _item(scope, expr)
                new = [Output(alias or _name_of(expr, item.span), bound)]
        for o in new:
            if o.name in outputs and not (
                o.stored == o.name and outputs[o.name].stored == o.name
                and any(isinstance(i, s.AllColumns) for i in items)
            ):  # fmt: skip
                raise error("duplicate_column", f"two columns would be named {o.name!r}", item.span,
                            help="name one of them with AS")  # fmt: skip
            outputs.setdefault(o.name, o)
    return tuple(outputs.values())


def _item(scope: ExprBinder, e: s.Expr) -> Expr:
    """A select item; a column that no expression may use can still be selected as it is."""
    if isinstance(e, s.Name) and e.source in (None, scope.source_name) and e.name in scope.schema:
        column = scope.schema[e.name]
        if isinstance(column.dtype, Opaque):
            return Column(column.name, column.dtype, column.nullable, span=e.span)
    return scope.bind(e)


def _name_of(e: s.Expr, span: Span) -> str:
    """The name of an item without AS (reference §3)."""
    names = _names_in(e)
    if len(names) == 1:
        return names.pop()
    match e:
        case s.Call(function) | s.WeightCall(function) if not names:
            return function
        case _:
            raise error("syntax", "this expression needs a name", span,
                        help=f"write  {format_expr(e)} as NAME")  # fmt: skip


def _names_in(value: Any) -> set[str]:
    """Names of the columns mentioned anywhere in a syntax node."""
    match value:
        case s.Name(name):
            return {name}
        case tuple():
            return set().union(*map(_names_in, value)) if value else set()
        case s.Node() | s.Arm():
            return set().union(*(_names_in(getattr(value, f)) for f in value.__dataclass_fields__))
        case _:
            return set()


# -- set operations ----------------------------------------------------------------------------


def _combined(b: Binder, q: s.Combined) -> Bound:
    left, right = _body(b, q.left), _body(b, q.right)
    _check_same_columns(left, right, q)
    same_source = source_of(left.plan) == source_of(right.plan)
    same_columns = {o.name: o.expr for o in left.outputs} == {o.name: o.expr for o in right.outputs}
    if same_source and same_columns:
        return Bound(Combine(q.op, q.all, left.plan, right.plan, span=q.span), left.outputs)
    what = "different expressions of one source" if same_source else "different sources"
    if q.op is s.SetOp.UNION:
        raise error("unsupported", f"UNION of {what} is not in this version", q.span,
                    help="give both sides the same FROM and the same select list")  # fmt: skip
    raise error("unsupported", f"{q.op.value.upper()} compares rows by their number, and has {what}",
                q.span, help="give both sides the same FROM and the same select list")  # fmt: skip


def _check_same_columns(left: Bound, right: Bound, q: s.Combined) -> None:
    a, b = left.schema, right.schema
    for here, there, side in ((a, b, "right"), (b, a, "left")):
        missing = [n for n in here.names if n not in there]
        if missing:
            raise error(
                "schema", f"the {side} side of {q.op.value.upper()} has no column {missing[0]!r}",
                q.span, help="select the same column names on both sides",
            )  # fmt: skip
    for column in a:
        other = b[column.name]
        if operators.is_number(column.dtype) != operators.is_number(other.dtype) or (
            not operators.is_number(column.dtype) and type(column.dtype) is not type(other.dtype)
        ):
            raise error(
                "schema",
                f"column {column.name!r} is {column.dtype} on the left and {other.dtype} on the right",
                q.span,
                help="select columns of one type under that name",
            )


# -- tails -------------------------------------------------------------------------------------


def _tail(bound: Bound, scope: ExprBinder, q: s.Query) -> Bound:
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
        if isinstance(e, Const):
            raise error("unsupported", "ORDER BY needs an expression of the row, not a constant",
                        e.span, help="name the column: positions are not used here")  # fmt: skip
        if isinstance(e.dtype, List):
            raise error("type", f"ORDER BY needs one value per row, not {e.dtype}", e.span,
                        help="order by a column of numbers, text or times")  # fmt: skip
        if isinstance(e.dtype, Binary):
            raise error("type", f"ORDER BY needs values with an order, not {e.dtype}", e.span,
                        help="order by a column of numbers, text or times")  # fmt: skip
        if isinstance(e.dtype, Json):
            raise error("unsupported", "ordering by JSON values is not in this version", e.span,
                        help="store the value as a column of its own")  # fmt: skip
        bound.append(SortKey(e, key.descending, format_expr(key.expr)))
    return tuple(bound)


def _size(scope: ExprBinder, limit: s.Limit | None) -> Size | None:
    if limit is None or limit.count is None:
        return None
    if not limit.percent:
        return Count(_whole(scope, limit.count, "LIMIT"))
    e = scope.bind(limit.count)
    if not isinstance(e, Const) or not operators.is_number(e.dtype) or isinstance(e.value, bool):
        raise error("type", "PERCENT needs a constant number", e.span, help="write a number, or ?")
    if not 0 <= e.value < float("inf"):
        raise error(
            "value", f"PERCENT cannot be {e.value}", e.span, help="use a number from 0 to 100"
        )
    return Percent(Fraction(str(e.value)))


def _whole(scope: ExprBinder, e: s.Expr, clause: str) -> int:
    bound = scope.bind(e)
    way_out = f"write a whole number from 0 up, for example  {clause.lower()} 10"
    if not isinstance(bound, Const):
        raise error("type", f"{clause} needs a constant, not a value of each row", bound.span,
                    help=way_out)  # fmt: skip
    value = bound.value
    if not isinstance(value, int) or isinstance(value, bool):
        code = "value" if isinstance(value, float) else "type"
        raise error(code, f"{clause} needs a whole number, not {value!r}", bound.span, help=way_out)
    if value < 0:
        raise error("value", f"{clause} cannot be negative", bound.span, help=way_out)
    return value


def _weight(scope: ExprBinder, e: s.Expr) -> Expr:
    bound = scope.bind(e)
    if not operators.is_number(bound.dtype):
        raise error("type", f"a weight must be a number, not {bound.dtype}", bound.span,
                    help="give conditions their weights: max_weight(condition: 2, true: 1)")  # fmt: skip
    return bound


def _sample(plan: Plan, scope: ExprBinder, q: s.Sample) -> Plan:
    weight = _weight(scope, q.weight)
    replace, size = q.replace is not False, _size(scope, q.limit)
    fraction = isinstance(q.weight, s.Number | s.Parameter) and isinstance(weight, Const)
    if fraction and q.limit is None and isinstance(weight, Const) and 0 < weight.value < 1:
        replace = q.replace is True
        size = Percent(Fraction(str(weight.value)) * 100)
        weight = Const(1.0, weight.dtype, span=weight.span)
    text, site = format_expr(q.weight), scope.next_site()
    sampled = Sample(plan, weight, replace, size, site, span=q.span, text=text)
    if not q.order:
        return sampled
    return Order(sampled, _sort_keys(scope, q.order), span=q.order[0].span)
