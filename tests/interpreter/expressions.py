"""The value of an expression for one row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.interpreter import functions, json_values, scalars
from tests.interpreter.arrays import by_element, postponing, subscripted
from tests.interpreter.kinds import (
    BOOL,
    FLOAT64,
    INT64,
    IRREGULAR,
    JSON,
    Kind,
    RowError,
    Value,
    constant,
    constant_array,
)
from tql.grammar import syntax as s


@dataclass(frozen=True)
class Env:
    """What an expression may refer to.

    lookup    the value of a name, with the source before its dot
    position  of the row in FROM
    column    all values of a column of FROM, with its type
    params    the values of `?` or `$name`
    members   how many rows the group has; None where there is no group
    nowhere   whether only the type of a value is asked for
    """

    lookup: Callable[[str, str | None], Value]
    position: int = 0
    column: Callable[[str], tuple[Kind, Sequence[Value]]] | None = None
    params: Any = field(default=())
    members: int | None = None
    nowhere: bool = False


def is_true(e: s.Expr, env: Env) -> bool:
    """Whether WHERE keeps the row; an AND is left at the first term that is not TRUE."""
    if isinstance(e, s.Chain) and e.op is s.BinaryOp.AND:
        return all(is_true(t, env) for t in e.terms)
    return scalars.truth(value(e, env)) is True


def kind(e: s.Expr, env: Env) -> Kind:
    """The static type of `e`: that of its value for a row in which everything is NULL."""
    if env.nowhere:
        return value(e, env).kind

    def nothing(name: str, source: str | None) -> Value:
        return Value(env.lookup(name, source).kind, None)

    return value(e, replace(env, lookup=nothing, nowhere=True)).kind


def value(e: s.Expr, env: Env) -> Value:
    match e:
        case s.Call() | s.Subscript() | s.IsNull() | s.Like() | s.Between() | s.InList():
            with postponing(False):  # what they are of is evaluated as a whole
                return _value(e, env)
        case _:
            return _value(e, env)


def _value(e: s.Expr, env: Env) -> Value:
    match e:
        case s.Number() | s.String() | s.Boolean():
            return constant(e.value)
        case s.Parameter(key):
            return constant(env.params[key])
        case s.Array(items):
            return constant_array([value(i, env) for i in items])
        case s.Name(name, source):
            found = env.lookup(name, source)
            members = found.data if isinstance(found.data, list) else [found.data]
            if any(m is IRREGULAR for m in members):
                raise RowError("shape")
            return found
        case s.Unary(s.UnaryOp.NOT, operand):
            return by_element(_not, value(operand, env))
        case s.Unary(s.UnaryOp.NEG, operand):
            return by_element(scalars.minus, value(operand, env))
        case s.Unary(_, operand):
            return value(operand, env)
        case s.Chain(op, terms):
            return _chain(op is s.BinaryOp.AND, terms, env)
        case s.Binary(op, left, right):
            how = scalars.arithmetic if op.value in "+-*/%" else scalars.compare
            return by_element(lambda x, y: how(op.value, x, y), value(left, env), value(right, env))
        case s.Between():
            return _between(e, env)
        case s.InList(operand, choices, negated):
            several = _choices(choices, env)

            def among(x: Value) -> Value:
                found = [scalars.compare("==", x, c).data for c in several]
                return _maybe_not(scalars.disjunction(found), negated)

            return by_element(among, value(operand, env))
        case s.IsNull(operand, negated):
            # Whether a row has a list is known also where its lists make no array.
            x = env.lookup(operand.name, operand.source) if isinstance(operand, s.Name) else None
            x = x or value(operand, env)
            if env.members is not None and x.kind.grouped:  # of each member of the group
                return by_element(lambda m: Value(BOOL, (m.data is None) != negated), x)
            return Value(BOOL, (x.data is None) != negated)
        case s.Like(operand, pattern, fold_case, negated):

            def matches(x: Value, y: Value) -> Value:
                if not isinstance(x.data, str) or not isinstance(y.data, str):
                    return Value(BOOL, None)
                return _maybe_not(scalars.like(x.data, y.data, fold_case), negated)

            return by_element(matches, value(operand, env), value(pattern, env))
        case s.Subscript(operand, subscripts):
            return _subscript(value(operand, env), subscripts, env)
        case s.Call():
            return _call(e, env)
        case s.WeightCall(function, arms):
            return _weight(function, arms, env)
        case _:
            raise AssertionError(f"no reference for {e}")


def _not(v: Value) -> Value:
    return Value(BOOL, scalars.negation(scalars.truth(v)))


def _maybe_not(x: bool | None, negated: bool) -> Value:
    return Value(BOOL, scalars.negation(x) if negated else x)


def _chain(both: bool, terms: tuple[s.Expr, ...], env: Env) -> Value:
    """The first FALSE of an AND, the first TRUE of an OR decides; what follows is not looked at."""
    if any(kind(term, env).name == "array" for term in terms):
        first, *rest = terms
        values = [value(first, env)]
        with postponing(True) as outside:
            values += [value(term, env) for term in rest]
        result = _arrays_joined(both, values)
        late = (
            []
            if outside or result.data is None
            else [x for x in result.data.flat if isinstance(x, RowError)]
        )
        if late:
            raise late[0]
        return result
    unknown = False
    for term in terms:
        t = scalars.truth(value(term, env))
        if t is (not both):
            return Value(BOOL, t)
        unknown |= t is None
    return Value(BOOL, None if unknown else both)


def _arrays_joined(both: bool, values: list[Value]) -> Value:
    def join(x: Value, y: Value) -> Value:
        if isinstance(x.data, RowError):
            return Value(BOOL, x.data)
        a = scalars.truth(x)
        if a is (not both):
            return Value(BOOL, a)
        if isinstance(y.data, RowError):
            return Value(BOOL, y.data)
        b = scalars.truth(y)
        return Value(BOOL, scalars.conjunction(a, b) if both else scalars.disjunction([a, b]))

    result = values[0]
    for v in values[1:]:
        result = by_element(join, result, v, three_valued=True)
    return result


def _between(e: s.Between, env: Env) -> Value:
    if kind(e.operand, env).name == "array":  # of a group: each member
        return by_element(
            lambda x, low, high: _within(x, low, lambda: high, e.negated),
            *(value(part, env) for part in (e.operand, e.low, e.high)),
        )
    low = value(e.low, env)
    return _within(value(e.operand, env), low, lambda: value(e.high, env), e.negated)


def _within(x: Value, low: Value, high: Callable[[], Value], negated: bool) -> Value:
    """The upper bound is looked at where the lower one does not decide."""
    above = scalars.compare(">=", x, low).data
    if above is False:
        return _maybe_not(False, negated)
    below = scalars.compare("<=", x, high()).data
    return _maybe_not(scalars.conjunction(above, below), negated)


def _choices(choices: Any, env: Env) -> list[Value]:
    match choices:
        case tuple():
            return [value(c, env) for c in choices]
        case s.Array(items):
            return [value(c, env) for c in items]
        case _:
            return [constant(v) for v in env.params[choices.key]]


def _subscript(v: Value, subscripts: tuple[Any, ...], env: Env) -> Value:
    if v.kind.name == "json":
        data = v.data
        for subscript in subscripts:
            data = json_values.member(data, value(subscript, env).data)
        return Value(JSON, data)
    return subscripted(v, [_index(i, env) for i in subscripts])


def _index(i: Any, env: Env) -> int | slice | None:
    if not isinstance(i, s.Slice):
        return scalars.whole_index(value(i, env))
    parts = [None if p is None else value(p, env) for p in (i.start, i.stop, i.step)]
    if any(p is not None and p.data is None for p in parts):
        return None
    return slice(*(None if p is None else scalars.whole_index(p) for p in parts))


def _call(e: s.Call, env: Env) -> Value:
    match e.function, e.arguments:
        case "row_number", ():
            return Value(INT64, env.position)
        case "count", (s.Star(),):
            assert env.members is not None, "count(*) without a group"
            return Value(INT64, env.members)
        case "data", (s.Name(name), at) if not isinstance(at, s.Star):
            assert env.column is not None
            of, column = env.column(name)
            index = value(at, env).data
            if not -len(column) <= index < len(column):
                raise RowError("range")
            return Value(of, None) if env.nowhere else column[index]
        case "bm25_similarity", (s.Name(name), query) if not isinstance(query, s.Star):
            assert env.column is not None
            texts = [v.data for v in env.column(name)[1]]
            own = env.lookup(name, None).data
            return Value(FLOAT64, functions.bm25(texts, own, value(query, env).data))
        case function, arguments:
            written = [a for a in arguments if not isinstance(a, s.Star)]
            values = [value(a, env) for a in written]
            axis = e.axis
            if axis is None and function in functions.REDUCTIONS and len(values) == 2:
                axis = written[1]
                values = values[:1]
            along = None if axis is None else value(axis, env).data
            return functions.call(function, values, along)


def _weight(function: str, arms: tuple[s.Arm, ...], env: Env) -> Value:
    """The largest, or the sum, of the weights whose condition is true; 0 if none is."""
    found = [
        value(a.weight, env).data for a in arms if scalars.truth(value(a.condition, env)) is True
    ]
    if None in found:
        return Value(FLOAT64, None)
    if function == "max_weight":
        return Value(FLOAT64, float(max(found, default=0)))
    total = 0.0
    for w in found:
        total += w
    return Value(FLOAT64, total)
