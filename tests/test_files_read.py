"""Which bytes of a file are read, and in how many requests: local, and where each takes its time."""

import os
import pickle
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

import tql
from tql.sources import footers
from tql.sources.files import File

Range = tuple[int, int]
ROWS = 40_000


class Log:
    """What was asked of the files: byte ranges read, and the names of the other requests."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.ranges: list[Range] = []
        self.others: list[str] = []

    def wait(self, other: str | None = None) -> None:
        if other is not None:
            self.others.append(other)
        time.sleep(self.delay)

    def take(self) -> tuple[list[str], list[Range]]:
        """All requests since the last time."""
        taken = self.others, self.ranges
        self.others, self.ranges = [], []
        return taken


class Recorded:
    """A file open for reading that logs each range read of it; cut at `end`, where given."""

    def __init__(self, path: str, log: Log, end: int | None = None) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._log = log
        self._end = os.path.getsize(path) if end is None else end

    def read(self, size: int = -1) -> bytes:
        start = self._file.tell()
        stop = self._end if size < 0 else min(start + size, self._end)
        self._log.ranges.append((start, stop))
        self._log.wait()
        return self._file.read(max(stop - start, 0))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False


class Remote(LocalFileSystem):
    """Local files that are reached as if they lay far away."""

    cachable = False

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def info(self, path: str, **kwargs: Any) -> Any:
        self.log.wait("info")
        return super().info(path, **kwargs)

    def open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        assert mode == "rb"
        self.log.wait("open")
        return Recorded(path, self.log)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    found = tmp_path / "a.parquet"
    table = pa.table({
        "labels": rng.integers(0, 10, ROWS),
        "image": pa.array([rng.bytes(20) for _ in range(ROWS)]),
        "score": rng.random(ROWS),
        "id": np.arange(ROWS),
    })  # fmt: skip
    pq.write_table(table, found, row_group_size=ROWS // 4)
    old = time.time() - 3600
    os.utime(found, (old, old))
    return found


def _chunk(path: Path, column: str, group: int) -> Range:
    metadata = pq.read_metadata(path)
    chunk = metadata.row_group(group).column(metadata.schema.names.index(column))
    start = chunk.data_page_offset
    if chunk.has_dictionary_page:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def _touched(path: Path, ranges: Sequence[Range]) -> set[tuple[str, int]]:
    """The column chunks of which a byte was read."""
    metadata = pq.read_metadata(path)
    chunks = {
        (name, g): _chunk(path, name, g)
        for name in metadata.schema.names
        for g in range(metadata.num_row_groups)
    }
    return {
        key
        for key, (start, stop) in chunks.items()
        if any(a < stop and start < b for a, b in ranges)
    }


@pytest.mark.parametrize("remote", [False, True])
def test_a_query_reads_the_chunks_of_its_columns_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    log = Log()
    if remote:
        ds = tql.open(str(path), filesystem=Remote(log))
    else:
        ds = tql.open(path)
        monkeypatch.setattr(
            File, "open", lambda f, ahead=(): pa.PythonFile(Recorded(f.path, log), mode="r")
        )  # fmt: skip
    log.take()
    groups = range(4)
    for text, chunks in {
        "select * where labels != 5": {("labels", g) for g in groups},
        "select * where labels == 5 and score > 0.9": {
            (name, g) for name in ("labels", "score") for g in groups
        },
        f"select * where id >= {ROWS - 10}": {("id", 3)},
        f"select * where id < {ROWS // 2}": set(),
        "select * where id < 0 or labels is null": set(),
        "select * where id < 10 and score > 0.5": {(n, 0) for n in ("id", "score")},
    }.items():  # fmt: skip
        rows = ds.query(text).row_ids
        _, ranges = log.take()
        assert _touched(path, ranges) == chunks, text
        assert rows.tolist() == tql.open(pq.read_table(path)).query(text).row_ids.tolist()


def test_requests_of_a_remote_file(path: Path) -> None:
    """Opening: what it is, a handle, one read. A query: once whether the file is as it was, a handle
    and one read a row group.
    """
    log = Log(delay=0.02)
    remote = Remote(log)
    ds = tql.open(str(path), filesystem=remote)
    others, ranges = log.take()
    assert others.count("open") == 1 and others.count("info") == 1
    assert len(ranges) == 1
    ds.query("select * where labels != 5").row_ids.tolist()
    others, ranges = log.take()
    assert sorted(others) == ["info"] + ["open"] * 4
    assert len(ranges) == 4
    ds.query(f"select * where id >= {ROWS - 10} and score > 0.5").row_ids.tolist()
    others, ranges = log.take()
    assert others == ["info", "open"]
    assert len(ranges) == 1  # two columns that lie side by side are one read


def test_a_remote_footer_is_read_once_while_the_file_stays(path: Path) -> None:
    log = Log()
    remote = Remote(log)
    first = tql.open(str(path), filesystem=remote)
    log.take()
    again = tql.open(str(path), filesystem=remote)
    assert log.take() == (["info"], [])
    assert again.fingerprint == first.fingerprint
    assert len(again.query("select * where labels != 5")) == len(
        first.query("select * where labels != 5")
    )
    pq.write_table(pa.table({"labels": [1, 2, 3]}), path)
    old = time.time() - 1800
    os.utime(path, (old, old))
    log.take()
    assert len(tql.open(str(path), filesystem=remote)) == 3
    assert len(log.take()[1]) == 1
    other = tql.open(str(path), filesystem=Remote(log))  # another place of the same path
    assert len(other) == 3
    assert len(log.take()[1]) == 1


def test_a_file_that_was_just_written_is_not_remembered(path: Path) -> None:
    """It may be written again without a change of its size and its time."""
    os.utime(path)
    log = Log()
    remote = Remote(log)
    for _ in range(2):
        tql.open(str(path), filesystem=remote)
        assert len(log.take()[1]) == 1


def test_of_the_footers_the_one_unused_for_longest_is_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(Log())
    for name in "bcd":
        shutil.copy2(path, path.with_name(f"{name}.parquet"))

    def held() -> list[str]:
        return [f.file.path[-9] for f in footers.remembered() if f.file.place.given is remote]

    for name in "abca":
        tql.open(str(path.with_name(f"{name}.parquet")), filesystem=remote)
    assert held() == ["b", "c", "a"]
    one = footers.remembered()[-1].metadata.serialized_size
    monkeypatch.setattr(footers, "_REMEMBERED_BYTES", 15 * one)  # one decoded footer, not fifteen
    tql.open(str(path.with_name("d.parquet")), filesystem=remote)
    assert held() == ["d"]
    assert footers._remembered_bytes == sum(map(footers._size, footers.remembered()))


def test_local_footers_are_read_anew(path: Path) -> None:
    tql.open(path)
    assert not any(entry.file.path == str(path) for entry in footers.remembered())


def test_a_file_that_changed_after_it_was_opened_says_so(path: Path) -> None:
    ds = tql.open(str(path), filesystem=Remote(Log()))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(tql.TqlDataError, match=r"a\.parquet' is truncated or damaged"):
        ds.query("select * where score > 0.5")


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("text", ["select * where id > 35_000", "select * where score > 0.5"])
def test_a_file_that_is_written_again_gives_no_rows_of_both(
    path: Path, remote: bool, text: str
) -> None:
    """The size, the schema and so the places of all pages stay; only the time is another."""
    given = Remote(Log()) if remote else None
    ds = tql.open(str(path), filesystem=given)
    sent = pickle.dumps(ds.source) if given is None else None
    _write_backwards(path)
    with pytest.raises(tql.TqlDataError, match=r"a\.parquet' has changed since it was opened"):
        ds.query(text).row_ids.tolist()
    if sent is not None:
        with pytest.raises(tql.TqlDataError, match="has changed since it was opened"):
            pickle.loads(sent).read(0, ["score"])
    again = tql.open(str(path), filesystem=given)
    table = pq.read_table(path)
    assert again.query(text).row_ids.tolist() == tql.open(table).query(text).row_ids.tolist()


@pytest.mark.parametrize(
    "text", ["order by score limit 3", "order by score + 1", "sample by score"]
)
def test_a_remote_file_that_is_written_again_is_noticed_by_numbers_of_every_row(
    path: Path, text: str
) -> None:
    ds = tql.open(str(path), filesystem=Remote(Log()))
    ds.query("select * where score > 0.5").row_ids.tolist()
    _write_backwards(path)
    with pytest.raises(tql.TqlDataError, match=r"a\.parquet' has changed since it was opened"):
        ds.query(f"select * {text}").row_ids.tolist()


def test_a_file_that_was_touched_or_copied_is_the_same_data(path: Path) -> None:
    ds = tql.open(path)
    text = f"select * where id < {ROWS // 2 + 1}"
    rows = ds.query(text).row_ids.tolist()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert ds.query(text).row_ids.tolist() == rows
    assert pickle.loads(pickle.dumps(ds.source)).read(0, ["score"]).num_rows == ROWS // 4


def _write_backwards(path: Path) -> None:
    table = pq.read_table(path)
    size = path.stat().st_size
    pq.write_table(table.take(np.arange(ROWS)[::-1]), path, row_group_size=ROWS // 4)
    recent = time.time() - 1800
    os.utime(path, (recent, recent))
    assert abs(path.stat().st_size - size) < 10_000


def test_an_answer_of_the_statistics_alone_is_not_of_a_file_that_changed(path: Path) -> None:
    ds = tql.open(path)
    text = f"select * where id < {ROWS // 2}"
    assert len(ds.query(text)) == ROWS // 2
    _write_backwards(path)
    with pytest.raises(tql.TqlDataError, match="has changed since it was opened"):
        ds.query(text).row_ids.tolist()


def test_a_file_whose_time_is_unknown_is_known_by_its_footer(path: Path) -> None:
    class Timeless(Remote):
        def info(self, path: str, **kwargs: Any) -> Any:
            return {k: v for k, v in super().info(path, **kwargs).items() if k != "mtime"}

    ds = tql.open(str(path), filesystem=Timeless(Log()))
    assert len(ds.query("select * where id < 10")) == 10
    _write_backwards(path)
    with pytest.raises(tql.TqlDataError, match="has changed since it was opened"):
        ds.query("select * where score > 0.5")


def test_remote_footers_of_a_glob_are_remembered(path: Path) -> None:
    log = Log()
    remote = Remote(log)
    for reads in (1, 0):
        assert len(tql.open(f"{path.parent}/*.parquet", filesystem=remote)) == ROWS
        assert len(log.take()[1]) == reads


def test_a_short_read_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = tql.open(str(path), filesystem=Remote(Log()))
    start, stop = _chunk(path, "score", 1)
    monkeypatch.setattr(
        File,
        "open",
        lambda f, ahead=(): pa.PythonFile(Recorded(f.path, Log(), (start + stop) // 2), mode="r"),
    )
    with pytest.raises(tql.TqlDataError, match=r"row group 1.* cannot be read"):
        ds.query("select * where score > 0.5")
