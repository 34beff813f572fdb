"""Samples that cannot be loaded: left out or replaced, the same on every rank and in every run."""

import gc
import itertools
import traceback
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tests.loader_fakes import encoded, picture
from tql.diagnostics import TqlDataError, TqlPlanError, TqlTypeError

N, BROKEN = 60, (3, 17, 18, 41)
CLASSES = np.arange(N) % 3


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A Parquet file of images in row groups of 10, four of which are no images."""
    images = [encoded(picture(i)) for i in range(N)]
    for i in BROKEN:
        images[i] = images[i][:40]
    table = pa.table({"image": pa.array(images, pa.binary()), "y": CLASSES, "x": np.arange(N)})
    pq.write_table(table, tmp_path / "images.parquet", row_group_size=10)
    return str(tmp_path / "images.parquet")


def rows_of(loader: Any) -> list[list[int]]:
    return [batch["index"].tolist() for batch in loader]


def flat(batches: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


def chain(path: str, **options: Any) -> tql.DataLoader:
    return tql.open(path).dataloader(seed=2, **options).shuffle().batch(8)


def test_the_error_names_row_column_file_and_cause_and_offers_to_go_on(path: str) -> None:
    with pytest.raises(TqlDataError) as caught:
        list(chain(path).numpy())
    text = str(caught.value)
    assert any(f"row {row}, column 'image'" in text for row in BROKEN)
    assert "images.parquet" in text
    assert "on_error='skip'" in text
    assert caught.value.__cause__ is not None


def test_skip_leaves_the_samples_out_of_their_batches(path: str) -> None:
    whole = rows_of(chain(path).numpy(decode_method={"image": "tobytes"}))
    loader = chain(path, on_error="skip").numpy()
    got = rows_of(loader)
    assert got == [[row for row in batch if row not in BROKEN] for batch in whole]
    assert len(got) == len(whole) == len(loader)
    report = loader.errors()
    assert report.rows == BROKEN
    assert [f.position for f in report] == [
        i for i, row in enumerate(r for batch in whole for r in batch) if row in BROKEN
    ]
    assert all(isinstance(f.error, TqlDataError) and f.replaced_by is None for f in report)
    assert str(report).startswith("4 samples could not be loaded\n  epoch 0, position ")


def test_the_report_is_a_condition_that_leaves_the_rows_out(path: str) -> None:
    loader = chain(path, on_error="skip").numpy()
    assert loader.errors().where == "true"
    list(loader)
    where = loader.errors().where
    assert where == "row_number() not in (3, 17, 18, 41)"
    clean = tql.open(path).query(f"select * where {where}")
    assert sorted(flat(rows_of(clean.dataloader().batch(9).numpy()))) == sorted(
        set(range(N)) - set(BROKEN)
    )


def test_replace_keeps_the_length_and_the_class_of_every_batch(path: str) -> None:
    weighted = "max_weight(y == 0: 5, y == 1: 2, y == 2: 1)"
    for mix in ("iid", "epoch"):
        base = chain(path).sample_by(weighted, size=400, mix=mix)
        whole = rows_of(base.numpy(decode_method={"image": "tobytes"}))
        loader = chain(path, on_error="replace").sample_by(weighted, size=400, mix=mix).numpy()
        got = rows_of(loader)
        assert [CLASSES[batch].tolist() for batch in got] == [
            CLASSES[batch].tolist() for batch in whole
        ]
        given, wanted = flat(got), flat(whole)
        changed = [i for i, (a, b) in enumerate(zip(given, wanted, strict=True)) if a != b]
        assert changed == [i for i, row in enumerate(wanted) if row in BROKEN]
        assert not set(given) & set(BROKEN)
        stand_ins = {f.position: f.replaced_by for f in loader.errors()}
        assert [stand_ins[i] for i in changed] == [given[i] for i in changed]


def test_what_stands_in_differs_from_place_to_place_and_from_epoch_to_epoch(path: str) -> None:
    loader = chain(path, on_error="replace").sample_by("y == 0", size=2000).numpy()
    for _ in range(2):
        list(loader)
    chosen = [f.replaced_by for f in loader.errors() if f.epoch == 0]
    assert len(set(chosen)) > 10
    assert chosen[:50] != [f.replaced_by for f in loader.errors() if f.epoch == 1][:50]


def test_weights_of_rows_are_kept_when_a_row_is_replaced(path: str) -> None:
    weights = np.zeros(N)
    weights[list(BROKEN)], weights[7] = 1, 20
    loader = chain(path, on_error="replace").sample_by(weights, size=100).numpy()
    assert set(flat(rows_of(loader))) == {7}, "rows without weight never stand in"


def test_the_same_samples_come_for_any_threads_ranks_and_resumed_jobs(path: str) -> None:
    for policy in ("skip", "replace"):
        wanted = rows_of(chain(path, on_error=policy).numpy(num_threads=1))
        for threads in (2, 8):
            assert rows_of(chain(path, on_error=policy).numpy(num_threads=threads)) == wanted
        ranks = [
            rows_of(chain(path, on_error=policy).numpy(rank=r, world_size=2, remainder="short"))
            for r in range(2)
        ]
        assert [ranks[i % 2][i // 2] for i in range(len(wanted))] == wanted
        loader = chain(path, on_error=policy).numpy()
        batches = iter(loader)
        for _ in range(3):
            next(batches)
        again = chain(path, on_error=policy).numpy()
        again.load_state_dict(loader.state_dict())
        assert rows_of(again) == wanted[3:]


def test_what_a_transform_raises_counts_as_well() -> None:
    def odd(value: int) -> int:
        if value % 5 == 4:
            raise ZeroDivisionError("of the user")
        return value

    data = tql.open({"x": np.arange(20)})
    loader = data.dataloader(on_error="skip").transform({"x": odd}).batch(10).numpy()
    assert [b["x"].tolist() for b in loader] == [
        [v for v in range(a, a + 10) if v % 5 != 4] for a in (0, 10)
    ]
    assert "row 4, left out: ZeroDivisionError: of the user" in str(loader.errors())
    whole = data.dataloader(on_error="replace").transform({"x": odd}).batch(10).numpy()
    assert [b["x"].size for b in whole] == [10, 10]
    with pytest.raises(ZeroDivisionError):
        list(data.dataloader().transform({"x": odd}).numpy())


def test_more_than_max_errors_end_the_pass_behind_the_batches_before(path: str) -> None:
    loader = chain(path, on_error="skip", max_errors=2).numpy(num_threads=4)
    whole = rows_of(chain(path, on_error="skip").numpy())
    got = []
    with pytest.raises(TqlPlanError, match=r"samples could not be loaded, more than max_errors=2"):
        for batch in loader:
            got.append(batch["index"].tolist())
    assert 0 < len(got) < len(whole)
    assert got == whole[: len(got)]
    assert loader.state_dict()["position"] == 8 * len(got)
    enough = chain(path, on_error="skip", max_errors=4).numpy()
    assert rows_of(enough) == whole
    assert len(flat(rows_of(enough))) == N - 4, "each pass counts anew"


def test_a_batch_of_which_nothing_is_left_raises(path: str) -> None:
    only = tql.open(path).query("select * where x in (3, 17)")
    with pytest.raises(TqlDataError, match="row 3, column 'image'") as caught:
        list(only.dataloader(on_error="skip").batch(2).numpy())
    assert caught.value.__notes__[0] == "tql: no sample of this batch can be loaded"
    with pytest.raises(TqlDataError) as caught:
        list(only.dataloader(on_error="replace").batch(2).numpy())
    assert caught.value.__notes__[0] == "tql: 8 substitutes failed as well"


def test_broken_json_is_a_sample_that_failed() -> None:
    field = pa.field("j", pa.json_()) if hasattr(pa, "json_") else None
    if field is None:
        pytest.skip("this pyarrow has no JSON type")
    texts = ['{"a": 1}', "{", '{"a": 2}']
    column = pa.ExtensionArray.from_storage(field.type, pa.array(texts))
    loader = tql.open(pa.table({"j": column})).dataloader(on_error="skip").batch(3).numpy()
    assert [b["j"] for b in loader] == [[{"a": 1}, {"a": 2}]]
    assert loader.errors().rows == (1,)


def test_an_unknown_policy_or_limit_is_refused_before_anything_is_read(path: str) -> None:
    with pytest.raises(TqlTypeError, match="on_error is 'ignore'; expected 'raise', 'skip'"):
        chain(path, on_error="ignore")
    with pytest.raises(TqlTypeError, match="max_errors= with on_error='raise'"):
        chain(path, max_errors=3)
    with pytest.raises(TqlPlanError, match="max_errors is -1"):
        chain(path, on_error="skip", max_errors=-1)


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_a_report_does_not_hold_the_batches_of_its_samples(path: str, policy: Any) -> None:
    held: list[weakref.ref[Any]] = []

    def odd(sample: dict[str, Any]) -> dict[str, Any]:
        value = np.full(3, sample["x"])
        held.append(weakref.ref(value))
        if sample["x"] % 5 == 0:
            try:
                raise KeyError("below")
            except KeyError as cause:
                raise ValueError(f"odd {value}") from cause
        return {"x": value.sum()}

    data = tql.open({"x": np.arange(N)})
    loader = data.dataloader(on_error=policy).batch(10).transform(odd).numpy()
    list(loader)
    assert len(loader.errors()) >= 12
    gc.collect()
    assert not [ref for ref in held if ref() is not None]
    first = loader.errors()[0].error
    assert [f.name for f in traceback.extract_tb(first.__traceback__)][-1] == "odd"
