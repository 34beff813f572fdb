"""How one batch is made: read, decode, transform, collate, as phases that threads can share."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from tql.loader.batch import (
    PAD,
    Batch,
    Collate,
    Columns,
    Samples,
    stack,
)
from tql.loader.decode import Decoder, Fetched, Task, fetch, start
from tql.loader.memory import Memory
from tql.loader.meter import Meter
from tql.loader.options import Transform
from tql.loader.rows import Rows
from tql.loader.transforms import Function, function, transform_sample, transform_value

_ROWS_IN_NOTES: Final = 8


class Located(Protocol):
    """The rows of one batch of one rank (the planner's StreamBatch)."""

    @property
    def rows(self) -> npt.NDArray[np.int64]: ...
    @property
    def seeds(self) -> npt.NDArray[np.uint64]: ...
    @property
    def pad(self) -> npt.NDArray[np.bool_]: ...


class Stream(Protocol):
    """Random access to the batches of one rank in one epoch (the planner's IndexStream)."""

    def __len__(self) -> int: ...
    @property
    def batches(self) -> int: ...
    def batch(self, i: int, /) -> Located: ...
    def position_after(self, i: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Phase:
    """Tasks that may run at once, in any thread; then `then` says how it goes on.

    `stage` is what the time is counted as; `nbytes` is what the batch holds, where it is known.
    """

    stage: str
    tasks: Sequence[Task]
    then: "Callable[[], Next]"
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The finished batch."""

    value: Any


Next: TypeAlias = Phase | Done


@dataclass(frozen=True, slots=True)
class Recipe:
    """Batches of one pass by step; safe to use from many threads."""

    stream: Stream
    batches: int
    epoch: int
    start: int
    rows: Rows
    decoder: Decoder
    transform: Transform | None
    transform_kwargs: Mapping[str, Any]
    mark_padding: bool
    collate: Collate
    memory: Memory
    meter: Meter

    def read(self, step: int) -> "Callable[[], Next]":
        """Read the rows of a batch; what is returned goes on, in a thread that decodes."""
        began = time.perf_counter()
        located = self.stream.batch(step)
        fetched = fetch(self.rows, self.decoder, located.rows)
        seconds, table = time.perf_counter() - began, fetched.table
        self.meter.add("read", seconds, batches=1, rows=table.num_rows, bytes=table.nbytes)
        return partial(self._decode, located, fetched)

    def make(self, step: int) -> Any:
        """The finished batch, made in the calling thread."""
        then = self.read(step)
        while True:
            match then():
                case Done(value):
                    return value
                case Phase() as phase:
                    for task in phase.tasks:
                        task()
                    then = phase.then
                case _ as never:
                    assert_never(never)

    def place(self, step: int) -> str:
        """Where a step is, for people."""
        rows = self.rows.identify(self.stream.batch(step).rows)
        shown = ", ".join(map(str, rows[:_ROWS_IN_NOTES].tolist()))
        dots = ", …" if len(rows) > _ROWS_IN_NOTES else ""
        position = self.stream.position_after(step - 1) if step else self.start
        return f"epoch {self.epoch}, step {step}, position {position}, rows [{shown}{dots}]"

    def _decode(self, located: Located, fetched: Fetched) -> Next:
        began = time.perf_counter()
        decoding = start(self.decoder, fetched, self.memory)
        if self.mark_padding:
            decoding.batch.values[PAD] = np.array(located.pad, np.bool_)
        seconds, rows = time.perf_counter() - began, len(located.rows)
        self.meter.add("decode", seconds, batches=1, rows=rows, bytes=decoding.nbytes)
        then = partial(self._transform, decoding.batch, located)
        return Phase("decode", decoding.tasks, then, decoding.nbytes)

    def _transform(self, batch: Columns, located: Located) -> Next:
        seeds = located.seeds.tolist()
        match self.transform:
            case None:
                return self._collate(batch)
            case Mapping() as given:
                functions = {name: function(fn) for name, fn in given.items() if fn is not None}
                return self._transform_columns(batch, functions, seeds)
            case fn:
                return self._transform_samples(batch, function(fn, self.transform_kwargs), seeds)

    def _transform_columns(
        self, batch: Columns, functions: Mapping[str, Function], seeds: list[int]
    ) -> Next:
        made: dict[str, list[Any]] = {name: [None] * len(batch.rows) for name in functions}

        def apply(name: str, fn: Function, i: int) -> None:
            made[name][i] = transform_value(fn, batch, name, i, seeds[i])

        def finish() -> Next:
            stacked = {name: stack(values) for name, values in made.items()}
            return self._collate(Columns(batch.rows, {**batch.values, **stacked}))

        tasks = [
            partial(apply, name, fn, i)
            for i in range(len(batch.rows))
            for name, fn in functions.items()
        ]
        return self._counted(batch, Phase("transform", tasks, finish))

    def _transform_samples(self, batch: Columns, fn: Function, seeds: list[int]) -> Next:
        made: list[dict[str, Any]] = [{}] * len(batch.rows)

        def apply(i: int) -> None:
            made[i] = transform_sample(fn, batch, i, seeds[i])

        def finish() -> Next:
            return self._collate(Samples(batch.rows, made))

        tasks = [partial(apply, i) for i in range(len(batch.rows))]
        return self._counted(batch, Phase("transform", tasks, finish))

    def _counted(self, batch: Columns, phase: Phase) -> Phase:
        self.meter.add("transform", 0.0, batches=1, rows=len(batch.rows))
        return phase

    def _collate(self, batch: Batch) -> Next:
        began = time.perf_counter()
        value = self.collate(batch)
        self.meter.add("collate", time.perf_counter() - began, batches=1, rows=len(batch.rows))
        return Done(value)
