"""What the parts of a query may refer to, and the errors of their rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tests.interpreter.expressions import Env
from tests.interpreter.kinds import Value
from tests.interpreter.relations import Groups, Relation


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


def env_of(
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


def nowhere(rows: Relation, whole: Relation, world: World) -> Env:
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
