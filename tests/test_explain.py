"""Explanations: golden texts, exact expectations against brute force, and what is never read."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tql
from tests.explain_data import ROWS, SPECIES, Watched, digits, small
from tql.dataset import Dataset
from tql.engine.scan import Settings
from tql.planner.stream import Remainder
from tql.queries import ask
from tql.reports import class_table as class_tables
from tql.reports import scans
from tql.reports.class_counts import Drawing
from tql.reports.class_table import ClassLine, class_table
from tql.reports.explain import Explanation, explain_query
from tql.reports.nodes import Node
from tql.reports.render import FORMATS, as_tree, bar
from tql.reports.text_table import width

CASES = sorted(Path(__file__).with_name("golden").joinpath("explain").glob("*.txt"))
MUST_SHOW = (
    "select * where labels != 5 sample by max_weight(labels == 5: 10, labels == 6: 5, true: 1)"
)


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


def lines_of(told: Explanation) -> dict[str, ClassLine]:
    assert told.table is not None
    return {line.name: line for line in told.table.lines}


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_the_tree_is_the_golden_one(case: Path, accept: bool) -> None:
    header, query, mark, expected = case.read_text("utf-8").split("\n", 3)
    assert mark == "----"
    dataset = {"# digits": digits, "# small": small}[header]()
    printed = f"{dataset.explain(query)}\n"
    if accept:
        case.write_text("\n".join([header, query, mark, printed]), "utf-8")
        expected = printed
    assert printed == expected
    assert all(width(line) <= 100 for line in printed.splitlines())


# -- what is read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (MUST_SHOW, {"labels"}),
        ("select * where labels != 5", {"labels"}),
        ("select *", {"labels"}),  # for the class table
        ("select images where row_number() < 9 limit 3", set()),
    ],
)
def test_no_payload_column_is_read(query: str, named: set[str]) -> None:
    source = Watched(digits().source)
    explain_query(ask(source, query), "digits")
    assert source.columns_read == named


def test_a_union_of_filters_reads_the_data_once_for_both() -> None:
    source = Watched(digits().source)
    query = "(select images where labels == 5) union (select images where labels == 6)"
    told = explain_query(ask(source, query), "digits")
    passes = len(source.reads) / len(source.fragments)
    assert passes == 2, "one for the filters, one for the class table"
    scans = [n for n in nodes(told.root) if n.kind == "Scan"]
    assert [n.bytes is None for n in scans] == [False, True]


def test_nothing_is_drawn_unless_the_query_is_analyzed() -> None:
    def draw(*_: Any) -> Any:
        raise AssertionError("something was drawn")

    for query in (MUST_SHOW, "select * from (select * sample by 1 limit 7) where labels = 1"):
        question = ask(digits().source, query)
        question = replace(question, environment=replace(question.environment, draw=draw))
        explain_query(question, "digits")
        with pytest.raises(AssertionError, match="something was drawn"):
            explain_query(question, "digits", analyze=True)


@pytest.mark.parametrize(
    "query",
    [
        "select labels where labels > 99 sample by 1",
        "select labels where labels > 99 sample by labels limit 5",
        "select * from (select * where labels > 99 sample by 1) where labels = 1",
        "select labels sample by 0",
        "select labels sample by -1 limit 3",
    ],
)
@pytest.mark.parametrize("analyze", [False, True])
def test_a_draw_that_cannot_be_made_is_the_same_error(query: str, analyze: bool) -> None:
    with pytest.raises(tql.TqlPlanError) as ran:
        digits().query(query)
    with pytest.raises(tql.TqlPlanError) as explained:
        digits().explain(query, analyze=analyze)
    assert str(explained.value) == str(ran.value)


def test_a_part_of_no_rows_is_none_and_no_error() -> None:
    for size in ("limit 0", "limit 50 percent"):
        query = f"select labels where labels > 99 sample by 1 {size}"
        assert digits().explain(query).root.rows == len(digits().query(query)) == 0


def test_representations_read_nothing() -> None:
    source = Watched(digits().source)
    told = explain_query(ask(source, MUST_SHOW), "digits")
    source.reads.clear()
    bundle = told._repr_mimebundle_()
    assert bundle["text/plain"] == str(told)
    assert bundle["text/html"] == told._repr_html_()
    told.to_dict()
    assert source.reads == []


# -- counts ------------------------------------------------------------------------------------


@given(
    values=st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=70),
    other=st.lists(st.one_of(st.none(), st.integers(0, 2)), min_size=70, max_size=70),
    condition=st.sampled_from(
        ["a != 3", "a > 1 and b = 1", "a > 1 or b = 1", "not (a in (1, 2) and b > 0)", "b is null"]
    ),
)
def test_rows_dropped_by_null_are_those_where_the_condition_is_null(
    values: list[int | None], other: list[int | None], condition: str
) -> None:
    rows = len(values)
    table = pa.table({"a": pa.array(values, pa.int32()), "b": pa.array(other[:rows], pa.int32())})
    unknown = sum(
        _condition(condition, a, b) is None for a, b in zip(values, other[:rows], strict=True)
    )
    told = tql.open(table).explain(f"select * where {condition}")
    said = [d for n in nodes(told.root) for d in n.details if "dropped because" in d]
    if unknown:
        found = re.match(r"(\d+) rows? dropped because [ab]( or b)? is null$", said[0])
        assert found is not None and int(found[1]) == unknown
    else:
        assert said == []
    kept = sum(
        _condition(condition, a, b) is True for a, b in zip(values, other[:rows], strict=True)
    )
    assert told.root.rows == kept


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ("select x, y where x > 0 and 10 % y >= 0", 1),
        ("select * from (select * limit 3) where x > 0 and 10 % y >= 0", 1),
        ("select * from (select distinct x, y) where x > 0 and 10 % y >= 0", 1),
        ("(select * where x > 0 and 10 % y >= 0) intersect (select * where x > 1)", 2),
        ("select * from (select * sample by 1 replace false) where x > 0 and 10 % y >= 0", 1),
        ("select * where (x > 0 or y = 0) and x > 0 and 10 % (y * x) >= 0", 1),
    ],
)
def test_counting_nulls_raises_nothing_that_the_query_does_not(query: str, unknown: int) -> None:
    dataset = tql.open({"x": pa.array([1, None, 3, -1]), "y": [2, 0, 5, 0]})
    told = dataset.explain(query, analyze=True)
    assert told.root.rows == told.root.actual == len(dataset.query(query))
    said = [d for n in nodes(told.root) for d in n.details if "because x is null" in d]
    assert sum(int(d.split()[0]) for d in said) == unknown
    with pytest.raises(tql.TqlDataError, match="integer modulo by zero in row 1"):
        dataset.explain("select * where 10 % y >= 0 and x > 0")


def test_nulls_are_counted_only_in_fragments_that_the_filter_reads(tmp_path: Path) -> None:
    """A fragment that statistics rule out is not looked at, and so raises nothing."""
    table = pa.table({"x": [1, 2, 3, 4, None, 6], "y": [0, 1, 0, 5, 6, 7]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    dataset = tql.open(tmp_path / "t.parquet")
    query = "select * where 10 % y >= 0 and x > 3"
    assert dataset.explain(query).root.rows == len(dataset.query(query)) == 2
    assert "1 row dropped because x is null" in str(dataset.explain(query))


def _condition(text: str, a: int | None, b: int | None) -> bool | None:
    """The condition for one row by SQL's three-valued logic."""
    match text:
        case "a != 3":
            return None if a is None else a != 3
        case "a > 1 and b = 1":
            return _and(None if a is None else a > 1, None if b is None else b == 1)
        case "a > 1 or b = 1":
            return _not(_and(None if a is None else a <= 1, None if b is None else b != 1))
        case "not (a in (1, 2) and b > 0)":
            return _not(_and(None if a is None else a in (1, 2), None if b is None else b > 0))
        case _:
            return b is None


def _and(p: bool | None, q: bool | None) -> bool | None:
    if p is False or q is False:
        return False
    return None if p is None or q is None else True


def _not(p: bool | None) -> bool | None:
    return None if p is None else not p


@pytest.mark.parametrize(
    "query",
    [
        MUST_SHOW,
        "select * where labels > 6 order by labels limit 100 offset 20",
        "(select * where labels = 1) intersect (select * where labels < 3)",
        "(select * where labels = 1) union all (select * where labels < 3)",
        "select * sample by max_weight(labels = 2: 1) replace false",
        "select * from (select * where labels = 1 sample by 1 limit 50) where labels = 1 limit 7",
    ],
)
def test_counted_rows_are_the_actual_ones(query: str) -> None:
    told = digits().explain(query, analyze=True)
    given = digits().query(query)
    assert told.root.rows == told.root.actual == len(given)
    assert all(n.rows == n.actual for n in nodes(told.root) if n.actual is not None)
    assert all(name in ("explain", "run") and s >= 0 for name, s in told.seconds)
    plain = digits().explain(query)
    assert plain.root.rows in (len(given), None)


# -- the class table ---------------------------------------------------------------------------


@given(
    codes=st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=150),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0, 1e-9]), min_size=4, max_size=4),
    keep=st.integers(0, 4),
    draws=st.integers(1, 1000),
    kind=st.sampled_from(["max", "rows"]),
)
def test_expected_draws_with_replacement_are_exact(
    codes: list[int | None], weights: list[float], keep: int, draws: int, kind: str
) -> None:
    """Against D·Σw(class)/Σw by NumPy, over the rows that a filter keeps; nulls are a class."""
    table = pa.table({"c": pa.array(codes, pa.int8())})
    dataset = tql.open(table, class_names={"c": SPECIES})
    alike = np.array([-1 if c is None else c for c in codes])
    per_row = np.array([0.25 if c < 0 else weights[c] + 0.25 for c in alike])
    kept = (alike != keep) | (alike < 0)
    arms = ", ".join(f"c == {k}: {weights[k] + 0.25!r}" for k in range(4))
    weight = f"max_weight({arms}, true: 0.25)"
    if kind == "rows":  # one weight per row: the same values, but no constant in the expression
        dataset = tql.open(table.append_column("w", pa.array(per_row)), class_names={"c": SPECIES})
        weight = "w"
    where = f"c != {keep} or c is null"
    if not kept.any():
        with pytest.raises(tql.TqlPlanError):
            dataset.explain(f"select * where {where} sample by {weight} limit {draws}")
        return
    told = dataset.explain(f"select * where {where} sample by {weight} limit {draws}")
    assert told.table is not None and not told.table.approximate
    found = lines_of(told)
    total = per_row[kept].sum()
    for k, name in enumerate((*SPECIES, "null")):
        here = alike == (k if k < 4 else -1)
        if not here.any():
            assert name not in found
            continue
        line = found[name]
        assert (line.source_rows, line.rows) == (here.sum(), (here & kept).sum())
        assert line.dropped == (not (here & kept).any())
        expected = draws * per_row[here & kept].sum() / total
        assert line.expected == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert line.expected_share == pytest.approx(expected / draws, rel=1e-12, abs=1e-12)
    assert sum(line.expected or 0 for line in told.table.lines) == pytest.approx(draws)


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=4),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 4.0]), min_size=4, max_size=4),
    part=st.floats(0.01, 1.0),
    kind=st.sampled_from(["max", "rows"]),
)
def test_expected_draws_without_replacement_add_up_and_never_exceed_the_rows(
    counts: list[int], weights: list[float], part: float, kind: str
) -> None:
    codes = np.repeat(np.arange(len(counts)), counts)
    per_row = np.array(weights)[codes]
    positive = int((per_row > 0).sum())
    table = pa.table({"c": pa.array(codes, pa.int8()), "w": pa.array(per_row)})
    dataset = tql.open(table, class_names={"c": SPECIES})
    arms = ", ".join(f"c == {k}: {w!r}" for k, w in enumerate(weights))
    weight = "w" if kind == "rows" else f"max_weight({arms})"
    size = max(1, int(part * len(codes)))
    query = f"select * sample by {weight} replace false limit {size}"
    if not positive:
        with pytest.raises(tql.TqlPlanError):
            dataset.explain(query)
        return
    told = dataset.explain(query)
    assert told.table is not None
    drawn = min(size, positive)
    assert told.root.rows == drawn
    lines = lines_of(told)
    assert sum(line.expected or 0 for line in lines.values()) == pytest.approx(drawn, rel=1e-6)
    for k, n in enumerate(counts):
        line = lines[SPECIES[k]]
        assert line.expected is not None
        assert -1e-9 <= line.expected <= n + 1e-9
        if weights[k] == 0:
            assert line.expected == 0
        if drawn == positive:
            assert line.expected == (n if weights[k] > 0 else 0)
    used = {w for w in per_row.tolist() if w > 0}
    assert told.table.approximate == (len(used) > 1 and drawn < positive)


def test_the_approximation_without_replacement_is_close_to_the_mean_of_many_draws() -> None:
    """300 draws of 60 of 300 rows; the bound is 5 standard errors and 1 % of the rows."""
    codes = np.repeat([0, 1, 2], [100, 150, 50])
    dataset = tql.open({"c": codes}, class_names={"c": SPECIES})
    text = "select * sample by max_weight(c = 0: 5, c = 1: 1, c = 2: 2) replace false limit 60"
    told = dataset.explain(text)
    assert told.table is not None and told.table.approximate
    drawn = np.array(
        [np.bincount(codes[dataset.query(text, seed=s).row_ids], minlength=3) for s in range(300)]
    )
    for k, line in enumerate(told.table.lines):
        error = 5 * drawn[:, k].std() / math.sqrt(300)
        assert abs(drawn[:, k].mean() - (line.expected or 0)) <= error + 0.01 * line.rows


def test_the_expected_shares_come_true_in_a_drawn_epoch() -> None:
    """A chi-square test of 9 classes: a true share fails it once in a million seeds."""
    chain = digits().dataloader(seed=7).query("select * where labels != 5")
    chain = chain.sample_by(
        "max_weight(labels == 5: 10, labels == 6: 5, true: 1)", size=20_000
    ).shuffle()
    told = chain.explain()
    labels = np.array(digits().to_arrow().column("labels"))
    drawn = np.bincount(labels[chain.plan.ids()], minlength=10)
    assert told.table is not None
    expected = np.array([line.expected or 0.0 for line in told.table.lines])
    assert drawn.sum() == 20_000 and expected.sum() == pytest.approx(20_000)
    assert drawn[5] == expected[5] == 0
    live = expected > 0
    chi_square = ((drawn - expected)[live] ** 2 / expected[live]).sum()
    assert chi_square < 41.8, "the 1 - 1e-6 quantile of chi-square with 8 degrees of freedom"


@pytest.mark.parametrize("weight", ["max_weight(t == 'a': 4, t == 'b': 0.5, x > 90: 1)", "x * x"])
@pytest.mark.parametrize("order", ["", "order by x desc limit 150", "limit 3"])
@pytest.mark.parametrize("replaced", [True, False])
def test_classes_are_added_up_over_fragments(
    tmp_path: Path, weight: str, order: str, replaced: bool
) -> None:
    """Row groups of 7, each of which meets the texts in an order of its own."""
    rng = np.random.default_rng(5)
    texts, x = rng.choice(["a", "b", "c", None], 200), np.arange(200.0) % 100  # type: ignore[list-item]
    table = pa.table({"t": pa.array(texts.tolist()), "x": x})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    query = (
        f"select * where x != 3 {order} sample by {weight} replace {str(replaced).lower()} limit 2"
    )
    dataset = tql.open(tmp_path / "a.parquet")
    told = dataset.explain(query)
    if "x * x" in weight:
        assert told.table is None
        question = ask(dataset.source, query)
        population = question.population()
        assert population is not None
        drawing = Drawing(population.weights, 2, replaced)
        table_of_t = class_table(dataset.source, "t", population.rows, drawing, Settings())
    else:
        table_of_t = told.table
    assert table_of_t is not None and table_of_t.by == "t"
    kept = np.flatnonzero(x != 3)
    if "desc" in order:
        kept = kept[np.argsort(-x[kept], kind="stable")][:150]
    kept = kept[:3] if order == "limit 3" else kept
    w = x * x
    if "max_weight" in weight:
        w = np.maximum.reduce([4 * (texts == "a"), 0.5 * (texts == "b"), 1.0 * (x > 90)])
    found = {line.name: line for line in table_of_t.lines}
    assert list(found) == ["a", "b", "c", "null"]
    for name, line in found.items():
        here = kept[texts[kept] == (None if name == "null" else name)]
        assert line.source_rows == (texts == (None if name == "null" else name)).sum()
        assert line.rows == len(here)
        if len(here):
            assert (line.weight_low, line.weight_high) == (w[here].min(), w[here].max())
        if replaced:
            assert line.expected == pytest.approx(2 * w[here].sum() / w[kept].sum())
    assert sum(line.expected or 0 for line in found.values()) == pytest.approx(
        2 if replaced else min(2, (w[kept] > 0).sum()), rel=1e-6
    )


def test_a_column_of_the_weight_is_preferred_then_one_of_the_filter() -> None:
    dataset = small()
    weighted = dataset.explain("select * where big > 3 sample by max_weight(species == 'cat': 2)")
    filtered = dataset.explain("select * where big > 3 sample by max_weight(tame: 2, true: 1)")
    plain = dataset.explain("select id, big")
    nothing = dataset.explain("select id")
    assert weighted.table is not None and weighted.table.by == "species"
    assert filtered.table is not None and filtered.table.by == "big"
    assert plain.table is not None and plain.table.by == "big"
    assert nothing.table is None


def test_a_column_of_too_many_values_is_no_class_column() -> None:
    many = tql.open({"n": np.arange(5000), "flag": np.arange(5000) % 2 == 0})
    told = many.explain("select * sample by max_weight(n = 3: 2, flag = true: 1)")
    assert told.table is not None and told.table.by == "flag"


def test_repeated_and_reordered_rows_count_as_often_as_they_arrive() -> None:
    query = (
        "(select * where labels = 1) union all (select * where labels < 2 limit 10) "
        "sample by max_weight(labels = 1: 3, true: 1) limit 100"
    )
    told = digits().explain(query)
    labels = np.array(digits().to_arrow().column("labels"))
    arriving = np.concatenate([labels[labels == 1], labels[labels < 2][:10]])
    zero, one = (int((arriving == k).sum()) for k in (0, 1))
    lines = lines_of(told)
    assert (lines["zero"].rows, lines["one"].rows) == (zero, one)
    assert lines["one"].expected == pytest.approx(100 * 3 * one / (3 * one + zero))


# -- loaders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("remainder", ["short", "drop", "pad", "mask"])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("offset", [0, 5, 40])
def test_the_loader_has_as_many_batches_as_its_explanation_says(
    drop_last: bool, remainder: Remainder, rank: int, world: int, offset: int
) -> None:
    chain = small().dataloader(seed=3).query("select id, species").shuffle().offset(offset)
    loader = chain.batch(7, drop_last=drop_last).numpy(
        rank=rank, world_size=world, remainder=remainder
    )
    root = loader.explain().root
    assert root.kind == "Loader"
    assert re.search(rf"\b{len(loader)} batch(es)?$", root.title), root.title


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select * limit 3 offset 1", "3, the first row passed over"),
        ("select * limit 3 offset 2", "3, the first 2 rows passed over"),
        ("select * offset 1", "the first row passed over"),
    ],
)
def test_one_row_is_told_as_one(query: str, said: str) -> None:
    assert said in str(small().explain(query)).replace("  ", " ")
    assert "1 row;" in repr(small().query("select * limit 1"))


def test_a_loader_tells_its_steps_from_the_data_up() -> None:
    loader = (
        small()
        .dataloader(seed=7)
        .query("select id, species, score where species != 'dog'")
        .sample_by("max_weight(species == 'cat': 4, true: 1)", size=100)
        .shuffle()
        .offset(10)
        .batch(8)
        .numpy(rank=0, world_size=3, remainder="drop")
    )
    told = loader.explain()
    kinds = [n.kind for n in nodes(told.root)]
    assert kinds == ["Loader", "Shuffle", "Sample", "Select", "Filter", "Scan"]
    assert "remainder drop: 18 rows of an epoch left out" in told.root.details[1]
    scan = list(nodes(told.root))[-1]
    assert scan.title.endswith("columns: species")
    assert told.fetch is not None and told.fetch[0] == ("id", "score")
    assert lines_of(told)["dog"].dropped


def test_a_loader_over_drawn_rows_explains_the_last_step_over_them() -> None:
    weights = "max_weight(species == 'cat': 1)"
    chain = small().dataloader(seed=1).sample_by(weights, size=30, resample="once")
    chain = chain.query("select * where tame").batch(4)
    told = chain.explain()
    assert told.root.children[0].rows == len(chain.plan)
    assert [n.kind for n in nodes(told.root)] == ["Loader", "Filter", "Sample", "Scan"]


def test_a_loader_with_an_array_of_weights_is_explained() -> None:
    chain = small().dataloader().sample_by(np.arange(ROWS, dtype=np.float64)).batch(4)
    told = chain.explain()
    lines = lines_of(told)  # the only column with class names that is loaded comes first
    assert told.table is not None and told.table.by == "species"
    assert sum(line.expected or 0 for line in lines.values()) == pytest.approx(ROWS)


def test_a_loader_over_a_view_names_the_columns_of_the_view() -> None:
    view = digits().query("select labels, labels * 2 as two where labels > 3")
    told = view.dataloader().sample_by("two").explain()
    scan = list(nodes(told.root))[-1]
    assert scan.title == "view, 1 of 1 fragments kept; columns: two"
    lines = lines_of(told)
    assert lines["zero"].dropped
    assert (lines["nine"].weight_low, lines["nine"].weight_high) == (18, 18)


# -- formats -----------------------------------------------------------------------------------


def test_the_dictionary_is_json_with_a_version() -> None:
    told = digits().explain(MUST_SHOW, analyze=True)
    found = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert found["version"] == 1
    assert found["plan"]["kind"] == "sample"
    assert found["plan"]["actual_rows"] == found["plan"]["rows"] == 1615
    assert set(found) == {
        "version", "kind", "source", "seed", "query", "plan", "classes", "fetch", "notes",
        "analyzed", "seconds",
    }  # fmt: skip
    six = next(line for line in found["classes"]["lines"] if line["class"] == "six")
    assert six["weight"] == [5, 5] and six["rows"] == 181
    plain = digits().explain(MUST_SHOW).to_dict()
    assert "actual_rows" not in plain["plan"]


class Tags(HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        assert all(
            name in ("class", "style", "lang", "charset", "name", "content") for name, _ in attrs
        )
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile() -> Explanation:
    names = ("<script>alert(1)</script>", 'a"b\\', "\x1b[31mred", "猫" * 30)
    dataset = Dataset(tql.open({"c": [0, 1, 2, 3]}, class_names={"c": names}).source, "<b>&")
    return dataset.explain(
        "select * where c != '<script>alert(1)</script>' sample by max_weight(c = 1: 2, true: 1)"
    )


def test_html_is_a_page_of_its_own_with_everything_escaped() -> None:
    page = FORMATS["html"](hostile())
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not tags.seen & {"script", "b>", "img", "link"}
    assert "<script>alert(1)</script>" in tags.text
    assert "light-dark(" in page and "http" not in page


def test_text_fits_100_columns_and_cannot_steer_a_terminal() -> None:
    told = hostile()
    for columns in (80, 100):
        text = as_tree(told, columns)
        assert "\x1b" not in text
        assert max(width(line) for line in text.splitlines()) <= columns
    assert "\x1b" not in FORMATS["mermaid"](told) + FORMATS["dot"](told)


def test_graphs_name_every_node_once() -> None:
    told = digits().explain("(select * where labels = 1) union (select * where labels = 2)")
    count = len(list(nodes(told.root)))
    mermaid, dot = FORMATS["mermaid"](told), FORMATS["dot"](told)
    assert len(re.findall(r"^  n\d+\[", mermaid, re.MULTILINE)) == count
    assert len(re.findall(r"^  n\d+ --> n\d+$", mermaid, re.MULTILINE)) == count - 1
    assert len(re.findall(r"^  n\d+ \[label=", dot, re.MULTILINE)) == count
    assert len(re.findall(r"^  n\d+ -> n\d+;$", dot, re.MULTILINE)) == count - 1
    quoted = FORMATS["dot"](hostile())
    assert re.fullmatch(r'(?:[^"\\]|"(?:[^"\\]|\\.)*")*', quoted), "every quote is closed"


@pytest.mark.parametrize("part", [0.0, 1e-9, 0.3, 1.0])
def test_a_bar_is_as_long_as_its_part(part: float) -> None:
    drawn = bar(part, 20)
    assert (drawn != "") == (part > 0)
    assert abs(len(drawn) - 20 * part) <= 1


def test_an_error_in_the_query_keeps_its_place() -> None:
    with pytest.raises(tql.TqlPlanError) as caught:
        digits().explain("select * sample by max_weight(labels = 1: -2)")
    assert "^^" in str(caught.value)


def test_what_lies_below_a_chain_of_unions_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(source: Any, columns: Any) -> Any:
        asked.append(id(source))
        return parts(source, columns)

    parts = scans._parts
    monkeypatch.setattr(scans, "_parts", counted)
    view: Dataset = small()
    text = "select {0} + 1 as {0} union all select {0} - 1 as {0} limit 5"
    name = next(c.name for c in view.schema if str(c.dtype).startswith("int"))
    levels = 15
    for _ in range(levels):
        view = view.query(text.format(name))
    assert view.explain(f"select * where {name} > 3").root.rows is not None
    # A union and its two sides for each level, by the scan and by what is fetched later.
    assert 0 < len(asked) <= 2 * 3 * levels


FEW_LABELS = '(select labels from "demo:digits" limit 60)'


@pytest.mark.parametrize(
    "text",
    ["select a.labels, b.labels as other from {few} a, {few} b",
     "select labels from (select a.labels from {few} a, {few} b "
     "union all select a.labels from {few} a, {few} b)"],
)  # fmt: skip
def test_pairs_of_rows_beyond_a_bound_are_not_counted_by_class(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text.format(few=FEW_LABELS)
    data = digits()
    told = data.explain(text)
    assert told.table is not None and not told.notes
    pairs = sum(line.source_rows for line in told.table.lines)
    assert pairs >= 3600
    monkeypatch.setattr(class_tables, "_MOST_PAIRS", pairs)
    assert data.explain(text).table == told.table
    monkeypatch.setattr(class_tables, "_MOST_PAIRS", pairs - 1)
    told = data.explain(text)
    assert told.table is None
    (note,) = told.notes
    assert note.startswith("a table by") and f"{pairs:,} pairs of rows" in note
