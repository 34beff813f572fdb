"""How heavily each row of a population counts: a few distinct weights, or one number per row."""

import math
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Final, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from tql.bits import read_only
from tql.diagnostics import TqlError, counted, error
from tql.rowset import RowSet


@dataclass(frozen=True, slots=True, eq=False)
class ClassWeights:
    """K distinct weights and the rows of each.

    values   float64 (K,), one weight for every member of the class; 0 is allowed
    members  K row sets of the base data set: disjoint, together the population
    """

    values: NDArray[np.float64]
    members: tuple[RowSet, ...]

    def __post_init__(self) -> None:
        assert self.values.dtype == np.float64 and self.values.shape == (len(self.members),)
        object.__setattr__(self, "values", read_only(self.values))

    def __len__(self) -> int:
        """Rows of the population."""
        return sum(map(len, self.members))

    def __repr__(self) -> str:
        classes = counted(len(self.members), "class", "classes")
        return f"<ClassWeights {classes} of {counted(len(self), 'row')}>"

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + sum(m.nbytes for m in self.members)


@dataclass(frozen=True, slots=True)
class Span:
    """What weights lie between; NaN among them makes both ends NaN.

    positive    how many are above 0
    minus_zero  whether some are -0.0, which says the same as 0.0 in other bits
    """

    least: float
    most: float
    positive: int
    minus_zero: bool

    @property
    def are_weights(self) -> bool:
        """Whether all are finite numbers from 0 up."""
        return self.least >= 0 and self.most < math.inf  # a NaN makes both false


@dataclass(frozen=True, slots=True, eq=False)
class RowWeights:
    """One weight for each row of the population, in its order: float64 (n,).

    `known` is the span of the values, where somebody has looked already.
    """

    values: NDArray[np.float64]
    known: InitVar[Span | None] = None
    _span: list[Span] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self, known: Span | None) -> None:
        assert self.values.dtype == np.float64 and self.values.ndim == 1
        object.__setattr__(self, "values", read_only(self.values))
        if known is not None:
            self._span.append(known)

    @property
    def span(self) -> Span:
        """What the values lie between; looked at once."""
        if not self._span:
            self._span.append(span_of(self.values))
        return self._span[0]

    def __len__(self) -> int:
        return self.values.size

    def __repr__(self) -> str:
        return f"<RowWeights of {counted(len(self), 'row')}>"

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class FragmentWeights:
    """One weight for each row of the population, looked up fragment by fragment when it is needed.

    counts    int64 (F,) rows of the population in each fragment
    sums      uint64 (F,) what they weigh together, in whole units; the total is below 2^63
    heaviest  uint64 (F,) what the heaviest of them weighs
    units     the weights of the rows of a fragment, uint64 (counts[f],), the same whenever it is
              asked; any thread may ask
    digest    a text that names all the units: others have another
    """

    counts: NDArray[np.int64]
    sums: NDArray[np.uint64]
    heaviest: NDArray[np.uint64]
    units: Callable[[int], NDArray[np.uint64]]
    digest: str

    def __post_init__(self) -> None:
        assert self.counts.dtype == np.int64 and self.counts.ndim == 1
        for name in ("sums", "heaviest"):
            array = getattr(self, name)
            assert array.dtype == np.uint64 and array.shape == self.counts.shape
            object.__setattr__(self, name, read_only(array))
        object.__setattr__(self, "counts", read_only(self.counts))

    def __len__(self) -> int:
        """Rows of the population."""
        return int(self.counts.sum())

    def __repr__(self) -> str:
        fragments = counted(self.counts.size, "fragment")
        return f"<FragmentWeights of {counted(len(self), 'row')} in {fragments}>"

    @property
    def nbytes(self) -> int:
        return self.counts.nbytes + self.sums.nbytes + self.heaviest.nbytes


Weights: TypeAlias = ClassWeights | RowWeights
AnyWeights: TypeAlias = Weights | FragmentWeights


def check(weights: AnyWeights) -> None:
    """Raise TqlPlanError ("value") for weights that nothing can be drawn by."""
    if len(weights) == 0:
        raise error(
            "value",
            "there is no row to draw from: the population is empty",
            help="loosen the filter, or leave out the sampling",
        )
    match weights:
        case ClassWeights():
            _check_classes(weights)
        case RowWeights():
            if not weights.span.are_weights:
                raise _bad_value(
                    weights.values, lambda row: f"row {row} of the {len(weights)} to draw from"
                )
            if not weights.span.positive:
                raise _all_zero(len(weights))
        case FragmentWeights():
            total = sum(weights.sums.tolist())
            assert total < 1 << 63, f"the units of all fragments add up to {total}"
            if not total:
                raise _all_zero(len(weights))
        case _:
            assert_never(weights)


def positive_rows(weights: Weights) -> int:
    """How many rows have a weight above zero."""
    match weights:
        case ClassWeights():
            return sum(
                len(m) for w, m in zip(weights.values, weights.members, strict=True) if w > 0
            )
        case RowWeights():
            return weights.span.positive
        case _:
            assert_never(weights)


def class_masses(weights: ClassWeights) -> tuple[int, ...]:
    """weight times rows of each class as exact integers in one common unit (a power of two)."""
    units = integer_weights(weights.values)
    return tuple(u * len(m) for u, m in zip(units, weights.members, strict=True))


def integer_weights(values: NDArray[np.float64]) -> tuple[int, ...]:
    """The finite floats (K,) as exact integers in one common unit (a power of two)."""
    ratios = [v.as_integer_ratio() for v in values.tolist()]
    unit = max((q for _, q in ratios), default=1)  # denominators are powers of two
    return tuple(p * (unit // q) for p, q in ratios)


def _check_classes(weights: ClassWeights) -> None:
    for k, (value, members) in enumerate(
        zip(weights.values.tolist(), weights.members, strict=True)
    ):
        if not 0 <= value < math.inf:
            where = f", first at row {members.select(0)}" if len(members) else ""
            raise _bad(value, f"weight {k + 1} of {len(weights.members)}{where}")
    if positive_rows(weights) == 0:
        raise _all_zero(len(weights))


def check_values(values: NDArray[np.float64], where: Callable[[int], str]) -> None:
    """Raise TqlPlanError ("value") for a weight that is none; `where` names a row."""
    if not span_of(values).are_weights:
        raise _bad_value(values, where)


def span_of(values: NDArray[np.float64]) -> Span:
    """What the values, float64 (n,), lie between; of none, 0 and 0. One pass, block by block."""
    if not values.size:
        return Span(0.0, 0.0, 0, minus_zero=False)
    least, most, positive, minus_zero = [], [], 0, False
    for start in range(0, values.size, _LOOKED_AT):
        block = values[start : start + _LOOKED_AT]
        least.append(block.min())
        most.append(block.max())
        positive += int(np.count_nonzero(block > 0))
        minus_zero = minus_zero or (least[-1] == 0 and bool(np.signbit(block).any()))
    # By NumPy, which says NaN where Python's min() and max() do not.
    return Span(float(np.min(least)), float(np.max(most)), positive, minus_zero)


_LOOKED_AT: Final = 1 << 15  # values: 256 KB, which a second-level cache holds


def _bad_value(values: NDArray[np.float64], where: Callable[[int], str]) -> TqlError:
    first = int(np.flatnonzero(~((values >= 0) & (values < math.inf)))[0])
    return _bad(float(values[first]), where(first))


def _bad(value: float, where: str) -> TqlError:
    what = "NaN" if math.isnan(value) else "infinite" if math.isinf(value) else "negative"
    return error(
        "value",
        f"a weight is {what}: {value!r} ({where})",
        help="weights are finite numbers from 0 up; give 0 to rows that must not be drawn",
    )


def _all_zero(rows: int) -> TqlError:
    return error(
        "value",
        f"every weight is zero ({counted(rows, 'row')}): nothing can be drawn",
        help="give some row a weight above zero, for instance a last arm 'true: 1'",
    )
