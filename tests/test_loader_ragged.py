"""Values of several shapes: as lists, or padded to one array beside their shapes or a mask."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tql
from tests.loader_fakes import encoded, picture
from tests.profiles import examples
from tql.diagnostics import TqlDataError, TqlError, TqlNameError, TqlTypeError

torch = pytest.importorskip("torch")

TOKENS = [[5, 6, 7], [], [8]]
BOXES = [[[1, 2, 3, 4]], [], [[5, 6, 7, 8], [9, 8, 7, 6]]]
PICTURES = [picture(0, 4, 6), picture(1, 5, 3), picture(2, 2, 2)]


def dataset() -> tql.Dataset:
    return tql.open(
        pa.table(
            {
                "tokens": pa.array(TOKENS, pa.list_(pa.int16())),
                "boxes": pa.array(BOXES, pa.list_(pa.list_(pa.float32(), 4))),
                "image": pa.array([encoded(p) for p in PICTURES], pa.binary()),
            }
        )
    )


def padded(values: list[Any], kind: Any, extent: tuple[int, ...]) -> npt.NDArray[Any]:
    out = np.zeros((len(values), *extent), kind)
    for room, value in zip(out, values, strict=True):
        array = np.asarray(value, kind).reshape(-1, *extent[1:]) if len(value) == 0 else value
        array = np.asarray(array, kind)
        room[tuple(slice(n) for n in array.shape)] = array
    return out


WANTED = {
    "tokens": padded(TOKENS, np.int16, (3,)),
    "boxes": padded(BOXES, np.float32, (2, 4)),
    "image": padded(PICTURES, np.uint8, (5, 6, 3)),
}
SHAPES = {
    "tokens": [[3], [0], [1]],
    "boxes": [[1, 4], [0, 4], [2, 4]],
    "image": [[4, 6, 3], [5, 3, 3], [2, 2, 3]],
}


def masks(name: str) -> npt.NDArray[np.bool_]:
    mask = np.zeros(WANTED[name].shape, np.bool_)
    for room, shape in zip(mask, SHAPES[name], strict=True):
        room[tuple(slice(n) for n in shape)] = True
    return mask


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("output", ["numpy", "pytorch", "tensorflow"])
def test_padded_columns_are_the_same_in_every_framework(output: str, name: str) -> None:
    if output == "tensorflow":
        pytest.importorskip("tensorflow")
    for how, suffix, more in (("pad", "shape", SHAPES[name]), ("mask", "mask", masks(name))):
        loader: Any = dataset().dataloader().batch(3)
        (batch,) = getattr(loader, output)(ragged={name: how}, tensors=[name])
        values, companion = np.asarray(batch[name]), np.asarray(batch[f"{name}_{suffix}"])
        assert values.dtype == WANTED[name].dtype
        assert np.array_equal(values, WANTED[name])
        assert companion.dtype == (np.int64 if how == "pad" else np.bool_)
        assert np.array_equal(companion, more)
        if output == "pytorch":
            assert isinstance(batch[name], torch.Tensor)
            assert isinstance(batch[f"{name}_{suffix}"], torch.Tensor)


def test_a_tf_dataset_states_which_lengths_are_open() -> None:
    tf = pytest.importorskip("tensorflow")
    ragged: Any = {"image": "mask", "tokens": "pad"}
    made = dataset().dataloader().batch(2).tensorflow(ragged=ragged)
    spec = made.element_spec
    assert spec["image"] == tf.TensorSpec((None, None, None, 3), tf.uint8)
    assert spec["image_mask"] == tf.TensorSpec((None, None, None, 3), tf.bool)
    assert spec["tokens"] == tf.TensorSpec((None, None), tf.int16)
    assert spec["tokens_shape"] == tf.TensorSpec((None, 1), tf.int64)
    assert isinstance(spec["boxes"], tf.RaggedTensorSpec)
    assert [tuple(b["image"].shape) for b in made] == [(2, 5, 6, 3), (1, 2, 2, 3)]


def test_each_batch_is_padded_to_its_own_largest() -> None:
    ragged: Any = {"image": "pad", "tokens": "pad", "boxes": "list"}
    first, last = dataset().dataloader().batch(2).numpy(ragged=ragged)
    assert first["image"].shape == (2, 5, 6, 3)
    assert last["image"].shape == (1, 2, 2, 3)
    assert last["tokens"].tolist() == [[8]]
    assert last["image_shape"].tolist() == [[2, 2, 3]]  # though nothing had to be filled up
    assert [b.shape for b in first["boxes"]] == [(1, 4), (0, 4)]
    assert "boxes_shape" not in first


def test_a_row_drawn_twice_is_padded_twice() -> None:
    chain = dataset().dataloader().sample_by([0, 0, 1], size=3).batch(3)
    (batch,) = chain.numpy(ragged={"image": "mask"})
    assert (batch["image"] == PICTURES[2]).all()
    assert batch["image_mask"].all()


# A row may be ragged within itself.

NESTED = st.lists(st.lists(st.integers(-9, 9), max_size=3), max_size=3)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(NESTED, min_size=1, max_size=5))
def test_masked_values_are_all_the_values_there_are(rows: list[list[list[int]]]) -> None:
    table = pa.table({"x": pa.array(rows, pa.list_(pa.list_(pa.int8())))})
    chain = tql.open(table).dataloader().batch(len(rows))
    (batch,) = chain.numpy(ragged={"x": "mask"}, return_index=False)
    assert batch["x"].dtype == np.int8
    assert batch["x"].shape == batch["x_mask"].shape == (
        len(rows), max(map(len, rows)), max((len(v) for row in rows for v in row), default=0),
    )  # fmt: skip
    for values, mask, row in zip(batch["x"], batch["x_mask"], rows, strict=True):
        lists = [v[m].tolist() for v, m in zip(values, mask, strict=True)]
        assert lists == row + [[]] * (len(lists) - len(row))
        assert not values[~mask].any()


# Padding comes after a transform and before collate_fn.


def test_a_transform_sees_samples_as_they_are_and_may_make_ragged_ones() -> None:
    seen = []

    def cut(sample: dict[str, Any]) -> dict[str, Any]:
        seen.append(sample["image"].shape)
        return {"cut": sample["image"][:2], "ids": list(range(len(sample["tokens"])))}

    ragged: Any = {"cut": "pad", "ids": "mask"}
    (batch,) = dataset().dataloader().batch(3).transform(cut).pytorch(ragged=ragged, num_threads=1)
    assert seen == [p.shape for p in PICTURES]
    assert batch["cut"].shape == (3, 2, 6, 3)
    assert batch["cut"].dtype == torch.uint8
    assert batch["ids"].tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert batch["ids_mask"].sum(1).tolist() == [3, 0, 1]


def test_tensors_of_a_transform_are_padded() -> None:
    chain = dataset().dataloader().batch(3)
    of_columns = {"tokens": lambda v: torch.tensor(v, dtype=torch.float32)}
    (batch,) = chain.transform(of_columns).pytorch(ragged={"tokens": "pad"})
    assert batch["tokens"].dtype == torch.float32
    assert batch["tokens"].tolist() == WANTED["tokens"].tolist()


def test_collate_fn_gets_padded_samples() -> None:
    chain = dataset().dataloader().batch(3)
    collate = torch.utils.data.default_collate
    (batch,) = chain.pytorch(collate_fn=collate, ragged={"image": "pad"}, tensors=["image"])
    assert np.array_equal(batch["image"], WANTED["image"])
    assert batch["image_shape"].tolist() == SHAPES["image"]


def test_a_stock_dataloader_stacks_what_a_map_style_data_set_pads() -> None:
    ragged: Any = {"image": "pad", "tokens": "mask", "boxes": "pad"}
    data: Any = dataset().pytorch(ragged=ragged)
    (batch,) = torch.utils.data.DataLoader(data, batch_size=3)
    for name, wanted in WANTED.items():
        assert np.array_equal(batch[name], wanted)
    assert batch["image_shape"].tolist() == SHAPES["image"]
    assert data[1]["image"].shape == PICTURES[1].shape


# -- what cannot be padded ------------------------------------------------------------------------

BAD: list[tuple[pa.Array, str]] = [
    (pa.array([[1], None, [2]], pa.list_(pa.int8())), "row 1, column 'x' is null"),
    (pa.array([[1], [2], [3, None]], pa.list_(pa.int8())), "row 2, column 'x' holds null"),
    (
        pa.array([encoded(picture(0)), encoded(picture(0, 9, 9, 1))], pa.binary()),
        "row 1, column 'x' is an image of 1 channels, and others of its batch have 3",
    ),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_a_row_that_cannot_be_padded_is_named_or_left_out(values: pa.Array, message: str) -> None:
    ds = tql.open(pa.table({"x": values}))
    with pytest.raises(TqlDataError, match=message) as caught:
        next(iter(ds.dataloader().batch(3).numpy(ragged={"x": "pad"})))
    if "channels" in message:
        assert caught.value.diagnostic.help == "channels={'x': 3} makes all images RGB"
    loader = ds.dataloader(on_error="skip").batch(3).numpy(ragged={"x": "pad"})
    (batch,) = loader
    bad = int(message[4])
    assert batch["index"].tolist() == [i for i in range(len(values)) if i != bad]
    assert loader.errors().rows == (bad,)


def test_images_of_other_channels_are_padded_once_all_have_the_same() -> None:
    values = pa.array([encoded(picture(0)), encoded(picture(0, 9, 9, 1))], pa.binary())
    chain = tql.open(pa.table({"x": values})).dataloader().batch(2)
    (batch,) = chain.numpy(ragged={"x": "pad"}, channels={"x": 3})
    assert batch["x"].shape == (2, 9, 9, 3)


def test_arrays_of_a_transform_that_do_not_go_together_are_errors() -> None:
    for second, message in (
        (
            np.zeros((1, 1), np.int16),
            "has 2 axes, and others of its batch 1|1 axes, and others .* 2",
        ),
        (np.zeros(1, np.int8), "is int8, and others of its batch int16"),
        ("text", "holds str"),
        (3, "is one number"),
    ):
        of = {"tokens": lambda v, second=second: second if len(v) == 0 else v}
        loader = dataset().dataloader().batch(3).transform(of).numpy(ragged={"tokens": "pad"})
        with pytest.raises(TqlDataError, match=message):
            next(iter(loader))


WRONG: list[tuple[dict[str, Any], type[TqlError], str]] = [
    ({"ragged": "pad"}, TqlTypeError, "ragged is 'pad'; expected a dict by column"),
    ({"ragged": {"tokens": "zeros"}}, TqlTypeError, "the ragged form of 'tokens' is 'zeros'"),
    ({"ragged": {"token": "pad"}}, TqlNameError, "ragged names a column 'token'"),
    ({"ragged": {"name": "pad"}}, TqlTypeError, "can be padded, but 'name' is text"),
    ({"ragged": {"names": "pad"}}, TqlTypeError, r"but 'names' is list\[text\]"),
    ({"ragged": {"x": "pad"}}, TqlTypeError, "but 'x' is int64"),
    ({"ragged": {"tokens": "pad"}}, TqlNameError, "there is a column named 'tokens_shape'"),
    (
        {"ragged": {"image": "pad"}, "decode_method": {"image": "pil"}},
        TqlTypeError,
        "of which decode_method 'pil' gives no array",
    ),
]


@pytest.mark.parametrize(("options", "kind", "message"), WRONG)
def test_what_does_not_fit_is_an_error_before_anything_is_read(
    options: dict[str, Any], kind: type[TqlError], message: str
) -> None:
    table = pa.table(
        {
            "tokens": [[1]], "tokens_shape": [1], "name": ["a"], "names": [["a"]], "x": [1],
            "image": pa.array([b""], pa.binary()),
        }
    )  # fmt: skip
    ds = tql.open(table)
    with pytest.raises(kind, match=message):
        len(ds.dataloader().numpy(**options))
    tql.open(table).dataloader().numpy(ragged={"tokens": "mask"})


def test_a_name_that_a_transform_takes_or_does_not_make_is_an_error() -> None:
    chain = dataset().dataloader().batch(3)
    made = chain.transform(lambda s: {"a": s["tokens"], "a_shape": 1})
    with pytest.raises(TqlNameError, match="there is a column named 'a_shape'"):
        next(iter(made.numpy(ragged={"a": "pad"})))
    with pytest.raises(TqlNameError, match="ragged= names 'b', which batches do not have"):
        next(iter(made.numpy(ragged={"b": "pad"})))


def test_bytes_that_are_no_images_are_not_padded() -> None:
    ds = tql.open(pa.table({"x": pa.array([b"abc", b"d"], pa.binary())}))
    with pytest.raises(TqlDataError, match="row 0, column 'x' holds bytes"):
        next(iter(ds.dataloader().batch(2).numpy(ragged={"x": "pad"})))


def test_images_of_a_png_and_a_scaled_jpeg_are_padded_together() -> None:
    out = io.BytesIO()
    Image.fromarray(picture(1, 40, 64)).save(out, "JPEG")
    values = pa.array([out.getvalue(), encoded(picture(2, 12, 9))], pa.binary())
    chain = tql.open(pa.table({"x": values})).dataloader().batch(2)
    (batch,) = chain.numpy(ragged={"x": "pad"}, min_size={"x": (10, 10)})
    assert batch["x"].shape == (2, 12, 16, 3)
    assert batch["x_shape"].tolist() == [[10, 16, 3], [12, 9, 3]]
    assert np.array_equal(batch["x"][1, :, :9], picture(2, 12, 9))
