"""Numbers worked out for every row of a source, fragment by fragment, on threads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tql.bits import unpack
from tql.engine import dictionaries
from tql.engine.columns import Numbers, from_arrow
from tql.engine.kernels import Program, compile_values
from tql.engine.kernels.kinds import NUMPY
from tql.engine.ordering import far_fewer, last_of, leading, stable_order
from tql.engine.reference import evaluate
from tql.engine.scan import (
    Settings,
    bitmap,
    left_over,
    needs,
    over,
    paying,
    read_piece,
    refuse_changed,
    run_kernel,
)
from tql.language.expr import Column, Const, Expr
from tql.schema import Float, Int, Label
from tql.sources.protocol import Fragment, Source

_LEAST: Final = 1 << 14  # rows of a piece that another thread is worth asking for


def is_suitable(e: Expr) -> bool:
    """Whether the functions of this module take `e`: a number without code of the user's, which is
    called in the order of the rows.
    """
    return isinstance(e.dtype, Int | Float | Label) and not needs([e]).calls_users


def column(source: Source, e: Expr, seed: int, settings: Settings) -> Numbers:
    """The value of `e`, which is suitable, for every row of `source`."""
    refuse_changed(source)
    work = _worker(source, e, seed, settings)
    pieces = _pieces(source, [e], settings.workers)
    return _joined(list(over(source, pieces, work, settings, needs([e]).columns)))


def top_rows(
    source: Source, keys: Sequence[tuple[Expr, bool]], most: int, seed: int, settings: Settings
) -> NDArray[np.int64]:
    """int64 (min(most, rows),): the first rows of `source` in the stable order by (expression,
    descending) keys, all of them suitable.

    Of each fragment only the rows are kept that may be among them. Worth it where a fragment has far
    more, see `has_more`.
    """
    refuse_changed(source)
    workers = [_worker(source, e, seed, settings) for e, _ in keys]
    descending = [d for _, d in keys]
    bounds: list[Any] = [None]  # what is behind the latest in the first key is not among them

    def work(fragment: Fragment) -> tuple[NDArray[np.int64], list[Numbers]]:
        found = [worker(fragment) for worker in workers]
        if not far_fewer(most, fragment.rows):
            return np.arange(fragment.start, fragment.stop), found
        vecs = list(zip(found, descending, strict=True))
        places = leading(vecs, fragment.rows, most, bounds[-1])
        taken = [v.take(places) for v in found]
        last = last_of((taken[0], descending[0])) if len(places) == most else None
        if last is not None:
            bounds.append(last)
        return places + fragment.start, taken

    wanted = [e for e, _ in keys]
    pieces = _pieces(source, wanted, settings.workers)
    parts = list(over(source, pieces, work, settings, needs(wanted).columns))
    rows = np.concatenate([np.zeros(0, np.int64), *(places for places, _ in parts)])
    merged = [_joined([values[k] for _, values in parts]) for k in range(len(keys))]
    return rows[stable_order(list(zip(merged, descending, strict=True)), len(rows), most)]


def has_more(source: Source, most: int) -> bool:
    """Whether some fragment has far more rows than that."""
    return any(far_fewer(most, f.rows) for f in source.fragments)


def _pieces(source: Source, wanted: Sequence[Expr], threads: int) -> Sequence[Fragment]:
    """The fragments; cut where they are fewer than the threads, if reading is free and working out
    what is wanted is not.
    """
    fragments = source.fragments
    if len(fragments) >= threads or all(isinstance(e, Column) for e in wanted):
        return fragments
    size = max(-(-source.rows // (threads * 64)) * 64, _LEAST)
    pieces: list[Fragment] = []
    for f in fragments:
        starts = range(f.start, f.stop, size) if f.in_place else ()
        pieces += [
            Fragment(f.index, start, min(size, f.stop - start), f.origin, in_place=True)
            for start in starts
        ] or [f]
    return pieces


def _compiled(one: Sequence[Expr]) -> Program | None:
    (e,) = one
    return compile_values(e)


def _worker(
    source: Source, e: Expr, seed: int, settings: Settings
) -> Callable[[Fragment], Numbers]:
    """What gives the value of `e` for every row of a piece of a fragment."""
    if isinstance(e, Column):
        return partial(_stored, source, e)
    columns, text, _, _ = needs([e])
    program = None
    if not isinstance(e, Const):
        program = paying(_compiled, [e], source.rows, settings)

    def work(fragment: Fragment) -> Numbers:
        rows = fragment.rows
        outs: list[NDArray[Any]] = []
        if program is not None:
            assert program.kind is not None
            bitmaps = [bitmap(rows) for _ in range(program.outputs)]
            outs = [np.empty(rows, NUMPY[program.kind]), *bitmaps]

        def run(table: Any) -> bool:
            return program is not None and run_kernel(
                program, table, fragment, seed, settings, outs
            )

        frame = left_over(source, fragment, columns, text, seed, settings.tier, run)
        if frame is None:
            values, *valid = outs
            return Numbers(values, unpack(valid[0], rows) if valid else None)
        vec = evaluate(e, frame)
        assert isinstance(vec, Numbers)
        return Numbers(np.broadcast_to(vec.values, (rows,)), vec.valid)

    return work


def _stored(source: Source, e: Column, fragment: Fragment) -> Numbers:
    table = read_piece(source, fragment, [e.name], dictionaries.NO_USES, "auto")
    vec = from_arrow(table.column(e.name), e.dtype)
    assert isinstance(vec, Numbers)
    return vec


def _joined(parts: Sequence[Numbers]) -> Numbers:
    if len(parts) == 1:
        return parts[0]
    valid = None
    if any(p.valid is not None for p in parts):
        valid = np.concatenate(
            [np.ones(len(p.values), np.bool_) if p.valid is None else p.valid for p in parts]
        )
    values = [p.values for p in parts]
    beside = _beside(values)
    return Numbers(np.concatenate(values) if beside is None else beside, valid)


def _beside(parts: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
    """The parts as one array, without a copy, where they lie one behind the other in memory, as the
    pieces of a column do; else None.
    """
    kind, end = parts[0].dtype, None
    for part in parts:
        start = part.__array_interface__["data"][0]
        if part.dtype != kind or part.strides != (kind.itemsize,) or end not in (None, start):
            return None
        end = start + part.nbytes
    return np.asarray(_Stretch(tuple(parts), sum(p.size for p in parts)))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Memory from the beginning of the first part on, which lives as long as all parts do."""

    parts: tuple[NDArray[Any], ...]
    size: int

    @property
    def __array_interface__(self) -> dict[str, Any]:
        first = self.parts[0].__array_interface__
        return {**first, "data": (first["data"][0], True), "shape": (self.size,), "strides": None}
