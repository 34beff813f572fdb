"""What the reference tier evaluates over: some rows, with their columns read once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tql.diagnostics import Span, data_error
from tql.engine.columns import Flaw, Mask, Vec, read
from tql.language.expr import Column


@dataclass(slots=True)
class Frame:
    """Rows to evaluate over: their columns (None where none is needed), and their positions in FROM,
    int64 of shape (n,). `name` turns a position into the row of the root data set, for messages.
    `late`, where there is no table as some row of it would be an error, reads a column of the active
    rows alone; the other rows are NULL.
    """

    table: Any
    positions: NDArray[np.int64]
    seed: int
    name: Callable[[int], int] = int
    slots: tuple[Vec, ...] = ()
    late: Callable[[Mask, str], Any] | None = None
    _read: dict[str, tuple[Vec, tuple[Flaw, ...]]] = field(default_factory=dict)
    _known: dict[str, tuple[Mask, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.positions)

    def column(self, c: Column, active: Mask) -> Vec:
        """The column's values; an error where an active row contradicts the column's type."""
        stored = self.stored(c.name, active)
        if c.name not in self._read:
            self._read[c.name] = read(stored, c.dtype)
        vec, flaws = self._read[c.name]
        for flaw in flaws:
            bad = flaw.rows & active
            reason = flaw.reasons.get(int(np.argmax(bad)))
            what = flaw.what.format(repr(c.name)) + (f" ({reason})" if reason else "")
            self.reject(bad, flaw.code, what, c.span, flaw.help)
        return vec

    def stored(self, name: str, active: Mask) -> Any:
        """The column as it lies in Arrow; an error where an active row of it cannot be computed."""
        if self.late is None:
            return self.table.column(name)
        known = self._known.get(name)
        if known is None or (active & ~known[0]).any():
            known = self._known[name] = active, self.late(active, name)
            self._read.pop(name, None)
        return known[1]

    def named(self, at: int) -> int:
        """The row of the root data set at this place of the frame."""
        return self.name(int(self.positions[at]))

    def reject(self, bad: Mask, code: str, what: str, span: Span, help: str) -> None:
        """Raise the error of the first row that is `bad`, if there is one; it names the row."""
        if bad.any():
            row = self.named(int(np.argmax(bad)))
            raise data_error(code, f"{what} in row {row}", span=span, help=help)
