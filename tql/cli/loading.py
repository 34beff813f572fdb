"""The options of the verbs that speak of a loader: its chain behind the query."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from tql.cli.request import Request, parameters

if TYPE_CHECKING:
    from tql.chain import DataLoader

F = TypeVar("F", bound=Callable[..., Any])

_EVERYTHING: Final = "select *"  # what a request asks where it was given no query


def shuffle_options(fn: F) -> F:
    """--shuffle, --buffer-size, --vif, --lanes, --by and --batch."""
    for option in reversed((
        click.option("--shuffle", is_flag=True, help="A new permutation in every epoch."),
        click.option("--buffer-size", type=click.FloatRange(min=0, min_open=True), metavar="MB",
                     help="Shuffle in windows of row groups that take so much memory."),
        click.option("--vif", type=click.FloatRange(min=1), metavar="X", help="Shuffle in windows; "
                     "classes in a batch vary at most X times as much as by chance."),
        click.option("--lanes", type=click.IntRange(min=1), help="Equal parts of such an order, for "
                     "as many ranks."),
        click.option("--by", metavar="COLUMN", help="The classes that batches mix."),
        click.option("--batch", type=click.IntRange(min=1), help="Rows of a batch."),
    )):  # fmt: skip
        fn = option(fn)
    return fn


def chain_of(request: Request, params: Sequence[str], seed: int, **options: Any) -> "DataLoader":
    """The loader's chain over the data of a request, with its query."""
    from tql.remaking import named_by

    base = request.dataset or named_by(request.question)
    chain = base.dataloader(seed=seed, **options)
    if request.text == _EVERYTHING:
        return chain
    return chain.query(request.text, parameters(params))


def shuffled(
    chain: "DataLoader", *, shuffle: bool, buffer_size: float | None, vif: float | None,
    lanes: int | None, by: str | None, batch: int | None,
) -> "DataLoader":  # fmt: skip
    """The chain with what `shuffle_options` say."""
    if shuffle or buffer_size is not None or vif is not None:
        chain = chain.shuffle(True, buffer_size, vif=vif, lanes=lanes or 1, by=by)
    elif lanes is not None or by is not None:
        raise click.UsageError(
            "--lanes and --by say how windows are made: give --buffer-size or --vif"
        )
    return chain if batch is None else chain.batch(batch)
