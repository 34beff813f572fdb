"""DISTINCT and EXPAND BY against plain Python and DuckDB, alone and with everything around them."""

import math
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.strategies import Pieces, random_table
from tql.dataset import Dataset, View, view_of
from tql.engine.columns import Arrow, Numbers
from tql.engine.equality import codes, combined, first_rows, paired
from tql.engine.expanding import expand
from tql.queries import ask
from tql.rowset import everything, from_ids

COLUMNS = ["i8", "u64", "i64_n", "f32_n", "f64", "text_n", "label", "flag_n", "cat_n", "f16_n"]


def rows_of(query: str, **columns: Any) -> list[int]:
    return tql.open(columns).query(query).row_ids.tolist()


def same(value: Any) -> Any:
    """What is equal for DISTINCT, hashable: NULL with NULL, NaN with NaN, arrays by shape."""
    match value:
        case None:
            return "null"
        case float() if math.isnan(value):
            return "nan"
        case list():
            return ("list", *map(same, value))
        case str():
            return ("text", value)
        case _:
            return value


# -- DISTINCT ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(0, 80),
    names=st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3, unique=True),
    on=st.booleans(),
)
def test_distinct_keeps_the_first_of_equal_rows(
    seed: int, rows: int, names: list[str], on: bool
) -> None:
    source = Pieces(random_table(COLUMNS, rows, seed), [13])
    seen: dict[Any, int] = {}
    for n, row in enumerate(Dataset(source, "random").to_arrow().to_pylist()):
        seen.setdefault(tuple(same(row[name]) for name in names), n)
    listed = ", ".join(names)
    text = f"select distinct on ({listed}) *" if on else f"select distinct {listed}"
    assert view_of(ask(source, text), None).row_ids.tolist() == list(seen.values())


def test_arrays_are_told_apart_by_shape_and_content() -> None:
    lists = [[], [1], [1, 2], [2, 1], [1, 2], None, [], None, [None], [1, None], [1, None]]
    assert rows_of("select distinct x", x=pa.array(lists, pa.list_(pa.int64()))) == [
        0, 1, 2, 3, 5, 8, 9,
    ]  # fmt: skip
    nested = [
        [[1, 2], [3, 4]],
        [[1], [2], [3], [4]],
        [[1, 2, 3, 4]],
        [[1, 2], [3, 4]],
        [[]],
        [],
        [[], []],
    ]
    assert rows_of("select distinct x", x=pa.array(nested)) == [0, 1, 2, 4, 5, 6]
    floats = [[math.nan], [0.0], [-0.0], [math.nan]]
    assert rows_of("select distinct x", x=pa.array(floats)) == [0, 1]
    texts = [["ab", "c"], ["a", "bc"], ["ab", "c"], ["abc"], [""], []]
    assert rows_of("select distinct x", x=pa.array(texts)) == [0, 1, 3, 4, 5]
    fixed = pa.array([[1, 2], [1, 2], None, [2, 1]], pa.list_(pa.int8(), 2))
    assert rows_of("select distinct x", x=fixed) == [0, 2, 3]


def test_numbers_are_told_apart_exactly() -> None:
    big = np.array([2**53, 2**53 + 1, 2**53], np.int64)
    assert rows_of("select distinct x", x=big) == [0, 1]
    assert rows_of("select distinct x", x=np.array([2**63, 2**63 + 1, 2**63], np.uint64)) == [0, 1]
    half = np.array([0.5, -0.0, 0.0, np.nan, np.nan, 0.5], np.float16)
    assert rows_of("select distinct x", x=half) == [0, 1, 3]
    odd_nan = np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)
    assert rows_of("select distinct x", x=odd_nan) == [0]


def test_json_is_told_apart_by_type_and_value() -> None:
    texts = ['{"a": 1, "b": [1]}', '{"b": [1], "a": 1.0}', '{"a": true, "b": [1]}', "null", None]
    texts += ['{"a": 1, "b": [1, 1]}', '"a"', '["a"]']
    column = pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts))
    assert rows_of("select distinct j", j=column) == [0, 2, 3, 5, 6, 7]
    inside = pa.ExtensionArray.from_storage(
        pa.json_(), pa.array(['{"k": 1}', '{"k": "1"}', '{"k": 1.0}', "{}", '{"k": null}'])
    )
    assert rows_of("select distinct j['k'] as k", j=inside) == [0, 1, 3]


def test_distinct_comes_before_order_and_limit_and_after_where() -> None:
    ds = tql.open({"a": [3, 1, 3, 2, 1], "b": [1, 2, 3, 4, 5]})
    assert ds.query("select distinct a order by a").row_ids.tolist() == [1, 3, 0]
    assert ds.query("select distinct a order by b desc limit 2").row_ids.tolist() == [3, 1]
    assert ds.query("select distinct a where b > 1").row_ids.tolist() == [1, 2, 3]
    assert ds.query("select top 2 distinct a").row_ids.tolist() == [0, 1]
    assert ds.query("select distinct a offset 1 limit 1").row_ids.tolist() == [1]
    found = ds.query("select distinct a sample by a limit 50")
    assert set(found.row_ids.tolist()) <= {0, 1, 3}


def test_distinct_on_sees_aliases_and_expressions() -> None:
    ds = tql.open({"a": [1, 2, 3, 4]})
    assert ds.query("select distinct on (odd) a, a % 2 as odd").row_ids.tolist() == [0, 1]
    assert ds.query("select distinct on (a % 3) a").row_ids.tolist() == [0, 1, 2]
    assert ds.query("select distinct 7 as seven").to_arrow().to_pydict() == {"seven": [7]}
    assert len(ds.query("select distinct a where a > 100")) == 0


def test_groups_may_be_told_apart_too() -> None:
    ds = tql.open({"g": [1, 1, 2, 2, 3], "x": [5, 6, 5, 6, 5]})
    assert ds.query("select distinct x group by g").to_arrow().to_pydict() == {"x": [[5, 6], [5]]}
    counted = ds.query("select distinct on (count(*)) g, count(*) as n group by g order by n")
    assert counted.to_arrow().to_pydict() == {"g": [[3], [1, 1]], "n": [1, 2]}


def test_a_branch_of_a_set_operation_may_be_distinct() -> None:
    ds = tql.open({"a": [1, 1, 2, 2, 3]})
    text = "(select distinct a) except (select a where a == 2)"
    assert ds.query(text).row_ids.tolist() == [0, 4]


@pytest.mark.parametrize("names", ["word", "real", "word, real", "lists", "lists, word"])
def test_distinct_counts_what_duckdb_counts(names: str) -> None:
    rng = np.random.default_rng(8)
    n = 500

    def some(values: Any) -> pa.Array:
        return pa.array(values, mask=rng.random(n) < 0.2)

    table = pa.table(
        {
            "word": some(rng.choice(np.array(["", "a", "A", "ß"], object), n)),
            "real": some(rng.choice([0.5, 0.25, np.nan, np.inf], n)),
            "lists": pa.array([list(range(k)) for k in rng.integers(0, 4, n)]),
        }
    )
    connection = duckdb.connect()
    connection.register("rows", table)
    expected = connection.execute(f"select distinct {names} from rows").fetchall()
    found = tql.open(table).query(f"select distinct {names}").to_arrow().to_pydict()
    rows = list(zip(*found.values(), strict=True))
    assert {same(list(r)) for r in rows} == {same(list(r)) for r in expected}
    assert len(rows) == len(expected)


def test_codes_are_dense_and_in_order_of_appearance() -> None:
    a = codes(Numbers(np.array([7, 3, 7, 9])), 4)
    b = codes(Arrow(pa.array(["x", None, "x", "y"])), 4)
    assert a.tolist() == b.tolist() == [0, 1, 0, 2]
    dictionary = pa.DictionaryArray.from_arrays(
        pa.array([0, 2, 1, None]), pa.array(["u", "u", None])
    )
    assert codes(Arrow(dictionary), 4).tolist() == [0, 1, 0, 1]
    assert paired(a, b).tolist() == [0, 1, 0, 2]
    assert combined([a, np.array([0, 0, 1, 1])]).tolist() == [0, 1, 2, 3]
    assert first_rows(a).tolist() == [0, 1, 3] and first_rows(a[:0]).tolist() == []
    assert codes(Numbers(np.asarray(1.5)), 3).tolist() == [0, 0, 0]


# -- EXPAND BY ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    n=st.integers(1, 40),
    before=st.integers(0, 45),
    after=st.integers(0, 45),
    data=st.data(),
)
def test_windows_are_those_of_a_loop(n: int, before: int, after: int, data: Any) -> None:
    matches = data.draw(st.lists(st.integers(0, n - 1), max_size=20))
    rows = from_ids(np.array(matches, np.int64), n)
    windows = [range(max(0, m - before), min(n, m + after + 1)) for m in matches]
    apart = expand(rows, before, after, True)
    assert apart.rows.to_numpy().tolist() == [r for w in windows for r in w]
    assert apart.windows.tolist() == [i for i, w in enumerate(windows) for _ in w]
    members = sorted({r for w in windows for r in w})
    merged = expand(rows, before, after, False)
    assert merged.rows.to_numpy().tolist() == members
    runs = np.cumsum([i > 0 and r != members[i - 1] + 1 for i, r in enumerate(members)])
    assert merged.windows.tolist() == runs.tolist()


def asked(query: str) -> View:
    return tql.open({"id": np.arange(12), "x": np.arange(12) % 4}).query(query)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("where id == 3 expand by 1", [2, 3, 4]),
        ("where id == 3 expand by 2, 1", [1, 2, 3, 4]),
        ("where id == 3 expand by 2 1", [1, 2, 3, 4]),
        ("expand by 2 1 where id == 3", [1, 2, 3, 4]),
        ("where id in (0, 11) expand by 1", [0, 1, 10, 11]),
        ("where id in (3, 4) expand by 0 1 overlap", [3, 4, 4, 5]),
        ("where id in (3, 4) expand by 0 1 overlap false", [3, 4, 5]),
        ("where id in (3, 8) expand by 1 order by id desc limit 4", [9, 8, 7, 4]),
        ("expand by 5", list(range(12))),
        ("where id > 100 expand by 5", []),
        ("where id == 3 expand by 9000000000000000000 9000000000000000000 limit 2", [0, 1]),
    ],
)
def test_neighbours_join_the_result(query: str, rows: list[int]) -> None:
    assert asked(f"select * {query}").row_ids.tolist() == rows


def test_rows_keep_their_place_in_the_source() -> None:
    view = asked(
        "select id, row_number() as n, random() as r where id in (3, 4) expand by 1 1 overlap as w"
    )
    table = view.to_arrow().to_pydict()
    assert view.row_ids.tolist() == table["id"] == table["n"] == [2, 3, 4, 3, 4, 5]
    assert table["w"] == [0, 0, 0, 1, 1, 1]
    assert table["r"][1] == table["r"][3] != table["r"][0]
    inner = view.query("select id, w where w == 1 and id < 5")
    assert inner.row_ids.tolist() == [3, 4]
    assert inner.to_arrow().to_pydict() == {"id": [3, 4], "w": [1, 1]}
    assert view.query("select id order by w desc, id").row_ids.tolist() == [3, 4, 5, 2, 3, 4]
    (batch,) = view.dataloader().batch(6).numpy()
    assert batch["index"].tolist() == [2, 3, 4, 3, 4, 5] and batch["w"].tolist() == table["w"]
    assert view.take([5, 2], ["id"]).to_pydict() == {"id": [5, 2]}


def test_windows_are_numbered_and_can_be_grouped() -> None:
    view = asked("select * where id in (1, 6) expand by 1 as clip")
    assert view.columns == ("id", "x", "clip")
    assert view.to_arrow().column("clip").to_pylist() == [0, 0, 0, 1, 1, 1]
    clips = view.query("select id group by clip")
    assert clips.to_arrow().to_pydict() == {"id": [[0, 1, 2], [5, 6, 7]]}
    assert asked(
        "select id, count(*) as n where id in (1, 6) expand by 1 as clip group by clip having clip == 1"
    ).to_arrow().to_pydict() == {"id": [[5, 6, 7]], "n": [3]}


def test_neighbours_are_positions_in_from_and_not_below_it() -> None:
    text = "select id from (select * where x == 0) where id == 4 expand by 1"
    assert asked(text).row_ids.tolist() == [0, 4, 8]
    assert asked(text + " as w").to_arrow().to_pydict() == {"id": [0, 4, 8], "w": [0, 0, 0]}
    outer = "select * from (select * where id == 3 expand by 1) where id > 3"
    assert asked(outer).row_ids.tolist() == [4]


def test_a_set_operation_may_have_expanded_branches() -> None:
    text = "(select * where id == 3 expand by 1) {} (select * where id == 5 expand by 1)"
    assert asked(text.format("union")).row_ids.tolist() == [2, 3, 4, 5, 6]
    assert asked(text.format("union all")).row_ids.tolist() == [2, 3, 4, 4, 5, 6]
    assert asked(text.format("intersect")).row_ids.tolist() == [4]
    named = "(select id where id == 3 expand by 1 as w) union (select id where id == 3 expand by 1 as w)"
    assert asked(named).row_ids.tolist() == [2, 3, 4]


def test_windows_that_cannot_fit_in_memory_are_refused() -> None:
    with pytest.raises(tql.TqlError, match="this EXPAND BY would have 1,099,511,627,776 rows") as e:
        _ = expand(everything(1 << 20), 1 << 20, 1 << 20, True).rows
    assert e.value.diagnostic.code == "range" and e.value.diagnostic.help


@pytest.mark.parametrize("number", ["-1", "1.5", "1 -1"])
def test_numbers_of_rows_are_whole_and_not_negative(number: str) -> None:
    with pytest.raises(tql.TqlError) as e:
        asked(f"select * expand by {number}")
    assert e.value.diagnostic.help


def test_a_query_with_windows_or_groups_is_no_filter() -> None:
    for text in (
        "select * expand by 1", "select * expand by 1 as w",
        "select * group by id", "select * ungroup by split",
    ):  # fmt: skip
        assert not tql.is_filter(text), text
    assert tql.is_filter("select * where id > 1")


def test_explain_tells_the_rows_of_each_step() -> None:
    over = tql.open({"id": np.arange(12), "payload": [b"x"] * 12})
    text = str(
        over.explain("select distinct id where id in (3, 9) expand by 1 order by id limit 5")
    )
    for line in ("Distinct  id ", "Expand  1 before and 1 after, each row once "):
        (found,) = [row for row in text.splitlines() if line in row]
        assert found.split()[-1] == "6"
    unread = over.explain("select distinct * limit 5")
    assert unread.to_dict()["plan"]["rows"] is None and "?" in str(unread)
    assert over.explain("select distinct * limit 5", analyze=True).to_dict()["plan"]["rows"] == 5
    windows = str(over.explain("select id where id > 10 expand by 1 as w"))
    assert "Windows  1 before and 1 after, each row once; their number is w" in windows


def test_a_million_matches_expand_without_a_loop_over_them() -> None:
    n = 10_000_000
    rows = from_ids(np.arange(0, n, 10, dtype=np.int64), n)
    merged = expand(rows, 2, 2, False)
    assert len(merged.rows) == 5 * len(rows) - 2
    assert len(merged.starts) == len(rows)
