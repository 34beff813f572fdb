"""The measuring of steps: they add up to the run, each is bounded by something alone in the same run."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import limits, profiles
from benchmarks.measure import OURS, Contender, Task, run
from benchmarks.peers import __main__ as command_line
from benchmarks.peers import figures, report
from benchmarks.peers.data import Data
from benchmarks.peers.figures import Part
from benchmarks.peers.tasks import keys, tasks
from benchmarks.profiles import KERNEL, TASKS, Profile, Yardstick
from benchmarks.steps import REST, Point, Span, Watch, shares

pytestmark = pytest.mark.usefixtures("little_memory")

ROWS = 20_000


def span(step: str, start: float, stop: float, thread: int = 1) -> Span:
    return Span(step, thread, start, stop)


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        ([], {REST: 10.0}),
        ([span("a", 2, 5)], {"a": 3.0, REST: 7.0}),
        # The innermost counts, the outer one before, between and after.
        ([span("b", 3, 4), span("c", 5, 6), span("a", 2, 8)],
         {"a": 4.0, "b": 1.0, "c": 1.0, REST: 4.0}),
        ([span("a", 3, 4), span("b", 3, 4), span("c", 4, 6)], {"b": 1.0, "a": 0.0, "c": 2.0, REST: 7.0}),
        # Two threads at once share the time; one alone has it all.
        ([span("a", 2, 6), span("b", 4, 8, 2)], {"a": 3.0, "b": 3.0, REST: 4.0}),
        ([span("a", 2, 6), span("a", 2, 6, 2)], {"a": 4.0, REST: 6.0}),
        # What began before or ended after counts with its part.
        ([span("a", -5, 1), span("b", 9, 20)], {"a": 1.0, "b": 1.0, REST: 8.0}),
    ],
)  # fmt: skip
def test_steps_and_the_rest_add_up_to_the_run(
    spans: list[Span], found: Mapping[str, float]
) -> None:
    given = shares(spans, 0.0, 10.0)
    assert {k: v for k, v in given.items() if v} == {k: v for k, v in found.items() if v}
    assert sum(given.values()) == pytest.approx(10.0)


def test_calls_are_noted_on_the_thread_that_made_them_and_no_longer_than_asked() -> None:
    def fail() -> None:
        raise OSError("it failed")

    owner = SimpleNamespace(work=lambda seconds: time.sleep(seconds), fail=fail)
    before = owner.work, owner.fail
    watch = Watch()
    points = [Point(owner, "work", lambda seconds: "long" if seconds else None),
              Point(owner, "fail", "failing")]  # fmt: skip
    with watch.on(points):
        helper = threading.Thread(target=lambda: owner.work(0.001))
        helper.start()
        helper.join()
        owner.work(0)
        with pytest.raises(OSError, match="it failed"):
            owner.fail()
    assert (owner.work, owner.fail) == before
    assert [s.step for s in watch.spans] == ["long", "failing"]
    long, failing = watch.spans
    assert long.stop - long.start >= 0.001
    assert failing.thread == threading.get_ident() != long.thread


def test_a_step_whose_function_is_gone_stops_the_run() -> None:
    with pytest.raises(AttributeError), Watch().on([Point(profiles, "gone", "step")]):
        pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(ROWS, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def ours(data: Data) -> dict[str, Profile]:
    return {p.key: p for p in profiles.measure(data, [], 1, 0)}


def test_every_task_with_a_goal_that_is_not_met_is_one_of_the_measured(data: Data) -> None:
    assert set(TASKS) <= set(keys(data))


@pytest.mark.parametrize("key", TASKS)
def test_the_steps_of_a_task_are_seen_and_bounded(key: str, ours: dict[str, Profile]) -> None:
    p = ours[key]
    assert sum(p.step_seconds) == pytest.approx(p.watched)
    assert all(s >= 0 for s in p.step_seconds)
    assert REST in p.steps
    wanted = {
        "parquet_range": {profiles.OPEN, profiles.STATISTICS, profiles.DECODE},
        "parquet_number": {profiles.OPEN, profiles.DECODE, profiles.ROWS},
        "parquet_text": {profiles.OPEN, profiles.DECODE, profiles.ROWS},
        "draws_by_row": {profiles.WEIGHTS, profiles.PLAN},
    }.get(key, {profiles.FRONT, profiles.DECODE, profiles.ROWS})
    assert wanted <= set(p.steps)
    assert p.floor > 0
    assert all(seconds > 0 for seconds in p.bound_seconds)
    bounded = {name.split(": ")[0] for name in p.bounds}
    assert bounded & set(p.steps), "what bounds the task bounds a step that it has"


def test_bytes_are_those_that_the_condition_reads(ours: dict[str, Profile]) -> None:
    def read(key: str) -> set[int | None]:
        return {nbytes for _, _, nbytes in ours[key].bounding(KERNEL)}

    assert read("labels_not") == read("kind_is") == {4 * ROWS}
    assert read("label_and_score") == {12 * ROWS}
    assert read("text_is") == {ROWS}
    (decoded,) = read("parquet_number")
    assert decoded is not None and 4 * ROWS <= decoded <= 4 * ROWS + ROWS // 8


def profile(**changes: Any) -> Profile:
    made = {
        "key": "k", "task": "a task", "seconds": 0.004, "watched": 0.005,
        "steps": (KERNEL, "front", REST), "step_seconds": (0.003, 0.001, 0.001),
        "bounds": (f"{KERNEL}: copy", f"{KERNEL}: sum"), "bound_seconds": (0.004, 0.002),
        "bound_bytes": (40_000_000, 40_000_000), "peers": ("A", "B", "C"),
        "peer_seconds": (0.016, 0.016, 0.016), "may_take": (0.004, 0.0039, 0.0019),
    }  # fmt: skip
    return Profile(**{**made, **changes})


def test_the_quickest_bound_says_whether_a_step_is_at_its_limit() -> None:
    text = profiles.table([profile()])
    lines = [line for line in text.splitlines() if line.startswith(("| a task", "| `k`"))]
    assert lines[0] == (
        "| a task | 4.00 | 5.00 | 2.00 | A 16.00: 4.00, met; B 16.00: 3.90, **not met**; "
        "C 16.00: 1.90, **not met**, below the bounds |"
    )
    assert lines[1] == (
        f"| `k` | {KERNEL} | 3.00 | 60% | 13.3 | copy: 10.0 GB/s; sum: 20.0 GB/s "
        "| at its limit: 67% |"
    )
    assert lines[2] == "| `k` | front | 1.00 | 20% |  |  | not at a limit: our code |"
    slow = profile(steps=(KERNEL,), step_seconds=(0.005,))
    assert "| not at a limit: 40% |" in profiles.table([slow])
    other = profile(bound_bytes=(None, None))
    assert "| copy: 4.00 ms; sum: 2.00 ms |" in profiles.table([other])


def test_what_a_goal_allows_follows_its_peer_or_the_decoder(ours: dict[str, Profile]) -> None:
    quick = Contender("Polars", lambda: time.sleep(0.001), None)
    slow = Contender("pyarrow, decoding alone", lambda: time.sleep(0.02), None)
    mine = Contender(OURS, lambda: [1])
    task = Task("k", "a task", (mine, quick), goals={"Polars": 4})
    alone = run(task, 3, 0)
    assert profiles._may(alone, "Polars") == alone.of("Polars").best / 4
    both = run(Task("k", "a task", (mine, quick, slow), goals={"Polars": 4}), 3, 0)
    assert profiles._may(both, "Polars") == both.of(slow.name).best / 0.9


def test_peers_without_a_goal_are_left_out_and_answers_are_compared(data: Data) -> None:
    (task,) = tasks(data, [], ["labels_not"])
    stick = Yardstick(KERNEL, "nothing", lambda: None)
    liar = Contender("Polars", lambda: [0])
    others = (*task.contenders, Contender("torch", lambda: 1 / 0, None))
    found = profiles.profile(Task(task.key, task.name, others, {}, task.goals), [stick], 1, 0)
    assert found.peers == ()
    with pytest.raises(Exception, match="Polars gives 1 rows"):
        lying = Task(task.key, task.name, (*task.contenders, liar), {}, task.goals)
        profiles.profile(lying, [stick], 1, 0)


def test_the_command_keeps_other_figures_and_writes_the_page(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, page = tmp_path / "figures.json", tmp_path / "page.md"
    monkeypatch.setattr(command_line, "PAGE", page)
    common = ["--rows", str(ROWS), "--repeats", "1", "--seconds", "0",
              "--data", str(data.folder), "--json", str(file)]  # fmt: skip
    before = [profile(key="labels_not"), profile(key="kind_is")]
    figures.save(file, {"limits": Part(before, [], "a machine", {}, "2026-11-21", 1.0, None)})
    limits.main([*common, "--only", "labels_not", "--readme"], peers=[])
    known = figures.load(file)
    new, old = known["limits"].found
    assert (new.key, old) == ("labels_not", profile(key="kind_is")) and new.task != "a task"
    printed = capsys.readouterr().out
    assert "| `labels_not` |" in printed and "| `kind_is` |" not in printed
    assert "## Where the time goes, and the limits" in report.whole(known)
    assert page.read_text("utf-8") == f"{report.HEAD}\n\n{report.whole(known)}\n"
    with pytest.raises(SystemExit):
        limits.main([*common, "--only", "colour"], peers=[])
