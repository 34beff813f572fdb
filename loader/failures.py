"""Samples that cannot be loaded: what is done about them, and the report of them.

What is done is decided by each sample alone, so every rank makes the same number of steps, and the
same batches come from any number of threads.
"""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tql.diagnostics import TqlError, counted, error

OnError: TypeAlias = Literal["raise", "skip", "replace"]

Report: TypeAlias = Callable[[int, Exception], None]
"""Takes the place of a sample that failed, and why; returns unless that ends the batch."""


def raise_it(_: int, cause: Exception) -> None:
    """The report of those who load no batch without all of its samples."""
    raise cause


def without_locals(cause: Exception) -> Exception:
    """`cause`, whose traceback keeps its lines and lets go of the batch that its frames hold."""
    todo: list[BaseException] = [cause]
    for e in todo:
        traceback.clear_frames(e.__traceback__)
        known = {id(c) for c in todo}
        todo += [c for c in (e.__cause__, e.__context__) if c is not None and id(c) not in known]
    return cause


@dataclass(frozen=True, slots=True)
class Failure:
    """A sample that could not be loaded.

    position     its place in the epoch
    row          its row id
    error        what went wrong; names row, column and fragment
    replaced_by  the row id that stands in its place, None where it was left out
    """

    epoch: int
    position: int
    row: int
    error: Exception
    replaced_by: int | None

    def __str__(self) -> str:
        what = "left out" if self.replaced_by is None else f"replaced by row {self.replaced_by}"
        cause = self.error.diagnostic.message if isinstance(self.error, TqlError) else self.error
        kind = "" if isinstance(self.error, TqlError) else f"{type(self.error).__name__}: "
        return (
            f"epoch {self.epoch}, position {self.position}, row {self.row}, {what}: {kind}{cause}"
        )


@dataclass(frozen=True, slots=True)
class Failures:
    """The samples that failed in the batches delivered so far, in order."""

    found: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Failure]:
        return iter(self.found)

    def __getitem__(self, i: int) -> Failure:
        return self.found[i]

    def __str__(self) -> str:
        head = f"{counted(len(self), 'sample')} could not be loaded"
        return "\n".join([head, *(f"  {failure}" for failure in self)])

    @property
    def rows(self) -> tuple[int, ...]:
        """Row ids, ascending, each once."""
        return tuple(sorted({failure.row for failure in self}))

    @property
    def where(self) -> str:
        """A condition of TQL that leaves these rows out: `ds.query("select * where " + …)`."""
        if not self.found:
            return "true"
        return f"row_number() not in ({', '.join(map(str, self.rows))})"


def too_many(failures: Failures, most: int) -> TqlError:
    """What is raised when more than `most` samples failed in a pass."""
    last: Any = failures[-1]
    return error(
        "value",
        f"{counted(len(failures), 'sample')} could not be loaded, more than max_errors={most} "
        f"allows; the last was {last}",
        help="a larger max_errors=, or leave such rows out with a query: loader.errors().where",
    )
