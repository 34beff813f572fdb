"""A column that a view computes is an error only for the rows that a query asks it of."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql.engine.derived import derive
from tql.engine.scan import Settings, Tier
from tql.queries import ask

KINDS = ("view", "union", "cut")
TIERS: tuple[Tier, ...] = ("reference", "kernel")
B = np.array([0, 3, 7, 0, 1, 4, 9, 12, 2, 0, 6], np.int64)
COLUMNS = "select 10 % b as r, b, w % b as e"
SELECTED = [
    ("select *", "where b != 0 and r > 0"),
    ("select *", "where b == 0 or r > 0"),
    ("select *", "where b > 1 and (b > 4 or r == 0) and r < 3"),
    ("select *", "where not (b == 0 or r > 0)"),
    ("select *", "where b != 0 and e[0] >= 0"),
    ("select *", "where b != 0 and e is not null"),
    ("select b", "where b != 0 and r >= 0 order by r, b"),
    ("select b, r", "where b != 0 and r >= 0 limit 3"),
    ("select r, count(*) as n", "where b != 0 and r >= 0 group by r"),
    ("select *", "order by b != 0 and r > 0, b"),
    ("select (b != 0 and r > 0) as ok, row_number() as n", ""),
    ("select r, row_number() as n", "where b != 0 and r > 0"),
]
DRAWN = [
    "where b != 0 and r >= 0 sample by max_weight(r == 1: 2, r == 2: 3) limit 4",
    "sample by max_weight(b != 0 and r == 1: 2, b == 0: 3) limit 4",
    "sample by sum_weight(b != 0 and r == 1: r, b == 0: 3) limit 4",
]


def _table() -> pa.Table:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * len(B))), 2)
    return pa.table({"b": B, "w": lists})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.parquet"
    pq.write_table(_table(), found, row_group_size=4)
    return found


def _made(path: Path, kind: str) -> str:
    """A query whose columns are errors in some rows."""
    one = f'{COLUMNS} from "{path}"'
    return {"view": one, "union": f"{one} union all {one}", "cut": f"{one} limit 9"}[kind]


def _given(source: Any, text: str, tier: Tier) -> Any:
    """The rows, or what the error says."""
    try:
        answer = ask(source, text, seed=3, settings=Settings(tier)).answer()
        rows = derive(answer.source, answer.rows, answer.outputs, 3)
        return rows.take(np.arange(rows.rows), rows.schema.names).to_pylist()
    except tql.TqlDataError as e:
        return e.diagnostic.code, e.diagnostic.message


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("columns", "rest"), SELECTED)
def test_a_view_gives_what_the_subquery_gives(
    path: Path, kind: str, columns: str, rest: str, tier: Tier
) -> None:
    made = _made(path, kind)
    view = _given(tql.query(made).source, f"{columns} {rest}", tier)
    assert view == _given(None, f"{columns} from ({made}) {rest}", tier)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_guard_lets_the_rows_through_that_are_no_errors(
    path: Path, kind: str, tier: Tier
) -> None:
    rows = B[:9] if kind == "cut" else np.tile(B, 2) if kind == "union" else B
    wanted = [int(b) for b in rows if b != 0 and 10 % b > 0]
    given = _given(tql.query(_made(path, kind)).source, "select b where b != 0 and r > 0", tier)
    assert [row["b"] for row in given] == wanted


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", DRAWN)
def test_a_guard_in_a_weight(path: Path, kind: str, rest: str, tier: Tier) -> None:
    given = _given(tql.query(_made(path, kind)).source, f"select b {rest}", tier)
    assert len(given) == 4
    assert all(isinstance(row, dict) for row in given), given


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_is_asked_is_an_error(path: Path, kind: str) -> None:
    view = tql.query(_made(path, kind))
    for text in ("select * where r > 0", "select b where r > 0 and b != 0", "select r"):
        with pytest.raises(tql.TqlDataError, match="modulo by zero in row 0"):
            view.query(text).to_arrow()


@pytest.mark.parametrize("kind", KINDS)
def test_random_conditions(path: Path, kind: str) -> None:
    """Rows and errors, whichever they are, are those of the subquery, in both tiers."""
    draw = random.Random(5)
    made = _made(path, kind)
    view = tql.query(made).source
    outcomes = set[type]()

    def condition(depth: int) -> str:
        if depth == 0:
            column = draw.choice(["b", "b", "r", "e[0]"])
            return f"{column} {draw.choice(['>', '==', '!='])} {draw.choice([0, 0, 1, 3])}"
        parts = [condition(draw.randrange(depth)) for _ in range(draw.choice([1, 2, 3]))]
        joined = f" {draw.choice(['and', 'or'])} ".join(parts)
        return f"{draw.choice(['', '', 'not '])}({joined})"

    for _ in range(40):
        where = f"where {draw.choice(['b != 0 and ', 'b == 0 or ', ''])}({condition(2)})"
        wanted = _given(None, f"select b from ({made}) {where}", "reference")
        outcomes.add(type(wanted))
        for tier in TIERS:
            assert _given(view, f"select b {where}", tier) == wanted, where
    assert outcomes == {list, tuple}
