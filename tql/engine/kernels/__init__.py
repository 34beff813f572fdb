"""The kernel tier: several predicates over one fragment as one generated loop → bitmaps.

The generated function handles 64 rows at a time. Every comparison is a loop of 64 steps that
collects its outcomes in one 64-bit word, which LLVM turns into vector compares; AND, OR, NOT and
NULL are then single instructions on words, and Arrow's bitmaps (bool columns, validity) are such
words already. Measured on one core, 10 M rows: `int32 != constant` 1.0 ms, with `and float64 >
constant` 3.4 ms (35 GB/s); a byte mask per row followed by packing took 9.7 ms.

Literals and dictionary look-ups are arguments, so that queries of one shape share a kernel, and no
text of a query is in its source. A kernel raises nothing: it says that a row is an error, and the
reference tier, which knows which and why, does that fragment again.
"""

from tql.engine.kernels.build import Unsuitable
from tql.engine.kernels.program import (
    Program,
    compile_program,
    compile_values,
    reason_against,
    reason_against_values,
)
from tql.engine.kernels.ragged import NullElements

__all__ = [
    "NullElements",
    "Program",
    "Unsuitable",
    "compile_program",
    "compile_values",
    "reason_against",
    "reason_against_values",
]
