"""A progress bar over the batches of a pass, on standard error where that is a terminal."""

import sys
from collections.abc import Iterator
from typing import Any


def with_bar(batches: Iterator[Any], total: int, title: str) -> Iterator[Any]:
    """The same batches; a bar counts them, with their rate and the time that is left."""
    if not sys.stderr.isatty():
        yield from batches
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("batches"),
        TimeElapsedColumn(),
        TextColumn("of"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        for batch in batches:
            yield batch
            del batch  # or its memory could not be used again until the next one is there
            bar.advance(task)
