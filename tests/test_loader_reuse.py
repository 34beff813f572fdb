"""`reuse=True`: batches in a ring of memory, each valid until the next one is asked for."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import tql
from tests.loader_fakes import encoded, loader_of, mixed, picture, source_of
from tql.diagnostics import TqlTypeError
from tql.loader import Supply
from tql.loader.memory import Lap, Ring, fresh_block
from tql.loader.options import Options
from tql.schema import Binary, Int

torch = pytest.importorskip("torch")


def address(values: Any) -> int:
    return int(values.data_ptr() if isinstance(values, torch.Tensor) else values.ctypes.data)


def table(n: int = 400) -> pa.Table:
    images = [encoded(picture(i % 7)) for i in range(n)]
    return pa.table(
        {"x": np.arange(n, dtype=np.uint16), "y": np.arange(n) / 4, "image": pa.array(images, pa.binary())}
    )  # fmt: skip


@pytest.mark.parametrize("output", ["numpy", "pytorch"])
def test_the_addresses_repeat_and_the_values_are_right_in_step(output: str) -> None:
    ds = tql.open(table())
    chain = ds.dataloader(seed=3).shuffle().batch(8)
    ours = getattr(chain, output)(reuse=True, num_threads=2, remainder="pad")
    plain = chain.numpy(remainder="pad")
    laps: dict[str, set[int]] = {name: set() for name in ("x", "y", "image", "index", "_pad")}
    warm: dict[str, int] = {}
    for epoch in range(3):
        for batch, expected in zip(ours, plain, strict=True):
            assert list(batch) == list(expected)
            for name, values in batch.items():
                laps[name].add(address(values))
                assert np.array_equal(np.asarray(values), expected[name])
        if not epoch:
            warm = {name: len(found) for name, found in laps.items()}
    assert {
        name: len(found) for name, found in laps.items()
    } == warm  # nothing new after the first pass
    in_the_making = 1 + 2 * 1
    assert max(warm.values()) <= in_the_making + 1


def test_without_it_a_batch_is_valid_for_as_long_as_it_is_held() -> None:
    batches = list(tql.open(table()).dataloader().batch(8).numpy())
    assert np.array_equal(np.concatenate([b["x"] for b in batches]), np.arange(400))
    assert len({address(b["image"]) for b in batches}) == 50


def test_a_batch_is_not_written_before_the_next_is_asked_for() -> None:
    loader = loader_of(mixed(200), batch_size=4, reuse=True, num_threads=4, prefetch_factor=4)
    for i, batch in enumerate(loader):
        if i % 10 == 0:
            time.sleep(0.02)  # all that may be made ahead is being made
        assert batch["x"].tolist() == batch["index"].tolist() == [4 * i + k for k in range(4)]
        for row, image in zip(batch["index"], batch["image"], strict=True):
            assert np.array_equal(image, picture(int(row)))


def test_two_passes_at_once_have_a_ring_each() -> None:
    loader = loader_of(mixed(60), batch_size=6, reuse=True)
    for a, b in zip(loader, loader, strict=True):
        assert address(a["x"]) != address(b["x"])
        assert a["x"].tolist() == b["x"].tolist() == a["index"].tolist()


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_batches_with_broken_rows_are_made_in_the_ring(policy: Any) -> None:
    data = [encoded(picture(i)) for i in range(40)]
    for bad in (3, 4, 17):
        data[bad] = data[bad][:50]
    source = source_of(
        image=(Binary(image=True), pa.array(data, pa.binary())), x=(Int(), np.arange(40))
    )
    loader = loader_of(source, batch_size=5, reuse=True, on_error=policy)
    for _ in range(2):
        for batch in loader:
            assert batch["x"].tolist() == batch["index"].tolist()
            for row, image in zip(batch["index"], batch["image"], strict=True):
                assert np.array_equal(image, picture(int(row)))
    assert loader.errors().rows == (3, 4, 17)


def double(sample: dict[str, Any]) -> dict[str, Any]:
    return {"twice": sample["image"] // 2, "x": sample["x"]}


def test_what_a_transform_makes_is_stacked_in_the_ring() -> None:
    chain = tql.open(table(96)).dataloader().batch(8).transform(double)
    loader = chain.pytorch(reuse=True, num_threads=1)
    seen: set[int] = set()
    for _ in range(2):
        for batch in loader:
            seen.add(address(batch["twice"]))
            assert batch["x"].tolist() == batch["index"].tolist()
            assert np.array_equal(batch["twice"][1], picture(int(batch["x"][1]) % 7) // 2)
    assert len(seen) <= 1 + 2 + 1


def test_padded_columns_are_made_in_the_ring() -> None:
    rows = [list(range(i % 5)) for i in range(80)]
    images = [encoded(picture(i, 3 + i % 4, 5)) for i in range(80)]
    ds = tql.open(pa.table({"ids": rows, "image": pa.array(images, pa.binary())}))
    chain = ds.dataloader().batch(8)
    loader = chain.numpy(reuse=True, ragged={"ids": "mask", "image": "pad"}, num_threads=1)
    seen: dict[str, set[int]] = {}
    for _ in range(3):
        for batch in loader:
            for name, values in batch.items():
                seen.setdefault(name, set()).add(address(values))
            for i, row in enumerate(batch["index"].tolist()):
                assert batch["ids"][i][batch["ids_mask"][i]].tolist() == rows[row]
                height = batch["image_shape"][i][0]
                assert np.array_equal(batch["image"][i][:height], picture(row, 3 + row % 4, 5))
                assert not batch["image"][i][height:].any()
    # A block may grow once for each batch that is in the ring.
    assert all(len(found) <= 2 * 4 for found in seen.values())


class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """Batches with their addresses, all of them held, as a worker holds those it is sending."""

    def __init__(self, chain: Any) -> None:
        self.chain = chain
        self.held: list[Any] = []

    def __iter__(self) -> Any:
        for batch in self.chain:
            self.held.append(batch)
            yield {"at": address(batch["y"]), "x": batch["x"].clone()}


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_worker_processes_of_a_dataloader_have_no_ring() -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    chain = tql.open(table(160)).dataloader().batch(8).pytorch(reuse=True)
    for kind, workers in ((torch.utils.data.DataLoader, 1), (stateful.StatefulDataLoader, 0)):
        context = "fork" if workers else None
        found = list(
            kind(
                Stream(chain), batch_size=None, num_workers=workers, multiprocessing_context=context
            )
        )
        assert [b["x"].tolist() for b in found] == [list(range(i, i + 8)) for i in range(0, 160, 8)]
        assert (len({b["at"] for b in found}) == 20) == (workers == 1)


def test_tensorflow_keeps_batches_and_so_has_no_ring() -> None:
    chain: Any = tql.open(table(8)).dataloader()
    with pytest.raises(TqlTypeError, match=r"tensorflow\(\) has no parameter 'reuse'"):
        chain.tensorflow(reuse=True)


def test_reuse_is_yes_or_no() -> None:
    with pytest.raises(TqlTypeError, match="reuse is 'always'; expected True or False"):
        Options(reuse="always")  # type: ignore[arg-type]


# -- the parts ------------------------------------------------------------------------------------


def test_a_lap_makes_a_block_only_where_the_last_was_too_small() -> None:
    made: list[int] = []

    def allocate(size: int) -> npt.NDArray[np.uint8]:
        made.append(size)
        return fresh_block(size)

    lap = Lap(Supply(allocate))
    for kind, size in (("f4", 6), ("u1", 3), ("f4", 5), ("f4", 6), ("f4", 7), ("f4", 2)):
        a, b = lap.array((size, 2), kind), lap.array((4,), "M8[us]")
        assert a.shape == (size, 2) and a.dtype == np.dtype(kind) and a.flags.c_contiguous
        assert b.flags.writeable and not np.shares_memory(a, b)
        lap.restart()
    assert made == [48, 32, 56]


def test_a_ring_waits_until_nothing_reads_what_it_will_write() -> None:
    said: list[str] = []

    def done() -> Callable[[], None]:
        said.append("done")
        return lambda: said.append("waited")

    ring = Ring(Supply(fresh_block, done))
    first, second = ring.take(), ring.take()
    ring.give_back(first)
    ring.give_back(second)
    assert said == ["done", "done"]
    assert ring.take() is first
    assert said == ["done", "done", "waited"]
    assert ring.take() is second
    assert ring.take() not in (first, second)


def test_a_pinned_ring_is_pinned_once_and_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what torch is asked for, and that its answer is what batches lie in."""
    pinned: list[Any] = []
    events: list[str] = []
    empty = torch.empty

    def page_locked(size: int, dtype: Any, pin_memory: bool) -> Any:
        assert pin_memory and dtype == torch.uint8
        pinned.append(empty(size, dtype=dtype))
        return pinned[-1]

    class Event:
        def record(self) -> None:
            events.append("record")

        def synchronize(self) -> None:
            events.append("synchronize")

    def within(tensor: Any) -> bool:
        at = tensor.data_ptr()
        return any(p.data_ptr() <= at < p.data_ptr() + max(1, p.numel()) for p in pinned)

    monkeypatch.setattr(torch, "empty", page_locked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.Tensor, "is_pinned", within)
    monkeypatch.setattr(torch.Tensor, "pin_memory", None)  # a copy would need it
    chain = tql.open(table(80)).dataloader().batch(8)
    loader = chain.pytorch(reuse=True, pin_memory=True, num_threads=1)
    counts = []
    for _ in range(3):
        assert all(all(map(within, batch.values())) for batch in loader)
        counts.append(len(pinned))
    assert counts[0] == counts[2] <= 4 * len(batch_names(chain))
    assert events.count("record") == 30
    assert 30 - 4 <= events.count("synchronize") <= 30


def batch_names(chain: Any) -> list[str]:
    return list(next(iter(chain.numpy())))
