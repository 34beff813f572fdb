"""BM25: how well a text answers a query of words (reference §12).

Okapi's formula with k1 = 1.2 and b = 0.75, and the idf of Lucene, ln(1 + (N - n + 0.5) / (n + 0.5)):
the sum over the words of the query, each as often as it stands there, of
idf · tf · (k1 + 1) / (tf + k1 · (1 - b + b · length / mean length)). Words are runs of letters
and digits in lower case. N counts the rows that are not NULL.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tql.engine.columns import Arrow, Numbers, one_array, pc
from tql.engine.comparing import plain_text

_K1: Final = 1.2
_B: Final = 0.75
_WORD: Final = r"[\p{L}\p{N}]+"
_BETWEEN: Final = r"[^\p{L}\p{N}]+"
_MOST_COUNTS: Final = 1 << 21  # 16 MiB of int64
_MOST_SOUGHT: Final = 4  # splitting a text costs about as much as searching it for so many words

Int64s = NDArray[np.int64]


class Statistics(NamedTuple):
    """Of some rows of a column: how many have a text, their words together, and how many of them
    have each word of the query.
    """

    texts: int
    length: int
    having: tuple[int, ...]


class Query(NamedTuple):
    """The distinct words of a query, what each counts, and the mean length of the texts in words."""

    words: tuple[str, ...]
    weights: tuple[float, ...]
    mean_length: float


def words_of(text: str) -> list[str]:
    """The words of a text in its order, found as those of a column are."""
    lower = pc.utf8_lower(pa.array([text], pa.string()))
    return [w for w in pc.split_pattern_regex(lower, _BETWEEN)[0].as_py() if w]


def distinct(text: str) -> tuple[str, ...]:
    """The distinct words of a query, in the order of their first appearance."""
    return tuple(dict.fromkeys(words_of(text)))


def statistics(texts: Any, words: tuple[str, ...]) -> Statistics:
    """Of an Arrow array of text."""
    plain, codes = _once_each(texts)
    often = np.ones(len(plain), np.int64)
    if codes is not None:
        often = np.bincount(codes, minlength=len(plain) + 1)[:-1]
    total, having = 0, np.zeros(len(words), np.int64)
    for start, length, found in _blocks(plain, words):
        times = often[start : start + len(length)]
        total += int(length @ times)
        having += times @ (found > 0)
    return Statistics(len(texts) - texts.null_count, total, tuple(having.tolist()))


def weighed(query: str, parts: Iterable[Statistics]) -> Query:
    """The query with the statistics of all parts of the column."""
    words = words_of(query)
    known = tuple(dict.fromkeys(words))
    texts, length, having = 0, 0, [0] * len(known)
    for part in parts:
        texts += part.texts
        length += part.length
        having = [a + b for a, b in zip(having, part.having, strict=True)]
    weights = tuple(
        words.count(w) * math.log(1 + (texts - n + 0.5) / (n + 0.5))
        for w, n in zip(known, having, strict=True)
    )
    return Query(known, weights, length / texts if length else 1.0)


def scores(texts: Arrow, query: Query) -> Numbers:
    """float64 (n,): the score of each text; 0 where no word of the query is in it."""
    plain, codes = _once_each(texts.array)
    score = np.zeros(len(plain) + 1)  # the last one is that of NULL codes
    for start, length, found in _blocks(plain, query.words):
        total = np.zeros(len(length))
        norm = _K1 * (1 - _B + _B * (length / query.mean_length))
        for at, weight in enumerate(query.weights):
            often = found[:, at].astype(np.float64)
            total += weight * (often * (_K1 + 1)) / (often + norm)
        score[start : start + len(length)] = total
    return Numbers(score[:-1] if codes is None else score[codes], texts.valid)


def _once_each(texts: Any) -> tuple[Any, NDArray[Any] | None]:
    """The texts as plain text. Of a dictionary: its distinct texts, and for every row which it is,
    the number after the last where the row is NULL.
    """
    if not pa.types.is_dictionary(texts.type):
        return plain_text(texts), None
    distinct = plain_text(texts.dictionary)
    codes: NDArray[Any] = pc.fill_null(texts.indices.cast(pa.int64()), len(distinct)).to_numpy()
    return distinct, codes


def _blocks(texts: Any, words: tuple[str, ...]) -> Iterator[tuple[int, Int64s, Int64s]]:
    """Where each block of the texts starts, and what `_counted` says of it.

    Blocks hold to a bound the counts of all words of a long query, which are there at once.
    """
    rows = max(1, _MOST_COUNTS // max(1, len(words)))
    for start in range(0, len(texts), rows):
        yield start, *_counted(texts.slice(start, rows), words)


def _counted(texts: Any, words: tuple[str, ...]) -> tuple[Int64s, Int64s]:
    """int64 (n,) words in each text, and (n, len(words)) how often each of `words` is there.

    For a few words, only texts that have one as a part are split.
    """
    lower = pc.utf8_lower(texts)
    length = _lengths(lower)
    found = np.zeros((len(lower), len(words)), np.int64)
    if len(words) > _MOST_SOUGHT:
        candidates = length > 0
    else:
        candidates = np.zeros(len(lower), np.bool_)
        for word in words:
            hits = pc.fill_null(pc.match_substring(lower, word), False)
            candidates |= hits.to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(candidates)
    if len(rows):
        split = one_array(pc.split_pattern_regex(lower.take(pa.array(rows)), _BETWEEN))
        parts = pc.list_flatten(split)
        code = pc.index_in(parts, value_set=pa.array(words, parts.type))
        of_row = np.repeat(np.arange(len(rows)), pc.list_value_length(split).to_numpy())
        known = pc.is_valid(code).to_numpy(zero_copy_only=False)
        place = of_row[known] * len(words) + code.drop_null().to_numpy()
        counts = np.bincount(place, minlength=len(rows) * len(words))
        found[rows] = counts.reshape(len(rows), len(words))
    return length, found


_ASCII_WORD: Final = np.array([chr(c).isalnum() and c < 128 for c in range(256)])


def _lengths(texts: Any) -> Int64s:
    """int64 (n,): how many words each text has; 0 where it is NULL.

    Words of ASCII are counted in the bytes of all rows at once (1 M rows of 8 words: 0.3 s, and
    2 s by regular expression), which any other letter needs.
    """
    wide = pa.types.is_large_string(texts.type)
    _, ends, data = texts.buffers()
    item = np.int64 if wide else np.int32
    offsets = np.frombuffer(ends, item)[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    content = np.frombuffer(b"" if data is None else data, np.uint8)[first:last]
    offsets = offsets.astype(np.int64) - first
    inside = _ASCII_WORD[content]
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    edges = offsets[:-1][offsets[:-1] < len(content)]
    begins[edges] = inside[edges]  # a row starts anew
    length = _per_row(begins, offsets)
    foreign = np.flatnonzero(_per_row(content >= 128, offsets))
    if len(foreign):
        counts = pc.count_substring_regex(texts.take(pa.array(foreign)), _WORD)
        length[foreign] = pc.fill_null(counts, 0).to_numpy()
    if texts.null_count:
        length[pc.is_null(texts).to_numpy(zero_copy_only=False)] = 0
    return length


def _per_row(marks: NDArray[np.bool_], offsets: Int64s) -> Int64s:
    """int64 (n,): how many of the marks lie between each offset and the next."""
    places = np.searchsorted(np.flatnonzero(marks), offsets)
    return np.diff(places).astype(np.int64)
