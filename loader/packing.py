"""Small tables of numbers whose fragments are all in memory, laid out as one table.

To take rows from each of many fragments and to join them costs 50 µs a fragment; from one table, as
much in all.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tql.sources.gathering import Piece
from tql.sources.protocol import Source

Columns = tuple[str, ...]


class Packed:
    """The columns of a source that were laid out as one table, of `most` bytes each time.

    It is made once all fragments are there, at the latest with the first batch that needs them all,
    and of numbers alone: they have the same type in every fragment.
    """

    def __init__(self, source: Source, most: int) -> None:
        self._source: Final = source
        self._most: Final = most
        self._tables: Final[dict[Columns, pa.Table]] = {}
        self._unfit: Final[set[Columns]] = set()

    @property
    def nbytes(self) -> int:
        """Of all that is packed."""
        return sum(_nbytes(table) for table in self._tables.values())

    def take(self, rows: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table | None:
        """These columns of rows of the source, in the order given; None where they are not packed."""
        table = self._tables.get(tuple(columns))
        return None if table is None else table.take(pa.array(rows))

    def has(self, columns: Columns) -> bool:
        """Whether these columns are packed."""
        return columns in self._tables

    def offer(self, columns: Columns, table_of: Callable[[int], pa.Table | None]) -> None:
        """Pack these columns if every fragment is there: `table_of` gives a fragment that is."""
        every = self._source.fragments
        if columns in self._unfit or columns in self._tables or not len(every) > 1:
            return
        tables, held = [], 0
        for fragment in range(len(every)):
            table = table_of(fragment)
            if table is None:
                return
            held += _nbytes(table) if _of_numbers(table) else self._most + 1
            if held > self._most:
                self._unfit.add(columns)
                return
            tables.append(table)
        self._tables[columns] = pa.concat_tables(tables).combine_chunks()

    def watched(self, fragments: Sequence[int], columns: Sequence[str], piece: Piece) -> Piece:
        """`piece`, which also packs what it is given if these are all fragments that there are."""
        names, every = tuple(columns), self._source.fragments
        if not 1 < len(fragments) == len(every) or names in self._unfit or every[0].in_place:
            return piece
        seen: dict[int, pa.Table] = {}
        lock = threading.Lock()
        held = 0

        def watching(k: int, table: pa.Table) -> pa.Table:
            nonlocal held
            with lock:
                if names not in self._unfit and names not in self._tables:
                    seen[k] = table
                    held += _nbytes(table) if _of_numbers(table) else self._most + 1
                    if held > self._most:
                        self._unfit.add(names)
                    elif len(seen) == len(every):
                        joined = pa.concat_tables([seen[k] for k in range(len(every))])
                        self._tables[names] = joined.combine_chunks()
                if names in self._unfit or names in self._tables:
                    seen.clear()
            return piece(k, table)

        return watching


def _of_numbers(table: pa.Table) -> bool:
    return all(
        pa.types.is_primitive(field.type) and not pa.types.is_dictionary(field.type)
        for field in table.schema
    )


def _nbytes(table: pa.Table) -> int:
    return sum(table.num_rows * field.type.bit_width // 8 for field in table.schema)
