"""Transforms in processes of their own: the same batches, errors, seeds; nothing left behind."""

import gc
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import tql
from tests.loader_fakes import encoded, picture
from tql.diagnostics import TqlDataError, TqlTypeError
from tql.loader.processes import pack, unpack

N = 30
IMAGES = pa.array([encoded(picture(i)) for i in range(N)], pa.binary())
DATA = pa.table({"x": np.arange(N), "name": [f"row {i}" for i in range(N)], "image": IMAGES})


def augment(sample: dict[str, Any], rng: np.random.Generator, scale: int) -> dict[str, Any]:
    image = sample["image"][:, ::-1] * scale
    return {"image": image, "noise": rng.random(4), "x": sample["x"], "text": sample["name"] + "!"}


def half(value: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return value[::2] // 2


def odd(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["x"] == 13:
        raise ValueError("unlucky")
    return sample


class Unpicklable(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def strange(_: Any) -> Any:
    raise Unpicklable(1, 2)


def where(sample: dict[str, Any]) -> dict[str, Any]:
    return {"pid": os.getpid()}


def die(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["x"] == 13:
        os.kill(os.getpid(), 9)
    return sample


def leave(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["x"] == 13:
        sys.exit("I leave")
    return sample


def vanish(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["x"] == 13:
        os._exit(7)
    return sample


def sleep(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["x"] == 13:
        time.sleep(600)
    return sample


def chain(**options: Any) -> tql.DataLoader:
    return tql.open(DATA).dataloader(seed=4, **options).shuffle().batch(7)


def plain(loader: Any) -> list[Any]:
    return [
        {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in b.items()} for b in loader
    ]


def test_batches_are_those_that_threads_make() -> None:
    for transform, kwargs in ((augment, {"scale": 2}), ({"image": half, "x": None}, {})):
        made = chain().transform(transform, **kwargs)
        assert plain(made.numpy(num_workers=2)) == plain(made.numpy())


def test_two_processes_do_the_work_and_none_of_it_is_done_here() -> None:
    pids = {pid for b in chain().transform(where).numpy(num_workers=2) for pid in b["pid"].tolist()}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids


def test_processes_stay_for_the_next_pass_only_when_they_are_told_to() -> None:
    for stay in (False, True):
        loader = chain().transform(where).numpy(num_workers=1, persistent_workers=stay)
        first, second = ({int(b["pid"][0]) for b in loader} for _ in range(2))
        assert (first == second) == stay
        loader.close()


def test_an_error_comes_in_its_turn_with_its_type_and_row() -> None:
    loader = tql.open(DATA).dataloader().batch(5).transform(odd).numpy(num_workers=2)
    seen = []
    with pytest.raises(ValueError, match="unlucky") as caught:
        seen.extend(b["x"].tolist() for b in loader)
    assert seen == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert caught.value.__notes__[0] == "tql: in the transform of row 13"


def test_an_error_that_cannot_be_sent_keeps_its_message() -> None:
    with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2"):
        list(chain().transform(strange).numpy(num_workers=1))


def test_samples_that_fail_are_left_out_as_with_threads() -> None:
    for policy in ("skip", "replace"):
        loaders = [
            chain(on_error=policy).transform(odd).numpy(num_workers=n, tensors=["x"])
            for n in (0, 2)
        ]
        assert plain(loaders[0]) == plain(loaders[1])
        assert [loader.errors().rows for loader in loaders] == [(13,), (13,)]


def test_a_transform_that_cannot_be_sent_is_refused_with_the_way_out() -> None:
    with pytest.raises(TqlTypeError, match="cannot be sent to worker processes"):
        list(chain().transform(lambda sample: sample).numpy(num_workers=1))


def test_a_process_that_dies_is_an_error_and_the_next_pass_has_new_ones() -> None:
    chosen = tql.open(DATA).dataloader().batch(5).transform(die)
    loader = chosen.numpy(num_workers=1, persistent_workers=True)
    for _ in range(2):
        with pytest.raises(
            TqlDataError, match=r"worker process \d+ died: it was killed by SIGKILL"
        ):
            list(loader)
    loader.close()


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_process_that_dies_is_an_error_in_the_order_of_batches_whatever_is_skipped(
    on_error: str,
) -> None:
    chosen = tql.open(DATA).dataloader(on_error=on_error).batch(5).transform(vanish)
    seen = []
    with pytest.raises(TqlDataError, match=r"worker process \d+ died with exit code 7") as caught:
        seen.extend(b["x"].tolist() for b in chosen.numpy(num_workers=1))
    # Batches are sent in the order in which they were read: those under way are lost together.
    assert seen == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]][: len(seen)]
    assert f"step {len(seen)}," in caught.value.__notes__[0]
    assert eventually_no_children()


def test_a_transform_that_calls_sys_exit_fails_its_sample_and_ends_nobody() -> None:
    loader = tql.open(DATA).dataloader().batch(5).transform(leave).numpy(num_workers=1)
    with pytest.raises(
        RuntimeError, match=r"the transform called sys\.exit\('I leave'\)"
    ) as caught:
        list(loader)
    assert caught.value.__notes__[0] == "tql: in the transform of row 13"
    others = tql.open(DATA).dataloader(on_error="skip").batch(5).transform(leave)
    skipping = others.numpy(num_workers=1)
    assert [x for b in skipping for x in b["x"].tolist()] == [i for i in range(N) if i != 13]
    assert skipping.errors().rows == (13,)


def test_a_process_that_is_stuck_is_ended_by_the_timeout() -> None:
    loader = tql.open(DATA).dataloader(timeout=20).batch(5).transform(sleep).numpy(num_workers=1)
    with pytest.raises(TqlDataError, match="in stage 'transform'") as caught:
        list(loader)
    assert "worker processes:" in caught.value.__notes__[0]
    assert eventually_no_children()


def test_ten_passes_left_early_leave_no_process_and_no_shared_memory() -> None:
    def blocks() -> set[str]:
        shm = Path("/dev/shm")
        return (
            {p.name for p in shm.iterdir() if p.name.startswith("psm_tql_")}
            if shm.exists()
            else set()
        )

    before = blocks()
    loader = chain().transform(augment, scale=1).numpy(num_workers=1)
    for _ in range(3):
        next(iter(loader))
    loader.close()
    assert eventually_no_children()
    assert blocks() <= before


def eventually_no_children() -> bool:
    until = time.monotonic() + 60
    while multiprocessing.active_children() and time.monotonic() < until:
        gc.collect()
        time.sleep(0.05)
    return not multiprocessing.active_children()


def test_a_parcel_keeps_what_arrays_are() -> None:
    content = {
        "large": np.arange(1000, dtype=np.float32).reshape(10, 100),
        "turned": np.arange(12).reshape(3, 4)[::-1],
        "empty": np.empty((0, 3), np.int8),
        "text": ["a", None],
        "object": np.array([1, "b"], object),
    }
    got = unpack(pack(content))
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            assert got[name].dtype == value.dtype
            assert np.array_equal(got[name], value)
            assert got[name].flags.writeable
        else:
            assert got[name] == value
    assert unpack(pack("no array")) == "no array"


def test_persistent_workers_without_workers_is_refused() -> None:
    with pytest.raises(TqlTypeError, match="num_workers=0 has none to keep"):
        chain().numpy(persistent_workers=True)
