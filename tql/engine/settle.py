"""Calls that need to see the whole source, replaced once the source is known (reference §12).

`data(column, i)` becomes the value that stands there, `bm25_similarity(text, 'query')` a node that has
the statistics of the whole column with it. What is left depends on a row alone, so that it can be
evaluated by fragment, merged into what lies below, and compared by what it prints as.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tql.diagnostics import counted, data_error, error
from tql.engine import bm25
from tql.engine.columns import Arrow, one_array, read
from tql.engine.computed import row_name, take
from tql.engine.frame import Frame
from tql.engine.reference import evaluate
from tql.engine.scan import Settings, over
from tql.language.expr import (
    Bm25Score,
    Call,
    Cell,
    Column,
    Const,
    Expr,
    StoredValue,
    columns_of,
    needs_source,
    rewrite,
)
from tql.language.fold import refold
from tql.language.plan import Bound, Output, Plan
from tql.language.plan_parts import expressions, inputs, with_expressions, with_inputs
from tql.schema import Binary, Bool, DType, Float, Int, Json, Label, List, Opaque, Text, Time
from tql.sources.protocol import Fragment, Source


def settled(bound: Bound, source: Source, seed: int, settings: Settings) -> Bound:
    """The query over `source`, the leaf of its plan; the same object where nothing is to be settled."""
    if not any(map(needs_source, _all_expressions(bound))):
        return bound
    known: list[tuple[Call, Expr]] = []

    def rule(e: Expr) -> Expr:
        return _settled(e, source, seed, settings, known)

    outputs = tuple(Output(o.name, rule(o.expr)) for o in bound.outputs)
    return Bound(_over_plan(bound.plan, rule), outputs)


def settled_expr(e: Expr, source: Source, seed: int, settings: Settings) -> Expr:
    """The expression over `source`."""
    return _settled(e, source, seed, settings, [])


def _all_expressions(bound: Bound) -> list[Expr]:
    found = [o.expr for o in bound.outputs]
    waiting = [bound.plan]
    while waiting:
        plan = waiting.pop()
        found += expressions(plan)
        waiting += inputs(plan)
    return found


def _over_plan(plan: Plan, rule: Callable[[Expr], Expr]) -> Plan:
    below = tuple(_over_plan(p, rule) for p in inputs(plan))
    return with_expressions(with_inputs(plan, below), rule)


def _settled(
    e: Expr, source: Source, seed: int, settings: Settings, known: list[tuple[Call, Expr]]
) -> Expr:
    if not needs_source(e):
        return e

    def replaced(node: Expr) -> Expr:
        for call, result in known:
            if call == node:
                return replace(result, span=node.span)
        match node:
            case Call("data"):
                made = _value(node, source)
            case Call("bm25_similarity"):
                made = _with_statistics(node, source, seed, settings)
            case _:
                return node
        known.append((node, made))
        return made

    return refold(rewrite(e, replaced))


# -- data() ------------------------------------------------------------------------------------


def _value(call: Call, source: Source) -> Expr:
    column, row = call.arguments
    assert isinstance(column, Column) and isinstance(row, Const)
    at = row.value + source.rows if row.value < 0 else row.value
    if not 0 <= at < source.rows:
        raise error(
            "range", f"there is no row {row.value}: FROM has {counted(source.rows, 'row')}", row.span,
            help="rows count from 0, and from the end with -1; data() counts before WHERE",
        )  # fmt: skip
    array = one_array(take(source, np.array([at]), [column.name]).column(column.name))
    for flaw in read(array, column.dtype)[1]:
        reason = flaw.reasons.get(0)
        what = flaw.what.format(repr(column.name)) + (f" ({reason})" if reason else "")
        raise data_error(flaw.code, f"{what} in row {row_name(source, at)}", span=column.span,
                         help="name another row")  # fmt: skip
    found = _constant(array, column.dtype)
    if found is not None:
        return Const(found[0], found[1], span=call.span)
    nullable = bool(array.null_count) or isinstance(column.dtype, Json)
    return StoredValue(Cell(array), column.dtype, nullable, span=call.span)


def _constant(array: Any, dtype: DType) -> tuple[Any, DType] | None:
    """The value as a literal would stand for it, and its type; None where none could."""
    if array.null_count:
        return None
    match dtype:
        case Label() if pa.types.is_dictionary(array.type):
            return array.indices[0].as_py(), dtype
        case Bool() | Int() | Float() | Text() | Label():
            return array[0].as_py(), dtype
        case Time():
            return int(array[0].value), dtype
        case List(grouped=False):
            return _array(array[0].as_py(), dtype)
        case List() | Json() | Binary() | Opaque():
            return None


def _array(value: Any, dtype: DType) -> tuple[Any, DType] | None:
    """Nested tuples and the type with all sizes; None for NULL inside, and for lengths that differ."""
    if not isinstance(dtype, List):
        plain = isinstance(dtype, Bool | Int | Float | Text | Label) and value is not None
        return (value, dtype) if plain else None
    if value is None:
        return None
    parts = [_array(v, dtype.item) for v in value]
    found = [p for p in parts if p is not None]
    if len(found) < len(parts) or not found:
        return None
    types = [t for _, t in found]
    if any(t != types[0] for t in types):
        return None
    return tuple(v for v, _ in found), List(types[0], len(found))


# -- bm25_similarity() -------------------------------------------------------------------------


def _with_statistics(call: Call, source: Source, seed: int, settings: Settings) -> Expr:
    """The call with the words of the query, their weights and the mean length."""
    text, sought = call.arguments
    assert isinstance(sought, Const)
    words = bm25.distinct(sought.value)
    columns = sorted(columns_of(text))
    name = partial(row_name, source)

    def counted(fragment: Fragment) -> bm25.Statistics:
        table = source.read(fragment.index, columns) if columns else None
        frame = Frame(table, np.arange(fragment.start, fragment.stop), seed, name)
        vec = evaluate(text, frame)
        assert isinstance(vec, Arrow)
        return bm25.statistics(vec.array, words)

    parts = over(source, source.fragments, counted, settings, columns)
    query = bm25.weighed(sought.value, parts)
    return Bm25Score(text, query.words, query.weights, query.mean_length, span=call.span)
