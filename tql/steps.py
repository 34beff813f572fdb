"""The steps of a loader's chain: which may be drawn anew, and what of them fixes the order."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

import numpy as np

from tql.dataset import WeightsLike
from tql.diagnostics import error
from tql.grammar import syntax
from tql.grammar.parser import parse, parse_weight
from tql.grammar.walk import walk
from tql.language.bind_expr import Params
from tql.language.plan import Sample
from tql.language.user_functions import registered
from tql.queries import Question, pointing_into


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


def described(step: Step) -> dict[str, Any]:
    """The step as it goes into the plan's fingerprint."""
    match step:
        case QueryStep(text, params):
            values = params if isinstance(params, Mapping) else dict(enumerate(params or ()))
            return {
                "query": text, "params": {str(k): _plain(v) for k, v in values.items()},
                **_functions(parse(text)),
            }  # fmt: skip
        case SampleStep(weights, with_replacement, size, mix, resample):
            return {
                "sample_by": weights if isinstance(weights, str) else "array",
                "replace": with_replacement, "size": size, "mix": mix, "resample": resample,
                **(_functions(parse_weight(weights)) if isinstance(weights, str) else {}),
            }  # fmt: skip


def _functions(tree: syntax.Node) -> dict[str, dict[str, str]]:
    """What the user functions are that a step calls; nothing where it calls none."""
    called = {node.function for node in walk(tree) if isinstance(node, syntax.Call)}
    known = registered()
    digests = {name: known[name].digest for name in sorted(called & known.keys())}
    return {"functions": digests} if digests else {}


def _plain(value: Any) -> Any:
    """A parameter as JSON can hold it: NumPy numbers and arrays as Python's, sets sorted."""
    if isinstance(value, date | np.datetime64):
        return str(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, set | frozenset):
        value = sorted(value, key=lambda v: (str(type(v)), v))
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
