"""Whole queries over relations, in the order of evaluation of reference §2."""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from tests.interpreter import expressions, json_values, scalars
from tests.interpreter.expressions import Env
from tests.interpreter.kinds import BOOL, INT64, IRREGULAR, Kind, RowError, Value, array_of
from tests.interpreter.relations import Cell, Column, Groups, Relation, Row, known, sequence
from tql.grammar import syntax as s


class QueryError(Exception):
    """Some rows have no result: (kind of error, row of the base) of each of them."""

    def __init__(self, errors: set[tuple[str, int]], base: object) -> None:
        super().__init__(errors)
        self.errors = errors
        self.base = base


class World(NamedTuple):
    """here  what a query without FROM asks; tables  what FROM names; params  as `Env.params`"""

    here: Relation | None = None
    tables: Mapping[str, Relation] = {}
    params: Any = ()


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
    population = _tail(q, *_body(q.body, world), world)
    n = len(population.rows)
    fraction = sample.weight.value if isinstance(sample.weight, s.Number) else 0
    if 0 < fraction < 1 and sample.limit is None:
        part = int(n * fraction)
        return Drawn(population, [1.0] * n, part, part, sample.replace is True)
    envs = (_env(population, row, world) for row in range(n))
    found = [expressions.value(sample.weight, env).data for env in envs]
    weights = [math.nan if w is None else float(w) for w in found]
    asked = None if sample.limit is None else _count(sample.limit, n, world)
    size = n if asked is None else asked
    with_replacement = sample.replace is not False
    if not with_replacement:
        size = min(size, sum(w > 0 for w in weights))
    return Drawn(population, weights, asked, size, with_replacement)


# -- bodies ------------------------------------------------------------------------------------


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


def _select(q: s.Select, world: World) -> tuple[Relation, Scope]:
    source = _from(q.source, world)
    rows, positions = source, list(range(len(source.rows)))
    expressions_of = {i.alias: i.expr for i in q.items if isinstance(i, s.Item) and i.alias}
    if q.where is not None:
        positions = _where(q.where, source, expressions_of, world)
        rows = kept(source, positions)
    if q.expand is not None:
        positions, window = _expanded(positions, q.expand, len(source.rows))
        rows = kept(source, positions)
        if q.expand.name is not None:
            extra = Column(q.expand.name, INT64)
            rows = replace(
                rows,
                columns=(*rows.columns, extra),
                rows=[(*r, known(w)) for r, w in zip(rows.rows, window)],
            )
    grouped = q.group is not None
    if q.group is not None:
        rows = _grouped(rows, q.group, positions, world)
        positions = list(range(len(rows.rows)))
        if q.group.having is not None:
            rows, positions = _having(q.group.having, rows, expressions_of, world)
    if q.ungroup:
        rows = _split(rows)
        positions = list(range(len(rows.rows)))
    whole = source if not (grouped or q.ungroup) else rows
    items = _items(q, rows)
    envs = [
        _env(rows, at, world, position, whole)
        for at, position in zip(range(len(rows.rows)), positions)
    ]
    result = _output(items, rows, envs, whole, world)
    if q.distinct is not None:
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
    return result, Scope(envs, _nowhere(rows, whole, world), rows.groups)


def _env(
    r: Relation, row: int, world: World, position: int | None = None, whole: Relation | None = None
) -> Env:
    groups = r.groups
    return Env(
        lambda name, source: r.cell(row, name, source),
        row if position is None else position,
        (whole or r).of,
        world.params,
        None if groups is None else groups.sizes[row],
    )


def _nowhere(rows: Relation, whole: Relation, world: World) -> Env:
    """For the types of expressions, and for what is an error without any row: data() of no rows."""
    return Env(
        lambda *n: Value(rows.columns[rows.at(*n)].kind, None),
        column=whole.of,
        params=world.params,
        members=None if rows.groups is None else 0,
        nowhere=True,
    )


def kept(r: Relation, places: Sequence[int]) -> Relation:
    """The rows at these places, in this order."""
    groups = r.groups
    if groups is not None:
        groups = Groups(
            {k: [v[p] for p in places] for k, v in groups.keys.items()},
            [groups.sizes[p] for p in places],
        )
    return replace(
        r, rows=[r.rows[p] for p in places], ids=[r.ids[p] for p in places], groups=groups
    )


def _where(
    where: s.Expr, source: Relation, aliases: Mapping[str, s.Expr], world: World
) -> list[int]:
    """The places where the condition is true; a stored column wins over an alias."""
    kept: list[int] = []
    errors: set[tuple[str, int]] = set()
    if not source.rows:
        expressions.kind(where, _nowhere(source, source, world))
    for at in range(len(source.rows)):
        env = _env(source, at, world)

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


# -- EXPAND, GROUP, UNGROUP --------------------------------------------------------------------


def _expanded(matches: list[int], e: s.Expand, n: int) -> tuple[list[int], list[int]]:
    """Positions around the matches, and the number of the window that each belongs to."""
    windows = [list(range(max(0, m - e.before), min(n, m + e.after + 1))) for m in matches]
    if e.overlap:
        pairs = [(p, w) for w, window in enumerate(windows) for p in window]
        return [p for p, _ in pairs], [w for _, w in pairs]
    positions = sorted({p for window in windows for p in window})
    runs, run_number = [], -1
    for at, p in enumerate(positions):
        if at == 0 or positions[at - 1] != p - 1:
            run_number += 1
        runs.append(run_number)
    return positions, runs


def _grouped(r: Relation, group: s.GroupBy, positions: list[int], world: World) -> Relation:
    """A row per group, in order of first appearance, the second key within the first and so on."""
    keys = [
        [expressions.value(k, _env(r, at, world, positions[at])) for k in group.keys]
        for at in range(len(r.rows))
    ]
    if any(isinstance(v.data, dict | list) and v.kind.name == "json" for k in keys for v in k):
        raise RowError("type")
    members = list(_nested(list(range(len(r.rows))), keys, 0, len(group.keys)))
    columns = tuple(Column(c.name, array_of(c.kind, 1, grouped=True), c.source) for c in r.columns)
    rows: list[Row] = [
        tuple(
            Cell(lambda n=n, c=c, m=m: sequence(c, [r.rows[at][n].get() for at in m]))
            for n, c in enumerate(r.columns)
        )
        for m in members
    ]
    named = {
        k.name: [keys[m[0]][n] for m in members]
        for n, k in enumerate(group.keys)
        if isinstance(k, s.Name)
    }
    groups = Groups(named, [len(m) for m in members])
    return Relation(columns, rows, object(), list(range(len(rows))), groups)


def _nested(
    places: list[int], keys: list[list[Value]], level: int, levels: int
) -> Iterator[list[int]]:
    if level == levels:
        yield places
        return
    parts: dict[Any, list[int]] = {}
    for p in places:
        parts.setdefault(canonical(keys[p][level]), []).append(p)
    for part in parts.values():
        yield from _nested(part, keys, level + 1, levels)


def _having(
    having: s.Expr, rows: Relation, aliases: Mapping[str, s.Expr], world: World
) -> tuple[Relation, list[int]]:
    """The groups for which the condition is true; aliases win, a key stands for its value."""
    assert rows.groups is not None
    passed = []
    for at in range(len(rows.rows)):
        env = _env(rows, at, world)

        def lookup(name: str, of: str | None, env: Env = env, at: int = at) -> Value:
            if of is None and name in aliases:
                return expressions.value(aliases[name], env)
            assert rows.groups is not None
            key = rows.groups.keys.get(name)
            return env.lookup(name, of) if key is None else key[at]

        if expressions.is_true(having, replace(env, lookup=lookup)):
            passed.append(at)
    return kept(rows, passed), passed


def _split(r: Relation) -> Relation:
    """A row for each member of the sequences; other columns are repeated."""
    columns = tuple(
        Column(c.name, c.kind.element if c.kind.grouped else c.kind, c.source) for c in r.columns
    )
    assert any(c.kind.grouped for c in r.columns)
    rows: list[Row] = []
    for row in r.rows:
        cells = [cell.get() for cell in row]
        lengths = {len(x) for x, c in zip(cells, r.columns) if c.kind.grouped}
        if len(lengths) > 1:
            raise QueryError({("shape", len(rows))}, None)
        for at in range(lengths.pop()):
            rows.append(
                tuple(known(x[at] if c.kind.grouped else x) for x, c in zip(cells, r.columns))
            )
    return Relation(columns, rows, object(), list(range(len(rows))))


# -- the select list ---------------------------------------------------------------------------


def _items(q: s.Select, rows: Relation) -> list[tuple[str, s.Expr]]:
    """Names and expressions; a plain column that a star has named already is not repeated."""
    items: list[tuple[str, s.Expr]] = []
    for item in q.items:
        match item:
            case s.AllColumns(source):
                chosen = [
                    c
                    for c in rows.columns
                    if source in (None, c.source)
                    and not (q.expand is not None and c.name == q.expand.name)
                ]
                items += [(c.name, s.Name(c.name, c.source)) for c in chosen]
            case s.Item(expr, alias):
                name = alias or _name_of(expr)
                if not (isinstance(expr, s.Name) and name in [n for n, _ in items]):
                    items.append((name, expr))
    if q.expand is not None and q.expand.name is not None:
        items.append((q.expand.name, s.Name(q.expand.name)))
    return items


def _name_of(e: s.Expr) -> str:
    names = {n.name for n in _names_in(e)}
    if len(names) == 1:
        return names.pop()
    assert not names and isinstance(e, s.Call | s.WeightCall), "an expression without a name"
    return e.function


def _names_in(e: Any) -> Iterator[s.Name]:
    if isinstance(e, s.Name):
        yield e
    elif isinstance(e, tuple):
        for part in e:
            yield from _names_in(part)
    elif isinstance(e, s.Node):
        for slot in e.__dataclass_fields__:
            yield from _names_in(getattr(e, slot))


def _output(
    items: list[tuple[str, s.Expr]],
    rows: Relation,
    envs: list[Env],
    whole: Relation,
    world: World,
) -> Relation:
    columns = []
    nowhere = _nowhere(rows, whole, world)
    for name, e in items:
        if isinstance(e, s.Name):
            stored = rows.columns[rows.at(e.name, e.source)]
            columns.append(Column(name, stored.kind, None, stored.made_of))
        else:
            kind = expressions.kind(e, nowhere)
            columns.append(
                Column(name, replace(kind, constant=False), None, settled(e, world.params))
            )
    made: list[Row] = [
        tuple(_made(e, rows, at, env) for _, e in items) for at, env in enumerate(envs)
    ]
    return Relation(tuple(columns), made, rows.base, rows.ids)


def settled(e: Any, params: Any) -> Any:
    """The expression with the values of its parameters, to be compared with others."""
    match e:
        case s.Parameter(key):
            return ("value", repr(params[key]))
        case tuple():
            return tuple(settled(part, params) for part in e)
        case s.Node():
            parts = (getattr(e, f.name) for f in fields(e) if f.compare)  # spans are not
            return (type(e).__name__, *(settled(part, params) for part in parts))
        case _:
            return (type(e).__name__, e)


def _made(e: s.Expr, rows: Relation, at: int, env: Env) -> Cell:
    if isinstance(e, s.Name):  # also what no expression can use, as bytes and irregular lists
        return rows.rows[at][rows.at(e.name, e.source)]
    return Cell(lambda: expressions.value(e, env).data)


# -- FROM --------------------------------------------------------------------------------------


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
            return _joined(source, world)


def _named(r: Relation, name: str | None) -> Relation:
    return replace(r, columns=tuple(replace(c, source=name) for c in r.columns))


def _joined(j: s.Join, world: World) -> Relation:
    """Left rows in order, each with its matches in right order; then what is left of the right."""
    left, right = _from(j.left, world), _from(j.right, world)
    pairs = Relation((*left.columns, *right.columns), [], object(), [])
    rows: list[tuple[Row | None, Row | None]] = []
    matched: set[int] = set()
    errors: set[tuple[str, int]] = set()
    for a in left.rows:
        found = False
        for n, b in enumerate(right.rows):
            try:
                if _matches(j, pairs, a, b, left, right, world):
                    rows.append((a, b))
                    matched.add(n)
                    found = True
            except RowError as e:
                errors.add((e.code, -1))
        if not found and j.kind in (s.JoinKind.LEFT, s.JoinKind.FULL):
            rows.append((a, None))
    if errors:
        raise QueryError(errors, None)
    if j.kind in (s.JoinKind.RIGHT, s.JoinKind.FULL):
        rows += [(None, b) for n, b in enumerate(right.rows) if n not in matched]
    return _merged(j, left, right, rows)


def _matches(
    j: s.Join, pairs: Relation, a: Row, b: Row, left: Relation, right: Relation, world: World
) -> bool:
    if j.using:
        sides = [
            (
                Value(left.columns[left.at(n)].kind, a[left.at(n)].get()),
                Value(right.columns[right.at(n)].kind, b[right.at(n)].get()),
            )
            for n in j.using
        ]
        return all(scalars.compare("==", x, y).data is True for x, y in sides)
    if j.on is None:
        return True
    one = replace(pairs, rows=[(*a, *b)], ids=[0])
    return expressions.is_true(j.on, _env(one, 0, world))


def _merged(
    j: s.Join, left: Relation, right: Relation, rows: list[tuple[Row | None, Row | None]]
) -> Relation:
    """The columns of both sides; of a USING one, whose value comes from the side that has it."""
    nothing = known(None)
    kept = [n for n, c in enumerate(right.columns) if c.name not in j.using]
    made: list[Row] = []
    for a, b in rows:
        first = list(a) if a is not None else [nothing] * len(left.columns)
        if a is None and b is not None:
            for name in j.using:
                first[left.at(name)] = b[right.at(name)]
        second = [b[n] if b is not None else nothing for n in kept]
        made.append((*first, *second))
    ours = [
        replace(c, source=None, made_of=None) if c.name in j.using else replace(c, made_of=None)
        for c in left.columns
    ]
    theirs = [replace(right.columns[n], made_of=None) for n in kept]
    return Relation((*ours, *theirs), made, object(), list(range(len(made))))


# -- set operations ----------------------------------------------------------------------------


def _combined(c: s.Combined, world: World) -> Relation:
    """Of rows where both branches select the same from the same base; else one after the other."""
    left, right = _rows_of(c.left, world), _rows_of(c.right, world)
    both = [*zip(left.ids, left.rows), *zip(right.ids, right.rows)]
    if left.base is not right.base or _made_of(left) != _made_of(right):
        assert c.op is s.SetOp.UNION
        return _stacked(left, right)
    if c.op is s.SetOp.UNION and c.all:
        return replace(left, ids=[i for i, _ in both], rows=[r for _, r in both])
    ours, theirs = Counter(left.ids), Counter(right.ids)
    match c.op:
        case s.SetOp.UNION:
            ids = sorted({*ours, *theirs})
        case s.SetOp.INTERSECT:
            ids = sorted((ours & theirs).elements() if c.all else ours.keys() & theirs.keys())
        case _:
            ids = sorted((ours - theirs).elements() if c.all else ours.keys() - theirs.keys())
    row_of = dict(both)
    return replace(left, ids=ids, rows=[row_of[i] for i in ids])


def _made_of(r: Relation) -> list[tuple[str, Any]]:
    return [(c.name, c.made_of) for c in r.columns]


def _stacked(left: Relation, right: Relation) -> Relation:
    assert {c.name for c in left.columns} == {c.name for c in right.columns}
    order = [right.at(c.name) for c in left.columns]
    columns = tuple(
        Column(c.name, _common(c.kind, right.columns[n].kind)) for c, n in zip(left.columns, order)
    )
    rows = [*left.rows, *(tuple(row[n] for n in order) for row in right.rows)]
    rows = [tuple(_as_kind(cell, c.kind) for cell, c in zip(row, columns)) for row in rows]
    return Relation(columns, rows, object(), list(range(len(rows))))


def _as_kind(cell: Cell, kind: Kind) -> Cell:
    def converted() -> Any:
        x = cell.get()
        if x is None or kind.name not in ("int", "float"):
            return x
        return scalars.to_float(x) if kind.name == "float" else scalars.fitting(int(x), kind)

    return Cell(converted)


def _common(a: Kind, b: Kind) -> Kind:
    """The least integer for both, int64 beside uint64; float64 for integers with floats."""
    if a == b or "text" in (a.name, b.name):
        return a
    if "float" in (a.name, b.name):
        return max(a, b, key=lambda k: k.bits) if a.name == b.name else Kind("float")
    if a.signed == b.signed:
        return Kind("int", max(a.bits, b.bits), a.signed)
    unsigned = b.bits if a.signed else a.bits
    signed = a.bits if a.signed else b.bits
    return Kind("int", min(64, max(signed, 2 * unsigned)))


# -- ORDER BY, OFFSET, LIMIT -------------------------------------------------------------------


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
            env = _env(result, at, world)
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
            outcome = _order(column[a], column[b], k.descending)
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


def _order(a: Value, b: Value, descending: bool) -> int:
    """NaN after all numbers and NULL after that, in both directions."""
    (x, p), (y, q) = _place(a), _place(b)
    if x != y:
        return -1 if x < y else 1
    if x or p == q:
        return 0
    return -1 if (p < q) != descending else 1


def _place(v: Value) -> tuple[int, Any]:
    data = json_values.rank(v.data) if v.kind.name == "json" else v.data
    if data is None:
        return 2, None
    return (1, None) if data != data else (0, data)


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


# -- equality as DISTINCT and GROUP BY see it --------------------------------------------------


def canonical(v: Value) -> Any:
    """Equal exactly where two values of one kind are one key: NULL is NULL, NaN is NaN."""
    data = v.data
    if data is None:
        return None
    if v.kind.name == "json":
        return json_values.canonical(data)
    if data is IRREGULAR:
        raise RowError("shape")
    if v.kind.name == "array":
        if isinstance(data, list):
            return ("members", tuple(canonical(Value(v.kind.element, m)) for m in data))
        inner = v.kind.element
        return (np.shape(data), tuple(canonical(Value(inner, x)) for x in data.flat))
    if data != data:
        return "NaN"
    return (type(data).__name__ == "str", data)
