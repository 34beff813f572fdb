"""What operators mean for typed operands: typing rules, literal adaptation, exact comparison.

Every function takes bound operands and returns a bound node, already in the form that the engine
evaluates: text tests with their constant inside, literals in the type of the column they meet.
Rules: tql-reference §5 (values), §7 (operators), §8 (arithmetic), §11 (class labels).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, assert_never

import numpy as np

from tql.diagnostics import Note, Span, TqlError, did_you_mean, error
from tql.language import json_rules, times
from tql.language.array_types import (
    array_of,
    array_type,
    broadcast_sizes,
    rank_of,
    scalar_of,
    sizes_of,
)
from tql.language.expr import (
    And,
    Arith,
    ArithOp,
    Compare,
    CompareOp,
    CompareText,
    Const,
    Elementwise,
    Expr,
    InSet,
    Not,
    Or,
    Slot,
    TextContains,
    TextIn,
    TextIs,
    TextLike,
    TextTest,
    Truth,
    can_raise,
    integer_range,
    integer_type,
)
from tql.language.expr import Call as BoundCall
from tql.language.membership import gathered, representable, round_to
from tql.schema import Binary, Bool, DType, Float, Int, Json, Label, List, Opaque, Text, Time

INT64 = Int(64)
UINT64 = Int(64, signed=False)
NOTHING = Opaque("nothing")  # what an empty list that was passed as a parameter holds
LEAST_INT, GREATEST_INT = -(2**63), 2**64 - 1


def is_number(dtype: DType) -> bool:
    """Whether values of `dtype` compare and add as numbers (class labels by index, bool as 0/1)."""
    return isinstance(dtype, Int | Float | Bool | Label)


# -- truth values ------------------------------------------------------------------------------


def truth(e: Expr) -> Expr:
    """`e` as a truth value: bool as is, a number true when not zero."""
    match e:
        case Const(value, dtype) if is_number(dtype):
            return Const(bool(value), Bool(), span=e.span)
    match e.dtype:
        case Bool():
            return e
        case Int() | Float() | Label():
            return Truth(e, span=e.span)
        case List():
            raise error(
                "type", f"a condition must be one truth value, not {e.dtype}", e.span,
                help=_instead_of_array(e),
            )  # fmt: skip
        case Text():
            hint = "compare it, for example  == 'text',  or use contains(…)"
            raise error("type", "text is not a truth value", e.span, help=hint)
        case Json():
            return json_rules.truth(e)
        case _:
            raise error("type", f"{e.dtype} is not a truth value", e.span,
                        help="test for a value with  is not null")  # fmt: skip


def _instead_of_array(e: Expr) -> str:
    match e:
        case Elementwise((one, Const()) | (Const(), one)) if not isinstance(one.dtype, List):
            return "to test for one of several values, write  … in (1, 2)  or  … in ?"
        case _:
            return "use any(…), all(…) or contains(column, value)"


def condition(e: Expr) -> Expr:
    """An operand of AND, OR or NOT: a truth value, or an array, which is taken by element."""
    return e if isinstance(e.dtype, List) else truth(e)


def element_type(dtype: DType) -> DType:
    """The type of the elements of an array; of anything else the type itself."""
    return array_of(dtype)[0] if isinstance(dtype, List) else dtype


def scalar_type(e: Expr) -> DType:
    """The type of the single values in an array, in a sequence, and in a sequence of arrays."""
    return scalar_of(e.dtype)


def negate_truth(e: Expr, span: Span) -> Expr:
    """NOT of a truth value; of an array, by element."""
    if _any_list(e):
        return by_element((e,), lambda one: negate_truth(truth(one[0]), span), span)
    match e:
        case Const(value):
            return Const(not value, Bool(), span=span)
        case Not(inner):
            return inner
        case _:
            return Not(e, span=span)


def conjunction(terms: list[Expr], span: Span) -> Expr:
    """AND of truth values, flattened; a constant decides or disappears. Of arrays, by element."""
    if _any_list(*terms):
        return by_element(terms, lambda each: conjunction(list(map(truth, each)), span), span)
    flat: list[Expr] = []
    for t in terms:
        flat += t.terms if isinstance(t, And) else (t,)
    kept = _decided([t for t in flat if not (isinstance(t, Const) and t.value)])
    if not kept:
        return _true(span)
    return And(tuple(kept), span=span) if len(kept) > 1 else kept[0]


def disjunction(terms: list[Expr], span: Span) -> Expr:
    """OR of truth values, flattened; a constant decides or disappears. Of arrays, by element."""
    if _any_list(*terms):
        return by_element(terms, lambda each: disjunction(list(map(truth, each)), span), span)
    flat: list[Expr] = []
    for t in terms:
        flat += t.terms if isinstance(t, Or) else (t,)
    kept = _decided([t for t in flat if not (isinstance(t, Const) and not t.value)])
    if not kept:
        return Const(False, Bool(), span=span)
    kept = gathered(kept, span)
    return Or(tuple(kept), span=span) if len(kept) > 1 else kept[0]


def _decided(terms: list[Expr]) -> list[Expr]:
    """The terms up to the first constant, which decides; it alone where no term before may raise."""
    for at, t in enumerate(terms):
        if isinstance(t, Const):
            return terms[: at + 1] if any(map(can_raise, terms[:at])) else [t]
    return terms


def _true(span: Span) -> Expr:
    return Const(True, Bool(), span=span)


def _always(e: Expr, outcome: bool, span: Span) -> Expr:
    """`outcome` for every row where `e` is not NULL, NULL where it is; `e` is still evaluated."""
    if not e.nullable and not can_raise(e):
        return Const(outcome, Bool(), span=span)
    never = InSet(e, (), span=span)
    return Not(never, span=span) if outcome else never


# -- comparison --------------------------------------------------------------------------------


def by_element(
    operands: Sequence[Expr], build: Callable[[Sequence[Expr]], Expr], span: Span
) -> Expr:
    """What `build` makes of scalars, for every element of arrays; NumPy's rules join the shapes.

    Constant scalars go into the body itself, so that they take the type of the elements they meet.
    """
    operands = adapted(operands)
    grouped = any(isinstance(o.dtype, List) and o.dtype.grouped for o in operands)
    kept: list[Expr] = []
    inside: list[Expr] = []
    meeting: list[DType] = []
    for o in operands:
        # In a group every member meets the whole of an array that is no sequence.
        whole = grouped and isinstance(o.dtype, List) and not o.dtype.grouped
        if isinstance(o, Const) and (whole or not isinstance(o.dtype, List)):
            inside.append(o)
            continue
        one = o.dtype if whole else element_type(o.dtype)
        inside.append(Slot(len(kept), one, isinstance(o.dtype, List), span=o.span))
        kept.append(o)
        meeting.append(Bool() if whole else o.dtype)
    sizes, _, never = broadcast_sizes(meeting)
    if never:
        raise unfit(kept, span)
    body = build(inside)
    dtype = array_type(body.dtype, sizes, grouped)
    assert isinstance(dtype, List)
    return Elementwise(tuple(kept), body, dtype, span=span)


def unfit(operands: Sequence[Expr], span: Span) -> TqlError:
    """A shape error for arrays whose types say that they never fit each other."""
    arrays = [o for o in operands if isinstance(o.dtype, List)]
    shown = " and ".join(str(o.dtype) for o in arrays)
    return error(
        "shape", f"the shapes of {shown} do not fit each other", span,
        notes=tuple(Note(f"this is {o.dtype}", o.span) for o in arrays),
        help="make both of one length, for example with a slice: column[0:3]",
    )  # fmt: skip


def adapted(operands: Sequence[Expr]) -> Sequence[Expr]:
    """Array literals in the type of the numbers they meet, as scalar literals are; names of classes
    as indices.
    """
    others = [scalar_type(o) for o in operands if not isinstance(o, Const)]
    return [
        _literal_beside(o, others) if isinstance(o, Const) and isinstance(o.dtype, List) else o
        for o in operands
    ]


def _literal_beside(literal: Const, others: list[DType]) -> Const:
    element = element_type(literal.dtype)
    floats = [t for t in others if isinstance(t, Float)]
    labels = [t for t in others if isinstance(t, Label)]
    if element == NOTHING and others:
        return _literal_as(literal, others[0], lambda value: value)
    if labels and isinstance(element, Text):

        def index(name: Any) -> Any:
            found = label_index(Const(name, Text(), span=literal.span), labels[0])
            assert isinstance(found, Const)
            return found.value

        return _literal_as(literal, INT64, index)
    if floats and is_number(element):
        widest = max(floats, key=lambda t: t.bits)
        return _literal_as(literal, widest, lambda value: round_to(widest.bits, value))
    if element == INT64 and others and all(t == UINT64 for t in others):
        values = list(_single(literal.value))
        if min(values, default=0) >= 0:
            return _literal_as(literal, UINT64, lambda value: value)
    return literal


def _literal_as(literal: Const, element: DType, convert: Callable[[Any], Any]) -> Const:
    def each(value: Any) -> Any:
        return tuple(map(each, value)) if isinstance(value, tuple) else convert(value)

    dtype = array_type(element, sizes_of(literal.dtype))
    return Const(each(literal.value), dtype, span=literal.span)


def _single(value: Any) -> Iterator[Any]:
    """The elements of nested tuples."""
    if isinstance(value, tuple):
        for part in value:
            yield from _single(part)
    else:
        yield value


def _any_list(*operands: Expr) -> bool:
    return any(isinstance(o.dtype, List) for o in operands)


def compare(op: CompareOp, left: Expr, right: Expr, span: Span) -> Expr:
    """`left OP right`; of arrays, by element."""
    if _any_list(left, right):
        return by_element((left, right), lambda two: compare(op, two[0], two[1], span), span)
    if json_rules.is_json(left, right):
        return json_rules.compare(op, left, right, span)
    left, right = _names_to_labels(left, right)
    a, b = left.dtype, right.dtype
    if is_number(a) and is_number(b):
        return _compare_numbers(op, left, right, span)
    if isinstance(a, Text) and isinstance(b, Text):
        return _compare_texts(op, left, right, span)
    if isinstance(a, Time) or isinstance(b, Time):
        found = times.compare(op, left, right, span)
        return _settled(found, left, right, span) if isinstance(found, bool) else found
    raise _mismatch("compare", left, right, span)


def _settled(outcome: bool, left: Expr, right: Expr, span: Span) -> Expr:
    """The outcome of comparing an operand that varies with one that does not."""
    varying = right if isinstance(left, Const) else left
    constant = isinstance(varying, Const)
    return Const(outcome, Bool(), span=span) if constant else _always(varying, outcome, span)


def _names_to_labels(left: Expr, right: Expr) -> tuple[Expr, Expr]:
    """A text constant that meets a class label becomes the index of that class."""
    if isinstance(left.dtype, Label):
        right = label_index(right, left.dtype)
    elif isinstance(right.dtype, Label):
        left = label_index(left, right.dtype)
    return left, right


@dataclass(frozen=True, slots=True, eq=False)
class _Names:
    """Class names as a key: a tuple of 60,000 is recognised as the same object, never hashed."""

    names: tuple[str, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Names) and self.names is other.names

    def __hash__(self) -> int:
        return id(self.names)


@lru_cache(maxsize=64)
def _indices(key: _Names) -> dict[str, int]:
    """Where each name stands first."""
    return {name: at for at, name in reversed(list(enumerate(key.names)))}


def label_index(e: Expr, label: Label) -> Expr:
    """`e` itself, or the index of the class it names, which the storage may be too narrow for."""
    match e:
        case Const(str(name)):
            at = _indices(_Names(label.names)).get(name)
            if at is None:
                shown = ", ".join(repr(n) for n in label.names[:10])
                more = f" and {len(label.names) - 10} more" if len(label.names) > 10 else ""
                near = did_you_mean(name, label.names)
                known = f"the classes are {shown}{more}"
                raise error(
                    "value", f"no class named {name!r}", e.span,
                    notes=(Note(known),) if near else (), help=near or known,
                )  # fmt: skip
            return Const(at, INT64, span=e.span)
        case _:
            return e


def _compare_texts(op: CompareOp, left: Expr, right: Expr, span: Span) -> Expr:
    match left, right:
        case Const(a), Const(b):
            return Const(holds(op, a, b), Bool(), span=span)
        case _, Const(value):
            return TextTest(left, TextIs(op, value), span=span)
        case Const(value), _:
            return TextTest(right, TextIs(op.mirrored, value), span=span)
        case _:
            return CompareText(op, left, right, span=span)


def holds(op: CompareOp, a: Any, b: Any) -> bool:
    """`a OP b` for two numbers or two texts; Python compares an int with a float exactly."""
    match op:
        case CompareOp.EQ:
            return bool(a == b)
        case CompareOp.NE:
            return bool(a != b)
        case CompareOp.LT:
            return bool(a < b)
        case CompareOp.LE:
            return bool(a <= b)
        case CompareOp.GT:
            return bool(a > b)
        case CompareOp.GE:
            return bool(a >= b)
        case _:
            assert_never(op)


def _compare_numbers(op: CompareOp, left: Expr, right: Expr, span: Span) -> Expr:
    match left, right:
        case Const(a), Const(b):
            return Const(holds(op, a, b), Bool(), span=span)
        case Const(), _:
            return _compare_numbers(op.mirrored, right, left, span)
        case _, Const(value):
            return _compare_with(op, left, value, span)
        case _:
            return Compare(op, left, right, span=span)


def _compare_with(op: CompareOp, e: Expr, value: Any, span: Span) -> Expr:
    """`e OP value`, the value in the type of `e`, so that the loop compares like with like."""
    match e.dtype:
        case Bool():
            at_false, at_true = holds(op, 0, value), holds(op, 1, value)
            if at_false == at_true:
                return _always(e, at_true, span)
            return e if at_true else negate_truth(e, span)
        case Float(bits):
            return _compare_float(op, e, bits, value, span)
        case dtype:
            whole = integer_type(dtype)
            assert whole is not None
            return _compare_integer(op, e, whole, value, span)


def _compare_float(op: CompareOp, e: Expr, bits: int, value: int | float, span: Span) -> Expr:
    rounded = round_to(bits, value)
    if math.isinf(rounded) and not (isinstance(value, float) and math.isinf(value)):
        # Beyond the type: nothing finite lies between its largest number and the literal.
        if op in (CompareOp.EQ, CompareOp.NE):
            return _always(e, op is CompareOp.NE, span)
        rounded = math.copysign(float(np.finfo(f"float{bits}").max), rounded)
        above = rounded > 0
        if op in (CompareOp.LT, CompareOp.LE):
            op = CompareOp.LE if above else CompareOp.LT
        else:
            op = CompareOp.GT if above else CompareOp.GE
    return Compare(op, e, Const(rounded, e.dtype), span=span)


def _compare_integer(op: CompareOp, e: Expr, whole: Int, value: Any, span: Span) -> Expr:
    if isinstance(value, float):
        if math.isnan(value):
            return _always(e, op is CompareOp.NE, span)
        if math.isinf(value):
            return _always(e, holds(op, 0.0, value), span)
        if value != math.floor(value):  # 2.5: nothing equals it; < 2.5 is <= 2, > 2.5 is > 2
            if op in (CompareOp.EQ, CompareOp.NE):
                return _always(e, op is CompareOp.NE, span)
            op = CompareOp.LE if op in (CompareOp.LT, CompareOp.LE) else CompareOp.GT
        value = math.floor(value)
    value = int(value)
    low, high = integer_range(e)
    if low <= value <= high:
        return Compare(op, e, Const(value, whole), span=span)
    return _always(e, holds(op, low, value), span)


def between(e: Expr, low: Expr, high: Expr, span: Span) -> Expr:
    """`e between low and high`, both ends included, bounds not exchanged."""
    if isinstance(e.dtype, List):
        raise error("type", f"BETWEEN needs one value per row, not {e.dtype}", e.span,
                    help="contains(column, value) looks through a list")  # fmt: skip
    return conjunction(
        [compare(CompareOp.GE, e, low, span), compare(CompareOp.LE, e, high, span)], span
    )


def one_of(e: Expr, choices: list[Expr], span: Span) -> Expr:
    """`e in (choices)`, equality as `==`."""
    if isinstance(e.dtype, List):
        raise error(
            "type", f"IN needs one value per row on its left, not {e.dtype}", e.span,
            help="use contains(column, value)",
        )  # fmt: skip
    if json_rules.is_json(e, *choices):
        return _one_of_json(e, choices, span)
    if isinstance(e.dtype, Label):
        choices = [label_index(c, e.dtype) for c in choices]
    if isinstance(e.dtype, Time) and all(isinstance(c, Const) for c in choices):
        return _one_of_times(e, e.dtype, choices, span)
    for c in choices:
        if is_number(c.dtype) != is_number(e.dtype) or (
            isinstance(c.dtype, Text) != isinstance(e.dtype, Text)
            and Time not in (type(c.dtype), type(e.dtype))
        ):
            raise _mismatch("compare", e, c, c.span)
    constants = [c.value for c in choices if isinstance(c, Const)]
    if len(constants) < len(choices) or isinstance(e, Const) or isinstance(e.dtype, Bool | Time):
        return disjunction([compare(CompareOp.EQ, e, c, span) for c in choices], span)
    if isinstance(e.dtype, Text):
        return TextTest(e, TextIn(frozenset(constants)), span=span)
    return InSet(e, representable(e, constants), span=span)


def _one_of_times(e: Expr, dtype: Time, choices: list[Expr], span: Span) -> Expr:
    constants = [c for c in choices if isinstance(c, Const)]
    for c in constants:
        if not isinstance(c.dtype, Text | Time):
            raise times.mismatch(e, c, c.span)
    if isinstance(e, Const):
        return disjunction([compare(CompareOp.EQ, e, c, span) for c in constants], span)
    return InSet(e, times.counts_of(constants, dtype), span=span)


def _one_of_json(e: Expr, choices: list[Expr], span: Span) -> Expr:
    known = [c for c in choices if isinstance(c, Const)] if json_rules.is_json(e) else []
    others = [compare(CompareOp.EQ, e, c, span) for c in choices if c not in known]
    return disjunction([*json_rules.memberships(e, known), *others], span)


# -- text and lists ----------------------------------------------------------------------------


def like(e: Expr, pattern: Expr, fold_case: bool, span: Span) -> Expr:
    """`e like pattern`, or `ilike` with `fold_case`."""
    word = "ILIKE" if fold_case else "LIKE"
    e, pattern = json_rules.text(e), json_rules.text(pattern)
    if not isinstance(e.dtype, Text):
        hint = (
            "compare class labels with == and names in quotes"
            if isinstance(e.dtype, Label)
            else "pick one element: x[0]"
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
    return BoundCall(word.lower(), (e, pattern), Bool(), e.nullable or pattern.nullable, span=span)


def contains(haystack: Expr, needle: Expr, span: Span) -> Expr:
    """`contains(haystack, needle)`: membership in a list, substring of a text, else equality."""
    match haystack.dtype:
        case Json():
            return json_rules.contains(haystack, needle, span)
        case Text():
            needle = json_rules.text(needle)
            if not isinstance(needle.dtype, Text):
                raise _mismatch("look for", needle, haystack, span, joint="in")
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
            raise _mismatch("look for", needle, haystack, span, joint="in")
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
        raise _mismatch("look for", needle, haystack, span, joint="in")
    nullable = haystack.nullable or needle.nullable
    return BoundCall("contains", (haystack, needle), Bool(), nullable, span=span)


# -- arithmetic --------------------------------------------------------------------------------


def arith(op: ArithOp, left: Expr, right: Expr, span: Span) -> Expr:
    """`left OP right` for numbers, of arrays by element; integers in 64 bits, or with an error."""
    if _any_list(left, right):
        return by_element((left, right), lambda two: arith(op, two[0], two[1], span), span)
    left, right = json_rules.number(left), json_rules.number(right)
    if not (is_number(left.dtype) and is_number(right.dtype)):
        raise _mismatch(f"compute {op} of", left, right, span, joint="and")
    if isinstance(left, Const) and isinstance(right, Const):
        folded = _fold(op, left.value, right.value, span)
        if folded is not None:
            return folded
    dtype = _result_type(op, left, right)
    return Arith(op, _fitted(left, dtype), _fitted(right, dtype), dtype, span=span)


def negative(e: Expr, span: Span) -> Expr:
    """Unary minus; of an unsigned column it is a signed number."""
    if _any_list(e):
        return by_element((e,), lambda one: negative(one[0], span), span)
    e = json_rules.number(e)
    if isinstance(e, Const) and is_number(e.dtype):
        return constant(-e.value if not isinstance(e.value, bool) else -int(e.value), span)
    if isinstance(integer_type(e.dtype), Int):
        return Arith(ArithOp.MUL, e, Const(-1, INT64), INT64, span=span)
    return arith(ArithOp.MUL, e, Const(-1.0, Float(64)), span)  # not 0 - x: keeps -0.0


def _result_type(op: ArithOp, left: Expr, right: Expr) -> Int | Float:
    a, b = integer_type(left.dtype), integer_type(right.dtype)
    if a is not None and b is not None:
        if op is ArithOp.DIV:
            return Float(64)
        unsigned = [t == UINT64 for t, e in ((a, left), (b, right)) if not isinstance(e, Const)]
        return UINT64 if all(unsigned) and unsigned else INT64
    narrow = [e for e in (left, right) if not isinstance(e, Const)]
    small = all(_fits_float32(e.dtype) for e in narrow)
    return Float(32) if small and any(isinstance(e.dtype, Float) for e in narrow) else Float(64)


def _fits_float32(dtype: DType) -> bool:
    if isinstance(dtype, Float):
        return dtype.bits <= 32
    whole = integer_type(dtype)
    return whole is not None and whole.bits <= 16


def _fitted(e: Expr, dtype: Int | Float) -> Expr:
    """A literal in the type of the operation; anything else as it is (the engine converts)."""
    if not isinstance(e, Const):
        return e
    if isinstance(dtype, Float):
        return Const(round_to(dtype.bits, e.value), dtype, span=e.span)
    return Const(int(e.value), e.dtype, span=e.span)


def _fold(op: ArithOp, a: Any, b: Any, span: Span) -> Const | None:
    """The constant `a OP b`; None where it has to be an error of each row (modulo by zero)."""
    if isinstance(a, float) or isinstance(b, float) or op is ArithOp.DIV:
        with np.errstate(all="ignore"):
            x, y = np.float64(a), np.float64(b)
            table = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod}
            return Const(float(table[op.value](x, y)), Float(64), span=span)
    a, b = int(a), int(b)
    match op:
        case ArithOp.ADD:
            return constant(a + b, span)
        case ArithOp.SUB:
            return constant(a - b, span)
        case ArithOp.MUL:
            return constant(a * b, span)
        case _:
            return constant(int(math.copysign(1, a)) * (abs(a) % abs(b)), span) if b else None


def constant(value: Any, span: Span) -> Const:
    """A Python or NumPy scalar as a constant; range error outside -2^63 … 2^64-1."""
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    match value:
        case bool():
            return Const(value, Bool(), span=span)
        case int():
            if not LEAST_INT <= value <= GREATEST_INT:
                raise error(
                    "range", f"{value} does not fit in 64 bits", span,
                    help="integers go from -9223372036854775808 to 18446744073709551615",
                )  # fmt: skip
            return Const(value, INT64 if value < 2**63 else UINT64, span=span)
        case float():
            return Const(value, Float(64), span=span)
        case str():
            return Const(value, Text(), span=span)
        case _:
            moment = times.constant(value, span)
            if moment is not None:
                return moment
            kind = type(value).__name__
            raise error("type", f"a {kind} cannot be a value in a query", span,
                        help="pass a bool, a number, text, a date or datetime, or a list of these")  # fmt: skip


def _mismatch(verb: str, left: Expr, right: Expr, span: Span, joint: str = "with") -> TqlError:
    help = _of_literal(left, right) or _of_literal(right, left) or _of_kinds(left, right)
    if verb.startswith("compute") and Text in (type(left.dtype), type(right.dtype)):
        help = "arithmetic takes numbers; on text there are comparison, LIKE and contains(…)"
    return error(
        "type", f"cannot {verb} {left.dtype} {joint} {right.dtype}", span,
        notes=(Note(f"this is {left.dtype}", left.span), Note(f"this is {right.dtype}", right.span)),
        help=help,
    )  # fmt: skip


def _of_literal(e: Expr, other: Expr) -> str | None:
    """A way out where the literal `e` is written in another kind than `other`."""
    match e, other.dtype:
        case Const(str(text)), Int() | Float() | Label() | List():
            return (
                f"write the number without quotes: {text}"
                if text.replace(".", "", 1).isdigit()
                else "text is not converted to numbers; compare it with a column of text"
            )
        case Const(str(text)), Bool() if text.lower() in ("true", "false"):
            return f"write it without quotes: {text.lower()}"
        case Const(bool(value)), Text():
            return f"text compares with text; write '{str(value).lower()}'"
        case Const(value), Text() if is_number(e.dtype):
            return f"text compares with text; write '{value}'"
        case _:
            return None


def _of_kinds(left: Expr, right: Expr) -> str:
    kinds = {type(left.dtype), type(right.dtype)}
    if Binary in kinds:
        return "bytes and images can be selected and loaded, not compared"
    if Time in kinds:
        return "times can be compared, not computed with; store a number beside them"
    if List in kinds:
        return "an element is x[0]; any(…), all(…) and contains(…) look at all of them"
    if Text in kinds:
        return "text and numbers are not converted into each other; store both as one type"
    return "compare values of one kind: numbers with numbers, text with text"
