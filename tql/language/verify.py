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
    Joined,
    Order,
    Plan,
    Sample,
    Scan,
    Split,
    Stacked,
    Windows,
    is_sequence,
)
from tql.language.plan_parts import expressions, inputs, source_of
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
            columns = query.schema
            missing = [n for n in (*keys, *visible) if n not in columns]
            assert not missing, f"after {after}: groups of {missing}, which the rows do not have"
        case Split(query):
            verify(query, after=after)
            some = any(is_sequence(c.dtype) for c in query.schema)
            assert some, f"after {after}: nothing to split"
        case Joined():
            _verify_join(plan, after)
        case Stacked(branches, columns):
            for branch in branches:
                verify(branch, after=after)
                assert set(branch.schema.names) == set(columns.names), (
                    f"after {after}: other columns"
                )
        case Filter(_, predicate):
            assert predicate.dtype == Bool(), f"after {after}: a filter on {predicate.dtype}"
        case Distinct(_, distinct_keys):
            assert distinct_keys, f"after {after}: a DISTINCT of nothing"
        case Order(_, sort_keys):
            assert sort_keys, f"after {after}: an order without keys"
        case Cut(_, offset):
            assert offset >= 0, f"after {after}: offset {offset}"
        case Combine(first, steps):
            assert steps, f"after {after}: a set operation of one query"
            source = source_of(first)
            same = all(source_of(step.plan) == source for step in steps)
            assert same, f"after {after}: a set operation over two sources"
        case Scan() | Expand() | Sample():
            return
        case _:
            assert_never(plan)


def _verify_join(join: Joined, after: str) -> None:
    left, right = join.left.schema, join.right.schema
    for side in (join.left, join.right):
        _verify(side, side.schema, after)
    for c in join.columns:
        assert c.left is None or c.left in left, f"after {after}: no column {c.left!r} on the left"
        assert c.right is None or c.right in right, f"after {after}: no {c.right!r} on the right"
    for a, b in join.keys:
        _reads_only(a, left, after)
        _reads_only(b, right, after)
    for condition, schema in (
        (join.only_left, left), (join.only_right, right), (join.rest, join.schema)
    ):  # fmt: skip
        if condition is not None:
            _reads_only(condition, schema, after)
            assert condition.dtype == Bool(), f"after {after}: a join on {condition.dtype}"


def _reads_only(e: Expr, schema: Schema, after: str) -> None:
    missing = [c for c in columns_of(e) if c not in schema]
    assert not missing, f"after {after}: {e} reads {missing}, which the source does not have"
