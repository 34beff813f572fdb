"""Dear conditions are looked at only in the rows that the conditions beside them leave undecided."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.plain_kernels import run_as_python
from tests.test_engine_kernels import bound
from tql.engine.frame import Frame
from tql.engine.kernels import compile_program
from tql.engine.reference import is_true

ROWS = 200  # three words and a part of one
FAR = f"in ({', '.join(str(n * 3_000_000) for n in range(300))})"


def table() -> pa.Table:
    rng = np.random.default_rng(3)
    far = pa.array(rng.integers(0, 300, ROWS) * 1_500_000, mask=rng.random(ROWS) < 0.2)
    return pa.table({
        "i32": (np.arange(ROWS) % 7).astype(np.int32),
        "i64_n": far,
        "f64": rng.random(ROWS),
        "tags": pa.array([[n % 4] * (n % 3) for n in range(ROWS)], pa.list_(pa.int32())),
    })  # fmt: skip


def looked_up(monkeypatch: pytest.MonkeyPatch, conditions: Sequence[str]) -> int:
    """How many rows the conditions search for among many values; their outcome is checked."""
    run_as_python(monkeypatch)
    predicates = [bound(c) for c in conditions]
    program = compile_program(predicates)
    assert program is not None
    names: dict[str, Any] = program.kernel.python.__globals__
    calls, search = 0, names["in_sorted"]

    def counted(values: Any, x: Any) -> Any:
        nonlocal calls
        calls += 1
        return search(values, x)

    monkeypatch.setitem(names, "in_sorted", counted)
    outs = [np.empty((ROWS + 63) // 64, np.uint64) for _ in predicates]
    program.run(table(), ROWS, outs)
    for predicate, out in zip(predicates, outs, strict=True):
        bits = np.unpackbits(out.view(np.uint8), count=ROWS, bitorder="little")
        expected = is_true(predicate, Frame(table(), np.arange(ROWS), 0))
        assert bits.tolist() == np.asarray(expected).astype(int).tolist()
    return calls


def rows(condition: str) -> int:
    return int(np.sum(is_true(bound(condition), Frame(table(), np.arange(ROWS), 0))))


@pytest.mark.parametrize(("condition", "undecided"), [
    (f"i32 == 5 and i64_n {FAR}", "i32 == 5"),
    (f"i64_n {FAR} and i32 == 5", "i32 == 5"),
    (f"i32 == 5 and f64 > 0.5 and not i64_n {FAR}", "i32 == 5 and f64 > 0.5"),
    (f"i32 != 5 or i64_n {FAR}", "i32 == 5"),
    (f"not (i32 != 5 or i64_n {FAR})", "i32 == 5"),
    (f"i32 == 5 and (f64 > 0.5 or i64_n {FAR})", "i32 == 5 and f64 <= 0.5"),
    (f"i32 == 9 and i64_n {FAR}", "i32 == 9"),
    (f"i32 < 9 and i64_n {FAR}", "i32 < 9"),
    (f"any(tags > 2) and i32 == 5 and i64_n {FAR}", "any(tags > 2) and i32 == 5"),
])  # fmt: skip
def test_a_search_is_made_only_where_the_cheaper_terms_decide_nothing(
    condition: str, undecided: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked_up(monkeypatch, [condition]) == rows(undecided)


def test_a_condition_that_several_arms_need_is_looked_at_once_for_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arms = [f"f64 > 0.{n} and i64_n {FAR}" for n in range(2, 8)]
    assert looked_up(monkeypatch, arms) == ROWS


def test_a_term_that_may_be_an_error_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    condition = f"i64_n {FAR} and 10 % i32 == 1 and i32 > 0"
    run_as_python(monkeypatch)
    program = compile_program([bound(condition)])
    assert program is not None and program.reports
    source = program.kernel.source
    assert source is not None and source.index("in_sorted") < source.index("remainder")


def test_a_guard_keeps_rows_from_being_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = f"i32 != 0 and 10 % i32 == 1 and i64_n {FAR}"
    assert looked_up(monkeypatch, [guarded]) == rows("i32 != 0 and 10 % i32 == 1")
