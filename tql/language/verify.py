"""What must hold of a typed query after binding and after every pass.

A query that breaks a rule here is our mistake, never the user's, so the errors are assertions.
"""

from typing import assert_never

from tql.language.expr import Expr, columns_of
from tql.language.plan import (
    Bound,
    Combine,
    Cut,
    Derived,
    Distinct,
    Expand,
    Filter,
    Grouped,
    Order,
    Plan,
    Sample,
    Scan,
    Split,
    Windows,
    expressions,
    inputs,
    is_sequence,
    source_of,
)
from tql.schema import Bool, Schema


def verify(bound: Bound, *, after: str) -> None:
    """Raise AssertionError naming the pass, if the query breaks an invariant."""
    schema = source_of(bound.plan).schema
    names = [o.name for o in bound.outputs]
    assert len(set(names)) == len(names), f"after {after}: outputs repeat a name: {names}"
    for o in bound.outputs:
        _reads_only(o.expr, schema, after)
    _verify(bound.plan, schema, after)


def _verify(plan: Plan, schema: Schema, after: str) -> None:
    for below in inputs(plan):
        _verify(below, schema, after)
    for e in expressions(plan):
        _reads_only(e, schema, after)
    match plan:
        case Derived(query) | Windows(query):
            verify(query, after=after)
        case Grouped(query, keys, visible):
            verify(query, after=after)
            missing = [n for n in (*keys, *visible) if n not in query.schema]
            assert not missing, f"after {after}: groups of {missing}, which the rows do not have"
        case Split(query):
            verify(query, after=after)
            some = any(is_sequence(c.dtype) for c in query.schema)
            assert some, f"after {after}: nothing to split"
        case Filter(_, predicate):
            assert predicate.dtype == Bool(), f"after {after}: a filter on {predicate.dtype}"
        case Distinct(_, distinct_keys):
            assert distinct_keys, f"after {after}: a DISTINCT of nothing"
        case Order(_, sort_keys):
            assert sort_keys, f"after {after}: an order without keys"
        case Cut(_, offset):
            assert offset >= 0, f"after {after}: offset {offset}"
        case Combine(_, _, left, right):
            same = source_of(left) == source_of(right)
            assert same, f"after {after}: a set operation over two sources"
        case Scan() | Expand() | Sample():
            return
        case _:
            assert_never(plan)


def _reads_only(e: Expr, schema: Schema, after: str) -> None:
    missing = [c for c in columns_of(e) if c not in schema]
    assert not missing, f"after {after}: {e} reads {missing}, which the source does not have"
