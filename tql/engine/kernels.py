"""The kernel tier: several predicates over one fragment as one generated loop → bitmaps.

The generated function handles 64 rows at a time. Every comparison is a loop of 64 steps that
collects its outcomes in one 64-bit word, which LLVM turns into vector compares; AND, OR, NOT and
NULL are then single instructions on words, and Arrow's bitmaps (bool columns, validity) are such
words already. Measured on one core, 10 M rows: `int32 != constant` 1.0 ms, with `and float64 >
constant` 3.4 ms (35 GB/s); a byte mask per row followed by packing took 9.7 ms.

A condition is generated for the polarity that is needed: `true(e)` is the rows where e is TRUE,
`false(e)` those where it is FALSE; a NULL is in neither. Literals and dictionary look-ups are
arguments, so that queries of one shape share a kernel, and no text of a query is in its source.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tql.bits import aligned_words
from tql.engine import devices
from tql.engine.columns import numpy_dtype, one_array, storage
from tql.engine.comparing import plain_text
from tql.engine.costs import reference_ns
from tql.engine.reference import matches
from tql.jit import Kernel
from tql.language.expr import (
    And,
    Arith,
    ArithOp,
    Call,
    Column,
    Compare,
    CompareOp,
    Const,
    Expr,
    InSet,
    IsNull,
    Not,
    Or,
    TextIs,
    TextTest,
    Truth,
    can_raise,
    integer_type,
)
from tql.schema import Bool, DType, Float, Int, Json, Label, Time

Words: TypeAlias = NDArray[np.uint64]

# Compiling takes about 25 ms a comparison; a condition of thousands is data, not a shape.
_MOST_LEAVES: Final = 64
_MOST_LINES: Final = 2048


class Unsuitable(Exception):
    """This expression, or this fragment's layout, is for the reference tier."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One kernel argument: its C type, and how to make it from a fragment's columns."""

    kind: str
    make: Callable[["Columns"], Any]


@dataclass(slots=True)
class Columns:
    """The columns of a fragment, each put together from its chunks once, however many arguments
    are made from it.
    """

    table: Any
    _whole: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        if name not in self._whole:
            self._whole[name] = one_array(self.table.column(name))
        return self._whole[name]


@dataclass(frozen=True, slots=True)
class Program:
    """A kernel and the recipe for its arguments; `outputs` bitmaps come out."""

    kernel: Kernel
    arguments: tuple[Argument, ...]
    outputs: int
    cost_ns_per_row: float  # of the reference tier, for the rule when to compile
    leaves: int  # loops over 64 rows

    def run(self, table: Any, rows: int, outs: Sequence[Words]) -> None:
        """Write one bitmap per predicate over the rows of `table`, each uint64 (ceil(rows / 64),).

        Raises Unsuitable where the fragment's columns are not laid out as the kernel needs.
        """
        columns = Columns(table)
        made = [a.make(columns) for a in self.arguments]
        self.kernel(rows, *made, *outs)


def compile_program(predicates: Sequence[Expr]) -> Program | None:
    """The program for these conditions, or None where the reference tier has to do it."""
    # Not even under IS NULL or an empty IN, whose kernels would never look at the operand.
    if any(can_raise(p) for p in predicates):
        return None
    writer = _Writer()
    try:
        words = [writer.true(p) for p in predicates]
    except Unsuitable:
        return None
    source = _source(writer, words)
    signature = ", ".join(["i64", *(a.kind for a in writer.arguments), *["u64[]"] * len(words)])
    kernel = _kernel(source, signature)
    return Program(
        kernel, tuple(writer.arguments), len(words), reference_ns(predicates), writer.leaves
    )


@lru_cache(maxsize=512)
def _kernel(source: str, signature: str) -> Kernel:
    """One kernel per source: queries that differ in literals alone share it."""

    def make() -> Callable[..., None]:  # 0.3 ms, so not before it pays
        scope: dict[str, Any] = {"np": np, **devices.NAMES}
        exec(source, scope)  # made by this module from the names x0, w1, out2 … and operators only
        made: Callable[..., None] = scope["predicate"]
        return made

    return Kernel("predicate", signature, make, source=source)


def _source(writer: "_Writer", outputs: Sequence[str]) -> str:
    names = ["n", *(f"x{i}" for i in range(len(writer.arguments)))]
    names += [f"out{i}" for i in range(len(outputs))]

    def block(lanes: str, mask: str, indent: str) -> list[str]:
        lines = [line.replace("LANES", lanes) for line in writer.lines]
        lines += [f"out{i}[w] = {word}{mask}" for i, word in enumerate(outputs)]
        return [indent + line for line in lines]

    body = ["full = n >> 6", "for w in range(full):", "    base = w * 64"]
    body += block("64", "", "    ")
    body += ["tail = n & 63", "if tail > 0:", "    w = full", "    base = full * 64"]
    body += ["    mask = (ONE << np.uint64(tail)) - ONE", *block("tail", " & mask", "    ")]
    return f"def predicate({', '.join(names)}):\n" + "".join(f"    {line}\n" for line in body)


_COMPARISON = {op: op.value for op in CompareOp}
_ALL, _NONE = "ALL", "ZERO"


@dataclass(slots=True)
class _Writer:
    """Collects the statements and arguments of one kernel; equal parts are written once."""

    lines: list[str] = field(default_factory=list)
    arguments: list[Argument] = field(default_factory=list)
    leaves: int = 0
    _known: dict[Any, str] = field(default_factory=dict)

    # -- conditions, as words ------------------------------------------------------------------

    def true(self, e: Expr) -> str:
        """The name of a word with the rows where `e` is TRUE."""
        return self._decided(e, True)

    def false(self, e: Expr) -> str:
        """The name of a word with the rows where `e` is FALSE."""
        return self._decided(e, False)

    def _decided(self, e: Expr, polarity: bool) -> str:
        # A comparison of conditions asks for both polarities of both sides: without a memory
        # the work would double with every level. Nodes live as long as the predicates do.
        key = (id(e), polarity)
        if key not in self._known:
            self._known[key] = self._true(e) if polarity else self._false(e)
        return self._known[key]

    def _true(self, e: Expr) -> str:
        match e:
            case Const(value):
                return _ALL if value else _NONE
            case Not(operand):
                return self.false(operand)
            case And(terms):
                return self._combine("&", [self.true(t) for t in terms])
            case Or(terms):
                return self._combine("|", [self.true(t) for t in terms])
            case IsNull(operand):
                valid = self._valid(operand)
                return _NONE if valid is None else self._word(f"~{valid}")
            case Compare(op, left, right) if _both_bool(left, right):
                return self._compare_bools(op, left, right)
            case _:
                return self._known_to_be(e, self._outcome(e))

    def _false(self, e: Expr) -> str:
        match e:
            case Const(value):
                return _NONE if value else _ALL
            case Not(operand):
                return self.true(operand)
            case And(terms):
                return self._combine("|", [self.false(t) for t in terms])
            case Or(terms):
                return self._combine("&", [self.false(t) for t in terms])
            case IsNull(operand):
                return self._valid(operand) or _ALL
            case Compare(op, left, right) if _both_bool(left, right):
                return self._compare_bools(op.negated, left, right)
            case _:
                return self._known_to_be(e, self._word(f"~{self._outcome(e)}"))

    def _outcome(self, e: Expr) -> str:
        """A word that is right wherever `e` is not NULL."""
        match e:
            case Column(name) if isinstance(e.dtype, Bool):
                return self._bitmap(("bits", name), lambda t: _value_bits(t, name))
            case Compare(op, left, right):
                return self._lanes(self._comparison(op, left, right))
            case Truth(operand):
                return self._lanes(f"{self._number(operand)} != 0")
            case InSet(operand, values):
                return self._membership(operand, values)
            case TextTest(Column() as column, rule):
                return self._text(column, rule)
            case _:
                raise Unsuitable

    def _combine(self, op: str, words: list[str]) -> str:
        neutral, absorbing = (_ALL, _NONE) if op == "&" else (_NONE, _ALL)
        if absorbing in words:
            return absorbing
        kept = list(dict.fromkeys(w for w in words if w != neutral))
        if len(kept) <= 1:
            return kept[0] if kept else neutral
        return self._word(f" {op} ".join(kept))

    def _known_to_be(self, e: Expr, word: str) -> str:
        valid = self._valid(e)
        return word if valid is None else self._combine("&", [word, valid])

    def _valid(self, e: Expr) -> str | None:
        """A word with the rows where `e` is not NULL; None where it never is."""
        if not e.nullable:
            return None
        match e:
            case Column(_, Json()):  # JSON's null is in the values
                raise Unsuitable
            case Column(name):
                return self._bitmap(("valid", name), lambda t: _validity(t, name))
            case Compare(_, left, right) | Arith(_, left, right):
                parts = [self._valid(left), self._valid(right)]
            case Truth(operand) | InSet(operand) | TextTest(operand):
                parts = [self._valid(operand)]
            case Call("abs" | "sqrt", (operand,)):
                parts = [self._valid(operand)]
            case _:
                raise Unsuitable
        return self._combine("&", [p for p in parts if p is not None])

    def _compare_bools(self, op: CompareOp, left: Expr, right: Expr) -> str:
        lt, lf, rt, rf = self.true(left), self.false(left), self.true(right), self.false(right)
        both, neither = self._combine("&", [lt, rt]), self._combine("&", [lf, rf])
        less, more = self._combine("&", [lf, rt]), self._combine("&", [lt, rf])
        chosen = {
            CompareOp.EQ: [both, neither],
            CompareOp.NE: [less, more],
            CompareOp.LT: [less],
            CompareOp.GT: [more],
            CompareOp.LE: [less, both, neither],
            CompareOp.GE: [more, both, neither],
        }
        return self._combine("|", chosen[op])

    # -- leaves --------------------------------------------------------------------------------

    def _lanes(self, condition: str) -> str:
        """A word whose bit i is `condition` for row i of the block."""
        if condition not in self._known:
            if self.leaves >= _MOST_LEAVES:
                raise Unsuitable
            word = f"w{len(self._known)}"
            self.lines += [
                f"{word} = ZERO",
                "for b in range(LANES):",
                "    i = base + b",
                f"    {word} |= np.uint64({condition}) << np.uint64(b)",
            ]
            self._known[condition] = word
            self.leaves += 1
        return self._known[condition]

    def _word(self, expression: str) -> str:
        if expression not in self._known:
            if len(self.lines) >= _MOST_LINES:
                raise Unsuitable
            word = f"w{len(self._known)}"
            self.lines.append(f"{word} = {expression}")
            self._known[expression] = word
        return self._known[expression]

    def _bitmap(self, key: tuple[str, str], make: Callable[[Columns], Words]) -> str:
        return self._word(f"{self._argument(key, 'u64[]', make)}[w]")

    def _argument(self, key: Any, kind: str, make: Callable[[Columns], Any]) -> str:
        if key not in self._known:
            self._known[key] = f"x{len(self.arguments)}"
            self.arguments.append(Argument(kind, make))
        return self._known[key]

    def _literal(self, value: Any, kind: str) -> str:
        return self._argument(("literal", kind, repr(value)), kind, lambda _: value)

    def _comparison(self, op: CompareOp, left: Expr, right: Expr) -> str:
        a, b = self._number(left), self._number(right)
        s, t = c_kind(left.dtype), c_kind(right.dtype)
        sign = _COMPARISON[op]
        if s == t:
            return f"({a} {sign} {b})"
        if s[0] != "f" and t[0] != "f":
            if "u64" not in (s, t):
                return f"(np.int64({a}) {sign} np.int64({b}))"
            if (s == "u64" and t[0] == "u") or (t == "u64" and s[0] == "u"):
                return f"(np.uint64({a}) {sign} np.uint64({b}))"
            if s == "u64":
                return f"(-sign_i64_u64(np.int64({b}), {a}) {sign} 0)"
            return f"(sign_i64_u64(np.int64({a}), {b}) {sign} 0)"
        if s in ("i64", "u64") or t in ("i64", "u64"):
            whole, real, turn = (a, b, "") if t[0] == "f" else (b, a, "-")
            width = s if t[0] == "f" else t
            exact = f"{turn}sign_{width}_f64({whole}, np.float64({real}))"
            unordered = f"(np.float64({real}) != np.float64({real}))"
            if op is CompareOp.NE:
                return f"(({exact} != 0) | {unordered})"
            return f"(({exact} {sign} 0) & ~{unordered})"
        return f"(np.float64({a}) {sign} np.float64({b}))"

    def _membership(self, operand: Expr, values: tuple[int | float, ...]) -> str:
        if not values:
            return _NONE
        x, kind = self._number(operand), c_kind(operand.dtype)
        if len(values) <= 8:
            return self._lanes(" | ".join(f"({x} == {self._literal(v, kind)})" for v in values))
        key = ("set", kind, values)
        if kind[0] != "f" and kind != "u64" and values[-1] - values[0] < 1 << 16:
            table = np.zeros(int(values[-1] - values[0]) + 1, np.uint8)
            table[np.array(values, np.int64) - int(values[0])] = 1
            name = self._argument(key, "u8[]", lambda _: table)
            low = self._literal(int(values[0]), "i64")
            return self._lanes(f"in_table({name}, np.int64({x}) - {low})")
        ordered = np.array(values, _NUMPY_KIND[kind])
        name = self._argument(key, f"{kind}[]", lambda _: ordered)
        return self._lanes(f"in_sorted({name}, {x})")

    def _text(self, column: Column, rule: Any) -> str:
        codes = self._argument(("codes", column.name), "i32[]", lambda t: _codes(t, column.name))
        if isinstance(rule, TextIs) and rule.op in (CompareOp.EQ, CompareOp.NE):
            sought = self._argument(
                ("code of", column.name, rule.value), "i32",
                lambda t: _code_of(t, column.name, rule.value),
            )  # fmt: skip
            return self._lanes(f"({codes}[i] {rule.op.value} {sought})")
        table = self._argument(
            ("hits", column.name, rule), "u8[]", lambda t: _hits(t, column.name, rule)
        )
        return self._lanes(f"({table}[{codes}[i]] != 0)")

    # -- numbers, as expressions ---------------------------------------------------------------

    def _number(self, e: Expr) -> str:
        """An expression for row i, of the C type `c_kind(e.dtype)`; right where not NULL."""
        kind = c_kind(e.dtype)
        match e:
            case Column(name, dtype) if not isinstance(dtype, Bool):
                made = self._argument(
                    ("values", name), f"{kind}[]", lambda t: _values(t, name, dtype)
                )
                return f"{made}[i]"
            case Const(value):
                return self._literal(value, kind)
            case Arith(op, left, right, Int()) if op is not ArithOp.DIV:
                return self._integers(op, left, right)
            case Arith(op, left, right, Float(bits)) if op is not ArithOp.MOD:
                a, b = self._number(left), self._number(right)
                self.leaves += 1
                return f"(np.float{bits}({a}) {op.value} np.float{bits}({b}))"
            case Call("abs", (operand,), Float()):
                return f"abs({self._number(operand)})"
            case _:
                raise Unsuitable

    def _integers(self, op: ArithOp, left: Expr, right: Expr) -> str:
        # int64 holds every intermediate: can_raise() has bounded it by the operand types.
        if "u64" in (c_kind(left.dtype), c_kind(right.dtype)):
            raise Unsuitable
        a, b = self._number(left), self._number(right)
        self.leaves += 1
        if op is ArithOp.MOD:
            return f"remainder(np.int64({a}), np.int64({b}))"
        return f"(np.int64({a}) {op.value} np.int64({b}))"


def _both_bool(left: Expr, right: Expr) -> bool:
    return isinstance(left.dtype, Bool) and isinstance(right.dtype, Bool)


def c_kind(dtype: DType) -> str:
    """The C type of a number column, as `tql.jit` names it."""
    match dtype:
        case Int() | Label():
            whole = integer_type(dtype)
            assert whole is not None
            return f"{'i' if whole.signed else 'u'}{whole.bits}"
        case Float(32 | 64 as bits):
            return f"f{bits}"
        case Time():
            return "i64"
        case _:
            raise Unsuitable


_NUMPY_KIND = {
    f"{kind}{bits}": np.dtype(f"{name}{bits}")
    for kind, name, sizes in (
        ("i", "int", (8, 16, 32, 64)),
        ("u", "uint", (8, 16, 32, 64)),
        ("f", "float", (32, 64)),
    )
    for bits in sizes
}


# -- arguments from a fragment -----------------------------------------------------------------


def _values(columns: Columns, name: str, dtype: DType) -> NDArray[Any]:
    array = columns[name]
    if isinstance(dtype, Label) and hasattr(array, "indices"):
        array = array.indices
    view = storage(array)
    return np.ascontiguousarray(view.astype(numpy_dtype(dtype), copy=False))


def _value_bits(columns: Columns, name: str) -> Words:
    array = columns[name]
    return aligned_words(array.buffers()[1], array.offset, len(array))


def _validity(columns: Columns, name: str) -> Words:
    array = columns[name]
    if not array.null_count:
        return np.full((len(array) + 63) // 64, ~np.uint64(0))
    return aligned_words(array.buffers()[0], array.offset, len(array))


def _dictionary(columns: Columns, name: str) -> Any:
    array = columns[name]
    # A dictionary that holds a null, or plain text, is for the reference tier.
    if not hasattr(array, "indices") or array.dictionary.null_count:
        raise Unsuitable
    return array


def _codes(columns: Columns, name: str) -> NDArray[np.int32]:
    indices = _dictionary(columns, name).indices
    codes = storage(indices)
    if indices.null_count:  # what stands behind a null may be any number: keep look-ups in range
        codes = np.where(_bools_of(indices), codes, 0)
    return np.ascontiguousarray(codes.astype(np.int32, copy=False))


def _bools_of(indices: Any) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = indices.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _code_of(columns: Columns, name: str, value: str) -> int:
    words = plain_text(_dictionary(columns, name).dictionary)
    at: int = words.index(value).as_py()  # -1, which no row has, where it is not there
    return at


def _hits(columns: Columns, name: str, rule: Any) -> NDArray[np.uint8]:
    found = matches(rule, plain_text(_dictionary(columns, name).dictionary))
    hits = one_array(found).to_numpy(zero_copy_only=False).astype(np.uint8)
    return hits if len(hits) else np.zeros(1, np.uint8)
