"""Where a query, a plan or the data went wrong, and how to say so.

TqlError                    every error this package raises on purpose
├─ TqlSyntaxError           the text is not TQL
├─ TqlNameError             a column, alias or function does not exist      (also LookupError)
├─ TqlTypeError             operands, arguments or parameters do not fit    (also TypeError)
├─ TqlUnsupportedError      recognised, but not part of the language or of this version
├─ TqlDataError             data is missing, unreadable, corrupt, or contradicts the schema
└─ TqlPlanError             weights, sizes, offsets: an impossible plan     (also ValueError)

`diagnostic.code` is stable and is what programs match; the prose may improve. A bug in this
package is not a TqlError: it is an AssertionError.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Final, NoReturn

# Exit codes of the command line (design: 0 done, 130 interrupted).
FAILED_RUNNING: Final = 1
WRONG_INPUT: Final = 2
DATA_MISSING: Final = 3


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a query text: code points `start` (inclusive) to `stop` (exclusive).

    `query` is that text where it is known: an expression is evaluated long after it was read, and
    beside expressions of other queries when views are queried again.
    """

    start: int
    stop: int
    query: str = field(default="", compare=False, repr=False)

    def to(self, other: "Span") -> "Span":
        """From the start of this span to the end of `other`."""
        return Span(self.start, other.stop, self.query)


NOWHERE: Final = Span(-1, -1)


@dataclass(frozen=True, slots=True)
class Note:
    """A second place, or a fact, that explains the error."""

    message: str
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What went wrong, where, and one way out."""

    code: str
    message: str
    span: Span = NOWHERE
    notes: tuple[Note, ...] = ()
    help: str | None = None


class TqlError(Exception):
    """Base of every error raised on purpose; `diagnostic` holds the parts, `query` the text.

    The text is the one that the diagnostic points into; the one given counts where it says none.
    """

    def __init__(self, diagnostic: Diagnostic, query: str = "") -> None:
        diagnostic = _clipped(diagnostic)
        query = diagnostic.span.query or query
        super().__init__(render(diagnostic, query))
        self.diagnostic: Final = diagnostic
        self.query: Final = query

    def __reduce__(self) -> tuple[type["TqlError"], tuple[Diagnostic, str], dict[str, list[str]]]:
        """Errors cross process borders: a torch worker sends them to the training process."""
        kept: dict[str, list[str]] = {}
        if hasattr(self, "__notes__"):
            kept["__notes__"] = list(self.__notes__)
        return type(self), (self.diagnostic, self.query), kept

    @property
    def exit_code(self) -> int:
        """What the command line exits with."""
        return WRONG_INPUT


class TqlSyntaxError(TqlError):
    """The text is not TQL."""


class TqlNameError(TqlError, LookupError):
    """A column, alias or function does not exist, or is not unique."""


class TqlTypeError(TqlError, TypeError):
    """Operands, arguments or parameters do not fit."""


class TqlUnsupportedError(TqlError):
    """Recognised, but not part of the language or of this version."""


class TqlDataError(TqlError):
    """The data is missing, unreadable, corrupt, changed, or contradicts the schema."""

    @property
    def exit_code(self) -> int:
        return DATA_MISSING if self.diagnostic.code == "source" else FAILED_RUNNING


class TqlPlanError(TqlError, ValueError):
    """Weights, sizes or offsets that no plan can satisfy."""


_CLASS_OF_CODE: Final[dict[str, type[TqlError]]] = {
    "syntax": TqlSyntaxError,
    "unknown_column": TqlNameError,
    "unknown_alias": TqlNameError,
    "unknown_function": TqlNameError,
    "ambiguous": TqlNameError,
    "duplicate_column": TqlNameError,
    "type": TqlTypeError,
    "arity": TqlTypeError,
    "shape": TqlTypeError,
    "schema": TqlTypeError,
    "parameter": TqlTypeError,
    "value": TqlPlanError,
    "range": TqlPlanError,
    "source": TqlDataError,
    "unsupported": TqlUnsupportedError,
}


def error(
    code: str,
    message: str,
    span: Span = NOWHERE,
    *,
    notes: Iterable[Note] = (),
    help: str | None = None,
    query: str = "",
) -> TqlError:
    """The error of the class that `code` belongs to.

    A value or range error that a row of the data causes is a TqlDataError: raise that class with
    a `Diagnostic` instead.
    """
    return _CLASS_OF_CODE[code](Diagnostic(code, message, span, tuple(notes), help), query)


def data_error(
    code: str, message: str, *, help: str | None = None, span: Span = NOWHERE
) -> TqlDataError:
    """The error for something wrong in the data: `code` is source, value, range, shape or corrupt."""
    return TqlDataError(Diagnostic(code, message, span, help=help))


def with_query(e: TqlError, query: str) -> NoReturn:
    """Raise `e` again knowing the query text, so that its caret can be drawn."""
    raise type(e)(e.diagnostic, query) from e.__cause__


_LONGEST: Final = 600  # characters of a sentence


def _clipped(d: Diagnostic) -> Diagnostic:
    """The diagnostic with long sentences cut in the middle: names and texts may be a megabyte."""
    notes = tuple(replace(n, message=_cut(n.message)) for n in d.notes)
    return replace(d, message=_cut(d.message), notes=notes, help=d.help and _cut(d.help))


def _cut(sentence: str) -> str:
    half = _LONGEST // 2
    return sentence if len(sentence) <= _LONGEST else f"{sentence[:half]} … {sentence[-half:]}"


def did_you_mean(name: str, choices: Iterable[str]) -> str | None:
    """A help line with the nearest of `choices`, other case first; None if nothing is near."""
    known = sorted(set(choices))
    near = [c for c in known if c.casefold() == name.casefold() and c != name]
    near += [c for c in get_close_matches(name, known, n=3, cutoff=0.6) if c not in near]
    if not near:
        return None
    return "did you mean " + " or ".join(f"'{c}'" for c in near[:3]) + "?"


def counted(number: int, one: str, several: str = "") -> str:
    """How many of something: 1 row, 1,797 rows; `several` where it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def first_names(names: Sequence[str], most: int = 12) -> str:
    """Names in a sentence, with a comma between them: the first `most`, and how many more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f", … and {more:,} more" if more > 0 else "")


def render(d: Diagnostic, query: str) -> str:
    """The diagnostic as people read it, with the place underlined; no colour.

    error[unknown_column]: no column named 'widht'
     --> query:1:16
    1 | select * where widht > 640 limit 5
      |                ^^^^^
      help: did you mean 'width'?
    """
    query = d.span.query or query
    lines = [f"error[{d.code}]: {d.message}"]
    if d.span != NOWHERE and query:
        lines += _snippet(d.span, query)
    for note in d.notes:
        place = ""
        text = note.span.query or query
        if note.span != NOWHERE and text:
            place = " ({}:{})".format(*line_and_column(text, note.span.start))
        lines.append(f"  note: {note.message}{place}")
    if d.help:
        lines.append(f"  help: {d.help}")
    return "\n".join(lines)


def line_and_column(query: str, offset: int) -> tuple[int, int]:
    """One-based line and column of a code point offset."""
    before = query[: max(offset, 0)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


_WIDEST_LINE: Final = 100


def _snippet(span: Span, query: str) -> list[str]:
    row, column = line_and_column(query, span.start)
    text = query.split("\n")[row - 1].rstrip("\r")
    length = max(1, min(span.stop - span.start, len(text) - column + 1))
    at = column - 1
    if len(text) > _WIDEST_LINE:  # a long line is cut around the place
        start = max(0, min(at - _WIDEST_LINE // 2, len(text) - _WIDEST_LINE))
        left, right = "…" if start else "", "…" if start + _WIDEST_LINE < len(text) else ""
        text = left + text[start : start + _WIDEST_LINE] + right
        at = at - start + len(left)
        length = max(1, min(length, len(text) - at))
    shown = "".join(
        c if c == "\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    pad = "".join("\t" if c == "\t" else " " for c in shown[:at])
    gutter = " " * len(str(row))
    return [
        f"{gutter}--> query:{row}:{column}",
        f"{row} | {shown}",
        f"{gutter} | {pad}{'^' * length}",
    ]
