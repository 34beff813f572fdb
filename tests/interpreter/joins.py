"""Joins, pair by pair (reference §4)."""

from dataclasses import replace

from tests.interpreter import expressions, scalars
from tests.interpreter.kinds import RowError, Value
from tests.interpreter.relations import Relation, Row, known
from tests.interpreter.scopes import QueryError, World, env_of
from tql.grammar import syntax as s


def joined(j: s.Join, left: Relation, right: Relation, world: World) -> Relation:
    """Left rows in order, each with its matches in right order; then what is left of the right."""
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
            for n in _shared(j)
        ]
        return all(scalars.compare("==", x, y).data is True for x, y in sides)
    if j.on is None:
        return True
    one = replace(pairs, rows=[(*a, *b)], ids=[0])
    return expressions.is_true(j.on, env_of(one, 0, world))


def _shared(j: s.Join) -> list[str]:
    """The names in USING."""
    return [n.name for n in j.using]


def _merged(
    j: s.Join, left: Relation, right: Relation, rows: list[tuple[Row | None, Row | None]]
) -> Relation:
    """The columns of both sides; of a USING one.

    It is that of the side which has all rows; of a FULL join that of the left where there is one.
    """
    nothing = known(None)
    shared = _shared(j)
    kept = [n for n, c in enumerate(right.columns) if c.name not in shared]
    made: list[Row] = []
    for a, b in rows:
        first = list(a) if a is not None else [nothing] * len(left.columns)
        if b is not None and (a is None or j.kind is s.JoinKind.RIGHT):
            for name in shared:  # 0.0 on one side equals -0.0 on the other
                first[left.at(name)] = b[right.at(name)]
        second = [b[n] if b is not None else nothing for n in kept]
        made.append((*first, *second))
    named = right if j.kind is s.JoinKind.RIGHT else left
    ours = [
        replace(named.columns[named.at(c.name)], source=None, made_of=None)
        if c.name in shared
        else replace(c, made_of=None)
        for c in left.columns
    ]
    theirs = [replace(right.columns[n], made_of=None) for n in kept]
    return Relation((*ours, *theirs), made, object(), list(range(len(made))))
