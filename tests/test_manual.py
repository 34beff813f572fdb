"""What the manual says of functions is so: examples give what they show, every part is filled in."""

import json
from typing import Any

import pytest

import tql
from tests.plain_kernels import run_as_python
from tql import cli
from tql.engine.scan import Settings
from tql.language.functions import FUNCTIONS, Function
from tql.queries import ask
from tql.reports.manual import as_lines, function_named, in_full, shown

DESCRIBED = [f for f in FUNCTIONS.values() if f.example is not None]


def close(found: Any, expected: Any) -> bool:
    """The same, floats to six digits, as they are shown."""
    if isinstance(expected, list | tuple):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(close, found, expected))
        )
    if isinstance(expected, float) and isinstance(found, float):
        return found == pytest.approx(expected, rel=1e-6, nan_ok=True)
    return type(found) is type(expected) and bool(found == expected)


@pytest.mark.parametrize("f", DESCRIBED, ids=lambda f: f.name)
def test_an_example_gives_what_it_shows(f: Function) -> None:
    assert f.example is not None
    view = tql.open(f.example.source).query(f.example.query)
    assert close(view.to_arrow().column(0).to_pylist(), f.example.result), shown(f.example)
    calls = tql.format(f.example.query)
    assert f"{f.name}(" in calls


@pytest.mark.parametrize("f", DESCRIBED, ids=lambda f: f.name)
def test_a_function_is_described_in_full(f: Function) -> None:
    assert f.signature.startswith(f"{f.name}(")
    for text in (f.meaning, f.result, f.nulls):
        assert text and text == text.strip() and not text.endswith(".")
    assert f.takes or f.arguments == (0, 0)
    assert "\n" not in "".join((f.meaning, f.takes, f.result, f.nulls, f.special))


def test_the_table_fits_the_width() -> None:
    for columns in (80, 100):
        lines = as_lines(FUNCTIONS.values(), columns)
        assert max(map(len, lines)) <= columns
        for f in DESCRIBED:
            assert max(map(len, in_full(f, columns)[:-2])) <= columns, f.name


def test_a_name_is_found_in_any_case_and_suggested() -> None:
    assert function_named("ABS()").name == "abs"
    with pytest.raises(tql.TqlNameError, match="did you mean 'contains'"):
        function_named("contain")
    with pytest.raises(tql.TqlNameError, match="lists them all"):
        function_named("zzzz")


def test_the_json_has_every_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.perform(["functions", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [f["name"] for f in told["functions"]] == sorted(FUNCTIONS)
    assert all(set(f) == set(told["functions"][0]) for f in told["functions"])
    assert cli.perform(["functions", "abs", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["functions"]
    assert one["example"]["result"] == [2, 1, 2] and one["compiled"] is True


# -- compiled or not ---------------------------------------------------------------------------

# A condition for each function.
PROBES = {
    "abs": "abs(frame) == 1",
    "all": "all(embedding > 0)",
    "all_strict": "all_strict(embedding > 0)",
    "amax": "amax(embedding) > 0",
    "amin": "amin(embedding) > 0",
    "any": "any(embedding > 0)",
    "avg": "avg(embedding) > 0",
    "bm25_similarity": "bm25_similarity(caption, 'cat') > 0",
    "contains": "contains(frame, 1)",
    "cosine_similarity": "cosine_similarity(embedding, embedding) > 0.5",
    "data": "data(frame, 1) == frame",
    "dot": "dot(embedding, embedding) > 1",
    "equals": "equals(frame, id)",
    "hamming_distance": "hamming_distance(embedding, embedding) == 0",
    "keys": "keys(meta) is not null",
    "l1_norm": "l1_norm(embedding) > 1",
    "l2_norm": "l2_norm(embedding) > 1",
    "linf_norm": "linf_norm(embedding) > 1",
    "logical_and": "any(logical_and(embedding > 0, embedding > 1))",
    "logical_or": "any(logical_or(embedding > 0, embedding > 1))",
    "max_weight": "max_weight(frame > 1: 2) > 1",
    "maxsim": "maxsim(boxes, boxes) > 0",
    "nonzero": "any(nonzero(embedding) > 0)",
    "prod": "prod(embedding) > 0",
    "random": "random() > 1",
    "row_number": "row_number() > 1",
    "shape": "any(shape(boxes) == 2)",
    "sqrt": "sqrt(frame) > 1",
    "sum": "sum(embedding) > 0",
    "sum_weight": "sum_weight(frame > 1: 2) > 1",
}
# They stand where no filter does: the conditions of the weights are compiled, and count(*) counts.
ELSEWHERE = {"balanced", "count", "max_weight", "sum_weight"}


@pytest.mark.parametrize(
    "f", [f for f in FUNCTIONS.values() if f.name not in ELSEWHERE], ids=lambda f: f.name
)
def test_what_is_said_of_compiling_is_so(f: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = run_as_python(monkeypatch)
    source = tql.open("demo:photos").source
    ask(source, f"select * where {PROBES[f.name]}", settings=Settings("kernel")).answer()
    assert (calls["predicate"] > 0) is f.kernel


def test_weights_are_compiled_as_their_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = run_as_python(monkeypatch)
    source = tql.open("demo:photos").source
    for name in ("max_weight", "sum_weight"):
        assert FUNCTIONS[name].kernel
        before = calls["predicate"]
        text = f"select * sample by {name}(frame > 1: 2, true: 1)"
        ask(source, text, settings=Settings("kernel")).answer()
        assert calls["predicate"] > before
