"""What a user function gives, found by calling it on the first rows of the data."""

from threading import Lock
from typing import Final, assert_never
from weakref import WeakKeyDictionary

import numpy as np

from tql.diagnostics import Span, error
from tql.engine import user_calls
from tql.engine.derived import frame_at
from tql.engine.reference import evaluate
from tql.language.expr import Expr, substitute
from tql.language.plan import Derived, Grouped, Leaf, Scan, Split, Windows, source_of
from tql.language.user_function import UserFunction
from tql.schema import DType
from tql.sources.protocol import Source

FIRST_ROWS: Final = 64

_LOCK: Final = Lock()
_FOUND: Final[WeakKeyDictionary[Source, dict[object, DType]]] = WeakKeyDictionary()


def stored(leaf: Leaf, arguments: tuple[Expr, ...]) -> tuple[Scan, tuple[Expr, ...]] | None:
    """The arguments as expressions over stored columns, and where these are; None where the rows of
    `leaf` are made of several (a join, groups).
    """
    match leaf:
        case Scan():
            return leaf, arguments
        case Derived(query):
            known = {o.name: o.expr for o in query.outputs}
            return stored(source_of(query.plan), tuple(substitute(a, known) for a in arguments))
        case Grouped() | Split() | Windows():
            return None
        case _:
            assert_never(leaf)


def type_given(
    source: Source, function: UserFunction, arguments: tuple[Expr, ...], span: Span
) -> DType:
    """The type of what `function` gives for the first of FIRST_ROWS rows that has no NULL among its
    arguments (in batch form: for all of them). It is called once per source and arguments.
    """
    key = (function, repr(arguments))
    with _LOCK:
        known = _FOUND.setdefault(source, {}).get(key)
    if known is not None:
        return known
    rows = min(FIRST_ROWS, source.rows)
    frame = frame_at(source, np.arange(rows), arguments, seed=0)
    given = [(evaluate(a, frame), a.dtype) for a in arguments]
    found = user_calls.tried(function, given, rows, frame.named, span)
    if found is None:
        raise error(
            "type", f"what {function.name}() gives is not known: none of the first {rows} rows has "
            "a value for every argument", span,
            help="say it when registering: register_function(fn, returns='float64')",
        )  # fmt: skip
    with _LOCK:
        return _FOUND.setdefault(source, {}).setdefault(key, found)
