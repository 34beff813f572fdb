"""What a user function gives, found by calling it on the first rows of the data."""

from typing import Final, assert_never
from weakref import WeakKeyDictionary

import numpy as np

from tql.diagnostics import Span, error
from tql.engine import user_calls
from tql.engine.derived import frame_at
from tql.engine.reference import evaluate
from tql.engine.scan import Settings
from tql.engine.settle import settled_expr
from tql.forks import ForkLock
from tql.language.expr import (
    Column,
    Const,
    Expr,
    columns_of,
    needs_source,
    rewrite,
    substitute,
)
from tql.language.plan import Derived, Grouped, Joined, Leaf, Scan, Split, Stacked, Windows
from tql.language.plan_parts import source_of
from tql.language.user_function import UserFunction
from tql.schema import DType
from tql.sources.protocol import Source

FIRST_ROWS: Final = 64
_MOST_KNOWN: Final = 256  # types kept for one source

_LOCK: Final = ForkLock()
_FOUND: Final[WeakKeyDictionary[Source, dict[object, DType]]] = WeakKeyDictionary()


def stored(leaf: Leaf, arguments: tuple[Expr, ...]) -> tuple[Scan, tuple[Expr, ...]] | None:
    """The arguments as expressions over stored columns, and where these are; None where the rows of
    `leaf` are made of several (groups, arguments from both sides of a join).
    """
    if any(map(needs_source, arguments)) and not isinstance(leaf, Scan):
        return None  # what they ask about is the result, which is not there yet
    match leaf:
        case Scan():
            return leaf, arguments
        case Derived(query):
            known = {o.name: o.expr for o in query.outputs}
            return stored(source_of(query.plan), tuple(substitute(a, known) for a in arguments))
        case Joined():
            return _of_one_side(leaf, arguments)
        case Grouped() | Split() | Windows() | Stacked():
            return None
        case _:
            assert_never(leaf)


def _of_one_side(join: Joined, arguments: tuple[Expr, ...]) -> tuple[Scan, tuple[Expr, ...]] | None:
    read = frozenset[str]().union(*map(columns_of, arguments))
    for side, names in (
        (join.left, {c.column.name: c.left for c in join.columns}),
        (join.right, {c.column.name: c.right for c in join.columns}),
    ):
        own: dict[str, Expr] = {
            name: Column(known.name, known.dtype, known.nullable)
            for name, below in names.items()
            if below is not None
            for known in [side.schema[below]]
        }
        if read <= own.keys():
            return stored(side, tuple(substitute(a, own) for a in arguments))
    return None


def type_given(
    source: Source, function: UserFunction, arguments: tuple[Expr, ...], span: Span
) -> DType:
    """The type of what `function` gives for the first of FIRST_ROWS rows that has no NULL among its
    arguments (in batch form: for all of them). It is called once per source and
    arguments; constants of one type count as one.
    """
    key = (function, repr([rewrite(a, _without_value) for a in arguments]))
    with _LOCK:
        known = _FOUND.setdefault(source, {}).get(key)
    if known is not None:
        return known
    arguments = tuple(settled_expr(a, source, 0, Settings()) for a in arguments)
    rows = min(FIRST_ROWS, source.rows)
    frame = frame_at(source, np.arange(rows), arguments, seed=0)
    given = [(evaluate(a, frame), a.dtype) for a in arguments]
    found = user_calls.tried(function, given, rows, frame.named, span)
    if found is None:
        raise error(
            "type", f"what {function.name}() gives is not known: there is no row "
            f"with a value for every argument among the first {rows:,}", span,
            help="say it when registering: register_function(fn, returns='float64')",
        )  # fmt: skip
    with _LOCK:
        known_here = _FOUND.setdefault(source, {})
        if len(known_here) >= _MOST_KNOWN:
            known_here.clear()
        return known_here.setdefault(key, found)


def _without_value(e: Expr) -> Expr:
    """Constants count by their type, so that a parameter is not tried out in every run."""
    return Const(None, e.dtype) if isinstance(e, Const) else e
