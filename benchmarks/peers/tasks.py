"""The tasks: what each is called, the goals, and who takes part."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Final

import numpy as np

from benchmarks.measure import FLOOR, OF_FLOOR, Agree, Contender, Task, same_rows, same_values
from benchmarks.peers import weighing, with_tqlkit
from benchmarks.peers.data import WIDTH, Data

Adapter = Callable[[Data], Iterator[tuple[str, Contender]]]
NOT_INSTALLED: Final = "missing: not installed"
NOT_ASKED: Final = "—"


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine that ours is measured against.

    package  what it is imported as
    adapter  the module whose `contenders` gives what it does for each task
    """

    name: str
    package: str
    adapter: str

    def load(self) -> Adapter | None:
        """How to make its contenders; None where it is not installed."""
        if find_spec(self.package) is None:
            return None
        found: Adapter = import_module(f"benchmarks.peers.{self.adapter}").contenders
        return found


PEERS: Final = (
    Peer("Polars", "polars", "with_polars"),
    Peer("DuckDB", "duckdb", "with_duckdb"),
    Peer("NumPy", "numpy", "with_numpy"),
    Peer("pyarrow", "pyarrow", "with_pyarrow"),
    Peer("torch", "torch", "with_torch"),
    Peer("Deep Lake 4", "deeplake", "with_deep_lake"),
)


@dataclass(frozen=True, slots=True)
class _Spec:
    """A task before anybody has signed up for it; `columns` are those it reads in memory, wholly
    and each time: none where what is kept from before (zone maps, dictionaries) spares it that.
    """

    key: str
    name: str
    goals: Mapping[str, float] = field(default_factory=dict)
    columns: Sequence[str] = ()
    agree: Agree = same_rows


def tasks(data: Data, peers: Sequence[Peer] = PEERS, only: Sequence[str] = ()) -> Iterator[Task]:
    """All tasks, or those whose keys `only` names, each with whoever does it."""
    found: dict[str, list[Contender]] = {}
    missing = {}
    for key, contender in with_tqlkit.contenders(data, only):
        found.setdefault(key, []).append(contender)
    for peer in peers:
        adapter = peer.load()
        if adapter is None:
            missing[peer.name] = NOT_INSTALLED
            continue
        for key, contender in adapter(data):
            found.setdefault(key, []).append(contender)
    for spec in _specs(data):
        contenders = found.pop(spec.key, [])
        if only and spec.key not in only:
            continue
        present = {c.name for c in contenders}
        absent = {p.name: missing.get(p.name, NOT_ASKED) for p in peers if p.name not in present}
        nbytes = _nbytes(data, spec.columns) if spec.columns else None
        yield Task(spec.key, spec.name, tuple(contenders), absent, spec.goals, nbytes, spec.agree)
    assert not found, f"contenders for tasks that there are not: {', '.join(found)}"


def keys(data: Data) -> list[str]:
    """The keys of all tasks."""
    return [spec.key for spec in _specs(data)]


def _specs(data: Data) -> list[_Spec]:
    text = {"Polars": 3, "DuckDB": 10, "Deep Lake 4": 200}
    file = {"Polars": 1, "DuckDB": 2, FLOOR: OF_FLOOR}
    drawn = {key: partial(weighing.same_distribution, data.array("labels"), w)
             for key, w in weighing.weights(data).items()}  # fmt: skip
    size, labels = weighing.some(data), data.array("labels")
    tenths = np.minimum(data.array("score") * 10, 9).astype(np.int64)
    taken = {weighing.TAKEN[key]: partial(weighing.same_inclusion, bins, w, size)
             for (key, w), bins in zip(weighing.weights(data).items(), (labels, tenths), strict=True)}  # fmt: skip
    n, lists, vectors = (_many(len(t)) for t in (data.table, data.boxes, data.embeddings))
    return [
        _Spec("labels_not", f"`labels != 5`, {n} of int32",
              {"Polars": 10, "DuckDB": 40, "NumPy": 6, "Deep Lake 4": 250}, ["labels"]),
        _Spec("label_and_score", f"`labels == 5 and score > 0.9`, {n}",
              {"Polars": 2.5, "DuckDB": 8, "NumPy": 2, "Deep Lake 4": 350}, ["labels", "score"]),
        _Spec("text_is", f"`cat == 'c3'`, {n}, plain text", text),
        _Spec("text_like", f"`cat like '*3'`, {n}, plain text", text),
        _Spec("kind_is", f"`kind == 'c3'`, {n}, dictionary", text),
        _Spec("kind_like", f"`kind` ends in 3 (ours: `in` of five), {n}, dictionary", text),
        _Spec("parquet_number", f"`labels != 5`, {n} in Parquet", file),
        _Spec("parquet_text", f"`cat == 'c3'`, {n} in Parquet", file),
        _Spec("range", f"1 % by a sorted column, {n}", {"DuckDB": 1}),
        _Spec("parquet_range", f"1 % by a sorted column, {n} in Parquet", {"DuckDB": 1}),
        _Spec("weights", f"weight of each row, `max_weight` of 8 arms, {n}", {},
              ["labels", "score"], same_values),
        _Spec("boxes", f"`any(boxes[:,2] > 100)`, {lists} of ragged lists", {}, ["boxes"]),
        _Spec("cosine", f"10 nearest by cosine, {vectors} of {WIDTH} float32", {}, ["emb"]),
        _Spec("draws_by_class", f"as many draws as rows, `{weighing.BY_CLASS}`, {n}",
              {"torch": 40, "NumPy": 100, "Deep Lake 4": 150}, agree=drawn["draws_by_class"]),
        _Spec("draws_by_row", f"as many draws as rows, one weight per row, {n}", {"torch": 15},
              agree=drawn["draws_by_row"]),
        _Spec("taken_by_class", f"1 in 100 rows without replacement, `{weighing.BY_CLASS}`, {n}",
              {"torch": 10, "NumPy": 20, "Deep Lake 4": 200}, agree=taken["taken_by_class"]),
        _Spec("taken_by_row", f"1 in 100 rows without replacement, one weight per row, {n}",
              {"torch": 10, "NumPy": 20, "Deep Lake 4": 200}, agree=taken["taken_by_row"]),
        _Spec("permuted", f"every row once, in random order, {n}", {"torch": 0.5},
              agree=partial(weighing.all_rows, data.rows)),
    ]  # fmt: skip


def _nbytes(data: Data, columns: Sequence[str]) -> int:
    """Bytes of these columns in memory, of whichever table has them."""
    for table in (data.table, data.boxes, data.embeddings):
        if columns[0] in table.column_names:
            return int(sum(table[c].nbytes for c in columns))
    raise LookupError(columns[0])


def _many(rows: int) -> str:
    """A number of rows for a reader: 10 M, 100 k."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if rows >= size:
            return f"{rows / size:g} {letter} rows"
    return f"{rows} rows"
