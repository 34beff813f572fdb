"""data(column, row): one value of FROM, before WHERE, of any type of column."""

import json
from datetime import date, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql

COLUMNS: Final[dict[str, Any]] = {
    "i": pa.array([3, None, 5], pa.int8()),
    "u": pa.array([2**64 - 1, 0, 1], pa.uint64()),
    "f": pa.array([0.1, None, 2.5], pa.float32()),
    "b": pa.array([True, None, False]),
    "s": pa.array(["a", None, "é"]),
    "c": pa.array(["x", "y", "x"]).dictionary_encode(),
    "l": pa.array([[1, 2], [], None], pa.list_(pa.int32())),
    "n": pa.array([[1, None], [2], [3, 4]]),
    "e": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
    "m": pa.array([[[1, 2], [3, 4]], [[5]], []], pa.list_(pa.list_(pa.int16()))),
    "w": pa.array([["a", "b"], ["c"], []]),
    "t": pa.array([datetime(2024, 5, 1), None, datetime(2024, 5, 2)], pa.timestamp("ms")),
    "z": pa.array([datetime(2024, 5, 1), None, datetime(2024, 5, 2)], pa.timestamp("us", "Asia/Tokyo")),
    "d": pa.array([date(2024, 5, 1), None, date(2024, 5, 2)]),
    "y": pa.array([b"x", None, b"zz"]),
    "o": pa.array([{"k": 1}, None, {"k": 3}]),
}  # fmt: skip


@pytest.fixture(scope="module")
def ds() -> tql.Dataset:
    return tql.open(pa.table(COLUMNS))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("row", [0, 1, 2, -1, -3])
def test_the_value_of_any_column_stands_in_every_row(ds: tql.Dataset, name: str, row: int) -> None:
    view = ds.query(f"select data({name}, {row}) as x where row_number() != 1")
    wanted = COLUMNS[name][row].as_py()
    if name == "c":
        wanted = "xy".index(wanted)  # a class label that is computed is its index
    if name == "o":
        wanted = None if wanted is None else json.dumps(wanted)
    table = view.to_arrow()
    assert table["x"].to_pylist() == [wanted, wanted]
    assert str(view.schema["x"].dtype).split("[")[0] == str(ds.schema[name].dtype).split("[")[0]
    if name in ("t", "z", "d"):
        assert table.schema.field("x").type == COLUMNS[name].type


def rows(ds: tql.Dataset, condition: str, params: Any = None) -> list[int]:
    ids: list[int] = ds.query(f"select * where {condition}", params).row_ids.tolist()
    return ids


def test_it_is_an_operand_like_any_other(ds: tql.Dataset) -> None:
    assert rows(ds, "i == data(i, 0)") == [0]
    assert rows(ds, "i == data(i, 1)") == []
    assert rows(ds, "data(i, 1) is null") == [0, 1, 2]
    assert rows(ds, "data(i, 0) is null") == []
    assert rows(ds, "u == data(u, 0)") == [0]
    assert rows(ds, "f == data(f, 0)") == [0]
    assert rows(ds, "s == data(s, -1)") == [2]
    assert rows(ds, "c == data(c, 0)") == [0, 2]
    assert rows(ds, "s in (data(s, 0), 'é')") == [0, 2]
    assert rows(ds, "t > data(t, 0)") == [2]
    assert rows(ds, "contains(l, data(i, 0) - 1)") == [0]
    assert rows(ds, "data(o, 2)['k'] == o['k']") == [2]
    assert rows(ds, "i > data(i, ?)", [0]) == [2]
    found = ds.query("select e - data(e, 0) as x, n + data(n, 0) as y").to_arrow()
    assert found["x"].to_pylist() == [[0, 0], [2, 2], [4, 4]]
    with pytest.raises(tql.TqlDataError, match="do not fit"):
        ds.query("select l + data(l, 0) as y").to_arrow()


def test_it_counts_the_rows_of_the_select_it_stands_in() -> None:
    ds = tql.open({"i": [10, 11, 12, 13, 14]})
    assert ds.query("select data(i, 0) as x where i > 12").to_arrow()["x"].to_pylist() == [10, 10]
    inner = "(select i where i > 11 order by i desc)"
    text = f"select i, data(i, 0) as x from {inner} where i < data(i, 0)"
    assert ds.query(text).to_arrow().to_pydict() == {"i": [13, 12], "x": [14, 14]}
    nested = (
        "select x - data(x, 1) as y from (select i - data(i, 1) as x from (select i where i > 10))"
    )
    assert ds.query(nested).to_arrow()["y"].to_pylist() == [-1, 0, 1, 2]
    view = ds.query("select i, data(i, 1) as first where i > 12")
    assert view.query("select i - data(i, 0) as x, first").to_arrow().to_pydict() == {
        "x": [0, 1], "first": [11, 11]
    }  # fmt: skip
    assert view[1:].query("select first, data(i, 0) as x").to_arrow().to_pydict() == {
        "first": [11], "x": [14]
    }  # fmt: skip


def test_it_weighs_orders_and_loads() -> None:
    ds = tql.open({"i": [1, 2, 3]})
    assert set(ds.query("select * sample by max_weight(i == data(i, 2): 1) limit 9").row_ids) == {2}
    assert ds.query("select * order by abs(i - data(i, 1)), i desc").row_ids.tolist() == [1, 2, 0]
    assert set(ds.sample_by("max_weight(i == data(i, 0): 1)").row_ids) == {0}
    view = ds.query("select i where i > 1")
    assert set(view.sample_by("max_weight(i == data(i, 0): 1)").row_ids) == {1}
    loader = ds.dataloader().query("select i, i - data(i, -1) as x sample by i").batch(3).numpy()
    (batch,) = loader
    assert (batch["x"] == batch["i"] - 3).all()
    prepared = ds.prepare("select data(i, ?) as x limit 1")
    assert [prepared.run([k]).to_arrow()["x"].to_pylist() for k in (0, -1)] == [[1], [3]]
    text = "select i from (select * where i > 1) where i == data(i, 0)"
    assert "Filter" in str(ds.explain(text, analyze=True))


def test_views_of_different_values_have_different_fingerprints() -> None:
    def of(values: list[Any], row: int) -> str:
        ds = tql.open(pa.table({"n": pa.array(values, pa.list_(pa.int64())), "i": [1, 2]}))
        return ds.query(f"select i, data(n, {row}) as x").source.fingerprint

    values = [[None, 1], [None, 2]]
    assert of(values, 0) == of(values, 0) == of(values, -2)
    assert of(values, 0) != of(values, 1)


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("data(i, 3)", "range", "there is no row 3: FROM has 3 rows"),
        ("data(i, -4)", "range", "there is no row -4"),
        ("data(i + 1, 0)", "type", "data() takes a column of FROM"),
        ("data(i, i)", "type", "data() takes the number of a row"),
        ("data(i, 0.0)", "type", "data() takes the number of a row"),
        ("data(i, true)", "type", "data() takes the number of a row"),
        ("data(i)", "arity", "data() takes 2 arguments, not 1"),
        ("data(nosuch, 0)", "unknown_column", "no column named 'nosuch'"),
    ],
)
def test_mistakes(ds: tql.Dataset, call: str, code: str, message: str) -> None:
    with pytest.raises(tql.TqlError) as e:
        ds.query(f"select {call} as x")
    assert (e.value.diagnostic.code, message in e.value.diagnostic.message) == (code, True)
    assert e.value.diagnostic.help
    assert "^" in str(e.value)


def test_a_row_that_is_broken_is_named() -> None:
    lists = pa.array([[[1, 2], [3]], [[1], [2]]])
    ds = tql.open(pa.table({"m": lists, "i": [0, 1]}))
    assert ds.query("select data(m, 1) as x limit 1").to_arrow()["x"].to_pylist() == [[[1], [2]]]
    with pytest.raises(tql.TqlDataError, match="differ in length in row 0"):
        ds.query("select data(m, 0) as x")


def test_joins_unions_and_groups_count_their_own_rows() -> None:
    left = {"k": [1, 2, 3], "v": [10, 20, 30]}
    a = tql.open(left)
    text = "select data(v, 0) as x, count(*) as n group by k"
    assert a.query(text).to_arrow()["n"].to_pylist() == [1, 1, 1]
    doubled = "(select k, v - data(v, 1) as v) union all (select k, v - data(v, 2) as v)"
    assert a.query(doubled).to_arrow()["v"].to_pylist() == [-10, 0, 10, -20, -10, 0]


def test_on_makes_from_and_cannot_ask_it(tmp_path: Any) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"k": [1, 2, 3], "v": [10, 20, 30]}), path)
    sides = f'"{path}" a join "{path}" b'
    found = tql.query(
        f"select a.v, data(b.v, -1) as x from {sides} on a.k == b.k where a.v > data(a.v, 0)"
    )
    assert found.to_arrow().to_pydict() == {"v": [20, 30], "x": [30, 30]}
    with pytest.raises(tql.TqlUnsupportedError, match="which ON makes"):
        tql.query(f"select a.v from {sides} on a.k == b.k and a.v > data(a.v, 0)")


def test_a_user_function_takes_it() -> None:
    tql.register_function(lambda x, y: x * y, "times_it")
    try:
        ds = tql.open({"i": [2, 3]})
        assert ds.query("select times_it(i, data(i, 1)) as x").to_arrow()["x"].to_pylist() == [6, 9]
        with pytest.raises(tql.TqlTypeError) as e:
            ds.query("select times_it(x, data(x, 1)) as y from (select i + 1 as x limit 2)")
        assert "returns=" in (e.value.diagnostic.help or "")
    finally:
        tql.unregister_function("times_it")
