"""What a query or a loader will do, as plain data: a tree, a class table, notes.

Footers and the columns that filters and weights name are read; no payload column is, and nothing
is drawn unless a query is to be analyzed.
"""

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tql.queries import Question
from tql.reports.class_table import ClassTable
from tql.reports.kernels import KernelNote
from tql.reports.nodes import Node, Told
from tql.reports.render import as_dict, as_fragment, as_tree
from tql.reports.tree import tell_query
from tql.shuffling import Expected

if TYPE_CHECKING:
    from tql.chain import DataLoader


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """A tree whose root is the last step, and what should be known beside it.

    subject   the data set's name
    table     rows, weights and expected draws per class; None where there is no class to speak of
    fetch     the columns that are read only for rows that were drawn, and about how many bytes
    seconds   (stage, seconds) of explaining and, where the query was run, of running
    order     what a shuffled loader's epoch is like; None without a shuffle
    kernels   which tier would answer each filter, weight and order now; None where not asked for
    """

    kind: str
    subject: str
    seed: int
    query: str | None
    root: Node
    table: ClassTable | None = None
    fetch: tuple[tuple[str, ...], int | None] | None = None
    notes: tuple[str, ...] = ()
    analyzed: bool = False
    seconds: tuple[tuple[str, float], ...] = field(default=(), compare=False)
    kernels: tuple[KernelNote, ...] | None = field(default=None, compare=False)
    order: Expected | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON data; `version` changes when a key does."""
        return as_dict(self)

    def __str__(self) -> str:
        return as_tree(self)

    __repr__ = __str__  # a prompt shows what print shows

    def _repr_html_(self) -> str:
        return as_fragment(self)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}


def explain_query(
    question: Question, name: str, *, analyze: bool = False, kernels: bool = False
) -> Explanation:
    """What the query will read, drop, weigh and draw; `analyze` runs it, too, and `kernels` tells
    which tier would answer each node now.
    """
    began = perf_counter()
    told = tell_query(question, analyze, kernels)
    seconds = (("explain", perf_counter() - began),)
    query, seed = question.text, question.environment.seed
    return _explanation("query", name, seed, query, told, analyze, seconds)


def explain_loader(loader: "DataLoader") -> Explanation:
    """What the loader will do: its steps, order and batches; the last step is not drawn."""
    from tql.reports.explain_loader import tell_loader

    began = perf_counter()
    told = tell_loader(loader)
    seconds = (("explain", perf_counter() - began),)
    return _explanation("loader", loader.base.name, loader.seed, None, told, False, seconds)


def _explanation(
    kind: str, subject: str, seed: int, query: str | None, told: Told, analyzed: bool,
    seconds: tuple[tuple[str, float], ...],
) -> Explanation:  # fmt: skip
    return Explanation(
        kind, subject, seed, query, told.node, told.table, told.fetch,
        tuple(dict.fromkeys(told.notes)), analyzed, (*seconds, *told.seconds),
        told.kernels, told.order,
    )  # fmt: skip
