"""The loader chain over real data: from query text to batches that can be resumed and shared out."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql

WEIGHTS = "max_weight(labels == 5:10, labels == 6:5)"


@pytest.fixture(scope="module")
def digits() -> tql.Dataset:
    return tql.open("demo:digits")


@pytest.fixture
def numbers() -> tql.Dataset:
    return tql.open({"id": np.arange(100), "kind": np.arange(100) % 4})


Step = Callable[[Any], Any]


def rows(loader: Any) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *[np.asarray(b["index"]) for b in loader]])


def chain(ds: tql.Dataset, **options: Any) -> tql.DataLoader:
    return (
        ds.dataloader(seed=7)
        .query("select * where labels != 5")
        .sample_by(WEIGHTS)
        .shuffle()
        .offset(100)
        .batch(32)
        .pytorch(**options)
    )


def test_the_main_job_gives_batches_with_their_row_ids(digits: tql.Dataset) -> None:
    import torch

    loader = chain(digits)
    batches = list(loader)
    assert len(batches) == 48  # ceil((1615 - 100) / 32)
    assert batches[0]["images"].shape == (32, 8, 8, 1)
    assert batches[0]["images"].dtype == torch.uint8
    assert batches[0]["labels"].dtype == torch.int64
    table = digits.take(rows(batches), ["labels"])
    drawn = table.column("labels").to_pylist()
    assert drawn == torch.cat([b["labels"] for b in batches]).tolist()
    assert set(drawn) == {6}, "of the rows that are not 5, only 6 has a weight"


def test_threads_do_not_change_a_batch(digits: tql.Dataset) -> None:
    one, eight = list(chain(digits, num_threads=1)), list(chain(digits, num_threads=8))
    assert len(one) == len(eight)
    for a, b in zip(one, eight, strict=True):
        assert a.keys() == b.keys()
        assert all((a[k] == b[k]).all() for k in a)


def test_a_state_taken_after_any_batch_gives_the_same_remainder(digits: tql.Dataset) -> None:
    whole = rows(chain(digits))
    running = chain(digits)
    states = [json.dumps(running.state_dict())]
    for _ in running:
        states.append(json.dumps(running.state_dict()))
    for k, state in enumerate(states[:-1]):
        assert len(state) <= 128
        resumed = chain(digits)
        resumed.load_state_dict(json.loads(state))
        assert len(resumed) == 48 - k
        np.testing.assert_array_equal(rows(resumed), whole[32 * k :])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_out_one_sequence(digits: tql.Dataset, world_size: int) -> None:
    whole = rows(chain(digits))
    shared = {"world_size": world_size, "remainder": "short"}
    parts = [
        [np.asarray(b["index"]) for b in chain(digits, rank=r, **shared)] for r in range(world_size)
    ]
    joined = [p[step] for step in range(len(parts[0])) for p in parts if step < len(p)]
    np.testing.assert_array_equal(np.concatenate(joined), whole)


def test_a_state_of_one_world_size_goes_on_in_another(digits: tql.Dataset) -> None:
    def at(rank: int, world_size: int) -> tql.DataLoader:
        chain = digits.dataloader(seed=7).shuffle().batch(10)
        return chain.numpy(rank=rank, world_size=world_size, remainder="short")

    first = [iter(loader := at(r, 4)) for r in range(4)]
    head = np.concatenate([next(it)["index"] for _ in range(5) for it in first])
    state = loader.state_dict()
    tails = []
    for r in range(3):
        resumed = at(r, 3)
        resumed.load_state_dict(state)
        tails.append([b["index"] for b in resumed])
    tail = [t[k] for k in range(len(tails[0])) for t in tails if k < len(t)]
    np.testing.assert_array_equal(np.concatenate([head, *tail]), rows(at(0, 1)))


def test_ranks_make_equal_steps_unless_told_otherwise(digits: tql.Dataset) -> None:
    for world_size in (2, 3, 5):
        loaders = [chain(digits, rank=r, world_size=world_size) for r in range(world_size)]
        assert len({len(x) for x in loaders}) == 1
        assert sum(map(len, map(rows, loaders))) > 1515 - 32 * world_size


def test_a_new_epoch_is_a_new_draw_and_a_seed_fixes_both(digits: tql.Dataset) -> None:
    loader = digits.dataloader(seed=3).sample_by("labels").batch(100).numpy()
    first, second = rows(loader), rows(loader)
    assert not np.array_equal(first, second)
    again = digits.dataloader(seed=3).sample_by("labels").batch(100).numpy()
    np.testing.assert_array_equal(rows(again), first)
    again.set_epoch(1)
    np.testing.assert_array_equal(rows(again), second)
    other = digits.dataloader(seed=4).sample_by("labels").batch(100).numpy()
    assert not np.array_equal(rows(other), first)


def test_sampling_once_keeps_the_draw_and_shuffles_it_anew(digits: tql.Dataset) -> None:
    loader = (
        digits.dataloader(seed=3).sample_by("labels", resample="once").shuffle().batch(9).numpy()
    )
    first, second = rows(loader), rows(loader)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first), np.sort(second))


def test_the_offset_counts_in_the_first_epoch_only(numbers: tql.Dataset) -> None:
    loader = numbers.dataloader().offset(30).batch(10).numpy()
    assert rows(loader).tolist() == list(range(30, 100))
    assert rows(loader).tolist() == list(range(100))
    assert len(numbers.dataloader().offset(100).batch(10).numpy()) == 0


def test_steps_apply_in_the_order_written(numbers: tql.Dataset) -> None:
    sampled = numbers.dataloader(seed=1).sample_by("id", resample="once")
    ids = rows(sampled.query("select * where kind == 1").numpy())
    frozen = numbers.sample_by("id", seed=1).row_ids
    np.testing.assert_array_equal(ids, frozen[frozen % 4 == 1])
    filtered = numbers.dataloader(seed=1).query("select * where kind == 1").sample_by("id").numpy()
    assert len(rows(filtered)) == 25
    assert set(rows(filtered) % 4) == {1}


def test_a_sample_clause_in_the_text_is_drawn_anew_each_epoch(numbers: tql.Dataset) -> None:
    text = "select * where kind < 2 sample by max_weight(kind == 0: 3, true: 1) limit 40"
    loader = numbers.dataloader(seed=5).query(text).batch(8).numpy()
    first, second = rows(loader), rows(loader)
    assert len(first) == len(second) == 40
    assert not np.array_equal(first, second)
    assert set(first % 4) <= {0, 1}


@pytest.mark.parametrize("then", [lambda c: c.sample_by("1"), lambda c: c.query("select id")])
@pytest.mark.parametrize(
    "first",
    [lambda c: c.query("select * sample by id limit 9"), lambda c: c.sample_by("id", size=9)],
)
@pytest.mark.parametrize("use", [lambda c: len(c.numpy()), lambda c: c.explain()])
def test_a_draw_that_another_step_builds_on_is_refused(
    numbers: tql.Dataset, first: Step, then: Step, use: Step
) -> None:
    with pytest.raises(tql.TqlUnsupportedError, match="only the last step") as e:
        use(then(first(numbers.dataloader(seed=2))))
    assert 'resample="once"' in (e.value.diagnostic.help or "")


def test_a_draw_inside_a_query_is_kept(numbers: tql.Dataset) -> None:
    text = "select * from (select * sample by id limit 9) where kind < 3"
    for then in (lambda c: c.sample_by("1"), lambda c: c.query("select id")):
        loader = then(numbers.dataloader(seed=2).query(text)).numpy()
        assert set(rows(loader)) | set(rows(loader)) <= set(numbers.query(text, seed=2).row_ids)
        assert "drawn" in str(then(numbers.dataloader(seed=2).query(text)).explain())


def test_weights_given_as_numbers_follow_the_view(numbers: tql.Dataset) -> None:
    odd = numbers.query("select * where id % 2 == 1 order by id desc")
    weights = np.zeros(50)
    weights[:5] = 1  # the five largest ids
    assert set(rows(odd.dataloader().sample_by(weights).numpy())) == {91, 93, 95, 97, 99}


def test_virtual_columns_are_loaded_and_their_rows_named(numbers: tql.Dataset) -> None:
    view = numbers.query("select id, id * 2 as twice, row_number() as at where kind == 3")
    (batch,) = view.dataloader().batch(50).numpy()
    np.testing.assert_array_equal(batch["index"], batch["id"])
    np.testing.assert_array_equal(batch["twice"], batch["id"] * 2)
    np.testing.assert_array_equal(batch["at"], batch["id"])


def test_a_view_over_positions_of_a_view_still_names_root_rows(numbers: tql.Dataset) -> None:
    inner = numbers.query("select * order by id desc limit 20")
    outer = inner.query("select *, row_number() as place where kind == 1")
    (batch,) = outer.dataloader().batch(20).numpy()
    assert batch["index"].tolist() == [97, 93, 89, 85, 81]
    assert batch["place"].tolist() == [2, 6, 10, 14, 18]
    np.testing.assert_array_equal(outer.row_ids, batch["index"])
    assert outer.take([85, 97], ["place"]).column("place").to_pylist() == [14, 2]


@pytest.mark.parametrize(
    "twice",
    [
        lambda c: c.batch(2).batch(2),
        lambda c: c.shuffle().shuffle(),
        lambda c: c.offset(1).offset(1),
        lambda c: c.transform({"id": None}).transform({"id": None}),
        lambda c: c.numpy().pytorch(),
    ],
)
def test_a_step_that_makes_sense_once_is_refused_twice(
    numbers: tql.Dataset, twice: Callable[[Any], Any]
) -> None:
    with pytest.raises(ValueError, match="already"):
        twice(numbers.dataloader())


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (lambda c: c.batch(0), "value"),
        (lambda c: c.offset(-1), "value"),
        (lambda c: len(c.offset(101).numpy()), "range"),
        (lambda c: c.sample_by("id", size=0), "value"),
        (lambda c: len(c.sample_by("id - 50").numpy()), "value"),
        (lambda c: len(c.sample_by("id * 0").numpy()), "value"),
        (lambda c: len(c.query("select * where id < 0").sample_by("id").numpy()), "value"),
        (lambda c: len(c.sample_by(np.ones((100, 2))).numpy()), "value"),
        (lambda c: len(c.sample_by(np.ones(99)).numpy()), "value"),
        (lambda c: len(c.sample_by(np.full(100, np.nan)).numpy()), "value"),
        (lambda c: len(c.sample_by("kidn").numpy()), "unknown_column"),
        (lambda c: len(c.query("select * were id").numpy()), "syntax"),
        (lambda c: len(c.numpy(tensors=["idd"])), "unknown_column"),
        (lambda c: c.numpy(rank=2, world_size=2), "value"),
        (lambda c: c.sample_by("id", mix="daily"), "parameter"),
        (lambda c: len(c.sample_by("id", mix="batch").numpy()), "parameter"),
        (lambda c: c.shuffle(buffer_size=64, vif=1.5), "parameter"),
        (lambda c: c.shuffle(1_000), "type"),
        (lambda c: c.batch(2, "no"), "type"),
        (lambda c: c.numpy(tensors="id"), "type"),
        (lambda c: c.numpy(decode_method={"id": "jpg"}), "parameter"),
        (
            lambda c: len(c.sample_by("id").query("select *").numpy()),
            "unsupported",
        ),
        (lambda c: len(c.query("select * where id < 0 sample by id").numpy()), "value"),
    ],
)
def test_impossible_loaders_are_refused(
    numbers: tql.Dataset, build: Callable[[Any], Any], code: str
) -> None:
    with pytest.raises(tql.TqlError) as e:
        build(numbers.dataloader())
    assert e.value.diagnostic.code == code
    assert e.value.diagnostic.message


def test_an_empty_result_is_a_loader_of_no_batches(numbers: tql.Dataset) -> None:
    loader = numbers.dataloader().query("select * where id < 0").shuffle().batch(4).numpy()
    assert len(loader) == 0
    assert list(loader) == []


def test_drop_last_and_length_agree_with_what_is_yielded(numbers: tql.Dataset) -> None:
    for n in (1, 7, 33, 100, 101):
        for drop in (False, True):
            loader = numbers.dataloader().batch(n, drop_last=drop).numpy()
            assert len(loader) == len(list(loader)) == (100 // n if drop else -(-100 // n))


def test_a_corrupt_image_is_named(tmp_path: Any) -> None:
    good = tql.open("demo:digits").take([0, 1, 2]).column("images").to_pylist()
    images = pa.array([good[0], good[1][:40], good[2]])
    field = pa.field("images", pa.binary(), metadata={"tql:image": "png"})
    path = tmp_path / "broken.parquet"
    pq.write_table(pa.table([images], schema=pa.schema([field])), path)
    loader = tql.open(path).dataloader().batch(1).numpy()
    with pytest.raises(tql.TqlDataError, match="row 1") as e:
        list(loader)
    assert e.value.diagnostic.code == "corrupt"
    assert "images" in str(e.value)


def test_errors_cross_process_borders(numbers: tql.Dataset) -> None:
    with pytest.raises(tql.TqlError) as e:
        numbers.query("select * where kidn == 1")
    again = pickle.loads(pickle.dumps(e.value))
    assert (type(again), str(again)) == (type(e.value), str(e.value))
    assert again.diagnostic == e.value.diagnostic


def test_the_offset_is_part_of_the_plan(numbers: tql.Dataset) -> None:
    assert numbers.dataloader().offset(3).numpy().plan.offset == 3


def test_the_plan_draws_root_rows_and_can_be_asked_anywhere(digits: tql.Dataset) -> None:
    loader = digits.dataloader(seed=7).query("select * where labels != 5").shuffle().numpy()
    plan = loader.plan
    np.testing.assert_array_equal(plan.ids(), rows(loader))
    np.testing.assert_array_equal(plan.draw(1000, 1010), plan.ids()[1000:1010])
    assert not (digits["labels"].take(pa.array(plan.ids())).to_numpy() == 5).any()


def test_quotas_keep_the_mix_that_the_weights_promise_in_an_epoch_and_in_each_batch() -> None:
    """100 rows of which 10 are rare: by quota every epoch, and every batch, is half rare rows."""
    ds = tql.open({"id": np.arange(100), "rare": np.arange(100) % 10 == 0})
    weight = "max_weight(rare: 9, true: 1)"
    by_epoch = ds.dataloader(seed=3).sample_by(weight, mix="epoch").batch(20).numpy()
    by_batch = ds.dataloader(seed=3).sample_by(weight, mix="batch").batch(20).numpy()
    for _ in range(3):
        assert sum(int(np.count_nonzero(b["rare"])) for b in by_epoch) == 50
        assert [int(np.count_nonzero(b["rare"])) for b in by_batch] == [10] * 5
    drawn = ds.sample_by(weight, size=40, mix="epoch", seed=5).to_arrow()
    assert drawn.num_rows == 40 and sum(drawn["rare"].to_pylist()) == 20
    assert len(set(drawn["id"].to_pylist())) == 30  # of the rare 10 twice each, 20 others once
    strict = ds.sample_by(weight, size=40, replace=False, mix="epoch", seed=5).to_arrow()
    assert sum(strict["rare"].to_pylist()) == 10 and len(set(strict["id"].to_pylist())) == 40
    with pytest.raises(tql.TqlError, match="a view has no batches"):
        ds.sample_by(weight, mix="batch")


LONG_TAIL = np.repeat(np.arange(6), [300, 120, 40, 12, 3, 1])


@pytest.mark.parametrize("size", [None, 100, 2000])
@pytest.mark.parametrize("weights", [tql.balanced("kind"), np.linspace(0, 3, len(LONG_TAIL))])
def test_minimal_repeats_are_quotas_of_an_epoch_by_another_name(
    weights: str | np.ndarray, size: int | None
) -> None:
    ds = tql.open({"kind": LONG_TAIL})
    n = len(LONG_TAIL)
    of_class = 1 / np.bincount(LONG_TAIL)[LONG_TAIL] if isinstance(weights, str) else weights
    quota = of_class / of_class.sum() * (size or n)
    view = ds.sample_by(weights, size=size, repeat="minimal", seed=5)
    assert np.array_equal(
        view.row_ids, ds.sample_by(weights, size=size, mix="epoch", seed=5).row_ids
    )
    minimal, quotas = (
        ds.dataloader(seed=5).sample_by(weights, True, size, **how).numpy().plan
        for how in ({"repeat": "minimal"}, {"mix": "epoch"})
    )
    assert minimal.fingerprint == quotas.fingerprint
    for ids in (view.row_ids, minimal.ids(0), minimal.ids(1)):
        copies = np.bincount(ids, minlength=n)
        assert (np.floor(quota - 1e-9) <= copies).all() and (copies <= np.ceil(quota + 1e-9)).all()
        assert copies[quota <= 1].max(initial=0) <= 1
    chance = ds.sample_by(weights, size=size, seed=5).row_ids
    assert (np.bincount(chance, minlength=n) > np.ceil(quota)).any(), "not so by chance"
    in_batches = ds.dataloader(seed=5).sample_by(weights, mix="batch", repeat="minimal")
    assert in_batches.batch(7).numpy().plan.mix == "batch"


@pytest.mark.parametrize(
    ("how", "said", "way_out"),
    [
        ({"replace": False}, "replace=False never does", "leave one"),
        ({"mix": "iid"}, "mix='iid' draws independently", "leave mix out"),
        ({"replace": False, "mix": "epoch"}, "replace=False never does", "leave one"),
        ({"repeat": "maximal"}, "repeat must be 'minimal', not 'maximal'", "leave it out"),
        ({"repeat": True}, "repeat must be 'minimal', not True", "leave it out"),
        ({"mix": "daily"}, "mix must be 'iid', 'epoch' or 'batch', not 'daily'", "keep quotas"),
    ],
)
def test_minimal_repeats_go_with_nothing_that_contradicts_them(
    how: dict[str, Any], said: str, way_out: str
) -> None:
    ds = tql.open({"kind": LONG_TAIL})
    for draw in (ds.sample_by, ds.dataloader().sample_by):
        with pytest.raises(tql.TqlError, match=said) as e:
            draw("kind", **{"repeat": "minimal", **how})
        assert e.value.diagnostic.code == "parameter" and way_out in (e.value.diagnostic.help or "")


def test_explain_expects_of_quotas_what_comes() -> None:
    ds = tql.open({"id": np.arange(100), "rare": np.arange(100) % 10 == 0})
    chain = ds.dataloader().sample_by(
        "max_weight(rare: 9, true: 1)", size=40, replace=False, mix="epoch"
    )
    table = chain.explain().to_dict()["classes"]
    assert [line["expected"] for line in table["lines"]] == [30.0, 10.0], table
    assert "by quotas of each epoch, no repeats" in str(chain.explain())
    with pytest.raises(tql.TqlError, match="without a batch size"):
        ds.dataloader().sample_by("max_weight(rare: 9, true: 1)", mix="batch").explain()
