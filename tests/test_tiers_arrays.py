"""Both tiers give the same rows, or the same error, for conditions over arrays."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.plain_kernels import run_as_python
from tests.profiles import examples
from tests.ragged_tables import array_conditions, arrays_of, names_in, ragged_table
from tests.tiers import bound, outcome
from tql.diagnostics import TqlTypeError


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kernels are compiled here, not taken from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("kernels")
        patch.setenv("TQL_CACHE_DIR", str(folder))
        yield folder


@settings(max_examples=examples(400))
@given(st.data())
def test_the_tiers_keep_the_same_rows_of_arrays(data: st.DataObject) -> None:
    """The kernel tier runs the generated source as Python here; compiled kernels come below."""
    text = data.draw(array_conditions())
    rows = data.draw(st.sampled_from([0, 1, 2, 7, 65, 70]))
    table = ragged_table(
        names_in(text), rows, data.draw(st.integers(0, 2**32)),
        data.draw(st.sampled_from([0, 1, 3, 8])), data.draw(st.booleans()),
    )  # fmt: skip
    source = arrays_of(table, data.draw(st.lists(st.integers(1, 64), max_size=2)))
    try:
        bound(text, source)
    except TqlTypeError:
        reject()  # sizes that the types rule out
    wanted = outcome([text], source, "reference")
    with pytest.MonkeyPatch.context() as patch:
        run_as_python(patch)
        assert outcome([text], source, "kernel") == wanted


SHAPES = [
    "any(boxes[:, 2] > 1)", "contains(i64s, 3)", "all(f32s != 2)", "sum(i64s) > 3", "i64s[0] == 2",
    "i64s[-1] < 3", "shape(boxes_n)[0] > 1", "amax(emb) < 1", "l2_norm(emb_n) > 1",
]  # fmt: skip
