"""Whole queries over relations, in the order of evaluation of reference §2."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tests.interpreter import expressions
from tests.interpreter.expressions import Env
from tests.interpreter.grouping import expanded, grouped, having_true, split
from tests.interpreter.joins import joined
from tests.interpreter.keys import canonical, order
from tests.interpreter.kinds import BOOL, INT64, RowError, Value
from tests.interpreter.relations import Column, Groups, Relation, known
from tests.interpreter.scopes import QueryError, World, env_of, kept, nowhere
from tests.interpreter.select_list import items, output
from tests.interpreter.set_operations import combined
from tql.grammar import syntax as s


class Drawn(NamedTuple):
    """What SAMPLE BY may draw from: the rows with their weights (NaN where NULL), how many are asked
    for and how many drawn, and whether one may be twice. `asked` is None for as many as there are.
    """

    population: Relation
    weights: list[float]
    asked: int | None
    size: int
    replace: bool


def run(q: s.Query, world: World) -> Relation:
    """The rows of a query without SAMPLE BY."""
    assert q.sample is None
    return _tail(q, *_body(q.body, world), world)


def drawn(q: s.Query, world: World) -> Drawn:
    """What the SAMPLE BY at the end of a query draws from."""
    assert q.sample is not None
    sample = q.sample
    rows, scope = _body(q.body, world)
    population = _tail(q, rows, scope, world)
    n = len(population.rows)
    fraction = sample.weight.value if isinstance(sample.weight, s.Number) else 0
    if 0 < fraction < 1 and sample.limit is None:
        part = int(n * fraction)
        return Drawn(population, [1.0] * n, part, part, sample.replace is True)
    envs = (env_of(population, row, world) for row in range(n))
    if scope is not None and scope.groups is None:  # data() is of FROM, before WHERE
        envs = (replace(env, column=scope.nothing.column) for env in envs)
    found = [expressions.value(sample.weight, env).data for env in envs]
    weights = [math.nan if w is None else float(w) for w in found]
    asked = None if sample.limit is None else _count(sample.limit, n, world)
    if not n and asked != 0:
        expressions.kind(sample.weight, nowhere(population, population, world))
    size = n if asked is None else asked
    with_replacement = sample.replace is not False
    if not with_replacement:
        size = min(size, sum(w > 0 for w in weights))
    return Drawn(population, weights, asked, size, with_replacement)


class Scope(NamedTuple):
    """What the ORDER BY of a select may name besides the columns of its result.

    envs     of the rows that the result was made of
    nothing  the same for no row
    groups   the groups, where there are any
    """

    envs: list[Env]
    nothing: Env
    groups: Groups | None


def _body(body: s.Body, world: World) -> tuple[Relation, Scope | None]:
    match body:
        case s.Select():
            return _select(body, world)
        case s.Combined():
            return _combined(body, world), None
        case s.Query():
            return run(body, world), None


def _rows_of(body: s.Body, world: World) -> Relation:
    match body:
        case s.Select():
            return _cut(_select(body, world)[0], None, None, body.top, world)
        case s.Combined():
            return _combined(body, world)
        case s.Query():
            return run(body, world)


def _combined(c: s.Combined, world: World) -> Relation:
    branches = _all_rows_of([c.first, *(step.body for step in c.steps)], world)
    rows = branches[0]
    for step, branch in zip(c.steps, branches[1:]):
        rows = combined(step, rows, branch)
    return rows


def _all_rows_of(bodies: list[s.Body], world: World) -> list[Relation]:
    """The rows of each; or the errors of all, for the order in which branches run is not promised."""
    found: list[Relation] = []
    failed: list[QueryError | RowError] = []
    for body in bodies:
        try:
            found.append(_rows_of(body, world))
        except (QueryError, RowError) as e:
            failed.append(e)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        errors = {x for e in failed if isinstance(e, QueryError) for x in e.errors}
        codes = {(e.code, -1) for e in failed if isinstance(e, RowError)}
        base = failed[0].base if isinstance(failed[0], QueryError) else None
        same = all(isinstance(e, QueryError) and e.base is base for e in failed)
        raise QueryError(errors | codes, base if same else None)
    return found


def _select(q: s.Select, world: World) -> tuple[Relation, Scope]:
    source = _from(q.source, world)
    rows, positions = source, list(range(len(source.rows)))
    expressions_of = {i.alias: i.expr for i in q.items if isinstance(i, s.Item) and i.alias}
    if q.where is not None:
        positions = _where(q.where, source, expressions_of, world)
        rows = kept(source, positions)
    if q.expand is not None:
        positions, window = expanded(positions, q.expand, len(source.rows))
        rows = kept(source, positions)
        if q.expand.name is not None:
            extra = Column(q.expand.name, INT64)
            rows = replace(
                rows,
                columns=(*rows.columns, extra),
                rows=[(*r, known(w)) for r, w in zip(rows.rows, window)],
            )
    of_groups = q.group is not None or q.ungroup is not None
    if q.group is not None:
        rows = grouped(rows, q.group, positions, source, world)
        positions = list(range(len(rows.rows)))
        if q.group.having is not None:
            rows, positions = having_true(q.group.having, rows, expressions_of, world)
    if q.ungroup is not None:
        rows = split(rows)
        positions = list(range(len(rows.rows)))
    whole = rows if of_groups else source
    columns = items(q, rows)
    envs = [
        env_of(rows, at, world, position, whole)
        for at, position in zip(range(len(rows.rows)), positions)
    ]
    result = output(columns, rows, envs, whole, world)
    if q.distinct is not None:
        for k in q.distinct.keys:
            expressions.kind(k, nowhere(rows, whole, world))
        keys = [
            [expressions.value(k, env) for k in q.distinct.keys]
            if q.distinct.keys
            else [result.cell(at, c.name) for c in result.columns]
            for at, env in enumerate(envs)
        ]
        seen: dict[Any, int] = {}
        for at, key in enumerate(keys):
            seen.setdefault(tuple(map(canonical, key)), at)
        first = list(seen.values())
        result, rows = kept(result, first), kept(rows, first)
        envs = [envs[at] for at in first]
    return result, Scope(envs, nowhere(rows, whole, world), rows.groups)


def _where(
    where: s.Expr, source: Relation, aliases: Mapping[str, s.Expr], world: World
) -> list[int]:
    """The places where the condition is true; a stored column wins over an alias."""
    kept: list[int] = []
    errors: set[tuple[str, int]] = set()
    if not source.rows:
        expressions.kind(where, nowhere(source, source, world))
    for at in range(len(source.rows)):
        env = env_of(source, at, world)

        def lookup(name: str, of: str | None, env: Env = env) -> Value:
            if of is None and name in aliases and not source.has(name):
                return expressions.value(aliases[name], env)
            return env.lookup(name, of)

        try:
            if expressions.is_true(where, replace(env, lookup=lookup)):
                kept.append(at)
        except RowError as e:
            errors.add((e.code, source.ids[at]))
    if errors:
        raise QueryError(errors, source.base)
    return kept


def _from(source: s.Source | None, world: World) -> Relation:
    match source:
        case None:
            assert world.here is not None
            return world.here
        case s.Table(name, alias):
            return _named(world.tables[name], alias or name)
        case s.Subquery(query, alias):
            return _named(run(query, world), alias)
        case s.Join():
            return joined(source, _from(source.left, world), _from(source.right, world), world)


def _named(r: Relation, name: str | None) -> Relation:
    return replace(r, columns=tuple(replace(c, source=name) for c in r.columns))


def _tail(q: s.Query, result: Relation, scope: Scope | None, world: World) -> Relation:
    if q.order:
        result = kept(result, ordered(q.order, result, scope, world))
    top = q.body.top if isinstance(q.body, s.Select) else None
    return _cut(result, q.limit, q.offset, top, world)


def ordered(
    keys: Sequence[s.OrderKey], result: Relation, scope: Scope | None, world: World
) -> list[int]:
    """The places of the rows in order; an alias wins over a column of FROM."""
    places = range(len(result.rows))
    columns: list[list[Value]] = []
    errors: set[tuple[str, int]] = set()
    for k in keys:
        if scope is not None and scope.groups is None and not result.rows:
            expressions.kind(k.expr, replace(scope.nothing, lookup=_no_row(result, scope)))
        found = []
        for at in places:
            env = env_of(result, at, world)
            if scope is not None:
                env = replace(scope.envs[at], lookup=_by_alias(result, scope, at))
            try:
                found.append(expressions.value(k.expr, env))
            except RowError as e:
                errors.add((e.code, result.ids[at]))
        columns.append(found)
    if errors:
        raise QueryError(errors, result.base)

    def before(a: int, b: int) -> int:
        for k, column in zip(keys, columns):
            outcome = order(column[a], column[b], k.descending)
            if outcome:
                return outcome
        return 0

    return sorted(places, key=functools.cmp_to_key(before))


def _no_row(result: Relation, scope: Scope) -> Callable[[str, str | None], Value]:
    def lookup(name: str, of: str | None) -> Value:
        if of is None and result.has(name):
            return Value(result.columns[result.at(name)].kind, None)
        return scope.nothing.lookup(name, of)

    return lookup


def _by_alias(result: Relation, scope: Scope, at: int) -> Callable[[str, str | None], Value]:
    def lookup(name: str, of: str | None) -> Value:
        key = None if scope.groups is None else scope.groups.keys.get(name)
        if of is None and result.has(name):
            made = result.cell(at, name)
            if key is None or not made.kind.grouped:  # a key that is selected is its sequence there
                return made
        return scope.envs[at].lookup(name, of) if key is None else key[at]

    return lookup


def _cut(
    r: Relation, limit: s.Limit | None, offset: s.Expr | None, top: int | None, world: World
) -> Relation:
    nothing = Env(lambda *name: Value(BOOL, None), params=world.params)
    first = expressions.value(offset, nothing).data if offset is not None else 0
    n = len(r.rows)
    reaching = max(0, n - first)  # the rows that a percentage is of: OFFSET comes first
    count = n if limit is None else _count(limit, reaching, world)
    if top is not None:
        count = min(count, top)
    return kept(r, list(itertools.islice(range(first, n), count)))


def _count(limit: s.Limit, n: int, world: World) -> int:
    if limit.count is None:
        return n
    count = expressions.value(
        limit.count, Env(lambda *name: Value(BOOL, None), params=world.params)
    )
    return int(n * count.data / 100) if limit.percent else int(count.data)
