"""Functions of arrays in the reference tier: their arguments are evaluated, NULL and errors are theirs.

A row is NULL where an argument is; where vectors are compared, also where an element is.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import Span
from tql.engine.arrays import (
    any_of,
    as_arrays,
    as_constant,
    broadcast,
    by_row,
    flattened,
    restricted,
    same_shapes,
)
from tql.engine.columns import Arrays, Arrow, Mask, Numbers, Objects, Vec, numpy_dtype, pick
from tql.engine.comparing import both, compare, compare_texts, plain_text
from tql.engine.reductions import REDUCTIONS, reduce
from tql.engine.vectors import (
    cosines,
    differing,
    dots,
    has_null,
    integer_dots,
    maxsims,
    vectors_of,
)
from tql.images import BrokenImage, read_header
from tql.language.array_types import scalar_of
from tql.language.expr import Call, CallName, CompareOp, Const
from tql.schema import Int, Json, List

Reject: TypeAlias = Callable[[Mask, str, str, Span, str], None]

ARRAY_CALLS: Final[frozenset[CallName]] = frozenset(
    [
        *REDUCTIONS,
        "contains",
        "cosine_similarity",
        "dot",
        "hamming_distance",
        "logical_and",
        "logical_or",
        "maxsim",
        "nonzero",
        "shape",
    ]
)


def array_call(e: Call, given: Sequence[Vec], n: int, active: Mask, reject: Reject) -> Vec:
    """The value of a function of ARRAY_CALLS for `n` rows; `reject` raises for the first bad row."""
    match e.function:
        case "contains":
            return _contains(given[0], given[1], n)
        case "logical_and" | "logical_or":
            return _logical(e, as_arrays(given[0], n), as_arrays(given[1], n), n)
        case "maxsim":
            return _maxsim(e, given, n, active, reject)
        case "dot" | "cosine_similarity" | "hamming_distance":
            return _paired(e, given, n, active, reject)
        case "shape" if not isinstance(e.arguments[0].dtype, List):
            return _shape_of_scalars(given[0], n)
    arrays = as_arrays(given[0], n)
    if arrays.shapes.ndim == 1:

        def reject_all(bad: Mask, code: str, what: str, span: Span, help: str) -> None:
            reject(active & bad[0], code, what, span, help)

        once = np.array([active.any()])
        return as_constant(_of_rows(e, by_row(arrays), once, reject_all), n)
    return _of_rows(e, arrays, active, reject)


def _of_rows(e: Call, arrays: Arrays, active: Mask, reject: Reject) -> Vec:
    match e.function:
        case "shape":
            return _shape(arrays)
        case "nonzero":
            return _nonzero(flattened(arrays))
        case _:
            return _reduced(e, flattened(arrays), active, reject)


def _reduced(e: Call, arrays: Arrays, active: Mask, reject: Reject) -> Vec:
    axis = (
        e.arguments[1].value if len(e.arguments) > 1 and isinstance(e.arguments[1], Const) else None
    )
    element = scalar_of(e.dtype)
    result = reduce(e.function, arrays, axis, numpy_dtype(element), active)
    shapes = None if axis is None else np.delete(arrays.shapes, axis, axis=1)
    if result.bad is not None:
        rows = np.arange(len(active))
        of = rows if shapes is None else np.repeat(rows, shapes.prod(axis=1))
        bad = np.zeros(len(active), np.bool_)
        bad[of[result.bad]] = True
        reject(bad, "range", f"{e.function}() does not fit in {element}", e.span,
               "exclude such rows with WHERE, before this expression")  # fmt: skip
    if shapes is None:
        return Numbers(result.values, both(result.known, arrays.valid))
    return Arrays(Numbers(result.values, result.known), shapes, arrays.valid)


def _shape(arrays: Arrays) -> Arrays:
    """The dimensions; of a sequence of arrays its length, then those of its members."""
    shapes, known = arrays.shapes, None
    members = arrays.items
    if isinstance(members, Arrays):
        inner, agreed = _shape_of_members(arrays, members)
        shapes = np.concatenate([shapes, inner], axis=1)
        known = np.concatenate([np.ones((len(agreed), 1), np.bool_), agreed], axis=1)
    rank = shapes.shape[1]
    there = slice(None) if arrays.valid is None else arrays.valid
    items = Numbers(shapes[there].ravel(), None if known is None else known[there].ravel())
    ranks = np.full((len(shapes), 1), rank, np.int64)
    if arrays.valid is not None:
        ranks[~arrays.valid] = 0
    return Arrays(items, ranks, arrays.valid)


def _shape_of_scalars(given: Vec, n: int) -> Arrays:
    """No dimension, so an empty array; NULL where the value is."""
    valid = None if given.valid is None else np.broadcast_to(given.valid, (n,))
    return Arrays(Numbers(np.zeros(0, np.int64)), np.zeros((n, 1), np.int64), valid)


def shape_of_images(images: Arrow, active: Mask, reject: Reject, span: Span) -> Arrays:
    """Height, width and channels of each image, from its first bytes; no pixel is decoded."""
    valid = images.valid
    n = len(images.array)
    there = np.ones(n, np.bool_) if valid is None else valid
    shapes = np.zeros((n, 3), np.int64)
    broken = np.zeros(n, np.bool_)
    causes: dict[int, str] = {}
    for at in np.flatnonzero(there & active).tolist():
        try:
            shapes[at] = read_header(memoryview(images.array[at].as_buffer())).shape
        except BrokenImage as e:
            broken[at], causes[at] = True, str(e)
    if broken.any():
        cause = causes[int(np.argmax(broken))]
        reject(broken, "corrupt", f"not a readable image ({cause})", span,
               "exclude such rows with WHERE, before this expression")  # fmt: skip
    ranks = np.where(there, 3, 0)[:, None]
    return Arrays(Numbers(shapes[there].ravel()), ranks, valid)


def _shape_of_members(
    arrays: Arrays, members: Arrays
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """int64, bool (n, rank): the dimensions of the members, and whether all agree and there are some."""
    n = len(arrays.shapes)
    rows = np.repeat(np.arange(n), arrays.counts)
    shapes = members.shapes
    if members.valid is not None:
        rows, shapes = rows[members.valid], shapes[members.valid]
    least = np.full((n, members.rank), np.iinfo(np.int64).max)
    most = np.full((n, members.rank), -1)
    np.minimum.at(least, rows, shapes)
    np.maximum.at(most, rows, shapes)
    agreed = least == most
    return np.where(agreed, most, 0), agreed


def _nonzero(arrays: Arrays) -> Arrays:
    items = arrays.items
    assert isinstance(items, Numbers)
    hits = items.values != 0
    if items.valid is not None:
        hits &= items.valid
    rows = np.repeat(np.arange(len(arrays.shapes)), arrays.counts)
    at = np.flatnonzero(hits) - arrays.offsets[rows[hits]]
    counts = np.bincount(rows[hits], minlength=len(arrays.shapes))
    return Arrays(Numbers(at), counts[:, None], arrays.valid)


# -- logic -------------------------------------------------------------------------------------


def _logical(e: Call, a: Arrays, b: Arrays, n: int) -> Vec:
    """AND or OR by element where the shapes are equal; elsewhere an array of one false element, or
    the value false where the result is JSON.
    """
    valid = np.ones(n, np.bool_)
    for x in (a, b):
        valid &= True if x.valid is None else x.valid
    fit = same_shapes(a, b, n)
    met = broadcast([restricted(a, valid & fit), restricted(b, valid & fit)], n)
    left, right = met.flat
    result = _three_valued(e.function == "logical_and", left, right)
    shapes = met.shapes.copy()
    alone = valid & ~fit
    if isinstance(e.dtype, Json):
        return Objects(_as_json(result, shapes, valid, alone))
    if alone.any():
        shapes[alone] = 1
        rows = np.repeat(np.arange(n), shapes.prod(axis=1))
        single = alone[rows]
        values = np.zeros(len(rows), np.bool_)
        values[~single] = result.values
        known = None
        if result.valid is not None:
            known = np.ones(len(rows), np.bool_)
            known[~single] = result.valid
        result = Numbers(values, known)
    return Arrays(result, shapes, None if valid.all() else valid)


def _three_valued(conjunction: bool, a: Vec, b: Vec) -> Numbers:
    """AND or OR of elements: FALSE decides an AND, and TRUE an OR, whatever the other is."""
    assert isinstance(a, Numbers) and isinstance(b, Numbers)
    deciding = not conjunction
    values = a.values | b.values if deciding else a.values & b.values
    if a.valid is None and b.valid is None:
        return Numbers(values)
    decided = np.zeros(len(values), np.bool_)
    known = np.ones(len(values), np.bool_)
    for x in (a, b):
        sure = np.ones(len(values), np.bool_) if x.valid is None else x.valid
        decided |= sure & (x.values == deciding)
        known &= sure
    return Numbers(np.where(decided, deciding, values), known | decided)


def _as_json(result: Numbers, shapes: Any, valid: Mask, alone: Mask) -> NDArray[np.object_]:
    flat = result.values.astype(object)
    if result.valid is not None:
        flat[~result.valid] = None
    found = np.full(len(valid), None, np.object_)
    ends = np.cumsum(shapes.prod(axis=1)).tolist()
    for row, (stop, shape) in enumerate(zip(ends, shapes.tolist(), strict=True)):
        if alone[row]:
            found[row] = False
        elif valid[row]:
            start = stop - int(np.prod(shape))
            found[row] = flat[start:stop].reshape(shape).tolist()
    return found


# -- membership of arrays ----------------------------------------------------------------------


def _contains(haystack: Vec, needle: Vec, n: int) -> Numbers:
    """Whether a slice along the first axis, or a member of a sequence, equals the needle: in shape,
    and in every element. One with a NULL element equals nothing.
    """
    assert isinstance(haystack, Arrays) and isinstance(needle, Arrays)
    every = np.ones(n, np.bool_)
    hay, wanted = restricted(haystack, every), restricted(needle, every)
    if isinstance(hay.items, Arrays):
        slices = hay.items
    else:
        slices = Arrays(hay.items, np.repeat(hay.shapes[:, 1:], hay.shapes[:, 0], axis=0))
    many = hay.shapes[:, 0]
    each = pick(wanted, np.repeat(np.arange(n), many))
    assert isinstance(each, Arrays)
    hits = any_of(many, _equal(slices, each))
    return Numbers(hits, both(hay.valid, wanted.valid))


def _equal(a: Arrays, b: Arrays) -> Mask:
    """bool (n,): the rows that have one shape and the same elements; NULL is not equal."""
    n = len(a.shapes)
    fit = same_shapes(a, b, n)
    for x in (a, b):
        fit = fit if x.valid is None else fit & x.valid
    a, b = restricted(a, fit), restricted(b, fit)
    left, right = a.items, b.items
    if isinstance(left, Arrow):
        assert isinstance(right, Arrow)
        same = compare_texts(CompareOp.EQ, plain_text(left.array), plain_text(right.array))
    else:
        assert isinstance(left, Numbers) and isinstance(right, Numbers)
        same = Numbers(
            compare(CompareOp.EQ, left.values, right.values), both(left.valid, right.valid)
        )
    equal = same.values if same.valid is None else same.values & same.valid
    return fit & ~any_of(a.counts, ~equal)


# -- vectors -----------------------------------------------------------------------------------


def _paired(e: Call, given: Sequence[Vec], n: int, active: Mask, reject: Reject) -> Numbers:
    a, b = (flattened(as_arrays(v, n)) for v in given)
    valid = _both_whole(a, b, n)
    wrong = np.broadcast_to(a.counts != b.counts, (n,)) & valid
    _reject_lengths(e, a, b, wrong & active, reject)
    va, vb = (_cut(vectors_of(x, n), valid & ~wrong) for x in (a, b))
    match e.function:
        case "cosine_similarity":
            values: NDArray[Any] = cosines(va, vb)
        case "hamming_distance":
            values = differing(va, vb)
        case _ if isinstance(e.dtype, Int):
            result = integer_dots(va, vb, active & valid)
            assert result.bad is not None
            reject(result.bad, "range", "dot() does not fit in int64", e.span,
                   "exclude such rows with WHERE, before this expression")  # fmt: skip
            values = result.values
        case _:
            values = dots(va, vb)
    return Numbers(values, None if valid.all() else valid)


def _both_whole(a: Arrays, b: Arrays, n: int) -> Mask:
    """bool (n,): where neither is NULL, nor has an element that is."""
    valid = ~(has_null(a, n) | has_null(b, n))
    for x in (a, b):
        if x.valid is not None:
            valid = valid & x.valid
    return valid


def _cut(v: Any, rows: Mask) -> Any:
    """No elements in the other rows."""
    return v if rows.all() else v._replace(lengths=np.where(rows, v.lengths, 0))


def _reject_lengths(e: Call, a: Arrays, b: Arrays, bad: Mask, reject: Reject) -> None:
    if bad.any():
        at = int(np.argmax(bad))
        m, n = (tuple(np.broadcast_to(x.shapes, (len(bad), x.rank))[at].tolist()) for x in (a, b))
        reject(bad, "shape", f"{e.function}() of arrays of shapes {m} and {n}", e.span,
               "both must be equally long; exclude other rows with WHERE")  # fmt: skip


def _maxsim(e: Call, given: Sequence[Vec], n: int, active: Mask, reject: Reject) -> Numbers:
    documents, queries = given
    assert isinstance(documents, Arrays) and isinstance(queries, Arrays)
    valid = _both_whole(documents, queries, n)
    d, q = (np.broadcast_to(x.shapes, (n, 2)) for x in (documents, queries))
    # Without a vector nobody knows how wide it would be: the list of lists [] has shape (0, 0).
    unknown = (d == 0).all(axis=1) | (q == 0).all(axis=1)
    wrong = (d[:, 1] != q[:, 1]) & ~unknown & valid
    _reject_lengths(e, documents, queries, wrong & active, reject)
    valid &= ~wrong & (d[:, 0] > 0)
    values = maxsims(documents, queries, valid)
    return Numbers(values, None if valid.all() else valid)
