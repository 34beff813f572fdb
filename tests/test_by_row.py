"""Columns that are fetched a row at a time, and tasks that are done side by side."""

import gc
import os
import pickle
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader_fakes import FakePlan, FakeSource, eventually, source_of, workers
from tql.loader import FragmentRows, Loader, MapDataset, Options, numpy_collate
from tql.loader.crew import Crew, side_by_side
from tql.schema import Column, Int, Schema, Text
from tql.sources.gathering import gather
from tql.sources.protocol import ByRow, Read, Run, in_turn


class Files(FakeSource, ByRow):
    """Numbers in fragments, and a text of each row that has to be fetched for itself."""

    @property
    def columns_by_row(self) -> frozenset[str]:
        return frozenset({"text"})

    def __init__(self, n: int = 40) -> None:
        inner = source_of(10, x=(Int(64), np.arange(n)), y=(Int(64), np.arange(n) * 2))
        schema = Schema([*inner.schema, Column("text", Text())])
        super().__init__(inner.table, schema, 10)
        self.fetched: list[int] = []
        self.together = threading.Barrier(1)

    def take(
        self,
        rows: npt.NDArray[np.int64],
        columns: Sequence[str],
        run: Run,
        read: Read | None = None,
    ) -> pa.Table:
        texts = run([partial(self._text, row) for row in rows.tolist()])
        return pa.table({name: pa.array(texts, pa.string()) for name in columns})

    def _text(self, row: int) -> str:
        self.together.wait(10)
        self.fetched.append(row)
        return f"row {row}"


@pytest.mark.parametrize("columns", [["text"], ["y", "text", "x"], ["x"], ["text", "x"]])
@pytest.mark.parametrize("rows", [[], [7], [31, 2, 2, 15, 31]])
def test_columns_by_row_are_joined_to_those_of_fragments(
    columns: list[str], rows: list[int]
) -> None:
    source = Files()
    table = gather(source, np.array(rows, np.int64), columns)
    assert table.column_names == columns
    expected = {"x": rows, "y": [2 * r for r in rows], "text": [f"row {r}" for r in rows]}
    assert table.to_pydict() == {name: expected[name] for name in columns}
    assert source.fetched == (rows if "text" in columns else [])
    assert columns != ["text"] or source.reads == []


def test_the_loader_and_the_map_style_data_set_fetch_rows_side_by_side() -> None:
    source = Files()
    source.together = threading.Barrier(2)  # nothing comes of one thread alone
    plan = FakePlan(np.arange(40))
    with Loader(
        FragmentRows(source), plan, Options(batch_size=10, num_threads=2), numpy_collate
    ) as batches:
        seen = [(b["x"].tolist(), b["text"]) for b in batches]
    assert [x for x, _ in seen] == [list(range(a, a + 10)) for a in (0, 10, 20, 30)]
    assert all(text == [f"row {i}" for i in x] for x, text in seen)
    data = MapDataset(FragmentRows(source), np.arange(40))
    assert [s["text"] for s in data.__getitems__([3, 38])] == ["row 3", "row 38"]


def test_tasks_run_at_once_and_give_results_in_order() -> None:
    meet = threading.Barrier(4)

    def task(i: int) -> int:
        meet.wait(10)
        return i

    assert Crew(3).run([partial(task, i) for i in range(4)]) == [0, 1, 2, 3]
    assert Crew(3).run([]) == []


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 19), max_size=6), st.integers(1, 4))
def test_of_several_failures_the_first_is_raised(bad: set[int], threads: int) -> None:
    def task(i: int) -> int:
        if i in bad:
            raise ValueError(i)
        return i

    tasks = [partial(task, i) for i in range(20)]
    crew = Crew(threads)
    if not bad:
        assert crew.run(tasks) == in_turn(tasks) == list(range(20))
        return
    for run in (crew.run, in_turn):
        with pytest.raises(ValueError, match=str(min(bad))) as e:
            run(tasks)
        assert e.value.args == (min(bad),)


def test_whoever_waits_does_the_work_where_nobody_comes() -> None:
    asked: list[Any] = []
    assert side_by_side([lambda: 1, lambda: 2, lambda: 3], 5, asked.append) == [1, 2, 3]
    assert len(asked) == 2
    for late in asked:
        late()  # finds nothing


def test_tasks_that_have_tasks_of_their_own_are_no_deadlock() -> None:
    crew = Crew(2)

    def inner(i: int) -> int:
        return sum(crew.run([lambda k=k: k * i for k in range(5)]))

    assert crew.run([partial(inner, i) for i in range(8)]) == [10 * i for i in range(8)]


def test_nothing_is_begun_once_it_is_stopped() -> None:
    done: list[int] = []
    tasks = [partial(done.append, i) for i in range(5)]
    with pytest.raises(CancelledError):
        side_by_side(tasks, 0, lambda help: None, lambda: len(done) == 2)
    assert done == [0, 1]


def test_a_crew_ends_with_who_held_it_and_a_copy_has_its_own() -> None:
    gc.collect()  # crews of tests that caught what they raised
    crew = Crew(2)
    assert crew.run([threading.get_ident] * 6)
    copy = pickle.loads(pickle.dumps(crew))
    assert copy.run([lambda: 1, lambda: 2]) == [1, 2]
    del crew, copy
    assert eventually(lambda: workers() == [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    crew = Crew(2)
    meet = threading.Barrier(2)
    assert crew.run([meet.wait, meet.wait])
    pid = os.fork()
    if pid == 0:
        fresh = threading.Barrier(2)
        try:
            ok = sorted(crew.run([partial(fresh.wait, 10)] * 2)) == [0, 1]
        except BaseException:  # noqa: BLE001  the child must end here, whatever happens
            ok = False
        os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
