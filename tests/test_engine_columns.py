"""Sorting, looking into lists, LIKE and weights: the engine against a few lines of Python."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests import reference
from tests.interpreter.scalars import like, rounded
from tests.strategies import TYPES, Pieces, random_table
from tql.engine import text_rules, weigh
from tql.engine.like_rows import like_rows
from tql.queries import ask, weigh_by
from tql.rowset import everything, from_words
from tql.weights import ClassWeights, RowWeights

# -- ORDER BY ----------------------------------------------------------------------------------

KEYS = [
    "flag_n",
    "i8",
    "i64_n",
    "u64",
    "u64_n",
    "f16_n",
    "f32",
    "f64_n",
    "label_n",
    "text",
    "cat_n",
]


def place(value: Any, descending: bool) -> tuple[int, Any]:
    """Numbers and texts first, then NaN, then NULL, whatever the direction."""
    if value is None:
        return 2, 0
    if isinstance(value, float) and math.isnan(value):
        return 1, 0
    return 0, _Turned(value) if descending else value


class _Turned:
    """A value that sorts the other way round."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: "_Turned") -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Turned) and self.value == other.value


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), min_size=1, max_size=3),
    st.sampled_from([0, 1, 2, 65, 200]),
    st.integers(0, 2**32),
)
def test_order_by_sorts_as_python_does(keys: list[tuple[str, bool]], rows: int, seed: int) -> None:
    """Python's sort is stable, and so is this one, also where it descends."""
    table = random_table(list(dict.fromkeys(k for k, _ in keys)), rows, seed, offset=3)
    here = tql.Dataset(Pieces(table, [64, 100]), "pieces")
    written = ", ".join(f"{name} desc" if down else name for name, down in keys)
    values = table.to_pylist()
    wanted = sorted(range(rows), key=lambda n: [place(values[n][k], d) for k, d in keys])
    assert here.query(f"select * order by {written}").row_ids.tolist() == wanted


def test_order_by_tells_64_bit_neighbours_apart() -> None:
    big = [2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, 2**53 + 1, 2**53]
    here = tql.open({"big": np.array(big), "high": np.array(big, np.int64).view(np.uint64)})
    assert here.query("select * order by big").row_ids.tolist() == [2, 3, 5, 4, 1, 0]
    assert here.query("select * order by big desc").row_ids.tolist() == [0, 1, 4, 5, 3, 2]
    assert here.query("select * order by high desc").row_ids.tolist() == [3, 2, 0, 1, 4, 5]


def test_order_by_condition_and_alias() -> None:
    here = tql.open({"a": [3, 1, 2, 1]})
    assert here.query("select * order by a > 1 desc, a").row_ids.tolist() == [2, 0, 1, 3]
    assert here.query("select *, -a as minus order by minus").row_ids.tolist() == [0, 2, 1, 3]
    assert here.query("select *, -a as b, a as c order by c % 2, b").row_ids.tolist() == [
        2,
        0,
        1,
        3,
    ]
    assert here.query("select * order by a is null").row_ids.tolist() == [0, 1, 2, 3]


# -- lists -------------------------------------------------------------------------------------

items: dict[str, tuple[Any, Any]] = {
    "int": (pa.int32(), st.integers(-3, 3)),
    "wide": (pa.uint64(), st.sampled_from([0, 1, 2**63, 2**64 - 1])),
    "float": (pa.float32(), st.sampled_from([0.1, -0.0, 0.0, 1.5, float("nan"), float("inf")])),
    "bool": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.sampled_from(["", "a", "b", "it's"])),
}
SOUGHT = {
    "int": ["0", "2", "-1", "1.5", "2.0", "99"],
    "wide": ["0", "9223372036854775808", "18446744073709551615", "1.0"],
    "float": ["0.1", "0", "1.5", "2"],
    "bool": ["true", "false", "1"],
    "text": ["'a'", "''", "'it''s'", "'c'"],
}


@settings(max_examples=300)
@given(st.data())
def test_contains_finds_an_element_of_a_list(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(items)))
    arrow, values = items[name]
    size = data.draw(st.none() | st.integers(0, 3))
    inner = st.lists(st.none() | values, min_size=size or 0, max_size=4 if size is None else size)
    lists = data.draw(st.lists(st.none() | inner, max_size=12))
    cut = data.draw(st.integers(0, len(lists)))
    kind = pa.list_(arrow) if size is None else pa.list_(arrow, size)
    column = pa.array(lists, kind).slice(cut)
    sought = data.draw(st.sampled_from(SOUGHT[name]))
    here = tql.open(pa.table({"x": column}))
    number: Any = sought.strip("'") if name == "text" else float(sought) if "." in sought else None
    number = (
        (sought == "true" if sought in ("true", "false") else int(sought))
        if number is None
        else number
    )
    number = "it's" if sought == "'it''s'" else number
    if name == "float":
        number = rounded(32, float(number))
    found = here.query(f"select contains(x, {sought}) as y").to_arrow().column("y").to_pylist()
    assert found == [
        None if row is None else any(v is not None and v == number for v in row)
        for row in column.to_pylist()
    ]
    kept = here.query(f"select * where contains(x, {sought})").row_ids.tolist()
    assert kept == [n for n, y in enumerate(found) if y]
    assert here.query(f"select * where not contains(x, {sought})").row_ids.tolist() == [
        n for n, y in enumerate(found) if y is False
    ]


def test_contains_takes_the_needle_of_each_row_and_class_names() -> None:
    here = tql.open(
        pa.table(
            {"x": [[1, 2], [3], None, []], "n": [2, 1, 1, 1], "kinds": [[0, 1], [1], [], None]}
        ),
        class_names={"kinds": ["cat", "dog"]},
    )
    assert here.query("select * where contains(x, n)").row_ids.tolist() == [0]
    assert here.query("select * where contains(kinds, 'cat')").row_ids.tolist() == [0]
    with pytest.raises(tql.TqlPlanError, match="did you mean 'cat'"):
        here.query("select * where contains(kinds, 'cats')")


# -- text --------------------------------------------------------------------------------------

letters = st.sampled_from(list("ab%*?_.[]()+^$|\\{}- \n\t'éÉ日😀"))


@settings(max_examples=400)
@given(
    st.lists(st.text(letters, max_size=5), min_size=1, max_size=6),
    st.text(letters, max_size=5),
    st.booleans(),
)
def test_like_matches_as_a_matcher_of_ten_lines_does(
    words: list[str], pattern: str, fold: bool
) -> None:
    """As a constant, as a parameter, and as a pattern of each row; plain text and dictionary."""
    word = "ilike" if fold else "like"
    wanted = [n for n, w in enumerate(words) if like(w, pattern, fold)]
    here = tql.open(pa.table({"w": words, "p": [pattern] * len(words)}))
    quoted = "'" + pattern.replace("'", "''") + "'"
    assert here.query(f"select * where w {word} {quoted}").row_ids.tolist() == wanted
    assert here.query(f"select * where w {word} ?", [pattern]).row_ids.tolist() == wanted
    assert here.query(f"select * where w {word} p").row_ids.tolist() == wanted


def test_like_on_long_and_hostile_patterns_stays_linear() -> None:
    here = tql.open({"w": ["a" * 5000, "b"]})
    assert len(here.query(f"select * where w like '{'*a' * 50}b'")) == 0
    assert here.query(f"select * where w like '{'?' * 900}*'").row_ids.tolist() == [0]
    assert here.query("select * where w like '(a+)+$' or w ilike 'B'").row_ids.tolist() == [1]


@pytest.mark.parametrize("word", ["like", "ilike"])
@pytest.mark.parametrize("stored", ["plain", "dictionary"])
def test_a_pattern_of_each_row_means_the_same_however_many_rows_have_it(
    word: str, stored: str
) -> None:
    """One by one, together by a regular expression, in pairs of a dictionary: NULL, ?, beyond ASCII."""
    patterns = ["*", "", "a*b", "a*a", "*ab*b*", r"a\*b", "a?b", "É*", "*\\", "K", "%_", None]
    words = ["", "ab", "aab", "a", "a*b", "AXB", "été", "\\", "\u212a", "k", "x_", "abb", None]
    texts = [w for w in words for _ in patterns] + ["xab", "XABB"] * 40
    each = patterns * len(words) + ["*ab*b*"] * 80
    kind = pa.dictionary(pa.int32(), pa.string()) if stored == "dictionary" else pa.string()
    found = texts_of(word, pa.array(texts, pa.string()).cast(kind), pa.array(each).cast(kind))
    assert found == [
        None if w is None or p is None else like(w, p, word == "ilike")
        for w, p in zip(texts, each, strict=True)
    ]


def texts_of(word: str, text: Any, patterns: Any) -> list[bool | None]:
    found = like_rows(text, patterns, word == "ilike")
    return pa.array(found.values, mask=None if found.valid is None else ~found.valid).to_pylist()


def test_a_pattern_of_one_row_costs_no_regular_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    regex = text_rules.like_to_regex
    monkeypatch.setattr(
        text_rules, "like_to_regex", lambda pattern: made.append(pattern) or regex(pattern)
    )
    n = 3000
    each = [f"*{k}" for k in range(n)] + ["t?xt*"] * 100
    here = tql.open(pa.table({"w": [f"text {k % 7}" for k in range(n + 100)], "p": each}))
    assert len(here.query("select * where w like p")) == 7 + 100
    assert made == ["t?xt*"]


# -- weights -----------------------------------------------------------------------------------

CONDITIONS = [
    "i8 > 0",
    "i16 == 3",
    "i32_n > 2",
    "true",
    "i8 % 2 == 0",
    "text_n like 'a*'",
    "i32_n is null",
]
arms = st.lists(
    st.tuples(st.sampled_from(CONDITIONS), st.sampled_from(["0", "1", "2.5", "10", "i8 * i8"])),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=150)
@given(st.sampled_from(["max", "sum"]), arms, st.sampled_from([0, 1, 65, 150]), st.booleans())
def test_weights_are_the_largest_or_the_sum_of_what_applies(
    kind: str, arms: list[tuple[str, str]], rows: int, nested: bool
) -> None:
    source = Pieces(random_table(["i8", "i16", "i32_n", "text_n"], rows, rows, tame=True), [70])
    here = tql.Dataset(source, "pieces")
    view = here.query("select * order by i8 desc") if nested else here
    text = f"{kind}_weight({', '.join(f'{c}: {w}' for c, w in arms)})"
    population = view.plan_rows()
    found = np.full(rows, -1.0)
    weights = weigh_by(view.source, text)
    match weights:
        case ClassWeights(values, members):
            for value, member in zip(values, members):
                ids = member.to_numpy()
                assert (found[ids] == -1).all(), "a row is in two classes"
                found[ids] = value
            assert "i8 * i8" not in text
        case RowWeights(values):
            found[population.to_numpy()] = values
    trees = [(_tree(c), _tree(w)) for c, w in arms]
    for n, row in enumerate(source.table.to_pylist()):
        applying = [
            float(reference.value(w, row, TYPES))
            for c, w in trees
            if reference.is_true(c, row, TYPES)
        ]
        wanted = (max(applying) if kind == "max" else math.fsum(applying)) if applying else 0.0
        assert found[n] == wanted


def _tree(text: str) -> Any:
    query: Any = tql.parse(f"select * where {text}")
    return query.body.where


def test_a_hundred_arms_make_as_many_classes_as_there_are_weights() -> None:
    here = tql.open({"x": np.arange(1000) % 100})
    text = f"max_weight({', '.join(f'x == {n}: {n % 7}' for n in range(100))})"
    weights = weigh_by(here.source, text)
    assert isinstance(weights, ClassWeights)
    sizes = Counter({v: len(m) for v, m in zip(weights.values.tolist(), weights.members)})
    assert sizes == Counter(float(n % 100 % 7) for n in range(1000))


def classes_of(weights: Any) -> dict[float, list[int]]:
    assert isinstance(weights, ClassWeights)
    pairs = zip(weights.values.tolist(), weights.members, strict=True)
    return {v: m.to_numpy().tolist() for v, m in pairs}


@pytest.mark.parametrize("population", ["", "where x > 700", "where x % 3 == 0", "where x < 0"])
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_many_sums_are_the_same_classes_as_few(
    population: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the classes are made as bitmaps or as codes shows in nothing but the memory."""
    here = tql.open({"x": np.arange(1000, dtype=np.int32)})
    text = f"sum_weight({', '.join(f'(x * {n}) % 11 < 4: {0.1 * n}' for n in range(1, 9))})"
    rows = here.query(f"select * {population}").row_ids
    wanted: dict[float, list[int]] = {}
    for row in rows.tolist():
        total = 0.0
        for n in range(1, 9):
            total += 0.1 * n if (row * n) % 11 < 4 else 0.0
        wanted.setdefault(total, []).append(row)
    monkeypatch.setattr(weigh, "_BLOCK", block)
    for most in (0, 3, 10**6):
        monkeypatch.setattr(weigh, "_MOST_BITMAPS", most)
        asked = ask(here.source, f"select * {population} sample by {text}").population()
        assert asked is not None
        found = asked.weights
        assert classes_of(found) == wanted
        assert isinstance(found, ClassWeights)
        assert found.values.tolist() == sorted(wanted)


def test_a_sum_of_many_weights_never_holds_a_bitmap_for_each_of_its_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = 0
    plain = from_words

    def counted(words: Any, universe: int) -> Any:
        nonlocal made
        made += 1
        return plain(words, universe)

    monkeypatch.setattr("tql.engine.weigh.from_words", counted)
    here = tql.open({"x": np.arange(1 << 12)})
    text = f"sum_weight({', '.join(f'x / {2**n} % 2 >= 1: {2**n}' for n in range(12))})"
    found = weigh_by(here.source, text)
    assert isinstance(found, ClassWeights)
    assert found.values.tolist() == list(range(1 << 12))
    assert [m.to_numpy().tolist() for m in found.members] == [[n] for n in range(1 << 12)]
    assert made == 0


def test_codes_grow_beyond_16_bits() -> None:
    total = np.random.default_rng(1).permutation(np.arange(70_000)).astype(np.float64)
    blocks = [total[:40_000], total[40_000:]]
    found = weigh._by_codes(iter(blocks), everything(70_000))
    assert found.values.tolist() == list(range(70_000))
    heaviest = [int(found.members[n].select(0)) for n in (0, 65_536, 69_999)]
    assert total[heaviest].tolist() == [0, 65_536, 69_999]


def test_a_pattern_for_each_row_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going through all rows for every pattern would look at 500 times 500 codes."""
    looked = 0
    plain = np.flatnonzero

    def counted(mask: Any) -> Any:
        nonlocal looked
        looked += len(mask)
        return plain(mask)

    words = [f"{n % 7}{'ab'[n % 2]}" for n in range(500)]
    patterns: list[str | None] = [f"{n % 7}*{n}" if n % 5 else "*a" for n in range(500)]
    patterns[3] = patterns[11] = None
    here = tql.open(pa.table({"w": words, "p": patterns}))
    monkeypatch.setattr(np, "flatnonzero", counted)
    found = here.query("select w like p as y").to_arrow().column("y").to_pylist()
    assert looked <= 2 * 500
    assert found == [None if p is None else like(w, p, False) for w, p in zip(words, patterns)]
