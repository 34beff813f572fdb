"""Whether a query with parameters can be right at all: checked before there are values.

A parameter takes its type from its place: 5 beside a number, 'x' beside text, a list after IN. The
binder knows what fits a place only by being given a value, so each parameter is tried out with one
value of every kind; errors that no value can cure belong to the text, and are raised.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import product
from typing import Any, Final, TypeAlias

from tql.diagnostics import NOWHERE, Span, TqlError, error
from tql.grammar import syntax as s
from tql.grammar.walk import walk


class LeftToTheRun(Exception):
    """Raised while binding with a value that was only tried out: what follows depends on it."""


Key: TypeAlias = int | str
Values: TypeAlias = dict[Key, Any]

# One value of each kind; most common first, since most places take the first that fits. The text
# is also a date, and the numbers are legal counts.
_KINDS: Final[tuple[Any, ...]] = (
    1, "2000-01-01", [1], ["2000-01-01"], [[1]], True, 0.5, datetime(2000, 1, 1),
)  # fmt: skip
_ALL_WAYS: Final = 3  # so many parameters of one place are tried in every combination

# What another value of the same kind may cure; such errors are left to the values.
_OF_THE_VALUE: Final = frozenset(["value", "range", "shape"])


def parameters_of(query: s.Query) -> tuple[s.Parameter, ...]:
    """Every `?` and `$name`, in the order of the text."""
    found = [node for node in walk(query) if isinstance(node, s.Parameter)]
    return tuple(sorted(found, key=lambda p: p.span.start))


def as_given(values: Values) -> list[Any] | dict[str, Any] | None:
    """The values as `params=` takes them."""
    if not values:
        return None
    if all(isinstance(k, int) for k in values):
        return [values[k] for k in sorted(values, key=int)]
    return {str(k): v for k, v in values.items()}


def check_places(
    parameters: Sequence[s.Parameter], bind: Callable[[list[Any] | dict[str, Any] | None], object]
) -> None:
    """Raise the error that the query has whatever its parameters are; None where some values fit.

    bind  types the query for such values, or raises; it must evaluate nothing
    """
    values: Values = {p.key: _KINDS[0] for p in parameters}

    def problem(changed: Values) -> TqlError | None:
        try:
            bind(as_given(values | changed))
        except TqlError as e:
            return e
        except LeftToTheRun:
            pass
        return None

    for _ in range(2 * len(values) + 1):
        wrong = problem({})
        if wrong is None:
            return
        keys = _inside(parameters, wrong.diagnostic.span)
        if not keys:
            raise wrong
        codes = {wrong.diagnostic.code}
        for change in _changes(sorted(keys, key=str)):
            left = problem(change)
            if left is None or not keys & _inside(parameters, left.diagnostic.span):
                values |= change  # this place is right now; what is wrong is elsewhere
                break
            codes.add(left.diagnostic.code)
        else:
            if codes & _OF_THE_VALUE:
                return
            raise _hopeless(wrong, [p for p in parameters if p.key in keys])


def _hopeless(wrong: TqlError, those: list[s.Parameter]) -> TqlError:
    """The error of a place that nothing fits; the values tried are not the user's, so none is shown."""
    d = wrong.diagnostic
    shown = ", ".join(dict.fromkeys("?" if isinstance(p.key, int) else f"${p.key}" for p in those))
    return error(
        d.code, f"no value of {shown} fits here; with a number, {d.message}", d.span,
        help=f"change what stands beside {shown}", query=wrong.query,
    )  # fmt: skip


def _inside(parameters: Sequence[s.Parameter], span: Span) -> frozenset[Key]:
    """The parameters that an error at `span` may be about."""
    return frozenset(
        p.key
        for p in parameters
        if span == NOWHERE or (span.start <= p.span.start and p.span.stop <= span.stop)
    )


def _changes(keys: list[Key]) -> Iterator[Values]:
    """Other values for these parameters: all of one kind, then every combination where they are few,
    else one by one.
    """
    for kind in _KINDS[1:]:
        yield dict.fromkeys(keys, kind)
    if len(keys) <= _ALL_WAYS:
        for kinds in product(_KINDS, repeat=len(keys)):
            if len(set(map(repr, kinds))) > 1:
                yield dict(zip(keys, kinds, strict=True))
    else:
        for key in keys:
            for kind in _KINDS[1:]:
                yield {key: kind}
