"""Weights that change at a declared position: the same plan before it, the other one after it."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql import cli
from tql.diagnostics import TqlDataError, TqlPlanError, TqlTypeError
from tql.planner import Windows, changed, make_plan
from tql.rowset import everything
from tql.weights import RowWeights

N = 60
FIRST, SECOND, THIRD = (
    make_plan(everything(N), RowWeights(np.arange(1.0, N + 1) ** k), seed=3) for k in (0, 1, 4)
)
COLUMNS = {"id": np.arange(N), "kind": np.arange(N) % 4}
KINDS = ["max_weight(kind == 1: 9, true: 1)", "max_weight(kind == 2: 9, true: 1)", "kind + 1"]


def wanted(parts: list[tuple[int, int, tql.Plan]], epoch: int) -> list[int]:
    """Position by position, the row of the last plan that has begun."""
    rows = []
    for t in range(N):
        plan = [p for e, at, p in parts if (e, at) <= (epoch, t)][-1]
        rows.append(int(plan.at(np.array([t]), epoch=epoch)[0]))
    return rows


@pytest.mark.parametrize(
    "changes",
    [
        [(0, 20, SECOND)],
        [(2, 0, SECOND)],
        [(1, N, SECOND)],
        [(0, 0, SECOND), (0, 30, THIRD)],
        [(1, 7, SECOND), (1, 8, THIRD)],
        [(0, 7, SECOND), (2, 50, FIRST), (3, 0, THIRD)],
    ],
)
def test_each_position_has_the_row_of_the_plan_in_force(
    changes: list[tuple[int, int, tql.Plan]],
) -> None:
    plan = changed(FIRST, changes)
    assert len(plan) == N
    for epoch in range(5):
        rows = wanted([(0, 0, FIRST), *changes], epoch)
        assert plan.ids(epoch).tolist() == rows
        assert plan.draw(13, 41, epoch=epoch).tolist() == rows[13:41]
        mixed = np.random.default_rng(1).permutation(N)
        assert plan.at(mixed, epoch=epoch).tolist() == [rows[t] for t in mixed]
        streams = [plan.stream(epoch, r, 3, batch_size=4) for r in range(3)]
        batches = [s.batch(i).rows for i in range(5) for s in streams]
        assert np.concatenate(batches).tolist() == rows
        assert list(plan.batch_sampler(N, offset=0)) == [wanted([(0, 0, FIRST), *changes], 0)]
    again = pickle.loads(pickle.dumps(plan))
    assert (again.fingerprint, again.ids(1).tolist()) == (plan.fingerprint, plan.ids(1).tolist())
    assert plan.nbytes >= FIRST.nbytes + SECOND.nbytes


def test_samples_are_told_apart_and_those_before_the_change_stay_what_they_were() -> None:
    by_quota = [
        make_plan(everything(N), RowWeights(w), seed=3, mix="epoch", size=3 * N)
        for w in (np.arange(1.0, N + 1), np.arange(N, 0.0, -1))
    ]
    for first, second in ((FIRST, SECOND), by_quota):
        plan = changed(first, [(1, 40, second)])
        for epoch in (0, 1, 2):
            rows, copies, seeds = plan.locate(0, len(plan), epoch)
            assert len(set(zip(rows.tolist(), copies.tolist()))) == len(plan)
            assert len(set(seeds.tolist())) == len(plan)
            stop = {0: len(plan), 1: 40, 2: 0}[epoch]
            before = first.locate(0, stop, epoch)
            assert all(np.array_equal(a[:stop], b) for a, b in zip((rows, copies, seeds), before))
        assert plan.copies(np.arange(len(plan)), 2).tolist() == second.copies(
            np.arange(len(plan)), 2
        ).tolist()  # fmt: skip
        at = np.array([3, 39, 40, 50])
        tries = np.zeros(4, np.int64)
        found = plan.substitutes(at, tries, 1)
        assert found[:2].tolist() == first.substitutes(at, tries, 1)[:2].tolist()
        assert found[2:].tolist() == second.substitutes(at, tries, 1)[2:].tolist()


def test_whatever_changes_a_change_changes_the_fingerprint() -> None:
    plans = [
        FIRST,
        SECOND,
        changed(FIRST, [(0, 20, SECOND)]),
        changed(FIRST, [(0, 21, SECOND)]),
        changed(FIRST, [(1, 20, SECOND)]),
        changed(FIRST, [(0, 20, THIRD)]),
        changed(SECOND, [(0, 20, FIRST)]),
        changed(FIRST, [(0, 20, SECOND), (0, 30, THIRD)]),
    ]
    assert len({p.fingerprint for p in plans}) == len(plans)
    assert changed(FIRST, [(0, 20, SECOND)]).fingerprint == plans[2].fingerprint
    assert "other weights from position 20 of epoch 0" in repr(plans[2])


@pytest.mark.parametrize(
    "changes",
    [
        [(0, N + 1, SECOND)],
        [(0, -1, SECOND)],
        [(-1, 0, SECOND)],
        [(0, 20, SECOND), (0, 20, THIRD)],
        [(1, 0, SECOND), (0, 20, THIRD)],
        [(0, 20, make_plan(everything(N), size=7))],
        [(0, 20, changed(FIRST, [(0, 1, SECOND)]))],
    ],
)
def test_impossible_changes_are_refused(changes: list[tuple[int, int, tql.Plan]]) -> None:
    with pytest.raises(TqlPlanError):
        changed(FIRST, changes)


def test_states_from_before_a_change_fit_and_others_do_not() -> None:
    once = changed(FIRST, [(1, 20, SECOND)])
    twice = changed(FIRST, [(1, 20, SECOND), (2, 0, THIRD)])

    def state(plan: tql.Plan, epoch: int, position: int) -> dict[str, Any]:
        return {**plan.stream().state_dict(), "epoch": epoch, "position": position}

    fits = [(FIRST, 0, N), (FIRST, 1, 20), (once, 1, 21), (once, 1, N), (once, 2, 0), (twice, 3, 5)]
    for plan, epoch, position in fits:
        for target in (twice.stream(), twice.sampler(), iter(twice.sampler())):
            target.load_state_dict(json.loads(json.dumps(state(plan, epoch, position))))
            assert target.state_dict() == state(twice, epoch, position)
    for plan, epoch, position in [(FIRST, 1, 21), (FIRST, 2, 0), (once, 2, 1), (SECOND, 0, 0)]:
        for target in (twice.stream(), twice.sampler(), iter(twice.sampler())):
            with pytest.raises(TqlPlanError, match="another plan"):
                target.load_state_dict(state(plan, epoch, position))
    with pytest.raises(TqlPlanError, match="another plan"):
        once.stream().load_state_dict(state(twice, 0, 0))


# -- in a chain --------------------------------------------------------------------------------


def chain(weights: Any = KINDS[0], **options: Any) -> tql.DataLoader:
    ds = tql.open(COLUMNS).query("select * where id > 3")
    return ds.dataloader(seed=5).sample_by(weights, size=100, **options).shuffle().batch(7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mix": "epoch"},
        {"mix": "epoch", "resample": "once"},
        {"replace": False, "mix": "epoch"},
    ],
)
def test_a_chain_goes_on_with_other_weights(options: dict[str, Any]) -> None:
    plain = [chain(w, **options).plan for w in KINDS]
    plan = chain(**options).reweight(KINDS[1], position=35).plan
    plan2 = chain(**options).reweight(KINDS[1], position=35).reweight(KINDS[2], epoch=1, position=0)
    size = len(plain[0])
    assert plan.ids().tolist() == [*plain[0].draw(0, 35), *plain[1].draw(35, size)]
    assert plan.ids(2).tolist() == plain[1].ids(2).tolist()
    assert plan2.plan.ids().tolist() == plan.ids().tolist()
    assert plan2.plan.ids(1).tolist() == plain[2].ids(1).tolist()


def test_a_run_goes_on_with_weights_that_it_did_not_know() -> None:
    plain = chain().numpy()
    iterator = iter(plain)
    begun = [next(iterator)["index"].tolist() for _ in range(3)]
    state = plain.state_dict()
    for threads in (1, 4):
        loader = chain().reweight(KINDS[1], position=21).numpy(num_threads=threads)
        loader.load_state_dict(state)
        rest = [b["index"].tolist() for b in loader]
        rows = [r for b in begun + rest for r in b]
        assert rows == [*plain.plan.draw(0, 21), *chain(KINDS[1]).plan.draw(21, 100)]
        assert loader.state_dict()["epoch"] == 1
    late = chain().reweight(KINDS[1], position=14).numpy()
    with pytest.raises(TqlPlanError, match="another plan"):
        late.load_state_dict(state)


def test_windows_are_those_of_the_first_weights(tmp_path: Path) -> None:
    table = pa.table({"id": np.arange(4000), "kind": np.arange(4000) // 1000})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=50)
    ds = tql.open(tmp_path / "d.parquet", class_names={"kind": list("abcd")})
    made = ds.dataloader(seed=5).sample_by("kind + 1", mix="epoch").shuffle(vif=1.5).batch(50)
    loader = made.reweight("kind * kind + 1", position=2000)
    first, second = (change.plan for change in loader.plan.changes)
    assert isinstance(first, tql.Plan) and isinstance(second, tql.Plan)
    assert first.windows is not None and first.windows == second.windows
    assert first.fingerprint == made.plan.fingerprint
    assert loader.plan.ids().tolist() == [*first.draw(0, 2000), *second.draw(2000, 4000)]
    loader.plan.save(tmp_path / "p")
    again = tql.load_plan(tmp_path / "p", ds)
    assert again.ids(0).tolist() == loader.plan.ids(0).tolist()


def test_plans_in_windows_and_lanes_follow_each_other() -> None:
    edges = np.array([0, 20, 40, N])
    first, second = (
        make_plan(everything(N), RowWeights(w), mix="epoch", shuffle=True, edges=edges, windows=Windows(9, 3))
        for w in (np.arange(1.0, N + 1), np.arange(N, 0.0, -1))
    )  # fmt: skip
    plan = changed(first, [(0, 30, second)])
    assert plan.lanes == 3 and plan.draw_line(1).draws == second.draw_line(1).draws
    streams = [plan.stream(0, r, 3, batch_size=4) for r in range(3)]
    found = [sorted(np.concatenate([s.batch(i).rows for s in streams])) for i in range(5)]
    rows = [*first.ids().tolist()[:30], *second.ids().tolist()[30:]]
    assert found == [sorted(rows[i : i + 12]) for i in range(0, N, 12)]


def test_parts_that_are_cut_otherwise_are_refused() -> None:
    heavy = RowWeights(np.arange(1.0, N + 1))
    with pytest.raises(TqlPlanError, match="other lanes or batches"):
        changed(
            make_plan(everything(N), heavy, mix="batch", block=10),
            [(0, 10, make_plan(everything(N), heavy, mix="epoch"))],
        )


def test_batches_by_quota_change_between_batches() -> None:
    ds = tql.open({"id": np.arange(100), "rare": np.arange(100) % 10 == 0})
    made = ds.dataloader(seed=3).sample_by("max_weight(rare: 9, true: 1)", mix="batch").batch(20)
    loader = made.reweight("max_weight(rare: 81, true: 1)", position=40).numpy()
    assert [int(np.count_nonzero(b["rare"])) for b in loader] == [10, 10, 18, 18, 18]
    with pytest.raises(TqlPlanError, match="within a batch of 20"):
        len(made.reweight("rare", position=30).numpy())


def test_such_a_plan_is_saved_shown_and_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ds = tql.open(COLUMNS)
    array = np.arange(56.0)
    loader = chain().reweight(KINDS[1], position=35).reweight(array, epoch=2, position=0)
    file = tmp_path / "p.json"
    loader.plan.save(file)
    again = tql.load_plan(file, ds, weights=array)
    assert again.fingerprint == loader.plan.fingerprint
    assert [again.ids(e).tolist() for e in range(4)] == [loader.plan.ids(e).tolist() for e in range(4)]  # fmt: skip
    with pytest.raises(TqlPlanError, match=r"changes\.1\.weights\.digest"):
        tql.load_plan(file, ds, weights=array[::-1])
    with pytest.raises(TqlTypeError, match="1 array of weights"):
        tql.load_plan(file, ds)
    with pytest.raises(TqlDataError):
        tql.load_plan(file, {**COLUMNS, "kind": np.arange(N) % 3}, weights=array)
    assert cli.perform(["plan", "show", str(file)]) == 0
    told = capsys.readouterr().out
    assert f"then     from position 35 of epoch 0: sample by {KINDS[1]}" in told
    assert "then     from position 0 of epoch 2: sample by array" in told


def test_explain_tells_when_weights_change() -> None:
    told = str(chain().reweight(KINDS[1], epoch=1, position=1000 // 25).explain())
    assert f"from position 40 of epoch 1 on: weight {KINDS[1]}" in told


def test_changes_without_weights_before_them_or_in_the_middle_are_refused() -> None:
    ds = tql.open(COLUMNS)
    with pytest.raises(TqlTypeError, match="without weights before it"):
        ds.dataloader().reweight("kind", position=3)
    with pytest.raises(TqlTypeError, match=r"after \.reweight"):
        len(chain(resample="once").reweight("kind", position=3).sample_by("id").numpy())
    with pytest.raises(TqlTypeError, match=r"after \.reweight"):
        len(chain(resample="once").reweight("kind", position=3).query("select *").numpy())
    for wrong in (-1, 101):
        with pytest.raises(TqlPlanError):
            len(chain().reweight("kind", position=wrong).numpy())
    with pytest.raises(TqlTypeError):
        chain().reweight("kind", position=2.5)  # type: ignore[arg-type]
    with pytest.raises(TqlPlanError, match="a change keeps the length"):
        chain(replace=False).reweight("max_weight(kind == 1: 1)", position=3).plan.ids()
