"""explain with kernels: the tier of each node, the reason, and the loop."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import tql
from tests.explain_data import digits
from tql import cli
from tql.dataset import Dataset
from tql.engine import dictionaries
from tql.engine.kernels import program
from tql.engine.scan import Settings
from tql.queries import ask
from tql.reports.explain import Explanation, explain_query
from tql.reports.kernels import KernelNote

CASES = sorted(Path(__file__).with_name("golden").joinpath("kernels").glob("*.txt"))
FEW = "it has not cost enough yet for the kernel to pay"


@pytest.fixture(autouse=True)
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQL_CACHE_DIR", str(tmp_path))
    program._kernel.cache_clear()


def table() -> Dataset:
    """A column of each kind that matters."""
    return tql.open(
        pa.table(
            {
                "n": pa.array(range(6)),
                "boxes": pa.array([[1, 2], [3], None, [4], [], [5]], pa.list_(pa.int64())),
                "nested": pa.array([[[1], [2, 3]]] * 6, pa.list_(pa.list_(pa.int64()))),
                "document": pa.array(['{"a": 1}'] * 6, pa.json_()),
            }
        )
    )


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_the_notes_are_the_golden_ones(case: Path, accept: bool) -> None:
    """The loops are those of the programs, and not in the golden text."""
    header, query, mark, expected = case.read_text("utf-8").split("\n", 3)
    assert mark == "----"
    told = {"# digits": digits, "# table": table}[header]().explain(query, kernels=True)
    assert told.kernels is not None
    shown = str(told)
    shown = shown[shown.index("\n\n", shown.index("Scan")) :]
    for note in told.kernels:
        if note.source is not None:
            assert note.source.startswith("def predicate(")
            loop = "\n".join(f"        {line}".rstrip() for line in note.source.splitlines())
            assert loop in shown
            shown = shown.replace(loop, "        <loop>", 1)
    kinds = ("Filter: ", "Sample: ", "Order: ", "nothing is")
    lines = shown.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(kinds))
    printed = "\n".join(lines[start:]) + "\n"
    if accept:
        case.write_text("\n".join([header, query, mark, printed]), "utf-8")
        expected = printed
    assert printed == expected


def explained(dataset: Dataset, text: str, tier: Settings) -> Explanation:
    return explain_query(ask(dataset.source, text, settings=tier), "x", kernels=True)


def only(told: Explanation) -> KernelNote:
    assert told.kernels is not None and len(told.kernels) == 1
    return told.kernels[0]


def test_a_kernel_that_is_there_is_told() -> None:
    dataset = tql.open({"x": np.arange(1_000_000)})
    text = "select * where x != 5"
    before = only(explained(dataset, text, Settings()))
    assert (before.tier, before.why, before.state) == ("reference", FEW, "not compiled")
    ask(dataset.source, text, settings=Settings("kernel")).answer()
    after = only(explained(dataset, text, Settings()))
    assert (after.tier, after.why, after.state) == ("kernel", "it pays", "compiled")
    assert after.source == before.source is not None
    program._kernel.cache_clear()
    another = only(explained(dataset, text, Settings()))
    assert another.state == "on disk"
    small = only(explained(dataset, text, Settings("reference")))
    assert (small.tier, small.why) == ("reference", "asked for")


def test_asking_counts_nothing_towards_compiling() -> None:
    dataset = tql.open({"x": np.arange(10)})
    note = only(explained(dataset, "select * where x != 5", Settings()))
    assert note.source is not None
    k = program._kernel(note.source, "i64, i64[], i64, u64[]")
    owed = k._owed_ns
    for _ in range(5):
        assert not k.would_pay(1e9 / 2)
    assert k._owed_ns == owed


def test_the_command_and_json_tell_them(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["explain", "demo:digits", "select * where labels != 5 and random() < 0.5"]
    assert cli.perform([*arguments, "--json", "--kernels"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["kernels"]
    assert (note["node"], note["tier"], note["why"]) == ("filter", "reference", FEW)
    assert note["source"].startswith("def predicate(")
    assert cli.perform([*arguments, "--json"]) == 0
    assert "kernels" not in json.loads(capsys.readouterr().out)
    assert cli.perform([*arguments, "--kernels", "--format", "html"]) == 0
    assert "np.uint64" in capsys.readouterr().out


def test_a_prepared_query_tells_them() -> None:
    prepared = table().prepare("select * where n > 2")
    assert "np.uint64" in str(prepared.explain(kernels=True))
    assert "np.uint64" not in str(prepared.explain())


def test_text_that_is_kept_by_code_is_told_as_it_would_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = tql.open(pa.table({"s": ["a", "b"] * 1000}))
    text = "select * where s == 'a'"
    before = only(explained(dataset, text, Settings("kernel")))
    assert before.tier == "reference" and "without a dictionary" in before.why
    monkeypatch.setattr(dictionaries, "TEXT_ENCODE", 0.0)
    ask(dataset.source, text, settings=Settings("kernel")).answer()
    after = only(explained(dataset, text, Settings("kernel")))
    assert (after.tier, after.state) == ("kernel", "compiled")
    assert after.source is not None
