"""What is kept of a query for the next time it is asked, and what must not be."""

import gc
import pickle
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql import queries
from tql.engine import scan
from tql.engine.kernels import Program, compile_program
from tql.engine.remembered import remembered, the_same
from tql.grammar.parser import KEPT_TEXT
from tql.language.expr import Bm25Score, Const, Expr, InSet
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


def test_a_text_that_is_asked_again_and_again_stays(bindings: list[str]) -> None:
    ds = tql.open({"x": np.arange(5)})
    texts = [f"select * where x == {k}" for k in range(100)]
    for text in texts:
        assert ds.query(texts[0]).row_ids.tolist() == [0]
        ds.query(text)
    assert bindings == texts
    ds.query(texts[1])
    assert bindings == [*texts, texts[1]]


def test_long_texts_are_not_kept(bindings: list[str]) -> None:
    ds = tql.open({"x": np.arange(5)})
    long = "select * where x == 3".ljust(KEPT_TEXT + 1)
    for text in (long, long, long[:-1], long[:-1]):
        assert ds.query(text).row_ids.tolist() == [3]
    assert bindings == [long, long, long[:-1]]


def test_a_seed_is_that_of_the_question() -> None:
    ds = tql.open({"x": np.arange(1000)})
    text = "select * where random() % 2 == 0"
    first, other, again = (ds.query(text, seed=s).row_ids.tolist() for s in (0, 1, 0))
    assert first == again != other


def test_threads_that_ask_at_once_get_their_own_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_MOST_BOUND", 2)
    ds = tql.open({"x": np.arange(5)})

    def asked(k: int) -> list[int]:
        found: list[int] = ds.query(f"select * where x == {k % 5}").row_ids.tolist()
        return found

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(asked, range(400))) == [[k % 5] for k in range(400)]
    assert len(queries._BOUND[ds.source]) == 2


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


def test_functions_that_a_query_does_not_call_change_nothing(bindings: list[str]) -> None:
    ds = tql.open({"x": np.arange(5)})
    text = "select * where x > 2 and abs(x) > 3"
    for _ in range(2):
        tql.register_function(lambda x: x == 1, "chosen", returns="bool")
        try:
            assert ds.query(text).row_ids.tolist() == [4]
        finally:
            tql.unregister_function("chosen")
        assert ds.query(text).row_ids.tolist() == [4]
    tql.register_function(lambda x: x == 1, "chosen", returns="bool")
    try:
        other = "select * where x == 2"
        for _ in range(2):
            assert ds.query(other).row_ids.tolist() == [2]
    finally:
        tql.unregister_function("chosen")
    assert bindings == [text, other]


def test_a_call_that_nothing_is_left_of_is_bound_anew() -> None:
    ds = tql.open({"x": np.arange(5)})
    text = "select * where x > 2 and (true or chosen(x))"
    for _ in range(2):
        with pytest.raises(tql.TqlError, match="chosen"):
            ds.query(text)
        tql.register_function(lambda x: x == 1, "chosen", returns="bool")
        try:
            assert ds.query(text).row_ids.tolist() == [3, 4]
        finally:
            tql.unregister_function("chosen")


def test_functions_that_are_unregistered_are_let_go() -> None:
    class Chosen:
        def __call__(self, x: Any) -> bool:
            return bool(x == 1)

    ds, function = tql.open({"x": np.arange(5)}), Chosen()
    tql.register_function(function, "chosen", returns="bool")
    try:
        assert ds.query("select * where chosen(x)").row_ids.tolist() == [1]
    finally:
        tql.unregister_function("chosen")
    alive = weakref.ref(function)
    del function
    gc.collect()
    assert alive() is None


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


def _alive(kind: type[Expr]) -> int:
    gc.collect()
    return sum(type(o) is kind for o in gc.get_objects())  # isinstance() asks strangers


def test_values_of_parameters_and_statistics_of_a_run_are_not_kept() -> None:
    ds = tql.open({"x": np.arange(5), "t": ["a b", "b", "c", "a", "b c"]})
    lists, scores = _alive(InSet), _alive(Bm25Score)
    for k in range(3):
        assert len(ds.query("select * where x in $ids", {"ids": [k, k + 7, 9]})) == 1
        assert len(ds.query("select * where bm25_similarity(t, 'b') > 0")) == 3
    assert (_alive(InSet), _alive(Bm25Score)) == (lists, scores)


def test_conditions_go_with_the_data_set() -> None:
    lists = _alive(InSet)
    ds = tql.open({"x": np.arange(100_000)})
    assert len(ds.query("select * where x in (3, 7, 100)")) == 3
    assert _alive(InSet) > lists
    del ds
    assert _alive(InSet) == lists


def test_a_program_is_made_once_for_a_query_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sequence[Expr]] = []

    @remembered
    def counted(conditions: Sequence[Expr]) -> Program | None:
        made.append(conditions)
        return compile_program(conditions)

    monkeypatch.setattr(scan, "_compiled", counted)
    ds = tql.open({"x": np.arange(1_000_000)})
    for _ in range(3):
        assert len(ds.query("select * where x > 7")) == 999_992
    assert len(made) == 1
    for _ in range(2):
        assert len(ds.query("select * where x > $k", {"k": 7})) == 999_992
    assert len(made) == 3


def test_a_join_of_queries_that_were_run_can_be_sent() -> None:
    """It has their plans with it, but not the kernels that were found for them."""
    ds = tql.open({"x": np.arange(1_000_000)})
    part = "(select * where x > {} limit 9)"
    joined = ds.query(
        f"select a.x from {part.format(999_000)} a join {part.format(999_001)} b on a.x == b.x"
    )
    sent = pickle.loads(pickle.dumps(joined.source))
    assert sent.read(0, ["x"]).column("x").to_pylist() == list(range(999_002, 999_010))


def test_equal_conditions_are_not_taken_for_each_other() -> None:
    made: list[object] = []

    @remembered
    def make(conditions: object) -> int:
        made.append(conditions)
        return len(made)

    kept: list[Any] = []
    zeros = Const(0.0, Float(64)), Const(-0.0, Float(64))
    assert zeros[0] == zeros[1]
    assert [make(the_same(kept, [z])) for z in (*zeros, *zeros)] == [1, 2, 1, 2]
    assert make(the_same(kept, zeros)) == 3
    assert [make(zeros), make(zeros)] == [4, 5]  # nobody keeps them
    assert the_same(pickle.loads(pickle.dumps(kept)), zeros).found == {}
