"""LIKE and contains()."""

from tql.diagnostics import Note, Span, error
from tql.language import json_rules
from tql.language.array_types import rank_of
from tql.language.expr import Call as BoundCall
from tql.language.expr import (
    CompareOp,
    Const,
    Expr,
    LikeName,
    Slot,
    TextContains,
    TextLike,
    TextTest,
)
from tql.language.operators.comparison import compare
from tql.language.operators.elements import adapted
from tql.language.operators.operands import is_number, mismatch, scalar_type
from tql.schema import Bool, Json, Label, List, Text, Time


def like(e: Expr, pattern: Expr, fold_case: bool, span: Span) -> Expr:
    """`e like pattern`, or `ilike` with `fold_case`."""
    word = "ILIKE" if fold_case else "LIKE"
    e, pattern = json_rules.text(e), json_rules.text(pattern)
    if not isinstance(e.dtype, Text):
        hint = (
            "compare class labels with == and names in quotes"
            if isinstance(e.dtype, Label)
            else "pick one element: x[0]; whole texts are found by  any(x == 'cat' or x == 'cow')"
            if isinstance(e.dtype, List)
            else "compare numbers with ==, < or between; LIKE is for columns of text"
        )
        raise error("type", f"{word} needs text on its left, not {e.dtype}", e.span, help=hint)
    if not isinstance(pattern.dtype, Text):
        raise error(
            "type", f"the pattern of {word} must be text, not {pattern.dtype}", pattern.span,
            help="write the pattern in quotes, for example 'a*'",
        )  # fmt: skip
    if isinstance(pattern, Const):
        return TextTest(e, TextLike(pattern.value, fold_case), span=span)
    name: LikeName = "ilike" if fold_case else "like"
    return BoundCall(name, (e, pattern), Bool(), e.nullable or pattern.nullable, span=span)


def contains(haystack: Expr, needle: Expr, span: Span) -> Expr:
    """`contains(haystack, needle)`: membership in a list, substring of a text, else equality."""
    match haystack.dtype:
        case Json():
            return json_rules.contains(haystack, needle, span)
        case Text():
            needle = json_rules.text(needle)
            if not isinstance(needle.dtype, Text):
                raise mismatch("look for", needle, haystack, span, joint="in")
            if isinstance(needle, Const):
                return TextTest(haystack, TextContains(needle.value), span=span)
            nullable = haystack.nullable or needle.nullable
            return BoundCall("contains", (haystack, needle), Bool(), nullable, span=span)
        case List():
            return _contains_in_array(haystack, needle, span)
        case _:
            if isinstance(needle.dtype, List):
                raise error(
                    "type", f"cannot look for {needle.dtype} in {haystack.dtype}, one value", span,
                    help="exchange the arguments: the first is looked through",
                )  # fmt: skip
            return compare(CompareOp.EQ, haystack, needle, span)


def _contains_in_array(haystack: Expr, needle: Expr, span: Span) -> Expr:
    """A scalar equals any element, whatever the rank; an array of one dimension less, or of the
    members of a sequence, equals one of the slices along the first.
    """
    haystack, needle = adapted((haystack, needle))
    assert isinstance(haystack.dtype, List)
    element = scalar_type(haystack)
    if not isinstance(needle.dtype, List):
        comparable = json_rules.is_json(needle) or isinstance(element, Label | Json | Time)
        if is_number(needle.dtype) != is_number(element) and not comparable:
            raise mismatch("look for", needle, haystack, span, joint="in")
        hits = compare(CompareOp.EQ, haystack, needle, span)
        return BoundCall("any", (hits,), Bool(), hits.nullable, span=span)
    within = rank_of(haystack.dtype.item) if haystack.dtype.grouped else rank_of(haystack.dtype) - 1
    if needle.dtype.grouped or rank_of(needle.dtype) != within or within == 0:
        one_less = f"arrays of {within} dimensions" if within != 1 else "a list"
        raise error(
            "type", f"cannot look for {needle.dtype} in {haystack.dtype}", span,
            notes=(Note(f"this is {haystack.dtype}", haystack.span),),
            help="look for a single value, or for several: contains(column, 1) or contains(column, 2)"
            if within == 0
            else f"look for a single value, or for {one_less}",
        )  # fmt: skip
    # Only to learn whether the elements compare at all.
    compare(CompareOp.EQ, Slot(0, element, True, span=haystack.span),
            Slot(1, scalar_type(needle), True, span=needle.span), span)  # fmt: skip
    if isinstance(element, Json) or isinstance(scalar_type(needle), Json):
        raise mismatch("look for", needle, haystack, span, joint="in")
    nullable = haystack.nullable or needle.nullable
    return BoundCall("contains", (haystack, needle), Bool(), nullable, span=span)
