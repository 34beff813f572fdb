"""What people read when a text is not TQL: one golden file for each mistake.

A file holds the query, what is printed for it, and the query after a reader has followed the help
line; "----" lies between them. A repaired query has to run.
"""

import re
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql.diagnostics import NOWHERE, TqlError
from tql.grammar.parser import parse, parse_weight

GOLDEN = Path(__file__).with_name("golden") / "syntax"
CASES = sorted(GOLDEN.glob("*.txt"))

# What no other query can say.
WITHOUT_REPAIR: Final = {
    "create", "delete", "explain", "extract", "insert", "into", "nested-too-deep", "ungroup-column",
    "update", "uri-without-quotes",
}  # fmt: skip
VALUES: Final[dict[str, Any]] = {
    "at-sign": {"name": 3},
    "colon-parameter": {"x": 1},
    "date-literal": [0],
    "exists": [[1, 2]],
    "in-subquery": [[1, 2]],
    "interval": [0],
    "parameters-mixed": {"low": 1, "x": 2},
    "percent-s": [3],
}
NUMBERS = pa.array([1, 2, 3, 4, 5], pa.int64())
TABLE = pa.table(
    dict.fromkeys(("id", "a", "b", "c", "d", "label", "order", "left", "a-b", "3x"), NUMBERS)
    | {
        "flag": [True, False, True, True, None],
        "score": [0.5, float("nan"), -1.0, None, 2.0],
        "name": ["cat", "dog", None, "", "it's"],
        "größe": ["ä"] * 5,
        "tags": pa.array([[1, 2], [], None, [3], [4]], pa.list_(pa.int32())),
        "meta": pa.array([{"k": 1}] * 5),
    }
)


def parts(case: Path) -> tuple[str, str, str | None]:
    """The query, what is printed for it, and the repaired query, if any."""
    query, printed, *repaired = case.read_text("utf-8").split("\n----\n")
    return query, f"{printed.rstrip()}\n", repaired[0].rstrip("\n") if repaired else None


def message(query: str) -> str:
    with pytest.raises(TqlError) as e:
        parse(query)
    return f"{e.value}\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_error_reads_like_its_golden_file(case: Path, accept: bool) -> None:
    query, expected, repaired = parts(case)
    printed = message(query)
    if accept:
        rest = "" if repaired is None else f"----\n{repaired}\n"
        case.write_text(f"{query}\n----\n{printed}{rest}", "utf-8", newline="")
        return
    assert printed == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sources that the queries name."""
    here = tmp_path_factory.mktemp("sources")
    for name in ("x/0.parquet", "t/0.parquet", "a/0.parquet", "b/0.parquet", "data/x.parquet"):
        (here / name).parent.mkdir(exist_ok=True)
        pq.write_table(TABLE, here / name)
    return here


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_repaired_query_runs(case: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query, _, repaired = parts(case)
    assert (repaired is None) == (case.stem in WITHOUT_REPAIR)
    if repaired is None:
        return
    monkeypatch.chdir(folder)
    assert repaired != query
    tql.open(TABLE).query(repaired, VALUES.get(case.stem)).to_arrow()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_what_repairs_a_query_is_told(case: Path) -> None:
    """Every word of the repaired query is in the query or in the message, or is a name."""
    query, printed, repaired = parts(case)
    word = r"[^\W\d]\w*"
    known = {w.lower() for w in re.findall(word, query + printed)} | {*TABLE.column_names, "n", "x"}
    assert [w for w in re.findall(word, repaired or "") if w.lower() not in known] == [], printed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_error_is_marked_and_short(case: Path) -> None:
    """A place in the text, no name of a terminal, at most six alternatives."""
    query, _, _ = parts(case)
    with pytest.raises(TqlError) as e:
        parse(query)
    d = e.value.diagnostic
    assert d.span != NOWHERE
    assert 0 <= d.span.start <= d.span.stop <= len(query)
    for word in ("IDENT", "QUOTED", "LPAR", "RPAR", "$END", "EQUALITY", "ORDERING", "MODULO"):
        assert word not in d.message
    _, _, alternatives = d.message.partition("expected ")
    assert alternatives.count("', '") <= 6


def test_every_mistake_has_its_own_file() -> None:
    queries = [parts(case)[0] for case in CASES]
    assert len(queries) >= 200
    assert len(set(queries)) == len(queries)


@pytest.mark.parametrize("text", ["", " \n", "-- nothing\n"])
def test_nothing_is_an_empty_query_or_weight(text: str) -> None:
    with pytest.raises(TqlError, match="empty query"):
        parse(text)
    with pytest.raises(TqlError, match="empty weight"):
        parse_weight(text)


def test_a_long_word_is_not_repeated_in_full() -> None:
    with pytest.raises(TqlError) as e:
        parse("select * where a == 3 " + "x" * 100_000)
    assert len(str(e.value)) < 1_000
    with pytest.raises(TqlError) as e:
        parse("select * from '" + "x" * 100_000 + "'")
    assert len(str(e.value)) < 1_000
