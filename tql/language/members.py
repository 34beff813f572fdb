"""What is written of rows, done for each member of a group: where another term may spare the group.

`having id = 0 or any(10 % id in (1, 2))`: a column of the rows is read for whole groups, and asking
for the remainders as one would be an error in groups that `id = 0` has decided.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tql.language.array_types import array_type
from tql.language.expr import (
    And,
    Arith,
    Call,
    Column,
    Compare,
    CompareText,
    CompareTimes,
    Const,
    Elementwise,
    Expr,
    InSet,
    IsNull,
    Not,
    Once,
    Or,
    Slot,
    TextTest,
    Truth,
    WeightCase,
    can_raise,
    children,
    rewrite,
    unfolded,
    unfolds_small,
    with_children,
)
from tql.schema import Binary, Json, List, Opaque

_OF_ONE_VALUE: Final = frozenset(["abs", "sqrt", "like", "ilike", "contains"])
"""Functions that need no more than the values they are given."""


def fails_in_rows(e: Expr) -> bool:
    """Whether evaluating `e` may be an error that reading its columns is not.

    A column that a subquery computes is read for whole groups, whoever asks.
    """
    return can_raise(rewrite(e, _as_stored))


def _as_stored(e: Expr) -> Expr:
    return replace(e, computed=False) if isinstance(e, Column) else e


def by_member(e: Expr, lift: Callable[[Expr], Expr]) -> Expr:
    """The sequence of what `e`, one value per row, is for each row of a group.

    `lift` makes the sequence of an expression that is read for whole groups: of what cannot fail, and of
    what needs more of a row than single values (its arrays, JSON, position, code of the user's).
    """
    operands: list[Expr] = []

    def slot(part: Expr) -> Expr:
        sequence = lift(part)
        if sequence not in operands:
            operands.append(sequence)
        return Slot(operands.index(sequence), part.dtype, part.nullable, span=part.span)

    def opened(part: Expr) -> Expr:
        match part:
            case Const():
                return part
            case _ if not fails_in_rows(part):
                return slot(part)
            case Once() if unfolds_small(part):
                return opened(unfolded(part))
            case _ if _is_of_values(part):
                return with_children(part, tuple(map(opened, children(part))))
            case _:
                return slot(part)

    body = opened(e)
    if isinstance(body, Slot):
        return operands[0]
    dtype = array_type(body.dtype, [None], grouped=True)
    assert isinstance(dtype, List)
    return Elementwise(tuple(operands), body, dtype, span=e.span)


def _is_of_values(e: Expr) -> bool:
    """Whether single values are all that the node takes."""
    match e:
        case Arith() | Compare() | CompareText() | CompareTimes() | TextTest() | InSet():
            pass
        case And() | Or() | Not() | Truth() | IsNull() | WeightCase():
            pass
        case Call(function) if function in _OF_ONE_VALUE:
            pass
        case _:
            return False
    return not any(isinstance(c.dtype, List | Json | Binary | Opaque) for c in children(e))
