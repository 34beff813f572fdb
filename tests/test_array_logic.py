"""AND, OR and NOT by element: three values, and what stands beside an array."""

from typing import Any

import pyarrow as pa
import pytest

import tql
from tests.plain_kernels import run_as_python
from tests.strategies import Pieces
from tests.tiers import rows_true
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
