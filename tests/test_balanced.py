"""balanced(): weights from class counts, against a count in plain Python."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tql
from tql.engine.scan import Settings, Tier
from tql.queries import ask, weigh_by
from tql.weights import ClassWeights

N = 300
rng = np.random.default_rng(5)
KINDS = rng.choice(4, N, p=[0.7, 0.2, 0.08, 0.02])
TAGS = [
    [["a", "b", "c", "d"][k] for k in rng.choice(4, rng.integers(0, 4), p=[0.6, 0.3, 0.09, 0.01])]
    for _ in range(N)
]
FLOATS = np.array([0.0, -0.0, 1.5, np.nan])[KINDS]
TABLE = pa.table(
    {
        "id": np.arange(N),
        "labels": pa.array(KINDS, pa.int8()),
        "far": np.array([-(2**62), 7, 2**62, 2**63 - 1])[KINDS],
        "huge": np.array([0, 1, 2, 2**64 - 1], np.uint64)[KINDS],
        "text": [["x", "y", "", "ß"][k] for k in KINDS],
        "words": pa.array([["x", "y", "", "ß"][k] for k in KINDS]).dictionary_encode(),
        "flag": KINDS > 1,
        "real": FLOATS,
        "day": pa.array(KINDS.astype("int32"), pa.date32()),
        "tags": TAGS,
        "numbers": [[len(t) for t in tags] + [7] * (n % 2) for n, tags in enumerate(TAGS)],
        "pair": pa.array([[int(k), 9] for k in KINDS], pa.list_(pa.int32(), 2)),
        "holes": [[1, None] if k else [None] for k in KINDS],
        "missing": pa.array([None if n == 17 else int(k) for n, k in enumerate(KINDS)]),
        "matrix": [[[1]]] * N,
        "image": [b"1"] * N,
        "group/name": KINDS,
    }
)


@pytest.fixture(scope="module")
def ds() -> tql.Dataset:
    return tql.open(TABLE, class_names={"labels": ["cat", "dog", "horse", "emu"]})


def wanted(classes: list[Any], power: float = 1.0, threshold: float | None = None) -> list[float]:
    """The weights, counted one by one; a list is all its classes, NaN is one class."""

    def weight(count: int) -> float:
        if threshold is None:
            return float(1 / count**power)
        return max(1.0, float((threshold / (count / len(classes))) ** power))

    named = [
        frozenset(v for v in c if v is not None) if isinstance(c, list)
        else frozenset(["nan" if c != c else c])
        for c in classes
    ]  # fmt: skip
    counts = Counter(c for row in named for c in row)
    bare = sum(not row for row in named)
    return [max((weight(counts[c]) for c in row), default=weight(max(bare, 1))) for row in named]


def per_row(weights: Any, rows: list[int]) -> list[float]:
    """The weight of each of `rows`; every row belongs to one class of the weights."""
    assert isinstance(weights, ClassWeights)
    assert len(set(weights.values.tolist())) == len(weights.values)
    found = {
        row: value
        for value, members in zip(weights.values.tolist(), weights.members)
        for row in members.to_numpy().tolist()
    }
    assert sorted(found) == sorted(set(rows))
    return [found[row] for row in rows]


SCALARS = ["labels", "far", "huge", "text", "words", "flag", "real", "day", '"group/name"']
LISTS = ["tags", "numbers", "pair", "holes"]


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0, 2.0])
@pytest.mark.parametrize("column", [*SCALARS, *LISTS])
def test_a_row_weighs_one_over_the_count_of_its_class(
    ds: tql.Dataset, column: str, power: float
) -> None:
    values = TABLE.column(column.strip('"')).to_pylist()
    found = weigh_by(ds.source, f"balanced({column}, {power})")
    np.testing.assert_allclose(per_row(found, list(range(N))), wanted(values, power), rtol=1e-15)


@pytest.mark.parametrize(
    ("power", "threshold"), [(0.5, 0.1), (1.0, 0.3), (2, 1), (0.0, 0.5), (0.5, 1e-9)]
)
@pytest.mark.parametrize("column", [*SCALARS, *LISTS])
@pytest.mark.parametrize("tier", ["reference", "kernel"])
def test_with_a_threshold_only_rarer_classes_are_favoured(
    ds: tql.Dataset, column: str, power: float, threshold: float, tier: Tier
) -> None:
    values = TABLE.column(column.strip('"')).to_pylist()
    text = f"balanced({column}, {power}, {threshold})"
    found = per_row(weigh_by(ds.source, text, settings=Settings(tier)), list(range(N)))
    expected = wanted(values, power, threshold)
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert [w == 1.0 for w in found] == [w == 1.0 for w in expected]


def test_the_repeat_factor_of_lvis_by_numpy(ds: tql.Dataset) -> None:
    """Gupta et al. (2019): r_c = max(1, sqrt(t / f_c)), f_c the share of images with class c; an
    image has the largest factor of its classes.
    """
    t = 0.2
    has = np.array([[c in tags for c in "abcd"] for tags in TAGS])
    factor = np.maximum(1, np.sqrt(t / has.mean(0)))
    expected = np.where(has, factor, 0).max(1)
    bare = ~has.any(1)
    expected[bare] = max(1, np.sqrt(t / bare.mean()))
    found = weigh_by(ds.source, tql.balanced("tags", power=0.5, threshold=t))
    np.testing.assert_allclose(per_row(found, list(range(N))), expected, rtol=1e-15)
    assert expected.max() > 2 and (expected == 1).sum() > N / 4


def test_explain_shows_the_shares_that_a_threshold_gives(ds: tql.Dataset) -> None:
    lines = ds.explain("select * sample by balanced(labels, 0.5, 0.1)").to_dict()["classes"][
        "lines"
    ]
    counts = np.bincount(KINDS, minlength=4)
    mass = counts * np.maximum(1, np.sqrt(0.1 / (counts / N)))
    shares = {line["class"]: line["expected_share"] for line in lines}
    names = ["cat", "dog", "horse", "emu"]
    np.testing.assert_allclose([shares[n] for n in names], mass / mass.sum(), rtol=1e-12)


@pytest.mark.parametrize(
    "clause",
    ["where id % 3 == 0", "where labels != 'cat'", "order by id desc limit 40", "where id < 1", "limit 10 percent"],
)  # fmt: skip
@pytest.mark.parametrize("column", ["labels", "text", "tags"])
def test_the_rows_that_reach_the_clause_are_counted(
    ds: tql.Dataset, clause: str, column: str
) -> None:
    rows = ds.query(f"select * {clause}").row_ids.tolist()
    population = ask(ds.source, f"select * {clause} sample by balanced({column})").population()
    assert population is not None
    values = TABLE.column(column).take(rows).to_pylist()
    np.testing.assert_allclose(per_row(population.weights, rows), wanted(values), rtol=1e-15)


def test_a_view_is_counted_by_its_own_rows(ds: tql.Dataset) -> None:
    view = ds.query("select id, labels as kind, labels % 2 as odd where id % 2 == 0")
    rows = view.row_ids.tolist()
    for column, values in (("kind", KINDS[::2]), ("odd", KINDS[::2] % 2)):
        found = weigh_by(view.source, f"balanced({column})")
        np.testing.assert_allclose(per_row(found, rows), wanted(values.tolist()), rtol=1e-15)


def test_each_class_is_drawn_as_often_as_any_other(ds: tql.Dataset) -> None:
    for view in (
        ds.query("select labels sample by balanced(labels) limit 40000"),
        ds.sample_by(tql.balanced("labels"), size=40000),
    ):
        shares = np.bincount(view["labels"].to_numpy(), minlength=4) / 40000
        assert np.abs(shares - 0.25).max() < 6 * (0.25 * 0.75 / 40000) ** 0.5
    loader = ds.dataloader(seed=3).sample_by(tql.balanced("labels", 0.0), size=40000)
    drawn = KINDS[np.asarray(loader.plan.draw(0, 40000))]
    shares = np.bincount(drawn, minlength=4) / 40000
    expected = np.bincount(KINDS, minlength=4) / N
    assert np.abs(shares - expected).max() < 6 * (0.25 / 40000) ** 0.5


def test_without_replacement_too(ds: tql.Dataset) -> None:
    rows = ds.query("select * sample by balanced(labels) replace false").row_ids
    assert sorted(rows.tolist()) == list(range(N))


def test_explain_shows_the_classes_and_weights(ds: tql.Dataset) -> None:
    explained = ds.explain("select * sample by balanced(labels, 0.5)").to_dict()
    assert explained["classes"]["by"] == "labels"
    text = str(ds.explain("select * sample by balanced(labels, 0.5)"))
    assert "weight balanced(labels, 0.5)" in text
    assert f"{float(1 / np.bincount(KINDS)[0] ** 0.5):g}" in text


def test_a_null_class_is_an_error_that_names_the_row(ds: tql.Dataset) -> None:
    with pytest.raises(tql.TqlDataError, match="no class for row 17") as e:
        ds.query("select * sample by balanced(missing)")
    assert "is not null" in (e.value.diagnostic.help or "")
    kept = ds.query("select * where missing is not null sample by balanced(missing) limit 9")
    assert len(kept) == 9


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("select balanced(labels) as a", "type"),
        ("select * where balanced(labels) > 0.1", "type"),
        ("select * order by balanced(labels)", "type"),
        ("select * sample by 2 * balanced(labels)", "type"),
        ("select * sample by max_weight(true: balanced(labels))", "type"),
        ("select * sample by balanced(image)", "type"),
        ("select * sample by balanced(matrix)", "type"),
        ("select * sample by balanced(labels, id)", "type"),
        ("select * sample by balanced(labels, 'a')", "type"),
        ("select * sample by balanced(labels, true)", "type"),
        ("select * sample by balanced(labels, -1)", "value"),
        ("select * sample by balanced()", "arity"),
        ("select * sample by balanced(labels, 1, 0)", "value"),
        ("select * sample by balanced(labels, 1, -0.1)", "value"),
        ("select * sample by balanced(labels, 1, 1.5)", "value"),
        ("select * sample by balanced(labels, 1, true)", "type"),
        ("select * sample by balanced(labels, 1, id)", "type"),
        ("select * sample by balanced(labels, 1, 0.5, 2)", "arity"),
        ("select * sample by balanced(lables)", "unknown_column"),
        ("select * where id < 0 sample by balanced(labels)", "value"),
        ("select * where id < 0 sample by balanced(tags)", "value"),
    ],
)
def test_what_it_cannot_be_is_refused(ds: tql.Dataset, text: str, code: str) -> None:
    with pytest.raises(tql.TqlError) as e:
        ds.query(text)
    assert e.value.diagnostic.code == code
    assert e.value.diagnostic.help


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (("labels",), "balanced(labels)"),
        (("labels", 0.5), "balanced(labels, 0.5)"),
        (("group/name", 0), 'balanced("group/name", 0)'),
        (('a "b"',), 'balanced("a ""b""")'),
        (("select", 2), 'balanced("select", 2)'),
        (("labels", 1), "balanced(labels)"),
        (("labels", 0.5, 0.001), "balanced(labels, 0.5, 0.001)"),
        (("labels", 1, 1), "balanced(labels, 1, 1)"),
    ],
)
def test_the_function_of_the_package_writes_the_expression(
    given: tuple[Any, ...], text: str
) -> None:
    assert tql.balanced(*given) == text


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ((5,), "type"),
        (("",), "type"),
        (("a", "b"), "type"),
        (("a", True), "type"),
        (("a", -1), "value"),
        (("a", float("nan")), "value"),
        (("a", float("inf")), "value"),
        (("a", 1, 0), "value"),
        (("a", 1, 2), "value"),
        (("a", 1, float("nan")), "value"),
        (("a", 1, True), "type"),
        (("a", 1, "b"), "type"),
    ],
)
def test_what_it_cannot_write_is_refused(given: tuple[Any, ...], code: str) -> None:
    with pytest.raises(tql.TqlError) as e:
        tql.balanced(*given)
    assert e.value.diagnostic.code == code


def test_an_exponent_as_a_parameter(ds: tql.Dataset) -> None:
    prepared = ds.prepare("select * sample by balanced(labels, ?) limit 5")
    assert len(prepared.run([0.5])) == 5
    with_threshold = ds.prepare("select * sample by balanced(labels, $p, $t) limit 5")
    assert len(with_threshold.run({"p": 0.5, "t": 0.1})) == 5
