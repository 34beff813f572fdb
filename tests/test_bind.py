"""What people read when a query does not fit its data, and where each error points."""

import json
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import tql
from tql.diagnostics import NOWHERE, Span, TqlError
from tql.grammar.parser import parse
from tql.language import functions, operators, other_names
from tql.language.bind import bind
from tql.language.expr import (
    And,
    Arith,
    ArithOp,
    Column,
    Compare,
    CompareOp,
    Const,
    Expr,
    InSet,
    Or,
    can_raise,
    walk_inside,
)
from tql.language.operators import logic
from tql.language.plan import Filter
from tql.schema import Bool, Int, Label, Text

GOLDEN = Path(__file__).with_name("golden") / "errors"
CASES = sorted(GOLDEN.glob("*.txt"))

# Five rows: enough for the errors that a row causes.
TABLE = pa.table(
    {
        "id": pa.array([0, 1, 2, 3, 4], pa.int64()),
        "width": pa.array([640, 0, 320, 2**62, 10], pa.int64()),
        "count": pa.array([1, 2, 3, 4, 5], pa.uint8()),
        "score": pa.array([0.5, float("nan"), -1.0, None, float("inf")], pa.float32()),
        "flag": [True, False, True, True, None],
        "caption": ["a cat", "a dog", None, "", "it's"],
        "labels": pa.array([0, 1, 2, 0, 1], pa.int8()),
        "tags": pa.array([[1, 2], [], None, [3], [4]], pa.list_(pa.int32())),
        "meta": pa.array([{"author": "ann"}] * 5),
        "taken": pa.array([0, 1, 2, 3, 4], pa.timestamp("s")),
        "price": pa.array([1, 2, 3, 4, 5], pa.decimal128(9, 2)),
        "images": [b"1", b"2", b"3", b"4", b"5"],
        "group/name": [1, 2, 3, 4, 5],
    }
)


@pytest.fixture(scope="module")
def ds() -> tql.Dataset:
    return tql.open(TABLE, class_names={"labels": ["cat", "dog", "horse"]})


def parts(case: Path) -> tuple[str, Any, str, str]:
    """The schema line, the parameters, the query, and what is printed for it."""
    given, line, rest = case.read_text("utf-8").partition("\n----\n")
    assert line, f"{case.name} has no line of four hyphens"
    header, _, query = given.partition("\n")
    params, query = with_params(query)
    return header, params, query, rest.partition("----\n")[0]


def with_params(text: str) -> tuple[Any, str]:
    """The parameters that stand before a query, and the query."""
    if not text.startswith("# params: "):
        return None, text
    shown, _, query = text.partition("\n")
    return json.loads(shown.removeprefix("# params: ")), query


def repaired(case: Path) -> str:
    """What stands behind the message: the query that follows its advice, "" where there is none."""
    return case.read_text("utf-8").partition("\n----\n")[2].partition("----\n")[2].rstrip("\n")


def refusal(ds: tql.Dataset, query: str, params: Any = None) -> tql.TqlError:
    """The error of the query, at the latest when its result is read."""
    with pytest.raises(tql.TqlError) as e:
        ds.query(query, params).to_arrow()
    return e.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_error_reads_like_its_golden_file(case: Path, ds: tql.Dataset, accept: bool) -> None:
    header, params, query, expected = parts(case)
    schema = "# " + ", ".join(map(str, ds.schema))
    printed = f"{refusal(ds, query, params)}\n"
    if accept:
        shown = "" if params is None else f"# params: {json.dumps(params)}\n"
        rest = f"----\n{repaired(case)}\n" if repaired(case) else ""
        case.write_text(f"{schema}\n{shown}{query}\n----\n{printed}{rest}", "utf-8", newline="")
        return
    assert header == schema
    assert printed == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_error_says_where_and_offers_a_way_out(case: Path, ds: tql.Dataset) -> None:
    _, params, query, _ = parts(case)
    d = refusal(ds, query, params).diagnostic
    assert d.help, "no way out is offered"
    unused = case.stem in ("parameter-too-many", "parameter-unknown-name")  # not in the text
    assert (d.span == NOWHERE) == unused, "no place is marked"
    for inside in ("Const(", "Column(", "Int(", "Float(", "NoneType", "tuple", "numpy"):
        assert inside not in d.message, f"{inside} is a name from inside"


@pytest.mark.parametrize("case", [c for c in CASES if repaired(c)], ids=lambda case: case.stem)
def test_a_repaired_query_runs_and_its_words_are_told(case: Path, ds: tql.Dataset) -> None:
    """Every word of it is in the query or in the message, is a column or a value, or joins them."""
    _, _, query, printed = parts(case)
    params, better = with_params(repaired(case))
    assert better != query or params is not None
    ds.query(better, params).to_arrow()
    word = r"[^\W\d]\w*"
    known = {w.lower() for w in re.findall(word, query + printed)}
    known |= {"x", "y", "and", "where", *ds.columns}
    written = re.sub(r"'[^']*'|\$\w+", "", better)
    assert [w for w in re.findall(word, written) if w.lower() not in known] == [], printed


def test_most_mistakes_show_how_they_are_repaired() -> None:
    assert len([case for case in CASES if repaired(case)]) >= 120


def test_each_mistake_has_its_own_file() -> None:
    seen = [parts(case)[1:3] for case in CASES]
    assert len(seen) >= 35
    assert len({json.dumps(s) for s in seen}) == len(seen)


# -- places ------------------------------------------------------------------------------------


def marked(text: str) -> tuple[str, list[Span]]:
    """The query without its marks « », and the marked places in the order they open."""
    query, opened, found = "", list[int](), list[tuple[int, Span]]()
    order = 0
    starts = []
    for c in text:
        if c == "«":
            opened.append(order)
            starts.append(len(query))
            order += 1
        elif c == "»":
            found.append((opened.pop(), Span(starts.pop(), len(query))))
        else:
            query += c
    return query, [span for _, span in sorted(found, key=lambda pair: pair[0])]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("select * where «widht» > 640", "unknown_column"),
        ("select * where id > 1 and «Width» > 640", "unknown_column"),
        ("select * where ««id» == «'tall'»»", "type"),
        ("select * where ««caption» < «3»»", "type"),
        ("select * where not «caption»", "type"),
        ("select * where «tags and id > 1»", "type"),
        ("select * where labels == «'cow'»", "value"),
        ("select * where labels in ('cat', «'cow'»)", "value"),
        ("select * where «id» like 'a*'", "type"),
        ("select * where caption like «3»", "type"),
        ("select * where «tags» in (1, 2)", "type"),
        ("select * where «tags» between 1 and 2", "type"),
        ("select * where id in (1, «'x'»)", "type"),
        ("select * where «absolute»(id) > 1", "unknown_function"),
        ("select * where «abs(id, 2)» > 1", "arity"),
        ("select * where «sum(tags, 1)» > 1", "value"),
        ("select * where «tags[0, 1]» == 1", "shape"),
        ("select «*»  order by «tags»", "type"),
        ("select * order by «1»", "unsupported"),
        ("select * order by id limit «-1»", "value"),
        ("select * limit «1.5»", "value"),
        ("select * limit «id»", "type"),
        ("select * sample by «caption»", "type"),
        ("select * sample by max_weight(labels == 0: «'heavy'»)", "type"),
        ("select * sample by max_weight(labels == 0: «-1»)", "value"),
        ("select id, «width as id»", "duplicate_column"),
        ("select «id + width»", "syntax"),
        ("select * where «meta.author» == 'ann'", "unknown_alias"),
        ("select * where «group.name» == 1", "unknown_alias"),
        ("select * from «\"nowhere.parquet\"»", "source"),
        ("select * where id == «?»", "parameter"),
        ("select * where «id % width» == 0", "value"),
        ("select * where «width * 8» > 0", "range"),
        ("select * where «price» > 1", "unsupported"),
        ("(select «id») union (select width)", "schema"),
    ],
)  # fmt: skip
def test_an_error_points_at(text: str, code: str, ds: tql.Dataset) -> None:
    """The outer marks are the place of the error, marks inside it those of its notes, in order."""
    query, spans = marked(text.replace("«*» ", "*").replace("group.name", '"group".name'))
    d = refusal(ds, query).diagnostic
    assert (d.code, d.span) == (code, spans[0]), query[d.span.start : d.span.stop]
    if len(spans) > 1:
        assert [n.span for n in d.notes] == spans[1:]


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("select * where nope > 1", tql.TqlNameError),
        ("select * where nope(1)", tql.TqlNameError),
        ("select * where id == 'x'", tql.TqlTypeError),
        ("select * where abs()", tql.TqlTypeError),
        ("select * where labels == 'cow'", tql.TqlPlanError),
        ("select * where id % width == 0", tql.TqlDataError),
        ("select * sample by score", tql.TqlDataError),
        ("select * sample by -1", tql.TqlPlanError),
        ("select count(*) as n", tql.TqlUnsupportedError),
        ("select * from \"nowhere.parquet\"", tql.TqlDataError),
        ("select * where", tql.TqlSyntaxError),
    ],
)  # fmt: skip
def test_an_error_is_of_the_class_of_its_cause(
    query: str, kind: type[tql.TqlError], ds: tql.Dataset
) -> None:
    e = refusal(ds, query)
    assert type(e) is kind
    assert isinstance(e, LookupError) == (kind is tql.TqlNameError)
    assert isinstance(e, TypeError) == (kind is tql.TqlTypeError)
    assert isinstance(e, ValueError) == (kind is tql.TqlPlanError)


def test_errors_are_raised_when_the_query_is_submitted_not_when_it_is_read(ds: tql.Dataset) -> None:
    for query in ("select caption + 1 as x", "select nope", "select id limit 0 offset 'x'"):
        with pytest.raises(tql.TqlError):
            ds.query(query)


def test_both_sides_of_and_are_typed_even_where_one_decides(ds: tql.Dataset) -> None:
    assert refusal(ds, "select * where false and nope == 1").diagnostic.code == "unknown_column"
    assert refusal(ds, "select * where true or caption > 1").diagnostic.code == "type"


def test_a_row_that_is_out_already_raises_nothing(ds: tql.Dataset) -> None:
    kept = ds.query("select * where width > 0 and id % width == id").row_ids.tolist()
    assert kept == [0, 2, 3, 4]
    nested = ds.query("select * from (select * where width > 0) where id % width == id")
    assert nested.row_ids.tolist() == kept
    # Row 4 has no flag: NULL puts it out as FALSE does.
    assert ds.query("select * where flag and count % (id - 4) >= 0").row_ids.tolist() == [0, 2, 3]
    limited = ds.query("select * from (select * limit 1) where id % width == 0")
    assert limited.row_ids.tolist() == [0]


def test_evaluation_names_rows_as_row_ids_does(ds: tql.Dataset) -> None:
    view = ds.query("select * order by id desc")
    assert "in row 1" in str(refusal(view, "select * where id % width == 0"))
    assert "in row 1" in str(refusal(ds, "select * order by id % width"))


@pytest.mark.parametrize(
    "read",
    [
        lambda view: view.to_arrow(),
        lambda view: view[1],
        lambda view: list(view.batches(2)),
        lambda view: view.query("select  rest + 1 as more").to_arrow(),
        lambda view: view.query("select   *   where   rest == 0"),
        lambda view: view.query("select * order by rest"),
        lambda view: view.sample_by("rest"),
    ],
)
def test_an_error_of_a_view_points_into_the_query_that_made_the_column(
    read: Callable[[tql.View], Any], ds: tql.Dataset
) -> None:
    """However the view is read, and whatever is asked of it."""
    text = "select id, id % width as rest"
    view = ds.query(text)
    with pytest.raises(tql.TqlDataError, match="modulo by zero in row 1") as e:
        read(view)
    d = e.value.diagnostic
    assert (e.value.query, text[d.span.start : d.span.stop]) == (text, "id % width")
    assert f"1 | {text}\n  |            ^^^^^^^^^^" in str(e.value)
    again = pickle.loads(pickle.dumps(e.value))
    assert (str(again), again.query) == (str(e.value), text)


def test_a_draw_that_fits_in_no_memory_is_refused(ds: tql.Dataset) -> None:
    for size in ("18446744073709551615", "1e300 percent"):
        e = refusal(ds, f"select * sample by 1 limit {size}")
        assert (e.diagnostic.code, e.diagnostic.span) == ("range", Span(9, 27 + len(size)))
    with pytest.raises(tql.TqlPlanError):
        ds.sample_by("id", size=2**60)
    # Without replacement there are never more draws than rows.
    assert len(ds.query("select * sample by 1 replace false limit 18446744073709551615")) == 5
    assert len(ds.sample_by("id", replace=False, size=2**60)) == 4


def test_a_like_pattern_that_is_too_long_is_refused(ds: tql.Dataset) -> None:
    e = refusal(ds, f"select * where caption like '{'?' * 300_000}'")
    assert e.diagnostic.code == "value"
    assert "300000 characters" in e.diagnostic.message


def test_a_query_of_ten_thousand_terms_binds(ds: tql.Dataset) -> None:
    terms = " or ".join(f"id == {n}" for n in range(3, 10_003))
    assert ds.query(f"select * where {terms}").row_ids.tolist() == [3, 4]
    listed = ", ".join(str(n) for n in range(3, 10_003))
    assert ds.query(f"select * where id in ({listed})").row_ids.tolist() == [3, 4]
    deep = "(" * 150 + "id" + ")" * 150
    assert len(ds.query(f"select * where {deep} > 3")) == 1


# -- what binding costs ------------------------------------------------------------------------


class Searched(tuple[str, ...]):
    """Class names that may be gone through, but not once for every name."""

    passes = 0

    def __iter__(self) -> Iterator[str]:
        Searched.passes += 1
        return super().__iter__()

    def __contains__(self, name: object) -> bool:
        raise AssertionError("a linear search")

    def index(self, *_: Any) -> int:
        raise AssertionError("a linear search")

    def __hash__(self) -> int:
        raise AssertionError("as long as a linear search")


def test_a_list_of_class_names_goes_through_the_classes_once() -> None:
    names = Searched(f"class {n}" for n in range(3000))
    label = Label(names, Int(32))
    asked = [Const(f"class {n}", Text()) for n in range(0, 3000, 2)]
    Searched.passes = 0
    found = operators.one_of(Column("x", label, True), list(asked), NOWHERE)
    assert isinstance(found, InSet) and found.values == tuple(range(0, 3000, 2))
    for constant in asked:
        found = operators.compare(CompareOp.EQ, Column("x", label, True), constant, NOWHERE)
    assert isinstance(found, Compare)
    assert Searched.passes == 1


def test_a_class_name_is_the_index_where_it_stands_first() -> None:
    label = Label(("cat", "dog", "cat"), Int(8))
    assert operators.label_index(Const("cat", Text()), label) == Const(0, Int(64))


def test_a_class_beyond_the_storage_type_equals_nothing() -> None:
    here = tql.open(
        pa.table({"x": pa.array([1, 2], pa.int8()), "l": pa.array([[1], [2, 3]], pa.list_(pa.int8()))}),
        class_names={"x": [f"c{n}" for n in range(300)], "l": [f"c{n}" for n in range(300)]},
    )  # fmt: skip
    assert len(here.query("select * where contains(l, 'c200')")) == 0
    assert here.query("select * where contains(l, 'c3')").row_ids.tolist() == [1]
    assert len(here.query("select * where x == 'c200' or x in ('c200', 'c299')")) == 0
    assert here.query("select * where x != 'c200' and x < 'c200'").row_ids.tolist() == [0, 1]


@pytest.mark.parametrize("join", [operators.conjunction, operators.disjunction])
def test_constant_terms_do_not_look_back_at_all_terms_before_them(
    join: Callable[[list[Expr], Span], Expr], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(e: Expr) -> bool:
        nonlocal calls
        calls += 1
        return can_raise(e)

    monkeypatch.setattr(logic, "can_raise", counted)
    tame: list[Expr] = [Compare(CompareOp.GT, Column("x", Int(8), False), Const(n, Int(8)))
                        for n in range(100)]  # fmt: skip
    wide = Column("y", Int(64), False)
    wild = Compare(CompareOp.GT, Arith(ArithOp.ADD, wide, wide, Int(64)), Const(0, Int(64)))
    decides = Const(join is operators.disjunction, Bool())
    assert join([*tame, *[decides] * 100, wild], NOWHERE) == decides
    kept = join([*tame, wild, *[decides] * 100], NOWHERE)
    assert isinstance(kept, And | Or)
    assert kept.terms == (*tame, wild, decides), "what raises first is still looked at"
    assert 0 < calls <= 201


def test_binding_of_very_long_conditions_makes_one_set(ds: tql.Dataset) -> None:
    terms = " or ".join(f"labels == '{('cat', 'dog')[n % 2]}'" for n in range(1000))
    assert ds.query(f"select * where {terms}").row_ids.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("query", ["select count(*) as n group by count having id[0] = 0 or any({})",
                                   "select id where any(tags > 0 and {})"])  # fmt: skip
def test_what_is_asked_of_each_element_grows_by_what_is_written(
    query: str, ds: tql.Dataset
) -> None:
    """Elements have no way to name a value once; 40 conditions in each other would be 2**40 nodes."""

    def nodes(depth: int) -> int:
        condition = "(10 % id)"
        for _ in range(depth):
            condition = f"({condition} between id and count)"
        plan = bind(
            parse(query.format(condition)), "", here=ds.schema, tables=lambda *_: pytest.fail()
        ).plan
        assert isinstance(plan, Filter)
        return sum(1 for _ in walk_inside(plan.predicate))

    assert nodes(1) < nodes(3) < nodes(5) <= 1000
    assert nodes(40) <= 1000


def test_what_other_languages_call_a_function_is_none_of_ours() -> None:
    ours = set(functions.FUNCTIONS) | set(functions.known_names())
    assert not ours & set(other_names.FUNCTIONS)
    for name, way_out in other_names.FUNCTIONS.items():
        assert name == name.lower() and way_out


@pytest.mark.parametrize("name", sorted(other_names.COLUMNS))
def test_words_for_missing_values_and_the_like_are_no_columns(name: str, ds: tql.Dataset) -> None:
    e = refusal(ds, f"select * where id == {name}")
    assert e.diagnostic.code == "unknown_column"
    assert e.diagnostic.help == other_names.COLUMNS[name]


def test_a_long_list_of_columns_says_how_many_it_leaves_out() -> None:
    columns = {f"c{n:02}": [1] for n in range(15)}
    ds = tql.open(columns)
    last = "c11, … and 3 more"
    for query in (
        "select * where zzz > 1",
        "select a.zzz from (select *) as a",
        "select * from (select *) as a join (select *) as b using (zzz)",
    ):
        with pytest.raises(TqlError) as e:
            ds.query(query)
        assert last in str(e.value.diagnostic.help), query
    with pytest.raises(TqlError) as e:
        tql.open(columns, columns=["zzz"])
    assert "'c11', … and 3 more" in str(e.value.diagnostic.help)
