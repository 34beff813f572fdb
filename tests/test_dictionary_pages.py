"""Text that Parquet stores by code is read as pyarrow reads it, whatever wrote it and however damaged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

import tql
from tests.plain_kernels import run_as_python
from tql.jit import Kernel
from tql.sources import dictionary_pages, page_kernels, parquet
from tql.sources.dictionary_pages import read_codes
from tql.sources.page_kernels import FIELDS, LAYOUT, TEXTS

WORDS = ["", "a", "b", "ab", "a\0", "é", "🌍", "x" * 40, "Ω", "other", "A", "a%"]
CODECS = ["none", "snappy", "gzip", "brotli", "zstd"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every kernel pays from its first call on."""
    monkeypatch.setattr(Kernel, "pays", lambda self, slow_ns: True)
    yield


def written(path: Path, texts: Any, *, nullable: bool = True, **options: Any) -> Path:
    column = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
    schema = pa.schema([pa.field("s", column.type, nullable=nullable)])
    pq.write_table(pa.table([column], schema=schema), path, **options)
    return path


def read(path: Path, group: int = 0) -> Any:
    metadata = pq.read_metadata(path)
    with pa.OSFile(str(path)) as handle:
        return read_codes(handle, metadata.row_group(group).column(0), metadata.schema.column(0))


@pytest.mark.parametrize("nulls", [None, 0.0, 0.3, 0.999, "runs"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", CODECS)
def test_codes_stand_for_the_texts(tmp_path: Path, codec: str, version: str, nulls: Any) -> None:
    rng = np.random.default_rng(7)
    rows = 30_011
    texts: list[str | None] = [WORDS[i] for i in rng.integers(0, len(WORDS), rows)]
    if nulls == "runs":  # whole pages without a NULL, and whole ones of them
        texts = [None if i // 5000 % 2 else t for i, t in enumerate(texts)]
    elif nulls:
        texts = [None if rng.random() < nulls else t for t in texts]
    path = written(
        tmp_path / "t.parquet", texts, nullable=nulls is not None,
        compression=codec, data_page_version=version, data_page_size=2000, write_batch_size=512,
    )  # fmt: skip
    found = read(path)
    found.validate(full=True)
    assert found.type == pa.dictionary(pa.uint8(), pa.string())
    assert found.null_count == texts.count(None)
    assert found.cast(pa.string()).equals(pa.array(texts, pa.string()))


@pytest.mark.parametrize("distinct", [1, 2, 3, 255, 256, 257, 65_535, 65_536, 70_000])
def test_codes_are_as_narrow_as_leaves_one_number_free(tmp_path: Path, distinct: int) -> None:
    codes = np.random.default_rng(3).integers(0, distinct, 3 * distinct)
    codes = np.concatenate([np.arange(distinct), codes, np.full(3000, distinct - 1)])
    texts = pa.array([f"w{i}" for i in codes.tolist()])
    path = written(tmp_path / "t.parquet", texts, data_page_size=30_000)
    found = read(path)
    kind = pa.uint8() if distinct < 256 else pa.uint16() if distinct < 65_536 else pa.int32()
    assert found.type == pa.dictionary(kind, pa.string())
    assert found.cast(pa.string()).equals(texts)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_any_layout_of_text_is_read_the_same(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(WORDS * 500, pa.string())
    path = written(tmp_path / "t.parquet", texts.cast(kind), row_group_size=1500)
    ds = tql.open(str(path))
    assert [ds.source.read(g, ["s"])["s"].type.index_type for g in range(4)] == [pa.uint8()] * 4
    assert ds.source.read(1, ["s"])["s"].cast(pa.string()).combine_chunks() == texts[1500:3000]


def test_bytes_that_are_no_text_come_as_they_are(tmp_path: Path) -> None:
    odd = [b"\xff\xfe", b"ok", b"\xc3"] * 2000
    offsets = np.cumsum([0, *map(len, odd)]).astype(np.int32)
    texts = pa.StringArray.from_buffers(
        len(odd), pa.py_buffer(offsets), pa.py_buffer(b"".join(odd))
    )
    found = read(written(tmp_path / "t.parquet", texts))
    assert found.cast(pa.string()).cast(pa.binary()).to_pylist() == odd


def test_what_is_stored_otherwise_is_for_pyarrow(tmp_path: Path) -> None:
    many = [f"text {i}" for i in range(50_000)]
    path = tmp_path / "t.parquet"
    assert read(written(path, many, dictionary_pagesize_limit=1000)) is None  # falls back to texts
    assert read(written(path, WORDS * 100, use_dictionary=False)) is None
    assert read(written(path, WORDS * 100, compression="lz4")) is None
    assert read(written(path, pa.array([WORDS] * 100))) is None
    assert read(written(path, pa.array([1, 2] * 100))) is None
    assert read(written(path, [None] * 100)) is None  # a dictionary of nothing


def test_kernels_that_do_not_pay_leave_it_to_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "t.parquet", WORDS * 500)
    for dear in (LAYOUT, page_kernels.DECODE_8):
        with monkeypatch.context() as patch:
            patch.setattr(Kernel, "pays", lambda self, ns, dear=dear: self is not dear)
            assert read(path) is None
    assert read(path) is not None


@pytest.mark.parametrize("nullable", [False, True])
@given(data=st.data())
def test_the_loops_in_python_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, nullable: bool, data: st.DataObject
) -> None:
    some = [*WORDS, None] if nullable else WORDS
    texts = data.draw(st.lists(st.sampled_from(some), min_size=1, max_size=40))
    texts = texts * data.draw(st.integers(1, 20)) + ["a"]
    path = written(
        tmp_path_factory.mktemp("p") / "t.parquet", texts, nullable=nullable,
        data_page_version=data.draw(st.sampled_from(["1.0", "2.0"])),
        data_page_size=data.draw(st.sampled_from([50, 10_000])), write_batch_size=16,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dictionary_pages, "_ROWS_OF_A_PAGE", 1)
        found = read(path)
        calls = run_as_python(patch)
        again = read(path)
    assert calls == {"LAYOUT": 1, "TEXTS": 1, "DECODE_8": 1}
    assert found.equals(again) and found.to_pylist() == texts


@given(data=st.data())
def test_a_damaged_chunk_gives_codes_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """In Python, where a look beside an array is an IndexError; negative places never come up."""
    texts: list[str | None] = [*WORDS, None] * 30
    path = written(
        tmp_path_factory.mktemp("p") / "t.parquet", texts, compression="none",
        data_page_version=data.draw(st.sampled_from(["1.0", "2.0"])), data_page_size=100,
        write_batch_size=16,
    )  # fmt: skip
    chunk = pq.read_metadata(path).row_group(0).column(0)
    first = chunk.dictionary_page_offset
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = first + data.draw(st.integers(0, chunk.total_compressed_size - 1))
        content[at] = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dictionary_pages, "_ROWS_OF_A_PAGE", 1)
        damaged = path.with_name("d.parquet")
        damaged.write_bytes(content)
        compiled = read(damaged)
        run_as_python(patch)
        plain = read(damaged)
    assert (compiled is None) == (plain is None)
    if compiled is not None:
        assert compiled.equals(plain) and len(compiled) == len(texts)
        compiled.indices.validate(full=True)
        assert compiled.indices.null_count == len(texts) or (
            max(c for c in compiled.indices.to_pylist() if c is not None) < len(compiled.dictionary)
        )


@given(st.binary(max_size=200))
def test_any_bytes_as_headers_and_as_texts(content: bytes) -> None:
    data = np.frombuffer(content, np.uint8)
    pages, result = np.full(8 * FIELDS, -1, np.int64), np.zeros(1, np.int64)
    offsets, out = np.zeros(4, np.int32), np.zeros(60, np.uint8)
    said = []
    for layout, texts in ((LAYOUT, TEXTS), (LAYOUT.python, TEXTS.python)):
        with np.errstate(all="ignore"):
            layout(data, pages, result)
            first = int(result[0])
            texts(data, offsets, out, result)
        said.append((first, int(result[0])))
    assert said[0] == said[1]
    for page in pages.reshape(-1, FIELDS)[: max(said[0][0], 0)].tolist():
        assert page[0] >= 0
        assert page[0] + page[3] <= len(content)


CONDITIONS = [
    "s == 'a'", "s == 'absent'", "s != 'é'", "s in ('a', 'Ω')", "not s in ('a')", "s like '?*'",
    "s ilike 'A%'", "contains(s, 'a')", "s is null", "s < t", "s == t", "s > 'ab' or t is null",
]  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_over_it_hold_where_they_hold_in_memory(tmp_path: Path, condition: str) -> None:
    rng = np.random.default_rng(1)
    some = [*WORDS, None]
    columns = {
        name: pa.array([some[i] for i in rng.integers(0, len(some), 9000)], pa.string())
        for name in ("s", "t")
    }
    table = pa.table({**columns, "n": np.arange(9000)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=4000)
    ds = tql.open(str(tmp_path / "t.parquet"))
    assert ds.source.read(0, ["n", "s"])["s"].type.index_type == pa.uint8()
    text = f"select * where {condition}"
    assert list(ds.query(text).row_ids) == list(tql.open(table).query(text).row_ids)
    chosen = f"select s, n where {condition} order by n limit 5"
    assert ds.query(chosen).to_arrow() == tql.open(table).query(chosen).to_arrow()


def test_what_is_not_on_this_machine_is_read_by_pyarrow_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("read by page")

    path = written(tmp_path / "t.parquet", WORDS * 500)
    monkeypatch.setattr(parquet, "read_codes", never)
    elsewhere = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    ds = tql.open("t.parquet", filesystem=elsewhere)
    assert ds.query("select * where s == 'a'").rowset.to_numpy()[0] == 1
    with pytest.raises(AssertionError, match="read by page"):
        tql.open(str(path)).query("select * where s == 'a'")
