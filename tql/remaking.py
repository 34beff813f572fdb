"""Plans made again from their files: the steps that a file has, taken again over the data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tql.api import query
from tql.chain import DataLoader
from tql.dataset import Dataset, View
from tql.diagnostics import (
    Diagnostic,
    Note,
    TqlDataError,
    TqlError,
    counted,
    error,
    first_names,
)
from tql.language.user_functions import registered
from tql.planner import Plan, PlanFile, Windows, load
from tql.planner.plan_file import short
from tql.queries import Question, ask
from tql.sources.opening import open_source
from tql.steps import (
    ARRAY,
    ColumnsStep,
    Lineage,
    QueryStep,
    Reweight,
    RowsStep,
    SampleStep,
    Step,
    WeightsLike,
    revived,
)


def load_plan(path: str | Path, source: Any = None, *, weights: Any = None) -> Plan:
    """The plan that `plan.save(path)` wrote, made again from the data and compared with the file.

    source   the data: what `tql.open` takes, or a Dataset. None where the queries name their data.
             A view does where the plan was made over it; so does what lies below it
    weights  the numbers that `sample_by` was given where it was no expression: one array, or a list
             of arrays where it was called with several. Functions of yours must be registered

    Nothing is drawn that was not drawn for the plan. Where the data, the weights, a function or the
    order of this version are not those of the plan, a TqlDataError (the data changed) or a
    TqlPlanError lists whatever differs.
    """
    return remade(load(path), source, weights=weights)[1]


def remade(file: PlanFile, source: Any = None, *, weights: Any = None) -> tuple[Dataset, Plan]:
    """The plan of a file that was read, and the data set that it draws from; see `load_plan`."""
    base = None if source is None else _dataset(source)
    views, steps, changes = _steps(file, base, weights)
    _check_functions(file)
    try:
        chain = _chain(file, _over(base, views, steps), steps, changes)
        plan = chain.plan
    except TqlError as e:
        if not _changed(file, base):
            raise
        why = f"the plan cannot be made again: {e.diagnostic.message}"
        raise _other_data(file, base, [why]) from e
    differences = file.verify(plan)
    if not differences:  # also where other views gave the same rows
        return chain.dataset, replace(plan, offset=file.offset, notes=file.notes)
    differences = (*_other_views(file, plan), *differences)
    if _changed(file, base) or any(line.startswith("source:") for line in differences):
        raise _other_data(file, base, differences)
    raise error(
        "value",
        f"this is not the plan {file.fingerprint[:12]}: it would put other rows at its positions",
        notes=[Note(line) for line in differences],
        help="use the query, weights, functions and version that it was saved with, "
        "or save a new plan",
    )


def _dataset(source: Any) -> Dataset:
    if isinstance(source, Dataset):
        return source
    name = source if isinstance(source, str) else type(source).__name__
    return Dataset(open_source(source), name)


# -- what the file says ------------------------------------------------------------------------


def _steps(
    file: PlanFile, base: Dataset | None, weights: Any
) -> tuple[Sequence[tuple[Any, int]], tuple[Step, ...], tuple[Reweight, ...]]:
    """The views that are still to be made of `base`, each with its seed; the steps of the chain, and
    the changes of their weights.
    """
    chain, views = file.origin.get("steps"), file.lineage.get("views")
    if not isinstance(chain, list) or not isinstance(views, list):
        raise error("value", "the plan's file does not say which steps made it",
                    help="plans of tql.planner.make_plan are made again by the same call; "
                    "tql.planner.load(path).verify(plan) compares them")  # fmt: skip
    known = [] if base is None else base.lineage.described()["views"]
    if known:  # of a view that was handed in: made already, or other ones
        views = views[len(known) :] if views[: len(known)] == known else []
    changes = _changes(file)
    arrays = _arrays([*views, *chain, *(step for *_, step in changes)], weights)
    made = [(_revived(step, arrays), _seed(step)) for step in views]
    steps = tuple(_revived(step, arrays) for step in chain)
    reweights = [
        Reweight(_revived(step, arrays).weights, epoch, position, len(steps))
        for epoch, position, step in changes
    ]
    return made, steps, tuple(reweights)


def _changes(file: PlanFile) -> list[tuple[int, int, Any]]:
    """(epoch, position, step with the new weights) of each change of weights."""
    found = []
    for change in file.parts.get("changes", ()):
        match change:
            case {
                "epoch": int(epoch), "position": int(position),
                "origin": {"steps": [*_, {"sample_by": _} as step]},
            }:  # fmt: skip
                found.append((epoch, position, step))
            case _:
                _revived(change, iter(()))
    return found


def _revived(described: Any, arrays: Iterator[WeightsLike]) -> Any:
    step = revived(described, arrays)
    if step is None:
        raise error("value", f"the plan's file has a step that this version does not know: {described}",
                    help="load it with the version that wrote it")  # fmt: skip
    return step


def _seed(described: Mapping[str, Any]) -> int:
    seed = described.get("seed")
    if type(seed) is not int:
        raise error("value", f"the plan's file has a view with the seed {seed!r}",
                    help="load a file that plan.save(path) wrote")  # fmt: skip
    return seed


def _arrays(described: Sequence[Any], weights: Any) -> Iterator[WeightsLike]:
    """The weights that were handed in, one for each step that was given an array."""
    wanted = sum(isinstance(d, Mapping) and d.get("sample_by") == ARRAY for d in described)
    several = isinstance(weights, list | tuple) and any(np.ndim(w) for w in weights)
    given = [] if weights is None else list(weights) if several else [weights]
    if len(given) != wanted:
        raise error(
            "parameter",
            f"the plan was made with {counted(wanted, 'array')} of weights, which its file has only "
            f"hashes of; {len(given) or 'none'} {'were' if len(given) > 1 else 'was'} given"
            if wanted else "the plan was made without an array of weights, but one was given",
            help="hand them in again: load_plan(path, source, weights=array), or a list of arrays; "
            "tql plan … --weights file.npy"
            if wanted else "leave the weights out: they are an expression, or there are none",
        )  # fmt: skip
    return iter(given)


def _check_functions(file: PlanFile) -> None:
    changes = (step for *_, step in _changes(file))
    described = [*file.origin["steps"], *file.lineage["views"], *changes]
    names = {name for d in described if isinstance(d, Mapping) for name in d.get("functions", ())}
    missing = sorted(names - registered().keys())
    if missing:
        raise error(
            "value", f"the plan calls {counted(len(missing), 'function')} of yours that is not "
            f"registered: {first_names(missing)}",
            help="tql.register_function(fn, name) first, with the code that the plan was made with",
        )  # fmt: skip


# -- taking the steps again --------------------------------------------------------------------


def _over(base: Dataset | None, views: Sequence[tuple[Any, int]], steps: Sequence[Step]) -> Dataset:
    """The data set that the chain stands on."""
    for step, seed in views:
        base = _view(base, step, seed)
    if base is not None:
        return base
    match steps:
        case [QueryStep(text, params), *_]:
            return named_by(ask(None, text, params))
        case _:
            raise _nameless()


def named_by(question: Question) -> Dataset:
    """The data that a query names, for a chain that begins with the query."""
    for name, source in question.environment.tables.items():
        return Dataset(source, name, Lineage(None))
    raise _nameless()


def _view(below: Dataset | None, step: Any, seed: int) -> View:
    match step:
        case QueryStep(text, params) if below is None:
            return query(text, params, seed=seed)
        case _ if below is None:
            raise _nameless()
        case QueryStep(text, params):
            return below.query(text, params, seed=seed)
        case SampleStep(weights, with_replacement, size, mix):
            return below.sample_by(weights, with_replacement, size, seed=seed, mix=mix)
        case RowsStep(start, stop, stride):
            return below[slice(start, stop if stop >= 0 else None, stride)]
        case ColumnsStep(names):
            return below[list(names)]
        case _:
            raise AssertionError(step)


def _chain(
    file: PlanFile, base: Dataset, steps: tuple[Step, ...], changes: tuple[Reweight, ...]
) -> DataLoader:
    parts = file.parts
    block = parts.get("block")
    return DataLoader(
        base, seed=parts["seed"], steps=steps, shuffled=parts["shuffle"],
        batching=None if block is None else (block, False),
        windowing=_windows(parts.get("windows")), reweights=changes,
    )  # fmt: skip


def _windows(described: Any) -> Windows | None:
    if described is None:
        return None
    if not isinstance(described, Mapping) or set(described) != set(Windows(1).as_json()):
        raise error("value", f"the plan's file has windows that this version does not know: {described}",
                    help="load it with the version that wrote it")  # fmt: skip
    return Windows(**described)


# -- what does not fit -------------------------------------------------------------------------


def _other_views(file: PlanFile, plan: Plan) -> list[str]:
    lines = []
    pairs = zip_longest(file.lineage["views"], plan.lineage["views"])
    for at, (was, now) in enumerate(pairs):
        if was != now:
            shown = (short(v) if v is not None else "nothing" for v in (was, now))
            lines.append("views.{}: {} in the plan file, {} now".format(at, *shown))
    return lines


def _changed(file: PlanFile, base: Dataset | None) -> bool:
    """Whether the data below are others than those that the plan was made of."""
    was = file.lineage.get("data")
    opened = None if base is None else base.lineage.opened
    return was is not None and opened is not None and opened.fingerprint != was


def _other_data(file: PlanFile, base: Dataset | None, differences: Sequence[str]) -> TqlError:
    lines = list(differences)
    if _changed(file, base):
        assert base is not None and base.lineage.opened is not None
        now = base.lineage.opened.fingerprint
        lines.insert(0, f"data: {file.lineage['data']} in the plan file, {now} now")
    notes = tuple(Note(line) for line in lines)
    return TqlDataError(Diagnostic(
        "source", f"the data are not those of the plan {file.fingerprint[:12]}: its positions would "
        "name other rows", notes=notes,
        help="open the data that the plan was saved with, or save a new plan",
    ))  # fmt: skip


def _nameless() -> TqlError:
    return error("value", "the plan's queries do not name their data",
                 help="hand the data in: load_plan(path, source)")  # fmt: skip
