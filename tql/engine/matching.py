"""Which rows of two sides belong together: equality of keys, found with Arrow's hash tables.

The values of the right side are numbered, those of the left looked up, and the pairs counted before
one of them is made; they come in the order of a join, so that nothing is sorted afterwards.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.diagnostics import Span, error
from tql.engine.columns import Arrays, Arrow, Numbers, Objects, Vec, one_array, pc
from tql.engine.comparing import plain_text
from tql.language.times import per_day
from tql.memory_size import within_budget
from tql.schema import DType, Time

Int64s: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.signedinteger]  # int32 or int64; -1 for what equals nothing

MOST_PAIRS: Final = 1 << 31
_BYTES: Final = 48  # of a pair while the pairs are made and become rows
_SELECT_MORE: Final = "make the keys more selective, or remove repeated keys from one side"


def check_pairs(rows: int, span: Span, help: str) -> None:
    """Raise a range error where a join would have more rows than can be handled."""
    if rows > MOST_PAIRS:
        raise error("range", f"this join would have {rows:,} rows, more than {MOST_PAIRS:,}", span,
                    help=help)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """The values of one equality, of all rows of each side, and their types."""

    left: Vec
    right: Vec
    types: tuple[DType, DType]


def matches(
    keys: Sequence[Key], left_rows: int, right_rows: int, span: Span
) -> tuple[Int64s, Int64s]:
    """(left, right) positions, int64 (n,), of all pairs whose keys are equal: of each left row in
    the left's order, in the right's order.

    A key that is NULL or NaN equals none. Values of different number types are equal if they are the
    same number.
    """
    codes = (numbered(key, left_rows, right_rows) for key in keys)
    left, right, distinct = combined(codes, left_rows, right_rows)
    stored = np.flatnonzero(right >= 0)
    if distinct == len(stored):  # each key once on the right: a plain look-up
        place = np.zeros(distinct, np.int64)
        place[right[stored]] = stored
        rows = np.flatnonzero(left >= 0)
        return rows, place[left[rows]]
    found = partners(left, right, distinct)
    check_pairs(found.total, span, _SELECT_MORE)
    with within_budget(found.total, _BYTES, "this join", _SELECT_MORE, span):
        return found.pairs(0, left_rows)


@dataclass(frozen=True, slots=True)
class Partners:
    """Of each left row, the right rows with its code: `each` so many, int64 (left rows,), from
    `starts` on in `grouped`. No pair is made before it is asked for.
    """

    each: Int64s
    starts: Int64s
    grouped: Int64s

    @property
    def total(self) -> int:
        """How many pairs there are."""
        return int(self.each.sum())

    def pairs(self, start: int, stop: int) -> tuple[Int64s, Int64s]:
        """(left, right) positions, int64 (n,), of the pairs of the left rows `start` … `stop` - 1."""
        each = self.each[start:stop]
        rows = np.repeat(np.arange(start, start + len(each)), each)
        # From a pair's number to its place in grouped.
        shift = self.starts[start:stop] - (np.cumsum(each) - each)
        return rows, self.grouped[np.arange(len(rows)) + np.repeat(shift, each)]


def partners(left: Codes, right: Codes, distinct: int) -> Partners:
    """Which right rows have the code of each left row; codes are below `distinct`, -1 equals none."""
    stored = np.flatnonzero(right >= 0)
    counts = np.bincount(right[stored], minlength=distinct)
    # A code of -1 takes the last.
    starts = np.append(np.cumsum(counts) - counts, 0)[left]
    grouped = stored[np.argsort(right[stored], kind="stable")]
    return Partners(np.append(counts, 0)[left], starts, grouped)


def with_missing(
    pairs: tuple[Int64s, Int64s], left_rows: int, right_rows: int, *, left: bool, right: bool
) -> tuple[Int64s, Int64s]:
    """The pairs, and the rows of the `left` and of the `right` that are in none, -1 beside them.

    Left rows stay in order; such rows of the right come last, in order.
    """
    ours, theirs = pairs
    if left:
        partners = np.bincount(ours, minlength=left_rows)
        rows = np.repeat(np.arange(left_rows), np.maximum(partners, 1))
        beside = np.full(len(rows), -1, np.int64)
        beside[partners[rows] > 0] = theirs
        ours, theirs = rows, beside
    if right:
        alone = np.ones(right_rows, np.bool_)
        alone[theirs[theirs >= 0]] = False
        rest = np.flatnonzero(alone)
        ours = np.concatenate([ours, np.full(len(rest), -1, np.int64)])
        theirs = np.concatenate([theirs, rest])
    return ours, theirs


# -- keys --------------------------------------------------------------------------------------


Numbered: TypeAlias = tuple[Codes, Codes, int]
"""Of the left and of the right a number for each row's key, equal where these are, -1 where nothing
can be equal; numbers are below the third value."""


def numbered(key: Key, left_rows: int, right_rows: int) -> Numbered:
    """The rows' numbers by this key; all of them stand on the right."""
    return _numbered(*_comparable(key, left_rows, right_rows))


def combined(codes: Iterable[Numbered], left_rows: int, right_rows: int) -> Numbered:
    """The numbers by all of these keys together; without a key everything is equal."""
    left: Codes = np.zeros(left_rows, np.int64)
    right: Codes = np.zeros(right_rows, np.int64)
    distinct = 1
    for at, (ours, theirs, size) in enumerate(codes):
        if at == 0:
            left, right, distinct = ours, theirs, size
            continue
        left = np.where((left < 0) | (ours < 0), -1, left.astype(np.int64) * size + ours)
        right = np.where((right < 0) | (theirs < 0), -1, right.astype(np.int64) * size + theirs)
        left, right, distinct = _numbered(
            pa.array(left, mask=left < 0), pa.array(right, mask=right < 0)
        )
    return left, right, distinct


def _numbered(left: Any, right: Any) -> Numbered:
    """The values by the order in which they first stand on the right; -1 for what does not."""
    encoded = right.dictionary_encode()
    known = encoded.dictionary
    ours = pc.index_in(left, value_set=known, skip_nulls=True)
    return _filled(ours), _filled(encoded.indices), len(known)


def _filled(codes: Any) -> Codes:
    filled: Codes = (codes.fill_null(-1) if codes.null_count else codes).to_numpy()
    return filled


def _comparable(key: Key, left_rows: int, right_rows: int) -> tuple[Any, Any]:
    """Both as Arrow arrays of one type in which equal is equal; NULL for what equals nothing."""
    match key.left, key.right:
        case Numbers() as a, Numbers() as b:
            values = (
                np.broadcast_to(a.values, (left_rows,)),
                np.broadcast_to(b.values, (right_rows,)),
            )
            s, t = key.types
            if isinstance(s, Time) and isinstance(t, Time):
                (x, known), (y, also) = _moments(*values, per_day(s), per_day(t))
            else:
                (x, known), (y, also) = _common(*values)
            return _array(x, known, a.valid), _array(y, also, b.valid)
        case Arrow() as a, Arrow() as b:
            first, second = (plain_text(one_array(v.array)) for v in (a, b))
            if first.type != second.type:
                first, second = first.cast(pa.large_string()), second.cast(pa.large_string())
            return first, second
        case a, b:
            return _spelled(a, left_rows), _spelled(b, right_rows)


def _spelled(vec: Vec, rows: int) -> Any:
    """JSON values, and what is compared with them, as text that is equal where they are."""
    match vec:
        case Objects(values):
            each = values.tolist()
        case Arrow(array):
            each = plain_text(one_array(array)).to_pylist()
        case Numbers(values, valid):
            each = np.broadcast_to(values, (rows,)).tolist()
            if valid is not None:
                each = [v if k else None for v, k in zip(each, valid.tolist(), strict=True)]
        case Arrays():
            raise AssertionError("an array is no join key")
        case _:
            assert_never(vec)
    return pa.array(
        [None if v is None or v != v else _spelling(v) for v in each], pa.large_string()
    )


def _spelling(value: Any) -> str:
    """One text for all forms of a JSON value: 1 and 1.0, members in any order."""
    match value:
        case float() if value.is_integer():
            return str(int(value))
        case dict():
            members = (f"{json.dumps(k)}:{_spelling(value[k])}" for k in sorted(value))
            return f"{{{','.join(members)}}}"
        case list():
            return f"[{','.join(map(_spelling, value))}]"
        case _:
            return json.dumps(value)


def _array(values: NDArray[Any], known: NDArray[np.bool_] | None, valid: Any) -> Any:
    if valid is not None:
        known = valid if known is None else known & valid
    return pa.array(np.ascontiguousarray(values), mask=None if known is None else ~known)


_Values: TypeAlias = tuple[NDArray[Any], NDArray[np.bool_] | None]


def _common(a: NDArray[Any], b: NDArray[Any]) -> tuple[_Values, _Values]:
    """Numbers of two types in one that tells their values apart, and where they have one there."""
    a, b = (x.view(np.uint8) if x.dtype.kind == "b" else x for x in (a, b))
    match a.dtype.kind == "f", b.dtype.kind == "f":
        case True, True:
            return _real(a), _real(b)
        case False, False:
            unsigned = a.dtype == b.dtype == np.uint64
            target: np.dtype[Any] = np.dtype(np.uint64 if unsigned else np.int64)
            return _whole(a, target), _whole(b, target)
        case False, True:
            target = np.dtype(np.uint64 if a.dtype == np.uint64 else np.int64)
            return _whole(a, target), _exact(b, target)
        case _:
            second, first = _common(b, a)
            return first, second


def _moments(a: NDArray[Any], b: NDArray[Any], s: int, t: int) -> tuple[_Values, _Values]:
    """Times of so many units a day in the coarser unit; one between two units there equals none."""
    if s < t:
        second, first = _moments(b, a, t, s)
        return first, second
    whole, rest = np.divmod(a, s // t)
    return (whole, None if s == t else rest == 0), (b, None)


def _real(values: NDArray[Any]) -> _Values:
    known = ~np.isnan(values)
    return values.astype(np.float64) + 0.0, None if known.all() else known  # -0.0 becomes 0.0


def _whole(values: NDArray[Any], target: np.dtype[Any]) -> _Values:
    known = None
    if values.dtype == np.uint64 and target != np.uint64:
        known = values <= np.uint64(np.iinfo(np.int64).max)
    return values.astype(target, copy=False), known


def _exact(values: NDArray[Any], target: np.dtype[Any]) -> _Values:
    """Floats as the integers that they are; 2.5, NaN and what is too large equal no integer."""
    values = values.astype(np.float64)
    info = np.iinfo(target)
    with np.errstate(invalid="ignore"):
        known = (values == np.trunc(values)) & (values >= info.min) & (values < float(info.max))
    return np.where(known, values, 0.0).astype(target), known
