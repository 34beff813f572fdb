"""Names of classes as their indices (tql-reference §11)."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from tql.diagnostics import Note, Span, did_you_mean, error
from tql.language.expr import Const, Expr
from tql.language.operators.operands import INT64
from tql.schema import Label


def names_to_labels(left: Expr, right: Expr, span: Span) -> tuple[Expr, Expr]:
    """A text constant that meets a class label becomes the index of that class.

    Two class labels must have the same classes: an index stands for another class elsewhere.
    """
    a, b = left.dtype, right.dtype
    if isinstance(a, Label) and isinstance(b, Label) and a.names != b.names:
        raise error(
            "schema", "cannot compare class labels of different class names", span,
            notes=(Note(differing(a.names, b.names)),),
            help="open both with the same class_names=, so that an index means one class;  "
            "to compare the indices as numbers, add 0 to both",
        )  # fmt: skip
    if isinstance(left.dtype, Label):
        right = label_index(right, left.dtype)
    elif isinstance(right.dtype, Label):
        left = label_index(left, right.dtype)
    return left, right


def differing(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    """In what two lists of class names, which are not equal, differ first."""
    pairs = zip_longest(names, others)
    at, (one, other) = next((at, pair) for at, pair in enumerate(pairs) if pair[0] != pair[1])
    shown = ("no name" if name is None else repr(name) for name in (one, other))
    return f"the class names differ first at index {at}: {' and '.join(shown)}"


@dataclass(frozen=True, slots=True, eq=False)
class _Names:
    """Class names as a key: a tuple of 60,000 is recognised as the same object, never hashed."""

    names: tuple[str, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Names) and self.names is other.names

    def __hash__(self) -> int:
        return id(self.names)


@lru_cache(maxsize=64)
def _indices(key: _Names) -> dict[str, int]:
    """Where each name stands first."""
    return {name: at for at, name in reversed(list(enumerate(key.names)))}


def label_index(e: Expr, label: Label) -> Expr:
    """`e` itself, or the index of the class it names, which the storage may be too narrow for."""
    match e:
        case Const(str(name)):
            at = _indices(_Names(label.names)).get(name)
            if at is None:
                shown = ", ".join(repr(n) for n in label.names[:10])
                more = f" and {len(label.names) - 10} more" if len(label.names) > 10 else ""
                near = did_you_mean(name, label.names)
                known = f"the classes are {shown}{more}" if shown else "the column has no classes"
                raise error(
                    "value", f"no class named {name!r}", e.span,
                    notes=(Note(known),) if near else (), help=near or known,
                )  # fmt: skip
            return Const(at, INT64, span=e.span)
        case _:
            return e
