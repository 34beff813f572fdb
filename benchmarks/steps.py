"""What the steps of a query take: calls of the product that are watched while it runs.

A step is one or more functions of the product, replaced for a while by ones that also note when they
were called and when they returned. What is noted of a thread belongs to the innermost step. Where
several threads are in steps at once, the time is shared out among them, so that the steps of a run add
up to what the run took; what is in no step is `REST`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from itertools import pairwise
from threading import get_ident
from typing import Any, Final
from unittest.mock import patch

REST: Final = "rest"


@dataclass(frozen=True, slots=True)
class Span:
    """One call of a step, by the clock."""

    step: str
    thread: int
    start: float
    stop: float


@dataclass(frozen=True, slots=True)
class Point:
    """A function that belongs to a step: attribute `name` of `owner`, a module or a class.

    step  its name, or what gives it for the arguments of a call; None leaves the call to the step
          that it is made in
    """

    owner: Any
    name: str
    step: str | Callable[..., str | None]


@dataclass(slots=True)
class Watch:
    """The spans of what runs while it is on; several threads may add to it."""

    spans: list[Span] = field(default_factory=list)

    @contextmanager
    def on(self, points: Sequence[Point]) -> Iterator[None]:
        """A block in which calls of these are noted."""
        with ExitStack() as stack:
            for p in points:
                stack.enter_context(patch.object(p.owner, p.name, self._noted(p)))
            yield

    def _noted(self, point: Point) -> Callable[..., Any]:
        function, step, spans = getattr(point.owner, point.name), point.step, self.spans

        @wraps(function)
        def noted(*args: Any, **kwargs: Any) -> Any:
            name = step if isinstance(step, str) else step(*args, **kwargs)
            if name is None:
                return function(*args, **kwargs)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spans.append(Span(name, get_ident(), start, time.perf_counter()))

        return noted


def shares(spans: Sequence[Span], start: float, stop: float) -> Mapping[str, float]:
    """Seconds of each step between two moments, REST among them, in the order they were first
    entered; together they are stop - start.
    """
    pieces = [piece for thread in dict.fromkeys(s.thread for s in spans)
              for piece in _innermost([s for s in spans if s.thread == thread])]  # fmt: skip
    moments = sorted({start, stop, *(t for p in pieces for t in (p.start, p.stop))})
    found: dict[str, float] = dict.fromkeys((s.step for s in sorted(spans, key=_begin)), 0.0)
    found[REST] = 0.0
    for a, b in pairwise(moments):
        if not start <= a < b <= stop:
            continue
        running = [p.step for p in pieces if p.start <= a and b <= p.stop]
        for step in running or [REST]:
            found[step] += (b - a) / max(len(running), 1)
    return found


def _begin(span: Span) -> float:
    return span.start


def _innermost(spans: Sequence[Span]) -> Iterator[Span]:
    """Of the spans of one thread, which lie within each other or apart, those of the innermost."""
    open_: list[Span] = []
    at = 0.0
    for span in sorted(spans, key=lambda s: (s.start, -s.stop)):
        while open_ and open_[-1].stop <= span.start:
            yield from _piece(open_[-1], at, open_[-1].stop)
            at = open_.pop().stop
        if open_:
            yield from _piece(open_[-1], at, span.start)
        open_.append(span)
        at = span.start
    while open_:
        yield from _piece(open_[-1], at, open_[-1].stop)
        at = open_.pop().stop


def _piece(span: Span, start: float, stop: float) -> Iterator[Span]:
    if start < stop:
        yield Span(span.step, span.thread, start, stop)
