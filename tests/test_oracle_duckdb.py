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
"""

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import tql

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


@settings(max_examples=400)
@given(condition())
def test_where_keeps_the_rows_that_duckdb_keeps(where: str) -> None:
    assert ours(f"select * where {where}") == theirs(
        f"select id from rows where {where} order by id"
    )


@settings(max_examples=200)
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


@settings(max_examples=200)
@given(combined())
def test_set_operations_agree_with_duckdb_on_row_numbers(pair: tuple[str, str]) -> None:
    mine, sql = pair
    found = ours(f"select * from ({mine})" if mine.startswith("(select") else mine)
    assert sorted(found) == sorted(theirs(f"select id from ({sql})"))


@settings(max_examples=25)
@given(condition(1), condition(1), condition(1))
def test_chains_of_set_operations_bind_as_in_sql(a: str, b: str, c: str) -> None:
    """INTERSECT before UNION and EXCEPT, which go from left to right; ascending rows."""
    for first in ("union", "intersect", "except"):
        for second in ("union", "intersect", "except"):
            mine = f"select * where {a} {first} select * where {b} {second} select * where {c}"
            sql = f"select id from rows where {a} {first} select id from rows where {b} {second} select id from rows where {c}"
            assert ours(mine) == sorted(theirs(sql))


@settings(max_examples=150)
@given(number())
def test_a_virtual_column_has_the_values_that_duckdb_computes(x: str) -> None:
    found = DATASET.query(f"select {x} as x").to_arrow().column("x").to_pylist()
    wanted = [row[0] for row in HERE.execute(f"select {x} from rows order by id").fetchall()]
    assert found == wanted
