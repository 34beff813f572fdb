"""How values of every kind leave `tql run`."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.random_data import COLUMNS, random_rows
from tql import cli
from tql.sources.classes import names_in

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


def run_into(path: Path, source: str, query: str) -> Any:
    """What `tql run -o path` wrote, opened again."""
    assert cli.perform(["run", source, query, "-o", str(path)]) == 0
    return tql.open(str(path))


@pytest.mark.parametrize("extension", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "query",
    ["select * limit 30", "select * limit 0", "select i8, doc, text, label, vec group by i8"],
)
def test_a_result_file_has_the_types_of_the_result(
    tmp_path: Path, extension: str, query: str
) -> None:
    source = str(tmp_path / "source.parquet")
    pq.write_table(random_rows(list(COLUMNS), 40, seed=3), source, row_group_size=16)
    view = tql.open(source).query(query)
    written = run_into(tmp_path / f"a.{extension}", source, query)
    assert types(written) == types(view)
    assert values(written) == values(view)


def values(view: Any) -> str:
    """All values, class labels by index, however they are stored; spelt, so that NaN equals NaN."""
    return str([cells(c, view.to_arrow().column(c.name)) for c in view.schema])


def cells(column: Any, stored: Any) -> list[Any]:
    names = names_in(column.dtype)
    if names is None or not pa.types.is_dictionary(stored.type):
        return list(stored.to_pylist())
    return [None if v is None else names.index(v) for v in stored.to_pylist()]


def types(view: Any) -> dict[str, tuple[str, Any]]:
    """Of each column its type and its class names."""
    return {c.name: (str(c.dtype), names_in(c.dtype)) for c in view.schema}


@pytest.mark.parametrize("extension", ["parquet", "arrow"])
def test_json_in_a_result_file_is_still_json(tmp_path: Path, extension: str) -> None:
    for query, more in (
        ("select *", "select id, meta['iso'] as i"),
        ("select scene[0] as scene, meta group by scene", "select scene, meta[0]['iso'] as i"),
    ):
        view = tql.open("demo:photos").query(query)
        written = run_into(tmp_path / f"photos.{extension}", "demo:photos", query)
        assert types(written) == types(view)
        assert written.query(more).to_arrow().to_pylist() == view.query(more).to_arrow().to_pylist()


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (20, "11 columns not shown: animal, score, "),
        (80, "5 columns not shown: embedding, meta, taken, scene, frame\n"),
        (120, "1 column not shown: frame\n"),
        (140, ""),
    ],
)
def test_a_table_shows_the_columns_that_fit_and_names_the_others(
    width: int, left_out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.perform(["run", "demo:photos", "select * limit 2", "--format", "table"]) == 0
    out = capsys.readouterr().out
    assert out.split("2 rows\n")[1].startswith(left_out) and ("not shown" in out) == bool(left_out)
    _, heads, line, *_ = out.splitlines()
    assert len(line) <= width
    columns = tql.open("demo:photos").schema.names
    assert heads.split() == list(columns[: len(heads.split())])  # no head is cut, none is missing
