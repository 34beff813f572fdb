"""Array literals, lists as parameters, and operators by element, against NumPy row by row."""

import operator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests import array_oracle as oracle
from tests.array_oracle import LAYOUTS, cells, rows, stored
from tests.profiles import examples
from tests.test_array_functions import check, evaluate
from tql.grammar.parser import parse
from tql.language.bind import bind
from tql.language.expr import can_raise

COMPARISONS: Final = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@settings(max_examples=examples(400))
@given(st.data(), st.sampled_from(sorted(COMPARISONS)))
def test_comparisons_broadcast_within_each_row(data: st.DataObject, op: str) -> None:
    layouts = [data.draw(st.sampled_from(sorted(LAYOUTS))) for _ in range(2)]
    kinds = [data.draw(st.sampled_from(["i32", "i64", "f32", "f64", "u8"])) for _ in range(2)]
    drawn = [data.draw(rows(k, layout, most=2)) for k, layout in zip(kinds, layouts)]
    count = min(map(len, drawn))
    a, b = (v[:count] for v in drawn)
    columns = {
        "a": stored(a, kinds[0], layouts[0], data.draw(st.integers(0, 2)), data.draw(st.integers(0, 5))),
        "b": stored(b, kinds[1], layouts[1], 1, 1),
    }  # fmt: skip

    def row(x: Any, y: Any) -> Any:
        return oracle.by_element(COMPARISONS[op], x, y)

    if oracle.never_fit(*layouts):  # an error of the types, also where every row is NULL
        with pytest.raises(tql.TqlTypeError, match="do not fit each other"):
            evaluate(columns, f"a {op} b")
        return
    check(columns, f"a {op} b", row, cells(a, layouts[0]), cells(b, layouts[1]))


@settings(max_examples=examples(200))
@given(st.data(), st.sampled_from(["+", "-", "*"]))
def test_arithmetic_broadcasts_scalars_and_literals(data: st.DataObject, op: str) -> None:
    layout = data.draw(st.sampled_from(["list", "three", "boxes", "clips"]))
    values = data.draw(rows("i32", layout))
    scalars = data.draw(st.lists(st.none() | st.integers(-9, 9), min_size=5, max_size=5))[
        : len(values)
    ]
    compute = {"+": operator.add, "-": operator.sub, "*": operator.mul}[op]
    columns = {"a": stored(values, "i32", layout, 1, 2), "s": pa.array(scalars, pa.int8())}
    arrays = cells(values, layout)
    check(columns, f"a {op} s", lambda x, s: oracle.by_element(compute, x, s), arrays, scalars)
    check(columns, f"s {op} a", lambda x, s: oracle.by_element(compute, s, x), arrays, scalars)
    literal = np.array([7], object)
    check(columns, f"a {op} array[7]", lambda x: oracle.by_element(compute, x, literal), arrays)
    check(columns, f"-a {op} 2", lambda x: oracle.by_element(lambda v: compute(-v, 2), x), arrays)


@settings(max_examples=examples(200))
@given(st.data())
def test_logic_by_element_is_three_valued(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(["list", "boxes", "three"]))
    values = data.draw(rows("i32", layout))

    def row(x: Any) -> Any:
        if x is None:
            return None
        left = oracle.by_element(lambda v: v > 0, x)
        right = oracle.by_element(lambda v: v < 3, x)
        both = oracle.logical(oracle.three_valued_and, left, right)
        return oracle.by_element(lambda v: not v, both)

    columns = {"a": stored(values, "i32", layout, 1, 2)}
    check(columns, "not (a > 0 and a < 3)", row, cells(values, layout))


# -- literals and parameters -------------------------------------------------------------------

ONE: Final = {"id": [0], "t": pa.array([[1, 2, 3]], pa.list_(pa.int32())),
              "f": pa.array([[0.1, 0.5]], pa.list_(pa.float32(), 2)),
              "u": pa.array([[2**63, 1]], pa.list_(pa.uint64()))}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value", "dtype"),
    [
        ("array[1, 2]", [1, 2], pa.int64()),
        ("array[1, 2.5]", [1.0, 2.5], pa.float64()),
        ("array[1 + 1, -3]", [2, -3], pa.int64()),
        ("array[18446744073709551615, 1]", [2**64 - 1, 1], pa.uint64()),
        ("array[true, false]", [True, False], pa.bool_()),
        ("array['a', 'it''s']", ["a", "it's"], pa.string()),
        ("array[16777217]", [16777217], pa.int64()),
        ("array[sqrt(4), abs(-1)]", [2.0, 1.0], pa.float64()),
    ],
)
def test_a_literal_holds_what_is_written(text: str, value: list[Any], dtype: pa.DataType) -> None:
    table = tql.open(pa.table(ONE)).query(f"select {text} as a").to_arrow()
    assert table.column("a").to_pylist() == [value]
    assert table.schema.field("a").type == pa.list_(dtype, len(value))


def test_nested_literals_are_arrays_of_more_dimensions() -> None:
    assert evaluate(ONE, "array[array[1, 2], array[3, 4.5]]") == [[[1.0, 2.0], [3.0, 4.5]]]
    assert evaluate(ONE, "shape(array[array[array[1], array[2]]])") == [[1, 2, 1]]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ([1, 2], [1, 2]), ((1, 2.5), [1.0, 2.5]), (np.array([1, 2], np.uint8), [1, 2]),
        (np.array([0.5, 2], np.float32), [0.5, 2.0]), (np.array(["a", "b"]), ["a", "b"]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]), (np.ones((2, 1, 2), bool), [[[True, True]]] * 2),
        ([np.array([1, 2]), [3.5, 4]], [[1.0, 2.0], [3.5, 4.0]]), (np.array([2**63], np.uint64), [2**63]),
        (np.zeros((0, 3)), []), ([np.int8(1), np.int8(2)], [1, 2]),
    ],
)  # fmt: skip
def test_a_parameter_may_be_an_array_of_any_rank(given: Any, value: Any) -> None:
    assert evaluate(ONE, "?", [given]) == [value]
    assert evaluate(ONE, "$a", {"a": given}) == [value]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ([[1], [1, 2]], "shape"), ([1, [2]], "shape"), ([1, "a"], "type"), ([1, True], "type"),
        ([1, None], "parameter"), ([-1, 2**63], "range"), ({1, 2}, "parameter"), ([], "parameter"),
        ([b"x"], "type"), (np.array([1j]), "type"), ([2**64], "range"),
    ],
)  # fmt: skip
def test_a_parameter_that_is_no_array_is_refused(given: Any, code: str) -> None:
    with pytest.raises(tql.TqlError) as e:
        evaluate(ONE, "?", [given])
    assert e.value.diagnostic.code == code and e.value.diagnostic.help


def test_a_list_nested_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(tql.TqlTypeError, match="nested"):
        evaluate(ONE, "?", [deep])


def test_an_empty_list_takes_the_type_of_what_it_meets() -> None:
    columns = {"t": pa.array([[1], []], pa.list_(pa.int32()))}
    assert evaluate(columns, "t == ?", [[]]) == [[], []]
    with pytest.raises(tql.TqlTypeError, match="empty list"):
        evaluate(columns, "sum(?)", [[]])
    assert evaluate(columns, "sum(?)", [np.zeros(0)]) == [0.0, 0.0]


def test_literals_take_the_type_of_the_floats_they_meet() -> None:
    assert evaluate(ONE, "f == array[0.1, 0.5]") == [[True, True]]
    assert evaluate(ONE, "any(f == ?)", [[0.1, 7.0]]) == [True]
    assert evaluate(ONE, "hamming_distance(f, array[0.1, 0.5])") == [0]
    assert evaluate(ONE, "contains(array[0.1, 7], f[0])") == [True]
    view = tql.open(pa.table(ONE)).query("select f * array[1, 2] as a, u + array[1, 2] as b")
    assert [str(c.dtype) for c in view.schema] == ["list[float32, 2]", "list[uint64, 2]"]
    assert evaluate(ONE, "u + array[1, 2]") == [[2**63 + 1, 3]]


def test_class_names_in_literals_are_their_indices() -> None:
    ds = tql.open(
        {"x": [[0, 1], [1, 1]], "y": [0, 1]}, class_names={"x": ["cat", "dog"], "y": ["cat", "dog"]}
    )
    assert ds.query("select * where all(x == array['cat', 'dog'])").row_ids.tolist() == [0]
    assert ds.query("select * where any(x == ?)", [["dog", "cat"]]).row_ids.tolist() == [1]
    assert ds.query("select * where contains(array['dog'], y)").row_ids.tolist() == [1]
    with pytest.raises(tql.TqlError, match="no class named 'bird'"):
        ds.query("select * where any(x == array['cat', 'bird'])")


# -- what may raise ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "raises"),
    [
        ("any(f == array[1, 2])", False), ("any(f == f)", False), ("any(t == t)", True),
        ("any(t == array[1, 2])", True), ("any(t == array[1])", False), ("any(t + 1)", False),
        ("any(t * t)", True), ("sum(t) > 1", False), ("sum(u) > 1", True), ("prod(t) > 1", True),
        ("sum(f) > 1", False), ("dot(f, array[1, 2]) > 1", False), ("dot(t, t) > 1", True),
        ("dot(t, f) > 1", True), ("cosine_similarity(f, f) > 1", False), ("hamming_distance(t, f) > 1", True),
        ("hamming_distance(f, array[1, 2]) > 1", False), ("t[id] > 1", False), ("any(t[::id])", True),
        ("any(t[::2])", False), ("shape(t)[0] > 1", False), ("any(u + u)", True), ("amax(f) > 1", False),
    ],
)  # fmt: skip
def test_only_what_may_raise_is_said_to(text: str, raises: bool) -> None:
    query = f"select {text} as a"
    here = tql.open(pa.table(ONE)).source.schema
    outputs = bind(parse(query), query, here=here, tables=lambda *_: pytest.fail("no FROM")).outputs
    assert can_raise(outputs[0].expr) == raises


def test_a_list_of_fixed_size_that_is_null_is_as_many_null_elements() -> None:
    boxes = [[[1, 2], None], [[3, 4]], [], None]
    fixed = {"b": pa.array(boxes, pa.list_(pa.list_(pa.int32(), 2)))}
    assert evaluate(fixed, "b + 1") == [[[2, 3], [None, None]], [[4, 5]], [], None]
    assert evaluate(fixed, "shape(b)") == [[2, 2], [1, 2], [0, 2], None]
    assert evaluate(fixed, "b[1]") == [[None, None], None, None, None]
    deep = pa.array([[[[1, 2]], None]], pa.list_(pa.list_(pa.list_(pa.int8(), 2), 1)))
    assert evaluate({"x": deep}, "x[:, 0, 1]") == [[2, None]]
    ragged = {"b": pa.array(boxes, pa.list_(pa.list_(pa.int32())))}
    with pytest.raises(tql.TqlDataError, match="in row 0"):
        evaluate(ragged, "b + 1")


# -- views, and what comes out of them ---------------------------------------------------------


def test_views_of_views_compute_over_computed_arrays() -> None:
    ds = tql.open(
        pa.table(
            {
                "id": [0, 1, 2],
                "b": pa.array(
                    [[[1, 2], [3, 4]], [], [[5, 6]]], pa.list_(pa.list_(pa.float32(), 2))
                ),
            }
        )
    )
    inner = ds.query("select id, b[:, 0] as x, b * 2 as twice where id != 1")
    outer = inner.query(
        "select sum(x) as s, twice[0] as first, id where any(twice > 7) order by id desc"
    )
    assert outer.to_arrow().to_pydict() == {
        "s": [5.0, 4.0], "first": [[10.0, 12.0], [2.0, 4.0]], "id": [2, 0],
    }  # fmt: skip
    again = tql.open(inner.to_arrow())
    assert again.schema["twice"].dtype == inner.schema["twice"].dtype
    assert (
        again.query("select sum(x) as s").to_arrow() == inner.query("select sum(x) as s").to_arrow()
    )


def test_a_loader_gives_computed_arrays() -> None:
    ds = tql.open(
        pa.table(
            {"e": pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.float32(), 3)), "t": [[1, 2], [3]]}
        )
    )
    view = ds.query(
        "select e * 2 as e, e[0:2] as part, t[1:] as rest, l2_norm(e) as norm, e as same"
    )
    (batch,) = list(view.dataloader().batch(2).numpy())
    assert batch["e"].dtype == np.float32 and batch["e"].tolist() == [[2, 4, 6], [8, 10, 12]]
    assert batch["part"].tolist() == [[1, 2], [4, 5]]
    assert [list(r) for r in batch["rest"]] == [[2], []]
    assert batch["norm"].shape == (2,)


@pytest.mark.parametrize(
    "query",
    [
        "select * order by t", "select * where t in (1, 2)", "select * where t between 1 and 2",
        "select * where t like 'a'", "select * sample by t", "select id group by t",
        "select * where t", "select * where t > 1", "select * where not t == 1",
    ],
)  # fmt: skip
def test_an_array_where_one_value_is_needed_is_a_type_error(query: str) -> None:
    with pytest.raises(tql.TqlTypeError) as e:
        tql.open(pa.table(ONE)).query(query)
    d = e.value.diagnostic
    assert d.code == "type" and d.help and "list" in d.message, d


@pytest.mark.parametrize(
    ("condition", "message", "help"),
    [
        ("avg() > 0", "avg() takes 1 or 2 arguments, not 0", "avg("),
        ("avg(l, 0, 1) > 0", "avg() takes 1 or 2 arguments, not 3", "avg("),
        ("avg(l, 0, axis=1) > 0", "avg() takes 1 or 2 arguments, not 3", "avg("),
        ("avg(axis=0, l) > 0", "takes 1 or 2 arguments|the axis as the last", "avg("),
        ("sum(axis=0) > 0", "the axis as the last", "sum(x, axis=0)"),
        ("any(l, axes=0)", "the axis as the last", "any(x, axis=0)"),
        ("any(t like 'c*')", "LIKE needs text", "any(x == 'cat' or x == 'cow')"),
        ("any(l in (2, 3))", "IN needs one value", "any(x == 2 or x == 3)"),
        ("any(l between 2 and 5)", "BETWEEN needs one value", "any(x >= 2 and x <= 5)"),
    ],
)
def test_slips_with_arrays_are_told_the_way_out(condition: str, message: str, help: str) -> None:
    ds = tql.open({"l": [[1, 2], [3, 4]], "t": [["cat"], ["cow"]]}, class_names=None)
    with pytest.raises(tql.TqlError) as e:
        ds.query(f"select * where {condition}")
    assert any(m in e.value.diagnostic.message for m in message.split("|"))
    assert help in (e.value.diagnostic.help or "")


@pytest.mark.parametrize("number", [2**70, 10**400, -(10**5000)], ids=["70", "400", "5000"])
def test_numbers_too_large_are_not_printed_in_full(number: int) -> None:
    with pytest.raises(tql.TqlError, match=r"a whole number of .* bits does not fit") as e:
        tql.open({"l": [1]}).query("select * where l == ?", [number])
    assert len(e.value.diagnostic.message) < 80
