"""Frames over rows of any source. A view's column is computed when it is read, and may raise: where
it does, each column is computed anew for the rows that an expression asks of it, and no others.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tql.diagnostics import TqlDataError
from tql.engine.columns import Mask, one_array
from tql.engine.computed import Computed, Fetch, Int64s, row_name, take
from tql.engine.frame import Frame
from tql.sources.movable import movable_array
from tql.sources.protocol import Source


def frame_over(
    source: Source, rows: Int64s, columns: Sequence[str], seed: int, fetch: Fetch | None = None
) -> Frame:
    """These columns of these rows."""
    try:
        table = take(source, rows, columns, fetch) if columns else None
    except TqlDataError:
        if not isinstance(source, Computed):
            raise
        return late_frame(source, rows, seed, fetch)
    return Frame(table, rows, seed, partial(row_name, source))


def late_frame(source: Computed, rows: Int64s, seed: int, fetch: Fetch | None = None) -> Frame:
    """These rows; a column is read for the active ones among them, when it is asked for."""

    def late(active: Mask, column: str) -> Any:
        array = one_array(take(source, rows[active], [column], fetch).column(column))
        at = np.cumsum(active) - 1
        return movable_array(array).take(pa.array(at, pa.int64(), mask=~active))

    return Frame(None, rows, seed, partial(row_name, source), late=late)
