"""The part of TQL that is SQL, against DuckDB: random queries over random rows.

Where the two differ on purpose is listed once, in `in_duckdb` and in the queries that are drawn:

* `==` is `=` in DuckDB.
* NaN: DuckDB orders it above all numbers and equal to itself; here it equals nothing. No NaN is drawn.
* LIKE: `*` and `?` are our wildcards, `%` and `_` theirs; no `?` and no backslash is drawn, `_` is escaped.
* `%`: both take the sign of the dividend, but DuckDB gives NULL for a divisor of zero; none is drawn.
* 64-bit integers meet only integers: DuckDB compares them with floats as doubles (reference §5).
* float32 literals: a literal adapts to the column here and is a DECIMAL there; halves are drawn.
* Narrow integers are widened to 64 bits here; there 200 + 200 in eight bits is an error.
* bool is a number here and not there: it is only compared with `true` and `false`.
* Set operations are over row numbers here: `id`, which is unique, is the only column compared there.
* ORDER BY: NULL comes last both ways here, so NULLS LAST is written; `id` makes the order total.
* Aggregates of nothing: SUM is 0 here, ANY false and ALL true (§12); COALESCE is written there.
* GROUP BY: groups come in order of first appearance here, in none there.
* Joins: left rows in order here, in no order there: they are compared as multisets.
* Lists count from 0 here and from 1 there; a slice that begins below 0 is not drawn.
* Products of float32 vectors are float32 there: four digits are compared.
* `==` of -0.0 and 0.0 is true in both; keys that are -0.0 are not drawn.
"""

from collections import Counter
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.profiles import examples

ROWS = 300


def _table() -> pa.Table:
    rng = np.random.default_rng(5)

    def missing(share: float = 0.2) -> Any:
        return rng.random(ROWS) < share

    words = np.array(["", "a", "A", "ab", "abc", "b_c", "a%", "Straße", "日本", "it's"], object)
    big = np.array([-(2**63), -5, 0, 7, 2**53 + 1, 2**62, 2**63 - 1])
    return pa.table(
        {
            "id": np.arange(ROWS),
            "small": pa.array(rng.integers(-9, 10, ROWS).astype(np.int8), mask=missing()),
            "count": pa.array(rng.integers(0, 200, ROWS).astype(np.uint8)),
            "big": pa.array(rng.choice(big, ROWS), mask=missing()),
            "score": pa.array(rng.integers(-20, 20, ROWS) / 2, mask=missing()),
            "single": pa.array(
                (rng.integers(-20, 20, ROWS) / 2).astype(np.float32), mask=missing(0.5)
            ),
            "flag": pa.array(rng.random(ROWS) < 0.5, mask=missing()),
            "word": pa.array(rng.choice(words, ROWS), pa.string(), mask=missing()),
            "other": pa.array(rng.choice(words, ROWS), pa.string(), mask=missing(0.1)),
        }
    )


TABLE = _table()
DATASET = tql.open(TABLE)
HERE = duckdb.connect()
HERE.register("stored", TABLE)
HERE.execute(
    "create view rows as select * replace (small::bigint as small, count::bigint as count) from stored"
)

COMPARISONS = st.sampled_from(["==", "!=", "<>", "<", "<=", ">", ">=", "="])
NUMBERS = st.sampled_from(["small", "count", "score", "single", "id"])
WHOLE = st.sampled_from(["small", "count", "id"])
WORDS = st.sampled_from(["word", "other"])
LITERALS = st.integers(-12, 12).map(str) | st.integers(-30, 30).map(lambda n: f"{n / 2:.1f}")
BIG = st.sampled_from(
    ["-9223372036854775808", "-5", "0", "9007199254740993", "9223372036854775807"]
)
TEXTS = st.sampled_from(["", "a", "A", "ab", "b_c", "a%", "Straße", "日本", "it''s", "zz"]).map(
    lambda t: f"'{t}'"
)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "_", "c", "ß", "日"]), max_size=4).map("".join)


@st.composite
def number(draw: st.DrawFn) -> str:
    x = draw(NUMBERS)
    match draw(st.integers(0, 4)):
        case 0:
            return f"({x} {draw(st.sampled_from(['+', '-', '*']))} {draw(NUMBERS)})"
        case 1:
            return f"({draw(WHOLE)} % {draw(st.sampled_from(['2', '3', '7', '-3']))})"
        case 2:
            return f"(-{x})"
        case _:
            return x


@st.composite
def condition(draw: st.DrawFn, depth: int = 2) -> str:
    if depth and draw(st.booleans()):
        left = draw(condition(depth - 1))
        match draw(st.sampled_from(["not", "and", "or"])):
            case "not":
                return f"(not {left})"
            case word:
                return f"({left} {word} {draw(condition(depth - 1))})"
    negated = draw(st.sampled_from(["", "not "]))
    match draw(st.integers(0, 9)):
        case 0 | 1:
            return f"({draw(number())} {draw(COMPARISONS)} {draw(LITERALS)})"
        case 2:
            return f"({draw(number())} {draw(COMPARISONS)} {draw(number())})"
        case 3:
            return f"({draw(number())} {negated}between {draw(LITERALS)} and {draw(LITERALS)})"
        case 4:
            return f"({draw(NUMBERS)} {negated}in ({', '.join(draw(st.lists(LITERALS, min_size=1, max_size=5)))}))"
        case 5:
            return f"({draw(st.sampled_from(TABLE.column_names))} is {negated}null)"
        case 6:
            other = draw(TEXTS | WORDS)
            return f"({draw(WORDS)} {draw(COMPARISONS)} {other})"
        case 7:
            return f"({draw(WORDS)} {negated}like '{draw(PATTERNS)}')"
        case 8:
            return draw(st.sampled_from(["flag", "(flag == true)", "(flag != false)"]))
        case _:
            return f"(big {draw(COMPARISONS)} {draw(BIG)})"


@st.composite
def order(draw: st.DrawFn) -> str:
    """The keys of an ORDER BY, `id` the last."""
    keys = [
        f"{draw(st.sampled_from([*TABLE.column_names, 'small * count', 'score - id']))}"
        f"{draw(st.sampled_from(['', ' asc', ' desc']))}"
        for _ in range(draw(st.integers(0, 2)))
    ]
    return ", ".join([*keys, draw(st.sampled_from(["id", "id desc"]))])


cuts = st.sampled_from(["", " limit 7", " limit 1000", " limit 20 offset 5", " limit 0"])


def in_duckdb(text: str) -> str:
    """The query in DuckDB's words."""
    words = text.replace("==", "=")
    pieces = words.split(" like '")
    for n, piece in enumerate(pieces[1:], 1):
        pattern, quote, rest = piece.partition("'")
        pieces[n] = pattern.replace("_", "#_").replace("*", "%") + quote + " escape '#'" + rest
    return " like '".join(pieces)


def null_last(keys: str) -> str:
    return ", ".join(f"{key} nulls last" for key in keys.split(", "))


def theirs(query: str) -> list[int]:
    return [row[0] for row in HERE.execute(in_duckdb(query)).fetchall()]


def ours(query: str) -> list[int]:
    return DATASET.query(query).row_ids.tolist()


@settings(max_examples=examples(400))
@given(condition())
def test_where_keeps_the_rows_that_duckdb_keeps(where: str) -> None:
    assert ours(f"select * where {where}") == theirs(
        f"select id from rows where {where} order by id"
    )


@settings(max_examples=examples(200))
@given(condition(1), order(), cuts)
def test_order_by_and_limit_agree_with_duckdb(where: str, keys: str, cut: str) -> None:
    assert ours(f"select * where {where} order by {keys}{cut}") == theirs(
        f"select id from rows where {where} order by {null_last(keys)}{cut}"
    )


@st.composite
def combined(draw: st.DrawFn, depth: int = 2) -> tuple[str, str]:
    """A set operation on row numbers: as we write it, and as DuckDB does."""
    if depth == 0 or draw(st.booleans()):
        where, keys, cut = draw(condition(1)), draw(order()), draw(cuts)
        return (
            f"(select * where {where} order by {keys}{cut})",
            f"(select id from rows where {where} order by {null_last(keys)}{cut})",
        )
    left, right = draw(combined(depth - 1)), draw(combined(depth - 1))
    op = draw(st.sampled_from(["union", "intersect", "except"]))
    return f"({left[0]} {op} {right[0]})", f"({left[1]} {op} {right[1]})"


@settings(max_examples=examples(200))
@given(combined())
def test_set_operations_agree_with_duckdb_on_row_numbers(pair: tuple[str, str]) -> None:
    mine, sql = pair
    found = ours(f"select * from ({mine})" if mine.startswith("(select") else mine)
    assert sorted(found) == sorted(theirs(f"select id from ({sql})"))


@settings(max_examples=examples(25, nightly=2_500))  # of nine queries each
@given(condition(1), condition(1), condition(1))
def test_chains_of_set_operations_bind_as_in_sql(a: str, b: str, c: str) -> None:
    """INTERSECT before UNION and EXCEPT, which go from left to right; ascending rows."""
    for first in ("union", "intersect", "except"):
        for second in ("union", "intersect", "except"):
            mine = f"select * where {a} {first} select * where {b} {second} select * where {c}"
            sql = f"select id from rows where {a} {first} select id from rows where {b} {second} select id from rows where {c}"
            assert ours(mine) == sorted(theirs(sql))


@settings(max_examples=examples(150))
@given(number())
def test_a_virtual_column_has_the_values_that_duckdb_computes(x: str) -> None:
    found = DATASET.query(f"select {x} as x").to_arrow().column("x").to_pylist()
    wanted = [row[0] for row in HERE.execute(f"select {x} from rows order by id").fetchall()]
    assert found == wanted


# -- joins, DISTINCT, groups -------------------------------------------------------------------

SMALL = TABLE.slice(0, 40)
SMALL_DATASET = tql.open(SMALL)
HERE.register("few_stored", SMALL)
HERE.execute(
    "create view few as select * replace (small::bigint as small, count::bigint as count) from few_stored"
)
KEYS = st.sampled_from(["small", "count", "score", "word", "flag", "big", "id"])


@st.composite
def sides(draw: st.DrawFn, names: str) -> tuple[str, str]:
    """FROM with a join for each further name, ours and DuckDB's; USING or ON."""
    kinds = ["join", "inner join", "left join", "right join", "full join", "full outer join"]
    ours = theirs = ""
    for name in names:
        columns = "id, small, count, score, word, flag, big"
        listed = ", ".join(f"{c} as {c}_{name}" for c in columns.split(", "))
        where = draw(condition(1))
        mine = f"(select {listed} where {where}) as {name}"
        sql = f"(select {listed} from few where {where}) as {name}"
        if not ours:
            ours, theirs = mine, sql
            continue
        kind = draw(st.sampled_from([*kinds, "cross join"]))
        left = draw(st.sampled_from(names[: names.index(name)]))
        on = ""
        if kind != "cross join":
            key, other = draw(st.sampled_from(PAIRS))
            on = f" on {key}_{left} = {other}_{name}"
            if draw(st.booleans()):
                on += f" and {draw(st.sampled_from(RESIDUALS)).format(a=left, b=name)}"
        ours, theirs = f"{ours} {kind} {mine}{on}", f"{theirs} {kind} {sql}{on}"
    return ours, theirs


PAIRS = [("small", "count"), ("count", "count"), ("word", "word"), ("score", "small"),
         ("score", "score"), ("id", "count"), ("big", "big"), ("small", "small")]  # fmt: skip
RESIDUALS = ["id_{a} < id_{b}", "small_{a} > 0", "count_{b} < 100", "word_{b} like 'a*'",
             "score_{a} <= small_{b}"]  # fmt: skip


@settings(max_examples=examples(100))
@given(sides("ab") | sides("abc"))
def test_joins_have_the_pairs_that_duckdb_finds(joined: tuple[str, str]) -> None:
    ids = ", ".join(f"id_{name}" for name in "abc" if f"as id_{name}" in joined[0])
    table = SMALL_DATASET.query(f"select {ids} from {joined[0]}").to_arrow()
    found = list(zip(*(c.to_pylist() for c in table.columns)))
    wanted = HERE.execute(in_duckdb(f"select {ids} from {joined[1]}")).fetchall()
    assert Counter(found) == Counter(wanted)


@settings(max_examples=examples(60))
@given(
    condition(1), condition(1), st.sampled_from(["join", "left join", "right join", "full join"]),
    st.sampled_from([["word"], ["count"], ["small", "flag"], ["word", "count"]]),
)  # fmt: skip
def test_using_has_the_columns_that_duckdb_gives(
    first: str, second: str, kind: str, using: list[str]
) -> None:
    """The column of a full join by USING is that of whichever side is there."""
    names = ", ".join(using)

    def sql(few: str) -> str:
        return (
            f"select {names}, i, j from (select {names}, id as i{few} where {first}) as a "
            f"{kind} (select {names}, id as j{few} where {second}) as b using ({names})"
        )

    table = SMALL_DATASET.query(sql("")).to_arrow()
    found = list(zip(*(c.to_pylist() for c in table.columns)))
    assert Counter(found) == Counter(HERE.execute(in_duckdb(sql(" from few"))).fetchall())


@settings(max_examples=examples(100))
@given(condition(1), st.lists(KEYS, min_size=1, max_size=3, unique=True))
def test_distinct_has_the_rows_that_duckdb_keeps(where: str, keys: list[str]) -> None:
    listed = ", ".join(keys)
    table = DATASET.query(f"select distinct {listed} where {where}").to_arrow()
    found = list(zip(*(c.to_pylist() for c in table.columns)))
    wanted = HERE.execute(in_duckdb(f"select distinct {listed} from rows where {where}")).fetchall()
    assert len(set(found)) == len(found)
    assert set(found) == set(wanted)


@settings(max_examples=examples(60))
@given(condition(1), st.lists(KEYS, min_size=1, max_size=2, unique=True))
def test_distinct_on_keeps_the_first_row_of_each_key(where: str, keys: list[str]) -> None:
    listed = ", ".join(keys)
    assert ours(f"select distinct on ({listed}) * where {where}") == sorted(
        theirs(f"select min(id) from rows where {where} group by {listed}")
    )


AGGREGATES = [
    ("count(*)", "count(*)"),
    ("sum(count)", "sum(count)::bigint"),
    ("sum(count > 100)", "sum((count > 100)::int)::bigint"),
    ("sum(small)", "coalesce(sum(small), 0)::bigint"),
    ("sum(score)", "coalesce(sum(score), 0)"),
    ("avg(score)", "avg(score)"),
    ("avg(count)", "avg(count)"),
    ("amin(small)", "min(small)"),
    ("amax(big)", "max(big)"),
    ("amin(score)", "min(score)"),
    ("amax(count)", "max(count)"),
    ("any(flag)", "coalesce(bool_or(flag), false)"),
    ("all(score > 0)", "coalesce(bool_and(score > 0), true)"),
    ("contains(word, 'ab')", "coalesce(bool_or(word = 'ab'), false)"),
    ("id[0]", "first(id order by id)"),
    ("word[-1]", "last(word order by id)"),
    ("shape(id)[0]", "count(*)"),
]
"""Ours and theirs. SUM of nothing is 0 here, ANY of nothing false, ALL true (reference §12)."""


@settings(max_examples=examples(150))
@given(
    condition(1), st.lists(KEYS, min_size=1, max_size=2, unique=True),
    st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=3, unique=True),
    st.sampled_from(["", "count(*) > 1", "count(*) between 2 and 5", "sum(count) > 300"]),
)  # fmt: skip
def test_groups_have_the_aggregates_that_duckdb_computes(
    where: str, keys: list[str], aggregates: list[tuple[str, str]], having: str
) -> None:
    """In order of the first row of each group; with a second key, within the first."""
    named = having and f" having {having}"
    mine = ", ".join(f"{a} as a{n}" for n, (a, _) in enumerate(aggregates))
    table = DATASET.query(
        f"select id[0] as first, {mine} where {where} group by {', '.join(keys)}{named}"
    ).to_arrow()
    found = list(zip(*(c.to_pylist() for c in table.columns)))
    sql = ", ".join(b for _, b in aggregates)
    wanted = HERE.execute(
        in_duckdb(
            f"select min(id), {sql} from rows where {where} group by {', '.join(keys)}{named}"
        )
    ).fetchall()
    if len(keys) == 1:
        wanted.sort()
    assert sorted(found) == sorted(wanted) if len(keys) > 1 else found == wanted


@settings(max_examples=examples(80))
@given(condition(1), condition(1), st.lists(KEYS, min_size=1, max_size=3, unique=True))
def test_union_all_of_branches_has_all_their_rows(a: str, b: str, keys: list[str]) -> None:
    listed = ", ".join(keys)
    table = DATASET.query(
        f"select {listed} where {a} union all select {listed} where {b}"
    ).to_arrow()
    found = list(zip(*(c.to_pylist() for c in table.columns)))
    wanted = HERE.execute(
        in_duckdb(
            f"select {listed} from rows where {a} union all select {listed} from rows where {b}"
        )
    ).fetchall()
    assert Counter(found) == Counter(wanted)


# -- values of lists, JSON and times -----------------------------------------------------------


def _lists() -> pa.Table:
    rng = np.random.default_rng(8)
    ragged = [
        None if rng.random() < 0.1 else [int(v) for v in rng.integers(-5, 6, rng.integers(5))]
        for _ in range(120)
    ]
    vectors = rng.integers(-4, 5, (120, 3)).astype(np.float32)
    times = [
        None
        if rng.random() < 0.1
        else int(1_700_000_000_000_000 + rng.integers(9) * 43_200_500_000)
        for _ in range(120)
    ]
    return pa.table(
        {
            "id": np.arange(120),
            "tags": pa.array(ragged, pa.list_(pa.int32())),
            "vec": pa.array(vectors.tolist(), pa.list_(pa.float32(), 3)),
            "moment": pa.array(times, pa.timestamp("us")),
        }
    )


LISTS = _lists()
LISTS_DATASET = tql.open(LISTS)
HERE.register("lists", LISTS)
WHEN = st.sampled_from(
    [
        "2023-11-14",
        "2023-11-15 10:13:20",
        "2023-11-16 22:13:21",
        "2023-11-15 10:13:20.5",
        "1999-01-01",
    ]
)


@st.composite
def of_lists(draw: st.DrawFn) -> tuple[str, str]:
    """An expression over lists or times, ours and DuckDB's, which counts from 1."""
    i = draw(st.integers(-5, 5))
    at = i + 1 if i >= 0 else i
    n = draw(st.integers(-3, 3))
    one = draw(st.sampled_from(["[1, 0, 0]", "[2, -1, 3]"]))
    cast = f"{one}::float[3]"
    when, op = draw(WHEN), draw(st.sampled_from(["<", "<=", "=", ">", ">=", "!="]))
    return draw(
        st.sampled_from(
            [
                (f"tags[{i}]", f"tags[{at}]"),
                (f"contains(tags, {n})", f"list_contains(tags, {n})"),
                (f"tags[{max(i, 0)}:]", f"tags[{max(i, 0) + 1}:]"),
                ("sum(tags)", "if(tags is null, null, coalesce(list_sum(tags), 0))::bigint"),
                ("avg(tags)", "list_avg(tags)"),
                ("amin(tags)", "list_min(tags)"),
                ("amax(tags)", "list_max(tags)"),
                ("shape(tags)[0]", "len(tags)"),
                (f"any(tags > {n})", f"len(list_filter(tags, lambda x: x > {n})) > 0"),
                (f"all(tags <= {n})", f"len(list_filter(tags, lambda x: x > {n})) = 0"),
                (f"tags * {n}", f"list_transform(tags, lambda x: x * {n})"),
                (f"dot(vec, array{one})", f"array_inner_product(vec, {cast})"),
                ("l2_norm(vec)", "sqrt(array_inner_product(vec, vec))"),
                (f"tags is null or sum(vec) > {n}", f"tags is null or list_sum(vec::float[]) > {n}"),
                (f"moment {op} '{when}'", f"moment {op} timestamp '{when}'"),
                (f"moment between '1999-01-01' and '{when}'",
                 f"moment between timestamp '1999-01-01' and timestamp '{when}'"),
            ]
        )
    )  # fmt: skip


@settings(max_examples=examples(150))
@given(of_lists())
def test_lists_and_times_have_the_values_that_duckdb_computes(pair: tuple[str, str]) -> None:
    mine, sql = pair
    found = LISTS_DATASET.query(f"select {mine} as x").to_arrow().column("x").to_pylist()
    wanted = [r[0] for r in HERE.execute(f"select {sql} from lists order by id").fetchall()]
    if mine.startswith(("dot", "l2_norm")):  # float32 there
        found, wanted = ([round(v, 4) for v in column] for column in (found, wanted))
    assert found == wanted
