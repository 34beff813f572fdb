"""Which draws are of which fragment, and in which pass over it: runs of draws, nothing per row.

Copies of a row are in different passes, as far as `max_passes` go: with more turns than that,
consecutive ones share a pass.
"""

from dataclasses import dataclass

import numpy as np

from tql.planner.by_fragment import FragmentQuotas, QuotaOfFragments
from tql.planner.quota import ClassQuotas, Quota, QuotaOfCells, QuotaOfRows, Quotas, RowQuotas
from tql.planner.rng import Int64s, Uint64s
from tql.rowset import RowSet


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Runs of draws, each of one fragment, in any order; all arrays are int64 (S,).

    fragments  of `edges`
    passes     the pass over the fragment that the run belongs to, from 0
    starts     the first draw, strides  from one to the next, counts  how many, 0 is possible
    classes    the class of equal weights, 0 where rows have weights of their own or none
    edges      int64 (F + 1,) rows at which fragments begin, and the number of rows
    """

    fragments: Int64s
    passes: Int64s
    starts: Int64s
    strides: Int64s
    counts: Int64s
    classes: Int64s
    edges: Int64s


def runs_of_all(population: RowSet, edges: Int64s) -> Runs:
    """Each row once: a draw is a rank in the population."""
    ends = population.rank(edges)
    counts = np.diff(ends)
    held = np.flatnonzero(counts)
    none = np.zeros_like(held)
    return Runs(held, none, ends[held], none + 1, counts[held], none, edges)


def runs_of_cells(of: ClassQuotas, made: QuotaOfCells, most: int) -> Runs:
    """Each turn of a cell is a pass, as far as `most` go."""
    cells = of.cells
    at = np.searchsorted(cells.starts, made.starts)  # they lie in an order of the epoch
    firsts, counts = made.firsts[:-1], np.diff(made.firsts)
    return in_passes(
        cells.fragments[at], cells.of[at], firsts, counts, made.sizes, most, cells.edges
    )


def runs_by_quota(of: Quotas, made: Quota, population: RowSet, edges: Int64s, most: int) -> Runs:
    """The draws of an epoch by quota; copies of a row are in at most `most` passes."""
    match of, made:
        case ClassQuotas(), QuotaOfCells():
            return runs_of_cells(of, made, most)
        case RowQuotas(), QuotaOfRows():
            return runs_of_rows(of, made, population, edges, most)
        case FragmentQuotas(), QuotaOfFragments():
            return runs_of_fragments(made, edges, most)
        case _:
            raise AssertionError("draws of other quotas")


def in_passes(
    fragments: Int64s, classes: Int64s, firsts: Int64s, counts: Int64s, sizes: Int64s, most: int,
    edges: Int64s,
) -> Runs:  # fmt: skip
    """The runs of cells whose draws lie one after the other, each as long as the cell is.

    fragments, classes, firsts, counts, sizes  int64 (C,) of each cell: fragment, class, first draw,
                                               draws, rows
    """
    turns = -(-counts // sizes)
    passes = np.minimum(turns, most)
    # Where turns share passes, one that is not full joins the last: each row is in all of them.
    shared = np.where(turns > most, counts // sizes, turns)
    cell = np.repeat(np.arange(counts.size), passes)
    number = np.arange(cell.size) - np.repeat(np.cumsum(passes) - passes, passes)

    def begin(n: Int64s) -> Int64s:
        turn = -(-n * shared[cell] // passes[cell])
        ends: Int64s = np.where(n == passes[cell], counts[cell], turn * sizes[cell])
        return ends

    first = begin(number)
    return Runs(
        fragments[cell], number, firsts[cell] + first, np.ones_like(cell), begin(number + 1) - first,
        classes[cell], edges,
    )  # fmt: skip


def runs_of_fragments(made: QuotaOfFragments, edges: Int64s, most: int) -> Runs:
    """The draws of each fragment, copies in different passes."""
    of = made.of
    heaviest = of.weights.heaviest[of.fragments]
    return _by_stride(of.fragments, made.firsts, heaviest, of.total, most, edges)


def runs_of_rows(
    of: RowQuotas, made: QuotaOfRows, population: RowSet, edges: Int64s, most: int
) -> Runs:
    """The rows that are drawn for certain, in pass 0, and the others, copies in different passes."""
    fragments = np.flatnonzero(np.diff(population.rank(edges)))
    sure = np.searchsorted(made.always, made.bounds)
    none = np.zeros_like(fragments)
    if not made.draws:
        return Runs(fragments, none, sure[:-1], none + 1, np.diff(sure), none, edges)
    firsts = np.append(made.first_draws(made.bounds[:-1]), made.draws) + made.always.size
    heaviest = np.maximum.reduceat(of.units, made.bounds[:-1])
    late = _by_stride(fragments, firsts, heaviest, made.table.total, most, edges)
    return Runs(
        np.append(fragments, late.fragments),
        np.append(none, late.passes),
        np.append(sure[:-1], late.starts),
        np.append(none + 1, late.strides),
        np.append(np.diff(sure), late.counts),
        np.append(none, late.classes),
        edges,
    )


def _by_stride(
    fragments: Int64s, firsts: Int64s, heaviest: Uint64s, total: int, most: int, edges: Int64s
) -> Runs:
    """Copies of a row are neighbours, so pass p of P takes every P-th draw from the p-th on.

    firsts  int64 (F + 1,) the first draw of each fragment, and the end; heaviest  uint64 (F,) what
            its heaviest row weighs, of a total of `total`
    """
    one = -(-total // int(firsts[-1] - firsts[0]))  # a row of more units may come twice
    passes = np.clip(-(-heaviest.astype(np.int64) // one), 1, most)
    f = np.repeat(np.arange(fragments.size), passes)
    number = np.arange(f.size) - np.repeat(np.cumsum(passes) - passes, passes)
    counts = (np.diff(firsts)[f] - number + passes[f] - 1) // passes[f]
    held = np.maximum(counts, 0)
    return Runs(fragments[f], number, firsts[f] + number, passes[f], held, np.zeros_like(f), edges)
