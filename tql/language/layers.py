"""Clauses that make new rows of the rows of FROM: EXPAND BY … AS, GROUP BY, UNGROUP BY.

Each puts a leaf over the query so far, and a scope over that query's scope: a name is looked up
below and lifted to what it is of the new rows. What an expression needs of the rows below, for
example their position in FROM, becomes one more column of the query there; so a leaf is complete
only when everything over it is bound.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tql.diagnostics import NOWHERE, Span, did_you_mean, error
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.language.bind_expr import ExprBinder
from tql.language.expr import Column, Expr, can_raise
from tql.language.plan import Bound, Leaf, Output, Plan, Split, Windows, in_scope, is_sequence
from tql.language.plan_parts import source_of, subqueries, with_leaf, with_subqueries
from tql.schema import Column as SchemaColumn
from tql.schema import Int, Schema


@dataclass(slots=True)
class Layer:
    """A leaf in the making: `make` over `plan` with the columns `outputs`."""

    plan: Plan
    make: Callable[[Bound], Leaf]
    outputs: dict[str, Output]
    under: "Layer | None" = None

    def add(self, e: Expr, text: str) -> str:
        """The column of the query below that is `e`, a new one where there is none yet."""
        # The same expression is written in the same way, but a column may have its source before it.
        name = e.name if isinstance(e, Column) else text
        while name in self.outputs:
            if self.outputs[name].expr == e:
                return name
            name += "'"
        self.outputs[name] = Output(name, e)
        return name

    def leaf(self) -> Leaf:
        """The leaf as far as it is known."""
        return self.make(Bound(self.plan, tuple(self.outputs.values())))

    def complete(self) -> Leaf:
        """The leaf with everything that was added to it and to those below."""
        if self.under is not None:
            self.plan = with_leaf(self.plan, self.under.complete())
        return self.leaf()


@dataclass(slots=True)
class LayerBinder(ExprBinder):
    """The scope over a layer; `rows` is the scope of the query below it."""

    rows: ExprBinder = field(kw_only=True)
    layer: Layer = field(kw_only=True)

    def lift(self, column: SchemaColumn) -> SchemaColumn:
        """What a column of the query below is over this layer."""
        raise NotImplementedError

    def over(self, e: Expr, text: str, span: Span) -> Expr:
        """The column over this layer that `e`, an expression over the rows below, becomes."""
        lifted = self.lift(SchemaColumn(self.layer.add(e, text), e.dtype, e.nullable))
        return Column(lifted.name, lifted.dtype, lifted.nullable, computed=can_raise(e), span=span)

    def complete(self, bound: Bound) -> Bound:
        """The query over this layer, once nothing more will be bound."""
        return replace(bound, plan=with_leaf(bound.plan, self.layer.complete()))

    def _name(self, n: s.Name) -> Expr:
        aliased = self.aliases.get(n.name) if n.source is None else None
        if aliased is not None and (self.prefer_alias or not self.names.knows(n.name)):
            return aliased
        return self.over(self.below(n), n.name, n.span)

    def below(self, n: s.Name) -> Expr:
        """What the name stands for in the query below."""
        if n.source is None and n.name not in self.schema and self.rows.names.find(n) is None:
            near = did_you_mean(n.name, tuple(self.aliases))
            if near is not None:
                raise error("unknown_column", f"no column named {n.name!r}", n.span, help=near)
        return self.rows.bind(n)


def scope_over(rows: ExprBinder) -> "Layer | None":
    """The layer that the scope `rows` stands on, if it is over one."""
    return rows.layer if isinstance(rows, LayerBinder) else None


def columns_below(rows: ExprBinder) -> dict[str, Output]:
    """The columns of the scope below, as they stand."""
    return {name: Output(name, rows.column(name, NOWHERE)) for name in rows.schema.names}


# -- EXPAND BY … AS name -----------------------------------------------------------------------


# What these give depends on the rows of FROM, not on those of the windows.
_OF_FROM: Final = ("row_number", "random", "data", "bm25_similarity")


@dataclass(slots=True)
class WindowBinder(LayerBinder):
    """Over windows: their rows are those of FROM still, and so are their positions."""

    window: str = field(kw_only=True)

    def lift(self, column: SchemaColumn) -> SchemaColumn:
        return column

    def _name(self, n: s.Name) -> Expr:
        aliased = n.source is None and self.prefer_alias and n.name in self.aliases
        if n.name == self.window and n.source is None and not aliased:
            return Column(self.window, Int(64), False, span=n.span)
        return LayerBinder._name(self, n)

    def _call(self, call: s.Call, as_weight: bool = False) -> Expr:
        if call.function in _OF_FROM:
            return self.over(self.rows.bind(call), format_expr(call), call.span)
        return ExprBinder._call(self, call, as_weight)


def windows(rows: ExprBinder, plan: Plan, e: s.Expand) -> WindowBinder:
    """The scope over the windows that a named EXPAND BY makes of the rows of `plan`."""
    name = e.name
    assert name is not None
    if name in rows.schema:
        raise error("duplicate_column", f"there is a column {name!r} already", e.span,
                    help="give the number of the window another name")  # fmt: skip
    visible = rows.schema.names

    def make(query: Bound) -> Leaf:
        return Windows(query, e.before, e.after, e.overlap, name, visible, span=e.span)

    # What is added later must leave the name of the window free.
    layer = Layer(plan, make, columns_below(rows), scope_over(rows))
    schema = Schema([*rows.schema, SchemaColumn(name, Int(64), False)])
    return WindowBinder(
        schema, rows.parameters, rows.next_site, rows.names,
        users=rows.users.over(layer.leaf()), rows=rows, layer=layer, computed=rows.computed, window=name,
    )  # fmt: skip


# -- UNGROUP BY SPLIT --------------------------------------------------------------------------


@dataclass(slots=True)
class SplitBinder(LayerBinder):
    """Over the members of sequences, one row each."""

    def lift(self, column: SchemaColumn) -> SchemaColumn:
        if is_sequence(column.dtype):
            return SchemaColumn(column.name, column.dtype.item, True)
        return column

    def _call(self, call: s.Call, as_weight: bool = False) -> Expr:
        if call.function == "count":
            raise error("unsupported", "count(*) counts the rows of a group, and UNGROUP BY SPLIT "
                        "makes single rows of the groups", call.span,
                        help="count in a subquery:  select … from (select *, count(*) as n group by "
                        "x) ungroup by split")  # fmt: skip
        if call.function == "row_number":
            return self.over(self.rows.bind(call), format_expr(call), call.span)
        return ExprBinder._call(self, call, as_weight)


def split(rows: ExprBinder, plan: Plan, span: Span) -> SplitBinder:
    """The scope over the rows that UNGROUP BY SPLIT makes of the rows of `plan`."""
    if not any(is_sequence(c.dtype) for c in rows.schema):
        raise error("type", "UNGROUP BY SPLIT needs a sequence, and no column here is one", span,
                    help="sequences come from GROUP BY, in this query or in its FROM")  # fmt: skip
    visible = rows.schema.names

    def make(query: Bound) -> Leaf:
        return Split(query, visible, span=span)

    layer = Layer(plan, make, columns_below(rows), scope_over(rows))
    binder = SplitBinder(
        rows.schema, rows.parameters, rows.next_site, rows.names,
        users=rows.users.over(layer.leaf()), rows=rows, layer=layer, computed=rows.computed,
    )  # fmt: skip
    binder.schema = Schema(map(binder.lift, rows.schema))
    return binder


# -- set operations ----------------------------------------------------------------------------


def over_one_leaf(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    """Two queries over one leaf where their leaves differ only in what expressions need of it."""
    a, b = source_of(left.plan), source_of(right.plan)
    if a == b or type(a) is not type(b) or in_scope(a) != in_scope(b):
        return left, right
    if len(subqueries(a)) != len(subqueries(b)):
        return left, right
    joined = [over_one_leaf(x, y) for x, y in zip(subqueries(a), subqueries(b), strict=True)]
    both = [_with_outputs_of_both(x, y) for x, y in joined]
    a = with_subqueries(a, tuple(x for x, _ in both))
    b = with_subqueries(b, tuple(y for _, y in both))
    if a != b:
        return left, right
    return replace(left, plan=with_leaf(left.plan, a)), replace(
        right, plan=with_leaf(right.plan, b)
    )


def _with_outputs_of_both(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    merged = {o.name: o for o in (*left.outputs, *right.outputs)}
    if any(merged[o.name] != o for o in left.outputs):
        return left, right
    outputs = tuple(merged.values())
    return replace(left, outputs=outputs), replace(right, outputs=outputs)
