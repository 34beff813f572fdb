"""The query as written → the typed plan: sources, scopes, clauses, set operations.

Evaluation order is the language's, whatever the spelling (tql-reference §2): FROM, WHERE, EXPAND,
GROUP, HAVING, UNGROUP, select expressions, DISTINCT, ORDER BY, OFFSET and LIMIT, SAMPLE BY, final
ORDER BY.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from tql.diagnostics import Span, TqlError, error, with_query
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.language import operators, set_operations
from tql.language.bind_expr import ExprBinder, Parameters, Params
from tql.language.expr import Expr
from tql.language.from_clause import From, FromBinder, bind_from
from tql.language.layers import LayerBinder
from tql.language.names import Names, one_source
from tql.language.plan import Bound, Filter, Leaf, Plan, Scan, computed_in, in_scope
from tql.language.plan_parts import source_of
from tql.language.select_list import name_outputs
from tql.language.select_rows import check_where, distinct, expanded, makes_new_rows, over_new_rows
from tql.language.tails import tail, weight
from tql.language.user_functions import TryOut, Users, never_tried
from tql.schema import Schema


@dataclass(frozen=True, slots=True)
class Binder:
    """Everything that binding one query text needs.

    `tables` gives the schema of a name in FROM, and raises a source error where there is none.
    `here` is the schema of the data set the query was asked of; None where FROM is required. Of it
    the columns `computed` are made by expressions which may raise.
    """

    here: Schema | None
    computed: frozenset[str]
    tables: Callable[[str, Span], Schema]
    parameters: Parameters
    sites: Callable[[], int]
    users: Users


def bind(
    query: s.Query,
    text: str,
    *,
    here: Schema | None,
    computed: frozenset[str] = frozenset(),
    tables: Callable[[str, Span], Schema],
    params: Params = None,
    first_site: int = 0,
    try_out: TryOut = never_tried,
) -> Bound:
    """Type the whole query; every name, type and parameter error is raised here.

    `computed` are the columns of `here`, a view, that expressions make which may raise: what their
    types decide is an error still in rows where they are one, as over a subquery.
    `first_site` is where the numbers of random clauses and calls start; queries of queries start
    where no query below them can have come to. `try_out` finds the type of what a user function
    gives.
    """
    try:
        parameters = Parameters(params)
        sites = count(first_site).__next__
        binder = Binder(here, computed, tables, parameters, sites, Users(try_out=try_out))
        bound = _query(binder, query)
        parameters.check_all_used()
    except TqlError as e:
        if e.query:
            raise
        with_query(e, text)
    return bound


def bind_weight(
    e: s.Expr,
    text: str,
    schema: Schema,
    params: Params = None,
    *,
    computed: frozenset[str] = frozenset(),
    try_out: TryOut = never_tried,
) -> Expr:
    """Type a weight expression that stands alone, as `sample_by` takes it; `computed` as in `bind`."""
    users = Users(try_out=try_out)
    try:
        names = one_source(schema)
        scope = ExprBinder(
            schema, Parameters(params), count().__next__, names, users=users, computed=computed
        )
        return weight(scope, e)
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
            steps = ((step, _body(b, step.body)) for step in combined.steps)
            bound = set_operations.combined(_body(b, combined.first), steps)
            scope = _scope_of(b, bound)
        case inner:
            bound = _query(b, inner)
            scope = _scope_of(b, bound)
    bound = tail(bound, scope, q)
    return scope.complete(bound) if isinstance(scope, LayerBinder) else bound


def _body(b: Binder, body: s.Body) -> Bound:
    return _query(b, body) if isinstance(body, s.Query) else _query(b, s.Query(body))


def _scope_of(b: Binder, bound: Bound) -> ExprBinder:
    """Names in the tail of a combination: its output columns, then those of the source."""
    source = source_of(bound.plan)
    aliases = {o.name: o.expr for o in bound.outputs}
    schema = in_scope(source)
    return replace(
        _scope(b, source, schema, one_source(schema)), aliases=aliases, prefer_alias=True
    )


def _select(b: Binder, q: s.Select) -> tuple[Bound, ExprBinder]:
    """The SELECT, and the scope of the clauses that follow it."""
    source = _from(b, q.source, q.span)
    leaf = source.leaf
    rows = _scope(b, leaf, leaf.schema, source.names)
    if makes_new_rows(q):
        check_where(rows, q)
        plan = _where(rows, leaf, q.where)
        return over_new_rows(rows, plan, q)
    outputs = name_outputs(rows, q.items)
    plan = _where(rows, leaf, q.where)
    plan = expanded(plan, q.expand)
    rows.prefer_alias = True
    return distinct(Bound(plan, outputs), rows, q.distinct), rows


def _where(rows: ExprBinder, plan: Plan, condition: s.Expr | None) -> Plan:
    if condition is None:
        return plan
    predicate = operators.truth(rows.bind(condition))
    return Filter(plan, predicate, span=condition.span, text=format_expr(condition))


def _from(b: Binder, source: s.Source | None, span: Span) -> From:
    if source is not None:
        return bind_from(FromBinder(b.tables, partial(_query, b), partial(_scope, b)), source)
    if b.here is None:
        raise error("source", "FROM is required here", span,
                    help='write  select … from "path"')  # fmt: skip
    return From(Scan(None, b.here, computed=b.computed), one_source(b.here))


def _scope(b: Binder, leaf: Leaf, schema: Schema, names: Names) -> ExprBinder:
    """Binds expressions over columns of the leaf by these names."""
    users, made = b.users.over(leaf), computed_in(leaf)
    return ExprBinder(schema, b.parameters, b.sites, names, users=users, computed=made)
