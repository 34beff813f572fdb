"""`tql format`: where the query may come from, and what the exit code says."""

import io
import json
import sys
from pathlib import Path

import pytest

import tql
from tql import cli

QUERY = "SELECT  *\nWHERE a=1 AND NOT (b<>2)"
CANONICAL = "select * where a == 1 and not b != 2"


def given(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let this be what standard input gives."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.parametrize("way", ["argument", "file", "hyphen", "nothing"])
@pytest.mark.parametrize("check", [False, True])
def test_a_query_comes_from_everywhere(
    way: str,
    check: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.tql").write_text(QUERY)
    given(monkeypatch, QUERY)
    argument = {"argument": [QUERY], "file": [str(tmp_path / "a.tql")], "hyphen": ["-"]}
    code = cli.perform(["format", *argument.get(way, []), *(["--check"] if check else [])])
    out, err = capsys.readouterr()
    assert (code, out) == ((1, "") if check else (0, CANONICAL + "\n"))
    assert bool(err) is check


def test_what_it_prints_is_canonical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in (QUERY, CANONICAL, "(SELECT a) UNION ALL (select b limit 3)", "select 1.50 as x;"):
        assert cli.perform(["format", text]) == 0
        printed = capsys.readouterr().out
        (tmp_path / "a.tql").write_text(printed)
        assert cli.perform(["format", str(tmp_path / "a.tql"), "--check"]) == 0
        assert tql.parse(printed) == tql.parse(text)
        assert cli.perform(["format", text, "--check"]) == int(text != printed.strip())
        capsys.readouterr()


def test_errors_are_those_of_the_parser(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, "select *\nwher a == 1")
    assert cli.perform(["format"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error[syntax]") and "--> query:2:1" in err and "^^^^" in err
    assert cli.perform(["format", "select * wher", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "syntax"
    given(monkeypatch, "  ")
    assert cli.perform(["format", "-"]) == 2


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("select * -- why", True),
        ("select * # why", True),
        ("/* a */ select *", True),
        ("select '-- no' as a", False),
        ("select *", False),
    ],
)
def test_comments_that_are_lost_are_mentioned(
    text: str, noted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, text)
    assert cli.perform(["format", "-"]) == 0
    assert ("comments are not kept" in capsys.readouterr().err) is noted


def test_a_terminal_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert cli.perform(["format"]) == 2
    assert "QUERY is missing" in capsys.readouterr().err
