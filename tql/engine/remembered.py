"""What follows from conditions alone, found once for a query that is asked again and again."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import is_
from typing import Final, TypeVar

from tql.language.expr import Expr

T = TypeVar("T")

_LISTS: Final = 64


class _These(tuple[Expr, ...]):
    """Conditions as a key: these very objects, as equal ones may differ (0.0 and -0.0)."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(map(id, self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _These) or len(self) != len(other):
            return False
        return all(map(is_, self, other))


def remembered(make: Callable[[Sequence[Expr]], T]) -> Callable[[Sequence[Expr]], T]:
    """`make`, whose answers are kept for the lists of conditions that were asked last."""
    kept = lru_cache(maxsize=_LISTS)(make)
    return lambda conditions: kept(_These(conditions))
