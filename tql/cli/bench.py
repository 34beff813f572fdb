"""`tql bench`: how fast a loader gives batches to a loop that does nothing else."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from tql.cli.loading import chain_of, shuffle_options, shuffled
from tql.cli.request import query_options, read_request
from tql.cli.screen import note, show, show_json
from tql.diagnostics import counted

if TYPE_CHECKING:
    from tql.chain import DataLoader


@dataclass(frozen=True, slots=True)
class Speed:
    """What a loop over batches saw.

    first    seconds to the first batch, planning and the first kernels included
    seconds  from then to the last batch, in which `rows` rows and `bytes` of columns came
    """

    first: float
    seconds: float
    rows: int
    bytes: int
    batches: int
    epochs: int


@click.command("bench")
@query_options
@shuffle_options
@click.option("--sample-by", "weight", metavar="WEIGHT", help="Draw by this weight expression.")
@click.option("--columns", metavar="A,B,…", help="Load these columns only.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that decode.")
@click.option("--memory", default="2GiB", show_default=True, help="What the loader may hold.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=5.0,
              show_default=True, help="How long to go on; at least one batch behind the first.")  # fmt: skip
def command(
    arguments: tuple[str, ...], file: str | None, params: tuple[str, ...], seed: int,
    class_names: tuple[str, ...], as_json: bool, no_color: bool, weight: str | None,
    columns: str | None, threads: int | None, memory: str, seconds: float, shuffle: bool,
    buffer_size: float | None, vif: float | None, lanes: int | None, by: str | None,
    batch: int | None,
) -> None:  # fmt: skip
    """How many rows a second the loader gives for SOURCE and QUERY, and what bounds it.

    Batches are made and dropped, epoch after epoch, as fast as they come: what is read stays in the
    memory of the loader and of the system, as it does in training.
    """
    began = time.perf_counter()
    request = read_request(arguments, file, params, seed, class_names)
    chain = chain_of(request, params, seed, memory=memory)
    if weight is not None:
        chain = chain.sample_by(weight)
    chain = shuffled(
        chain, shuffle=shuffle, buffer_size=buffer_size, vif=vif, lanes=lanes, by=by,
        batch=batch or 128,
    )  # fmt: skip
    names = [name.strip() for name in columns.split(",")] if columns else None
    loader = chain.numpy(tensors=names, num_threads=threads)
    for text in loader.plan.notes:
        note(f"note: {text}")
    if not len(loader):
        raise click.UsageError("no row is left to load: a bench needs one batch at least")
    speed = _measured(loader, seconds, began)
    stats = loader.stats()
    if as_json:
        show_json(_as_dict(speed) | {"last_epoch": stats.to_dict()})
        return
    loader.close()
    rate, mb = speed.rows / speed.seconds, speed.bytes / speed.seconds / 1e6
    show(
        f"{request.name}: batches of {loader.batch_size:,} of {counted(len(loader.plan), 'row')}\n"
        f"  {rate:,.0f} rows/s, {mb:,.1f} MB/s of decoded columns\n"
        f"  first batch after {speed.first:.3f} s, then {counted(speed.batches, 'batch', 'batches')} "
        f"of {counted(speed.epochs, 'epoch')} in {speed.seconds:.2f} s\n\nthe last epoch:\n{stats}"
    )


def _measured(loader: "DataLoader", seconds: float, began: float) -> Speed:
    first = 0.0
    rows = nbytes = batches = epochs = 0
    start = time.perf_counter()
    while True:
        epochs += 1
        for batch in loader:
            now = time.perf_counter()
            if not first:
                first, start = now - began, now
                continue
            rows += len(batch["index"])
            nbytes += _nbytes(batch)
            batches += 1
            if now - start >= seconds:
                return Speed(first, now - start, rows, nbytes, batches, epochs)
        # A data set of a single batch is measured from pass to pass.
        now = time.perf_counter()
        if batches and now - start >= seconds:
            return Speed(first, now - start, rows, nbytes, batches, epochs)


def _nbytes(value: Any) -> int:
    """Bytes of a batch, a column or a value: of texts their length, of a Python number 8."""
    match value:
        case _ if hasattr(value, "nbytes"):
            return int(value.nbytes)
        case None:
            return 0
        case str() | bytes():
            return len(value)
        case Mapping():
            return sum(map(_nbytes, value.values()))
        case Sequence():
            return sum(map(_nbytes, value))
        case _:
            return 8


def _as_dict(speed: Speed) -> dict[str, Any]:
    return asdict(speed) | {
        "rows_per_second": speed.rows / speed.seconds,
        "bytes_per_second": speed.bytes / speed.seconds,
    }
