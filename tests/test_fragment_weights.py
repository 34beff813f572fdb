"""Weights of so many rows that loaders keep sums of fragments, and work rows out as windows come."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.explain_data import Watched
from tql.chain import DataLoader
from tql.dataset import Dataset
from tql.diagnostics import TqlError
from tql.weights import ClassWeights, FragmentWeights, RowWeights

ROWS, GROUP = 12_000, 500


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 row groups of 500 rows; `holes` is null in the row 7,777."""
    path = tmp_path_factory.mktemp("weighed") / "rows.parquet"
    score = np.arange(ROWS) * 7919 % 1009 / 500.0
    table = pa.table(
        {
            "row": np.arange(ROWS),
            "score": score,
            "part": np.arange(ROWS) % 3,
            "holes": [None if i == 7_777 else float(v) for i, v in enumerate(score)],
            "signs": np.where(np.arange(ROWS) == 3_333, -1.0, 1.0),
            "payload": ["x" * 50] * ROWS,
        }
    )
    pq.write_table(table, path, row_group_size=GROUP, use_dictionary=False)
    return path


@pytest.fixture
def data(file: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr("tql.planning.BY_FRAGMENT", 2_000)
    return tql.open(file)


def loader(data: Dataset, weight: Any = "score + 1", **choices: Any) -> DataLoader:
    choices = {"mix": "epoch", **choices}
    return data.dataloader(seed=3).sample_by(weight, **choices).shuffle(buffer_size=0.4)


@pytest.mark.parametrize(
    ("query", "weight"),
    [(None, "score + 1"), (None, "score * score"), ("select * where part != 1", "score + row / 9000"),
     ("select row, score * 2 as twice where row % 7 < 5", "twice + 0.5"),
     ("select * where row between 900 and 3600", "score"),
     (None, "max_weight(part == 0: score, true: 0.25)")],
)  # fmt: skip
def test_rows_come_as_often_as_with_all_weights_in_memory(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, query: str | None, weight: str
) -> None:
    view = data if query is None else data.query(query)
    plan = loader(view, weight, size=20_000).plan
    found = plan.weights
    assert isinstance(found, FragmentWeights) and found.nbytes < 1_000
    monkeypatch.setattr("tql.planning.BY_FRAGMENT", 1 << 27)
    eager = loader(view, weight, size=20_000).plan
    assert isinstance(eager.weights, RowWeights)
    units = np.concatenate([found.units(f) for f in range(found.counts.size)])
    share = eager.weights.values / eager.weights.values.sum()
    assert np.abs(units / units.sum(dtype=np.float64) - share).max() < 1e-14
    rows = plan.population.to_numpy()
    for epoch in (0, 1):
        times = np.bincount(np.searchsorted(rows, plan.ids(epoch)), minlength=rows.size)
        assert times.sum() == 20_000 and np.abs(times - share * 20_000).max() < 1 + 1e-9
    assert plan.windows is not None  # also where the eager plan is a permutation of everything


def test_batches_are_those_of_the_plan_and_fragments_are_read_as_they_come(data: Dataset) -> None:
    source = Watched(data.source)
    chain = loader(Dataset(source, "watched")).batch(50).numpy(tensors=["row", "payload"])
    plan = chain.plan
    assert {columns for _, columns in source.reads} == {("score",)}
    source.reads.clear()
    for i, batch in enumerate(chain):
        assert np.array_equal(batch["row"], plan.draw(50 * i, 50 * (i + 1)))
        if i == 9:
            break
    loaded = {f for f, columns in source.reads if columns == ("row", "payload")}
    assert len(loaded) < ROWS // GROUP  # of the first windows, and a few ahead
    chain.close()


def test_plans_are_the_same_when_they_are_made_again(
    data: Dataset, tmp_path: Path, file: Path
) -> None:
    chain = loader(data)
    plan = chain.plan
    plan.save(tmp_path / "plan.json")
    again = tql.load_plan(tmp_path / "plan.json", file)
    assert again.fingerprint == plan.fingerprint == loader(tql.open(file)).plan.fingerprint
    assert isinstance(again.weights, FragmentWeights)
    assert np.array_equal(again.ids(1), plan.ids(1))
    assert np.array_equal(pickle.loads(pickle.dumps(plan)).draw(0, 90), plan.draw(0, 90))
    assert loader(data, "score + 2").plan.fingerprint != plan.fingerprint


def test_what_has_no_weight_of_its_own_row_by_row_is_weighed_at_once(data: Dataset) -> None:
    @tql.register_function
    def doubled(value: float) -> float:
        return 2 * value

    try:
        for weight, kind in (
            ("max_weight(part == 0: 3, true: 1)", ClassWeights), ("balanced(part)", ClassWeights),
            ("random() + 0.5", RowWeights), ("doubled(score)", RowWeights),
            (np.arange(1.0, ROWS + 1), RowWeights),
        ):  # fmt: skip
            assert isinstance(loader(data, weight).plan.weights, kind), weight
    finally:
        tql.unregister_function("doubled")
    for other in (
        loader(data, mix="iid"), loader(data, replace=False, size=50),
        data.dataloader().sample_by("score", mix="epoch").shuffle(),
        loader(data.query("select * where row < 1500")),
    ):  # fmt: skip
        assert isinstance(other.plan.weights, RowWeights)


@pytest.mark.parametrize("weight", ["holes", "signs", "score / 0 + 1", "nothing", "score +"])
def test_errors_are_those_of_weights_in_memory(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, weight: str
) -> None:
    with pytest.raises(TqlError) as lazy:
        _ = loader(data, weight).plan
    monkeypatch.setattr("tql.planning.BY_FRAGMENT", 1 << 27)
    with pytest.raises(TqlError) as eager:
        _ = loader(data, weight).plan
    assert lazy.type is eager.type and str(lazy.value) == str(eager.value)


def test_a_window_of_everything_is_a_permutation_all_the_same(data: Dataset) -> None:
    plan = data.dataloader().sample_by("score + 1", mix="epoch").shuffle(buffer_size=900).plan
    assert isinstance(plan.weights, FragmentWeights) and plan.windows is not None
    assert plan.windows.length >= ROWS and "global permutation" in plan.notes[-1]
    assert "windows of" not in f"{plan!r} {plan.explain()}"
    with pytest.raises(TqlError, match="looked up by fragment"):
        _ = data.dataloader().sample_by("score + 1", mix="epoch").shuffle(vif=1.5, by="part").plan
