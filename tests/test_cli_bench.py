"""`tql bench` and progress bars."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql import cli


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def perform(*arguments: str) -> Done:
        code = cli.perform(list(arguments))
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return perform


def test_it_says_how_fast_and_what_bounds_it(run: Callable[..., Done]) -> None:
    done = run(
        "bench", "demo:digits", "select * where labels != 5", "--shuffle", "--seconds", "0.1"
    )
    assert done.code == 0
    head, rate, first, *rest = done.out.splitlines()
    assert head == "demo:digits: batches of 128 of 1,615 rows"
    assert "rows/s" in rate
    assert "MB/s of decoded columns" in rate
    assert first.startswith("  first batch after ")
    assert any(line.startswith("decode ") for line in rest)
    assert "most of the time" in rest[-1]


def test_the_numbers_are_there_as_json(run: Callable[..., Done]) -> None:
    done = run("bench", "demo:digits", "--batch", "100", "--seconds", "0.1", "--json",
               "--columns", "labels")  # fmt: skip
    found = json.loads(done.out)
    assert found["seconds"] >= 0.1
    assert found["rows"] / found["seconds"] == pytest.approx(found["rows_per_second"])
    assert found["bytes"] == 16 * found["rows"], "labels and index, int64 each"
    assert set(found["last_epoch"]["stages"]) == {"read", "decode", "transform", "collate"}


def test_a_data_set_of_one_batch_is_measured_from_pass_to_pass(run: Callable[..., Done]) -> None:
    done = run("bench", "demo:digits", "--batch", "5000", "--seconds", "0.1", "--json",
               "--columns", "labels")  # fmt: skip
    found = json.loads(done.out)
    assert found["epochs"] > 1
    assert found["rows"] == 1797 * found["batches"]


def test_bytes_are_counted_in_columns_of_any_type(run: Callable[..., Done], tmp_path: Path) -> None:
    n, columns = 30, {
        "box": ([[1.0] * (i % 3) for i in range(30)], 30 * 8),
        "nothing": (pa.array([[]] * 30, pa.list_(pa.int32())), 0),
        "text": ([None if i % 5 == 0 else "ab" for i in range(30)], 24 * 2),
        "number": ([None if i % 5 == 0 else i for i in range(30)], 24 * 8),
    }  # fmt: skip
    for name, (values, nbytes) in columns.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({name: values}), path)
        done = run("bench", str(path), "--seconds", "0.01", "--json")
        found = json.loads(done.out)
        assert found["bytes"] == (nbytes + 8 * n) * found["batches"]


def test_nothing_to_load_and_unknown_columns_are_wrong_usage(run: Callable[..., Done]) -> None:
    done = run("bench", "demo:digits", "select * where labels > 50")
    assert (done.code, "no row is left to load" in done.err) == (2, True)
    done = run("bench", "demo:digits", "--columns", "lables")
    assert (done.code, "did you mean 'labels'" in done.err) == (2, True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_progress_bar_counts_the_batches_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tql.open({"x": np.arange(10)})
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        loader = data.dataloader(progress=True).batch(4).numpy()
        assert [b["x"].size for b in loader] == [4, 4, 2]
        assert ("epoch 0" in stream.getvalue()) == shown
        assert ("3/3" in stream.getvalue()) == shown
