"""The reference tier: expressions over NumPy and Arrow, complete and plain.

It is what the kernel tier is tested against. NULL is a validity mask beside the values; `active`
marks the rows for which an error may be raised (a row that an earlier AND has rejected may not).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

import numpy as np
import pyarrow as pa

from tql.diagnostics import data_error
from tql.engine import bm25, user_calls
from tql.engine.array_calls import ARRAY_CALLS, array_call, shape_of_images
from tql.engine.arrays import broadcast
from tql.engine.columns import (
    Arrays,
    Arrow,
    Mask,
    Numbers,
    Vec,
    from_arrow,
    numpy_dtype,
    one_array,
    pc,
)
from tql.engine.comparing import bools, both, compare, compare_texts, plain_text
from tql.engine.constants import constant, everywhere_the_same
from tql.engine.frame import Frame
from tql.engine.integers import checked
from tql.engine.json_values import Reader, json_call, json_value
from tql.engine.like_rows import like_rows
from tql.engine.subscripts import Picking, numbers_in, picked
from tql.engine.text_rules import tested
from tql.language.expr import (
    And,
    Arith,
    ArithOp,
    Balanced,
    Bm25Score,
    Call,
    Column,
    Compare,
    CompareOp,
    CompareText,
    CompareTimes,
    Const,
    Elementwise,
    Expr,
    InSet,
    IsNull,
    JsonAs,
    JsonCompare,
    JsonItem,
    Not,
    Once,
    Or,
    Slice,
    Slot,
    StoredValue,
    Subscript,
    TextTest,
    Truth,
    UserCall,
    WeightCase,
    WeightKind,
)
from tql.language.times import per_day
from tql.rng import random31
from tql.schema import Binary, Float, Json, List, Opaque, Time


def is_true(e: Expr, frame: Frame) -> Mask:
    """bool (n,): where the condition `e` is TRUE, not FALSE and not NULL.

    A row for which an earlier term of an AND is FALSE or NULL is out, and raises nothing any more.
    """
    true = _everywhere(frame)
    for term in e.terms if isinstance(e, And) else (e,):
        result = _numbers(term, frame, true)
        true = true & (result.values if result.valid is None else result.values & result.valid)
    return true


def kept_out_by_null(e: Expr, frame: Frame) -> Mask:
    """bool (n,): where the first term of the condition `e` that is not TRUE is NULL.

    Nothing is looked at that `is_true` does not look at, so this raises where that does.
    """
    true = _everywhere(frame)
    found = ~true
    for term in e.terms if isinstance(e, And) else (e,):
        result = _numbers(term, frame, true)
        if result.valid is None:
            true = true & result.values
        else:
            found = found | (true & ~result.valid)
            true = true & result.values & result.valid
    return found


def evaluate(e: Expr, frame: Frame) -> Vec:
    """The value of `e` for every row of `frame`."""
    return _evaluate(e, frame, _everywhere(frame))


def _everywhere(frame: Frame) -> Mask:
    return np.ones(frame.rows, np.bool_)


def _evaluate(e: Expr, frame: Frame, active: Mask) -> Vec:
    match e:
        case Column():
            return frame.column(e, active)
        case Slot(at):
            return frame.slots[at]
        case Const(value, dtype):
            return constant(value, dtype, frame.rows)
        case Not(operand):
            inner = _numbers(operand, frame, active)
            return Numbers(~inner.values, inner.valid)
        case And(terms):
            return _and(terms, frame, active)
        case Or(terms):
            return _or(terms, frame, active)
        case Compare(op, left, right):
            a, b = _numbers(left, frame, active), _numbers(right, frame, active)
            return Numbers(compare(op, a.values, b.values), both(a.valid, b.valid))
        case CompareText(op, left, right):
            a_text, b_text = (_text_column(t, frame, active) for t in (left, right))
            return compare_texts(op, a_text, b_text)
        case TextTest(operand, rule):
            return tested(rule, _evaluate(operand, frame, active))
        case InSet(operand, values):
            inner = _numbers(operand, frame, active)
            hits = np.isin(inner.values, np.array(values, inner.values.dtype))
            return Numbers(hits, inner.valid)
        case IsNull(Column(name, List() | Opaque())):
            return Numbers(_missing(frame.stored(name, active)))
        case IsNull(operand):
            valid = _evaluate(operand, frame, active).valid
            return Numbers(np.asarray(False) if valid is None else ~valid)
        case Truth(operand):
            inner = _numbers(operand, frame, active)
            return Numbers(inner.values != 0, inner.valid)
        case Arith():
            return _arith(e, frame, active)
        case StoredValue(cell, dtype):
            return everywhere_the_same(from_arrow(cell.array, dtype), frame.rows)
        case CompareTimes(op, left, right):
            return _times(op, left, right, frame, active)
        case Bm25Score(operand, words, weights, mean_length):
            text = Arrow(_text_column(operand, frame, active))
            return bm25.scores(text, bm25.Query(words, weights, mean_length))
        case Once(operand, body):
            bound = replace(frame, slots=(_evaluate(operand, frame, active),))
            return _evaluate(body, bound, active)
        case Call(_, (first, *_)) if isinstance(first.dtype, Json):
            return json_call(e, _json_reader(frame, active))
        case Call():
            return _call(e, frame, active)
        case UserCall(function, arguments, dtype):
            given = [(_evaluate(a, frame, active), a.dtype) for a in arguments]
            return user_calls.call(function, dtype, given, active, frame.named, e.span)
        case Elementwise():
            return _elementwise(e, frame, active)
        case Subscript():
            return _subscript(e, frame, active)
        case Balanced():
            raise AssertionError("a weight that depends on all rows is not evaluated by row")
        case JsonItem() | JsonCompare() | JsonAs():
            return json_value(e, _json_reader(frame, active))
        case WeightCase(kind, arms):
            return _weights(kind, [(a.condition, a.weight) for a in arms], frame, active)
        case _:
            assert_never(e)


def _missing(column: Any) -> Mask:
    """bool (n,): which rows are NULL, whatever is wrong with the values of the others."""
    mask: Mask = one_array(pc.is_null(column)).to_numpy(zero_copy_only=False)
    return mask


def _json_reader(frame: Frame, active: Mask) -> Reader:
    return Reader(
        frame.rows,
        lambda e: _evaluate(e, frame, active),
        lambda name: frame.stored(name, active),
    )


def _numbers(e: Expr, frame: Frame, active: Mask) -> Numbers:
    result = _evaluate(e, frame, active)
    assert isinstance(result, Numbers), f"{e} is not numbers"
    return result


# -- logic -------------------------------------------------------------------------------------


def _and(terms: tuple[Expr, ...], frame: Frame, active: Mask) -> Numbers:
    """FALSE where a term is FALSE; else NULL where a term is NULL; else TRUE."""
    false = np.zeros(frame.rows, np.bool_)
    unknown = np.zeros(frame.rows, np.bool_)
    for term in terms:
        part = _numbers(term, frame, active & ~false)
        if part.valid is not None:
            unknown |= ~part.valid
            false |= ~part.values & part.valid
        else:
            false |= ~part.values
    unknown &= ~false
    return Numbers(~false & ~unknown, ~unknown if unknown.any() else None)


def _or(terms: tuple[Expr, ...], frame: Frame, active: Mask) -> Numbers:
    """TRUE where a term is TRUE; else NULL where a term is NULL; else FALSE."""
    true = np.zeros(frame.rows, np.bool_)
    unknown = np.zeros(frame.rows, np.bool_)
    for term in terms:
        part = _numbers(term, frame, active & ~true)
        if part.valid is not None:
            unknown |= ~part.valid
            true |= part.values & part.valid
        else:
            true |= part.values
    unknown &= ~true
    return Numbers(true, ~unknown if unknown.any() else None)


# -- numbers -----------------------------------------------------------------------------------


def _arith(e: Arith, frame: Frame, active: Mask) -> Numbers:
    left, right = _numbers(e.left, frame, active), _numbers(e.right, frame, active)
    valid = both(left.valid, right.valid)
    with np.errstate(all="ignore"):
        if isinstance(e.dtype, Float):
            kind = numpy_dtype(e.dtype)
            a, b = left.values.astype(kind), right.values.astype(kind)
            return Numbers(_FLOAT_OPS[e.op](a, b), valid)
        may_raise = active if valid is None else active & valid
        values, problem = checked(e.op, left.values, right.values, e.dtype, may_raise)
    if problem is not None:
        row = frame.name(int(frame.positions[problem.at]))
        raise data_error(problem.code, f"{problem.message} in row {row}", span=e.span,
                         help="exclude such rows with WHERE, before this expression")  # fmt: skip
    return Numbers(values, valid)


_FLOAT_OPS: Mapping[ArithOp, Any] = {
    ArithOp.ADD: np.add,
    ArithOp.SUB: np.subtract,
    ArithOp.MUL: np.multiply,
    ArithOp.DIV: np.divide,
    ArithOp.MOD: np.fmod,
}


def _times(op: CompareOp, left: Expr, right: Expr, frame: Frame, active: Mask) -> Numbers:
    """Two columns of times of different units, exactly: the finer one is cut to the coarser unit."""
    assert isinstance(left.dtype, Time) and isinstance(right.dtype, Time)
    if per_day(left.dtype) < per_day(right.dtype):
        return _times(op.mirrored, right, left, frame, active)
    fine, coarse = _numbers(left, frame, active), _numbers(right, frame, active)
    ratio = per_day(left.dtype) // per_day(right.dtype)
    whole, rest = np.divmod(fine.values, ratio)
    sign = (whole > coarse.values).astype(np.int8) - (whole < coarse.values).astype(np.int8)
    sign = np.where((sign == 0) & (rest > 0), 1, sign)
    return Numbers(compare(op, sign, np.zeros_like(sign)), both(fine.valid, coarse.valid))


# -- text --------------------------------------------------------------------------------------


def _text_column(e: Expr, frame: Frame, active: Mask) -> Any:
    """Text as it is stored, which may be a dictionary."""
    result = _evaluate(e, frame, active)
    assert isinstance(result, Arrow)
    return result.array


def _text(e: Expr, frame: Frame, active: Mask) -> Any:
    return plain_text(_text_column(e, frame, active))


# -- functions ---------------------------------------------------------------------------------


def _call(e: Call, frame: Frame, active: Mask) -> Vec:
    match e.function:
        case "row_number":
            return Numbers(frame.positions)
        case "random":
            return Numbers(random31(frame.seed, e.site, frame.positions))
        case "abs":
            return _absolute(e, frame, active)
        case "sqrt":
            inner = _numbers(e.arguments[0], frame, active)
            with np.errstate(invalid="ignore"):
                return Numbers(np.sqrt(inner.values.astype(numpy_dtype(e.dtype))), inner.valid)
        case "like" | "ilike":
            text, patterns = (_text_column(a, frame, active) for a in e.arguments)
            return like_rows(text, patterns, e.function == "ilike")
        case "shape" if isinstance(e.arguments[0].dtype, Binary):
            images = _evaluate(e.arguments[0], frame, active)
            assert isinstance(images, Arrow)
            return shape_of_images(images, active, frame.reject, e.span)
        case function if function in ARRAY_CALLS and _is_array_call(e):
            given = [_evaluate(a, frame, active) for a in e.arguments]
            return array_call(e, given, frame.rows, active, frame.reject)
        case "contains":
            hay, needle = (_text(a, frame, active) for a in e.arguments)
            found = [
                None if h is None or n is None else n in h
                for h, n in zip(hay.to_pylist(), needle.to_pylist(), strict=True)
            ]
            return bools(pa.array(found, pa.bool_()))
        case other:
            raise AssertionError(f"no reference for {other}()")


def _is_array_call(e: Call) -> bool:
    """Whether this is not contains() of text, the one function that texts have as well."""
    return e.function != "contains" or isinstance(e.arguments[0].dtype, List)


def _absolute(e: Call, frame: Frame, active: Mask) -> Numbers:
    (operand,) = e.arguments
    inner = _numbers(operand, frame, active)
    if isinstance(e.dtype, Float):
        return Numbers(np.abs(inner.values.astype(numpy_dtype(e.dtype))), inner.valid)
    values = inner.values.astype(numpy_dtype(e.dtype))
    if values.dtype.kind == "i":
        least = (values == np.iinfo(np.int64).min) & active
        bad = least if inner.valid is None else least & inner.valid
        if bad.any():
            row = frame.name(int(frame.positions[int(np.argmax(bad))]))
            raise data_error("range", f"abs() does not fit in int64 in row {row}", span=e.span,
                             help="exclude such rows with WHERE, before this expression")  # fmt: skip
    return Numbers(np.abs(values), inner.valid)


# -- arrays ------------------------------------------------------------------------------------


def _elementwise(e: Elementwise, frame: Frame, active: Mask) -> Arrays:
    operands = [_evaluate(o, frame, active) for o in e.operands]
    # Where the members of a group are taken one by one, each meets the whole of any other array.
    whole = [
        e.dtype.grouped and isinstance(o.dtype, List) and not o.dtype.grouped for o in e.operands
    ]
    met = broadcast(operands, frame.rows, whole, e.open)
    bad = met.wrong & active
    if bad.any():
        at = int(np.argmax(bad))
        shown = " and ".join(
            str(tuple(np.broadcast_to(o.shapes, (frame.rows, o.rank))[at].tolist()))
            for o, all_of_it in zip(operands, whole, strict=True)
            if isinstance(o, Arrays) and not all_of_it
        )
        frame.reject(bad, "shape", f"arrays of shapes {shown} do not fit each other", e.span,
                     "their shapes must be equal, or 1 where they differ")  # fmt: skip
    inner = Frame(None, frame.positions[met.rows], frame.seed, frame.name, met.flat)
    result = _evaluate(e.body, inner, active[met.rows])
    if isinstance(result, Numbers) and result.values.ndim == 0:
        result = Numbers(np.broadcast_to(result.values, (inner.rows,)), result.valid)
    gone = met.wrong if met.valid is None else met.wrong | ~met.valid
    return Arrays(result, met.shapes, ~gone if gone.any() else None)


def _subscript(e: Subscript, frame: Frame, active: Mask) -> Vec:
    operand = _evaluate(e.operand, frame, active)
    assert isinstance(operand, Arrays)

    def number(part: Expr | None) -> Numbers | None:
        return None if part is None else _numbers(part, frame, active)

    parts: list[Numbers | Picking] = []
    for s in e.subscripts:
        match s:
            case Slice(start, stop, step):
                parts.append(Picking(number(start), number(stop), number(step)))
            case _:
                parts.append(_numbers(s, frame, active))
    known = active
    for valid in (operand.valid, *(x.valid for x in numbers_in(parts))):
        known = known if valid is None else known & valid
    for p in parts:
        if isinstance(p, Picking) and p.step is not None:
            frame.reject(known & (p.step.values == 0), "value", "the step of a slice is 0", e.span,
                         "exclude such rows with WHERE, before this expression")  # fmt: skip
    return picked(operand, parts, frame.rows)


def _weights(
    kind: WeightKind, arms: list[tuple[Expr, Expr]], frame: Frame, active: Mask
) -> Numbers:
    total = np.zeros(frame.rows, np.float64)
    valid: Mask | None = None
    any_yet = np.zeros(frame.rows, np.bool_)
    for condition, weight in arms:
        part = _numbers(condition, frame, active)
        hit = part.values if part.valid is None else part.values & part.valid
        hit = active & hit
        w = _numbers(weight, frame, hit)
        value = np.broadcast_to(w.values.astype(np.float64), (frame.rows,))
        if w.valid is not None:
            valid = both(valid, w.valid | ~hit)
        if kind is WeightKind.SUM:
            total = np.where(hit, total + value, total)
        else:
            # NaN must survive to be reported, so no maximum() of it with a number.
            larger = hit & (~any_yet | (value > total) | np.isnan(value))
            total = np.where(larger, value, total)
        any_yet |= hit
    return Numbers(total, valid)
