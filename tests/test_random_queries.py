"""Random typed queries over random data: both tiers and the interpreter of the tests agree.

What the interpreter is, and what it shares with the package, is told in `tests.interpreter`.
"""

import itertools
import math
import re
import tempfile
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tql
from tests.interpreter import queries as interpreter
from tests.interpreter import relations
from tests.interpreter.kinds import BOOL, JSON, RowError, values_of
from tests.interpreter.relations import Relation
from tests.interpreter.scopes import QueryError, World, kept
from tests.plain_kernels import run_as_python
from tests.profiles import examples
from tests.random_data import random_rows
from tests.random_expressions import INEXACT
from tests.random_queries import columns_in, expressions, pairs, queries, samples, used_in
from tql.dataset import View, view_of
from tql.engine.scan import Settings, Tier
from tql.grammar.parser import parse
from tql.grammar.printer import format_query
from tql.queries import ask

Outcome = Counter[str]


@st.composite
def tables(draw: st.DrawFn, text: str, most: int = 30) -> pa.Table:
    """A table with the columns that the query names, in chunks."""
    random = draw(st.randoms(use_true_random=True))
    rows = random.choice([n for n in (0, 1, 2, 5, 9, 12, 12, 20, 20, 30, 30) if n <= most])
    if most == 30 and random.random() < 0.06:
        rows = random.choice([64, 65, 130])  # kernels take 64 rows at a time
    cuts = [random.randint(1, max(30, rows)) for _ in range(random.randrange(4))]
    tame = random.random() < 0.8
    return random_rows(columns_in(text), rows, random.getrandbits(32), cuts, tame)


# -- what the package and the interpreter say --------------------------------------------------


def answer(ds: tql.Dataset, text: str, params: Any, tier: Tier, threads: int = 1) -> View:
    question = ask(ds.source, text, params, settings=Settings(tier, threads))
    return view_of(question, ds)


def expected(table: pa.Table, text: str, params: Any) -> Relation | set[tuple[str, int | None]]:
    """The interpreter's rows; or the errors that rows have, with the row where it is known."""
    here = relations.from_arrow(table)
    return expected_of(here, here, text, params)


def expected_of(
    asked: Relation, here: Relation, text: str, params: Any
) -> Relation | set[tuple[str, int | None]]:
    """What a query of `asked` gives, whose rows may be rows of `here`."""
    try:
        result = interpreter.run(parse(text), World(asked, {}, () if params is None else params))
    except QueryError as e:
        return {(code, row if e.base is here.base else None) for code, row in e.errors}
    except RowError as e:
        return {(e.code, None)}
    errors: set[tuple[str, int | None]] = set()
    for at, row in enumerate(result.rows):
        for cell in row:
            try:
                cell.get()
            except RowError as e:
                errors.add((e.code, result.ids[at] if result.base is here.base else None))
    return errors or result


def check(ds: tql.Dataset, text: str, params: Any, wanted: Any, tier: Tier, threads: int) -> None:
    """The package answers with the rows wanted, or with one of the errors wanted."""
    if wanted == {("range", None)} and "data(" in text:
        # A row that is not there: it may stand in a column that nobody asks for.
        with suppress(tql.TqlError):
            answer(ds, text, params, tier, threads).to_arrow()
        return
    if isinstance(wanted, set):
        with pytest.raises(tql.TqlError) as e:
            answer(ds, text, params, tier, threads).to_arrow()
        diagnostic = e.value.diagnostic
        rows = {row for code, row in wanted if code == diagnostic.code}
        assert rows, f"{diagnostic.code} ({diagnostic.message}), not one of {wanted}"
        named = re.search(r"in row (\d+)", diagnostic.message)
        assert None in rows or (named and int(named[1]) in rows), (diagnostic.message, wanted)
        return
    view = answer(ds, text, params, tier, threads)
    check_table(view, view.to_arrow(), wanted, text)


def check_table(ds: tql.Dataset, table: pa.Table, wanted: Relation, text: str) -> None:
    """The table, read of `ds`, has the columns wanted, with their types and values."""
    assert list(table.column_names) == [c.name for c in wanted.columns]
    exact = not any(name in text for name in INEXACT)
    for c in wanted.columns:
        kind = re.sub(r", \d+\]", "]", str(ds.schema[c.name].dtype))
        read_as = c.kind
        if c.kind.name == "array" and c.kind.scalar == BOOL and kind.endswith("json"):
            read_as = JSON  # of logical_and(), which gives false where shapes differ
        elif c.kind.grouped and c.kind.scalar == BOOL and kind == "sequence[json]":
            read_as = replace(c.kind, item=JSON, rank=1)  # of a group, each such
        assert kind == str(read_as), f"{c.name} is {kind}, not {read_as}"
        found = values_of(table.column(c.name), read_as)
        should = relations.data_of(wanted, c.name)
        assert len(found) == len(should), f"{len(found)} rows, not {len(should)}"
        for at, (f, s) in enumerate(zip(found, should)):
            assert same(plain(f), plain(s), exact), f"row {at} of {c.name}: {f!r}, not {s!r}"


def plain(value: Any) -> Any:
    """Arrays as nested lists; of an empty one only that it is empty is known."""
    if isinstance(value, np.ndarray):
        return [] if not value.size and value.ndim == 1 else plain(value.tolist())
    return [plain(v) for v in value] if isinstance(value, list) else value


def same(found: Any, wanted: Any, exact: bool = True) -> bool:
    match found, wanted:
        case float(), float() if found == found and wanted == wanted:
            if exact:
                return found.hex() == wanted.hex()
            return found == wanted or abs(found - wanted) <= 1e-6 * max(abs(found), abs(wanted))
        case float(), float():
            return found != found and wanted != wanted
        case list(), list():
            return len(found) == len(wanted) and all(map(same, found, wanted, [exact] * len(found)))
        case dict(), dict():
            return found.keys() == wanted.keys() and all(
                same(v, wanted[k], exact) for k, v in found.items()
            )
        case (bool(), int()) | (int(), bool()):
            return int(found) == int(wanted)
        case _:
            return type(found) is type(wanted) and bool(found == wanted)


def tried(tally: Outcome, table: pa.Table, text: str, params: Any, threads: int) -> None:
    """Both tiers against the interpreter; the tally counts what became of it."""
    wanted = expected(table, text, params)
    outcome = "error of a row" if isinstance(wanted, set) else "rows" if wanted.rows else "no rows"
    tally[outcome] += 1
    ds = tql.open(table)
    check(ds, text, params, wanted, "reference", 1)
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        check(ds, text, params, wanted, "kernel", threads)


def mostly_evaluated(tally: Outcome) -> None:
    """A search that mostly finds errors, or nothing, would show little."""
    total = sum(tally.values())
    assert tally["error of a row"] <= 0.1 * total, tally
    assert tally["rows"] >= 0.4 * total, tally


# -- the tests ---------------------------------------------------------------------------------


def test_expressions_have_the_values_that_the_interpreter_computes() -> None:
    tally: Outcome = Counter()

    @settings(max_examples=examples(200))
    @given(st.data(), expressions(), st.sampled_from([1, 3]))
    def search(data: st.DataObject, query: tuple[str, Any], threads: int) -> None:
        text, params = query
        tried(tally, data.draw(tables(text)), text, params, threads)

    search()
    mostly_evaluated(tally)


def test_queries_have_the_rows_that_the_interpreter_finds() -> None:
    tally: Outcome = Counter()

    @settings(max_examples=examples(200))
    @given(st.data(), queries(), st.sampled_from([1, 3]))
    def search(data: st.DataObject, query: tuple[str, Any], threads: int) -> None:
        text, params = query
        tried(
            tally, data.draw(tables(text, most=12 if "join" in text else 30)), text, params, threads
        )

    search()
    mostly_evaluated(tally)


# -- read in other ways ------------------------------------------------------------------------


@settings(max_examples=examples(60, 4_000))
@given(st.data(), queries())
def test_a_view_read_in_pieces_is_the_view(data: st.DataObject, query: tuple[str, Any]) -> None:
    """Slices of it, rows of it in any order, a view of it, its fragments."""
    text, params = query
    table = data.draw(tables(text, most=12 if "join" in text else 30))
    wanted = expected(table, text, params)
    if isinstance(wanted, set):
        return
    view = answer(tql.open(table), text, params, "reference")
    rows = len(wanted.rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=3)))
    for a, b in itertools.pairwise([0, *cuts, rows]):
        part = view[a:b]
        check_table(part, part.to_arrow(), kept(wanted, range(a, b)), text)
    again = view.query("select *")
    check_table(again, again.to_arrow(), wanted, text)
    order = data.draw(st.lists(st.integers(0, rows - 1), max_size=5)) if rows else []
    found = view.source.take(np.array(order, np.int64), view.columns)
    check_table(view, found, kept(wanted, order), text)
    for f in view.source.fragments:
        piece = kept(wanted, range(f.start, f.stop))
        check_table(view, view.source.read(f.index, view.columns), piece, text)


@settings(max_examples=examples(60, 4_000))
@given(st.data(), queries(), st.integers(1, 12), st.sampled_from([1, 3]))
def test_a_parquet_file_answers_as_the_table_in_it(
    data: st.DataObject, query: tuple[str, Any], group: int, threads: int
) -> None:
    """Several row groups, pruned by their statistics; a row pruned raises nothing."""
    text, params = query
    table = data.draw(tables(text, most=12 if "join" in text else 30))
    if not len(table) and "cat" in " ".join(table.column_names):
        return  # of a dictionary column without rows the file does not keep the names
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = f"{folder}/rows.parquet"
        pq.write_table(table, path, row_group_size=group)
        wanted = expected(pq.read_table(path), text, params)  # seconds have become milliseconds
        if isinstance(wanted, set):
            return
        ds = tql.open(path)
        check(ds, text, params, wanted, "reference", threads)
        run_as_python(patch)
        check(ds, text, params, wanted, "kernel", threads)


@settings(max_examples=examples(6, 150))
@given(st.data(), expressions())
def test_compiled_kernels_compute_what_the_interpreter_does(
    data: st.DataObject, query: tuple[str, Any]
) -> None:
    """The loops of the tests above ran as Python; here they are compiled, which takes a while."""
    text, params = query
    table = data.draw(tables(text))
    check(tql.open(table), text, params, expected(table, text, params), "kernel", 2)


@settings(max_examples=examples(60, 4_000))
@given(st.data(), queries())
def test_a_query_prepared_printed_explained_and_loaded_is_the_query(
    data: st.DataObject, query: tuple[str, Any]
) -> None:
    text, params = query
    table = data.draw(tables(text, most=12 if "join" in text else 30))
    wanted = expected(table, text, params)
    if isinstance(wanted, set):
        return
    ds = tql.open(table)
    prepared = ds.prepare(text).run(params)
    check_table(prepared, prepared.to_arrow(), wanted, text)
    printed = ds.query(format_query(parse(text)), params)
    check_table(printed, printed.to_arrow(), wanted, text)
    assert str(ds.explain(text, params, analyze=True))
    assert sum(len(b["index"]) for b in prepared.batches(5)) == len(wanted.rows)


@settings(max_examples=examples(60, 4_000))
@given(st.data(), pairs())
def test_a_query_of_a_view_is_a_query_of_a_subquery(
    data: st.DataObject, pair: tuple[str, str, dict[str, Any]]
) -> None:
    inner, outer, params = pair
    table = data.draw(tables(f"{inner} {outer}"))
    here = relations.from_arrow(table)
    try:
        below = interpreter.run(parse(inner), World(here, {}, params))
        # Rows of set operations are positions in what is asked, and that is the view.
        below = replace(below, base=object(), ids=list(range(len(below.rows))))
        wanted = expected_of(below, here, outer, params)
    except (QueryError, RowError):
        return
    if isinstance(wanted, set):
        return
    view = answer(tql.open(table), inner, used_in(inner, params), "reference")
    check(view, outer, used_in(outer, params), wanted, "reference", 1)
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        check(view, outer, used_in(outer, params), wanted, "kernel", 2)


# -- draws -------------------------------------------------------------------------------------


@settings(max_examples=examples(40, 2_000))
@given(st.data(), expressions(), st.integers(0, 5))
def test_random_is_fixed_by_seed_and_row(
    data: st.DataObject, query: tuple[str, Any], seed: int
) -> None:
    """Whatever the chunks, the tier and the threads; another condition leaves the rest as it is."""
    text, _ = query
    condition = text.split(" where ", 1)[1] if " where " in text and "$" not in text else "true"
    table = data.draw(tables(text))
    if isinstance(expected(table, f"select * where {condition}", None), set):
        return

    def drawn(ds: tql.Dataset, where: str, tier: Tier, threads: int, seed: int) -> dict[int, int]:
        asked = f"select id, random() as r where random() % 3 != 0 and ({where})"
        question = ask(ds.source, asked, seed=seed, settings=Settings(tier, threads))
        found = view_of(question, ds).to_arrow()
        return dict(zip(found["id"].to_pylist(), found["r"].to_pylist()))

    ds, whole = tql.open(table), tql.open(table.combine_chunks())
    first = drawn(ds, "true", "reference", 1, seed)
    assert all(0 <= r < 2**31 for r in first.values())
    some = drawn(ds, condition, "reference", 3, seed)
    assert some.items() <= first.items()
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        assert drawn(whole, condition, "kernel", 2, seed) == some
    if len(table) > 20:
        assert drawn(ds, "true", "reference", 1, seed + 1) != first


@settings(max_examples=examples(60, 3_000))
@given(st.data(), samples(), st.integers(0, 3))
def test_sample_by_draws_from_the_rows_that_may_be_drawn(
    data: st.DataObject, query: tuple[str, Any], seed: int
) -> None:
    """As many rows as asked for, none without weight, none twice without replacement."""
    text, params = query
    check_draws(data.draw(tables(text)), text, params, seed)


def check_draws(table: pa.Table, text: str, params: Any, seed: int) -> None:
    """Both tiers draw what the interpreter says may be drawn, and the same."""
    here = relations.from_arrow(table)
    ds = tql.open(table)

    def answered(tier: Tier) -> list[int]:
        question = ask(ds.source, text, params, seed=seed, settings=Settings(tier, 2))
        return view_of(question, ds).row_ids.tolist()

    try:
        wanted = interpreter.drawn(parse(text), World(here, {}, params or ()))
    except (QueryError, RowError):
        if "limit 0" in text:
            return  # then no weight is asked for
        with pytest.raises(tql.TqlError):
            answered("reference")
        return
    weights = wanted.weights
    if wanted.asked == 0:
        with nullcontext() if table.num_rows or "data(" not in text else suppress(tql.TqlError):
            # No weight is asked for; but a row that data() names may be missing from FROM.
            assert answered("reference") == []
        return
    if not any(weights) or not all(0 <= w < math.inf for w in weights):
        with pytest.raises(tql.TqlError) as e:
            answered("reference")
        assert e.value.diagnostic.code == "value"
        return
    ids = answered("reference")
    assert len(ids) == wanted.size
    heavy = Counter(i for i, w in zip(wanted.population.ids, weights) if w > 0)
    assert set(ids) <= heavy.keys()
    if not wanted.replace:
        assert not Counter(ids) - heavy
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        assert answered("kernel") == ids


# -- what the search has found -----------------------------------------------------------------

FOUND = [
    # A comparison that the type of the column decides is still no constant.
    "select *, u8 >= 0 as x0 order by (u8 >= 0) desc, i8 desc",
    "select i8, u8 group by u8 >= 0, i8",
    "select distinct on (u8 < 0) i8",
    # Rows taken from slices of matrices of fixed size.
    "select mat, mat_n order by i8",
    "select distinct mat order by mat[0][0], i8",
    # What counts in FROM does not count in the windows that are made of it.
    "select data(i8, -1) as x, row_number() as n where id == 1 expand by 0 as clip",
    "select bm25_similarity(text, 'a') as x where id in (0, 3) expand by 0 as clip",
    "select i8, i16_n where id < 3 expand by 1 as clip order by data(i16_n, -1) + i8, clip desc",
    # What a subquery computes may be an error also where its type decides a comparison.
    "select id from (select id, all(jag <= jag) as y) where not (3 >= y)",
    "select id from (select * from (select id, 1 % id > 0 as y)) where y > 1",
    "select id from (select id, 1 % id > 0 as y where id != 5 expand by 0 as n) where y > 1",
    "select id from (select id as a, 1 % id > 0 as y) join (select id) as b on a = id where y < 2",
    "select x from (select all(jag < 1) as x union all select any(lb) as x) where x >= 2",
    # But groups take in whatever they took in when no subquery computed it.
    "select count(*) as n from (select id, 10 % (id + 1) > 0 as y) group by id"
    " having any(y in (1, 2)) or any(y)",
    # What is written of rows is done for each member of a group, behind a guard too.
    "select count(*) as n group by id having id = 0 or any(10 % id in (1, 2))",
    "select count(*) as n group by u8 having id[0] = 0 or any(10 % i8_n is null)",
    "select count(*) as n group by u8 having id[0] < 2 or any((10 % id) between 1 and i8)",
    "select count(*) as n group by u8 having id[0] = 0 or not all(text_n is null or 10 % id > 3)",
    # An array without elements has no least truth value; neighbours in the word keep theirs.
    "select id where amin(dvec_n = 0)",
    # What logical_and() gives for a group is one value, and for its members a sequence of them.
    "select logical_and(id > 2, id < 5) as x group by u8",
    "select x from (select u8, logical_and(jag > 0, boxes_n > 0) as x) group by u8",
    # An array literal with a number below 0 is one of int64, beside uint64 too.
    "select (array[-1, 1, 0] * u64_n) as x where u64_n < 9",
    "select array[1, 0] + u64_n as x where u64_n < 9",
    # A value that data() has found may be NULL.
    "select id, data(i8_n, 2) as x where not (data(i8_n, 2) is null and i8 > 0)",
    # The column that USING makes for a RIGHT join is that of the right: 0.0 equals -0.0.
    "select k, y from (select f32 as k) as a right join (select -f32 as k, id as y) as b using (k)",
    # Where several branches fail in their rows, each of their errors will do.
    "(select id order by (-1 - u64_n)) intersect select id where contains(jag_n, -1)",
    "(select id where 10 % id > 1) union all (select id where contains(jag_n, -1))",
]


@pytest.mark.parametrize("query", FOUND)
def test_what_was_wrong_once_is_right(query: str) -> None:
    for seed in range(6):
        table = random_rows(columns_in(query), 9, seed, [3 + seed], tame=seed % 2 == 0)
        tried(Counter(), table, query, None, threads=1)


@pytest.mark.parametrize(
    "query",
    [
        # data() in a weight is of FROM, before WHERE, as in the rest of the query.
        "select * where id > 2 order by id sample by max_weight(data(i8, 0) > i8: 2) limit 40",
        "select * where id > 2 sample by max_weight(data(text, 1) > text: 1, data(id, 0) = 0: 2)",
        # Half of nothing is drawn of a FROM without rows; a row that it does not have is an error.
        "select * sample by max_weight(data(text, -1) = text: 1) limit 50 percent",
    ],
)
def test_what_was_drawn_wrongly_once_is_drawn_rightly(query: str) -> None:
    for seed, rows in enumerate([20, 20, 20, 20, 0]):
        check_draws(random_rows(columns_in(query), rows, seed, [7], tame=True), query, None, seed)
