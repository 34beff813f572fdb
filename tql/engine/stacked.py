"""Several sources one after the other: UNION of different sources."""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate

import numpy as np
import pyarrow as pa

from tql.engine.casting import as_type
from tql.engine.computed import Computed, Fetch, Int64s, take
from tql.schema import Schema, Text
from tql.sources.export import field_metadata
from tql.sources.gathering import widened
from tql.sources.movable import movable
from tql.sources.protocol import Fragment, Source


class StackedSource(Computed):
    """The rows of `branches` in order, with columns in the types of `schema`."""

    def __init__(self, branches: Sequence[Source], schema: Schema) -> None:
        self.branches = tuple(branches)
        self.schema = schema
        self.stand_on(*self.branches)
        self.starts = [0, *accumulate(b.rows for b in self.branches)]
        self._placed: list[tuple[Fragment, int, int]] = []
        self._digest = ""

    @property
    def kind(self) -> str:
        return "union"

    @property
    def rows(self) -> int:
        return self.starts[-1]

    @property
    def fragments(self) -> Sequence[Fragment]:
        return [fragment for fragment, _, _ in self._fragments()]

    @property
    def fingerprint(self) -> str:
        if not self._digest:
            self._digest = self._fingerprint()
        return self._digest

    @property
    def below(self) -> tuple[Source, ...]:
        return self.branches

    def _fragments(self) -> list[tuple[Fragment, int, int]]:
        """Each with the number of the branch it is of, and its own number there."""
        if self._placed:
            return self._placed
        found: list[tuple[Fragment, int, int]] = []
        for at, (branch, start) in enumerate(zip(self.branches, self.starts, strict=False)):
            for f in branch.fragments:
                moved = Fragment(len(found), start + f.start, f.rows, f.origin)
                found.append((moved, at, f.index))
        self._placed = found
        return found

    def _fingerprint(self) -> str:
        digest = blake2b(repr(self.schema).encode(), digest_size=16)
        for branch in self.branches:
            digest.update(branch.fingerprint.encode())
        return digest.hexdigest()

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        """The columns of one fragment of one branch."""
        f, at, index = self._fragments()[fragment]
        return self._typed(self.branches[at].read(index, columns), at, np.arange(f.start, f.stop))

    def take(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns at these positions; each branch is asked once for its own."""
        owner = np.searchsorted(self.starts[1:], rows, side="right")
        order = np.argsort(owner, kind="stable")
        sorted_rows = rows[order]
        asked, firsts = np.unique(owner[order], return_index=True)
        parts = []
        for at, its in zip(asked.tolist() or [0], np.split(sorted_rows, firsts[1:]), strict=True):
            part = take(self.branches[at], its - self.starts[at], columns, fetch)
            parts.append(self._typed(part, at, its))
        for name in columns:  # offsets of text may differ in width
            if self.schema[name].dtype == Text():
                parts = _alike(parts, name)
        whole = pa.concat_tables(parts)
        if len(parts) < 2:
            return whole
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return movable(widened(whole)).take(pa.array(back))

    def _typed(self, table: pa.Table, at: int, rows: Int64s) -> pa.Table:
        """A part of branch `at` in the common types; `rows` are its rows here."""
        arrays, fields = [], []
        branch = self.branches[at]
        for name in table.column_names:
            column = self.schema[name]
            array = as_type(
                table.column(name), branch.schema[name].dtype, column.dtype, rows,
                f"column {name!r} of query {at + 1} of the union",
            )  # fmt: skip
            arrays.append(array)
            metadata = field_metadata(column.dtype)
            fields.append(pa.field(name, array.type, column.nullable, metadata or None))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _alike(parts: list[pa.Table], name: str) -> list[pa.Table]:
    if len({p.schema.field(name).type for p in parts}) < 2:
        return parts
    at = parts[0].schema.get_field_index(name)
    return [
        p.set_column(at, p.schema.field(name).with_type(pa.large_string()),
                     p.column(name).cast(pa.large_string()))
        for p in parts
    ]  # fmt: skip
