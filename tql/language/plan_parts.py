"""What plans are made of, and plans made of other parts: inputs, expressions, leaves, subqueries."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import is_
from typing import assert_never

from tql.language.expr import Expr
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
    Leaf,
    Order,
    Plan,
    Sample,
    Scan,
    Split,
    Stacked,
    Windows,
)


def inputs(plan: Plan) -> tuple[Plan, ...]:
    """The plans that this one takes rows from; a subquery is a source, not an input."""
    match plan:
        case Scan() | Derived() | Grouped() | Split() | Windows() | Joined() | Stacked():
            return ()
        case Filter(input) | Expand(input) | Distinct(input) | Order(input) | Cut(input):
            return (input,)
        case Sample(input):
            return (input,)
        case Combine(first, steps):
            return (first, *(step.plan for step in steps))
        case _:
            assert_never(plan)


def with_inputs(plan: Plan, new: tuple[Plan, ...]) -> Plan:
    """The plan over other inputs, as many as `inputs(plan)` has; itself where they are its own."""
    if all(map(is_, inputs(plan), new)):
        return plan
    match plan:
        case Scan() | Derived() | Grouped() | Split() | Windows() | Joined() | Stacked():
            return plan
        case Filter() | Expand() | Distinct() | Order() | Cut() | Sample():
            return replace(plan, input=new[0])
        case Combine(_, steps):
            changed = tuple(replace(s, plan=p) for s, p in zip(steps, new[1:], strict=True))
            return replace(plan, first=new[0], steps=changed)
        case _:
            assert_never(plan)


def subqueries(leaf: Leaf) -> tuple[Bound, ...]:
    """The queries whose results the rows of `leaf` are made of."""
    match leaf:
        case Scan():
            return ()
        case Derived(query) | Grouped(query) | Split(query) | Windows(query):
            return (query,)
        case Joined(_, left, right):
            return (*subqueries(left), *subqueries(right))
        case Stacked(branches):
            return branches
        case _:
            assert_never(leaf)


def with_subqueries(leaf: Leaf, new: tuple[Bound, ...]) -> Leaf:
    """The leaf over other queries, as many as `subqueries(leaf)` has; itself where they are its own."""
    if all(map(is_, subqueries(leaf), new)):
        return leaf
    match leaf:
        case Scan():
            return leaf
        case Derived() | Grouped() | Split() | Windows():
            return replace(leaf, query=new[0])
        case Joined(_, left, right):
            first = len(subqueries(left))
            left, right = with_subqueries(left, new[:first]), with_subqueries(right, new[first:])
            return replace(leaf, left=left, right=right)
        case Stacked():
            return replace(leaf, branches=new)
        case _:
            assert_never(leaf)


def with_plan(bound: Bound, plan: Plan) -> Bound:
    """The query with another plan; itself where it is its own."""
    return bound if plan is bound.plan else replace(bound, plan=plan)


def with_leaf(plan: Plan, leaf: Plan) -> Plan:
    """The plan over another leaf."""
    if isinstance(plan, Leaf):
        return leaf
    return with_inputs(plan, tuple(with_leaf(p, leaf) for p in inputs(plan)))


def expressions(plan: Plan) -> tuple[Expr, ...]:
    """The expressions of this node alone."""
    match plan:
        case Filter(_, predicate):
            return (predicate,)
        case Distinct(_, keys):
            return keys
        case Order(_, sort_keys):
            return tuple(k.expr for k in sort_keys)
        case Sample(_, weight):
            return (weight,)
        case (
            Scan()
            | Derived()
            | Grouped()
            | Split()
            | Windows()
            | Joined()
            | Stacked()
            | Expand()
            | Cut()
            | Combine()
        ):
            return ()
        case _:
            assert_never(plan)


def with_expressions(plan: Plan, rule: Callable[[Expr], Expr]) -> Plan:
    """The node with `rule` applied to each of its expressions."""
    match plan:
        case Filter(_, predicate):
            return replace(plan, predicate=rule(predicate))
        case Distinct(_, keys):
            return replace(plan, keys=tuple(map(rule, keys)))
        case Order(_, sort_keys):
            return replace(plan, keys=tuple(replace(k, expr=rule(k.expr)) for k in sort_keys))
        case Sample(_, weight):
            return replace(plan, weight=rule(weight))
        case (
            Scan()
            | Derived()
            | Grouped()
            | Split()
            | Windows()
            | Joined()
            | Stacked()
            | Expand()
            | Cut()
            | Combine()
        ):
            return plan
        case _:
            assert_never(plan)


def walk_plan(plan: Plan) -> Iterator[Plan]:
    """The plan and everything below it down to its source."""
    yield plan
    for below in inputs(plan):
        yield from walk_plan(below)


def source_of(plan: Plan) -> Leaf:
    """What the row numbers of `plan` count."""
    while not isinstance(plan, Leaf):
        plan = inputs(plan)[0]
    return plan
