"""Fragments that statistics decide: never a row too many or too few, and nothing is read of them."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from enum import Flag
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tql
from tests.strategies import TYPES, Pieces, conditions, random_table
from tql.engine.columns import Numbers, from_arrow
from tql.engine.frame import Frame
from tql.engine.pruning import fragments_of, outcomes
from tql.engine.reference import evaluate
from tql.grammar.parser import parse
from tql.language.bind import bind
from tql.language.expr import Const, Expr, can_raise
from tql.language.plan import Filter
from tql.schema import Bool, Float, Text
from tql.sources.protocol import ColumnStats


class Outcome(Flag):
    """What a condition may be in some row."""

    TRUE = 1
    FALSE = 2
    NULL = 4


def promised(e: Expr, source: Pieces, **columns: ColumnStats) -> Outcome:
    """What the statistics of its first fragment leave possible."""
    source.fragments = (replace(source.fragments[0], columns=columns), *source.fragments[1:])
    found = outcomes(e, fragments_of(source))
    seen = Outcome(0)
    for outcome, mask in zip(Outcome, (found.true, found.false, found.null), strict=True):
        seen |= outcome if mask[0] else Outcome(0)
    return seen


def stats_of(array: Any, name: str) -> ColumnStats:
    """True bounds, as a footer would give them: of what is neither null nor NaN."""
    dtype = TYPES[name]
    if isinstance(dtype, Text):
        texts = [t for t in array.to_pylist() if t is not None]
        low, high = (min(texts), max(texts)) if texts else (None, None)
    else:
        vec = from_arrow(array, dtype)
        assert isinstance(vec, Numbers)
        values = vec.values if vec.valid is None else vec.values[vec.valid]
        values = values[~np.isnan(values)] if isinstance(dtype, Float) else values
        low, high = (values.min().item(), values.max().item()) if len(values) else (None, None)
    return ColumnStats(nulls=array.null_count, low=low, high=high)


def bound(condition: str, source: Pieces) -> Expr:
    text = f"select * where {condition}"

    def no_tables(*_: Any) -> Any:
        raise AssertionError("no FROM here")

    plan = bind(parse(text), text, here=source.schema, tables=no_tables).plan
    return plan.predicate if isinstance(plan, Filter) else Const(True, Bool())


@given(conditions(), st.integers(0, 2**32), st.integers(1, 12))
def test_statistics_never_promise_what_the_rows_do_not_keep(
    condition: str, seed: int, rows: int
) -> None:
    table = random_table(list(TYPES), rows, seed, tame=True)
    source = Pieces(table)
    e = bound(condition, source)
    if can_raise(e):
        return
    columns = {n: stats_of(table.column(n).combine_chunks(), n) for n in table.column_names}
    possible = promised(e, source, **columns)
    found = evaluate(e, Frame(table, np.arange(rows), 0))
    assert isinstance(found, Numbers)
    values = np.broadcast_to(found.values, (rows,))
    valid = np.ones(rows, bool) if found.valid is None else np.broadcast_to(found.valid, (rows,))
    seen = Outcome(0)
    for value, known in zip(values.tolist(), valid.tolist(), strict=True):
        seen |= Outcome.NULL if not known else Outcome.TRUE if value else Outcome.FALSE
    assert seen & possible == seen


@pytest.mark.parametrize(
    ("condition", "low", "high", "nulls", "expected"),
    [
        ("i64 > 5", 6, 9, 0, Outcome.TRUE),
        ("i64 > 5", 1, 5, 0, Outcome.FALSE),
        ("i64 > 5", 5, 6, 0, Outcome.TRUE | Outcome.FALSE),
        ("i64_n > 5", 6, 9, 1, Outcome.TRUE | Outcome.NULL),
        ("i64_n > 5", None, None, 10, Outcome.NULL),
        ("i64_n is null", 1, 2, 0, Outcome.FALSE),
        ("i64_n is null", None, None, 10, Outcome.TRUE),
        ("i64 between 3 and 4", 5, 9, 0, Outcome.FALSE),
        ("i64 not between 3 and 4", 5, 9, 0, Outcome.TRUE),
        ("i64 in (1, 99)", 5, 9, 0, Outcome.FALSE),
        ("i64 == 7 or i64 == 8", 9, 12, 0, Outcome.FALSE),
        ("i64 == 7.5", 7, 8, 0, Outcome.FALSE),
        ("f64 > 5", 6.0, 9.0, 0, Outcome.TRUE | Outcome.FALSE),  # a NaN is in no statistics
        ("f64 < 5", 6.0, 9.0, 0, Outcome.FALSE),
        ("f64 != 5", 6.0, 9.0, 0, Outcome.TRUE),
        ("text == 'm'", "a", "c", 0, Outcome.FALSE),
        ("text like 'm*'", "a", "lz", 0, Outcome.FALSE),
        ("text like 'm*'", "a", "mz", 0, Outcome.TRUE | Outcome.FALSE),
        ("text like 'm*'", "m", "mz", 0, Outcome.TRUE),
        ("text like 'm%*'", "m", "mz", 0, Outcome.TRUE),
        ("text not like 'm*'", "m", "mz", 0, Outcome.FALSE),
        ("text like 'm?'", "m", "mz", 0, Outcome.TRUE | Outcome.FALSE),
        ("text like 'm\\*'", "a", "m", 0, Outcome.FALSE),
        ("text ilike 'm*'", "a", "c", 0, Outcome.TRUE | Outcome.FALSE),
        ("text in ('x', 'y')", "a", "c", 0, Outcome.FALSE),
        ("label == 'dog'", 2, 4, 0, Outcome.FALSE),
        ("i64", 0, 0, 0, Outcome.FALSE),
        ("flag", True, True, 0, Outcome.TRUE),
    ],
)
def test_bounds_decide(condition: str, low: Any, high: Any, nulls: int, expected: Outcome) -> None:
    source = Pieces(random_table(list(TYPES), 10, 0))
    name = condition.split()[0]
    stats = ColumnStats(nulls=nulls, low=low, high=high)
    assert promised(bound(condition, source), source, **{name: stats}) == expected


def test_what_is_decided_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sorted.parquet"
    table = pa.table({"id": np.arange(1000), "text": [f"t{k:04}" for k in range(1000)]})
    pq.write_table(table, path, row_group_size=100)
    ds = tql.open(str(path))
    read: list[int] = []
    plain = type(ds.source).read

    def counted(self: Any, fragment: int, columns: Sequence[str]) -> Any:
        read.append(fragment)
        return plain(self, fragment, columns)

    monkeypatch.setattr(type(ds.source), "read", counted)
    for condition, groups in (
        ("id between 250 and 349", [2, 3]),
        ("id >= 300", []),
        ("id >= 305", [3]),
        ("id > 5000", []),
        ("text like 't07*'", []),
        ("text like 't07?0'", [7]),
        ("text == 't0123' or id == 999", [1, 9]),
        ("not (id < 950)", [9]),
    ):
        read.clear()
        rows = ds.query(f"select * where {condition}").row_ids
        assert sorted(read) == groups, condition
        expected = _filtered(table, condition)
        assert rows.tolist() == expected


def _filtered(table: pa.Table, condition: str) -> list[int]:
    here = tql.open(table).query(f"select * where {condition}")
    rows: list[int] = here.row_ids.tolist()
    return rows


def test_a_fragment_left_out_raises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "zeros.parquet"
    table = pa.table({"id": np.arange(200), "d": np.repeat([0, 1], 100)})
    pq.write_table(table, path, row_group_size=100)
    ds = tql.open(str(path))
    assert len(ds.query("select * where id >= 100 and 7 % d == 0")) == 100
    with pytest.raises(tql.TqlError, match="row 0"):
        ds.query("select * where 7 % d == 0 and id >= 0")


def test_statistics_that_were_cut_or_are_missing_prune_nothing(tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    long = ["a" * 40 + str(k) for k in range(10)]
    table = pa.table({"text": long, "x": pa.array([float("nan")] * 10)})
    pq.write_table(table, path)
    ds = tql.open(str(path))
    assert len(ds.query("select * where text == $t", {"t": long[9]})) == 1
    assert len(ds.query("select * where x != 1")) == 10
    pq.write_table(table, path, write_statistics=False)
    assert len(tql.open(str(path)).query("select * where text like 'a*'")) == 10


def test_explain_counts_the_fragments_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sorted.parquet"
    pq.write_table(pa.table({"id": np.arange(1000), "x": np.ones(1000)}), path, row_group_size=100)
    ds = tql.open(str(path))
    shown = str(ds.explain("select * where id between 250 and 349"))
    assert "2 of 10 fragments kept; columns: id" in shown
    both = "(select * where id < 50) union all (select * where id > 950)"
    assert "2 of 10 fragments kept" in str(ds.explain(both))
    assert "10 of 10 fragments kept" in str(ds.explain(f"{both} union all select *"))
    loader = ds.dataloader().query("select * where id between 250 and 349").batch(8)
    assert "2 of 10 fragments kept" in str(loader.explain())


@pytest.mark.parametrize("stored", [True, False])
def test_is_null_takes_columns_of_every_type(tmp_path: Path, stored: bool) -> None:
    table = pa.table({
        "i": [0, 1, 2], "nothing": pa.nulls(3),
        "price": [Decimal("1.5"), None, Decimal("2.5")],
        "took": pa.array([None, 1, 2], pa.duration("s")),
        "time": pa.array([1, 2, None], pa.time32("s")),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    ds = tql.open(tmp_path / "a.parquet" if stored else table)
    for condition, rows in {
        "nothing is null": [0, 1, 2], "nothing is not null or i = 1": [1], "price is null": [1],
        "not (price is not null)": [1], "took is null": [0], "(time) is not null": [0, 1],
    }.items():  # fmt: skip
        assert ds.query(f"select i where {condition}").to_arrow()["i"].to_pylist() == rows
    found = ds.query("select price is null as p, took is null as t order by price is null, i")
    assert found.to_arrow().to_pylist() == [
        {"p": False, "t": True}, {"p": False, "t": False}, {"p": True, "t": False},
    ]  # fmt: skip
    groups = ds.query("select i % 2 as k group by i % 2 having any(price is null)").to_arrow()
    assert groups.num_rows == 1
    with pytest.raises(tql.TqlUnsupportedError, match="cannot be used in a query"):
        ds.query("select i where price = 1")
