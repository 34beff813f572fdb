"""A data set sent to another process: workers that are spawned get theirs as a pickle."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

import tql
from tql.diagnostics import TqlDataError
from tql.sources import Source, open_source
from tql.sources.foreign import ChosenRows

ROOT = Path(__file__).parents[1]
N = 1000
TABLE = pa.table(
    {
        "id": np.arange(N),
        "label": np.arange(N) % 3,
        "s": pa.array([f"text {i % 7}" for i in range(N)]).dictionary_encode(),
        "some": [None if i % 400 == 0 else i for i in range(N)],
    }
)
KINDS = ["memory", "parquet", "files", "filesystem", "ipc", "lz4", "stream", "chosen", "demo"]


def opened(kind: str, folder: Path) -> Source:
    names = {"label": ["a", "b", "c"]}
    path = folder / ("a.parquet" if kind in ("parquet", "files", "filesystem") else "a.arrow")
    match kind:
        case "memory":
            return open_source(TABLE, class_names=names)
        case "chosen":
            return ChosenRows(open_source(TABLE), np.arange(N)[::-2])
        case "demo":
            return open_source("demo:digits")
        case "parquet" | "files" | "filesystem":
            pq.write_table(TABLE, path, row_group_size=100)
            if kind == "filesystem":
                local = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
                return open_source("a.parquet", filesystem=local)
            if kind == "files":
                pq.write_table(TABLE, folder / "b.parquet", row_group_size=300)
                return open_source(folder, columns=["s", "id"])
            return open_source(path, class_names=names)
        case _:
            options = pa.ipc.IpcWriteOptions(compression="lz4" if kind == "lz4" else None)
            new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
            with new(path, TABLE.schema, options=options) as writer:
                writer.write_table(TABLE, max_chunksize=100)
            return open_source(path, class_names=names)


def first_rows(source: Any) -> dict[str, Any]:
    read: pa.Table = source.read(0, source.schema.names).slice(0, 5)
    return read.to_pydict()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fingerprinted", [True, False])
def test_a_source_is_the_same_after_a_journey(
    kind: str, fingerprinted: bool, tmp_path: Path
) -> None:
    source = opened(kind, tmp_path)
    if fingerprinted:
        assert source.fingerprint
    there = pickle.loads(pickle.dumps(source))
    assert there.schema == source.schema and there.rows == source.rows
    assert there.fingerprint == source.fingerprint
    assert [(f.start, f.rows, f.origin) for f in there.fragments] == [
        (f.start, f.rows, f.origin) for f in source.fragments
    ]
    name = source.schema.names[0]
    for here, sent in zip(source.fragments, there.fragments, strict=True):
        assert (name in sent.columns) == (name in here.columns)
        assert not here.columns or sent.columns[name] == here.columns[name]
    assert first_rows(there) == first_rows(source)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("chosen", "filesystem")])
def test_views_travel_with_what_they_are_views_of(kind: str, tmp_path: Path) -> None:
    name = opened(kind, tmp_path).schema.names[0]
    data: Any = {"memory": TABLE, "demo": "demo:digits", "files": str(tmp_path)}.get(kind)
    dataset = tql.open(data or str(next(tmp_path.iterdir())))
    view = dataset.query(f"select {name}, row_number() as n limit 300 offset 7")
    again = pickle.loads(pickle.dumps(view.query("select n + 1 as m, * limit 100")))
    assert again.fingerprint == view.query("select n + 1 as m, * limit 100").fingerprint
    assert np.array_equal(again.row_ids, view.row_ids[:100])
    rows = again.take(np.array([3, 1]))
    assert rows.equals(view.query("select n + 1 as m, * limit 100").take(np.array([3, 1])))


THERE = """
import pickle, sys
for source in pickle.load(sys.stdin.buffer):
    print(source.fingerprint, source.read(0, source.schema.names[:1]).column(0)[1].as_py())
"""


def test_a_fresh_process_reads_what_it_was_sent(tmp_path: Path) -> None:
    kinds = ["memory", "parquet", "ipc", "stream"]
    for kind in kinds:
        (tmp_path / kind).mkdir()
    sources = [opened(kind, tmp_path / kind) for kind in kinds]
    done = subprocess.run(
        [sys.executable, "-c", THERE],
        input=pickle.dumps(sources),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
    )
    assert done.stderr == b""
    assert done.stdout.decode().split("\n")[:-1] == [f"{s.fingerprint} 1" for s in sources]


def test_files_travel_as_names_and_footers_not_as_rows(tmp_path: Path) -> None:
    size = TABLE.nbytes
    for kind, most in (("parquet", 10_000), ("ipc", 2_000), ("stream", 2_000)):
        (tmp_path / kind).mkdir()
        assert len(pickle.dumps(opened(kind, tmp_path / kind))) < most < size


def test_a_file_that_changed_on_the_way_is_named(tmp_path: Path) -> None:
    sent = pickle.dumps(opened("ipc", tmp_path))
    with pa.ipc.new_file(tmp_path / "a.arrow", TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=50)
    with pytest.raises(TqlDataError, match=r"a\.arrow' has changed since it was opened"):
        pickle.loads(sent)
