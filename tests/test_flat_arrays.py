"""any() and all() of short lists: their elements are looked at 64 at a time, then row by row."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.plain_kernels import run_as_python
from tests.tiers import bound, outcome
from tql.engine.kernels import compile_program
from tql.engine.kernels.build import Build, Columns
from tql.sources.memory import MemorySource

ROWS = 300


def lists(lengths: Any, kind: Any, rng: np.random.Generator, nulls: bool = False) -> Any:
    """Lists of these lengths of `kind`, a number or a list of so many numbers, from 0 to 9."""
    width = getattr(kind, "list_size", 1)
    plain = kind.value_type if width > 1 else kind
    size = int(np.sum(lengths)) * width
    gone = rng.random(size) < 0.3 if nulls else None
    values = pa.array(rng.integers(0, 10, size), mask=gone).cast(plain)
    if width > 1:
        values = pa.FixedSizeListArray.from_arrays(values, width)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(rng.random(len(lengths)) < 0.1))


def table(lengths: Any, seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({
        "n": rng.integers(0, 10, len(lengths)),
        "a": lists(lengths, pa.int32(), rng),
        "f": lists(lengths, pa.float32(), rng),
        "e": lists(lengths, pa.int64(), rng, nulls=True),
        "boxes": lists(lengths, pa.list_(pa.int16(), 4), rng),
        "fixed": pa.FixedSizeListArray.from_arrays(rng.integers(0, 10, len(lengths) * 3), 3),
    })  # fmt: skip


def lengths_of(name: str) -> Any:
    rng = np.random.default_rng(2)
    some = {
        "short": rng.integers(0, 6, ROWS),
        "none": np.zeros(ROWS, int),
        "long": rng.integers(90, 120, ROWS),
        "now and then a long one": np.where(rng.random(ROWS) < 0.05, 70, rng.integers(0, 4, ROWS)),
        "63 to 66": rng.integers(63, 67, ROWS),
        "at the end": np.where(np.arange(ROWS) < ROWS - 3, 0, 2),
    }
    return some[name]


@pytest.mark.parametrize(
    "lengths", ["short", "none", "long", "now and then a long one", "63 to 66", "at the end"]
)
@pytest.mark.parametrize("first", ["", "n != 3 and ", "n == 3 and ", "n == 3 or "])
def test_both_tiers_find_the_same_rows(lengths: str, first: str, monkeypatch: Any) -> None:
    run_as_python(monkeypatch)
    source = MemorySource(table(lengths_of(lengths)).slice(1))
    for condition in (
        "any(a == 3)", "all(a > 0)", "all_strict(a > 0)", "contains(a, 7)", "any(a)", "not any(f * 2 > 17)",
        "any(e > 8)", "all(e != 1)", "any(boxes[:, 2] > 8)", "all(boxes[:, -1] < 9)", "any(boxes == 5)",
        "any(boxes[:, n] == 5)", "contains(fixed, 3)", "any(a > n)", "any(boxes[:, 4] > 1)",
        "all(a < 8) and all_strict(a < 8)", "all(a < 8) or all_strict(a < 8)",
    ):  # fmt: skip
        text = first + condition
        assert outcome([text], source, "kernel") == outcome([text], source, "reference"), text


@pytest.mark.parametrize(
    ("condition", "times"),
    [
        ("all(a < 8) and all_strict(a < 8)", 1),
        ("n != 3 or all(a < 8) or all_strict(a < 8)", 2),  # of other rows each
        ("any(a > 7) and all(a > 7)", 2),
    ],
)
def test_elements_are_looked_at_once_a_word_where_that_is_for_all_rows(
    condition: str, times: int
) -> None:
    source = MemorySource(table(lengths_of("now and then a long one")))
    program = compile_program([bound(condition, source)])
    assert program is not None and program.kernel.source is not None
    assert program.kernel.source.count("hits = ZERO") == 2 * times  # for whole words, and the last
    compiled = outcome([condition], source, "kernel")
    assert compiled == outcome([condition], source, "reference")


def test_a_lane_looks_at_elements_once() -> None:
    build = Build()

    def either() -> str:
        first, again = (build.bits(lambda i: i, "x", lambda j: f"x[{j}] > 3") for _ in range(2))
        return f"({first}[0] | {again}[0]) != ZERO"

    build.lane(either)
    assert "\n".join(build.lines("64")).count("hits = ZERO") == 1


@pytest.mark.parametrize("condition", ["any(a > 3)", "n == 3 and contains(a, 3)"])
def test_only_short_lists_are_looked_at_all_at_once(condition: str) -> None:
    source = MemorySource(table(lengths_of("short")))
    program = compile_program([bound(condition, source)])
    assert program is not None
    for name, seen in (("short", True), ("long", False)):
        given = [a.make(Columns(table(lengths_of(name)), 0, 0)) for a in program.arguments]
        words = [g for g in given if isinstance(g, np.ndarray) and g.dtype == np.uint64]
        (bits,) = (w for w in words if not w.any())  # the other says where the row is not NULL
        with np.errstate(all="ignore"):
            program.kernel.python(ROWS, *given, np.zeros(-(-ROWS // 64), np.uint64))
        assert bits.any() == seen
    compiled = outcome([condition], source, "kernel")
    assert compiled == outcome([condition], source, "reference")
