"""From a bound query or a loader's chain to the nodes of an explanation, each evaluated once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final, assert_never

from tql.diagnostics import counted
from tql.engine.joined import read_of_sides
from tql.engine.select import (
    Environment,
    MadeLeaf,
    over_result,
    over_several,
    pointing_at,
    rows_of,
    source_at,
)
from tql.engine.settle import settled
from tql.grammar.syntax import SetOp
from tql.language.expr import Column, Const, columns_of, walk
from tql.language.plan import (
    Bound,
    Combine,
    Count,
    Cut,
    Derived,
    Distinct,
    Expand,
    Filter,
    Grouped,
    Joined,
    Leaf,
    Order,
    Percent,
    Plan,
    Sample,
    Scan,
    SetStep,
    Split,
    Stacked,
    Windows,
)
from tql.language.plan_parts import expressions, inputs, source_of, walk_plan
from tql.planner import make_plan
from tql.queries import Question, pointing_into
from tql.reports.class_counts import Drawing
from tql.reports.class_table import ClassTable, tabled
from tql.reports.kernels import kernels_of
from tql.reports.nodes import Node, Told
from tql.reports.scans import fetched, filters_of, looked_at, scan_node, with_pairs, with_scan
from tql.reports.titles import cut_title, made_title, sampling, windows_title
from tql.reports.traced_run import TracedRun
from tql.reports.user_notes import called_in
from tql.rowset import Range
from tql.schema import Binary, Json, List
from tql.sources.protocol import Source

_UNKNOWN: Final = "what lies above a draw inside the query (?) is known when it is run: --analyze"
_UNREAD: Final = (
    "what lies above DISTINCT of such columns (?) is known when they are read: --analyze"
)


@dataclass(slots=True)
class Teller:
    """Builds the nodes of one bound query.

    draws  whether draws that others build on may be made; where not, what lies above is unknown
    base   the node below a scan of the data set asked, where that is itself the result of a step
    """

    bound: Bound
    run: TracedRun
    draws: bool
    base: Node
    read: set[str]
    notes: list[str]
    scanned: bool = False

    def node(self, plan: Plan) -> Node:
        """The node of `plan` and all below it."""
        node = self._node(plan)
        given = self.run.given.get(id(plan))
        seconds = self.run.seconds.get(id(plan))
        return replace(node, actual=None if given is None else len(given), seconds=seconds)

    def _node(self, plan: Plan) -> Node:
        match plan:
            case Scan() | Derived() | Grouped() | Split() | Windows() | Joined() | Stacked():
                base = with_pairs(self.base, self.run.paired.values())
                node = replace(base, details=(*base.details, "same pass as above"),
                               bytes=None) if self.scanned else base  # fmt: skip
                self.scanned = True
                return node
            case Filter(input, predicate):
                self.read |= columns_of(predicate)
                below, rows = self.node(input), self.count(plan)
                return Node("Filter", plan.text, rows, details=self._dropped(plan),
                            children=(below,))  # fmt: skip
            case Expand(input, before, after, overlap):
                title = windows_title(before, after, overlap)
                return Node("Expand", title, self.count(plan), children=(self.node(input),))
            case Distinct(input, distinct_keys):
                self.read |= frozenset().union(*map(columns_of, distinct_keys))
                return Node("Distinct", plan.text, self.count(plan), children=(self.node(input),))
            case Order(input, keys):
                self.read |= frozenset().union(*(columns_of(k.expr) for k in keys))
                title = ", ".join(f"{k.text} descending" if k.descending else k.text for k in keys)
                return Node("Order", title, self.count(plan), children=(self.node(input),))
            case Cut(input, offset, size):
                return Node(
                    *cut_title(offset, size), self.count(plan), children=(self.node(input),)
                )
            case Sample():
                return self._sample(plan)
            case Combine(first, steps):
                children = [self.node(first), *(self.node(step.plan) for step in steps)]
                if len({(s.op, s.all) for s in steps}) > 1:
                    for at, step in enumerate(steps, 1):
                        told = (f"{_operator(step)} what comes before", *children[at].details)
                        children[at] = replace(children[at], details=told)
                kind, title = _combining(steps)
                return Node(kind, title, self.count(plan), children=tuple(children))
            case _:
                assert_never(plan)

    def count(self, plan: Plan) -> int | None:
        """Rows that `plan` gives; nothing is sorted or drawn for it if that can be helped."""
        match plan:
            case Scan() | Derived() | Grouped() | Split() | Windows() | Joined() | Stacked():
                return self.base.rows
            case Filter() | Expand() | Distinct():
                return len(self.run.rows(plan)) if self.known(plan) else None
            case Order(input):
                return self.count(input)
            case Cut(input, offset, size):
                arriving = self.count(input)
                if arriving is None:
                    return None
                left = max(0, arriving - offset)
                return left if size is None else min(left, rows_of(size, left))
            case Sample(input, _, with_replacement, size):
                if self.known(input):
                    drawing = self.drawing(plan)
                    return 0 if drawing is None else drawing.size
                return size.rows if with_replacement and isinstance(size, Count) else None
            case Combine(_, steps):
                if all(s.op is SetOp.UNION and s.all for s in steps):
                    counts = [c for p in inputs(plan) if (c := self.count(p)) is not None]
                    return sum(counts) if len(counts) == len(steps) + 1 else None
                return len(self.run.rows(plan)) if self.known(plan) else None
            case _:
                assert_never(plan)

    def known(self, plan: Plan) -> bool:
        """Whether the rows of `plan` can be had without drawing, or reading much, or both are allowed."""
        return self.base.rows is not None and (self.draws or not _draws_in(plan))

    def drawing(self, plan: Sample) -> Drawing | None:
        """Weights and number of draws of a sample whose input is known; None for no draw at all."""
        arriving = self.count(plan.input)
        assert arriving is not None
        size = None if plan.size is None else rows_of(plan.size, arriving)
        if size == 0:
            return None
        rows = self.run.rows(plan.input)
        weights = self.run.weights(plan.weight, rows)
        with pointing_at(plan.span):
            drawn = make_plan(rows, weights, size=size, replace=plan.replace)
        self.notes += drawn.notes
        return Drawing(weights, len(drawn), plan.replace)

    def _dropped(self, plan: Filter) -> tuple[str, ...]:
        unknown = self.run.unknown.get(id(plan.predicate), 0)
        if not unknown:
            return ()
        nullable = dict.fromkeys(
            n.name for n in walk(plan.predicate) if isinstance(n, Column) and n.nullable
        )
        return (f"{counted(unknown, 'row')} dropped because {' or '.join(nullable)} is null",)

    def _sample(self, plan: Sample) -> Node:
        self.read |= columns_of(plan.weight)
        below = self.node(plan.input)
        drawing = self.drawing(plan) if self.known(plan.input) else None
        title, details = sampling(plan.replace, None if drawing is None else drawing.weights)
        match plan.weight, plan.size:
            case Const(), Percent(percent):
                details = (f"{float(percent):g} percent of the rows", *details)
            case Const(), _:
                pass
            case _:
                details = (f"weight {plan.text}", *details)
        return Node("Sample", title, self.count(plan), details=details, children=(below,))


def _draws_in(plan: Plan) -> bool:
    """Whether the rows are known only when the query is run: draws, DISTINCT of what is payload."""
    match plan:
        case Sample():
            return True
        case Distinct(_, keys) if any(isinstance(k.dtype, Binary | List | Json) for k in keys):
            return True
        case _:
            return any(map(_draws_in, inputs(plan)))


def _why_unknown(plan: Plan) -> str:
    unread = any(isinstance(p, Distinct) and _draws_in(p) for p in walk_plan(plan))
    drawn = any(isinstance(p, Sample) for p in walk_plan(plan))
    return _UNREAD if unread and not drawn else _UNKNOWN


def _combining(steps: Sequence[SetStep]) -> tuple[str, str]:
    """Kind and title of set operations that bind alike."""
    last = steps[-1]
    if any((s.op, s.all) != (last.op, last.all) for s in steps):
        return "Combine", "set operations from the first to the last"
    title = "keeps repeats" if last.all else "rows in ascending order, none twice"
    return _operator(last).capitalize(), title


def _operator(step: SetStep) -> str:
    return f"{step.op.value}{' all' if step.all else ''}"


# -- queries -----------------------------------------------------------------------------------


def tell_query(question: Question, analyze: bool, kernels: bool) -> Told:
    """The whole story of a query."""
    with pointing_into(question.text):
        teller = teller_of(question.bound, question.environment, draws=analyze)
        began = perf_counter()
        if analyze:
            teller.run.rows(teller.bound.plan)
        seconds = (("run", perf_counter() - began),) if analyze else ()
        told = replace(tell(teller), seconds=seconds)
        if not kernels:
            return told
        environment, run = question.environment, teller.run
        notes = kernels_of(teller.bound, environment, run.source, run.paired)
        return replace(told, kernels=notes)


def teller_of(
    bound: Bound, environment: Environment, *, draws: bool, base: Node | None = None,
    above: Collection[str] = (),
) -> Teller:  # fmt: skip
    """Evaluates the filters of the query. `base` describes the data that it was asked of, if given;
    `above` are the columns of its result that are read above it.
    """
    leaf = source_of(bound.plan)
    read = _read_of(bound) | _made_of(bound, above)
    if isinstance(leaf, Joined | Stacked):
        source, below, notes = _several(leaf, read, environment, draws)
    elif isinstance(leaf, Scan):
        source, notes = source_at(leaf, environment), list[str]()
        below = scan_node(source, ()) if base is None or leaf.table is not None else base
    else:
        source, below, notes = _made(leaf, read, environment, draws, base)
    if below.rows is not None:
        bound = settled(bound, source, environment.seed, environment.settings)
    run = TracedRun(source, environment)
    teller = Teller(bound, run, draws, below, _made_of(bound, above), notes)
    if teller.base.rows is not None:
        run.prepare(bound.plan)
    return teller


def tell(teller: Teller) -> Told:
    """The story of a query whose filters are evaluated."""
    bound, source = teller.bound, teller.run.source
    node = with_scan(teller.node(bound.plan), source, teller.read, looked_at(bound.plan, source))
    node = _selecting(bound, source, node)
    table = _table_of(teller)
    fetch = fetched(source, bound.outputs, teller.read, node.rows)
    note = () if node.rows is not None else (_why_unknown(bound.plan),)
    return Told(node, table, fetch, (*teller.notes, *teller.run.notes, *called_in(bound), *note))


def _read_of(bound: Bound) -> set[str]:
    """The columns of the leaf that the plan's expressions read."""
    return {c for p in walk_plan(bound.plan) for e in expressions(p) for c in columns_of(e)}


def _made_of(bound: Bound, names: Collection[str]) -> set[str]:
    """The columns of the leaf that these columns of the result are made of."""
    return {c for o in bound.outputs if o.name in names for c in columns_of(o.expr)}


def _made(
    leaf: MadeLeaf, read: set[str], environment: Environment, draws: bool, base: Node | None
) -> tuple[Source, Node, list[str]]:
    """The source that a leaf makes of its query's rows, its node and its notes.

    `read` are the columns of it that are read above.
    """
    if isinstance(leaf, Grouped):
        read = read | set(leaf.keys)
    teller = teller_of(leaf.query, environment, draws=draws, base=base, above=read)
    query = teller.bound
    known = teller.known(query.plan)
    rows = teller.run.rows(query.plan) if known else Range(0, 0, teller.run.source.rows)
    leaf = replace(leaf, query=query)
    source = over_result(leaf, teller.run.source, rows, environment)
    if isinstance(leaf, Derived):
        told = tell(teller)
        node = Node("Subquery", "", told.node.rows if known else None, children=(told.node,))
        return source, node, list(told.notes)
    inner = teller.run.source
    below = with_scan(teller.node(query.plan), inner, teller.read, looked_at(query.plan, inner))
    notes = [*teller.notes, *teller.run.notes, *(() if known else (_why_unknown(query.plan),))]
    return source, Node(*made_title(leaf), source.rows if known else None, children=(below,)), notes


def _several(
    leaf: Joined | Stacked, read: set[str], environment: Environment, draws: bool
) -> tuple[Source, Node, list[str]]:
    """The source that a join or a union of sources is, its node and its notes.

    `read` are the columns of it that are read above.
    """
    below: tuple[Leaf, ...]
    reads: tuple[set[str], ...]
    match leaf:
        case Joined(kind, left, right):
            below, reads = (left, right), read_of_sides(leaf, read)
            what, title = "Join", f"{kind.value}, {leaf.text}" if leaf.text else kind.value
        case Stacked(branches):
            below, reads = tuple(map(Derived, branches)), (read,) * len(branches)
            what, title = "Stack", "the rows of several queries, one after the other"
        case _:
            assert_never(leaf)
    told = [_part(part, r, environment, draws) for part, r in zip(below, reads, strict=True)]
    source = over_several(leaf, [part for part, _, _ in told], environment)
    known = all(node.rows is not None for _, node, _ in told)
    node = Node(what, title, source.rows if known else None, children=tuple(n for _, n, _ in told))
    return source, node, [note for _, _, notes in told for note in notes]


def _part(
    leaf: Leaf, read: set[str], environment: Environment, draws: bool
) -> tuple[Source, Node, list[str]]:
    match leaf:
        case Scan():
            source = source_at(leaf, environment)
            named = () if leaf.table is None else (leaf.table,)
            return source, replace(scan_node(source, ()), details=named), []
        case Joined() | Stacked():
            return _several(leaf, read, environment, draws)
        case _:
            return _made(leaf, read, environment, draws, None)


def _selecting(bound: Bound, source: Source, node: Node) -> Node:
    """A node for the select list, where it is not the columns as they stand."""
    names = tuple(o.stored if o.stored == o.name else None for o in bound.outputs)
    if names == source.schema.names:
        return node
    shown = [o.name if o.stored == o.name else f"{o.name} ({o.expr.dtype})" for o in bound.outputs]
    return Node("Select", ", ".join(shown), node.rows, children=(node,))


def _table_of(teller: Teller) -> ClassTable | None:
    plan = teller.bound.plan
    while isinstance(plan, Order):
        plan = plan.input
    where = [f.predicate for f in filters_of(plan)]
    source, settings = teller.run.source, teller.run.environment.settings
    if isinstance(plan, Sample):
        if not teller.known(plan.input):
            return None
        drawing = teller.drawing(plan)
        population = teller.run.rows(plan.input)
        if drawing is None:
            return None
        return tabled(
            source, population, drawing, plan.weight, where, teller.bound.outputs, settings,
            teller.notes,
        )  # fmt: skip
    if not teller.known(plan):
        return None
    rows = teller.run.rows(plan)
    return tabled(source, rows, None, None, where, teller.bound.outputs, settings, teller.notes)
