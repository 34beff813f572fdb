"""How large a query may be: what the limits are, and that nothing below them fails or crawls."""

import pickle
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pytest

import tql
from tql import memory_size, queries
from tql.engine.computed import MOST_DEEP
from tql.grammar.parser import parse
from tql.grammar.printer import format_query
from tql.reports.render import FORMATS

T = TypeVar("T")
DATASET: Final = tql.open(
    pa.table(
        {
            "id": [0, 1, 2, 3, 4],
            "flag": [True, False, True, None, False],
            "text": ["a", "b", None, "", "d"],
            "tags": pa.array([[1, 2], [], None, [3], [4]], pa.list_(pa.int64())),
        }
    )
)

# What nests, and how many levels of the tree, or brackets, one more of it adds.
NESTED: Final[dict[str, tuple[Callable[[int], str], int]]] = {
    "parentheses": (lambda n: f"select * where {'(' * n}id{')' * n} > 2", 1),
    "not": (lambda n: f"select * where {'not ' * n}flag", 1),
    "minus": (lambda n: f"select {'- ' * n}id as x", 1),
    "calls": (lambda n: f"select {'abs(' * n}id{')' * n} as x", 1),
    "sums": (lambda n: f"select {'id + ' * n}id as x", 1),
    "sums from the right": (lambda n: f"select {'(id + ' * n}id{')' * n} as x", 1),
    "and in or": (
        lambda n: f"select * where {'(flag and (id > 1 or ' * (n // 2)}flag{'))' * (n // 2)}", 1,
    ),
    "comparisons": (lambda n: f"select * where {'(flag == ' * n}flag{')' * n}", 1),
    "is null": (lambda n: f"select * where {'(' * n}id{' is null)' * n}", 1),
    "lists": (lambda n: f"select * where {'(flag in (' * (n // 2)}flag{'))' * (n // 2)}", 1),
    "weights": (lambda n: f"select {'max_weight(flag: ' * n}1{')' * n} as x", 1),
    "arrays": (lambda n: f"select {'array[' * n}1{']' * n} as x", 1),
    "subscripts": (lambda n: f"select tags{'[0]' * n} as x", 1),
    "subqueries": (lambda n: f"{'select * from (' * n}select *{')' * n}", 3),
    "filtered subqueries": (
        lambda n: f"{'select * from (' * n}select *{' where id > 0)' * n}", 3
    ),
    "computed subqueries": (
        lambda n: f"{'select x + 1 as x from (' * n}select id as x{')' * n}", 3
    ),
    "unions from the left": (
        lambda n: f"{'(' * n}select * where id > 0{' union select * limit 5)' * n}", 1
    ),
    "unions in intersections": (
        lambda n: f"{'(' * n}select *{' union select * intersect select *)' * n}", 1
    ),
    "unions from the right": (
        lambda n: f"{'(select * where id > 0 union ' * n}select *{')' * n}", 1
    ),
    "order keys": (lambda n: f"select * order by {'abs(' * n}id{')' * n}", 1),
    "limits": (lambda n: f"select * limit {'(' * n}1{')' * n}", 1),
    "draws": (lambda n: f"select * sample by {'abs(' * n}id{')' * n}", 1),
}  # fmt: skip
ROOM: Final = 6  # levels that stand around what nests: the query, the comparison, …


def below(frames: int, f: Callable[[], T]) -> T:
    """The value of `f`, called from deep inside of other calls."""
    return f() if frames == 0 else below(frames - 1, f)


@pytest.mark.parametrize("frames", [0, 600])
@pytest.mark.parametrize("kind", NESTED)
def test_what_nests_less_deep_than_the_limit_works(kind: str, frames: int) -> None:
    make, levels = NESTED[kind]
    text = make((200 - ROOM) // levels)

    def whole_way() -> None:
        query = parse(text)
        again = pickle.loads(pickle.dumps(query))
        assert parse(format_query(query)) == query == again
        assert hash(query) == hash(again) and repr(query) == repr(again)
        try:
            view = DATASET.query(text)
            assert len(view) == view.to_arrow().num_rows
            str(DATASET.explain(text))
        except tql.TqlError as e:  # more subscripts than dimensions
            assert kind in ("arrays", "subscripts"), e
            assert len(str(e)) < 2_000

    below(frames, whole_way)


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("depth", [201, 1_000, 20_000])
def test_what_nests_deeper_is_refused_with_the_limit(kind: str, depth: int) -> None:
    with pytest.raises(tql.TqlSyntaxError, match="nested deeper than 200 levels") as e:
        DATASET.query(NESTED[kind][0](depth + 1))
    assert e.value.diagnostic.help
    assert len(str(e.value)) < 1_000


def test_a_from_pairs_at_most_a_hundred_sources() -> None:
    def listed(n: int) -> str:
        return "select * from " + ", ".join(f"demo as t{i}" for i in range(n))

    longest = parse(listed(100))
    assert parse(format_query(longest)) == longest
    with pytest.raises(tql.TqlSyntaxError, match="3,000 sources in one 'from'") as e:
        parse(listed(3_000))
    assert e.value.diagnostic.help
    assert listed(3_000)[e.value.diagnostic.span.start :].startswith("demo as t100,")


@pytest.mark.parametrize(
    "text", ["select " + "(" * 100_000, "select " + "[" * 100_000, "(" * 100_000,
             "select " + ")" * 100_000, "select " + "not " * 100_000, "select a" + "[" * 100_000,
             "select " + "abs(" * 100_000, "select * from (" * 60_000]
)  # fmt: skip
def test_brackets_that_never_close_are_refused(text: str) -> None:
    with pytest.raises(tql.TqlSyntaxError) as e:
        DATASET.query(text)
    assert e.value.diagnostic.help and len(str(e.value)) < 1_000


@pytest.mark.parametrize("letter", ["x", "ä"])
def test_a_text_is_at_most_a_mebibyte_long(letter: str) -> None:
    most = (1 << 20) - len("select * where text == ''")
    width = len(letter.encode())
    longest = f"select * where text == '{letter * (most // width)}'"
    assert len(DATASET.query(longest)) == 0
    with pytest.raises(tql.TqlSyntaxError, match="at most 1,048,576 are allowed") as e:
        DATASET.query(longest + "  ")
    assert e.value.diagnostic.help
    assert len(str(e.value)) < 1_000


def test_a_list_is_as_long_as_the_text() -> None:
    listed = ",".join(map(str, range(2, 150_000)))
    assert len(listed) > 900_000
    assert DATASET.query(f"select * where id in ({listed})").row_ids.tolist() == [2, 3, 4]


CHAINS: Final[dict[str, tuple[Callable[[int], str], list[int]]]] = {
    "or": (lambda n: " or ".join(f"id={i % 7 + 3}" for i in range(n)), [3, 4]),
    "and": (lambda n: " and ".join(f"id<{9 - i % 7}" for i in range(n)), [0, 1, 2]),
    "or of and": (lambda n: " or ".join(["id>3 and flag=false"] * (n // 3)), [4]),
    "and of or": (lambda n: " and ".join(["(id>3 or flag)"] * (n // 2)), [0, 2, 4]),
}


@pytest.mark.parametrize("kind", ["or", "and"])
def test_a_chain_of_a_hundred_thousand_terms_works(kind: str) -> None:
    make, rows = CHAINS[kind]
    condition = make(100_000)
    assert len(condition) < 1 << 20
    assert DATASET.query(f"select * where {condition}").row_ids.tolist() == rows


_STEPS: Final = (" union select * where id > 2", " except select * where id < 2",
                 " union all select *", " except all select * where id == 3")  # fmt: skip
# Flat, however many there are; each with the ids that it gives for 500 steps.
SET_OPERATIONS: Final[dict[str, tuple[Callable[[int], str], list[int]]]] = {
    "union": (
        lambda n: (
            "select id where id == 4"
            + "".join(f" union select id where id == {i % 7 + 1}" for i in range(n))
        ),
        [1, 2, 3, 4],
    ),
    "union all": (
        lambda n: "select id where id == 4" + " union all select id where id > 3" * n,
        [4] * 501,
    ),
    "intersect": (lambda n: "select *" + " intersect select * where id < 3" * n, [0, 1, 2]),
    "intersect all": (lambda n: "select *" + " intersect all select * where id < 3" * n, [0, 1, 2]),
    "except": (lambda n: "select *" + " except select * where id < 3" * n, [3, 4]),
    "mixed": (
        lambda n: "select *" + "".join(_STEPS[i % len(_STEPS)] for i in range(n)),
        [0, 1, 2, 2, 3, 4, 4],
    ),
    "of sources": (
        lambda n: "select id + 1 as id" + " union select id where id < 0" * n,
        [1, 2, 3, 4, 5],
    ),
    "of types": (
        lambda n: (
            "select 1 as id"
            + "".join(
                f" union all select id + {i} % 2{'.5' * (i == n // 2)} "
                "as id where id == 4 and tags[0] > 4"
                for i in range(n)
            )
        ),
        [1] * 5,
    ),
    "of groups": (
        lambda n: (
            "select count(*) as id group by flag" + " union select count(*) as id group by flag" * n
        ),
        [2, 2, 1],
    ),
    "of subqueries": (
        lambda n: (
            "select * from (select * limit 2)"
            + " union all select id, flag, text, tags from (select *) where id > 4" * n
        ),
        [0, 1],
    ),
}


LONG: Final[dict[str, Callable[[int], str]]] = {
    **{f"chain: {name}": lambda n, make=make: f"select * where {make(n)}"
       for name, (make, _) in CHAINS.items()},
    "list": lambda n: f"select * where id in ({', '.join(map(str, range(n)))})",
    "list of texts": lambda n: "select * where text in ('" + "','".join(map(str, range(n))) + "')",
    "list of expressions": lambda n: f"select * where id in ({', '.join(['id + 1'] * (n // 4))})",
    "patterns": lambda n: " or ".join(["select * where text like 'a*'"] + ["text like 'b*'"] * (n // 4)),
    "select list": lambda n: "select " + ", ".join(f"id + {i} as c{i}" for i in range(n // 4)),
    "select list of groups": lambda n: "select "
    + ", ".join(f"id + {i} as c{i}" for i in range(n // 4)) + " group by flag",
    "keys of groups": lambda n: "select flag group by " + ", ".join(f"id + {i}" for i in range(n // 4)),
    "distinct columns": lambda n: "select distinct " + ", ".join(f"id + {i} as c{i}" for i in range(n // 4)),
    "windows": lambda n: "select " + ", ".join(f"id + {i} as c{i}" for i in range(n // 4)) + " expand by 1 as w",
    "array": lambda n: f"select contains(array[{', '.join(map(str, range(n)))}], id) as x",
    "array of arrays": lambda n: f"select array[{', '.join(['array[1, 2]'] * (n // 4))}] as x",
    "JSON keys": lambda n: "select tags" + "[0]" * min(n // 4, 190) + " as x",
    **{f"set operations: {name}": lambda n, make=make: make(n // 4)
       for name, (make, _) in SET_OPERATIONS.items()},
    "order keys": lambda n: "select * order by " + ", ".join(["id desc"] * (n // 4)),
    "weights": lambda n: "select * sample by max_weight("
        + ", ".join(f"id == {i}: {i + 1}" for i in range(n // 4)) + ")",
    "brackets": lambda n: "select " + "(" * n,
    "commas": lambda n: "select " + "," * n,
    "misspelt": lambda n: "select " + "id, " * n + "form x",
    "text": lambda n: f"select '{'x' * n * 9}' as x",
    "text that does not end": lambda n: "select '" + "x" * n * 9,
    "name": lambda n: "select " + "x" * n * 9,
    "blanks": lambda n: "select *" + " " * n * 9 + "nope",
    "lines": lambda n: "select *" + "\n" * n * 9 + "where nope",
    "quotes": lambda n: "select '" + "''" * n + "' as x",
    "digits": lambda n: "select " + "1" * n + " as x",
    "comments": lambda n: "select *" + "/* */" * n + "--" * n,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "steps"),
    [*((kind, 500) for kind in SET_OPERATIONS), ("mixed", 5_000)],
)
def test_thousands_of_set_operations_in_a_row_are_no_nesting(kind: str, steps: int) -> None:
    make, ids = SET_OPERATIONS[kind]
    text = make(steps)
    query = parse(text)
    again = pickle.loads(pickle.dumps(query))
    assert parse(format_query(query)) == query == again
    assert hash(query) == hash(again) and repr(query) == repr(again)
    view = DATASET.query(text)
    assert view["id"].to_pylist() == ids
    assert tql.is_filter(text) == (
        kind not in ("of sources", "of types", "of groups", "of subqueries")
    )
    explained = DATASET.explain(text)
    assert explained.root.rows == len(ids)
    for write in FORMATS.values():
        assert write(explained).count("Scan") + write(explained).count('"scan"') > steps
    assert pickle.loads(pickle.dumps(view.source)).rows == view.source.rows


def events(f: Callable[[], Any]) -> int:
    """How many calls of functions, those of C included, `f` takes."""
    count = 0

    def counted(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        f()
    except tql.TqlError:
        pass
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("kind", LONG)
def test_the_work_grows_with_the_text_and_not_with_its_square(kind: str) -> None:
    make = LONG[kind]
    _, few, many = (
        events(lambda n=n: DATASET.query(make(n)).to_arrow()) for n in (100, 500, 2_000)
    )
    assert many < 6 * few + 10_000, (few, many)


# A query to be asked of its own answer, and how many sources each adds.
STACKS: Final = {
    "groups": ("select id, flag group by flag ungroup by split", 5),
    "unions": ("select id + 1 as id, flag union all select id - 1 as id, flag limit 5", 3),
    "windows": ("select id, flag expand by 0 0 as w{}", 3),
    "positions": ("select row_number() as id, flag", 1),
}


def beneath(calls: int, f: Callable[[], T]) -> T:
    """`f` called by so many callers."""
    return f() if calls == 0 else beneath(calls - 1, f)


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("callers", [0, 800])
def test_views_of_views_are_read_up_to_a_depth_and_refused_beyond_it(
    kind: str, callers: int
) -> None:
    text, adds = STACKS[kind]

    def chained() -> None:
        view: tql.Dataset = DATASET
        for n in range(MOST_DEEP // adds):
            view = view.query(text.format(n))
        assert len(view.to_arrow()) == 5 and view.fingerprint
        assert len(list(view.dataloader().batch(5).numpy())) == 1
        again = pickle.loads(pickle.dumps(view.source))
        assert again.depth == view.source.depth <= MOST_DEEP  # type: ignore[attr-defined]
        with pytest.raises(tql.TqlUnsupportedError, match="on top of each other") as e:
            view.query(text.format("x")).query(text.format("y"))
        assert "write" in (e.value.diagnostic.help or "")

    beneath(callers, chained)


# What makes many rows of few, and how many.
LARGE: Final = {
    "select * expand by 5 overlap true": 25,
    "select * expand by 5 overlap true as w": 25,
    "select a.id from (select id, 1 as k) a join (select id, 1 as k) b on a.k == b.k": 25,
    "select * sample by id limit 25": 25,
}


@pytest.mark.parametrize("text", LARGE)
def test_rows_that_take_too_much_memory_are_refused_before_they_are_made(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_size, "budget", lambda: 25 * 50)
    assert len(DATASET.query(text)) == LARGE[text]
    monkeypatch.setattr(memory_size, "budget", lambda: 500)
    with pytest.raises(tql.TqlError, match=r"would have 25 rows, whose numbers take") as e:
        DATASET.query(text)
    d = e.value.diagnostic
    assert d.code == "range" and d.help and d.span.stop > d.span.start


@pytest.mark.parametrize("text", LARGE)
def test_what_numpy_cannot_allocate_is_a_range_error(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise MemoryError

    def without_memory(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(queries, "sample", fails)
        monkeypatch.setattr(np, "repeat", fails)
        return 1 << 60

    monkeypatch.setattr(memory_size, "budget", without_memory)
    with pytest.raises(tql.TqlError, match="would have 25 rows, which do not fit in memory") as e:
        DATASET.query(text)
    assert e.value.diagnostic.code == "range" and e.value.diagnostic.help


def test_half_of_the_memory_is_the_budget() -> None:
    assert 1 << 20 < memory_size.budget() < 1 << 50
