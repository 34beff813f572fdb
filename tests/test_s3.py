"""Data in an object store: the same rows as in memory, whatever goes wrong on the way for a while."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.profiles import NIGHTLY
from tests.s3 import Store, local_s3
from tql.diagnostics import TqlDataError
from tql.sources.footers import _REMEMBERED

ROOT = Path(__file__).parents[1]
N = 6000
TABLE = pa.table(
    {
        "x": np.arange(N),
        "y": np.random.default_rng(0).random(N),
        "wide": pa.FixedSizeListArray.from_arrays(
            np.random.default_rng(1).random(N * 64).astype(np.float32), 64
        ),
        "name": [f"row {i}" for i in range(N)],
    }
)
FAULTS = ("503", "500", "cut", "short", "reset", *(["slow"] if NIGHTLY else []))
"""A slow body takes six seconds and more to be noticed, which is not ours to say."""


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with local_s3() as store:
        s3 = store.filesystem(3, direct=True)
        for i in range(3):
            part = TABLE.slice(i * N // 3, N // 3)
            pq.write_table(part, f"data/parts/{i}.parquet", filesystem=s3, row_group_size=500)
        out = s3.open_output_stream("data/all.arrow")
        with out, pa.ipc.new_file(out, TABLE.schema) as writer:
            writer.write_table(TABLE, max_chunksize=1000)
        yield store


@pytest.fixture
def store(server: Store) -> Iterator[Store]:
    _REMEMBERED.clear()
    server.asked.clear()
    yield server
    server.faults.clear()
    server.always = None


def same(found: pa.Table, expected: pa.Table = TABLE) -> bool:
    return bool(found.cast(expected.schema).equals(expected))


def opened(store: Store, what: str = "s3://data/parts/*.parquet", **options: Any) -> tql.Dataset:
    return tql.open(what, filesystem=store.filesystem(), **options)


def test_a_glob_a_folder_a_list_and_a_file_are_read(store: Store) -> None:
    for what in ("s3://data/parts/*.parquet", "data/parts", "s3://data/all.arrow"):
        assert same(opened(store, what).to_arrow())
    two = tql.open(["data/parts/0.parquet", "data/parts/2.parquet"], filesystem=store.filesystem())
    assert two["x"].to_pylist() == [*range(N // 3), *range(2 * N // 3, N)]


def test_the_environment_names_the_server(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    assert len(tql.open("s3://data/parts/*.parquet")) == N
    found = tql.query('select x from "s3://data/parts" where x >= 5998')
    assert found.row_ids.tolist() == [5998, 5999]


def test_only_what_a_query_needs_is_read(store: Store) -> None:
    ds = opened(store)
    total = sum(store.filesystem().get_file_info(f"data/parts/{i}.parquet").size for i in range(3))
    store.asked.clear()
    assert ds.query("select x where x >= 5800 and y >= 0").row_ids.tolist() == [*range(5800, N)]
    assert {path for _, path, _ in store.gets} == {"/data/parts/2.parquet"}
    assert store.bytes_asked < total / 50


def test_columns_of_a_row_group_that_lie_together_are_one_request(store: Store) -> None:
    ds = opened(store, columns=["x", "y"])
    store.asked.clear()
    assert ds.source.read(0, ["x", "y"]).num_rows == 500
    assert len(store.gets) == 1


def test_columns_far_apart_are_read_by_themselves(store: Store) -> None:
    whole = opened(store)
    size = sum(store.filesystem().get_file_info(f"data/parts/{i}.parquet").size for i in range(3))
    store.asked.clear()
    assert whole.source.read(0, ["wide"]).num_rows == 500
    assert size / 20 < store.bytes_asked < size / 10


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_heals_and_gives_equal_bytes(store: Store, fault: str) -> None:
    for what in ("s3://data/parts/0.parquet", "s3://data/all.arrow"):
        _REMEMBERED.clear()
        store.faults[:] = [fault]  # while it is opened
        ds = opened(store, what)
        assert store.faults == []
        store.faults[:] = [fault]  # while it is read
        assert same(ds.to_arrow(), TABLE.slice(0, len(ds)))
        assert store.faults == []


def test_faults_one_after_another_heal_in_a_loader_and_are_counted(store: Store) -> None:
    chain = opened(store).dataloader(seed=3).shuffle().batch(100).numpy(tensors=["x", "wide"])
    expected = list(chain)
    assert chain.stats().retries.count == 0
    again = opened(store).dataloader(seed=3).shuffle().batch(100).numpy(tensors=["x", "wide"])
    store.faults[:] = ["503", "cut", "503", "500", "short"]
    for got, want in zip(again, expected, strict=True):
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])
    retries = again.stats().retries
    assert (retries.count, retries.throttled) == (5, 2)
    assert retries.seconds > 0.2
    assert "5 requests were made again, 2 of them because the server asked for fewer" in str(
        again.stats()
    )


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "slow"])
def test_a_fault_that_stays_is_an_error_that_names_the_file_and_the_tries(
    store: Store, fault: str
) -> None:
    ds = opened(store, "s3://data/parts/1.parquet", retry_for=0.6)
    store.faults[:] = [fault] * 1000
    with pytest.raises(TqlDataError) as caught:
        list(ds.dataloader().batch(10).numpy(tensors=["x"]))
    message = caught.value.diagnostic.message
    assert message.startswith("'s3://data/parts/1.parquet' cannot be read: ")
    assert "; given up after " in message and " tries in 0." in message
    assert ("to slow us down" in message) == (fault == "503")
    assert "retry_for=600" in (caught.value.diagnostic.help or "")
    assert 2 <= 1000 - len(store.faults) <= 100  # of the four row groups that are read ahead


def test_one_try_is_made_where_nothing_is_to_be_tried_again(store: Store) -> None:
    ds = opened(store, "s3://data/parts/1.parquet", retry_for=0)
    store.faults[:] = ["500"] * 9
    with pytest.raises(TqlDataError, match=r"given up after 1 try in 0\."):
        ds.to_arrow()
    assert len(store.faults) == 8


def test_what_does_not_pass_is_not_tried_again(store: Store) -> None:
    for what, said in (
        ("s3://data/parts/9.parquet", "no file or folder 's3://data/parts/9.parquet'"),
        ("s3://nowhere/x.parquet", "'nowhere' does not exist either"),
        ("s3://data/pa*/9*.parquet", "no file matches 's3://data/pa*/9*.parquet'"),
    ):
        store.asked.clear()
        with pytest.raises(TqlDataError) as caught:
            opened(store, what)
        assert said in caught.value.diagnostic.message
        assert len(store.asked) < 12
    ds = opened(store, "s3://data/parts/1.parquet")
    store.always = "403"
    store.asked.clear()
    with pytest.raises(TqlDataError, match="may not be read") as caught:
        ds.to_arrow()
    assert caught.value.diagnostic.help == "check the credentials, and what they permit"
    with pytest.raises(TqlDataError, match="may not be read"):
        opened(store)
    assert len(store.asked) < 12


def run(store: Store, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tql", *words],
        env={**os.environ, **store.environment(), **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_line_reads_it_and_says_what_is_wrong_with_exit_code_3(store: Store) -> None:
    done = run(store, "run", "s3://data/parts/*.parquet", "select x where x >= 5998")
    assert (done.returncode, [json.loads(line)["x"] for line in done.stdout.splitlines()]) == (
        0,
        [5998, 5999],
    )
    done = run(store, "explain", "s3://data/parts/*.parquet", "select x where x >= 5998")
    assert done.returncode == 0 and "parquet" in done.stdout
    done = run(store, "run", "s3://data/none/*.parquet", "select *")
    assert done.returncode == 3 and "no file matches 's3://data/none/*.parquet'" in done.stderr
    store.always = "403"
    done = run(store, "run", "s3://data/parts/*.parquet", "select *")
    assert done.returncode == 3 and "check the credentials" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(store: Store) -> None:
    ds = opened(store)
    assert ds.source.read(0, ["x"]).num_rows == 500
    pid = os.fork()
    if pid == 0:
        import signal

        signal.alarm(60)
        os._exit(int(ds["x"].to_pylist() != [*range(N)]))
    assert os.waitpid(pid, 0)[1] == 0


def test_a_table_and_the_files_that_it_names_lie_in_the_store(store: Store) -> None:
    """Relative paths, URIs, missing files, and requests that fail for a while."""
    s3 = store.filesystem(3, direct=True)
    for i in range(4):
        with s3.open_output_stream(f"data/pictures/c{i % 2}/{i} ü.png") as out:
            out.write(f"\x89PNG {i}".encode("latin-1"))
    rows = ["c0/0 ü.png", "s3://data/pictures/c1/1 ü.png", "c0/gone.png", "../pictures/c1/3 ü.png"]
    with s3.open_output_stream("data/pictures/labels.csv") as out:
        out.write("\n".join(["path", *rows]).encode())
    ds = tql.open(
        "data/pictures/labels.csv", files={"image": "path"}, filesystem=store.filesystem()
    )
    assert ds.missing_files().tolist() == [2]
    store.faults += ["503", "cut"]
    found = ds.take([3, 0, 1], ["image"])["image"].to_pylist()
    assert found == [f"\x89PNG {i}".encode("latin-1") for i in (3, 0, 1)]
    assert not store.faults
    with pytest.raises(TqlDataError, match=r"row 2, column 'image'.*no file 'c0/gone\.png'"):
        ds.take([2], ["image"])
    folder = tql.open("data/pictures/*/*.png", filesystem=store.filesystem())
    assert folder["path"].to_pylist() == ["c0/0 ü.png", "c0/2 ü.png", "c1/1 ü.png", "c1/3 ü.png"]
    assert folder["label"].to_pylist() == [0, 0, 1, 1]
