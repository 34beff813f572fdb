"""The benchmark of loading: every loader's rows are checked, and who cannot take part is told."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg

from benchmarks import loader
from benchmarks.loading import data as data_module
from benchmarks.loading import report, rounds
from benchmarks.loading.data import GROUPS, HEIGHT, WIDTH, Files
from benchmarks.loading.entrants import (
    LIMIT,
    MISSING,
    Batch,
    CannotTakePart,
    Entrant,
    check,
    count,
)
from benchmarks.loading.tasks import KEYS, TASKS, Task
from benchmarks.measure import OURS, Disagreement
from benchmarks.peers import figures
from benchmarks.peers.report import whole

NOBODY = Entrant("Deep Lake 4", "a_package_that_nobody_has", "with_deep_lake")
BY_KEY = {task.key: task for task in TASKS}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("data"), 24, 4000)


def test_the_files_are_what_they_say(files: Files) -> None:
    table = files.table()
    assert pq.read_metadata(files.pictures).num_row_groups == 24  # a row each, at least
    assert table["id"].to_pylist() == list(range(24))
    sizes = [len(encoded.as_py()) for encoded in table["image"]]
    assert all(50_000 < size < 100_000 for size in sizes)
    height, width, space, subsampling = simplejpeg.decode_jpeg_header(table["image"][3].as_py())
    assert (height, width, space, subsampling) == (HEIGHT, WIDTH, "YCbCr", "420")
    assert pq.read_metadata(files.measures).num_row_groups == GROUPS
    assert set(files.labels(np.arange(4000)).tolist()) == set(range(10))


def test_each_read_of_a_late_file_takes_longer(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(data_module.time, "sleep", slept.append)
    late = replace(files, late=True)
    assert late.table().equals(files.table())
    assert slept and set(slept) == {data_module.LATENCY}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.key)
def test_a_pass_of_whoever_is_there_has_the_rows_and_the_pixels(
    task: Task, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are left to the runs: each takes a second to start."""
    monkeypatch.setattr(data_module, "LATENCY", 0.0)
    of_task = replace(files, late=task.late)
    rows = rounds.rows_of(task, files)
    taken = 0
    for entrant in task.entrants:
        if entrant.missing() or "2 workers" in entrant.name or entrant.module == "with_datasets":
            continue
        one_pass = entrant.open(of_task)
        assert check(one_pass(), of_task, rows, task.every) == rows
        assert count(one_pass()) == rows
        taken += 1
    assert taken >= 2


def test_wrong_rows_labels_and_pixels_stop_a_run(files: Files) -> None:
    images = [simplejpeg.decode_jpeg(e.as_py()) for e in files.table()["image"]]
    ids = np.arange(24)

    def checked(images: object, labels: object, ids: object, every: bool = True) -> int:
        return check([Batch(images, labels, ids)], files, 24, every)

    labels = files.labels(ids)
    assert checked(images, labels, ids) == 24
    for wrong in (
        (images, labels[::-1], ids), (images, labels[:-1], ids[:-1]), (images[1:], labels, ids),
        ([i.astype(np.float32) for i in images], labels, ids), ([i[1:] for i in images], labels, ids),
    ):  # fmt: skip
        with pytest.raises(Disagreement):
            checked(*wrong)
    twice = np.append(ids[:-1], 0)
    assert checked(images, files.labels(twice), twice, every=False) == 24
    with pytest.raises(Disagreement, match="not each once"):
        checked(images, files.labels(twice), twice)


def test_a_run_goes_into_the_file_of_figures_and_tells_who_was_not_there(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In processes of their own; a second run of one task keeps the others."""
    first, second = (
        replace(BY_KEY[key], entrants=tuple(e for e in BY_KEY[key].entrants if e.name in names))
        for key, names in (("pictures", (LIMIT, OURS)), ("numbers", (OURS, f"{OURS}, in order")))
    )
    first = replace(first, entrants=(*first.entrants, NOBODY))
    file = tmp_path / "figures.json"
    common = ["--images", "24", "--numbers", "4000", "--passes", "1", "--json", str(file)]
    common += ["--data", str(files.folder)]
    loader.main(common, tasks=[first, second])
    before = figures.load(file)["loading"]
    paces = {(p.key, p.name): p for p in before.found}
    assert list(dict.fromkeys(key for key, _ in paces)) == ["pictures", "numbers"]
    limit, ours = paces["pictures", LIMIT], paces["pictures", OURS]
    assert limit.ratio == limit.best / ours.best and limit.met is (limit.ratio >= 0.9)
    assert paces["pictures", NOBODY.name].absent == MISSING
    told = capsys.readouterr().out
    assert f"| {NOBODY.name} | {MISSING} | | | | 6x |" in told
    loader.main([*common, "--only", "numbers"], tasks=[first, second])
    after = figures.load(file)["loading"]
    kept = [pace for pace in after.found if pace.key == "pictures"]
    assert kept == [pace for pace in before.found if pace.key == "pictures"]
    assert [p for p in after.found if p.key == "numbers"] != [
        p for p in before.found if p.key == "numbers"
    ]
    assert "## Loading" in whole({"loading": after})
    with pytest.raises(SystemExit):
        loader.main([*common, "--only", "colour"])


def test_what_fails_in_a_process_is_raised(files: Files) -> None:
    broken = Entrant(OURS, "tql", "with_tqlkit", "no such way")
    task = replace(BY_KEY["numbers"], entrants=(broken,))
    with pytest.raises(RuntimeError, match="KeyError: 'no such way'"):
        list(rounds.measure([task], files, 1))


def paces() -> Iterator[rounds.Pace]:
    yield rounds.Pace("pictures", "Loading", LIMIT, 100, 0.2, 0.05, 0.1, 3, 0.9, 0.5)
    yield rounds.Pace("pictures", "Loading", OURS, 100, 0.2, 0.1, 0.1, 3, None, None)
    yield rounds.Pace("pictures", "Loading", "x", 100, 0.2, 0.5, 0.5, 3, 2.0, 5.0)


def test_the_table_tells_rates_ratios_and_goals() -> None:
    told = report.table(list(paces()))
    assert f"| {LIMIT} | 2,000 | 1,000 | 500 | 0.50x | 0.9x NOT met |" in told
    assert f"| {OURS} | 1,000 | 1,000 | 500 |  |  |" in told
    assert "| x | 200 | 200 | 500 | 5.00x | 2x met |" in told


def test_every_task_has_ours_and_a_goal() -> None:
    assert len(set(KEYS)) == len(KEYS)
    for task in TASKS:
        names = [entrant.name for entrant in task.entrants]
        assert OURS in names and len(set(names)) == len(names)
        assert task.goals and set(task.goals) <= set(names)
    assert find_spec("benchmarks.loading.with_spdl"), "its package need not be installed"


def test_who_takes_too_long_for_a_pass_is_listed_with_that(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever pass; the others go on."""
    done: list[str] = []

    def one_pass(self: rounds._Process, how: str) -> float:
        done.append(self.name)
        if self.name == LIMIT and len(done) > 2:
            raise CannotTakePart("cannot: no pass within 300 s")
        return 1.0

    monkeypatch.setattr(rounds._Process, "one_pass", one_pass)
    pair = tuple(e for e in BY_KEY["pictures"].entrants if e.name in (LIMIT, OURS))
    found = list(rounds.measure([replace(BY_KEY["pictures"], entrants=pair)], files, 3))
    assert [pace.absent for pace in found] == ["cannot: no pass within 300 s", None]
    assert [pace.passes for pace in found] == [0, 3] and found[0].met is None
