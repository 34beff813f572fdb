"""Conditions over a whole source: fragment by fragment, on threads, one bitmap per condition.

All conditions of a query that range over the same source are evaluated in one pass, so each
column is read once. The result does not depend on the tier or the number of threads.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tql import kernel_jobs
from tql.bits import BitWriter, pack
from tql.cpus import usable_cpus
from tql.diagnostics import TqlDataError
from tql.engine import dictionaries
from tql.engine.computed import Computed, row_name, stored_below
from tql.engine.costs import reference_ns
from tql.engine.decoding import decoded_bytes
from tql.engine.frame import Frame
from tql.engine.framing import late_frame
from tql.engine.kernels import NullElements, Program, Unsuitable, compile_program
from tql.engine.pruning import decided
from tql.engine.reference import is_true
from tql.engine.remembered import remembered
from tql.engine.zones import zones_of
from tql.jit import CALL_NS
from tql.language.expr import Expr, UserCall, columns_of, walk_inside
from tql.memory_size import budget
from tql.rowset import Range, RowSet, from_words
from tql.sources.protocol import REMOTE_READERS, Changeable, Fragment, Source, is_local
from tql.threads import in_order

T = TypeVar("T")
Words: TypeAlias = NDArray[np.uint64]
Tier: TypeAlias = Literal["auto", "reference", "kernel"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to evaluate; none of it changes a result.

    tier     "auto" compiles when that pays; "reference" never; "kernel" whenever it is possible
    threads  None for one per CPU, and 16 or more where reading is waiting for other machines
    memory_bytes  how much the fragments in work may take once they are decoded (Parquet, compressed
             Arrow files); None for half of the machine's memory. Where two do not fit, they are read
             one after the other. A single fragment is never cut: a row group that takes more than
             this is still read, alone. Data in memory or mapped does not count.
    """

    tier: Tier = "auto"
    threads: int | None = None
    memory_bytes: int | None = None

    @property
    def workers(self) -> int:
        return self.threads or usable_cpus()


def scan(source: Source, conditions: Sequence[Expr], seed: int, settings: Settings) -> list[Words]:
    """One bitmap over the rows of `source` per condition: where it is TRUE.

    Each is uint64 (ceil(rows / 64),), bits beyond the rows zero. Beside the bitmaps only what a
    fragment takes is held, times the threads.
    """
    return [words for words, _ in _scan(source, conditions, seed, settings)]


def rows_where(
    source: Source, conditions: Sequence[Expr], seed: int, settings: Settings
) -> list[RowSet]:
    """The rows of `source` for which each condition is TRUE, found as `scan` does."""
    found = _scan(source, conditions, seed, settings)
    return [from_words(words, source.rows, within) for words, within in found]


def _scan(
    source: Source, conditions: Sequence[Expr], seed: int, settings: Settings
) -> list[tuple[Words, Range]]:
    """The bitmap of each condition, and rows beyond which it is zero."""
    refuse_changed(source)
    columns, text, calls_users, _ = needs(conditions)
    pieces, always, never = zones_of(source, conditions) or (
        source.fragments,
        *decided(source, conditions),
    )
    known: NDArray[np.bool_] = np.all(always | never, axis=0)
    blank = known & never  # not those that are looked at: what is found there counts in any case
    writers = [BitWriter(source.rows, blank=bool(none.any())) for none in blank]
    unread = [f for f, k in zip(pieces, known.tolist(), strict=True) if not k]
    program = paying(_compiled, conditions, sum(f.rows for f in unread), settings)
    if calls_users:
        # Code of the user's is called in the order of the rows, and by nobody but the caller.
        settings = replace(settings, threads=1)
    if program is not None and _is_quick(program, source, unread, settings.workers):
        settings = replace(settings, threads=1)

    def write(piece: Fragment) -> None:
        def run(table: Any) -> bool:
            return program is not None and _write(program, table, piece, seed, settings, writers)

        frame = left_over(source, piece, columns, text, seed, settings.tier, run)
        if frame is None:
            return
        for c, writer in zip(conditions, writers, strict=True):
            writer.put(piece.start, piece.rows, pack(is_true(c, frame)))

    for truth, writer in zip(known & always, writers, strict=True) if always.any() else ():
        # Runs of pieces in which it is TRUE; where it never is, the bitmap is blank.
        edges = np.flatnonzero(np.diff(truth, prepend=False, append=False))
        for first, end in edges.reshape(-1, 2).tolist():
            start = pieces[first].start
            writer.fill(start, pieces[end - 1].stop - start)
    for _ in over(source, unread, write, settings, columns):
        pass
    spans = (_span(source, pieces, none) for none in blank)
    return [(writer.finish(), span) for writer, span in zip(writers, spans, strict=True)]


def refuse_changed(source: Source) -> None:
    """Raise where stored data that `source` reads was changed since it was opened."""
    for below in stored_below(source):
        if isinstance(below, Changeable):
            below.refuse_changed()


class Needs(NamedTuple):
    """What expressions read, whether they call code of the user's, and what the reference tier takes
    for them, nanoseconds a row.
    """

    columns: Sequence[str]
    text: dictionaries.Uses
    calls_users: bool
    reference_ns: float


@remembered
def needs(expressions: Sequence[Expr]) -> Needs:
    return Needs(
        sorted(frozenset().union(*map(columns_of, expressions))),
        dictionaries.uses(expressions),
        any(isinstance(n, UserCall) for e in expressions for n in walk_inside(e)),
        reference_ns(expressions),
    )


_compiled = remembered(compile_program)


def _span(source: Source, pieces: Sequence[Fragment], blank: NDArray[np.bool_]) -> Range:
    """The rows from the first to the last piece that is written; bool (pieces,) `blank`."""
    if not blank.any():
        return Range(0, source.rows, source.rows)
    some = np.flatnonzero(~blank).tolist()
    if not some:
        return Range(0, 0, source.rows)
    return Range(pieces[some[0]].start, pieces[some[-1]].stop, source.rows)


def read_piece(
    source: Source, piece: Fragment, columns: Sequence[str], text: dictionaries.Uses, tier: Tier
) -> Any:
    """These columns of a fragment, or of a piece of it; None without columns."""
    if not columns:
        return None
    whole = source.fragments[piece.index]
    wanted = math.inf if tier == "kernel" else piece.rows  # kernels take no text but by code
    table = dictionaries.read(source, whole, columns, text, wanted)
    return table if piece.rows == whole.rows else table.slice(piece.start - whole.start, piece.rows)


def left_over(
    source: Source, piece: Fragment, columns: Sequence[str], text: dictionaries.Uses, seed: int,
    tier: Tier, run: Callable[[Any], bool],
) -> Frame | None:  # fmt: skip
    """The rows of the piece for the reference tier; None where `run`, a kernel over the table of
    these columns, has done them.
    """
    try:
        table = read_piece(source, piece, columns, text, tier)
    except TqlDataError:  # which need not be that of a row that an expression looks at
        if not isinstance(source, Computed):
            raise
        return late_frame(source, np.arange(piece.start, piece.stop), seed)
    if run(table):
        return None
    return Frame(table, np.arange(piece.start, piece.stop), seed, partial(row_name, source))


def _write(
    program: Program,
    table: Any,
    fragment: Fragment,
    seed: int,
    settings: Settings,
    writers: Sequence[BitWriter],
) -> bool:
    """Whether a kernel has written the rows of the fragment; else the reference tier writes over
    what is there.
    """
    start, rows = fragment.start, fragment.rows
    places = [w.place(start, rows) for w in writers]
    outs = [bitmap(rows) if p is None else p for p in places]
    if not run_kernel(program, table, fragment, seed, settings, outs):
        return False
    for writer, place, out in zip(writers, places, outs, strict=True):
        if place is None:
            writer.put(start, rows, out)
    return True


def run_kernel(
    program: Program,
    table: Any,
    fragment: Fragment,
    seed: int,
    settings: Settings,
    outs: Sequence[NDArray[Any]],
) -> bool:
    """Whether a kernel has written `outs`, see `Program.run`; not where the fragment is laid out
    otherwise, or a row is an error: then the reference tier takes it.
    """
    rows = fragment.rows
    try:
        if program.has_codes and settings.tier != "kernel":
            kernel = program.kernel_for(lambda name: table.column(name).type)
            if not kernel.pays(rows * program.cost_ns_per_row):
                return False
        program.run(table, rows, outs, fragment.start, seed)
    except NullElements:
        again = program.with_nulls
        if again is None or not (settings.tier == "kernel" or _pays(again, rows)):
            return False
        return run_kernel(again, table, fragment, seed, settings, outs)
    except Unsuitable:
        return False
    return True


def bitmap(rows: int) -> Words:
    return np.empty((rows + 63) // 64, np.uint64)


def _pays(program: Program, rows: int) -> bool:
    return program.kernel.pays(rows * program.cost_ns_per_row)


# A kernel of comparisons alone runs at 0.1 to 0.2 ns a row and loop, at 33 to 43 GB/s: that is all
# that two cores together get from memory, too (35 GB/s, np.max over 120 MB), so a second thread
# only helps where the loops compute, or where the data lies in a cache, and is then soon read.
_KERNEL_NS: Final = 0.2
_OF_REFERENCE: Final = 0.1  # of what the reference tier takes: look-ups, loops over arrays
_QUICK_NS: Final = 3e6
_COMPARED_NS: Final = 1.0  # the reference tier's, per loop, where a loop only compares
_FED_BY_ONE: Final = 2  # so many threads get no more from memory than one


def _is_quick(program: Program, source: Source, pieces: Sequence[Fragment], threads: int) -> bool:
    """Whether one thread is done with these pieces before a second would have helped."""
    if program.has_codes and not all(_is_ready(program, source, f.index) for f in pieces[:1]):
        return False
    if not all(f.in_place for f in pieces):
        return False
    if threads <= _FED_BY_ONE and program.cost_ns_per_row <= _COMPARED_NS * program.leaves:
        return True
    row_ns = max(program.leaves * _KERNEL_NS, program.cost_ns_per_row * _OF_REFERENCE)
    return sum(f.rows for f in pieces) * row_ns < _QUICK_NS


def _is_ready(program: Program, source: Source, fragment: int) -> bool:
    """Whether the codes of a fragment are there, and the kernel that takes them."""
    made = {
        name: dictionaries.CACHE.known(source, fragment, name)
        for name in (a.codes_of for a in program.arguments)
        if name is not None
    }
    if any(array is None for array in made.values()):
        return False
    return program.kernel_for(lambda name: made[name].type).compiled


def paying(
    make: Callable[[Sequence[Expr]], Program | None],
    expressions: Sequence[Expr],
    rows: int,
    settings: Settings,
) -> Program | None:
    """The program, where it is to be run over so many rows."""
    kernel_jobs.mode()  # a misspelt one is an error of every query
    if settings.tier == "reference":
        return None
    if settings.tier == "auto" and needs(expressions).reference_ns * rows < CALL_NS:
        return None  # not even a kernel that is there would pay
    program = make(expressions)
    if program is None or settings.tier == "kernel" or program.has_codes:
        return program  # with codes each fragment has to say: their kernels differ
    return program if _pays(program, rows) else None


def over(
    source: Source,
    fragments: Sequence[Fragment],
    work: Callable[[Fragment], T],
    settings: Settings,
    columns: Sequence[str],
) -> Iterator[T]:
    """`work`, which reads these columns, of these fragments of `source`, in order; see `in_order`.

    Fragments that have to be decoded are not all in work at once where they are large: see
    `Settings.memory_bytes`.
    """
    if all(f.in_place for f in fragments):
        return in_order(fragments, work, settings.workers)
    memory = budget() if settings.memory_bytes is None else settings.memory_bytes
    workers = settings.workers
    if settings.threads is None and not is_local(source):
        workers = max(workers, REMOTE_READERS)
    return in_order(fragments, work, workers, decoded_bytes(source, columns), memory)
