"""NumPy arrays that lie in files: what they become, and how little of them is read."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tql
from tql.diagnostics import TqlDataError, TqlError
from tql.sources import gather, open_source

ROOT = Path(__file__).parents[1]
X = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def saved(folder: Path, name: str = "x.npy", array: Any = X) -> Path:
    np.save(folder / name, array)
    return folder / name


@pytest.mark.parametrize("form", ["path", "memmap", "dict", "slice", "npz", "compressed"])
def test_an_array_in_a_file_is_a_column_of_its_rows(tmp_path: Path, form: str) -> None:
    path = saved(tmp_path)
    source: Any = path
    expected = X
    match form:
        case "memmap":
            source = np.load(path, mmap_mode="r")
        case "dict":
            source = {"x": np.load(path, mmap_mode="r"), "n": [1, 2, 3, 4]}
        case "slice":
            source, expected = {"x": np.load(path, mmap_mode="r")[1:3]}, X[1:3]
        case "npz":
            source = tmp_path / "a.npz"
            np.savez(source, x=X, n=np.arange(4))
        case "compressed":
            source = tmp_path / "a.npz"
            np.savez_compressed(source, x=X, n=np.arange(4))
    ds = tql.open(source)
    assert str(ds.schema["x"]) == "x: list[list[float32, 2], 3]"
    (batch,) = ds.dataloader().batch(9).numpy()
    assert np.array_equal(batch["x"], expected) and batch["x"].dtype == np.float32
    assert ds.query("select * where x[0, 0] > 5").row_ids.tolist() == [
        i for i in range(len(expected)) if expected[i, 0, 0] > 5
    ]
    assert np.array_equal(
        pickle.loads(pickle.dumps(ds.source)).read(0, ["x"])["x"][1].as_py(), expected[1]
    )


def test_rows_of_a_sparse_file_touch_their_pages_only(tmp_path: Path) -> None:
    # Five gigabytes, of which nearly all are holes: who reads them whole is seen in what is resident.
    path = tmp_path / "big.npy"
    rows, width = 1_250_000, 1024
    big = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for at in (0, 777_777, rows - 1):
        big[at] = at % 1000
    del big
    assert path.stat().st_size > 5_000_000_000 and path.stat().st_blocks * 512 < 1 << 20
    code = (
        "import resource, sys, pickle, numpy as np, tql\n"
        "ds = tql.open(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert len(ds.fingerprint) == 32\n"
        "assert len(pickle.dumps(ds.source)) < 2000\n"
        "view = ds.query('select * limit 1 offset 777777')\n"
        "(batch,) = view.dataloader().batch(1).numpy()\n"
        "assert (batch['big'] == 777).all() and batch['big'].shape == (1, 1024)\n"
        "loader = ds.dataloader(seed=1).shuffle().batch(64).numpy()\n"
        "for step, batch in zip(range(10), loader): pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300_000  # kilobytes


def test_the_fingerprint_covers_shape_type_and_both_ends(tmp_path: Path) -> None:
    first = tql.open(saved(tmp_path)).fingerprint
    (tmp_path / "other").mkdir()
    assert tql.open(saved(tmp_path / "other")).fingerprint == first
    os.utime(tmp_path / "x.npy", (1, 1))
    assert tql.open(tmp_path / "x.npy").fingerprint == first
    for changed in (X.reshape(4, 2, 3), X.astype(np.float64), X[:3], np.where(X == 23, 0, X)):
        assert tql.open(saved(tmp_path, array=changed.astype(changed.dtype))).fingerprint != first
    wide = np.zeros((3000, 1000))
    a = tql.open(saved(tmp_path, array=wide)).fingerprint
    wide[-1, -1] = 1
    assert tql.open(saved(tmp_path, array=wide)).fingerprint != a


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False, True]), np.arange(6, dtype=">i4").reshape(3, 2),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)), np.array(["a", "bc", "é"]),
        np.array(["2024-01-02", "NaT", "2025-01-01"], "datetime64[s]"), np.zeros((3, 0)),
        np.zeros((0, 4), np.int8), np.arange(3, dtype=np.float16),
    ],
    ids=lambda a: str(a.dtype) + str(a.shape),
)  # fmt: skip
def test_arrays_of_every_layout_are_what_they_are_in_memory(tmp_path: Path, array: Any) -> None:
    ds = tql.open(saved(tmp_path, array=array))
    assert ds["x"].to_pylist() == tql.open({"x": array})["x"].to_pylist()
    again = pickle.loads(pickle.dumps(ds.source))
    assert again.fingerprint == ds.fingerprint and again.schema == ds.schema
    assert gather(again, np.arange(len(ds)), ["x"])["x"].to_pylist() == ds["x"].to_pylist()


def test_what_was_written_to_a_copy_is_not_looked_for_in_the_file(tmp_path: Path) -> None:
    mine = np.load(saved(tmp_path), mmap_mode="c")
    mine[0, 0, 0] = 99
    source = open_source({"x": mine})
    again = pickle.loads(pickle.dumps(source))
    assert again.read(0, ["x"])["x"][0].as_py()[0][0] == 99


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("keep", [0, 5, 60, 150])
def test_damaged_arrays_are_named(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    np.savez(path, x=X) if name == "x.npz" else np.save(path, X)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TqlDataError, match=name.replace(".", r"\.")):
        tql.open(path)


def test_pickles_in_arrays_are_refused_unread(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    objects = np.array([Trap(), 3], object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=objects)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(TqlDataError, match="Python objects"):
            tql.open(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_arrays_are_given_one_name_each(tmp_path: Path) -> None:
    saved(tmp_path, "x.npy")
    saved(tmp_path, "y.npy")
    with pytest.raises(TqlDataError, match="two NumPy files"):
        tql.open(tmp_path)
    np.savez(tmp_path / "a.npz", x=X, y=X[:2])
    with pytest.raises(TqlError, match="columns differ in length"):
        tql.open(tmp_path / "a.npz")
    np.save(tmp_path / "x.npy", np.float64(3))
    with pytest.raises(TqlError, match="one value per row"):
        tql.open(tmp_path / "x.npy")
    assert tql.open(tmp_path / "a.npz", columns=["y"]).columns == ("y",)
