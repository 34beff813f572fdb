"""Every conformance case, through the front, in both tiers.

`tests/cases` is a copy, never edited, of the cases that come with the contract; what a case means is
described in the header of `tql_cases.json`. No case is left out.
"""

import functools
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import tql
from tests.plain_kernels import run_as_python
from tests.profiles import NIGHTLY
from tql.dataset import View, view_of
from tql.engine.frame import Frame
from tql.engine.kernels import Program, compile_program
from tql.engine.reference import is_true
from tql.engine.scan import Settings
from tql.jit import Kernel
from tql.language.expr import Call, Expr, UserCall, walk
from tql.queries import ask
from tql.schema import Json, List, Text

FOLDER: Final = Path(__file__).parent / "cases"
ORIGINAL: Final = Path(__file__).parents[1] / "../shared/cases"


def _load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_datasets", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DATASETS: Final = _load(FOLDER / "datasets.py")
TABLES, CASES, HEADER = DATASETS.load(FOLDER / "tql_cases.json")
DRAWN: Final = [c for c in CASES if "distribution" in c["expect"]]
ANSWERED: Final = [c for c in CASES if "distribution" not in c["expect"]]
Tier = Literal["reference", "kernel"]


@pytest.mark.parametrize("file", sorted(f.name for f in FOLDER.iterdir() if f.is_file()))
def test_the_cases_are_those_of_the_contract(file: str) -> None:
    """Where the contract lies beside the checkout, as it does in CI; elsewhere the copy has to do."""
    original = (ORIGINAL if ORIGINAL.is_dir() else FOLDER) / file
    assert (FOLDER / file).read_bytes() == original.read_bytes()


@pytest.fixture(scope="module", autouse=True)
def user_functions() -> Iterator[None]:
    """What the cases call beside the language: `name: lambda a: …`."""
    for name, text in HEADER["udfs"].items():
        tql.register_function(eval(text), name)
    yield
    for name in HEADER["udfs"]:
        tql.unregister_function(name)


@functools.cache
def dataset(name: str) -> tql.Dataset:
    return tql.open(TABLES[name])


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    written: dict[str, str] = DATASETS.write_parquet(TABLES, tmp_path_factory.mktemp("cases"))
    return written


def answer(
    case: dict[str, Any], paths: dict[str, str], tier: Tier = "reference", seed: int = 0
) -> View:
    here = dataset(case["dataset"])
    text = DATASETS.query_text(case, paths)
    settings = Settings(tier)
    return view_of(ask(here.source, text, case.get("params"), seed=seed, settings=settings), here)


def rows_in(view: View, table: pa.Table) -> list[int]:
    """The rows of the case's data set: its `id` column equals the position."""
    if "id" in table.column_names:
        ids: list[int] = table.column("id").to_pylist()
        return ids
    return view.row_ids.tolist()


def plain_values(column: pa.ChunkedArray) -> list[Any]:
    """The values as Python has them; JSON as plain objects."""
    listed: list[Any] = column.to_pylist()
    if getattr(column.type, "extension_name", "") != "arrow.json":
        return listed
    return [None if v is None else json.loads(v) for v in listed]


@pytest.mark.parametrize("tier", ["reference", "kernel"])
@pytest.mark.parametrize("case", ANSWERED, ids=lambda c: c["id"])
def test_a_case_gives_the_expected_answer(
    case: dict[str, Any], tier: Tier, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as_python(monkeypatch)
    check(case, paths, tier)


def check(case: dict[str, Any], paths: dict[str, str], tier: Tier) -> None:
    """The case gives what it says it gives."""
    expect = case["expect"]
    if "error" in expect:
        with pytest.raises(tql.TqlError) as e:
            answer(case, paths, tier).to_arrow()
        assert e.value.diagnostic.code in expect["error"].split("|")
        return
    view = answer(case, paths, tier)
    table = view.to_arrow()
    if "indices" in expect:
        found, wanted = rows_in(view, table), expect["indices"]
        if not case["order_matters"]:
            found, wanted = sorted(found), sorted(wanted)
        assert found == wanted
    elif "values" in expect:
        values = {name: plain_values(table.column(name)) for name in expect["values"]}
        assert DATASETS.same(expect["values"], values), values
    else:
        assert len(view) == table.num_rows == expect["count"]


# -- which tier evaluates what -----------------------------------------------------------------

# All that kernels leave to the reference tier, and why.
WITHOUT_KERNEL: Final[dict[str, Callable[[Expr], bool]]] = {
    # Kernels look texts up by the code a dictionary gives them.
    "text without a dictionary": lambda e: isinstance(e.dtype, Text),
    "JSON is Python values": lambda e: isinstance(e.dtype, Json),
    "sequences hold arrays of any shape": lambda e: isinstance(e.dtype, List) and e.dtype.grouped,
    "functions of users are Python": lambda e: isinstance(e, UserCall),
    "arrays in arrays are compared whole": lambda e: (
        isinstance(e, Call) and e.function == "contains" and isinstance(e.arguments[1].dtype, List)
    ),
    "what is left along an axis would have to be stored": lambda e: (
        isinstance(e, Call) and len(e.arguments) == 2 and isinstance(e.dtype, List)
        and e.function not in ("logical_and", "logical_or")
    ),
    "not written": lambda e: isinstance(e, Call) and e.function in ("maxsim", "nonzero"),
    "depends on all rows": lambda e: isinstance(e, Call) and e.function == "bm25_similarity",
}  # fmt: skip


class Scanned(NamedTuple):
    """What the WHERE of a case came to."""

    conditions: Sequence[Expr]
    kernels: list[Kernel]  # that ran, in order
    interpreted: bool  # whether the reference tier evaluated a fragment


def scans_of(
    case: dict[str, Any], paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> list[Scanned]:
    """Each pass over a source that the kernel tier makes for the case."""
    passes: list[Scanned] = []
    kernel_for = Program.kernel_for

    def compiled(conditions: Sequence[Expr]) -> Program | None:
        passes.append(Scanned(conditions, [], False))
        return compile_program(conditions)

    def running(program: Program, type_of: Callable[[str], Any]) -> Kernel:
        kernel = kernel_for(program, type_of)
        passes[-1].kernels.append(kernel)
        return kernel

    def interpreted(e: Expr, frame: Frame) -> Any:
        passes[-1] = passes[-1]._replace(interpreted=True)
        return is_true(e, frame)

    with monkeypatch.context() as patch:
        patch.setattr("tql.engine.scan._compiled", compiled)
        patch.setattr(Program, "kernel_for", running)
        patch.setattr("tql.engine.scan.is_true", interpreted)
        answer(case, paths, "kernel").to_arrow()
    return passes


FILTERED: Final = [
    c for c in ANSWERED if "where" in c["query"].lower() and "error" not in c["expect"]
]


def test_conditions_are_evaluated_by_kernels_but_for_those_with_a_reason(
    paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the kernel tier above would be the reference tier by another name."""
    run_as_python(monkeypatch)
    kernels = everything = 0
    for case in FILTERED:
        for scanned in scans_of(case, paths, monkeypatch):
            nodes = [n for c in scanned.conditions for n in walk(c)]
            reasons = [r for r, holds in WITHOUT_KERNEL.items() if any(map(holds, nodes))]
            assert reasons or not scanned.interpreted, f"{case['id']}: {case['query']}"
            kernels += not scanned.interpreted
            everything += 1
    # 180 of 251 when this was written; the share may only grow.
    assert kernels / everything > 0.71, (kernels, everything)


def test_the_kernels_of_the_cases_give_the_same_when_they_are_compiled(
    paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above they run as the Python they are generated as. All shapes nightly, else every twelfth:
    there are about 90, and each takes half a second.
    """
    shapes: dict[tuple[str | None, str], tuple[dict[str, Any], Kernel]] = {}
    with monkeypatch.context() as patch:
        run_as_python(patch)
        for case in FILTERED:
            for _, kernels, interpreted in scans_of(case, paths, patch):
                for kernel in kernels if not interpreted else ():
                    shapes.setdefault((kernel.source, kernel.signature), (case, kernel))
    assert len(shapes) > 80
    chosen = list(shapes.values())[:: 1 if NIGHTLY else 12]
    for case, kernel in chosen:
        check(case, paths, "kernel")
        assert kernel.compiled, case["id"]


# -- draws: every seed below is fixed, so a failure is a change, not bad luck ------------------


@pytest.mark.parametrize("case", DRAWN, ids=lambda c: c["id"])
def test_draws_have_the_expected_distribution(case: dict[str, Any], paths: dict[str, str]) -> None:
    wanted = case["expect"]["distribution"]
    universe = len(dataset(case["dataset"]))
    match wanted:
        case {"reproducible_with_seed": seed}:
            first, again, third = (answer(case, paths, seed=seed).row_ids.tolist() for _ in "123")
            assert first == again == third
            others = [answer(case, paths, seed=s).row_ids.tolist() for s in range(20)]
            assert any(other != first for other in others)
        case {"permutation_of": rows}:
            assert sorted(answer(case, paths).row_ids.tolist()) == rows
        case {"n_mean": mean, "n_tol": tolerance}:
            assert abs(len(answer(case, paths)) - mean) <= tolerance
        case {"inclusion": inclusion, "repeats": repeats, "n": n, "tol": tolerance}:
            counts = np.zeros(universe)
            for seed in range(repeats):
                ids = answer(case, paths, seed=seed).row_ids
                assert len(ids) == n == len(np.unique(ids))
                counts[ids] += 1
            assert np.abs(counts / repeats - np.array(inclusion)).max() <= tolerance
        case {"probs": probs, "n": n, "tol": tolerance}:
            ids = answer(case, paths).row_ids
            assert len(ids) == n
            observed = np.bincount(ids, minlength=universe) / n
            assert not observed[np.array(probs) == 0].any()
            if tolerance is not None:
                assert np.abs(observed - np.array(probs)).max() <= tolerance
                _check_no_block_repeats(ids, np.array(probs))
        case _:
            raise AssertionError(f"an unknown kind of distribution: {wanted}")


def _check_no_block_repeats(ids: NDArray[np.int64], probs: NDArray[np.float64]) -> None:
    """Two draws at any distance agree as often as independent ones: 0.02 is six sigma."""
    agree = float((probs**2).sum())
    for lag in range(1, 300):
        assert abs(float((ids[lag:] == ids[:-lag]).mean()) - agree) < 0.02, (
            f"draws repeat after {lag}"
        )
