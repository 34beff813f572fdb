"""An integer column as one small code per row, so that what is decided by its value alone is
decided once per value: which class of weights a row is in, and how many rows each class has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Numbers, from_arrow, numpy_dtype
from tql.engine.frame import Frame
from tql.engine.reference import evaluate
from tql.engine.scan import Settings, over
from tql.language.expr import (
    And,
    Column,
    Compare,
    Const,
    Expr,
    InSet,
    IsNull,
    Not,
    Or,
    Truth,
    WeightCase,
    walk,
)
from tql.partition import count, split
from tql.rowset import Range, RowSet
from tql.schema import Int, Label
from tql.sources.protocol import Fragment, Source
from tql.weights import ClassWeights

Codes: TypeAlias = NDArray[Any]
Float64s: TypeAlias = NDArray[np.float64]

_MOST_CODES: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A column whose values are close together.

    codes  uint8 or uint16 (rows,): value - low; where it is NULL, one more than any value gives
    size   codes that there may be, that of NULL included
    """

    column: Column
    codes: Codes
    low: int
    size: int

    def of(self, rows: RowSet) -> Codes:
        """The codes of `rows`, in their order."""
        if isinstance(rows, Range):
            return self.codes[rows.start : rows.stop]
        found = np.empty(len(rows), self.codes.dtype)
        at = 0
        for ids in rows.blocks(1 << 16):
            found[at : at + len(ids)] = self.codes[ids]
            at += len(ids)
        return found

    def values(self, e: Expr) -> Float64s:
        """float64 (size,): what `e`, which reads this column alone and cannot raise, is for the
        value of each code.
        """
        kind = numpy_dtype(self.column.dtype)
        known = np.zeros(self.size, kind)
        known[:-1] = np.array([self.low], kind) + np.arange(self.size - 1).astype(kind)
        null = np.arange(self.size) == self.size - 1
        table = pa.table({self.column.name: pa.array(known, mask=null)})
        vec = evaluate(e, Frame(table, np.arange(self.size), 0))
        assert isinstance(vec, Numbers) and vec.valid is None
        return np.broadcast_to(vec.values.astype(np.float64), (self.size,))


Coder: TypeAlias = Callable[[Column], Coded | None]


def coded(source: Source, column: Column, settings: Settings) -> Coded | None:
    """The column of all rows of `source`; None where its values lie far apart, or are no integers."""
    if column.computed or not isinstance(column.dtype, Int | Label):
        return None

    def part(fragment: Fragment) -> tuple[int, int, Codes, Any] | None:
        vec = from_arrow(
            source.read(fragment.index, [column.name]).column(column.name), column.dtype
        )
        assert isinstance(vec, Numbers)
        its = narrowed(vec.values, vec.valid)
        return None if its is None else (*its, vec.valid)

    found = []
    for p in over(source, source.fragments, part, settings, [column.name]):
        if p is None:
            return None
        found.append(p)
    some = [p[:2] for p in found if _has_values(p[2], p[3])]
    if not some:
        return None
    low, high = min(p[0] for p in some), max(p[1] for p in some)
    size = high - low + 2
    if size > _MOST_CODES:
        return None
    codes = np.empty(source.rows, _narrow(size))
    at = 0
    for its_low, _, its, valid in found:
        here = codes[at : at + len(its)]
        if _has_values(its, valid):  # else its low is no value, and maybe below ours
            np.add(its, its_low - low, out=here, casting="unsafe", dtype=codes.dtype)
        if valid is not None:
            here[~valid] = size - 1
        at += len(its)
    return Coded(column, codes, low, size)


def _has_values(codes: Codes, valid: NDArray[np.bool_] | None) -> bool:
    return bool(len(codes) if valid is None else valid.any())


def _most(values: NDArray[Any]) -> int:
    return int(np.iinfo(values.dtype).max)


def _least(values: NDArray[Any]) -> int:
    return int(np.iinfo(values.dtype).min)


def _narrow(codes: int) -> np.dtype[Any]:
    return np.dtype(np.uint8 if codes <= 1 << 8 else np.uint16)


def narrowed(
    values: NDArray[Any], valid: NDArray[np.bool_] | None
) -> tuple[int, int, Codes] | None:
    """The least of the integers, the greatest, and uint8 or uint16 (n,) how far each lies above the
    least; anything, but no more than the greatest does, where it is not valid. None where there are
    too many from one to the other. Where none is valid both are 0.
    """
    if valid is not None:
        values = np.where(valid, values, values[valid][:1].sum(dtype=values.dtype))
    low, high = int(values.min(initial=_most(values))), int(values.max(initial=_least(values)))
    if high - low + 2 > _MOST_CODES:
        return None
    # Without signs a difference is exact, as it wraps; in a signed type it may be too large.
    plain = values.view(np.dtype(f"u{values.dtype.itemsize}"))
    base = plain.dtype.type(low % (1 << 8 * plain.itemsize))
    codes = (plain - base).astype(_narrow(high - low + 2))
    # The memory is the user's: should it change meanwhile, kernels still write within their tables.
    return low, high, np.minimum(codes, high - low, out=codes) if low <= high else codes


def only_column(weight: WeightCase) -> Column | None:
    """The column whose value alone says which arms hold; None where more than that does."""
    columns: dict[str, Column] = {}
    for arm in weight.arms:
        for node in walk(arm.condition):
            match node:
                case Column(name):
                    columns[name] = node
                case And() | Or() | Not() | Compare() | InSet() | IsNull() | Truth() | Const():
                    pass
                case _:
                    return None
    return next(iter(columns.values())) if len(columns) == 1 else None


def classes_of(codes: Codes, weights: Float64s, population: RowSet) -> ClassWeights:
    """The classes of `population`, whose rows have these codes in their order, by the weight of
    each code: those of equal weight are one.
    """
    return classes_counted(codes, weights, count(codes, len(weights)), population)


def classes_counted(
    codes: Codes, weights: Float64s, counts: NDArray[np.int64], population: RowSet
) -> ClassWeights:
    """`classes_of`, where int64 (codes,) `counts` says how often each code is there."""
    used = counts > 0
    # -0.0 is 0.0, so that the same weights have the same bytes.
    known, its = np.unique(weights[used] + 0.0, return_inverse=True)
    if len(known) <= 1:
        return ClassWeights(known, (population,) * len(known))
    classes = np.zeros(len(weights), np.uint32)
    classes[used] = its
    sizes = np.zeros(len(known), np.int64)
    np.add.at(sizes, its, counts[used])
    return ClassWeights(known, split(codes, classes, sizes, population))
