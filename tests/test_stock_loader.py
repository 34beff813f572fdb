"""Our data sets, views, transforms and samplers in stock torch DataLoaders, however workers start."""

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.loader_fakes import encoded, picture

torch = pytest.importorskip("torch")
data = torch.utils.data

ROWS = 120
STARTS = ["fork", "spawn", "forkserver"]


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> tql.Dataset:
    """120 rows in row groups of 20: a number, a class, a text, an image."""
    where = tmp_path_factory.mktemp("stock") / "rows.parquet"
    table = pa.table(
        {
            "x": np.arange(ROWS),
            "label": np.arange(ROWS) % 4,
            "name": [f"row {i}" for i in range(ROWS)],
            "image": pa.array([encoded(picture(i)) for i in range(ROWS)], pa.binary()),
        }
    )
    pq.write_table(table, where, row_group_size=20)
    return tql.open(where)


def dimmed(sample: dict[str, Any]) -> dict[str, Any]:
    return {"x": sample["x"], "image": sample["image"] // 2, "name": sample["name"]}


def pairs(samples: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """A collate_fn of a user: the number, and the sum of the pixels."""
    return [(int(s["x"]), int(s["image"].sum())) for s in samples]


@pytest.mark.parametrize("start", STARTS)
def test_workers_of_every_kind_give_every_row_of_a_view_in_every_epoch(
    start: str, ds: tql.Dataset
) -> None:
    view = ds.query("select * where label != 2")  # before the workers: threads, perhaps kernels
    stock: Any = view.pytorch(transform=dimmed)
    assert stock[0]["x"] == 0  # in the parent, too
    loader = data.DataLoader(
        stock, batch_size=16, shuffle=True, num_workers=2, multiprocessing_context=start,
        persistent_workers=True, collate_fn=pairs, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    wanted = {x: int((picture(x) // 2).sum()) for x in range(ROWS) if x % 4 != 2}
    epochs = [[pair for batch in loader for pair in batch] for _ in range(2)]
    for pairs_of_epoch in epochs:
        assert len(pairs_of_epoch) == len(wanted) == 90
        assert dict(pairs_of_epoch) == wanted
    assert epochs[0] != epochs[1]


def test_what_a_worker_is_sent_is_small_and_brings_no_data_along(ds: tql.Dataset) -> None:
    stock = ds.query("select * where label != 2").pytorch(transform=dimmed)
    assert len(pickle.dumps(stock)) < 10_000
    for i in range(len(stock)):
        assert stock[i]["name"] == f"row {stock[i]['x']}"
    assert len(pickle.dumps(stock)) < 10_000  # what was read and is kept stays in this process
    first = pickle.loads(pickle.dumps(stock))[0]
    assert np.array_equal(first["image"], picture(0) // 2)


MEMORY = """
import os, sys, psutil, torch, tql

ds = tql.open(sys.argv[1])
data = ds.pytorch()
loader = torch.utils.data.DataLoader(
    data, batch_size=250, shuffle=True, num_workers=2, multiprocessing_context="fork",
    persistent_workers=True, collate_fn=len,
)
def private():
    children = psutil.Process().children()
    return max(c.memory_full_info().uss for c in children) / 1e6
it = iter(loader)
next(it)
early = private()
assert 1 + sum(1 for _ in it) == len(loader)
for _ in range(2):
    sum(loader)
print(len(data), early, private())
"""


def test_epochs_do_not_add_to_the_memory_of_a_worker(tmp_path: Path) -> None:
    """What a worker keeps is what it has read, 0.4 MB here, however many epochs it gives; with one Python
    object a row it would grow as their pages are copied."""
    import os
    import subprocess

    where = tmp_path / "many.parquet"
    pq.write_table(pa.table({"x": np.arange(50_000)}), where, row_group_size=5_000)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, where], env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    rows, early, late = map(float, done.stdout.split())
    assert rows == 50_000
    assert late - early < 8, (early, late)  # MB


@pytest.mark.parametrize("workers", [0, 2])
def test_samplers_of_a_chain_and_of_torch_take_rows_by_place(workers: int, ds: tql.Dataset) -> None:
    chain = ds.dataloader(seed=3).sample_by(tql.balanced("label"), size=50).batch(8)
    everything: Any = ds.pytorch()
    ours: Any = {"batch_sampler": chain.batch_sampler, "num_workers": workers}
    loader = data.DataLoader(everything, **ours)
    for epoch in range(2):
        drawn = [x for batch in loader for x in batch["x"].tolist()]
        assert drawn == chain.plan.ids(epoch).tolist()
    weighted = data.WeightedRandomSampler([0.0] * 100 + [1.0] * 20, 40)
    theirs = data.DataLoader(everything, batch_size=8, sampler=weighted, num_workers=workers)
    seen = [x for batch in theirs for x in batch["x"].tolist()]
    assert len(seen) == 40 and min(seen) >= 100


def test_default_batches_are_tensors_and_text_without_a_warning(ds: tql.Dataset) -> None:
    stock: Any = ds.pytorch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = next(iter(data.DataLoader(stock, batch_size=4)))
    assert batch["image"].shape == (4, 6, 5, 3) and batch["image"].dtype == torch.uint8
    assert batch["x"].dtype == batch["label"].dtype == torch.int64
    assert batch["name"] == ["row 0", "row 1", "row 2", "row 3"]
    assert torch.equal(batch["image"][3], torch.from_numpy(picture(3)))


def test_pinning_is_left_to_the_stock_loader(ds: tql.Dataset, monkeypatch: Any) -> None:
    stock: Any = ds.pytorch()
    loader = data.DataLoader(stock, batch_size=8, pin_memory=True)
    if torch.accelerator.is_available():
        assert next(iter(loader))["image"].is_pinned()
    else:
        with pytest.warns(UserWarning, match="no accelerator is found"):
            assert next(iter(loader))["image"].shape == (8, 6, 5, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_loader_resumes_over_our_data_and_our_order(
    workers: int, ds: tql.Dataset
) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def make() -> Any:
        chain = ds.dataloader(seed=3).shuffle().batch(16)
        with warnings.catch_warnings():  # torchdata 0.11 calls a function that torch 2.13 is rid of
            warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)
            return stateful(
                ds.pytorch(), batch_sampler=chain.batch_sampler, num_workers=workers
            ), chain.plan

    loader, plan = make()
    begun = []
    for batch in loader:
        begun += batch["x"].tolist()
        if len(begun) == 48:
            break
    resumed, _ = make()
    resumed.load_state_dict(loader.state_dict())
    rest = [x for batch in resumed for x in batch["x"].tolist()]
    assert begun + rest == plan.ids(0).tolist()
    assert [x for batch in resumed for x in batch["x"].tolist()] == plan.ids(1).tolist()


class ImageFolder(data.Dataset):
    """What torchvision's is for a loader: files by class, an image and its class by place."""

    def __init__(self, folder: Path) -> None:
        self.classes = sorted(p.name for p in folder.iterdir())
        self.samples = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((folder / name).iterdir())
        ]
        self.targets = [label for _, label in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        from PIL import Image

        path, label = self.samples[i]
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image)), label


def test_ten_lines_balance_a_folder_of_images_that_is_not_ours(tmp_path: Path) -> None:
    for name, count in (("cat", 90), ("dog", 9), ("newt", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            (tmp_path / name / f"{i}.png").write_bytes(encoded(picture(i)))

    folder = ImageFolder(tmp_path)
    labels = tql.open({"label": np.array(folder.targets)}, class_names={"label": folder.classes})
    plan = labels.dataloader(seed=7).sample_by(tql.balanced("label"), mix="epoch").plan
    loader = data.DataLoader(folder, batch_size=10, sampler=plan.sampler())

    counts = np.bincount([int(label) for _, batch in loader for label in batch], minlength=3)
    assert counts.sum() == 100 and set(counts.tolist()) == {33, 34}
