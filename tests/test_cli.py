"""The command line: golden output, exit codes, streams, files that are whole or not there."""

import csv
import gc
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql import cli
from tql.cli.request import is_query, parameters
from tql.cli.rows import as_json, blob, cell

ROOT = Path(__file__).resolve().parents[1]
CASES = sorted(Path(__file__).with_name("golden").joinpath("cli").glob("*.txt"))
MUST_SHOW = (
    "select * where labels != 5 sample by max_weight(labels == 5: 10, labels == 6: 5, true: 1)"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder and a terminal of 80 columns without colour."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def start(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A fresh process, its output as text."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "tql", *arguments], capture_output=True, text=True, check=False,
        encoding="utf-8", env=env, **options,
    )  # fmt: skip


def lines(*arguments: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a command that must succeed prints."""
    assert cli.perform(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_the_command_prints_the_golden_text(
    case: Path, accept: bool, capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    command, _, expected = case.read_text("utf-8").partition("\n")
    code = cli.perform(shlex.split(command.removeprefix("$ tql ")))
    out, err = capsys.readouterr()
    printed = f"exit {code}\n== standard output\n{out}== standard error\n{err}"
    printed = printed.replace(str(elsewhere), "FOLDER")
    if accept:
        case.write_text(f"{command}\n{printed}", "utf-8")
        expected = printed
    assert printed == expected
    assert "Traceback" not in err
    assert (code == 0) == (not err or err.startswith("note: "))
    assert code in (0, 1, 2, 3)


# -- a process of its own ----------------------------------------------------------------------


def test_results_and_problems_go_to_their_streams_and_codes() -> None:
    good = start("explain", "demo:digits", MUST_SHOW)
    assert (good.returncode, good.stderr) == (0, "")
    assert "Filter  labels != 5" in good.stdout and "dropped" in good.stdout
    wrong = start("run", "demo:digits", "select * where label = 1")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error[unknown_column]")
    missing = start("schema", "nowhere.parquet")
    assert (missing.returncode, missing.stdout) == (3, "")
    noted = start("run", "demo:digits", "select labels sample by 1 replace false limit 9999")
    assert noted.returncode == 0 and noted.stderr.startswith("note: without replacement")


def test_a_row_that_cannot_be_computed_is_exit_code_1() -> None:
    failed = start("run", "demo:digits", "select labels % (labels - labels) as x")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "error[" in failed.stderr and "row 0" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_damaged_file_is_exit_code_3(elsewhere: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000))}), "a.parquet")
    whole = (elsewhere / "a.parquet").read_bytes()
    (elsewhere / "cut.parquet").write_bytes(whole[:-7])
    done = start("run", "cut.parquet", "select *")
    assert done.returncode == 3 and "cut.parquet" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tql", "run", "demo:digits", "select *"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as p:
        assert p.stdout is not None and p.stderr is not None
        assert json.loads(p.stdout.readline())["labels"] == 0
        p.stdout.close()
        assert p.stderr.read() == b""
        assert p.wait() == 130


def test_garbage_is_looked_for_as_before_once_a_command_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    monkeypatch.setattr(cli, "perform", lambda _: seen.append(gc.get_threshold()) or 3)
    before = gc.get_threshold()
    with pytest.raises(SystemExit) as ended:
        cli.main(["schema", "demo:digits"])
    assert ended.value.code == 3
    assert gc.get_threshold() == before != seen[0]


def test_an_interrupt_is_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tql.api.open", interrupted)
    assert cli.perform(["schema", "demo:digits"]) == 130
    out, err = capsys.readouterr()
    assert out == "" and "interrupted" in err


def test_output_is_ascii_where_unicode_cannot_be_written() -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    for arguments in (
        ("explain", "demo:digits", MUST_SHOW),
        ("run", "demo:digits", "select * limit 2", "--format", "table"),
        ("schema", "demo:digits"),
        ("demo",),
    ):
        done = start(*arguments, env=env)
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii() and done.stdout.strip()
    assert (
        "<png 8x8" in start("run", "demo:digits", "select *", "--format", "table", env=env).stdout
    )


def test_the_demo_tells_the_whole_story() -> None:
    done = start("demo")
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "labels: class_label[10]",
        "Filter  labels != 5",
        "expected",
        "drawn",
        "type next",
    ):
        assert said in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    found = json.loads(start("demo", "--json").stdout)
    assert sum(found["drawn"]) == 1615 and found["drawn"][5] == 0
    assert found["batches"] == 51


@pytest.mark.parametrize("verb", ["explain", "run"])
def test_verbs_load_no_compiler_for_small_data(verb: str) -> None:
    code = (
        "import sys\nfrom tql.cli import perform\n"
        f"assert perform([{verb!r}, 'demo:digits', 'select labels where labels != 5']) == 0\n"
        "bad = {'numba', 'llvmlite', 'torch', 'tensorflow'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# -- query and parameters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select *", True),
        ("SELECT *", True),
        ("(select *) union (select *)", True),
        ("  -- a comment\n  select *", True),
        ("/* a */ select *", True),
        ("selection.parquet", False),
        ("data/train", False),
        ("", False),
        ("demo:digits", False),
    ],
)
def test_a_query_is_told_from_a_source(text: str, expected: bool) -> None:
    assert is_query(text) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], None),
        (["5"], [5]),
        (["0.5", "true", "text", '"5"', "[1, 2]"], [0.5, True, "text", "5", [1, 2]]),
        (["a=5", "b=x=y", "c=", "d=NaN"], {"a": 5, "b": "x=y", "c": "", "d": "NaN"}),
        (['{"a": 1}'], ['{"a": 1}']),
    ],
)
def test_parameters_are_json_or_text(given: list[str], expected: Any) -> None:
    assert parameters(given) == expected


def test_the_query_may_come_from_a_file_or_standard_input(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "-- the eights\nselect labels\nwhere labels = 8 limit 1\n"
    (elsewhere / "q.tql").write_text("\ufeff" + text, "utf-8")
    by_file = lines("run", "demo:digits", "-f", "q.tql", capsys=capsys)
    assert by_file == ['{"labels": 8}']
    for arguments in (("demo:digits", "-"), ("demo:digits", "-f", "-")):
        done = start("run", *arguments, input=text)
        assert done.stdout.splitlines() == by_file, done.stderr
    (elsewhere / "latin.tql").write_bytes(b"select '\xe9'")
    assert cli.perform(["run", "demo:digits", "-f", "latin.tql"]) == 3
    assert "UTF-8" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    query = "select * sample by 1 limit 20"
    drawn = [
        lines("run", "demo:digits", query, "--format", "ids", "--seed", s, capsys=capsys)
        for s in ("1", "1", "2")
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    expected = tql.open("demo:digits").query(query, seed=1).row_ids
    assert drawn[0] == [str(i) for i in expected]


def test_class_names_can_be_given(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"kind": [0, 1, 1]}), "a.parquet")
    given = ("--class-names", "kind=cat,dog")
    found = lines("run", "a.parquet", "select * where kind = 'dog'", *given, capsys=capsys)
    assert found == ['{"kind": 1}'] * 2
    told = lines("explain", "a.parquet", "select * where kind = 'dog'", *given, capsys=capsys)
    assert any(line.startswith("cat") and line.endswith("dropped") for line in told)


# -- results in files --------------------------------------------------------------------------

QUERY = "select labels, images where labels in (3, 5) order by labels desc limit 50"


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.csv", "out.jsonl"])
def test_a_file_holds_what_the_query_gives(
    name: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines("run", "demo:digits", QUERY, "-o", name, capsys=capsys) == []
    expected = tql.open("demo:digits").query(QUERY).to_arrow()
    labels = expected.column("labels").to_pylist()
    match Path(name).suffix:
        case ".csv":
            with open(name, encoding="utf-8", newline="") as f:
                assert [int(row["labels"]) for row in csv.DictReader(f)] == labels
        case ".jsonl":
            with open(name, encoding="utf-8") as f:
                assert [json.loads(line)["labels"] for line in f] == labels
        case _:
            again = tql.open(name)
            assert again.schema == tql.open("demo:digits").query(QUERY).schema
            assert again.to_arrow().column("images").to_pylist() == (
                expected.column("images").to_pylist()
            )
            assert again.to_arrow().column("labels").to_pylist() == labels
    assert os.listdir(elsewhere) == [name]


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.csv", "out.jsonl"])
def test_an_empty_result_is_a_file_with_a_schema(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines("run", "demo:digits", "select * where labels > 9", "-o", name, capsys=capsys)
    match Path(name).suffix:
        case ".csv":
            assert Path(name).read_text("utf-8") == '"images","labels"\n'
        case ".jsonl":
            assert Path(name).read_text("utf-8") == ""
        case _:
            assert tql.open(name).columns == ("images", "labels")
            assert len(tql.open(name)) == 0


@pytest.mark.parametrize("name", ["ids.arrow", "ids.parquet", "ids.csv", "ids.jsonl", "ids.txt"])
def test_ids_are_a_column_or_one_per_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines("run", "demo:digits", QUERY, "--format", "ids", "-o", name, capsys=capsys)
    expected = tql.open("demo:digits").query(QUERY).row_ids.tolist()
    match Path(name).suffix:
        case ".txt":
            assert [int(line) for line in Path(name).read_text().splitlines()] == expected
        case ".csv":
            rows = list(csv.DictReader(io.StringIO(Path(name).read_text())))
            assert [int(row["row_id"]) for row in rows] == expected
        case ".jsonl":
            rows = [json.loads(line) for line in Path(name).read_text().splitlines()]
            assert [row["row_id"] for row in rows] == expected
        case _:
            table = tql.open(name).to_arrow()
            assert table.schema.field("row_id").type == pa.int64()
            assert table.column("row_id").to_pylist() == expected


@pytest.mark.parametrize("format", ["parquet", "arrow", "csv"])
def test_binary_formats_can_be_piped(format: str, elsewhere: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tql", "run", "demo:digits", QUERY, "--format", format]
    done = subprocess.run(command, capture_output=True, env=env, check=True)
    (elsewhere / f"x.{format}").write_bytes(done.stdout)
    if format == "csv":
        assert done.stdout.count(b"\n") == 51
    else:
        assert len(tql.open(f"x.{format}")) == 50


@pytest.mark.parametrize("source", ["a.parquet", "./a.parquet", "a.par*", ".", "FROM"])
def test_the_source_is_never_overwritten(
    source: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"a": [1, 2, 3]}), "a.parquet")
    before = (elsewhere / "a.parquet").read_bytes()
    for verb in ("run", "explain"):
        query = ["select * from 'a.parquet'"] if source == "FROM" else [source, "select *"]
        query = [q.replace("'", '"') for q in query]
        assert cli.perform([verb, *query, "-o", f"../{elsewhere.name}/a.parquet"]) == 2
        assert "part of the data" in capsys.readouterr().err
    assert (elsewhere / "a.parquet").read_bytes() == before


def test_a_run_that_fails_leaves_no_file_and_keeps_the_old_one(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = 20_000  # more than one block, so that something has been written when it fails
    pq.write_table(pa.table({"a": np.arange(rows), "b": np.arange(rows)[::-1].copy()}), "a.parquet")
    (elsewhere / "out.csv").write_text("old")
    assert cli.perform(["run", "a.parquet", "select a % b as x", "-o", "out.csv"]) == 1
    assert "row 19999" in capsys.readouterr().err
    assert (elsewhere / "out.csv").read_text() == "old"
    assert sorted(os.listdir(elsewhere)) == ["a.parquet", "out.csv"]


def test_an_explanation_can_be_written_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    lines("explain", "demo:digits", MUST_SHOW, "--format", "html", "-o", "x.html", capsys=capsys)
    assert Path("x.html").read_text("utf-8").startswith("<!doctype html>")
    found = lines("explain", "demo:digits", MUST_SHOW, "--json", "--analyze", capsys=capsys)
    assert json.loads("\n".join(found))["plan"]["actual_rows"] == 1615


def test_many_types_survive_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table(
        {
            "kind": pa.array(["cat", None, "dog"]).dictionary_encode(),
            "text": ["ä\n", None, "z"],
            "real": [float("nan"), float("inf"), 0.5],
            "list": [[1, 2], [], None],
            "time": pa.array([0, 1, None], pa.timestamp("ms", "UTC")),
            "flag": [True, None, False],
        }
    )
    pq.write_table(table, "in.parquet")
    for name in ("out.parquet", "out.arrow"):
        lines("run", "in.parquet", "select *", "-o", name, capsys=capsys)
        assert tql.open(name).schema["kind"].dtype == tql.open("in.parquet").schema["kind"].dtype
        again = tql.open(name).to_arrow()
        for column in ("text", "list", "time", "flag"):
            assert again.column(column).to_pylist() == table.column(column).to_pylist()
    rows = [json.loads(line) for line in lines("run", "in.parquet", "select *", capsys=capsys)]
    assert [row["real"] for row in rows] == [None, None, 0.5]
    assert [row["list"] for row in rows] == [[1, 2], [], None]
    assert rows[1]["time"].startswith("1970-01-01T00:00:00.001")
    shown = lines("run", "in.parquet", "select *", "--format", "table", capsys=capsys)
    assert any("cat" in line for line in shown)
    assert any("list" in line for line in lines("run", "in.parquet", "select *", "--format", "csv", capsys=capsys))  # fmt: skip


def test_cells_name_what_they_leave_out() -> None:
    column = tql.open("demo:digits").schema["images"]
    data = tql.open("demo:digits").take([0], ["images"]).column(0)[0].as_py()
    assert cell(data, column) == f"<png 8\N{MULTIPLICATION SIGN}8, {len(data)} bytes>"
    jpeg = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc0001108000a001403")
    assert blob(jpeg) == "<jpeg 20\N{MULTIPLICATION SIGN}10, 30 bytes>"
    assert blob(jpeg[:10]) == "<jpeg, 10 bytes>"
    assert blob(b"abc") == "<3 bytes>"
    assert as_json({"a": [b"abc", float("nan")]}) == {"a": ["YWJj", None]}


def test_nothing_in_the_data_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J[red]x"
    pq.write_table(pa.table({evil: [evil]}), "in.parquet")
    for arguments in (
        ("schema", "in.parquet"),
        ("stats", "in.parquet"),
        ("run", "in.parquet", "select *", "--format", "table"),
        ("explain", "in.parquet", "select *"),
    ):
        printed = "\n".join(lines(*arguments, capsys=capsys))
        assert "\x1b" not in printed
        assert "[red]" in printed or "Scan" in printed
