"""Every conformance case, through the front, in both tiers.

The cases and their data sets lie outside this repository, in `../shared/cases`; what a case means
is described in the header of `tql_cases.json`. No case is left out.
"""

import functools
import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import tql
from tests.plain_kernels import run_as_python
from tql.dataset import View, view_of
from tql.engine.scan import Settings
from tql.queries import ask

FOLDER: Final = Path(__file__).parents[1] / "../shared/cases"


def _load(file: Path) -> ModuleType:
    if not file.is_file():
        raise FileNotFoundError(
            f"the conformance cases are missing: expected {file.resolve()}. They lie in shared/cases "
            "beside the repository."
        )
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


def test_most_conditions_of_the_cases_are_evaluated_by_kernels(
    paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the kernel tier above would be the reference tier by another name."""
    calls = run_as_python(monkeypatch)
    with_kernel = Counter[bool]()
    for case in ANSWERED:
        if "where" in case["query"].lower() and "indices" in case["expect"]:
            before = calls["predicate"]
            answer(case, paths, "kernel")
            with_kernel[calls["predicate"] > before] += 1
    assert with_kernel[True] > 100, with_kernel


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
