"""A user's function of a sample or of a value, and the random numbers it may ask for.

A function with a parameter `rng` is given a numpy.random.Generator, one with a parameter `seed` an
integer of 64 bits. Both are of the row, of which repeat of it this is, and of the epoch: so what is
made of a sample does not depend on threads, ranks or where a job resumed. All functions of a sample
get the same numbers, so that an image and its mask are cut alike.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tql.diagnostics import error
from tql.loader.batch import INDEX, PAD, Columns, Sample, sample_at

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


def transform_sample(fn: Function, batch: Columns, i: int, seed: int | None) -> Sample:
    """What a callable transform makes of one sample; `index` and `_pad` are kept if it drops them."""
    sample = sample_at(batch, i)
    kept = {name: sample[name] for name in (INDEX, PAD) if name in sample}
    try:
        made = fn(sample, seed)
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


def transform_value(fn: Function, batch: Columns, name: str, i: int, seed: int | None) -> Any:
    """What a column's function makes of one value."""
    try:
        return fn(batch.values[name][i], seed)
    except Exception as e:
        e.add_note(f"tql: in the transform of row {batch.rows[i]}, column '{name}'")
        raise
