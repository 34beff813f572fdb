"""Taking rows out of slices of nested fixed-size lists, which pyarrow 26 does wrongly."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tql
from tql.sources.movable import movable, movable_array

TYPES = {
    "matrix": pa.list_(pa.list_(pa.int32(), 3), 2),
    "cube": pa.list_(pa.list_(pa.list_(pa.float32(), 2), 2), 2),
    "record": pa.struct([("m", pa.list_(pa.list_(pa.int16(), 2), 2)), ("t", pa.string())]),
    "vector": pa.list_(pa.int32(), 3),
    "ragged": pa.list_(pa.list_(pa.int32(), 3)),
    "nothing": pa.list_(pa.list_(pa.int32(), 3), 0),
    "nothings": pa.list_(pa.list_(pa.list_(pa.int32(), 2), 0), 2),
}


def value(rng: np.random.Generator, stored: pa.DataType, missing: float) -> Any:
    if rng.random() < missing:
        return None
    if pa.types.is_struct(stored):
        return {f.name: value(rng, f.type, missing) for f in stored}
    if pa.types.is_fixed_size_list(stored):
        return [value(rng, stored.value_type, missing) for _ in range(stored.list_size)]
    if pa.types.is_list(stored):
        return [value(rng, stored.value_type, missing) for _ in range(rng.integers(4))]
    return "text" if pa.types.is_string(stored) else int(rng.integers(1, 100))


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("name", TYPES)
def test_slices_are_taken_from_and_filtered_right(name: str, missing: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        values = [value(rng, TYPES[name], missing) for _ in range(9)]
        whole = pa.array(values, TYPES[name])
        part = whole.slice(3, 5)
        index = rng.integers(0, 5, 7)
        keep = rng.random(5) < 0.5
        array = movable_array(part)
        assert array.to_pylist() == values[3:8]
        assert array.take(pa.array(index)).to_pylist() == [values[3 + i] for i in index]
        assert array.filter(pa.array(keep)).to_pylist() == [
            v for v, k in zip(values[3:8], keep) if k
        ]
        table = movable(pa.table({"x": pa.chunked_array([part, whole.slice(1, 1)])}))
        after = [*values[3:8], values[1]]
        assert table.take(pa.array([5, 0, 4]))["x"].to_pylist() == [after[i] for i in (5, 0, 4)]
        assert movable_array(whole.slice(0, 4)).to_pylist() == values[:4]


@pytest.mark.parametrize("name", TYPES)
def test_views_and_batches_of_sliced_tables_have_the_stored_values(name: str) -> None:
    rng = np.random.default_rng(4)
    values = [value(rng, TYPES[name], 0.1) for _ in range(9)]
    table = pa.table({"x": pa.array(values, TYPES[name]), "id": range(9)}).slice(4)
    ds = tql.open(table)
    for query, order in [
        ("select * order by id desc", [8, 7, 6, 5, 4]),
        ("select * where id != 5", [4, 6, 7, 8]),
        ("select * from (select x, id) as a right join (select id as j where id < 6) as b on id = j",
         [4, 5]),
        ("select x, id from (select * group by id % 2) ungroup by split", [4, 6, 8, 5, 7]),
    ]:  # fmt: skip
        if name == "record" and "group" in query:
            continue
        found = ds.query(query).to_arrow().column("x").to_pylist()
        assert found == [values[i] for i in order], query


def test_a_loader_gets_matrices_with_nulls_right() -> None:
    values = [[[i, i], [i, 9]] if i % 3 else None for i in range(9)]
    stored = pa.array(values, pa.list_(pa.list_(pa.int32(), 2), 2))
    ds = tql.open(pa.table({"x": stored}).slice(3))
    found = [x for batch in ds.batches(4) for x in batch["x"]]
    assert [None if x is None else np.asarray(x).tolist() for x in found] == values[3:]
