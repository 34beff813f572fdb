"""The page about batches: its Python runs, and its table is what comes out, without a warning."""

import contextlib
import datetime
import decimal
import io
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

import tql
from tests.loader_fakes import encoded, picture
from tql.diagnostics import TqlTypeError

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")

TEXT: Final = (Path(__file__).parents[1] / "docs" / "batches.md").read_text("utf-8")
NOON: Final = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
SAME: Final = [encoded(picture(0)), encoded(picture(1))]
OTHER: Final = [encoded(picture(0)), encoded(picture(1, 3, 4))]
INTS: Final = tuple(f"int{b}" for b in (8, 16, 32, 64))
FLOATS: Final = ("float16", "float32", "float64")


def images(values: list[bytes]) -> pa.Array:
    return pa.array(values, pa.binary())


def numbers(names: tuple[str, ...]) -> list[pa.Array]:
    return [pa.array(np.array([1, 2], name)) for name in names]


# What is stored, by the first column of the table.
STORED: Final[dict[str, list[pa.Array]]] = {
    "bool": [pa.array([True, False])],
    "int8, int16, int32, int64": numbers(INTS),
    "uint8, uint16, uint32, uint64": numbers(tuple(f"u{n}" for n in INTS)),
    "float16, float32, float64": numbers(FLOATS),
    "dictionary of text: class label": [pa.array(["a", "b"]).dictionary_encode()],
    "timestamp, with a zone or without": [
        pa.array([NOON] * 2, pa.timestamp(unit, zone))
        for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")
    ],
    "date32, date64": [pa.array([NOON.date()] * 2, kind) for kind in (pa.date32(), pa.date64())],
    "string, large_string, string_view": [
        pa.array(["ä", ""], kind) for kind in (pa.string(), pa.large_string(), pa.string_view())
    ],
    "binary, large_binary, fixed_size_binary": [
        pa.array([b"a", b"\0"], kind) for kind in (pa.binary(), pa.large_binary(), pa.binary(1))
    ],
    "binary that is images, one shape": [images(SAME)],
    "binary that is images, several shapes": [images(OTHER)],
    "fixed_size_list of numbers, at any depth": [
        pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)),
        pa.array([[[1], [2]], [[3], [4]]], pa.list_(pa.list_(pa.float32(), 1), 2)),
    ],
    "fixed_shape_tensor": [
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3, 4), np.int16))
    ],
    "list, large_list of numbers, at any depth": [
        pa.array([[1, 2], []], pa.list_(pa.uint16())),
        pa.array([[1, 2], []], pa.large_list(pa.float32())),
        pa.array([[[1, 2]], [[3, 4], [5, 6]]], pa.list_(pa.list_(pa.int8()))),
    ],
    "list of text": [pa.array([["a"], ["b", "c"]])],
    "rows of nested lists that differ in length": [pa.array([[[1], [2, 3]], [[4], []]])],
    "struct, JSON": [
        pa.array([{"a": 1}, {"a": 2}]),
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', '{"b": 2}'])),
    ],
    "decimal, time, duration, map, uuid, null": [
        pa.array([decimal.Decimal("1.5")] * 2),
        pa.array([NOON.time()] * 2),
        pa.array([datetime.timedelta(1)] * 2),
        pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int8())),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=7).bytes] * 2, pa.binary(16))),
        pa.nulls(2),
    ],
}  # fmt: skip

TABLE: Final = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| stored")
]


def named(kind: Any) -> str:
    """A dtype as the page writes it."""
    return str(getattr(kind, "name", kind)).removeprefix("torch.")


def is_array(of: type, *kinds: str, ndim: int | None = None) -> Callable[[Any, pa.Array], bool]:
    """Whether a column is an array of that library, of one of those dtypes or the one stored."""

    def holds(found: Any, stored: pa.Array) -> bool:
        allowed = kinds or (str(stored.type).replace("halffloat", "float16"),)
        allowed = tuple({"float": "float32", "double": "float64", "halffloat": "float16"}.get(k, k) for k in allowed)  # fmt: skip
        return (
            isinstance(found, of)
            and len(found) == 2
            and named(found.dtype) in allowed
            and (ndim is None or found.ndim == ndim)
        )

    return holds


def is_list(of: type, kind: str = "") -> Callable[[Any, pa.Array], bool]:
    def holds(found: Any, stored: pa.Array) -> bool:
        return isinstance(found, list) and all(
            isinstance(v, of) and (not kind or named(v.dtype) == kind) for v in found
        )

    return holds


def is_python(found: Any, stored: pa.Array) -> bool:
    return bool(found == stored.to_pylist())


def tf_of(*kinds: str) -> Callable[[Any, pa.Array], bool]:
    return is_array(tf.Tensor, *kinds)


def is_ragged(kind: str = "") -> Callable[[Any, pa.Array], bool]:
    return lambda found, stored: (
        isinstance(found, tf.RaggedTensor) and (not kind or named(found.dtype) == kind)
    )


def is_error(found: Any, stored: pa.Array) -> bool:
    return isinstance(found, TqlTypeError)


TIMES: Final = tuple(f"datetime64[{u}]" for u in ("s", "ms", "us", "ns", "D"))
PLAIN: Final = ("bool", *INTS, *(f"u{n}" for n in INTS), *FLOATS)

# What a cell of the table says, as a test of what is found.
SAYS: Final[dict[str, Callable[[Any, pa.Array], bool]]] = {
    "1 bool (B,)": is_array(np.ndarray, "bool", ndim=1),
    "2 torch.bool (B,)": is_array(torch.Tensor, "bool", ndim=1),
    "3 bool (B,)": tf_of("bool"),
    "1 the same (B,)": is_array(np.ndarray, ndim=1),
    "2 the same (B,)": is_array(torch.Tensor, ndim=1),
    "3 the same (B,)": tf_of(),
    "1 int64 codes (B,)": is_array(np.ndarray, "int64", ndim=1),
    "2 torch.int64 (B,)": is_array(torch.Tensor, "int64", ndim=1),
    "3 int64 (B,)": tf_of("int64"),
    "1 datetime64 of its unit (B,), UTC": is_array(np.ndarray, *TIMES, ndim=1),
    "1 datetime64[D], [ms] (B,)": is_array(np.ndarray, *TIMES, ndim=1),
    "2 the NumPy array": is_array(np.ndarray, *TIMES, ndim=1),
    "3 int64 of its unit (B,)": tf_of("int64"),
    "list of str": is_list(str),
    "list of bytes": is_list(bytes),
    "3 string (B,)": tf_of("string"),
    "1 uint8 (B, H, W, C)": is_array(np.ndarray, "uint8", ndim=4),
    "2 torch.uint8 (B, H, W, C)": is_array(torch.Tensor, "uint8", ndim=4),
    "3 uint8 (B, H, W, C)": tf_of("uint8"),
    "1 list of uint8 (H, W, C)": is_list(np.ndarray, "uint8"),
    "2 list of tensors": is_list(torch.Tensor),
    "3 RaggedTensor uint8": is_ragged("uint8"),
    "1 array (B, n, …)": is_array(np.ndarray, *PLAIN),
    "2 tensor (B, n, …)": is_array(torch.Tensor, *PLAIN),
    "3 tensor (B, n, …)": tf_of(*PLAIN),
    "1 array (B, …)": is_array(np.ndarray, *PLAIN, ndim=3),
    "2 tensor (B, …)": is_array(torch.Tensor, *PLAIN, ndim=3),
    "3 tensor (B, …)": tf_of(*PLAIN),
    "1 list of arrays": is_list(np.ndarray),
    "3 RaggedTensor": is_ragged(),
    "list of lists": is_list(list),
    "list of dicts": is_list(dict),
    "list of Python values": is_python,
    "3 an error": is_error,
}


def test_the_table_is_complete() -> None:
    assert [row[0] for row in TABLE] == list(STORED)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_columns_become_what_the_table_says(row: tuple[str, ...]) -> None:
    for stored in STORED[row[0]]:
        ds = tql.open(pa.table({"x": stored}))
        for column, output in enumerate(("numpy", "pytorch", "tensorflow"), 1):
            chain: Any = ds.dataloader().batch(2)
            found: Any
            try:
                (batch,) = getattr(chain, output)()
                found = batch["x"]
            except TqlTypeError as e:
                found = e
            says = SAYS.get(f"{column} {row[column]}") or SAYS[row[column]]
            assert says(found, stored), (stored.type, output, found)


def test_the_python_of_the_page_runs() -> None:
    program, told = re.findall(r"```(?:python)?\n(.*?)```", TEXT, re.DOTALL)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(program, "batches.md", "exec"), {})
    assert shown.getvalue() == told


# -- what a transform makes -----------------------------------------------------------------------


def made_by(transform: Callable[[int], Any], output: str) -> Any:
    """The column of a batch whose values are what the transform makes of 0 and 1."""
    chain: Any = tql.open(pa.table({"x": [0, 1]})).dataloader().batch(2)
    (batch,) = getattr(chain.transform({"x": transform}), output)()
    return batch["x"]


MADE: Final[dict[str, tuple[Callable[[int], Any], str]]] = {
    "complex64": (lambda i: np.full(2, i * 1j, np.complex64), "complex64"),
    "complex": (lambda i: complex(i), "complex128"),
    "bfloat16": (lambda i: np.full(2, i, ml_dtypes.bfloat16), "bfloat16"),
    "float8": (lambda i: np.full(2, i, ml_dtypes.float8_e5m2), "float8_e5m2"),
    "other byte order": (lambda i: np.full(2, i, ">f4"), "float32"),
    "backwards": (lambda i: np.array([i, 5], np.int16)[::-1], "int16"),
    "read-only": (lambda i: np.broadcast_to(np.float32(i), (2,)), "float32"),
    "0-d": (lambda i: np.array(i, np.uint32), "uint32"),
    "scalar": (lambda i: np.float16(i), "float16"),
    "no values": (lambda i: np.zeros((0, 3), np.int32), "int32"),
    "int": (lambda i: i, "int64"),
    "float": (lambda i: i / 2, "float64"),
    "bool": (lambda i: i == 1, "bool"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("transform", "kind"), MADE.values(), ids=MADE.keys())
@pytest.mark.parametrize("output", ["pytorch", "tensorflow"])
def test_arrays_and_numbers_of_a_transform_are_stacked(
    output: str, transform: Callable[[int], Any], kind: str
) -> None:
    if output == "tensorflow" and "float8" in kind:
        with pytest.raises(TqlTypeError, match="of which TensorFlow can be given no type"):
            made_by(transform, output)
        return
    found = made_by(transform, output)
    assert isinstance(found, torch.Tensor if output == "pytorch" else tf.Tensor)
    assert named(found.dtype) == kind
    expected = np.stack([np.asarray(transform(i)) for i in (0, 1)]).astype(np.complex128)
    numbers = found.to(torch.complex128) if output == "pytorch" else tf.cast(found, tf.complex128)
    assert np.array_equal(np.asarray(numbers), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["bfloat16", "float16", "uint16", "complex64", "float8_e4m3fn"])
def test_tensors_of_a_transform_are_stacked(kind: str) -> None:
    found = made_by(lambda i: torch.tensor(np.array([i, 1])).to(getattr(torch, kind)), "pytorch")
    assert found.dtype == getattr(torch, kind)
    assert found.to(torch.complex64).real.tolist() == [[0, 1], [1, 1]]


@pytest.mark.filterwarnings("error")
def test_containers_stay_and_their_arrays_become_tensors() -> None:
    def target(i: int) -> Any:
        boxes = np.ones((i, 4), ">f4")[::-1]
        return {
            "boxes": boxes,
            "more": [np.array([i], np.int16), ("text", np.zeros(1))],
            "name": "a",
        }

    found = made_by(target, "pytorch")
    assert [t["boxes"].shape for t in found] == [(0, 4), (1, 4)]
    assert {t["boxes"].dtype for t in found} == {torch.float32}
    assert found[1]["more"][0].tolist() == [1]
    assert found[1]["more"][1][0] == "text"
    assert isinstance(found[1]["more"][1][1], torch.Tensor)
    assert found[1]["name"] == "a"


def test_collate_fn_gets_the_list_of_samples_as_torch_gives_it() -> None:
    table = pa.table({"x": np.arange(4, dtype=np.uint16), "image": images(SAME * 2)})
    chain = tql.open(table).dataloader().batch(2)
    for batch in chain.pytorch(collate_fn=torch.utils.data.default_collate):
        assert batch["x"].dtype == torch.uint16
        assert batch["image"].shape == (2, 6, 5, 3)
    seen: list[Any] = []
    (_, _) = chain.pytorch(collate_fn=seen.append)
    assert [[list(sample) for sample in batch] for batch in seen] == [
        [["x", "image", "index"]] * 2
    ] * 2
    assert isinstance(seen[0], list)


QUIET = """
import os, sys, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the frameworks say of themselves
    import tensorflow
    import torch
    import PIL.Image
import tql
ds = tql.open("demo:digits")
form = dict(min_size={"images": 8}, ragged={"images": "pad"}, channels={"images": 3})
for output in ("numpy", "pytorch", "tensorflow"):
    chain = ds.dataloader(seed=1).sample_by("max_weight(labels == 5: 10, true: 1)").shuffle().batch(64)
    for options in ({}, form, {"decode_method": {"images": "tobytes"}}):
        for batch in getattr(chain, output)(**options):
            pass
for batch in torch.utils.data.DataLoader(ds.pytorch(), batch_size=64):
    pass
print("quiet")
"""


def test_loading_warns_of_nothing_in_any_framework() -> None:
    command = [sys.executable, "-W", "error", "-c", QUIET]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "quiet\n"), done.stderr
    assert "Warning" not in done.stderr
