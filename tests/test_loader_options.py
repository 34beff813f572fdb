"""Choices that cannot be served are refused when the loader is built, with a way out."""

from typing import Any

import numpy as np
import pytest

from tests.loader_fakes import loader_of, mixed, source_of
from tql.diagnostics import (
    TqlError,
    TqlNameError,
    TqlPlanError,
    TqlTypeError,
)
from tql.loader import Options
from tql.schema import Int


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"batch_size": 0}, TqlPlanError, "batch_size is 0; expected 1 or more"),
        ({"batch_size": -2}, TqlPlanError, "batch_size is -2"),
        ({"batch_size": 1.5}, TqlTypeError, r"batch_size is 1\.5; expected an integer"),
        ({"batch_size": 2**31}, TqlPlanError, "batch_size is 2147483648; expected 2,147,483,647"),
        ({"batch_size": np.ones(3, int)}, TqlTypeError, "expected an integer"),
        ({"rank": 0.5, "world_size": 2}, TqlTypeError, r"rank is 0\.5; expected an integer"),
        ({"rank": True, "world_size": 2}, TqlTypeError, "rank is True"),
        ({"timeout": "1"}, TqlTypeError, "timeout is '1'; expected a number of seconds"),
        ({"timeout": float("nan")}, TqlPlanError, "timeout is nan"),
        ({"timeout": float("inf")}, TqlPlanError, "timeout=None waits for ever"),
        ({"columns": ()}, TqlTypeError, "tensors names no column"),
        ({"columns": "image"}, TqlTypeError, r"tensors=\['image'\]"),
        ({"columns": ["x", 3]}, TqlTypeError, "tensors holds 3; expected a list of column names"),
        ({"columns": 3}, TqlTypeError, "tensors is 3"),
        ({"decode": "numpy"}, TqlTypeError, "decode_method is 'numpy'; expected a dict"),
        ({"decode": None}, TqlTypeError, "decode_method is None"),
        ({"batch_size": True}, TqlTypeError, "batch_size is True"),
        ({"num_threads": 0}, TqlPlanError, "num_threads is 0"),
        ({"prefetch_factor": 0}, TqlPlanError, "prefetch_factor is 0"),
        ({"memory_bytes": 0}, TqlPlanError, "memory_bytes is 0"),
        ({"offset": -1}, TqlPlanError, "offset is -1"),
        ({"rank": 2, "world_size": 2}, TqlPlanError, "rank is 2, but with world_size=2"),
        ({"timeout": 0}, TqlPlanError, "timeout is 0"),
        ({"remainder": "paid"}, TqlTypeError, "did you mean 'pad'"),
        ({"decode": {"x": "numpi"}}, TqlTypeError, "did you mean 'numpy'"),
        ({"decode": {"x": None}}, TqlTypeError, "'x' is None; expected 'numpy', 'tobytes', 'pil'"),
        ({"transform": 3}, TqlTypeError, "the transform is int"),
        ({"transform": {}}, TqlTypeError, "empty dict"),
        ({"transform": {"x": 3}}, TqlTypeError, "the transform of 'x' is int"),
        ({"transform": {"x": None}, "columns": ("y",)}, TqlTypeError, r"\['x'\], but tensors="),
        ({"num_workers": -1}, TqlPlanError, "num_workers is -1"),
        ({"persistent_workers": True}, TqlTypeError, "num_workers=0 has none to keep"),
        ({"on_error": "ignore"}, TqlTypeError, "on_error is 'ignore'; expected 'raise', 'skip'"),
        ({"max_errors": 1}, TqlTypeError, "max_errors= with on_error='raise'"),
    ],
)
def test_an_impossible_option_is_refused(
    options: dict[str, Any], kind: type[TqlError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        Options(**options)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"columns": ("nam",)}, TqlNameError, "did you mean 'name'"),
        ({"decode": {"imag": "pil"}}, TqlNameError, "did you mean 'image'"),
        ({"transform": {"X": None}}, TqlNameError, "did you mean 'x'"),
        ({"columns": ("zzzzz",)}, TqlNameError, "there are x, y, name, flag, image"),
        ({"decode": {"x": "pil"}}, TqlTypeError, "'pil' needs an image column, but 'x' is int32"),
        ({"decode": {"name": "pil"}}, TqlTypeError, "but 'name' is text"),
        ({"decode": {"x": "tobytes"}}, TqlTypeError, "'tobytes' needs an image, binary or text"),
    ],
)
def test_an_option_that_does_not_fit_the_columns_is_refused(
    options: dict[str, Any], kind: type[TqlError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        loader_of(mixed(), **options)


def test_a_column_named_index_is_refused_unless_the_row_ids_are_left_out() -> None:
    source = source_of(index=(Int(), [5, 6]), other=(Int(), [1, 2]))
    with pytest.raises(TqlNameError, match="return_index=False"):
        loader_of(source)
    assert next(iter(loader_of(source, return_index=False)))["index"].tolist() == [5]
    assert list(next(iter(loader_of(source, columns=("other",))))) == ["other", "index"]


def test_a_column_named_like_the_mark_of_padding_is_refused() -> None:
    with pytest.raises(TqlNameError, match="_pad"):
        loader_of(source_of(_pad=(Int(), [5, 6])), remainder="pad")


def test_columns_come_in_the_order_asked_for_and_no_other_is_read() -> None:
    source = mixed()
    asked: list[list[str]] = []
    read = source.read
    source.read = lambda f, columns: asked.append(list(columns)) or read(f, columns)  # type: ignore
    batch = next(iter(loader_of(source, columns=("y", "x"), batch_size=10)))
    assert list(batch) == ["y", "x", "index"]
    assert {tuple(names) for names in asked} == {("y", "x")}
