"""What is kept of a query for the next time it is asked, and what must not be."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql import queries
from tql.engine.remembered import remembered
from tql.language.expr import Const
from tql.schema import Float


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were bound."""
    seen: list[str] = []
    bind = queries.bind

    def counted(query, text, **others):  # type: ignore[no-untyped-def]
        seen.append(text)
        return bind(query, text, **others)

    monkeypatch.setattr(queries, "bind", counted)
    return seen


def test_a_query_is_bound_once_for_each_data_set(bindings: list[str]) -> None:
    small, large = tql.open({"x": np.arange(5)}), tql.open({"x": np.arange(9.0)})
    text = "select * where x > 2"
    for _ in range(3):
        assert small.query(text).row_ids.tolist() == [3, 4]
        assert large.query(text).row_ids.tolist() == [3, 4, 5, 6, 7, 8]
    assert bindings == [text, text]
    assert small.query("select * where x > 3").row_ids.tolist() == [4]


def test_only_so_many_texts_are_kept(bindings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_MOST_BOUND", 2)
    ds = tql.open({"x": np.arange(5)})
    for k in (0, 1, 2, 2, 0):
        ds.query(f"select * where x == {k}")
    assert [text[-1] for text in bindings] == ["0", "1", "2", "0"]


def test_values_of_parameters_are_taken_anew(bindings: list[str]) -> None:
    ds = tql.open({"x": np.arange(5)})
    text = "select * where x == ?"
    assert [ds.query(text, [k]).row_ids.tolist() for k in (1, 2)] == [[1], [2]]
    with pytest.raises(tql.TqlError):
        ds.query(text)


def test_functions_of_the_users_are_those_of_the_moment() -> None:
    ds = tql.open({"x": np.arange(5)})
    text = "select * where chosen(x)"
    try:
        for k in (1, 2):
            tql.register_function(lambda x, k=k: x == k, "chosen", returns="bool")
            assert ds.query(text).row_ids.tolist() == [k]
    finally:
        tql.unregister_function("chosen")
    with pytest.raises(tql.TqlError, match="chosen"):
        ds.query(text)


def test_a_file_that_from_names_is_opened_anew(tmp_path: Path) -> None:
    ds, path = tql.open({"x": np.arange(5)}), tmp_path / "a.parquet"
    for rows in (3, 4):
        pq.write_table(pa.table({"y": np.arange(rows)}), path)
        assert len(ds.query(f'select * from "{path}"')) == rows


def test_what_is_kept_keeps_no_data_alive() -> None:
    ds = tql.open({"x": np.arange(5)})
    ds.query("select * where x > 2")
    source = weakref.ref(ds.source)
    del ds
    gc.collect()
    assert source() is None


def test_equal_conditions_are_not_taken_for_each_other() -> None:
    made: list[object] = []

    @remembered
    def make(conditions: object) -> int:
        made.append(conditions)
        return len(made)

    zeros = Const(0.0, Float(64)), Const(-0.0, Float(64))
    assert zeros[0] == zeros[1]
    assert [make([z]) for z in (*zeros, *zeros)] == [1, 2, 1, 2]
    assert make(zeros) == 3
