"""What is not local is waited for by many threads at once, in queries and in loaders."""

import threading
from collections.abc import Sequence
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

import tql
from tests.loader_fakes import FakeSource
from tql.engine.scan import Settings, over
from tql.loader import FragmentRows
from tql.schema import Column, Int, Schema
from tql.sources.protocol import REMOTE_READERS, Fragment, Placed, is_local

PATIENCE = 60.0  # seconds; where fewer threads read at once, nobody comes before it is over


class Distant(FakeSource, Placed):
    """Fragments that come once so many are asked for at the same time."""

    def __init__(self, at_once: int) -> None:
        rows = 10 * REMOTE_READERS
        super().__init__(pa.table({"x": np.arange(rows)}), Schema([Column("x", Int(64))]), 10)
        self.all_there = threading.Barrier(at_once)

    @property
    def local(self) -> bool:
        return False

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        self.all_there.wait(PATIENCE)
        return super().read(fragment, columns)


@pytest.mark.parametrize(
    ("settings", "at_once"), [(Settings(), REMOTE_READERS), (Settings(threads=2), 2)]
)
def test_a_query_reads_as_many_fragments_at_once(settings: Settings, at_once: int) -> None:
    source = Distant(at_once)

    def work(fragment: Fragment) -> int:
        return source.read(fragment.index, ["x"]).num_rows

    assert list(over(source, source.fragments, work, settings, ["x"])) == [10] * REMOTE_READERS


def test_files_beside_a_table_are_as_far_away_as_their_folder(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    table = {"path": ["a.bin"]}
    here = tql.open(table, files={"data": "path"}, root=tmp_path)
    elsewhere = tql.open(
        table, files={"data": "path"}, root="/", filesystem=fsspec.filesystem("dir", path=tmp_path)
    )
    assert is_local(here.source) and FragmentRows(here.source).local
    assert not is_local(elsewhere.source) and not FragmentRows(elsewhere.source).local
