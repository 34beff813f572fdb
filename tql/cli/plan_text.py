"""What a plan's file says, and what stands at its positions, for people."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tql.cli.rows import as_json
from tql.dataset import Dataset
from tql.diagnostics import counted, error, first_names
from tql.engine.computed import identify
from tql.planner import Plan, PlanFile
from tql.reports.text_table import printable
from tql.sources.export import export_table
from tql.sources.opening import open_source

_WIDTH = 9
_TOLD = frozenset(
    ("order", "source", "origin", "population", "weights", "replace", "size", "shuffle", "seed",
     "mix", "resample", "fragments", "block", "changes", "windows")
)  # fmt: skip
_OWN = ("position", "row", "copy", "seed")


def described(file: PlanFile) -> str:
    """The file in a few lines."""
    return "\n".join(f"{name:{_WIDTH}}{printable(text)}" for name, text in _lines(file))


def _lines(file: PlanFile) -> Iterator[tuple[str, str]]:
    parts = file.parts
    yield "plan", f"{file.fingerprint[:12]}, order {parts['order']}"
    rows = counted(parts["population"]["rows"], "row")
    begins = f"; the first begins at position {file.offset:,}" if file.offset else ""
    yield "epoch", f"{counted(file.draws, 'draw')} of {rows}{begins}"
    yield "data", (file.lineage.get("data") or parts["source"])[:12] or "unnamed"
    for view in file.lineage.get("views", ()):
        yield "view", f"{_step(view)}; seed {view['seed']}"
    for step in file.origin.get("steps", ()):
        yield "step", _step(step)
    if parts["weights"] is not None:
        yield "weights", _weights(parts)
    for change in parts.get("changes", ()):
        begins = f"from position {change['position']:,} of epoch {change['epoch']}"
        yield "then", f"{begins}: {_step(change['origin'].get('steps', [{}])[-1])}"
    yield "order", _order(parts)
    yield "seed", str(parts["seed"])
    for name in sorted(parts.keys() - _TOLD):
        yield name, _brief(parts[name])
    for note in file.notes:
        yield "note", note


def _step(step: Any) -> str:
    match step:
        case {"query": str(text), "params": {} as params} if params:
            return f"{text} with {_brief(params)}"
        case {"query": str(text)}:
            return text
        case {"sample_by": weights, "size": size}:
            return f"sample by {weights}" + (f", {size:,} rows" if size is not None else "")
        case {"rows": [start, stop, stride]}:
            return f"rows [{start}:{stop}:{stride}]"
        case {"columns": [*names]}:
            return f"columns {', '.join(map(str, names))}"
        case _:
            return _brief(step)


def _weights(parts: Mapping[str, Any]) -> str:
    match parts["weights"]:
        case {"values": [*values], "rows": [*rows]}:
            each = [f"{v:g} for {counted(n, 'row')}" for v, n in zip(values, rows, strict=True)]
            told = first_names(each, 6)
        case {"classes": int(number)}:
            told = f"{number:,} distinct ones"
        case _:
            told = "one for each row"
    how = "with replacement" if parts["replace"] else "without replacement"
    again = "; one draw for all epochs" if parts["resample"] == "once" else ""
    mix = {"iid": "", "epoch": ", by quotas of each epoch", "batch": ", by quotas of each batch"}
    return f"{told}; {how}{mix[parts['mix']]}{again}"


def _order(parts: Mapping[str, Any]) -> str:
    match parts.get("windows"):
        case {"length": int(length), "lanes": int(lanes)}:
            each = f", {lanes:,} lanes side by side" if lanes > 1 else ""
            return f"a new one in every epoch, in windows of {counted(length, 'draw')}{each}"
        case _:
            pass
    if parts["shuffle"]:
        return "a new permutation in every epoch"
    return "as the rows are drawn" if parts["weights"] is not None else "as the rows stand"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 70 else text[:69] + "…"


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
