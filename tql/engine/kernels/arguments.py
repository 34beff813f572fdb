"""Arguments of kernels, made from the columns of a fragment."""

from collections.abc import Mapping
from typing import Any, Final

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

# Codes are unsigned, as wide as they are stored: an index that may be negative costs a comparison
# each (10 M rows of 50 texts, hits[code]: int32 7.8 ms, uint16 3.2, uint8 1.7).
_CODES: Final[Mapping[int, str]] = {8: "u8", 16: "u16", 32: "u32", 64: "u32"}
WIDEST: Final = "u32"
_WHOLE: Final = 16  # bits up to which a table has a place for every number that a code can be


def _dictionary(columns: Columns, name: str) -> Any:
    array = columns[name]
    # A dictionary that holds a null, or plain text, is for the reference tier.
    if not hasattr(array, "indices") or array.dictionary.null_count:
        raise Unsuitable("text without a dictionary, or with NULL in it")
    return array


def _distinct(columns: Columns, name: str) -> Any:
    """The texts that the codes stand for, as plain text."""
    return one_array(plain_text(_dictionary(columns, name).dictionary))


def code_kind(stored: Any) -> str:
    """The C type of the codes of an Arrow type; Unsuitable where it is no dictionary's."""
    if not pa.types.is_dictionary(stored):
        raise Unsuitable("text without a dictionary")
    return _CODES[stored.index_type.bit_width]


def codes(columns: Columns, name: str) -> NDArray[np.unsignedinteger]:
    """The codes of a dictionary column, each a place in its tables."""
    array = _dictionary(columns, name)
    found = np.ascontiguousarray(storage(array.indices))
    kind = NUMPY[code_kind(columns[name].type)]
    # No code is negative, so that the same bits are the same number.
    exact = found.view(kind) if found.itemsize == kind.itemsize else found.astype(kind)
    if not array.null_count or 8 * kind.itemsize <= _WHOLE or not len(exact):
        return exact
    # What stands behind a null may be any number: keep look-ups in range.
    return exact if exact.max() < len(array.dictionary) else np.where(_is_valid(array), exact, 0)


def _is_valid(array: Any) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return valid


def code_of(columns: Columns, name: str, value: str) -> int:
    """The code of a text; the greatest number of the type, which no row has, where it is not there."""
    texts = _distinct(columns, name)  # none of which is NULL
    same = pc.equal(texts, pa.scalar(value, texts.type))  # a third of what the bare text takes
    found = np.flatnonzero(same.to_numpy(zero_copy_only=False))
    if len(found) == 1:
        return int(found[0])
    nowhere = int(np.iinfo(NUMPY[code_kind(columns[name].type)]).max)
    if len(found) or len(texts) > nowhere:  # the dictionary repeats it, or uses all codes
        raise Unsuitable("a dictionary with a text twice")
    return nowhere


def hits(columns: Columns, name: str, rule: Any) -> NDArray[np.uint8]:
    """For each code whether the rule holds."""
    found = one_array(matches(rule, _distinct(columns, name)))
    return _table(columns, name, found.to_numpy(zero_copy_only=False).astype(np.uint8))


def ranks(columns: Columns, name: str, other: str) -> NDArray[np.int32]:
    """For each code of `name` the place of its text among the texts of both columns, by code point."""
    left, right = sorted((name, other))

    def places() -> dict[str, NDArray[np.int32]]:
        texts = {n: _distinct(columns, n).cast("large_string") for n in (left, right)}
        together = pc.unique(pa.concat_arrays(list(texts.values())))
        ordered = together.take(pc.array_sort_indices(together))  # as UTF-8 bytes
        return {
            n: _table(columns, n, pc.index_in(t, value_set=ordered).to_numpy().astype(np.int32))
            for n, t in texts.items()
        }

    found: dict[str, NDArray[np.int32]] = columns.once(("ranks", left, right), places)
    return found[name]


def _table(columns: Columns, name: str, of_texts: NDArray[Any]) -> NDArray[Any]:
    """A number for each text of the dictionary as a table for all that `codes` gives: a row that is
    NULL looks somewhere, too.
    """
    bits = 8 * NUMPY[code_kind(columns[name].type)].itemsize
    places = 1 << bits if bits <= _WHOLE else 1
    if len(of_texts) >= places:
        return of_texts
    return np.concatenate([of_texts, np.zeros(places - len(of_texts), of_texts.dtype)])
