"""GROUP BY, HAVING and UNGROUP BY SPLIT: against plain Python, against DuckDB, and over everything
that a result can be used for."""

import json
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.strategies import Pieces, random_table
from tql.dataset import Dataset, View, view_of
from tql.engine.grouping import GroupedSource
from tql.engine.scan import Settings
from tql.loader import FragmentRows
from tql.queries import ask
from tql.schema import Float, Label, List, Text
from tql.sources.protocol import Run, in_turn

Row = dict[str, Any]


def frames() -> Dataset:
    """Three videos, whose rows are mixed."""
    video = [2, 2, 1, 1, 2, 1, 3, 3]
    return tql.open(
        {
            "id": np.arange(8),
            "video": np.array(video),
            "cam": ["b", "b", "b", "a", "a", "a", "b", "b"],
            "frame": np.array([0, 1, 0, 1, 2, 2, 0, 1]),
            "label": pa.array([("car", "cat", "dog")[v - 1] for v in video]).dictionary_encode(),
            "v": pa.array([[float(i), i + 1.0] for i in range(8)]),
            "tags": pa.array([list(range(i)) for i in range(8)]),
        }
    )


def told(query: str, over: Dataset | None = None) -> dict[str, list[Any]]:
    view = (frames() if over is None else over).query(query)
    found: dict[str, list[Any]] = view.to_arrow().to_pydict()
    return found


# -- an oracle in plain Python -----------------------------------------------------------------


def same_key(value: Any) -> Any:
    """What is equal for GROUP BY: NULL with NULL, NaN with NaN, 0.0 with -0.0, exact otherwise."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return type(value).__name__ if value is None else (isinstance(value, str), value)


def nested_groups(rows: Sequence[Row], keys: Sequence[Callable[[Row], Any]]) -> list[list[Row]]:
    """Groups by the first key in order of appearance, in each by the next, and so on."""
    if not keys:
        return [list(rows)] if rows else []
    parts: dict[Any, list[Row]] = {}
    for row in rows:
        parts.setdefault(same_key(keys[0](row)), []).append(row)
    return [g for part in parts.values() for g in nested_groups(part, keys[1:])]


COLUMNS = ["i8", "u64", "i64_n", "f32_n", "f64", "text_n", "label", "flag_n", "cat_n", "f16"]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(0, 80),
    keys=st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3, unique=True),
    pieces=st.integers(1, 40),
    least=st.integers(0, 4),
    tier=st.sampled_from(["reference", "kernel"]),
)
def test_groups_are_those_of_a_loop_over_the_rows(
    seed: int, rows: int, keys: list[str], pieces: int, least: int, tier: Any
) -> None:
    source = Pieces(random_table(COLUMNS, rows, seed), [pieces])
    table = _table_of(source)
    listed = [dict(row, n=n) for n, row in enumerate(table.to_pylist())]
    expected = nested_groups(listed, [lambda row, k=k: row[k] for k in keys])
    expected = [g for g in expected if len(g) >= least]
    text = f"select row_number() as n, {keys[0]} as k, count(*) as c group by {', '.join(keys)}"
    if least:
        text += f" having count(*) >= {least}"
    found = view_of(ask(source, text, settings=Settings(tier)), None).to_arrow()
    assert found.column("n").to_pylist() == [[r["n"] for r in g] for g in expected]
    assert found.column("c").to_pylist() == [len(g) for g in expected]
    values = [[same_key(v) for v in group] for group in found.column("k").to_pylist()]
    assert values == [[same_key(r[keys[0]]) for r in g] for g in expected]


def _table_of(source: Any) -> pa.Table:
    return Dataset(source, "random").to_arrow()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), rows=st.integers(0, 60), keys=st.integers(1, 2))
def test_splitting_groups_gives_the_rows_of_the_groups_one_after_the_other(
    seed: int, rows: int, keys: int
) -> None:
    source = Pieces(random_table(COLUMNS, rows, seed), [7])
    listed = [dict(row, n=n) for n, row in enumerate(_table_of(source).to_pylist())]
    by = ["i8", "text_n"][:keys]
    groups = nested_groups(listed, [lambda row, k=k: row[k] for k in by])
    text = f"select *, row_number() as n group by {', '.join(by)} ungroup by split"
    view = view_of(ask(source, text), None)
    expected = [row for g in groups for row in g]
    found = view.to_arrow().to_pylist()
    assert [_comparable(r) for r in found] == [_comparable(r) for r in expected]
    through = Dataset(source, "random").query(
        f"select *, row_number() as n group by {', '.join(by)}"
    )
    again = through.query("select * ungroup by split").to_arrow().to_pylist()
    assert [_comparable(r) for r in again] == [_comparable(r) for r in expected]


def _comparable(row: Row) -> Row:
    return {k: same_key(v) for k, v in row.items()}


# -- DuckDB, where SQL agrees ------------------------------------------------------------------


@pytest.mark.parametrize("key", ["word", "whole", "real", "flag", "word, whole", "whole % 3"])
def test_groups_hold_what_array_agg_gives(key: str) -> None:
    rng = np.random.default_rng(3)
    n = 400

    def some(values: Any) -> pa.Array:
        return pa.array(values, mask=rng.random(n) < 0.2)

    table = pa.table(
        {
            "id": np.arange(n),
            "word": some(rng.choice(np.array(["", "a", "A", "ß"], object), n)),
            "whole": some(rng.choice([2**62, 2**62 + 1, -7, 0, 5], n)),
            "real": some(rng.choice([0.5, -0.0, 0.0, np.nan, np.inf], n)),
            "flag": some(rng.random(n) < 0.5),
        }
    )
    connection = duckdb.connect()
    connection.register("rows", table)
    asked = f"select array_agg(id order by id) a, count(*) c from rows group by {key} having count(*) > 3"
    expected = sorted((list(a), c) for a, c in connection.execute(asked).fetchall())
    found = told(
        f"select id as a, count(*) as c group by {key} having count(*) > 3", tql.open(table)
    )
    assert sorted(zip(found["a"], found["c"], strict=True)) == expected


# -- keys --------------------------------------------------------------------------------------


def test_null_and_nan_are_one_group_each_and_zeros_of_both_signs_are_one() -> None:
    x = pa.array([math.nan, None, 0.0, -0.0, math.nan, None, 1.0])
    assert told("select row_number() as n group by x", tql.open({"x": x}))["n"] == [
        [0, 4], [1, 5], [2, 3], [6],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.uint64(), pa.float64(), pa.float16(), pa.bool_(), pa.date32()]
)
def test_keys_are_compared_exactly(kind: pa.DataType) -> None:
    values: dict[pa.DataType, list[Any]] = {
        pa.int64(): [2**53, 2**53 + 1, -(2**63), 2**63 - 1],
        pa.uint64(): [2**63, 2**63 + 1, 2**64 - 1, 0],
        pa.float64(): [1.0, np.nextafter(1.0, 2), -math.inf, math.inf],
        pa.float16(): [0.5, 0.25, 2.0, -2.0],
        pa.bool_(): [True, False],
        pa.date32(): [0, 1, 365],
    }
    distinct = pa.array(values[kind], pa.int32()).cast(kind) if kind == pa.date32() else pa.array(
        [np.float16(v) for v in values[kind]] if kind == pa.float16() else values[kind], kind
    )  # fmt: skip
    column = pa.concat_arrays([distinct, distinct])
    n = len(distinct)
    found = told("select row_number() as n group by x", tql.open(pa.table({"x": column})))
    assert found["n"] == [[i, i + n] for i in range(n)]


def test_text_in_dictionaries_of_several_files_groups_by_the_text(tmp_path: Any) -> None:
    for name, words in (("1", ["b", "a", None]), ("2", ["a", "c", "b"])):
        column = pa.array(words).dictionary_encode().cast(pa.string())
        pq.write_table(pa.table({"t": column}), tmp_path / f"{name}.parquet")
    over = tql.open(str(tmp_path))
    assert told("select row_number() as n group by t", over)["n"] == [[0, 5], [1, 3], [2], [4]]


def test_a_key_may_be_an_expression_or_the_name_of_a_select_item() -> None:
    expected = [[0, 2, 4, 5, 6], [1, 3, 7]]
    assert told("select id group by frame % 2")["id"] == expected
    assert told("select frame % 2 as odd, id group by odd order by odd")["id"] == expected
    assert told("select id group by frame % 2 having frame % 2 == 1")["id"] == expected[1:]


def test_json_keys_are_compared_by_type_and_value() -> None:
    values = ['{"k": 1}', '{"k": 1.0}', '{"k": true}', '{"k": "1"}', '{"k": null}', "{}", None]
    column = pa.ExtensionArray.from_storage(pa.json_(), pa.array(values))
    over = tql.open(pa.table({"j": column}))
    found = told("select row_number() as n group by j['k']", over)
    assert found["n"] == [[0, 1], [2], [3], [4, 5, 6]]


def test_a_json_key_that_is_no_scalar_is_an_error_that_names_the_row() -> None:
    column = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"k": 1}', '{"k": [1]}']))
    over = tql.open(pa.table({"j": column}))
    with pytest.raises(tql.TqlDataError, match="j\\['k'\\] is an array in row 1") as e:
        over.query("select * group by j['k']")
    assert e.value.diagnostic.help


# -- what stands in a grouped query ------------------------------------------------------------


def test_every_column_is_the_sequence_of_the_groups_values() -> None:
    view = frames().query("select video, cam, v, tags group by video")
    assert str(view.schema) == (
        "Schema(video: sequence[int64], cam: sequence[text], v: sequence[list[float64]], "
        "tags: sequence[list[int64]])"
    )
    first = view.to_arrow().slice(0, 1).to_pydict()
    assert first == {
        "video": [[2, 2, 2]],
        "cam": [["b", "b", "a"]],
        "v": [[[0.0, 1.0], [1.0, 2.0], [4.0, 5.0]]],
        "tags": [[[], [0], [0, 1, 2, 3]]],  # members differ in shape
    }


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("having video > 1", [[0, 1, 4], [6, 7]]),
        ("having video > 1 and count(*) == 3", [[0, 1, 4]]),
        ("having not (video == 2 or count(*) == 2)", [[2, 3, 5]]),
        ("having video in (1, 3)", [[2, 3, 5], [6, 7]]),
        ("having label == 'dog'", [[6, 7]]),
        ("having contains(cam, 'a')", [[0, 1, 4], [2, 3, 5]]),
        ("having contains(frame + 1, 3)", [[0, 1, 4], [2, 3, 5]]),
        ("order by video", [[2, 3, 5], [0, 1, 4], [6, 7]]),
        ("order by count(*), video desc", [[6, 7], [0, 1, 4], [2, 3, 5]]),
        ("order by video desc limit 1 offset 1", [[0, 1, 4]]),
        ("order by video % 2, video", [[0, 1, 4], [2, 3, 5], [6, 7]]),
    ],
)
def test_clauses_after_group_by_act_on_groups(query: str, ids: list[list[int]]) -> None:
    by = "label" if "label" in query else "video"
    assert told(f"select id group by {by} {query}")["id"] == ids


def test_an_alias_wins_over_a_key_in_order_by_and_having() -> None:
    assert told("select id, count(*) as video group by video order by video limit 1")["id"] == [
        [6, 7]
    ]
    assert told("select id, count(*) as n group by video having n > 2 order by video")["id"] == [
        [2, 3, 5], [0, 1, 4],
    ]  # fmt: skip


def test_what_is_done_row_by_row_is_done_inside_the_sequences() -> None:
    found = told(
        "select frame + 1 as a, cam == 'a' as b, cam like 'a*' and frame > 1 as c, "
        "frame between 1 and 2 as d, tags is null as e, row_number() as f, 7 as g group by video"
    )
    assert {name: column[1] for name, column in found.items()} == {
        "a": [1, 2, 3], "b": [False, True, True], "c": [False, False, True],
        "d": [False, True, True], "e": [False] * 3, "f": [2, 3, 5], "g": 7,
    }  # fmt: skip


def test_a_row_that_an_earlier_term_rejects_never_raises() -> None:
    over = tql.open({"g": [1, 1, 2, 2], "x": [0, 1, 2, 3]})
    with pytest.raises(tql.TqlDataError, match="in row 0"):
        over.query("select x group by g having contains(10 % x, 0)")
    text = "select x group by g having g > 1 and contains(10 % x, 0)"
    assert told(text, over)["x"] == [[2, 3]]
    with pytest.raises(tql.TqlDataError, match="in row 0"):
        told("select 10 % x as y group by g having g < 2", over)
    assert told("select 10 % x as y group by g having g > 1", over)["y"] == [[0, 1]]


def test_where_comes_before_and_order_inside_groups_is_that_of_a_sorted_subquery() -> None:
    assert told("select id where frame > 0 group by video")["id"] == [[1, 4], [3, 5], [7]]
    text = "select id from (select * order by frame desc) group by video"
    assert told(text)["id"] == [[4, 1, 0], [5, 3, 2], [7, 6]]


def test_sampling_draws_groups() -> None:
    view = frames().query(
        "select id, count(*) as n group by video sample by max_weight(video == 3: 1) limit 5"
    )
    assert view.to_arrow().column("id").to_pylist() == [[6, 7]] * 5
    assert view.row_ids.tolist() == [2] * 5
    heavy = frames().query("select id group by video").sample_by([0, 1, 0], size=3)
    assert heavy.to_arrow().column("id").to_pylist() == [[2, 3, 5]] * 3


def test_random_is_one_number_per_group_and_fixed_by_the_seed() -> None:
    over = tql.open({"g": np.arange(100) % 50})
    rows = [over.query("select g group by g order by random()", seed=s).row_ids for s in (1, 1, 2)]
    assert rows[0].tolist() == rows[1].tolist() != rows[2].tolist()
    assert sorted(rows[0].tolist()) == list(range(50))


def test_set_operations_of_groups_are_over_group_numbers() -> None:
    both = (
        "(select id group by video having video > 1) {} "
        "(select id group by video having count(*) > 2 and contains(frame % 3, 2))"
    )
    assert told(both.format("intersect"))["id"] == [[0, 1, 4]]
    assert told(both.format("except"))["id"] == [[6, 7]]
    assert told(both.format("union"))["id"] == [[0, 1, 4], [2, 3, 5], [6, 7]]


def test_groups_of_groups_are_sequences_of_sequences() -> None:
    view = frames().query("select id, count(*) as n group by video").query("select id group by n")
    assert view.to_arrow().to_pydict() == {"id": [[[0, 1, 4], [2, 3, 5]], [[6, 7]]]}
    assert str(view.schema["id"].dtype) == "sequence[sequence[int64]]"


# -- ungrouping --------------------------------------------------------------------------------


def test_other_columns_repeat_and_positions_are_those_of_from() -> None:
    grouped = frames().query("select id, count(*) as n, video group by video")
    found = told("select id, n, row_number() as g ungroup by split", grouped)
    assert found == {
        "id": [0, 1, 4, 2, 3, 5, 6, 7], "n": [3] * 6 + [2] * 2, "g": [0] * 3 + [1] * 3 + [2] * 2,
    }  # fmt: skip


def test_groups_may_be_chosen_and_split_in_one_query() -> None:
    text = (
        "select id, row_number() as n group by video having count(*) > 2 ungroup by split "
        "order by id desc limit 3"
    )
    assert told(text) == {"id": [5, 4, 3], "n": [5, 4, 3]}
    assert frames().query(text).row_ids.tolist() == [5, 2, 4]  # rows of a new base


def test_sequences_of_different_lengths_are_an_error_that_names_the_row() -> None:
    lists = List(Float(64), grouped=True)
    made = pa.table(
        {"a": pa.array([[1.0], [2.0, 3.0]]), "b": pa.array([[1.0], [2.0]]), "c": pa.array([1, 2])}
    )
    metadata = {b"tql:sequence": b"1"}
    fields = [f.with_metadata(metadata) if f.name != "c" else f for f in made.schema]
    over = tql.open(made.cast(pa.schema(fields)))
    assert over.schema["a"].dtype == lists
    with pytest.raises(tql.TqlDataError, match="in row 1 a has 2 members, b has 1") as e:
        over.query("select a ungroup by split")
    assert e.value.diagnostic.code == "shape" and e.value.diagnostic.help
    assert told("select * from (select a, c) ungroup by split", over) == {
        "a": [1.0, 2.0, 3.0], "c": [1, 2, 2],
    }  # fmt: skip


def test_plain_lists_are_no_sequences() -> None:
    with pytest.raises(tql.TqlTypeError, match="no column here is one"):
        frames().query("select tags ungroup by split")


# -- what a result can be used for -------------------------------------------------------------


def test_an_empty_result_groups_and_splits_into_nothing() -> None:
    for text in (
        "select *, count(*) as n where id > 100 group by video having count(*) > 0 order by video",
        "select * where id > 100 group by video ungroup by split",
        "select * from (select * where id > 100 group by video) ungroup by split",
    ):
        view = frames().query(text)
        assert len(view) == 0 and view.to_arrow().num_rows == 0
        assert set(view.columns) >= {"id", "video", "cam", "tags"}


def test_a_result_is_a_new_base_whose_rows_are_numbered_from_zero() -> None:
    view = frames().query("select id group by video order by video")
    assert view.row_ids.tolist() == [1, 0, 2]
    inner = view.query("select * where contains(id, 4) or contains(id, 7)")
    assert inner.row_ids.tolist() == [0, 2]
    assert inner.take([2, 0]).to_pydict() == {"id": [[6, 7], [0, 1, 4]]}
    assert inner[1]["id"].tolist() == [6, 7]
    assert view[1:].query("select id limit 1").row_ids.tolist() == [0]
    assert view.fingerprint == frames().query("select id group by video order by video").fingerprint
    assert view.fingerprint != frames().query("select id group by video, cam").fingerprint


def test_what_is_exported_opens_with_the_same_types(tmp_path: Any) -> None:
    table = pa.table(
        {
            "g": [1, 2, 1],
            "image": pa.array([b"1", b"2", b"3"]),
            "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', None, "{}"])),
            "label": pa.array(["x", "y", "x"]).dictionary_encode(),
            "text": ["p", None, "q"],
        }
    )
    fields = [
        f.with_metadata({b"tql:image": b"true"}) if f.name == "image" else f for f in table.schema
    ]
    view = tql.open(table.cast(pa.schema(fields))).query("select * group by g")
    assert str(view.schema["label"].dtype) == "sequence[class_label[2]]"
    pq.write_table(view.to_arrow(), tmp_path / "groups.parquet")
    again = tql.open(str(tmp_path / "groups.parquet"))
    assert [c.dtype for c in again.schema] == [c.dtype for c in view.schema]
    assert again.to_arrow().to_pydict() == view.to_arrow().to_pydict()
    assert told("select text, label ungroup by split", again) == {
        "text": ["p", "q", None], "label": [0, 0, 1],
    }  # fmt: skip


def test_a_loader_carries_sequences_and_survives_pickling(tmp_path: Any) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(frames().to_arrow(), file, row_group_size=3)
    view = tql.open(str(file)).query("select id, cam, v group by video")
    batches = list(view.dataloader().batch(2).numpy())
    assert [b["index"].tolist() for b in batches] == [[0, 1], [2]]
    assert [i.tolist() for i in batches[0]["id"]] == [[0, 1, 4], [2, 3, 5]]
    assert batches[0]["cam"] == [["b", "b", "a"], ["b", "a", "a"]]
    assert batches[1]["v"][0].tolist() == [[6.0, 7.0], [7.0, 8.0]]
    mapped = pickle.loads(pickle.dumps(view.pytorch()))
    assert mapped[2]["id"].tolist() == [6, 7]
    shuffled = view.dataloader(seed=3).query("select * ungroup by split").shuffle().batch(8).numpy()
    (batch,) = shuffled
    assert sorted(batch["id"].tolist()) == list(range(8))
    assert batch["index"].tolist() != sorted(batch["index"].tolist())


class Asked(FragmentRows):
    """Fragments of a source, noting which rows of it were asked for, and which columns."""

    asked: ClassVar[list[tuple[list[int], list[str]]]] = []

    def take(self, rows: Any, columns: Sequence[str], run: Run = in_turn) -> pa.Table:
        Asked.asked.append((sorted(rows.tolist()), list(columns)))
        return super().take(rows, columns, run)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select tags group by video", [2, 3, 5]),
        ("select tags group by video ungroup by split", [1]),
        ("select tags from (select * group by video) ungroup by split", [1]),
    ],
)
def test_a_loader_reads_only_the_rows_of_what_it_drew(
    query: str, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of groups their members; of members these alone, not those beside them in the group."""
    monkeypatch.setattr("tql.view_rows.FragmentRows", Asked)
    monkeypatch.setattr(Asked, "asked", [])
    view = frames().query(query)
    view.rows().take(np.array([1]), ["tags"])
    assert Asked.asked == [(rows, ["tags"])]


def test_fragments_of_groups_cover_them_once_and_are_bounded() -> None:
    n = 3_000_000
    over = tql.open({"g": np.arange(n) % 5, "x": np.zeros(n, np.int8)})
    view = over.query("select x, count(*) as n group by g")
    source = view.source.parent
    assert isinstance(source, GroupedSource)
    spans = [(f.start, f.stop) for f in source.fragments]
    assert spans == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)] and len(view) == 5
    assert view.query("select n where n == 600000").row_ids.tolist() == [0, 1, 2, 3, 4]


def test_explain_speaks_of_groups() -> None:
    text = "select id, count(*) as n group by label having label == 'cat' sample by n limit 2"
    told_tree = str(frames().explain(text))
    assert "Group  by label" in told_tree and "Filter  label == 'cat'" in told_tree
    tree = json.loads(json.dumps(frames().explain(text, analyze=True).to_dict()))
    assert tree["plan"]["rows"] == 2


def test_views_keep_class_names_of_members() -> None:
    view: View = frames().query("select label group by video ungroup by split")
    assert view.schema["label"].dtype == frames().schema["label"].dtype
    assert isinstance(view.schema["label"].dtype, Label)
    assert frames().query("select cam group by video").schema["cam"].dtype == List(
        Text(), grouped=True
    )


# -- functions of groups -----------------------------------------------------------------------


def test_aggregates_of_groups_are_those_of_duckdb() -> None:
    rng = np.random.default_rng(12)
    n = 500
    table = pa.table(
        {
            "id": np.arange(n),
            "g": pa.array(rng.integers(0, 20, n), mask=rng.random(n) < 0.1),
            "whole": rng.integers(-100, 100, n),
            "real": rng.integers(-40, 40, n) / 4,
            "word": pa.array(rng.choice(np.array(["a", "b", "ab"], object), n)),
        }
    )
    connection = duckdb.connect()
    connection.register("rows", table)
    expected = connection.execute(
        "select first(id order by id), count(*), sum(whole), avg(real), min(whole + 1), max(real), "
        "bool_or(word like 'a%'), bool_and(whole > -90), sum((whole > 0)::int), sum(whole * real), "
        "list(whole order by id)[-1] "
        "from rows where id % 7 != 0 group by g having sum(whole) > -200 and count(*) > 3 order by 1"
    ).fetchall()
    found = told(
        "select id[0] as id, count(*) as n, sum(whole) as s, avg(real) as a, amin(whole + 1) as low, "
        "amax(real) as high, any(word like 'a*') as some, all(whole > -90) as every, "
        "sum(whole > 0) as above, dot(whole, real) as both, whole[-1] as last "
        "where id % 7 != 0 group by g having sum(whole) > -200 and count(*) > 3 order by id",
        tql.open(table),
    )
    assert list(zip(*found.values(), strict=True)) == [
        tuple(int(v) if name in ("s", "above") else v for name, v in zip(found, row, strict=True))
        for row in expected
    ]


def test_keys_are_whole_sequences_inside_array_functions_and_single_values_outside() -> None:
    assert told("select id group by video having sum(video) == 6") == {"id": [[0, 1, 4], [6, 7]]}
    assert told("select id group by video having shape(video)[0] == video") == {"id": []}
    assert told("select video[-1] as v group by video order by video[0] * -1") == {"v": [3, 2, 1]}
    assert told("select id group by video having any(frame == video)")["id"] == [
        [0, 1, 4],
        [2, 3, 5],
    ]


def test_functions_of_vectors_are_of_each_rows_vector_where_rows_have_one() -> None:
    found = told(
        "select dot(v, array[1.0, 0.0]) as d, dot(frame, id) as e, sum(v) as s group by video"
    )
    assert found == {
        "d": [[0.0, 1.0, 4.0], [2.0, 3.0, 5.0], [6.0, 7.0]], "e": [9, 13, 7],
        "s": [13.0, 23.0, 28.0],
    }  # fmt: skip


def test_sequences_of_a_view_are_computed_with_as_those_of_the_query_that_made_them() -> None:
    text = "sum(frame + id) as a, any(frame > 1) as b, frame[0] as c, contains(cam, 'a') as d"
    at_once = told(f"select {text} group by video")
    assert told(f"select {text}", frames().query("select * group by video")) == at_once
    assert told(f"select {text} from (select * group by video)") == at_once


def test_groups_of_a_join(tmp_path: Any) -> None:
    pq.write_table(frames().query("select id, video").to_arrow(), tmp_path / "frames.parquet")
    names = pa.table({"video": [1, 2], "name": ["one", "two"]})
    pq.write_table(names, tmp_path / "names.parquet")
    joined = f'from "{tmp_path}/frames.parquet" as f left join "{tmp_path}/names.parquet" as n on f.video == n.video'
    view = tql.query(f"select f.id, count(*) as rows {joined} group by n.name order by n.name desc")
    assert view.to_arrow().to_pydict() == {"id": [[0, 1, 4], [2, 3, 5], [6, 7]], "rows": [3, 3, 2]}
    assert tql.query(f"select distinct n.name {joined}").row_ids.tolist() == [0, 2, 6]
    clips = tql.query(f"select id, w {joined} where id == 6 expand by 1 as w")
    assert clips.to_arrow().to_pydict() == {"id": [5, 6, 7], "w": [0, 0, 0]}


def test_a_count_goes_through_ungroup_from_a_subquery_as_the_error_says() -> None:
    ds = tql.open({"id": [1, 2, 3], "x": ["a", "b", "a"]})
    view = ds.query("select id, n from (select *, count(*) as n group by x) ungroup by split")
    assert view.to_arrow().to_pydict() == {"id": [1, 3, 2], "n": [2, 2, 1]}
