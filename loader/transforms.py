"""A user's function of a sample or of a value, and the random numbers it may ask for.

A function with a parameter `rng` is given a numpy.random.Generator, one with a parameter `seed` an
integer of 64 bits. Both are of the row, of which repeat of it this is, and of the epoch: so what is
made of a sample does not depend on threads, ranks or where a job resumed. All functions of a sample
get the same numbers, so that an image and its mask are cut alike.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from tql.diagnostics import error
from tql.loader.batch import INDEX, PAD, Batch, Columns, Sample, Samples, sample_at, stack
from tql.loader.memory import Room
from tql.loader.options import Transform

_RANDOM: Final = ("rng", "seed")


@dataclass(frozen=True, slots=True)
class Function:
    """`fn` with its keyword arguments; `random` are those that each sample brings."""

    fn: Callable[..., Any]
    kwargs: Mapping[str, Any]
    random: tuple[str, ...]

    def __call__(self, value: Any, seed: int | None) -> Any:
        """What `fn` makes of a sample or a value; without a seed there is nothing random to give."""
        if not self.random:
            return self.fn(value, **self.kwargs)
        if seed is None:
            raise error(
                "unsupported",
                f"the transform asks for '{self.random[0]}', which belongs to a place in an order; "
                "a map-style data set has none",
                help="use .transform() of a loader: ds.dataloader().transform(fn).pytorch()",
            )
        given: dict[str, Any] = {}
        if "rng" in self.random:
            given["rng"] = np.random.Generator(np.random.Philox(key=seed))
        if "seed" in self.random:
            given["seed"] = seed
        return self.fn(value, **self.kwargs, **given)


def function(fn: Callable[..., Any], kwargs: Mapping[str, Any] | None = None) -> Function:
    """`fn` with arguments of the user's, which come before random ones of the same name."""
    kwargs = kwargs or {}
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # a builtin that does not say
        return Function(fn, kwargs, ())
    named = {
        name
        for name, p in list(parameters.items())[1:]  # the first one takes the sample
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return Function(fn, kwargs, tuple(n for n in _RANDOM if n in named and n not in kwargs))


@dataclass(frozen=True, slots=True)
class OfSamples:
    """A transform that makes another sample of a sample; `index` and `_pad` stay if it drops them."""

    fn: Function

    def __call__(self, batch: Columns, i: int, seed: int | None) -> Sample:
        """The new sample."""
        sample = sample_at(batch, i)
        kept = {name: sample[name] for name in (INDEX, PAD) if name in sample}
        try:
            made = self.fn(sample, seed)
        except Exception as e:
            e.add_note(f"tql: in the transform of row {batch.rows[i]}")
            raise
        if not isinstance(made, Mapping):
            raise error(
                "type",
                f"the transform returned {type(made).__name__} for row {batch.rows[i]}; "
                "expected a dict of column names and values",
                help="return {'image': …, 'label': …}",
            )
        return {**made, **{k: v for k, v in kept.items() if k not in made}}

    def needed(self, batch: Columns) -> Columns:
        """What of a batch it looks at."""
        return batch

    def joined(self, batch: Columns, made: list[Sample], memory: Room) -> Batch:
        """The new samples as a batch."""
        return Samples(batch.rows, made, memory)


@dataclass(frozen=True, slots=True)
class OfColumns:
    """A function for each of some columns."""

    functions: Mapping[str, Function]

    def __call__(self, batch: Columns, i: int, seed: int | None) -> Sample:
        """The new values of those columns."""
        made = {}
        for name, fn in self.functions.items():
            try:
                made[name] = fn(batch.values[name][i], seed)
            except Exception as e:
                e.add_note(f"tql: in the transform of row {batch.rows[i]}, column '{name}'")
                raise
        return made

    def needed(self, batch: Columns) -> Columns:
        """What of a batch it looks at."""
        return Columns(batch.rows, {name: batch.values[name] for name in self.functions})

    def joined(self, batch: Columns, made: list[Sample], memory: Room) -> Batch:
        """The batch with its new values."""
        stacked = {
            name: stack([sample[name] for sample in made], memory) for name in self.functions
        }
        return Columns(batch.rows, {**batch.values, **stacked})


Apply: TypeAlias = OfSamples | OfColumns


def applied(transform: Transform, kwargs: Mapping[str, Any]) -> Apply:
    """What applies a user's transform: a function, or a dict of functions by column."""
    if isinstance(transform, Mapping):
        return OfColumns({name: function(fn) for name, fn in transform.items() if fn is not None})
    return OfSamples(function(transform, kwargs))
