"""The grammar: what parses, into which tree with which spans, and how a tree is written again."""

import json
import logging
import re
import string
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.profiles import examples
from tql.diagnostics import NOWHERE, Span, TqlError, TqlSyntaxError
from tql.grammar import generate
from tql.grammar import syntax as s
from tql.grammar.parser import forget, keywords, parse, parse_weight
from tql.grammar.printer import format_expr, format_query

ROOT = Path(__file__).resolve().parent.parent
CASES = json.loads((ROOT / "tests/cases/tql_cases.json").read_text("utf-8"))["cases"]


def where(text: str) -> s.Expr:
    body = parse(f"select * where {text}").body
    assert isinstance(body, s.Select) and body.where is not None
    return body.where


def selected(text: str) -> s.Select:
    body = parse(text).body
    assert isinstance(body, s.Select)
    return body


a, b, c = s.Name("a"), s.Name("b"), s.Name("c")
one, two = s.Number(1), s.Number(2)


# -- conformance -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_conformance_case_parses_or_fails_as_it_says(case: dict[str, Any]) -> None:
    kinds = case["expect"].get("error", "").split("|")
    try:
        query = parse(case["query"])
    except TqlError as e:
        assert e.diagnostic.code in kinds
        assert isinstance(e, TqlSyntaxError) == (e.diagnostic.code == "syntax")
        return
    assert kinds != ["syntax"]
    assert parse(format_query(query)) == query


def test_there_are_conformance_cases() -> None:
    assert len(CASES) == 638


# -- the grammar file --------------------------------------------------------------------------


def test_the_tables_are_those_of_the_grammar() -> None:
    assert generate.TABLES.read_text("utf-8") == generate.tables()


def test_the_grammar_has_no_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lark")
    level, logger.level = logger.level, logging.DEBUG  # where Lark tells of shift/reduce conflicts
    logger.addHandler(caplog.handler)
    try:
        generate.load(debug=True)
    finally:
        logger.level = level
        logger.removeHandler(caplog.handler)
    assert [r.message for r in caplog.records if "onflict" in r.message] == []


def test_lark_itself_accepts_the_same_texts() -> None:
    from lark.exceptions import UnexpectedInput

    lark = generate.load()
    builders_checks = {"clauses-002", "clauses-003", "sample-044", "sample-045", "literals-025"}
    for case in CASES:
        if case["id"] in builders_checks:
            continue
        try:
            lark.parse(case["query"], start="statement")
            accepted = True
        except UnexpectedInput:
            accepted = False
        try:
            parse(case["query"])
        except TqlError:
            assert not accepted, case["query"]
        else:
            assert accepted, case["query"]


def test_the_reserved_words_are_the_46_of_the_language() -> None:
    words = """ALL AND ARRAY AS ASC BETWEEN BY CROSS DESC DISTINCT EXCEPT EXPAND FALSE FROM FULL
        GROUP HAVING ILIKE IN INNER INTERSECT IS ISNULL JOIN LEFT LIKE LIMIT NOT NULL OFFSET ON OR
        ORDER OUTER OVERLAP PERCENT REPLACE RIGHT SAMPLE SELECT SPLIT TRUE UNGROUP UNION USING
        WHERE"""
    assert keywords() == tuple(words.lower().split())
    assert len(keywords()) == 46


@pytest.mark.parametrize("word", keywords())
def test_a_reserved_word_is_a_name_only_in_quotes(word: str) -> None:
    assert selected(f'select "{word}" as "{word}"').items == (s.Item(s.Name(word), word),)
    with pytest.raises(TqlSyntaxError):
        parse(f"select a as {word}")


@pytest.mark.parametrize(
    "name", ["date", "index", "key", "top", "axis", "_x", "größe", "日本", "x1"]
)
def test_other_words_are_names(name: str) -> None:
    assert selected(f"select {name} as {name}").items == (s.Item(s.Name(name), name),)


# -- tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "select\r\n*\r\nwhere\ta\f==\N{NO-BREAK SPACE}1;",
        "select * -- it's\nwhere a == 1 -- end",
        "# first\nselect * # it's\nwhere a == 1",
        "select/**/*/* it's \n -- */where/***/a/*/*/==1",
        "SELECT * WHERE a = 1 ;",
        "\u2003select * where a == 0_0_1\u2028",
        "((select * where a == 1))",
    ],
)
def test_blanks_comments_and_case_make_no_difference(text: str) -> None:
    assert parse(text) == parse("select * where a == 1")


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("'it''s'", s.String("it's")),
        ("''", s.String("")),
        ("'-- # /* \" \n\\'", s.String('-- # /* " \n\\')),
        ("010", s.Number(10)),
        ("1_000", s.Number(1000)),
        ("7.", s.Number(7.0)),
        (".5", s.Number(0.5)),
        ("2.5E-3", s.Number(0.0025)),
        ("1e1", s.Number(10.0)),
        ("18446744073709551615", s.Number(2**64 - 1)),
        ("-9223372036854775808", s.Unary(s.UnaryOp.NEG, s.Number(2**63))),
        ("True", s.Boolean(True)),
        ('"a ""b"""', s.Name('a "b"')),
        ('t."x/y"', s.Name("x/y", "t")),
        ("$low", s.Parameter("low")),
        ("array[1, array[2]]", s.Array((one, s.Array((two,))))),
    ],
)
def test_leaves(text: str, expr: s.Expr) -> None:
    assert where(text) == expr


def test_a_whole_number_is_not_a_float() -> None:
    assert where("1") != where("1.0")


@pytest.mark.parametrize(
    "text", ["18446744073709551616", "1" * 5000, "-9223372036854775809", "1e309", "-1e309"]
)
def test_a_number_out_of_range_is_marked(text: str) -> None:
    with pytest.raises(TqlError) as e:
        where(text)
    assert e.value.diagnostic.code == "range"
    start = len("select * where ")
    signed = text.startswith("-") and "e" not in text
    assert e.value.diagnostic.span == Span(
        start + (text[0] == "-" and not signed), start + len(text)
    )


def test_parameters_count_in_the_order_of_the_text() -> None:
    query = parse("select ? as x where a in (?, ?) offset ? limit ?")
    assert query.offset == s.Parameter(3)
    assert query.limit == s.Limit(s.Parameter(4))
    assert parse(format_query(query)) == query


# -- trees -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a or b and c", "a or (b and c)"),
        ("not a == 1 and b", "(not (a == 1)) and b"),
        ("a = b < 2", "a == (b < 2)"),
        ("a < 1 = b > 2", "(a < 1) == (b > 2)"),
        ("a - b - c == 0", "((a - b) - c) == 0"),
        ("a + b * c % 2 > 1", "(a + ((b * c) % 2)) > 1"),
        ("-a[0] * +b < 1", "((-(a[0])) * (+b)) < 1"),
        ("a like 'x' or b not ilike 'y'", "(a like 'x') or (b not ilike 'y')"),
        ("a + 1 between b - 1 and b + 1", "(a + 1) between (b - 1) and (b + 1)"),
        ("not a in (1, 2)", "not (a in (1, 2))"),
        ("a <> 1", "a != 1"),
        ("a isnull", "a is null"),
    ],
)
def test_precedence(text: str, same: str) -> None:
    assert where(text) == where(same)


def test_terms_of_one_word_are_one_chain() -> None:
    assert where("a or b or c") == s.Chain(s.BinaryOp.OR, (a, b, c))
    assert where("(a or b) or c") == s.Chain(s.BinaryOp.OR, (s.Chain(s.BinaryOp.OR, (a, b)), c))
    assert where("not a and b") == s.Chain(s.BinaryOp.AND, (s.Unary(s.UnaryOp.NOT, a), b))


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("a not in array[1, 2]", s.InList(a, s.Array((one, two)), True)),
        ("a in ?", s.InList(a, s.Parameter(0))),
        ("a in (?)", s.InList(a, (s.Parameter(0),))),
        ("a not between 1 and 2", s.Between(a, one, two, True)),
        ("a is not null", s.IsNull(a, True)),
        ("a[1, :2][::]", s.Subscript(s.Subscript(a, (one, s.Slice(None, two, None))),
                                     (s.Slice(None, None, None),))),
        ("a['k']", s.Subscript(a, (s.String("k"),))),
        ("COUNT(*)", s.Call("count", (s.Star(),))),
        ("random()", s.Call("random", ())),
        ("all(a, axis = 0)", s.Call("all", (a,), s.Number(0))),
        ("sum(a, axis /* == */ = -1)", s.Call("sum", (a,), s.Unary(s.UnaryOp.NEG, one))),
        ("sum(a, axis == 1)", s.Call("sum", (a, s.Binary(s.BinaryOp.EQ, s.Name("axis"), one)))),
        ("any(axis = 1)", s.Call("any", (s.Binary(s.BinaryOp.EQ, s.Name("axis"), one),))),
        ("Max_Weight(a: 1, b == 2: 2)", s.WeightCall("max_weight", (
            s.Arm(a, one), s.Arm(s.Binary(s.BinaryOp.EQ, b, two), two)))),
    ],
)  # fmt: skip
def test_expressions(text: str, expr: s.Expr) -> None:
    assert where(text) == expr


@pytest.mark.parametrize(
    ("text", "select"),
    [
        ("select top 3 a b, t.*, *", s.Select(
            (s.Item(a, "b"), s.AllColumns("t"), s.AllColumns()), top=3)),
        ("select distinct a", s.Select((s.Item(a),), distinct=s.Distinct())),
        ("select distinct on (a, b) *", s.Select(
            (s.AllColumns(),), distinct=s.Distinct((a, b)))),
        ("select * expand by 2 where a", s.Select(
            (s.AllColumns(),), where=a, expand=s.Expand(2, 2))),
        ("select * expand by 1, 2 overlap as w", s.Select(
            (s.AllColumns(),), expand=s.Expand(1, 2, True, "w"))),
        ("select * group by a, b having c ungroup by split", s.Select(
            (s.AllColumns(),), group=s.GroupBy((a, b), c), ungroup=s.Ungroup())),
        ('select * from "s3://x" as x, y left outer join z using (a, b)', s.Select(
            (s.AllColumns(),), s.Join(s.JoinKind.CROSS, s.Table("s3://x", "x"), s.Join(
                s.JoinKind.LEFT, s.Table("y"), s.Table("z"), None, (a, b))))),
        ("select * from x cross join y join (select a) z on c", s.Select(
            (s.AllColumns(),), s.Join(s.JoinKind.INNER, s.Join(
                s.JoinKind.CROSS, s.Table("x"), s.Table("y")),
                s.Subquery(s.Query(s.Select((s.Item(a),))), "z"), c))),
    ],
)  # fmt: skip
def test_selects(text: str, select: s.Select) -> None:
    assert selected(text) == select


def test_the_tail_may_come_in_other_orders() -> None:
    tidy = parse("select * order by a desc, b limit 3 offset 1")
    assert parse("select * offset 1 limit 3 order by a desc, b asc") == tidy
    assert parse("select * limit 3 order by a desc, b offset 1") == tidy


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        ("sample by a", s.Sample(a)),
        ("sample by a replace", s.Sample(a, True)),
        ("sample by a replace false limit 5 percent order by b", s.Sample(
            a, False, s.Limit(s.Number(5), True), (s.OrderKey(b),))),
    ],
)  # fmt: skip
def test_samples(text: str, sample: s.Sample) -> None:
    assert parse(f"select * {text}").sample == sample


def test_a_parenthesised_branch_keeps_its_own_tail_only() -> None:
    star = s.Select((s.AllColumns(),))
    three = s.Limit(s.Number(3))
    assert parse("((select * limit 3))") == s.Query(star, limit=three)
    assert parse("(select *) limit 3") == s.Query(star, limit=three)
    assert parse("(select * limit 3) limit 1") == s.Query(
        s.Query(star, limit=three), limit=s.Limit(one)
    )
    assert parse("(select *) union all (select * limit 3)") == s.Query(
        s.Combined(star, (s.SetStep(s.SetOp.UNION, s.Query(star, limit=three), True),))
    )


def test_intersect_binds_tighter_than_union() -> None:
    assert parse("select a union select b intersect select c except select a") == parse(
        "((select a) union ((select b) intersect (select c))) except (select a)"
    )


def test_a_weight_parses_alone() -> None:
    arms = (s.Arm(s.Binary(s.BinaryOp.EQ, s.Name("labels"), s.Number(5)), s.Number(10)),)
    assert parse_weight("max_weight(labels == 5: 10)") == s.WeightCall("max_weight", arms)
    assert parse_weight("a * 2") == s.Binary(s.BinaryOp.MUL, a, two)
    for text in ("", "select *", "a limit 3"):
        with pytest.raises(TqlSyntaxError):
            parse_weight(text)


# -- spans -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (s.Name, "select * where «width» > 640"),
        (s.Binary, "select * where «(width) > 640» limit 5"),
        (s.Binary, "select * where («width > 640»)"),
        (s.Chain, "select * where «a or b -- no\n or c» limit 5"),
        (s.Call, "select «sum(a, axis = 0)» as x"),
        (s.WeightCall, "select * sample by «sum_weight(a: 1)» replace false"),
        (s.Arm, "select * sample by sum_weight(«a: 1») replace false"),
        (s.Limit, "select * «limit 10 percent» offset 3"),
        (s.Sample, "select * «sample by a replace false limit 3 order by b»"),
        (s.OrderKey, "select * order by «'日本' desc» limit 3"),
        (s.Join, "select * from «a join b on c» where d"),
        (s.Subquery, "select * from «(select *) as x» where d"),
        (s.Select, "(«select a») limit 3"),
        (s.Query, "«(select a) limit 3» ;"),
        (s.Combined, "«(select a) union (select b)» limit 3"),
        (s.SetStep, "«select a union (select b)»"),
        (s.Expand, "select * «expand by 1, 2 as w» group by w"),
        (s.GroupBy, "select * «group by a having b» limit 1"),
        (s.Item, "select *, «a + 1 as b» from x"),
        (s.Slice, "select a[1, «2:3:»] as x"),
        (s.Distinct, "select «distinct on (a)» *"),
    ],
)
def test_a_node_spans_its_text(kind: type[s.Node], text: str) -> None:
    start, stop = text.index("«"), text.index("»") - 1
    query = parse(text.replace("«", "").replace("»", ""))
    assert Span(start, stop) in [n.span for n in nodes(query) if type(n) is kind]


def test_the_name_of_a_function_has_a_span() -> None:
    (call,) = (n for n in nodes(parse("select abs (a) as x")) if isinstance(n, s.Call))
    assert call.name_span == Span(7, 10)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_every_node_spans_a_part_of_its_parent(case: dict[str, Any]) -> None:
    try:
        query = parse(case["query"])
    except TqlError:
        return
    assert 0 <= query.span.start < query.span.stop <= len(case["query"])
    for node in nodes(query):
        for child in children(node):
            assert node.span.start <= child.span.start < child.span.stop <= node.span.stop


def children(node: s.Node) -> list[s.Node]:
    found: list[s.Node] = []
    todo = [getattr(node, f.name) for f in fields(node)]
    while todo:
        value = todo.pop()
        if isinstance(value, s.Node):
            found.append(value)
        elif isinstance(value, tuple):
            todo += value
    return found


def nodes(root: s.Node) -> list[s.Node]:
    found = [root]
    for node in found:
        found += children(node)
    return found


# -- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "deepest"),
    [
        (lambda n: "select * where " + "(" * n + "a" + ")" * n, 200),
        (lambda n: "select * where " + "a[" * n + "0" + "]" * n, 200),
        (lambda n: "select * where " + "abs(" * n + "a" + ")" * n, 200),
        (lambda n: "select * where " + "not " * n + "a", 200),
        (lambda n: "select * where " + "- " * n + "a", 200),
        (lambda n: "select * where a" + " + a" * n, 200),
        (lambda n: "select * where a" + "[0]" * n, 200),
        (lambda n: "select * where " + "array[" * n + "a" + "]" * n, 200),
        (lambda n: "(" * n + "select *" + " union select *)" * n, 200),
        (lambda n: "(" * n + "select *" + ")" * n, 200),
        (lambda n: "select * from x" + " cross join x" * n, 200),
        (lambda n: "select * from (" * n + "select *" + ")" * n, 66),
    ],
)
def test_nesting_ends_at_its_limit(make: Any, deepest: int) -> None:
    query = parse(make(deepest))
    assert parse(format_query(query)) == query
    for depth in (deepest + 1, 10_000):
        with pytest.raises(TqlSyntaxError, match="nested deeper than 200 levels"):
            parse(make(depth))


def test_long_flat_texts_are_no_nesting() -> None:
    chain = where(" or ".join(["a == 1"] * 20_000))
    assert isinstance(chain, s.Chain) and len(chain.terms) == 20_000
    assert where(format_expr(chain)) == chain
    choices = where(f"a in ({', '.join(['1'] * 100_000)})")
    assert isinstance(choices, s.InList) and isinstance(choices.choices, tuple)
    assert len(choices.choices) == 100_000


def test_a_text_of_one_mebibyte_is_the_longest() -> None:
    query = "select * where a == '"
    room = (1 << 20) - len(query) - 1
    assert parse(query + "x" * room + "'").body
    with pytest.raises(TqlSyntaxError, match=r"1,048,577 bytes; at most 1,048,576"):
        parse(query + "x" * (room + 1) + "'")
    with pytest.raises(TqlSyntaxError, match="bytes; at most"):
        parse(query + "é" * (room // 2 + 1) + "'")


@pytest.mark.parametrize(
    "piece", ["(", "[", "/*", "'' ", '"" ', "1_", "not ", "select ", "\0", "a ", "-"]
)
def test_a_megabyte_of_anything_is_an_error_with_a_place(piece: str) -> None:
    text = "select * where " + piece * (250_000 // len(piece))
    with pytest.raises(TqlSyntaxError) as e:
        parse(text)
    assert e.value.diagnostic.span != NOWHERE


@given(st.text(st.sampled_from(" \n'\"()[],.:;*+-/%=<>!?$#a1eE_\\\0é日"), max_size=40))
def test_no_text_raises_anything_but_an_error_of_ours(text: str) -> None:
    for attempt in (text, f"select {text}", f"select * where a {text}"):
        try:
            parse(attempt)
        except TqlError as e:
            d = e.diagnostic
            assert d.span == NOWHERE or 0 <= d.span.start <= d.span.stop <= len(attempt)
            assert d.help is None or "{" not in d.help


@given(
    st.lists(
        st.sampled_from(
            [w for w in keywords() if w != "null"]
            + ["a", "1", "'t'", ",", "(", ")", "==", "*", ":", "[", "]"]
        ),
        max_size=12,
    )
)
def test_no_words_raise_anything_but_an_error_of_ours(words: list[str]) -> None:
    text = "select " + " ".join(words)
    try:
        query = parse(text)
    except TqlError as e:
        assert e.query == text
    else:
        assert parse(format_query(query)) == query


# -- parse(format(tree)) == tree ---------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(["a", "b", "axis", "top", "select", "Left", "a-b", 'q"q', "x/y", "größe", "1"]),
    st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=4),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4),
)
FUNCTIONS = NAMES.map(str.lower).filter(lambda n: n not in ("max_weight", "sum_weight"))
OPTIONAL_NAMES = st.none() | NAMES
FLAGS = st.booleans()
COUNTS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.builds(s.Number, st.integers(0, 2**63)),
    st.builds(s.Number, st.floats(0, allow_infinity=False, allow_nan=False)),
    st.builds(s.String, TEXTS),
    st.builds(s.Boolean, FLAGS),
    st.builds(s.Name, NAMES, OPTIONAL_NAMES),
    st.builds(s.Parameter, st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True)),
)
BINARY_OPS = [op for op in s.BinaryOp if op not in (s.BinaryOp.AND, s.BinaryOp.OR)]


def some(item: st.SearchStrategy[Any], least: int = 1) -> st.SearchStrategy[Any]:
    return st.lists(item, min_size=least, max_size=3).map(tuple)


def larger(expr: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    optional = st.none() | expr
    slices = st.builds(s.Slice, optional, optional, optional)
    arrays = st.builds(s.Array, some(expr))
    parameters = st.builds(s.Parameter, st.just("p"))
    return st.one_of(
        arrays,
        st.builds(s.Unary, st.sampled_from(s.UnaryOp), expr),
        st.builds(s.Binary, st.sampled_from(BINARY_OPS), expr, expr),
        st.builds(s.Chain, st.sampled_from([s.BinaryOp.OR, s.BinaryOp.AND]), some(expr, 2)),
        st.builds(s.Like, expr, expr, FLAGS, FLAGS),
        st.builds(s.InList, expr, some(expr) | arrays | parameters, FLAGS),
        st.builds(s.Between, expr, expr, expr, FLAGS),
        st.builds(s.IsNull, expr, FLAGS),
        st.builds(s.Subscript, expr, some(expr | slices)),
        st.builds(s.Call, FUNCTIONS, some(expr | st.builds(s.Star), 0)),
        st.builds(s.Call, FUNCTIONS, some(expr), expr),
        st.builds(
            s.WeightCall,
            st.sampled_from(["max_weight", "sum_weight"]),
            some(st.builds(s.Arm, expr, expr)),
        ),
    )


EXPRS: st.SearchStrategy[Any] = st.recursive(LEAVES, larger, max_leaves=12)
SMALL: st.SearchStrategy[Any] = st.recursive(LEAVES, larger, max_leaves=3)
KEYS = some(st.builds(s.OrderKey, SMALL, FLAGS))
LIMITS = st.builds(s.Limit, SMALL, FLAGS)
SAMPLES = st.builds(s.Sample, SMALL, st.none() | FLAGS, st.none() | LIMITS, st.just(()) | KEYS)
ONE_SIDED = st.sampled_from([s.JoinKind.INNER, s.JoinKind.LEFT, s.JoinKind.RIGHT, s.JoinKind.FULL])


@st.composite
def sources(draw: st.DrawFn, depth: int) -> s.Source:
    """Joins of atoms, and commas between those: the shapes that a text can give."""

    def atom() -> s.Source:
        if depth > 0 and draw(st.integers(0, 3)) == 0:
            return s.Subquery(draw(queries(depth - 1)), draw(OPTIONAL_NAMES))
        return s.Table(draw(NAMES), draw(OPTIONAL_NAMES))

    def joined() -> s.Source:
        source = atom()
        for _ in range(draw(st.integers(0, 2))):
            match draw(st.sampled_from(["on", "using", "cross"])):
                case "on":
                    source = s.Join(draw(ONE_SIDED), source, atom(), draw(SMALL))
                case "using":
                    source = s.Join(
                        draw(ONE_SIDED), source, atom(), None, draw(some(st.builds(s.Name, NAMES)))
                    )
                case _:
                    source = s.Join(s.JoinKind.CROSS, source, atom())
        return source

    source = joined()
    for _ in range(draw(st.integers(0, 2))):
        source = s.Join(s.JoinKind.CROSS, source, joined())
    return source


@st.composite
def selects(draw: st.DrawFn, depth: int) -> s.Select:
    items = draw(some(st.builds(s.Item, SMALL, OPTIONAL_NAMES) | st.builds(s.AllColumns, NAMES)))
    return s.Select(
        (s.AllColumns(), *items) if draw(FLAGS) else items,
        draw(st.none() | sources(depth)),
        draw(st.none() | SMALL),
        draw(st.none() | COUNTS),
        draw(st.none() | st.builds(s.Distinct, st.just(()) | some(SMALL))),
        draw(st.none() | st.builds(s.Expand, COUNTS, COUNTS, FLAGS, OPTIONAL_NAMES)),
        draw(st.none() | st.builds(s.GroupBy, some(SMALL), st.none() | SMALL)),
        draw(st.none() | st.just(s.Ungroup())),
    )


@st.composite
def queries(draw: st.DrawFn, depth: int, tail: bool = False) -> s.Query:
    """A query; with a tail where a set operation or another query holds it as a branch."""

    def body(depth: int) -> s.Body:
        match draw(st.integers(0, 5 if depth > 0 else 0)):
            case 4:
                ops = [s.SetOp.INTERSECT] if draw(FLAGS) else [s.SetOp.UNION, s.SetOp.EXCEPT]
                steps = tuple(
                    s.SetStep(draw(st.sampled_from(ops)), body(depth - 1), draw(FLAGS))
                    for _ in range(draw(st.integers(1, 3)))
                )
                first = body(depth - 1)
                if isinstance(first, s.Combined) and first.steps[0].op in ops:  # it is one chain
                    first, steps = first.first, first.steps + steps
                return s.Combined(first, steps)
            case 5:
                return draw(queries(depth - 1, tail=True))
            case _:
                return draw(selects(max(depth - 1, 0)))

    limit = draw(LIMITS if tail else st.none() | LIMITS | st.just(s.Limit(None)))
    query = s.Query(
        body(depth),
        draw(st.just(()) | KEYS),
        limit,
        draw(st.none() | SMALL),
        draw(st.none() | SAMPLES),
    )
    bare = not (query.order or query.limit or query.offset or query.sample)
    return query.body if bare and isinstance(query.body, s.Query) else query


@given(EXPRS)
def test_an_expression_survives_being_written_and_read(expr: s.Expr) -> None:
    assert where(format_expr(expr)) == expr
    assert parse_weight(format_expr(expr)) == expr


@settings(max_examples=examples(200))
@given(queries(2))
def test_a_query_survives_being_written_and_read(query: s.Query) -> None:
    text = format_query(query)
    assert parse(text) == query
    assert format_query(parse(text)) == text


def test_the_random_trees_have_every_kind_of_node() -> None:
    """`larger`, `sources`, `selects` and `queries` name each class of the union once or more."""
    written = (
        Path(__file__).read_text("utf-8").split("NAMES = st.one_of")[1].split("@given(EXPRS)")[0]
    )
    kinds = {k.__name__ for k in vars(s).values() if isinstance(k, type) and issubclass(k, s.Node)}
    assert {k for k in kinds if not re.search(rf"s\.{k}\b", written)} == {"Node"}


def test_a_signed_number_in_a_tree_is_written_as_one() -> None:
    assert where(format_expr(s.Unary(s.UnaryOp.NEG, s.Unary(s.UnaryOp.NEG, one)))) == s.Unary(
        s.UnaryOp.NEG, s.Unary(s.UnaryOp.NEG, one)
    )


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("SELECT a X FROM t WHERE NOT (a = 1) AND b <> 2", "select a as X from t where not a == 1 and b != 2"),
        ("select ((a)) , ( b + c ) * 2 as d", "select a, (b + c) * 2 as d"),
        ("select * from a inner join b using (c) limit 10 percent", "select * from a join b using (c) limit 10 percent"),
        ('select "a", "a b", "left"', 'select a, "a b", "left"'),
        ("select * expand by 2 overlap false", "select * expand by 2, 2"),
        ("select sum(a, axis=0), a[:], 1.50 as x", "select sum(a, axis = 0), a[:], 1.5 as x"),
    ],
)  # fmt: skip
def test_canonical_text(text: str, canonical: str) -> None:
    assert format_query(parse(text)) == canonical


def test_a_short_query_is_parsed_once_and_its_errors_are_raised_each_time() -> None:
    text = "select id where a == 1"
    assert parse(text) is parse("select id where " + "a == 1")
    kept = parse(text)
    forget()
    assert parse(text) == kept and parse(text) is not kept
    long = f"select * where a in ({', '.join('1' * 2000)})"
    assert parse(long) == parse(long) and parse(long) is not parse(long)
    for _ in range(2):
        with pytest.raises(TqlSyntaxError):
            parse("select * where")
