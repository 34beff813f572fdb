"""The steps of views and of a loader's chain: which may be drawn anew, and what of them fixes the
order. A plan's file has them as JSON, and makes them again of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import isfinite
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import error
from tql.grammar import syntax
from tql.grammar.parser import parse, parse_weight
from tql.grammar.walk import walk
from tql.language.bind_expr import Params
from tql.language.plan import Sample
from tql.language.user_functions import registered
from tql.queries import Question, pointing_into
from tql.sources.protocol import Source

ARRAY: Final = "array"  # what descriptions have for weights that are one; a reserved word

WeightsLike = str | Sequence[float] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class QueryStep:
    text: str
    params: Params


@dataclass(frozen=True, slots=True)
class SampleStep:
    weights: WeightsLike
    replace: bool
    size: int | None
    mix: str
    resample: str


Step: TypeAlias = QueryStep | SampleStep


@dataclass(frozen=True, slots=True)
class Reweight:
    """Other weights for the last step of a chain, from a position of an epoch on.

    steps  of the chain, when it was asked for: no more may follow
    """

    weights: WeightsLike
    epoch: int
    position: int
    steps: int


@dataclass(frozen=True, slots=True)
class RowsStep:
    """A slice of a data set: ds[start:stop:step]."""

    start: int
    stop: int
    step: int


@dataclass(frozen=True, slots=True)
class ColumnsStep:
    """A choice of columns: ds[["a", "b"]]."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ViewStep:
    """What made a view of the data set below it; the seed fixed its draws.

    An array of weights is not kept for it: it may be large, and files have its hash only.
    """

    step: Step | RowsStep | ColumnsStep
    seed: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the rows of a data set come from: what was opened (None where the first query names
    its data), and the views made of it, one of the other.
    """

    opened: Source | None
    views: tuple[ViewStep, ...] = ()

    def then(self, step: Step | RowsStep | ColumnsStep, seed: int) -> "Lineage":
        """With one more view."""
        match step:
            case SampleStep(weights) if not isinstance(weights, str):
                step = replace(step, weights=())
            case _:
                pass
        return Lineage(self.opened, (*self.views, ViewStep(step, seed)))

    def described(self) -> dict[str, Any]:
        """As a plan's file has it beside what the fingerprint is made of."""
        data = None if self.opened is None else self.opened.fingerprint
        views = [{**described(v.step), "seed": v.seed} for v in self.views]
        return {"data": data, "views": views}


def check_drawn_once(step: Step, question: Question | None = None) -> None:
    """Refuse a step before the last that would be drawn anew in each epoch if it were the last.

    question  that of a query
    """
    match step:
        case QueryStep(text) if question is not None and isinstance(question.bound.plan, Sample):
            with pointing_into(text):
                raise error(
                    "unsupported", "only the last step of a chain can be drawn anew in each epoch",
                    question.bound.plan.span,
                    help="put the query last, or keep one draw: take SAMPLE BY out of it and go on "
                    'with .sample_by(…, resample="once"), or load a view: ds.query(…).dataloader()',
                )  # fmt: skip
        case SampleStep(resample="epoch"):
            raise error(
                "unsupported", "only the last step of a chain can be drawn anew in each epoch",
                help='put .sample_by() last, or keep one draw with resample="once"',
            )  # fmt: skip
        case _:
            return


def described(step: Step | RowsStep | ColumnsStep) -> dict[str, Any]:
    """The step as JSON; those of a chain go into the plan's fingerprint."""
    match step:
        case QueryStep(text, params):
            values = params if isinstance(params, Mapping) else dict(enumerate(params or ()))
            return {
                "query": text, "params": {str(k): _plain(v) for k, v in values.items()},
                **_functions(parse(text)),
            }  # fmt: skip
        case SampleStep(weights, with_replacement, size, mix, resample):
            return {
                "sample_by": weights if isinstance(weights, str) else ARRAY,
                "replace": with_replacement, "size": size, "mix": mix, "resample": resample,
                **(_functions(parse_weight(weights)) if isinstance(weights, str) else {}),
            }  # fmt: skip
        case RowsStep(start, stop, stride):
            return {"rows": [start, stop, stride]}
        case ColumnsStep(names):
            return {"columns": list(names)}


def revived(described: Any, arrays: Iterator[WeightsLike]) -> Step | RowsStep | ColumnsStep | None:
    """The step that was described; None for what no step looks like.

    arrays  stand for the weights that were arrays, in the order of the steps
    """
    match described:
        case {"query": str(text), "params": dict(params)}:
            return QueryStep(text, _parameters(params))
        case {
            "sample_by": str(weights), "replace": bool(with_replacement), "size": size,
            "mix": str(mix), "resample": str(resample),
        }:  # fmt: skip
            given = next(arrays) if weights == ARRAY else weights
            return SampleStep(given, with_replacement, size, mix, resample)
        case {"rows": [int(start), int(stop), int(stride)]}:
            return RowsStep(start, stop, stride)
        case {"columns": [*names]}:
            return ColumnsStep(tuple(map(str, names)))
        case _:
            return None


def _parameters(params: dict[str, Any]) -> Params:
    """Values by name, or in a list where the names are 0, 1, …"""
    values = {name: _revived(value) for name, value in params.items()}
    if values and all(name.isdecimal() for name in values):
        return [values[str(i)] for i in range(len(values))]
    return values or None


def _revived(value: Any) -> Any:
    match value:
        case {"float": str(text)}:
            return float(text)
        case [*values]:
            return [_revived(v) for v in values]
        case _:
            return value


def _functions(tree: syntax.Node) -> dict[str, dict[str, str]]:
    """What the user functions are that a step calls; nothing where it calls none."""
    called = {node.function for node in walk(tree) if isinstance(node, syntax.Call)}
    known = registered()
    digests = {name: known[name].digest for name in sorted(called & known.keys())}
    return {"functions": digests} if digests else {}


def _plain(value: Any) -> Any:
    """A parameter as JSON can hold it: NumPy numbers and arrays as Python's, sets sorted, floats that
    are no finite numbers by their names.
    """
    if isinstance(value, date | np.datetime64):
        return str(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, set | frozenset):
        value = sorted(value, key=lambda v: (str(type(v)), v))
    if isinstance(value, float) and not isfinite(value):
        return {"float": str(value)}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def chosen_mix(mix: str | None, replace: bool, repeat: str | None) -> str:
    """How draws keep to the weights; "iid" unless `mix` or `repeat` says otherwise.

    `repeat="minimal"` is another name for quotas of an epoch with replacement: a row comes as often as
    its share of the draws, rounded down or up, so at most once where that is below 1.
    """
    if mix not in (None, "iid", "epoch", "batch"):
        raise error("parameter", f"mix must be 'iid', 'epoch' or 'batch', not {mix!r}",
                    help="'iid' draws independently, 'epoch' and 'batch' keep quotas")  # fmt: skip
    match repeat:
        case None:
            return mix or "iid"
        case "minimal" if not replace:
            raise error("parameter", "repeat='minimal' repeats rows where their weight asks for it, "
                        "replace=False never does",
                        help="leave one of the two out")  # fmt: skip
        case "minimal" if mix == "iid":
            raise error("parameter", "repeat='minimal' keeps quotas, mix='iid' draws independently, "
                        "which repeats rows by chance",
                        help="leave mix out, or write mix='epoch'")  # fmt: skip
        case "minimal":
            return mix or "epoch"
        case _:
            raise error("parameter", f"repeat must be 'minimal', not {repeat!r}",
                        help="leave it out for what mix= and replace= say")  # fmt: skip
