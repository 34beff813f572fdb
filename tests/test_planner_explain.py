"""What a plan says of itself comes true."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

import tql
from tql.planner import Plan, Windows, make_plan
from tql.rowset import everything, from_mask
from tql.weights import ClassWeights, RowWeights

N = 3000
KINDS: NDArray[np.int64] = np.resize(np.arange(3), N)
MEMBERS = tuple(from_mask(np.isin(KINDS, k)) for k in range(3))
EDGES = np.arange(0, N + 1, 100)


def weighted(**options: object) -> Plan:
    weights = ClassWeights(np.array([1.0, 2.0, 5.0]), MEMBERS)
    return make_plan(everything(N), weights, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mix", ["iid", "epoch"])
@pytest.mark.parametrize("replace", [True, False])
def test_the_draws_of_each_weight_are_those_expected(mix: str, replace: bool) -> None:
    plan = weighted(mix=mix, replace=replace, size=1200, shuffle=True)
    told = plan.explain()
    assert [(g.weight, g.rows) for g in told.groups] == [(5.0, 1000), (2.0, 1000), (1.0, 1000)]
    assert sum(g.draws for g in told.groups) == pytest.approx(1200)
    drawn = np.array([np.bincount(KINDS[plan.ids(e)], minlength=3)[::-1] for e in range(40)])
    expected = [g.draws for g in told.groups]
    if mix == "epoch":
        assert (np.abs(drawn - expected) < 1 + 1e-9).all()
    # 40 epochs: the mean of a count of variance below 300 is within 4 x 2.8 but once in 10,000
    assert np.abs(drawn.mean(axis=0) - expected).max() < 11
    assert told.approximate == (mix == "iid" and not replace)


def test_reads_in_windows_are_those_of_a_walk_over_the_rows() -> None:
    plan = weighted(mix="epoch", shuffle=True, edges=EDGES, windows=Windows(400, lanes=2))
    told = plan.explain().windows
    assert told is not None
    fragments = plan.ids() // 100
    reads, live = 0, 0
    windows: list[set[int]] = []
    for lane in range(2):
        mine = fragments[lane::2]
        before: set[int] = set()
        for k, start in enumerate(range(0, mine.size, 400)):
            now = set(mine[start : start + 400].tolist())
            reads += len(now - before)
            before = now
            if k == len(windows):
                windows.append(set())
            windows[k] |= now
    live = max(map(len, windows))
    assert (told.length, told.lanes, told.fragments) == (400, 2, 30)
    assert told.live == live
    assert told.reads == reads


def test_it_reads_well_and_is_json_for_programs() -> None:
    plan = weighted(shuffle=True, seed=7, offset=10)
    text = str(plan.explain())
    assert text.splitlines()[:2] == [
        f"plan     {plan.short}, order v1",
        "epoch    3,000 draws of 3,000 rows; the first begins at position 10",
    ]
    assert text.splitlines()[-1].split() == ["1", "1,000", "375.0", "12.50%", "0.38"]
    assert json.loads(json.dumps(plan.explain().to_dict()))["groups"][0]["draws"] == 1875.0


def test_plans_of_other_kinds_say_what_they_are() -> None:
    rows = make_plan(everything(10), RowWeights(np.arange(10.0)), replace=False)
    assert rows.explain().groups == ()
    assert rows.explain().nbytes == 80
    empty = make_plan(everything(0)).explain()
    assert (empty.draws, empty.rows, empty.windows) == (0, 0, None)
    many = ClassWeights(
        np.arange(1.0, 31.0), tuple(from_mask(np.arange(30) == k) for k in range(30))
    )
    assert "10 others" in str(make_plan(everything(30), many).explain())


def test_notes_are_told() -> None:
    data = tql.open({"x": np.arange(10)})
    plan = data.dataloader().sample_by("x", replace=False, size=50).plan
    assert "note     without replacement only 9 rows can be drawn" in str(plan.explain())
