"""From the steps of a chain to its plan: fixed views, then the draws and the order of the last step."""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tql.dataset import Dataset, View, fragment_edges, view_of
from tql.diagnostics import error
from tql.engine.derived import derive
from tql.planner import Plan, Windows, changed, make_plan
from tql.queries import ask, weigh_by_fragment, weights_below
from tql.shuffling import WHOLE, Shuffling, in_windows
from tql.steps import QueryStep, SampleStep, Step, check_drawn_once, described
from tql.weights import AnyWeights, FragmentWeights

if TYPE_CHECKING:
    from tql.chain import DataLoader

# Rows from which on a weight of each is looked up fragment by fragment, where that is possible: their
# weights and running sums would take 2 GiB. Another number is another order for the plans between.
BY_FRAGMENT: Final = 1 << 27


def planned(chain: "DataLoader") -> tuple[Dataset, Plan]:
    """The rows that a chain draws from, and their order."""
    if any(change.steps != len(chain.steps) for change in chain.reweights):
        raise error("parameter", "a step after .reweight(), which is about the last one",
                    help="write .reweight() after all .query() and .sample_by()")  # fmt: skip
    view = chain.base
    for step in chain.steps[:-1]:
        view = _applied(chain, view, step)
    match chain.steps[-1] if chain.steps else None:
        case SampleStep() as step:
            return view, _reweighted(chain, view, _sampled(chain, view, step))
        case QueryStep() as step:
            return _of_query(chain, view, step)
        case None:
            return view, _made(chain, view)


def _sampled(chain: "DataLoader", view: Dataset, step: SampleStep) -> Plan:
    """The plan that draws rows of `view` by weights."""
    looked_up = _looked_up(chain, view, step)
    found = looked_up if looked_up is not None else view.weighed(step.weights, chain.seed)[1]
    return _made(chain, view, found, step.size, step.replace, step.mix, step.resample)


def _looked_up(chain: "DataLoader", view: Dataset, step: SampleStep) -> FragmentWeights | None:
    """Weights of so many rows that they are kept by fragment, and worked out as windows come."""
    fits = step.mix == "epoch" and step.replace and chain.windowing is not None
    if not fits or not isinstance(step.weights, str) or len(view) < BY_FRAGMENT:
        return None
    edges = fragment_edges(view.parts()[0])
    return weigh_by_fragment(view.source, step.weights, edges, seed=chain.seed)


def _reweighted(chain: "DataLoader", view: Dataset, plan: Plan) -> Plan:
    """The plan with the changes of weights that were declared."""
    changes = []
    for change in chain.reweights:
        step = chain.steps[-1]
        assert isinstance(step, SampleStep)
        step = replace(step, weights=change.weights)
        # Windows as long as those of the first weights: what a position is in stays the same.
        other = replace(chain, steps=(*chain.steps[:-1], step), windowing=plan.windows, start=None)
        changes.append((change.epoch, change.position, _sampled(other, view, step)))
    return changed(plan, changes) if changes else plan


def _of_query(chain: "DataLoader", view: Dataset, step: QueryStep) -> tuple[Dataset, Plan]:
    question = ask(view.source, step.text, step.params, seed=chain.seed)
    population = question.population()
    if population is None or population.size == 0:
        view = _applied(chain, view, step)
        return view, _made(chain, view)
    drawn_from, weights = population.source, population.weights
    source = derive(drawn_from, population.rows, population.outputs, chain.seed)
    if source.parent is not drawn_from:  # a view of a view became a view of what lies below
        weights = weights_below(drawn_from, weights)
    view = View(source, view.name, step.text)
    return view, _made(chain, view, weights, population.size, population.replace)


def _made(
    chain: "DataLoader",
    view: Dataset,
    weights: AnyWeights | None = None,
    size: int | None = None,
    with_replacement: bool = True,
    mix: str = "iid",
    resample: str = "epoch",
) -> Plan:
    source, _ = view.parts()
    rows = view.plan_rows()

    def made(windows: Windows | None) -> Plan:
        if windows is None and isinstance(weights, FragmentWeights):
            windows = Windows(WHOLE)  # a permutation of everything, fragments looked up
        return make_plan(
            rows,
            weights,
            size=size,
            replace=with_replacement,
            shuffle=bool(chain.shuffled),
            seed=chain.seed,
            mix=mix,
            resample=resample,
            edges=None if mix == "iid" and windows is None else fragment_edges(source),
            block=chain.batching[0] if mix == "batch" and chain.batching else None,
            windows=windows,
            source_fingerprint=source.fingerprint,
            origin={"steps": [described(s) for s in chain.steps]},
            offset=chain.start or 0,
        )

    match chain.windowing:
        case Shuffling() as asked:
            plan, notes = in_windows(made, chain.material(view), asked, chain.batch_size)
            return replace(plan, notes=(*plan.notes, *notes))
        case windows:
            return made(windows)


def _applied(chain: "DataLoader", view: Dataset, step: Step) -> View:
    match step:
        case QueryStep(text, params):
            question = ask(view.source, text, params, seed=chain.seed)
            check_drawn_once(step, question)
            return view_of(question, view, params)
        case SampleStep(weights, with_replacement, size, mix):
            check_drawn_once(step)
            return view.sample_by(weights, with_replacement, size, seed=chain.seed, mix=mix)
