"""The text of a kernel while it is written: statements per word of 64 rows, and its arguments.

A kernel runs over words. For each it has *lanes*, loops of 64 steps that collect a condition of a
row in one bit each, and single operations on words. What a row's condition needs first (a loop over
the row's array, say) stands in the lane before it. Equal parts are written once. Where the
conditions before it have left few rows undecided, a lane goes over these alone.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from tql.engine.columns import one_array
from tql.language.expr import (
    Bm25Score,
    Call,
    Column,
    Const,
    Elementwise,
    Expr,
    JsonAs,
    JsonCompare,
    JsonItem,
    Slot,
    StoredValue,
    Subscript,
    UserCall,
)
from tql.language.user_function import UserFunction

# Compiling takes about 25 ms a comparison; a condition of thousands is data, not a shape.
_MOST_LEAVES: Final = 64
_MOST_LINES: Final = 2048  # for one word, all of its lanes together
_OWN_LINES: Final = 7  # of a lane, beside its statements, at most

# What makes a lane dear: 2 ns a row and more, where passing over a row costs nothing and going to the
# next one that is wanted 0.5 to 1 ns (rows in random order, 10 M). Beyond so many rows of a word all
# are looked at; with a loop for each row it never pays.
_DEAR: Final = ("in_sorted(", "in_table(", "remainder(", "modulo(", "np.fmod(", "random31(")
_MANY: Final = 44.0
# Calls that are such a loop.
_RUNS: Final = ("run_sum(", "run_sizes(", "run_product(", "run_cosine(", "run_careful_cosine(")

# A cheap lane is bound by memory: where it is the first to read a column, and few rows of a word are
# wanted, most of the column need not come. `i32 == 5 and f64 > 0.9`, 10 M rows, 4.0 ms whatever the
# numbers are; over wanted rows alone, when none, 0.1, 0.2, 0.3, 0.5 % are 5: 1.5, 2.4, 3.3, 4.5, 5.0;
# sorted, 1.7.
_FEW: Final = 0.14
_COLUMN: Final = re.compile(r"\b(x\d+)\[i\]")

# Elements of a row, on average, up to which all of them are looked at first; three times as many for each
# row that is wanted, where some are not.
_SHORT: Final = 64

_TOO_LONG: Final = "a condition of too many operations"


class Unsuitable(Exception):
    """This expression, or this fragment, is for the reference tier; says what in it is not for
    kernels, as a noun.
    """

    def __init__(self, what: str = "a fragment laid out otherwise") -> None:
        super().__init__(what)


def what_it_is(e: Expr) -> str:
    """An expression that no kernel is made of, in a few words."""
    match e:
        case Call(function) | UserCall(UserFunction(name=function)):
            return f"{function}()"
        case JsonItem() | JsonCompare() | JsonAs():
            return "access to JSON"
        case Bm25Score():
            return "bm25_similarity()"
        case Column() | Slot():
            return f"a column of type {e.dtype}"
        case Subscript():
            return f"an item of type {e.dtype}"
        case Const() | StoredValue():
            return f"a value of type {e.dtype}"
        case Elementwise():
            return "an operation by element"
        case _:
            return f"{type(e).__name__.lower()} on {e.dtype}"


@dataclass(slots=True)
class Columns:
    """The columns of a fragment, each put together from its chunks once, however many arguments
    are made from it; `start` is the position of its first row in FROM.
    """

    table: Any
    start: int
    seed: int
    _made: dict[Any, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.once(name, lambda: one_array(self.table.column(name)))

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, which several arguments are parts of."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclass(frozen=True, slots=True)
class Argument:
    """One kernel argument: its C type, and how to make it from a fragment's columns.

    `codes_of` names a column of text: then "code" in `kind` stands for the type of its codes, which
    differs from fragment to fragment.
    """

    kind: str
    make: Callable[[Columns], Any]
    codes_of: str | None = None


@dataclass(frozen=True, slots=True)
class _Pass:
    """A condition of all elements that the rows of a word have, ahead of the lane that needs it.

    `bits` gets the outcome after `statements` for element j; `begin` gives the place of the first one
    of a row. Where there are few for each row that is wanted, `flat_{bits}` says that it was done, and
    `from_{bits}` which element bit 0 is.
    """

    bits: str
    begin: Callable[[str], str]
    values: str
    statements: tuple[str, ...]
    outcome: str

    def lines(self, steps: str, wanted: str | None) -> list[str]:
        b, most = self.bits, f"{64 * _SHORT}"
        if wanted is not None:
            most = f"min({most}, {3 * _SHORT} * np.int64(popcount({wanted})))"
        # Whole words are read, the last one into the rows behind, so not at the very end.
        return [
            f"from_{b} = {self.begin('base')}",
            f"many_{b} = {self.begin(f'base + {steps}')} - from_{b}",
            f"flat_{b} = (many_{b} <= {most}) & (from_{b} + many_{b} + 64 <= {self.values}.size)",
            f"for v in range((many_{b} + 63) >> 6 if flat_{b} else 0):",
            "    hits = ZERO",
            "    for b in range(64):",
            f"        j = from_{b} + v * 64 + b",
            *(f"        {s}" for s in self.statements),
            f"        hits |= np.uint64({self.outcome}) << np.uint64(b)",
            f"    {b}[v] = hits",
        ]


@dataclass(slots=True)
class _Lane:
    """One lane being written: the open blocks of statements, innermost last, and its variables."""

    blocks: list[list[str]] = field(default_factory=lambda: [[]])
    names: int = 0
    passes: list[_Pass] = field(default_factory=list)


@dataclass(slots=True)
class _Rows:
    """A lane that is written: `statements` for each row that `mask` (None: all) has, after which its bit
    of `word` is `outcome`; `word` None where nothing is collected.

    Where `mask` has more than `most` (None: no limit) of a word's rows, on average of late, it goes over
    all of them: the bits of the others are arbitrary.
    """

    word: str | None
    statements: list[str]
    outcome: str
    mask: str | None
    passes: list[_Pass]
    most: float | None

    @property
    def counts(self) -> bool:
        """Whether it needs to know how many rows `mask` has had of late, on average, times 1024."""
        return self.mask is not None and self.most is not None

    def lines(self, steps: str, inside: str, done: set[str]) -> list[str]:
        """For so many rows, of which `inside`, an operation, leaves those that exist. `done`, the passes
        that lanes over all rows have made for this word, gets those of this one if it is such a lane.
        """
        wanted = None if self.mask is None else "left"
        first = [s for p in self.passes if p.bits not in done for s in p.lines(steps, wanted)]
        if self.mask is None:
            done.update(p.bits for p in self.passes)
        step = ["i = base + b", *self.statements]
        if self.word is not None:
            first = [f"{self.word} = ZERO", *first]
            step.append(f"{self.word} |= np.uint64({self.outcome}) << np.uint64(b)")
        each = [f"for b in range({steps}):", *_indented(step)]
        if self.mask is None:
            return [*first, *each]
        some = ["while left != ZERO:", "    b = lowest(left)", "    left &= left - ONE",
                *_indented(step)]  # fmt: skip
        head = [f"left = {self.mask}{inside}", *first]
        if self.most is None or inside:
            return [*head, *some]
        few = f"few_{self.word}"
        return [
            *head, f"{few} += (np.int64(popcount(left)) << 6) - ({few} >> 4)",
            f"if {few} < {int(1024 * self.most)}:", *_indented(some), "else:", *_indented(each),
        ]  # fmt: skip


@dataclass(slots=True)
class Build:
    """A kernel being written."""

    parts: list[str | _Rows] = field(default_factory=list)
    arguments: list[Argument] = field(default_factory=list)
    leaves: int = 0  # loops and operations, for the estimate
    size: int = 0  # lines for one word, at most
    null_elements: bool = False  # whether elements of arrays may be NULL
    has_elements: bool = False  # whether there are such elements at all
    _lanes: list[_Lane] = field(default_factory=list)
    _known: dict[Any, str] = field(default_factory=dict)
    _masked: dict[str, tuple[_Rows, Any]] = field(default_factory=dict)
    _read: set[str] = field(default_factory=set)  # columns, by argument

    def lines(self, steps: str, inside: str = "") -> list[str]:
        """The statements for one word, after those of `before` once; see `_Rows.lines`."""
        found: list[str] = []
        done: set[str] = set()
        for part in self.parts:
            found += [part] if isinstance(part, str) else part.lines(steps, inside, done)
        return found

    def before(self) -> list[str]:
        """The statements ahead of all words."""
        return [f"few_{p.word} = 0" for p in self.parts if isinstance(p, _Rows) and p.counts]

    def argument(
        self, key: Any, kind: str, make: Callable[[Columns], Any], codes_of: str | None = None
    ) -> str:
        """The name of the argument that `make` gives; one per `key`."""
        if key not in self._known:
            self._known[key] = f"x{len(self.arguments)}"
            self.arguments.append(Argument(kind, make, codes_of))
        return self._known[key]

    def literal(self, value: Any, kind: str) -> str:
        """The name of an argument that is the same for every fragment."""
        return self.argument(("literal", kind, repr(value)), kind, lambda _: value)

    def check_size(self) -> None:
        """Raise Unsuitable where there are more operations already than a kernel may have."""
        if self.leaves > _MOST_LEAVES:
            raise Unsuitable(_TOO_LONG)

    def _grow(self, lines: int) -> None:
        self.size += lines
        if self.size > _MOST_LINES:
            raise Unsuitable(_TOO_LONG)

    def word(self, expression: str) -> str:
        """The name of a word."""
        if expression not in self._known:
            self._grow(1)
            word = f"w{len(self._known)}"
            self.parts.append(f"{word} = {expression}")
            self._known[expression] = word
        return self._known[expression]

    def lane(
        self,
        condition: Callable[[], str],
        wanted: Any = None,
        mask: Callable[[], str | None] = lambda: None,
    ) -> str:
        """A word whose bit b is the condition for row i = base + b of the block.

        Other lanes that `condition` asks for stand before this one. Rows outside of `mask`, a word,
        may be passed over, and their bits are arbitrary; `wanted` is what these rows are known by. A
        lane that is asked for with different masks goes over all rows.
        """
        self._lanes.append(_Lane())
        try:
            outcome = condition()
        finally:
            lane = self._lanes.pop()
        (statements,) = lane.blocks
        key = outcome if not statements else (outcome, *statements)
        if key not in self._known:
            if self.leaves >= _MOST_LEAVES:
                raise Unsuitable(_TOO_LONG)
            text = [*statements, outcome]
            read = {x for line in text for x in _COLUMN.findall(line)}
            most = _most(text)
            chosen = mask() if most != _FEW or read - self._read else None
            self._read |= read
            self._grow((len(text) + _OWN_LINES) * (1 if chosen is None or most is None else 2))
            word = f"w{len(self._known)}"
            rows = _Rows(word, statements, outcome, chosen, lane.passes, most)
            self.parts.append(rows)
            if chosen is not None:
                self._masked[word] = rows, wanted
            self._known[key] = word
            self.leaves += 1
        word = self._known[key]
        if word in self._masked and self._masked[word][1] != wanted:
            self._masked.pop(word)[0].mask = None
        return word

    def each_row(self, write: Callable[[], str]) -> None:
        """A lane that collects nothing: the statement is run for each row."""
        self._lanes.append(_Lane())
        try:
            statement = write()
        finally:
            lane = self._lanes.pop()
        (statements,) = lane.blocks
        self._grow(len(statements) + _OWN_LINES)
        self.parts.append(_Rows(None, [*statements, statement], "", None, lane.passes, None))
        self.leaves += 1

    # -- statements for one row ----------------------------------------------------------------

    def emit(self, statement: str) -> None:
        self._lanes[-1].blocks[-1].append(statement)

    def variable(self, kind: str, value: str) -> str:
        """A new variable that starts as `value`. `kind` parts the names by type: Numba gives one
        type to all that has one name, in whatever lane.
        """
        lane = self._lanes[-1]
        name = f"{kind}_{lane.names}"
        lane.names += 1
        self.emit(f"{name} = {value}")
        return name

    @contextmanager
    def loop(self, count: str) -> Iterator[str]:
        """Statements within run `count` times, with the counter that this gives."""
        lane = self._lanes[-1]
        counter = f"k_{lane.names}"
        lane.names += 1
        with self.under(f"for {counter} in range({count}):"):
            yield counter

    @contextmanager
    def under(self, head: str) -> Iterator[None]:
        """Statements within are the body of `head`."""
        lane = self._lanes[-1]
        lane.blocks.append([])
        yield
        body = lane.blocks.pop()
        self.emit(head)
        for statement in body or ["pass"]:
            self.emit(f"    {statement}")

    def bits(
        self, begin: Callable[[str], str], values: str, condition: Callable[[str], str]
    ) -> str:
        """The name of an argument with a bit for each element of 64 rows; see `_Pass`.

        begin   the place of the first element of a row, among those of all rows
        values  the argument with the elements, one item each, which bounds what may be read
        condition  that of the element at a place, written for any row's
        """
        self._lanes.append(_Lane())
        try:
            outcome = condition("j")
        finally:
            lane = self._lanes.pop()
        (statements,) = lane.blocks
        self._grow(len(statements) + _OWN_LINES)
        key = ("bits", begin("i"), values, outcome, *statements)
        bits = self.argument(key, "u64[]", lambda _: np.zeros(_SHORT + 2, np.uint64))
        passes = self._lanes[-1].passes
        if all(p.bits != bits for p in passes):
            passes.append(_Pass(bits, begin, values, tuple(statements), outcome))
        return bits


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _most(statements: Sequence[str]) -> float | None:
    """See `_Rows.most`."""
    if any(s.lstrip().startswith("for ") or any(r in s for r in _RUNS) for s in statements):
        return None
    return _MANY if any(d in s for s in statements for d in _DEAR) else _FEW
