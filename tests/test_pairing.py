"""Cross joins whose WHERE names their pairs: what is found must be what looking at every pair finds."""

from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.profiles import examples
from tests.test_joins import COLUMNS, POOLS, TYPES, answer, equalities, others, tables, tame
from tql.engine import pairing
from tql.engine.pairing import Paired
from tql.engine.select import paired


def found_by(text: str, stored: Mapping[str, Any], seed: int = 0) -> tuple[Any, list[Paired]]:
    """What a query gives, rows by their number in FROM or its error; and what was found by pairs."""
    used: list[Paired] = []

    def watched(*args: Any) -> Paired | None:
        found = paired(*args)
        used.extend([] if found is None else [found])
        return found

    with patch("tql.engine.select.paired", watched):
        return outcome(text, stored, seed), used


def outcome(text: str, stored: Mapping[str, Any], seed: int = 0) -> Any:
    try:
        view = answer(text, stored, seed=seed)
    except tql.TqlError as e:
        return e.diagnostic.code, e.diagnostic.message
    cells = view.take(np.arange(view.rows), view.schema.names).to_pylist()
    return view.selected.to_numpy().tolist(), view.selected.universe, repr(cells)


def by_every_pair(text: str, stored: Mapping[str, Any], seed: int = 0) -> Any:
    """The same, every pair being looked at."""
    with patch("tql.engine.select.paired", return_value=None):
        return outcome(text, stored, seed)


MAY_RAISE = (
    "10 % {a}.i8 > 1",
    "{a}.i64 + {b}.i64 > 0",
    "{a}.i64 + 1 == {b}.i64",
    "{a}.i64 + 1 > 0",
)
OF_FROM = ("random() % 3 > 0", "row_number() % 2 == 0", "data({a}.i8, 0) is not null")


@st.composite
def conditions(draw: st.DrawFn, aliases: Sequence[str]) -> str:
    left, right = aliases[:-1], aliases[-1]
    terms = [draw(equalities(aliases[:at], b)).text for at, b in enumerate(aliases) if at]
    terms = terms[draw(st.integers(0, 1)) :]
    terms += [c.text for c in draw(st.lists(others(left, right), max_size=2))]
    a, b = draw(st.permutations(aliases))[:2]
    more = st.sampled_from([*MAY_RAISE, *OF_FROM, "{a}.text == {a}.word", "{a}.f64 == {b}.i64"])
    terms += [t.format(a=a, b=b) for t in draw(st.lists(more, max_size=2))]
    return " and ".join(draw(st.permutations(terms))) or "true"


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_the_rows_and_errors_are_those_of_looking_at_every_pair(data: st.DataObject) -> None:
    aliases = ("a", "b", "c")[: data.draw(st.integers(2, 3))]
    stored = {name: data.draw(tables()).arrow for name in aliases}
    names = [
        data.draw(st.sampled_from([alias, "a"])) for alias in aliases
    ]  # of one table with itself
    listed = ", ".join(f"{name} as {alias}" for name, alias in zip(names, aliases, strict=True))
    columns = ", ".join(f"{a}.id as {a}_id" for a in aliases)
    where = data.draw(conditions(aliases))
    text = f"select {columns}, row_number() as r, random() as d from {listed} where {where}"
    assert outcome(text, stored, 3) == by_every_pair(text, stored, 3)


def many(seed: int, rows: int, share: float) -> pa.Table:
    """Rows of all types; `share` of each column is NULL."""
    rng = np.random.default_rng(seed)
    return pa.table({"id": np.arange(rows)} | {
        c: pa.array([POOLS[c][n] for n in rng.integers(0, len(POOLS[c]), rows)], TYPES[c],
                    mask=rng.random(rows) < share)
        for c in COLUMNS
    })  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "looked"),
    [
        ("a.i64 == b.u64", True),
        ("a.f64 == b.i64 and a.i8 > 0", True),
        ("a.f32 == b.f64 and b.word != 'a'", True),
        ("a.label == b.label and a.text == b.word and a.id < b.id", True),
        ("a.at == b.day", True),
        ("a.i8 == 127 and b.i8 == 127", True),
        ("a.i8 + 1 == b.u16 and random() % 2 == 0", True),
        ("a.i64 == b.u64 and 10 % b.i8 > 1", False),  # a NULL key would let the second be asked
        ("10 % b.i8 > 1 and a.i64 == b.u64", False),
        ("a.i64 == b.u64 or a.i8 == 1", False),
        ("a.i64 != b.u64", False),
        ("a.id < 79 and a.i8 < b.i8", False),  # little is gained
    ],
)
def test_types_and_nulls_match_as_comparisons_do(condition: str, looked: bool) -> None:
    stored = {"a": many(1, 80, 0.2), "b": many(2, 70, 0.2)}
    text = f"select a.id as x, b.id as y, row_number() as n from a, b where {condition}"
    found, used = found_by(text, stored)
    assert found == by_every_pair(text, stored)
    assert bool(used) == looked
    if used:
        assert used[0].looked < 80 * 70 / 2 and len(found[0])


GUARDED = {
    "a": pa.table({"id": [1, 2, 3, 4], "n": [7, 5, 0, 9]}),
    "b": pa.table({"id": [2, 1, 9], "x": [3, 4, 0]}),
}


def test_pairs_that_an_equality_excludes_raise_nothing_behind_it() -> None:
    text = "select a.id, b.x from a, b where a.id == b.id and 10 % b.x > 1"
    found, used = found_by(text, GUARDED)
    assert used[0].looked == 2
    assert found == by_every_pair(text, GUARDED)
    assert found[0] == [1]


def test_what_raises_before_the_equality_raises_still() -> None:
    text = "select a.id, b.x from a, b where 10 % b.x > 0 and a.id == b.id"
    assert found_by(text, GUARDED) == (by_every_pair(text, GUARDED), [])
    assert outcome(text, GUARDED)[0] == "value"


def test_a_key_or_a_filter_that_raises_does_so_as_for_every_pair() -> None:
    for where in (
        "10 % b.x == a.id",
        "b.x > 0 and 10 % b.x == a.id",
        "a.id == b.id and 10 % a.n > 0",
        "10 % a.n > 0 and a.id == b.id",
        "a.id == b.id and b.id + 9223372036854775807 > a.n",
    ):
        text = f"select a.id, b.x from a, b where {where}"
        assert outcome(text, GUARDED) == by_every_pair(text, GUARDED), where


def test_columns_of_subqueries_that_raise_do_so_as_for_every_pair() -> None:
    source = "(select id, 10 % x as k from b) c"
    for where in ("a.id == c.id and c.k > 0", "a.id == c.k", "a.id == c.id"):
        text = f"select a.id from a, {source} where {where}"
        assert outcome(text, GUARDED) == by_every_pair(text, GUARDED), where
    assert outcome(f"select a.id from a, {source} where a.id == c.id", GUARDED)[0] == [1, 3]


def test_row_numbers_draws_and_data_count_in_from() -> None:
    stored = {"a": tame(1, 30), "b": tame(2, 25)}
    text = (
        "select a.id as x, b.id as y, row_number() as n, random() as r "
        "from a, b where a.k == b.k and random() % 4 > 0 and data(b.x, 26) < 100"
    )
    found, used = found_by(text, stored, seed=5)
    assert used and found == by_every_pair(text, stored, seed=5)
    view = answer(text, stored, seed=5)
    for row in view.take(np.arange(view.rows), ["x", "y", "n"]).to_pylist():
        assert row["n"] == row["x"] * 25 + row["y"]


@pytest.mark.parametrize(
    "text",
    [
        "select a.id as x, b.id as y, c.id as z from a, b, c where a.k = b.k and b.s = c.s",
        "select a.id as x, b.id as y, c.id as z from a, b, c where a.k = c.k and b.s = c.s and a.x < b.x",
        "select a.id as x, b.id as y, c.id as z from a, b, c where c.k = a.k and a.s = b.s and b.w = c.w",
        "select a.id as x, b.id as y, c.id as z from a, b, c where a.k = c.k and b.x > 8",
        "select a.id as x, b.id as y, c.id as z from a, b, c where a.x > 5 and b.x > 5 and c.x > 5",
        "select x.id as x, y.id as y, z.id as z from a x, a y, a z where x.k = y.s and y.k = z.s",
        "select a.id as x, b.id as y, c.id as z from a cross join b cross join c where b.w = c.w and c.s = 1 and a.k = 2",
        "select a.id as x, b.id as y, c.id as z from a, b join c on b.k = c.k where a.s = c.s",
        "select a.id as x, q.u as y, q.v as z from a, (select b.id as u, c.id as v, b.k from b, c where b.s = c.s) q "
        "where a.k = q.k",
        "select a.id as x, b.id as y from a, b where a.k + 1 = b.k + b.s and a.w = b.w",
        "select a.id as x, b.id as y from a, b where a.k = b.k and a.s = b.s and (a.x > 3 or b.x > 3)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("block", [1 << 20, 7])
def test_duckdb_has_the_same_rows(text: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "_BLOCK", block)
    stored = {"a": tame(1, 30), "b": tame(2, 25), "c": tame(3, 20)}
    found, used = found_by(text, stored)
    assert used
    assert found == by_every_pair(text, stored)
    con = duckdb.connect()
    for name, table in stored.items():
        con.register(name, table)
    theirs = con.execute(text).fetchall()
    view = answer(text, stored)
    ours = [
        tuple(r.values()) for r in view.take(np.arange(view.rows), view.schema.names).to_pylist()
    ]
    assert len(ours) > 3
    assert sorted(ours) == sorted(theirs)


@pytest.mark.parametrize("most", [1 << 25, 3])
def test_what_would_not_fit_is_found_by_looking_at_every_pair(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "_MOST_AT_ONCE", most)
    stored = {"a": tame(1, 30), "b": tame(2, 25), "c": tame(3, 20)}
    text = "select a.id as x, b.id as y from a, b, c where a.k = c.k and b.s = c.s and b.x < a.x"
    found, used = found_by(text, stored)
    assert found == by_every_pair(text, stored) and found[0]
    assert bool(used) == (most > 3)


def test_forty_thousand_by_forty_thousand_looks_at_the_pairs_of_equal_keys() -> None:
    rng = np.random.default_rng(7)
    n = 40_000
    a = pa.table({"id": rng.permutation(n), "g": rng.integers(0, n, n), "x": rng.integers(0, 9, n)})
    b = pa.table({"id": rng.permutation(n), "g": rng.integers(0, n, n), "y": rng.integers(0, 9, n)})
    text = "select a.id as i, b.id as j from a, b where a.g = b.g and a.x < b.y order by i, j"
    (_, universe, cells), used = found_by(text, {"a": a, "b": b})
    con = duckdb.connect()
    con.register("a", a)
    con.register("b", b)
    theirs = con.execute(text).fetchall()
    assert cells == repr([{"i": i, "j": j} for i, j in theirs])
    assert universe == n * n
    in_a, in_b = (np.bincount(t.column("g").to_numpy(), minlength=n) for t in (a, b))
    assert used[0].looked == int(in_a @ in_b)


def test_many_pairs_are_kept_as_a_bitmap_and_few_as_numbers() -> None:
    a = pa.table({"g": np.arange(1000) % 3})
    text = "select x.g from a x, a y where x.g = y.g"
    view = answer(text, {"a": a})
    assert view.selected.nbytes < 200_000
    wanted = np.flatnonzero(np.equal.outer(np.arange(1000) % 3, np.arange(1000) % 3))
    np.testing.assert_array_equal(view.selected.to_numpy(), wanted)


def test_an_explanation_says_that_the_join_is_on_keys() -> None:
    a = tql.open("demo:digits")
    from_both = 'select a.labels from "demo:digits" a, "demo:digits" b where '
    told = str(a.explain(from_both + "a.labels = b.labels and a.labels != 3"))
    assert "on keys of WHERE, a.labels == b.labels" in told
    assert " pairs looked at" in told and "cross" not in told
    told = str(a.explain(from_both + "a.labels > b.labels"))
    assert "Join  cross" in told and "looked at" not in told
