"""Ours. The answer to a filter is a row set; "as ids" spells it out as int64, and "opened anew"
opens the table for each query, so that nothing is left of earlier ones but kernels and parsed texts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final

import numpy as np
import pyarrow as pa

import tql
from benchmarks.measure import OURS, Contender, Rows
from benchmarks.peers.data import Data
from benchmarks.peers.weighing import ARMS, BY_CLASS, BY_ROW, TAKEN, some
from tql import kernel_jobs
from tql.engine.scan import Settings
from tql.engine.select import Population
from tql.planner import make_plan
from tql.queries import ask
from tql.rowset import RowSet, everything
from tql.weights import ClassWeights, RowWeights

AS_IDS: Final = f"{OURS}, as ids"
ANEW: Final = f"{OURS}, opened anew"
OFTEN: Final = 20  # queries after which the zone maps and dictionaries that pay have been made
_SOME: Final = 3
BOXES: Final = "any(boxes[:,2] > 100)"
Asked = Callable[[str], bool]

COSINE: Final = "select * order by cosine_similarity(emb, $wanted) desc limit 10"


def contenders(data: Data, only: Sequence[str] = ()) -> Iterator[tuple[str, Contender]]:
    """Kernels are compiled here, as a program that asks often enough has them after a while; those of
    the tasks in `only`, where it names some.
    """
    ds = tql.open(data.table)
    for maker in (_filters, _of_files, _of_weights, _draws):
        yield from maker(data, ds, lambda key: not only or key in only)


def _filters(data: Data, ds: tql.Dataset, asked: Asked) -> Iterator[tuple[str, Contender]]:
    for key, condition in conditions(data).items():
        if asked(key):
            yield from _filter(key, ds, data.table, condition)
    if asked("boxes"):
        yield from _filter("boxes", tql.open(data.boxes), data.boxes, BOXES)


def _of_files(data: Data, ds: tql.Dataset, asked: Asked) -> Iterator[tuple[str, Contender]]:
    files = {"parquet_number": data.parquet, "parquet_text": data.parquet,
             "parquet_range": data.sorted_parquet}  # fmt: skip
    for key, path in files.items():
        if not asked(key):
            continue
        text = f"select * where {file_conditions(data)[key]}"
        compile_now(tql.open(path), text)
        work = lambda path=path, text=text: tql.open(path).query(text).rowset  # noqa: E731
        yield key, Contender(OURS, warm(work), _ids)


def _of_weights(data: Data, ds: tql.Dataset, asked: Asked) -> Iterator[tuple[str, Contender]]:
    if asked("weights"):
        weighing = f"select * sample by max_weight({ARMS})"
        ask(ds.source, weighing, settings=Settings("kernel")).population()
        weigh = warm(lambda: ask(ds.source, weighing).population())
        yield "weights", Contender(OURS, weigh, weight_of_rows)
    if asked("cosine"):
        embeddings, wanted = tql.open(data.embeddings), {"wanted": data.wanted}
        compile_now(embeddings, COSINE, wanted)
        yield "cosine", Contender(OURS, warm(lambda: embeddings.query(COSINE, wanted).row_ids))


def _draws(data: Data, ds: tql.Dataset, asked: Asked) -> Iterator[tuple[str, Contender]]:
    for key, weight in (("draws_by_class", BY_CLASS), ("draws_by_row", BY_ROW)):
        if not asked(key) and not asked(TAKEN[key]):
            continue
        yield key, Contender(OURS, warm(lambda weight=weight: ds.sample_by(weight).row_ids))
        seeds = count()  # another draw each time: nothing is kept of it

        def take(weight: str = weight, seeds: "count[int]" = seeds) -> Rows:
            return ds.sample_by(weight, False, some(data), seed=next(seeds)).row_ids

        yield TAKEN[key], Contender(OURS, warm(take))
    plan, epochs = make_plan(everything(data.rows), shuffle=True), count()
    yield "permuted", Contender(OURS, lambda: plan.ids(next(epochs)))


def conditions(data: Data) -> dict[str, str]:
    """Task → the condition on the table in memory."""
    low, high = data.hundredth
    return {
        "labels_not": "labels != 5",
        "label_and_score": "labels == 5 and score > 0.9",
        "text_is": "cat == 'c3'",
        "text_like": "cat like '*3'",
        "kind_is": "kind == 'c3'",
        "kind_like": "kind in ('c3', 'c13', 'c23', 'c33', 'c43')",
        "range": f"stamp between {low} and {high}",
    }


def file_conditions(data: Data) -> dict[str, str]:
    """Task → the condition on a Parquet file, which is opened anew each time."""
    of_memory = conditions(data)
    return {
        "parquet_number": of_memory["labels_not"],
        "parquet_text": of_memory["text_is"],
        "parquet_range": of_memory["range"],
    }


def compile_now(ds: tql.Dataset, text: str, params: Mapping[str, Any] | None = None) -> None:
    """Have the kernels of a query in this process from now on."""
    ask(ds.source, text, params, settings=Settings("kernel")).answer()


def warm(work: Callable[[], Any], times: int = _SOME) -> Callable[[], Any]:
    """`work`, which was done so often that no child compiles for it while others are timed."""
    for _ in range(times):
        work()
        kernel_jobs.settle(60)
    return work


def _ids(rows: RowSet) -> Rows:
    return rows.to_numpy()


def weight_of_rows(population: Population) -> Rows:
    """The weight of every row, float64."""
    match population.weights:
        case RowWeights(values):
            return values
        case ClassWeights(values, members):
            found = np.zeros(len(population.rows))
            for value, rows in zip(values, members, strict=True):
                found[rows.to_numpy()] = value
            return found


def _filter(
    key: str, ds: tql.Dataset, table: pa.Table, condition: str
) -> Iterator[tuple[str, Contender]]:
    text = f"select * where {condition}"
    work = warm(lambda: ds.query(text).rowset, OFTEN)
    compile_now(ds, text)
    yield key, Contender(OURS, work, _ids)
    yield key, Contender(AS_IDS, warm(lambda: ds.query(text).row_ids))
    yield key, Contender(ANEW, warm(lambda: tql.open(table).query(text).rowset), _ids)
