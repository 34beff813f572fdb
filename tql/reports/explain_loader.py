"""The explanation of a loader's chain: its steps from the data up, then order and batches."""

from dataclasses import dataclass, field

from tql.chain import DataLoader
from tql.dataset import Dataset, View
from tql.diagnostics import counted
from tql.engine.derived import DerivedSource, computed_in, derive
from tql.engine.scan import Settings
from tql.engine.zones import Outlook
from tql.grammar.parser import parse_weight
from tql.grammar.printer import format_expr
from tql.language.bind import bind_weight
from tql.language.expr import Expr, columns_of, substitute
from tql.language.plan import Output
from tql.loader import Options
from tql.planner import Plan, make_plan
from tql.planner.rng import ORDER_VERSION
from tql.queries import ask, pointing_into
from tql.reports.class_counts import Drawing
from tql.reports.class_table import ClassTable, tabled
from tql.reports.nodes import Fetch, Node, Told
from tql.reports.scans import fetched, looked_at, scan_node, with_scan
from tql.reports.titles import sampling
from tql.reports.tree import tell, teller_of
from tql.rowset import everything
from tql.sources.protocol import Source
from tql.steps import QueryStep, SampleStep, check_drawn_once
from tql.weights import FragmentWeights


@dataclass(slots=True)
class _Story:
    """What has been told so far: the data set that the steps give, and its node.

    bottom  the source that the scans at the bottom are of; a query with a FROM changes it
    """

    base: Dataset
    here: Dataset
    node: Node
    outputs: tuple[Output, ...]
    over: Source
    bottom: Source
    table: ClassTable | None = None
    read: set[str] = field(default_factory=set)
    told: Outlook | None = None
    notes: list[str] = field(default_factory=list)

    def reads(self, source: Source, names: set[str]) -> None:
        """Note columns of `source` as those of the source at the bottom."""
        while source is not self.bottom and isinstance(source, DerivedSource):
            known = {o.name: o.expr for o in source.outputs}
            names = set().union(*(columns_of(known[n]) for n in names)) if names else set()
            source = source.parent
        if source is not self.bottom:
            self.bottom, self.told, self.read = source, None, set()
        self.read |= names


def tell_loader(loader: DataLoader) -> Told:
    """The whole story of a loader; steps before the last are fixed views, and evaluated as such."""
    base = loader.base
    over, outputs = base.parts()
    story = _Story(base, base, scan_node(base.source, ()), outputs, over, base.source)
    if not loader.steps:
        story.table = tabled(
            over, base.plan_rows(), None, None, (), outputs, Settings(), story.notes
        )
    for n, step in enumerate(loader.steps):
        last = n == len(loader.steps) - 1
        match step:
            case QueryStep():
                _tell_query(story, step, loader.seed, last)
            case SampleStep():
                _tell_sample(story, step, loader, last)
    node = with_scan(story.node, story.bottom, story.read, story.told)
    rows = node.rows
    assert rows is not None, "a loader's rows are always known"
    order = loader.expected()
    if order is not None:
        title = f"{order.title}, order {ORDER_VERSION}, seed {loader.seed}"
        node = Node("Shuffle", title, rows, details=order.lines(), children=(node,))
        story.notes += [*loader.plan.notes, *order.notes]
    root = _batches(loader, node, rows)
    notes = tuple(dict.fromkeys(story.notes))  # a plan says again what its steps said
    return Told(root, story.table, _fetch(loader, story, rows), notes, order=order)


def _tell_query(story: _Story, step: QueryStep, seed: int, last: bool) -> None:
    question = ask(story.here.source, step.text, step.params, seed=seed)
    if not last:
        check_drawn_once(step, question)
    with pointing_into(step.text):
        first = story.here is story.base
        teller = teller_of(
            question.bound, question.environment, draws=True, base=None if first else story.node
        )
        told = tell(teller)
        story.reads(teller.run.source, teller.read)
        if first and teller.run.source is story.bottom:
            story.told = looked_at(teller.bound.plan, teller.run.source)
        story.node, story.table = told.node, told.table
        story.notes += told.notes
        source, outputs = teller.run.source, teller.bound.outputs
        if last:
            story.over, story.outputs = source, outputs
        else:
            view = derive(source, teller.run.rows(teller.bound.plan), outputs, seed)
            story.here = View(view, story.base.name, step.text)


def _tell_sample(story: _Story, step: SampleStep, loader: DataLoader, last: bool) -> None:
    if not last:
        check_drawn_once(step)
    below = story.here
    over, outputs = below.parts()
    weight = _weight(step, below)
    if weight is not None:
        story.reads(below.source, set(columns_of(weight)))
        weight = substitute(weight, {o.name: o.expr for o in outputs})
    if last and loader.windowing is not None and isinstance(loader.plan.weights, FragmentWeights):
        _tell_looked_up(story, step, loader.plan, over, outputs)
        return
    population, weights = below.weighed(step.weights, loader.seed)
    plan = make_plan(population, weights, size=step.size, replace=step.replace, mix=step.mix,
                     block=loader.batching[0] if loader.batching else None)  # fmt: skip
    anew = last and step.resample == "epoch"
    title, details = sampling(step.replace, weights, step.mix)
    text = (_weight_text(step.weights),) if isinstance(step.weights, str) else ()
    when = "drawn anew in each epoch" if anew else "drawn once"
    story.node = Node("Sample", title, len(plan), details=(*text, *details, when),
                      children=(story.node,))  # fmt: skip
    story.notes += plan.notes
    story.over, story.outputs = over, outputs
    drawing = Drawing(weights, len(plan), step.replace, step.mix)
    if last:
        story.table = tabled(
            over, population, drawing, weight, (), outputs, Settings(), story.notes
        )
    else:
        story.here = below.sample_by(
            step.weights, step.replace, step.size, seed=loader.seed, mix=step.mix
        )


def _tell_looked_up(
    story: _Story, step: SampleStep, plan: Plan, over: Source, outputs: tuple[Output, ...]
) -> None:
    """Draws by weights of which only sums of fragments are known: none is worked out for this."""
    assert isinstance(step.weights, str)
    title = "by quotas of each epoch, as few repeats as can be, one weight per row"
    details = (_weight_text(step.weights), "looked up fragment by fragment, when their window comes",
               "drawn anew in each epoch" if step.resample == "epoch" else "drawn once")  # fmt: skip
    story.node = Node("Sample", title, len(plan), details=details, children=(story.node,))
    story.notes += plan.notes
    story.over, story.outputs = over, outputs
    story.table = tabled(over, plan.population, None, None, (), outputs, Settings(), story.notes)


def _weight(step: SampleStep, below: Dataset) -> Expr | None:
    """The weight expression over the columns of `below`."""
    if not isinstance(step.weights, str):
        return None
    with pointing_into(step.weights):
        weight, computed = parse_weight(step.weights), computed_in(below.source)
        return bind_weight(weight, step.weights, below.schema, computed=computed)


def _weight_text(text: str) -> str:
    return f"weight {format_expr(parse_weight(text))}"


# -- batches -----------------------------------------------------------------------------------


def _batches(loader: DataLoader, node: Node, rows: int) -> Node:
    given = loader.output.of_rank() if loader.output is not None else Options()
    rank, world, remainder = given.rank, given.world_size, given.remainder
    size = loader.batch_size
    start = loader.start or 0
    # Counted by the streams themselves, over as many positions.
    stream = make_plan(everything(rows)).stream(
        rank=rank,
        world_size=world,
        offset=start,
        batch_size=size,
        remainder=remainder,
    )
    for epoch, positions in loader.skips:
        stream.skip(positions, epoch=epoch)
    batches = len(stream) // size if loader.drop_last else stream.batches
    kept = batches * size if loader.drop_last else len(stream)
    title = f"batch {size:,}, drop_last={str(loader.drop_last).lower()}, {counted(batches, 'batch', 'batches')}"
    details = []
    if start:
        details.append(f"the first epoch starts at position {start:,} of {rows:,}")
    for change in loader.reweights:
        weights = (
            _weight_text(change.weights) if isinstance(change.weights, str) else "other weights"
        )
        details.append(f"from position {change.position:,} of epoch {change.epoch} on: {weights}")
    for epoch, skipped in loader.skips:
        details.append(
            f"epoch {epoch} leaves out {counted(len(skipped), 'position')} from {skipped.start:,} on"
        )
    if loader.drop_last and kept < len(stream):
        details.append(f"drop_last leaves out {counted(len(stream) - kept, 'row')}")
    if world > 1:
        details.append(
            f"rank {rank} of {world}; {_remainder(remainder, stream.left, world * size)}"
        )
    return Node("Loader", title, kept, details=tuple(details), children=(node,))


def _remainder(rule: str, rows: int, step: int) -> str:
    """What happens to the rows of an epoch that do not fill a step of all ranks."""
    rest = rows % step
    match rule:
        case "drop":
            return f"remainder drop: {counted(rest, 'row')} of an epoch left out"
        case "pad" | "mask":
            extra = (step - rest) % step
            return f"remainder {rule}: {counted(extra, 'row')} repeated, marked in _pad"
        case _:
            return "remainder short: no row is left out, lengths of ranks may differ by a batch"


def _fetch(loader: DataLoader, story: _Story, rows: int) -> Fetch | None:
    """What batches carry and nothing before has read."""
    names = loader.columns
    outputs = [o for o in story.outputs if names is None or o.name in names]
    read = story.read if story.over is story.bottom else set()
    return fetched(story.over, outputs, read, rows)


__all__ = ["tell_loader"]
