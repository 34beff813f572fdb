"""The measuring: answers are compared, whoever is missing is named, figures and table agree."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import benchmarks.peers.__main__ as command_line
from benchmarks import bandwidth, calls, kernels, neighbours, parsing, scaling, startup
from benchmarks.measure import (
    FLOOR,
    LEAST_RUNS,
    OURS,
    Contender,
    Disagreement,
    Result,
    Task,
    Timing,
    run,
    same_rows,
)
from benchmarks.parsing import Read
from benchmarks.peers import figures, report
from benchmarks.peers.__main__ import END, START, main, with_table
from benchmarks.peers.data import Data
from benchmarks.peers.figures import Part
from benchmarks.peers.readme import short_table
from benchmarks.peers.report import times
from benchmarks.peers.tasks import NOT_INSTALLED, PEERS, Peer, keys, tasks
from benchmarks.peers.with_tqlkit import ANEW, AS_IDS
from tql import queries
from tql.language.bind import bind

pytestmark = pytest.mark.usefixtures("little_memory")

ROWS = 20_000
MISSING = Peer("Deep Lake 4", "a_package_that_nobody_has", "with_deep_lake")
KEYS = keys(Data(20, Path()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(ROWS, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def ours(data: Data) -> dict[str, Task]:
    """Every task, with nobody but ours."""
    return {task.key: task for task in tasks(data, peers=())}


def ran(
    data: Data, capsys: pytest.CaptureFixture[str], file: Path, *only: str
) -> tuple[list[dict[str, Any]], str]:
    """What the command writes as JSON of the tasks, and what it prints."""
    main(
        ["--rows", str(ROWS), "--repeats", "1", "--seconds", "0", "--data", str(data.folder),
         "--json", str(file), "--only", *only],
        peers=[*PEERS[:-1], MISSING],
    )  # fmt: skip
    content = json.loads(file.read_text("utf-8"))
    return [part["found"] for part in content["parts"].values()], capsys.readouterr().out


def test_every_peer_gives_the_answers_of_ours_and_who_is_missing_is_named(
    data: Data, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found, text = ran(data, capsys, tmp_path / "figures.json", *KEYS)
    assert [task["key"] for task in found] == KEYS
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    for task, line in zip(found, lines[1:], strict=False):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert cells[0].removeprefix("| ") == task["task"]
        assert cells[8].startswith("missing")
        assert task["absent"][MISSING.name] == NOT_INSTALLED
        timings = {t["name"]: t for t in task["timings"]}
        assert timings[OURS]["runs"] >= 1
        assert cells[1] == times(Timing(**timings[OURS]))
        for peer, cell in zip(PEERS, cells[3:8], strict=False):
            if peer.name in timings:
                assert cell.startswith(times(Timing(**timings[peer.name])))
                ratio = timings[peer.name]["best"] / timings[OURS]["best"]
                assert task["derived"]["ratios"][peer.name] == ratio
                if peer.name in task["goals"]:
                    assert ("NOT met" in cell) is not task["derived"]["met"][peer.name]
            else:
                assert cell == task["absent"][peer.name].split(":")[0]
    engines = {t["name"] for t in found[0]["timings"]}
    assert engines >= {OURS, "Polars", "DuckDB", "NumPy", "pyarrow", "torch"}


@pytest.mark.parametrize("key", KEYS)
def test_a_contender_with_another_answer_stops_the_run_before_it_is_timed(
    key: str, ours: dict[str, Task]
) -> None:
    task = ours[key]
    honest = next(c for c in task.contenders if c.name == OURS)
    called = []

    def lie() -> Any:
        called.append(key)
        assert honest.rows is not None
        answer = np.array(honest.rows(honest.work()))
        answer[: len(answer) // 2 + 1] = answer[-1] + 1  # a row too many, a weight too much
        return answer % ROWS if key.startswith("draws") else answer

    with pytest.raises(Disagreement, match="liar"):
        run(replace(task, contenders=(*task.contenders, Contender("liar", lie))), 3, 1.0)
    assert called == [key]


def test_a_row_left_out_is_another_answer(ours: dict[str, Task]) -> None:
    def most() -> Any:
        found = ours["labels_not"].contenders[0]
        assert found.rows is not None
        return found.rows(found.work())[:-1]

    contenders = (*ours["labels_not"].contenders, Contender("liar", most))
    with pytest.raises(Disagreement, match="liar gives"):
        run(replace(ours["labels_not"], contenders=contenders), 3, 1.0)


def fail(problem: Exception) -> Callable[[], Any]:
    def work() -> Any:
        raise problem

    return work


def nothing() -> Any:
    return np.arange(3)


def test_who_refuses_is_listed_in_its_own_words_and_other_failures_are_not_hidden() -> None:
    refusing = Contender("theirs", fail(KeyError("no such thing")), refuses=(KeyError,))
    result = run(Task("k", "a task", (Contender(OURS, nothing), refusing)), 1, 0)
    assert result.absent == {"theirs": "cannot: 'no such thing'"}
    assert [t.name for t in result.timings] == [OURS]
    failing = Contender("theirs", fail(ValueError("a slip of ours")), refuses=(KeyError,))
    with pytest.raises(ValueError, match="a slip of ours"):
        run(Task("k", "a task", (Contender(OURS, nothing), failing)), 1, 0)


def test_contenders_take_turns_and_a_slow_one_drops_out() -> None:
    order: list[str] = []

    def note(name: str) -> Callable[[], Any]:
        def work() -> Any:
            order.append(name)
            return nothing()

        return work

    names = (OURS, "a", "b")
    run(Task("k", "a task", tuple(Contender(n, note(n)) for n in names)), 9, 60.0)
    rounds = [tuple(order[k : k + 3]) for k in range(0, len(order), 3)]
    assert len(rounds) == 10
    assert all(sorted(r) == sorted(names) for r in rounds)
    assert len(set(rounds)) > 3, "nobody always comes after the same one"
    result = run(Task("k", "a task", (Contender(OURS, nothing),)), 9, 0.0)
    assert result.ours.runs == LEAST_RUNS


def result(times: dict[str, float], goals: dict[str, float]) -> Result:
    timings = tuple(Timing(name, 1.0, best, best, 3) for name, best in times.items())
    return Result("k", "a task", timings, {}, goals, 1000)


def test_a_goal_is_met_by_the_best_runs() -> None:
    found = result({OURS: 2.0, "Polars": 6.0, "DuckDB": 6.0}, {"Polars": 3, "DuckDB": 3.1, "x": 1})
    assert [found.met(name) for name in ("Polars", "DuckDB", "x", OURS)] == [
        True,
        False,
        None,
        None,
    ]
    assert found.bandwidth == 500.0


@pytest.mark.parametrize(
    ("floor", "by_floor", "met"),
    [(9.0, True, True), (8.9, True, False), (5.0, False, False)],
)
def test_where_decoding_alone_is_slower_than_polars_decoding_is_what_counts(
    floor: float, by_floor: bool, met: bool
) -> None:
    found = result({OURS: 10.0, "Polars": 6.0, "DuckDB": 6.0, FLOOR: floor},
                   {"Polars": 1, "DuckDB": 1, FLOOR: 0.9})  # fmt: skip
    assert found.by_floor("Polars") is by_floor
    assert found.met("Polars") is met
    assert found.met(FLOOR) is (floor == 9.0)
    assert not found.by_floor("DuckDB")
    assert found.met("DuckDB") is False


def test_the_better_of_two_measurements_of_memory_counts() -> None:
    one = [bandwidth.Bandwidth("copy", 1, 5.0), bandwidth.Bandwidth("sum", 1, 2.0)]
    other = [bandwidth.Bandwidth("copy", 1, 4.0), bandwidth.Bandwidth("sum", 1, 7.0)]
    best = bandwidth.best_of(one, other)
    assert [b.bytes_per_second for b in best] == [5.0, 7.0]
    assert bandwidth.fastest(best).name == "sum"


def part(found: Any, others: float | None = 0.25, where: str = "one machine") -> Part:
    return Part(found, MEMORY, where, {OURS: 2}, "2026-11-21 17:40", 60.0, others)


MEMORY = bandwidth.measure(1, 1 << 16)


@pytest.fixture(scope="module")
def parts(data: Data, ours: dict[str, Task]) -> dict[str, Part]:
    """One of each kind."""
    return {
        "labels_not": part(run(ours["labels_not"], 1, 0)),
        "range": part(run(ours["range"], 1, 0)),
        "calls": part(calls.measure(1, data.arrow, ["labels != 5"])),
        "starts": part(startup.measure(1, 1_000, data.parquet)),
        "texts": part([Read("a text", 0.001, 0.002, 0.003)]),
        "scaling": part([scaling.Line("work", 1, (1, 10), (1.0, 10.5), 0.0, 1.0, 0.1)]),
        "kernels": part([kernels.Measured("x > 1", 10, 0.9, 0.25, 40, 7)]),
    }


def test_a_report_shows_every_part(parts: dict[str, Part]) -> None:
    assert {(b.name, b.threads) for b in MEMORY} == {
        (name, threads) for name in ("copy", "sum", "maximum") for threads in (1, 2)
    }
    assert [c.cache for c in parts["calls"].found] == ["empty", "compiled"]
    text = report.whole(parts)
    for name in ("labels_not", "range"):
        assert f"| {parts[name].found.task} |" in text
    for cold in parts["starts"].found:
        assert f"| {cold.name} |" in text
    for calls_ in parts["calls"].found:
        figures = " | ".join(f"{s * 1e3:,.2f}" for s in calls_.seconds)
        assert f"| `labels != 5` | {calls_.cache} | {figures} |" in text
    lines = {line.split(" |")[0]: line for line in text.splitlines()}
    shares = [lines[f"| {parts[n].found.task}"].split(" | ")[2] for n in ("labels_not", "range")]
    assert shares[0].endswith("%") and shares[1] == "—"  # zone maps spare it the column
    assert f"{ANEW}: " in lines[f"| {parts['range'].found.task}"]
    assert "| a text | 1.00 ms | 2.00 ms | 3.00 ms met |" in text
    assert "| `x > 1` | 0.250 | 16.0 | " in text and "| 7 | 0 | 0 | 0 | 900 ms |" in text
    assert "From 1e-06 M to 1e-05 M rows, 10 times as many, the time grows 10.5 to 10.5" in text
    assert "Measured on one machine. " in text and "7.0 minutes" in text
    assert "0.25 CPUs busy" in text


def test_parts_of_other_machines_are_told_apart(parts: dict[str, Part]) -> None:
    other = {**parts, "texts": part(parts["texts"].found, None, "another machine")}
    told = report.conditions(other)
    assert "(texts) on another machine." in told and "What else ran is not known." in told
    assert "(labels_not, range, calls, starts, scaling, kernels) on one machine." in told


def test_figures_are_the_same_after_a_file(parts: dict[str, Part], tmp_path: Path) -> None:
    file = tmp_path / "folder" / "figures.json"
    assert figures.load(file) == {}
    figures.save(file, parts)
    assert report.whole(figures.load(file)) == report.whole(parts)
    assert figures.load(file) == parts
    raw = json.loads(file.read_text("utf-8"))["parts"]["labels_not"]["found"]
    assert raw["derived"]["ratios"].keys() == {AS_IDS, ANEW}
    file.write_text('{"format": 0}')
    with pytest.raises(ValueError, match="another format"):
        figures.load(file)


def test_the_table_of_the_readme_has_the_best_runs_of_every_task(parts: dict[str, Part]) -> None:
    timings = tuple(Timing(n, 1.0, t, 2 * t, 3)
                    for n, t in {OURS: 0.0032, AS_IDS: 0.0105, "Polars": 0.023}.items())  # fmt: skip
    one = Result("k", "a task", timings, {"DuckDB": NOT_INSTALLED}, {}, None)
    text = short_table({**parts, "labels_not": part(one)})
    (line,) = (line for line in text.splitlines() if line.startswith("| a task"))
    cells = [c.strip() for c in line.strip("|").split("|")]
    assert cells[1:6] == ["3.20", "10.5", "", "23.0 (7.2x)", "missing"]
    assert all(c.name in text for c in parts["starts"].found)
    assert "0.25 CPUs busy" in text and "one machine" in text


def command(data: Data, file: Path, *more: str) -> None:
    main(["--rows", str(ROWS), "--repeats", "1", "--seconds", "0", "--data", str(data.folder),
          "--json", str(file), *more], peers=[])  # fmt: skip


def test_runs_of_parts_go_into_one_file(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, readme, page = (tmp_path / name for name in ("figures.json", "README.md", "page.md"))
    readings = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(parsing, "measure", lambda _: [Read("a text", next(readings), 5.0, None)])
    monkeypatch.setattr(startup, "measure", lambda *_: [startup.Cold("a start", 4.0, 5.0, None)])
    with pytest.raises(SystemExit, match="has no figures"):
        command(data, file, "--show")
    for more in ([], [], ["--resume"]):
        command(data, file, "--only", "texts", *more)
    assert [t.best for t in figures.load(file)["texts"].found] == [2.0]
    command(data, file, "--only", "starts")
    command(data, file, "--only", "labels_not", "texts", "--resume")
    assert list(figures.load(file)) == ["labels_not", "starts", "texts"]
    assert [t.best for t in figures.load(file)["texts"].found] == [2.0]
    readme.write_text(f"{START}{END}")
    monkeypatch.setattr(command_line, "README", readme)
    monkeypatch.setattr(command_line, "PAGE", page)
    capsys.readouterr()
    command(data, file, "--show", "--readme")
    assert capsys.readouterr().out.strip() in page.read_text("utf-8")
    assert short_table(figures.load(file)) in readme.read_text("utf-8")


def test_what_others_do_is_not_what_we_do() -> None:
    if not neighbours._STAT.exists():
        pytest.skip("this system does not say how busy it is")
    with neighbours.watched() as idle:
        pass
    assert idle.cpus is not None
    before = neighbours._own()
    np.sort(np.random.default_rng(0).random(1_000_000))
    assert neighbours._own() > before


def test_what_is_kept_of_open_data_is_measured_without_it_too(ours: dict[str, Task]) -> None:
    """And no share of the memory's speed is claimed for bytes that were not read."""
    filters = {key for key, task in ours.items() if AS_IDS in {c.name for c in task.contenders}}
    anew = {key for key, task in ours.items() if ANEW in {c.name for c in task.contenders}}
    assert anew == filters >= {"text_is", "range", "boxes", "labels_not"}
    keeping = ("text_is", "text_like", "kind_is", "kind_like", "range")
    assert all(ours[key].nbytes is None for key in keeping)
    assert ours["labels_not"].nbytes == 4 * ROWS


def test_each_first_query_has_a_new_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def first(tier: str, rows: int, environment: dict[str, str]) -> float:
        asked.append(environment["TQL_CACHE_DIR"])
        return 1.0 + len(asked)

    monkeypatch.setattr(startup, "_first_query", first)
    monkeypatch.setattr(startup, "_command", lambda arguments, environment: 0.1)
    found = startup.measure(5, 1000, Path("a.parquet"))
    assert len(set(asked)) == 12  # one before the five that count, twice
    assert found[0].goal == startup.OF_REFERENCE * found[1].middle


def test_a_start_meets_its_goal_by_the_median() -> None:
    assert startup.Cold("x", 1.0, 3.0, 2.0).met is False
    assert startup.Cold("x", 1.0, 2.0, 2.0).met is True
    assert startup.Cold("x", 1.0, 2.0, None).met is None


def test_the_table_takes_the_place_between_the_markers() -> None:
    readme = f"above\n{START}\nold\n{END}\nbelow"
    assert with_table(readme, "new") == f"above\n{START}\nnew\n{END}\nbelow"


def test_an_unknown_task_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no part colour; there are: labels_not, .*kernels"):
        main(["--rows", "100", "--data", str(tmp_path), "--only", "colour"])


def test_the_data_are_the_same_each_time_and_their_files_are_kept(tmp_path: Path) -> None:
    one, two = Data(1_000, tmp_path), Data(1_000, tmp_path)
    assert one.table.equals(two.table)
    assert one.boxes.equals(two.boxes)
    assert one.embeddings.equals(two.embeddings)
    written = one.parquet.stat().st_mtime_ns
    assert two.parquet == one.parquet
    assert two.parquet.stat().st_mtime_ns == written
    assert pq.read_metadata(one.sorted_parquet).num_row_groups == 100
    assert pq.read_schema(one.parquet).names == ["labels", "score", "cat", "id"]


def whole(path: Path) -> None:
    path.write_text("whole")


def test_a_file_that_could_not_be_finished_is_not_kept(tmp_path: Path) -> None:
    data = Data(10, tmp_path)

    def half(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk"):
        data.kept("file", half)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    written = data.kept("file", whole)
    assert written.read_text() == "whole"


def test_a_line_is_told_from_a_curve() -> None:
    rows = (1_000, 3_000, 10_000)
    fixed, per_row, deviation = scaling.fit(rows, [1.0 + 2.0 * n for n in rows])
    assert (fixed, per_row) == pytest.approx((1.0, 2.0))
    assert deviation < 1e-9
    *_, curved = scaling.fit(rows, [1e-6 * n * n for n in rows])
    assert curved > scaling.OFF_BY


def lines() -> Iterator[scaling.Line]:
    return scaling.measure(1, 0.0, rows=(1_000, 2_000), percent=(1.0, 50.0), weights=(2, 10))


def test_scaling_measures_every_combination() -> None:
    found = list(lines())
    assert len(found) == 4 * len(scaling.THREADS)
    assert {line.threads for line in found} == set(scaling.THREADS)
    assert all(len(line.seconds) == 2 and min(line.seconds) > 0 for line in found)
    shown = [line for line in scaling.table(found).splitlines() if line.startswith("|")]
    assert len(shown) == 2 + len(found)
    assert all(line.count("|") == shown[0].count("|") for line in shown)


def test_growth_is_of_the_rows_that_are_a_tenth_of_the_most() -> None:
    def line(*seconds: float) -> scaling.Line:
        return scaling.Line("x", 1, (10, 30, 100, 300), seconds, 0.0, 1.0, 0.0)

    told = scaling.growth([line(9, 1, 2, 9), line(9, 2, 2, 8), line(9, 3, 2, 9)])
    assert "10 times as many, the time grows 3.0 to 9.0 times, 4.0 in the middle" in told
    assert "3 of 3 lines" in told


def test_scaling_checks_what_a_filter_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Constant())
    with pytest.raises(AssertionError, match="1,000 of 1,000 rows are not 1 %"):
        next(lines())


class Constant:
    """Random numbers that are not."""

    def random(self, count: int) -> Any:
        return np.zeros(count)


def test_same_rows_ignores_the_order() -> None:
    same_rows({OURS: np.array([2, 1]), "x": np.array([1, 2])})


def test_kernels_are_measured_against_the_bandwidth_of_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TQL_CACHE_DIR", str(tmp_path))
    kernels.main(["i32 == 5 and f64 > 0.9", "--rows", "6400", "--seconds", "0.01"])
    limit, *_, line = capsys.readouterr().out.splitlines()
    assert all(f"{name} " in limit for name in ("copy", "sum", "maximum"))
    name, ns, gigabytes, share, compares, divisions, floats, _, _ = line.strip("| ").split(" | ")
    assert name == "`i32 == 5 and f64 > 0.9`" and share.endswith("%")
    assert float(gigabytes) == pytest.approx(12 / float(ns), rel=0.1)
    assert int(compares) > 0, "both comparisons are vectorised"
    assert (divisions, floats) == ("0", "0")


@pytest.mark.parametrize(
    ("kind", "condition", "slow"),
    [("flat", "i32 % 7 == 3", "divisions"), ("ragged", "sum(tags) > 300", "jumps")],
)
def test_what_takes_one_row_after_the_other_is_counted(
    kind: str, condition: str, slow: str
) -> None:
    def count(kind: str, condition: str) -> int:
        found: int = getattr(kernels._measured(condition, kernels.data(kind, 6400), 0.001), slow)
        return found

    assert count(kind, condition) > count("flat", "i32 != 5")


def test_instructions_are_told_apart() -> None:
    """As LLVM writes them, for x86 and for ARM."""
    code = """
\tidivq\t%rcx
\tdivl\t%r8d
\tvdivpd\t%zmm1, %zmm2, %zmm2
\tvaddsd\t%xmm0, %xmm1, %xmm1
\tvfmadd231sd\t%xmm0, %xmm1, %xmm1
\tvaddpd\t%zmm0, %zmm1, %zmm1
\tjne\t.LBB0_3
\tjmp\t.LBB0_4
\tsdiv\tx0, x1, x2
\tfadd\td0, d1, d2
\tfadd\tv0.2d, v1.2d, v2.2d
\tb.ne\t.LBB0_3
\tb\t.LBB0_4
"""
    kinds = (kernels._DIVISION, kernels._ONE_FLOAT, kernels._JUMP)
    assert [kind.findall(code) for kind in kinds] == [
        ["idivq", "divl", "sdiv"],
        ["vaddsd", "vfmadd231sd", "fadd\td0"],
        ["jne", "b.ne"],
    ]


@pytest.mark.parametrize("condition", ["shape(boxes)[0] > 2", "i32 == 5 and any(boxes[:,2] > 100)"])
def test_no_speed_is_claimed_for_bytes_that_are_not_all_read(condition: str) -> None:
    found = kernels._measured(condition, kernels.data("ragged", 6400), 0.001)
    assert found.bytes_per_second is None
    assert f"| `{condition}` | {found.ns_per_row:.3f} | — | — |" in kernels.table(MEMORY, [found])


@pytest.mark.parametrize(("kind", "condition"), [
    (kind, c) for kind, many in kernels.CONDITIONS.items() for c in many
])  # fmt: skip
def test_every_condition_that_is_measured_has_a_kernel(kind: str, condition: str) -> None:
    assert kernels.program(condition, kernels.data(kind, 6400)).outputs == 1


def test_texts_are_bound_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is asked of the same data again is bound once; that is not what is measured."""
    bound = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        bound.append(args)
        return bind(*args, **kwargs)

    monkeypatch.setattr(queries, "bind", counted)
    monkeypatch.setattr(parsing, "TERMS", 4)
    assert len(parsing.measure(2)) == 8
    assert len(bound) == 41 + 3 * 3
