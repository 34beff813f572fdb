"""The rewrites: before and after, the same answers, and a verifier that notices broken queries."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.strategies import Pieces, random_table
from tql.diagnostics import Diagnostic
from tql.engine.derived import derive
from tql.engine.scan import Settings
from tql.engine.select import Environment, Selection, select
from tql.grammar.parser import parse
from tql.grammar.syntax import SetOp
from tql.language.bind import bind
from tql.language.expr import Column, CompareOp, Const, Expr, TextIs, TextTest
from tql.language.operators import compare, constant, truth
from tql.language.passes import PASSES, optimize, stages
from tql.language.passes.merge_filters import merge_filters
from tql.language.passes.merge_subqueries import merge_subqueries
from tql.language.plan import (
    Bound,
    Combine,
    Cut,
    Derived,
    Filter,
    Grouped,
    Joined,
    Order,
    Output,
    Plan,
    Sample,
    Scan,
    SetStep,
    SortKey,
    Split,
    Stacked,
    Windows,
)
from tql.language.plan_parts import source_of
from tql.language.verify import verify
from tql.rowset import RowSet
from tql.schema import Int
from tql.sources.memory import MemorySource
from tql.weights import ClassWeights, RowWeights, Weights

SOURCE = Pieces(random_table(["i8", "i16", "i32_n", "text_n"], 200, 4, tame=True), [77])


def bound(text: str, source: Any = SOURCE) -> Bound:
    def none(*_: Any) -> Any:
        raise AssertionError("no FROM here")

    return bind(parse(text), text, here=source.schema, tables=none)


def run(b: Bound, source: Any = SOURCE, seed: int = 3) -> Selection:
    def draw(population: RowSet, weights: Weights, size: Any, replace: bool, site: int) -> Any:
        """Draws by place in the population: the planner's own depend on the row numbers."""
        rows = population.to_numpy()
        each = np.zeros(len(rows))
        match weights:
            case ClassWeights(values, members):
                for value, member in zip(values, members):
                    each[np.isin(rows, member.to_numpy())] = value
            case RowWeights(values):
                each[:] = values
        if not each.any():
            raise tql.TqlPlanError(Diagnostic("value", "nothing to draw"))
        wanted = len(rows) if size is None else size
        wanted = wanted if replace else min(wanted, int((each > 0).sum()))
        rng = np.random.default_rng(1000 * seed + site)
        places = rng.choice(len(rows), wanted, replace, each / each.sum())
        return rows[places], ()

    return select(b, Environment(source, {}, seed, draw, Settings("reference")))


def answer(b: Bound, source: Any = SOURCE) -> tuple[list[int], dict[str, list[Any]]]:
    """Root rows in result order, and the values of the result's columns."""
    found = run(b, source)
    view = derive(found.source, found.rows, b.outputs, 3)
    everything = np.arange(view.rows)
    table = view.take(everything, view.schema.names)
    return view.identify(everything).tolist(), table.to_pydict()


def shape(plan: Plan) -> str:
    """The operators from the top down; a subquery in brackets."""
    match plan:
        case Scan():
            return "scan"
        case Derived(query):
            return f"[{shape(query.plan)}]"
        case Grouped(query) | Split(query) | Windows(query):
            return f"{type(plan).__name__.lower()}[{shape(query.plan)}]"
        case Joined(_, left, right):
            return f"joined({shape(left)}, {shape(right)})"
        case Stacked(branches):
            return f"stacked({', '.join(shape(b.plan) for b in branches)})"
        case Combine(first, steps):
            return f"({shape(first)} {' '.join(f'{s.op} {shape(s.plan)}' for s in steps)})"
        case _:
            return f"{type(plan).__name__.lower()} {shape(plan.input)}"


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("select * where i8 > 1", "filter scan", "filter scan"),
        ("select * from (select *)", "[scan]", "scan"),
        ("select * from (select * where i8 > 1) where i16 > 1", "filter [filter scan]", "filter scan"),
        ("select * from (select * where i8 > 1 limit 5) where i16 > 1", "filter [cut filter scan]",
         "filter cut filter scan"),
        ("select * from (select * from (select * where i8 > 1) where i16 > 2) where i32_n > 3",
         "filter [filter [filter scan]]", "filter scan"),
        ("select * from (select * order by i8) limit 3", "cut [order scan]", "cut order scan"),
        ("select * from (select * where i8 > 1) sample by i8", "sample [filter scan]",
         "sample filter scan"),
        ("select i8 from (select * where i8 > 1) group by i16 having count(*) > 1",
         "filter grouped[[filter scan]]", "filter grouped[filter scan]"),
        ("select i8 from (select i8 where i8 > 1) group by i8 ungroup by split",
         "split[grouped[[filter scan]]]", "split[grouped[filter scan]]"),
        ("select distinct i8 from (select * where i8 > 1) where i16 > 1",
         "distinct filter [filter scan]", "distinct filter scan"),
        ("select * from (select * where i8 > 1) where i16 > 1 expand by 1",
         "expand filter [filter scan]", "expand filter [filter scan]"),
        ("select * from (select * where i8 > 1 expand by 1) where i16 > 1",
         "filter [expand filter scan]", "filter expand filter scan"),
        ("select * from (select * from (select * where i8 > 1) where i16 > 1) expand by 1 as w",
         "windows[[filter [filter scan]]]", "windows[[filter scan]]"),
        ("select * where true", "filter scan", "scan"),
        ("select * from (select * where i8 > 1) where row_number() < 3", "filter [filter scan]",
         "filter [filter scan]"),
        ("select *, random() as r from (select * where i8 > 1)", "[filter scan]", "[filter scan]"),
        ("(select * from (select * where i8 > 1) where i16 > 1) union "
         "(select * from (select * where i8 > 1) where i16 < 0)",
         "(filter [filter scan] union filter [filter scan])",
         "(filter [filter scan] union filter [filter scan])"),
        ("select * from ((select * where i8 > 1) union (select * where i8 < 0)) where i16 > 1",
         "filter [(filter scan union filter scan)]", "filter (filter scan union filter scan)"),
    ],
)  # fmt: skip
def test_a_rewrite_gives_the_plan_and_keeps_the_answer(text: str, before: str, after: str) -> None:
    b = bound(text)
    assert shape(b.plan) == before
    assert shape(optimize(b).plan) == after
    assert answer(optimize(b)) == answer(b)


def predicate(condition: str) -> Expr:
    plan = bound(f"select * where {condition}").plan
    assert isinstance(plan, Filter)
    return plan.predicate


def test_merge_filters_joins_conditions_in_order_and_keeps_their_text() -> None:
    scan = Scan(None, SOURCE.schema)
    inner = Filter(scan, predicate("i8 > 1 or i8 < 0"), text="i8 > 1 or i8 < 0")
    outer = Filter(inner, predicate("i16 > 2"), text="i16 > 2")
    merged = merge_filters(Bound(outer, ())).plan
    assert isinstance(merged, Filter) and merged.input == scan
    assert merged.text == "(i8 > 1 or i8 < 0) and i16 > 2"
    assert merged.predicate == predicate("(i8 > 1 or i8 < 0) and i16 > 2")


def test_merge_subqueries_writes_outer_expressions_over_the_inner_source() -> None:
    merged = merge_subqueries(bound("select y * 2 as z from (select i8 + 1 as y) where y > 3"))
    assert source_of(merged.plan) == Scan(None, SOURCE.schema)
    assert merged.outputs == bound("select (i8 + 1) * 2 as z").outputs
    assert merged.plan == bound("select * where i8 + 1 > 3").plan


def test_the_passes_leave_their_input_alone_and_give_a_fixed_point() -> None:
    b = bound("select * from (select * where i8 > 1) where i16 > 1")
    names = [name for name, _ in stages(b)]
    assert names == ["bound", *(p.name for p in PASSES)]
    assert optimize(optimize(b)) == optimize(b)


conditions = st.sampled_from(
    ["i8 > 0", "i16 < 3 or i32_n is null", "i32_n > 1", "not (i8 == 2)", "text_n like 'a*'",
     "text_n is not null and i8 != 0", "i8 % 2 == 0", "true", "i32_n in (1, 2, 3)"]
)  # fmt: skip
# Conditions that raise on some row, and what keeps those rows out.
guarded = st.sampled_from([("i8 != 0", "i16 % i8 == 0"), ("i32_n > 0", "i8 % i32_n >= 0")])
tails = st.sampled_from(
    ["", " order by i16 desc, i8", " limit 50", " order by i8 limit 20 offset 3",
     " sample by 1 limit 30", " sample by max_weight(i8 > 0: 2, true: 1) replace false limit 20"]
)  # fmt: skip


@st.composite
def queries(draw: st.DrawFn, depth: int = 2) -> str:
    """A query over SOURCE whose result has all its columns."""
    if depth == 0:
        return "select *"
    source = draw(queries(depth - 1))
    match draw(st.integers(0, 4)):
        case 0:
            guard, danger = draw(guarded)
            return f"select * from (select * from ({source}) where {guard}) where {danger}"
        case 1:
            if "sample by" in source:  # each side would draw for itself: two sources
                source = "select *"
            op = draw(st.sampled_from(["union", "intersect", "except", "union all"]))
            sides = [
                f"(select * from ({source}) where {draw(conditions)}{draw(tails)})" for _ in "12"
            ]
            return f"{sides[0]} {op} {sides[1]}"
        case 2:
            where = f"row_number() % 3 != 1 and {draw(conditions)}"
            return f"select * from ({source}) where {where}{draw(tails)}"
        case _:
            return f"select * from ({source}) where {draw(conditions)}{draw(tails)}"


@settings(max_examples=250)
@given(queries())
def test_an_optimised_query_gives_what_the_query_as_written_gives(text: str) -> None:
    b = bound(text)
    try:
        wanted = answer(b)
    except tql.TqlPlanError as e:  # a draw from nothing is refused either way
        with pytest.raises(tql.TqlPlanError):
            answer(optimize(b))
        assert e.diagnostic.code == "value"
        return
    assert answer(optimize(b)) == wanted


def test_a_guard_in_an_inner_query_still_guards_after_merging() -> None:
    """Also where the guard is NULL: the inner query has dropped that row."""
    source = MemorySource(tql.open({"a": [1, None, 3], "b": [2, 0, 3]}).to_arrow())
    text = "select * from (select * where a > 0) where 6 % b == 0"
    b = bound(text, source)
    assert answer(b, source)[0] == answer(optimize(b), source)[0] == [0, 2]
    unguarded = bound("select * where 6 % b == 0 and a > 0", source)
    for query in (unguarded, optimize(unguarded)):
        with pytest.raises(tql.TqlDataError, match="in row 1"):
            run(query, source)


# -- the verifier ------------------------------------------------------------------------------

A = Column("i8", Int(8), False)
LOST = Column("lost", Int(8), False)
SCAN = Scan(None, SOURCE.schema)
TEST = compare(CompareOp.GT, A, constant(1, A.span), A.span)


def whole(plan: Plan, *outputs: Output) -> Bound:
    return Bound(plan, outputs or (Output("i8", A),))


OTHER: Expr = TextTest(
    Column("lost", SOURCE.schema["text_n"].dtype, True), TextIs(CompareOp.EQ, "a")
)


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (whole(SCAN, Output("x", A), Output("x", A)), "outputs repeat a name"),
        (whole(SCAN, Output("x", LOST)), "which the source does not have"),
        (whole(Filter(SCAN, A)), "a filter on int8"),
        (whole(Filter(SCAN, truth(LOST))), "which the source does not have"),
        (whole(Filter(SCAN, OTHER)), "which the source does not have"),
        (whole(Order(SCAN, ())), "an order without keys"),
        (whole(Order(SCAN, (SortKey(LOST, False),))), "which the source does not have"),
        (whole(Cut(SCAN, -1, None)), "offset -1"),
        (whole(Sample(SCAN, LOST, True, None, 0)), "which the source does not have"),
        (whole(Combine(SCAN, (SetStep(SetOp.UNION, False, Scan("other", SOURCE.schema)),))), "two sources"),
        (whole(Derived(whole(Filter(SCAN, A)))), "a filter on int8"),
        (whole(Cut(Filter(SCAN, Const(1, Int(8))), 0, None)), "a filter on int8"),
    ],
)  # fmt: skip
def test_the_verifier_names_the_pass_that_broke_a_rule(broken: Bound, what: str) -> None:
    with pytest.raises(AssertionError, match=what) as e:
        verify(broken, after="a-pass")
    assert "after a-pass" in str(e.value)


def test_the_verifier_accepts_what_the_binder_makes() -> None:
    verify(whole(Filter(SCAN, TEST)), after="bind")
    verify(bound("select i8 as x from (select *) where i16 > 2 order by x limit 3"), after="bind")


@pytest.mark.parametrize(
    "text",
    ["select *", "select * where i8 > 1", "select i8 where i8 > 1 or i16 < 2 order by i16 limit 3"],
)
def test_a_query_that_no_pass_changes_stays_the_same_object(text: str) -> None:
    before = bound(text)
    assert all(after is before for _, after in stages(before))
