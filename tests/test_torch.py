"""Batches as torch tensors, and rows for a stock torch DataLoader."""

import multiprocessing
import pickle
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.loader_fakes import (
    FakePlan,
    encoded,
    loader_of,
    mixed,
    picture,
    source_of,
)
from tql.diagnostics import TqlPlanError, TqlUnsupportedError
from tql.loader import FragmentRows, MapDataset, distributed_rank, torch_collate
from tql.rowset import from_mask
from tql.schema import Binary, Float, Int, List, Text, Time
from tql.sources import open_source

torch = pytest.importorskip("torch")


def test_a_batch_is_tensors_lists_of_text_and_index() -> None:
    batch = next(iter(loader_of(mixed(), collate=torch_collate(), batch_size=3)))
    assert {k: v.dtype for k, v in batch.items() if k != "name"} == {
        "x": torch.int32,
        "y": torch.float32,
        "flag": torch.bool,
        "image": torch.uint8,
        "index": torch.int64,
    }
    assert batch["image"].shape == (3, 6, 5, 3)
    assert torch.equal(batch["image"][2], torch.from_numpy(picture(2)))
    assert batch["name"] == ["row 0", "row 1", "row 2"]
    assert batch["index"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["uint16", "uint32", "uint64", "int8", "float16", "float64"])
def test_every_number_type_keeps_its_width(kind: str) -> None:
    dtype = (
        Float(int(kind[5:]))
        if kind.startswith("f")
        else Int(int(kind.strip("uint")), kind[0] != "u")
    )
    source = source_of(x=(dtype, np.arange(4, dtype=kind)))
    (batch,) = loader_of(source, collate=torch_collate(), batch_size=4)
    assert batch["x"].dtype == getattr(torch, kind)
    assert batch["x"].tolist() == [0, 1, 2, 3]


def test_tensors_share_the_memory_of_the_batch_and_may_be_written() -> None:
    from tql.loader.batch import Columns

    values = np.arange(3.0)
    made = torch_collate()(Columns(np.arange(3), {"x": values}))
    made["x"][0] = 9
    assert values[0] == 9


def test_what_torch_has_no_type_for_stays_and_ragged_columns_are_lists_of_tensors() -> None:
    source = source_of(
        t=(Time("s"), np.array([1, 2], "datetime64[s]")),
        r=(List(Int(64)), [[1], [2, 3]]),
        s=(Text(), ["a", None]),
        i=(Binary(image=True), [encoded(picture(1)), encoded(picture(2, 3, 3))]),
    )
    (batch,) = loader_of(source, collate=torch_collate(), batch_size=2)
    assert batch["t"].dtype == np.dtype("datetime64[s]")
    assert [r.tolist() for r in batch["r"]] == [[1], [2, 3]]
    assert batch["s"] == ["a", None]
    assert [tuple(i.shape) for i in batch["i"]] == [(6, 5, 3), (3, 3, 3)]


def test_what_a_transform_returns_is_stacked() -> None:
    def make(sample: dict[str, Any]) -> dict[str, Any]:
        image = sample["image"]
        return {
            "tensor": torch.from_numpy(image).permute(2, 0, 1).float() / 255,
            "flipped": image[:, ::-1],
            "number": float(sample["x"]),
            "ragged": np.zeros(sample["x"])[::-1],
            "frozen": np.broadcast_to(image[0, 0], (2, 3)) if sample["x"] else np.zeros(1),
        }

    (batch,) = loader_of(mixed(2), collate=torch_collate(), batch_size=2, transform=make)
    assert batch["tensor"].shape == (2, 3, 6, 5)
    assert batch["tensor"].dtype == torch.float32
    assert torch.equal(batch["flipped"][1], torch.from_numpy(picture(1)[:, ::-1].copy()))
    assert batch["number"].dtype == torch.float64
    assert [len(r) for r in batch["ragged"]] == [0, 1]
    assert [tuple(f.shape) for f in batch["frozen"]] == [(1,), (2, 3)]


def test_a_collate_fn_gets_the_list_of_samples_and_its_result_is_the_batch() -> None:
    def collate(samples: list[dict[str, Any]]) -> tuple[Any, ...]:
        assert isinstance(samples, list)
        assert all(s["image"].shape == (6, 5, 3) for s in samples)
        return tuple(s["index"] for s in samples)

    loader = loader_of(mixed(), collate=torch_collate(collate), batch_size=3)
    assert next(iter(loader)) == (0, 1, 2)


def test_torchs_own_default_collate_accepts_the_samples() -> None:
    default = torch.utils.data.default_collate
    batch = next(iter(loader_of(mixed(), collate=torch_collate(default), batch_size=3)))
    assert batch["image"].shape == (3, 6, 5, 3)
    assert batch["name"] == ["row 0", "row 1", "row 2"]


def test_pinning_without_a_device_says_that_it_does_nothing() -> None:
    if torch.cuda.is_available():
        collate = torch_collate(pin_memory=True)
        batch = next(iter(loader_of(mixed(), collate=collate, batch_size=3)))
        assert batch["image"].is_pinned()
    else:
        with pytest.warns(UserWarning, match="pin_memory=True has no effect"):
            torch_collate(pin_memory=True)


def test_pinning_reaches_every_tensor_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: ("pinned", tensor))
    batch = next(iter(loader_of(mixed(), collate=torch_collate(pin_memory=True), batch_size=2)))
    assert {k: v[0] for k, v in batch.items() if k != "name"} == dict.fromkeys(
        ("x", "y", "flag", "image", "index"), "pinned"
    )
    assert batch["name"] == ["row 0", "row 1"]
    own = torch_collate(lambda samples: [{"a": torch.zeros(2)}, 3], pin_memory=True)
    (nested, number) = next(iter(loader_of(mixed(), collate=own)))
    assert nested["a"][0] == "pinned"
    assert number == 3


def test_a_missing_torch_is_an_error_that_prints_the_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TqlUnsupportedError, match=r'pip install "tqlkit\[torch\]"'):
        torch_collate()


# torch.distributed


def test_distributed_without_a_process_group_is_an_error() -> None:
    with pytest.raises(TqlPlanError, match="init_process_group"):
        distributed_rank()


def rows_of_rank(rank: int, world: int, port: int, out: Any) -> None:
    """Runs in a spawned process."""
    import torch.distributed as dist

    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    try:
        mine, all_of_them = distributed_rank()
        loader = loader_of(
            mixed(20), batch_size=3, rank=mine, world_size=all_of_them, collate=torch_collate()
        )
        out.put((mine, [b["index"].tolist() for b in loader]))
    finally:
        dist.destroy_process_group()


def test_ranks_of_a_real_process_group_partition_the_rows() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    processes = [context.Process(target=rows_of_rank, args=(r, 2, port, out)) for r in range(2)]
    for process in processes:
        process.start()
    got = dict(out.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert got[0] == [[0, 1, 2], [6, 7, 8], [12, 13, 14], [18, 19]]
    assert got[1] == [[3, 4, 5], [9, 10, 11], [15, 16, 17]]


# MapDataset in a stock DataLoader


IDS = np.array([7, 3, 3, 44, 12, 0], np.int64)


def halve(sample: dict[str, Any]) -> dict[str, Any]:
    return {"image": sample["image"] // 2, "x": sample["x"], "name": sample["name"]}


def test_a_map_dataset_is_indexed_by_any_integer_from_both_ends() -> None:
    data = MapDataset(FragmentRows(mixed()), IDS, columns=("x", "name"))
    assert len(data) == 6
    assert data[0] == {"x": 7, "name": "row 7"}
    assert data[np.int64(3)]["x"] == data[-3]["x"] == 44
    assert [s["x"] for s in data] == IDS.tolist()
    for i in (6, -7):
        with pytest.raises(IndexError, match="the data set has 6 rows"):
            data[i]
    with pytest.raises(TypeError):
        data[1.0]  # type: ignore[index]


def test_getitems_reads_each_fragment_once_and_keeps_the_order() -> None:
    source = mixed()
    data = MapDataset(FragmentRows(source), IDS, return_index=True)
    samples = data.__getitems__([5, 1, 0, 2])
    assert [s["index"] for s in samples] == [0, 3, 7, 3]
    assert source.reads == [0]
    assert np.array_equal(samples[1]["image"], picture(3))
    assert not np.shares_memory(samples[1]["image"], samples[3]["image"])


def test_samples_that_are_held_stay_and_the_memory_of_those_dropped_is_used_again() -> None:
    pictures = [picture(k, 400, 400) for k in range(4)]
    column = pa.array([encoded(p) for p in pictures], pa.binary())
    data = MapDataset(FragmentRows(source_of(4, image=(Binary(image=True), column))), np.arange(4))

    def address(samples: list[dict[str, Any]]) -> int:
        at: int = samples[0]["image"].ctypes.data
        return at

    held = data.__getitems__([0, 1, 2])
    dropped = address(data.__getitems__([1, 2, 3]))
    again = data.__getitems__([3, 0, 1])
    assert address(again) == dropped != address(held)
    assert data._memory.nbytes == 2 * sum(p.nbytes for p in pictures[:3])
    for samples, rows in ((held, (0, 1, 2)), (again, (3, 0, 1))):
        for sample, row in zip(samples, rows, strict=True):
            assert np.array_equal(sample["image"], pictures[row])


def test_index_shows_rows_as_users_know_them() -> None:
    class Renamed(FragmentRows):
        def identify(self, rows: Any) -> Any:
            return rows * 100

    data = MapDataset(Renamed(mixed()), IDS, return_index=True, columns=("x",))
    assert data[0] == {"x": 7, "index": 700}


def test_a_dict_transform_of_a_map_dataset_names_the_columns() -> None:
    data = MapDataset(FragmentRows(mixed()), IDS, {"x": None, "image": np.mean})
    assert data[1] == {"x": 3, "image": picture(3).mean()}


def test_the_row_ids_of_a_map_dataset_stay_a_row_set() -> None:
    even = from_mask(np.arange(50) % 2 == 0)
    data = MapDataset(FragmentRows(mixed()), even, columns=("x",))
    assert data.row_ids is even
    assert [s["x"] for s in data.__getitems__([3, 0, -1])] == [6, 0, 48]


def test_what_a_transform_of_a_map_dataset_raises_names_row_and_column() -> None:
    def fail(x: Any) -> Any:
        raise ValueError("of the user")

    for transform, note in (
        ({"x": fail}, "tql: in the transform of row 3, column 'x'"),
        (fail, "tql: in the transform of row 3"),
    ):
        with pytest.raises(ValueError, match="of the user") as caught:
            MapDataset(FragmentRows(mixed()), IDS, transform)[1]
        assert caught.value.__notes__ == [note]


def test_workers_that_are_spawned_read_the_files_themselves(tmp_path: Path) -> None:
    where = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": np.arange(300)}), where, row_group_size=50)
    data = MapDataset(FragmentRows(open_source(where)), from_mask(np.arange(300) % 3 == 0))
    assert len(pickle.dumps(data)) < 20_000
    loader = torch.utils.data.DataLoader(
        data, batch_size=8, num_workers=2, multiprocessing_context="spawn"
    )
    assert [x for batch in loader for x in batch["x"].tolist()] == list(range(0, 300, 3))


@pytest.mark.parametrize("method", [None, "fork", "spawn"])
def test_a_stock_data_loader_gives_every_row_once(method: str | None) -> None:
    data = MapDataset(FragmentRows(mixed()), IDS, halve)
    data[0]  # what the parent has read and decided does not disturb its children
    options = {} if method is None else {"num_workers": 2, "multiprocessing_context": method}
    generator = torch.Generator().manual_seed(3)
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, shuffle=True, generator=generator, **options
    )
    batches = list(loader)
    assert sorted(x for b in batches for x in b["x"].tolist()) == sorted(IDS.tolist())
    for batch in batches:
        for image, x, name in zip(batch["image"], batch["x"], batch["name"]):
            assert np.array_equal(image.numpy(), picture(int(x)) // 2)
            assert name == f"row {x}"


def test_epochs_of_tensors_do_not_overwrite_tensors_that_are_held() -> None:
    source = source_of(
        8, image=(Binary(image=True), [encoded(picture(i, 120, 120)) for i in range(64)])
    )
    plan = FakePlan(np.arange(64, dtype=np.int64))
    loader = loader_of(source, plan, torch_collate(), batch_size=32, num_threads=2)
    held = [(b["index"].tolist(), b["image"][3]) for _ in range(4) for b in loader]
    for index, image in held:
        assert torch.equal(image, torch.from_numpy(picture(index[3], 120, 120)))
