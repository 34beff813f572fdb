"""Functions of the user's: who may be one, what it is handed, what becomes of what it gives."""

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tql
from tql.engine.scan import Settings
from tql.language.expr import UserCall, can_raise
from tql.language.user_function import digest_of
from tql.language.user_functions import registered
from tql.queries import ask

ROOT = Path(__file__).resolve().parents[1]
TABLE = pa.table(
    {
        "id": np.arange(6),
        "small": np.arange(6, dtype=np.int8),
        "score": pa.array([0.5, None, 1.5, 2.5, None, 4.0], pa.float32()),
        "text": ["a", "bb", None, "", "dddd", "é"],
        "flag": [True, False, True, None, True, False],
        "labels": pa.array([0, 1, 0, 1, 0, 1], pa.int8()),
        "tags": [[1, 2], [], None, [3], [4, None], [5]],
        "words": [["x"], ["y", "z"], [], ["x"], None, ["w"]],
        "boxes": pa.array(np.arange(24.0).reshape(6, 4).tolist(), pa.list_(pa.float64(), 4)),
        "when": pa.array(np.arange(6), pa.timestamp("ms")),
        "image": [b"1", b"22", b"3", b"4", b"5", b"6"],
    }
)


@pytest.fixture
def ds() -> tql.Dataset:
    return tql.open(TABLE, class_names={"labels": ["cat", "dog"]})


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = set(registered())
    yield
    for name in set(registered()) - before:
        tql.unregister_function(name)


def values(view: tql.View, name: str = "a") -> list[Any]:
    found: list[Any] = view.to_arrow().column(name).to_pylist()
    return found


def code(e: pytest.ExceptionInfo[tql.TqlError]) -> str:
    return e.value.diagnostic.code


# -- registering -------------------------------------------------------------------------------


def test_a_function_is_called_by_its_name_in_any_case(ds: tql.Dataset) -> None:
    def Twice(x: Any) -> Any:
        return x * 2

    tql.register_function(Twice)
    tql.register_function(lambda x: x * 3, "Thrice")
    assert values(ds.query("select TWICE(id) as a, thrice(id) as b")) == [0, 2, 4, 6, 8, 10]
    assert ds.query("select twice(id)").columns == ("id",)
    assert len(ds.query("select * where thrice(id) > twice(id) + 3")) == 2


class Callable_:
    def __call__(self, x: Any) -> Any:
        return x + 1


@pytest.mark.parametrize(
    ("function", "name", "kind"),
    [
        (5, None, "type"),
        ("abs", None, "type"),
        (lambda x: x, None, "value"),
        (functools.partial(max, 1), None, "value"),
        (Callable_(), None, "value"),
        (max, "abs", "value"),
        (max, "MAX_WEIGHT", "value"),
        (max, "balanced", "value"),
        (max, "sum", "value"),
        (max, "select", "value"),
        (max, "two words", "value"),
        (max, "", "value"),
        (max, "1st", "value"),
        (max, 5, "type"),
    ],
)
def test_what_cannot_be_called_by_a_name_is_refused(function: Any, name: Any, kind: str) -> None:
    with pytest.raises(tql.TqlError) as e:
        tql.register_function(function, name)
    assert code(e) == kind
    assert e.value.diagnostic.help


def test_arguments_without_a_position_are_refused() -> None:
    def needs(x: Any, *, scale: float) -> Any:
        return x * scale

    with pytest.raises(tql.TqlError, match="scale="):
        tql.register_function(needs)


@pytest.mark.parametrize("returns", ["nonsense", object, "datetime64[s]", complex, "S3"])
def test_a_type_no_column_can_hold_is_refused(returns: Any) -> None:
    with pytest.raises(tql.TqlTypeError, match="no type of a column"):
        tql.register_function(max, "f", returns=returns)


def test_registering_again_replaces_and_what_was_bound_stays(ds: tql.Dataset) -> None:
    tql.register_function(lambda x: x + 1, "f")
    prepared = ds.prepare("select f(id) as a limit 2")
    view = ds.query("select f(id) as a limit 2")
    tql.register_function(lambda x: x + 100, "f")
    assert values(view) == values(prepared.run()) == [1, 2]
    assert values(ds.query("select f(id) as a limit 2")) == [100, 101]
    tql.unregister_function("F")
    assert values(view) == [1, 2]
    with pytest.raises(tql.TqlNameError) as e:
        ds.query("select f(id) as a")
    assert code(e) == "unknown_function"


def test_forgetting_what_is_not_there_suggests_a_name() -> None:
    tql.register_function(max, "largest")
    with pytest.raises(tql.TqlNameError, match="did you mean 'largest'"):
        tql.unregister_function("lagest")


def test_a_misspelt_call_is_given_the_name(ds: tql.Dataset) -> None:
    tql.register_function(lambda x: x, "brightness")
    with pytest.raises(tql.TqlNameError, match="did you mean 'brightness'"):
        ds.query("select brightnes(id) as a")


def test_the_number_of_arguments_is_checked_when_binding(ds: tql.Dataset) -> None:
    def inside(low: Any, x: Any, high: Any = 5) -> Any:
        return low <= x <= high

    def total(*many: Any) -> Any:
        return sum(many, start=np.int64(0))

    tql.register_function(inside, returns=bool)
    tql.register_function(total, returns="int64")
    tql.register_function(np.hypot, returns="float64")
    for text, shown in (
        ("inside(1)", "inside(low, x, [high])"),
        ("inside(1, 2, 3, 4)", "inside(low, x, [high])"),
        ("hypot(id)", "hypot(x1, x2)"),
        ("total(id, axis=0)", "total(…)"),
        ("total(*)", "total(…)"),
    ):
        with pytest.raises(tql.TqlTypeError) as e:
            ds.query(f"select {text} as a")
        assert code(e) == "arity"
        assert e.value.diagnostic.help == f"write {shown}"
    assert values(ds.query("select inside(2, id) as a")) == [False, False, True, True, True, True]
    assert values(ds.query("select total() as a limit 2")) == [0, 0]
    assert values(ds.query("select total(id, 1, small) as a limit 2")) == [1, 3]
    assert values(ds.query("select hypot(3, id) as a limit 5 offset 4")) == [5.0, 34**0.5]


# -- what it is handed -------------------------------------------------------------------------


def kind_of(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}"
    return type(value).__name__


@pytest.mark.parametrize(
    ("argument", "handed"),
    [
        ("id", "int64()"),
        ("small", "int8()"),
        ("score", "float32()"),
        ("flag", "bool()"),
        ("labels", "int8()"),
        ("text", "str"),
        ("when", "datetime64[ms]()"),
        ("image", "bytes"),
        ("tags", "int64(2,)"),
        ("words", "object(1,)"),
        ("boxes", "float64(4,)"),
        ("id + 0.5", "float64()"),
        ("7", "int64()"),
        ("'x'", "str"),
    ],
)
def test_a_row_is_handed_over_as_numpy_sees_it(ds: tql.Dataset, argument: str, handed: str) -> None:
    tql.register_function(kind_of, returns="text")
    assert values(ds.query(f"select kind_of({argument}) as a limit 1")) == [handed]


@pytest.mark.parametrize(
    ("argument", "handed"),
    [("id", "int64(6,)"), ("text", "object(5,)"), ("tags", "object(5,)"), ("3", "int64(6,)")],
)
def test_a_batch_is_handed_over_as_arrays(ds: tql.Dataset, argument: str, handed: str) -> None:
    tql.register_function(lambda x: [kind_of(x)] * len(x), "kinds", returns=str, batch=True)
    assert set(values(ds.query(f"select kinds({argument}) as a"))) - {None} == {handed}


def test_elements_that_are_null_are_none(ds: tql.Dataset) -> None:
    seen: list[Any] = []
    tql.register_function(lambda x: seen.append(x.tolist()) or len(seen), "see", returns="int64")
    ds.query("select see(tags) as a").to_arrow()
    assert seen == [[1, 2], [], [3], [4, None], [5]]


@pytest.mark.parametrize("batch", [False, True])
def test_rows_with_a_null_argument_are_not_handed_over(ds: tql.Dataset, batch: bool) -> None:
    seen: list[Any] = []

    def add(x: Any, y: Any) -> Any:
        seen.append(np.asarray(x).tolist())
        return x + y

    tql.register_function(add, returns="float64", batch=batch)
    view = ds.query("select add(score, id) as a")
    assert view.schema["a"].nullable
    assert values(view) == [0.5, None, 3.5, 5.5, None, 9.0]
    assert seen == ([[0.5, 1.5, 2.5, 4.0]] if batch else [0.5, 1.5, 2.5, 4.0])
    assert ds.query("select * where add(score, id) is null").row_ids.tolist() == [1, 4]
    assert ds.query("select * where not add(score, id) > 4").row_ids.tolist() == [0, 2]


def test_rows_that_an_earlier_condition_rejects_are_not_handed_over(ds: tql.Dataset) -> None:
    seen: list[int] = []

    def see(x: Any) -> bool:
        seen.append(int(x))
        return True

    tql.register_function(see, returns=bool)
    assert ds.query("select * where id > 3 and see(id)").row_ids.tolist() == [4, 5]
    assert seen == [4, 5]
    seen.clear()
    ds.query("select * where id > 3 or see(id)")
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("batch", [False, True])
def test_no_arguments_give_a_value_for_each_row(ds: tql.Dataset, batch: bool) -> None:
    counter = iter(range(100))
    tql.register_function(lambda: next(counter), "turn", returns="int64", batch=batch)
    assert values(ds.query("select turn() as a")) == [0, 1, 2, 3, 4, 5]


# -- what it gives -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda x: int(x), "int64"),
        (lambda x: float(x), "float64"),
        (lambda x: np.float32(x), "float32"),
        (lambda x: x, "int8"),
        (lambda x: bool(x), "bool"),
        (lambda x: f"<{x}>", "text"),
        (lambda x: np.asarray(x, np.uint16), "uint16"),
    ],
)
@pytest.mark.parametrize("declared", [False, True])
def test_the_type_is_declared_or_found_on_the_first_row(
    ds: tql.Dataset, function: Any, dtype: str, declared: bool
) -> None:
    tql.register_function(function, "f", returns=dtype if declared else None)
    view = ds.query("select f(small) as a")
    assert str(view.schema["a"].dtype) == dtype
    expected = [function(np.asarray(n, np.int8)) for n in range(6)]
    assert values(view) == [e.item() if hasattr(e, "item") else e for e in expected]


def test_a_type_is_found_once_and_where_there_is_a_value(ds: tql.Dataset) -> None:
    calls: list[Any] = []
    tql.register_function(lambda x: calls.append(x) or len(x), "f")
    for _ in "123":
        ds.query("select f(text) as a where f(text) is not null")
    tried = len(calls)
    assert calls[0] == "a"
    # One trial, and five rows in each filter.
    assert tried == 1 + 3 * 5
    subquery = ds.query("select f(t) as a from (select text as t where id > 1)")
    assert values(subquery) == [None, 0, 4, 1]
    assert values(ds.query("select text as u").query("select f(u) as a limit 1")) == [1]


def test_a_type_that_cannot_be_found_has_to_be_declared(ds: tql.Dataset, tmp_path: Path) -> None:
    tql.register_function(lambda x: x, "f")
    empty = tql.open(pa.table({"x": pa.array([None, None], pa.int64())}))
    with pytest.raises(tql.TqlTypeError, match="among the first 2") as e:
        empty.query("select f(x) as a")
    assert "returns=" in (e.value.diagnostic.help or "")
    tql.register_function(lambda x: x, "f", returns="int64")
    assert values(empty.query("select f(x) as a")) == [None, None]


@pytest.mark.parametrize(
    ("function", "returns", "kind", "words"),
    [
        (lambda x: [1, 2], None, "shape", "shape (2,)"),
        (lambda x: {}, None, "type", "a dict"),
        (lambda x: np.datetime64(5, "s"), None, "type", "datetime64"),
        (lambda x: [1, 2], "int64", "shape", "shape (2,)"),
        (lambda x: 2.5, "int64", "type", "float64 for row 0, not int64"),
        (lambda x: "a", "float64", "type", "text for row 0, not float64"),
        (lambda x: 1, "bool", "type", "not bool"),
        (lambda x: 1, "text", "type", "not text"),
        (lambda x: x * 100, "int8", "range", "gave 200 for row 2"),
        (lambda x: -x, "uint64", "range", "gave -1 for row 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_type_names_function_and_row(
    ds: tql.Dataset, function: Any, returns: Any, kind: str, words: str
) -> None:
    tql.register_function(function, "f", returns=returns)
    with pytest.raises(tql.TqlDataError) as e:
        ds.query("select f(id) as a").to_arrow()
    assert code(e) == kind
    assert words in str(e.value) and "f()" in str(e.value)
    assert e.value.diagnostic.help


def test_none_is_null_and_nan_is_nan(ds: tql.Dataset) -> None:
    tql.register_function(
        lambda x: None if x == 1 else np.nan if x == 2 else x, "f", returns="float64"
    )
    column = ds.query("select f(id) as a").to_arrow().column("a")
    assert column.null_count == 1 and column[1].as_py() is None
    assert np.isnan(column[2].as_py())
    tql.register_function(lambda x: None if x == 1 else "t", "g", returns="text")
    assert values(ds.query("select g(id) as a limit 3")) == ["t", None, "t"]


@pytest.mark.parametrize("wrong", [lambda x: x[1:], lambda x: x.sum(), lambda x: x[:, None]])
def test_a_batch_has_to_give_a_value_per_row(ds: tql.Dataset, wrong: Any) -> None:
    tql.register_function(wrong, "f", returns="int64", batch=True)
    with pytest.raises(tql.TqlDataError, match="was given 6 rows") as e:
        ds.query("select f(id) as a").to_arrow()
    assert code(e) == "shape"


# -- what it raises ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clause", ["select f(id) as a", "select * where f(id) > 0", "select * order by f(id)"]
)
def test_an_exception_names_the_row_and_is_the_cause(ds: tql.Dataset, clause: str) -> None:
    def f(x: Any) -> float:
        return 1 / (int(x) - 3)

    tql.register_function(f, returns="float64")
    with pytest.raises(tql.TqlDataError) as e:
        ds.query("select * where id > 1").query(clause).to_arrow()
    assert "f() raised ZeroDivisionError" in str(e.value) and "row 3" in str(e.value)
    assert isinstance(e.value.__cause__, ZeroDivisionError)
    assert e.value.query == clause


def test_an_exception_of_a_batch_names_its_rows(ds: tql.Dataset) -> None:
    def f(x: Any) -> Any:
        raise KeyError("k")

    tql.register_function(f, returns="float64", batch=True)
    with pytest.raises(tql.TqlDataError, match="6 rows from row 0 to 5") as e:
        ds.query("select f(id) as a").to_arrow()
    assert isinstance(e.value.__cause__, KeyError)


# -- where it is called ------------------------------------------------------------------------


def test_it_stands_in_every_clause(ds: tql.Dataset) -> None:
    tql.register_function(lambda x: -x, "minus", returns="int64")
    tql.register_function(lambda x: x % 2 == 0, "even", returns="bool")
    assert ds.query("select * order by minus(id) limit 2").row_ids.tolist() == [5, 4]
    drawn = ds.query("select * sample by max_weight(even(id): 1) limit 200").row_ids
    assert set(drawn.tolist()) == {0, 2, 4}
    assert set(ds.sample_by("max_weight(even(id): 1)", size=50).row_ids.tolist()) <= {0, 2, 4}
    assert set(ds.sample_by("1 - minus(id % 2)", size=9).row_ids.tolist()) <= set(range(6))
    union = ds.query("(select * where even(id)) union (select * where id == 3)")
    assert union.row_ids.tolist() == [0, 2, 3, 4]


def test_a_kernel_is_never_made_of_it(ds: tql.Dataset) -> None:
    tql.register_function(lambda x: x % 2 == 0, "even", returns="bool")
    question = ask(ds.source, "select * where even(id) and id > 1", settings=Settings("kernel"))
    assert question.answer().rows.to_numpy().tolist() == [2, 4]
    call = UserCall(registered()["even"], (), question.bound.outputs[0].expr.dtype)
    assert can_raise(call)


def test_a_query_calls_it_in_row_order_on_its_own_thread(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": np.arange(64)}), tmp_path / "a.parquet", row_group_size=4)
    seen: list[tuple[int, int]] = []

    def see(x: Any) -> bool:
        seen.append((int(x), threading.get_ident()))
        return True

    tql.register_function(see, returns="bool")
    source = tql.open(tmp_path / "a.parquet").source
    ask(source, "select * where see(x)", settings=Settings(threads=4)).answer()
    assert seen == [(n, threading.get_ident()) for n in range(64)]


def test_it_may_ask_queries_itself(ds: tql.Dataset, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": np.arange(64)}), tmp_path / "a.parquet", row_group_size=4)
    files = tql.open(tmp_path / "a.parquet")
    tql.register_function(lambda x: len(files.query("select * where x > ?", [int(x)])), "above")
    assert values(ds.query("select above(id) as a where above(id) < 61")) == [60, 59, 58]


def test_many_threads_register_and_ask(ds: tql.Dataset) -> None:
    tql.register_function(lambda x: x + 1, "f", returns="int64")
    done: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            tql.register_function(lambda x: x + 1, f"f{number}", returns="int64")
            assert values(ds.query(f"select f(f{number}(id)) as a")) == [2, 3, 4, 5, 6, 7]
            tql.unregister_function(f"f{number}")
        done.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert sorted(done) == list(range(8))


def test_a_loader_calls_it(ds: tql.Dataset) -> None:
    tql.register_function(lambda x: x * 10, "ten", returns="int64")
    loader = ds.dataloader(seed=1).query("select ten(id) as a where ten(id) > 10").batch(3)
    batches = list(loader.numpy())
    assert sorted(np.concatenate([b["a"] for b in batches]).tolist()) == [20, 30, 40, 50]


def test_preparing_does_not_call_it_with_values_that_nobody_gave(ds: tql.Dataset) -> None:
    seen: list[Any] = []

    def scaled(x: Any, y: Any) -> float:
        seen.append(y)
        return float(x) * float(y)

    tql.register_function(scaled)
    prepared = ds.prepare("select scaled(id, ?) as a where scaled(id, ?) > ? and id < 5")
    assert seen == []
    for n in (1, 2, 3):
        assert values(prepared.run([n, 1, 3])) == [4.0 * n]
    assert len(seen) == 1 + 3 * (6 + 1)  # one trial; six rows filtered and one read, in each run
    assert {type(y) for y in seen} == {np.ndarray}
    with pytest.raises(tql.TqlNameError):
        ds.prepare("select * where id > ? and scled(id, ?) > 1")


def test_it_is_called_for_each_member_of_a_group(ds: tql.Dataset) -> None:
    tql.register_function(lambda x: 6 // int(x), "share", returns="int64")
    view = ds.query("select share(id) as a where id > 0 group by labels")
    assert values(view) == [[6, 2, 1], [3, 1]]
    text = "select share(id - 1) as a where id > 0 group by labels"
    assert "share() is a function of yours" in str(ds.explain(text))
    with pytest.raises(tql.TqlDataError, match="share\\(\\) raised ZeroDivisionError"):
        ds.query(text).to_arrow()


# -- identity ----------------------------------------------------------------------------------


def test_a_changed_function_changes_views_and_plans(ds: tql.Dataset) -> None:
    def prints(function: Any) -> tuple[str, str, str]:
        tql.register_function(function, "f", returns="int64")
        view = ds.query("select id, f(id) as a")
        filtered = ds.dataloader().query("select id where f(id) > -100")
        weighed = ds.dataloader().sample_by("f(id) + 100")
        return view.fingerprint, filtered.plan.fingerprint, weighed.plan.fingerprint

    def made(scale: int) -> Any:
        return lambda x: x * scale

    one, other = prints(lambda x: x + 1), prints(lambda x: x + 2)
    assert all(a != b for a, b in zip(one, other))
    assert prints(lambda x: x + 1) == one
    assert all(a != b for a, b in zip(prints(made(2)), prints(made(3))))
    assert prints(made(2)) == prints(made(2))
    view = ds.query("select f(id) as a")
    assert "0x" not in repr(view.source.outputs)


def test_a_plan_without_user_functions_does_not_speak_of_them(ds: tql.Dataset) -> None:
    assert "functions" not in str(ds.dataloader().query("select *").plan.origin)


def _kwonly(x: Any, *, scale: float = 2.0) -> Any:
    return x * scale


DIGESTS = {
    "function": _kwonly,
    "lambda": lambda x: x in {"b", "a", "c"},
    "nested": lambda x: [y for y in range(x) if y in (1, 2)],
    "partial": functools.partial(max, 3),
    "ufunc": np.hypot,
    "builtin": abs,
    "class": int,
    "callable": Callable_(),
    "method": Callable_().__call__,
}


def test_digests_are_the_same_in_every_process_and_differ() -> None:
    here = {name: digest_of("f", f) for name, f in DIGESTS.items()}
    assert len(set(here.values())) == len(here)
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.test_user_functions import DIGESTS, digest_of\n"
        "print({name: digest_of('f', f) for name, f in DIGESTS.items()})"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": hash_seed, "PATH": "", "TQL_CACHE_DIR": "/nonexistent"},
        )  # fmt: skip
        assert done.stdout.strip() == str(here)


def test_defaults_and_captured_values_count() -> None:
    def made(captured: Any, default: Any = 0) -> Any:
        def f(x: Any, y: Any = default) -> Any:
            return x + y + captured

        return f

    digests = {
        digest_of("f", made(*given))
        for given in [(1,), (2,), (1, 1), ("a",), ((1, 2),), ({1: 2},), (None,)]
    }
    assert len(digests) == 7
    assert digest_of("f", made(1)) == digest_of("f", made(1)) != digest_of("g", made(1))


def test_explain_names_it(ds: tql.Dataset) -> None:
    tql.register_function(lambda x: x > 2, "big", returns="bool")
    explained = str(ds.explain("select * where big(id)"))
    assert f"big() is a function of yours ({registered()['big'].digest})" in explained
    assert "function of yours" not in str(ds.explain("select * where id > 2"))
