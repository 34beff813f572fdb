"""Text against data: parse, bind, run. The place where language, engine and planner meet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import Diagnostic, Span, TqlDataError, TqlError, error, with_query
from tql.engine.computed import generation
from tql.engine.derived import DerivedSource, computed_in
from tql.engine.scan import Settings
from tql.engine.select import Environment, Population, Run, Selection, resolve, select
from tql.engine.settle import settled_expr
from tql.engine.trying import stored, type_given
from tql.engine.weigh import is_per_row
from tql.forks import ForkLock
from tql.grammar import syntax
from tql.grammar.parser import KEPT_TEXT, parse, parse_weight
from tql.grammar.walk import walk
from tql.language.bind import bind, bind_weight
from tql.language.bind_expr import Params
from tql.language.expr import (
    Expr,
    UserCall,
    is_positional,
    is_small,
    needs_source,
    substitute,
    walk_inside,
)
from tql.language.functions import FUNCTIONS
from tql.language.passes import optimize
from tql.language.places import LeftToTheRun, check_places
from tql.language.plan import Bound, Leaf, Sample
from tql.language.user_function import UserFunction
from tql.language.user_functions import TryOut, never_tried
from tql.planner import fragment_weights, sample
from tql.rowset import Range, RowSet, everything, from_ids
from tql.schema import DType, Schema
from tql.sources.opening import open_source
from tql.sources.protocol import Source
from tql.weights import ClassWeights, FragmentWeights, RowWeights, Weights

_SITES = 1 << 20  # more than the random calls that fit in the longest query text


@dataclass(frozen=True, slots=True)
class Question:
    """A bound query and everything it runs against."""

    text: str
    bound: Bound
    environment: Environment

    def answer(self) -> Selection:
        """Run it."""
        with pointing_into(self.text):
            return select(self.bound, self.environment)

    def population(self) -> Population | None:
        """Who takes part in the SAMPLE BY that ends the query, drawing nothing; None without one."""
        if not isinstance(self.bound.plan, Sample):
            return None
        with pointing_into(self.text):
            source, bound = resolve(self.bound, self.environment)
            assert isinstance(bound.plan, Sample)
            run = Run(source, self.environment, kept=bound.kept)
            run.prepare(bound.plan)
            return run.population(bound.plan, bound.outputs)


@dataclass(frozen=True, slots=True)
class pointing_into:
    """A block whose errors get the query text, so that their caret can be drawn."""

    text: str

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, TqlError) and not problem.query:
            with_query(problem, self.text)


@dataclass(slots=True)
class _Tables:
    """The data sets that FROM names, opened once each."""

    opened: dict[str, Source] = field(default_factory=dict)

    def schema(self, name: str, span: Span) -> Schema:
        if name not in self.opened:
            try:
                self.opened[name] = open_source(name)
            except TqlDataError as e:
                d = e.diagnostic
                raise TqlDataError(Diagnostic(d.code, d.message, span, d.notes, d.help)) from e
        return self.opened[name].schema


def either(params: Params, parameters: Params) -> Params:
    """`parameters=` is another spelling of `params=`; an error where both are given."""
    if params is not None and parameters is not None:
        raise error("parameter", "params= and parameters= are two spellings of one thing",
                    help="give one of them")  # fmt: skip
    return parameters if params is None else params


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed query and the data it is asked of (None where FROM is required), without values.

    What FROM names is opened once, when it is first bound; binding does not parse.
    """

    text: str
    query: syntax.Query
    here: Source | None
    tables: _Tables = field(default_factory=_Tables)

    def check(self, parameters: Sequence[syntax.Parameter]) -> None:
        """Raise the error that the query has whatever the values of its parameters are."""

        def try_out(
            leaf: Leaf | None, function: UserFunction, arguments: tuple[Expr, ...], span: Span
        ) -> DType:
            # Functions of the user's are not called with values that nobody gave.
            if any(span.start <= p.span.start and p.span.stop <= span.stop for p in parameters):
                raise LeftToTheRun
            return self._try_out(leaf, function, arguments, span)

        check_places(parameters, lambda values: self.bound(values, try_out))

    def bound(self, params: Params = None, try_out: TryOut | None = None) -> Bound:
        """The typed query for these values, as written: no pass has run."""
        with pointing_into(self.text):
            return bind(
                self.query,
                self.text,
                here=None if self.here is None else self.here.schema,
                computed=computed_in(self.here),
                tables=self.tables.schema,
                params=params,
                first_site=_SITES * generation(self.here),
                try_out=try_out or self._try_out,
            )

    def _try_out(
        self, leaf: Leaf | None, function: UserFunction, arguments: tuple[Expr, ...], span: Span
    ) -> DType:
        """What a user function gives for columns of `leaf`: called on the first rows stored below."""
        found = None if leaf is None else stored(leaf, arguments)
        if found is None:
            return never_tried(leaf, function, arguments, span)
        scan, arguments = found
        source = self.here if scan.table is None else self.tables.opened[scan.table]
        assert source is not None
        return type_given(source, function, arguments, span)

    def rewritten(self, params: Params = None) -> Bound:
        """The typed query for these values after all passes."""
        with pointing_into(self.text):
            return optimize(self.bound(params))

    def question(
        self, bound: Bound, *, seed: int = 0, settings: Settings | None = None
    ) -> Question:
        """What `rewritten` gave, to be run."""
        environment = _environment(self.here, self.tables.opened, seed, settings)
        return Question(self.text, bound, environment)


def state(here: Source | None, text: str) -> Statement:
    """Parse `text`, to be bound over `here` (None where FROM is required)."""
    if not isinstance(text, str):
        raise error("type", f"a query is text, not a {type(text).__name__}",
                    help='for example ds.query("select * where …")')  # fmt: skip
    with pointing_into(text):
        return Statement(text, parse(text), here)


def ask(
    here: Source | None,
    text: str,
    params: Params = None,
    *,
    seed: int = 0,
    settings: Settings | None = None,
) -> Question:
    """Parse and bind `text` over `here` (None where FROM is required); nothing is evaluated."""
    statement = state(here, text)
    bound = statement.rewritten(params) if params is not None else _as_before(statement)
    return statement.question(bound, seed=seed, settings=settings)


# By text, what binding and rewriting gave for queries of a source that is open, the latest asked
# last. Nothing but these two decides it, for a query without parameters, files of its own and
# functions of the user's.
_BOUND: Final[WeakKeyDictionary[Source, dict[str, Bound]]] = WeakKeyDictionary()
_MOST_BOUND: Final = 64
_LOCK: Final = ForkLock()


def _as_before(statement: Statement) -> Bound:
    """The typed query after all passes; the same object where it was asked before."""
    text = statement.text
    if statement.here is None or len(text) > KEPT_TEXT:
        return statement.rewritten()
    with _LOCK:
        known = _BOUND.setdefault(statement.here, {})
        bound = known.pop(text, None)
        if bound is not None:
            known[text] = bound
            return bound
    bound = statement.rewritten()
    if not statement.tables.opened and not _calls_users(statement.query):
        with _LOCK:
            known[text] = bound
            if len(known) > _MOST_BOUND:
                del known[next(iter(known))]
    return bound


def _calls_users(query: syntax.Query) -> bool:
    """Whether a query that could be bound calls a function that is not one of the language, whose
    names nobody can register.
    """
    return any(isinstance(n, syntax.Call) and n.function not in FUNCTIONS for n in walk(query))


def _environment(
    here: Source | None, tables: Mapping[str, Source], seed: int, settings: Settings | None
) -> Environment:
    def draw(
        population: RowSet, weights: Weights, size: int | None, replace: bool, site: int
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        return sample(population, weights, size, replace, seed, f"sample {site}")

    return Environment(here, tables, seed, draw, settings or Settings())


def weigh_by(
    source: Source, text: str, *, seed: int = 0, settings: Settings | None = None
) -> Weights:
    """The weights that an expression such as `max_weight(labels == 5: 10)` gives all of `source`.

    Over a view they are worked out where the view's rows lie, so that whole columns are scanned;
    row numbers are then those of `below(source)`.
    """
    with pointing_into(text):
        weight = _weight_of(source, text, seed, settings)
        weighing = _below(source, weight, text, seed, settings)
        if weighing is not None:
            return weighing.of(weighing.rows)
        run = _run(source, seed, settings)
        return weights_below(source, run.weights(weight, everything(source.rows)))


def weigh_by_fragment(
    source: Source, text: str, edges: NDArray[np.int64], *, seed: int = 0,
    settings: Settings | None = None,
) -> FragmentWeights | None:  # fmt: skip
    """The same weights, of which only the sums of fragments are kept; None where they are not found
    row by row, or not without their neighbours: weights of classes, random(), functions of the user's.

    edges  rows of `below(source)` at which fragments begin, and their number
    """
    with pointing_into(text):
        weight = _weight_of(source, text, seed, settings)
        weighing = _below(source, weight, text, seed, settings)
        if weighing is None or not weighing.rows.ascending or not is_per_row(weighing.weight):
            return None
        if is_positional(weight) or needs_source(weight):
            return None
        if any(isinstance(n, UserCall) for n in walk_inside(weighing.weight)):
            return None
        ends = weighing.rows.rank(edges)
        return fragment_weights(_OfFragment(weighing, ends), np.diff(ends))


def _weight_of(source: Source, text: str, seed: int, settings: Settings | None) -> Expr:
    weight = bind_weight(
        parse_weight(text), text, source.schema,
        computed=computed_in(source), try_out=partial(_over, source),
    )  # fmt: skip
    return settled_expr(weight, source, seed, settings or Settings())


@dataclass(frozen=True, slots=True)
class _Weighing:
    """A weight over a source that is no view, and the rows that are weighed."""

    source: Source
    weight: Expr
    rows: RowSet
    text: str
    seed: int
    settings: Settings | None

    def of(self, rows: RowSet) -> Weights:
        with pointing_into(self.text):
            return _run(self.source, self.seed, self.settings).weights(self.weight, rows)


@dataclass(frozen=True, slots=True)
class _OfFragment:
    """The weights of the rows of a fragment; `ends` are their ranks, int64 (F + 1,)."""

    weighing: _Weighing
    ends: NDArray[np.int64]

    def __call__(self, fragment: int) -> NDArray[np.float64]:
        first, end = self.ends[fragment : fragment + 2].tolist()
        if first == end:
            return np.empty(0)
        found = self.weighing.of(self.weighing.rows[first:end])
        assert isinstance(found, RowWeights)
        return found.values


def _below(
    source: Source, weight: Expr, text: str, seed: int, settings: Settings | None
) -> _Weighing | None:
    """The weight where the rows lie; None for one that has to be found row by row of the view."""
    if not isinstance(source, DerivedSource):
        return _Weighing(source, weight, everything(source.rows), text, seed, settings)
    lowered = substitute(weight, {o.name: o.expr for o in source.outputs})
    if is_positional(weight) or not is_small(lowered):
        return None
    return _Weighing(source.parent, lowered, source.selected, text, source.seed, settings)


def _over(
    source: Source, leaf: Leaf | None, function: UserFunction, arguments: tuple[Expr, ...], span: Span
) -> DType:  # fmt: skip
    return type_given(source, function, arguments, span)


def _run(source: Source, seed: int, settings: Settings | None) -> Run:
    return Run(source, _environment(source, {}, seed, settings))


def rows_below(source: Source, rows: RowSet) -> RowSet:
    """Rows of a source as rows of what lies directly below it (itself, where it is no view)."""
    if not isinstance(source, DerivedSource):
        return rows
    if isinstance(rows, Range) and len(rows) == source.rows:
        return source.selected
    return from_ids(source.selected.select(rows.to_numpy()), source.selected.universe)


def weights_below(source: Source, weights: Weights) -> Weights:
    """The weights with their members numbered as `rows_below` does."""
    match weights:
        case ClassWeights(values, members):
            return ClassWeights(values, tuple(rows_below(source, m) for m in members))
        case _:
            return weights
