"""GROUP BY: the rows of a query put together by the values of keys, as a source of sequences.

Only which rows belong together is worked out beforehand: a permutation of the rows and where each
group begins in it. Columns are gathered when they are read, for the groups that are read.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from tql.diagnostics import data_error
from tql.engine.columns import Objects, Vec, one_array
from tql.engine.comparing import plain_text
from tql.engine.computed import FRAGMENT_ROWS, Computed, Fetch, Int64s
from tql.engine.derived import DerivedSource
from tql.engine.equality import codes, first_rows, paired
from tql.language.plan import Grouped
from tql.schema import DType, Label, Schema
from tql.sources.export import field_metadata
from tql.sources.gathering import widened
from tql.sources.protocol import Fragment, Source


class GroupedSource(Computed):
    """Groups of rows of `inner`: group g has the rows `members[starts[g] : starts[g + 1]]`.

    members  int64 (rows of inner,): a permutation
    starts   int64 (groups + 1,)
    """

    def __init__(
        self, inner: DerivedSource, leaf: Grouped, members: Int64s, starts: Int64s
    ) -> None:
        self.inner = inner
        self.members = members
        self.starts = starts
        self.schema = leaf.schema
        self.stand_on(inner)
        self._count = leaf.count_column.name
        self._keys = {c.name: key for key, c in leaf.key_columns.items()}
        digest = blake2b(inner.fingerprint.encode(), digest_size=16)
        digest.update(repr(leaf.keys).encode())
        self._fingerprint = digest.hexdigest()
        self._fragments = tuple(replace(f, index=i) for i, f in enumerate(_fragments(starts)))

    @property
    def kind(self) -> str:
        return "groups"

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    @property
    def fragments(self) -> Sequence[Fragment]:
        return self._fragments

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def below(self) -> tuple[Source, ...]:
        return (self.inner,)

    @property
    def counts(self) -> Int64s:
        """int64 (groups,): the rows of each."""
        return np.diff(self.starts)

    def columns_below(self, columns: Iterable[str]) -> list[str]:
        """The columns of `inner` that these are made of."""
        named = (self._keys.get(c, c) for c in columns if c != self._count)
        return list(dict.fromkeys(named))

    def take(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns of these groups, in the order given."""
        starts = self.starts[rows]
        lengths = self.starts[rows + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        arrays = {}
        sequences = [c for c in columns if c != self._count and c not in self._keys]
        if sequences:
            at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
            table = widened(self.inner.take(self.members[at], sequences, fetch))
            bounds = pa.array(offsets, pa.int64())
            for name in sequences:
                items = plain(one_array(table.column(name)), self.inner.schema[name].dtype)
                arrays[name] = pa.LargeListArray.from_arrays(bounds, items)
        keys = [c for c in columns if c in self._keys]
        if keys:
            below = [self._keys[c] for c in keys]
            first = self.inner.take(self.members[starts], list(dict.fromkeys(below)), fetch)
            arrays.update({c: first.column(k) for c, k in zip(keys, below, strict=True)})
        arrays[self._count] = pa.array(lengths)
        return table_of(self.schema.select(columns), [arrays[c] for c in columns])


def group(inner: DerivedSource, leaf: Grouped, keys: Sequence[Vec]) -> GroupedSource:
    """The groups of `inner` by `keys`, one value per row each, in their nested order."""
    for name, key in zip(leaf.keys, keys, strict=True):
        _check_scalars(inner, name, key, leaf)
    number = nested([codes(k, inner.rows) for k in keys])
    count = int(number.max()) + 1 if len(number) else 0
    if count < 1 << 16:
        members = np.argsort(number.astype(np.uint16), kind="stable")  # by radix
    else:
        members = np.argsort(number, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=count))])
    return GroupedSource(inner, leaf, members, starts)


def nested(keys: Sequence[Int64s]) -> Int64s:
    """int64 (n,): the number of each row's group, from codes in order of first appearance.

    Groups are in order of the first key; those alike in it in order of the second; and so on.
    """
    number = keys[0]
    for key in keys[1:]:
        pair = paired(number, key)
        order = np.argsort(number[first_rows(pair)], kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        number = rank[pair]
    return number


def _check_scalars(inner: DerivedSource, name: str, key: Vec, leaf: Grouped) -> None:
    if not isinstance(key, Objects):
        return
    for row, value in enumerate(key.values):
        if isinstance(value, dict | list):
            found = "an object" if isinstance(value, dict) else "an array"
            where = int(inner.identify(np.array([row]))[0])
            raise data_error("type", f"GROUP BY needs JSON numbers, text or truth values, and {name} "
                             f"is {found} in row {where}", span=leaf.span,
                             help=f"group by a value in it: {name}['key']")  # fmt: skip


def plain(items: Any, dtype: DType) -> Any:
    """Items of a list without a dictionary, which lists do not have: codes of labels, text."""
    if not pa.types.is_dictionary(items.type):
        return items
    return items.indices if isinstance(dtype, Label) else plain_text(items)


def table_of(schema: Schema, arrays: Sequence[Any]) -> pa.Table:
    """The columns with the names and class names of `schema`."""
    fields = [
        pa.field(c.name, a.type, c.nullable, field_metadata(c.dtype) or None)
        for c, a in zip(schema, arrays, strict=True)
    ]
    return pa.Table.from_arrays(list(arrays), schema=pa.schema(fields))


def _fragments(starts: Int64s) -> Iterator[Fragment]:
    """Blocks of groups with about FRAGMENT_ROWS rows each."""
    start, groups = 0, len(starts) - 1
    while start < groups:
        stop = int(np.searchsorted(starts, starts[start] + FRAGMENT_ROWS, side="right")) - 1
        stop = min(max(stop, start + 1), groups)
        yield Fragment(0, start, stop - start, f"groups {start}…")
        start = stop
