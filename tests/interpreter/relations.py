"""Rows with named columns, in order, and the place each row has in what it was chosen from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tests.interpreter.kinds import Kind, Value, filled, kind_of, values_of
from tql.grammar import syntax as s


class Cell:
    """A value that is worked out when it is first asked for; errors of the row wait until then."""

    __slots__ = ("_make", "_value")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make: Callable[[], Any] | None = make
        self._value: Any = None

    def get(self) -> Any:
        if self._make is not None:
            self._value = self._make()
            self._make = None
        return self._value


def known(value: Any) -> Cell:
    return Cell(lambda: value)


Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Column:
    """`made_of` is the expression over the base that the column is; None where there is no such."""

    name: str
    kind: Kind
    source: str | None = None
    made_of: Any = None


@dataclass(frozen=True)
class Relation:
    """base  what the rows were chosen from, compared by identity; ids  where each row stands in it"""

    columns: tuple[Column, ...]
    rows: list[Row]
    base: object
    ids: list[int]
    groups: "Groups | None" = field(default=None)

    def at(self, name: str, source: str | None = None) -> int:
        found = [
            n
            for n, c in enumerate(self.columns)
            if c.name == name and (source is None or c.source == source)
        ]
        assert len(found) == 1, f"{name} stands for {len(found)} columns"
        return found[0]

    def has(self, name: str, source: str | None = None) -> bool:
        return any(c.name == name and source in (None, c.source) for c in self.columns)

    def cell(self, row: int, name: str, source: str | None = None) -> Value:
        at = self.at(name, source)
        return Value(self.columns[at].kind, self.rows[row][at].get())

    def column(self, name: str) -> list[Value]:
        return [self.cell(row, name) for row in range(len(self.rows))]

    def of(self, name: str) -> tuple[Kind, list[Value]]:
        """The type of a column, and all its values."""
        return self.columns[self.at(name)].kind, self.column(name)


@dataclass(frozen=True)
class Groups:
    """Of a relation of groups: the names of its keys with their values, the rows of each group."""

    keys: dict[str, list[Value]]
    sizes: list[int]


def from_arrow(table: pa.Table) -> Relation:
    """A stored table, which is its own base."""
    columns = tuple(
        Column(f.name, _classes(table.column(f.name)) or kind_of(f), made_of=s.Name(f.name))
        for f in table.schema
    )
    data = [values_of(table.column(c.name), c.kind) for c in columns]
    rows = [tuple(map(known, values)) for values in zip(*data)]
    return Relation(columns, rows, object(), list(range(len(rows))))


def _classes(column: pa.ChunkedArray) -> Kind | None:
    """A dictionary of texts is a class label, named in the order in which its chunks have them."""
    if not pa.types.is_dictionary(column.type):
        return None
    names = dict.fromkeys(v for c in column.chunks for v in c.dictionary.to_pylist())
    return Kind("label", 32, names=tuple(v for v in names if v is not None))


def data_of(relation: Relation, name: str) -> list[Any]:
    """The column's values; an error of a row as it comes."""
    return [v.data for v in relation.column(name)]


def sequence(column: Column, values: Sequence[Any]) -> Any:
    """The values that a group has in a column."""
    return list(values) if column.kind.name == "array" else filled(list(values))
