"""What the fragments of data hold: rows of each class, bytes of the loaded columns; nothing is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import counted, did_you_mean, error
from tql.engine.decoding import decoded_bytes
from tql.engine.derived import DerivedSource
from tql.engine.scan import Settings
from tql.language.expr import columns_of
from tql.language.plan import Output
from tql.planner import Plan
from tql.planner.line import DrawLine
from tql.planner.quality import Float64s, Units
from tql.planner.rng import Int64s
from tql.reports.class_counts import by_fragment, can_class
from tql.reports.class_table import too_many_pairs
from tql.rowset import RowSet
from tql.schema import Label
from tql.sources.protocol import Source
from tql.weights import AnyWeights, ClassWeights, FragmentWeights, RowWeights

W = TypeVar("W", bound=AnyWeights | None)

_MOST_CLASSES: Final = 10_000
_MOST_CELLS: Final = 1 << 24  # classes times fragments; 128 MiB of them


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """What fragments hold.

    by    the column of the classes, "weight" where classes are those of equal weight
    mass  float64 (W, F, K) weight that rows of each class have that are of weight class w and in
          fragment f; the unit differs among weight classes
    """

    by: str
    mass: Float64s

    def shares(self, edges: Int64s, line: DrawLine) -> Float64s:
        """Of each class in the draws of weight class w in fragment f of the line, float64 (W, F, K)."""
        mass = on_line(self.mass, edges, line)
        total = mass.sum(axis=2, keepdims=True)
        found: Float64s = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
        return found


class Material:
    """The fragments below a plan: where they begin, what they take in memory, what is in them.

    edges  int64 (F + 1,); sizes  int64 (F,) bytes of the loaded columns once decoded
    """

    def __init__(
        self, source: Source, outputs: Sequence[Output], loaded: Sequence[str] | None
    ) -> None:
        self.source = source
        self.outputs = [o for o in outputs if loaded is None or o.name in loaded]
        self._shown = outputs
        self.edges: Int64s = np.array([*(f.start for f in source.fragments), source.rows], np.int64)
        below = frozenset().union(*(columns_of(o.expr) for o in self.outputs))
        size = decoded_bytes(source, [n for n in source.schema.names if n in below])
        self.sizes: Int64s = np.array([size(f) for f in source.fragments], np.int64)
        self._mixtures: dict[str | None, Mixture | str] = {}

    def mixture(self, plan: Plan, by: str | None) -> Mixture | str:
        """What the fragments hold of each class; else why that is not known."""
        if by not in self._mixtures:
            self._mixtures[by] = self._mixture(plan, by)
        return self._mixtures[by]

    def _mixture(self, plan: Plan, by: str | None) -> Mixture | str:
        column = self._column(by)
        if column is None:
            if not isinstance(plan.weights, ClassWeights):
                return "no column has class names"
            some = np.eye(len(plan.weights.members))
            cells = np.repeat(some[:, None, :], self.edges.size - 1, axis=1)
            return Mixture("weight", cells)
        if isinstance(plan.weights, FragmentWeights):
            return "weights are looked up by fragment, and not by class"
        name, stored = column
        if isinstance(self.source, DerivedSource) and stored in self.source.computed:
            return f"'{name}' is computed: of rows that are left out, that may be an error"
        if too_many_pairs(self.source):
            return (
                f"to count '{name}' takes too long in {counted(self.source.rows, 'pair')} of rows"
            )
        weights, limit = _moderate(plan.weights), _MOST_CELLS // max(1, self.edges.size - 1)
        found = by_fragment(self.source, stored, plan.population, weights, Settings(),
                            min(_MOST_CLASSES, limit))  # fmt: skip
        if found is None:
            return f"'{name}' has too many values to count in {counted(self.edges.size - 1, 'fragment')}"
        classes, parts = found
        width = parts[0][1].shape[1] if parts else 1
        mass = None
        if isinstance(weights, ClassWeights) and width * classes > limit:
            mass, width = weights.values, 1  # together: no room to tell them apart
        counts = np.zeros((width, self.edges.size - 1, classes))
        for f, (slots, cells) in enumerate(parts):
            counts[:, f, slots] = (cells if mass is None else (cells @ mass)[:, None]).T
        return Mixture(name, counts)

    def _column(self, by: str | None) -> tuple[str, str] | None:
        """Name and stored name of the column of the classes."""
        stored = {n: n for n in self.source.schema.names}  # batches may leave the column out
        stored |= {o.name: o.stored for o in self._shown if o.stored}
        shown = [o.name for o in self._shown if o.stored]
        if by is None:
            each = dict.fromkeys([*shown, *stored])
            named = [n for n in each if isinstance(self.source.schema[stored[n]].dtype, Label)]
            return (named[0], stored[named[0]]) if named else None
        if by not in stored and by in {o.name for o in self._shown}:
            raise error("unsupported", f"'{by}' is computed: classes are counted in a column of the data",
                        help=f"the columns are {', '.join(stored)}")  # fmt: skip
        if by not in stored:
            raise error("unknown_column", f"no column '{by}' of the data to count classes in",
                        help=did_you_mean(by, tuple(stored)) or f"the columns are {', '.join(stored)}")  # fmt: skip
        if not can_class(self.source.schema[stored[by]].dtype):
            dtype = self.source.schema[stored[by]].dtype
            raise error("type", f"'{by}' is {dtype}, whose values are no classes",
                        help="name a column of class labels, whole numbers, texts or bools")  # fmt: skip
        return by, stored[by]

    def whole(self, plan: Plan, mixture: Mixture | None) -> Units:
        """What an epoch draws of each fragment, in the order of the data; expected, with weights.

        Without a mixture, all draws are of one class.
        """
        drawn = self._mass(plan)
        begins = np.append(0, np.round(np.cumsum(drawn) * (len(plan) / max(drawn.sum(), 1e-300))))
        begins = begins.astype(np.int64)
        used = np.flatnonzero(np.diff(begins))
        draws = np.diff(begins)[used].astype(np.float64)[:, None]
        if mixture is None:
            classes = draws
        else:
            weights = _moderate(plan.weights)
            values = weights.values if isinstance(weights, ClassWeights) else np.ones(1)
            scale = values if mixture.mass.shape[0] == values.size else np.ones(1)
            mass = np.tensordot(scale, mixture.mass, 1)[used]
            if mixture.by == "weight":  # each of them as often as it is there
                mass = self._of_classes(plan)[:, used].T
            classes = mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-300) * draws
        return Units(np.append(0, begins[used + 1]), used, np.zeros_like(used), classes)

    def _mass(self, plan: Plan) -> Float64s:
        """How much weight the rows of each fragment have, float64 (F,)."""
        weights = _moderate(plan.weights)
        match weights:
            case None:
                return self._inside(plan.population).astype(np.float64)
            case ClassWeights():
                mass: Float64s = self._of_classes(plan).sum(axis=0)
                return mass
            case RowWeights(values):
                fragment = np.searchsorted(self.edges, plan.population.to_numpy(), side="right") - 1
                return np.bincount(fragment, values, self.edges.size - 1).astype(np.float64)
            case FragmentWeights(sums=sums):
                return sums.astype(np.float64)
            case _:
                assert_never(weights)

    def _of_classes(self, plan: Plan) -> Float64s:
        """Weight of the rows of each weight class in each fragment, float64 (W, F)."""
        weights = _moderate(plan.weights)
        assert isinstance(weights, ClassWeights)
        pairs = zip(weights.values.tolist(), weights.members, strict=True)
        return np.stack([value * self._inside(rows) for value, rows in pairs])

    def _inside(self, rows: RowSet) -> Int64s:
        """How many of the rows lie in each fragment, int64 (F,)."""
        if rows.ascending:
            return np.diff(rows.rank(self.edges))
        fragment = np.searchsorted(self.edges, rows.to_numpy(), side="right") - 1
        return np.bincount(fragment, minlength=self.edges.size - 1)


def _moderate(weights: W) -> W:
    """The weights in a unit in which they can be added up, the heaviest 1, where theirs is extreme."""
    if isinstance(weights, ClassWeights | RowWeights):
        most = float(weights.values.max())
        if not 1e-200 < most < 1e200:
            return replace(weights, values=weights.values / most)
    return weights


def on_line(of: NDArray[Any], edges: Int64s, line: DrawLine) -> NDArray[Any]:
    """Sums of the fragments that are one on the line; the first axis but one, or the only one."""
    axis = 0 if of.ndim == 1 else 1
    if line.edges.size == edges.size:
        return of
    return np.add.reduceat(of, np.searchsorted(edges[:-1], line.edges[:-1]), axis=axis)
