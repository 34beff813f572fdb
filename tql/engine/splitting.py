"""UNGROUP BY SPLIT: the members of the sequences of a query's rows, as rows."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from tql.diagnostics import counted, data_error
from tql.engine.columns import one_array, pc
from tql.engine.computed import Computed, Fetch, Int64s, blocks_of
from tql.engine.derived import DerivedSource
from tql.engine.grouping import GroupedSource, table_of
from tql.language.expr import Column
from tql.language.plan import Split, is_sequence
from tql.sources.movable import movable_array
from tql.sources.protocol import Fragment, Source


class SplitSource(Computed):
    """Row r of `inner` becomes the rows `starts[r]` to `starts[r + 1]`, one for each member."""

    def __init__(self, inner: DerivedSource, leaf: Split) -> None:
        self.inner = inner
        self.schema = leaf.schema
        self.stand_on(inner)
        self.starts = np.concatenate([[0], np.cumsum(_lengths(inner, leaf))])
        self._blocks: Sequence[Fragment] = ()

    @property
    def kind(self) -> str:
        return "members"

    @property
    def rows(self) -> int:
        return int(self.starts[-1])

    @property
    def fragments(self) -> Sequence[Fragment]:
        if not self._blocks:
            self._blocks = blocks_of(self.rows)
        return self._blocks

    @property
    def fingerprint(self) -> str:
        return blake2b(f"split {self.inner.fingerprint}".encode(), digest_size=16).hexdigest()

    @property
    def below(self) -> tuple[Source, ...]:
        return (self.inner,)

    def take(self, rows: Int64s, columns: Sequence[str], fetch: Fetch | None = None) -> pa.Table:
        """The columns of these members, in the order given."""
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        inside = rows - self.starts[owner]
        arrays = self._members_of_groups(owner, inside, columns, fetch)
        others = [c for c in columns if c not in arrays]
        if others:
            owners, which = np.unique(owner, return_inverse=True)
            table = self.inner.take(owners, others, fetch)
            for name in others:
                array = one_array(table.column(name))
                if is_sequence(self.inner.schema[name].dtype):
                    ends = np.cumsum(lengths_of(array))
                    index = np.concatenate([[0], ends])[which] + inside
                    members = movable_array(pc.list_flatten(array))
                    arrays[name] = members.take(pa.array(index))
                else:
                    arrays[name] = movable_array(array).take(pa.array(which))
        return table_of(self.schema.select(columns), [arrays[c] for c in columns])

    def _members_of_groups(
        self, owner: Int64s, inside: Int64s, columns: Sequence[str], fetch: Fetch | None
    ) -> dict[str, Any]:
        """The columns that are sequences of groups as they stand: only these members are read."""
        groups = self.inner.parent
        if not isinstance(groups, GroupedSource):
            return {}
        known = {
            o.name: o.expr.name
            for o in self.inner.outputs
            if isinstance(o.expr, Column) and is_sequence(o.expr.dtype)
        }
        below = {c: known[c] for c in columns if c in known}
        if not below:
            return {}
        rows = groups.members[groups.starts[self.inner.selected.select(owner)] + inside]
        table = groups.inner.take(rows, list(dict.fromkeys(below.values())), fetch)
        return {c: table.column(name) for c, name in below.items()}


def lengths_of(lists: Any) -> Int64s:
    """int64 (n,): the length of each list; a NULL one has no members."""
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), np.int64)


def _lengths(inner: DerivedSource, leaf: Split) -> Int64s:
    """int64 (rows of inner,): how many members the sequences of each row have, which must agree."""
    sequences = [c.name for c in inner.schema if is_sequence(c.dtype)]
    known = {o.name: o.expr for o in inner.outputs}
    first, lengths = "", np.zeros(0, np.int64)
    of_groups: set[str] = set()
    for name in sequences:
        if isinstance(known[name], Column) and isinstance(inner.parent, GroupedSource):
            of_groups.add(name)
            if len(of_groups) > 1:
                continue  # all as long as the group
            found = inner.parent.counts[inner.selected.to_numpy()]
        else:
            found = _read_lengths(inner, name)
        if not first:
            first, lengths = name, found
            continue
        differing = np.flatnonzero(found != lengths)
        if len(differing):
            at = int(differing[0])
            row = int(inner.identify(np.array([at]))[0])
            raise data_error(
                "shape", f"UNGROUP BY SPLIT needs sequences of one length, and in row {row} "
                f"{first} has {counted(int(lengths[at]), 'member')}, {name} has {found[at]:,}", span=leaf.span,
                help="select sequences of one length in FROM (select …), and split those",
            )  # fmt: skip
    return lengths


def _read_lengths(inner: DerivedSource, name: str) -> Int64s:
    parts = [lengths_of(one_array(inner.read(f.index, [name]).column(0))) for f in inner.fragments]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
