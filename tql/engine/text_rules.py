"""Rules about one text (`TextRule`), over Arrow text; a LIKE pattern as a regular expression."""

import re
from collections.abc import Iterator
from typing import Any, assert_never

import numpy as np
import pyarrow as pa

from tql.diagnostics import error
from tql.engine.columns import Arrow, Numbers, Vec, pc
from tql.engine.comparing import ARROW_COMPARE, bools, both, codes_of, plain_text
from tql.language.expr import TextContains, TextIn, TextIs, TextLike, TextRule


def tested(rule: TextRule, text: Vec) -> Numbers:
    """The rule, once per distinct value where the column is a dictionary, else once per row."""
    assert isinstance(text, Arrow)
    array = text.array
    if not pa.types.is_dictionary(array.type):
        return bools(matches(rule, plain_text(array)))
    hits = bools(matches(rule, plain_text(array.dictionary)))
    codes, valid = codes_of(array)
    if not len(hits.values):
        return Numbers(np.zeros(len(array), np.bool_), valid)
    # A dictionary may itself hold a null.
    known = valid if hits.valid is None else both(valid, np.take(hits.valid, codes))
    return Numbers(np.take(hits.values, codes), known)  # twice as fast as hits.values[codes]


def matches(rule: TextRule, array: Any) -> Any:
    """A bool Arrow array: where `rule` holds. Text compares by code point, as UTF-8 bytes do."""
    match rule:
        case TextIs(op, value):
            return ARROW_COMPARE[op](array, pa.scalar(value, array.type))
        case TextIn(values):
            found = pc.is_in(array, value_set=pa.array(sorted(values), array.type))
            return pc.if_else(pc.is_valid(array), found, pa.scalar(None, pa.bool_()))
        case TextContains(needle):
            return pc.match_substring(array, needle)
        case TextLike(pattern, fold_case):
            try:
                regex = like_to_regex(pattern)
                return pc.match_substring_regex(array, regex, ignore_case=fold_case)
            except pa.ArrowInvalid as e:  # the only thing wrong with our expressions: their size
                raise error("value", f"a LIKE pattern of {len(pattern)} characters is too long",
                            help="use contains(…), or * in place of many ?") from e  # fmt: skip
        case _:
            assert_never(rule)


def like_to_regex(pattern: str) -> str:
    """The LIKE pattern as a regular expression for the whole text; linear-time engines only."""
    parts = (
        (".*" if c != "?" else ".") if wild else re.escape(c) for c, wild in characters(pattern)
    )
    return f"(?s)^{''.join(parts)}$"


def characters(pattern: str) -> Iterator[tuple[str, bool]]:
    """The characters that a LIKE pattern is made of, and whether each is a wildcard."""
    escaped = False
    for c in pattern:
        if c == "\\" and not escaped:
            escaped = True
            continue
        yield c, not escaped and c in "*%?"
        escaped = False
    if escaped:
        yield "\\", False
