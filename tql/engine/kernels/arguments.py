"""Arguments of kernels, made from the columns of a fragment."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.bits import aligned_words
from tql.engine.columns import numpy_dtype, one_array, pc, storage
from tql.engine.comparing import plain_text
from tql.engine.kernels.build import Columns, Unsuitable
from tql.engine.kernels.kinds import NUMPY, c_kind
from tql.engine.text_rules import matches
from tql.schema import DType, Label

Words = NDArray[np.uint64]


def values(columns: Columns, name: str, dtype: DType) -> NDArray[Any]:
    """The numbers of a column, in the C type of `dtype`; whatever stands behind its nulls."""
    array = columns[name]
    if isinstance(dtype, Label) and hasattr(array, "indices"):
        array = array.indices
    return as_kind(array, dtype)


def as_kind(array: Any, dtype: DType) -> NDArray[Any]:
    """The values buffer of an Arrow array as C-contiguous NumPy, no copy where the types agree."""
    exact = storage(array).astype(numpy_dtype(dtype), copy=False)
    return np.ascontiguousarray(exact.astype(NUMPY[c_kind(dtype)], copy=False))


def value_bits(columns: Columns, name: str) -> Words:
    """The bits of a bool column."""
    return bits_of(columns[name])


def bits_of(array: Any) -> Words:
    return aligned_words(array.buffers()[1], array.offset, len(array))


def validity(columns: Columns, name: str) -> Words:
    """The bits of the rows that are not NULL."""
    return valid_bits(columns[name])


def valid_bits(array: Any) -> Words:
    if not array.null_count:
        return np.full((len(array) + 63) // 64, ~np.uint64(0))
    return aligned_words(array.buffers()[0], array.offset, len(array))


# -- text --------------------------------------------------------------------------------------


def _dictionary(columns: Columns, name: str) -> Any:
    array = columns[name]
    # A dictionary that holds a null, or plain text, is for the reference tier.
    if not hasattr(array, "indices") or array.dictionary.null_count:
        raise Unsuitable("text without a dictionary, or with NULL in it")
    return array


def _distinct(columns: Columns, name: str) -> Any:
    """The texts that the codes stand for, as plain text."""
    return one_array(plain_text(_dictionary(columns, name).dictionary))


def codes(columns: Columns, name: str) -> NDArray[np.int32]:
    """The codes of a dictionary column, all of them in range."""
    indices = _dictionary(columns, name).indices
    found = storage(indices)
    if indices.null_count:  # what stands behind a null may be any number: keep look-ups in range
        found = np.where(indices.is_valid().to_numpy(zero_copy_only=False), found, 0)
    return np.ascontiguousarray(found.astype(np.int32, copy=False))


def code_of(columns: Columns, name: str, value: str) -> int:
    """The code of a text; -1, which no row has, where it is not there."""
    texts = _distinct(columns, name)
    at: int = texts.index(value).as_py()
    if at >= 0 and texts.index(value, start=at + 1).as_py() >= 0:
        raise Unsuitable("a dictionary with a text twice")
    return at


def hits(columns: Columns, name: str, rule: Any) -> NDArray[np.uint8]:
    """For each code whether the rule holds, at least one number."""
    found = one_array(matches(rule, _distinct(columns, name)))
    return _not_empty(found.to_numpy(zero_copy_only=False).astype(np.uint8))


def ranks(columns: Columns, name: str, other: str) -> NDArray[np.int32]:
    """For each code of `name` the place of its text among the texts of both columns, by code point;
    at least one number.
    """
    left, right = sorted((name, other))

    def places() -> dict[str, NDArray[np.int32]]:
        texts = {n: _distinct(columns, n).cast("large_string") for n in (left, right)}
        together = pc.unique(pa.concat_arrays(list(texts.values())))
        ordered = together.take(pc.array_sort_indices(together))  # as UTF-8 bytes
        return {
            n: _not_empty(pc.index_in(t, value_set=ordered).to_numpy().astype(np.int32))
            for n, t in texts.items()
        }

    found: dict[str, NDArray[np.int32]] = columns.once(("ranks", left, right), places)
    return found[name]


def _not_empty(table: NDArray[Any]) -> NDArray[Any]:
    """A row that is NULL looks at place 0, also where there is none."""
    return table if len(table) else np.zeros(1, table.dtype)
