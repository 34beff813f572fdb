"""GROUP BY and HAVING: what an expression means where the rows are groups.

A column is the sequence of its group's values. Whatever is done row by row is done before the rows
are put together (`frame + 1` is a column of the query below); array functions and subscripts see
the sequence. In HAVING, ORDER BY and SAMPLE BY a key stands for the one value that its group has,
except inside array functions and subscripts, which go on to see all of the group.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tql.diagnostics import error
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.language.array_types import array_of
from tql.language.bind_expr import ExprBinder
from tql.language.expr import Column, Elementwise, Expr
from tql.language.functions import FUNCTIONS
from tql.language.keys import refuse_constant
from tql.language.layers import Layer, LayerBinder, columns_below, scope_over
from tql.language.members import by_member, fails_in_rows
from tql.language.plan import Bound, Grouped, Leaf, Plan
from tql.schema import Binary, List, Schema, Text
from tql.schema import Column as SchemaColumn

ARRAY_FUNCTIONS: Final = frozenset(
    [
        "all", "all_strict", "amax", "amin", "any", "avg", "contains", "l1_norm", "l2_norm",
        "linf_norm", "logical_and", "logical_or", "nonzero", "prod", "shape", "sum",
    ]
)  # fmt: skip
"""Functions that see a group as one array."""

RANKS: Final = {"cosine_similarity": 1, "dot": 1, "hamming_distance": 1, "maxsim": 2}
"""Functions of two arrays of a rank: where the rows have such, of each row's; else of the group's."""

# What stands in an expression: rows (columns, positions), keys, groups (all that cannot be done row
# by row), aliases.
_ROW, _KEY, _GROUP = "row", "key", "group"


@dataclass(slots=True)
class GroupBinder(LayerBinder):
    """The scope over groups.

    keys     the column that holds the single value of a key, by how the key is written: as an
             expression, or by the alias of one
    columns  the same by the name of the column below, for keys that are columns
    single   whether a key stands for its single value here
    """

    keys: dict[s.Expr, Column] = field(kw_only=True, default_factory=dict)
    columns: dict[str, Column] = field(kw_only=True, default_factory=dict)
    single: bool = field(kw_only=True, default=False)
    _guarded: bool = field(kw_only=True, default=False)
    _seen: dict[tuple[int, bool], frozenset[str]] = field(kw_only=True, default_factory=dict)

    def lift(self, column: SchemaColumn) -> SchemaColumn:
        return SchemaColumn(column.name, List(column.dtype, grouped=True), False)

    def bind(self, e: s.Expr) -> Expr:
        """The typed form of `e`, over groups."""
        if self.single:
            key = self._key(e)
            if key is not None:
                return key
        holds = self._holds(e)
        if _ROW in holds and _GROUP not in holds:
            below = self.rows.bind(e)
            # A sequence is read for whole groups: behind a guard, what may raise is done by element.
            done_by_element = self._guarded and fails_in_rows(below)
            if done_by_element and not isinstance(below.dtype, List):
                return by_member(below, lambda part: self.over(part, format_expr(e), e.span))
            if not (done_by_element and isinstance(below, Elementwise)):
                return self.over(below, format_expr(e), e.span)
        before = self.single, self._guarded
        if _sees_groups(e) or (isinstance(e, s.Call) and e.function in RANKS):
            self.single = False
        self._guarded = self._guarded or isinstance(e, s.Chain)
        bound = ExprBinder.bind(self, e)
        self.single, self._guarded = before
        return bound

    def bind_weight(self, e: s.Expr) -> Expr:
        """The typed form of an expression that is the whole weight of a SAMPLE BY."""
        function = FUNCTIONS.get(e.function) if isinstance(e, s.Call) else None
        if function is None or function.as_weight is None:
            return self.bind(e)
        return ExprBinder.bind_weight(self, e)

    def _call(self, call: s.Call, as_weight: bool = False) -> Expr:
        if call.function != "count":
            return ExprBinder._call(self, call, as_weight)
        if len(call.arguments) != 1 or not isinstance(call.arguments[0], s.Star):
            raise error("arity", "count() counts the rows of a group, and takes nothing but *",
                        call.span, help="write  count(*);  sum(condition) counts those that meet one")  # fmt: skip
        leaf = self.layer.leaf()
        assert isinstance(leaf, Grouped)
        column = leaf.count_column
        return Column(column.name, column.dtype, column.nullable, span=call.span)

    def _key(self, e: s.Expr) -> Column | None:
        if e in self.keys:
            return self.keys[e]
        if not isinstance(e, s.Name) or (e.source is None and e.name in self.aliases):
            return None
        if self.rows.opaque(e) is not None:
            return None  # no key; IS NULL is all that can be asked of it
        below = self.below(e)
        return self.columns.get(below.name) if isinstance(below, Column) else None

    def _holds(self, e: s.Expr) -> frozenset[str]:
        """Which of rows, keys and groups `e` is made of."""
        known = (id(e), self.single)
        if known not in self._seen:
            self._seen[known] = frozenset(self._holding(e))
        return self._seen[known]

    def _holding(self, e: s.Expr) -> Iterator[str]:
        if self.single and self._key(e) is not None:
            yield _KEY
            return
        match e:
            case s.Name(name, source):
                aliased = source is None and name in self.aliases
                yield _GROUP if aliased and self.prefer_alias else _ROW
            case s.Call("count"):
                yield _GROUP
            case s.Call("row_number"):
                yield _ROW
            case s.Call(function, arguments) if function in RANKS:
                if _GROUP in self._of(e) or not self._have_arrays(arguments, RANKS[function]):
                    yield _GROUP
            case _ if _sees_groups(e):
                yield _GROUP
        yield from self._of(e)

    def _of(self, e: s.Expr) -> Iterator[str]:
        for part in _parts(e):
            yield from self._holds(part)

    def _have_arrays(self, arguments: tuple[s.Expr | s.Star, ...], rank: int) -> bool:
        """Whether the rows themselves have arrays of this rank or more."""
        written = (a for a in arguments if not isinstance(a, s.Star))
        types = (self.rows.bind(a).dtype for a in written if _ROW in self._holds(a))
        return any(isinstance(t, List) and array_of(t)[1] >= rank for t in types)


def _sees_groups(e: s.Expr) -> bool:
    """Whether the node is a function or a subscript of the whole sequence."""
    match e:
        case s.Call(function):
            return function in ARRAY_FUNCTIONS
        case s.Subscript(_, subscripts):  # of JSON by names: row by row
            return not all(isinstance(i, s.String) for i in subscripts)
        case _:
            return False


def _parts(node: s.Node) -> Iterator[s.Expr]:
    """The expressions directly within one."""
    for name in node.__dataclass_fields__:
        value = getattr(node, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, s.Expr):
                yield part
            elif isinstance(part, s.Slice | s.Arm):
                yield from _parts(part)


def groups(
    rows: ExprBinder, plan: Plan, clause: s.GroupBy, named: Mapping[str, s.Expr]
) -> GroupBinder:
    """The scope over the groups that the clause makes of the rows of `plan`.

    `named` are the select items that have a name of their own; a key may be one of them.
    """
    layer = Layer(plan, lambda query: leaf(query), columns_below(rows), scope_over(rows))
    written = [_meant(rows, k, named) for k in clause.keys]
    bound = [_key(rows, e) for e in written]
    keys = tuple(layer.add(k, format_expr(e)) for k, e in zip(bound, written, strict=True))
    visible, text = rows.schema.names, ", ".join(map(format_expr, clause.keys))

    def leaf(query: Bound) -> Leaf:
        once = tuple(dict.fromkeys(keys))  # a key may be written twice
        return Grouped(query, once, visible, span=clause.span, text=text)

    grouped = layer.leaf()
    binder = GroupBinder(
        rows.schema, rows.parameters, rows.next_site, rows.names,
        users=rows.users.over(grouped), rows=rows, layer=layer, computed=rows.computed,
    )  # fmt: skip
    binder.schema = Schema(map(binder.lift, rows.schema))
    assert isinstance(grouped, Grouped)
    columns = grouped.key_columns
    for e, below, name in zip(written, bound, keys, strict=True):
        c = columns[name]
        column = Column(c.name, c.dtype, c.nullable)
        if isinstance(below, Column):
            binder.columns[below.name] = column
        if not isinstance(e, s.Name):
            binder.keys[e] = column
        for alias, item in named.items():
            if item == e:
                binder.keys[s.Name(alias)] = column
    return binder


def _meant(rows: ExprBinder, key: s.Expr, named: Mapping[str, s.Expr]) -> s.Expr:
    """The key as an expression of the row: a select item, where that is what it names."""
    if not isinstance(key, s.Name) or key.source is not None or key.name in rows.schema:
        return key
    item = named.get(key.name, key)
    if _is_of_groups(item):
        raise error("type", f"{key.name!r} is a value of a whole group, and GROUP BY needs one of "
                    "each row", key.span, help="group by a column, or an expression of columns")  # fmt: skip
    return item


def _is_of_groups(e: s.Expr) -> bool:
    """Whether `e`, in the select list of a grouped query, needs the group as a whole."""
    counts = isinstance(e, s.Call) and e.function == "count"
    return counts or _sees_groups(e) or any(map(_is_of_groups, _parts(e)))


def _key(rows: ExprBinder, e: s.Expr) -> Expr:
    bound = rows.bind(e)
    refuse_constant("GROUP BY", "type", bound, e)
    if isinstance(bound.dtype, List):
        value = "shape(x)[0]" if isinstance(array_of(bound.dtype)[0], Text) else "sum(x)"
        raise error("type", f"GROUP BY needs one value per row, and {format_expr(e)} is "
                    f"{bound.dtype}", e.span,
                    help=f"group by an element, x[0], or by a value of the array such as {value}")  # fmt: skip
    if isinstance(bound.dtype, Binary):
        raise error("type", f"GROUP BY needs numbers, text, times or JSON values, and "
                    f"{format_expr(e)} is {bound.dtype}", e.span,
                    help="group by a column that tells such values apart")  # fmt: skip
    return bound
