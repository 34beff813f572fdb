"""EXPAND BY, GROUP BY with HAVING, UNGROUP BY (reference §16, §17)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.interpreter import expressions
from tests.interpreter.expressions import Env
from tests.interpreter.keys import canonical
from tests.interpreter.kinds import RowError, Value, array_of
from tests.interpreter.relations import Cell, Column, Groups, Relation, Row, known, sequence
from tests.interpreter.scopes import QueryError, World, env_of, kept, nowhere
from tql.grammar import syntax as s


def expanded(matches: list[int], e: s.Expand, n: int) -> tuple[list[int], list[int]]:
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


def grouped(
    r: Relation, group: s.GroupBy, positions: list[int], whole: Relation, world: World
) -> Relation:
    """A row per group, in order of first appearance, the second key within the first and so on.

    positions  of the rows in `whole`, which is FROM
    """
    for k in group.keys:
        expressions.kind(k, nowhere(r, whole, world))
    keys = [
        [expressions.value(k, env_of(r, at, world, positions[at], whole)) for k in group.keys]
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


def having_true(
    having: s.Expr, rows: Relation, aliases: Mapping[str, s.Expr], world: World
) -> tuple[Relation, list[int]]:
    """The groups for which the condition is true; aliases win, a key stands for its value."""
    assert rows.groups is not None
    passed = []
    for at in range(len(rows.rows)):
        env = env_of(rows, at, world)

        def lookup(name: str, of: str | None, env: Env = env, at: int = at) -> Value:
            if of is None and name in aliases:
                return expressions.value(aliases[name], env)
            assert rows.groups is not None
            key = rows.groups.keys.get(name)
            return env.lookup(name, of) if key is None else key[at]

        if expressions.is_true(having, replace(env, lookup=lookup)):
            passed.append(at)
    return kept(rows, passed), passed


def split(r: Relation) -> Relation:
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
