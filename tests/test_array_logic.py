"""AND, OR and NOT by element: three values, and what stands beside an array."""

from typing import Any

import pyarrow as pa
import pytest

import tql
from tests.plain_kernels import run_as_python
from tests.strategies import Pieces
from tests.tiers import outcome, rows_true
from tql.diagnostics import Diagnostic
from tql.schema import Bool, Int, List

TYPES = {"b_n": Bool(), "x_n": Int(64), "l_n": List(Int(64))}  # _n: may be NULL
TABLE = pa.table(
    {
        "b_n": pa.array([None, True, False, None], pa.bool_()),
        "x_n": pa.array([None, 1, 0, None], pa.int64()),
        "l_n": pa.array([[5, 0], [5, 0], [5, 0], None], pa.list_(pa.int64())),
    }
)


def kept(condition: str, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The rows of a condition, the same in both tiers."""
    programs = run_as_python(monkeypatch)
    source = Pieces(table, (), TYPES)
    reference, kernel = (rows_true([condition], source, t)[0] for t in ("reference", "kernel"))
    assert reference == kernel
    assert sum(programs.values()), "no kernel was made"
    return reference


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("any(b_n or l_n > 1)", [0, 1, 2]),
        ("all(b_n or l_n > 1)", [0, 1]),
        ("any(l_n > 1 or x_n > 0)", [0, 1, 2]),
        ("any(b_n and l_n > 1)", [1]),
        ("not any(b_n and l_n > 9)", [0, 1, 2]),
        ("any(not (b_n and l_n > 1))", [0, 1, 2]),
        ("any(b_n > l_n)", [1]),
    ],
)
def test_a_null_beside_an_array_is_null_beside_each_element(
    condition: str, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept(condition, TABLE, monkeypatch) == rows


GUARDED = pa.table(
    {
        "x_n": pa.array([2, 0, None, 0], pa.int64()),
        "l_n": pa.array([[0, 2], [0], [0, 3], [3, 4]], pa.list_(pa.int64())),
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("any(x_n != 0 and l_n % x_n = 0)", [0]),
        ("any(l_n != 0 and 10 % l_n = 0)", [0]),
        ("any(l_n = 0 or 10 % l_n = 0)", [0, 1, 2]),
        ("any(l_n != 0 and not (10 % l_n = 1))", [0, 3]),
        ("any(l_n > 9 or (l_n != 0 and 10 % l_n = 1))", [2, 3]),
        ("all(x_n = 0 or l_n > 10 % x_n)", [1, 3]),
        ("any(l_n = 0 and (x_n = 0 or 10 % x_n = 0))", [0, 1]),
        ("any(l_n > 9 and x_n % 0 = 1)", []),
    ],
)
def test_each_element_guards_what_is_beside_it(
    condition: str, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept(condition, GUARDED, monkeypatch) == rows


@pytest.mark.parametrize(
    "condition",
    ["any(l_n > 2 and 10 % (l_n - 3) = 0)", "any(10 % l_n = 0 and l_n != 0)",
     "any(l_n != 3 or x_n % (l_n - 3) = 0)"],
)  # fmt: skip
def test_an_element_without_a_guard_is_an_error(condition: str) -> None:
    found = [outcome([condition], Pieces(GUARDED, (), TYPES), t) for t in ("reference", "kernel")]
    assert isinstance(found[0], Diagnostic) and "zero" in found[0].message
    assert found[0] == found[1]


def test_what_a_null_does_not_decide_is_selected() -> None:
    found = (
        tql.open(TABLE)
        .query("select b_n or l_n > 1 as o, b_n and l_n > 1 as a, l_n > x_n as c")
        .to_arrow()
    )
    assert found.to_pydict() == {
        "o": [[True, None], [True, True], [True, False], None],
        "a": [[None, False], [True, False], [False, False], None],
        "c": [None, [True, False], [True, False], None],
    }
