"""The figures of plans: every kind is opened, weighed, told and written down."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import opening, plans
from benchmarks.measure import OURS, Contender, Disagreement, Task, run
from benchmarks.peers import figures, report, weighing
from benchmarks.peers.data import Data
from benchmarks.peers.tasks import PEERS

pytestmark = pytest.mark.usefixtures("little_memory")


@pytest.fixture(scope="module")
def facts() -> list[opening.Fact]:
    """Of a tenth of the fragments that are measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "FRAGMENTS", 1000)
        return list(opening.measure(20_000, 2, large=100_000))


def test_every_kind_of_plan_is_opened_and_weighed(facts: list[opening.Fact]) -> None:
    names = [name for name, _, _ in opening.plans(20_000)]
    what = [fact.what for fact in facts]
    assert len(set(what)) == len(what) and len(set(names)) == len(names) > 12
    for name in names:
        assert f"open {name}, 0.02 M rows" in what
        assert f"arrays of a plan {name}, 0.02 M rows" in what
        assert f"peak while it is opened: {name}" in what
    for fact in facts:
        assert 0 <= fact.best <= fact.middle <= fact.worst
        assert fact.goal is not None or fact.met is None
    held = {f.what: f for f in facts if f.unit == "bytes"}
    assert held["arrays of a plan shuffled, 0.02 M rows"].worst == 0
    assert held["arrays of a plan weighted by row, 0.02 M rows"].worst == 8 * 20_000
    states = [f for f in facts if f.what.startswith("state")]
    assert [f.met for f in states] == [True] and 50 < states[0].worst <= 128
    assert sum(f.what.startswith("peak of making and opening") for f in facts) == 6


def test_a_plan_over_many_rows_takes_no_memory_for_each(facts: list[opening.Fact]) -> None:
    """Fragments and cells take a few numbers each, and 100,000 rows of one that is looked up 20 MB."""
    large = {
        f.what: f.worst for f in opening.measure(1000, 1) if f.what.startswith("peak of making")
    }
    assert len(large) == 6
    for what, worst in large.items():
        assert "10^9 rows" in what
        assert worst < 64 * opening.FRAGMENTS * opening.CLASSES + (20 << 20)


def test_goals_that_are_missed_are_told() -> None:
    slow = opening.Fact("open slowly", "s", 0.01, 0.06, 0.07, 0.05)
    bare = opening.Fact("open", "s", 0.01, 0.02, 0.07, None, "a pass")
    large = opening.Fact("arrays", "bytes", 10, 10, 10, 9.0)
    text = opening.table([slow, bare, large])
    assert "| open slowly | 10.00 ms | 60.00 ms | 70.00 ms | 50 ms NOT met |" in text
    assert "| open | 10.00 ms | 20.00 ms | 70.00 ms | a pass |" in text
    assert "| arrays | 10 | 9 NOT met |" in text


def test_a_run_goes_into_the_file_of_figures_and_is_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    common = ["--rows", "3000", "--large", "5000", "--repeats", "1", "--seconds", "0"]
    common += ["--data", str(tmp_path), "--json", str(file)]
    peers = [peer for peer in PEERS if peer.name in ("NumPy", "torch")]
    plans.main([*common, "--only", "permuted", "taken_by_row"], peers=peers)
    first = figures.load(file)
    assert set(first) == {"permuted", "taken_by_row"}
    assert {t.name for t in first["taken_by_row"].found.timings} == {OURS, "NumPy", "torch"}
    plans.main([*common, "--resume", "--only", "permuted", "plans"], peers=peers)
    known = figures.load(file)
    assert set(known) == {"permuted", "taken_by_row", plans.PLANS}
    assert known["permuted"] == first["permuted"]
    told = capsys.readouterr().out
    assert "## Plans" in told
    assert re.search(r"1 in 100 rows without replacement, one weight per row, .*\*\*", told)
    with pytest.raises(SystemExit):
        plans.main([*common, "--only", "colour"], peers=peers)


def test_a_slow_peer_runs_once_and_that_run_counts() -> None:
    runs: list[str] = []

    def work(name: str) -> np.ndarray:
        runs.append(name)
        return np.arange(3)

    task = Task("k", "a task", tuple(Contender(n, lambda n=n: work(n)) for n in (OURS, "theirs")))
    result = run(task, 2, 1.0, slow=-1.0)
    assert sorted(runs) == sorted([OURS, "theirs"])
    assert all(t.runs == 1 and t.best == t.first for t in result.timings)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(5000, tmp_path_factory.mktemp("data"))


def test_draws_that_are_no_successive_draws_are_told_apart(data: Data) -> None:
    """Rows taken in proportion to their weights, as independent draws are, and rows taken twice."""
    of_rows = data.array("score") ** 4
    bins = np.minimum(data.array("score") * 10, 9).astype(np.int64)
    order = np.random.default_rng(0).exponential(size=of_rows.size) / of_rows
    right = np.argsort(order)[:2500]
    weighing.same_inclusion(bins, of_rows, 2500, {OURS: right})
    heaviest = np.argsort(-of_rows)[:2500]
    for wrong in (heaviest, np.append(right[:-1], right[0]), right[:-1]):
        with pytest.raises(Disagreement):
            weighing.same_inclusion(bins, of_rows, 2500, {OURS: wrong})
    chances = weighing.inclusion(of_rows, 2500)
    assert abs(chances.sum() - 2500) < 1e-6 and (chances <= 1).all()


def test_orders_that_are_none_are_told_apart() -> None:
    order = np.random.default_rng(0).permutation(3000)
    weighing.all_rows(3000, {OURS: order})
    for wrong in (np.arange(3000), order[:-1], np.append(order[:-1], order[0])):
        with pytest.raises(Disagreement):
            weighing.all_rows(3000, {OURS: wrong})


def test_a_fact_survives_the_file(facts: list[opening.Fact], tmp_path: Path) -> None:
    part = figures.Part(facts, [], "a machine", {}, "2026-11-21 20:00", 1.0, None)
    figures.save(tmp_path / "f.json", {"plans": part})
    assert figures.load(tmp_path / "f.json") == {"plans": part}
    assert replace(part) == part and "## Plans" in report.whole({"plans": part})
