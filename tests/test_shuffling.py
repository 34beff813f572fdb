"""Shuffling in windows from the front: targets, errors, what explain says, what the loader reads."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from benchmarks.orders import kept_by_window, measured_classes, measured_vif
from tests.explain_data import Watched
from tql import cli
from tql.chain import DataLoader
from tql.dataset import Dataset
from tql.planner import Windows

ROWS, GROUP, CLASSES = 12_000, 100, 20
LABELS = np.arange(ROWS) * CLASSES // ROWS
NAMES = [f"class {k}" for k in range(CLASSES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is sorted by class, 120 row groups of 40 kB each."""
    folder = tmp_path_factory.mktemp("sorted")
    rng = np.random.default_rng(0)
    payload = [rng.bytes(200).hex() for _ in range(ROWS)]
    table = pa.table({"labels": LABELS, "payload": payload, "odd": np.arange(ROWS) % 2 == 1})
    pq.write_table(table, folder / "sorted.parquet", row_group_size=GROUP, use_dictionary=False)
    return folder


@pytest.fixture
def data(folder: Path) -> Dataset:
    return tql.open(folder / "sorted.parquet", class_names={"labels": NAMES})


def watched(data: Dataset) -> tuple[Dataset, Watched]:
    source = Watched(data.source)
    return Dataset(source, "watched"), source


def reads_of(source: Watched) -> Counter[int]:
    """How often each fragment is read for batches."""
    return Counter(f for f, columns in source.reads if "payload" in columns)


# -- from a target to windows ------------------------------------------------------------------


@pytest.mark.parametrize("vif", [1.2, 1.5, 3])
@pytest.mark.parametrize(
    "step",
    [
        lambda c: c,
        lambda c: c.query("select * where labels != 3"),
        lambda c: c.query("select payload where labels > 9"),
        lambda c: c.sample_by("max_weight(labels = 3: 10, true: 1)", mix="epoch"),
        lambda c: c.sample_by("max_weight(odd: 5, true: 1)"),
        lambda c: c.sample_by(1.0 + LABELS, mix="epoch"),
    ],
    ids=["all", "filter", "half", "class quotas", "independent draws", "row weights"],
)
def test_batches_vary_about_as_much_as_was_asked_for(
    data: Dataset, step: Callable[[DataLoader], DataLoader], vif: float
) -> None:
    chain = step(data.dataloader(seed=4)).shuffle(vif=vif, by=None).batch(64)
    order = chain.expected()
    assert order is not None and order.mixing is not None and order.mixing.vif is not None
    found = LABELS[chain.plan.ids()]
    if order.by == "labels":
        assert chain.plan.windows is not None
        assert order.mixing.vif <= 1.1 * vif
        each = [LABELS[chain.plan.ids(epoch)] for epoch in range(6)]
        mean = np.mean([measured_vif(labels, 64) for labels in each])
        assert order.mixing.vif == pytest.approx(mean, rel=0.1)
        assert order.mixing.classes == pytest.approx(measured_classes(found, 64), rel=0.06)


@pytest.mark.parametrize("unit", [1e307, 1e-310])
@pytest.mark.parametrize("windows", [{}, {"vif": 1.5}])
def test_the_unit_of_weights_makes_no_difference(
    data: Dataset, windows: dict[str, Any], unit: float
) -> None:
    number = np.arange(len(data)) % 7
    for weights in (1.0 + number % 2, 1.0 + number + np.arange(len(data)) / 1e6):
        told = [
            data.dataloader().sample_by(w).shuffle(**windows).batch(64).expected()
            for w in (weights, weights * unit)
        ]
        assert told[0] is not None and told[1] is not None
        usual, extreme = told[0].to_dict(), told[1].to_dict()
        assert extreme["vif"] == pytest.approx(usual["vif"], rel=0.1)
        assert extreme["fragment_reads"] == pytest.approx(usual["fragment_reads"], rel=0.1)


def test_data_without_class_names_have_no_classes_to_mix(folder: Path) -> None:
    plain = tql.open(folder / "sorted.parquet")
    chain = plain.dataloader().query("select payload").shuffle(vif=1.5)
    with pytest.raises(tql.TqlPlanError, match="no column has class names") as e:
        _ = chain.plan
    assert "buffer_size" in str(e.value)
    told = plain.dataloader().shuffle(buffer_size=1).explain()
    assert "VIF unknown: no column has class names" in str(told)
    assert told.to_dict()["order"]["vif"] is None


def test_classes_without_names_are_named_by_their_column(folder: Path) -> None:
    plain = tql.open(folder / "sorted.parquet")
    named = plain.dataloader(seed=1).shuffle(vif=1.5, by="labels").batch(64)
    assert measured_vif(LABELS[named.plan.ids()], 64) == pytest.approx(1.4, abs=0.25)
    mixed = plain.dataloader(seed=1).shuffle(vif=1.5, by="odd").batch(64)
    assert mixed.plan.windows is not None
    assert mixed.plan.windows.length <= 2 * GROUP  # any row group has both


def test_weights_are_the_classes_where_no_column_is(folder: Path) -> None:
    plain = tql.open(folder / "sorted.parquet")
    chain = plain.dataloader(seed=1).sample_by("max_weight(labels < 4: 4, true: 1)", mix="epoch")
    order = chain.shuffle(vif=1.5).batch(64).expected()
    assert order is not None and order.by == "weight" and order.mixing is not None
    ids = chain.shuffle(vif=1.5).batch(64).plan.ids()
    assert order.mixing.vif == pytest.approx(
        measured_vif((LABELS[ids] < 4).astype(int), 64), rel=0.1
    )


@pytest.mark.parametrize("megabytes", [0.2, 0.5, 1, 3])
def test_fragments_of_windows_take_no_more_than_the_buffer(data: Dataset, megabytes: float) -> None:
    chain = data.dataloader(seed=2).shuffle(buffer_size=megabytes).batch(32)
    order = chain.expected()
    assert order is not None and order.windows is not None
    assert 0.5 * megabytes * 1e6 <= order.reading.live_bytes <= megabytes * 1e6
    only = (
        data.dataloader(seed=2).shuffle(buffer_size=megabytes).batch(32).numpy(tensors=["labels"])
    )
    assert only.plan.windows is None  # labels alone are 96 kB


def test_windows_of_everything_are_a_global_permutation(data: Dataset) -> None:
    plain = data.dataloader(seed=3).shuffle().batch(32)
    for chain in (
        data.dataloader(seed=3).shuffle(buffer_size=2048).batch(32),
        data.dataloader(seed=3).shuffle(vif=1).batch(32),
    ):
        assert chain.plan.windows is None and chain.plan.fingerprint == plain.plan.fingerprint
        (note,) = chain.plan.notes
        assert "all of 120 fragments" in note and "global permutation" in note
        assert note in chain.explain().notes


@pytest.mark.parametrize("how", [{"replace": False}, {"mix": "batch"}])
def test_a_buffer_that_holds_everything_suits_any_draws(data: Dataset, how: dict[str, Any]) -> None:
    """As loaders that were written for another library say it, whatever the size of their data."""
    chain = data.dataloader(seed=3).sample_by("labels + 1", size=500, **how).batch(10)
    plain = chain.shuffle().plan
    assert chain.shuffle(buffer_size=2048).plan.fingerprint == plain.fingerprint
    with pytest.raises(tql.TqlUnsupportedError):
        _ = chain.shuffle(buffer_size=1).plan


def test_the_least_buffer_that_is_named_is_enough(data: Dataset) -> None:
    for lanes in (1, 3):
        with pytest.raises(tql.TqlPlanError) as e:
            _ = data.dataloader().shuffle(buffer_size=0.01, lanes=lanes).plan
        assert e.value.diagnostic.help is not None
        least = float(e.value.diagnostic.help.split("buffer_size=")[1].split()[0])
        chain = data.dataloader().shuffle(buffer_size=least, lanes=lanes)
        order = chain.expected()
        assert order is not None and order.reading.live_bytes <= least * 1e6


def test_columns_that_may_be_errors_are_not_counted(data: Dataset) -> None:
    view = data.query("select labels % (labels - 3) as rest, labels, payload")
    for query in ("select *", "select row_number() as n, rest, labels"):
        chain = view.dataloader().query(f"{query} where labels != 3")
        assert len(chain.shuffle(vif=1.5, by="labels").plan) == ROWS - ROWS // CLASSES
        with pytest.raises(tql.TqlError, match="'rest' is computed"):
            _ = chain.shuffle(vif=1.5, by="rest").plan


def test_data_in_memory_need_no_windows_to_be_small(data: Dataset) -> None:
    here = tql.open(data.to_arrow())
    assert here.dataloader().shuffle(buffer_size=0.001).plan.windows is None


def test_the_order_does_not_depend_on_ranks_memory_or_threads(data: Dataset) -> None:
    def plan(memory: str = "2GiB", **output: Any) -> str:
        chain = data.dataloader(seed=5, memory=memory).shuffle(vif=1.5, lanes=4).batch(16)
        return chain.numpy(**output).plan.fingerprint

    one = plan()
    assert plan(world_size=4, rank=2) == plan(num_threads=1) == plan("10MB") == one
    longer = data.dataloader(seed=5).shuffle(vif=1.4, lanes=4).batch(16).plan
    assert longer.fingerprint != one
    windows = longer.windows
    assert windows is not None and windows.lanes == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"buffer_size": 10, "vif": 1.5}, "choose one"),
        ({"vif": 0.9}, "batches of chance have VIF 1"),
        ({"vif": float("nan")}, "vif is nan"),
        ({"vif": "1.5"}, "must be a number"),
        ({"vif": True}, "must be a number"),
        ({"buffer_size": 0}, "give MB above 0"),
        ({"buffer_size": float("inf")}, "buffer_size is inf"),
        ({"buffer_size": "2GiB"}, "must be a number"),
        ({"vif": 1.5, "lanes": 0}, "lanes 0"),
        ({"vif": 1.5, "lanes": 1.5}, "whole number"),
        ({"lanes": 4}, "lanes without windows"),
        ({"by": "labels"}, "by without windows"),
        ({"vif": 1.5, "by": 3}, "name of a column"),
        ({"vif": 1.5, "by": "lables"}, "did you mean 'labels'"),
        ({"shuffle": False, "vif": 1.5}, "shuffle is False"),
        ({"buffer_size": 0.05}, "give buffer_size=0.085 or more"),
        ({"buffer_size": 1, "lanes": 16}, "one of each of 16 lanes has parts"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_a_way_out(
    data: Dataset, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(tql.TqlError) as e:
        _ = data.dataloader().shuffle(**arguments).plan
    assert said in str(e.value)
    assert e.value.diagnostic.help


def test_rows_in_an_order_of_their_own_have_no_windows(data: Dataset) -> None:
    chain = data.dataloader().query("select * order by labels desc").shuffle(vif=1.5)
    with pytest.raises(tql.TqlUnsupportedError, match="an order of their own"):
        _ = chain.plan


def test_a_column_of_too_many_values_says_nothing_of_mixing(data: Dataset) -> None:
    with pytest.raises(tql.TqlPlanError, match="'payload' has too many values"):
        _ = data.dataloader().shuffle(vif=1.5, by="payload").plan
    with pytest.raises(tql.TqlTypeError, match="no classes"):
        _ = tql.open({"x": np.ones(9)}).dataloader().shuffle(vif=1.5, by="x").plan


def test_an_empty_population_has_no_windows(data: Dataset) -> None:
    chain = data.dataloader().query("select * where labels = 3 and odd and not odd")
    assert len(chain.shuffle(vif=1.5).batch(4).numpy()) == 0
    assert "0.00" not in str(chain.shuffle().batch(4).explain())


# -- what the loader reads ---------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_each_fragment_is_read_once_where_a_global_order_reads_many(
    data: Dataset, threads: int
) -> None:
    """Room for two windows of ten row groups, of 120 there are."""
    seen = {}
    for name, asked in (("windows", {"buffer_size": 0.45}), ("global", {})):
        over, source = watched(data)
        chain = over.dataloader(seed=1, memory="1.9MB").shuffle(**asked).batch(50)  # type: ignore[arg-type]
        loader = chain.numpy(num_threads=threads)
        order = chain.expected()
        assert order is not None
        source.reads.clear()
        rows = np.concatenate([batch["index"] for batch in loader])
        assert np.array_equal(np.sort(rows), np.arange(ROWS))
        assert np.array_equal(rows, chain.plan.ids())
        reads = reads_of(source)
        assert len(reads) == ROWS // GROUP
        seen[name] = sum(reads.values())
        if name == "windows":
            assert order.reading.fetches == seen[name] == ROWS // GROUP
        else:  # by the plan, and so as many for any number of threads
            assert seen[name] == pytest.approx(order.anywhere[0], rel=0.1)
    assert seen["global"] > 40 * seen["windows"]
    assert seen["global"] == int(loader.stats().fetches.fragments)


def test_lanes_are_read_by_the_ranks_that_own_them(data: Dataset) -> None:
    """Four lanes on one, two and four ranks: the same rows, and together the same reads."""
    at = {}
    for world in (1, 2, 4):
        reads, steps = 0, []
        for rank in range(world):
            over, source = watched(data)
            chain = over.dataloader(seed=1).shuffle(buffer_size=1, lanes=4).batch(48 // world)
            loader = chain.numpy(rank=rank, world_size=world, remainder="short", num_threads=1)
            source.reads.clear()
            steps.append([batch["index"] for batch in loader])
            reads += sum(reads_of(source).values())
        at[world] = [np.sort(np.concatenate(parts)).tolist() for parts in zip(*steps)]
        fragments = ROWS // GROUP
        assert fragments <= reads <= fragments + 3
    assert at[1] == at[2] == at[4]


def test_the_reads_of_a_plan_are_those_of_its_rows(data: Dataset) -> None:
    chain = data.dataloader(seed=1).sample_by("max_weight(labels = 3: 10, true: 1)", mix="epoch")
    chain = chain.shuffle(buffer_size=1, lanes=3).batch(48)
    order, plan = chain.expected(), chain.plan
    assert order is not None and isinstance(plan.windows, Windows)
    fragments, length = plan.ids() // GROUP, plan.windows.length
    lanes = [fragments[lane::3] for lane in range(3)]
    walked = [[f[a : a + length] for a in range(0, f.size, length)] for f in lanes]
    assert order.reading.fetches == sum(map(kept_by_window, walked))


# -- what is said ------------------------------------------------------------------------------


def test_explain_tells_of_windows_and_of_what_a_global_order_would_read(data: Dataset) -> None:
    chain = data.dataloader(seed=1, memory="2MB").shuffle(vif=1.5).batch(64)
    told = chain.explain()
    text, order = str(told), told.to_dict()["order"]
    assert json.loads(json.dumps(order)) == order
    assert chain.plan.windows is not None
    assert order["kind"] == "windows" and order["windows"] == chain.plan.windows.as_json()
    assert order["by"] == "labels" and order["icc"] == pytest.approx(1, abs=0.01)
    assert order["vif"] <= 1.6 and 15 < order["classes_per_batch"] < 20
    assert order["fragment_reads"] == 120 and order["bytes_read"] > 120 * GROUP * 400
    assert order["global_fragment_reads"] > 20 * order["fragment_reads"]
    assert order["live_bytes"] < order["bytes_read"] / 2
    assert order["first_batch_seconds"] == order["first_batch_bytes"] / order["bytes_per_second"]
    for part in ("windows of", f"VIF {order['vif']:.2f} by labels", "120 reads of fragments",
                 "a global permutation: ", "before the first batch", "live at most"):  # fmt: skip
        assert part in text
    live = order["live_bytes"]
    for memory, said in ((1.9 * live, "no whole window"), (2.1 * live, "one window, not")):
        tight = data.dataloader(seed=1, memory=int(memory)).shuffle(vif=1.5).batch(64)
        (note,) = tight.explain().notes
        assert said in note
        roomy = note.split('memory="')[1].split('"')[0]
        enough = data.dataloader(seed=1, memory=roomy).shuffle(vif=1.5).batch(64)
        assert not enough.explain().notes
        assert enough.plan.fingerprint == tight.plan.fingerprint == chain.plan.fingerprint


def test_explain_tells_of_a_global_permutation(data: Dataset) -> None:
    order = data.dataloader(seed=1).shuffle().batch(64).explain().to_dict()["order"]
    assert order["kind"] == "global" and order["windows"] is None
    assert order["vif"] == pytest.approx(1, abs=0.01)
    assert order["fragment_reads"] == order["global_fragment_reads"] == 120
    assert "order" not in data.dataloader().batch(64).explain().to_dict()


def test_explaining_reads_no_payload_and_draws_nothing(data: Dataset) -> None:
    over, source = watched(data)
    over.dataloader(seed=1).shuffle(vif=1.5).batch(64).explain()
    assert source.columns_read == {"labels"}


@pytest.mark.parametrize("weights", ["labels + 1", "max_weight(labels = 3: 10, true: 1)"])
@pytest.mark.parametrize("mix", ["iid", "epoch", "batch"])
def test_orders_by_weight_are_told_with_and_without_windows(
    data: Dataset, weights: str, mix: str
) -> None:
    chain = data.dataloader(seed=1).sample_by(weights, mix=mix).batch(64)
    order = chain.shuffle().explain().to_dict()["order"]
    assert order["fragment_reads"] == 120
    if mix == "batch":
        assert order["vif"] is None
        with pytest.raises(tql.TqlUnsupportedError, match="mix='batch' in windows"):
            _ = chain.shuffle(vif=1.5).plan
        return
    found = LABELS[chain.shuffle().plan.ids()]
    assert order["vif"] == pytest.approx(measured_vif(found, 64), rel=0.1)
    assert order["classes_per_batch"] == pytest.approx(measured_classes(found, 64), rel=0.05)


def test_a_plan_in_windows_is_saved_and_made_again(data: Dataset, tmp_path: Path) -> None:
    chain = data.dataloader(seed=9).query("select * where labels > 2").shuffle(vif=1.5).batch(64)
    chain.plan.save(tmp_path / "plan.json")
    again = tql.load_plan(tmp_path / "plan.json", data)
    assert again.windows == chain.plan.windows and again.fingerprint == chain.plan.fingerprint
    assert np.array_equal(again.ids(2), chain.plan.ids(2))
    content = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    content["windows"]["length"] = "long"
    (tmp_path / "plan.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(tql.TqlError):
        tql.load_plan(tmp_path / "plan.json", data)


def test_a_loader_in_windows_goes_on_where_it_was_left(data: Dataset) -> None:
    def loader() -> DataLoader:
        return data.dataloader(seed=9).shuffle(buffer_size=0.5, lanes=2).batch(64).numpy()

    whole = [b["index"].tolist() for b in loader()]
    first = loader()
    batches = iter(first)
    begun = [next(batches)["index"].tolist() for _ in range(37)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert begun + [b["index"].tolist() for b in second] == whole


# -- the command line ----------------------------------------------------------------------------


def test_the_command_explains_a_loader_in_windows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(folder / "sorted.parquet")
    given = ["--vif", "1.5", "--by", "labels", "--batch", "64", "--memory", "2MB"]
    assert cli.perform(["explain", file, "select * where labels != 3", *given]) == 0
    shown = capsys.readouterr().out
    assert "Shuffle  windows of" in shown and "VIF 1." in shown and "batch 64" in shown
    assert cli.perform(["explain", file, *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["order"]["kind"] == "windows"
    assert cli.perform(["explain", file, "--shuffle"]) == 0
    assert "global permutation" in capsys.readouterr().out


def test_the_command_saves_a_plan_in_windows(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, plan = str(folder / "sorted.parquet"), str(tmp_path / "plan.json")
    assert cli.perform(["plan", "save", file, "--buffer-size", "0.5", "-o", plan]) == 0
    assert cli.perform(["plan", "verify", plan, file]) == 0
    assert json.loads(Path(plan).read_text("utf-8"))["windows"]["length"] >= GROUP
    capsys.readouterr()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--vif", "1.5", "--analyze"], "about the query alone"),
        (["--lanes", "2"], "--buffer-size or --vif"),
        (["--vif", "1.5", "--buffer-size", "3"], "choose one"),
    ],
)
def test_the_command_refuses_what_does_not_fit(
    folder: Path, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.perform(["explain", str(folder / "sorted.parquet"), *given]) == 2
    assert said in capsys.readouterr().err


def test_weights_looked_up_by_fragment_are_told_of_too(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their permutation of everything is one window in the plan."""
    monkeypatch.setattr("tql.planning.BY_FRAGMENT", 1_000)
    chain = data.dataloader(seed=1).sample_by("labels * 0.37 + 1", mix="epoch").batch(64)
    whole = chain.shuffle(buffer_size=100).explain()
    assert whole.to_dict()["order"]["kind"] == "global"
    asked: list[object] = []
    monkeypatch.setattr("tql.dataset.weigh_by", lambda *a, **k: asked.append(a))
    told = chain.shuffle(buffer_size=1).explain()
    assert "looked up fragment by fragment" in str(told)
    assert not asked, "no weight of a row was worked out to tell of them"
    assert all("weight" not in line for line in told.to_dict()["classes"]["lines"])
    assert "global permutation" in str(whole) and "VIF unknown: weights are looked up" in str(whole)
    assert chain.shuffle(buffer_size=1).explain().to_dict()["order"]["fragment_reads"] >= 120
    with pytest.raises(tql.TqlPlanError, match="looked up by fragment") as e:
        _ = chain.shuffle(vif=1.5).plan
    assert "buffer_size" in str(e.value)
