"""From productions of tql.lark to nodes: one method per production that has a name there.

A method gets the span of the production and the values of its symbols: the text of a token, what
another method returned, None for an absent option. `parser` calls them bottom-up, left to right.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from tql.diagnostics import Note, Span, TqlError, did_you_mean, error
from tql.grammar import syntax as s
from tql.grammar import tables

# How much deeper than its deepest part a production makes the tree. Whatever is not named adds
# nothing: leaves, clauses (a query has a fixed number), and brackets, which are counted as such.
DEPTH: Final = {
    "chain": 1,
    "comparison": 1,
    "like": 1,
    "in_list": 1,
    "between": 1,
    "is_null": 1,
    "arithmetic": 1,
    "unary": 1,
    "subscript": 1,
    "call": 1,
    "weight_call": 1,
    "array": 1,
    "combined": 1,
    "join_cross": 1,
    "join_on": 1,
    "join_using": 1,
    "subquery": 3,  # Subquery, Query, Select
}

# Each comma of FROM makes the tree one level deeper, though it is written flat.
_MOST_SOURCES: Final = 100

WEIGHT_FUNCTIONS: Final = ("max_weight", "sum_weight")

_AS_FLOAT: Final = "write it as a float, such as 1e20, if it need not be exact"

_OPERATORS: Final = {op.value: op for op in s.BinaryOp} | {"=": s.BinaryOp.EQ, "<>": s.BinaryOp.NE}


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause whose place the grammar leaves open; `name` as in a message."""

    name: str
    value: Any
    span: Span


def _binds_as(chain: s.Combined, steps: tuple[s.SetStep, ...]) -> bool:
    tight = s.SetOp.INTERSECT
    return (chain.steps[0].op is tight) == (steps[0].op is tight)


@dataclass(slots=True)
class Builder:
    """Builds the tree of one text; counts its `?`, which number in the order of the text."""

    text: str
    positions: int = 0
    has_names: bool = False

    def fail(
        self, code: str, message: str, span: Span, *, help: str, notes: tuple[Note, ...] = ()
    ) -> TqlError:
        return error(code, message, span, notes=notes, help=help, query=self.text)

    # -- queries --------------------------------------------------------------------------------

    def query(self, span: Span, body: s.Body, *rest: Any) -> s.Query:
        *written, sample, order = rest
        clauses = self._once(written)
        if sample is not None and order is not None:
            sample = replace(sample, order=order.value, span=sample.span.to(order.span))
        if not clauses and sample is None and isinstance(body, s.Query):
            return body
        return s.Query(
            body,
            clauses.get("order by", ()),
            clauses.get("limit"),
            clauses.get("offset"),
            sample,
            span=span,
        )

    def nested_query(self, span: Span, query: s.Query) -> s.Body:
        plain = not query.order and not (query.limit or query.offset or query.sample)
        return query.body if plain else query

    def combined(self, span: Span, first: s.Body, *steps: s.SetStep) -> s.Body:
        steps = tuple(replace(step, span=span.to(step.span)) for step in steps)
        if isinstance(first, s.Combined) and _binds_as(first, steps):  # redundant parentheses
            return s.Combined(first.first, first.steps + steps, span=span)
        return s.Combined(first, steps, span=span)

    def set_step(self, span: Span, op: str, every: str | None, body: s.Body) -> s.SetStep:
        return s.SetStep(s.SetOp(op.lower()), body, every is not None, span=span)

    def select(self, span: Span, head: Any, items: Any, source: Any, *rest: Any) -> s.Select:
        top, distinct = head
        *written, grouping = rest
        clauses = self._once(written)
        group, ungroup = grouping or (None, None)
        return s.Select(
            items,
            source,
            clauses.get("where"),
            top,
            distinct,
            clauses.get("expand by"),
            group,
            ungroup,
            span=span,
        )

    def head(
        self, span: Span, select: str, top: str | None, count: str | None, distinct: Any
    ) -> Any:
        return None if count is None else self._count(count, span), distinct

    def distinct(self, span: Span, distinct: str, on: str | None, *keys: s.Expr) -> s.Distinct:
        return s.Distinct(keys if on else (), span=span)

    def items(self, span: Span, *items: s.AllColumns | s.Item) -> Any:
        stars = [i for i in items if isinstance(i, s.AllColumns) and i.source is None]
        if len(stars) > 1:
            note = Note("the first one", stars[0].span)
            way_out = "remove one; the columns of one source are alias.*"
            raise self.fail("syntax", "more than one *", stars[1].span, help=way_out, notes=(note,))
        return items

    def all_columns(self, span: Span, source: str | None = None) -> s.AllColumns:
        return s.AllColumns(source, span=span)

    def item(self, span: Span, expr: s.Expr, word: str | None, alias: str | None) -> s.Item:
        return s.Item(expr, alias, span=span)

    def where(self, span: Span, where: str, condition: s.Expr) -> Clause:
        return Clause("where", condition, span)

    def expand(self, span: Span, expand: str, by: str, *rest: Any) -> Clause:
        before, after, overlap, _, name = rest
        first = self._count(before, span)
        second = first if after is None else self._count(after, span)
        return Clause("expand by", s.Expand(first, second, bool(overlap), name, span=span), span)

    def overlap(self, span: Span, overlap: str, value: str | None) -> bool:
        return value is None or value.lower() == "true"

    def grouping(self, span: Span, group: s.GroupBy, ungroup: s.Ungroup | None) -> Any:
        return group, ungroup

    def only_ungroup(self, span: Span, ungroup: s.Ungroup) -> Any:
        return None, ungroup

    def ungroup(self, span: Span, *words: str) -> s.Ungroup:
        return s.Ungroup(span=span)

    def group_by(self, span: Span, group: str, by: str, *rest: Any) -> s.GroupBy:
        *keys, _, having = rest
        return s.GroupBy(tuple(keys), having, span=span)

    def order_by(self, span: Span, order: str, by: str, *keys: s.OrderKey) -> Clause:
        return Clause("order by", keys, span)

    def order_key(self, span: Span, expr: s.Expr, direction: str | None) -> s.OrderKey:
        return s.OrderKey(expr, direction is not None and direction.lower() == "desc", span=span)

    def limit(self, span: Span, limit: str, count: s.Expr, percent: str | None) -> Clause:
        return Clause("limit", s.Limit(count, percent is not None, span=span), span)

    def limit_all(self, span: Span, *words: str) -> Clause:
        return Clause("limit", s.Limit(None, span=span), span)

    def offset(self, span: Span, offset: str, count: s.Expr) -> Clause:
        return Clause("offset", count, span)

    def sample_by(self, span: Span, sample: str, by: str, weight: s.Expr, *rest: Any) -> s.Sample:
        again, limit = rest
        return s.Sample(weight, again, limit.value if limit else None, span=span)

    def replace(self, span: Span, replace: str, value: str | None) -> bool:
        return value is None or value.lower() == "true"

    def _once(self, clauses: list[Clause]) -> dict[str, Any]:
        first: dict[str, Clause] = {}
        for clause in clauses:
            if clause.name in first:
                raise self.fail(
                    "syntax",
                    f"a second '{clause.name}'; a clause appears once",
                    clause.span,
                    notes=(Note("the first one", first[clause.name].span),),
                    help="join two conditions with 'and'"
                    if clause.name == "where"
                    else f"keep one '{clause.name}', or nest the query: select * from (…)",
                )
            first[clause.name] = clause
        return {name: clause.value for name, clause in first.items()}

    # -- sources --------------------------------------------------------------------------------

    def sources(self, span: Span, word: str, first: s.Source, *more: s.Source) -> s.Source:
        if len(more) >= _MOST_SOURCES:
            raise self.fail(
                "syntax",
                f"{len(more) + 1:,} sources in one 'from'; at most {_MOST_SOURCES} are paired",
                more[_MOST_SOURCES - 1].span,
                help="a comma pairs every row with every row; union puts rows below each other, "
                "and a path such as 'part-*.parquet' names many files at once",
            )
        for right in more:
            place = first.span.to(right.span)
            first = s.Join(s.JoinKind.CROSS, first, right, span=place)
        return first

    def table(self, span: Span, name: str, word: str | None, alias: str | None) -> s.Table:
        return s.Table(name, alias, span=span)

    def subquery(
        self, span: Span, query: s.Query, word: str | None, alias: str | None
    ) -> s.Subquery:
        return s.Subquery(query, alias, span=span)

    def join_kind(self, span: Span, kind: str, outer: str | None = None) -> s.JoinKind:
        return s.JoinKind(kind.lower())

    def join_cross(self, span: Span, left: s.Source, *rest: Any) -> s.Join:
        return s.Join(s.JoinKind.CROSS, left, rest[-1], span=span)

    def join_on(self, span: Span, left: s.Source, kind: s.JoinKind | None, *rest: Any) -> s.Join:
        _, right, _, condition = rest
        return s.Join(kind or s.JoinKind.INNER, left, right, condition, span=span)

    def join_using(self, span: Span, left: s.Source, kind: s.JoinKind | None, *rest: Any) -> s.Join:
        _, right, _, *names = rest
        return s.Join(kind or s.JoinKind.INNER, left, right, None, tuple(names), span=span)

    def common(self, span: Span, name: str) -> s.Name:
        return s.Name(name, span=span)

    # -- operators ------------------------------------------------------------------------------

    def chain(self, span: Span, *terms_and_words: Any) -> s.Chain:
        return s.Chain(_OPERATORS[terms_and_words[1].lower()], terms_and_words[::2], span=span)

    def unary(self, span: Span, op: str, operand: s.Expr) -> s.Unary:
        node = s.Unary(s.UnaryOp(op.lower()), operand, span=span)
        match node:
            case s.Unary(s.UnaryOp.NEG, s.Number(int(value))) if value > 2**63:
                raise self._range(span)
        return node

    def comparison(self, span: Span, left: s.Expr, op: str, right: s.Expr) -> s.Binary:
        return s.Binary(_OPERATORS[op], left, right, span=span)

    arithmetic = comparison

    def like(
        self, span: Span, operand: s.Expr, no: str | None, word: str, pattern: s.Expr
    ) -> s.Like:
        return s.Like(operand, pattern, word.lower() == "ilike", no is not None, span=span)

    def in_list(
        self, span: Span, operand: s.Expr, no: str | None, word: str, choices: Any
    ) -> s.InList:
        return s.InList(operand, choices, no is not None, span=span)

    def choice_list(self, span: Span, *choices: s.Expr) -> tuple[s.Expr, ...]:
        return choices

    def between(
        self, span: Span, operand: s.Expr, no: str | None, word: str, *rest: Any
    ) -> s.Between:
        low, _, high = rest
        return s.Between(operand, low, high, no is not None, span=span)

    def is_null(self, span: Span, operand: s.Expr, word: str, *rest: str | None) -> s.IsNull:
        return s.IsNull(operand, bool(rest) and rest[0] is not None, span=span)

    def subscript(self, span: Span, value: s.Expr, *subscripts: s.Expr | s.Slice) -> s.Subscript:
        return s.Subscript(value, subscripts, span=span)

    def slice(self, span: Span, *parts: s.Expr | None) -> s.Slice:
        start, stop, step = parts
        return s.Slice(start, stop, step, span=span)

    # -- calls ----------------------------------------------------------------------------------

    def function(self, span: Span, name: str) -> tuple[str, Span]:
        return name.lower(), span

    def call(self, span: Span, function: tuple[str, Span], *arguments: Any) -> s.Call:
        name, place = function
        given = [a for a in arguments if a is not None]
        if name in WEIGHT_FUNCTIONS:
            raise self.fail(
                "arity",
                f"{name} takes 'condition: weight' pairs",
                span,
                help=f"for example {name}(label == 2: 10, true: 1)",
            )
        axis = None
        if len(given) > 1 and self._is_axis(given[-1]):
            axis = given.pop().right
        return s.Call(name, tuple(given), axis, span=span, name_span=place)

    def _is_axis(self, argument: s.Expr | s.Star) -> bool:
        """Whether it is written `axis = …`; `axis == …` compares a column."""
        match argument:
            case s.Binary(s.BinaryOp.EQ, s.Name("axis", None) as name, right):
                between = self.text[name.span.stop : right.span.start]
                for ignored in tables.IGNORED:
                    between = re.sub(ignored, "", between)
                return between.rstrip("(") == "="
            case _:
                return False

    def weight_call(self, span: Span, function: tuple[str, Span], *arms: s.Arm) -> s.WeightCall:
        name, place = function
        if name not in WEIGHT_FUNCTIONS:
            near = did_you_mean(name, WEIGHT_FUNCTIONS)
            raise self.fail(
                "arity",
                f"{name} takes values, not 'condition: weight' pairs",
                place,
                help=near or "pairs belong to max_weight(…) and sum_weight(…)",
            )
        return s.WeightCall(name, arms, span=span)

    def arm(self, span: Span, condition: s.Expr, weight: s.Expr) -> s.Arm:
        return s.Arm(condition, weight, span=span)

    def star(self, span: Span) -> s.Star:
        return s.Star(span=span)

    # -- leaves ---------------------------------------------------------------------------------

    def integer(self, span: Span, text: str) -> s.Number:
        return s.Number(self._integer(text, span), span=span)

    def _count(self, text: str, span: Span) -> int:
        """A number of rows."""
        return self._integer(text, span, "write fewer rows: all of them are fewer than 2^63")

    def _integer(self, text: str, span: Span, help: str = _AS_FLOAT) -> int:
        digits = text.replace("_", "").lstrip("0")
        # Python refuses to convert very long texts, so the length is looked at first.
        if len(digits) > 20 or int(digits or "0") >= 2**64:
            raise self._range(span, help)
        return int(digits or "0")

    def _range(self, span: Span, help: str = _AS_FLOAT) -> TqlError:
        return self.fail(
            "range",
            "an integer outside of -9223372036854775808 … 18446744073709551615",
            span,
            help=help,
        )

    def float(self, span: Span, text: str) -> s.Number:
        value = float(text)
        if math.isinf(value):
            largest = "the largest float is about 1.79e308"
            raise self.fail("range", "a float that does not fit 64 bits", span, help=largest)
        return s.Number(value, span=span)

    def string(self, span: Span, text: str) -> s.String:
        return s.String(text[1:-1].replace("''", "'"), span=span)

    def boolean(self, span: Span, text: str) -> s.Boolean:
        return s.Boolean(text.lower() == "true", span=span)

    def array(self, span: Span, array: str, *items: s.Expr) -> s.Array:
        return s.Array(items, span=span)

    def positional(self, span: Span) -> s.Parameter:
        self.positions += 1
        return self._parameter(s.Parameter(self.positions - 1, span=span))

    def named(self, span: Span, text: str) -> s.Parameter:
        self.has_names = True
        return self._parameter(s.Parameter(text[1:], span=span))

    def _parameter(self, parameter: s.Parameter) -> s.Parameter:
        if self.positions and self.has_names:
            way_out = "give every parameter a name, such as $low, or none"
            message = "? and $name parameters in one query"
            raise self.fail("parameter", message, parameter.span, help=way_out)
        return parameter

    def column(self, span: Span, *names: str) -> s.Name:
        return s.Name(names[-1], names[0] if len(names) == 2 else None, span=span)

    def bare_name(self, span: Span, text: str) -> str:
        return text

    def quoted_name(self, span: Span, text: str) -> str:
        name = text[1:-1].replace('""', '"')
        if not name:
            message = "an empty name"
            raise self.fail("syntax", message, span, help="an empty text is written ''")
        return name
