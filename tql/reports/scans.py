"""What is read of the sources at the bottom of a plan: fragments, columns, bytes."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from tql.engine.computed import Computed
from tql.engine.derived import DerivedSource
from tql.engine.expanding import WindowSource
from tql.engine.grouping import GroupedSource
from tql.engine.joined import JoinedSource
from tql.engine.pairing import Paired
from tql.engine.splitting import SplitSource
from tql.engine.stacked import StackedSource
from tql.engine.zones import Outlook, outlook
from tql.language.expr import Column, Expr, columns_of
from tql.language.plan import Filter, Leaf, Output, Plan
from tql.language.plan_parts import inputs, walk_plan
from tql.reports.nodes import Fetch, Node
from tql.sources.protocol import Fragment, Source

# Bytes by source (its identity, while all are alive) and columns of it.
_Known: TypeAlias = dict[tuple[int, tuple[str, ...]], int | None]

_TOLD: Final = ("Subquery", "Group", "Ungroup", "Windows", "Stack")


def filters_of(plan: Plan) -> Iterator[Filter]:
    """The filters of the plan, the lowest first."""
    for below in inputs(plan):
        yield from filters_of(below)
    if isinstance(plan, Filter):
        yield plan


def looked_at(plan: Plan, source: Source) -> Outlook | None:
    """What the plan's filters know beforehand; None where some of its rows pass none."""
    leaves = sum(isinstance(p, Leaf) for p in walk_plan(plan))
    conditions = [f.predicate for f in filters_of(plan) if isinstance(f.input, Leaf)]
    return None if len(conditions) < leaves else outlook(source, conditions)


def scan_node(source: Source, columns: Sequence[str], told: Outlook | None = None) -> Node:
    fragments = source.fragments if told is None else told.kept
    total = len(source.fragments if told is None else told.pieces)
    what = "zones" if told is not None and told.zoned else "fragments"
    left = f"{len(fragments):,} of {total:,} {what} kept" if total else "no rows"
    named = f"columns: {', '.join(columns)}" if columns else "no column is read"
    title = f"{source.kind}, {left}; {named}"
    size = column_bytes(source, columns, fragments) if columns else 0
    return Node("Scan", title, source.rows, size)


def with_scan(node: Node, source: Source, read: set[str], told: Outlook | None) -> Node:
    """The tree with its scan knowing what is read of it; scans below another leaf know already."""
    columns = [c.name for c in (*source.schema, *source.schema.hidden) if c.name in read]
    if node.kind in _TOLD:
        return node
    if node.kind == "Join":
        if not isinstance(source, JoinedSource):  # a view of one, whose sides are told already
            return node
        left, right = source.read_for(read)
        sides = zip(node.children, source.below, (left, right), strict=True)
        children = tuple(with_scan(n, side, names, None) for n, side, names in sides)
        return replace(node, children=children)
    if node.kind == "Scan":
        scan = scan_node(source, columns, told)
        again = "same pass as above" in node.details
        return replace(node, title=scan.title, bytes=None if again else scan.bytes)
    children = tuple(with_scan(c, source, read, told) for c in node.children)
    return replace(node, children=children)


def with_pairs(node: Node, found: Collection[Paired]) -> Node:
    """The node of a cross join whose pairs filters above it find without looking at all of them."""
    if not found:
        return node
    keys = [" and ".join(f"{_named(a)} == {_named(b)}" for a, b in p.keys) for p in found]
    on = dict.fromkeys(k for k in keys if k)
    title = f"on keys of WHERE, {' or '.join(on)}" if all(keys) else node.title
    looked = tuple(f"{p.looked:,} of {node.rows:,} pairs looked at" for p in found)
    return replace(node, title=title, details=(*node.details, *dict.fromkeys(looked)))


def _named(e: Expr) -> str:
    """A key: a column, or what columns it is made of."""
    if isinstance(e, Column):
        return e.name
    return f"a value of {', '.join(sorted(columns_of(e)))}"


def column_bytes(
    source: Source, columns: Sequence[str], fragments: Sequence[Fragment] | None = None,
    known: _Known | None = None,
) -> int | None:  # fmt: skip
    """Bytes of these columns in all rows, or in these fragments or pieces of them, from statistics;
    None where they are unknown.

    known  what was found below, so that a view which a union of a union stands on is asked once
    """
    if isinstance(source, Computed):
        known = {} if known is None else known
        key = id(source), tuple(columns)
        if key not in known:
            known[key] = _total(_share(*part, known) for part in _parts(source, columns))
        return known[key]
    total = 0
    for piece in source.fragments if fragments is None else fragments:
        fragment = source.fragments[piece.index]
        for name in columns:
            stats = fragment.columns.get(name)
            if stats is None or stats.bytes is None:
                return None
            total += stats.bytes * piece.rows // fragment.rows
    return total


def _parts(source: Computed, columns: Collection[str]) -> Iterator[tuple[Source, list[str], int]]:
    """What `columns` are made of: columns of the sources below, and how many of their rows."""
    match source:
        case JoinedSource():
            for side, names in zip(source.below, source.read_for(columns, keys=False), strict=True):
                yield side, sorted(names), source.rows
        case StackedSource():
            for branch in source.branches:
                yield branch, list(columns), branch.rows
        case DerivedSource():
            known = {o.name: o.expr for o in source.outputs}
            below = sorted(frozenset().union(*(columns_of(known[c]) for c in columns)))
            yield source.parent, below, source.rows
        case GroupedSource():
            yield source.inner, source.columns_below(columns), source.inner.rows
        case SplitSource() | WindowSource():
            known_below = source.inner.schema
            yield source.inner, [c for c in columns if c in known_below], source.inner.rows
        case _:
            raise AssertionError(f"the columns of a {type(source).__name__}")


def _share(source: Source, columns: Sequence[str], rows: int, known: _Known) -> int | None:
    """About how many bytes so many rows of these columns have."""
    size = column_bytes(source, columns, known=known)
    return None if size is None else size * rows // max(1, source.rows)


def _total(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(s or 0 for s in known)


def fetched(
    source: Source, outputs: Sequence[Output], read: set[str], rows: int | None
) -> Fetch | None:
    """The columns that only drawn rows are read of, and about how many bytes those rows have."""
    wanted = frozenset().union(*(columns_of(o.expr) for o in outputs)) - read
    columns = tuple(name for name in source.schema.names if name in wanted)
    if not columns or rows == 0:
        return None
    size = column_bytes(source, columns)
    shown = _named_below(source, columns)
    if not shown:
        return None
    if size is None or rows is None:
        return shown, None
    return shown, round(size * rows / max(1, source.rows))


def _named_below(source: Source, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns under the names that they have below what makes new rows of rows."""
    if isinstance(source, GroupedSource | SplitSource | WindowSource):
        ((inner, names, _),) = _parts(source, columns)
        assert isinstance(inner, DerivedSource)
        ((parent, below, _),) = _parts(inner, names)
        return _named_below(parent, [n for n in parent.schema.names if n in below])
    return tuple(columns)
