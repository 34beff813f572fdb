"""What a kernel's arguments and the decision to compile it cost."""

import itertools
from collections import Counter
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from tests.plain_kernels import run_as_python
from tests.strategies import Pieces
from tests.tiers import rows_true
from tql.engine.costs import SCAN, reference_ns
from tql.engine.frame import Frame
from tql.engine.kernels import Unsuitable, compile_program, numbers
from tql.engine.kernels.build import Build
from tql.engine.kernels.numbers import number
from tql.engine.reference import is_true
from tql.engine.scan import Tier
from tql.grammar.parser import parse
from tql.jit import assembly
from tql.language.bind import bind
from tql.language.expr import Expr
from tql.language.plan import Filter
from tql.schema import Bool, Column, Float, Int, List, Schema, Text

SCHEMA = Schema(
    [
        Column("i32", Int(32), False),
        Column("i64_n", Int(64), True),
        Column("u64", Int(64, signed=False), False),
        Column("f32", Float(32), False),
        Column("f64", Float(64), False),
        Column("flag", Bool(), False),
        Column("cat_n", Text(), True),
        Column("tags", List(Int(32)), False),
        Column("emb", List(Float(32), 256), False),
    ]
)


def bound(condition: str) -> Expr:
    text = f"select * where {condition}"
    plan = bind(parse(text), text, here=SCHEMA, tables=no_tables).plan
    assert isinstance(plan, Filter)
    return plan.predicate


def no_tables(*_: Any) -> Any:
    raise AssertionError("no FROM here")


class Counted:
    """A table that counts how often each column is asked for, and so put together."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.asked: Counter[str] = Counter()

    def column(self, name: str) -> Any:
        self.asked[name] += 1
        return self.table.column(name)


def test_a_column_in_chunks_is_put_together_once_for_all_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_as_python(monkeypatch)
    words = pa.chunked_array(
        [pa.array(["a", "b", None]).dictionary_encode(), pa.array(["c", "a"]).dictionary_encode()]
    )
    numbers = pa.chunked_array([[1, None], [3, 4, 5]], pa.int64())
    table = Counted(pa.table({"cat_n": words, "i64_n": numbers}))
    condition = bound("(cat_n == 'a' or cat_n like 'b*' or cat_n != 'c') and i64_n > 1")
    program = compile_program([condition])
    assert program is not None and len(program.arguments) >= 7
    for runs in (1, 2):
        out = np.empty(1, np.uint64)
        program.run(table, 5, [out])
        assert table.asked == {"cat_n": runs, "i64_n": runs}
    frame = Frame(table.table, np.arange(5), 0)
    assert int(out[0]) == sum(1 << n for n in np.flatnonzero(is_true(condition, frame)).tolist())


def test_a_dictionary_may_have_a_text_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    run_as_python(monkeypatch)
    words = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2, None, 2], pa.int32()), ["a", "b", "a"]
    )
    source = Pieces(pa.table({"cat_n": words}), types={"cat_n": Text()})
    for tier in get_args(Tier):
        wanted = [[0, 2, 4], [1]]
        assert rows_true(["cat_n == 'a'", "cat_n != 'a'"], source, tier) == wanted


# From the cheapest to the dearest, as measured; see tql/engine/costs.py.
LADDER = [
    ["i32 != 5", "f32 > 0.5", "i32"],
    ["i64_n != 5", "i32 > f32", "cat_n == 'a'", "i32 * 3 > 5", "f64 + 1 > 5"],
    ["u64 == i64_n", "i32 % 7 == 3", f"i32 in ({', '.join(map(str, range(60)))})"],
    ["f64 > i64_n", "u64 < f32"],
    [f"i32 in ({', '.join(str(n * 3_000_000) for n in range(300))})", "contains(tags, 3)"],
    ["l2_norm(emb) > 1", "any(emb > 3)"],
    ["cosine_similarity(emb, emb) > 0.5"],
]  # fmt: skip


def test_the_estimate_knows_cheap_conditions_from_dear_ones() -> None:
    costs = [[reference_ns([bound(c)]) for c in step] for step in LADDER]
    for lower, higher in itertools.pairwise(costs):
        assert max(lower) < min(higher)
    assert min(costs[0]) > 0.3 and max(costs[0]) < 2
    assert min(costs[-3]) > 50
    assert min(costs[-2]) > 1000 and max(costs[-1]) < 10_000


def test_the_estimate_of_a_program_adds_up_and_reads_each_column_once() -> None:
    one, other = bound("i64_n > 5"), bound("i64_n < 50")
    both = compile_program([one, other])
    assert both is not None
    assert both.cost_ns_per_row == reference_ns([one, other])
    apart = reference_ns([one]) + reference_ns([other])
    assert max(reference_ns([one]), reference_ns([other])) < both.cost_ns_per_row < apart
    assert reference_ns([bound("i32 > 1 and f32 > 1")]) > reference_ns([bound("i32 > 1")])
    assert reference_ns([bound("1 == 1")]) == SCAN


@pytest.mark.parametrize(
    "nested",
    ["+".join(["i64_n"] * 150), "- " * 150 + "i64_n", "abs(" * 150 + "i64_n" + ")" * 150,
     "u64" + " % 7 + u64" * 70],
)  # fmt: skip
def test_the_text_of_a_kernel_does_not_double_with_every_level(
    nested: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum of 20 terms took minutes to write; the work is counted, not timed."""
    calls = Counter[str]()

    def counted(e: Expr, at: Any) -> str:
        calls["number"] += 1
        assert calls["number"] < 20_000, "the work doubles with every level"
        text = number(e, at)
        assert len(text) < 20_000, "the text doubles with every level"
        return text

    monkeypatch.setattr(numbers, "number", counted)
    compile_program([bound(f"{nested} > 1")])
    assert calls["number"] > 0


@pytest.mark.parametrize("terms", [2, 9, 40])
def test_sums_of_many_integers_are_compiled_and_right(terms: int) -> None:
    table = pa.table({"u64": np.array([0, 1, 2**40], np.uint64), "i64_n": [1, None, -3]})
    e = bound(f"{'+'.join(['i64_n'] * terms)} > 1 and {'*'.join(['u64'] * 2)} >= 0")
    assert (compile_program([e]) is not None) == (terms < 40)
    assert is_true(e, Frame(table, np.arange(3), 0)).tolist() == [True, False, False]


def test_elements_of_a_row_are_loaded_side_by_side() -> None:
    """Indices that might count from the end would make LLVM gather them one by one."""
    program = compile_program([bound("any(emb > 3)")])
    assert program is not None
    assert "gather" not in assembly(program.kernel)


def test_the_lines_of_all_lanes_of_a_kernel_together_are_bounded() -> None:
    build = Build()

    def lane(k: int) -> str:
        with build.loop("5"):
            for _ in range(500):
                build.variable("f64", f"{k}.0")
        return f"f64_1 > {k}"

    with pytest.raises(Unsuitable, match="too many operations"):
        for k in range(60):
            build.lane(lambda k=k: lane(k), mask=lambda: "w0")  # type: ignore[misc]
    assert 1500 < len(build.lines("64")) <= build.size + 1 <= 2600
    build = Build()
    with pytest.raises(Unsuitable, match="too many operations"):
        for k in range(3000):
            build.word(f"x{k}")
