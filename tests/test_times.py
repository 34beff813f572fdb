"""Timestamps and dates in queries: against exact arithmetic, and DuckDB where it is exact."""

from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.plain_kernels import run_as_python
from tests.profiles import examples
from tql.dataset import view_of
from tql.engine.scan import Settings
from tql.queries import ask

UNITS: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
OPS: Final = ("==", "!=", "<", "<=", ">", ">=")
COUNTS: Final = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.integers(-(10**10), 10**10),
    st.sampled_from([2**63 - 1, -(2**63), 86_400, 86_400_000, 1_714_564_800]),
)


def rows(ds: tql.Dataset, condition: str, params: Any = None) -> list[int]:
    ids: list[int] = ds.query(f"select * where {condition}", params).row_ids.tolist()
    return ids


def holds(op: str, a: Any, b: Any) -> bool:
    return bool(
        {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]
    )


@st.composite
def literals(draw: st.DrawFn) -> tuple[str, Fraction]:
    """An ISO text without an offset, and its seconds since 1970."""
    at = draw(st.datetimes(datetime(1969, 12, 31), datetime(1970, 1, 3)))
    digits = draw(st.sampled_from(["", "0", "5", "001", "000001", "000000001", "0000000000001"]))
    day = f"{at:%Y-%m-%d}"
    whole = Fraction((at.replace(microsecond=0) - datetime(1970, 1, 1)) // timedelta(seconds=1))
    midnight = whole - Fraction(at.hour * 3600 + at.minute * 60 + at.second)
    match draw(st.integers(0, 3)):
        case 0:
            return day, midnight
        case 1:
            return f" {day}T{at:%H:%M} ", whole - at.second
        case _:
            fraction = Fraction(int(digits or 0), 10 ** len(digits))
            return f"{day} {at:%H:%M:%S}{'.' if digits else ''}{digits}", whole + fraction


@given(
    st.lists(COUNTS, min_size=1, max_size=6), st.sampled_from(sorted(UNITS)), literals(),
    st.sampled_from(OPS),
)  # fmt: skip
def test_a_literal_compares_exactly_with_every_unit(
    counts: list[int | None], unit: str, literal: tuple[str, Fraction], op: str
) -> None:
    ds = tql.open(pa.table({"t": pa.array(counts, pa.timestamp(unit))}))
    text, seconds = literal
    expected = [
        i for i, c in enumerate(counts) if c is not None and holds(op, Fraction(c, UNITS[unit]), seconds)
    ]  # fmt: skip
    assert rows(ds, f"t {op} '{text}'") == expected
    assert rows(ds, f"'{text}' {op} t", None) == [
        i for i, c in enumerate(counts) if c is not None and holds(op, seconds, Fraction(c, UNITS[unit]))
    ]  # fmt: skip
    negated = [i for i, c in enumerate(counts) if c is not None and i not in expected]
    assert rows(ds, f"not t {op} ?", [text]) == negated


@given(
    st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=6), st.sampled_from(sorted(UNITS)),
    st.sampled_from(sorted(UNITS)), st.sampled_from(OPS),
)  # fmt: skip
def test_columns_of_any_units_compare_exactly(
    pairs: list[tuple[int | None, int | None]], s: str, t: str, op: str
) -> None:
    ds = tql.open(
        pa.table({
            "a": pa.array([p[0] for p in pairs], pa.timestamp(s)),
            "b": pa.array([p[1] for p in pairs], pa.timestamp(t)),
        })
    )  # fmt: skip
    assert rows(ds, f"a {op} b") == [
        i
        for i, (x, y) in enumerate(pairs)
        if x is not None
        and y is not None
        and holds(op, Fraction(x, UNITS[s]), Fraction(y, UNITS[t]))
    ]


@given(
    st.lists(st.tuples(st.integers(-3, 3), COUNTS), min_size=1, max_size=6), st.sampled_from(OPS)
)
def test_a_date_is_its_midnight(pairs: list[tuple[int, int | None]], op: str) -> None:
    days = [date(1970, 1, 1) + timedelta(days=d) for d, _ in pairs]
    for kind in (pa.date32(), pa.date64()):
        table = {"d": pa.array(days, kind), "t": pa.array([t for _, t in pairs], pa.timestamp("s"))}
        ds = tql.open(pa.table(table))
        assert rows(ds, f"d {op} t") == [
            i for i, (d, t) in enumerate(pairs) if t is not None and holds(op, d * 86_400, t)
        ]
        noon = Fraction(43_200)
        assert rows(ds, f"d {op} '1970-01-01 12:00'") == [
            i for i, (d, _) in enumerate(pairs) if holds(op, d * 86_400, noon)
        ]


LOCAL: Final = st.datetimes(datetime(1999, 12, 30), datetime(2000, 1, 2))


@settings(max_examples=examples(15, 1000))
@given(st.lists(LOCAL, min_size=1, max_size=8), LOCAL, LOCAL)
def test_duckdb_agrees(values: list[datetime], low: datetime, high: datetime) -> None:
    """Microseconds on both sides: DuckDB casts the text to the column's type."""
    data = pa.table({"t": pa.array(values, pa.timestamp("us")), "i": range(len(values))})
    ds = tql.open(data)
    connection = duckdb.connect()
    connection.register("data", data)
    for condition in (
        f"t < '{low}'", f"t >= '{high.isoformat()}'", f"t between '{low}' and '{high}'",
        f"t in ('{low}', '{values[0]}', '{values[-1].isoformat()}')", f"not t = '{values[0]}'",
        f"t > '{low:%Y-%m-%d}'",
    ):  # fmt: skip
        wanted = connection.execute(f"select i from data where {condition} order by i").fetchall()
        assert rows(ds, condition) == [i for (i,) in wanted], condition
    ordered = connection.execute("select i from data order by t desc, i").fetchall()
    assert ds.query("select * order by t desc").row_ids.tolist() == [i for (i,) in ordered]


# -- zones -------------------------------------------------------------------------------------


def instants(zone: str | None, *values: datetime) -> tql.Dataset:
    return tql.open(pa.table({"t": pa.array(values, pa.timestamp("ms", zone))}))


def test_a_literal_without_an_offset_is_read_in_the_zone_of_the_column() -> None:
    noon = datetime(2024, 7, 1, 12, tzinfo=UTC)
    for zone, wall in (
        ("UTC", "12:00"),
        ("Europe/Berlin", "14:00"),
        ("+05:30", "17:30"),
        ("-03:00", "09:00"),
    ):
        ds = instants(zone, noon, noon + timedelta(hours=1))
        assert rows(ds, f"t == '2024-07-01 {wall}'") == [0], zone
        assert rows(ds, f"t > '2024-07-01 {wall}'") == [1], zone
        for same in ("2024-07-01T12:00Z", "2024-07-01 14:00:00+02:00", "2024-07-01 06:30 -0530"):
            assert rows(ds, f"t == '{same}'") == [0], (zone, same)


def test_where_clocks_are_changed_the_earlier_reading_counts() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    twice = datetime(2024, 10, 27, 2, 30, tzinfo=berlin)
    ds = instants("Europe/Berlin", twice, twice.replace(fold=1))
    assert rows(ds, "t == '2024-10-27 02:30'") == [0]
    never = instants("Europe/Berlin", datetime(2024, 3, 31, 1, 30, tzinfo=UTC))
    assert rows(never, "t == '2024-03-31 02:30'") == [0]  # the offset before the change: +01:00


def test_instants_of_different_zones_compare_and_keep_their_type() -> None:
    at = datetime(2024, 7, 1, 12, tzinfo=UTC)
    table = pa.table({
        "a": pa.array([at, at], pa.timestamp("s", "UTC")),
        "b": pa.array([at, at + timedelta(microseconds=1)], pa.timestamp("us", "Asia/Tokyo")),
    })  # fmt: skip
    ds = tql.open(table)
    assert rows(ds, "a == b") == [0]
    assert rows(ds, "a < b") == [1]
    assert ds.query("select a, b where a <= b").to_arrow().schema.types == table.schema.types


# -- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 5, 1, 12, 30),
        np.datetime64("2024-05-01T12:30"),
        np.datetime64("2024-05-01T12:30:00.000000000"),
        np.datetime64("2024-05-01T12:30:00.000", "ms"),
        pd.Timestamp("2024-05-01 12:30"),
        "2024-05-01 12:30",
    ],
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parameters_of_any_kind_of_time(value: Any, unit: str) -> None:
    at = datetime(2024, 5, 1, 12, 30)
    ds = tql.open(pa.table({"t": pa.array([at, at + timedelta(days=1)], pa.timestamp(unit))}))
    assert rows(ds, "t == ?", [value]) == [0]
    assert rows(ds, "t > $at", {"at": value}) == [1]
    assert rows(ds, "t in ?", [[value]]) == [0]
    assert rows(ds, "t between ? and ?", [value, value]) == [0]
    if isinstance(value, np.datetime64):
        assert rows(ds, "t in ?", [np.array([value, value])]) == [0]
        assert rows(ds, "t in (?, ?)", np.array([value, value])) == [0]


def test_finer_parameters_and_dates() -> None:
    ds = tql.open(pa.table({
        "t": pa.array([0, 1], pa.timestamp("ns")), "d": [date(2024, 5, 1), None],
    }))  # fmt: skip
    assert rows(ds, "t == ?", [pd.Timestamp(1)]) == [1]
    assert rows(ds, "d == ?", [date(2024, 5, 1)]) == [0]
    assert rows(ds, "d == ?", [np.datetime64("2024-05-01")]) == [0]
    assert rows(ds, "d < ?", [datetime(2024, 5, 1, 0, 0, 1)]) == [0]
    assert rows(ds, "d == ?", [np.datetime64("2024-05", "M")]) == [0]
    assert rows(ds, "d is null") == [1]
    zoned = instants("UTC", datetime(2024, 5, 1, 12, tzinfo=UTC))
    assert rows(
        zoned, "t == ?", [datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2)))]
    ) == [0]
    assert rows(zoned, "t == ?", [pd.Timestamp("2024-05-01 14:00", tz="Europe/Berlin")]) == [0]


def test_a_loader_query_may_have_times_as_parameters() -> None:
    ds = tql.open(pa.table({"t": pa.array([0, 1], pa.timestamp("s"))}))
    loader = ds.dataloader().query("select * where t > ?", [datetime(1970, 1, 1)])
    assert [b["index"].tolist() for b in loader.numpy()] == [[1]]


# -- through the engine ------------------------------------------------------------------------


def test_columns_of_any_units_are_compared_by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = [None, -1, 0, 1, 999, 1000, 1001, 86_400_000, 2**63 - 1, -(2**63), -999, -1000, -1001]
    pairs = [(x, y) for x in pool for y in pool]
    monkeypatch.setattr("tql.engine.scan.is_true", not_needed)
    for s, t in [("ns", "s"), ("s", "ms"), ("us", "ns")]:
        a, b = zip(*pairs)
        table = pa.table({"a": pa.array(a, pa.timestamp(s)), "b": pa.array(b, pa.timestamp(t))})
        ds = tql.open(table.append_column("n", [list(range(len(pairs)))]))
        for op in OPS:
            if (s, op) == ("ns", "!="):  # the first is compiled, the others are interpreted
                run_as_python(monkeypatch)
            text = f"select * where a {op} b and n >= 0 or (a {op} b) is null"
            found = view_of(ask(ds.source, text, settings=Settings("kernel")), ds).row_ids
            assert found.tolist() == [
                i
                for i, (x, y) in enumerate(pairs)
                if x is None or y is None or holds(op, Fraction(x, UNITS[s]), Fraction(y, UNITS[t]))
            ]


def not_needed(*_: Any) -> Any:
    raise AssertionError("the reference tier was asked")


def test_comparisons_of_times_are_kernels_and_prune(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    calls = run_as_python(monkeypatch)
    values = [datetime(2024, 1, 1) + timedelta(hours=h) for h in range(100)]
    for unit in UNITS:
        path = tmp_path / f"{unit}.parquet"
        pq.write_table(
            pa.table({"t": pa.array(values, pa.timestamp(unit))}), path, row_group_size=7
        )
        ds = tql.open(path)
        for condition in (
            "t >= '2024-01-02 12:30' and t < '2024-01-03'", "t == '2024-01-01 05:00'",
            "t in ('2024-01-01 05:00', '2024-01-04 01:00:00.5', '2024-01-04 01:00')",
            "not t == '2024-01-01'",
            "t == '2024-01-01' or t == '2024-01-02' or t == '2024-01-03' or t == '2024-01-04' or "
            "t == '2024-01-05' or t == '2024-01-06' or t == '2024-01-07' or t == '2024-01-08' or "
            "t == '2024-01-01 01:00'",
        ):  # fmt: skip
            before = calls["predicate"]
            text = f"select * where {condition}"
            compiled = view_of(ask(ds.source, text, settings=Settings("kernel")), ds).row_ids
            assert calls["predicate"] > before
            plain = view_of(ask(ds.source, text, settings=Settings("reference")), ds).row_ids
            in_memory = tql.open(pq.read_table(path)).query(text).row_ids
            assert compiled.tolist() == plain.tolist() == in_memory.tolist()
            assert 0 < len(plain) < 100


def test_lists_of_times_are_looked_through() -> None:
    lists = [[datetime(2024, 5, 1)], [datetime(2024, 5, 2), None], [], None]
    ds = tql.open(pa.table({"l": pa.array(lists, pa.list_(pa.timestamp("us")))}))
    assert rows(ds, "contains(l, '2024-05-02')") == [1]


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "code", "message"),
    [
        ("t == '2024-13-01'", "value", "'2024-13-01' is not a date or a time: month must be"),
        ("t == '2024-02-30'", "value", "is not a date or a time: day is out of range"),
        ("t == '01.05.2024'", "value", "'01.05.2024' is not a date or a time"),
        ("t == '2024-05-01 12'", "value", "is not a date or a time"),
        ("t == '2024-05-01 12:60'", "value", "minute must be in 0..59"),
        ("t == '2024-05-01T12:00+02:75'", "value", "at most 59 minutes"),
        ("t == ''", "value", "'' is not a date or a time"),
        ("t in ('2024-05-01', 'x')", "value", "'x' is not a date or a time"),
        ("t in ('2024-05-01', 5)", "type", "cannot compare timestamp[s] with int64"),
        ("t == 5", "type", "cannot compare timestamp[s] with int64"),
        ("5 < t", "type", "cannot compare timestamp[s] with int64"),
        ("t == s", "type", "cannot compare timestamp[s] with text"),
        ("t == z", "type", "one holds instants, the other local times"),
        ("t == '2024-05-01T12:00Z'", "type", "timestamp[s] has no zone"),
        ("t", "type", "timestamp[s] is not a truth value"),
        ("t + 1 == t", "type", "cannot compute + of timestamp[s]"),
        ("t like '2024*'", "type", "LIKE needs text"),
    ],
)
def test_mistakes_say_what_to_write(condition: str, code: str, message: str) -> None:
    ds = tql.open(pa.table({
        "t": pa.array([0], pa.timestamp("s")), "s": ["2024-05-01"], "z": pa.array([0], pa.timestamp("s", "UTC")),
    }))  # fmt: skip
    with pytest.raises(tql.TqlError) as e:
        rows(ds, condition)
    assert e.value.diagnostic.code == code
    assert message in e.value.diagnostic.message
    assert e.value.diagnostic.help


def test_a_parameter_that_is_no_moment_is_refused() -> None:
    ds = tql.open(pa.table({"t": pa.array([0], pa.timestamp("s"))}))
    with pytest.raises(tql.TqlTypeError, match="NaT, which is NULL"):
        rows(ds, "t == ?", [np.datetime64("NaT")])
    with pytest.raises(tql.TqlTypeError, match="a timedelta cannot be a value"):
        rows(ds, "t == ?", [timedelta(1)])
    with pytest.raises(tql.TqlError, match="finer than nanoseconds"):
        rows(ds, "t == ?", [np.datetime64("1970-01-01", "ps")])
    with pytest.raises(tql.TqlTypeError, match="has an offset, and the other has none"):
        rows(ds, "? == ?", [datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1)])
