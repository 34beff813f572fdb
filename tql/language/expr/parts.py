"""What nodes hold that is no expression: a stored value, the rules about one text."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

from tql.language.expr.symbols import CompareOp


class Cell:
    """One value of a column, which no literal could stand for: an Arrow array of length one.

    Cells are the same that have the same type and content.
    """

    __slots__ = ("_shown", "array")

    def __init__(self, array: Any) -> None:
        self.array = array
        content = repr((str(array.type), array.to_pylist())).encode()
        self._shown = f"Cell({blake2b(content, digest_size=16).hexdigest()})"

    def __repr__(self) -> str:
        return self._shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self._shown == other._shown

    def __hash__(self) -> int:
        return hash(self._shown)


@dataclass(frozen=True, slots=True)
class TextIs:
    """`text OP value`, by code point."""

    op: CompareOp
    value: str


@dataclass(frozen=True, slots=True)
class TextIn:
    """The text is one of `values`."""

    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class TextLike:
    """The whole text matches `pattern`: * or % any run, ? one code point, backslash escapes."""

    pattern: str
    fold_case: bool


@dataclass(frozen=True, slots=True)
class TextContains:
    """`needle` occurs in the text; '' occurs in every text."""

    needle: str


TextRule: TypeAlias = TextIs | TextIn | TextLike | TextContains
