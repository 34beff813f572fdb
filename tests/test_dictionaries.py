"""Text by code gives what plain text gives; dictionaries are made when they pay and do not stay."""

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plain_kernels import run_as_python
from tests.strategies import Pieces, quoted
from tests.tiers import bound, outcome, rows_true
from tql.diagnostics import Diagnostic
from tql.engine import comparing, dictionaries
from tql.engine.comparing import plain_text
from tql.engine.costs import TEXT_ENCODE, TEXT_LIKE
from tql.engine.dictionaries import CACHE, Uses, encoded, read, uses
from tql.engine.scan import Tier
from tql.schema import Int, Text
from tql.sources.memory import MemorySource

WORDS = ["", "a", "b", "ab", "a\0", "é", "e\u0301", "🌍", "Ω", "x" * 40, "A", "a%"]
TYPES = {name: Text() for name in ("s", "s_n", "t_n")}
OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a cache of its own, with room for everything."""
    fresh = dictionaries._Cache(1 << 40)
    monkeypatch.setattr(dictionaries, "CACHE", fresh)
    yield


def cache() -> Any:
    return dictionaries.CACHE


class InPlace(Pieces):
    """Pieces of a table that lies in memory."""

    def __init__(self, table: pa.Table, cuts: Sequence[int] = ()) -> None:
        super().__init__(table, cuts, {**TYPES, "i64": Int(64)})
        self.fragments = tuple(replace(f, in_place=True) for f in self.fragments)


def as_stored(texts: Sequence[str | None], layout: str, cut: int) -> pa.ChunkedArray:
    """The texts as an Arrow column that is cut in two, each part a slice with an offset."""
    parts = []
    for part in (texts[:cut], texts[cut:]):
        padded = ["pad", None, "pad 2", *part]
        if layout == "dictionary":  # with a text twice, and one that nobody uses
            known = ["unused", *WORDS, "a", "pad", "pad 2"]
            last = len(WORDS) + 1
            codes = [
                None if t is None else last if t == "a" and i % 2 else known.index(t, 1)
                for i, t in enumerate(padded)
            ]
            array = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), known)
        else:
            array = pa.array(padded, {"plain": pa.string(), "large": pa.large_string()}[layout])
        parts.append(array.slice(3))
    return pa.chunked_array(parts)


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[str | None], list[str | None], InPlace]:
    n = draw(st.sampled_from([0, 1, 5, 64, 70, 200]))
    nulls = draw(st.sampled_from([0.0, 0.2, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    made: list[list[str | None]] = []
    arrays = []
    for _ in range(2):
        texts: list[str | None] = [
            None if rng.random() < nulls else WORDS[i] for i in rng.integers(0, len(WORDS), n)
        ]
        made.append(texts)
        layout = draw(st.sampled_from(["plain", "large", "dictionary"]))
        arrays.append(as_stored(texts, layout, draw(st.integers(0, n))))
    source = InPlace(pa.table(arrays, names=["s_n", "t_n"]), [draw(st.integers(0, n))])
    return made[0], made[1], source


def force(patch: pytest.MonkeyPatch) -> None:
    """From now on a dictionary is made at its first use, and used however many texts it has."""
    patch.setattr(comparing, "_RANKING", 0)
    patch.setattr(dictionaries, "TEXT_ENCODE", 0.0)
    patch.setattr(dictionaries, "TEXT_NARROW", 0.0)


@pytest.mark.parametrize("forced", [False, True])
@given(made=columns(), word=st.sampled_from([*WORDS, "absent"]), op=st.sampled_from([*OPERATORS]))
def test_both_tiers_give_what_python_gives(
    forced: bool, made: tuple[list[str | None], list[str | None], InPlace], word: str, op: str
) -> None:
    left, right, source = made
    compare = OPERATORS[op]
    some = sorted({word, "a", "é"})
    listed = ", ".join(map(quoted, some))
    wanted = {
        f"s_n {op} '{word}'": [t is not None and compare(t, word) for t in left],
        f"not s_n {op} '{word}'": [t is not None and not compare(t, word) for t in left],
        f"s_n in ({listed})": [t in some for t in left],
        f"contains(s_n, '{word}')": [t is not None and word in t for t in left],
        "s_n like '?*'": [t is not None and len(t) > 0 for t in left],
        "s_n is null": [t is None for t in left],
        f"s_n {op} t_n": [
            a is not None and b is not None and compare(a, b)
            for a, b in zip(left, right, strict=True)
        ],
        f"(s_n {op} t_n or t_n == '{word}')": [
            (a is not None and b is not None and compare(a, b)) or b == word
            for a, b in zip(left, right, strict=True)
        ],
    }
    rows = [[i for i, hit in enumerate(hits) if hit] for hits in wanted.values()]
    with pytest.MonkeyPatch.context() as patch:
        if forced:
            force(patch)
        for _ in range(2):  # the second time from the cache
            assert rows_true(list(wanted), source, "reference") == rows
        run_as_python(patch)
        assert rows_true(list(wanted), source, "kernel") == rows


@pytest.mark.parametrize("distinct", [1, 254, 255, 256, 257, 65_535, 65_536])
def test_codes_are_as_narrow_as_leaves_one_number_free(distinct: int) -> None:
    words = pa.array([f"w{i}" for i in range(distinct)])
    column = pa.concat_arrays([words, words])
    for stored in (column, column.dictionary_encode()):
        made = dictionaries._narrow(dictionaries._tidy(stored.dictionary_encode()))
        width = 8 if distinct < 256 else 16 if distinct < 65_536 else 32
        assert made.type.index_type.bit_width == width
        assert made.cast(pa.string()).equals(column)


@pytest.mark.parametrize("distinct", [255, 256, 65_535, 65_536])
def test_compiled_kernels_take_codes_of_every_width(
    distinct: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TQL_CACHE_DIR", str(tmp_path))
    force(monkeypatch)
    words = np.array([f"w{i}" for i in range(distinct)])
    texts = np.concatenate([words, words, words[::-1]])
    source = InPlace(pa.table({"s": texts}))
    sought = f"w{distinct - 1}"
    conditions = [f"s == '{sought}'", "s == 'absent'", "s != 'absent'", "s like '*7'"]
    hits = [texts == sought, texts == "absent", texts != "absent", np.char.endswith(texts, "7")]
    assert rows_true(conditions, source, "kernel") == [np.flatnonzero(h).tolist() for h in hits]
    (part,) = cache().parts[source].values()
    assert len(part.made.dictionary) == distinct


def test_nulls_and_repeats_leave_the_dictionary() -> None:
    array = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2, 3, None, 2], pa.int8()), pa.array(["a", None, "b", "a"])
    )
    made = encoded(array)
    assert made.dictionary.to_pylist() == ["a", "b"]
    assert made.to_pylist() == ["a", None, "b", "a", None, "b"]
    assert made.null_count == 2


def test_codes_behind_nulls_may_be_anything() -> None:
    codes = pa.array(np.array([2**31 - 1, 0, -5, 1], np.int32), mask=np.array([1, 0, 1, 0], bool))
    array = pa.DictionaryArray.from_arrays(codes, pa.array(["a", "b"]), safe=False)
    assert encoded(array).to_pylist() == [None, "a", None, "b"]
    source = Pieces(pa.table({"s_n": array}), types=TYPES)
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        for tier in ("reference", "kernel"):
            assert rows_true(["s_n >= 'a'", "s_n == 'b'"], source, tier) == [[1, 3], [3]]


def test_string_views() -> None:
    column = pa.array(["a", "b", None, "a" * 20] * 3).cast(pa.string_view())
    assert encoded(column).to_pylist() == column.to_pylist()
    source = MemorySource(pa.table({"s": column}))
    with pytest.MonkeyPatch.context() as patch:
        force(patch)
        run_as_python(patch)
        for tier in ("reference", "kernel"):
            assert rows_true(["s like 'a*'"], source, tier) == [[0, 3, 4, 7, 8, 11]]  # type: ignore[arg-type]


def test_texts_that_hardly_repeat_stay_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    texts = pa.array([f"w{i}" for i in range(20_000)])
    calls = []
    real: Any = vars(pc)["dictionary_encode"]
    monkeypatch.setattr(
        dictionaries.pc, "dictionary_encode", lambda *a: calls.append(1) or real(*a)
    )
    source = InPlace(pa.table({"s": texts}))
    for _ in range(3):
        assert rows_true(["s == 'w7'"], source, "auto") == [[7]]
    assert not calls  # a sample was enough
    assert cache().known(source, 0, "s") is None
    few = pa.array([f"w{i // 2}" for i in range(4_000)])
    assert encoded(few) is not None


def test_a_dictionary_is_made_when_plain_passes_have_cost_as_much() -> None:
    texts = pa.array(["a", "b"] * 1000)
    source = InPlace(pa.table({"s": texts}))
    uses_of = uses([bound("s == 'a'", source)])
    (ns,) = uses_of.plain_ns.values()
    needed = int(np.ceil(TEXT_ENCODE / ns))
    for use in range(1, needed + 2):
        table = read(source, source.fragments[0], ["s"], uses_of, 2000)
        assert pa.types.is_dictionary(table.column("s").type) == (use >= needed), use
    assert TEXT_LIKE > TEXT_ENCODE
    other = InPlace(pa.table({"s": texts}))
    assert rows_true(["s like 'a'"], other, "auto") == [list(range(0, 2000, 2))]
    assert cache().known(other, 0, "s") is not None  # one pass was dearer than that


def test_what_asks_for_more_than_the_texts_gets_the_column_as_it_is() -> None:
    source = InPlace(pa.table({"s": ["a"], "t_n": ["b"]}))
    assert uses([bound("s == 'a' and contains(s, t_n)", source)]) == Uses({}, frozenset())
    found = uses([bound("s == 'a' and s < t_n and t_n is null", source)])
    assert sorted(found.plain_ns) == ["s", "t_n"]
    assert found.pairs == {frozenset(("s", "t_n"))}


def test_what_is_read_from_files_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    source = Pieces(pa.table({"s": ["a"] * 100}), types=TYPES)
    assert rows_true(["s == 'a'"], source, "auto") == [list(range(100))]
    assert not cache().parts


def test_dictionaries_die_with_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    source = MemorySource(pa.table({"s": ["a", "b"] * 100}))
    rows_true(["s == 'a'"], source, "auto")  # type: ignore[arg-type]
    assert cache().bytes > 0
    del source
    gc.collect()
    assert cache().bytes == 0
    assert not cache().parts


def test_the_least_recently_used_leave_when_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force(monkeypatch)
    table = pa.table({name: ["a", "b"] * 5000 for name in TYPES})
    size = encoded(table.column("s")).nbytes
    cache().most = 2 * size
    source = InPlace(table)
    for name in ("s", "s_n", "s", "t_n"):
        rows_true([f"{name} == 'a'"], source, "auto")
    held = {name for name in TYPES if cache().known(source, 0, name) is not None}
    assert held == {"s", "t_n"}
    assert cache().bytes <= cache().most
    cache().most = size - 1
    other = InPlace(table)
    made = []
    real = dictionaries.encoded
    monkeypatch.setattr(dictionaries, "encoded", lambda c: made.append(1) or real(c))
    for _ in range(3):
        assert rows_true(["s == 'b'"], other, "auto") == [list(range(1, 10_000, 2))]
    assert cache().bytes == 0
    assert len(made) == 1  # one that is larger than all the room is not made again
    cache().most = size
    assert rows_true(["s == 'b'"], other, "auto") == [list(range(1, 10_000, 2))]
    assert cache().known(other, 0, "s") is not None  # until there is room


def test_a_column_that_is_larger_than_all_room_takes_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force(monkeypatch)
    table = pa.table({name: ["a", "b"] * 500 for name in TYPES})
    small = InPlace(table)
    rows_true(["s == 'a'"], small, "auto")
    mine = cache().bytes
    cache().most = 4 * mine
    made = []
    real = dictionaries.encoded
    monkeypatch.setattr(dictionaries, "encoded", lambda c: made.append(1) or real(c))
    large = InPlace(pa.concat_tables([table] * 8), range(1000, 8000, 1000))
    for _ in range(2):
        assert rows_true(["t_n == 'b'"], large, "auto") == [list(range(1, 8000, 2))]
    assert cache().known(small, 0, "s") is not None
    kept = [k for k in range(8) if cache().known(large, k, "t_n") is not None]
    assert kept == [0, 1, 2]
    assert cache().bytes <= cache().most
    assert len(made) == 3  # what cannot fit is not made
    del small
    gc.collect()
    assert rows_true(["t_n == 'b'"], large, "auto") == [list(range(1, 8000, 2))]
    assert [k for k in range(8) if cache().known(large, k, "t_n") is not None] == [0, 1, 2, 3]
    assert cache().bytes == sum(p.bytes for p in cache().parts[large].values() if p.made)


def test_room_is_found_without_adding_up_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    walks = []

    class Parts(dict[tuple[int, str], Any]):
        def values(self) -> Any:
            walks.append(1)
            return super().values()

    source = InPlace(pa.table({"s": ["a", "b"] * 500}), range(100, 1000, 100))
    cache().parts[source] = parts = Parts()
    for _ in range(2):
        rows_true(["s == 'a'"], source, "auto")
    assert len(parts) == 10 and not walks
    assert cache().bytes == sum(p.made.nbytes for p in parts.values())


def test_one_thread_makes_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    source = InPlace(pa.table({"s": ["a", "b"] * 100}))
    started, go, made = threading.Event(), threading.Event(), []
    real = dictionaries.encoded

    def slowly(column: Any) -> Any:
        made.append(os.getpid())
        started.set()
        assert go.wait(60)
        return real(column)

    monkeypatch.setattr(dictionaries, "encoded", slowly)
    builder = threading.Thread(target=rows_true, args=(["s == 'a'"], source, "auto"))
    builder.start()
    assert started.wait(60)
    assert rows_true(["s == 'a'"], source, "auto") == [list(range(0, 200, 2))]  # and waits for none
    go.set()
    builder.join()
    assert len(made) == 1
    assert cache().known(source, 0, "s") is not None


def test_a_builder_that_fails_leaves_the_column_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    source = InPlace(pa.table({"s": ["a", "b"]}))

    def fails(_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(dictionaries, "encoded", fails)
        assert rows_true(["s == 'a'"], source, "auto") == [[0]]
    assert rows_true(["s == 'a'"], source, "auto") == [[0]]
    assert cache().known(source, 0, "s") is None


def test_plain_and_coded_pairs_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    n = 20_000
    source = InPlace(pa.table({"s": ["w7", "b"] * (n // 2), "t_n": [f"w{i}" for i in range(n)]}))
    text = uses([bound("s == t_n", source)])
    table = read(source, source.fragments[0], ["s", "t_n"], text, n)
    assert [pa.types.is_dictionary(c.type) for c in table.columns] == [False, False]
    assert rows_true(["s == t_n"], source, "auto") == [[]]
    assert plain_text(table.column("s").chunk(0)).equals(source.table.column("s").chunk(0))


def test_no_chain_of_pairs_is_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    n = 20_000
    few, many = ["w7", "b"] * (n // 2), [f"w{i}" for i in range(n)]
    source = InPlace(pa.table({"s": few, "s_n": few, "t_n": many}))
    text = uses([bound("s == s_n", source), bound("s_n == t_n", source)])
    table = read(source, source.fragments[0], ["s", "s_n", "t_n"], text, n)
    assert [pa.types.is_dictionary(c.type) for c in table.columns] == [False] * 3
    text = uses([bound("s == s_n or t_n == 'b'", source)])
    table = read(source, source.fragments[0], ["s", "s_n", "t_n"], text, n)
    assert [pa.types.is_dictionary(c.type) for c in table.columns] == [True, True, False]


def test_the_forced_tier_takes_text_by_code_from_the_first_query_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = InPlace(pa.table({"s": ["a", "b"] * 100, "t_n": ["b", None] * 100}))
    calls = run_as_python(monkeypatch)
    assert rows_true(["s < t_n"], source, "kernel") == [list(range(0, 200, 2))]
    assert calls["predicate"] == 1
    other = InPlace(source.table)
    assert rows_true(["s < t_n"], other, "auto") == [list(range(0, 200, 2))]
    assert cache().known(other, 0, "s") is None


def test_each_source_has_dictionaries_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources come and go, and a new one may lie where a dead one lay."""
    force(monkeypatch)
    seen = set()
    for n in range(50):
        source = InPlace(pa.table({"s": ["a" if i % 50 == n else "b" for i in range(100)]}))
        seen.add(id(source))
        for _ in range(2):
            assert rows_true(["s == 'a'"], source, "auto") == [[n, n + 50]]
        assert len(cache().parts) <= 2
        del source
        gc.collect()
    assert len(seen) < 50  # some lay at one place


def test_what_is_opened_after_a_change_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    codes, letters = np.zeros(4, np.int32), np.array(["a", "b", "a", "b"], object)
    strings = pa.array(letters)
    for change in range(2):
        words = pa.DictionaryArray.from_arrays(pa.array(codes), ["a", "b"])
        source = MemorySource(pa.table({"s": words, "t": pa.array(letters), "u": strings}))
        wanted = [[0, 2, 3] if change else [0, 1, 2, 3], [0, 1, 2] if change else [0, 2], [0, 2]]
        for _ in range(2):
            assert rows_true([f"{n} == 'a'" for n in "stu"], source, "auto") == wanted  # type: ignore[arg-type]
        codes[1], letters[1] = 1, "a"


def test_errors_do_not_depend_on_what_was_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"s_n": ["a", "b", None, "c"] * 100, "i64": np.arange(400) - 300})
    conditions = ["s_n == 'b' or 10 % i64 == 1"]
    fine = ["s_n != 'a' and i64 > 96"]
    plain = Pieces(table, [150], {**TYPES, "i64": Int(64)})
    run_as_python(monkeypatch)
    wanted = outcome(conditions, plain, "reference")
    assert isinstance(wanted, Diagnostic)
    rows = rows_true(fine, plain, "reference")
    force(monkeypatch)
    source = InPlace(table, [150])
    for tier in get_args(Tier):
        for _ in range(3):
            assert outcome(conditions, source, tier) == wanted
            assert rows_true(fine, source, tier) == rows
    assert cache().known(source, 0, "s_n") is not None


def test_many_threads_see_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch)
    words = [f"w{i % 7}" for i in range(3000)]
    source = InPlace(pa.table({"s": words}), range(100, 3000, 100))
    cache().most = 4000  # some have to leave while others are made
    found = []

    def ask() -> None:
        for k in range(7):
            found.append((k, rows_true([f"s == 'w{k}'"], source, "auto", threads=3)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 28
    assert all(rows == [list(range(k, 3000, 7))] for k, rows in found)
    assert cache().bytes <= cache().most


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_a_dictionary_is_made_makes_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force(monkeypatch)
    source = InPlace(pa.table({"s": ["a", "b"] * 100}))
    started, go = threading.Event(), threading.Event()
    real, parent = dictionaries.encoded, os.getpid()

    def slowly(column: Any) -> Any:
        if os.getpid() == parent:
            started.set()
            assert go.wait(60)
        return real(column)

    monkeypatch.setattr(dictionaries, "encoded", slowly)
    builder = threading.Thread(target=rows_true, args=(["s == 'a'"], source, "auto"))
    builder.start()
    assert started.wait(60)
    with cache().lock:
        child = os.fork()
        if child == 0:
            right = False
            try:
                right = rows_true(["s == 'b'"], source, "auto") == [list(range(1, 200, 2))]
                right = right and cache().known(source, 0, "s") is not None
            finally:
                os._exit(0 if right else 1)
    go.set()
    builder.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert cache().known(source, 0, "s") is not None


def test_a_dictionary_that_codes_cannot_be_narrow_for_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force(monkeypatch)
    words = pa.array([f"w{i}" for i in range(1 << 16)])
    array = pa.DictionaryArray.from_arrays(pa.array([7] * 10, pa.int32()), words)
    assert encoded(array) is None
    source = InPlace(pa.table({"s": array}))
    assert rows_true(["s == 'w7'"], source, "auto") == [list(range(10))]
    assert cache().bytes == 0


def test_there_is_one_cache_for_the_process() -> None:
    assert CACHE.most > 0
