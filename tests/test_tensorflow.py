"""Batches as a tf.data.Dataset."""

import gc
import sys
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tql
from tests.loader_fakes import encoded, picture
from tql.diagnostics import TqlError, TqlTypeError, TqlUnsupportedError
from tql.loader import tensorflow_collate

tf = pytest.importorskip("tensorflow")

TABLE = pa.table(
    {
        "x": pa.array(range(10), pa.int16()),
        "half": pa.array(np.arange(10, dtype=np.float16)),
        "wide": pa.array(np.arange(10, dtype=np.uint64) + 2**63),
        "flag": [i % 3 == 0 for i in range(10)],
        "name": [f"row {i}" for i in range(10)],
        "when": pa.array(np.arange(10).astype("datetime64[s]")),
        "tags": [list(range(i % 4)) for i in range(10)],
        "boxes": pa.array([[[float(i)] * 4] * (i % 3) for i in range(10)],
                          pa.list_(pa.list_(pa.float32(), 4))),
        "vector": pa.array([[i, i + 1] for i in range(10)], pa.list_(pa.int8(), 2)),
        "label": pa.array([i % 2 for i in range(10)]).dictionary_encode(),
    }
)  # fmt: skip


def chain(table: pa.Table = TABLE, batch: int = 4, **options: Any) -> tql.DataLoader:
    return tql.open(table).dataloader(**options).batch(batch)


def plain(value: Any) -> Any:
    """A tensor as nested lists."""
    return value.to_list() if isinstance(value, tf.RaggedTensor) else value.numpy().tolist()


def test_shapes_types_and_cardinality_are_stated_before_anything_is_read() -> None:
    made = chain().tensorflow()
    assert isinstance(made, tf.data.Dataset)
    assert {k: (v.dtype.name, v.shape.as_list()) for k, v in made.element_spec.items()} == {
        "x": ("int16", [None]),
        "half": ("float16", [None]),
        "wide": ("uint64", [None]),
        "flag": ("bool", [None]),
        "name": ("string", [None]),
        "when": ("int64", [None]),
        "tags": ("int64", [None, None]),
        "boxes": ("float32", [None, None, 4]),
        "vector": ("int8", [None, 2]),
        "label": ("int64", [None]),
        "index": ("int64", [None]),
    }
    assert made.element_spec["boxes"].ragged_rank == 1
    assert made.cardinality() == 3


def test_full_batches_alone_have_a_static_batch_dimension() -> None:
    made = tql.open(TABLE).dataloader().batch(4, drop_last=True).tensorflow(tensors=["vector"])
    assert made.element_spec["vector"].shape.as_list() == [4, 2]
    assert [b["vector"].shape.as_list() for b in made] == [[4, 2], [4, 2]]


def test_every_value_is_what_the_numpy_output_gives() -> None:
    shuffled = chain(seed=3).shuffle()
    got, wanted = list(shuffled.tensorflow()), list(shuffled.numpy())
    assert len(got) == len(wanted) == 3
    for batch, expected in zip(got, wanted, strict=True):
        assert batch.keys() == expected.keys()
        for name, values in expected.items():
            if name == "when":
                values = values.astype(np.int64)
            listed = [v.tolist() if isinstance(v, np.ndarray | np.generic) else v for v in values]
            if name == "name":
                listed = [v.encode() for v in listed]
            assert plain(batch[name]) == listed, name


def test_images_of_one_shape_are_dense_and_of_several_are_ragged() -> None:
    for shapes, ragged in ((((6, 5), (6, 5)), False), (((6, 5), (3, 7)), True)):
        pixels = [picture(i, *shapes[i % 2]) for i in range(6)]
        table = pa.table({"image": pa.array([encoded(p) for p in pixels], pa.binary())})
        made = chain(table).tensorflow()
        spec = made.element_spec["image"]
        assert isinstance(spec, tf.RaggedTensorSpec) == ragged
        assert spec.shape.as_list() == ([None, None, None, 3] if ragged else [None, 6, 5, 3])
        assert spec.dtype == tf.uint8
        got = [np.array(plain(image), np.uint8) for b in made for image in b["image"]]
        assert all(np.array_equal(g, p) for g, p in zip(got, pixels, strict=True))


def test_what_a_transform_makes_gets_its_type_from_the_first_rows() -> None:
    def make(sample: dict[str, Any], scale: float) -> dict[str, Any]:
        return {"v": sample["vector"].astype(np.float32) * scale, "text": sample["name"].upper()}

    made = chain().transform(make, scale=0.5).tensorflow()
    assert made.element_spec["v"] == tf.TensorSpec((None, 2), tf.float32)
    batch = next(iter(made))
    assert batch["v"].numpy().tolist() == [[i / 2, (i + 1) / 2] for i in range(4)]
    assert batch["text"].numpy().tolist() == [f"ROW {i}".encode() for i in range(4)]


def test_a_collate_fn_may_make_any_structure() -> None:
    def collate(samples: list[dict[str, Any]]) -> Any:
        return np.stack([s["vector"] for s in samples]), np.array([s["x"] for s in samples])

    made = chain().tensorflow(collate_fn=collate)
    assert made.element_spec == (
        tf.TensorSpec((None, 2), tf.int8),
        tf.TensorSpec((None,), tf.int16),
    )
    assert [y.numpy().tolist() for _, y in made] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_each_iteration_is_an_epoch_and_the_state_is_of_the_batch_handed_over() -> None:
    made = chain(seed=1).shuffle().tensorflow(tensors=["x"])
    epochs = [np.concatenate([b["x"].numpy() for b in made]).tolist() for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    batches = iter(made)
    next(batches)
    time.sleep(0.2)  # nothing runs ahead of what was handed over
    state = made.loader.state_dict()
    assert (state["epoch"], state["position"]) == (2, 4)
    rest = [b["x"].numpy().tolist() for b in batches]
    again = chain(seed=1).shuffle().tensorflow(tensors=["x"], state=state)
    assert [b["x"].numpy().tolist() for b in again] == rest
    assert again.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert sum(len(b["x"]) for b in again) == 10, "the next pass is a whole one"


def test_an_offset_is_of_the_first_pass_and_leaves_the_cardinality_open() -> None:
    made = chain().offset(6).tensorflow(tensors=["x"])
    assert made.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert [[b["x"].numpy().tolist() for b in made] for _ in range(2)] == [
        [[6, 7, 8, 9]],
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]],
    ]


def test_skipped_positions_are_of_one_pass_and_leave_the_cardinality_open() -> None:
    made = chain().skip(range(6)).tensorflow(tensors=["x"])
    assert made.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert [[b["x"].numpy().tolist() for b in made] for _ in range(2)] == [
        [[6, 7, 8, 9]],
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]],
    ]


def test_a_state_loaded_behind_the_back_of_a_counted_dataset_is_an_error() -> None:
    made = chain().tensorflow(tensors=["x"])
    next(batches := iter(made))
    state = made.loader.state_dict()
    del batches
    made.loader.load_state_dict(state)
    with pytest.raises(tf.errors.OpError, match=r"(?s)promises 3 batches.*tensorflow\(state="):
        list(made)


def test_ranks_share_an_epoch() -> None:
    ranks = [chain(batch=2).tensorflow(tensors=["x"], rank=r, world_size=2) for r in range(2)]
    assert [[b["x"].numpy().tolist() for b in made] for made in ranks] == [
        [[0, 1], [4, 5]],
        [[2, 3], [6, 7]],
    ]


def test_null_names_its_row() -> None:
    for values in ([1, None, 3], ["a", None, "c"], [[1], None, [2]]):
        table = pa.table({"x": values})
        with pytest.raises(tf.errors.OpError, match="row 1, column 'x' is null"):
            list(chain(table).tensorflow())


def test_a_batch_unlike_the_first_rows_says_how_to_state_its_shape() -> None:
    pixels = [picture(i, 6 if i < 9 else 4) for i in range(10)]
    table = pa.table({"image": pa.array([encoded(p) for p in pixels], pa.binary())})
    with pytest.raises(tf.errors.OpError, match=r"\(4, 5, 3\), but the first rows promise uint8"):
        list(chain(table, 1).tensorflow())
    spec = {"image": tf.TensorSpec((None, None, None, 3), tf.uint8)}
    made = chain(table, 1).tensorflow(element_spec=spec)
    assert [b["image"].shape[1] for b in made] == [6] * 9 + [4]


def test_what_tensorflow_has_no_type_for_is_refused_before_anything_is_read() -> None:
    for values, found in (([{"a": 1}], "dict values"), ([None], "only null"), ([], "only null")):
        with pytest.raises(TqlTypeError, match=f"column 'x' has {found}"):
            chain(pa.table({"x": pa.array(values, pa.struct({"a": pa.int64()}))})).tensorflow()


def test_a_wrong_element_spec_is_refused() -> None:
    with pytest.raises(TqlError, match="element_spec names 'y', which batches do not have"):
        chain().tensorflow(element_spec={"y": tf.TensorSpec((None,), tf.int64)})
    with pytest.raises(TqlTypeError, match="element_spec of 'x' is tuple"):
        chain().tensorflow(element_spec={"x": (None, 3)})
    with pytest.raises(TqlTypeError, match="collate_fn makes the batches"):
        chain().tensorflow(collate_fn=len, element_spec={"x": tf.TensorSpec((None,), tf.int64)})


def test_a_second_output_is_refused() -> None:
    with pytest.raises(ValueError, match="numpy"):
        chain().numpy().tensorflow()


def test_a_dataset_is_a_tf_dataset_of_rows() -> None:
    made = tql.open(TABLE).query("select * where x > 6").tensorflow()
    assert made.cardinality() == 3
    rows = list(made)
    assert [int(r["x"]) for r in rows] == [7, 8, 9]
    assert rows[0]["boxes"].shape == (1, 4)
    assert "index" not in rows[0]
    shuffled = made.shuffle(10).batch(2)
    assert sorted(v for b in shuffled for v in b["x"].numpy().tolist()) == [7, 8, 9]


def test_passes_that_are_left_early_leave_no_thread_behind() -> None:
    def ours() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("tql-")]

    made = chain(batch=1).tensorflow(tensors=["x"])
    for _ in range(10):
        next(iter(made))
    until = time.monotonic() + 20
    while ours() and time.monotonic() < until:  # their threads end with what they are at
        gc.collect()
        time.sleep(0.05)
    assert not ours()


def test_a_missing_tensorflow_is_an_error_that_prints_the_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(TqlUnsupportedError, match=r'pip install "tqlkit\[tensorflow\]"'):
        tensorflow_collate()


def test_keras_trains_on_it() -> None:
    digits = tql.open("demo:digits").dataloader(seed=0).shuffle().batch(64)
    made = digits.tensorflow().map(lambda b: (tf.cast(b["images"], tf.float32) / 16, b["labels"]))
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(10)])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    history = model.fit(made, epochs=6, verbose=0, shuffle=False).history
    assert history["accuracy"][-1] > history["accuracy"][0] + 0.2


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_a_broken_image_among_the_first_rows_is_no_obstacle_where_others_are_none(
    policy: str,
) -> None:
    images = [encoded(picture(i)) for i in range(12)]
    images[7] = images[7][:40]
    table = pa.table({"image": pa.array(images, pa.binary())})
    made = chain(table, on_error=policy).tensorflow()
    assert made.element_spec["image"].shape.as_list() == [None, 6, 5, 3]
    rows = [row for b in made for row in b["index"].numpy().tolist()]
    assert len(rows) == (11 if policy == "skip" else 12)
    assert 7 not in rows
