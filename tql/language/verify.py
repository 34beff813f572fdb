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
    Filter,
    Order,
    Plan,
    Sample,
    Scan,
    source_of,
)
from tql.schema import Bool, Schema


def verify(bound: Bound, *, after: str) -> None:
    """Raise AssertionError naming the pass, if the query breaks an invariant."""
    schema = schema_of(source_of(bound.plan))
    names = [o.name for o in bound.outputs]
    assert len(set(names)) == len(names), f"after {after}: outputs repeat a name: {names}"
    for o in bound.outputs:
        _reads_only(o.expr, schema, after)
    _verify(bound.plan, schema, after)


def schema_of(source: Scan | Derived) -> Schema:
    """The columns that expressions over this source may name."""
    return source.schema if isinstance(source, Scan) else source.query.schema


def _verify(plan: Plan, schema: Schema, after: str) -> None:
    match plan:
        case Scan():
            return
        case Derived(query):
            verify(query, after=after)
        case Filter(input, predicate):
            _verify(input, schema, after)
            assert predicate.dtype == Bool(), f"after {after}: a filter on {predicate.dtype}"
            _reads_only(predicate, schema, after)
        case Order(input, keys):
            _verify(input, schema, after)
            assert keys, f"after {after}: an order without keys"
            for key in keys:
                _reads_only(key.expr, schema, after)
        case Cut(input, offset):
            _verify(input, schema, after)
            assert offset >= 0, f"after {after}: offset {offset}"
        case Sample(input, weight):
            _verify(input, schema, after)
            _reads_only(weight, schema, after)
        case Combine(_, _, left, right):
            same = source_of(left) == source_of(right)
            assert same, f"after {after}: a set operation over two sources"
            _verify(left, schema, after)
            _verify(right, schema, after)
        case _:
            assert_never(plan)


def _reads_only(e: Expr, schema: Schema, after: str) -> None:
    missing = [c for c in columns_of(e) if c not in schema]
    assert not missing, f"after {after}: {e} reads {missing}, which the source does not have"
