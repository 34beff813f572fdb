"""The interpreter of the tests answers the conformance cases, without the package's engine."""

import re
from typing import Any

import pyarrow as pa
import pytest

from tests.interpreter import queries, relations, scopes
from tests.interpreter.kinds import RowError
from tests.test_conformance import CASES, DATASETS, TABLES
from tql.grammar.parser import parse

RELATIONS = {name: relations.from_arrow(table) for name, table in TABLES.items()}
TOKENS = {name: f"{name}.parquet" for name in TABLES}
BY_PATH = {path: RELATIONS[name] for name, path in TOKENS.items()}
OTHERS = re.compile("random *\\(|sample by|custom_", re.IGNORECASE)  # draws, and user functions
CHOSEN = [
    c
    for c in CASES
    if not {"error", "distribution"} & set(c["expect"]) and not OTHERS.search(c["query"])
]


def plain(value: Any) -> Any:
    """Arrays as nested lists."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [plain(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CHOSEN, ids=lambda c: c["id"])
def test_the_interpreter_answers_a_case(case: dict[str, Any]) -> None:
    text = DATASETS.query_text(case, TOKENS)
    world = scopes.World(RELATIONS[case["dataset"]], BY_PATH, case.get("params") or ())
    result = queries.run(parse(text), world)
    expect = case["expect"]
    if "indices" in expect:
        found, wanted = result.ids, expect["indices"]
        if any(c.name == "id" for c in result.columns):
            found = relations.data_of(result, "id")
        if not case["order_matters"]:
            found, wanted = sorted(found), sorted(wanted)
        assert found == wanted
    elif "values" in expect:
        values = {name: plain(relations.data_of(result, name)) for name in expect["values"]}
        assert DATASETS.same(expect["values"], values), values
    else:
        assert len(result.rows) == expect["count"]


def test_a_weight_that_no_row_can_have_is_an_error_where_rows_are_asked_for() -> None:
    nothing = relations.from_arrow(pa.table({"x": pa.array([], pa.int64())}))
    with pytest.raises(RowError, match="range"):
        queries.drawn(parse("select * sample by data(x, -1) limit 2"), scopes.World(nothing))
    none = queries.drawn(parse("select * sample by data(x, -1) limit 0"), scopes.World(nothing))
    assert none.asked == none.size == 0
