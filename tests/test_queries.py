"""Queries whose size or shape once broke something: they answer, and answer the same."""

from pathlib import Path

import numpy as np
import pytest

import tql
from tql.engine.scan import Settings
from tql.planner import sample
from tql.queries import ask
from tql.rowset import from_ids
from tql.weights import ClassWeights


@pytest.fixture
def ds() -> tql.Dataset:
    n = np.arange(1000, dtype=np.int32)
    return tql.open({"x": n, "f": n % 2 == 0, "g": n % 3 == 0})


# Each of these doubled its work with every level; a level more would not have ended in a lifetime.
DEEP = {
    "a sum of 190 terms": ("select * where x" + " + 1" * 190 + " > 500", 689),
    "150 comparisons of conditions": (
        "select * where " + "(" * 150 + "f" + ") == g" * 150,
        500,
    ),
    "60 subqueries that double": (
        "select * from " + "(select x + x as x from " * 60 + "(select x % 2 as x)" + ")" * 60
        + " where x == 0",
        500,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "rows"), DEEP.values(), ids=DEEP.keys())
def test_work_does_not_double_with_depth(ds: tql.Dataset, text: str, rows: int) -> None:
    reference = ask(ds.source, text, settings=Settings("reference")).answer().rows.to_numpy()
    assert len(reference) == rows
    np.testing.assert_array_equal(ds.query(text).row_ids, reference)


def test_views_of_views_do_not_double(ds: tql.Dataset) -> None:
    view: tql.Dataset = ds
    for _ in range(40):
        view = view.query("select x + x - x as x")
    assert view["x"].to_pylist() == list(range(1000))


def test_top_is_a_limit(ds: tql.Dataset) -> None:
    assert ds.query("select top 3 * order by x desc").row_ids.tolist() == [999, 998, 997]
    union = "select top 2 * where x > 5 union select top 2 * where x > 7"
    assert ds.query(union).row_ids.tolist() == [6, 7, 8, 9]
    with pytest.raises(tql.TqlSyntaxError, match="twice"):
        ds.query("select top 3 * limit 2")


def test_random_is_new_in_every_query_of_a_chain(ds: tql.Dataset) -> None:
    view = ds.query("select *, random() as r")
    assert len(view.query("select * where random() == r")) == 0
    kept, sizes = view, []
    for _ in range(3):
        kept = kept.query("select * where random() % 2 == 0")
        sizes.append(len(kept))
    # 1000 / 2^k, within six standard deviations of a binomial draw
    for k, size in enumerate(sizes, 1):
        p = 2.0**-k
        assert abs(size - 1000 * p) <= 6 * np.sqrt(1000 * p * (1 - p))
    assert kept["r"].to_pylist() == view["r"].take(kept.row_ids).to_pylist()


def test_a_user_without_a_home_has_no_cache_and_no_error(
    ds: tql.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TQL_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    question = ask(ds.source, "select * where x != 17", settings=Settings("kernel"))
    assert len(question.answer().rows) == 999


def test_half_a_surrogate_pair_is_a_syntax_error(ds: tql.Dataset) -> None:
    with pytest.raises(tql.TqlSyntaxError, match="surrogate"):
        ds.query("select * where x == 1 -- \udcff")


@pytest.mark.parametrize(
    "values",
    [{1, 2}, [np.int64(1), 2], np.array([1, 2]), (1, 2)],
    ids=["set", "items", "array", "tuple"],
)
def test_lists_of_every_kind_are_parameters_of_a_loader(ds: tql.Dataset, values: object) -> None:
    loader = ds.dataloader().query("select x where x in ?", [values]).batch(5).numpy()
    (batch,) = loader
    assert batch["x"].tolist() == [1, 2]


@pytest.mark.parametrize("replace", [True, False])
def test_a_draw_depends_on_places_not_on_row_numbers(replace: bool) -> None:
    # What lets a query be rewritten over another source without changing what a seed draws.
    ids = np.arange(3, 500, 7)
    heavy = np.arange(len(ids)) % 5 == 0
    here = from_ids(np.arange(len(ids)), len(ids))
    there = from_ids(ids, 1000)
    drawn = []
    for rows in (here, there):
        members = tuple(
            from_ids(rows.select(np.flatnonzero(m)), rows.universe) for m in (heavy, ~heavy)
        )
        weights = ClassWeights(np.array([4.0, 1.0]), members)
        drawn.append(sample(rows, weights, 30, replace, 7, "sample 0")[0])
    np.testing.assert_array_equal(ids[drawn[0]], drawn[1])


def test_an_error_of_a_row_names_the_row_of_the_root(ds: tql.Dataset) -> None:
    view = ds.query("select * where x > 5")
    with pytest.raises(tql.TqlDataError, match="row 7"):
        view.query("select * where 10 % (x - 7) == 0")
    # Over positions of a view, which cannot be merged with it.
    outer = view.query("select *, row_number() as at where x % 2 == 0")
    with pytest.raises(tql.TqlDataError, match="row 10"):
        outer.query("select * where 10 % (at - 4) == 0")
