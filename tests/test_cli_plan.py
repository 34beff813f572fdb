"""`tql plan`: what it prints (golden), what its files say, and its exit codes."""

import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql import cli

CASES = sorted(Path(__file__).with_name("golden").joinpath("plan").glob("*.txt"))
SAVE = ["plan", "save", "demo:digits", "select * where labels != 5"]
WEIGHT = "max_weight(labels == 6: 5, true: 1)"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a terminal of 80 columns without colour."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    np.save("weights.npy", np.arange(1797.0))
    return tmp_path


def done(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that must succeed prints."""
    assert cli.perform(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_the_commands_print_the_golden_text(
    case: Path, accept: bool, capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    """A case is several commands of one folder: each begins a line with `$ tql`."""
    expected = case.read_text("utf-8")
    printed = ""
    for command in [line for line in expected.splitlines() if line.startswith("$ tql ")]:
        code = cli.perform(shlex.split(command.removeprefix("$ tql ")))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert (code == 0) == (not err or err.startswith("note: "))
        printed += f"{command}\n{out}{err}" + (f"exit {code}\n" if code else "")
    printed = printed.replace(str(elsewhere), "FOLDER")
    if accept:
        case.write_text(printed, "utf-8")
        expected = printed
    assert printed == expected


def test_a_saved_plan_is_the_one_that_the_chain_makes(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--sample-by", WEIGHT, "--mix", "batch", "--batch", "32", "--size", "320"]
    more = ["--without-replacement", "--shuffle", "--offset", "64", "--seed", "3"]
    told = done(*SAVE, *options, *more, "-o", "p.json", capsys=capsys)
    chain = (
        tql.open("demo:digits")
        .dataloader(seed=3)
        .query("select * where labels != 5")
        .sample_by(WEIGHT, replace=False, size=320, mix="batch")
        .shuffle()
        .offset(64)
        .batch(32)
    )
    chain.plan.save("q.json")
    assert Path("p.json").read_bytes() == Path("q.json").read_bytes()
    assert chain.plan.short in told and "320 draws" in told
    printed = done(*SAVE, *options, *more, capsys=capsys)
    assert json.loads(printed) == chain.plan.to_json()
    assert done("plan", "verify", "p.json", "demo:digits", capsys=capsys).endswith("an epoch\n")


def test_without_a_query_and_with_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    ds = tql.open("demo:digits")
    every = json.loads(done("plan", "save", "demo:digits", "--shuffle", capsys=capsys))
    assert every == ds.dataloader().shuffle().plan.to_json()
    text = "select * where labels == $a"
    some = json.loads(done("plan", "save", "demo:digits", text, "-p", "a=3", capsys=capsys))
    assert some == ds.dataloader().query(text, {"a": 3}).plan.to_json()


def test_rows_at_a_position_are_those_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    done(*SAVE, "--sample-by", WEIGHT, "--mix", "epoch", "--shuffle", "-o", "p", capsys=capsys)
    ds = tql.open("demo:digits")
    plan = tql.load_plan("p", ds)
    shown = ["plan", "show", "p", "demo:digits", "--at", "1000", "-n", "30", "--epoch", "4"]
    found = json.loads(done(*shown, "--columns", "labels", "--json", capsys=capsys))
    rows, copies, seeds = (a.tolist() for a in plan.locate(1000, 1030, 4))
    labels = ds["labels"].to_pylist()
    assert found["rows"] == [
        {"position": 1000 + i, "row": r, "copy": c, "seed": s, "labels": labels[r]}
        for i, (r, c, s) in enumerate(zip(rows, copies, seeds))
    ]
    assert found["plan"] == json.loads(Path("p").read_text()) and found["epoch"] == 4
    assert max(copies) > 0


def test_rows_are_those_of_the_source_also_where_the_plan_stands_on_a_view(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ds = tql.open("demo:digits")
    view = ds.query("select labels, row_number() as n where labels == 3")[100:150]
    view.query("select labels, n, row_number() as m").dataloader(2).shuffle().plan.save("p")
    shown = ["plan", "show", "p", "demo:digits", "--columns", "labels,m", "--json"]
    rows = json.loads(done(*shown, capsys=capsys))["rows"]
    loader = tql.load_plan("p", ds)
    assert [row["labels"] for row in rows] == [3] * 10 and len(loader) == 50
    assert {row["row"] for row in rows} <= set(view.row_ids.tolist())


def test_where_the_first_epoch_begins_is_where_rows_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done(*SAVE, "--offset", "70", "-o", "p", capsys=capsys)
    for epoch, first in (("0", 70), ("1", 0)):
        told = done("plan", "show", "p", "demo:digits", "--json", "--epoch", epoch, capsys=capsys)
        assert json.loads(told)["rows"][0]["position"] == first


def test_data_that_changed_are_exit_code_3_and_all_else_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pq.write_table(pa.table({"a": np.arange(100)}), "d.parquet")
    weigh = ["--weights", "w.npy"]
    np.save("w.npy", np.arange(100.0))
    done("plan", "save", "d.parquet", *weigh, "-o", "p", capsys=capsys)
    verify = ["plan", "verify", "p", "d.parquet"]
    assert done(*verify, *weigh, "--json", capsys=capsys)
    assert cli.perform(verify) == 2
    assert "--weights" in capsys.readouterr().err
    np.save("w.npy", np.arange(100.0) + 1)
    assert cli.perform([*verify, *weigh, "--json"]) == 2
    problem = json.loads(capsys.readouterr().err)["error"]
    assert any(note.startswith("weights.digest: ") for note in problem["notes"])
    Path("w.npy").write_bytes(b"no array")
    assert cli.perform([*verify, *weigh]) == 3
    np.save("w.npy", np.arange(100.0))
    pq.write_table(pa.table({"a": np.arange(100) + 1}), "d.parquet")
    assert cli.perform([*verify, *weigh]) == 3
    assert "data: " in capsys.readouterr().err
    assert cli.perform(["plan", "verify", "nowhere", "d.parquet"]) == 3
    Path("p").write_text("{}")
    assert cli.perform(["plan", "verify", "p", "d.parquet"]) == 2


def test_a_query_that_names_its_data_needs_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"a": np.arange(100)}), "d.parquet")
    query = 'select * from "d.parquet" where a > 3 sample by a limit 20'
    done("plan", "save", query, "-o", "p", capsys=capsys)
    assert "20 draws" in done("plan", "verify", "p", capsys=capsys)
    assert len(json.loads(done("plan", "show", "p", "--at", "7", "--json", capsys=capsys))["rows"]) == 10  # fmt: skip


def test_the_source_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"a": np.arange(100)}), "d.parquet")
    assert cli.perform(["plan", "save", "d.parquet", "-o", "d.parquet"]) == 2
    assert "part of the data" in capsys.readouterr().err
