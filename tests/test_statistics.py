"""Statistics against NumPy, and what they must not read."""

import json
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tql
from tests.explain_data import SPECIES, Watched, digits, small
from tql.reports.statistics import ColumnLine, class_statistics, column_statistics
from tql.reports.text_table import cut, pad, printable, width


def line(dataset: tql.Dataset, name: str) -> ColumnLine:
    return next(c for c in dataset.stats().columns if c.name == name)


@given(st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=50))
def test_numbers_are_counted_without_nulls_and_nans(values: list[float | None]) -> None:
    found = line(tql.open(pa.table({"x": pa.array(values, pa.float32())})), "x")
    known = [v for v in values if v is not None and not np.isnan(v)]
    assert found.nulls == values.count(None)
    assert found.low == (f"{min(known) + 0.0:g}" if known else None)
    assert found.high == (f"{max(known) + 0.0:g}" if known else None)


@given(st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=50))
def test_classes_are_counted_by_name(codes: list[int | None]) -> None:
    table = pa.table({"c": pa.array(codes, pa.int16())})
    dataset = tql.open(table, class_names={"c": SPECIES})
    counted = {c.name: c.rows for c in dataset.stats(by="c").classes}
    names = [SPECIES[c] if c is not None else "null" for c in codes]
    assert counted == {name: names.count(name) for name in names}
    assert line(dataset, "c").distinct == len({c for c in codes if c is not None})
    shares = [c.share for c in dataset.stats(by="c").classes]
    assert sum(shares) == pytest.approx(1 if codes else 0)


@given(st.lists(st.one_of(st.none(), st.sampled_from(["b", "a", "é", ""])), max_size=40))
def test_text_is_counted_alike_plain_and_as_a_dictionary(values: list[str | None]) -> None:
    plain = tql.open(pa.table({"t": pa.array(values, pa.string())}))
    counted = {c.name: c.rows for c in plain.stats(by="t").classes}
    assert counted == {("null" if v is None else v): values.count(v) for v in values}
    known = [v for v in values if v is not None]
    assert line(plain, "t").low == (min(known) if known else None)
    assert line(plain, "t").high == (max(known) if known else None)


def test_a_label_beyond_the_names_is_its_own_class() -> None:
    dataset = tql.open({"c": [0, 7, 7, -1]}, class_names={"c": SPECIES})
    assert {c.name: c.rows for c in dataset.stats(by="c").classes} == {"cat": 1, "no name": 3}


def test_payload_columns_are_never_read() -> None:
    source = Watched(digits().source)
    found = column_statistics(source, "digits")
    assert source.columns_read == {"labels"}
    images = found.columns[0]
    assert images.name == "images" and images.rows == 1797
    assert images.bytes is not None and images.bytes > 100_000
    source.reads.clear()
    text = str(found), found.to_dict(), found._repr_html_()
    assert source.reads == [] and "images" in text[0]


def test_more_classes_than_fit_a_table_are_all_counted() -> None:
    dataset = tql.open({"n": np.arange(500)})
    assert len(class_statistics(dataset.source, "n", "n").classes) == 500


def test_a_column_without_classes_says_so() -> None:
    with pytest.raises(tql.TqlTypeError, match="picture"):
        small().stats(by="picture")
    with pytest.raises(tql.TqlPlanError, match="1,000 distinct"):
        tql.open({"n": np.arange(5000)}).stats(by="n")
    with pytest.raises(tql.TqlNameError, match="specis"):
        small().stats(by="specis")


def test_the_text_is_a_table() -> None:
    lines = str(small().stats()).splitlines()
    assert [part.split()[0] for part in lines[1:]] == ["column", *small().columns]
    assert lines[4].split() == ["score", "float64", "5", "0", "0.95", "325", "B"]


def test_the_dictionary_is_json_with_a_version() -> None:
    table = pa.table({"t": [datetime(2020, 1, 2)], "d": pa.array([3], pa.date32())})
    found = json.loads(json.dumps(tql.open(table).stats().to_dict()))
    assert (found["version"], found["rows"]) == (1, 1)
    assert found["columns"][0]["min"].startswith("2020-01-02T00:00:00")
    assert found["columns"][1]["max"] == "1970-01-04"
    by = small().stats(by="tame").to_dict()
    assert by["classes"] == [
        {"class": "false", "rows": 20, "share": 0.5},
        {"class": "true", "rows": 20, "share": 0.5},
    ]


def test_an_empty_data_set_has_statistics() -> None:
    empty = tql.open(pa.table({"c": pa.array([], pa.int8()), "t": pa.array([], pa.string())}))
    assert [c.nulls for c in empty.stats().columns] == [0, 0]
    assert empty.stats(by="c").classes == ()


@given(st.text(max_size=30), st.integers(1, 30))
def test_cells_are_as_wide_as_they_say(text: str, cells: int) -> None:
    shown = cut(printable(text), cells)
    assert width(shown) <= cells
    assert width(pad(shown, 30, "right")) == 30
    assert all(c.isprintable() for c in shown)
