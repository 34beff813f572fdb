"""Data sets and views: indexing, row numbers through views of views, draws, and the functions on text."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tql.diagnostics import TqlError, TqlUnsupportedError
from tql.sources.classes import NAMES_KEY

ROWS = 20


@pytest.fixture(scope="module")
def ds() -> tql.Dataset:
    return tql.open(
        {
            "id": np.arange(ROWS),
            "score": np.arange(ROWS) * 0.5,
            "labels": np.arange(ROWS, dtype=np.int8) % 3,
            "caption": [f"row {n}" for n in range(ROWS)],
        },
        class_names={"labels": ["cat", "dog", "horse"]},
    )


def ids(view: tql.Dataset) -> list[int]:
    """The `id` of each row, which is its row number in the root data set."""
    found: list[int] = view.to_arrow().column("id").to_pylist()
    return found


def code(e: pytest.ExceptionInfo[TqlError]) -> str:
    return e.value.diagnostic.code


# -- indexing ----------------------------------------------------------------------------------


def test_an_index_gives_one_sample_and_counts_from_the_end_when_negative(ds: tql.Dataset) -> None:
    assert ds[3] == {"id": 3, "score": 1.5, "labels": 0, "caption": "row 3"}
    assert ds[-1]["id"] == ds[np.int32(19)]["id"] == 19  # pyright: ignore
    for outside in (20, -21):
        with pytest.raises(IndexError, match="20 rows"):
            ds[outside]
    with pytest.raises(TypeError):
        ds[2.0]  # type: ignore[call-overload]  # pyright: ignore


slices = st.slices(ROWS) | st.builds(
    slice,
    st.integers(-30, 30) | st.none(),
    st.integers(-30, 30) | st.none(),
    st.integers(-5, 5).filter(bool) | st.none(),
)


@given(slices, slices)
@settings(max_examples=200)
def test_a_slice_is_what_python_slices_give_and_slices_of_slices_too(a: slice, b: slice) -> None:
    here = tql.open({"id": np.arange(ROWS)})
    whole = list(range(ROWS))
    assert ids(here[a]) == here[a].row_ids.tolist() == whole[a]
    assert ids(here[a][b]) == here[a][b].row_ids.tolist() == whole[a][b]


def test_a_name_gives_a_column_and_a_list_of_names_a_view(ds: tql.Dataset) -> None:
    assert ds["caption"].to_pylist()[:2] == ["row 0", "row 1"]
    view = ds[["score", "id"]]
    assert view.columns == ("score", "id")
    assert len(view) == ROWS
    assert view.row_ids.tolist() == list(range(ROWS))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("scroe", "unknown_column"),
        (["id", "nope"], "unknown_column"),
        ([0, 1], "type"),
        (["id", "id"], "duplicate_column"),
    ],
)
def test_a_key_that_is_no_column_is_refused(ds: tql.Dataset, key: Any, kind: str) -> None:
    with pytest.raises(TqlError) as e:
        ds[key]
    assert code(e) == kind
    assert e.value.diagnostic.help


# -- row numbers -------------------------------------------------------------------------------


def test_row_ids_of_views_of_views_are_rows_of_the_root(ds: tql.Dataset) -> None:
    first = ds.query("select * where id >= 10 order by id desc")
    second = first.query("select * where labels == 'dog'")
    third = second[::-1]
    fourth = third.query("select id, score * 2 as double where double > 12")
    assert first.row_ids.tolist() == list(range(19, 9, -1))
    assert second.row_ids.tolist() == [19, 16, 13, 10]
    assert third.row_ids.tolist() == [10, 13, 16, 19]
    assert fourth.row_ids.tolist() == [13, 16, 19] == ids(fourth)
    assert fourth.rowset.to_numpy().tolist() == [13, 16, 19]
    assert fourth.row_ids.dtype == np.int64


def test_a_slice_of_a_view_of_a_sample_keeps_order_and_repeats(ds: tql.Dataset) -> None:
    drawn = ds.query("select * sample by max_weight(id == 4: 50, true: 1) limit 40", seed=1)
    assert len(drawn) == 40 and drawn.row_ids.tolist().count(4) > 10
    assert ids(drawn) == drawn.row_ids.tolist()
    part = drawn[5:30:3].query("select * where id == 4 or id > 10")
    wanted = [n for n in drawn.row_ids.tolist()[5:30:3] if n == 4 or n > 10]
    assert ids(part) == part.row_ids.tolist() == wanted


@pytest.mark.parametrize("condition", ["y > 1", "y < 2", "not y >= 0 and id > 0", "y in (2, 3)"])
def test_what_types_decide_of_a_view_is_an_error_where_its_rows_are_one(condition: str) -> None:
    """As over a subquery: no comparison of a truth value with 2 is asked for its value."""
    ds = tql.open({"id": np.arange(3)})
    inner = "select id, 1 % id > 0 as y"
    view = ds.query(inner)
    asked = [
        lambda: ds.query(f"select id from ({inner}) where {condition}"),
        lambda: view.query(f"select id where {condition}"),
        lambda: view[["y", "id"]][0:2].query(f"select * where {condition}").query("select id"),
        lambda: ds.query(f"{inner} expand by 0").query(f"select id where {condition}"),
        lambda: view.query("select * group by id").query("select * ungroup by split").query(
            f"select id where {condition}"
        ),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(tql.TqlDataError, match="integer modulo by zero in row 0"):
            ask().to_arrow()
    with pytest.raises(tql.TqlDataError, match="integer modulo by zero in row 0"):
        view.sample_by("max_weight(y < 2: 1)")


def test_positions_count_the_rows_of_from(ds: tql.Dataset) -> None:
    view = ds.query("select * where id >= 10").query(
        "select id, row_number() as n where n % 2 == 0"
    )
    assert view.to_arrow().to_pydict() == {"id": [10, 12, 14, 16, 18], "n": [0, 2, 4, 6, 8]}
    again = view.query("select id, n, row_number() as m where id > 12")
    assert again.to_arrow().to_pydict() == {"id": [14, 16, 18], "n": [4, 6, 8], "m": [2, 3, 4]}
    assert again.row_ids.tolist() == [14, 16, 18]


def test_take_follows_the_numbering_of_row_ids(ds: tql.Dataset) -> None:
    view = ds.query("select id, score * 10 as tenfold where id > 5 order by id desc")
    assert view.take([7, 19, 7]).to_pydict() == {"id": [7, 19, 7], "tenfold": [35.0, 95.0, 35.0]}
    assert view.take(view.row_ids).equals(view.to_arrow())
    counted = view.query("select id, row_number() as n")
    assert counted.take([19, 6]).to_pydict() == {"id": [19, 6], "n": [0, 13]}
    assert ds.take([], ["id"]).num_rows == 0
    assert ds.take(3, ["caption"]).to_pydict() == {"caption": ["row 3"]}


@pytest.mark.parametrize(
    ("rows", "kind"),
    [([-1], "range"), ([ROWS], "range"), ([1.5], "type"), ([True, False], "type"), ([[1]], "type")],
)
def test_take_refuses_what_is_no_row(ds: tql.Dataset, rows: Any, kind: str) -> None:
    with pytest.raises(TqlError) as e:
        ds.take(rows)
    assert code(e) == kind


def test_take_of_a_view_over_positions_refuses_a_row_that_is_not_in_it(ds: tql.Dataset) -> None:
    view = ds.query("select * where id > 5").query("select id, row_number() as n")
    with pytest.raises(TqlError, match="row 3 is not in") as e:
        view.take([7, 3])
    assert code(e) == "range"


def test_the_index_of_a_batch_is_the_row_id(ds: tql.Dataset) -> None:
    view = ds.query("select id, score * 2 as double where id > 12").query(
        "select * order by id desc"
    )
    batches = list(view.batches(4))
    index = np.concatenate([b["index"] for b in batches])
    assert index.tolist() == view.row_ids.tolist() == list(range(19, 12, -1))
    assert np.concatenate([b["double"] for b in batches]).tolist() == index.tolist()


# -- columns of views --------------------------------------------------------------------------


def test_a_select_list_chooses_renames_and_computes_columns(ds: tql.Dataset) -> None:
    view = ds.query("select caption as text, score + 1 as more, labels, id / 2 where id in (2, 5)")
    assert view.columns == ("text", "more", "labels", "id")
    assert view.to_arrow().to_pydict() == {
        "text": ["row 2", "row 5"], "more": [2.0, 3.5], "labels": [2, 2], "id": [1.0, 2.5],
    }  # fmt: skip
    assert [str(c) for c in view.schema] == [
        "text: text", "more: float64", "labels: class_label[3]", "id: float64",
    ]  # fmt: skip
    nested = view.query("select more * 2 as twice where text != 'row 2'")
    assert nested.to_arrow().to_pydict() == {"twice": [7.0]}


def test_random_columns_keep_their_numbers_through_views(ds: tql.Dataset) -> None:
    view = ds.query("select id, random() as r, random() as s", seed=5)
    table = view.to_arrow()
    assert table.column("r") != table.column("s")
    assert len(set(table.column("r").to_pylist())) == ROWS
    assert all(0 <= r < 2**31 for r in table.column("r").to_pylist())
    part = view.query("select * where id % 2 == 1", seed=99)[::-1]
    assert part.to_arrow().column("r").to_pylist() == table.column("r").to_pylist()[1::2][::-1]
    assert view.take([3, 4]).equals(table.slice(3, 2))
    again = ds.query("select id, random() as r, random() as s", seed=5)
    assert again.to_arrow().equals(table)
    assert not ds.query("select id, random() as r, random() as s", seed=6).to_arrow().equals(table)


def test_class_names_and_nullability_are_written_back(ds: tql.Dataset, tmp_path: Path) -> None:
    for table in (ds.to_arrow(), ds.take([3]), ds.query("select *").to_arrow()):
        field = table.schema.field("labels")
        assert json.loads(field.metadata[NAMES_KEY]) == ["cat", "dog", "horse"]
        assert not field.nullable
    pq.write_table(ds.to_arrow(), tmp_path / "all.parquet")
    assert tql.open(tmp_path / "all.parquet").schema == ds.schema


def test_class_names_are_kept_through_views_files_and_arrow(
    ds: tql.Dataset, tmp_path: Path
) -> None:
    view = ds.query("select labels as kind, id where labels != 'cat'")[1:9]
    table = view.to_arrow()
    assert json.loads(table.schema.field("kind").metadata[NAMES_KEY]) == ["cat", "dog", "horse"]
    pq.write_table(table, tmp_path / "part.parquet")
    again = tql.open(tmp_path / "part.parquet")
    assert str(again.schema["kind"].dtype) == "class_label[3]"
    assert ids(again.query("select * where kind == 'dog'")) == [
        n for n in view.row_ids.tolist() if n % 3 == 1
    ]


def test_other_libraries_read_a_view_through_the_arrow_stream(ds: tql.Dataset) -> None:
    view = ds.query("select id, caption where id > 16 order by id desc")
    assert pa.table(view).to_pydict() == {
        "id": [19, 18, 17],
        "caption": ["row 19", "row 18", "row 17"],
    }
    reader = pa.RecordBatchReader.from_stream(view)
    assert reader.read_all().equals(view.to_arrow())
    assert tql.open(view).to_arrow().equals(view.to_arrow())


def test_a_column_of_which_nothing_is_known_is_selected_without_rows_too() -> None:
    for ids in ([], [None, None]):
        view = tql.open(pa.table({"id": ids})).query("select * where id is null")
        assert view.to_arrow()["id"].to_pylist() == ids


def test_an_empty_result_is_a_data_set_like_any_other(ds: tql.Dataset) -> None:
    empty = ds.query("select id, score * 2 as double where id > 1000")
    assert len(empty) == 0
    assert empty.row_ids.tolist() == []
    assert empty.to_arrow().schema.names == ["id", "double"]
    assert empty.to_arrow().schema.field("double").type == pa.float64()
    assert list(empty.batches(4)) == []
    nested = empty.query("select * where double > 1 order by double desc limit 3")
    assert len(nested) == 0 == len(empty[::-1])
    assert len(ds.query("select * sample by 1 limit 0")) == 0
    with pytest.raises(tql.TqlPlanError):
        empty.sample_by("id")
    with pytest.raises(tql.TqlPlanError):
        ds.query("select * where id > 1000 sample by 1")


# -- draws -------------------------------------------------------------------------------------


def test_the_same_call_gives_the_same_rows_and_another_seed_others(ds: tql.Dataset) -> None:
    for draw in (
        lambda seed: ds.query("select * sample by score limit 30", seed=seed).row_ids.tolist(),
        lambda seed: ds.query("select * order by random()", seed=seed).row_ids.tolist(),
        lambda seed: ds.query("select * where random() % 2 == 0", seed=seed).row_ids.tolist(),
        lambda seed: ds.sample_by("score", size=30, seed=seed).row_ids.tolist(),
        lambda seed: ds.sample_by(np.arange(ROWS), size=30, seed=seed).row_ids.tolist(),
    ):
        assert draw(0) == draw(0)
        assert len({tuple(draw(seed)) for seed in range(5)}) == 5


def test_sample_by_draws_as_many_rows_as_there_are_unless_told(ds: tql.Dataset) -> None:
    assert len(ds.sample_by("id")) == ROWS
    assert len(ds.sample_by("id", size=7)) == 7
    assert len(ds.sample_by("id", size=100)) == 100
    assert 0 not in ds.sample_by("id", size=500).row_ids, "row 0 weighs nothing"
    few = ds.sample_by("id", replace=False)
    assert sorted(few.row_ids.tolist()) == list(range(1, ROWS))
    assert "19" in " ".join(few.notes), "fewer rows than asked for are worth a note"


def test_the_weights_of_a_view_are_those_of_its_rows(ds: tql.Dataset) -> None:
    view = ds.query("select *, score * 2 as double where id >= 10 order by id desc")
    only_last = [0.0] * 9 + [1.0]
    assert set(view.sample_by(only_last, size=5).row_ids.tolist()) == {10}
    assert set(view.sample_by("max_weight(double == 12: 1)", size=5).row_ids.tolist()) == {12}
    assert set(view.sample_by("max_weight(row_number() == 0: 1)", size=5).row_ids.tolist()) == {19}
    assert (
        ids(view.sample_by(np.ones(10), size=3))
        == view.sample_by(np.ones(10), size=3).row_ids.tolist()
    )


@pytest.mark.parametrize(
    ("weights", "kind"),
    [
        (np.ones((ROWS, 2)), "value"),
        (np.float64(3), "value"),
        ([1, 2], "value"),
        (["a"] * ROWS, "type"),
        ([-1.0] * ROWS, "value"),
        ([float("nan")] * ROWS, "value"),
        ([float("inf")] * ROWS, "value"),
        ([0] * ROWS, "value"),
        ("max_weight(id < 0: 1)", "value"),
        ("caption", "type"),
        ("nope", "unknown_column"),
        ("", "syntax"),
    ],
)
def test_weights_that_no_draw_can_follow_are_refused(
    ds: tql.Dataset, weights: Any, kind: str
) -> None:
    with pytest.raises(TqlError) as e:
        ds.sample_by(weights)
    assert code(e) == kind
    assert isinstance(e.value, ValueError) == (kind == "value")


@pytest.mark.parametrize(
    ("size", "kind"), [(0, "value"), (-3, "value"), (2.5, "type"), (True, "type")]
)
def test_a_size_that_is_no_number_of_rows_is_refused(ds: tql.Dataset, size: Any, kind: str) -> None:
    with pytest.raises(TqlError) as e:
        ds.sample_by("id", size=size)
    assert code(e) == kind


# -- parameters and prepared queries -----------------------------------------------------------


@pytest.mark.parametrize("params", [[3, 6], (3, 6), np.array([3, 6])])
def test_question_marks_take_a_list(ds: tql.Dataset, params: Any) -> None:
    assert ds.query("select * where id > ? and id < ?", params).row_ids.tolist() == [4, 5]


def test_names_take_a_dict_and_a_name_may_come_twice(ds: tql.Dataset) -> None:
    text = "select * where id == $n or id == $n + 1 or labels == $class and id < 3"
    assert ds.query(text, {"n": 10, "class": "horse"}).row_ids.tolist() == [2, 10, 11]


@pytest.mark.parametrize(
    "values", [[1, 2, 2], (1, 2), {1, 2}, np.array([1, 2]), np.array([2.0, 1.0])]
)
def test_a_list_parameter_follows_in(ds: tql.Dataset, values: Any) -> None:
    assert ds.query("select * where id in ?", [values]).row_ids.tolist() == [1, 2]


def test_an_empty_list_parameter_matches_nothing(ds: tql.Dataset) -> None:
    assert len(ds.query("select * where id in ?", [[]])) == 0
    assert len(ds.query("select * where id not in $known", {"known": []})) == ROWS


@pytest.mark.parametrize("params", ["abc", {1}, 5, b"x"])
def test_what_is_no_list_of_parameters_is_refused(ds: tql.Dataset, params: Any) -> None:
    with pytest.raises(TqlError) as e:
        ds.query("select * where id > ?", params)
    assert code(e) == "parameter"


def test_a_prepared_query_runs_with_other_parameters(ds: tql.Dataset) -> None:
    prepared = ds.prepare("select * where id > ? limit ?")
    assert prepared.run([5, 2]).row_ids.tolist() == [6, 7]
    assert prepared.run([15, 3]).row_ids.tolist() == [16, 17, 18]
    with pytest.raises(TqlError) as e:
        prepared.run([5])
    assert code(e) == "parameter"
    with pytest.raises(tql.TqlSyntaxError):
        ds.prepare("select * wher")


# -- the functions on text ---------------------------------------------------------------------


def test_a_global_query_needs_from(ds: tql.Dataset, tmp_path: Path) -> None:
    pq.write_table(ds.to_arrow(), tmp_path / 'it\'s "a" file.parquet', row_group_size=7)
    path = str(tmp_path / 'it\'s "a" file.parquet').replace('"', '""')
    view = tql.query(f'select id from "{path}" where labels == ? and id > 9', ["dog"])
    assert view.row_ids.tolist() == ids(view) == [10, 13, 16, 19]
    with pytest.raises(TqlError, match="FROM is required") as e:
        tql.query("select *")
    assert code(e) == "source"
    joined = tql.query(
        f'(select * from "{path}" where id < 2) union (select * from "{path}" limit 3)'
    )
    assert joined.row_ids.tolist() == [0, 1, 2]


def test_what_is_no_text_is_no_query(ds: tql.Dataset) -> None:
    for query in (5, None, b"select *", ["select *"]):
        with pytest.raises(tql.TqlTypeError):
            ds.query(query)  # type: ignore[arg-type]  # pyright: ignore


def test_format_is_canonical_and_parse_reads_it_back() -> None:
    text = "SELECT  *\nWHERE a=1 AND NOT (b<>2) -- why"
    assert tql.format(text) == "select * where a == 1 and not b != 2"
    assert tql.parse(tql.format(text)) == tql.parse(text)
    assert tql.format(tql.parse(text)) == tql.format(text)


def test_keywords_are_the_reserved_words() -> None:
    words = tql.keywords()
    assert len(words) == len(set(words)) == 46
    assert {"select", "where", "sample", "replace", "ungroup"} <= set(words)
    assert "top" not in words
    for word in words:
        with pytest.raises(tql.TqlError):
            tql.parse(f"select x as {word}")


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("select * where a > 1 order by b limit 3", True),
        ("select * sample by a", True),
        ("select a, b where a > 1", True),
        ("(select * where a > 1) union (select * limit 3)", True),
        ("select * from (select * where a > 1) where b > 2", True),
        ("select a as b", False),
        ("select a + 1 as b", False),
        ("select *, row_number() as n", False),
        ("select * from (select a + 1 as b) where b > 2", False),
        ("select * from x join y on x.a == y.a", False),
        ("select a group by a", False),
        ("select distinct a", True),
        ("select distinct on (a + 1) a, b", True),
        ("select top 3 t.a from x as t where t.b == 1 offset 2", True),
        ("select * sample by a replace false limit 3 order by a", True),
        ("(select *) union (select a + 1 as a)", False),
        ("select * expand by 1, 2", False),
        ("select * ungroup by split", False),
        ("select * from x, y", False),
        ("select * from (select * from x cross join y)", False),
        ("select * from (select * expand by 1, 2)", False),
        ("select * from x union select * from y", False),
        ("select * from x as a where a.b == 1 except all select * from x as c", True),
        ("select * from (select * from x limit 3) union select * from x", False),
    ],
)
def test_is_filter_tells_queries_that_only_choose_rows(text: str, filters: bool) -> None:
    assert tql.is_filter(text) is filters


# -- identity and processes --------------------------------------------------------------------


def test_the_fingerprint_follows_the_content(ds: tql.Dataset) -> None:
    view = ds.query("select * where id > 3")
    assert view.fingerprint == ds.query("select * where id >= 4").fingerprint
    assert view.fingerprint != ds.query("select * where id > 4").fingerprint
    assert view.fingerprint != ds.query("select *, id + 1 as x where id > 3").fingerprint
    assert view.fingerprint != ds.fingerprint
    drawn = {ds.query("select *, random() as r", seed=s).fingerprint for s in (1, 2)}
    assert len(drawn) == 2


def test_a_repr_names_the_data_its_size_and_columns(ds: tql.Dataset) -> None:
    assert repr(ds) == (
        "<Dataset dict: 20 rows; id: int64, score: float64, labels: class_label[3], caption: text>"
    )
    assert repr(ds.query("select id limit 2")) == "<View dict: 2 rows; id: int64>"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # forking is what is tested
def test_a_query_works_on_both_sides_of_a_fork() -> None:
    """Many fragments, so that the parent has used its thread pool before."""
    here = tql.open({"x": np.arange((1 << 20) * 2 + 5)})
    text = "select * where x % 500000 == 3"
    wanted = here.query(text).row_ids.tolist()
    assert wanted == [3, 500003, 1000003, 1500003, 2000003]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(write, json.dumps(here.query(text).row_ids.tolist()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    answer = b""
    while part := os.read(read, 4096):
        answer += part
    os.close(read)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert json.loads(answer) == wanted == here.query(text).row_ids.tolist()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_not_installed_is_named_with_the_way_to_get_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(TqlUnsupportedError, match=f"{library} is not installed") as e:
        getattr(tql.open({"a": [1]}), f"to_{library}")()
    assert e.value.diagnostic.help == f"pip install {library}"
