"""Where plans go: ids in files, other people's data by position, Hugging Face and Grain."""

import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import grain
import numpy as np
import pyarrow as pa
import pytest
from grain.samplers import SequentialSampler
from grain.sharding import NoSharding
from numpy.typing import NDArray

import tql
from tql.diagnostics import TqlDataError, TqlPlanError, TqlTypeError
from tql.planner import PlannedSource, Windows, make_plan
from tql.rowset import everything
from tql.weights import RowWeights

N = 53
SHUFFLED = make_plan(everything(N), shuffle=True, seed=3)
PLANS = {
    "shuffled": SHUFFLED,
    "weighted": make_plan(everything(N), RowWeights(np.arange(1.0, N + 1)), seed=3),
    "in windows": make_plan(
        everything(N), shuffle=True, edges=np.array([0, 20, 40, N]), windows=Windows(9, lanes=3)
    ),
    "nothing": make_plan(everything(0)),
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
TENS = np.arange(N) * 10


def as_npy(path: Path) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.load(path)
    return found


def as_arrow(path: Path) -> NDArray[np.int64]:
    with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as file:
        assert file.schema.names == ["row_id"] and not file.schema.field(0).nullable
        column = file.read_all().column(0)
        return np.array(column.to_numpy())  # a copy: the file is closed


READERS: dict[str, Callable[[Path], NDArray[np.int64]]] = {
    "ids.npy": as_npy, "ids.arrow": as_arrow, "ids.feather": as_arrow, "ids.ipc": as_arrow,
}  # fmt: skip


# -- files -------------------------------------------------------------------------------------


@every_plan
@pytest.mark.parametrize(("name", "read"), READERS.items(), ids=list(READERS))
def test_ids_are_written_and_read_by_others(
    plan: tql.Plan, name: str, read: Callable[[Path], NDArray[np.int64]], tmp_path: Path
) -> None:
    for epoch in (0, 4):
        plan.save_ids(tmp_path / name, epoch)
        found = read(tmp_path / name)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, plan.ids(epoch))
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["ids.npy", "ids.arrow"])
def test_ids_of_a_long_epoch_need_the_memory_of_a_block(name: str, tmp_path: Path) -> None:
    plan = make_plan(everything(6_000_000), shuffle=True)
    plan.save_ids(tmp_path / name)  # what is loaded or compiled once is not what is measured
    tracemalloc.start()
    plan.save_ids(tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / name).stat().st_size > 48_000_000
    assert peak < 30_000_000
    found = READERS[name](tmp_path / name)
    assert found[5_999_000:].tolist() == plan.draw(5_999_000, 6_000_000).tolist()
    assert np.bincount(found).max() == 1


def test_ids_are_mapped_without_being_read(tmp_path: Path) -> None:
    SHUFFLED.save_ids(tmp_path / "ids.npy", epoch=1)
    mapped = np.load(tmp_path / "ids.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap) and mapped.tolist() == SHUFFLED.ids(1).tolist()


def test_ids_that_cannot_be_written_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(TqlPlanError, match=r"no format is known by \.txt"):
        SHUFFLED.save_ids(tmp_path / "ids.txt")
    with pytest.raises(TqlDataError, match="could not be written"):
        SHUFFLED.save_ids(tmp_path / "no folder" / "ids.npy")
    with pytest.raises(TqlPlanError, match="epoch -1"):
        SHUFFLED.save_ids(tmp_path / "ids.npy", -1)
    (tmp_path / "ids.npy").mkdir()
    with pytest.raises(TqlDataError, match="could not be written"):
        SHUFFLED.save_ids(tmp_path / "ids.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["ids.npy"]


# -- by position -------------------------------------------------------------------------------


class Together:
    """Data that notes what is asked at once."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __getitem__(self, row: int) -> int:
        return 10 * row

    def __getitems__(self, rows: list[int]) -> list[int]:
        self.asked.append(rows)
        return [10 * row for row in rows]


@every_plan
def test_a_source_gives_the_rows_of_the_positions_of_its_epochs(plan: tql.Plan) -> None:
    source = plan.source(TENS, epoch=2, epochs=3)
    wanted = [10 * row for epoch in (2, 3, 4) for row in plan.ids(epoch).tolist()]
    assert len(source) == len(wanted) == 3 * len(plan)
    assert [int(source[i]) for i in range(len(source))] == wanted
    assert [int(v) for v in source.__getitems__(range(len(wanted)))] == wanted
    back = np.random.default_rng(1).permutation(len(wanted)) - len(wanted)
    assert [int(v) for v in source.__getitems__(back.tolist())] == [wanted[i] for i in back]
    again = pickle.loads(pickle.dumps(source))
    assert [int(again[i]) for i in range(len(again))] == wanted


def test_a_batch_is_asked_for_at_once_where_the_data_can() -> None:
    data = Together()
    rows = SHUFFLED.ids().tolist()
    assert SHUFFLED.source(data).__getitems__([3, 1, 4]) == [10 * rows[i] for i in (3, 1, 4)]
    assert data.asked == [[rows[3], rows[1], rows[4]]]


def test_items_of_a_long_source_are_found_block_by_block() -> None:
    plan = make_plan(everything(5000), shuffle=True, seed=1)
    source = plan.source(range(5000), epochs=2)
    assert list(map(source.__getitem__, range(10_000))) == [*plan.ids(0), *plan.ids(1)]
    assert source[-1] == plan.ids(1)[-1]


def test_what_is_no_item_or_no_epoch_is_refused() -> None:
    source = SHUFFLED.source(TENS)
    for i in (N, -N - 1):
        with pytest.raises(IndexError):
            source[i]
        with pytest.raises(IndexError):
            source.__getitems__([0, i])
    assert sum(1 for _ in iter(source)) == N
    with pytest.raises(TqlPlanError, match="0 epochs"):
        SHUFFLED.source(TENS, epochs=0)
    with pytest.raises(TqlTypeError):
        SHUFFLED.source(TENS, epoch="1")  # type: ignore[arg-type]
    assert repr(source).startswith("<PlannedSource <Plan") and "ndarray" in repr(source)


# -- real packages -----------------------------------------------------------------------------


def test_a_hugging_face_data_set_is_put_in_the_order_of_a_plan() -> None:
    theirs = datasets.Dataset.from_dict({"id": TENS.tolist(), "kind": [i % 3 for i in range(N)]})
    ds = tql.open(theirs)
    plan = ds.dataloader(seed=2).query("select * where kind != 1").sample_by("id + 1").plan
    chosen = theirs.select(plan.ids(epoch=1))
    assert list(chosen["id"]) == [10 * row for row in plan.ids(1).tolist()]
    assert set(chosen["kind"]) == {0, 2}


@every_plan
def test_grain_reads_the_positions_of_a_plan(plan: tql.Plan) -> None:
    source: Any = plan.source(TENS, epochs=2)
    assert isinstance(source, grain.sources.RandomAccessDataSource)
    found = [int(v) for v in grain.MapDataset.source(source)]
    assert found == [10 * row for epoch in (0, 1) for row in plan.ids(epoch).tolist()]


def test_grain_resumes_in_the_order_of_a_plan() -> None:
    ds = tql.open({"id": TENS})
    source: Any = SHUFFLED.source(ds.pytorch())
    batches = grain.MapDataset.source(source).map(lambda row: row["id"]).batch(8).to_iter_dataset()
    iterator = iter(batches)
    first = [next(iterator).tolist() for _ in range(3)]
    state = iterator.get_state()
    resumed = iter(batches)
    resumed.set_state(state)
    rest = [batch.tolist() for batch in resumed]
    given = [value for batch in first + rest for value in batch]
    assert given == [10 * row for row in SHUFFLED.ids().tolist()]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_of_grain_gives_the_same_with_workers(workers: int) -> None:
    source: PlannedSource = SHUFFLED.source(TENS, epochs=2)
    loader = grain.DataLoader(
        data_source=source,  # type: ignore[arg-type]
        sampler=SequentialSampler(len(source), shard_options=NoSharding()),
        worker_count=workers,
    )
    wanted = [10 * row for epoch in (0, 1) for row in SHUFFLED.ids(epoch).tolist()]
    assert [int(v) for v in loader] == wanted
