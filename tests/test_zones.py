"""Zone maps: answers stay what they were; what is left out is not read; random data costs no map."""

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tql
from tests.strategies import Pieces
from tests.tiers import bound, rows_true
from tql.engine import scan, zones
from tql.engine.kernels import compile_program
from tql.engine.scan import Settings, rows_where
from tql.engine.zones import ZONE_ROWS, zones_of
from tql.jit import Kernel
from tql.language.plan import Filter
from tql.language.plan_parts import walk_plan
from tql.queries import ask
from tql.rowset import Bitmap
from tql.schema import Int

ROWS = 20 * ZONE_ROWS + 77


def _table() -> pa.Table:
    rng = np.random.default_rng(5)
    near = np.arange(ROWS) + rng.integers(0, 1000, ROWS)
    floats = near.astype(np.float64)
    floats[rng.random(ROWS) < 0.01] = np.nan
    floats[3 * ZONE_ROWS : 4 * ZONE_ROWS] = np.nan
    return pa.table({
        "near": near,
        "unsigned": near.astype(np.uint64) + np.uint64(2**63),
        "nulls": pa.array(near, mask=(rng.random(ROWS) < 0.5) | (near < 2 * ZONE_ROWS)),
        "floats": floats,
        "time": pa.array(near, pa.timestamp("us")),
        "random": rng.integers(0, ROWS, ROWS),
        "d": rng.integers(0, 3, ROWS),
    })  # fmt: skip


TABLE = _table()


@pytest.mark.parametrize(
    "condition",
    [
        "near between 700000 and 710000",
        "not (near < 1200000)",
        "near in (5, 70000, 1300000)",
        "near == 65536 or near > 1310000",
        "near != 7",
        "near >= 0",
        "near > 9223372036854775807.5",
        "unsigned < 9223372036854775900",
        "nulls < 200000",
        "not (nulls < 1200000)",
        "nulls is null and near < 200000",
        "floats > 1300000",
        "not (floats < 1300000)",
        "floats <= 200000 and random > 7",
        "time > '1970-01-01T00:00:01.3'",
        "random between 5 and 90",
        "near > 1300000 and 7 % d == 0 and d > 0 or random == -1",
    ],
)
def test_answers_do_not_change_as_maps_are_made(condition: str) -> None:
    def answer(ds: Any) -> list[int] | str:
        try:
            found: list[int] = ds.query(f"select * where {condition}").row_ids.tolist()
        except tql.TqlDataError as e:
            return str(e)
        return found

    ds = tql.open(TABLE)
    first = answer(ds)
    for _ in range(5):
        assert answer(ds) == first
    numpy_counts = {
        "near between 700000 and 710000": np.sum(
            (TABLE["near"].to_numpy() >= 700000) & (TABLE["near"].to_numpy() <= 710000)
        ),
        "not (floats < 1300000)": np.sum(~(TABLE["floats"].to_numpy() < 1300000)),
    }
    if condition in numpy_counts:
        assert len(first) == numpy_counts[condition]


def _asked(ds: Any, condition: str, times: int) -> Any:
    for _ in range(times):
        len(ds.query(f"select * where {condition}"))
    return zones._MAPS.get(ds.source)


def test_maps_are_made_when_asked_again_and_go_with_the_source() -> None:
    ds = tql.open(TABLE)
    maps = _asked(ds, "near > 1300000", 2)
    assert maps is not None and not maps.columns
    maps = _asked(ds, "near > 1300000", 1)
    assert maps.columns["near"].known.all()
    assert maps.columns["near"].low[0] == TABLE["near"].to_numpy()[:ZONE_ROWS].min()
    before = len(zones._MAPS)
    del ds, maps
    gc.collect()
    assert len(zones._MAPS) < before


def test_only_zones_that_may_hold_rows_are_looked_at() -> None:
    ds = tql.open(TABLE)
    _asked(ds, "near > 1300000", 3)
    filtered = ask(ds.source, "select * where near between 700000 and 710000")
    plan = filtered.bound.plan
    assert isinstance(plan, Filter)
    conditions = [plan.predicate]
    found = zones_of(ds.source, conditions)
    assert found is not None
    pieces, always, never = found
    open_rows = sum(p.rows for p, a, n in zip(pieces, always[0], never[0]) if not (a or n))
    assert open_rows <= 2 * ZONE_ROWS
    assert sum(p.rows for p in pieces) == ROWS
    assert [p.start for p in pieces[1:]] == [p.stop for p in pieces[:-1]]


def test_values_in_no_order_get_no_map() -> None:
    ds = tql.open(TABLE)
    maps = _asked(ds, "random < 9", 3)
    assert maps.columns == {"random": None}
    assert maps.searched["random"] == 3


def test_rows_that_zones_leave_out_are_not_charged_to_a_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    charged: list[float] = []

    def pays(k: Kernel, ns: float) -> bool:
        if k.__name__ == "predicate":
            charged.append(ns)
        return False

    monkeypatch.setattr(Kernel, "pays", pays)
    ds = tql.open(TABLE)
    program = compile_program([bound("near > 7", ds.source)])
    assert program is not None
    _asked(ds, f"near > {2 * ROWS}", 6)
    assert charged == [ROWS * program.cost_ns_per_row] * 2, "the third one knows"
    charged.clear()
    _asked(ds, "near > 1310720", 1)
    assert charged == [ZONE_ROWS * program.cost_ns_per_row], "all of the last zone is beyond"


def test_threads_are_as_many_as_what_zones_leave_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one does not help with the one zone that is read."""
    used = []
    run = scan.in_order

    def noted(pieces: Any, work: Any, threads: int, *rest: Any) -> Any:
        used.append(threads)
        return run(pieces, work, threads, *rest)

    monkeypatch.setattr(scan, "in_order", noted)
    monkeypatch.setattr(scan, "run_kernel", lambda *_: False)
    ds = tql.open(TABLE)
    far = ", ".join(str(n * 3_000_017) for n in range(100))
    condition = bound(f"near < 60000 and random in ({far})", ds.source)
    for _ in range(3):
        scan.scan(ds.source, [condition], 0, Settings("kernel", threads=3))
    assert used == [3, 3, 1]


class OneRowFirst(Pieces):
    """A source of one's own, in memory: a fragment of one row, and one of all others."""

    kind = "memory"

    def __init__(self) -> None:
        table = pa.table({"near": np.arange(ROWS)})
        super().__init__(table, [1], {"near": Int(64)})
        self.fragments = tuple(replace(f, in_place=True) for f in self.fragments)


def test_a_fragment_of_one_row_has_a_zone() -> None:
    source = OneRowFirst()
    for _ in range(5):
        assert rows_true(["near < 1 or near > 1310795"], source, "auto") == [[0, 1310796]]
    maps = zones._MAPS[source]
    assert maps.columns["near"] is not None
    assert [len(w.seen) for w in maps.watched["near"]] == [2, 4 * 20 + 2]


@pytest.mark.parametrize("condition", ["near != 7", "near % 2 == 1", "7 % d == 0 and near < 0"])
def test_conditions_without_use_or_with_errors_make_none(condition: str) -> None:
    ds = tql.open(TABLE)
    for _ in range(4):
        try:
            len(ds.query(f"select * where {condition}"))
        except tql.TqlDataError as e:
            assert "row" in str(e)
    assert zones._MAPS.get(ds.source) is None


def test_data_that_was_changed_all_the_same_is_looked_at_again() -> None:
    near = np.arange(ROWS)
    stamps = near.astype("datetime64[us]")
    ds = tql.open({"near": near, "stamps": stamps})
    for condition in ("near > 1300000", "stamps > '1970-01-01T00:00:01.3'"):
        assert _asked(ds, condition, 4).columns
        near[:] = near[::-1].copy()
        stamps[:] = stamps[::-1].copy()
        for _ in range(5):  # also when there is a map of what stands there now
            assert (
                ds.query(f"select * where {condition}").row_ids.tolist()
                == np.flatnonzero(near > 1300000).tolist()
            )
        assert zones._MAPS[ds.source].columns
        near[:] = near[::-1].copy()
        stamps[:] = stamps[::-1].copy()


@pytest.mark.parametrize("condition", ["y != 3", "not (y == 3)", "y is null or y != 3", "y > 3"])
def test_a_map_that_no_longer_holds_is_not_used_beside_one_that_does(condition: str) -> None:
    x = np.arange(ROWS)
    y = x.copy()
    ds = tql.open({"x": x, "y": y})
    for searched in ("y > 1300000", "x > 1000"):
        assert _asked(ds, searched, 4).columns
    y[:] = 3
    text = f"select * where x > 1000 and ({condition})"
    plan = ask(ds.source, text).bound.plan
    assert isinstance(plan, Filter)
    told = zones.outlook(ds.source, [plan.predicate])
    assert told.zoned and len(told.read) == len(told.pieces)
    assert ds.query(text).row_ids.tolist() == []


def test_what_tells_of_changes_sees_the_first_and_last_value_and_four_of_every_zone() -> None:
    values = np.arange(ROWS, dtype=np.float32)
    values[-1] = np.nan
    ds = tql.open({"near": values})
    maps = _asked(ds, "near > 1300000", 3)
    watches = maps.watched["near"]
    assert all(w.holds() for w in watches)  # NaN is the same NaN
    assert sum(len(w.seen) for w in watches) <= 5 * len(maps.zones)
    for at in (0, 3 * ZONE_ROWS, ROWS - 1):
        before, values[at] = values[at], -1
        assert not all(w.holds() for w in watches)
        values[at] = before


def test_a_row_set_counts_what_is_in_it_though_data_was_changed() -> None:
    """Which nobody may do: but a count that is too small would be written beyond by a kernel."""
    values, rows = np.arange(ROWS), ROWS
    ds = tql.open({"x": values, "y": np.arange(rows) % 3})
    _asked(ds, f"x > {rows - 100_000}", 3)
    values[1:100:2] = rows  # in a zone that cannot hold any, where nothing is compared again
    text = f"(select * where x > {rows - 100_000} and y == 1) union all (select * where y == 0)"
    plan = ask(ds.source, text).bound.plan
    conditions = [p.predicate for p in walk_plan(plan) if isinstance(p, Filter)]
    assert len(conditions) == 2
    found = rows_where(ds.source, conditions, 0, Settings())
    assert isinstance(found[0], Bitmap)
    assert len(found[0]) == int(np.bitwise_count(found[0].words).sum())
