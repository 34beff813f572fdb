"""Functions of arrays against a row-by-row computation: NULLs, empty and ragged rows, every axis."""

import io
import json
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tql
from tests import array_oracle as oracle
from tests.array_oracle import KINDS, LAYOUTS, RowError, cells, rows, same, stored
from tests.profiles import examples
from tests.strategies import Pieces
from tests.tiers import outcome
from tql.diagnostics import data_error

Row = Callable[..., Any]


def evaluate(columns: dict[str, Any], expression: str, params: Any = None) -> list[Any]:
    """The values of the expression, one per row."""
    view = tql.open(pa.table(columns)).query(f"select {expression} as result", params)
    values: list[Any] = view.to_arrow().column("result").to_pylist()
    return values


def check(columns: dict[str, Any], expression: str, row: Row, *arrays: list[Any]) -> None:
    """`expression` is what `row` makes of each row's arrays, or fails for the first that fails."""
    wanted = []
    for at, values in enumerate(zip(*arrays)):
        try:
            wanted.append(oracle.as_cell(row(*values)))
        except RowError as e:
            with pytest.raises(tql.TqlError) as raised:
                evaluate(columns, expression)
            assert raised.value.diagnostic.code == e.code
            if isinstance(raised.value, tql.TqlDataError):  # not one that the types foretell
                assert f"row {at}" in raised.value.diagnostic.message
            return
    found = evaluate(columns, expression)
    assert same(found, wanted), f"{expression}: {found} is not {wanted}"


def test_the_comparison_tells_values_apart() -> None:
    assert same([1, [None, 2.0]], [1, [None, 2.0]]) and same(math.nan, math.nan)
    assert not same(1, 1.0) and not same(True, 1) and not same([1], 1) and not same([1], [1, 2])
    assert data_error("range", "x").diagnostic.code == "range"


# -- reductions --------------------------------------------------------------------------------


def _rounded(f: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def rounded(values: list[Any]) -> Any:
        with np.errstate(over="ignore"):
            return float(np.float32(f(values)))

    return rounded


def function(name: str, kind: str) -> Callable[[list[Any]], Any]:
    """What the reduction makes of the elements that are not NULL."""
    real = kind in ("f32", "f64")
    if name in ("sum", "prod") and real:
        f = oracle.real_total if name == "sum" else oracle.real_product
        return f if kind == "f64" else _rounded(f)
    return {
        "any": lambda values: any(v != 0 for v in values),
        "all": lambda values: all(v != 0 for v in values),
        "all_strict": lambda values: bool(values) and all(v != 0 for v in values),
        "sum": oracle.total,
        "prod": oracle.product,
        "avg": oracle.mean,
        "amin": oracle.least,
        "amax": oracle.greatest,
        "l1_norm": oracle.l1,
        "l2_norm": oracle.l2,
        "linf_norm": oracle.linf,
    }[name]


WITH_AXIS: Final = ("any", "all", "sum", "prod", "avg", "amin", "amax")
WITHOUT: Final = ("all_strict", "l1_norm", "l2_norm", "linf_norm")


@settings(max_examples=examples(600))
@given(st.data(), st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(LAYOUTS)))
def test_a_reduction_is_that_of_each_row(data: st.DataObject, kind: str, layout: str) -> None:
    values = data.draw(rows(kind, layout))
    column = stored(
        values, kind, layout, data.draw(st.integers(0, 2)), data.draw(st.integers(0, 5))
    )
    rank = len(LAYOUTS[layout])
    name = data.draw(st.sampled_from(WITH_AXIS + WITHOUT))
    axis = None
    if name in WITH_AXIS:
        axis = data.draw(st.none() | st.integers(-rank, rank - 1))
    call = f"{name}(x)" if axis is None else f"{name}(x, axis={axis})"
    f = function(name, kind)
    check({"x": column}, call, lambda a: oracle.reduced(f, a, axis), cells(values, layout))


@pytest.mark.parametrize("name", WITH_AXIS + WITHOUT)
@pytest.mark.parametrize("kind", ["i64", "u8", "f32", "f64", "b"])
def test_a_scalar_is_an_array_of_one(name: str, kind: str) -> None:
    dtype, some = KINDS[kind]
    values = [v for v in some if kind != "i64" or abs(v) < 2**63] + [None]
    f = function(name, kind)
    one = [None if v is None else np.array([v], object) for v in values]
    check({"x": pa.array(values, dtype)}, f"{name}(x)", lambda a: oracle.reduced(f, a), one)


@pytest.mark.parametrize(
    ("expression", "dtype"),
    [
        ("sum(i8)", pa.int64()), ("sum(u64)", pa.uint64()), ("sum(f16)", pa.float16()),
        ("sum(f32)", pa.float32()), ("sum(b)", pa.int64()), ("prod(u64)", pa.uint64()),
        ("avg(f32)", pa.float64()), ("amin(i8)", pa.int8()), ("amax(f16)", pa.float16()),
        ("amax(b)", pa.bool_()), ("any(i8)", pa.bool_()), ("l2_norm(f16)", pa.float64()),
        ("dot(i8, i8)", pa.int64()), ("dot(f32, f32)", pa.float64()), ("nonzero(i8)", pa.large_list(pa.int64())),
        ("shape(i8)", pa.list_(pa.int64(), 1)), ("amin(t)", pa.timestamp("s")),
        ("i8[0]", pa.int8()), ("f16[0:1]", pa.large_list(pa.float16())), ("amax(i8x, 0)", pa.list_(pa.int8(), 3)),
        ("i8x[:, 0:2]", pa.large_list(pa.list_(pa.int8(), 2))), ("sum(i8x, 1)", pa.large_list(pa.int64())),
    ],
)  # fmt: skip
def test_a_result_has_the_type_of_the_function(expression: str, dtype: pa.DataType) -> None:
    columns: dict[str, Any] = {
        name: pa.array([[1, 2], None], pa.list_(kind))
        for name, kind in [("i8", pa.int8()), ("u64", pa.uint64()), ("f32", pa.float32()), ("t", pa.timestamp("s"))]
    }  # fmt: skip
    columns["f16"] = pa.array([np.array([1, 2], np.float16), None], pa.list_(pa.float16()))
    columns["b"] = pa.array([[True], None], pa.list_(pa.bool_()))
    columns["i8x"] = pa.array([[[1, 2, 3]], None], pa.list_(pa.list_(pa.int8(), 3)))
    view = tql.open(pa.table(columns)).query(f"select {expression} as result")
    assert view.to_arrow().schema.field("result").type == dtype
    again = tql.open(view.to_arrow())
    assert again.schema["result"].dtype == view.schema["result"].dtype


# -- integers of 64 bits -----------------------------------------------------------------------


@settings(max_examples=examples(300))
@given(
    st.lists(st.lists(st.sampled_from([0, 1, 2**63, 2**64 - 1, 2**32, 3]), max_size=4), min_size=1, max_size=4),
    st.sampled_from(["sum", "prod"]),
)  # fmt: skip
def test_unsigned_sums_and_products_are_exact_or_errors(values: list[list[int]], name: str) -> None:
    column = pa.array(values, pa.list_(pa.uint64()))

    def row(a: list[int]) -> int:
        exact = sum(a) if name == "sum" else math.prod(a)
        if exact >= 2**64:
            raise RowError("range")
        return exact

    check({"x": column}, f"{name}(x)", row, values)


def test_an_overflow_behind_a_guard_is_none() -> None:
    ds = tql.open({"id": [0, 1], "x": [[2**62, 2**62], [1, 2]]})
    assert ds.query("select * where id == 1 and sum(x) == 3").row_ids.tolist() == [1]
    with pytest.raises(tql.TqlDataError, match=r"sum.* does not fit in int64 in row 0"):
        ds.query("select * where sum(x) == 3 and id == 1")
    with pytest.raises(tql.TqlDataError, match="row 0"):
        ds.query("select * where dot(x, x) > 0")
    assert ds.query("select * where id == 1 and prod(x) + dot(x, x) == 7").row_ids.tolist() == [1]


def test_sums_that_leave_the_type_on_the_way_are_exact() -> None:
    many = [2**63 - 1] * 3 + [-(2**63)] * 3 + [5]
    values = evaluate({"x": [many, [2**63 - 1], [-(2**63), 1]]}, "sum(x)")
    assert values == [2, 2**63 - 1, -(2**63) + 1]
    # 2^63 is no int64, and its opposite is.
    assert evaluate({"x": [[2**62, 2, -1]]}, "prod(x)") == [-(2**63)]
    assert evaluate({"x": [[2**62, 2**62, 0]]}, "prod(x)") == [0]


def test_floats_are_added_from_the_left() -> None:
    rng = np.random.default_rng(3)
    values = [
        (rng.normal(size=n) * 10.0 ** rng.integers(-9, 9, n)).tolist() for n in (0, 1, 7, 500, 4096)
    ]
    check({"x": values}, "sum(x)", lambda a: oracle.real_total(a), values)
    check({"x": values}, "l2_norm(x)", lambda a: oracle.l2(a), values)


def test_columns_larger_than_a_block_are_reduced_whole() -> None:
    rng = np.random.default_rng(4)
    lengths = rng.integers(0, 4000, 200)
    lengths[17] = 300_000  # one row is larger than a block
    flat = rng.integers(-5, 5, lengths.sum())
    edges = np.cumsum(lengths)[:-1]
    parts = np.split(flat, edges)
    column = pa.ListArray.from_arrays(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), flat
    )
    assert evaluate({"x": column}, "sum(x)") == [int(p.sum()) for p in parts]
    assert evaluate({"x": column}, "dot(x, x)") == [int((p * p).sum()) for p in parts]
    assert evaluate({"x": column}, "amin(x)") == [int(p.min()) if len(p) else None for p in parts]


# -- shape, nonzero, logic, membership ---------------------------------------------------------


@settings(max_examples=examples(200))
@given(st.data(), st.sampled_from(sorted(LAYOUTS)))
def test_shape_and_nonzero_are_those_of_each_row(data: st.DataObject, layout: str) -> None:
    values = data.draw(rows("i32", layout))
    column = stored(
        values, "i32", layout, data.draw(st.integers(0, 2)), data.draw(st.integers(0, 5))
    )
    arrays = cells(values, layout)
    check({"x": column}, "shape(x)", lambda a: None if a is None else list(a.shape), arrays)
    check({"x": column}, "nonzero(x)", oracle.nonzero, arrays)


SCALARS: Final = {
    "bool": pa.array([True, None, False]), "int": pa.array([1, None, 2], pa.int16()),
    "unsigned": pa.array([1, None, 2], pa.uint64()), "float": pa.array([0.5, None, math.nan]),
    "half": pa.array(np.array([1, 2, 3], np.float16), mask=np.array([False, True, False])),
    "text": pa.array(["a", None, ""]), "label": pa.array(["cat", None, "dog"]).dictionary_encode(),
    "time": pa.array([1, None, 2], pa.timestamp("ms")), "day": pa.array([1, None, 2], pa.date32()),
}  # fmt: skip


@pytest.mark.parametrize("kind", SCALARS)
@pytest.mark.parametrize("nullable", [True, False])
def test_a_scalar_has_no_dimension(kind: str, nullable: bool) -> None:
    column = SCALARS[kind] if nullable else SCALARS[kind].take(pa.array([0, 2, 2]))
    middle = None if nullable else []
    columns = {"x": column}
    assert evaluate(columns, "shape(x)") == [[], middle, []]
    assert evaluate(columns, "shape(x)[0]") == [None] * 3
    assert evaluate(columns, "sum(shape(x))") == [0, None if nullable else 0, 0]
    assert evaluate(columns, "any(shape(x) > 0)") == [False, None if nullable else False, False]
    assert evaluate(columns, "shape(data(x, 1))") == [middle] * 3
    assert evaluate({"x": pa.array([["a"], None, []])}, "shape(x[0])") == [[], None, None]

    name = "x_n" if nullable else "x"
    source = Pieces(pa.table({name: column}), [2], {name: tql.open(columns).schema["x"].dtype})
    known = [0, 2] if nullable else [0, 1, 2]
    for tier in ("reference", "kernel"):
        assert outcome([f"shape({name})[0] is null"], source, tier) == [[0, 1, 2]]
        assert outcome([f"sum(shape({name})) == 0"], source, tier) == [known]
        assert outcome([f"not any(shape({name}) > 0)"], source, tier) == [known]


@settings(max_examples=examples(300))
@given(
    st.data(), st.sampled_from(["and", "or"]), st.sampled_from(["list", "three", "boxes", "ragged"])
)
def test_logical_functions_ask_for_equal_shapes(
    data: st.DataObject, name: str, layout: str
) -> None:
    count = data.draw(st.integers(1, 5))
    drawn = [data.draw(rows("i32", layout, most=2)) for _ in range(2)]
    a, b = ((v * 5)[:count] for v in drawn)
    join = oracle.three_valued_and if name == "and" else oracle.three_valued_or

    def row(x: Any, y: Any) -> Any:
        return oracle.logical(join, x, y)

    columns = {n: stored(v, "i32", layout, 1, 2) for n, v in (("a", a), ("b", b))}
    view = tql.open(pa.table(columns)).query(f"select logical_{name}(a, b) as result")
    found = view.to_arrow().column("result").to_pylist()
    found = [json.loads(v) if isinstance(v, str) else v for v in found]
    wanted = [oracle.as_cell(row(x, y)) for x, y in zip(cells(a, layout), cells(b, layout))]
    assert same(found, wanted)

    def some(x: Any, y: Any) -> Any:
        result = row(x, y)
        if result is None or result is False:
            return result
        return any(v for v in result.ravel() if v is not None)

    check(columns, f"any(logical_{name}(a, b))", some, cells(a, layout), cells(b, layout))


@settings(max_examples=examples(300))
@given(st.data(), st.sampled_from([("boxes", "list"), ("ragged", "list"), ("matrix", "three"), ("clips", "boxes")]))  # fmt: skip
def test_contains_finds_a_slice_along_the_first_axis(
    data: st.DataObject, layouts: tuple[str, str]
) -> None:
    outer, inner = layouts
    kind = data.draw(st.sampled_from(["u8", "f32", "b"]))
    haystacks = data.draw(rows(kind, outer))
    needles = (data.draw(rows(kind, inner)) * 5)[: len(haystacks)]
    for at, haystack in enumerate(haystacks):  # so that some are found
        if haystack and at < len(needles) and data.draw(st.booleans()):
            needles[at] = haystack[-1]
    haystacks = haystacks[: len(needles)]
    columns = {"h": stored(haystacks, kind, outer, 1, 2), "n": stored(needles, kind, inner, 0, 1)}
    check(
        columns, "contains(h, n)", oracle.contains, cells(haystacks, outer), cells(needles, inner)
    )


def test_contains_of_arrays_of_text_and_of_labels() -> None:
    texts = {
        "x": pa.array(
            [[["a", "b"], ["c", "d"]], [["a", None]], None], pa.list_(pa.list_(pa.string(), 2))
        )
    }
    assert evaluate(texts, "contains(x, array['c', 'd'])") == [True, False, None]
    labels = tql.open({"x": [[[0, 1], [1, 1]], [[1, 0]]]}, class_names={"x": ["cat", "dog"]})
    assert labels.query("select * where contains(x, array['dog', 'dog'])").row_ids.tolist() == [0]
    assert labels.query("select * where any(x == 'cat', 1)[1]").row_ids.tolist() == []


def test_the_shape_of_an_image_comes_from_its_header() -> None:
    pixels = np.zeros((5, 7, 3), np.uint8)
    encoded = []
    for name, image in (("PNG", pixels), ("JPEG", pixels[:, :4]), ("PNG", pixels[:2, :, 0])):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, name)
        encoded.append(buffer.getvalue())
    cut = encoded[1][:-8]  # no decoder would take it
    field = pa.field("image", pa.binary(), metadata={"tql:image": "true"})
    values = [*encoded, None, cut, b"no image"]
    table = pa.table(
        [pa.array(values, pa.binary()), pa.array(range(6))], pa.schema([field, ("id", pa.int64())])
    )
    ds = tql.open(table)
    assert str(ds.schema["image"].dtype) == "image"
    shapes = ds.query("select shape(image) as s where id < 5").to_arrow().column("s").to_pylist()
    assert shapes == [[5, 7, 3], [5, 4, 3], [2, 7, 1], None, [5, 4, 3]]
    assert ds.query("select * where id < 5 and shape(image)[1] == 7").row_ids.tolist() == [0, 2]
    with pytest.raises(tql.TqlDataError, match=r"not a readable image .* in row 5") as e:
        ds.query("select * where shape(image)[1] == 7")
    assert e.value.diagnostic.code == "corrupt"
    with pytest.raises(tql.TqlTypeError, match="needs an array or an image, not binary"):
        tql.open({"x": [b"abc"]}).query("select shape(x) as a")


# -- vectors -----------------------------------------------------------------------------------

ROWS: Final = {
    ("dot", True): oracle.real_dot,
    ("dot", False): oracle.integer_dot,
    **{("cosine_similarity", real): oracle.cosine for real in (True, False)},
    **{("hamming_distance", real): oracle.hamming for real in (True, False)},
}


@settings(max_examples=examples(500))
@given(st.data(), st.sampled_from(["dot", "cosine_similarity", "hamming_distance"]))
def test_vectors_are_compared_row_by_row(data: st.DataObject, name: str) -> None:
    kinds = [data.draw(st.sampled_from(["i32", "f32", "f64", "u8"])) for _ in range(2)]
    layout = data.draw(st.sampled_from(["list", "three"]))
    count = data.draw(st.integers(1, 5))
    a, b = ((data.draw(rows(k, layout, most=2)) * 5)[:count] for k in kinds)
    row = ROWS[name, "f" in "".join(kinds)]
    columns = {"a": stored(a, kinds[0], layout, 1, 2), "b": stored(b, kinds[1], layout, 0, 1)}
    check(columns, f"{name}(a, b)", row, cells(a, layout), cells(b, layout))


@settings(max_examples=examples(200))
@given(st.data(), st.sampled_from(["dot", "cosine_similarity", "hamming_distance"]))
def test_a_constant_vector_meets_every_row(data: st.DataObject, name: str) -> None:
    values = data.draw(rows("f32", "three"))
    query = data.draw(st.lists(st.sampled_from([0.0, 1.0, -2.5]), min_size=3, max_size=3))
    row = ROWS[name, True]
    constant = np.array(query, object)
    columns = {"a": stored(values, "f32", "three", 1, 2)}
    arrays = cells(values, "three")
    check(columns, f"{name}(a, array{query})", lambda a: row(a, constant), arrays)
    found = evaluate(columns, f"{name}(?, a)", [query])
    assert same(found, [oracle.as_cell(row(constant, a)) for a in arrays])


@settings(max_examples=examples(300))
@given(st.data(), st.sampled_from(["boxes", "ragged", "matrix"]), st.booleans())
def test_maxsim_is_that_of_each_row(data: st.DataObject, layout: str, constant: bool) -> None:
    documents = data.draw(rows("f32", layout, most=3))
    arrays = cells(documents, layout)
    columns = {"d": stored(documents, "f32", layout, 1, 2)}
    if constant:
        width = 3 if layout == "matrix" else 2
        query = data.draw(st.lists(st.lists(st.sampled_from([0.0, 1.0, -2.5]), min_size=width, max_size=width), min_size=1, max_size=3))  # fmt: skip
        literal = "array[" + ", ".join(f"array{q}" for q in query) + "]"
        fixed = oracle.as_array(query, 2)
        check(columns, f"maxsim(d, {literal})", lambda d: oracle.maxsim(d, fixed), arrays)
    else:
        queries = (data.draw(rows("f32", layout, most=3)) * 5)[: len(documents)]
        documents = documents[: len(queries)]
        columns = {n: stored(v, "f32", layout, 1, 2) for n, v in (("d", documents), ("q", queries))}
        check(
            columns, "maxsim(d, q)", oracle.maxsim, cells(documents, layout), cells(queries, layout)
        )


def test_maxsim_does_not_depend_on_how_long_the_vectors_are() -> None:
    values = [[[3e200, 4e200], [1e-200, 0.0]], [[5e-324, 0.0]], [[-1e300, 1e300]], [[0.0, 0.0]]]
    columns = {"d": stored(values, "f64", "ragged", 1, 2)}
    for size in ("", "e250", "e-250"):
        literal = f"array[array[3{size}, 4{size}], array[0{size}, -1{size}]]"
        found = evaluate(columns, f"maxsim(d, {literal})")
        assert found == pytest.approx([1.0 + 0.0, 0.6 + 0.0, 0.2 / 2**0.5 - 1 / 2**0.5, 0.0])


# -- sequences of groups -----------------------------------------------------------------------


def test_functions_see_a_group_as_one_array() -> None:
    ds = tql.open(
        {
            "g": ["a", "a", "b"],
            "x": [1, 2, 3],
            "t": [[1, 2], [3], []],
            "m": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
            "s": ["u", "v", "w"],
        }
    )
    values = ds.query(
        "select sum(x) as x, sum(t) as t, shape(t) as shape, shape(m) as both, avg(m) as mean, "
        "amax(t) as most, any(s == 'v') as v, contains(s, 'w') as w, contains(m, array[3, 4]) as row, "
        "m - array[1, 1] as moved, l2_norm(x) as norm, dot(x, x) as dot, all(t > 0) as every, "
        "m[:, 0] as firsts, t[-1] as last, nonzero(t > 1) as at group by g"
    ).to_arrow()
    assert values.to_pydict() == {
        "x": [3, 3], "t": [6, 0], "shape": [[2, None], [1, 0]], "both": [[2, 2], [1, 2]],
        "mean": [2.5, 5.5], "most": [3, None], "v": [True, False], "w": [False, True],
        "row": [True, False], "moved": [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0]]],
        "norm": [math.sqrt(5), 3.0], "dot": [5, 9], "every": [True, True],
        "firsts": [[1.0, 3.0], [5.0]], "last": [[3], []], "at": [[1, 2], []],
    }  # fmt: skip
