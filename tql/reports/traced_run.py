"""A run that explains itself: rows of each node, seconds, and what a NULL keeps out."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from tql.engine.derived import frame_at
from tql.engine.framing import frame_over
from tql.engine.reference import is_true, kept_out_by_null
from tql.engine.select import Environment, Run
from tql.engine.zones import outlook
from tql.language.expr import Expr, Not, can_raise, columns_of
from tql.language.plan import Filter, Plan
from tql.rowset import RowSet, from_ids, from_words
from tql.sources.protocol import Fragment, Source
from tql.weights import Weights


class TracedRun(Run):
    """A run that keeps what each node gave, so that asking twice evaluates once."""

    def __init__(self, source: Source, environment: Environment) -> None:
        super().__init__(source, environment)
        self.given: dict[int, RowSet] = {}
        self.seconds: dict[int, float] = {}
        self.unknown: dict[int, int] = {}
        self._weights: dict[int, Weights] = {}

    def rows(self, plan: Plan) -> RowSet:
        if id(plan) not in self.given:
            began = perf_counter()
            self.given[id(plan)] = super().rows(plan)
            self.seconds[id(plan)] = perf_counter() - began
        return self.given[id(plan)]

    def weights(self, weight: Expr, rows: RowSet) -> Weights:
        if id(weight) not in self._weights:
            self._weights[id(weight)] = super().weights(weight, rows)
        return self._weights[id(weight)]

    def unpaired(self, filters: Sequence[Filter]) -> list[Filter]:
        """As a run's, timing what it answers."""
        began = perf_counter()
        rest = super().unpaired(filters)
        for f in filters:
            if id(f.predicate) in self.paired:
                self.seconds[id(f.input)] = perf_counter() - began
        return rest

    def _evaluate(self, filters: Sequence[Filter]) -> None:
        """One pass for the filters; where one can be NULL, for its negation too, to count that.

        Another pass counts it for one that may raise: its negation would where the query does not.
        """
        began = perf_counter()
        unsure = [f for f in filters if f.predicate.nullable and not can_raise(f.predicate)]
        conditions = [f.predicate for f in filters] + [Not(f.predicate) for f in unsure]
        words = self._scan(conditions)
        true = dict(zip(map(id, filters), words, strict=False))
        for f in filters:
            self._filtered[id(f)] = from_words(true[id(f)], self.source.rows)
            if f.predicate.nullable and can_raise(f.predicate):
                self.unknown[id(f.predicate)] = self._kept_out(f.predicate)
        for f, false in zip(unsure, words[len(filters) :], strict=True):
            decided = int(np.bitwise_count(true[id(f)] | false).sum())
            self.unknown[id(f.predicate)] = self.source.rows - decided
        self.seconds[id(filters[0].input)] = perf_counter() - began

    def _kept_out(self, predicate: Expr) -> int:
        """Rows that a NULL keeps out, in the fragments that the filter reads."""
        columns = sorted(columns_of(predicate))
        seed = self.environment.seed

        def counted(fragment: Fragment) -> int:
            rows = np.arange(fragment.start, fragment.stop)
            frame = frame_over(self.source, rows, columns, seed)
            return int(np.count_nonzero(kept_out_by_null(predicate, frame)))

        # On this thread: a function of the user's may be called.
        return sum(map(counted, outlook(self.source, [predicate]).kept))

    def _filter(self, rows: RowSet, predicate: Expr) -> RowSet:
        """A filter over a part of the source, counting where it is NULL, too."""
        frame = frame_at(self.source, rows.to_numpy(), [predicate], self.environment.seed)
        true = is_true(predicate, frame)
        if predicate.nullable and can_raise(predicate):
            unknown = kept_out_by_null(predicate, frame)
            self.unknown[id(predicate)] = int(np.count_nonzero(unknown))
        elif predicate.nullable:
            false = is_true(Not(predicate), frame)
            self.unknown[id(predicate)] = int(np.count_nonzero(~(true | false)))
        return from_ids(rows.select(np.flatnonzero(true)), rows.universe)
