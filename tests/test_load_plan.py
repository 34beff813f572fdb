"""Plans made again from their files: the same order, or an error that lists what is not the same."""

import json
import pickle
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql import planner
from tql.diagnostics import TqlDataError, TqlPlanError, TqlTypeError
from tql.planner import digest
from tql.rowset import everything

N = 500
COLUMNS: dict[str, Any] = {
    "id": np.arange(N),
    "kind": np.arange(N) * 7 % 5,
    "score": np.linspace(0, 1, N),
    "name": [f"row {i % 11}" for i in range(N)],
    "day": [date(2026, 1, 1 + i % 28) for i in range(N)],
}
HEAVY = np.arange(1.0, N + 1)
WEIGHT = "max_weight(kind == 1: 7, kind == 2: 3, true: 1)"


@pytest.fixture(scope="module")
def ds() -> tql.Dataset:
    return tql.open(COLUMNS)


@pytest.fixture(autouse=True)
def words() -> Iterator[None]:
    """A function of the user's that chains below call."""
    tql.register_function(lambda text: len(text), "letters", returns="int64")
    yield
    tql.unregister_function("letters")


Chain = tql.DataLoader
CHAINS: dict[str, Callable[[tql.Dataset], Chain]] = {
    "in order": lambda d: d.dataloader(),
    "shuffled": lambda d: d.dataloader(seed=4).shuffle(),
    "filtered": lambda d: d.dataloader(seed=4).query("select * where kind != 2").shuffle(),
    "list of parameters": lambda d: d.dataloader(1).query("select * where id in ?", [{3, 5, 300}]),
    "many parameters": lambda d: d.dataloader().query(
        "select * where " + " or ".join("id == ?" for _ in range(12)), list(range(12))
    ),
    "named parameters": lambda d: d.dataloader(1).query(
        "select * where id > $low and day >= $day", {"low": np.int64(3), "day": date(2026, 1, 9)}
    ),
    "parameters that are no finite numbers": lambda d: (
        d.query("select * where score < ?", [np.inf])
        .dataloader(1)
        .query("select * where score > $low or score in $some", {"low": -np.inf, "some": [np.nan]})
        .shuffle()
    ),
    "weighted": lambda d: d.dataloader(3).sample_by(WEIGHT).shuffle(),
    "offset": lambda d: d.dataloader(3).sample_by("score").offset(33).batch(10),
    "two samples": lambda d: (
        d.dataloader(3)
        .sample_by("score", size=200, resample="once")
        .query("select * where kind < 4")
        .sample_by(WEIGHT, size=50, replace=False)
    ),
    "sample in the query": lambda d: d.dataloader(3).query(f"select * sample by {WEIGHT} limit 70"),
    "quotas": lambda d: d.dataloader(3).sample_by(WEIGHT, mix="epoch", size=300),
    "quotas of batches": lambda d: d.dataloader(3).sample_by(WEIGHT, mix="batch").batch(20),
    "quotas at an offset": lambda d: (
        d.dataloader(3).sample_by(WEIGHT, mix="batch").batch(20).offset(40)
    ),
    "grouped": lambda d: (
        d.dataloader(3).query("select kind, count(*) as n group by kind").shuffle()
    ),
    "a function": lambda d: d.dataloader().query("select * where letters(name) > 5").shuffle(),
    "a function as weight": lambda d: d.dataloader().sample_by("letters(name)"),
    "a view": lambda d: d.query("select * where id > ?", [7], seed=5).dataloader(2).shuffle(),
    "a view of views": lambda d: (
        d.query("select *, id % 9 as nine where kind in (1, 2, 3)")[["nine", "score", "kind"]][
            300:10:-2
        ]
        .query("select * where nine != 4 order by random()", seed=9)
        .sample_by("score", size=80, seed=6)
        .dataloader(2)
        .sample_by("nine + 1")
    ),
    "a view by quota": lambda d: d.sample_by(WEIGHT, mix="epoch", size=90).dataloader().shuffle(),
    "a prepared query": lambda d: d.prepare("select * where id < ?").run([40]).dataloader(),
}
every_chain = pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))


def same(a: tql.Plan, b: tql.Plan) -> bool:
    rows = all(np.array_equal(a.ids(epoch), b.ids(epoch)) for epoch in (0, 3))
    return rows and (a.fingerprint, a.offset) == (b.fingerprint, b.offset)


@every_chain
def test_a_plan_is_made_again_from_its_file(
    ds: tql.Dataset, chain: Callable[[tql.Dataset], Chain], tmp_path: Path
) -> None:
    plan, file = chain(ds).plan, tmp_path / "plan.json"
    plan.save(file)
    again = tql.load_plan(file, ds)
    assert same(plan, again)
    again.save(tmp_path / "again.json")
    assert file.read_bytes() == (tmp_path / "again.json").read_bytes()
    assert same(plan, tql.load_plan(file, COLUMNS))  # whatever tql.open takes
    assert same(plan, tql.load_plan(file, chain(ds).base))  # the view that it was made over


@every_chain
def test_a_plan_is_pickled_without_what_it_computed(
    ds: tql.Dataset, chain: Callable[[tql.Dataset], Chain]
) -> None:
    plan = chain(ds).plan
    before = pickle.dumps(plan)
    assert same(plan, pickle.loads(before))
    assert pickle.dumps(plan) == before
    assert pickle.loads(before).to_json() == plan.to_json()


def test_files_of_data_that_lie_elsewhere_give_the_same_bytes(
    ds: tql.Dataset, tmp_path: Path
) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        pq.write_table(ds.to_arrow(), tmp_path / folder / f"{folder}.parquet", row_group_size=90)
        opened = tql.open(tmp_path / folder / f"{folder}.parquet")
        CHAINS["a view by quota"](opened).plan.save(tmp_path / f"{folder}.json")
    assert (tmp_path / "here.json").read_bytes() == (tmp_path / "there.json").read_bytes()
    assert len(tql.load_plan(tmp_path / "here.json", tmp_path / "there" / "there.parquet")) == 90


def test_arrays_of_weights_are_handed_in_again(ds: tql.Dataset, tmp_path: Path) -> None:
    file = tmp_path / "p"
    ds.dataloader(1).sample_by(HEAVY).plan.save(file)
    wanted = ds.dataloader(1).sample_by(HEAVY).plan
    assert same(tql.load_plan(file, ds, weights=HEAVY), wanted)
    assert same(tql.load_plan(file, ds, weights=HEAVY.tolist()), wanted)
    with pytest.raises(TqlTypeError, match="1 array of weights") as e:
        tql.load_plan(file, ds)
    assert "weights=array" in str(e.value)
    with pytest.raises(TqlPlanError) as other:
        tql.load_plan(file, ds, weights=HEAVY[::-1])
    assert "weights.digest" in str(other.value) and "population" not in str(other.value)
    with pytest.raises(TqlPlanError, match="3 weights for 500 rows"):
        tql.load_plan(file, ds, weights=[1, 2, 3])


def test_several_arrays_of_weights_come_in_the_order_of_the_steps(
    ds: tql.Dataset, tmp_path: Path
) -> None:
    view = ds.sample_by(HEAVY, size=90, seed=3).query("select * where kind != 1")
    small = np.arange(len(view)) + 1
    plan = view.dataloader(1).sample_by(small).plan
    plan.save(tmp_path / "p")
    assert same(tql.load_plan(tmp_path / "p", ds, weights=[HEAVY, small]), plan)
    assert same(tql.load_plan(tmp_path / "p", view, weights=small), plan)
    with pytest.raises(TqlTypeError, match="2 arrays of weights"):
        tql.load_plan(tmp_path / "p", ds, weights=HEAVY)
    ds.dataloader().plan.save(tmp_path / "plain")
    with pytest.raises(TqlTypeError, match="without an array"):
        tql.load_plan(tmp_path / "plain", ds, weights=HEAVY)


def test_functions_are_registered_again_and_compared(ds: tql.Dataset, tmp_path: Path) -> None:
    CHAINS["a function"](ds).plan.save(tmp_path / "p")
    tql.register_function(lambda text: len(text) + 0, "letters", returns="int64")
    with pytest.raises(TqlPlanError) as e:
        tql.load_plan(tmp_path / "p", ds)
    notes = [n.message for n in e.value.diagnostic.notes]
    assert len(notes) == 1 and notes[0].startswith("origin.steps.0.functions.letters: ")
    tql.unregister_function("letters")
    with pytest.raises(TqlPlanError, match="not registered: letters"):
        tql.load_plan(tmp_path / "p", ds)
    tql.register_function(lambda text: len(text), "letters", returns="int64")
    assert same(tql.load_plan(tmp_path / "p", ds), CHAINS["a function"](ds).plan)


def changed(**columns: Any) -> dict[str, Any]:
    return {**COLUMNS, **columns}


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (changed(score=COLUMNS["score"] + 1), ["data: ", "source: "]),
        (changed(kind=COLUMNS["kind"] * 2), ["data: ", "source: ", "population.rows: 300 in the"]),
        ({"id": np.arange(3)}, ["data: ", "cannot be made again: no column named 'kind'"]),
        ({n: c[:40] for n, c in COLUMNS.items()}, ["data: ", "source: ", "population.digest: "]),
    ],
)
def test_other_data_are_an_error_that_lists_what_differs(
    ds: tql.Dataset, now: Any, says: list[str], tmp_path: Path
) -> None:
    ds.dataloader(3).query("select * where kind > 1").shuffle().offset(99).plan.save(tmp_path / "p")
    with pytest.raises(TqlDataError) as e:
        tql.load_plan(tmp_path / "p", now)
    assert e.value.exit_code == 3 and e.value.diagnostic.help
    notes = "\n".join(n.message for n in e.value.diagnostic.notes)
    assert all(s in notes for s in says), notes


def test_data_that_changed_below_a_group_by_are_other_data(ds: tql.Dataset, tmp_path: Path) -> None:
    CHAINS["grouped"](ds).plan.save(tmp_path / "p")
    with pytest.raises(TqlDataError, match="are not those of the plan"):
        tql.load_plan(tmp_path / "p", changed(id=np.arange(N) + 1))


def test_a_view_of_other_rows_is_another_plan(ds: tql.Dataset, tmp_path: Path) -> None:
    ds.query("select * where id > 7").dataloader(2).shuffle().plan.save(tmp_path / "p")
    with pytest.raises(TqlPlanError) as e:
        tql.load_plan(tmp_path / "p", ds.query("select * where id > 8"))
    assert "population.rows: 492 in the plan file, 491 now" in str(e.value)
    assert "views.0: " in str(e.value) and "id > 7" in str(e.value) and "id > 8" in str(e.value)
    as_good = ds.query("select * where id >= 8")  # other words for the same rows
    assert len(tql.load_plan(tmp_path / "p", as_good)) == 492


def test_the_order_of_another_version_is_refused_with_all_that_differs(
    ds: tql.Dataset, tmp_path: Path
) -> None:
    parts = {**ds.dataloader(2).shuffle().plan.parts, "order": "v2", "window": 7}
    content = {**ds.dataloader(2).shuffle().plan.to_json(), **parts}
    content["fingerprint"] = digest.of_json(parts)
    (tmp_path / "p").write_text(json.dumps(content))
    with pytest.raises(TqlPlanError) as e:
        tql.load_plan(tmp_path / "p", ds)
    assert [n.message for n in e.value.diagnostic.notes] == [
        'order: "v2" in the plan file, "v1" now',
        "window: 7 in the plan file, nothing now",
    ]


def test_queries_that_name_their_data_need_no_source(ds: tql.Dataset, tmp_path: Path) -> None:
    pq.write_table(ds.to_arrow(), tmp_path / "d.parquet")
    text = f'select * from "{tmp_path}/d.parquet" where kind == ?'
    plan = tql.query(text, [3]).dataloader(5).shuffle().plan
    plan.save(tmp_path / "p")
    assert same(tql.load_plan(tmp_path / "p"), plan)
    with pytest.raises(TqlPlanError, match="hand the data in"):
        ds.dataloader().plan.save(tmp_path / "q")
        tql.load_plan(tmp_path / "q")
    pq.write_table(ds.to_arrow()[:400], tmp_path / "d.parquet")
    with pytest.raises(TqlDataError, match="source: "):
        tql.load_plan(tmp_path / "p")


def test_a_plan_of_the_planner_alone_says_that_it_has_no_steps(
    ds: tql.Dataset, tmp_path: Path
) -> None:
    planner.make_plan(everything(9)).save(tmp_path / "p")
    with pytest.raises(TqlPlanError, match="does not say which steps made it"):
        tql.load_plan(tmp_path / "p", ds)


@pytest.mark.parametrize("step", [7, {}, {"query": "select *"}, {"sample_by": "id", "size": 3}])
def test_a_step_that_is_not_known_is_refused(ds: tql.Dataset, step: Any, tmp_path: Path) -> None:
    plan = planner.make_plan(everything(N), origin={"steps": [step]})
    content = {**plan.to_json(), "data": ds.fingerprint, "views": []}
    (tmp_path / "p").write_text(json.dumps(content))
    with pytest.raises(TqlPlanError, match="does not know"):
        tql.load_plan(tmp_path / "p", ds)


@pytest.mark.parametrize("change", [{"views": 3}, {"views": [{}]}, {"data": 5}, {"views": [None]}])
def test_views_that_are_none_are_refused(
    ds: tql.Dataset, change: dict[str, Any], tmp_path: Path
) -> None:
    content = {**CHAINS["a view"](ds).plan.to_json(), **change}
    (tmp_path / "p").write_text(json.dumps(content))
    with pytest.raises(TqlPlanError, match="has data or views that no plan has"):
        tql.load_plan(tmp_path / "p", ds)


@every_chain
def test_a_plan_explains_itself_as_its_file_does(
    ds: tql.Dataset, chain: Callable[[tql.Dataset], Chain]
) -> None:
    plan = chain(ds).plan
    lines = dict(line.split(maxsplit=1) for line in plan.explain().text.splitlines())
    assert lines["plan"] == f"{plan.short}, order v1"
    assert lines["epoch"].startswith(f"{len(plan):,} draws of {len(plan.population):,} row")
    assert lines["seed"] == str(plan.seed)
    assert ("step" in lines, "view" in lines) == (bool(chain(ds).steps), bool(chain(ds).base.lineage.views))  # fmt: skip


def test_a_plan_of_the_planner_alone_explains_itself() -> None:
    lines = str(planner.make_plan(everything(9), origin={"run": "a\nb"}).explain()).splitlines()
    assert lines[2:4] == ["data     unnamed", 'origin   {"run": "a\\nb"}']


def test_two_files_are_compared_line_by_line(ds: tql.Dataset, tmp_path: Path) -> None:
    ds.query("select * where id > 7").dataloader(2).shuffle().plan.save(tmp_path / "a")
    ds.query("select * where id > 8").dataloader(3).shuffle().offset(4).plan.save(tmp_path / "b")
    a, b = planner.load(tmp_path / "a"), planner.load(tmp_path / "b")
    assert a.differences(a) == ()
    found = {name: (old, new) for name, old, new in a.differences(b)}
    assert found["seed"] == ("2", "3") and found["offset"] == ("0", "4")
    assert found["views.0.query"] == ('"select * where id > 7"', '"select * where id > 8"')
    assert found["draws"] == ("492", "491") and "population.digest" in found
    assert set(found) == {
        "seed", "offset", "views.0.query", "draws", "population.digest", "population.rows"
    }  # fmt: skip


def test_the_table_of_an_opened_view_is_not_kept_for_its_lineage() -> None:
    """Arrays of weights are large, and a file has their hash only."""
    drawn = tql.open(COLUMNS).sample_by(HEAVY)
    (made,) = drawn.lineage.views
    assert not np.size(made.step.weights)  # type: ignore[union-attr]
    assert pa.table({"id": drawn["id"]}).num_rows == N
