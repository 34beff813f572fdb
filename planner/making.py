"""Making plans: what was asked for is checked, and named by a fingerprint."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, assert_never, cast, get_args

import numpy as np

from tql.diagnostics import error
from tql.partition import partition
from tql.planner import digest
from tql.planner.arguments import whole, yes_or_no
from tql.planner.bulk import BLOCK
from tql.planner.draw import MOST_ROWS
from tql.planner.permute import LARGEST, ROUNDS
from tql.planner.plan import Mix, Plan, Resample
from tql.planner.quota import MOST_DRAWS
from tql.planner.quota import MOST_ROWS as MOST_ROWS_BY_QUOTA
from tql.planner.rng import ORDER_VERSION, Int64s
from tql.planner.windows import Windows
from tql.rowset import RowSet
from tql.weights import (
    AnyWeights,
    ClassWeights,
    FragmentWeights,
    RowWeights,
    Weights,
    check,
    positive_rows,
)

_FEW_CLASSES: Final = 64


def make_plan(
    population: RowSet,
    weights: AnyWeights | None = None,
    *,
    size: int | None = None,
    replace: bool = True,
    shuffle: bool = False,
    seed: int = 0,
    mix: str = "iid",
    resample: str = "epoch",
    edges: Int64s | None = None,
    block: int | None = None,
    windows: Windows | None = None,
    rounds: int = ROUNDS[0],
    source_fingerprint: str = "",
    origin: Mapping[str, Any] = MappingProxyType({}),
    offset: int = 0,
    key: str | None = None,
) -> Plan:
    """The plan of these choices, checked.

    Without weights and size: every row of the population once, in its order or shuffled anew each
    epoch. With weights: `size` draws (None: as many as the population has rows), drawn anew each
    epoch unless `resample` is "once". A size without weights draws uniformly. `origin` is anything
    JSON that the caller wants to find again in the plan's file.

    mix      "iid": independent draws. "epoch": each class, and each fragment of it, comes as often
             as its weight is worth, rounded down or up. "batch": so it does in every `block`
             positions from a multiple of `block` on, too
    weights  of `FragmentWeights`: drawn by quota, in windows over the fragments they are summed by
    edges    int64, rows at which fragments begin, and the number of rows; quotas are kept by
             fragment, and windows are of fragments
    windows  an order in which a few fragments are enough at a time; it needs `edges` and `shuffle`
    rounds   of the permutations of an epoch, of a class and of batches: 6 or 8, which costs a third
             more and is not told apart from 6 by any test here; windows and cells have 12
    key      the fingerprint, for a plan that is never kept: then rows and weights are not hashed
    """
    replace, shuffle = yes_or_no("replace", replace), yes_or_no("shuffle", shuffle)
    size = None if size is None else _checked_size(size)
    if size is not None and weights is None:
        weights = ClassWeights(np.ones(1), (population,))
    if weights is not None:
        _check_weights(weights, population)
    rounds = _checked_ways(mix, resample, rounds)
    block = _checked_block(block, mix)
    by_quota = mix != "iid" and weights is not None
    edges = _checked_edges(edges, population) if by_quota or windows is not None else None
    if windows is not None:
        _check_windows(population, edges, weights, replace, shuffle, mix)
    if isinstance(weights, FragmentWeights):
        _check_by_fragment(weights, population, edges, replace, mix, windows)
    if mix != "iid" and isinstance(weights, RowWeights):
        weights = _classes_of_few(weights, population)
    draws, notes = _draws(population, weights, size, replace, mix)
    if by_quota:
        _check_quota(draws, len(population), mix)
    _check_draws(draws, weights is not None and windows is not None)
    offset = _checked_offset(offset, draws, None if weights is None else block)
    parts: dict[str, Any] = {
        "order": ORDER_VERSION,
        "source": source_fingerprint,
        "origin": _as_json(origin),
        "population": None if key else _describe_rows(population),
        "weights": None if key or weights is None else _describe_weights(weights),
        "replace": replace,
        "size": size,
        "shuffle": shuffle,
        "seed": whole("seed", seed),
        "mix": mix,
        "resample": resample,
    }
    if by_quota or windows is not None:
        parts["fragments"] = None if edges is None else digest.of_array(edges)
    if by_quota:
        parts["block"] = block
    if windows is not None:
        parts["windows"] = windows.as_json()
    if rounds != ROUNDS[0]:
        parts["rounds"] = rounds
    return Plan(
        population=population,
        weights=weights,
        size=size,
        replace=replace,
        shuffle=shuffle,
        seed=parts["seed"],
        mix=cast(Mix, mix),
        resample=cast(Resample, resample),
        edges=edges,
        block=block,
        windows=windows,
        rounds=rounds,
        source_fingerprint=source_fingerprint,
        origin=MappingProxyType(parts["origin"]),
        offset=offset,
        draws=draws,
        notes=notes,
        fingerprint=key or digest.of_json(parts),
        parts=MappingProxyType(parts),
    )


def sample(
    population: RowSet,
    weights: Weights | None,
    size: int | None,
    replace: bool,
    seed: int,
    purpose: str,
    mix: str = "iid",
    edges: Int64s | None = None,
) -> tuple[Int64s, tuple[str, ...]]:
    """One frozen draw: row ids in draw order, int64 (n,), and notes.

    No weights: every row alike. No size: as many as the population has rows. `purpose` tells
    apart several draws that one seed makes. The draw depends on nothing else but which place of
    the population has which weight: the same population in other row numbers, as a rewritten
    query gives it, draws the same places. By quota it depends on the fragments, too.
    """
    weights = weights if weights is not None else ClassWeights(np.ones(1), (population,))
    plan = make_plan(
        population,
        weights,
        size=size,
        replace=replace,
        seed=seed,
        mix=mix,
        edges=edges,
        resample="once",
        key=digest.of_json({"order": ORDER_VERSION, "purpose": purpose}),
    )
    return plan.ids(), plan.notes


def _checked_size(size: int) -> int:
    size = whole("size", size)
    if size <= 0:
        raise error("value", f"size {size}: nothing to draw", help="ask for 1 row or more")
    return size


def _checked_ways(mix: str, resample: str, rounds: int) -> int:
    """The rounds, where these are ways to draw and to permute."""
    if mix not in get_args(Mix):
        raise error("value", f"mix {mix!r}: expected 'iid', 'epoch' or 'batch'",
                    help="'iid' draws independently, 'epoch' and 'batch' keep quotas")  # fmt: skip
    if resample not in get_args(Resample):
        raise error("value", f"resample {resample!r}: expected 'epoch' or 'once'")
    rounds = whole("rounds", rounds)
    if rounds not in ROUNDS:
        raise error("value", f"a permutation of {rounds} rounds", help="take 6, or 8 to be surer")
    return rounds


def _check_draws(draws: int, weighted_windows: bool) -> None:
    if weighted_windows and draws > MOST_DRAWS:
        raise error("range", f"{draws} draws in an epoch in windows",
                    help=f"at most {MOST_DRAWS} are possible; an order without windows has no such limit")  # fmt: skip
    if draws > LARGEST:
        raise error(
            "range", f"{draws} draws in an epoch", help=f"at most {LARGEST} (2^62) are possible"
        )


def _checked_offset(offset: int, draws: int, block: int | None) -> int:
    offset = whole("offset", offset)
    if not 0 <= offset <= draws:
        help = f"an offset from 0 to {draws} is possible; at {draws} nothing is left"
        raise error("range", f"offset {offset} in an epoch of {draws} samples", help=help)
    if block is not None and offset % block:
        raise error("value", f"offset {offset} within a batch of {block}: mix='batch' counts whole ones",
                    help=f"start at a multiple of {block}, or take mix='epoch'")  # fmt: skip
    return offset


def _as_json(origin: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(digest.canonical(dict(origin)))
    except (TypeError, ValueError, RecursionError) as e:
        raise error(
            "type",
            f"the origin of a plan is not JSON: {e}",
            help="give texts, finite numbers, lists and dicts with texts as keys",
        ) from e
    return content


def _check_weights(weights: AnyWeights, population: RowSet) -> None:
    if len(weights) != len(population):
        raise error(
            "value",
            f"weights for {len(weights)} rows, but {len(population)} rows to draw from",
            help="give one weight for each row of the population, in its order",
        )
    check(weights)
    if isinstance(weights, RowWeights) and len(weights) > MOST_ROWS:
        raise error(
            "unsupported",
            f"{len(weights)} rows with a weight each: at most {MOST_ROWS} are offered",
            help="give few distinct weights (max_weight), which have no such limit",
        )


def _checked_block(block: int | None, mix: str) -> int | None:
    if mix != "batch":
        return None
    if block is None:
        raise error("parameter", "mix='batch' without a batch size: each batch gets its share",
                    help="give .batch(n), or take mix='epoch'")  # fmt: skip
    block = whole("block", block)
    if block < 1:
        raise error("value", f"a block of {block} positions", help="give 1 or more")
    return block


def _checked_edges(edges: Int64s | None, population: RowSet) -> Int64s | None:
    """Where fragments begin; None for rows in an order of their own, which are in none."""
    if edges is None or not population.ascending:
        return None
    whole = edges.dtype == np.int64 and edges.ndim == 1 and edges.size > 1
    if not whole or edges[0] != 0 or edges[-1] != population.universe or (np.diff(edges) < 0).any():
        raise error("value", "the edges of fragments do not go from 0 to the number of rows",
                    help="give int64 row numbers, ascending, 0 first and the number of rows last")  # fmt: skip
    return edges


def _check_windows(
    population: RowSet, edges: Int64s | None, weights: AnyWeights | None, replace: bool,
    shuffle: bool, mix: str,
) -> None:  # fmt: skip
    """Refuse windows where they are impossible or say nothing."""
    if not shuffle:
        raise error("parameter", "windows are a way to shuffle, but shuffle is False",
                    help="give shuffle=True, or leave windows out")  # fmt: skip
    if not population.ascending:
        raise error("unsupported", "windows of rows that stand in an order of their own: no fragment "
                    "has them side by side",
                    help="shuffle without windows, or give the rows ascending and once each")  # fmt: skip
    if edges is None:
        raise error("parameter", "windows without fragments: which rows are near each other?",
                    help="give edges, the rows at which fragments begin and the number of rows")  # fmt: skip
    if weights is not None and mix == "batch":
        raise error("unsupported", "mix='batch' in windows: a batch has draws of few fragments there",
                    help="take mix='epoch', which keeps quotas in an epoch, or no windows")  # fmt: skip
    if weights is not None and mix == "iid" and not replace:
        raise error("unsupported", "independent draws without replacement in windows",
                    help="take mix='epoch', which takes no row twice with replace=False, or no windows")  # fmt: skip


def _check_by_fragment(
    weights: FragmentWeights, population: RowSet, edges: Int64s | None, replace: bool, mix: str,
    windows: Windows | None,
) -> None:  # fmt: skip
    """Refuse weights that are looked up by fragment where every row would be looked up."""
    if mix != "epoch":
        raise error("unsupported", f"weights that are looked up by fragment with mix={mix!r}",
                    help="take mix='epoch', which knows how many draws each fragment has")  # fmt: skip
    if not replace:
        raise error("unsupported", "weights that are looked up by fragment without replacement",
                    help="leave replace=False out: by quota a row comes again as rarely as can be")  # fmt: skip
    if windows is None or edges is None:
        raise error("unsupported", "weights that are looked up by fragment without windows: every batch "
                    "would look all of them up", help="give windows=Windows(length) and edges")  # fmt: skip
    inside = np.diff(population.rank(edges))
    if not np.array_equal(inside, weights.counts):
        found = (
            f"{weights.counts.size} fragments"
            if inside.size != weights.counts.size
            else "other numbers"
        )
        raise error("value", f"weights for {found} of rows, but {inside.size} fragments to draw from",
                    help="give the weights of the rows of the population in each of the fragments")  # fmt: skip


def _classes_of_few(weights: RowWeights, population: RowSet) -> Weights:
    """Few distinct weights are classes, each with its quota."""
    known = np.unique(weights.values[:: max(1, len(weights) // 4096)])
    codes = np.empty(len(weights), np.uint8)
    for start in range(0, codes.size, BLOCK):  # in the cache; sorting all of them takes far longer
        block = weights.values[start : start + BLOCK]
        at = np.searchsorted(known, block)
        if (known[np.minimum(at, known.size - 1)] != block).any():
            more = np.union1d(known, block)
            codes[:start] = np.searchsorted(more, known).astype(np.uint8)[codes[:start]]
            known, at = more, np.searchsorted(more, block)
        if known.size > _FEW_CLASSES:
            return weights
        codes[start : start + BLOCK] = at
    known = known + 0.0  # -0.0 is 0.0
    return ClassWeights(known, partition(codes, known.size, population))


def _check_quota(draws: int, rows: int, mix: str) -> None:
    for number, most, what in (
        (draws, MOST_DRAWS, "draws in an epoch"), (rows, MOST_ROWS_BY_QUOTA, "rows"),
    ):  # fmt: skip
        if number > most:
            raise error("range", f"{number} {what} with mix={mix!r}",
                        help=f"at most {most} are possible; mix='iid' has no such limit")  # fmt: skip


def _draws(
    population: RowSet, weights: AnyWeights | None, size: int | None, replace: bool, mix: str
) -> tuple[int, tuple[str, ...]]:
    """Samples in an epoch, and what a user should know about that."""
    wanted = len(population) if size is None else size
    if weights is None or replace or isinstance(weights, FragmentWeights):
        return wanted, ()
    positive = positive_rows(weights)
    notes = []
    if wanted > positive:
        notes.append(
            f"without replacement only {positive} rows can be drawn, not {wanted}: "
            f"{len(population)} rows, {positive} of them with a weight above 0"
        )
    if wanted >= positive and not _equal(weights):
        notes.append(
            "without replacement every row with a weight above 0 is drawn once: "
            "how the weights differ makes no difference"
        )
    return min(wanted, positive), tuple(notes)


def _equal(weights: Weights) -> bool:
    positive = weights.values[weights.values > 0]
    return bool((positive == positive[0]).all())


def _describe_rows(population: RowSet) -> dict[str, Any]:
    return {"rows": len(population), "digest": digest.of_rows(population)}


def _describe_weights(weights: AnyWeights) -> dict[str, Any]:
    """What a plan file says of weights: all of a few classes, and a digest of everything."""
    match weights:
        case ClassWeights(values=values, members=members):
            few = {"values": values.tolist(), "rows": [len(m) for m in members]}
            named = few if len(members) <= _FEW_CLASSES else {"classes": len(members)}
            return {"kind": "classes", **named, "digest": digest.of_weights(weights)}
        case RowWeights():
            return {"kind": "rows", "digest": digest.of_weights(weights)}
        case FragmentWeights():
            return {"kind": "rows by fragment", "digest": digest.of_weights(weights)}
        case _:
            assert_never(weights)
