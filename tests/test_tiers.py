"""Both tiers and a row-by-row interpreter give the same rows, and the same errors."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tests.plain_kernels import run_as_python
from tests.profiles import NIGHTLY
from tests.strategies import (
    LITERALS,
    TEXTS,
    TYPES,
    Pieces,
    conditions,
    number_columns,
    numbers,
    quoted,
    random_table,
    text_columns,
)
from tests.tiers import bound, columns_in, no_tables, outcome, rows_true, written
from tql.diagnostics import TqlDataError
from tql.engine.columns import to_arrow
from tql.engine.derived import DerivedSource
from tql.engine.frame import Frame
from tql.engine.kernels import compile_program
from tql.engine.reference import evaluate, is_true
from tql.engine.scan import Settings, Tier, scan
from tql.grammar.parser import parse
from tql.language.bind import bind
from tql.language.expr import (
    Column,
    Const,
    Expr,
    InSet,
    Or,
    TextIn,
    TextTest,
    can_raise,
    columns_of,
    substitute,
    walk,
)
from tql.language.fold import refold
from tql.rowset import everything, from_words
from tql.schema import Text


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kernels are compiled here, not taken from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("kernels")
        patch.setenv("TQL_CACHE_DIR", str(folder))
        yield folder


def expected(condition: str, source: Pieces) -> list[int]:
    """The rows the interpreter keeps; RowError where a row has no result."""
    tree, kept = written(condition), []
    for n, row in enumerate(source.table.to_pylist()):
        if reference.is_true(tree, row, TYPES):
            kept.append(n)
    return kept


@st.composite
def pieces(draw: st.DrawFn, texts: Sequence[str], tame: bool) -> Pieces:
    rows = draw(st.sampled_from([0, 1, 2, 7, 63, 64, 65, 100, 129]))
    seed = draw(st.integers(0, 2**32))
    table = random_table(
        columns_in(*texts), rows, seed, draw(st.sampled_from([0, 1, 3, 8, 64])), tame
    )
    return Pieces(table, draw(st.lists(st.integers(1, 128), max_size=3)))


@settings(max_examples=600)
@given(st.data())
def test_the_tiers_and_the_interpreter_keep_the_same_rows(data: st.DataObject) -> None:
    """The kernel tier runs the generated source as Python here; compiled kernels come below."""
    texts = data.draw(st.lists(conditions(), min_size=1, max_size=3))
    source = data.draw(pieces(texts, tame=data.draw(st.booleans())))
    threads = data.draw(st.sampled_from([1, 3]))
    try:
        wanted = [expected(t, source) for t in texts]
    except reference.RowError:
        with pytest.raises(TqlDataError) as e:
            rows_true(texts, source, "reference")
        assert e.value.diagnostic.code in ("value", "range")
        with pytest.raises(TqlDataError), pytest.MonkeyPatch.context() as patch:
            run_as_python(patch)
            rows_true(texts, source, "kernel", threads)
        return
    assert rows_true(texts, source, "reference") == wanted
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        assert rows_true(texts, source, "kernel", threads) == wanted


@settings(max_examples=300)
@given(st.data())
def test_a_virtual_column_holds_what_the_interpreter_computes(data: st.DataObject) -> None:
    text = data.draw(st.one_of(numbers(), conditions()))
    source = data.draw(pieces([text], tame=data.draw(st.booleans())))
    query = f"select {text} as x"
    b = bind(parse(query), query, here=source.schema, tables=no_tables)
    view = DerivedSource(source, everything(source.rows), b.outputs, 0)
    tree = written(text)
    try:
        wanted = [reference.value(tree, row, TYPES) for row in source.table.to_pylist()]
    except reference.RowError:
        with pytest.raises(TqlDataError):
            view.take(np.arange(source.rows), ["x"])
        return
    found = view.take(np.arange(source.rows), ["x"]).column("x")
    assert [bits_of(v) for v in found.to_pylist()] == [bits_of(v) for v in wanted]
    nullable = b.outputs[0].expr.nullable
    assert nullable or not found.null_count


def bits_of(v: Any) -> Any:
    """A value that equals another only if both are the same number, -0.0 and NaN included."""
    match v:
        case None:
            return None
        case float():
            return "nan" if v != v else v.hex()
        case bool() | int():
            return int(v)
        case _:
            return v


NUMBERS = [name for name in TYPES if not name.endswith("_n") and name not in ("text", "cat")]


@pytest.mark.parametrize("left", NUMBERS)
def test_every_two_number_types_compare_by_value(left: str) -> None:
    """Every special value of one type meets every special value of the other."""
    for right in NUMBERS:
        ours, theirs = (random_table([n], 300, 11).column(0).unique() for n in (left, right))
        pairs = [(i, j) for i in range(len(ours)) for j in range(len(theirs))]
        i, j = (pa.array(side) for side in zip(*pairs))
        table = pa.table({left: ours.take(i), right: theirs.take(j)}) if left != right else pa.table(
            {left: ours}
        )  # fmt: skip
        source = Pieces(table, [64, 100])
        texts = [f"({left} {op} {right})" for op in ("==", "!=", "<", "<=", ">", ">=")]
        wanted = [expected(t, source) for t in texts]
        assert rows_true(texts, source, "reference") == wanted
        with pytest.MonkeyPatch.context() as patch:
            run_as_python(patch)
            assert rows_true(texts, source, "kernel") == wanted


@pytest.mark.parametrize("column", NUMBERS)
def test_every_literal_compares_with_every_number_type(column: str) -> None:
    source = Pieces(pa.table({column: random_table([column], 300, 11).column(0).unique()}))
    operators = ("==", "!=", "<", "<=", ">", ">=")
    texts = [f"({column} {op} {literal})" for op in operators for literal in LITERALS]
    texts += [f"({literal} < {column})" for literal in LITERALS]
    texts += [f"({column} in ({literal}, 7))" for literal in LITERALS]
    wanted = [expected(t, source) for t in texts]
    assert rows_true(texts, source, "reference") == wanted
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        assert rows_true(texts, source, "kernel") == wanted


# -- one test in place of many -----------------------------------------------------------------


@st.composite
def long_disjunctions(draw: st.DrawFn) -> str:
    """Many equalities of one operand, other terms between them, as a term of something larger."""
    if draw(st.booleans()):
        x = draw(st.one_of(number_columns, st.just("(f32 * 2)"), st.just("abs(i8_n)")))
        values = st.sampled_from(LITERALS)
    else:
        x, values = draw(text_columns), st.sampled_from(TEXTS).map(quoted)
    equal = values.map(lambda v: f"{x} == {v}") | values.map(lambda v: f"{v} == {x}")
    few = st.lists(values, min_size=1, max_size=3).map(lambda vs: f"{x} in ({', '.join(vs)})")
    terms = draw(st.lists(equal | few, min_size=7, max_size=14))
    for other in draw(st.lists(conditions(0), max_size=2)):
        terms.insert(draw(st.integers(0, len(terms))), other)
    text = f"({' or '.join(terms)})"
    return draw(
        st.sampled_from([text, f"(not {text})", f"(flag_n and {text})", f"({text} is null)"])
    )


@settings(max_examples=200)
@given(st.data())
def test_a_long_or_of_equalities_keeps_the_rows_that_its_terms_keep(data: st.DataObject) -> None:
    text = data.draw(long_disjunctions())
    source = data.draw(pieces([text], tame=data.draw(st.booleans())))
    try:
        wanted = [expected(text, source)]
    except reference.RowError:
        with pytest.raises(TqlDataError):
            rows_true([text], source, "reference")
        return
    assert rows_true([text], source, "reference") == wanted
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        assert rows_true([text], source, "kernel") == wanted


def test_a_long_or_of_equalities_is_one_look_into_a_set() -> None:
    source = Pieces(random_table(["i32", "f32", "text_n", "label", "i64", "flag_n"], 10, 1))

    def many(x: str, values: Sequence[object]) -> str:
        return " or ".join(f"{x} == {v}" for v in values)

    assert bound(many("i32", range(12)), source) == bound(f"i32 in {tuple(range(12))}", source)
    assert bound(many("f32", [0.1 * n for n in range(9)]), source) == bound(
        f"f32 in {tuple(0.1 * n for n in range(9))}", source
    )
    letters = [f"'{c}'" for c in "abcdefghi"]
    assert bound(many("text_n", letters), source) == bound(
        f"text_n in ({', '.join(letters)})", source
    )
    # Two operands, and another term: each stands where its first equality stood.
    mixed = bound(f"{many('i32', range(9))} or flag_n or {many('text_n', letters)}", source)
    assert isinstance(mixed, Or) and len(mixed.terms) == 3
    assert isinstance(mixed.terms[0], InSet) and isinstance(mixed.terms[1], Column)
    assert isinstance(mixed.terms[2], TextTest) and isinstance(mixed.terms[2].rule, TextIn)
    few = bound(many("i32", range(8)), source)
    assert isinstance(few, Or) and len(few.terms) == 8
    # A row that an earlier term accepts never raises, so the later ones must not come first.
    raising = bound(f"i32 == 1 or i64 + 1 > 0 or {many('i32', range(9))}", source)
    assert isinstance(raising, Or) and len(raising.terms) == 11
    signs = [f"(f32 / {zero}) == {n}" for n, zero in enumerate(["0.0", "-0.0"] * 5)]
    assert isinstance(bound(" or ".join(signs), source), Or), "x / 0.0 is not x / -0.0"


# -- constants that a rewrite puts beside each other -------------------------------------------


def constant_of(name: str, pick: random.Random) -> Const:
    """A value that the column may have, as a constant of the column's type."""
    values = random_table([name.removesuffix("_n")], 40, pick.randrange(2**32)).column(0)
    return Const(pick.choice(values.to_pylist()), TYPES[name])


@settings(max_examples=400)
@given(st.data())
def test_folding_constants_changes_no_value_and_no_error(data: st.DataObject) -> None:
    text = data.draw(st.one_of(conditions(), conditions(3), numbers()))
    source = data.draw(pieces([text], tame=data.draw(st.booleans())))
    query = f"select {text} as x"
    (output,) = bind(parse(query), query, here=source.schema, tables=no_tables).outputs
    pick = random.Random(data.draw(st.integers(0, 2**32)))
    known: dict[str, Expr] = {
        name: constant_of(name, pick) if pick.random() < 0.7 else Column(name, TYPES[name], True)
        for name in columns_of(output.expr)
    }
    plain = substitute(output.expr, known)
    folded = refold(plain)
    assert folded.dtype == plain.dtype
    assert refold(folded) is folded or refold(folded) == folded
    frame = Frame(source.table, np.arange(source.rows), 0)
    try:
        wanted = everything_of(plain, frame)
    except TqlDataError as e:
        with pytest.raises(TqlDataError) as found:
            everything_of(folded, frame)
        assert found.value.diagnostic == e.diagnostic
        return
    assert everything_of(folded, frame) == wanted


def everything_of(e: Expr, frame: Frame) -> list[Any]:
    array = to_arrow(evaluate(e, frame), e.dtype, frame.rows)
    return [bits_of(v) for v in array.to_pylist()]


def test_constants_beside_constants_leave_nothing_for_the_reference_tier() -> None:
    source = Pieces(random_table(["i32", "i64", "f32", "flag", "text", "cat"], 100, 4))
    known: dict[str, Expr] = {
        **{c.name: Column(c.name, c.dtype, c.nullable) for c in source.schema},
        "i64": Const(5, TYPES["i64"]),
        "text": Const("dog", Text()),
        "flag": Const(True, TYPES["flag"]),
    }
    for condition, alone in [
        ("i64 < 6 and i32 > i64", "i32 > 5"),
        ("i64 + 1 > i32", "i32 < 6"),
        ("i32 > 3 and (text == 'dog' and text < 'e' and contains(text, 'o'))", "i32 > 3"),
        ("text in ('cat', 'cow') or i32 in (1, 2)", "i32 in (1, 2)"),
        ("flag and not (i64 in (4, 5)) or i32 == 1", "i32 == 1"),
        ("(i64 is null or i32 == 1) and flag == (i64 > 3)", "i32 == 1"),
        ("cat == text", "cat == 'dog'"),
        ("contains(cat, text) and abs(-i64) * 2 % 7 == 3", "contains(cat, 'dog')"),
        ("sqrt(i64 - 1) == 2.0 and i32 != i64", "i32 != 5"),
    ]:
        plain = substitute(bound(condition, source), known)
        assert refold(plain) == bound(alone, source), condition
    assert refold(bound("i32 > 5", source)) == bound("i32 > 5", source)


def test_a_folded_constant_keeps_its_type_where_it_meets_a_narrower_column() -> None:
    """0.1 as a literal is float32's 0.1; as the value of a float64 column it is not."""
    table = pa.table({"f32": pa.array([0.1, 0.5], pa.float32()), "f64": [0.1, 0.5]})
    source = Pieces(table)
    frame = Frame(table, np.arange(2), 0)
    assert is_true(bound("f32 == 0.1", source), frame).tolist() == [True, False]
    for value, wanted in ((0.1, [False, False]), (0.5, [False, True])):
        known: dict[str, Expr] = {
            "f32": Column("f32", TYPES["f32"], False), "f64": Const(value, TYPES["f64"])
        }  # fmt: skip
        folded = refold(substitute(bound("f32 == f64", source), known))
        assert is_true(folded, frame).tolist() == wanted


# -- compiled kernels: few shapes, many data sets ----------------------------------------------

_LEAST, _MOST = -(2**63), 2**63 - 1
SHAPES = [
    ["(i32 != 5)", "(i32 != 7)"],
    ["(label == 'dog')", "((label_n == 'cat') and (f64 > 0.5))"],
    ["(flag_n or (not flag))", "(flag == flag_n)", "(flag_n < flag)"],
    ["(i64 <= f64)", "(i64_n != u64)"],
    ["(u64 == f32_n)", "(f64 != i64)", "(u64_n > i8)"],
    ["(i8 between -1 and 2.5)", "(u8 not between 3 and 200)", "(f32 between 0.1 and 1.5)"],
    ["(i16 in (1, 2, 3))", "(u16_n not in (7, 65535))", "(f64_n in (0, 0.1, 2.5))"],
    ["(i64 in (0,1,2,3,7,8,9,10,11,12))", "(u32 in (0,1,2,3,7,8,9,10,4294967295))",
     "(f32_n in (0.1,0.5,1.5,2.5,3.0,1e38,60000.0,1,2,0))", "(u64 in (1,2,3,4,5,6,7,8,9,0))"],
    # Sets within 64 numbers of each other, and just not: at both ends of a type, and around 0.
    [f"(i64 in ({_LEAST}, {_LEAST + 1}, {_LEAST + 2}, {_LEAST + 9}, {_LEAST + 63}))",
     f"(i64_n in ({_MOST}, {_MOST - 1}, {_MOST - 2}, {_MOST - 9}, {_MOST - 63}))",
     "(i8_n not in (-128, -127, -126, -100, -65))", "(i8 in (-1, 0, 1, 2, 62))",
     "(i16 in (-1, 0, 1, 2, 63))", "(u8 in (0, 1, 2, 3, 63, 64, 127))",
     "(u32_n in (0, 1, 2, 7, 63))", "(u32 in (4294967295, 4294967294, 4294967290, 4294967232, 3))"],
    # And within 65,536 of each other.
    [f"(i64 in ({', '.join(str(_LEAST + n * n * n) for n in range(12))}))",
     f"(i64_n in ({', '.join(str(_MOST - n * n * n) for n in range(12))}))",
     f"(i16 not in ({', '.join(str(n * n * n) for n in range(-9, 10))}))",
     f"(u32_n in ({', '.join(str(2**32 - 1 - 50 * n) for n in range(12))}))",
     "(i32 in (-7, 0, 1, 2, 3, 5, 7, 100, 1234, 40000))",
     "(u16 in (0, 1, 2, 3, 5, 7, 11, 13, 71))", "(i32_n in (-71, -9, -3, -2, -1, 0, 1, 2, 3, 8))"],
    ["(cat == 'a')", "(cat_n != 'ab')", "(cat_n like 'a*')", "(cat in ('a', 'b', ''))",
     "contains(cat_n, 'b')", "(cat_n is null)"],
    ["(((i32 + i32_n) * 3) > 7)", "((i16 % 7) == -1)", "((i8 % -1) == 0)", "((u32 - u16) < 0)",
     "((i32 % -7) >= 2)", "(abs(f32 - f64) <= 1.5)", "((-f32_n) < 0)"],
    ["((f32 + f32_n) == 3)", "((f32 * 0.1) > 0.05)", "((f64 / i32) < 0.5)", "((i8 / u8_n) >= 1)"],
    ["i32_n", "(not f64_n)", "(f32 or i8_n)", "((i64_n is null) or (not (i64_n > 3)))"],
    ["(cat == cat_n)", "(cat_n < cat)", "(cat_n >= cat_n)", "(not (cat != cat_n))"],
    ["(f16 == 0.1)", "(f16_n < f32)", "(f16 in (0.1, 1.5, 60000.0))", "(f16_n > i64)", "not f16"],
    ["(flag == i8)", "(flag_n < f64)", "((flag + flag_n) == 2)", "((i32 > 3) == flag_n)"],
    ["(sqrt(f32) > 1)", "(sqrt(i64_n) <= 3.0)", "(sqrt(f64) == sqrt(u8))", "(sqrt(f16_n) < 1)"],
    ["((f64 % 0.1) > 0.05)", "((f32 % f32_n) == 1)", "((-5.5 % f64_n) < 0)", "((i8 % f32) is null)"],
    ["((f64 * f64_n + f64) > 0.1)", "((f32 * f32_n - f32) == 0)", "((u64 / i64) < f32)"],
    ["((i32 > 3 or flag_n) is null)", "((flag_n and f32_n > 1) is not null)",
     "((not (cat_n == 'a')) is null)", "((sqrt(f32_n) + i8) is null)"],
    ["(random() % 3 == 0)", "((random() < 1000000000) == (random() < 1000000000))",
     "(row_number() % 7 == 3)", "(row_number() >= i32)", "((random() + row_number()) < u32)"],
    ["(abs(i32 - u32) > 7)", "(abs(u64) == 3)", "(abs(flag) == 1)", "(abs(i8_n) % 3 == 2)"],
]  # fmt: skip
SIZES = (0, 1, 63, 64, 65, 127, 128, 4095, 4096, 4097, 9000)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[0])
def test_compiled_kernels_keep_the_rows_that_the_reference_tier_keeps(shape: list[str]) -> None:
    pick = random.Random(7)
    for n, rows in enumerate(SIZES):
        table = random_table(
            columns_in(*shape), rows, 1000 + n, offset=pick.choice([0, 1, 8, 13, 64])
        )
        source = Pieces(table, [pick.randrange(1, 9000) for _ in range(pick.choice([0, 3]))])
        predicates = [bound(c, source) for c in shape]
        program = compile_program(predicates)
        assert program is not None, "this shape is for the kernel tier"
        found = rows_true(shape, source, "kernel", threads=3)
        assert program.kernel.compiled or rows == 0
        assert found == rows_true(shape, source, "reference", threads=2)
        if rows < 200 and not re.search("random|row_number", str(shape)):
            assert found == [expected(c, source) for c in shape]


def test_queries_of_one_shape_share_a_kernel() -> None:
    source = Pieces(random_table(["i32", "cat"], 10, 1))

    def kernel(text: str) -> object:
        program = compile_program([bound(text, source)])
        assert program is not None
        return program.kernel

    assert kernel("i32 != 5") is kernel("i32 != 7")
    assert kernel("cat == 'a'") is kernel("cat == 'drop table'")
    assert kernel("cat like 'a*'") is kernel("contains(cat, 'b')")
    assert kernel("i32 != 5") is not kernel("i32 == 5")


def test_no_text_of_a_query_is_in_the_source_of_a_kernel() -> None:
    source = Pieces(random_table(["i32", "cat"], 10, 1))
    program = compile_program([bound("cat == 'needle' and i32 in (1234, 5)", source)])
    assert program is not None and program.kernel.source is not None
    words = set(re.findall(r"[^\W\d]\w*|\d+", program.kernel.source))
    assert not words & {"needle", "1234", "5", "cat", "i32"}
    own = {w for w in words if not re.fullmatch(r"x\d+|(few_)?w\d*|out\d+|\d+", w)}
    known = {"def", "predicate", "for", "in", "range", "if", "np", "int64", "uint64", "n", "i", "b"}
    known |= {"while", "else", "left", "lowest", "popcount"}
    assert own <= known | {"base", "full", "tail", "mask", "ZERO", "ONE"}, own


@pytest.mark.parametrize("text", ["((i64 + i64) == 0.5)", "((i64 * 2) is null)", "(abs(i64) is null)",
                                  "(not ((i64 % i8) is null))"])  # fmt: skip
def test_a_kernel_reports_errors_of_values_that_decide_nothing(text: str) -> None:
    source = Pieces(random_table(["i64", "i8"], 50, 3))
    predicate = bound(text, source)
    assert can_raise(predicate)
    program = compile_program([predicate])
    assert program is not None and program.reports
    with pytest.raises(TqlDataError):
        rows_true([text], source, "kernel")


# Conditions of which a row may be an error: the same answer, or the same error, in both tiers.
RAISING = [
    ["((i64 + 1) > 0)", "((1 - i64_n) < 5)", "((i64 - -3) != 0)", "(-i64 < 0)", "((i64 * -3) > 7)"],
    ["((i64 + i64_n) > i32)", "((i64 - i64_n) == 0)", "((i64_n * i32) <= 4)"],
    ["((u64 + u64_n) > 3)", "((u64 - u64_n) < 3)", "((u64 * 3) != u64_n)", "((3 - u64) == 1)"],
    ["((u64 + i64) > 3)", "((i64 - u64) < 3)", "((u64_n * i8) != 0)", "((u64 + -1) >= 0)"],
    ["((i64 % i8) == 1)", "((u64 % i64_n) < 2)", "((i64 % u64) > -3)", "((u64_n % u8) == 0)"],
    ["((u64 % -3) == 1)", "((-5 % u64) < 0)", "((5 % i64_n) == 2)", "(((i64 + 1) % (i8 - 1)) == 0)"],
    ["(abs(i64) > 3)", "(abs(i64_n - 1) < 5)", "(((i64 + i8_n) * i16) == 6)"],
    ["((i8 != 0) and ((i64 % i8) == 1))", "((i64 == i64_n) or ((i64 - i64_n) > 0))",
     "not ((i64_n < 0) or (i64_n > 100) or ((i64_n * i64_n) > 50))"],
]  # fmt: skip


@pytest.mark.parametrize("shape", RAISING, ids=lambda shape: shape[0])
def test_compiled_kernels_report_the_errors_of_the_reference_tier(shape: list[str]) -> None:
    for n, rows in enumerate((0, 1, 63, 64, 65, 200, 3000)):
        for tame in (True, False):
            table = random_table(columns_in(*shape), rows, 700 + n, n, tame)
            source = Pieces(table, [50, 180, 1000])
            for condition in [*shape, *(f"not {c}" for c in shape)] if NIGHTLY else shape[:2]:
                assert outcome([condition], source, "kernel", 2) == outcome(
                    [condition], source, "reference", 2
                )
            assert outcome(shape, source, "kernel") == outcome(shape, source, "reference")


@pytest.mark.parametrize(
    "condition",
    [
        "i8 != 0 and i64 % i8 == 1",
        "i8 == 0 or i64 % i8 == 1",
        "not (i8 == 0 or i64 % i8 == 1)",
        "(i8 > 0 and i64 % i8 == 1) or (i8 < 0 and i64 % i8 == -1)",
        "i64 between -1000 and 1000 and (i64 * i64 > 50 or i8 != 0 and 7 % i8 < 3)",
        "i8_n > 0 and i64 % i8_n == 1",  # NULL > 0 is not TRUE, which is enough in a WHERE
        "i64_n + 1 > 0",  # what stands behind a NULL is no error
    ],
)
def test_a_guarded_error_is_none_and_the_kernel_knows_it(
    condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = random_table(["i64", "i8", "i8_n"], 300, 5)
    hidden = pa.array(np.full(300, 2**63 - 1), mask=np.ones(300, np.bool_))
    source = Pieces(table.append_column("i64_n", hidden), [100])
    wanted = rows_true([condition], source, "reference")
    monkeypatch.setattr("tql.engine.scan.is_true", not_needed)
    assert rows_true([condition], source, "kernel") == wanted


def not_needed(*_: Any) -> Any:
    raise AssertionError("the reference tier was asked")


def test_an_error_names_the_first_row_whatever_the_threads() -> None:
    table = random_table(["i64"], 3000, 5)
    value = np.zeros(3000, np.int64)
    value[[1700, 2100]] = 2**63 - 1
    table = pa.table({"i64": value})
    for threads in (1, 2, 7):
        source = Pieces(table, range(100, 3000, 100))
        with pytest.raises(TqlDataError, match="in row 1700"):
            rows_true(["(i64 + 1) > 0"], source, "reference", threads)


def test_a_fragment_that_a_kernel_cannot_read_goes_to_the_reference_tier() -> None:
    """Dictionaries differ between fragments, and one holds a null among its values."""
    words = pa.chunked_array(
        [
            pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int32()), ["a", "b"]),
            pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.int32()), ["a", "c"]),
            pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.int32()), pa.array(["a", None])),
        ]
    )

    class Chunks(Pieces):
        def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
            return pa.table({"cat_n": words.chunk(fragment)})

    source = Chunks(pa.table({"cat_n": words}), [3, 6])
    condition = "cat_n != 'b'"
    predicate = bound(condition, source)
    for tier in ("reference", "kernel"):
        (found,) = scan(source, [predicate], 0, Settings(tier))
        assert from_words(found, 9).to_numpy().tolist() == [0, 3, 4, 5, 7]


def test_a_condition_without_columns_keeps_its_number_of_rows() -> None:
    source = Pieces(random_table(["i8"], 70, 1), [3])
    for tier in ("reference", "kernel"):
        assert rows_true(["1 == 1", "2 < 1"], source, tier) == [list(range(70)), []]


def test_every_kind_of_column_reaches_a_kernel_but_plain_text() -> None:
    calls: dict[str, bool] = {}
    for name in TYPES:
        source = Pieces(random_table([name], 20, 2))
        condition = f"{name} == 'a'" if name.startswith(("cat", "text")) else name
        condition = f"{name} == 'dog'" if name.startswith("label") else condition
        predicate = bound(condition, source)
        with pytest.MonkeyPatch.context() as patch:
            counted = run_as_python(patch)
            scan(source, [predicate], 0, Settings("kernel"))
            calls[name] = bool(counted)
    assert {name for name, ran in calls.items() if not ran} == {"text", "text_n"}


# -- operands that are asked for more than once ------------------------------------------------

TIERS: tuple[Tier, ...] = ("reference", "kernel")
REPEATED: dict[str, Callable[[int], str]] = {
    "in": lambda n: f"{'(' * n}flag_n{' in (1, 0, flag))' * n}",
    "in the list": lambda n: f"{'flag_n in (1, flag, ' * n}flag{')' * n}",
    "between": lambda n: f"{'(' * n}flag_n{' between flag and true)' * n}",
    "between sums": lambda n: f"{'(' * n}i8_n > 1{') + 1 between i8 and i8_n' * n}",
    "not in": lambda n: f"{'(' * n}i8_n{' not in (1, i8, f32_n)) + 1' * n} in (1, i8)",
    "what may raise": lambda n: f"{'(' * n}i64_n % i8{' in (1, i8)) * i64_n' * n} in (i8, 3)",
}


@pytest.mark.parametrize("kind", REPEATED)
def test_a_condition_within_a_condition_grows_by_what_is_written(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operand of IN and BETWEEN is bound once: 40 levels, not 2 to the power of 40 nodes."""
    run_as_python(monkeypatch)
    write = REPEATED[kind]
    names = columns_in(write(1))
    source = Pieces(random_table(names, 70, 3, 1, tame=True), [30])
    sizes = {n: sum(1 for _ in walk(bound(write(n), source))) for n in (5, 10, 20, 40)}
    per_level = (sizes[10] - sizes[5]) / 5
    assert sizes[20] - sizes[10] == 10 * per_level and sizes[40] - sizes[20] == 20 * per_level
    for n in (1, 2, 4):
        assert _found(write(n), source, "reference") == _wanted(write(n), source)
    for n in (1, 4, 12, 40):
        found = _found(write(n), source, "reference")
        assert _found(write(n), source, "kernel") == found


def _found(text: str, source: Pieces, tier: Tier) -> list[int] | str:
    """The rows, or the code of the error."""
    found = outcome([text], source, tier)
    return found[0] if isinstance(found, list) else found.code


def _wanted(text: str, source: Pieces) -> list[int] | str:
    try:
        return expected(text, source)
    except reference.RowError as e:
        return e.code


def test_the_kernel_tier_takes_conditions_within_conditions() -> None:
    for kind in ("in", "in the list", "between"):
        source = Pieces(random_table(columns_in(REPEATED[kind](1)), 1, 0))
        assert compile_program([bound(REPEATED[kind](12), source)]) is not None


def test_what_guards_an_operand_still_does_where_it_is_bound_once() -> None:
    deep = REPEATED["in"](3)
    source = Pieces(random_table(["flag", "flag_n", "i64", "i8"], 40, 5, tame=True))
    for text in (f"i8 != 0 and (({deep}) + 10 % i8) in (1, i64, 2)",
                 f"i8 != 0 and ({deep}) + 1 between i64 and 10 % i8",
                 f"({deep}) + 1 between 2 and 1 and ({deep}) in (10 % (i8 - i8), i64)"):  # fmt: skip
        for tier in TIERS:
            assert _found(text, source, tier) == _wanted(text, source) != "value"
