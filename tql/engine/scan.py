"""Conditions over a whole source: fragment by fragment, on threads, one bitmap per condition.

All conditions of a query that range over the same source are evaluated in one pass, so each
column is read once. The result does not depend on the tier or the number of threads.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tql.bits import join_bits, pack
from tql.cpus import usable_cpus
from tql.engine.columns import Numbers
from tql.engine.computed import row_name
from tql.engine.frame import Frame
from tql.engine.kernels import NullElements, Program, Unsuitable, compile_program
from tql.engine.pruning import decided
from tql.engine.reference import evaluate, is_true
from tql.engine.zones import zones_of
from tql.language.expr import Expr, UserCall, columns_of, walk_inside
from tql.sources.protocol import Fragment, Source

T = TypeVar("T")
Words: TypeAlias = NDArray[np.uint64]
Tier: TypeAlias = Literal["auto", "reference", "kernel"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to evaluate; none of it changes a result.

    tier     "auto" compiles when that pays; "reference" never; "kernel" whenever it is possible
    threads  None for one per CPU
    """

    tier: Tier = "auto"
    threads: int | None = None

    @property
    def workers(self) -> int:
        return self.threads or usable_cpus()


def scan(source: Source, conditions: Sequence[Expr], seed: int, settings: Settings) -> list[Words]:
    """One bitmap over the rows of `source` per condition: where it is TRUE.

    Each is uint64 (ceil(rows / 64),), bits beyond the rows zero.
    """
    columns = sorted(frozenset().union(*map(columns_of, conditions)))
    program = _program(conditions, source.rows, settings)
    if any(isinstance(n, UserCall) for c in conditions for n in walk_inside(c)):
        # Code of the user's is called in the order of the rows, and by nobody but the caller.
        settings = replace(settings, threads=1)
    name = partial(row_name, source)

    def bitmaps(fragment: Fragment) -> list[Words]:
        table = _read(source, fragment, columns)
        if program is not None:
            outs = _run(program, table, fragment, seed, settings)
            if outs is not None:
                return outs
        positions = np.arange(fragment.start, fragment.stop)
        frame = Frame(table, positions, seed, name)
        return [pack(is_true(c, frame)) for c in conditions]

    if program is not None and _is_quick(program, source):
        settings = replace(settings, threads=1)
    pieces, always, never = zones_of(source, conditions) or (
        source.fragments,
        *decided(source, conditions),
    )
    known: NDArray[np.bool_] = np.all(always | never, axis=0)
    read = over([f for f, k in zip(pieces, known, strict=True) if not k], bitmaps, settings)
    parts = [
        [_constant(f.rows, bool(a)) for a in always[:, n]] if known[n] else next(read)
        for n, f in enumerate(pieces)
    ]
    lengths = [f.rows for f in pieces]
    return [
        join_bits([(part[k], n) for part, n in zip(parts, lengths, strict=True)])
        for k in range(len(conditions))
    ]


def _read(source: Source, piece: Fragment, columns: Sequence[str]) -> Any:
    """These columns of a fragment, or of a piece of it; None without columns."""
    if not columns:
        return None
    table = source.read(piece.index, columns)
    whole = source.fragments[piece.index]
    return table if piece.rows == whole.rows else table.slice(piece.start - whole.start, piece.rows)


def _run(
    program: Program, table: Any, fragment: Fragment, seed: int, settings: Settings
) -> list[Words] | None:
    """What the kernel gives; None where the fragment is laid out otherwise, or a row is an error:
    then the reference tier takes the fragment.
    """
    outs = [np.empty((fragment.rows + 63) // 64, np.uint64) for _ in range(program.outputs)]
    try:
        program.run(table, fragment.rows, outs, fragment.start, seed)
    except NullElements:
        again = program.with_nulls
        if again is None or not (settings.tier == "kernel" or _pays(again, fragment.rows)):
            return None
        return _run(again, table, fragment, seed, settings)
    except Unsuitable:
        return None
    return outs


def _pays(program: Program, rows: int) -> bool:
    return program.kernel.pays(rows * program.cost_ns_per_row)


def _constant(rows: int, value: bool) -> Words:
    """A bitmap of `rows` equal bits."""
    words = np.full((rows + 63) // 64, np.uint64(2**64 - 1) if value else np.uint64(0))
    if value and rows % 64:
        words[-1] = np.uint64(2 ** (rows % 64) - 1)
    return words


# A kernel runs at 0.1 to 0.2 ns a row and loop, near what memory gives to one core; starting
# threads costs 0.3 ms. 10 M rows of int32, one comparison: 1.4 ms alone, 2.4 ms on two threads.
_KERNEL_NS: Final = 0.2
_OF_REFERENCE: Final = 0.1  # of what the reference tier takes: look-ups, loops over arrays
_QUICK_NS: Final = 3e6


def _is_quick(program: Program, source: Source) -> bool:
    """Whether one thread is done before a second would have helped."""
    in_memory = all(f.in_place for f in source.fragments)
    row_ns = max(program.leaves * _KERNEL_NS, program.cost_ns_per_row * _OF_REFERENCE)
    return in_memory and source.rows * row_ns < _QUICK_NS


def column(source: Source, e: Expr, seed: int, settings: Settings) -> Numbers:
    """The value of `e`, a number that cannot raise, for every row of `source`."""
    columns = sorted(columns_of(e))
    name = partial(row_name, source)

    def part(fragment: Fragment) -> Numbers:
        table = source.read(fragment.index, columns) if columns else None
        frame = Frame(table, np.arange(fragment.start, fragment.stop), seed, name)
        vec = evaluate(e, frame)
        assert isinstance(vec, Numbers)
        return Numbers(np.broadcast_to(vec.values, (fragment.rows,)), vec.valid)

    parts = list(over(source.fragments, part, settings))
    valid = None
    if any(p.valid is not None for p in parts):
        valid = np.concatenate(
            [np.ones(len(p.values), np.bool_) if p.valid is None else p.valid for p in parts]
        )
    return Numbers(np.concatenate([p.values for p in parts]), valid)


def _program(conditions: Sequence[Expr], rows: int, settings: Settings) -> Program | None:
    if settings.tier == "reference":
        return None
    program = compile_program(conditions)
    if program is None or settings.tier == "kernel":
        return program
    return program if _pays(program, rows) else None


def over(
    fragments: Sequence[Fragment], work: Callable[[Fragment], T], settings: Settings
) -> Iterator[T]:
    """`work` of every fragment, in fragment order, on threads where there are several.

    The error of the first fragment that fails is the one raised.
    """
    workers = min(settings.workers, len(fragments))
    if workers <= 1:
        yield from map(work, fragments)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="tql-scan") as pool:
        pending = [pool.submit(work, f) for f in fragments]
        try:
            for future in pending:
                yield future.result()
        finally:
            for future in pending:
                future.cancel()
