"""Numbers worked out by kernels are those of the reference tier, bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.plain_kernels import run_as_python
from tests.profiles import examples
from tests.ragged_tables import arrays_of, ragged_table
from tests.strategies import Pieces, random_table
from tests.tiers import bound
from tql.diagnostics import TqlDataError
from tql.engine import every_row
from tql.engine.columns import Numbers
from tql.engine.every_row import column
from tql.engine.kernels import compile_values
from tql.engine.reductions import added
from tql.engine.scan import Settings, Tier
from tql.language.expr import Compare, Expr

NUMBERS = {
    "n * 2 + 1": ["n"],
    "x_n / 3 - n": ["x_n", "n"],
    "abs(x_n)": ["x_n"],
    "sum(f64s_n)": ["f64s_n"],
    "avg(f64s_n)": ["f64s_n"],
    "avg(f32s_e_n)": ["f32s_e_n"],
    "sum(f32s_e_n)": ["f32s_e_n"],
    "l1_norm(f32s)": ["f32s"],
    "l2_norm(f64s_n)": ["f64s_n"],
    "l2_norm(f32s * 2)": ["f32s"],
    "sum(f64s_n[::2])": ["f64s_n"],
    "sum(u8s)": ["u8s"],
    "avg(i32s_n)": ["i32s_n"],
    "sum(boxes)": ["boxes"],
    "l2_norm(f16s)": ["f16s"],
    "dot(emb, array[0.1, -2, 3])": ["emb"],
    "cosine_similarity(emb, array[0.1, -2, 3])": ["emb"],
    "cosine_similarity(f64s_n, f64s_n)": ["f64s_n"],
    "cosine_similarity(f32s, f32s)": ["f32s"],
    "dot(f64s_n, f32s)": ["f64s_n", "f32s"],
}


def number(text: str, source: object) -> Expr:
    found = bound(f"({text}) >= 0.5", source)  # type: ignore[arg-type]
    assert isinstance(found, Compare)
    return found.left


def values(e: Expr, source: object, tier: Tier, threads: int = 1) -> Numbers | str:
    try:
        found = column(source, e, 0, Settings(tier, threads))  # type: ignore[arg-type]
    except TqlDataError as error:
        return str(error)
    return found


def assert_same(found: Numbers | str, wanted: Numbers | str) -> None:
    if isinstance(found, str) or isinstance(wanted, str):
        assert found == wanted
        return
    there = np.ones(len(wanted.values), np.bool_) if wanted.valid is None else wanted.valid
    if found.valid is not None or wanted.valid is not None:
        assert found.valid is not None or there.all()
        assert found.valid is None or (found.valid == there).all()
    assert found.values.dtype == wanted.values.dtype
    a, b = found.values[there], wanted.values[there]
    nan = np.isnan(a.astype(np.float64))
    assert (nan == np.isnan(b.astype(np.float64))).all()
    assert a[~nan].tobytes() == b[~nan].tobytes()


@settings(max_examples=examples(200))
@given(st.data())
def test_numbers_do_not_depend_on_the_tier(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(sorted(NUMBERS)))
    rows = data.draw(st.sampled_from([1, 7, 64, 70]))
    table = ragged_table(
        NUMBERS[text], rows, data.draw(st.integers(0, 2**32)),
        data.draw(st.sampled_from([0, 3])), data.draw(st.booleans()),
    )  # fmt: skip
    source = arrays_of(table, data.draw(st.lists(st.integers(1, 64), max_size=2)))
    e = number(text, source)
    assert compile_values(e) is not None
    wanted = values(e, source, "reference")
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        assert_same(values(e, source, "kernel"), wanted)


@settings(max_examples=examples(50))
@given(st.data())
def test_numbers_do_not_depend_on_the_pieces_that_threads_take(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(sorted(NUMBERS)))
    table = ragged_table(
        NUMBERS[text], data.draw(st.sampled_from([63, 200])), data.draw(st.integers(0, 2**32))
    )
    source = arrays_of(table)
    source.fragments = tuple(replace(f, in_place=True) for f in source.fragments)
    e = number(text, source)
    wanted = values(e, source, "reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(every_row, "_LEAST", 64)
        assert_same(values(e, source, "reference", threads=3), wanted)
        run_as_python(patch)
        assert_same(values(e, source, "kernel", threads=3), wanted)


def test_one_fragment_in_memory_is_cut_where_there_is_something_to_work_out() -> None:
    ds = tql.open({"x": np.arange(100_000.0)})
    threads = 2
    work = number("x + 1", ds.source)
    assert [p.rows for p in every_row._pieces(ds.source, [work], threads)] == [50_048, 49_952]
    stored = number("x", ds.source)
    assert len(every_row._pieces(ds.source, [stored], threads)) == 1
    assert len(every_row._pieces(ds.source, [stored, work], 1)) == 1


@pytest.mark.parametrize("text", ["l2_norm(f32s)", "cosine_similarity(f64s_n, f64s_n)"])
def test_compiled_numbers_do_not_depend_on_the_tier(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQL_CACHE_DIR", str(tmp_path))
    name = "f32s" if "f32s" in text else "f64s_n"
    for seed in range(20):
        source = arrays_of(ragged_table([name], 130, seed), [])
        e = number(text, source)
        assert_same(values(e, source, "kernel"), values(e, source, "reference"))
    assert any(p.is_file() for p in tmp_path.rglob("*")), "no kernel was compiled"


@pytest.mark.parametrize("name", ["cat_n", "text_n"])
@pytest.mark.parametrize("seed", range(5))
def test_numbers_of_texts_go_by_the_codes_of_each_fragment(name: str, seed: int) -> None:
    source = Pieces(random_table([name], 100, seed), [30, 64])
    e = number(f"({name} == 'cat') * 2 + ({name} < 'dog') + 0.25", source)
    program = compile_values(e)
    assert program is not None and program.has_codes
    wanted = values(e, source, "reference")
    with pytest.MonkeyPatch.context() as patch:
        called = run_as_python(patch)
        assert_same(values(e, source, "kernel"), wanted)
        assert called.total() == (3 if name == "cat_n" else 0)  # plain text has no codes


def test_a_shape_reads_no_elements() -> None:
    source = arrays_of(ragged_table(["f32s"], 10, 0), [])
    program = compile_values(number("shape(f32s)[0] + 0.5", source))
    assert program is not None
    assert "f32[]" not in [a.kind for a in program.arguments]
    assert program.with_nulls is None


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 2**32))
def test_sums_go_to_eight_lanes_in_turn(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal(n) * 10.0 ** rng.integers(-8, 9, n) for n in lengths]
    wanted = []
    for row in rows:
        lanes = [0.0] * 8
        for k, x in enumerate(row.tolist()):
            lanes[k % 8] += x
        a, b, c, d, e, f, g, h = lanes
        wanted.append(((a + b) + (c + d)) + ((e + f) + (g + h)))
    into = np.repeat(np.arange(len(rows)), lengths)
    flat = np.concatenate([*rows, np.zeros(0)])
    assert added(flat, into, len(rows)).tolist() == wanted
    shuffled = rng.permutation(len(flat))  # as along an axis: each row in order, among the others
    places = np.empty(len(flat), np.int64)
    for cell in range(len(rows)):
        mine = np.flatnonzero(into[shuffled] == cell)
        places[mine] = np.flatnonzero(into == cell)
    assert added(flat[places], into[places], len(rows)).tolist() == wanted


@pytest.mark.parametrize("width", [8, 16, 24, 11])
def test_a_sum_of_negative_zeros_is_zero(width: int) -> None:
    table = pa.table({"f64s_n": pa.array([[-0.0] * width] * 3, pa.list_(pa.float64()))})
    source = arrays_of(table, [])
    found = values(number("sum(f64s_n)", source), source, "reference")
    assert isinstance(found, Numbers)
    assert not np.signbit(found.values).any()
