"""UNION of different sources: the rows of one after those of the other, in common types."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.explain_data import Watched
from tests.profiles import examples
from tests.test_joins import COLUMNS, Table, answer, same, tables, values
from tql.engine import select
from tql.engine.stacked import StackedSource
from tql.language.common_types import common_type
from tql.schema import Binary, Bool, DType, Float, Int, Json, Label, List, Opaque, Text, Time
from tql.sources.opening import open_source

A = pa.table({"id": [0, 1, 2], "name": ["a", None, "c"], "x": pa.array([1, 2, 3], pa.int8())})
B = pa.table(
    {"x": [0.5, None, 2.5], "key": pa.array([7, 8, 1], pa.uint16()), "name": ["p", "q", "a"]}
)
BOTH = {"a": A, "b": B}


def rows(text: str, stored: Mapping[str, Any] = BOTH) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in values(answer(text, stored))]


UNITED = "select id, name, x from a union all select key as id, x, name from b"


def test_rows_stand_left_then_right_and_columns_by_name_in_the_lefts_order() -> None:
    expected = [
        (0, "a", 1.0),
        (1, None, 2.0),
        (2, "c", 3.0),
        (7, "p", 0.5),
        (8, "q", None),
        (1, "a", 2.5),
    ]
    assert rows(UNITED) == expected
    assert rows(UNITED.replace(" all", "")) == expected
    view = answer(UNITED, BOTH)
    assert [str(c) for c in view.schema] == ["id: int64", "name: text?", "x: float64?"]


def test_values_are_never_compared() -> None:
    assert rows("select id from a where id < 2 union select id + 0 as id from a") == [
        (0,), (1,), (0,), (1,), (2,)
    ]  # fmt: skip
    one = "select x from b where key > 5"
    assert rows(f"{one} union {one}") == [(0.5,), (None,)]  # one source: a set of its rows


@pytest.mark.parametrize("op", ["intersect", "except", "intersect all", "except all"])
def test_other_set_operations_of_different_sources_are_refused(op: str) -> None:
    with pytest.raises(tql.TqlUnsupportedError, match="different sources") as e:
        rows(f"select name from a {op} select name from b")
    assert e.value.diagnostic.help


def test_what_follows_applies_to_the_whole() -> None:
    assert rows(f"{UNITED} order by id desc limit 2 offset 1") == [(7, "p", 0.5), (2, "c", 3.0)]
    assert rows(f"{UNITED} limit 50 percent") == rows(UNITED)[:3]
    assert rows(f"({UNITED} limit 4) union (select id, name, x from a limit 1)")[3:] == [
        (7, "p", 0.5), (0, "a", 1.0)
    ]  # fmt: skip
    assert rows(f"select name, x from ({UNITED}) where x > 2 order by x") == [
        ("a", 2.5),
        ("c", 3.0),
    ]
    assert rows(f"select n, row_number() as r from (select name as n from ({UNITED})) where r > 3") == [
        ("q", 4), ("a", 5)
    ]  # fmt: skip
    nested = "(select name from a union select name from b) union (select name from b limit 1)"
    assert rows(nested) == [("a",), (None,), ("c",), ("p",), ("q",), ("a",), ("p",)]
    assert rows(f"select name, count(*) as n from ({nested}) group by name having name == 'a'") == [
        (["a", "a"], 2)
    ]  # fmt: skip


def test_one_united_source_has_set_operations_of_its_rows() -> None:
    source = f"select * from ({UNITED})"
    text = f"{source} where id < 2 {{}} {source} where x > 1"
    assert [r[0] for r in rows(text.format("union"))] == [0, 1, 2, 1]
    assert [r[0] for r in rows(text.format("intersect"))] == [1, 1]
    assert [r[0] for r in rows(text.format("except"))] == [0]


def test_joins_may_be_united_and_unions_joined() -> None:
    text = "select a.name from a join b on a.name == b.name union all select name from b"
    assert rows(text) == [("a",), ("p",), ("q",), ("a",)]
    text = f"select u.id, b.key from ({UNITED}) u join b on u.name == b.name"
    assert rows(text) == [(0, 1), (7, 7), (8, 8), (1, 1)]


@settings(max_examples=examples(100), deadline=None)
@given(tables(), tables(), st.data())
def test_any_rows_of_the_whole_are_those_of_the_branches(
    a: Table, b: Table, data: st.DataObject
) -> None:
    view = answer("select * from a union all select * from b", {"a": a.arrow, "b": b.arrow})
    expected = [*a.rows, *b.rows]
    picked = data.draw(
        st.lists(st.integers(0, max(0, len(expected) - 1)), max_size=20 * bool(expected))
    )
    names = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True))
    found = view.take(np.array(picked, np.int64), names).to_pydict()
    for name in names:
        wanted = [expected[n][name] for n in picked]
        if name in ("day", "at"):
            wanted = pa.array(wanted, a.arrow.schema.field(name).type).to_pylist()
        assert all(same(x, y) for x, y in zip(found[name], wanted, strict=True))
    assert [same(r["f64"], e["f64"]) for r, e in zip(values(view), expected, strict=True)].count(
        False
    ) == 0


# -- types -------------------------------------------------------------------------------------

CATS, DOGS = ("cat", "dog"), ("dog", "cat")
SAME = [
    (Int(8), Int(32), Int(32)),
    (Int(8), Int(8, False), Int(16)),
    (Int(64), Int(32, False), Int(64)),
    (Int(64, False), Int(8, False), Int(64, False)),
    (Int(64, False), Int(8), Int(64)),
    (Bool(), Int(16), Int(16)),
    (Bool(), Int(8, False), Int(8, False)),
    (Float(16), Float(32), Float(32)),
    (Int(8), Float(32), Float(64)),
    (Bool(), Float(16), Float(64)),
    (Label(CATS, Int(8)), Label(CATS, Int(32)), Label(CATS, Int(32))),
    (Text(), Text(), Text()),
    (Binary(image=True), Binary(), Binary()),
    (Binary(image=True), Binary(image=True), Binary(image=True)),
    (Time("s"), Time("us"), Time("us")),
    (Time("D", date=True), Time("ms", date=True), Time("ms", date=True)),
    (List(Int(8), 3), List(Int(32), 3), List(Int(32), 3)),
    (List(Int(8), 3), List(Float(32)), List(Float(64))),
    (List(Label(CATS)), List(Label(CATS), 2), List(Label(CATS))),
    (Json(), Json(), Json()),
    (Opaque("decimal128(9, 2)"), Opaque("decimal128(9, 2)"), Opaque("decimal128(9, 2)")),
]
DIFFERENT = [
    (Int(8), Text()), (Label(CATS), Label(DOGS)), (Label(CATS), Int(8)), (Label(CATS), Float(32)),
    (Time("s"), Time("s", "UTC")), (Time("s"), Time("D", date=True)), (Time("s"), Int(64)),
    (Binary(), Text()), (Json(), Text()), (List(Int(8)), Int(8)), (List(Int(8)), List(Text())),
    (List(Int(8), grouped=True), List(Int(8))), (Opaque("decimal128(9, 2)"), Opaque("decimal128(9, 3)")),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "both"), SAME, ids=str)
def test_the_common_type_of_two_types(a: DType, b: DType, both: DType) -> None:
    assert common_type(a, b) == common_type(b, a) == both


@pytest.mark.parametrize(("a", "b"), DIFFERENT, ids=str)
def test_types_of_different_kinds_have_none(a: DType, b: DType) -> None:
    assert common_type(a, b) is None
    assert common_type(b, a) is None


def test_values_are_written_in_the_common_type() -> None:
    left = pa.table({
        "b": [True, None], "u": pa.array([1, 2**63 - 1], pa.uint64()), "l": pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)),
        "t": pa.array([1, 2], pa.timestamp("s")), "d": pa.array([1, 2], pa.date32()), "s": ["x", None],
        "j": pa.array([{"a": 1}, None]), "i": [b"1", b"2"],
    })  # fmt: skip
    right = pa.table({
        "b": pa.array([-3, 4], pa.int16()), "u": pa.array([-1, None], pa.int8()), "l": [[0.5], []],
        "t": pa.array([1, None], pa.timestamp("ms")), "d": pa.array([86_400_000, None], pa.date64()),
        "s": pa.array(["y", "z"], pa.large_string()), "j": pa.array([{"b": "c"}, {"b": None}]), "i": [b"3", None],
    })  # fmt: skip
    stored = {"a": left, "b": right}
    view = answer("select * from a union select * from b", stored)
    found = view.take(np.array([2, 0, 3, 1]), view.schema.names).to_pydict()
    assert found["b"] == [-3, 1, 4, None]
    assert found["u"] == [-1, 1, None, 2**63 - 1]
    assert found["l"] == [[0.5], [1.0, 2.0], [], [3.0, 4.0]]
    seconds = [datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=s) for s in (0.001, 1, 2)]
    assert found["t"] == [seconds[0], seconds[1], None, seconds[2]]
    days = [datetime.date(1970, 1, 2), datetime.date(1970, 1, 3)]
    assert found["d"] == [days[0], days[0], None, days[1]]
    assert found["s"] == ["y", "x", "z", None]
    assert found["i"] == [b"3", b"1", None, b"2"]
    assert rows("select id from (select row_number() as id, j from a union select row_number() as id, j "
                "from b) where j['b'] == 'c' or j['a'] == 1", stored) == [(0,), (0,)]  # fmt: skip
    assert rows("select u from (select u from a union select u from b) where u > 5", stored) == [
        (2**63 - 1,)
    ]


def test_an_integer_that_does_not_fit_is_an_error_when_it_is_read() -> None:
    stored = {"a": pa.table({"x": pa.array([1, 2**63], pa.uint64())}), "b": pa.table({"x": [-1]})}
    with pytest.raises(tql.TqlDataError, match="uint64 does not fit in int64, in row 1") as e:
        rows("select x from a union select x from b", stored)
    assert e.value.diagnostic.code == "range" and e.value.diagnostic.help
    assert rows("select x from a where x < 5 union select x from b", stored) == [(1,), (-1,)]


@pytest.mark.parametrize("integers", [pa.int64(), pa.list_(pa.int64()), pa.uint64()])
def test_an_integer_that_floats_would_round_is_an_error_of_its_row(integers: pa.DataType) -> None:
    def column(*values: int) -> pa.Array:
        nested = pa.types.is_list(integers)
        return pa.array([None, *([[0, v] if nested else v for v in values])], integers)

    floats = pa.list_(pa.float64()) if pa.types.is_list(integers) else pa.float64()
    b = pa.table({"x": pa.array([None], floats)})
    text = "select x from b union select x from a"
    for fine in (2**53, 2**53 + 2, 2**62, 2**63 - 2**10, 3 * 2**60 // 4, 0):
        assert len(rows(text, {"a": pa.table({"x": column(1, fine)}), "b": b})) == 4
    for wrong in (2**53 + 1, 2**63 - 1, 2**63 - 2**9):
        with pytest.raises(tql.TqlDataError, match="in row 3") as e:
            rows(text, {"a": pa.table({"x": column(1, wrong)}), "b": b})
        d = e.value.diagnostic
        assert d.code == "range" and d.help
        assert d.message.startswith("column 'x' of query 2 of the union: a value of ")


def test_the_least_integer_is_a_float() -> None:
    stored = {"a": pa.table({"x": [-(2**63), -1]}), "b": pa.table({"x": [0.5]})}
    assert rows("select x from a union select x from b", stored) == [(-(2.0**63),), (-1.0,), (0.5,)]


def test_class_labels_stay_labels_where_the_names_are_the_same() -> None:
    stored = {
        "a": open_source(pa.table({"y": pa.array([0, 1], pa.int8())}), class_names={"y": CATS}),
        "b": open_source(pa.table({"y": pa.array([1, None], pa.int64())}), class_names={"y": CATS}),
        "c": open_source(pa.table({"y": [1, 0]}), class_names={"y": DOGS}),
    }
    text = "select y from a union select y from b"
    assert answer(text, stored).schema["y"].dtype == Label(CATS, Int(64))
    assert rows(f"select * from ({text}) where y == 'dog'", stored) == [(1,), (1,)]
    with pytest.raises(tql.TqlTypeError, match=r"class_label\[2\] on the left") as e:
        rows("select y from a union select y from c", stored)
    assert e.value.diagnostic.code == "schema"
    assert "class_names=" in str(e.value.diagnostic.help)
    assert rows("select y + 0 as y from a union select y + 0 as y from c", stored) == [
        (0,),
        (1,),
        (1,),
        (0,),
    ]


# -- as a data set -----------------------------------------------------------------------------


def test_the_rows_of_a_union_are_a_base_of_their_own(tmp_path: Path) -> None:
    pq.write_table(A, tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(B, tmp_path / "b.parquet")
    text = f'select id, name from "{tmp_path}/a.parquet" union select key as id, name from "{tmp_path}/b.parquet"'
    view = tql.query(f"({text}) order by id desc limit 4")
    assert view.row_ids.tolist() == [4, 3, 2, 1]
    assert view.to_arrow().to_pydict() == {"id": [8, 7, 2, 1], "name": ["q", "p", "c", None]}
    assert view.query("select * where name is null").row_ids.tolist() == [1]
    assert view.take([3, 1]).to_pydict() == {"id": [7, 1], "name": ["p", None]}
    drawn = tql.query(f"({text}) sample by 1 limit 30", seed=4)
    assert set(drawn.row_ids.tolist()) <= set(range(6)) and len(drawn) == 30
    batches = list(view.dataloader().batch(3).numpy())
    assert [b["index"].tolist() for b in batches] == [[4, 3, 2], [1]]
    assert [b["id"].tolist() for b in batches] == [[8, 7, 2], [1]]
    assert not tql.is_filter(text)
    assert tql.query(text).fingerprint == tql.query(text).fingerprint
    swapped = (
        f'select id from "{tmp_path}/a.parquet" union select key as id from "{tmp_path}/b.parquet"'
    )
    assert tql.query(swapped).fingerprint != tql.query(text).fingerprint


def test_no_column_is_read_that_the_query_does_not_name() -> None:
    left, right = Watched(open_source(A)), Watched(open_source(B))
    text = "select id, name from a where x > 1 union select key as id, name from b"
    view = answer(f"select name from ({text}) where id > 1", {"a": left, "b": right})
    assert isinstance(view.parent, StackedSource)
    assert left.columns_read == {"id", "x"}
    assert right.columns_read == {"key"}
    assert values(view) == [{"name": "c"}, {"name": "p"}, {"name": "q"}]


def test_an_empty_branch_is_no_rows() -> None:
    empty = {"a": A, "b": B.slice(0, 0)}
    assert rows(UNITED, empty) == rows(UNITED)[:3]
    nothing = {"a": A.slice(0, 0), "b": B.slice(0, 0)}
    assert rows(UNITED, nothing) == []
    assert rows(f"select x from ({UNITED}) where x > 1", nothing) == []


@pytest.mark.parametrize("explained", [False, True])
def test_filters_of_a_long_chain_are_evaluated_many_in_a_pass(
    explained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []

    def counting(scan: Any) -> Any:
        def counted(source: Any, conditions: Any, *rest: Any) -> Any:
            passes.append(len(conditions))
            return scan(source, conditions, *rest)

        return counted

    monkeypatch.setattr(select, "scan", counting(select.scan))  # what explain runs
    monkeypatch.setattr(select, "rows_where", counting(select.rows_where))
    ds = tql.open({"id": np.arange(1_000)})
    text = " union ".join(f"select * where id == {7 * i}" for i in range(130))
    if explained:
        assert ds.explain(text).root.rows == 130
    else:
        assert ds.query(text).row_ids.tolist() == list(range(0, 910, 7))
    assert passes == [64, 64, 2]


def test_a_stack_of_many_is_one_source_that_names_its_branches() -> None:
    text = " union all ".join(["select x from a", "select x + 0.5 as x from b", "select x from b"])
    view = answer(text, BOTH)
    found = [row["x"] for row in values(view)]
    assert found == [1, 2, 3, 1.0, None, 3.0, 0.5, None, 2.5]
    large = {"u": pa.table({"x": pa.array([2**63], pa.uint64())}), "i": pa.table({"x": [1]})}
    floats = {"f": pa.table({"x": [0.5]})}
    chain = "select x from i union select x * 2 as x from i union select x from u"
    for more in ("", " union select x from f"):  # an integer first, whatever it becomes later
        with pytest.raises(tql.TqlError, match=r"column 'x' of query 3 of the union") as e:
            values(answer(chain + more, large | floats))
        assert e.value.diagnostic.code == "range"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=2, max_size=6))
def test_a_stack_grows_as_if_by_pairs_in_subqueries(parts: list[tuple[str, bool]]) -> None:
    stored = dict(BOTH) | {"c": pa.table({"x": pa.array([9], pa.int64()), "name": ["z"]})}
    selects = [f"select name, x + 0 as x from {name}" for name, _ in parts]
    flat = pairs = selects[0]
    for select_, (_, every) in zip(selects[1:], parts[1:], strict=True):
        op = "union all" if every else "union"
        flat = f"{flat} {op} {select_}"
        # A subquery is another source, so nothing is one set of rows.
        pairs = f"select * from ({pairs}) union all select * from ({select_})"
    if len({name for name, _ in parts}) == len(parts):
        assert same(values(answer(flat, stored)), values(answer(pairs, stored)))
        assert answer(flat, stored).schema == answer(pairs, stored).schema
