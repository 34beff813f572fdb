"""JSON in queries (reference §10): against plain Python over random trees; structs; errors."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.profiles import examples
from tql.schema import Json

KEYS: Final = ("a", "b", "a b", "é", "")
SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 10**30]),
    st.sampled_from([0.0, -0.0, 0.1, 0.5, 1.0, 2.0**53, 1e300]),
    st.sampled_from(["", "a", "A", "b", "é", "日本", "a*b", "it's", '"\\']),
)
TREES: Final = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS: Final = st.one_of(st.none(), st.dictionaries(st.sampled_from(KEYS), TREES, max_size=4))
PATHS: Final = st.lists(
    st.one_of(st.sampled_from(KEYS), st.integers(-2, 2)), min_size=1, max_size=3
)
LITERALS: Final = (
    True,
    False,
    0,
    1,
    2**53,
    2**53 + 1,
    -(2**63),
    0.5,
    0.1,
    1.0,
    "",
    "a",
    "é",
    "it's",
)


def opened(values: list[Any], cuts: int = 0) -> tql.Dataset:
    """One column `m` of JSON text, and `id`; in several chunks where `cuts` says so."""
    texts = pa.array([None if v is None else json.dumps(v) for v in values], pa.string())
    made = pa.table({"m": pa.ExtensionArray.from_storage(pa.json_(), texts)})
    made = made.append_column("id", pa.array(range(len(values)), pa.int64()))
    if cuts:
        made = pa.concat_tables([made.slice(0, cuts), made.slice(cuts)])
    return tql.open(made)


def rows(ds: tql.Dataset, condition: str, params: Any = None) -> list[int]:
    ids: list[int] = ds.query(f"select * where {condition}", params).row_ids.tolist()
    return ids


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def path_text(path: Sequence[str | int]) -> str:
    return "m" + "".join(f"[{written(k)}]" for k in path)


# -- the oracle: what the reference says, in plain Python --------------------------------------


def follow(value: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        if (isinstance(value, dict) and isinstance(key, str) and key in value) or (
            isinstance(value, list) and isinstance(key, int) and abs(key + 0.5) < len(value)
        ):
            value = cast(Any, value)[key]
        else:
            return None
    return value


def type_of(value: Any) -> str:
    for name, kinds in (("bool", bool), ("number", (int, float)), ("text", str), ("object", dict)):
        if isinstance(value, kinds):  # type: ignore[arg-type]
            return name
    return "array" if isinstance(value, list) else "null"


def canonical(value: Any) -> Any:
    """Equal exactly when the JSON values are."""
    match value:
        case dict():
            return ("object", tuple(sorted((k, canonical(v)) for k, v in value.items())))
        case list():
            return ("array", tuple(map(canonical, value)))
        case _:
            return (type_of(value), "" if value is None else value)


def compared(op: str, a: Any, b: Any) -> bool | None:
    if a is None or b is None:
        return None
    if op in ("==", "!="):
        return (canonical(a) == canonical(b)) is (op == "==")
    if type_of(a) != type_of(b) or type_of(a) in ("object", "array"):
        return None
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]


Case = tuple[str, Callable[[Any], bool | None]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A condition, and what it is for a row's value."""
    path = draw(PATHS)
    x = path_text(path)
    literal = draw(st.sampled_from(LITERALS))
    several = draw(st.lists(st.sampled_from(LITERALS), min_size=1, max_size=4))
    op = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
    match draw(st.integers(0, 8)):
        case 0:
            return f"{x} {op} {written(literal)}", lambda v: compared(op, follow(v, path), literal)
        case 1:
            return f"{written(literal)} {op} {x}", lambda v: compared(op, literal, follow(v, path))
        case 2:
            other = draw(PATHS)
            return (
                f"{x} {op} {path_text(other)}",
                lambda v: compared(op, follow(v, path), follow(v, other)),
            )
        case 3:
            listed = ", ".join(map(written, several))
            return (
                f"{x} in ({listed})",
                lambda v: (
                    None
                    if follow(v, path) is None
                    else any(compared("==", follow(v, path), s) for s in several)
                ),
            )
        case 4:
            return f"{x} is null", lambda v: follow(v, path) is None
        case 5:
            return (
                x,
                lambda v: (
                    bool(follow(v, path))
                    if type_of(follow(v, path)) in ("bool", "number")
                    else None
                ),
            )
        case 6:
            return f"contains({x}, {written(literal)})", lambda v: within(follow(v, path), literal)
        case 7:
            return (
                f"contains(keys({x}), 'a')",
                lambda v: "a" in follow(v, path) if isinstance(follow(v, path), dict) else None,
            )
        case _:
            return (
                f"{x} + 1 > 1.5",
                lambda v: (
                    follow(v, path) + 1.0 > 1.5 if type_of(follow(v, path)) == "number" else None
                ),
            )


def within(haystack: Any, needle: Any) -> bool | None:
    match haystack:
        case None:
            return None
        case list():
            return any(canonical(v) == canonical(needle) for v in haystack)
        case str() | dict():
            return isinstance(needle, str) and needle in haystack
        case _:
            return canonical(haystack) == canonical(needle)


@settings(max_examples=examples(60, 5000))
@given(st.lists(OBJECTS, min_size=1, max_size=8), st.lists(cases(), min_size=1, max_size=6))
def test_conditions_mean_what_plain_python_says(values: list[Any], chosen: list[Case]) -> None:
    ds = opened(values, cuts=len(values) // 2)
    for condition, meaning in chosen:
        expected = [meaning(v) for v in values]
        assert rows(ds, condition) == [i for i, e in enumerate(expected) if e is True], condition
        negated = rows(ds, f"not ({condition})")
        assert negated == [i for i, e in enumerate(expected) if e is False], condition


@given(st.lists(OBJECTS, min_size=1, max_size=8), PATHS, st.booleans())
def test_order_by_puts_bools_before_numbers_before_text_and_the_rest_last(
    values: list[Any], path: Sequence[str | int], descending: bool
) -> None:
    order = ("bool", "number", "text")
    found = [follow(v, path) for v in values]
    placed = [i for i, v in enumerate(found) if type_of(v) in order]
    others = [i for i, v in enumerate(found) if type_of(v) not in order]
    if descending:
        placed.reverse()  # and back, so that ties keep their order
    placed.sort(key=lambda i: (order.index(type_of(found[i])), found[i]), reverse=descending)
    if descending:
        placed = _ties_restored(placed, found)
    text = f"select * order by {path_text(path)} {'desc' if descending else ''}"
    assert opened(values).query(text).row_ids.tolist() == placed + others


def _ties_restored(ids: list[int], found: list[Any]) -> list[int]:
    result: list[int] = []
    for i in ids:
        at = len(result)
        while at and canonical(found[result[at - 1]]) == canonical(found[i]) and result[at - 1] > i:
            at -= 1
        result.insert(at, i)
    return result


@given(st.lists(OBJECTS, min_size=1, max_size=8), PATHS)
def test_a_selected_value_is_json_and_opens_again(
    values: list[Any], path: Sequence[str | int]
) -> None:
    view = opened(values).query(f"select {path_text(path)} as x, keys(m) as k")
    table = view.to_arrow()
    assert table.schema.field("x").type == pa.json_()
    texts = table.column("x").to_pylist()
    found = [None if t is None else json.loads(t) for t in texts]
    assert list(map(canonical, found)) == [canonical(follow(v, path)) for v in values]
    keys = [sorted(v) if isinstance(v, dict) else None for v in values]
    assert table.column("k").to_pylist() == keys
    again = tql.open(table)
    assert isinstance(again.schema["x"].dtype, Json)
    assert again.to_arrow().column("x").to_pylist() == texts


# -- structs -----------------------------------------------------------------------------------

STRUCT: Final = pa.struct(
    [
        ("i", pa.int64()), ("u", pa.uint64()), ("b", pa.bool_()), ("s", pa.string()), ("x", pa.float64()),
        ("l", pa.list_(pa.int32())), ("n", pa.struct([("k", pa.int8()), ("t", pa.large_string())])),
    ]
)  # fmt: skip
STRUCT_ROWS: Final = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "i": st.sampled_from([None, 0, 1, 2**53 + 1, -(2**63)]),
            "u": st.sampled_from([None, 0, 2**64 - 1]),
            "b": st.sampled_from([None, True, False]),
            "s": st.sampled_from([None, "", "a", "é"]),
            "x": st.sampled_from([None, 0.0, 0.1, 1.0, 2.0**53]),
            "l": st.sampled_from([None, [], [1], [0, None, 2]]),
            "n": st.sampled_from([None, {"k": 1, "t": "a"}, {"k": None, "t": None}]),
        }
    ),
)
STRUCT_PATHS: Final = (
    ["i"], ["u"], ["b"], ["s"], ["x"], ["l"], ["l", 0], ["l", -1], ["n"], ["n", "k"], ["n", "t"],
    ["nosuch"], ["n", "nosuch", 1], ["i", "k"], [0],
)  # fmt: skip


@settings(max_examples=examples(30, 1000))
@given(
    st.lists(STRUCT_ROWS, min_size=1, max_size=8), st.data(), st.integers(0, 3), st.integers(0, 8)
)
def test_a_struct_answers_as_the_same_json_text_does(
    values: list[Any], data: st.DataObject, start: int, cut: int
) -> None:
    """Slices and chunks of struct arrays, by the children as they lie in Arrow."""
    array = pa.array([None] * start + values, STRUCT).slice(start)
    chunks = pa.chunked_array([array.slice(0, cut), array.slice(cut)], STRUCT)
    structs, texts = tql.open(pa.table({"m": chunks})), opened(values)
    paths = st.sampled_from(STRUCT_PATHS)
    x, y = path_text(data.draw(paths)), path_text(data.draw(paths))
    literal = written(data.draw(st.sampled_from(LITERALS)))
    for condition in (
        f"{x} == {literal}", f"{x} != {literal}", f"{x} < {literal}", f"{x} >= {y}", f"{x} == {y}",
        f"{x} in ({literal}, 1, 'a', true)", f"{x} is null", x, f"not {x}", f"{x} * 2 > 0",
        f"{x} like '*a*'", f"contains({x}, {literal})", f"contains(keys({x}), 'k')",
    ):  # fmt: skip
        assert rows(structs, condition) == rows(texts, condition), condition
    for key in (x, f"{x} desc"):
        text = f"select * order by {key}"
        assert structs.query(text).row_ids.tolist() == texts.query(text).row_ids.tolist()
    selected = f"select {x} as v"
    parsed = [
        [
            None if v is None else json.loads(v)
            for v in ds.query(selected).to_arrow()["v"].to_pylist()
        ]
        for ds in (structs, texts)
    ]
    assert list(map(canonical, parsed[0])) == list(map(canonical, parsed[1]))


def test_members_that_json_has_no_type_for_read_as_json_would_write_them() -> None:
    from datetime import UTC, date, datetime
    from decimal import Decimal

    kinds = [
        ("f", pa.float32()), ("h", pa.float16()), ("d", pa.date32()), ("t", pa.timestamp("us", "UTC")),
        ("c", pa.decimal128(5, 2)), ("m", pa.map_(pa.string(), pa.int64())), ("x", pa.float64()),
    ]  # fmt: skip
    row = {
        "f": 0.1, "h": 0.5, "d": date(2024, 5, 1), "t": datetime(2024, 5, 1, 12, tzinfo=UTC),
        "c": Decimal("1.50"), "m": [("k", 7)], "x": math.nan,
    }  # fmt: skip
    ds = tql.open(pa.table({"m": pa.array([row, None], pa.struct(kinds))}))
    for condition in (
        "m['f'] == 0.1", "m['h'] == 0.5", "m['d'] == '2024-05-01'", "m['c'] == 1.5",
        "m['t'] == '2024-05-01T12:00:00+00:00'", "m['m']['k'] == 7", "m['x'] != m['x']", "m['x']",
    ):  # fmt: skip
        assert rows(ds, condition) == [0], condition
    assert rows(ds, "not m['x'] == 1") == [0]
    nested = tql.open(pa.table({"m": pa.array([{"n": row}], pa.struct([("n", pa.struct(kinds))]))}))
    (text,) = nested.query("select m['n'] as n").to_arrow()["n"].to_pylist()
    assert json.loads(text) == {
        "f": 0.1, "h": 0.5, "d": "2024-05-01", "t": "2024-05-01T12:00:00+00:00", "c": 1.5,
        "m": {"k": 7}, "x": None,
    }  # fmt: skip
    binary = tql.open(pa.table({"m": [{"b": b"x", "i": 1}]}))
    assert rows(binary, "m['i'] == 1") == [0]
    with pytest.raises(tql.TqlUnsupportedError, match="nothing like the binary"):
        rows(binary, "m['b'] is null")


def test_a_path_into_a_struct_makes_no_dictionaries(monkeypatch: pytest.MonkeyPatch) -> None:
    from tql.engine import json_values

    ds = tql.open(pa.table({"m": [{"i": 1, "n": {"s": "a"}}, {"i": 2, "n": {"s": "b"}}]}))
    monkeypatch.setattr(json_values, "objects", None)
    assert rows(
        ds, "m['i'] > 1 and m['n']['s'] == 'b' and m['i'] + 1 == 3 and m['n']['s'] like 'b'"
    ) == [1]


# -- rules by example --------------------------------------------------------------------------


def test_numbers_compare_exactly_and_arithmetic_is_float64() -> None:
    ds = opened([{"k": 2**53}, {"k": 2**53 + 1}, {"k": 2.0**53}, {"k": True}, {"k": "1"}, {}])
    assert rows(ds, "m['k'] == 9007199254740993") == [1]
    assert rows(ds, "m['k'] == 9007199254740992") == [0, 2]
    assert rows(ds, "m['k'] in (9007199254740993, 'x', '1')") == [1, 4]
    assert rows(ds, "m['k'] not in (9007199254740993)") == [0, 2, 3, 4]
    assert rows(ds, "9007199254740993 in (id, m['k'])") == [1]
    view = ds.query("select m['k'] + 0 as a, -m['k'] as b, abs(m['k']) as c")
    assert [str(c.dtype) for c in view.schema] == ["float64"] * 3
    assert view.to_arrow()["a"].to_pylist() == [2.0**53, 2.0**53, 2.0**53, None, None, None]
    assert view.to_arrow()["b"].to_pylist() == [-(2.0**53)] * 3 + [None] * 3
    assert rows(ds, "m['k'] between 1 and 9007199254740992") == [0, 2]


def test_like_looks_at_json_text_and_a_number_is_null_to_it() -> None:
    ds = opened([{"k": "Ann"}, {"k": "bob"}, {"k": 5}, {"k": ["Ann"]}, {}])
    assert rows(ds, "m['k'] like 'A*'") == [0]
    assert rows(ds, "m['k'] ilike 'a*'") == [0]
    assert rows(ds, "m['k'] not like 'A*'") == [1]
    assert rows(ds, "'Ann' like m['k']") == [0]


def test_keys_and_positions_may_be_expressions() -> None:
    ds = opened([{"a": 1, "l": [7, 8]}, {"a": 0, "l": [9]}, {"a": 2, "l": []}])
    found = ds.query("select m['l'][id] as x, m['l'][0 - 1] as y").to_arrow()
    assert found["x"].to_pylist() == ["7", None, None]
    assert found["y"].to_pylist() == ["8", "9", None]


def test_arrays_beside_json_are_compared_by_element() -> None:
    table = pa.table({"tags": [[1, 2], [2, 3]], "m": [{"k": 2}, {"k": 3}], "id": [0, 1]})
    ds = tql.open(table)
    assert ds.query("select tags == m['k'] as x").to_arrow()["x"].to_pylist() == [
        [False, True], [False, True]
    ]  # fmt: skip
    assert rows(ds, "contains(tags, m['k'])") == [0, 1]
    assert rows(ds, "contains(keys(m), 'k') and contains(m, 'k')") == [0, 1]


def test_views_and_subqueries_of_json_values_keep_their_rules() -> None:
    ds = opened([{"k": 3, "n": {"x": 1}}, {"k": "3", "n": {"x": 2}}, {}])
    text = "select * from (select id, m['k'] as k, m['n'] as n where id < 9) where k == 3"
    assert ds.query(text).row_ids.tolist() == [0]
    view = ds.query("select m['k'] as k, m['n'] as n")
    assert view.query("select * where k == '3' or n['x'] == 1").row_ids.tolist() == [0, 1]
    deeper = view[1:].query("select n['x'] as x").query("select * where x == 2")
    assert deeper.row_ids.tolist() == [1]
    assert [b["k"] for b in view.batches(3)] == [[3, "3", None]]


def test_json_weighs_and_orders() -> None:
    ds = opened([{"w": 0}, {"w": 2.5}, {"w": 0}])
    assert set(ds.query("select * sample by m['w'] limit 20").row_ids.tolist()) == {1}
    assert set(ds.query("select * sample by max_weight(m['w'] > 1: m['w']) limit 9").row_ids) == {1}
    with pytest.raises(tql.TqlDataError, match="row 1 is NULL"):
        opened([{"w": 1}, {"w": "x"}]).query("select * sample by m['w']")


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("m == 'x'", "cannot compare a whole JSON object with text"),
        ("m", "a condition needs one value per row"),
        ("m + 1 > 2", "arithmetic needs one value per row"),
        ("m in (1, 2)", "IN needs one value per row"),
        ("m between 1 and 2", "cannot compare a whole JSON object with int64"),
        ("m[1.5] is null", "text or a whole number, not float64"),
        ("m['a'][0:1] is null", "no slices"),
        ("m['a'] == t", "cannot compare json with timestamp"),
        ("sqrt(m) > 1", "arithmetic needs one value per row"),
        ("keys(t) is null", "keys() needs a JSON value, not timestamp"),
    ],
)
def test_mistakes_are_type_errors_with_a_way_out(condition: str, message: str) -> None:
    ds = tql.open(pa.table({"m": [{"a": 1}], "t": pa.array([0], pa.timestamp("s"))}))
    with pytest.raises(tql.TqlTypeError) as e:
        rows(ds, condition)
    assert message in e.value.diagnostic.message
    assert e.value.diagnostic.help


def test_order_by_a_whole_column_is_a_type_error() -> None:
    with pytest.raises(tql.TqlTypeError, match="ORDER BY needs one value per row"):
        opened([{}]).query("select * order by m")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ('{"k": NaN}', "NaN is not a JSON value"),
        ('{"k": -Infinity}', "-Infinity is not a JSON value"),
        ('{"k": 1e400}', "1e400 is beyond float64"),
        ('{"j": [-1.5e999]}', "-1.5e999 is beyond float64"),
        ('{"k": ' + "9" * 400 + ".5}", "9" * 24 + "… is beyond float64"),
        ('{"k": 1, "j": 2, "k": 3}', "the key 'k' stands twice in one object"),
        ('{"k": "\\ud800"}', "half of a surrogate pair"),
        ("[" * 100_000, "it nests too deep"),
    ],
)
def test_text_that_is_not_json_is_an_error_of_its_row(text: str, reason: str) -> None:
    texts = pa.array(['{"k": 1}', text, "null"], pa.string())
    table = pa.table({"m": pa.ExtensionArray.from_storage(pa.json_(), texts), "id": [0, 1, 2]})
    ds = tql.open(table)
    for query in ("select * where m['k'] == 1", "select * where m is null"):
        with pytest.raises(tql.TqlDataError) as e:
            ds.query(query)
        assert e.value.diagnostic.code == "value"
        assert f"the text of 'm' is not JSON ({reason}" in e.value.diagnostic.message
        assert e.value.diagnostic.message.endswith("in row 1")
        assert e.value.diagnostic.help
    assert rows(ds, "id != 1 and m['k'] == 1") == [0]
    assert rows(ds, "id != 1 and m is null") == [2]
    assert len(ds.query("select *").to_arrow()) == 3  # carried as it is


def test_lists_of_structs_are_looked_through(tmp_path: Any) -> None:
    ds = tql.open(pa.table({"l": [[{"k": 1}, {"k": 2}], [], None]}))
    assert rows(ds, "l is null") == [2]
    assert ds.query("select l as x").to_arrow()["x"].to_pylist() == [[{"k": 1}, {"k": 2}], [], None]


@settings(max_examples=examples(20, 1000))
@given(st.lists(TREES, min_size=1, max_size=5))
def test_values_of_json_columns_that_are_no_objects_can_be_read(values: list[Any]) -> None:
    """A column of plain JSON values: LIKE, contains() and IS NULL take it as it is."""
    ds = opened(values)
    assert rows(ds, "m is null") == [i for i, v in enumerate(values) if v is None]
    assert rows(ds, "m like 'a*'") == [
        i for i, v in enumerate(values) if isinstance(v, str) and v.startswith("a")
    ]
    assert rows(ds, "contains(m, 1)") == [i for i, v in enumerate(values) if within(v, 1)]


def test_json_values_unite_group_and_are_distinct() -> None:
    ds = opened([{"k": 1}, {"k": True}, {"k": "1"}, {"k": 1.0}, {}, {"k": None}])
    text = "select m['k'] as k, count(*) as n group by m['k']"
    assert ds.query(text).to_arrow()["n"].to_pylist() == [2, 1, 1, 2]
    assert len(ds.query("select distinct m['k'] as k")) == 4
    united = ds.query("(select m['k'] as x) union all (select m as x)")
    assert united.to_arrow()["x"].to_pylist()[:2] == ["1", "true"]
    assert len(united.query("select * where x == 1")) == 2


@pytest.mark.parametrize("text", ["NaN", "1e400"])
def test_text_inside_a_struct_that_is_not_json_is_an_error(text: str) -> None:
    member = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1", text]))
    ds = tql.open(pa.table({"m": pa.StructArray.from_arrays([member], ["k"])}))
    with pytest.raises(tql.TqlDataError, match=f"inside a struct is not JSON.*{text}"):
        ds.query("select * where m['k'] == 1")
