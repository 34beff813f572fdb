"""Joins against nested loops in Python, and against DuckDB; what they read, refuse and say."""

import operator
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.explain_data import Watched
from tests.plain_kernels import run_as_python
from tests.profiles import examples
from tql.engine.derived import DerivedSource, derive
from tql.engine.joined import Crossed, JoinedSource
from tql.engine.scan import Settings, Tier
from tql.engine.select import Environment, select
from tql.grammar.parser import parse
from tql.language.bind import bind
from tql.language.passes import optimize
from tql.reports.render import FORMATS
from tql.sources.opening import open_source
from tql.sources.protocol import Source

NAN = float("nan")
NAMES = ("cat", "dog", "fox")
NUMBERS: Mapping[str, Sequence[Any]] = {
    "i8": (-128, -1, 0, 1, 2, 127),
    "u16": (0, 1, 2, 65535),
    "i64": (-(2**63), -1, 0, 1, 2, 2**53, 2**53 + 1, 2**63 - 1),
    "u64": (0, 1, 2, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1),
    "f32": (-0.0, 0.0, 0.5, 1.0, 2.0, -128.0, 2.0**63, NAN, float("inf")),
    "f64": (-0.0, 0.0, 0.5, 1.0, 2.0, 2.0**53, 2.0**63, 2.0**64, 1e300, NAN, float("-inf")),
    "flag": (False, True),
    "label": (0, 1, 2),
}
TYPES = {
    "i8": pa.int8(), "u16": pa.uint16(), "i64": pa.int64(), "u64": pa.uint64(), "f32": pa.float32(),
    "f64": pa.float64(), "flag": pa.bool_(), "label": pa.int8(), "text": pa.string(),
    "word": pa.large_string(), "day": pa.date32(), "at": pa.timestamp("ms"),
}  # fmt: skip
TEXTS = ("", "a", "A", "b", "é", "it's")
POOLS: Mapping[str, Sequence[Any]] = {
    **NUMBERS, "text": TEXTS, "word": TEXTS, "day": (0, 1, 20000), "at": (0, 1, 2**40),
}  # fmt: skip
KINDS = (("text", "word"), ("day",), ("at",), tuple(NUMBERS))
COLUMNS = tuple(POOLS)

Row = Mapping[str, Any]
# Of each source by alias, its row; None where the join has none.
Together = Mapping[str, Row | None]


@dataclass(frozen=True)
class Table:
    """A table, and the same rows as Python values; `id` is the position."""

    arrow: pa.Table
    rows: tuple[Row, ...]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(0, 7))
    columns = {name: draw(_values(name, n)) for name in COLUMNS}
    arrays = {"id": pa.array(range(n), pa.int64())}
    for name, values in columns.items():
        arrays[name] = pa.array(values, TYPES[name])
    rows = tuple({"id": i, **{name: columns[name][i] for name in COLUMNS}} for i in range(n))
    return Table(pa.table(arrays), rows)


def _values(name: str, n: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | st.sampled_from(POOLS[name]), min_size=n, max_size=n)


# -- conditions: as text, and as what they are of a pair of rows --------------------------------

Truth = bool | None
Test = Callable[[Together], Truth]
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    text: str
    test: Test


def compared(a: str, x: str, op: str, b: str, y: str) -> Condition:
    """`a.x op b.y`; NULL compares as unknown. Python compares an int with a float exactly."""

    def test(pair: Together) -> Truth:
        left, right = _value(pair, a, x), _value(pair, b, y)
        return None if left is None or right is None else OPERATORS[op](left, right)

    return Condition(f"{a}.{x} {op} {b}.{y}", test)


def with_literal(a: str, x: str, op: str, value: Any) -> Condition:
    def test(pair: Together) -> Truth:
        left = _value(pair, a, x)
        return None if left is None else OPERATORS[op](left, value)

    return Condition(f"{a}.{x} {op} {value!r}", test)


def _value(pair: Together, alias: str, column: str) -> Any:
    row = pair[alias]
    return None if row is None else row[column]


@st.composite
def equalities(draw: st.DrawFn, left: Sequence[str], right: str) -> Condition:
    kind = draw(st.sampled_from(KINDS))
    x, y = draw(st.sampled_from(kind)), draw(st.sampled_from(kind))
    a = draw(st.sampled_from(left))
    sides = (a, x, "==", right, y) if draw(st.booleans()) else (right, y, "==", a, x)
    return compared(*sides)


@st.composite
def others(draw: st.DrawFn, left: Sequence[str], right: str) -> Condition:
    """A condition over one side, or both."""
    everywhere = (*left, right)
    match draw(st.integers(0, 3)):
        case 0:
            a, x = draw(st.sampled_from(everywhere)), draw(st.sampled_from(["i8", "f32", "u16"]))
            return with_literal(
                a, x, draw(st.sampled_from(list(OPERATORS))), draw(st.integers(-1, 2))
            )
        case 1:
            a = draw(st.sampled_from(everywhere))
            return with_literal(a, "word", "!=", draw(st.sampled_from(["a", "b"])))
        case 2:
            a = draw(st.sampled_from(everywhere))

            def missing(pair: Together) -> Truth:
                return _value(pair, a, "i64") is None

            return Condition(f"{a}.i64 is null", missing)
        case _:
            x, y = (draw(st.sampled_from(list(NUMBERS))) for _ in "xy")
            op = draw(st.sampled_from(list(OPERATORS)))
            return compared(draw(st.sampled_from(left)), x, op, right, y)


@dataclass(frozen=True)
class Join:
    kind: str
    alias: str
    conditions: tuple[Condition, ...]

    @property
    def text(self) -> str:
        if self.kind == ",":
            return f", {self.alias}"
        if self.kind == "cross join":
            return f"cross join {self.alias}"
        return f"{self.kind} {self.alias} on " + " and ".join(c.text for c in self.conditions)


@st.composite
def joins(draw: st.DrawFn, left: Sequence[str], alias: str, last: bool) -> Join:
    """A comma binds loosest, so none stands before another join here."""
    kind = draw(st.sampled_from(
        ["join", "inner join", "left join", "left outer join", "right join", "full join", "full outer join",
         "cross join", ","]
    ))  # fmt: skip
    if kind in ("cross join", ","):
        return Join(kind if last else "cross join", alias, ())
    terms = [draw(equalities(left, alias))]
    terms += draw(st.lists(equalities(left, alias), max_size=1))
    terms += draw(st.lists(others(left, alias), max_size=2))
    return Join(kind, alias, tuple(draw(st.permutations(terms))))


def nested_loops(left: Sequence[Together], join: Join, right: Sequence[Row]) -> list[Together]:
    """The join, pair by pair, in the order that the language promises."""
    before = tuple(left[0]) if left else ()
    result: list[Together] = []
    used = set()
    for pair in left:
        found = False
        for n, row in enumerate(right):
            both = {**pair, join.alias: row}
            if all(c.test(both) is True for c in join.conditions):
                result.append(both)
                used.add(n)
                found = True
        if not found and join.kind.split()[0] in ("left", "full"):
            result.append({**pair, join.alias: None})
    if join.kind.split()[0] in ("right", "full"):
        for n, row in enumerate(right):
            if n not in used:
                result.append({**dict.fromkeys(before), join.alias: row})
    return result


# -- our side ----------------------------------------------------------------------------------


def answer(
    text: str, tables: Mapping[str, Any], tier: Tier = "reference", seed: int = 0
) -> DerivedSource:
    """The result of a query over tables that are named as they are in FROM."""
    sources: dict[str, Source] = {
        name: open_source(t, class_names={"label": NAMES} if "label" in t.column_names else None)
        if isinstance(t, pa.Table) else t
        for name, t in tables.items()
    }  # fmt: skip

    def none(*_: Any) -> Any:
        raise AssertionError("nothing is drawn here")

    bound = bind(parse(text), text, here=None, tables=lambda name, span: sources[name].schema)
    rewritten = optimize(bound)
    found = select(rewritten, Environment(None, sources, seed, none, Settings(tier)))
    return derive(found.source, found.rows, rewritten.outputs, seed)


def values(view: DerivedSource) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = view.take(np.arange(view.rows), view.schema.names).to_pylist()
    return rows


def same(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b)


@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_joins_give_the_rows_of_nested_loops_in_their_order(data: st.DataObject) -> None:
    aliases = ("a", "b", "c")[: data.draw(st.integers(2, 3))]
    stored = {alias: data.draw(tables()) for alias in aliases}
    expected: list[Together] = [{"a": row} for row in stored["a"].rows]
    text = "from a"
    for at, alias in enumerate(aliases[1:], 1):
        join = data.draw(joins(aliases[:at], alias, alias == aliases[-1]))
        expected = _joined(expected, join, stored[alias].rows, aliases[:at])
        text += ("" if join.kind == "," else " ") + join.text
    where = data.draw(st.none() | others(aliases[:-1], aliases[-1]))
    if where is not None:
        text += f" where {where.text}"
        expected = [pair for pair in expected if where.test(pair) is True]
    columns = [f"{a}.{c} as {a}_{c}" for a in aliases for c in ("id", "f64", "label", "word", "at")]
    view = answer(f"select {', '.join(columns)} {text}", {a: t.arrow for a, t in stored.items()})
    found = values(view)
    wanted = [tuple(_value(pair, a, "id") for a in aliases) for pair in expected]
    assert [tuple(row[f"{a}_id"] for a in aliases) for row in found] == wanted
    for row, pair in zip(found, expected, strict=True):
        for alias, column in product(aliases, ("f64", "label", "word")):
            assert same(row[f"{alias}_{column}"], _value(pair, alias, column))


def _joined(
    left: list[Together], join: Join, right: Sequence[Row], before: Sequence[str]
) -> list[Together]:
    if left:
        return nested_loops(left, join, right)
    if join.kind.split()[0] in ("right", "full"):
        return [{**dict.fromkeys(before), join.alias: row} for row in right]
    return []


@settings(max_examples=examples(60), deadline=None)
@given(tables(), tables(), st.data())
def test_using_gives_one_column_of_two(a: Table, b: Table, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["join", "left join", "right join", "full join"]))
    names = data.draw(
        st.lists(st.sampled_from(["i8", "text", "flag", "at"]), min_size=1, max_size=2, unique=True)
    )
    conditions = tuple(compared("a", n, "==", "b", n) for n in names)
    expected = _joined([{"a": row} for row in a.rows], Join(kind, "b", conditions), b.rows, ("a",))
    text = f"select {', '.join(names)}, a.id as x, b.id as y from a {kind} b using ({', '.join(names)})"
    found = values(answer(text, {"a": a.arrow, "b": b.arrow}))
    assert [(r["x"], r["y"]) for r in found] == [
        (_value(pair, "a", "id"), _value(pair, "b", "id")) for pair in expected
    ]
    for row, pair in zip(found, expected, strict=True):
        side = pair["a"] if pair["a"] is not None else pair["b"]
        assert side is not None
        for name in names:
            wanted = pa.scalar(side[name], TYPES[name]).as_py()
            assert row[name] == wanted


# -- a second opinion --------------------------------------------------------------------------


def tame(seed: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(seed)

    def missing() -> Any:
        return rng.random(rows) < 0.2

    return pa.table(
        {
            "id": np.arange(rows),
            "k": pa.array(rng.integers(0, 8, rows), mask=missing()),
            "s": pa.array(rng.integers(0, 4, rows).astype(np.int16), mask=missing()),
            "w": pa.array(rng.choice(np.array(["a", "b", "c", ""], object), rows), mask=missing()),
            "x": rng.integers(-20, 20, rows) / 2,
        }
    )


@pytest.mark.parametrize("kind", ["join", "left join", "right join", "full join"])
@pytest.mark.parametrize(
    "condition",
    [
        "a.k = b.k",
        "a.k = b.s",
        "a.w = b.w and a.s = b.s",
        "a.k = b.k and a.x < b.x",
        "a.k = b.k and a.x > 0",
        "a.k = b.k and b.x > 0 and a.w is not null",
        "a.k + 1 = b.k + b.s and a.w != b.w",
        "a.k = b.k and (a.x > 3 or b.x > 3)",
    ],
)
def test_duckdb_has_the_same_rows(kind: str, condition: str) -> None:
    a, b = tame(1, 60), tame(2, 45)
    text = f"select a.id as x, b.id as y, a.w as v, b.x as z from a {kind} b on {condition}"
    ours = [tuple(row.values()) for row in values(answer(text, {"a": a, "b": b}))]
    con = duckdb.connect()
    con.register("a", a)
    con.register("b", b)
    theirs = con.execute(text).fetchall()
    assert len(ours) > 10
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)


@pytest.mark.parametrize(
    "text",
    [
        "select a.id as x, b.id as y, c.id as z from a left join b on a.k = b.k join c on c.s = b.s",
        "select a.id as x, b.id as y, c.id as z from a join b on a.k = b.k full join c on c.w = a.w and c.s = b.s",
        "select a.id as x, b.id as y, c.id as z from a, b right join c on b.k = c.k where a.s = c.s",
        "select a.id as x, k, c.id as z from a full join b using (k) full join c using (k)",
        "select q.n as x, b.id as y from (select id as n, k as m from a where x > 0) q join b on q.m = b.k",
        "select x.id as i, y.id as j from a x join a y on x.k = y.s where x.id < y.id",
        "select p.u, p.v, c.id as z from (select a.id as u, b.id as v, a.s from a join b on a.k = b.k) as p "
        "join c on p.s = c.s",
    ],
)
def test_duckdb_has_the_same_rows_of_chains_and_subqueries(text: str) -> None:
    stored = {"a": tame(1, 30), "b": tame(2, 25), "c": tame(3, 20)}
    ours = [tuple(row.values()) for row in values(answer(text, stored))]
    con = duckdb.connect()
    for name, table in stored.items():
        con.register(name, table)
    theirs = con.execute(text).fetchall()
    assert len(ours) > 10
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)


# -- what rows and columns are -----------------------------------------------------------------

ANIMALS = pa.table(
    {
        "id": [0, 1, 2, 3],
        "name": ["ann", "bob", "cid", None],
        "legs": pa.array([4, 2, 4, 8], pa.int8()),
    }
)
VISITS = pa.table(
    {
        "animal": [2, 0, 2, 9, None],
        "cost": [1.5, 2.5, 0.5, 3.0, 4.0],
        "name": ["x", "y", "z", "w", "v"],
    }
)
BOTH = {"animals": ANIMALS, "visits": VISITS}


def ids(text: str, stored: Mapping[str, Any] = BOTH) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in values(answer(text, stored))]


PETS = {
    "a": open_source(pa.table({"lab": [0, 1]}), class_names={"lab": ["cat", "dog"]}),
    "b": open_source(pa.table({"lab": [0, 1, 2]}), class_names={"lab": ["dog", "fox", "cat"]}),
    "c": open_source(pa.table({"lab": [1]}), class_names={"lab": ["cat", "dog"]}),
    "d": open_source(pa.table({"lab": [[0, 1]]}), class_names={"lab": ["cat"]}),
}


@pytest.mark.parametrize(
    "text",
    [
        "select a.lab from a join b on a.lab == b.lab",
        "select a.lab from a join b on a.lab + 0 == b.lab + 0 and a.lab >= b.lab",
        "select a.lab from a, b where a.lab = b.lab",
        "select lab from a full join b using (lab)",
        "select a.lab from a, b where a.lab in (b.lab, 'cat')",
        "select a.lab from a, b where a.lab between b.lab and 'dog'",
        "select a.lab from a, b where equals(a.lab, b.lab)",
        "select a.lab from a, b where contains(a.lab, b.lab)",
        "select a.lab from a, d where contains(d.lab, a.lab)",
        "select a.lab from a, d where any(d.lab == a.lab)",
    ],
)
def test_labels_of_other_class_names_do_not_compare(text: str) -> None:
    with pytest.raises(tql.TqlTypeError, match="different class names") as e:
        ids(text, PETS)
    d = e.value.diagnostic
    other = "'dog' and no name" if "d.lab" in text else "'cat' and 'dog'"
    assert d.code == "schema" and "class_names=" in (d.help or "")
    first, second = other.split(" and ")
    assert {first in d.notes[0].message, second in d.notes[0].message} == {True}


def test_labels_of_the_same_class_names_compare_and_indices_may() -> None:
    assert ids("select a.lab from a join c on a.lab == c.lab", PETS) == [(1,)]
    assert ids("select lab from a full join c using (lab)", PETS) == [(0,), (1,)]
    text = "select a.lab from a join b on a.lab + 0 == b.lab + 0"
    assert ids(text, PETS) == [(0,), (1,)]


@pytest.mark.parametrize("other", ["left", "right"])
def test_a_full_join_does_not_round_the_column_it_merges(other: str) -> None:
    a, b = pa.table({"k": [1, 2**53 + 1]}), pa.table({"k": [2.5, 1.0]})
    stored = {"a": a, "b": b} if other == "left" else {"b": a, "a": b}
    with pytest.raises(
        tql.TqlDataError, match=f"column 'k' of the {other} side: .*int64 does not fit"
    ):
        ids("select k from a full join b using (k)", stored)
    kept = ids("select k from (select * from a where k < 9) a full join "
               "(select * from b where k < 9) b using (k)", stored)  # fmt: skip
    assert sorted(kept) == [(1.0,), (2.5,)]


def test_the_outer_side_is_nullable_and_types_are_kept() -> None:
    text = "select id, legs, cost, animal from animals {} visits on id == animal"

    def nullable(kind: str) -> list[bool]:
        return [c.nullable for c in answer(text.format(kind), BOTH).schema]

    stored = [c.nullable for c in stored_columns(ANIMALS, "id", "legs")]
    right = [c.nullable for c in stored_columns(VISITS, "cost", "animal")]
    assert nullable("join") == [*stored, *right]
    assert nullable("left join") == [*stored, True, True]
    assert nullable("right join") == [True, True, *right]
    assert nullable("full join") == [True] * 4
    view = answer(text.format("full join"), BOTH)
    assert [str(c.dtype) for c in view.schema] == ["int64", "int8", "float64", "int64"]


def stored_columns(table: pa.Table, *names: str) -> list[Any]:
    return [open_source(table).schema[name] for name in names]


def test_expressions_orders_and_limits_see_the_joined_rows() -> None:
    text = "from animals join visits on id == animal"
    assert ids(f"select id, id + animal as s {text} where cost > 1 order by cost desc") == [
        (0, 0),
        (2, 4),
    ]
    assert ids(f"select id, row_number() as n {text} where row_number() > 0") == [(2, 1), (2, 2)]
    assert ids(f"select cost {text} order by cost limit 2 offset 1") == [(1.5,), (2.5,)]
    assert ids(f"select distinct id {text}") == [(0,), (2,)]
    assert ids(f"select id, count(*) as n {text} group by id") == [([0], 1), ([2, 2], 2)]
    assert ids(f"select animals.name, visits.name as other {text} order by other") == [
        ("cid", "x"), ("ann", "y"), ("cid", "z")
    ]  # fmt: skip


def test_random_is_drawn_for_each_joined_row() -> None:
    text = "select id, random() as r from animals, visits"
    drawn = [r for _, r in ids(text)]
    assert len(set(drawn)) == 20
    assert drawn == [r for _, r in ids(text)]
    late = ids(f"select id, r from ({text}) where id == 3")
    assert [r for _, r in late] == drawn[15:]


def test_an_alias_wins_where_a_name_is_ambiguous_and_aliases_win() -> None:
    text = "select animals.name as name, id from animals join visits on id == animal"
    assert [n for n, _ in ids(f"{text} order by name desc")] == ["cid", "cid", "ann"]
    with pytest.raises(tql.TqlNameError) as e:
        ids(f"{text} where name == 'ann'")
    assert e.value.diagnostic.code == "ambiguous"


def test_stars_are_of_all_sources_or_of_one() -> None:
    plain = {"a": ANIMALS, "b": VISITS.drop_columns(["name"])}
    view = answer("select * from a left join b on id == animal", plain)
    assert view.schema.names == ("id", "name", "legs", "animal", "cost")
    view = answer("select b.*, a.name from a left join b on id == animal", plain)
    assert view.schema.names == ("animal", "cost", "name")
    view = answer("select *, a.id from a left join b on id == animal", plain)
    assert view.schema.names == ("id", "name", "legs", "animal", "cost")
    view = answer("select * from animals a full join visits using (name)", {**BOTH})
    assert view.schema.names == ("id", "name", "legs", "animal", "cost")


def test_a_column_may_have_a_name_with_a_dot() -> None:
    left = pa.table({"k": [1, 2], "b.k": [5, 6]})
    right = pa.table({"k": [2, 1]})
    assert ids('select a.k, "b.k" as d, b.k as e from a join b on a.k == b.k', {"a": left, "b": right}) == [
        (1, 5, 1), (2, 6, 2)
    ]  # fmt: skip


def test_the_rows_of_a_join_are_a_base_of_their_own(tmp_path: Path) -> None:
    pq.write_table(ANIMALS, tmp_path / "a.parquet")
    pq.write_table(VISITS, tmp_path / "v.parquet")
    text = f'from "{tmp_path}/a.parquet" a left join "{tmp_path}/v.parquet" v on a.id == v.animal'
    view = tql.query(f"select a.id, v.cost {text} where a.id >= 2")
    assert view.row_ids.tolist() == [2, 3, 4]
    assert view.to_arrow().to_pydict() == {"id": [2, 2, 3], "cost": [1.5, 0.5, None]}
    assert view.take([4, 2]).to_pydict() == {"id": [3, 2], "cost": [None, 1.5]}
    narrowed = view.query("select cost, id where cost is null")
    assert narrowed.row_ids.tolist() == [4]
    assert view[1] == {"id": 2, "cost": 0.5}
    again = tql.query(f"select a.id, v.cost {text} where a.id >= 2")
    assert view.fingerprint == again.fingerprint
    other = text.replace("left", "full")
    assert tql.query(f"select a.id, v.cost {other} where a.id >= 2").fingerprint != view.fingerprint
    copy = pickle.loads(pickle.dumps(view.source))
    assert copy.take(np.arange(3), ["id"]).column("id").to_pylist() == [2, 2, 3]
    assert not tql.is_filter(f"select * {text}")


def test_a_loader_reads_the_columns_of_both_sides(tmp_path: Path) -> None:
    digits = tql.open("demo:digits")
    pq.write_table(
        pa.table({"digit": np.arange(10), "word": [f"w{n}" for n in range(10)]}),
        tmp_path / "w.parquet",
    )
    view = tql.query(
        f'select d.images, d.labels, word from "demo:digits" d join "{tmp_path}/w.parquet" w '
        "on d.labels == w.digit where digit < 3"
    )
    loader = (
        view.dataloader(seed=3).sample_by("max_weight(labels == 2: 3, true: 1)").shuffle().batch(50)
    )
    seen = 0
    for batch in loader.numpy():
        assert batch["images"].shape[1:] == digits[0]["images"].shape
        for at, row in enumerate(batch["index"].tolist()):
            expected = view.take([row]).to_pylist()[0]
            assert batch["word"][at] == expected["word"] == f"w{batch['labels'][at]}"
        seen += len(batch["index"])
    assert seen == len(view) == 537
    chained = digits.dataloader().query(
        f'select d.images, word from "demo:digits" d join "{tmp_path}/w.parquet" w on d.labels == w.digit'
    )
    words = {w for batch in chained.batch(100).numpy() for w in batch["word"]}
    assert words == {f"w{n}" for n in range(10)}


# -- what is read and made ---------------------------------------------------------------------


def test_no_column_is_read_that_the_query_does_not_name() -> None:
    left, right = Watched(open_source(ANIMALS)), Watched(open_source(VISITS))
    stored = {"a": left, "v": right}
    view = answer(
        "select a.name, v.cost from a join v on a.id == v.animal and a.legs > 2 where v.cost > 1",
        stored,
    )
    assert left.columns_read == {"id", "legs"}
    assert right.columns_read == {"animal", "cost"}
    view.take(np.arange(view.rows), ["name"])
    assert left.columns_read == {"id", "legs", "name"}
    assert right.columns_read == {"animal", "cost"}


def test_a_cross_join_is_computed_and_never_stored() -> None:
    many = pa.table({"x": np.arange(30_000)})
    view = answer("select a.x, b.x as y from a, b limit 3 offset 299999999", {"a": many, "b": many})
    assert isinstance(view.parent, JoinedSource)
    assert view.parent.pairs == Crossed(30_000, 30_000)
    assert values(view)[:2] == [{"x": 9999, "y": 29_999}, {"x": 10_000, "y": 0}]


@pytest.mark.parametrize("text", ["select x from a, b", "select x from a join b on k == j"])
def test_a_join_that_would_be_too_large_is_refused_before_it_is_made(text: str) -> None:
    a = pa.table({"x": np.arange(60_000), "k": np.zeros(60_000, np.int8)})
    b = pa.table({"y": np.arange(60_000), "j": np.zeros(60_000, np.int8)})
    with pytest.raises(tql.TqlPlanError, match="3,600,000,000 rows, more than 2,147,483,648") as e:
        answer(text, {"a": a, "b": b})
    assert e.value.diagnostic.code == "range" and e.value.diagnostic.help


def test_pairs_that_the_keys_leave_out_raise_nothing() -> None:
    a = pa.table({"k": [1, 2], "n": [7, 5], "d": [2, 0]})
    b = pa.table({"j": [1, 3]})
    stored = {"a": a, "b": b}
    assert ids("select k, j from a join b on k == j and n % d == 1", stored) == [(1, 1)]
    assert ids("select k, j from a left join b on k == j and n % d == 1", stored) == [
        (1, 1),
        (2, None),
    ]
    with pytest.raises(tql.TqlDataError, match="in row 1") as e:
        ids("select k, j from a join b on k == j + 1 and n % d == 1", stored)
    assert e.value.diagnostic.code == "value"


@pytest.mark.parametrize(
    "condition", ["a.i64 > b.i8", "a.f64 == 1 or b.word == 'a'", "b.label == 'dog'", "a.flag"]
)
def test_kernels_filter_joined_rows_as_the_reference_does(
    condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as_python(monkeypatch)
    rng = np.random.default_rng(4)
    stored = {
        name: pa.table({"id": np.arange(40)} | {
            c: pa.array([POOLS[c][n] for n in rng.integers(0, len(POOLS[c]), 40)], TYPES[c],
                        mask=rng.random(40) < 0.2)
            for c in COLUMNS
        })
        for name in "ab"
    }  # fmt: skip
    text = f"select a.id as x, b.id as y from a left join b on a.text == b.text where {condition}"
    kernel, reference = (values(answer(text, stored, tier)) for tier in ("kernel", "reference"))
    assert kernel == reference
    assert kernel


def test_a_scan_over_many_blocks_of_pairs_decodes_each_fragment_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 100, 3000), rng.integers(0, 100, 800)
    pq.write_table(
        pa.table({"x": a, "t": [str(n) for n in a]}), tmp_path / "a.parquet", row_group_size=500
    )
    pq.write_table(pa.table({"y": b}), tmp_path / "b.parquet", row_group_size=300)
    left = Watched(open_source(str(tmp_path / "a.parquet")))
    right = Watched(open_source(str(tmp_path / "b.parquet")))
    # The OR keeps it from being asked of one side alone.
    text = "select x, y from a, b where x < y and (t != '7' or y < 0)"
    view = answer(text, {"a": left, "b": right})
    assert len(view.parent.fragments) == 3
    assert view.rows == int(((a[:, None] < b[None, :]) & (a[:, None] != 7)).sum())
    for source, fragments in ((left, 6), (right, 3)):
        assert sorted(f for f, _ in source.reads) == list(range(fragments))


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_form_of_an_explanation_shows_the_join(form: str) -> None:
    told = tql.open("demo:digits").explain(
        'select a.labels from "demo:digits" a left join "demo:digits" b on a.labels == b.labels'
    )
    printed = FORMATS[form](told)
    assert "join" in printed.lower() and "left" in printed
    assert "322989" in printed.replace(",", "") and "1797" in printed.replace(",", "")


def test_times_of_different_units_are_equal_where_they_are_the_same_moment() -> None:
    seconds = pa.array([0, 1, 86_400, None, -1], pa.timestamp("s"))
    millis = pa.array([1000, 1001, 86_400_000, 0, None, -1], pa.timestamp("ms"))
    days = pa.array([1, 0, None, -1], pa.date32())
    stored = {
        "s": pa.table({"t": seconds}),
        "m": pa.table({"u": millis}),
        "d": pa.table({"v": days}),
    }
    found = ids("select row_number() as n, t, u from s join m on t == u", stored)
    assert [(t.timestamp(), u.timestamp()) for _, t, u in found] == [
        (n, n) for n in _local(0, 1, 86_400)
    ]
    assert len(ids("select u from m join d on v == u", stored)) == 2
    assert [v.day for (v,) in ids("select v from s join d on t == v", stored)] == [1, 2]
    using = {"s": stored["s"], "m": stored["m"].rename_columns(["t"])}
    whole = answer("select t from s full join m using (t)", using)
    assert str(whole.schema["t"].dtype) == "timestamp[ms]"
    assert whole.rows == 8


def _local(*seconds: int) -> list[float]:
    return [datetime(1970, 1, 1 + s // 86_400, 0, 0, s % 86_400).timestamp() for s in seconds]


def test_json_values_are_keys_by_type_and_value() -> None:
    texts = [
        '{"k": 1}',
        '{"k": "1"}',
        '{"k": 2.0}',
        '{"k": null}',
        '{"k": true}',
        '{"k": [1, {"b": 1, "a": 2}]}',
    ]
    meta = pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts))
    others = [1.0, 2.0, float("nan"), None, 0.5]
    stored = {
        "a": pa.table({"id": range(6), "meta": meta}),
        "f": pa.table({"x": others}),
        "t": pa.table({"w": ["1", "true", None]}),
        "b": pa.table({"n": range(6), "meta": meta}),
    }
    assert ids("select id, x from a join f on meta['k'] == x", stored) == [(0, 1.0), (2, 2.0)]
    assert ids("select id, w from a join t on w == meta['k']", stored) == [(1, "1")]
    assert ids("select id, n from a join b on a.meta['k'] == b.meta['k']", stored) == [
        (n, n) for n in (0, 1, 2, 4, 5)
    ]  # fmt: skip
