"""LIKE with a pattern that each row brings.

A regular expression costs a hundred times more to make than to use, so a LIKE pattern that few
rows have is matched without one.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Arrow, Mask, Numbers
from tql.engine.comparing import bools, both, plain_text
from tql.engine.equality import codes, first_rows, paired
from tql.engine.text_rules import characters, matches
from tql.language.expr import TextLike

_WORTH_A_REGEX: Final = 64  # texts: so many take as long one by one as a regex does to be made
_SHORT: Final = 1000  # code points: a pattern that short always makes a regex, so no error is lost
_BLOCK: Final = 1 << 16  # rows that are Python text at a time


def like_rows(text: Any, patterns: Any, fold_case: bool) -> Numbers:
    """Each text of an Arrow array against its own pattern, which another one has; both may be
    dictionaries, whose pairs are then matched once each.
    """
    rows = len(text)
    valid = both(Arrow(plain_text(text)).valid, Arrow(plain_text(patterns)).valid)
    kinds = codes(Arrow(patterns), rows)
    if pa.types.is_dictionary(text.type) and pa.types.is_dictionary(patterns.type):
        pairs = paired(kinds, codes(Arrow(text), rows))
        some = first_rows(pairs)
        hits = _by_pattern(_taken(text, some), _taken(patterns, some), kinds[some], fold_case)
        return Numbers(hits[pairs], valid)
    return Numbers(_by_pattern(plain_text(text), plain_text(patterns), kinds, fold_case), valid)


def _taken(array: Any, rows: NDArray[np.int64]) -> Any:
    return plain_text(array.take(pa.array(rows)))


def _by_pattern(text: Any, patterns: Any, kinds: NDArray[np.int64], fold_case: bool) -> Mask:
    """bool (n,): text and patterns are plain, equal patterns have equal `kinds`; false for NULL."""
    result = np.zeros(len(kinds), np.bool_)
    order = np.argsort(kinds, kind="stable")
    counts = np.bincount(kinds)
    ends = np.cumsum(counts)
    many = np.flatnonzero(counts >= _WORTH_A_REGEX)
    for start, stop in zip((ends - counts)[many].tolist(), ends[many].tolist(), strict=True):
        group = order[start:stop]
        pattern = patterns[int(group[0])].as_py()
        if pattern is not None:
            result[group] = _by_regex(text.take(pa.array(group)), pattern, fold_case)
    few = order[(counts < _WORTH_A_REGEX)[kinds[order]]]
    for at in range(0, len(few), _BLOCK):
        block = few[at : at + _BLOCK]
        mine, theirs = (column.take(pa.array(block)).to_pylist() for column in (text, patterns))
        result[block] = _one_by_one(mine, theirs, fold_case)
    return result


def _by_regex(text: Any, pattern: str, fold_case: bool) -> Mask:
    hits: Mask = bools(matches(TextLike(pattern, fold_case), text)).values
    return hits


def _one_by_one(
    texts: Sequence[str | None], patterns: Sequence[str | None], fold_case: bool
) -> list[bool]:
    """Each text against the pattern at its place; equal patterns stand together."""
    result = []
    last: str | None = None
    parts: list[str] | None = None
    for text, pattern in zip(texts, patterns, strict=True):
        if text is None or pattern is None:
            result.append(False)
            continue
        if pattern != last:
            last, parts = pattern, _parts(pattern)
            if fold_case and parts is not None:
                # Beyond ASCII, what folds to what is known to the regex engine alone.
                parts = [p.lower() for p in parts] if pattern.isascii() else None
        if parts is None or (fold_case and not text.isascii()):
            result.append(bool(_by_regex(pa.array([text]), pattern, fold_case)[0]))
        else:
            result.append(_fits(text.lower() if fold_case else text, parts))
    return result


def _fits(text: str, parts: list[str]) -> bool:
    """Whether the text is these parts in order with anything between one and the next."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    at, end = len(first), len(text) - len(last)
    if at > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for part in parts[1:-1]:  # the earliest place of each leaves most to the next
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _parts(pattern: str) -> list[str] | None:
    """What stands between the stars of a pattern; None for one with ? in it, and for a long one."""
    if len(pattern) > _SHORT:
        return None
    if "\\" not in pattern:
        return None if "?" in pattern else pattern.replace("%", "*").split("*")
    parts = [""]
    for c, wild in characters(pattern):
        if not wild:
            parts[-1] += c
        elif c == "?":
            return None
        else:
            parts.append("")
    return parts
