"""FROM as written → the leaf of the plan, and what names in the query stand for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tql.diagnostics import Span, did_you_mean, error, first_names
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.grammar.syntax import JoinKind
from tql.language import operators
from tql.language.bind_expr import ExprBinder
from tql.language.common_types import common_type
from tql.language.expr import (
    And,
    Column,
    CompareOp,
    Expr,
    can_raise,
    columns_of,
    equated,
    is_positional,
    needs_source,
    substitute,
)
from tql.language.names import Merged, Named, Names, one_source
from tql.language.plan import Bound, Derived, JoinColumn, Joined, Leaf, Scan
from tql.schema import Column as SchemaColumn
from tql.schema import List, Schema


@dataclass(frozen=True, slots=True)
class From:
    """What a FROM, or a part of one, gives: rows, and names for their columns."""

    leaf: Leaf
    names: Names


@dataclass(frozen=True, slots=True)
class FromBinder:
    """What binding a FROM needs.

    tables  the schema of a data set by its name; a source error where there is none
    query   types a subquery
    scope   what binds expressions over columns of a leaf by these names
    outside aliases that stand before a comma
    """

    tables: Callable[[str, Span], Schema]
    query: Callable[[s.Query], Bound]
    scope: Callable[[Leaf, Schema, Names], ExprBinder]
    outside: tuple[str, ...] = ()


def bind_from(b: FromBinder, source: s.Source) -> From:
    """The rows of the tables, subqueries and joins that FROM lists."""
    match source:
        case s.Table(name, alias):
            leaf: Leaf = Scan(name, b.tables(name, source.span), span=source.span)
            return From(leaf, one_source(leaf.schema, alias or name))
        case s.Subquery(query, alias):
            leaf = Derived(b.query(query), span=source.span)
            return From(leaf, one_source(leaf.schema, alias))
        case s.Join():
            return _join(b, source)


def _join(b: FromBinder, j: s.Join) -> From:
    left = bind_from(b, j.left)
    right = bind_from(replace(b, outside=(*b.outside, *left.names.aliases)), j.right)
    for alias in right.names.aliases:
        if alias in left.names.aliases:
            raise error("ambiguous", f"two sources are named {alias!r}", j.right.span,
                        help="give one of them another alias:  … as NAME")  # fmt: skip
    pair = _paired(left, right)
    if j.using:
        return _using(j, left, right, pair)
    leaf = Joined(j.kind, left.leaf, right.leaf, pair.columns_of(j.kind), span=j.span)
    if j.on is not None:
        scope = b.scope(leaf, pair.schema, replace(pair.names, outside=b.outside))
        leaf = _with_terms(leaf, pair, list(_bound_terms(scope, j.on)), j)
    return From(leaf, pair.names)


# -- the columns of a pair ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pair:
    """The columns of both sides side by side: each with its side's name for it."""

    left: dict[str, SchemaColumn]
    right: dict[str, SchemaColumn]
    names: Names

    @property
    def schema(self) -> Schema:
        """The columns as a condition sees them: no side is missing."""
        both = (*self.left.items(), *self.right.items())
        return Schema(replace(column, name=name) for name, column in both)

    def columns_of(self, kind: JoinKind) -> tuple[JoinColumn, ...]:
        """The columns of the result, nullable where their side may be missing."""
        left_missing, right_missing = missing_sides(kind)
        return (
            *(JoinColumn(_named(n, c, left_missing), c.name, None) for n, c in self.left.items()),
            *(JoinColumn(_named(n, c, right_missing), None, c.name) for n, c in self.right.items()),
        )


def missing_sides(kind: JoinKind) -> tuple[bool, bool]:
    """Whether rows of the join may lack the left side, and the right."""
    return kind in (JoinKind.RIGHT, JoinKind.FULL), kind in (JoinKind.LEFT, JoinKind.FULL)


def _named(name: str, column: SchemaColumn, missing: bool) -> SchemaColumn:
    return SchemaColumn(name, column.dtype, column.nullable or missing)


def _paired(left: From, right: From) -> _Pair:
    """Every column under a name of its own: the one it has where that is enough, else with its
    source before a dot.
    """
    twice = set(left.leaf.schema.names) & set(right.leaf.schema.names)
    taken = {*left.leaf.schema.names, *right.leaf.schema.names}
    sides: list[dict[str, str]] = []  # of each side: its name for a column -> the new one
    for at, side in enumerate((left, right)):
        new = {}
        for column in side.leaf.schema.names:
            new[column] = column
            if column in twice:
                new[column] = _free(f"{_owner(side.names, column, at)}.{column}", taken)
                taken.add(new[column])
        sides.append(new)
    moved = len(left.names.sources)
    names = Names(
        tuple(
            Named(named.alias, {c: new[known] for c, known in named.columns.items()})
            for side, new in zip((left, right), sides, strict=True)
            for named in side.names.sources
        ),
        {c: Merged(sides[0][m.column], m.among) for c, m in left.names.merged.items()}
        | {
            c: Merged(sides[1][m.column], frozenset(at + moved for at in m.among))
            for c, m in right.names.merged.items()
            if c not in left.names.merged
        },
    )
    first, second = (
        {new[c.name]: c for c in side.leaf.schema}
        for side, new in zip((left, right), sides, strict=True)
    )
    return _Pair(first, second, names)


def _owner(names: Names, column: str, at: int) -> str:
    """What the source of a leaf's column is called; the side's number where it has no name."""
    for named in names.sources:
        if named.alias is not None and column in named.columns.values():
            return named.alias
    return "left" if at == 0 else "right"


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    return name


# -- ON ----------------------------------------------------------------------------------------


def _bound_terms(scope: ExprBinder, e: s.Expr) -> Iterator[Expr]:
    """The conditions joined by AND, each typed alone: constants among them decide nothing yet."""
    if isinstance(e, s.Chain) and e.op is s.BinaryOp.AND:
        for term in e.terms:
            yield from _bound_terms(scope, term)
        return
    bound = operators.truth(scope.bind(e))
    if is_positional(bound):
        raise error("unsupported", "random() and row_number() count the rows of FROM, which ON makes",
                    e.span, help="use them in WHERE, or in a subquery of one side")  # fmt: skip
    if needs_source(bound):
        raise error("unsupported", "data() and bm25_similarity() see all of FROM, which ON makes",
                    e.span, help="use them in WHERE, or in a subquery of one side")  # fmt: skip
    yield from bound.terms if isinstance(bound, And) else (bound,)


@dataclass(slots=True)
class _Terms:
    """The conditions of a join by what they are about, in the order written."""

    keys: list[tuple[Expr, Expr]] = field(default_factory=list)
    left: list[Expr] = field(default_factory=list)
    right: list[Expr] = field(default_factory=list)
    rest: list[Expr] = field(default_factory=list)


def _with_terms(leaf: Joined, pair: _Pair, terms: list[Expr], j: s.Join) -> Joined:
    """The join with its conditions; those that may raise are asked of pairs that the keys let
    through, never of all rows of a side.
    """
    left = {name: Column(c.name, c.dtype, c.nullable) for name, c in pair.left.items()}
    right = {name: Column(c.name, c.dtype, c.nullable) for name, c in pair.right.items()}
    sorted_out = _Terms()
    for term in terms:
        read = columns_of(term)
        key = _key(term, left, right)
        if key is not None:
            sorted_out.keys.append((substitute(key[0], left), substitute(key[1], right)))
        elif can_raise(term) or (read & left.keys() and read & right.keys()):
            sorted_out.rest.append(term)
        elif read & right.keys():
            sorted_out.right.append(substitute(term, right))
        else:
            sorted_out.left.append(substitute(term, left))
    text = (
        format_expr(j.on) if j.on is not None else f"using ({', '.join(map(format_expr, j.using))})"
    )
    if not sorted_out.keys:
        instead = ";  or  cross join … where CONDITION" if j.kind is JoinKind.INNER else ""
        raise error(
            "unsupported", "a join needs an equality of values of its two sides",
            j.using[0].span.to(j.using[-1].span) if j.on is None else j.on.span,
            help=f"write  on LEFT.column == RIGHT.column and …{instead}",
        )  # fmt: skip
    return replace(
        leaf, keys=tuple(sorted_out.keys), only_left=_all(sorted_out.left, j),
        only_right=_all(sorted_out.right, j), rest=_all(sorted_out.rest, j), text=text,
    )  # fmt: skip


def _key(term: Expr, left: dict[str, Column], right: dict[str, Column]) -> tuple[Expr, Expr] | None:
    """(left value, right value) of an equality between the sides; None for anything else."""
    equal = equated(term)
    if equal is not None:
        for one, other in (equal, equal[::-1]):
            in_left, in_right = columns_of(one), columns_of(other)
            if in_left and in_right and in_left <= left.keys() and in_right <= right.keys():
                return one, other
    return None


def _all(terms: list[Expr], j: s.Join) -> Expr | None:
    return operators.conjunction(terms, j.span) if terms else None


# -- USING -------------------------------------------------------------------------------------


def _using(j: s.Join, left: From, right: From, pair: _Pair) -> From:
    """USING (c, …): equal, and one column c in place of two."""
    terms, columns, merged = [], list(pair.columns_of(j.kind)), dict(pair.names.merged)
    taken = {*pair.left, *pair.right}
    moved = len(left.names.sources)
    for n in dict.fromkeys(j.using):
        name = n.name
        a, b = _of_side(left, n, "left", right), _of_side(right, n, "right", left)
        for side, column in (("left", a), ("right", b)):
            if isinstance(column.dtype, List):
                raise error("type", f"USING compares one value per row, and {name!r} is {column.dtype}"
                            f" on the {side}", n.span,
                            help="join by other columns, or by an element: on a.x[0] == b.x[0]")  # fmt: skip
        new_a = next(n for n, c in pair.left.items() if c.name == a.name)
        new_b = next(n for n, c in pair.right.items() if c.name == b.name)
        terms.append(
            operators.compare(
                CompareOp.EQ, Column(new_a, a.dtype, a.nullable, span=n.span),
                Column(new_b, b.dtype, b.nullable, span=n.span), n.span,
            )
        )  # fmt: skip
        one = _free(name, taken)
        taken.add(one)
        columns.append(_merged_column(j, one, a, b, n.span))
        merged[name] = Merged(one, _among(left.names, name) | {
            at + moved for at in _among(right.names, name)
        })  # fmt: skip
    leaf = Joined(j.kind, left.leaf, right.leaf, tuple(columns), span=j.span)
    return From(_with_terms(leaf, pair, terms, j), Names(pair.names.sources, merged))


def _of_side(side: From, n: s.Name, which: str, other: From) -> SchemaColumn:
    """The column of `side` that USING names; only names that `other` has, too, are a way out."""
    found = side.names.find(n)
    if found is None:
        columns = first_names(side.names.spellings())
        common = set(side.names.alone()) & set(other.names.alone())
        raise error("unknown_column", f"the {which} side of the join has no column {n.name!r}", n.span,
                    help=did_you_mean(n.name, common)
                    or f"its columns are {columns}; columns of two names:  join … on a.x == b.y")  # fmt: skip
    return side.leaf.schema[found]


def _among(names: Names, name: str) -> frozenset[int]:
    if name in names.merged:
        return names.merged[name].among
    return frozenset(at for at, named in enumerate(names.sources) if name in named.columns)


def _merged_column(
    j: s.Join, name: str, a: SchemaColumn, b: SchemaColumn, span: Span
) -> JoinColumn:
    match j.kind:
        case JoinKind.RIGHT:
            return JoinColumn(replace(b, name=name), None, b.name)
        case JoinKind.FULL:
            dtype = common_type(a.dtype, b.dtype)
            if dtype is None:
                raise error("schema", f"column {a.name!r} is {a.dtype} on the left and {b.dtype} on "
                            "the right, which have no type in common", span,
                            help="join ON their equality, and select both")  # fmt: skip
            column = SchemaColumn(name, dtype, a.nullable or b.nullable)
            return JoinColumn(column, a.name, b.name)
        case _:
            return JoinColumn(replace(a, name=name), a.name, None)
