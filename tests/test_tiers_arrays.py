"""Both tiers give the same rows, or the same error, for conditions over arrays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.plain_kernels import run_as_python
from tests.profiles import NIGHTLY, examples
from tests.ragged_tables import ARROW, array_conditions, arrays_of, names_in, ragged_table
from tests.tiers import bound, outcome
from tql.diagnostics import Diagnostic, TqlTypeError
from tql.engine.kernels import NullElements, compile_program
from tql.engine.scan import Tier
from tql.language.expr import walk_inside


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kernels are compiled here, not taken from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("kernels")
        patch.setenv("TQL_CACHE_DIR", str(folder))
        yield folder


@settings(max_examples=examples(400))
@given(st.data())
def test_the_tiers_keep_the_same_rows_of_arrays(data: st.DataObject) -> None:
    """The kernel tier runs the generated source as Python here; compiled kernels come below."""
    text = data.draw(array_conditions())
    rows = data.draw(st.sampled_from([0, 1, 2, 7, 65, 70]))
    table = ragged_table(
        names_in(text), rows, data.draw(st.integers(0, 2**32)),
        data.draw(st.sampled_from([0, 1, 3, 8])), data.draw(st.booleans()),
    )  # fmt: skip
    source = arrays_of(table, data.draw(st.lists(st.integers(1, 64), max_size=2)))
    try:
        bound(text, source)
    except TqlTypeError:
        reject()  # sizes that the types rule out
    wanted = outcome([text], source, "reference")
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        assert outcome([text], source, "kernel") == wanted


# -- compiled: few shapes, many data sets ------------------------------------------------------

# Each of them is compiled, twice where elements may be NULL.
SHAPES = [
    ["any(boxes[:, 2] > 1)", "(boxes_n[-1, 0] <= 1)", "any(boxes[::-1, 1:3] != 0)"],
    ["contains(labels, 'dog')", "all_strict(i32s_n < 3)", "flags[0]", "any(f16s > 0.1)"],
    ["(f64s_n[n] is not null)", "(sum(u8s[small:-1]) > 2)", "(avg(f64s_n[::2]) < 1)"],
    ["(shape(boxes_n)[0] > 1)", "(shape(maps_n)[2] == 2)", "any(shape(maps_n) == 0)"],
    ["(amax(emb) < 1)", "(amax(f32s_e_n) is null)", "(1 / amin(f32s) > 0)", "(sum(flags_e) == 1)"],
    ["(sum(f32s) > 0.1)", "(prod(f64s_n) < 1)", "(l1_norm(emb_n) > 1)", "(linf_norm(u8s) < 3)"],
    ["(cosine_similarity(emb, array[1, 0, 2]) > 0.5)", "(hamming_distance(emb, emb_n) == 1)",
     "(l2_norm(f32s_e_n) < 2)"],
    ["any(abs(f32s * 2 - x_n) > 1)", "all((emb - array[0.5, 1, 1.5]) < sqrt(x_n))",
     "any((boxes - array[0, 0, 1, 1]) > 0)", "any(f32s / l2_norm(f32s) > 0.5)"],
    ["(i64s_e[0] is null)", "any(logical_or(flags_e, i64s_e > 1))"],
]  # fmt: skip
# These may be errors: overflows, shapes that do not fit, steps of 0.
RAISING = [
    "(sum(i64s) > 3)", "(sum(u64s) > 3)", "(prod(i64s_n) < 7)", "(dot(i64s, i64s_n) > 1)",
    "any(i64s + 1 > 2)", "any(i64s * i64s_e < 9)", "(cosine_similarity(i32s_n, emb) < 0.5)",
    "any((f32s_e_n - f64s_n) == 0)", "any(i64s % i64s_n == 1)", "(sum(u8s[::small]) == 3)",
    "any((boxes_n - i32s_n) > small)",
]  # fmt: skip


# Compiling all takes a minute; interpreted, all are tried above.
TRIED = [*SHAPES, *([r] for r in RAISING)]
COMPILED = TRIED if NIGHTLY else TRIED[::3]


@pytest.mark.parametrize("shape", COMPILED, ids=lambda shape: shape[0])
def test_compiled_kernels_keep_the_same_rows_of_arrays(shape: list[str]) -> None:
    for n, rows in enumerate((1, 63, 64, 130, 700)):
        for tame in (True, False):
            table = ragged_table(names_in(*shape), rows, 50 + n, 3 * n, tame)
            source = arrays_of(table, [40, 300])
            for conditions in (shape, [f"not {c}" for c in shape] if NIGHTLY else shape[:0]):
                wanted = outcome(conditions, source, "reference")
                if isinstance(wanted, list) and conditions:
                    assert any(wanted) or rows < 64 or not tame
                assert outcome(conditions, source, "kernel", 2) == wanted


def test_programs_are_made_for_all_of_them() -> None:
    for shape in TRIED:
        source = arrays_of(ragged_table(names_in(*shape), 1, 0))
        program = compile_program([bound(c, source) for c in shape])
        assert program is not None
        assert program.reports is (shape[0] in RAISING)


# -- what a kernel leaves to the reference tier, and what it does not --------------------------


@pytest.mark.parametrize(
    "condition",
    [
        "shape(i64s)[0] == 3 and dot(i64s, array[1, 2, 3]) > 2",
        "shape(i64s)[0] != shape(f32s)[0] or any(i64s == f32s)",
        "small != 0 and any(i64s % small == 1)",
        "amax(abs(f64s_n)) < 1000 and any(f64s_n > 1)",
        "(i64s_e[0] + 1) > 0",
    ],
)
def test_a_guarded_error_of_an_array_is_none_and_the_kernel_knows_it(
    condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = arrays_of(ragged_table(names_in(condition), 200, 9, 2, tame=True), [90])
    wanted = outcome([condition], source, "reference")
    assert isinstance(wanted, list)
    monkeypatch.setattr("tql.engine.scan.is_true", not_needed)
    run_as_python(monkeypatch)
    assert outcome([condition], source, "kernel") == wanted


def not_needed(*_: Any) -> Any:
    raise AssertionError("the reference tier was asked")


def test_lists_of_different_lengths_are_found_whatever_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [[[1, 2], [3, 4]], None, [[1], [2, 3]], [], [[5]]]
    table = pa.table({"boxes_n": pa.array(rows, ARROW["boxes_n"]), "n": range(5)})
    calls = run_as_python(monkeypatch)
    for condition in ("any(boxes_n > 4)", "any(boxes_n > 4) is null", "shape(boxes_n)[1] == 1",
                      "boxes_n[0, 0] == 5"):  # fmt: skip
        found = outcome([condition], arrays_of(table), "kernel")
        assert isinstance(found, Diagnostic) and "row 2" in found.message
        before = calls["predicate"]
        guarded = f"n != 2 and {condition}"
        assert outcome([guarded], arrays_of(table), "kernel") == outcome(
            [guarded], arrays_of(table), "reference"
        )
        assert outcome([condition], arrays_of(table, [2, 3]), "kernel") == found
        assert calls["predicate"] > before, "the other fragments are for the kernel"


@pytest.mark.parametrize("tier", ["kernel", "reference"])
def test_is_null_does_not_look_into_the_lists(tier: Tier) -> None:
    rows = [[[1, 2], [3, 4]], None, [[1], [2, 3]], [], [[5]]]
    table = pa.table({"boxes_n": pa.array(rows, ARROW["boxes_n"]), "n": range(5)})
    conditions = ["boxes_n is null", "boxes_n is not null", "not (boxes_n is null or n == 4)"]
    for cuts in ([], [2, 3]):
        found = outcome(conditions, arrays_of(table, cuts), tier)
        assert found == [[1], [0, 2, 3, 4], [0, 2, 3]]


def test_only_fragments_with_null_elements_look_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"i64s_e": pa.array([[1, 2], [], [3], [None, 3], [3]], ARROW["i64s_e"])})
    source = arrays_of(table, [3])
    program = compile_program([bound("contains(i64s_e, 3)", source)])
    assert program is not None and program.with_nulls is not None
    calls = run_as_python(monkeypatch)
    assert outcome(["contains(i64s_e, 3)"], source, "kernel") == [[2, 3, 4]]
    assert calls["predicate"] == 2
    out = [np.empty(1, np.uint64)]
    with pytest.raises(NullElements):
        program.run(source.read(1, ["i64s_e"]), 2, out)
    program.with_nulls.run(source.read(1, ["i64s_e"]), 2, out)
    assert out[0][0] == 3


def test_elements_behind_a_null_row_are_not_looked_at() -> None:
    """A NULL row may have elements in its buffers, whatever they are."""
    offsets = pa.array([0, 2, 3], pa.int32())
    mask = pa.array([True, False])
    values = pa.array([2**63 - 1, 1, 4], pa.int64())
    lists = pa.ListArray.from_arrays(offsets, values, mask=mask)
    source = arrays_of(pa.table({"i64s_n": lists}))
    for condition, wanted in [("sum(i64s_n) > 3", [1]), ("any(i64s_n + 1 > 0)", [1]),
                              ("i64s_n[1] is null", [0, 1]), ("not all(i64s_n > 0)", [])]:  # fmt: skip
        for tier in ("reference", "kernel"):
            assert outcome([condition], source, tier) == [wanted]


# A vector, and its cosine with [3, 4] to within a few units of the last digit.
DIRECTIONS = [
    ([3e200, 4e200], 1.0),
    ([3e-200, 4e-200], 1.0),
    ([3e-320, 4e-320], 1.0),
    ([-3e307, -4e307], -1.0),
    ([4e-170, -3e-170], 0.0),
    ([1e300, 0.0], 0.6),
    ([0.0, 5e-324], 0.8),
    ([1e200, 1e-200], 0.6),
    ([3.0, 4.0], 1.0),
    ([0.0, 0.0], 0.0),
    (None, None),
]


@pytest.mark.parametrize("tier", ["kernel", "reference"])
def test_a_cosine_does_not_depend_on_how_long_the_vectors_are(tier: Tier) -> None:
    vectors, cosines = zip(*DIRECTIONS, strict=True)
    table = pa.table({"f64s_n": pa.array(vectors, ARROW["f64s_n"])})
    for literal in ("array[3, 4]", "array[3e250, 4e250]", "array[3e-250, 4e-250]"):
        bounds = []
        for wanted in sorted({c for c in cosines if c is not None}):
            bounds.append(f"(cosine_similarity(f64s_n, {literal}) >= {wanted - 1e-6})")
            bounds.append(f"(cosine_similarity({literal}, f64s_n) <= {wanted + 1e-6})")
            found = outcome(bounds[-2:], arrays_of(table), tier)
            assert isinstance(found, list)
            assert [n for n, c in enumerate(cosines) if c == wanted] == sorted(
                set(found[0]) & set(found[1])
            )
        assert compile_program([bound(b, arrays_of(table)) for b in bounds]) is not None
    infinite = pa.table({"f64s_n": pa.array([[np.inf, 1.0], [np.nan, 1.0]], ARROW["f64s_n"])})
    asked = ["cosine_similarity(f64s_n, array[3e-250, 4e-250]) != 0"]
    assert outcome(asked, arrays_of(infinite), tier) == [[0, 1]], "NaN is unequal to all"
    asked = ["cosine_similarity(f64s_n, array[0.0, 0.0]) == 0"]
    assert outcome(asked, arrays_of(infinite), tier) == [[0, 1]]


@pytest.mark.parametrize("tier", ["kernel", "reference"])
def test_a_picture_without_boxes_fits_every_width(
    tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as_python(monkeypatch)
    rows = [[[1, 2, 3]], [], None, [[4], [5]], []]
    table = pa.table({"boxes_n": pa.array(rows, ARROW["boxes_n"]), "n": range(5)})
    source = arrays_of(table)
    for condition, wanted in [
        ("all(boxes_n * array[1, 2, 3] > 0)", [0, 1, 3, 4]),
        ("any(boxes_n * array[1, 2, 3] > 0)", [0, 3]),
        ("sum(array[1, 2, 3] - boxes_n) == 0", [0, 1, 4]),
        ("shape(boxes_n + array[1, 2, 3])[1] == 3", [0, 1, 3, 4]),
        ("shape(boxes_n + boxes_n[:, 0:1])[1] == 0", [1, 4]),
        ("shape(boxes_n + array[7])[1] == 0", [1, 4]),
        ("(boxes_n + array[1, 2, 3])[0, 0] is null", [1, 2, 4]),
        ("all(boxes_n == boxes_n[:, 0] + boxes_n)", [1, 4]),
        ("n != 0 and n != 3 and any(boxes_n > array[array[1, 2]])", []),
        ("all(logical_and(boxes_n > 0, array[array[1, 2, 3]][0:0] > 0))", [1, 4]),
        ("shape(logical_or(boxes_n > 0, array[array[1, 2, 3]][0:0] > 0))[1] == 3", [1, 4]),
        ("contains(array[array[array[1, 2, 3]]][:, 0:0], boxes_n)", [1, 4]),
        ("contains(array[array[array[1, 2, 3]]], boxes_n)", [0]),
    ]:  # fmt: skip
        assert outcome([condition], source, tier) == [wanted], condition
    for condition, row, shapes in [
        ("any(boxes_n > array[1, 2])", 0, "(1, 3) and (2,)"),
        ("n > 0 and any(boxes_n > array[array[1, 2], array[1, 2]])", 1, "(0, 0) and (2, 2)"),
    ]:
        found = outcome([condition], source, tier)
        assert isinstance(found, Diagnostic)
        assert f"shapes {shapes} do not fit each other in row {row}" in found.message


# -- conditions within conditions, asked of each element ---------------------------------------

LEVELS = {
    "in": (" in (1, small))", lambda x, small, n: x in (1, small)),
    "not in": (" not in (1, small))", lambda x, small, n: x not in (1, small)),
    "between": (" between small and n)", lambda x, small, n: small <= x <= n),
}


@pytest.mark.parametrize("kind", LEVELS)
def test_a_condition_within_a_condition_asked_of_each_element_grows_by_what_is_written(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written out while that is short, then bound once: by the level, not by 2 to the power of it."""
    run_as_python(monkeypatch)
    closing, meaning = LEVELS[kind]

    def write(depth: int) -> str:
        return f"any(i64s > 0 and {'(' * depth}10 % (small * small + 1){closing * depth} = 1)"

    table = ragged_table(["i64s", "small", "n"], 70, 3, 2, tame=True)
    source = arrays_of(table, [30])

    def wanted(depth: int) -> list[int]:
        rows = []
        for at, row in enumerate(table.to_pylist()):
            x = 10 % (row["small"] ** 2 + 1)
            for _ in range(depth):
                x = int(meaning(x, row["small"], row["n"]))
            if x == 1 and any(v > 0 for v in row["i64s"]):
                rows.append(at)
        return rows

    sizes: dict[int, int] = {}
    for n in range(1, 41):
        sizes[n] = sum(1 for _ in walk_inside(bound(write(n), source)))
        assert sizes[n] <= 1000, f"at {n} levels"
    per_level = sizes[40] - sizes[39]
    assert 0 < per_level <= 20
    assert sizes[40] - sizes[20] == 20 * per_level and sizes[20] - sizes[10] == 10 * per_level
    assert any(wanted(n) for n in sizes)
    for n in (*range(1, 11), 20, 40):
        for tier in ("reference", "kernel"):
            assert outcome([write(n)], source, tier) == [wanted(n)], (n, tier)
