"""What follows from conditions alone, found once for a query that is asked again and again."""

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, TypeVar

from tql.language.expr import Expr

T = TypeVar("T")


class Conditions(tuple[Expr, ...]):
    """Conditions that a query has, and what was found of them, which goes with the query."""

    found: dict[Any, Any]

    def __new__(cls, conditions: Sequence[Expr]) -> "Conditions":
        made = super().__new__(cls, conditions)
        made.found = {}
        return made

    def __reduce__(self) -> tuple[type["Conditions"], tuple[tuple[Expr, ...]]]:
        return Conditions, (tuple(self),)  # another process finds it again: kernels stay here


def the_same(kept: list[Any], conditions: Sequence[Expr]) -> Conditions:
    """These conditions of a query (`Bound.kept`) with what was found of them before.

    They are known by the objects that they are, as equal ones may differ: 0.0 and -0.0.
    """
    for known in kept:
        if len(known) == len(conditions) and all(map(is_, known, conditions)):
            assert isinstance(known, Conditions)
            return known
    made = Conditions(conditions)
    kept.append(made)
    return made


def remembered(make: Callable[[Sequence[Expr]], T]) -> Callable[[Sequence[Expr]], T]:
    """`make`, asked once for `Conditions`; each time for a list of expressions that nobody keeps."""

    def found(conditions: Sequence[Expr]) -> T:
        if not isinstance(conditions, Conditions):
            return make(conditions)
        if make not in conditions.found:
            conditions.found[make] = make(conditions)
        answer: T = conditions.found[make]
        return answer

    return found
