"""Prepared queries: what is checked when, and that a run answers as a query does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql import queries
from tql.language.places import parameters_of

ROWS = 20
TABLE = pa.table(
    {
        "x": np.arange(ROWS),
        "f": np.linspace(0, 1, ROWS, dtype=np.float32),
        "t": ["a", "b"] * 10,
        "labels": pa.array([0, 1] * 10, pa.int8()),
        "tags": [["p"], ["q", "r"]] * 10,
    }
)


@pytest.fixture(scope="module")
def ds() -> tql.Dataset:
    return tql.open(TABLE, class_names={"labels": ["cat", "dog"]})


FITTING: list[tuple[str, Any]] = [
    ("select * where x > ?", [12]),
    ("select * where x > $least and x != $least + 1", {"least": 3}),
    ("select * where t == ? and f < ?", ["a", 0.5]),
    ("select * where ? == t", ["b"]),
    ("select * where labels == ?", ["dog"]),
    ("select * where labels in ? or x in (?, ?)", [["cat"], 1, 3]),
    ("select * where t in (?, ?, ?, ?)", ["a", "x", "y", "z"]),
    ("select * where t between ? and ?", ["a", "aa"]),
    ("select * where x between ? and ?", [3, 4.5]),
    ("select * where t like ? and contains(tags, ?)", ["?", "p"]),
    ("select ? as a, ? as b", ["text", 2.5]),
    ("select * order by x * ? limit ? offset ?", [-1, 3, 2]),
    ("select * limit ? percent", [10]),
    ("select * sample by max_weight(x > ?: ?, ?: 1) limit ?", [5, 2, True, 7]),
    ("select * from (select x, t as u where t != ?) where u == ? and x < ?", ["q", "a", 9]),
    ("(select * where x < ?) union (select * where t == ? limit ?)", [3, "a", 2]),
]


@pytest.mark.parametrize(("text", "params"), FITTING)
def test_a_run_answers_as_a_query_does(ds: tql.Dataset, text: str, params: Any) -> None:
    prepared = ds.prepare(text)
    for seed in (0, 5):
        view = prepared.run(params, seed=seed)
        assert view.to_arrow().equals(ds.query(text, params, seed=seed).to_arrow())
        assert view.query_text == text
    explained, again = prepared.explain(params).to_dict(), ds.explain(text, params).to_dict()
    for both in (explained, again):
        both.pop("seconds")
    assert explained == again


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("select * wher", "syntax", ""),
        ("select * where x > ? and nope == ?", "unknown_column", "nope"),
        ("select * where x > ? and abss(x) > 1", "unknown_function", "abss"),
        ("select * where abs(?, ?) > 1", "arity", "abs(?, ?)"),
        ("select * where t == ? and x == 'a'", "type", "x == 'a'"),
        ("select * where t + ? > 1", "type", "t + ?"),
        ("select * where abs(?) == t", "type", "abs(?) == t"),
        ("select * where $n == x and t == $n", "type", "t == $n"),
        ("select * where labels like ?", "type", "labels"),
        ("select x, ? as x", "duplicate_column", "? as x"),
        ("select x where t == ? limit -1", "value", "-1"),
        ('select * from "no/such.parquet" where x > ?', "source", '"no/such.parquet"'),
    ],
)
def test_what_no_value_can_cure_is_raised_when_preparing(
    ds: tql.Dataset, text: str, code: str, place: str
) -> None:
    with pytest.raises(tql.TqlError) as e:
        ds.prepare(text)
    d = e.value.diagnostic
    assert d.code == code
    assert e.value.query == text
    assert text[d.span.start : d.span.stop].startswith(place)
    # Nothing that was tried out may look as if the user had written it.
    assert "2000" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "params", "code"),
    [
        ("select * where x > ?", [], "parameter"),
        ("select * where x > ?", [1, 2], "parameter"),
        ("select * where x > ?", None, "parameter"),
        ("select * where x > 3", [1], "parameter"),
        ("select * where x > ?", [None], "parameter"),
        ("select * where x > $a", {"b": 1}, "parameter"),
        ("select * where x > ?", ["a"], "type"),
        ("select * where labels == ?", ["cow"], "value"),
        ("select * limit ?", [-1], "value"),
    ],
)
def test_what_is_wrong_with_a_value_is_raised_by_the_run(
    ds: tql.Dataset, text: str, params: Any, code: str
) -> None:
    prepared = ds.prepare(text)
    for ask in (prepared.run, prepared.explain):
        with pytest.raises(tql.TqlError) as e:
            ask(params)
        assert e.value.diagnostic.code == code


def test_a_run_neither_parses_nor_opens(
    ds: tql.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet")
    text = f'select x from "{tmp_path / "a.parquet"}" where x > ?'
    prepared = ds.prepare(text)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("done when it was prepared")

    monkeypatch.setattr(queries, "parse", never)
    monkeypatch.setattr(queries, "open_source", never)
    assert prepared.run([17])["x"].to_pylist() == [18, 19]
    assert prepared.run([18])["x"].to_pylist() == [19]
    with pytest.raises(AssertionError, match="done when"):
        ds.query(text, [17])


def test_a_query_without_parameters_is_bound_once(
    ds: tql.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = ds.prepare("select * where x > 17")
    monkeypatch.setattr(queries, "bind", None)
    assert [prepared.run().row_ids.tolist() for _ in "12"] == [[18, 19]] * 2


def test_a_prepared_query_says_what_it_wants(ds: tql.Dataset) -> None:
    assert ds.prepare("select * where x > ? or x in ?").parameters == (0, 1)
    assert ds.prepare("select * where x > $b or x == $a or x == $b").parameters == ("b", "a")
    assert ds.prepare("select *").parameters == ()
    deep = "select * where " + "(" * 150 + "x > ?" + ")" * 150
    assert len(parameters_of(tql.parse(deep))) == 1


def test_a_prepared_query_of_a_view_draws_as_the_view_does(ds: tql.Dataset) -> None:
    view = ds.query("select *, random() as r where x > 4")
    text = "select * where r % 2 == ? and random() % 2 == 0"
    assert view.prepare(text).run([0]).row_ids.tolist() == view.query(text, [0]).row_ids.tolist()


# -- parameters= -------------------------------------------------------------------------------


def _asks(ds: tql.Dataset, path: str) -> dict[str, Callable[..., tql.View]]:
    text = "select x where x > ?"
    return {
        "Dataset.query": lambda **given: ds.query(text, **given),
        "tql.query": lambda **given: tql.query(f'select x from "{path}" where x > ?', **given),
        "run": ds.prepare(text).run,
    }


@pytest.mark.parametrize("name", ["Dataset.query", "tql.query", "run"])
def test_parameters_is_another_spelling_of_params(
    ds: tql.Dataset, tmp_path: Path, name: str
) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet")
    ask = _asks(ds, str(tmp_path / "a.parquet"))[name]
    assert ask(parameters=[17])["x"].to_pylist() == ask(params=[17])["x"].to_pylist() == [18, 19]
    with pytest.raises(tql.TqlTypeError, match="two spellings") as e:
        ask(params=[17], parameters=[17])
    assert e.value.diagnostic.code == "parameter"


def test_a_range_is_a_list_of_values() -> None:
    ds = tql.open({"id": [0, 1, 2, 3]})
    assert ds.query("select * where id in ?", [range(1, 3)]).row_ids.tolist() == [1, 2]
    assert ds.query("select * where id not in ?", [range(3, 0, -2)]).row_ids.tolist() == [0, 2]
