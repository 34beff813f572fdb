"""What flows through the loader once it is decoded: columns, or samples after a user's transform."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from tql.diagnostics import error
from tql.loader.memory import Room

Values: TypeAlias = npt.NDArray[Any] | list[Any]
"""One column of a batch: an array whose first axis is the row, or one Python value a row."""

Sample: TypeAlias = dict[str, Any]

NUMBERS: Final = frozenset(
    {"bool", "float16", "float32", "float64", "complex64", "complex128"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
"""Names of the dtypes that NumPy, torch and TensorFlow have alike."""

INDEX: Final = "index"
PAD: Final = "_pad"


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch by column; every column has as many rows as `rows`, and owns writable memory."""

    rows: npt.NDArray[np.int64]
    values: dict[str, Values]


@dataclass(frozen=True, slots=True)
class Samples:
    """A batch by sample: what the user's transform returned for each row of `rows`; `memory` is where
    columns of them are made.
    """

    rows: npt.NDArray[np.int64]
    values: list[Sample]
    memory: Room


Batch: TypeAlias = Columns | Samples
Collate: TypeAlias = Callable[[Batch], Any]


def as_samples(batch: Batch) -> list[Sample]:
    """One dict a row; arrays in it are views of the batch's memory."""
    match batch:
        case Samples():
            return batch.values
        case Columns():
            return [sample_at(batch, i) for i in range(len(batch.rows))]
        case _:
            assert_never(batch)


def as_columns(batch: Batch) -> dict[str, Values]:
    """One value a column; samples are stacked where their values have one shape and dtype."""
    match batch:
        case Columns():
            return batch.values
        case Samples():
            return _stack_samples(batch)
        case _:
            assert_never(batch)


def sample_at(batch: Columns, i: int) -> Sample:
    """The values of one row."""
    return {name: values[i] for name, values in batch.values.items()}


def stack(values: Sequence[Any], memory: Room) -> Values:
    """One array where every value is a number of one type or an array of one shape and dtype.

    Python ints give int64, floats float64, complex complex128, bools bool; anything else stays a
    list.
    """
    first: Any = values[0] if len(values) else None
    kind: type = type(first)
    if any(type(v) is not kind for v in values):
        return list(values)
    if isinstance(first, np.ndarray):
        alike = all(v.shape == first.shape and v.dtype == first.dtype for v in values)
        if not alike:
            return list(values)
        if first.dtype.hasobject:
            return np.stack(values)
        room = memory.array((len(values), *first.shape), first.dtype)
        return np.stack(values, out=room)
    if isinstance(first, np.generic) and not isinstance(first, np.flexible | np.object_):
        return np.array(values)
    if kind is bool or kind is float or kind is complex:
        return np.array(values)
    if kind is int:
        bounds = np.iinfo(np.int64)
        if bounds.min <= min(values) and max(values) <= bounds.max:
            return np.array(values, dtype=np.int64)
    return list(values)


def _stack_samples(batch: Samples) -> dict[str, Values]:
    names = list(batch.values[0])
    for row, sample in zip(batch.rows, batch.values, strict=True):
        if sample.keys() != batch.values[0].keys():
            raise error(
                "type",
                f"the transform gave the keys {sorted(map(str, sample))} for row {row}, "
                f"but {sorted(map(str, names))} for row {batch.rows[0]} of the same batch",
                help="return the same keys for every sample",
            )
    return {name: stack([sample[name] for sample in batch.values], batch.memory) for name in names}
