"""Conditions, or a number, as a kernel, and that kernel over the columns of a fragment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.engine.costs import reference_ns
from tql.engine.kernels import runs
from tql.engine.kernels.arguments import WIDEST, code_kind
from tql.engine.kernels.build import Argument, Build, Columns, Unsuitable
from tql.engine.kernels.kinds import NUMPY, c_kind
from tql.engine.kernels.numbers import number
from tql.engine.kernels.words import Words
from tql.jit import Kernel, generated
from tql.language.expr import Expr
from tql.schema import Float

Bitmap: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Program:
    """A kernel and the recipe for its arguments.

    `outputs` bitmaps come out: where each condition is TRUE; or where a number is not NULL, behind
    the numbers themselves, of which `kind` is the C type.

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
    kind: str | None = None

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
        return _kernel(
            self.kernel.source, _signature(kinds, self.kind, self.outputs + self.reports)
        )

    def run(
        self, table: Any, rows: int, outs: Sequence[NDArray[Any]], start: int = 0, seed: int = 0
    ) -> None:
        """Write the numbers of the rows of `table`, if it gives any, and one bitmap per output, each
        uint64 (ceil(rows / 64),).

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
    return _if_suitable(lambda: _conditions(predicates, null_elements=False))


def compile_values(e: Expr) -> Program | None:
    """The program for the numbers `e`, or None where the reference tier has to do it.

    Its bitmap, if it has one, says where they are not NULL. What else stands there is arbitrary.
    """
    return _if_suitable(lambda: _values(e, null_elements=False))


def reason_against(predicates: Sequence[Expr]) -> str | None:
    """What in these conditions is not for kernels; None where there is a program for them."""
    return _reason(lambda: _conditions(predicates, null_elements=False))


def reason_against_values(e: Expr) -> str | None:
    """What in these numbers is not for kernels; None where there is a program for them."""
    return _reason(lambda: _values(e, null_elements=False))


def _reason(make: Callable[[], Program]) -> str | None:
    try:
        make()
    except Unsuitable as e:
        return str(e)
    return None


def _if_suitable(make: Callable[[], Program]) -> Program | None:
    try:
        return make()
    except Unsuitable:
        return None


def _conditions(predicates: Sequence[Expr], *, null_elements: bool) -> Program:
    words = Words.over(Build(null_elements=null_elements))
    outputs = [words.true(p) for p in predicates]
    for p in predicates:
        words.check_condition(p)
    return _made(words, outputs, predicates, lambda: _conditions(predicates, null_elements=True))


def _values(e: Expr, *, null_elements: bool) -> Program:
    if e.dtype == Float(16):
        raise Unsuitable("a value in float16")  # rounded to a type that kernels have not
    build = Build(null_elements=null_elements)
    words = Words.over(build)
    kind = c_kind(e.dtype)
    valid = words.valid(e)
    words.check(e)
    build.each_row(lambda: f"values[i] = np.{NUMPY[kind]}({number(e, words)})")
    outputs = [] if valid is None else [valid]
    return _made(words, outputs, [e], lambda: _values(e, null_elements=True), kind)


def _made(
    words: Words, outputs: Sequence[str], expressions: Sequence[Expr],
    with_nulls: Callable[[], Program], kind: str | None = None,
) -> Program:  # fmt: skip
    build = words.build
    bad = words.combine("|", words.failures)
    reports = bad != words.nowhere
    source = _source(build, outputs, bad if reports else None, kind is not None)
    kinds = [_coded(a.kind, WIDEST) for a in build.arguments]
    return Program(
        _kernel(source, _signature(kinds, kind, len(outputs) + reports)),
        tuple(build.arguments), len(outputs), reports, reference_ns(expressions), build.leaves,
        _if_suitable(with_nulls) if build.has_elements and not build.null_elements else None, kind,
    )  # fmt: skip


def _coded(kind: str, code: str) -> str:
    """The C type of an argument where codes are of type `code`."""
    return kind.replace("code", code)


def _signature(kinds: Sequence[str], values: str | None, bitmaps: int) -> str:
    numbers = [] if values is None else [f"{values}[]"]
    return ", ".join(["i64", *kinds, *numbers, *["u64[]"] * bitmaps])


@lru_cache(maxsize=512)
def _kernel(source: str, signature: str) -> Kernel:
    """One kernel per source: queries that differ in literals alone share it."""
    return generated("predicate", signature, source, runs.__name__)


def _source(build: Build, outputs: Sequence[str], bad: str | None, values: bool) -> str:
    names = ["n", *(f"x{i}" for i in range(len(build.arguments)))]
    names += ["values"] if values else []
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
