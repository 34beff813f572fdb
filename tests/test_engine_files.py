"""Both tiers over real files: fragments as Parquet and Arrow IPC deliver them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.plain_kernels import run_as_python
from tests.strategies import random_table
from tql.engine.scan import Settings
from tql.queries import ask

NAMES = ["flag_n", "i8_n", "i32", "i64_n", "u16", "u64_n", "f32_n", "f64", "text_n", "label"]
CONDITIONS = [
    "i32 != 5", "i8_n > 1 or i8_n is null", "not (flag_n and f64 > 0.5)", "u64_n >= i64_n",
    "f32_n == 0.1", "text_n like 'a*' and u16 in (1, 2, 65535)", "label != 'dog'", "word == 'b'",
    "word in ('a', 'c') or word is null", "text_n like '?' and i32 > 0", "taken < until", "day >= day",
    "until == taken or until is null", "i64_n % 7 == 3 and f64 < 10", "flag_n == (i32 > 2)",
    "contains(text_n, 'b') or label between 'cat' and 'dog'", "random() % 2 == 0 and i32 < 5",
]  # fmt: skip


def table() -> pa.Table:
    """Rows of many types, the dictionary-encoded words in chunks of different dictionaries."""
    rng = np.random.default_rng(2)
    rows = random_table(NAMES, 500, 9, offset=5)
    words = [
        pa.array(rng.choice(np.array(chosen, object), 250), pa.string()).dictionary_encode()
        for chosen in (["a", "b", None], ["c", "b"])
    ]
    stamps = rng.integers(0, 5, (2, 500)).astype("datetime64[s]")
    names = pa.field(
        "label", pa.int16(), metadata={b"tql:class_names": b'["cat", "dog", "it\'s", "Cat", ""]'}
    )
    rows = rows.set_column(rows.column_names.index("label"), names, rows.column("label"))
    return (
        rows.append_column("word", pa.chunked_array(words))
        .append_column("taken", pa.array(stamps[0]))
        .append_column("until", pa.array(stamps[1], mask=rng.random(500) < 0.3))
        .append_column("day", pa.array(stamps[0].astype("datetime64[D]")))
    )


TABLE = table()


def write(kind: str, folder: Path) -> Any:
    """The table in one of the forms that `tql.open` takes, in fragments of 70 or so rows."""
    match kind:
        case "memory":
            return TABLE
        case "parquet":
            pq.write_table(TABLE, folder / "rows.parquet", row_group_size=70)
            return folder / "rows.parquet"
        case "folder":
            for n, start in enumerate(range(0, 500, 130)):
                pq.write_table(TABLE.slice(start, 130), folder / f"{n}.parquet", row_group_size=64)
            return folder
        case _:
            plain = TABLE.set_column(
                TABLE.column_names.index("word"), "word", TABLE.column("word").cast(pa.string())
            )
            with pa.ipc.new_file(folder / "rows.arrow", plain.schema) as out:
                for batch in plain.to_batches(max_chunksize=70):
                    out.write_batch(batch)
            return folder / "rows.arrow"


@pytest.mark.parametrize("kind", ["memory", "parquet", "folder", "ipc"])
def test_every_form_of_the_data_gives_the_same_rows_in_both_tiers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = run_as_python(monkeypatch)
    here, memory = tql.open(write(kind, tmp_path)), tql.open(TABLE)
    assert len(here) == 500
    for condition in CONDITIONS:
        text = f"select * where {condition}"
        wanted = (
            ask(memory.source, text, settings=Settings("reference", 1)).answer().rows.to_numpy()
        )
        for settings in (Settings("reference", 3), Settings("kernel", 3)):
            found = ask(here.source, text, settings=settings).answer().rows.to_numpy()
            assert found.tolist() == wanted.tolist(), (condition, settings)
    assert calls["predicate"] > 0


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_set_operations_over_one_file_read_each_column_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tql.open(write(kind, tmp_path))
    read: list[tuple[int, tuple[str, ...]]] = []
    original = type(here.source).read

    def counting(self: Any, fragment: int, columns: Any) -> Any:
        read.append((fragment, tuple(columns)))
        return original(self, fragment, columns)

    monkeypatch.setattr(type(here.source), "read", counting)
    text = "(select * where i32 > 2) union (select * where f64 < 0) union (select * where i32 == 1)"
    found = ask(here.source, text, settings=Settings("reference")).answer().rows.to_numpy()
    assert sorted(read) == [(n, ("f64", "i32")) for n in range(len(here.source.fragments))]
    i32, f64 = (TABLE.column(n).to_numpy() for n in ("i32", "f64"))
    assert found.tolist() == np.flatnonzero((i32 > 2) | (f64 < 0) | (i32 == 1)).tolist()
