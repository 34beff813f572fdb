"""Expressions as written → typed expressions: names, parameters, functions."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from tql.diagnostics import NOWHERE, Note, Span, did_you_mean, error, first_names
from tql.grammar import syntax as s
from tql.language import functions, json_rules, operators, other_names
from tql.language.array_literals import listed, literal
from tql.language.expr import (
    ArithOp,
    Arm,
    Column,
    CompareOp,
    Const,
    Expr,
    IsNull,
    Slice,
    WeightCase,
    WeightKind,
)
from tql.language.names import Names
from tql.language.subscripts import subscript
from tql.language.user_functions import Users
from tql.schema import Bool, Json, Label, Opaque, Schema, Text

_COMPARE = {op.value: op for op in CompareOp}
_ARITH = {op.value: op for op in ArithOp}

Params = Sequence[Any] | Mapping[str, Any] | None


@dataclass(slots=True)
class Parameters:
    """The values for `?` and `$name`, and which of them the query has used."""

    values: Params
    used: set[int | str] = field(default_factory=set)

    def __post_init__(self) -> None:
        given: Any = self.values
        if getattr(given, "ndim", 0) == 1 and hasattr(given, "tolist"):
            self.values = _listed(given)
        elif isinstance(given, str | bytes) or not (
            given is None or isinstance(given, Sequence | Mapping)
        ):
            raise error("parameter", f"params is a {type(given).__name__}; expected a list for ?, "
                        "or a dict for $name", help="for example params=[3]")  # fmt: skip

    def take(self, p: s.Parameter) -> Any:
        """The value of `p`; a parameter error where there is none."""
        shown = "?" if isinstance(p.key, int) else f"${p.key}"
        match p.key, self.values:
            case int(), Mapping():
                raise error("parameter", "? needs a list of values, and a dict was given", p.span,
                            help="write $name, or pass params=[…]")  # fmt: skip
            case str(), Sequence():
                raise error("parameter", f"{shown} needs a dict of values, and a list was given",
                            p.span, help="write ?, or pass params={…}")  # fmt: skip
            case int(at), Sequence() as values if at < len(values):
                value = values[at]
            case str(name), Mapping() as named if name in named:
                value = named[name]
            case _:
                given = (
                    [f"${name}" for name in self.values] if isinstance(self.values, Mapping) else []
                )
                notes = [Note(f"given: {first_names(given)}")] if given else []
                raise error("parameter", f"no value was given for {shown}", p.span, notes=notes,
                            help="pass it with params= (or -p on the command line)")  # fmt: skip
        if value is None:
            raise error("parameter", f"the value of {shown} is None", p.span,
                        help="pass a value; a test for NULL is written  x is null")  # fmt: skip
        self.used.add(p.key)
        return value

    def check_all_used(self) -> None:
        """A parameter error for values that the query does not name."""
        match self.values:
            case None:
                return
            case Mapping() as named:
                extra = [k for k in named if k not in self.used]
                if extra:
                    known = ", ".join(f"${k}" for k in named if k in self.used) or "none"
                    raise error("parameter", f"the query has no parameter ${extra[0]}",
                                help=f"leave it out; the query uses {known}")  # fmt: skip
            case values:
                if len(values) != len(self.used):
                    raise error(
                        "parameter",
                        f"values given: {len(values)}; parameters in the query: {len(self.used)}",
                        help="give one value for each ?",
                    )


def _listed(values: Any) -> Any:
    """An array as a list of its values; `tolist` makes integers of nanoseconds."""
    is_times = getattr(getattr(values, "dtype", None), "kind", "") == "M"
    return list(values) if is_times else values.tolist()


@dataclass(slots=True)
class ExprBinder:
    """Binds expressions over the columns of a FROM, `schema`, by the names that it gives them.

    `aliases` are select items by name; `prefer_alias` says whether they win over columns (they do
    in ORDER BY; in WHERE a column wins). Inside the select list there are none. `computed` are the
    columns whose values may be errors of expressions below.
    """

    schema: Schema
    parameters: Parameters
    next_site: Callable[[], int]
    names: Names
    aliases: Mapping[str, Expr] = field(default_factory=dict)
    prefer_alias: bool = False
    users: Users = field(default_factory=Users)
    computed: frozenset[str] = frozenset()

    def bind(self, e: s.Expr) -> Expr:
        """The typed form of `e`."""
        match e:
            case s.Number(value):
                return operators.constant(value, e.span)
            case s.String(value):
                return operators.constant(value, e.span)
            case s.Boolean(value):
                return Const(value, Bool(), span=e.span)
            case s.Parameter():
                return self._parameter(e)
            case s.Name():
                return self._name(e)
            case s.Unary(op, operand):
                return self._unary(op, self.bind(operand), e.span)
            case s.Chain(op, terms):
                bound = [operators.condition(self.bind(t)) for t in terms]
                join = operators.conjunction if op is s.BinaryOp.AND else operators.disjunction
                return join(bound, e.span)
            case s.Binary(op, left, right):
                first = self.bind(left)
                self._not_any_of_sql(e, first)
                return self._binary(op, first, self._beside(first, right), e.span)
            case s.Like(operand, pattern, fold_case, negated):
                test = operators.like(self.bind(operand), self.bind(pattern), fold_case, e.span)
                return operators.negate_truth(test, e.span) if negated else test
            case s.InList(operand, choices, negated):
                first = self.bind(operand)
                test = operators.one_of(first, self._choices(first, choices), e.span)
                return operators.negate_truth(test, e.span) if negated else test
            case s.Between(operand, low, high, negated):
                test = operators.between(
                    self.bind(operand), self.bind(low), self.bind(high), e.span
                )
                return operators.negate_truth(test, e.span) if negated else test
            case s.IsNull(operand, negated):
                return self._is_null(self._of_any_type(operand), negated, e.span)
            case s.Call():
                return self._call(e)
            case s.WeightCall(name, arms):
                return self._weights(WeightKind(name), arms, e.span)
            case s.Array(items):
                return literal([self.bind(i) for i in items], e.span)
            case s.Subscript(value, subscripts):
                whole = self.bind(value)
                part = self._part_of(whole, subscripts, e.span)
                return part or self._subscript(whole, subscripts, e.span)
            case _:
                assert_never(e)

    def _parameter(self, p: s.Parameter) -> Expr:
        value = self.parameters.take(p)
        if isinstance(value, set | frozenset):
            raise error("parameter", "a set has no order, so it cannot be an array", p.span,
                        help="pass a list, or write  … in ?")  # fmt: skip
        if isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0:
            return listed(value, p.span)
        return operators.constant(value, p.span)

    def _part_of(
        self, operand: Expr, subscripts: tuple[s.Expr | s.Slice, ...], span: Span
    ) -> Expr | None:
        """`image['path']`, which is a column of its own; None for every other subscript."""
        match operand, subscripts:
            case Column(name), (s.String(part),) if self._is_hidden(f"{name}.{part}"):
                return self.column(f"{name}.{part}", span)
            case _:
                return None

    def _is_hidden(self, name: str) -> bool:
        return any(c.name == name for c in self.schema.hidden)

    def find(self, n: s.Name) -> str | None:
        """The leaf's name of the column that `n` names, also `image.path`; None where there is none."""
        part = f"{n.source}.{n.name}"
        if n.source is not None and n.source not in self.names.aliases and self._is_hidden(part):
            return part
        return self.names.find(n)

    def _subscript(
        self, operand: Expr, subscripts: tuple[s.Expr | s.Slice, ...], span: Span
    ) -> Expr:
        if isinstance(operand.dtype, Json):
            for key in subscripts:
                if isinstance(key, s.Slice):
                    raise error("type", "a JSON value has elements and members, no slices", span,
                                help="take one element: column['key'][0]")  # fmt: skip
                operand = json_rules.item(operand, self.bind(key), span)
            return operand

        def bound(e: s.Expr | None) -> Expr | None:
            return None if e is None else self.bind(e)

        parts = [
            Slice(bound(p.start), bound(p.stop), bound(p.step))
            if isinstance(p, s.Slice)
            else self.bind(p)
            for p in subscripts
        ]
        return subscript(operand, parts, span)

    def _name(self, n: s.Name) -> Expr:
        aliased = self.aliases.get(n.name) if n.source is None else None
        if aliased is not None and self.prefer_alias:
            return aliased
        found = self.find(n)
        if found is not None:
            column = self.schema[found]
            if isinstance(column.dtype, Opaque):
                raise error("unsupported", f"columns of type {column.dtype} cannot be used in a query",
                            n.span,
                            help=f"one can be selected, loaded and tested:  {n.name} is null")  # fmt: skip
            return self.column(found, n.span)
        if aliased is not None:
            return aliased
        if n.source is not None:
            raise self.names.not_in_source(n)
        raise error("unknown_column", f"no column named {n.name!r}", n.span,
                    help=self._instead_of_column(n.name))  # fmt: skip

    def _instead_of_column(self, name: str) -> str:
        known = (*self.names.alone(), *self.aliases)
        if name.lower() in other_names.COLUMNS:
            return other_names.COLUMNS[name.lower()]
        words = re.split(r"[^\w/]+", name)
        if len(words) > 1 and words[0] in known:
            return f"double quotes make one name of it; without them: {name}"
        near = did_you_mean(name, known)
        if near is None and name.lower() in functions.FUNCTIONS:
            return f"a function takes parentheses:  {functions.FUNCTIONS[name.lower()].signature}"
        columns = first_names(self.names.spellings())
        return near or f"the columns are {columns}; text goes in single quotes: '{name}'"

    def _unary(self, op: s.UnaryOp, e: Expr, span: Span) -> Expr:
        match op:
            case s.UnaryOp.NOT:
                return operators.negate_truth(operators.condition(e), span)
            case s.UnaryOp.NEG | s.UnaryOp.POS:
                e = json_rules.number(e)
                if not operators.is_number(operators.element_type(e.dtype)):
                    raise error("type", f"{op.value} needs a number, not {e.dtype}", e.span,
                                help="name a column of numbers")  # fmt: skip
                return operators.negative(e, span) if op is s.UnaryOp.NEG else e
            case _:
                assert_never(op)

    def _binary(self, op: s.BinaryOp, left: Expr, right: Expr, span: Span) -> Expr:
        if op.value in _COMPARE:
            return operators.compare(_COMPARE[op.value], left, right, span)
        return operators.arith(_ARITH[op.value], left, right, span)

    def _not_any_of_sql(self, e: s.Binary, first: Expr) -> None:
        match e:
            case s.Binary(op, _, s.Call("any" | "all")) if op.value in _COMPARE:
                columns = {c.name: c.dtype for c in self.schema}
                wrong = other_names.compared_with_any(e, first, columns)
                if wrong is not None:
                    raise wrong

    def _beside(self, first: Expr, e: s.Expr) -> Expr:
        """The operand that stands beside `first`; a bare word there is often text without quotes."""
        if (
            isinstance(e, s.Name)
            and e.source is None
            and isinstance(first.dtype, Text | Label)
            and not self.names.knows(e.name)
            and e.name not in self.aliases
        ):
            raise error("unknown_column", f"no column named {e.name!r}", e.span,
                        help=f"text goes in single quotes: '{e.name}'")  # fmt: skip
        return self.bind(e)

    def _choices(
        self, first: Expr, choices: tuple[s.Expr, ...] | s.Array | s.Parameter
    ) -> list[Expr]:
        match choices:
            case s.Array(items):
                return [self._beside(first, i) for i in items]
            case s.Parameter():
                value = self.parameters.take(choices)
                if hasattr(value, "tolist"):
                    value = _listed(value)
                if not isinstance(value, list | tuple | set | frozenset | range):
                    raise error("parameter", "IN needs a list of values", choices.span,
                                help="write  in (?)  for a single value")  # fmt: skip
                if any(v is None for v in value):
                    raise error("parameter", "a value in the list is None", choices.span,
                                help="leave it out, and add  or … is null  to the query")  # fmt: skip
                return [operators.constant(v, choices.span) for v in value]
            case _:
                return [self._beside(first, i) for i in choices]

    def _of_any_type(self, e: s.Expr) -> Expr:
        """The typed form of what IS NULL asks about: also a column that nothing else may use."""
        shadowed = self.prefer_alias and isinstance(e, s.Name) and e.name in self.aliases
        return (None if shadowed else self.opaque(e)) or self.bind(e)

    def opaque(self, e: s.Expr) -> Column | None:
        """The column that `e` names, where it is one of a type that expressions cannot use."""
        found = self.find(e) if isinstance(e, s.Name) else None
        if found is None or not isinstance(self.schema[found].dtype, Opaque):
            return None
        return self.column(found, e.span)

    def column(self, name: str, span: Span) -> Column:
        """The column that the leaf calls so."""
        c = self.schema[name]
        return Column(c.name, c.dtype, c.nullable, computed=name in self.computed, span=span)

    def _is_null(self, e: Expr, negated: bool, span: Span) -> Expr:
        if isinstance(e, Const):
            return Const(negated, Bool(), span=span)
        if isinstance(e, Column) and isinstance(e.dtype, Json):
            e = replace(e, nullable=True)  # JSON's null is NULL, too
        test: Expr = IsNull(e, span=span)
        return operators.negate_truth(test, span) if negated else test

    def bind_weight(self, e: s.Expr) -> Expr:
        """The typed form of an expression that is the whole weight of a SAMPLE BY."""
        return self._call(e, as_weight=True) if isinstance(e, s.Call) else self.bind(e)

    def _call(self, call: s.Call, as_weight: bool = False) -> Expr:
        where = call.name_span if call.name_span != NOWHERE else call.span
        function = functions.FUNCTIONS.get(call.function)
        if function is None and call.function in self.users.known:
            return self._user_call(call)
        if call.function == "count":
            raise error("unsupported", "count(*) counts the rows of a group, and there is no "
                        "GROUP BY here", where,
                        help="write  … group by x having count(*) > 1;  a whole result is counted by "
                        "len(view) in Python, and by  tql run  under its table")  # fmt: skip
        if function is None:
            raise error("unknown_function", f"no function named {call.function!r}", where,
                        help=self._instead_of_function(call.function))  # fmt: skip
        if any(isinstance(a, s.Star) for a in call.arguments):
            raise error("arity", f"{function.name}() takes plain arguments", call.span,
                        help=f"write {function.signature}")  # fmt: skip
        written = [a for a in call.arguments if not isinstance(a, s.Star)]
        axis = call.axis
        if function.axis:
            self._axis_comes_last(function, written)
        if function.axis and axis is None and len(written) == function.arguments[1] + 1:
            axis = written.pop()
        if axis is not None and not function.axis:
            raise error("arity", f"{function.name}() has no axis", axis.span,
                        help=f"write {function.signature}")  # fmt: skip
        functions.check_arity(function, len(written), axis is not None, call.span)
        site = self.next_site() if function.name == "random" else 0
        values = tuple(map(self.bind, written))
        at = None if axis is None else self._axis(axis)
        bind = function.as_weight if as_weight and function.as_weight else function.bind
        return bind(functions.Arguments(values, at, call.span, site))

    def _axis_comes_last(self, function: functions.Function, written: list[s.Expr]) -> None:
        for e in written:
            match e:
                case s.Binary(s.BinaryOp.EQ, s.Name("axis" | "axes" as name, None)):
                    if not self.names.knows(name) and name not in self.aliases:
                        raise error("arity", f"{function.name}() takes the axis as the last of its "
                                    "arguments, by the name axis", e.span,
                                    help=f"write {function.name}(x, axis=0)")  # fmt: skip

    def _instead_of_function(self, name: str) -> str:
        if self.names.knows(name):
            return f"{name!r} is a column; an element of a list is  {name}[0]"
        if name in other_names.FUNCTIONS:
            return other_names.FUNCTIONS[name]
        near = did_you_mean(name, (*functions.known_names(), *self.users.known))
        return near or f"the functions are {', '.join(functions.FUNCTIONS)}"

    def _user_call(self, call: s.Call) -> Expr:
        function = self.users.known[call.function]
        written = [a for a in call.arguments if not isinstance(a, s.Star)]
        if call.axis is not None or len(written) < len(call.arguments):
            raise error("arity", f"{function.name}() takes plain arguments", call.span,
                        help=f"write {function.signature}")  # fmt: skip
        return self.users.call(function, tuple(map(self.bind, written)), call.span)

    def _axis(self, e: s.Expr) -> int:
        bound = self.bind(e)
        match bound:
            case Const(int(value)) if not isinstance(value, bool):
                return value
            case _:
                raise error("type", "an axis is a constant whole number", bound.span,
                            help="for example  axis=0,  or  axis=-1  for the last")  # fmt: skip

    def _weights(self, kind: WeightKind, arms: tuple[s.Arm, ...], span: Span) -> Expr:
        bound = []
        for arm in arms:
            condition = operators.truth(self.bind(arm.condition))
            weight = json_rules.number(self.bind(arm.weight))
            if not operators.is_number(weight.dtype):
                raise error("type", f"a weight must be a number, not {weight.dtype}", weight.span,
                            help="write  condition: number")  # fmt: skip
            bound.append(Arm(condition, weight))
        return WeightCase(kind, tuple(bound), span=span)
