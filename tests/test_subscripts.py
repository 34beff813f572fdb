"""Subscripts against NumPy, row by row: negative indices and steps, clipped slices, NULL out of range."""

from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests import array_oracle as oracle
from tests.array_oracle import LAYOUTS, cells, rows, stored
from tests.profiles import examples
from tests.test_array_functions import check, evaluate
from tql.schema import List

PLACES: Final = st.integers(-4, 4)
FAR: Final = st.sampled_from([2**62, -(2**63), 2**63 - 1])


@st.composite
def slices(draw: st.DrawFn) -> slice:
    """Any slice that has no step of 0."""
    some = st.none() | PLACES | FAR
    step = draw(st.none() | PLACES.filter(bool) | FAR)
    return slice(draw(some), draw(some), step)


def written(part: Any) -> str:
    """The subscript as text."""
    if not isinstance(part, slice):
        return str(part)
    start, stop = ("" if v is None else str(v) for v in (part.start, part.stop))
    return f"{start}:{stop}" + ("" if part.step is None else f":{part.step}")


@settings(max_examples=examples(500))
@given(st.data(), st.sampled_from(sorted(LAYOUTS)), st.sampled_from(["i32", "f32", "b"]))
def test_a_subscript_is_that_of_numpy(data: st.DataObject, layout: str, kind: str) -> None:
    values = data.draw(rows(kind, layout))
    column = stored(
        values, kind, layout, data.draw(st.integers(0, 2)), data.draw(st.integers(0, 5))
    )
    rank = len(LAYOUTS[layout])
    parts = data.draw(st.lists(PLACES | slices(), min_size=1, max_size=rank))
    text = f"x[{', '.join(map(written, parts))}]"
    check({"x": column}, text, lambda a: oracle.subscript(a, parts), cells(values, layout))


@settings(max_examples=examples(300))
@given(st.data(), st.sampled_from(["list", "three", "boxes", "matrix"]))
def test_a_subscript_may_differ_from_row_to_row(data: st.DataObject, layout: str) -> None:
    values = data.draw(rows("i32", layout))
    numbers = st.none() | PLACES
    i, j, k = (data.draw(st.lists(numbers, min_size=5, max_size=5))[: len(values)] for _ in "ijk")
    columns = {"x": stored(values, "i32", layout, 1, 2)}
    columns |= {n: pa.array(v, pa.int16()) for n, v in (("i", i), ("j", j), ("k", k))}
    arrays = cells(values, layout)
    check(columns, "x[i]", lambda a, i: oracle.subscript(a, [i]), arrays, i)

    def part(a: Any, i: Any, j: Any, k: Any) -> Any:
        if a is None or None in (i, j, k):
            return None
        return oracle.subscript(a, [slice(i, j, k)])

    check(columns, "x[i:j:k]", part, arrays, i, j, k)


@settings(max_examples=examples(200))
@given(st.data())
def test_subscripts_may_be_chained(data: st.DataObject) -> None:
    values = data.draw(rows("i32", "clips"))
    first, second = data.draw(slices()), data.draw(PLACES)

    def row(a: Any) -> Any:
        once = oracle.subscript(a, [first])
        return None if once is None else oracle.subscript(once, [second])

    text = f"x[{written(first)}][{second}]"
    check({"x": stored(values, "i32", "clips", 1, 2)}, text, row, cells(values, "clips"))


def test_text_labels_and_constants_are_indexed_too() -> None:
    columns = {
        "w": pa.array([["a", "b"], [], None, ["c", None]], pa.list_(pa.string())),
        "id": [0, 1, 2, 3],
    }
    assert evaluate(columns, "w[0]") == ["a", None, None, "c"]
    assert evaluate(columns, "w[::-1]") == [["b", "a"], [], None, [None, "c"]]
    assert evaluate(columns, "array[5, 6, 7][id]") == [5, 6, 7, None]
    assert evaluate(columns, "array['x', 'y'][1]") == ["y"] * 4
    assert evaluate(columns, "array[1, 2][5]") == [None] * 4
    assert evaluate(columns, "array[array[1, 2], array[3, 4]][:, 1]") == [[2, 4]] * 4
    labels = tql.open(
        {"x": [[0, 1], [1]], "y": [1, 0]}, class_names={"x": ["cat", "dog"], "y": ["u", "v"]}
    )
    assert labels.query("select * where x[0] == 'dog'").row_ids.tolist() == [1]
    assert labels.query("select x[y] as a").to_arrow().column("a").to_pylist() == [1, 1]
    assert labels.query("select x[0] as a").schema["a"].dtype == labels.schema["x"].dtype.item  # type: ignore[union-attr]


def test_a_row_with_the_step_0_is_named_unless_something_else_is_null() -> None:
    ds = tql.open(pa.table({"x": pa.array([[1], None, [2]]), "s": [1, 0, 0]}))
    with pytest.raises(tql.TqlDataError, match="the step of a slice is 0 in row 2") as e:
        ds.query("select x[::s] as a").to_arrow()
    assert e.value.diagnostic.code == "value"
    assert ds.query("select * where s > 0 and any(x[::s])").row_ids.tolist() == [0]


def test_a_list_of_lists_without_lists_takes_any_index() -> None:
    """How long its rows would have been is not known; of a fixed size it is."""
    ragged = pa.array([[], [[1, 2]]], pa.list_(pa.list_(pa.int8())))
    fixed = pa.array([[], [[1, 2]]], pa.list_(pa.list_(pa.int8(), 2)))
    columns = {"r": ragged, "f": fixed}
    assert evaluate(columns, "r[:, 5]") == [[], None]
    assert evaluate(columns, "f[:, 5]") == [None, None]
    assert (
        evaluate(columns, "all(r[:, 1] > 0)")
        == evaluate(columns, "all(f[:, 1] > 0)")
        == [True, True]
    )


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("m[0]", (3,)), ("m[:, 1]", (2,)), ("m[0:5, ::2]", (2, 2)), ("m[::-1, 5:]", (2, 0)), ("m[id]", (3,)),
     ("m[id:]", (None, 3)), ("b[:, 0]", (None,)), ("b[0]", (2,)), ("m[-1, -1]", ()), ("b[1:][0][1:]", (1,))],
)  # fmt: skip
def test_fixed_sizes_are_kept(text: str, sizes: tuple[int | None, ...]) -> None:
    ds = tql.open(
        pa.table(
            {
                "m": pa.array([[[1, 2, 3], [4, 5, 6]]], pa.list_(pa.list_(pa.int8(), 3), 2)),
                "b": pa.array([[[1, 2]]], pa.list_(pa.list_(pa.int8(), 2))),
                "id": [0],
            }
        )
    )
    dtype: Any = ds.query(f"select {text} as a").schema["a"].dtype
    found = []
    while isinstance(dtype, List):
        found.append(dtype.size)
        dtype = dtype.item
    assert tuple(found) == sizes


def test_an_index_known_to_be_in_range_gives_no_null() -> None:
    columns = [pa.array([[[1, 2, 3], [4, 5, 6]]], pa.list_(pa.list_(pa.int8(), 3), 2))]
    schema = pa.schema([pa.field("m", columns[0].type, nullable=False)])
    ds = tql.open(pa.Table.from_arrays(columns, schema=schema))
    view = ds.query("select m[1] as a, m[2] as b, m[0:1] as c, m[1, 1] as d")
    assert [c.nullable for c in view.schema] == [False, True, False, True]
