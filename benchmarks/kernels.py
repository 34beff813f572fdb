"""What generated kernels cost: nanoseconds a row, bytes a second, and what LLVM made of them.

`python -m benchmarks.kernels [TEXT]` runs the conditions that contain TEXT over data in memory, on
one thread, beside the speed at which one thread copies and reads an array, in turn in the same run.
All conditions take about a minute and a half, 1 GB of memory, and half a second each to compile.
"""

import argparse
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks import bandwidth
from benchmarks.bandwidth import Bandwidth
from tql.engine.kernels import Program, compile_program
from tql.engine.kernels.build import Columns
from tql.grammar.parser import parse
from tql.jit import assembly
from tql.language.bind import bind
from tql.language.plan import Filter
from tql.sources.memory import MemorySource

ROWS: Final = 10_000_000  # beyond the caches
_MANY: Final = ", ".join(str(n * 37) for n in range(200))
_FAR: Final = ", ".join(str(n * 3_000_017) for n in range(200))
_VECTOR: Final = ", ".join(f"{(n * 37 % 64) / 64 - 0.5:.3f}" for n in range(64))

CONDITIONS: Final = {
    "flat": (
        "i32 != 5", "i8 != 5", "i16 != 5", "i64 != 5", "f32 > 0.9", "f64 > 0.9", "n32 != 5",
        "i32 == 5 and f64 > 0.9", "i32 == 5 and f32 > 0.9", "i8 == 5 and f64 > 0.9",
        "i64 == 5 or f64 > 0.9", "n32 == 5 and f64 > 0.9",
        "i32 between 20 and 40", "f64 between 0.2 and 0.4", "i32 % 7 == 3", "i64 % 7 == 3",
        "i32 in (3, 13, 23, 33, 43)", f"i32 in ({_MANY})", f"i32 in ({_FAR})", f"i64 in ({_FAR})", "f16 > 0.5", "i64 > f64",
        "i32 > f64", "i32 > 20.5", "i64 > 20.5", "u64 > i64", "i32 * 3 > 50",
        f"i32 == 5 and i64 in ({_FAR})",
    ),
    "ragged": (
        "any(boxes[:,2] > 100)", "any(boxes[:,2] > 500)", "contains(tags, 3)",
        "shape(boxes)[0] > 2", "sum(tags) > 300", "any(tags > 90)", "all(tags > 10)",
        "amax(tags) > 90", "i32 == 5 and any(boxes[:,2] > 100)",
        "i32 < 50 and any(boxes[:,2] > 100)",
    ),
    "vectors": (
        "l2_norm(e) > 2.2", f"cosine_similarity(e, array[{_VECTOR}]) > 0.1",
        f"i32 == 5 and cosine_similarity(e, array[{_VECTOR}]) > 0.1",
        f"i32 < 50 and cosine_similarity(e, array[{_VECTOR}]) > 0.1",
        "any(e > 0.99)",
    ),
}  # fmt: skip
"""Conditions over the tables of `data`, by table."""

_PARTLY_READ: Final = re.compile(r"^shape\(|^i32 .* and (any|cosine|i64 in)")
"""Conditions that need only some of the bytes they are handed: no GB/s is claimed for them."""

_SHOWN: Final = 60  # characters of a condition

# Compares of several numbers at once, for x86 (SSE, AVX, AVX-512) and for ARM (NEON).
_VECTOR_COMPARE: Final = re.compile(
    r"\b(v?pcmp\w+|v?cmp\w*p[sd]|vptestn?m[bwdq]|v?pmovmsk\w*|cm(?:eq|gt|ge|hi|hs)\s+v\w+)\b"
)
# What takes one row, or one element, after the other.
_DIVISION: Final = re.compile(r"^\s+(i?div[bwlq]?|[su]div)\b", re.MULTILINE)
_ONE_FLOAT: Final = re.compile(
    r"^\s+(v?(?:add|sub|mul|div|sqrt|fn?m(?:add|sub)\d*)s[sd]|f(?:add|sub|mul|div|sqrt|madd)\s+[ds]\d+)\b",
    re.MULTILINE,
)
_JUMP: Final = re.compile(r"^\s+(j(?!mp)[a-z]+|b\.[a-z]+|cbn?z|tbn?z)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Measured:
    """One condition, its kernel alone: arguments are made before.

    compile_seconds  of one thread, Numba being imported
    ns_per_row       by the best run
    nbytes           of the arrays that are handed to the kernel; None where it reads a part of them
    compares         instructions of the kernel that compare several numbers at once
    divisions, one_float, jumps  instructions that divide whole numbers, that calculate with a single
                     float, and that jump where a condition holds
    """

    condition: str
    rows: int
    compile_seconds: float
    ns_per_row: float
    nbytes: int | None
    compares: int
    divisions: int = 0
    one_float: int = 0
    jumps: int = 0

    @property
    def bytes_per_second(self) -> float | None:
        return None if self.nbytes is None else self.nbytes / self.rows / self.ns_per_row * 1e9


@cache
def data(kind: str, rows: int) -> pa.Table:
    """Columns with the same values in every run; fewer rows where a row is long."""
    rng = np.random.default_rng(1)
    if kind == "flat":
        small = rng.integers(0, 100, rows)
        return pa.table({
            **{f"i{bits}": small.astype(f"int{bits}") for bits in (8, 16, 32, 64)},
            "u64": small[::-1].astype(np.uint64),
            "f16": rng.random(rows).astype(np.float16),
            "f32": rng.random(rows).astype(np.float32),
            "f64": rng.random(rows),
            "n32": pa.array(small.astype(np.int32), mask=rng.random(rows) < 0.1),
        })  # fmt: skip
    if kind == "ragged":
        rows //= 4
        tags = rng.integers(0, 9, rows)
        boxes = rng.integers(0, 7, rows)
        four = pa.FixedSizeListArray.from_arrays(
            rng.integers(0, 120, int(boxes.sum()) * 4).astype(np.int32), 4
        )
        return pa.table({
            "i32": rng.integers(0, 100, rows).astype(np.int32),
            "tags": pa.ListArray.from_arrays(_offsets(tags), rng.integers(0, 100, tags.sum())),
            "boxes": pa.ListArray.from_arrays(_offsets(boxes), four),
        })  # fmt: skip
    rows //= 16
    return pa.table({
        "i32": rng.integers(0, 100, rows).astype(np.int32),
        "e": pa.FixedSizeListArray.from_arrays(rng.random(rows * 64).astype(np.float32), 64),
    })  # fmt: skip


def _offsets(lengths: Any) -> Any:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def program(condition: str, table: pa.Table) -> Program:
    """The kernel program of a condition over the columns of a table."""
    text = f"select * where {condition}"
    plan = bind(parse(text), text, here=MemorySource(table).schema, tables=_no_tables).plan
    assert isinstance(plan, Filter)
    made = compile_program([plan.predicate])
    assert made is not None, f"no kernel for {condition}"
    return made


def _no_tables(*_: Any) -> Any:
    raise AssertionError("the conditions have no FROM")


def measure(
    rows: int = ROWS, only: str = "", seconds: float = 0.3
) -> tuple[list[Bandwidth], list[Measured]]:
    """What one thread copies and reads, the best of before and after each condition; and every
    condition that contains `only`.
    """
    memory, found = _memory(rows), list[Measured]()
    program("i8 != 5", data("flat", 64)).kernel.compile_anew()  # imports Numba
    for kind, conditions in CONDITIONS.items():
        for condition in conditions:
            if only in condition:
                found.append(_measured(condition, data(kind, rows), seconds))
                memory = bandwidth.best_of(memory, _memory(rows))
    return memory, found


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _memory(rows: int) -> list[Bandwidth]:
    return bandwidth.measure(3, 12 * rows, threads=[1])


def _measured(condition: str, table: pa.Table, seconds: float) -> Measured:
    made = program(condition, table)
    rows = table.num_rows
    columns = Columns(table, 0, 0)
    given = [a.make(columns) for a in made.arguments]
    out, bad = np.zeros((rows + 63) // 64, np.uint64), np.zeros(1, np.uint64)
    handed = [rows, *given, out, *([bad] if made.reports else [])]
    compiling = _seconds(made.kernel.compile_anew)
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        best = min(best, _seconds(lambda: made.kernel(*handed)))
    nbytes = sum(a.nbytes for a in given if isinstance(a, np.ndarray))
    code = assembly(made.kernel)
    return Measured(
        condition, rows, compiling, best / rows * 1e9,
        None if _PARTLY_READ.search(condition) else nbytes,
        *(len(kind.findall(code)) for kind in (_VECTOR_COMPARE, _DIVISION, _ONE_FLOAT, _JUMP)),
    )  # fmt: skip


def table(memory: Sequence[Bandwidth], found: Sequence[Measured]) -> str:
    """Both as Markdown."""
    told = ", ".join(f"{b.name} {b.bytes_per_second / 1e9:.1f}" for b in memory)
    limit = bandwidth.fastest(memory)
    lines = [
        f"Memory, one thread, GB/s read: {told}. Kernels: the best run, on one thread, without what "
        "a query costs around them; “of memory” is of the fastest of these. The machine code that LLVM made: "
        "“vector compares” are instructions that compare several numbers at once; divisions of whole numbers, "
        "calculations with a single float and jumps on a condition take one row or element after the other, "
        "and are what keeps a kernel below memory. "
        "—: what it reads of the bytes it is handed depends on the data.",
        "",
        "| condition | ns per row | GB/s | of memory | vector compares | divisions | single floats | jumps "
        "| compiled in |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for m in found:
        shown = m.condition if len(m.condition) <= _SHOWN else f"{m.condition[: _SHOWN - 1]}…"
        speed = m.bytes_per_second
        told = "— | —" if speed is None else (
            f"{speed / 1e9:.1f} | {speed / limit.bytes_per_second:.0%}")  # fmt: skip
        lines.append(
            f"| `{shown}` | {m.ns_per_row:.3f} | {told} | {m.compares} | {m.divisions} | {m.one_float} "
            f"| {m.jumps} | {m.compile_seconds * 1e3:,.0f} ms |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="part of the conditions to run")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each condition")
    chosen = parser.parse_args(arguments)
    print(table(*measure(chosen.rows, chosen.only, chosen.seconds)))


if __name__ == "__main__":
    main()
