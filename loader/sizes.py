"""How many bytes fragments take in memory: by statistics, set right by those that were read."""

from collections.abc import Sequence
from typing import Final

from tql.sources.protocol import Source
from tql.sources.sizes import stored_bytes, width_of


class Sizes:
    """Bytes of some columns of each fragment. Not thread-safe.

    Of a fragment that was read it is what it took. Of the others it is what statistics, or else the
    types and the number of rows, tell, times what those that were read took beyond that.
    """

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self._fragments: Final = source.fragments
        self._columns: Final = [source.schema[n] for n in names]
        self._read: Final[dict[int, int]] = {}
        self._took = self._foretold = 0

    def of(self, fragment: int) -> int:
        """Bytes, 1 or more."""
        known = self._read.get(fragment)
        if known is not None:
            return max(1, known)
        told = self._told(fragment)
        return max(1, round(told * self._took / self._foretold) if self._foretold else told)

    def learn(self, fragment: int, nbytes: int) -> None:
        """What a fragment took."""
        if fragment not in self._read:
            self._read[fragment] = nbytes
            self._took += nbytes
            self._foretold += self._told(fragment)

    def _told(self, fragment: int) -> int:
        f = self._fragments[fragment]
        return max(
            1, sum(stored_bytes(f, c) or int(f.rows * width_of(c.dtype)) for c in self._columns)
        )
