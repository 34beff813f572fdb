"""What a plan's file says, and what stands at its positions, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tql.cli.rows import as_json
from tql.dataset import Dataset
from tql.diagnostics import counted, error
from tql.engine.computed import identify
from tql.planner import Plan
from tql.planner.telling import told
from tql.reports.text_table import printable
from tql.sources.export import export_table
from tql.sources.opening import open_source

_OWN = ("position", "row", "copy", "seed")


def described(content: Mapping[str, Any]) -> str:
    """What a plan's file says, in a few lines that a terminal may be given."""
    return "\n".join(map(printable, told(content).split("\n")))


# -- rows --------------------------------------------------------------------------------------


def rows_of(
    dataset: Dataset, plan: Plan, start: int, number: int, epoch: int, columns: Sequence[str]
) -> Dataset:
    """Positions `start` … of an epoch as a data set: position, row, copy, seed, and columns.

    dataset  what the plan draws from, as `remade` gives it
    """
    for name in columns:
        if name in _OWN:
            raise error("duplicate_column", f"there is a column '{name}' already: it is the plan's",
                        help="leave it out, or ask tql run for it")  # fmt: skip
    if start > len(plan):
        raise error("range", f"position {start:,} of an epoch of {counted(len(plan), 'draw')}",
                    help=f"positions run from 0 to {len(plan):,}, where nothing is left")  # fmt: skip
    stop = min(start + number, len(plan))
    rows, copies, seeds = plan.locate(start, stop, epoch)
    source, _ = dataset.parts()
    own = (np.arange(start, stop), identify(source, rows), copies, seeds)
    table = pa.table(dict(zip(_OWN, own, strict=True)))
    if columns:
        dataset[list(columns)]  # an unknown name is an error that offers the nearest
        found = dataset.rows().take(rows, columns)
        found = export_table(found, dataset.schema.select(columns))
        for at, name in enumerate(columns):
            table = table.append_column(found.schema.field(at), found.column(name))
    return Dataset(open_source(table), "plan")


def rows_table(found: Dataset) -> dict[str, Any]:
    """The rows as JSON has them."""
    values = [found.to_arrow().column(c.name).to_pylist() for c in found.schema]
    lines = [
        {c.name: as_json(v, c.dtype) for c, v in zip(found.schema, row, strict=True)}
        for row in zip(*values, strict=True)
    ]
    return {"rows": lines}
