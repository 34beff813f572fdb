"""Text in memory by code: a dictionary for each fragment, made once and kept while the source lives.

A rule about text is then tested once per distinct text, and a row costs a look-up by a code of one
byte. Making the codes costs several passes over plain text, so they are made by the rule of the ski
rental: when what the plain passes have cost equals their price. A fragment in which nearly every
text is another one keeps to the plain way.

Kept for sources whose columns lie in memory anyway; what is read from files comes with the
dictionaries that the files have.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from operator import itemgetter
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from tql.engine.columns import one_array, pc
from tql.engine.comparing import plain_text
from tql.engine.costs import TEXT_COMPARE, TEXT_ENCODE, TEXT_NARROW, plain_text_ns
from tql.forks import ForkLock
from tql.language.expr import Column, CompareText, Expr, IsNull, TextTest, walk
from tql.memory_size import budget
from tql.schema import Text
from tql.sources.protocol import Fragment, Source

_SAMPLE: Final = 4096
# 4,096 of 65,536 texts repeat 125 times, which is 3 %; fewer, and codes of two bytes do not do.
_SAMPLE_DISTINCT: Final = 0.97
_MOST_NARROW: Final = 1 << 16  # texts from which on codes take four bytes
_REPEATS: Final = 2  # rows for each distinct text, at least
_SHARE: Final = 4  # of the memory that a step of a query may take, one part is for what is kept


@dataclass(slots=True)
class _Part:
    """One column of one fragment. `made` is the dictionary array, `bytes` its size, also when it is
    gone, 0 if it never was; `hopeless` that it has none.
    """

    owed_ns: float = 0.0
    made: Any = None
    hopeless: bool = False
    bytes: int = 0
    used: int = 0
    builder: int = 0  # the process of the thread that makes it, if one does


@dataclass(slots=True)
class _Cache:
    """The dictionaries of all sources; `most` bytes of them, the least recently used leave first.

    A column of which all dictionaries would take more takes what room is free: if others had to
    leave for it, each part of it would be gone before it is asked for again.
    """

    most: int
    parts: WeakKeyDictionary[Source, dict[tuple[int, str], _Part]] = field(
        default_factory=WeakKeyDictionary
    )
    held: WeakKeyDictionary[Source, int] = field(default_factory=WeakKeyDictionary)  # bytes
    lock: ForkLock = field(default_factory=ForkLock)
    clock: Iterator[int] = field(default_factory=lambda: count(1))

    def coded(
        self, source: Source, fragment: Fragment, name: str, column: Any, plain_ns: float
    ) -> Any:
        """The column as a dictionary array with narrow codes, or None: use it as it is, which
        takes `plain_ns`.
        """
        with self.lock:
            part = self.parts.setdefault(source, {}).setdefault((fragment.index, name), _Part())
            part.used = next(self.clock)
            if part.made is not None or part.hopeless:
                return part.made
            part.owed_ns += plain_ns
            price = TEXT_NARROW if _is_coded(column) else TEXT_ENCODE
            if part.owed_ns < price * fragment.rows or part.builder == os.getpid():
                return None
            if not self._has_room(source, fragment, part.bytes or fragment.rows):  # a byte a code
                part.owed_ns = 0.0  # there may be room the next time
                return None
            part.builder = os.getpid()
        made = None
        try:
            made = encoded(column)
        except (MemoryError, pa.ArrowException):
            # What a query gives or raises must not depend on what was asked before: the column
            # stays as it is, and whatever is wrong with it is said where it is used.
            made = None
        finally:
            with self.lock:
                if made is None:
                    part.hopeless = True
                else:
                    part.bytes = made.nbytes
                    if self._has_room(source, fragment, part.bytes):
                        part.made = made
                        self._hold(source, part.bytes)
                    else:
                        part.owed_ns = 0.0
                part.builder = 0
        self._make_room()
        return made

    def known(self, source: Source, fragment: int, name: str) -> Any:
        """The dictionary array of a column of a fragment; None where there is none now."""
        with self.lock:
            part = self.parts.get(source, {}).get((fragment, name))
            if part is None or part.made is None:
                return None
            part.used = next(self.clock)
            return part.made

    @property
    def bytes(self) -> int:
        """What all dictionaries take."""
        return sum(self.held.values())

    def _hold(self, source: Source, more: int) -> None:
        self.held[source] = self.held.get(source, 0) + more

    def _has_room(self, source: Source, fragment: Fragment, nbytes: int) -> bool:
        """Whether a part of so many bytes is to be kept, should the rest of its column be like it."""
        whole = nbytes * source.rows // fragment.rows
        return whole <= self.most or self.bytes + nbytes <= self.most

    def _make_room(self) -> None:
        with self.lock:
            excess = self.bytes - self.most
            if excess <= 0:
                return
            kept = [
                (p.used, p, source)
                for source, parts in self.parts.items()
                for p in parts.values()
                if p.made is not None
            ]
            for _, part, source in sorted(kept, key=itemgetter(0)):
                if excess <= 0:
                    break
                excess -= part.bytes
                self._hold(source, -part.bytes)
                # What it cost is forgotten as well: it pays anew before it is made again.
                part.made, part.owed_ns = None, 0.0


CACHE: Final = _Cache(budget() // _SHARE)


@dataclass(frozen=True, slots=True)
class Uses:
    """What conditions do with columns of text of which they ask for the texts alone.

    plain_ns  by column, nanoseconds a row that this takes without codes
    pairs     columns that are compared with each other: by code both of them, or none
    """

    plain_ns: Mapping[str, float]
    pairs: frozenset[frozenset[str]]


NO_USES: Final = Uses({}, frozenset())


def uses(conditions: Sequence[Expr]) -> Uses:
    """The columns that stand in nothing but rules, comparisons with each other and IS NULL."""
    found: Counter[str] = Counter()
    tested: Counter[str] = Counter()
    cost: dict[str, float] = {}
    pairs = set()
    for e in (n for c in conditions for n in walk(c)):
        match e:
            case Column(name, Text()):
                found[name] += 1
            case TextTest(Column(name), rule):
                tested[name] += 1
                cost[name] = cost.get(name, 0.0) + plain_text_ns(rule)
            case CompareText(_, Column(left), Column(right)):
                tested.update((left, right))
                pairs.add(frozenset((left, right)))
                for name in (left, right):
                    cost[name] = cost.get(name, 0.0) + TEXT_COMPARE
            case IsNull(Column(name, Text())):
                tested[name] += 1
            case _:
                pass
    kept = {name: ns for name, ns in cost.items() if tested[name] == found[name]}
    return Uses(kept, frozenset(pairs))


def read(
    source: Source, fragment: Fragment, columns: Sequence[str], text: Uses, wanted: float
) -> Any:
    """These columns of a fragment, as `source.read` gives them, but text by code where that pays.

    `wanted` is how many of its rows are looked at; infinite where it is to be by code in any case.
    """
    table = source.read(fragment.index, columns)
    if not (fragment.in_place and text.plain_ns):
        return table
    coded = {
        name: CACHE.coded(source, fragment, name, table.column(name), ns * wanted)
        for name, ns in text.plain_ns.items()
    }
    return _coded_alike(table, {n: a for n, a in coded.items() if a is not None}, text)


def now(source: Source, fragment: Fragment, columns: Sequence[str], text: Uses) -> Any:
    """These columns of a fragment as `read` would give them without making a dictionary; nothing is
    counted.
    """
    table = source.read(fragment.index, columns)
    if not fragment.in_place:
        return table
    coded = {n: CACHE.known(source, fragment.index, n) for n in text.plain_ns}
    return _coded_alike(table, {n: a for n, a in coded.items() if a is not None}, text)


def _coded_alike(table: Any, coded: Mapping[str, Any], text: Uses) -> Any:
    """The table with these columns by code, but for those compared with one that is plain, with one
    that is compared with such a one, and so on.
    """
    plain = {n for n in table.column_names if n not in coded and not _is_coded(table.column(n))}
    while more := {n for pair in text.pairs if pair & plain for n in pair} - plain:
        plain |= more
    names = table.column_names
    arrays = [coded[n] if n in coded and n not in plain else table.column(n) for n in names]
    return pa.Table.from_arrays(arrays, names=names)


def _is_coded(column: Any) -> bool:
    return bool(pa.types.is_dictionary(column.type))


def encoded(column: Any) -> Any:
    """A column of text, plain or a dictionary, as a dictionary array: without nulls or repeats among
    its texts, codes int32 or as narrow as leaves one number free. None where the texts hardly repeat,
    or a dictionary that is there has too many for narrow codes.
    """
    array = one_array(column)
    if _is_coded(array):
        # More texts leave the codes as wide as they are, and take long to be put in order.
        return _narrow(_tidy(array)) if len(array.dictionary) < _MOST_NARROW else None
    array = plain_text(array)
    if len(array) > _SAMPLE:
        places = np.linspace(0, len(array) - 1, _SAMPLE).astype(np.int64)
        sample = pc.unique(array.take(pa.array(places)))
        if len(sample) > _SAMPLE_DISTINCT * _SAMPLE:
            return None
    made = one_array(pc.dictionary_encode(array))
    if len(made.dictionary) * _REPEATS > max(len(array), _SAMPLE):
        return None
    return _narrow(made)


def _tidy(array: Any) -> Any:
    """The dictionary array with each text once and none of them null."""
    texts = one_array(plain_text(array.dictionary))
    again = one_array(pc.dictionary_encode(texts))
    if not texts.null_count and len(again.dictionary) == len(texts):
        return pa.DictionaryArray.from_arrays(array.indices, texts)
    return pa.DictionaryArray.from_arrays(again.indices.take(array.indices), again.dictionary)


def _narrow(array: Any) -> Any:
    texts = len(array.dictionary)
    kind = pa.uint8() if texts < 1 << 8 else pa.uint16() if texts < _MOST_NARROW else pa.int32()
    # Fresh codes in any case: a slice would keep all of its buffers alive. What stands behind
    # nulls may be too large, and is cut.
    codes = pc.cast(array.indices, kind, safe=False)
    return pa.DictionaryArray.from_arrays(codes, array.dictionary, safe=False)
