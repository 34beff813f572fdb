"""What each column type becomes in a batch."""

import datetime
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.loader_fakes import FakePlan, encoded, loader_of, picture, source_of
from tql.diagnostics import TqlDataError
from tql.loader.arrow_values import encoded_values
from tql.schema import (
    Binary,
    Bool,
    DType,
    Float,
    Int,
    Json,
    Label,
    List,
    Opaque,
    Text,
    Time,
)


def batch_of(dtype: DType, data: Any, rows: list[int] | None = None, **options: Any) -> Any:
    """The column of one batch with these rows of it (all by default), fragments of two rows."""
    array = data if isinstance(data, pa.Array | pa.ChunkedArray) else pa.array(data)
    source = source_of(2, c=(dtype, array))
    plan = FakePlan(np.array(range(len(array)) if rows is None else rows, np.int64))
    (batch,) = loader_of(source, plan, batch_size=len(plan), **options)
    return batch["c"]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(Int(b, s), f"{'int' if s else 'uint'}{b}") for b in (8, 16, 32, 64) for s in (True, False)]
    + [(Float(b), f"float{b}") for b in (16, 32, 64)]
    + [(Bool(), "bool")],
)
def test_numbers_and_booleans_keep_their_dtype_and_own_writable_memory(
    dtype: DType, kind: str
) -> None:
    stored = np.array([1, 0, 1, 1], kind)
    values = batch_of(dtype, pa.array(stored), [3, 1, 1])
    assert values.dtype == np.dtype(kind)
    assert values.tolist() == [1, 0, 0]
    assert values.flags.writeable
    values[0] = 0
    assert stored[3] == 1


@pytest.mark.parametrize(
    "stored",
    [
        pa.array([2, 0, 1], pa.int8()),
        pa.DictionaryArray.from_arrays(pa.array([2, 0, 1], pa.int8()), pa.array(["a", "b", "c"])),
    ],
)
def test_class_labels_come_as_int64_codes(stored: pa.Array) -> None:
    values = batch_of(Label(("a", "b", "c"), Int(8)), stored)
    assert values.dtype == np.int64
    assert values.tolist() == [2, 0, 1]


def test_times_come_as_datetime64_of_their_unit() -> None:
    noon = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    values = batch_of(
        Time("ms", "Europe/Berlin"), pa.array([noon], pa.timestamp("ms", "Europe/Berlin"))
    )
    assert values.dtype == np.dtype("datetime64[ms]")
    assert str(values[0]) == "2024-02-29T12:00:00.000"
    day = batch_of(Time("s", date=True), pa.array([noon.date()], pa.date32()))
    assert day.dtype == np.dtype("datetime64[D]")


@pytest.mark.parametrize(
    "stored",
    [
        pa.array(["ä", "", "c"]),
        pa.array(["ä", "", "c"], pa.large_string()),
        pa.array(["ä", "", "c"]).dictionary_encode(),
    ],
)
def test_text_comes_as_a_list_of_str(stored: pa.Array) -> None:
    assert batch_of(Text(), stored, [2, 0, 0, 1]) == ["c", "ä", "ä", ""]
    assert batch_of(Text(), stored, [0, 1], decode={"c": "tobytes"}) == ["ä".encode(), b""]


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        (Int(16), pa.array([1, None, 3], pa.int16())),
        (Bool(), pa.array([True, None, False])),
        (Text(), pa.array(["a", None, "c"])),
        (Label(("a", "b")), pa.array(["a", None, "b"]).dictionary_encode()),
        (Time("ns"), pa.array([1, None, 3], pa.timestamp("ns"))),
        (List(Float(32)), pa.array([[1.0], None, [3.0]], pa.list_(pa.float32()))),
        (Binary(), pa.array([b"a", None, b"c"])),
        (Binary(image=True), pa.array([encoded(picture(1)), None, encoded(picture(2))])),
    ],
)
def test_a_column_with_a_null_in_the_batch_is_a_list_with_none(dtype: DType, data: Any) -> None:
    values = batch_of(dtype, data)
    assert isinstance(values, list)
    assert [v is None for v in values] == [False, True, False]
    without = batch_of(dtype, data, [0, 2])
    assert isinstance(without, list) == (dtype in (Text(), Binary(), List(Float(32))))
    for a, b in zip([values[0], values[2]], without):
        assert np.array_equal(a, b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


def test_lists_whose_type_gives_their_length_are_one_array_at_any_depth() -> None:
    stored = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    nested = pa.array(stored.tolist(), pa.list_(pa.list_(pa.float32(), 3), 2))
    values = batch_of(List(List(Float(32), 3), 2), nested, [3, 0])
    assert values.dtype == np.float32
    assert np.array_equal(values, stored[[3, 0]])
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), 6)
    assert np.array_equal(batch_of(List(Float(32), 6), fixed), stored.reshape(4, 6))


@pytest.mark.parametrize("rows", [[0], [0, 1], [2, 0], [1, 2, 3]])
def test_other_lists_are_a_list_of_arrays_in_every_batch(rows: list[int]) -> None:
    flat = pa.array([[1, 2], [3, 4], [5], [6, 7]], pa.list_(pa.int16()))
    values = batch_of(List(Int(16)), flat, rows)
    assert isinstance(values, list)
    assert [v.tolist() for v in values] == [flat[r].as_py() for r in rows]
    assert {v.dtype for v in values} == {np.dtype(np.int16)}
    boxes = pa.array([[[1, 2]], [[3, 4]], [[5, 6], [7, 8]], []], pa.list_(pa.list_(pa.int16(), 2)))
    values = batch_of(List(List(Int(16), 2)), boxes, rows)
    assert isinstance(values, list)
    assert [v.shape for v in values] == [(len(boxes[r]), 2) for r in rows]


@pytest.mark.parametrize("size", [2, None])
def test_lists_of_class_labels_come_as_int64_codes(size: int | None) -> None:
    stored = pa.array([[0, 1], [1, 1]], pa.list_(pa.int8(), -1 if size is None else size))
    values = batch_of(List(Label(("a", "b"), Int(8)), size), stored)
    assert [v.tolist() for v in values] == [[0, 1], [1, 1]]
    assert {v.dtype for v in values} == {np.dtype(np.int64)}


def test_ragged_lists_are_a_list_of_arrays() -> None:
    values = batch_of(List(Int(32)), pa.array([[1, 2], [], [3]], pa.list_(pa.int32())))
    assert [v.tolist() for v in values] == [[1, 2], [], [3]]
    assert {v.dtype for v in values} == {np.dtype(np.int32)}
    assert all(v.flags.writeable for v in values)


def test_fixed_shape_tensors_keep_their_shape() -> None:
    stored = np.arange(24, dtype=np.int16).reshape(4, 2, 3)
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(stored)
    assert np.array_equal(batch_of(List(List(Int(16), 3), 2), array, [1, 3, 1]), stored[[1, 3, 1]])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (2, 0, 3), (2, 3)])
def test_tensors_of_any_shape_are_read_in_slices_and_with_nulls(shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    there = pa.array([True, True, False, True, True])
    numbers = pa.array(np.arange(5 * size, dtype=np.int16))
    storage = pa.Array.from_buffers(
        pa.list_(pa.int16(), size), 5, [there.buffers()[1]], children=[numbers]
    )
    stored = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int16(), shape), storage)
    expected: list[Any] = list(np.arange(5 * size).reshape(5, *shape).tolist())
    expected[2] = None
    for start, stop in [(0, 5), (1, 4), (2, 2)]:
        ds = tql.open(pa.table({"x": stored[start:stop], "id": np.arange(start, stop)}))
        assert ds["x"].to_pylist() == expected[start:stop]
        assert ds.query("select * where x is null")["id"].to_pylist() == [2] * (start < stop)
        for sample in ds.query("select * where x is not null"):
            assert sample["x"].shape == shape
            assert sample["x"].tolist() == expected[sample["id"]]


def test_lists_of_text_and_lists_with_nulls_are_python_lists() -> None:
    assert batch_of(List(Text()), pa.array([["a"], ["b"]])) == [["a"], ["b"]]
    assert batch_of(List(Int()), pa.array([[1, None], [2, None]])) == [[1, None], [2, None]]


def test_json_comes_as_python_objects_which_repeated_rows_do_not_share() -> None:
    texts = pa.array(['{"a": [1]}', "null", "3"])
    values = batch_of(Json(), texts, [0, 0, 1, 2])
    assert values == [{"a": [1]}, {"a": [1]}, None, 3]
    values[0]["a"].append(2)
    assert values[1] == {"a": [1]}
    structs = pa.array([{"a": 1, "b": "x"}, None])
    assert batch_of(Json(), structs) == [{"a": 1, "b": "x"}, None]


def test_json_that_is_none_names_row_and_column() -> None:
    with pytest.raises(TqlDataError, match="row 1, column 'c': not a JSON value"):
        batch_of(Json(), pa.array(["1", "{"]))


def test_opaque_columns_come_as_python_values() -> None:
    delta = datetime.timedelta(seconds=2)
    assert batch_of(Opaque("duration[s]"), pa.array([delta, None])) == [delta, None]


def test_binary_is_bytes_exactly_as_stored() -> None:
    stored = [b"\0\1", b"", b"\xff"]
    assert batch_of(Binary(), pa.array(stored)) == stored
    assert batch_of(Binary(), pa.array(stored, pa.large_binary()), [2, 2]) == [b"\xff"] * 2
    assert batch_of(Binary(), pa.array(stored, pa.binary_view()), [0, 1]) == stored[:2]


def test_unmarked_binary_is_images_if_the_first_value_of_the_source_is_one() -> None:
    png = encoded(picture(1))
    assert batch_of(Binary(), pa.array([png, png])).shape == (2, 6, 5, 3)
    assert batch_of(Binary(), pa.array([b"no", png]), [1, 0]) == [png, b"no"]
    with pytest.raises(TqlDataError, match=r"row 1, column 'c'.*not a readable image"):
        batch_of(Binary(), pa.array([png, b"no"]), [1, 0])
    assert batch_of(Binary(), pa.array([png]), decode={"c": "tobytes"}) == [png]
    assert batch_of(Binary(), pa.array([png]), decode={"c": "numpy"}).shape == (1, 6, 5, 3)


@pytest.mark.parametrize("nulls", [1, 15, 16, 17, 200])
def test_nulls_do_not_decide_what_unmarked_binary_is(nulls: int) -> None:
    png = encoded(picture(1))
    data = pa.array([None] * nulls + [png, b"never an image"], pa.binary())
    values = batch_of(Binary(), data, list(range(nulls + 1)))
    assert values[:-1] == [None] * nulls
    assert values[-1].shape == (6, 5, 3)
    assert batch_of(Binary(), pa.nulls(nulls, pa.binary())) == [None] * nulls


def test_the_decision_on_unmarked_binary_does_not_depend_on_rank_or_resumption() -> None:
    png = encoded(picture(1))
    source = source_of(2, c=(Binary(), [b"first", *[png] * 7]))
    loader = loader_of(source, batch_size=2)
    loader.load_state_dict({**loader.state_dict(), "position": 4})
    assert next(iter(loader))["c"] == [png, png]
    other = loader_of(
        source, FakePlan(np.arange(8)[::-1].copy()), batch_size=2, rank=1, world_size=2
    )
    assert next(iter(other))["c"] == [png, png]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.lists(st.integers(-9, 9), max_size=3)), min_size=1, max_size=9
    ),
    st.data(),
)
def test_a_batch_holds_what_arrow_holds_row_by_row(data: list[Any], draw: st.DataObject) -> None:
    rows = draw.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=12))
    values = batch_of(List(Int(8)), pa.array(data, pa.list_(pa.int8())), rows)
    assert [None if v is None else v.tolist() for v in values] == [data[r] for r in rows]


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_json_value_survives(value: Any) -> None:
    assert batch_of(Json(), pa.array([json.dumps(value)])) == [value]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.string(), pa.binary_view(), pa.binary(3)]
)
def test_encoded_values_are_views_of_slices_with_nulls(kind: pa.DataType) -> None:
    data = ["abc", None, "def", None, "ghi"]
    if kind != pa.binary(3):
        data[4] = ""
    whole = pa.array(data, kind)
    for start, stop in [(0, 5), (1, 4), (2, 3), (3, 4), (4, 5), (2, 2)]:
        parts = pa.chunked_array([whole[start:stop], whole[:2], whole[:0]], kind)
        found = encoded_values(parts)
        expected = [*data[start:stop], *data[:2]]
        assert [v if v is None else bytes(v).decode() for v in found] == expected
    assert encoded_values(pa.chunked_array([pa.nulls(2, kind)])) == [None, None]
    empty = pa.array([b"", b""], pa.binary())
    assert encoded_values(pa.chunked_array([empty])) == [b"", b""]
