"""Columns of text for people: aligned, wide characters counted as two, nothing unprintable."""

import unicodedata
from collections.abc import Sequence
from typing import Literal, TypeAlias

Side: TypeAlias = Literal["left", "right"]


def printable(text: str) -> str:
    """The text on one line; control characters, which could steer a terminal, are replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def width(text: str) -> int:
    """Cells that the text takes in a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, cells: int) -> str:
    """At most so many cells of the text, the last an ellipsis where something is left out."""
    if width(text) <= cells:
        return text
    kept, used = [], 1
    for c in text:
        used += width(c)
        if used > cells:
            break
        kept.append(c)
    return "".join(kept) + "…"


def pad(text: str, cells: int, side: Side) -> str:
    """The text with blanks to fill so many cells; `side` is where the text stands."""
    blanks = " " * (cells - width(text))
    return text + blanks if side == "left" else blanks + text


def table(heads: Sequence[str], sides: Sequence[Side], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table without rules: the heads, then the rows, two blanks between columns."""
    lines = [heads, *rows]
    widths = [max(width(line[k]) for line in lines) for k in range(len(heads))]
    return [
        "  ".join(pad(t, w, s) for t, w, s in zip(line, widths, sides, strict=True)).rstrip()
        for line in lines
    ]
