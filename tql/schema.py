"""Column types as the language sees them: closed, small, and independent of Arrow."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Bool:
    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True, slots=True)
class Int:
    """A signed or unsigned integer of 8, 16, 32 or 64 bits."""

    bits: int = 64
    signed: bool = True

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"


@dataclass(frozen=True, slots=True)
class Float:
    """An IEEE float of 16, 32 or 64 bits."""

    bits: int = 64

    def __str__(self) -> str:
        return f"float{self.bits}"


@dataclass(frozen=True, slots=True)
class Text:
    """Unicode text; compared by code point."""

    def __str__(self) -> str:
        return "text"


@dataclass(frozen=True, slots=True)
class Label:
    """An integer that indexes `names`. In a dictionary-encoded column the integer is the code."""

    names: tuple[str, ...]
    storage: Int = Int(64)

    def __str__(self) -> str:
        return f"class_label[{len(self.names)}]"


@dataclass(frozen=True, slots=True)
class Time:
    """A timestamp or date: an integer count of `unit` since 1970; `zone` is None for local time."""

    unit: str
    zone: str | None = None
    date: bool = False

    def __str__(self) -> str:
        if self.date:
            return "date"
        return f"timestamp[{self.unit}{f', {self.zone}' if self.zone else ''}]"


@dataclass(frozen=True, slots=True)
class Binary:
    """Bytes; `image` says that each value is an encoded image (JPEG, PNG, …)."""

    image: bool = False

    def __str__(self) -> str:
        return "image" if self.image else "binary"


@dataclass(frozen=True, slots=True)
class List:
    """A list of `item` per row; `size` is its length where every row has the same.

    Lists of lists are arrays: those of one row have one length. Except where `grouped`: then the
    items are the values that the rows of a group had, and arrays among them may differ in shape.
    """

    item: "DType"
    size: int | None = None
    grouped: bool = False

    def __str__(self) -> str:
        if self.grouped:
            return f"sequence[{self.item}]"
        return f"list[{self.item}{'' if self.size is None else f', {self.size}'}]"


@dataclass(frozen=True, slots=True)
class Json:
    """Any JSON value, or an Arrow struct read as an object.

    `item` says that it was taken out of another value, and so may well be a scalar: a column as it is
    stored counts as an object.
    """

    item: bool = False

    def __str__(self) -> str:
        return "json"


@dataclass(frozen=True, slots=True)
class Opaque:
    """A column that can be carried in batches but not used in a query; `name` is Arrow's."""

    name: str

    def __str__(self) -> str:
        return self.name


DType: TypeAlias = Bool | Int | Float | Text | Label | Time | Binary | List | Json | Opaque


@dataclass(frozen=True, slots=True)
class Column:
    """One named column."""

    name: str
    dtype: DType
    nullable: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{'?' if self.nullable else ''}"


class Schema:
    """The columns of a data set in order; names are unique and case-sensitive.

    `hidden` are columns that can be read by their name, and that `*` and batches leave out: parts of
    other columns, such as the path of an image.
    """

    __slots__ = ("_by_name", "columns", "hidden")

    def __init__(self, columns: Iterable[Column], hidden: Iterable[Column] = ()) -> None:
        self.columns: tuple[Column, ...] = tuple(columns)
        self.hidden: tuple[Column, ...] = tuple(hidden)
        self._by_name = {c.name: c for c in (*self.columns, *self.hidden)}
        assert len(self._by_name) == len(self.columns) + len(self.hidden), "column names repeat"

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Column:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Schema)
            and self.columns == other.columns
            and self.hidden == other.hidden
        )

    def __hash__(self) -> int:
        return hash((self.columns, self.hidden))

    def __repr__(self) -> str:
        return f"Schema({', '.join(map(str, self.columns))})"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def select(self, names: Iterable[str]) -> "Schema":
        """These columns, in this order."""
        return Schema(self._by_name[n] for n in names)
