"""`tql doctor`: what it tells of this machine, of a compiler that fails, and of stale kernels."""

import json
import os
import sys
from pathlib import Path

import pytest

from tql import cli, jit, kernel_cache, kernel_jobs
from tql.reports import doctor


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "kernels"
    monkeypatch.setenv("TQL_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernel_jobs._STATE, "failures", {})
    monkeypatch.setattr(kernel_jobs._STATE, "in_a_row", 0)
    return cache


def test_all_is_well_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TQL_COMPILE", "background")
    assert cli.perform(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == 1 and told["well"] is True
    assert told["executable"] == sys.executable
    assert told["compile"] == "background"
    assert told["trial"]["problem"] is None and told["trial"]["seconds"] > 0
    assert told["trial"]["child_problem"] is None and told["trial"]["child_seconds"] > 0
    assert told["cache"] | {"bytes": 0} == {
        "path": str(folder), "problem": None, "kernels": 0, "current": 0, "bytes": 0,
        "most_bytes": kernel_cache.MOST_BYTES,
    }  # fmt: skip
    assert {"numpy", "pyarrow", "numba", "torch"} <= {p["name"] for p in told["packages"]}
    assert list(folder.iterdir()) == [], "the trial leaves nothing"


def test_the_text_names_what_is_missing_and_what_is_stale(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", {"numpy": "", "no-such-package": "torch"})
    monkeypatch.setattr(doctor, "_problem", lambda: None)
    folder.mkdir(mode=0o700)
    kernel_cache.write(folder / f"mine-{0:032}.o", b"code", jit.made_by())
    kernel_cache.write(folder / f"old-{0:032}.o", b"code", bytes(32))
    assert cli.perform(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "no-such-package not installed: pip install 'tqlkit[torch]'" in text
    assert "1 current, 1 of another compiler or CPU (tql doctor --clear); 136 B of 67.1 MB" in text
    assert "inline (TQL_COMPILE=background, inline or never)" in text
    assert cli.perform(["doctor", "--clear"]) == 0
    out, err = capsys.readouterr()
    assert err == "1 file removed, 68 B\n"
    assert "1 current; 68 B of 67.1 MB" in out
    assert [f.name for f in folder.iterdir()] == [f"mine-{0:032}.o"]


def test_a_compiler_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: jit.Kernel) -> bytes:
        raise RuntimeError("no such pass")

    monkeypatch.setattr(jit, "compile_kernel", broken)
    assert cli.perform(["doctor"]) == 1
    assert "compiling failed: RuntimeError: no such pass" in capsys.readouterr().out


def test_a_child_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQL_COMPILE", "background")
    monkeypatch.setattr(doctor, "_problem", lambda: None)
    monkeypatch.setattr(sys, "executable", "/opt/app/trainer")
    checkup = doctor.examine()
    assert checkup.well, "kernels are compiled here instead"
    assert "'/opt/app/trainer', which is no Python" in str(checkup.trial.child_problem)


@pytest.mark.parametrize("clears", [[], ["--clear"]])
def test_a_folder_that_is_not_trusted_is_told_why(
    clears: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(doctor, "_problem", lambda: None)
    folder.mkdir()
    (folder / "theirs.o").write_bytes(bytes(100))
    os.chmod(folder, 0o777)
    assert cli.perform(["doctor", *clears]) == 0
    out = capsys.readouterr().out
    assert f"{folder}: not used, others may write to it (chmod go-w makes it yours)" in out
    assert len(list(folder.iterdir())) == 1


def test_a_misspelt_way_of_compiling_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TQL_COMPILE", "always")
    assert cli.perform(["doctor"]) == 2
    assert "TQL_COMPILE is 'always'" in capsys.readouterr().err
