"""Hugging Face datasets: a table in memory whose column it decodes (with Pillow) and hands over as
tensors, under a stock torch DataLoader with two workers.
"""

from collections.abc import Iterator
from typing import Final

import datasets

from benchmarks.loading.data import Files
from benchmarks.loading.entrants import Batch, Open, Pass
from benchmarks.loading.with_torch import stock


def _open(files: Files) -> Pass:
    table = datasets.Dataset(datasets.table.InMemoryTable(files.table()))
    loader = stock(table.cast_column("image", datasets.Image()).with_format("torch"), 2)

    def one_pass() -> Iterator[Batch]:
        return (Batch(b["image"], b["label"], b["id"]) for b in loader)

    return one_pass


ENTRANTS: Final[dict[str, Open]] = {"Hugging Face datasets": _open}
