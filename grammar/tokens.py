"""Cut the text of a query into the tokens of tql.lark."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from tql.diagnostics import Span
from tql.grammar import tables

END: Final = "$END"
BAD: Final = "BAD"  # a character that starts no token
OPEN_COMMENT: Final = "OPEN_COMMENT"  # a block comment that does not end


@dataclass(frozen=True, slots=True)
class Tokens:
    """Kinds (names of terminals) and places of the tokens of `text`; the last one is END, or the first
    that is none (BAD, OPEN_COMMENT).
    """

    text: str
    kinds: list[str]
    starts: list[int]
    stops: list[int]

    def word(self, i: int) -> str:
        """The text of token `i`, '' at and beyond either end."""
        return self.text[self.starts[i] : self.stops[i]] if 0 <= i < len(self.kinds) else ""

    def span(self, i: int) -> Span:
        return Span(self.starts[i], self.stops[i])


def keywords() -> tuple[str, ...]:
    """The reserved words of the language, in lower case and sorted."""
    return tables.KEYWORDS


def is_bare_name(name: str) -> bool:
    """Whether `name` can stand in a query without quotes."""
    return re.fullmatch(_bare_name(), name) is not None and name.lower() not in tables.KEYWORDS


def tokenize(text: str) -> Tokens:
    reserved = _reserved()
    kinds, starts, stops = [], [], []
    for match in _pattern().finditer(text):
        kind = match.lastgroup
        if kind is None:  # blanks and comments are not in a group
            continue
        start, stop = match.span()
        if kind == "IDENT":
            # Letters beyond ASCII may fold into ASCII ones, as U+212A does into k.
            word = match.group()
            kind = reserved.get(word.lower(), kind) if word.isascii() else kind
        kinds.append(kind)
        starts.append(start)
        stops.append(stop)
        if kind in (BAD, OPEN_COMMENT):
            return Tokens(text, kinds, starts, stops)
    return Tokens(text, [*kinds, END], [*starts, len(text)], [*stops, len(text)])


def has_comments(text: str) -> bool:
    """Whether more than blanks stand between the tokens of `text`."""
    tokens = tokenize(text)
    stops = [0, *tokens.stops]
    gaps = zip(stops, tokens.starts, strict=False)
    return any(text[stop:start].strip() for stop, start in gaps)


@cache
def _reserved() -> dict[str, str]:
    return {word: word.upper() for word in tables.KEYWORDS}


@cache
def _bare_name() -> str:
    return next(t.removeprefix("IDENT ") for t in tables.TERMINALS if t.startswith("IDENT "))


@cache
def _pattern() -> re.Pattern[str]:
    """One regex for all tokens; an unfinished comment comes before the operators it starts with."""
    terminals = (t.split(" ", 1) for t in tables.TERMINALS)
    groups = [f"(?P<{n}>{regex})" for n, regex in terminals]
    groups = [f"(?P<{OPEN_COMMENT}>/\\*)", *groups, f"(?P<{BAD}>.)"]
    return re.compile("|".join([*tables.IGNORED, *groups]), re.DOTALL)
