"""Conditions as a kernel, and that kernel over the columns of a fragment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.engine.costs import reference_ns
from tql.engine.kernels import devices
from tql.engine.kernels.arguments import WIDEST, code_kind
from tql.engine.kernels.build import Argument, Build, Columns, Unsuitable
from tql.engine.kernels.words import Words
from tql.jit import Kernel, generated
from tql.language.expr import Expr

Bitmap: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Program:
    """A kernel and the recipe for its arguments; `outputs` bitmaps come out.

    There is one source, and a kernel of it for each width that the codes of texts have; `kernel` is
    the one for the widest.
    """

    kernel: Kernel
    arguments: tuple[Argument, ...]
    outputs: int
    reports: bool  # whether it is handed a word to say in that a row is an error
    cost_ns_per_row: float  # of the reference tier, for the rule when to compile
    leaves: int  # loops over 64 rows
    with_nulls: "Program | None" = None  # for fragments where an element of an array is NULL

    @property
    def has_codes(self) -> bool:
        """Whether `kernel_for` depends on the fragment."""
        return any(a.codes_of is not None for a in self.arguments)

    def kernel_for(self, type_of: Callable[[str], Any]) -> Kernel:
        """The kernel for a fragment whose columns have these Arrow types; Unsuitable where text is
        no dictionary there.
        """
        if not self.has_codes:
            return self.kernel
        assert self.kernel.source is not None
        kinds = [
            a.kind if a.codes_of is None else _coded(a.kind, code_kind(type_of(a.codes_of)))
            for a in self.arguments
        ]
        return _kernel(self.kernel.source, _signature(kinds, self.outputs + self.reports))

    def run(
        self, table: Any, rows: int, outs: Sequence[Bitmap], start: int = 0, seed: int = 0
    ) -> None:
        """Write one bitmap per predicate over the rows of `table`, each uint64 (ceil(rows / 64),).

        `start` is the position of the first row in FROM. Raises Unsuitable where the fragment's
        columns are not laid out as the kernel needs, and where a row is an error.
        """
        columns = Columns(table, start, seed)
        made = [a.make(columns) for a in self.arguments]
        bad = np.zeros(1, np.uint64)
        self.kernel_for(lambda name: columns[name].type)(
            rows, *made, *outs, *([bad] if self.reports else [])
        )
        if bad[0]:
            raise Unsuitable("a row is an error")

    def check(self, table: Any, start: int = 0, seed: int = 0) -> None:
        """Raises Unsuitable where `run` would for how the columns of a fragment are laid out."""
        columns = Columns(table, start, seed)
        for a in self.arguments:
            a.make(columns)


def compile_program(predicates: Sequence[Expr]) -> Program | None:
    """The program for these conditions, or None where the reference tier has to do it.

    It raises NullElements where an element of an array is NULL: its `with_nulls` looks for them.
    """
    return _program(predicates, null_elements=False)


def reason_against(predicates: Sequence[Expr]) -> str | None:
    """What in these conditions is not for kernels; None where there is a program for them."""
    try:
        _made(predicates, null_elements=False)
    except Unsuitable as e:
        return str(e)
    return None


def _program(predicates: Sequence[Expr], *, null_elements: bool) -> Program | None:
    try:
        return _made(predicates, null_elements=null_elements)
    except Unsuitable:
        return None


def _made(predicates: Sequence[Expr], *, null_elements: bool) -> Program:
    build = Build(null_elements=null_elements)
    words = Words.over(build)
    outputs = [words.true(p) for p in predicates]
    for p in predicates:
        words.check_condition(p)
    bad = words.combine("|", words.failures)
    source = _source(build, outputs, None if bad == words.nowhere else bad)
    reports = bad != words.nowhere
    kinds = [_coded(a.kind, WIDEST) for a in build.arguments]
    return Program(
        _kernel(source, _signature(kinds, len(outputs) + reports)), tuple(build.arguments), len(outputs), reports,
        reference_ns(predicates), build.leaves,
        _program(predicates, null_elements=True)
        if build.has_elements and not null_elements
        else None,
    )  # fmt: skip


def _coded(kind: str, code: str) -> str:
    """The C type of an argument where codes are of type `code`."""
    return kind.replace("code", code)


def _signature(kinds: Sequence[str], outputs: int) -> str:
    return ", ".join(["i64", *kinds, *["u64[]"] * outputs])


@lru_cache(maxsize=512)
def _kernel(source: str, signature: str) -> Kernel:
    """One kernel per source: queries that differ in literals alone share it."""
    return generated("predicate", signature, source, devices.__name__)


def _source(build: Build, outputs: Sequence[str], bad: str | None) -> str:
    names = ["n", *(f"x{i}" for i in range(len(build.arguments)))]
    names += [f"out{i}" for i in range(len(outputs))]
    if bad is not None:
        names.append("bad")

    def block(lanes: str, mask: str, indent: str) -> list[str]:
        lines = build.lines(lanes, mask)
        lines += [f"out{i}[w] = {word}{mask}" for i, word in enumerate(outputs)]
        if bad is not None:
            lines.append(f"bad[0] |= {bad}{mask}")
        return [indent + line for line in lines]

    body = [*build.before(), "full = n >> 6", "for w in range(full):", "    base = w * 64"]
    body += block("64", "", "    ")
    body += ["tail = n & 63", "if tail > 0:", "    w = full", "    base = full * 64"]
    body += ["    mask = (ONE << np.uint64(tail)) - ONE", *block("tail", " & mask", "    ")]
    return f"def predicate({', '.join(names)}):\n" + "".join(f"    {line}\n" for line in body)
