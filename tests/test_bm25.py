"""bm25_similarity(): against the formula in plain Python, over all of FROM, anywhere."""

import math
import re
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tql
from tql.engine import bm25
from tql.engine.columns import Arrow
from tql.schema import Label

WORDS: Final = ("red", "car", "Car", "é", "É", "日本", "a1", "x")
TEXTS: Final = st.one_of(
    st.none(),
    st.lists(st.sampled_from(WORDS), max_size=6).flatmap(
        lambda words: st.sampled_from([" ", ", ", "-", "_", "  \n"]).map(
            lambda gap: gap.join(words)
        )
    ),
)


def words_of(text: str) -> list[str]:
    return [w.lower() for w in re.findall(r"[^\W_]+", text)]


def expected(texts: list[str | None], query: str) -> list[float | None]:
    known = [words_of(t) for t in texts if t is not None]
    mean = sum(map(len, known)) / len(known) if known else 0.0

    def score(words: list[str]) -> float:
        total = 0.0
        for word in words_of(query):
            n = sum(word in other for other in known)
            idf = math.log(1 + (len(known) - n + 0.5) / (n + 0.5))
            often = words.count(word)
            if often:
                total += idf * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(words) / mean))
        return total

    return [None if t is None else score(words_of(t)) for t in texts]


def close(a: list[float | None], b: list[float | None]) -> bool:
    return len(a) == len(b) and all(
        x is y if x is None or y is None else math.isclose(x, y, rel_tol=1e-12, abs_tol=1e-15)
        for x, y in zip(a, b)
    )


@given(
    st.lists(TEXTS, min_size=1, max_size=9), TEXTS.map(lambda t: t or ""), st.booleans(),
    st.integers(0, 9),
)  # fmt: skip
def test_scores_are_those_of_the_formula(
    texts: list[str | None], query: str, encoded: bool, cut: int
) -> None:
    column = pa.array(texts, pa.string())
    if encoded:
        column = column.dictionary_encode()
    chunks = pa.chunked_array([column.slice(0, cut), column.slice(cut)])
    ds = tql.open(pa.table({"t": chunks}), class_names=None)
    if isinstance(ds.schema["t"].dtype, Label):
        return
    found = ds.query("select bm25_similarity(t, ?) as x", [query]).to_arrow()["x"].to_pylist()
    assert close(found, expected(texts, query))


TEXT: Final = ["red car", "a red red Car", "blue", None, "car car car red", ""]


@pytest.fixture(scope="module")
def ds() -> tql.Dataset:
    return tql.open({"t": TEXT, "id": list(range(6))})


def scored(view: Any, column: str = "x") -> list[float | None]:
    found: list[float | None] = view.to_arrow()[column].to_pylist()
    return found


def test_statistics_are_of_all_of_from_not_of_the_rows_that_are_left(ds: tql.Dataset) -> None:
    wanted = expected(TEXT, "red car")
    assert close(
        scored(ds.query("select bm25_similarity(t, 'red car') as x where id in (1, 2)")),
        wanted[1:3],
    )
    inner = "select bm25_similarity(t, 'red car') as x from (select t where id in (1, 2))"
    assert close(scored(ds.query(inner)), expected(TEXT[1:3], "red car"))
    view = ds.query("select t, bm25_similarity(t, 'red car') as x where id in (1, 2)")
    assert close(scored(view), wanted[1:3])
    both = view.query("select x, bm25_similarity(t, 'red car') as y")
    assert close(scored(both), wanted[1:3])
    assert close(scored(both, "y"), expected(TEXT[1:3], "red car"))
    assert close(scored(view[1:]), wanted[2:3])


def test_it_works_in_every_clause(ds: tql.Dataset) -> None:
    wanted = expected(TEXT, "car")
    assert ds.query("select * where bm25_similarity(t, 'car') > 0").row_ids.tolist() == [0, 1, 4]
    order = sorted(
        (i for i in range(6) if wanted[i] is not None), key=lambda i: -(wanted[i] or 0.0)
    )
    assert ds.query("select * order by bm25_similarity(t, 'car') desc").row_ids.tolist() == [
        *order,
        3,
    ]
    drawn = "select * where t is not null sample by bm25_similarity(t, 'blue') limit 9"
    assert set(ds.query(drawn).row_ids) == {2}
    assert set(
        ds.query("select * where t is not null").sample_by("bm25_similarity(t, 'blue')").row_ids
    ) == {2}
    prepared = ds.prepare("select id order by bm25_similarity(t, ?) desc limit 1")
    assert [prepared.run([w]).row_ids.tolist() for w in ("blue", "car car red")] == [[2], [4]]
    assert "Filter" in str(ds.explain("select * where bm25_similarity(t, 'car') > 0", analyze=True))
    assert ds.query("select bm25_similarity(t, '?!') as x").to_arrow()["x"].to_pylist() == [
        0.0, 0.0, 0.0, None, 0.0, 0.0
    ]  # fmt: skip


def test_fragments_and_threads_do_not_show(tmp_path: Any) -> None:
    texts = [f"word{n % 7} word{n % 5} {'red ' * (n % 3)}" for n in range(200)]
    pq.write_table(pa.table({"t": texts}), tmp_path / "t.parquet", row_group_size=7)
    query = "select bm25_similarity(t, 'red word3 word3') as x"
    pieces, whole = tql.open(tmp_path / "t.parquet"), tql.open({"t": texts})
    assert scored(pieces.query(query)) == scored(whole.query(query))
    assert close(scored(whole.query(query)), expected(list(texts), "red word3 word3"))


def test_json_text_is_text(ds: tql.Dataset) -> None:
    texts = [{"k": "red car"}, {"k": 5}, {"k": "car"}]
    nested = tql.open(pa.table({"m": [{"k": str(t["k"])} for t in texts]}))
    assert close(scored(nested.query("select bm25_similarity(m['k'], 'red') as x")),
                 expected(["red car", "5", "car"], "red"))  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("bm25_similarity(id, 'a')", "bm25_similarity() needs text, not int64"),
        ("bm25_similarity(t, 5)", "the query of bm25_similarity() is a text"),
        ("bm25_similarity(t, t)", "the query of bm25_similarity() is a text"),
    ],
)
def test_mistakes(ds: tql.Dataset, call: str, message: str) -> None:
    with pytest.raises(tql.TqlTypeError) as e:
        ds.query(f"select {call} as x")
    assert message in e.value.diagnostic.message
    assert e.value.diagnostic.help


def whole(texts: Any, words: tuple[str, ...]) -> tuple[Any, Any]:
    """Words in each text, and how often each of `words` is there: all rows at once, text by text."""
    split = [[] if t is None else bm25.words_of(t) for t in texts.to_pylist()]
    found = [[own.count(w) for w in words] for own in split]
    return (
        np.array([len(own) for own in split], np.int64),
        np.array(found, np.int64).reshape(len(split), len(words)),
    )


@given(
    st.lists(TEXTS, max_size=30), st.lists(st.sampled_from([*WORDS, "no", "b2", "zzz"]), max_size=11),
    st.booleans(), st.integers(1, 40),
)  # fmt: skip
def test_blocks_of_long_queries_change_no_bit(
    texts: list[str | None], sought: list[str], encoded: bool, most: int
) -> None:
    plain = pa.array([None, *texts], pa.string())
    column = (plain.dictionary_encode() if encoded else plain).slice(1)
    query = " ".join(sought)
    words = bm25.distinct(query)
    length, found = whole(plain.slice(1), words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bm25, "_MOST_COUNTS", most)
        statistics = bm25.statistics(column, words)
        assert statistics == (
            len(texts) - texts.count(None),
            length.sum(),
            tuple(np.count_nonzero(found, axis=0)),
        )
        known = bm25.weighed(query, [statistics])
        given_scores = bm25.scores(Arrow(column), known)
    total = np.zeros(len(texts))
    norm = 1.2 * (1 - 0.75 + 0.75 * (length / known.mean_length))
    for at, weight in enumerate(known.weights):
        total += weight * (found[:, at] * (1.2 + 1)) / (found[:, at] + norm)
    assert given_scores.values.tobytes() == total.tobytes()


def test_long_queries_hold_few_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    counted = bm25._counted

    def watched(texts: Any, words: tuple[str, ...]) -> tuple[Any, Any]:
        nonlocal most
        most = max(most, len(texts) * len(words))
        return counted(texts, words)

    monkeypatch.setattr(bm25, "_counted", watched)
    texts = pa.array([f"w{n % 50} w{n % 7}" for n in range(30_000)])
    words = tuple(f"w{n}" for n in range(200))
    assert bm25.statistics(texts, words).having[50:] == (0,) * 150
    assert 0 < most <= 1 << 21
