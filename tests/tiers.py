"""Conditions as text over `Pieces`, evaluated by one tier."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.strategies import TYPES
from tql.diagnostics import Diagnostic, TqlDataError
from tql.engine.scan import Settings, Tier, scan
from tql.grammar import syntax as s
from tql.grammar.parser import parse
from tql.language.bind import bind
from tql.language.expr import Expr
from tql.language.plan import Filter
from tql.rowset import from_words
from tql.sources.protocol import Source


def written(condition: str) -> s.Expr:
    body = parse(f"select * where {condition}").body
    assert isinstance(body, s.Select) and body.where is not None
    return body.where


def bound(condition: str, source: Source) -> Expr:
    text = f"select * where {condition}"
    plan = bind(parse(text), text, here=source.schema, tables=no_tables).plan
    assert isinstance(plan, Filter)
    return plan.predicate


def no_tables(*_: Any) -> Any:
    raise AssertionError("no FROM here")


def columns_in(*texts: str) -> list[str]:
    words = {w for t in texts for w in re.findall(r"\w+", re.sub(r"'(?:''|[^'])*'", "", t))}
    return [name for name in TYPES if name in words]


def rows_true(
    conditions: Sequence[str], source: Source, tier: Tier, threads: int = 1
) -> list[list[int]]:
    words = scan(source, [bound(c, source) for c in conditions], 0, Settings(tier, threads))
    for w in words:
        assert w.dtype == np.uint64 and len(w) == (source.rows + 63) // 64
    return [from_words(w, source.rows).to_numpy().tolist() for w in words]


def outcome(
    conditions: Sequence[str], source: Source, tier: Tier, threads: int = 1
) -> list[list[int]] | Diagnostic:
    """The rows, or the error in their place."""
    try:
        return rows_true(conditions, source, tier, threads)
    except TqlDataError as e:
        return e.diagnostic
