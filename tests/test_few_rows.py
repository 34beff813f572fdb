"""Conditions behind others in a kernel: over the rows that are left where those are few, else over all."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.plain_kernels import run_as_python
from tests.tiers import bound, outcome
from tql.engine.kernels import Program, compile_program
from tql.engine.kernels.build import Columns
from tql.sources.memory import MemorySource

WORDS = 60  # of each stretch
FAR = ", ".join(str(n * 3_000_017) for n in range(40))
# How many rows in a thousand are 5, stretch after stretch.
SHARES = (0, 1, 1000, 0, 30, 300, 2, 950)


def table() -> pa.Table:
    rng = np.random.default_rng(1)
    rows = len(SHARES) * WORDS * 64 + 17
    share = np.append(np.repeat(SHARES, WORDS * 64), [500] * 17)
    x = rng.random(rows)
    return pa.table({
        "label": np.where(rng.integers(0, 1000, rows) < share, 5, rng.integers(0, 5, rows)),
        "x": x,
        "y_n": pa.array(rng.integers(0, 9, rows), mask=rng.random(rows) < 0.1),
        "far": rng.integers(0, 50, rows) * 3_000_017,
        "many": rng.integers(0, 100, rows) + 2**62,
    })  # fmt: skip


class Counted:
    """A column that counts how often it is read."""

    def __init__(self, values: Any) -> None:
        self.values, self.times = values, 0

    def __getitem__(self, at: Any) -> Any:
        self.times += 1
        return self.values[at]


def reads_of_x(program: Program, some: pa.Table) -> int:
    given = [a.make(Columns(some, 0, 0)) for a in program.arguments]
    at = next(k for k, g in enumerate(given) if getattr(g, "dtype", None) == np.float64)
    given[at] = counted = Counted(given[at])
    with np.errstate(all="ignore"):
        program.kernel.python(len(some), *given, np.zeros(-(-len(some) // 64), np.uint64))
    return counted.times


@pytest.mark.parametrize("condition", [
    "label == 5 and x > 0.5", "label != 5 or x > 0.5", f"label == 5 and far in ({FAR})",
    "label == 5 and y_n > 3 and x > 0.2", "not (label == 5 and (y_n == 3 or x > 0.4))",
    "label == 5 and many + many > 3", "x > 0.5 and x < 0.6 and label == 5", "label == 5 and far % 7 == 3",
])  # fmt: skip
def test_both_tiers_find_the_same_rows(condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource(table())
    wanted = outcome([condition], source, "reference")
    run_as_python(monkeypatch)
    assert outcome([condition], source, "kernel") == wanted


def test_compiled_they_find_the_same_rows() -> None:
    source = MemorySource(table())
    for condition in ("label == 5 and x > 0.5", f"label == 5 and far in ({FAR})"):
        found = [outcome([condition], source, tier) for tier in ("kernel", "reference")]
        assert found[0] == found[1]


def test_where_few_rows_are_left_only_they_are_read() -> None:
    some = table()
    stretch = WORDS * 64

    def reads(condition: str, at: int) -> int:
        program = compile_program([bound(condition, MemorySource(some))])
        assert program is not None
        return reads_of_x(program, some.slice(at * stretch, stretch))

    assert reads("label == 5 and x > 0.5", SHARES.index(0)) == 0
    assert reads("label == 5 and x > 0.5", SHARES.index(1)) < stretch // 10
    # The first word or two, with one row in three each, are looked at row by row.
    assert stretch - 64 < reads("label == 5 and x > 0.5", SHARES.index(300)) <= stretch
    assert reads("label != 5 or x > 0.5", SHARES.index(0)) == 0
    # What has been read anyway is read again from the cache, in vectors.
    assert reads("x > 2 and x < 3", 0) == 2 * stretch
