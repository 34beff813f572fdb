"""Parquet files: one or many, a row group is a fragment."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from tql.diagnostics import TqlDataError, data_error
from tql.schema import Schema, Text
from tql.sources.arrow_types import is_text_dictionary
from tql.sources.bounds import Bounded, ColumnBounds, side_by_side
from tql.sources.classes import merged_dictionary
from tql.sources.files import File, unreadable
from tql.sources.fingerprint import digest_of, names_part
from tql.sources.footers import (
    Footer,
    FooterStats,
    leaves_of,
    read_footer,
    refuse_changed,
    repeats_texts,
    stats_reader,
    without_nulls,
)
from tql.sources.protocol import Changeable, Fragment, ImagesElsewhere, Placed
from tql.sources.retrying import denied
from tql.sources.stored import (
    StoredColumn,
    as_label,
    as_schema,
    check_agreement,
    chosen,
    laid_out,
    never_null,
    pick,
    stored_columns,
    without_missing,
)
from tql.threads import in_order

_READERS: Final = 16

T = TypeVar("T")
R = TypeVar("R")


class ParquetSource(Bounded, Changeable, ImagesElsewhere, Placed):
    """Rows of Parquet files in the order of the files. A file is opened anew for every read."""

    def __init__(
        self,
        files: Sequence[File],
        *,
        columns: Sequence[str] | None = None,
        class_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        footers = tuple(_parallel(read_footer, files))
        names = chosen(columns, footers[0].schema.names)
        self._footers = footers
        self._stored = {s.name: s for s in _resolved(footers, names, class_names)}
        self._schema = as_schema(tuple(self._stored.values()))
        self._fragments, self._groups = _fragments(footers, self._stored)
        self._names_part = names_part(class_names)
        self._digest = ""
        self._bounds: dict[str, ColumnBounds] = {}
        self._asked: dict[int, object] = {}

    def __getstate__(self) -> dict[str, Any]:
        """The footers travel, so that a worker reads what was opened, or says that it has changed."""
        made_again = ("_fragments", "_groups", "_bounds", "_asked")
        return {k: v for k, v in vars(self).items() if k not in made_again}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bounds = {}
        self._asked = {}
        self._fragments, self._groups = _fragments(self._footers, self._stored)

    @property
    def kind(self) -> str:
        return "parquet"

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def local(self) -> bool:
        return all(footer.file.place.local for footer in self._footers)

    @property
    def fragments(self) -> Sequence[Fragment]:
        return self._fragments

    @property
    def rows(self) -> int:
        return self._fragments[-1].stop if self._fragments else 0

    @property
    def fingerprint(self) -> str:
        """Of the footers (row counts, schema, sizes, statistics), in the order of the files."""
        if not self._digest:
            footers = (f.digest for f in self._footers)
            self._digest = digest_of([b"parquet", self._names_part, *footers])
        return self._digest

    def bounds(self, name: str) -> ColumnBounds:
        """The statistics of a column in every row group; decoded once, when first asked for."""
        found = self._bounds.get(name)
        if found is None:
            stored = self._stored[name]
            told = {id(f): stats_reader(f, stored) for f in self._footers}
            found = side_by_side([told[id(f)](g) for f, g in self._groups])
            self._bounds[name] = found
        return found

    def refuse_changed(self) -> None:
        """Raise where a file is not what was opened: a query may be answered by the footers alone.

        Of files that are not local each is asked when it is first read after this, once.
        """
        self._asked = {}
        for footer in self._footers:
            if footer.file.place.local:
                refuse_changed(footer)

    def _ask_once(self, footer: Footer) -> None:
        mine = object()
        if not footer.file.place.local and self._asked.setdefault(id(footer), mine) is mine:
            try:
                refuse_changed(footer)
            except TqlDataError:
                del self._asked[id(footer)]
                raise

    def file_of(self, fragment: int) -> File:
        """The file that a fragment lies in."""
        return self._groups[fragment][0].file

    def unembedded(self) -> frozenset[str]:
        """The image columns of which some row may have a path and no bytes, for all that the footers
        tell.
        """
        images = [self._stored[s.of] for s in self._stored.values() if s.of is not None]
        full = [without_nulls(footer, images) for footer in self._footers]
        return frozenset(s.name for s in images) - frozenset.intersection(*map(frozenset, full))

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        footer, group = self._groups[fragment]
        self._ask_once(footer)
        stored = [self._stored[name] for name in columns]
        origin = self._fragments[fragment].origin
        try:
            table = read_group(footer, group, stored, origin)
        finally:
            if footer.file.place.local:
                refuse_changed(footer)  # after reading: it may be written while it is read
        try:
            arrays = [laid_out(table.column(s.stored_as), s, origin) for s in stored]
        except pa.ArrowException as e:
            raise _unreadable_group(origin, e) from e
        return pa.Table.from_arrays(arrays, names=list(columns))


def read_group(footer: Footer, group: int, stored: Sequence[StoredColumn], origin: str) -> pa.Table:
    """Columns of one row group as pyarrow gives them; repeating text as dictionaries."""
    metadata = footer.metadata.row_group(group)
    as_dictionary = [
        s.name
        for s in stored
        if s.column.dtype == Text()
        and s.of is None
        and repeats_texts(metadata.column(footer.leaves[s.name][0]))
    ]
    paths = [s.name if s.part is None else f"{s.stored_as}.{s.part}" for s in stored]
    try:
        with footer.file.open(_ranges(footer, metadata, stored)) as handle:
            reader = pq.ParquetFile(
                handle,
                metadata=footer.metadata,
                read_dictionary=as_dictionary,
                pre_buffer=False,  # what is not local was read ahead
            )
            return reader.read_row_group(group, columns=paths, use_threads=len(paths) > 1)
    except (OSError, pa.ArrowException) as e:
        raise _unreadable_group(origin, e) from e


def _ranges(
    footer: Footer, group: pq.RowGroupMetaData, stored: Sequence[StoredColumn]
) -> Iterator[tuple[int, int]]:
    """Where in the file the columns lie, (start, stop) of each chunk."""
    for s in stored:
        for leaf in leaves_of(footer, s):
            chunk = group.column(leaf)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            yield start, start + chunk.total_compressed_size


def _unreadable_group(origin: str, e: BaseException) -> TqlDataError:
    if denied(e):
        return unreadable(origin, e)
    return data_error(
        "source",
        f"{origin} cannot be read: {e}",
        help="the file is damaged, or changed since it was opened: open it again, or write it again",
    )


def _parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return list(in_order(items, function, _READERS))


def _resolved(
    footers: Sequence[Footer],
    names: Sequence[str],
    class_names: Mapping[str, Sequence[str]] | None,
) -> tuple[StoredColumn, ...]:
    first = footers[0]
    stored = stored_columns(first.schema, first.file.shown, class_names=class_names)
    for other in footers[1:]:
        if not other.schema.equals(first.schema, check_metadata=True):
            theirs = stored_columns(other.schema, other.file.shown)
            check_agreement(
                stored, theirs, (first.file.shown, other.file.shown), frozenset(class_names or ())
            )
            stored = without_missing(stored, theirs)
    labels = []
    for s in pick(stored, names):
        values = _classes(footers, s)
        labels.append(s if values is None else as_label(s, values))
    return never_null(labels, set.intersection(*(without_nulls(f, labels) for f in footers)))


def _classes(footers: Sequence[Footer], stored: StoredColumn) -> pa.Array | None:
    """The values of a column that every file calls a dictionary of texts.

    Footers do not hold them, so the column is read, once. None where it is not such a column, or
    where the values are too many to be classes.
    """
    if stored.names is not None or not all(
        is_text_dictionary(f.schema.field(stored.stored_as).type) for f in footers
    ):
        return None
    groups = [(f, g) for f in footers for g in range(f.metadata.num_row_groups)]

    def column(where: tuple[Footer, int]) -> pa.ChunkedArray:
        footer, group = where
        origin = _origin(footer, group)
        return read_group(footer, group, [stored], origin).column(0)

    return merged_dictionary(_parallel(column, groups))


def _origin(footer: Footer, group: int) -> str:
    alone = footer.metadata.num_row_groups == 1
    return footer.file.shown if alone else f"{footer.file.shown}, row group {group}"


def _fragments(
    footers: Sequence[Footer], stored: Mapping[str, StoredColumn]
) -> tuple[tuple[Fragment, ...], tuple[tuple[Footer, int], ...]]:
    """The non-empty row groups, as fragments and as the places to read them from."""
    fragments: list[Fragment] = []
    groups: list[tuple[Footer, int]] = []
    start = 0
    for footer in footers:
        for g in range(footer.metadata.num_row_groups):
            rows = footer.metadata.row_group(g).num_rows
            if rows:
                stats = FooterStats(footer, g, stored)
                origin = _origin(footer, g)
                fragments.append(Fragment(len(fragments), start, rows, origin, stats))
                groups.append((footer, g))
                start += rows
    return tuple(fragments), tuple(groups)
