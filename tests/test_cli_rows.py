"""How values of every kind leave `tql run`."""

import json

import pytest

from tql import cli

QUERY = "select id, meta, meta['iso'] as iso, meta['author'] as author where id in (0, 4, 6)"
WANTED = [
    {
        "id": 0,
        "meta": {"author": "ann", "iso": 100, "place": {"city": "Ulm"}},
        "iso": 100,
        "author": "ann",
    },
    {"id": 4, "meta": None, "iso": None, "author": None},
    {"id": 6, "meta": {"author": "ann", "iso": None}, "iso": None, "author": "ann"},
]


def test_json_is_json_and_no_text_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.perform(["run", "demo:photos", QUERY, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == WANTED
    assert cli.perform(["run", "demo:photos", QUERY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["first_rows"] == WANTED


def test_json_in_a_table_is_not_quoted_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.perform(["run", "demo:photos", QUERY, "--format", "table"]) == 0
    out = capsys.readouterr().out
    assert '{"author": "ann", "iso": null}' in out and "\\" not in out


def test_sequences_of_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    query = "select scene[0] as scene, meta where id < 2 group by scene"
    assert cli.perform(["run", "demo:photos", query, "--format", "jsonl"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row == {"scene": "kitchen", "meta": [WANTED[0]["meta"], {"author": "ann", "iso": 400}]}
