"""`tql plan save | show | diff | verify`: the order of an epoch as a small file."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tql.cli.loading import chain_of, shuffle_options, shuffled
from tql.cli.output import Output
from tql.cli.request import opened, query_options, read_request, source_options
from tql.cli.screen import note, show, show_json
from tql.diagnostics import counted, data_error

if TYPE_CHECKING:
    from tql.chain import DataLoader
    from tql.dataset import Dataset
    from tql.planner import Plan, PlanFile

F = TypeVar("F", bound=Callable[..., Any])


@click.group("plan")
def command() -> None:
    """Which row stands at which position: written to a file, looked into, compared, checked.

    A file holds the query, the seed and hashes of data and weights, and no rows: it is small, and
    whoever has the data makes the same order of it.
    """


def weights_option(fn: F) -> F:
    return click.option(
        "--weights", "arrays", multiple=True, metavar="FILE.npy",
        help="One weight per row, as NumPy saves them.",
    )(fn)  # fmt: skip


@command.command("save", short_help="Make a plan and write it.")
@query_options
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, not to standard output.")
@shuffle_options
@click.option("--sample-by", "weight", metavar="WEIGHT", help="Draw by this weight expression.")
@weights_option
@click.option("--size", type=click.IntRange(min=1), help="Draws in an epoch.")
@click.option("--without-replacement", is_flag=True, help="Draw no row twice in an epoch.")
@click.option(
    "--mix", type=click.Choice(["iid", "epoch", "batch"]), help="How draws keep to weights."
)
@click.option("--once", is_flag=True, help="The same draw in every epoch.")
@click.option("--offset", type=click.IntRange(min=0), help="Where the first epoch begins.")
def save(
    arguments: tuple[str, ...], file: str | None, params: tuple[str, ...], seed: int,
    class_names: tuple[str, ...], as_json: bool, no_color: bool, output: str | None,
    offset: int | None, shuffle: bool, buffer_size: float | None, vif: float | None,
    lanes: int | None, by: str | None, batch: int | None, **sampling: Any,
) -> None:  # fmt: skip
    """Make a plan and write it: QUERY, then the sampling, then the shuffle.

    It is what SOURCE's loader makes: ds.dataloader(seed).query(QUERY).sample_by(WEIGHT).shuffle().
    """
    if sampling["mix"] == "batch" and batch is None:
        raise click.UsageError("--mix batch gives each batch its share: say --batch N, too")
    request = read_request(arguments, file, params, seed, class_names)
    chain = _sampled(chain_of(request, params, seed), **sampling)
    chain = shuffled(
        chain, shuffle=shuffle, buffer_size=buffer_size, vif=vif, lanes=lanes, by=by, batch=batch
    )
    plan = (chain if offset is None else chain.offset(offset)).plan
    for text in plan.notes:
        note(f"note: {text}")
    if output is not None and output != "-":
        Output(output, request).check()
        plan.save(output)
    if as_json or output is None or output == "-":
        show_json(plan.to_json())
    else:
        show(f"plan {plan.short} is in {output}: {counted(len(plan), 'draw')} in an epoch")


def _sampled(
    chain: "DataLoader", weight: str | None, arrays: Sequence[str], size: int | None,
    without_replacement: bool, mix: str | None, once: bool,
) -> "DataLoader":  # fmt: skip
    if weight is not None and arrays:
        raise click.UsageError("--sample-by and --weights are two ways to give one thing")
    if len(arrays) > 1:
        raise click.UsageError("--weights is given twice")
    weights = _loaded(arrays)[0] if arrays else weight
    if weights is None:
        if size is not None or without_replacement or mix is not None or once:
            raise click.UsageError(
                "--size, --mix, --without-replacement and --once say how to sample: give the "
                'weights with --sample-by, for example --sample-by 1, or write "sample by" in QUERY'
            )
        return chain
    return chain.sample_by(
        weights, not without_replacement, size, mix=mix, resample="once" if once else "epoch"
    )  # fmt: skip


def _loaded(arrays: Sequence[str]) -> list[Any]:
    import numpy as np

    found = []
    for path in arrays:
        try:
            found.append(np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError) as e:
            raise data_error("source", f"the weights {path} cannot be read: {e}",
                             help="write them with numpy.save(path, array)") from e  # fmt: skip
    return found


def _made_again(
    file: "PlanFile", source: str | None, arrays: Sequence[str], class_names: Sequence[str]
) -> "tuple[Dataset, Plan]":
    from tql.remaking import remade

    data = None if source is None else opened(source, class_names)
    given = _loaded(arrays)
    return remade(file, data, weights=(given if len(given) > 1 else given[0]) if given else None)


@command.command("show", short_help="What a plan says, or its rows.")
@click.argument("file")
@click.argument("source", required=False)
@click.option("--at", type=click.IntRange(min=0), help="Rows from this position on.")
@click.option("-n", "number", type=click.IntRange(min=0), default=10, show_default=True,
              help="How many of them.")  # fmt: skip
@click.option(
    "--epoch", type=click.IntRange(min=0), default=0, show_default=True, help="Which one."
)
@click.option("--columns", metavar="A,B,…", help="Columns of these rows.")
@weights_option
@source_options
def show_plan(
    file: str, source: str | None, at: int | None, number: int, epoch: int, columns: str | None,
    arrays: tuple[str, ...], class_names: tuple[str, ...], as_json: bool, no_color: bool,
) -> None:  # fmt: skip
    """What a plan's file says, or which rows stand at a position.

    With SOURCE the plan is made again and checked, and its rows are shown from --at on (from where
    its first epoch begins, if that is not given): position, row of SOURCE, how often the row came
    before (of independent draws: the position), and the seed of the sample's augmentation.
    """
    from tql.cli.plan_text import described, rows_of, rows_table
    from tql.planner import load

    content = load(file)
    names = [name.strip() for name in columns.split(",")] if columns else []
    if source is None and not _asks_for_rows(content, at, names):
        if as_json:
            show_json({"version": 1, "plan": content.to_json()})
        else:
            show(described(content.to_json()))
        return
    dataset, plan = _made_again(content, source, arrays, class_names)
    start = at if at is not None else plan.offset if epoch == 0 else 0
    found = rows_of(dataset, plan, start, number, epoch, names)
    if as_json:
        show_json({"version": 1, "plan": content.to_json(), "epoch": epoch, **rows_table(found)})
    else:
        from tql.cli.rows import print_table

        print_table(found[:], number, no_color)


def _asks_for_rows(content: "PlanFile", at: int | None, names: Sequence[str]) -> bool:
    """Whether rows are wanted though SOURCE is not given: then the plan's query must name it."""
    if at is None and not names:
        return False
    if content.lineage.get("data") is not None:
        raise click.UsageError(
            "which rows these are is in the data: tql plan show FILE SOURCE --at …"
        )
    return True


@command.command("verify", short_help="Whether data give the plan again.")
@click.argument("file")
@click.argument("source", required=False)
@weights_option
@source_options
def verify(
    file: str, source: str | None, arrays: tuple[str, ...], class_names: tuple[str, ...],
    as_json: bool, no_color: bool,
) -> None:  # fmt: skip
    """Make the plan of FILE again from SOURCE, and say whether it is the same one.

    Exit code 0: it is. 3: the data changed. 2: something else did. All differences are listed.
    SOURCE may be left out when the plan's query has FROM.
    """
    from tql.planner import load

    _, plan = _made_again(load(file), source, arrays, class_names)
    if as_json:
        show_json({"version": 1, "same": True, "fingerprint": plan.fingerprint})
    else:
        show(f"plan {plan.short} fits: {counted(len(plan), 'draw')} in an epoch")


@command.command("diff", short_help="What two plans differ in.")
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON; errors too.")
@click.option("--no-color", is_flag=True, help="No colour (as NO_COLOR does).")
def diff(old: str, new: str, as_json: bool, no_color: bool) -> None:
    """What two plans' files do not have in common; no data are needed."""
    from tql.planner import load

    first, second = load(old), load(new)
    found = first.differences(second)
    same_order = first.fingerprint == second.fingerprint
    if as_json:
        lines = [{"name": name, "old": was, "new": now} for name, was, now in found]
        show_json({"version": 1, "same_order": same_order, "differences": lines})
        return
    for name, was, now in found:
        show(f"{name}: {was} -> {now}")
    show("the same order of rows" if same_order else "the orders of rows differ")
