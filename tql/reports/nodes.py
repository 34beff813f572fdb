"""What an explanation is made of: a tree of steps, and what stands beside it."""

from dataclasses import dataclass
from typing import TypeAlias

from tql.reports.class_table import ClassTable
from tql.reports.kernels import KernelNote
from tql.shuffling import Expected

# Columns that are read only of the rows drawn, and about how many bytes those have.
Fetch: TypeAlias = tuple[tuple[str, ...], int | None]


@dataclass(frozen=True, slots=True)
class Node:
    """One step and what it is fed by.

    rows     rows it gives: counted, not estimated; None where only drawing would tell
    bytes    what it reads; None where it reads nothing of its own or the size is unknown
    actual   rows it gave when the query was run, with the seconds it took, children included
    """

    kind: str
    title: str
    rows: int | None
    bytes: int | None = None
    details: tuple[str, ...] = ()
    children: tuple["Node", ...] = ()
    actual: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Everything that goes into an explanation."""

    node: Node
    table: ClassTable | None = None
    fetch: Fetch | None = None
    notes: tuple[str, ...] = ()
    kernels: tuple[KernelNote, ...] | None = None
    order: Expected | None = None
    seconds: tuple[tuple[str, float], ...] = ()
