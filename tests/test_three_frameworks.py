"""NumPy, PyTorch and TensorFlow get the same rows and the same bytes of one plan: over images of one
shape and of several, ragged lists, text, class labels and times; on two ranks; behind a transform with
random numbers; from a state that any of the three took.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tql
from tests.loader_fakes import encoded, picture

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")

ROWS, B = 45, 4
FRAMEWORKS = ["numpy", "pytorch", "tensorflow"]
WEIGHTS = "max_weight(kind == 'newt': 6, kind == 'dog': 2, true: 1)"


def table(nulls: bool = False) -> pa.Table:
    kinds = pa.array(["cat", "dog", "cat", "newt", "cat"] * (ROWS // 5))
    images = [encoded(picture(i)) for i in range(ROWS)]
    several = [encoded(picture(i, 4 + i % 3, 5, 3)) for i in range(ROWS)]
    return pa.table(
        {
            "x": pa.array(range(ROWS), pa.int16()),
            "score": np.linspace(-1, 1, ROWS).astype(np.float32),
            "flag": [i % 3 == 0 for i in range(ROWS)],
            "name": [f"row {i} ü" for i in range(ROWS)],
            "kind": kinds.dictionary_encode(),
            "tags": pa.array([list(range(i % 4)) for i in range(ROWS)], pa.list_(pa.int32())),
            "boxes": pa.array([[[float(i)] * 4] * (i % 3) for i in range(ROWS)],
                              pa.list_(pa.list_(pa.float32(), 4))),
            "vector": pa.array([[i, -i] for i in range(ROWS)], pa.list_(pa.int8(), 2)),
            "image": pa.array(images, pa.binary()),
            "any_size": pa.array(several, pa.binary()),
            **({"late": [None if i % 4 == 1 else i / 8 for i in range(ROWS)]} if nulls else {}),
        }
    )  # fmt: skip


def chain(nulls: bool = False) -> tql.DataLoader:
    ds = tql.open(table(nulls)).query("select * where x != 7")
    return ds.dataloader(seed=5).sample_by(WEIGHTS).shuffle().batch(B)


def jittered(sample: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """An augmentation as users write it: noise, a random crop, and what it drew."""
    noise = rng.integers(0, 30, sample["image"].shape, np.uint8)
    top = int(rng.integers(0, 3))
    return {
        "image": sample["image"] // 2 + noise,
        "crop": sample["image"][top : top + 4],
        "top": top,
        "kind": sample["kind"],
        "tags": sample["tags"][: top + 1],
        "name": sample["name"].upper(),
    }


def plain(value: Any) -> Any:
    """A value of one row as text, None, or dtype, shape and bytes."""
    if isinstance(value, tf.RaggedTensor):
        value = value.to_tensor()
    if isinstance(value, tf.Tensor):
        value = value.numpy()
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, bytes):
        return value.decode()
    if value is None or isinstance(value, str):
        return value
    array = np.asarray(value)
    return array.dtype.name, array.shape, array.tobytes()


def rows_of(batch: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [plain(values[i]) for i in range(len(batch["index"]))] for name, values in batch.items()}  # fmt: skip


def given(framework: str, made: tql.DataLoader, state: Any = None, **options: Any) -> Any:
    """An iterable of batches, and what has its state."""
    if framework == "tensorflow":
        dataset = made.tensorflow(state=state, **options)
        return dataset, dataset.loader
    loader = getattr(made, framework)(**options)
    if state is not None:
        loader.load_state_dict(state)
    return loader, loader


def epoch(framework: str, made: tql.DataLoader, **options: Any) -> list[dict[str, list[Any]]]:
    batches, _ = given(framework, made, **options)
    return [rows_of(batch) for batch in batches]


@pytest.mark.parametrize("transform", [None, jittered], ids=["as stored", "transformed"])
@pytest.mark.parametrize("world", [1, 2])
def test_rows_and_bytes_are_the_same(world: int, transform: Any) -> None:
    made = chain() if transform is None else chain().transform(transform)
    for rank in range(world):
        by_numpy, by_torch, by_tf = (
            epoch(name, made, rank=rank, world_size=world) for name in FRAMEWORKS
        )
        assert len(by_numpy) == (11 if world == 1 else 5)
        assert by_numpy == by_torch == by_tf
        assert {"image", "kind", "tags", "name", "index"} <= set(by_numpy[0])


@pytest.mark.parametrize("transform", [None, jittered], ids=["as stored", "transformed"])
@pytest.mark.parametrize("taken_by", FRAMEWORKS)
def test_a_state_that_one_took_resumes_the_others(taken_by: str, transform: Any) -> None:
    made = chain() if transform is None else chain().transform(transform)
    batches, owner = given(taken_by, made)
    first_epoch = [rows_of(batch) for batch in batches]
    begun = iter(batches)
    for _ in range(4):
        next(begun)
    state = owner.state_dict()
    assert (state["epoch"], state["position"]) == (1, 4 * B)
    rest = [rows_of(batch) for batch in begun]
    assert len(rest) == 7 and rest != first_epoch[4:]
    for framework in FRAMEWORKS:
        resumed, _ = given(framework, made, state)
        assert [rows_of(batch) for batch in resumed] == rest, framework


def test_nulls_are_none_in_numpy_and_torch_and_tensorflow_names_the_row() -> None:
    made = chain(nulls=True)
    by_numpy, by_torch = epoch("numpy", made), epoch("pytorch", made)
    assert by_numpy == by_torch
    assert any(None in batch["late"] for batch in by_numpy)
    with pytest.raises(tf.errors.OpError, match=r"row \d+, column 'late' is null"):
        epoch("tensorflow", made)
    filled = chain(nulls=True).transform({"x": None, "late": lambda v: -1.0 if v is None else v})
    assert epoch("numpy", filled) == epoch("pytorch", filled) == epoch("tensorflow", filled)
