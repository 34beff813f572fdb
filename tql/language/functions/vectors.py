"""Norms, products and distances of vectors (reference §12)."""

from collections.abc import Callable
from typing import Final

from tql.diagnostics import Note, error
from tql.language import operators
from tql.language.array_types import rank_of, sizes_of
from tql.language.expr import (
    Arith,
    ArithOp,
    Call,
    CompareOp,
    Expr,
    NormName,
    ProductName,
    Slot,
    integer_type,
)
from tql.language.functions.arrays import as_float64
from tql.language.functions.function import Arguments, Example, Function, numbers
from tql.language.operators import INT64, scalar_type
from tql.schema import DType, Float, List


def _norm(name: NormName) -> Callable[[Arguments], Expr]:
    def bind(a: Arguments) -> Expr:
        (e,) = numbers(name, a.values)
        if isinstance(e.dtype, List):
            return Call(name, (e,), Float(64), e.nullable, span=a.span)
        one = as_float64(e)
        if name == "l2_norm":  # as of an array of one, also where the square is infinite
            square = Arith(ArithOp.MUL, one, one, Float(64), span=a.span)
            return Call("sqrt", (square,), Float(64), e.nullable, span=a.span)
        return Call("abs", (one,), Float(64), e.nullable, span=a.span)

    return bind


def _pair(name: str, a: Arguments) -> tuple[Expr, Expr]:
    """Two vectors of numbers, whose types do not say that their lengths differ."""
    left, right = numbers(name, tuple(operators.adapted(a.values)))
    for e in (left, right):
        if rank_of(e.dtype) > 1:
            raise error("shape", f"{name}() needs vectors, not {e.dtype}", e.span,
                        help="take one row of it, for example  column[0]")  # fmt: skip
    _check_lengths(name, left, right, a)
    return left, right


def _check_lengths(name: str, left: Expr, right: Expr, a: Arguments) -> None:
    m, n = (sizes_of(e.dtype)[-1] if isinstance(e.dtype, List) else 1 for e in (left, right))
    if m is not None and n is not None and m != n:
        raise error(
            "shape", f"{name}() needs vectors of one length, not {m} and {n}", a.span,
            notes=[Note(f"this is {e.dtype}", e.span) for e in (left, right)],
            help="compare vectors that the same model made, or cut one: column[0:3]",
        )  # fmt: skip


def _product(name: ProductName) -> Callable[[Arguments], Expr]:
    def bind(a: Arguments) -> Expr:
        left, right = _pair(name, a)
        whole = all(integer_type(scalar_type(e)) is not None for e in (left, right))
        dtype: DType = INT64 if name == "dot" and whole else Float(64)
        return Call(name, (left, right), dtype, True, span=a.span)

    return bind


def _hamming(a: Arguments) -> Expr:
    left, right = _pair("hamming_distance", a)
    # Only to learn whether the elements compare at all.
    operators.compare(CompareOp.NE, Slot(0, scalar_type(left), True, span=left.span),
                      Slot(1, scalar_type(right), True, span=right.span), a.span)  # fmt: skip
    return Call("hamming_distance", (left, right), INT64, True, span=a.span)


def _maxsim(a: Arguments) -> Expr:
    document, query = numbers("maxsim", tuple(operators.adapted(a.values)))
    for e in (document, query):
        if rank_of(e.dtype) != 2:
            raise error("shape", f"maxsim() needs a vector in each row of a matrix, not {e.dtype}",
                        e.span, help="cosine_similarity(a, b) compares two vectors")  # fmt: skip
    _check_lengths("maxsim", document, query, a)
    return Call("maxsim", (document, query), Float(64), True, span=a.span)


_ONE: Final = "numbers: an array of any rank, or one value"
_TWO: Final = "two vectors of numbers, equally long"
_NULLS: Final = "NULL where an argument is NULL, or has an element that is"
_ELEMENTS: Final = "NULL where x is NULL; elements that are NULL are passed over"

VECTORS: Final = (
    Function(
        "cosine_similarity", "cosine_similarity(a, b)", (2, 2),
        "the cosine of the angle between two vectors, from -1 to 1", _product("cosine_similarity"),
        takes=_TWO, result="float64", nulls=_NULLS,
        special="0 where a vector is empty or all zero; an error where the lengths differ",
        example=Example(
            "select cosine_similarity(embedding, array[1, 0, 0]) as a limit 3", (1.0, 0.9486833, 0.0)
        ),
        kernel=True,
    ),
    Function(
        "dot", "dot(a, b)", (2, 2), "the sum of the products of two vectors' elements",
        _product("dot"), takes=_TWO, result="float64; int64 of integers", nulls=_NULLS,
        special="0 for empty vectors; an error where the lengths differ, or beyond int64",
        example=Example("select dot(embedding, array[1, 2, 4]) as a limit 2", (1.0, 1.25)),
        kernel=True,
    ),
    Function(
        "hamming_distance", "hamming_distance(a, b)", (2, 2),
        "the number of positions at which two vectors differ", _hamming, takes=_TWO,
        result="int64", nulls=_NULLS, special="an error where the lengths differ",
        example=Example("select hamming_distance(embedding, array[1, 0, 0]) as a limit 3", (0, 2, 2)),
        kernel=True,
    ),
    Function(
        "l1_norm", "l1_norm(x)", (1, 1), "the sum of the absolute values", _norm("l1_norm"),
        takes=_ONE, result="float64", nulls=_ELEMENTS, special="0 for an empty array",
        example=Example("select l1_norm(embedding) as a limit 2", (1.0, 1.0)),
        kernel=True,
    ),
    Function(
        "l2_norm", "l2_norm(x)", (1, 1), "the root of the sum of the squares", _norm("l2_norm"),
        takes=_ONE, result="float64", nulls=_ELEMENTS, special="0 for an empty array",
        example=Example("select l2_norm(boxes[0, 0:2]) as a limit 2", (22.360680, 56.568542)),
        kernel=True,
    ),
    Function(
        "linf_norm", "linf_norm(x)", (1, 1), "the greatest absolute value", _norm("linf_norm"),
        takes=_ONE, result="float64", nulls=_ELEMENTS, special="0 for an empty array",
        example=Example("select linf_norm(boxes) as a limit 2", (220.0, 240.0)),
        kernel=True,
    ),
    Function(
        "maxsim", "maxsim(document, query)", (2, 2),
        "for each vector of the query the greatest cosine similarity with one of the document, "
        "summed", _maxsim, takes="two matrices, a vector in each row, equally wide",
        result="float64", nulls=_NULLS, special="NULL for an empty document, else 0 for an empty query",
        example=Example(
            "select maxsim(boxes, array[array[0, 1, 0, 0]]) as a limit 2", (0.0809776, 0.1410691)
        ),
    ),
)  # fmt: skip
