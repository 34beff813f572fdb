"""explain with kernels: the tier of each node, the reason, and the loop."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.explain_data import digits
from tql import cli, jit, kernel_jobs
from tql.dataset import Dataset
from tql.engine import zones
from tql.engine.kernels import program
from tql.engine.scan import Settings
from tql.language.plan import Filter
from tql.queries import ask
from tql.reports.explain import Explanation, explain_query
from tql.reports.kernels import KernelNote
from tql.sources.parquet import ParquetSource

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


def test_text_that_is_kept_by_code_is_told_as_it_would_be_read() -> None:
    dataset = tql.open(pa.table({"s": ["a", "b"] * 1000}))
    text = "select * where s == 'a'"
    before = only(explained(dataset, text, Settings()))
    assert before.tier == "reference" and "without a dictionary" in before.why
    ask(dataset.source, text, settings=Settings("kernel")).answer()
    after = only(explained(dataset, text, Settings("kernel")))
    assert (after.tier, after.state) == ("kernel", "compiled")
    assert after.source is not None


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that are read."""
    seen: list[int] = []
    read = ParquetSource.read

    def seeing(source: ParquetSource, fragment: int, columns: Sequence[str]) -> pa.Table:
        seen.append(fragment)
        return read(source, fragment, columns)

    monkeypatch.setattr(ParquetSource, "read", seeing)
    return seen


def by_hundreds(path: Path) -> Dataset:
    """Ten row groups, sorted by both columns."""
    words = pa.array([f"{k // 50:03}" for k in range(1000)])
    table = pa.table({"x": np.arange(1000), "word": words})
    pq.write_table(table, path / "sorted.parquet", row_group_size=100)
    return tql.open(str(path / "sorted.parquet"))


def test_only_what_a_run_would_read_is_read_to_tell(tmp_path: Path, reads: list[int]) -> None:
    dataset = by_hundreds(tmp_path)
    for condition, without, more in (
        ("x between 450 and 620", [4, 6], []),  # numbers are laid out alike everywhere
        ("word in ('009', '011')", [4, 5], [4]),
        ("x >= 500", [], []),
    ):
        reads.clear()
        dataset.explain(f"select * where {condition}")
        assert sorted(reads) == without
        reads.clear()
        dataset.explain(f"select * where {condition}", kernels=True)
        assert sorted(reads) == sorted([*without, *more]), condition


def test_a_condition_that_statistics_decide_needs_no_tier(tmp_path: Path) -> None:
    note = only(by_hundreds(tmp_path).explain("select * where x >= 500", kernels=True))
    assert (note.tier, note.state, note.source) == ("reference", None, None)
    assert note.why == "what is known of the values decides it: nothing is read"


def test_zones_that_a_run_would_leave_out_are_told() -> None:
    rows = 20 * zones.ZONE_ROWS
    dataset = tql.open({"x": np.arange(rows), "y": np.arange(rows) % 7})
    text = "select * where x between 100 and 70000"
    assert "2 of 2 fragments kept; columns: x" in str(dataset.explain(text))
    for _ in range(3):
        dataset.query(text)
    scan = dataset.explain(text).root
    while scan.children:
        (scan,) = scan.children
    assert scan.title == "memory, 2 of 20 zones kept; columns: x"
    assert scan.bytes == 2 * zones.ZONE_ROWS * 8
    assert "2 of 2 fragments kept" in str(dataset.explain("select * where y == 3"))
    beyond = only(dataset.explain(f"select * where x > {rows}", kernels=True))
    assert beyond.why == "what is known of the values decides it: nothing is read"


def test_a_kernel_is_weighed_by_the_rows_that_a_run_would_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = tql.open({"x": np.arange(20 * zones.ZONE_ROWS)})
    text = "select * where x between 100 and 70000"
    for _ in range(3):
        dataset.query(text)
    plan = ask(dataset.source, text).bound.plan
    assert isinstance(plan, Filter)
    made = program.compile_program([plan.predicate])
    assert made is not None
    weighed: list[float] = []

    def outlook(k: jit.Kernel, ns: float) -> tuple[jit.Step, str]:
        if k.__name__ == "predicate":
            weighed.append(ns)
        return "leave", "it is only asked for"

    monkeypatch.setattr(jit.Kernel, "outlook", outlook)
    assert only(dataset.explain(text, kernels=True)).why == "it is only asked for"
    assert set(weighed) == {2 * zones.ZONE_ROWS * made.cost_ns_per_row}


def test_telling_counts_nothing_towards_a_zone_map() -> None:
    dataset = tql.open({"x": np.arange(20 * zones.ZONE_ROWS)})
    plan = ask(dataset.source, "select * where x between 100 and 70000").bound.plan
    assert isinstance(plan, Filter)
    for _ in range(5):
        assert len(zones.outlook(dataset.source, [plan.predicate]).kept) == 2
    assert dataset.source not in zones._MAPS


NEVER = "TQL_COMPILE=never: what is not on disk is not compiled"


def large() -> Dataset:
    return tql.open({"x": np.arange(100_000)})


def test_compiling_that_is_forbidden_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "LOAD_NS", 0.0)
    monkeypatch.setenv("TQL_COMPILE", "never")
    note = only(large().explain("select * where x != 5", kernels=True))
    assert (note.tier, note.why, note.state) == ("reference", NEVER, "not compiled")


def test_a_kernel_that_a_child_is_to_make_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "LOAD_NS", 0.0)
    monkeypatch.setattr(jit, "START_NS", 0.0)
    monkeypatch.setenv("TQL_COMPILE", "background")
    monkeypatch.setattr(kernel_jobs, "is_coming", lambda *order: True)  # but it takes its time
    note = only(large().explain("select * where x != 5", kernels=True))
    assert (note.tier, note.state) == ("reference", "not compiled")
    assert note.why == "a child process compiles it, or soon will"


def test_a_kernel_that_cannot_be_compiled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(k: jit.Kernel) -> bytes:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(jit, "compile_kernel", broken)
    monkeypatch.setattr(jit, "LOAD_NS", 0.0)
    monkeypatch.setattr(jit, "COMPILE_NS", 0.0)
    monkeypatch.setenv("TQL_COMPILE", "inline")
    dataset, text = large(), "select * where x != 5"
    assert len(dataset.query(text)) == 99_999  # it is tried, and fails
    note = only(dataset.explain(text, kernels=True))
    why = "RuntimeError: no compiler here"
    assert note.why == f"the kernel cannot be compiled here: {why}"
    assert (note.tier, note.state) == ("reference", why)
