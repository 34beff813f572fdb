"""UNION, INTERSECT and EXCEPT (reference §15)."""

from collections import Counter
from dataclasses import replace
from typing import Any

from tests.interpreter import scalars
from tests.interpreter.kinds import Kind, RowError
from tests.interpreter.relations import Cell, Column, Relation
from tql.grammar import syntax as s


def combined(c: s.SetStep, left: Relation, right: Relation) -> Relation:
    """Of rows where both branches select the same from the same base; else one after the other."""
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
        if kind.name == "int":
            return scalars.fitting(int(x), kind)
        if isinstance(x, int) and float(x) != x:
            raise RowError("range")  # rather than another number
        return float(x)

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
