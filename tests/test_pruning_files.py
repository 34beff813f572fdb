"""Statistics as real writers leave them in Parquet: what is pruned by them is what the rows say."""

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tql
from tests.profiles import examples
from tests.strategies import NAMES, TYPES, conditions, random_table
from tql.sources.protocol import Source

_FILES = settings(
    max_examples=examples(60, 2_000), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _written(table: pa.Table, path: Path, group: int = 4, **options: Any) -> tuple[Any, Any]:
    """The same rows with statistics and without."""
    pq.write_table(table, path / "with.parquet", row_group_size=group, **options)
    pq.write_table(
        table, path / "without.parquet", row_group_size=group, write_statistics=False, **options
    )
    named = {name: NAMES for name in ("label", "label_n") if name in table.column_names}
    files = (path / "with.parquet", path / "without.parquet")
    pruned, whole = (tql.open(file, class_names=named) for file in files)
    return pruned, whole


def _rows(ds: Any, condition: str) -> list[int] | str:
    try:
        found: list[int] = ds.query(f"select * where {condition}").row_ids.tolist()
    except tql.TqlDataError as e:
        return e.diagnostic.code
    return found


@given(conditions(), st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 9))
@_FILES
def test_pruning_changes_no_answer(
    tmp_path: Path, condition: str, seed: int, rows: int, group: int
) -> None:
    named = [name for name in TYPES if re.search(rf"\b{name}\b", condition)]
    table = random_table(named, rows, seed, tame=True)
    pruned, whole = _written(table, tmp_path, group)
    expected = _rows(whole, condition)
    # A row that raises may lie in a fragment that is left out.
    assert _rows(pruned, condition) == expected or isinstance(expected, str)


@pytest.mark.parametrize(
    ("column", "condition", "rows", "groups"),
    [
        (pa.array([1, 2, 2**31, 2**32 - 1], pa.uint32()), "x > 2147483647", [2, 3], []),
        (pa.array([1, 2, 2**63, 2**64 - 1], pa.uint64()), "x >= 9223372036854775808", [2, 3], []),
        (pa.array([-2, -1, 0, 1], pa.int8()), "x < 0", [0, 1], []),
        (pa.array([-2, -1, 0, 1], pa.int8()), "not (x < 0)", [2, 3], []),
        (pa.array([1.0, float("nan"), 5.0, 6.0]), "x != 1", [1, 2, 3], [0]),
        (pa.array([1.0, float("nan"), 5.0, 6.0]), "not (x < 3)", [1, 2, 3], [0]),
        (pa.array([-0.0, -0.0, 1.0, 2.0]), "x == 0", [0, 1], [0]),
        (pa.array([None, None, 1, 2]), "x is null", [0, 1], []),
        (pa.array([None, 7, 1, 2]), "x is null", [0], [0]),
        (pa.array([None, None, 1, 2]), "not (x == 1)", [3], [1]),
        (pa.array([None, None, 1, 2]), "x is null or x == 2", [0, 1, 3], [1]),
        (pa.array([True, True, False, True]), "x", [0, 1, 3], [1]),
        (pa.array([1, 2, 30, 40]), "x in (3, 29, 40)", [3], [1]),
        (pa.array([1, 2, 30, 40]), "x not in (3, 4, 5)", [0, 1, 2, 3], []),
        (pa.array([1, 2, 30, 40]), "x between 2 and 29 and x != 7", [1], [0]),
        (
            pa.array([date(2026, 1, 1), date(2026, 1, 2), date(2027, 1, 1), date(2027, 2, 1)]),
            "x >= '2026-06-01'",
            [2, 3],
            [],
        ),
        (
            pa.array([datetime(2026, 1, k, tzinfo=UTC) for k in (1, 2, 3, 4)], pa.timestamp("s", "UTC")),
            "x <= '2026-01-02T00:00:00Z'",
            [0, 1],
            [],
        ),
        (
            pa.array([datetime(1969, 12, k) for k in (1, 2, 3, 4)], pa.timestamp("ns")),
            "x < '1969-12-04'",
            [0, 1, 2],
            [1],
        ),
        (pa.array(["ant", "ape", "bat", "bee"]), "x like 'a*'", [0, 1], []),
        (pa.array(["ant", "ape", "bat", "bee"]), "x not like 'a*'", [2, 3], []),
        (pa.array(["a", "b", "é", "日"]), "x > 'z'", [2, 3], []),
        (pa.array(["a", "b", "\uffff", "\U00010000"]), "x >= '\U00010000'", [3], [1]),
    ],
)  # fmt: skip
def test_groups_that_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    column: pa.Array,
    condition: str,
    rows: list[int],
    groups: list[int],
) -> None:
    pruned, whole = _written(pa.table({"x": column}), tmp_path, group=2)
    assert _rows(whole, condition) == rows
    read = _reads(pruned.source, monkeypatch)
    assert _rows(pruned, condition) == rows
    assert sorted(read) == groups


def _reads(source: Source, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    read: list[int] = []
    plain = type(source).read

    def counted(self: Any, fragment: int, columns: Any) -> Any:
        read.append(fragment)
        return plain(self, fragment, columns)

    monkeypatch.setattr(type(source), "read", counted)
    return read


@pytest.mark.parametrize("last", ["a", "é", "日", "😀", "\U0010ffff"])
def test_long_texts_bound_what_starts_like_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """Some writers cut them, with or without rounding up, and pyarrow does not say which."""
    low, high = "a" * 50, "c" * 30 + last * 20
    table = pa.table({"x": [low, high, "d" * 50, "e" * 50]})
    pruned, whole = _written(table, tmp_path, group=2)
    read = _reads(pruned.source, monkeypatch)
    for condition, groups in (
        ("x < 'a'", []),
        ("x > 'f'", []),
        ("x == 'd'", []),
        ("x like 'd*'", [1]),
        (f"x >= '{high}'", [0, 1]),
        (f"x == '{high}'", [0]),
        (f"x > '{high}!'", [0, 1]),
    ):
        expected = _rows(whole, condition)
        read.clear()
        assert _rows(pruned, condition) == expected
        assert set(read) <= set(groups), condition


def test_old_timestamps_have_no_bounds(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array(range(8), pa.timestamp("ns"))})
    pruned, _ = _written(table, tmp_path, 2, use_deprecated_int96_timestamps=True)
    bounds = pruned.source.bounds("x")
    assert not bounds.known.any()
    assert _rows(pruned, "x >= '1970-01-01T00:00:00.000000004'") == [4, 5, 6, 7]


def test_bounds_are_decoded_once_and_not_pickled(tmp_path: Path) -> None:
    import pickle

    pruned, _ = _written(pa.table({"x": np.arange(12)}), tmp_path)
    bounds = pruned.source.bounds("x")
    assert pruned.source.bounds("x") is bounds
    assert bounds.low.tolist() == [0, 4, 8] and bounds.high.tolist() == [3, 7, 11]
    assert bounds.nulls.tolist() == [0, 0, 0]
    again = pickle.loads(pickle.dumps(pruned.source))
    assert again.bounds("x").low.tolist() == [0, 4, 8]


def test_many_groups_and_a_long_list(tmp_path: Path) -> None:
    pruned, whole = _written(pa.table({"x": np.arange(3000) * 2}), tmp_path, group=10)
    wanted = list(range(1, 6000, 7))
    text = "select * where x in $wanted"
    rows = pruned.query(text, {"wanted": wanted}).row_ids
    assert rows.tolist() == whole.query(text, {"wanted": wanted}).row_ids.tolist()
    assert rows.tolist() == [w // 2 for w in wanted if w % 2 == 0]
