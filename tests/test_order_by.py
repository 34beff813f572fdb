"""ORDER BY, LIKE and random() by their rules: against plain Python, and by example."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tql
from tests.interpreter.scalars import like
from tql.engine import ordering
from tql.engine.columns import Numbers
from tql.engine.ordering import last_of, leading, stable_order
from tql.engine.scan import Settings
from tql.queries import ask
from tql.schema import Label
from tql.sources import memory

NAN: Final = math.nan
KINDS: Final[dict[str, tuple[pa.DataType, list[Any]]]] = {
    "i": (pa.int64(), [0, 1, -1, 2**24, 2**24 + 1, 2**63 - 1, -(2**63)]),
    "u": (pa.uint64(), [0, 1, 2**63, 2**64 - 1]),
    "f": (pa.float64(), [0.0, -0.0, 1.5, -1.5, NAN, math.inf, -math.inf]),
    "h": (pa.float16(), [0.0, -0.0, 1.5, NAN, -2.0]),
    "b": (pa.bool_(), [True, False]),
    "s": (pa.string(), ["", "a", "A", "b", "é", "日本", "😀", "\uffff", "a\x00"]),
    "c": (pa.dictionary(pa.int32(), pa.string()), ["b", "a", "", "é"]),
    "t": (pa.timestamp("us"), [0, 1, -1]),
}
CELLS: Final = {k: st.one_of(st.none(), st.sampled_from(v)) for k, (_, v) in KINDS.items()}


def place(value: Any, descending: bool) -> tuple[int, Any]:
    """What to sort by: values, then NaN, then NULL, in both directions."""
    if value is None:
        return 2, 0
    if isinstance(value, float) and math.isnan(value):
        return 1, 0
    return 0, (Reversed(value) if descending else value)


class Reversed:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: "Reversed") -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reversed) and bool(self.value == other.value)


@given(
    st.lists(st.fixed_dictionaries(CELLS), max_size=12),
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.booleans()), min_size=1, max_size=3),
)
def test_any_keys_sort_stably_with_nan_and_null_last(
    rows: list[dict[str, Any]], keys: list[tuple[str, bool]]
) -> None:
    columns = {
        k: pa.array([r[k] for r in rows], kind if k != "c" else pa.string())
        for k, (kind, _) in KINDS.items()
    }
    columns["c"] = columns["c"].dictionary_encode()
    ds = tql.open(pa.table(columns), class_names=None)
    encoded = ds.schema["c"].dtype
    if isinstance(encoded, Label):
        names = encoded.names
        for r in rows:
            r["c"] = None if r["c"] is None else names.index(r["c"])
    text = ", ".join(f"{k} {'desc' if down else 'asc'}" for k, down in keys)
    expected = sorted(
        range(len(rows)), key=lambda n: tuple(place(rows[n][k], down) for k, down in keys)
    )
    assert ds.query(f"select * order by {text}").row_ids.tolist() == expected
    for most, offset in ((0, 0), (1, 0), (2, 1), (3, 20)):
        view = ds.query(f"select * order by {text} limit {most} offset {offset}")
        assert view.row_ids.tolist() == expected[offset : offset + most]


@pytest.mark.parametrize("keys", ["x", "x desc", "k, x desc", "k desc, s", "s desc, k", "s, x"])
@pytest.mark.parametrize("cut", ["limit 7", "limit 40 offset 3", "limit 1 percent", "limit 200"])
def test_what_is_cut_off_is_not_sorted_and_changes_nothing(keys: str, cut: str) -> None:
    rng = np.random.default_rng(5)
    numbers = [None if n == 0 else NAN if n == 1 else float(n) for n in rng.integers(0, 60, 1000)]
    ds = tql.open(
        {
            "x": numbers,
            "k": rng.integers(0, 3, 1000),
            "s": [str(n) for n in rng.integers(0, 9, 1000)],
        }
    )
    everything = ds.query(f"select * order by {keys}").row_ids
    size = 10 if "percent" in cut else int(cut.split()[1])
    offset = 3 if "offset" in cut else 0
    found = ds.query(f"select * order by {keys} {cut}").row_ids
    assert found.tolist() == everything[offset : offset + size].tolist()


def test_nan_and_null_come_last_also_where_most_values_are_such() -> None:
    ds = tql.open({"x": [None, NAN, None, 2.0, NAN, None, NAN, None, 1.0, None, NAN, NAN]})
    for n in range(4):
        assert ds.query(f"select * order by x limit {n}").row_ids.tolist() == [8, 3, 1][:n]
        assert ds.query(f"select * order by x desc limit {n}").row_ids.tolist() == [3, 8, 1][:n]


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("1", "unsupported"), ("'a'", "unsupported"), ("?", "unsupported"), ("l", "type"), ("y", "type"),
        ("o", "type"), ("nosuch", "unknown_column"), ("[i]", "syntax"),
    ],
)  # fmt: skip
def test_keys_that_have_no_order_are_refused(key: str, code: str) -> None:
    ds = tql.open(pa.table({"i": [1], "l": [[1]], "y": [b"x"], "o": [{"k": 1}]}))
    with pytest.raises(tql.TqlError) as e:
        ds.query(f"select * order by {key}", [1] if key == "?" else None)
    assert e.value.diagnostic.code == code
    assert e.value.diagnostic.help


def test_an_alias_wins_over_a_column_and_keys_need_not_be_selected() -> None:
    ds = tql.open({"a": [1, 2, 3], "b": [3, 1, 2]})
    assert ds.query("select -a as a order by a").row_ids.tolist() == [2, 1, 0]
    assert ds.query("select a order by b").row_ids.tolist() == [1, 2, 0]


# -- LIKE --------------------------------------------------------------------------------------

LETTERS: Final = st.text(st.sampled_from("aAßẞ\u03c3ΣςéÉ.*%?_\\[](+\n"), max_size=5)


@given(st.lists(st.one_of(st.none(), LETTERS), min_size=1, max_size=6), LETTERS, st.booleans())
def test_like_means_what_it_says_for_constants_and_for_columns_of_patterns(
    texts: list[str | None], pattern: str, fold: bool
) -> None:
    word = "ilike" if fold else "like"
    ds = tql.open(pa.table({"s": pa.array(texts, pa.string()), "p": [pattern] * len(texts)}))
    expected = [i for i, t in enumerate(texts) if t is not None and like(t, pattern, fold)]
    others = [i for i, t in enumerate(texts) if t is not None and i not in expected]
    assert ds.query(f"select * where s {word} ?", [pattern]).row_ids.tolist() == expected
    assert ds.query(f"select * where s {word} p").row_ids.tolist() == expected
    assert ds.query(f"select * where s not {word} ?", [pattern]).row_ids.tolist() == others
    assert ds.query(f"select * where not s {word} p").row_ids.tolist() == others


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [("ß", "ßẞ"), ("\u03c3", "\u03c3Σς"), ("k", "kK\u212a"), ("é", "éÉ"), ("İ", "İ"), ("i", "iI"), ("ss", "")],
)  # fmt: skip
def test_ilike_folds_one_code_point_at_a_time(pattern: str, matched: str) -> None:
    letters = "ßẞ\u03c3ΣςkK\u212aéÉİiI\u0131"
    ds = tql.open({"s": list(letters)})
    found = ds.query("select s where s ilike ?", [pattern]).to_arrow()["s"].to_pylist()
    assert "".join(found) == matched


# -- random() ----------------------------------------------------------------------------------


def test_random_is_fixed_by_seed_call_and_position_alone() -> None:
    numbers = pa.table({"i": range(1000)})
    whole = tql.open(numbers)
    pieces = tql.open(
        pa.concat_tables([numbers.slice(0, 7), numbers.slice(7, 400), numbers.slice(407)])
    )
    text = "select random() as a, random() as b"
    first = whole.query(text, seed=3).to_arrow()
    assert first.equals(whole.query(text, seed=3).to_arrow())
    assert first.to_pydict() == pieces.query(text, seed=3).to_arrow().to_pydict()
    assert first["a"] != first["b"]
    assert first["a"] != whole.query(text, seed=4).to_arrow()["a"]
    values = np.array(first["a"].to_pylist())
    assert values.dtype == np.int64 and values.min() >= 0 and values.max() < 2**31
    assert abs(values.mean() / 2**31 - 0.5) < 0.05  # 5.5 sigma
    chosen = whole.query("select random() as a where i > 900", seed=3).to_arrow()["a"].to_pylist()
    assert chosen == values[901:].tolist()
    view = whole.query("select i, random() as a", seed=3)
    assert view[10:20].to_arrow()["a"].to_pylist() == values[10:20].tolist()
    reread = whole.query("select * where random() % 2 == 0", seed=5)
    assert (
        reread.row_ids.tolist()
        == pieces.query("select * where random() % 2 == 0", seed=5).row_ids.tolist()
    )


TIED: Final = {
    "int8": [-128, -1, 0, 1, 127],
    "uint64": [0, 1, 2**64 - 1],
    "bool": [False, True],
    "float64": [0.0, -0.0, 1.5, -1.5, NAN, math.inf, -math.inf],
    "float16": [0.0, 1.5, NAN, -2.0],
    "int32": list(range(-50, 50)),
    "float32": [n / 3 for n in range(100)],
}


def some_numbers(data: st.DataObject, rows: int, kinds: Sequence[str]) -> Numbers:
    kind = data.draw(st.sampled_from(kinds))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = np.array(TIED[kind], kind)[rng.integers(0, len(TIED[kind]), rows)]
    if data.draw(st.booleans()):
        values.sort()  # the best at the end, or at the start
    valid = rng.random(rows) < data.draw(st.sampled_from([0.01, 0.7]))
    return Numbers(values, valid if data.draw(st.booleans()) else None)


def small_blocks(data: st.DataObject, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ordering, "_BLOCK", data.draw(st.sampled_from([8, 16, 23, 64])))
    patch.setattr(ordering, "_SAMPLED", data.draw(st.sampled_from([4, 16, 128])))
    patch.setattr(ordering, "_LEFT", data.draw(st.sampled_from([0, 1 / 8, 1])))


@given(st.data())
def test_the_first_rows_are_those_of_the_whole_order(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 400))
    number = st.integers(1, 3)
    keys = [
        (some_numbers(data, rows, sorted(TIED)), data.draw(st.booleans()))
        for _ in range(data.draw(number))
    ]
    most = data.draw(st.integers(0, rows // 4))
    wanted = stable_order(keys, rows)[:most].tolist()
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(data, patch)
        assert stable_order(keys, rows, most).tolist() == wanted


@given(st.data())
def test_the_first_rows_of_all_fragments_are_those_of_the_whole_order(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 400))
    kinds = [k for k in sorted(TIED) if k not in ("bool", "float16")]
    numbers = {name: some_numbers(data, rows, kinds) for name in "abc"}
    table = pa.table(
        {
            name: pa.array(n.values, mask=None if n.valid is None else ~n.valid)
            for name, n in numbers.items()
        }
    )
    names = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3))
    keys = [(name, data.draw(st.booleans())) for name in names]
    wanted = stable_order([(numbers[n], down) for n, down in keys], rows).tolist()
    text = ", ".join(f"{n} {'desc' if down else 'asc'}" for n, down in keys)
    most, offset = data.draw(st.integers(0, rows // 8)), data.draw(st.integers(0, 3))
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(data, patch)
        patch.setattr(ordering, "_OWN", data.draw(st.sampled_from([1, 4, 16])))
        patch.setattr(memory, "FRAGMENT_ROWS", 64)
        ds = tql.open(table)
        cut = f"limit {most} offset {offset}"
        for threads in (1, 2):
            found = ask(
                ds.source, f"select * order by {text} {cut}", settings=Settings(threads=threads)
            )
            ids = found.answer().rows.to_numpy().tolist()
            assert ids == wanted[offset : offset + most]


def test_a_bound_of_the_first_fragment_leaves_rows_out_of_the_next() -> None:
    values = np.arange(10_000.0)
    places = leading([(Numbers(values), True)], len(values), 100, bound=9_990.0)
    assert places.tolist() == list(range(9_990, 10_000))
    assert last_of((Numbers(values[9_900:]), True)) == 9_900.0
    assert last_of((Numbers(np.array([1.0, NAN])), True)) is None


@pytest.mark.parametrize("order", ["rising", "falling", "equal"])
def test_no_order_of_the_data_makes_the_selection_look_at_all_rows_twice(
    order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows handed to `np.partition`, which is what takes the time."""
    rows = 1_000_000
    values = np.zeros(rows) if order == "equal" else np.arange(float(rows))
    if order == "falling":
        values = values[::-1].copy()
    looked = []
    partition = np.partition
    monkeypatch.setattr(np, "partition", lambda a, k: (looked.append(len(a)), partition(a, k))[1])
    for descending in (False, True):
        stable_order([(Numbers(values), descending)], rows, 100)
    assert sum(looked) < rows / 10
