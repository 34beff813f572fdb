"""Select lists: the columns they make (reference §3)."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from tests.interpreter import expressions
from tests.interpreter.expressions import Env
from tests.interpreter.relations import Cell, Column, Relation, Row
from tests.interpreter.scopes import World, nowhere
from tql.grammar import syntax as s


def items(q: s.Select, rows: Relation) -> list[tuple[str, s.Expr]]:
    """Names and expressions; a plain column that a star has named already is not repeated."""
    found: list[tuple[str, s.Expr]] = []
    for item in q.items:
        match item:
            case s.AllColumns(source):
                chosen = [
                    c
                    for c in rows.columns
                    if source in (None, c.source)
                    and not (q.expand is not None and c.name == q.expand.name)
                ]
                found += [(c.name, s.Name(c.name, c.source)) for c in chosen]
            case s.Item(expr, alias):
                name = alias or _name_of(expr)
                if not (isinstance(expr, s.Name) and name in [n for n, _ in found]):
                    found.append((name, expr))
    if q.expand is not None and q.expand.name is not None:
        found.append((q.expand.name, s.Name(q.expand.name)))
    return found


def _name_of(e: s.Expr) -> str:
    names = {n.name for n in names_in(e)}
    if len(names) == 1:
        return names.pop()
    assert not names and isinstance(e, s.Call | s.WeightCall), "an expression without a name"
    return e.function


def names_in(e: Any) -> Iterator[s.Name]:
    if isinstance(e, s.Name):
        yield e
    elif isinstance(e, tuple):
        for part in e:
            yield from names_in(part)
    elif isinstance(e, s.Node):
        for slot in e.__dataclass_fields__:
            yield from names_in(getattr(e, slot))


def output(
    chosen: list[tuple[str, s.Expr]],
    rows: Relation,
    envs: list[Env],
    whole: Relation,
    world: World,
) -> Relation:
    columns = []
    nothing = nowhere(rows, whole, world)
    for name, e in chosen:
        if isinstance(e, s.Name):
            stored = rows.columns[rows.at(e.name, e.source)]
            columns.append(Column(name, stored.kind, None, stored.made_of))
        else:
            kind = expressions.kind(e, nothing)
            columns.append(
                Column(name, replace(kind, constant=False), None, settled(e, world.params))
            )
    made: list[Row] = [
        tuple(_made(e, rows, at, env) for _, e in chosen) for at, env in enumerate(envs)
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
