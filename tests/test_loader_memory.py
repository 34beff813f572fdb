"""What the loader takes of memory, of data five times larger than it is given."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
MB = 1 << 20
BUDGET = 48
ROW, GROUP = 32 << 10, 64  # bytes of a row; rows of a row group, which has 2 MiB

# What Arrow, NumPy and Python hold at most while batches are made, beyond what they held before.
SCRIPT = """
import json, sys, tracemalloc
import pyarrow as pa
import tql

path, memory, order, most = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
chain = tql.open(path).dataloader(seed=1, memory=memory).batch(64)
if order is not None:
    chain = chain.shuffle(**order)
loader = chain.numpy(num_threads=2)
for _ in tql.open(path).dataloader(memory="1MB").batch(1).numpy():
    break  # all modules are there
tracemalloc.start()  # NumPy and Python say there what they take; Arrow's pool says it by itself
before = pa.total_allocated_bytes()
rows = 0
for number, batch in enumerate(loader, 1):
    rows += len(batch["index"])
    if number == most:
        break
peak = tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().max_memory() - before
fetches = loader.stats().fetches
print(json.dumps([rows, peak, fetches.fragments, fetches.bytes]))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random bytes, five times the budget."""
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    rng = np.random.default_rng(0)
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(path, pa.schema([("data", pa.binary())]), **options) as writer:
        for _ in range(5 * BUDGET * MB // (ROW * GROUP)):
            rows = [rng.bytes(ROW) for _ in range(GROUP)]
            writer.write_table(pa.table({"data": pa.array(rows, pa.binary())}))
    return path


@pytest.mark.parametrize(
    ("order", "most"),
    [(None, 0), ({"buffer_size": 10}, 0), ({}, 8)],
    ids=["in order", "windows", "shuffled"],
)
def test_memory_stays_under_what_was_given(
    large: Path, order: dict[str, float] | None, most: int
) -> None:
    arguments = [str(large), f"{BUDGET}MiB", json.dumps(order), str(most)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    rows, peak, fragments, nbytes = json.loads(done.stdout)
    assert rows == (64 * most or 120 * GROUP)
    assert 4 * MB < peak < BUDGET * MB, f"{peak / MB:.1f} MiB"
    assert nbytes > 4.9 * BUDGET * MB
    if (
        not most
    ):  # the first was read before, to see whether the bytes are images, and may have made room
        assert fragments in (119, 120)
