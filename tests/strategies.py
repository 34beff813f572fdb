"""Random columns, cut into fragments of any size, and random conditions and expressions over them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tql.schema import Bool, Column, DType, Float, Int, Label, Schema, Text
from tql.sources.protocol import Fragment

NAMES: Final = ("cat", "dog", "it's", "Cat", "")
TEXTS: Final = (
    "",
    "a",
    "A",
    "ab",
    "b",
    "a*b",
    "a.b",
    "[a]",
    "é",
    "É",
    "日本",
    "x\ny",
    "it's",
    "a\\b",
)
PATTERNS: Final = (
    "*",
    "",
    "a*",
    "%b",
    "?",
    "??",
    "a?b",
    "a\\*b",
    "A*",
    "é",
    "*b*",
    "[a]",
    "a\\\\b",
    "a.b",
)

_INTS: Final = {
    f"{'i' if signed else 'u'}{bits}": Int(bits, signed)
    for bits in (8, 16, 32, 64)
    for signed in (True, False)
}
_KINDS: Final[dict[str, DType]] = {
    "flag": Bool(),
    **_INTS,
    "f16": Float(16),
    "f32": Float(32),
    "f64": Float(64),
    "label": Label(NAMES, Int(16)),
    "text": Text(),
    "cat": Text(),  # stored as a dictionary
}
# Each kind once without NULL, once with.
TYPES: Final[dict[str, DType]] = {
    name + suffix: dtype for name, dtype in _KINDS.items() for suffix in ("", "_n")
}
_ARROW: Final = {"flag": pa.bool_(), "label": pa.int16(), "text": pa.string()} | {
    name: pa.type_for_alias(f"{'int' if t.signed else 'uint'}{t.bits}") for name, t in _INTS.items()
} | {f"f{bits}": pa.type_for_alias(f"float{bits}") for bits in (16, 32, 64)}  # fmt: skip
_FLOATS: Final = (
    0.0, -0.0, 1.0, -1.0, 0.1, 0.5, 1.5, -2.5, 3.0, 1e-8, 6e4, 16777217.0, 2.0**53, 2.0**63,
    -(2.0**63), 2.0**64, 1e38, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


class Pieces:
    """A source whose fragments are the given stretches of one table, none of them aligned."""

    kind = "pieces"

    def __init__(
        self, table: pa.Table, cuts: Sequence[int] = (), types: Mapping[str, DType] | None = None
    ) -> None:
        self.table = table
        known = TYPES if types is None else types
        self.schema = Schema(
            Column(name, known[name], name.endswith("_n")) for name in table.column_names
        )
        edges = sorted({0, table.num_rows, *(c for c in cuts if 0 < c < table.num_rows)})
        self.fragments = tuple(
            Fragment(n, start, stop - start, f"piece {n}")
            for n, (start, stop) in enumerate(itertools.pairwise(edges))
        )

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @property
    def fingerprint(self) -> str:
        return f"pieces {self.rows}"

    def read(self, fragment: int, columns: Sequence[str]) -> pa.Table:
        f = self.fragments[fragment]
        return self.table.select(list(columns)).slice(f.start, f.rows)


def random_table(
    columns: Sequence[str], rows: int, seed: int, offset: int = 0, tame: bool = False
) -> pa.Table:
    """`rows` rows of the named columns of TYPES, as slices that start `offset` rows into a buffer.

    Values are extreme, special or small; `tame` keeps integers where no sum or product overflows.
    """
    rng = np.random.default_rng(seed)
    arrays = [_array(name, rows + offset, rng, tame).slice(offset) for name in columns]
    if not columns:
        return pa.table({"i8": _array("i8", rows, rng, True)})
    return pa.Table.from_arrays(arrays, names=list(columns))


def _array(name: str, rows: int, rng: np.random.Generator, tame: bool) -> Any:
    base = name.removesuffix("_n")
    missing = rng.random(rows) < rng.choice([0.0, 0.2, 0.9]) if name.endswith("_n") else None
    match TYPES[name]:
        case Bool():
            return pa.array(rng.random(rows) < 0.5, mask=missing)
        case Label():
            return pa.array(rng.integers(0, len(NAMES), rows).astype(np.int16), mask=missing)
        case Int(bits, signed):
            return pa.array(_ints(bits, signed, rows, rng, tame), mask=missing)
        case Float(bits):
            with np.errstate(over="ignore"):
                values = rng.choice(np.array(_FLOATS).astype(f"float{bits}"), rows)
            return pa.array(values, mask=missing)
        case _:
            picked = pa.array(rng.choice(np.array(TEXTS, object), rows), pa.string(), mask=missing)
            return _encoded(picked, rng) if base == "cat" else picked


def _encoded(texts: Any, rng: np.random.Generator) -> Any:
    """The texts as a dictionary array with arbitrary codes where a text is NULL."""
    plain = texts.dictionary_encode()
    codes = plain.indices.fill_null(0).to_numpy().copy()
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    codes[missing] = rng.choice(np.array([-7, 2**30], np.int32), int(missing.sum()))
    buffers = [pa.array(~missing).buffers()[1], pa.py_buffer(codes.astype(np.int32))]
    indices = pa.Array.from_buffers(pa.int32(), len(codes), buffers)
    return pa.DictionaryArray.from_arrays(indices, plain.dictionary, safe=False)


def _ints(bits: int, signed: bool, rows: int, rng: np.random.Generator, tame: bool) -> Any:
    dtype = np.dtype(f"{'int' if signed else 'uint'}{bits}")
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    pool = {0, 1, 2, 3, 7, low, high, low + 1, high - 1, -1, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1}
    if tame:
        pool = set(range(-9, 10))
    return rng.choice(np.array(sorted(v for v in pool if low <= v <= high), dtype), rows)


# -- expressions, as text ----------------------------------------------------------------------

_NUMBER_COLUMNS: Final = tuple(
    n for n, t in TYPES.items() if isinstance(t, Int | Float | Label | Bool)
)
_TEXT_COLUMNS: Final = tuple(n for n, t in TYPES.items() if isinstance(t, Text))
LITERALS: Final = (
    "0", "1", "-1", "2", "3", "2.5", "0.1", "-0.0", "1.5", "127", "128", "-128", "-129", "255",
    "65535", "16777217", "9007199254740992", "9007199254740993", "9007199254740993.0",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "18446744073709551615", "1e38", "60000.0", "true", "false",
)  # fmt: skip
comparisons = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
number_columns = st.sampled_from(_NUMBER_COLUMNS)
text_columns = st.sampled_from(_TEXT_COLUMNS)
literals = st.sampled_from(LITERALS)
small_literals = st.sampled_from(["1", "2", "-1", "3", "0.5", "1.5", "0"])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


texts = st.sampled_from(TEXTS).map(quoted)


@st.composite
def numbers(draw: st.DrawFn, depth: int = 2) -> str:
    """An expression that is a number and has a column in it."""
    column = draw(number_columns)
    if depth == 0 or draw(st.booleans()):
        return column
    inner = draw(numbers(depth - 1))
    match draw(st.sampled_from(["-", "abs", "sqrt", "arith", "arith", "literal"])):
        case "-":
            return f"(-{inner})"
        case "arith":
            op = draw(st.sampled_from("+-*/%"))
            return f"({inner} {op} {draw(numbers(depth - 1))})"
        case "literal":
            op = draw(st.sampled_from("+-*/%"))
            pair = [inner, draw(small_literals)]
            return (
                f"({pair[0]} {op} {pair[1]})"
                if draw(st.booleans())
                else f"({pair[1]} {op} {pair[0]})"
            )
        case function:
            return f"{function}({inner})"


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    """An expression that is a truth value."""
    if depth > 0 and draw(st.booleans()):
        inner = draw(conditions(depth - 1))
        match draw(st.sampled_from(["not", "and", "or"])):
            case "not":
                return f"(not {inner})"
            case word:
                return f"({inner} {word} {draw(conditions(depth - 1))})"
    return draw(st.one_of(number_tests(), number_tests(), text_tests(), label_tests()))


@st.composite
def number_tests(draw: st.DrawFn) -> str:
    x = draw(numbers(draw(st.sampled_from([0, 0, 1, 2]))))
    negated = draw(st.sampled_from(["", "not "]))
    match draw(st.integers(0, 6)):
        case 0 | 1:
            return f"({x} {draw(comparisons)} {draw(literals)})"
        case 2:
            return f"({x} {draw(comparisons)} {draw(numbers(1))})"
        case 3:
            return f"({x} {negated}between {draw(literals)} and {draw(literals)})"
        case 4:
            most = draw(st.sampled_from([3, 12]))
            choices = ", ".join(draw(st.lists(literals, min_size=1, max_size=most)))
            return f"({x} {negated}in ({choices}))"
        case 5:
            return f"({x} is {negated}null)"
        case _:
            return x


@st.composite
def text_tests(draw: st.DrawFn) -> str:
    x = draw(text_columns)
    negated = draw(st.sampled_from(["", "not "]))
    match draw(st.integers(0, 6)):
        case 0:
            return f"({x} {draw(comparisons)} {draw(texts)})"
        case 1:
            return f"({x} {draw(comparisons)} {draw(text_columns)})"
        case 2:
            return f"({x} {negated}in ({', '.join(draw(st.lists(texts, min_size=1, max_size=3)))}))"
        case 3:
            word = draw(st.sampled_from(["like", "ilike"]))
            return f"({x} {negated}{word} {quoted(draw(st.sampled_from(PATTERNS)))})"
        case 4:
            return f"contains({x}, {draw(st.one_of(texts, text_columns))})"
        case 5:
            return f"({x} is {negated}null)"
        case _:
            return f"({x} {negated}between {draw(texts)} and {draw(texts)})"


@st.composite
def label_tests(draw: st.DrawFn) -> str:
    x = draw(st.sampled_from(["label", "label_n"]))
    name = st.sampled_from(NAMES).map(quoted)
    if draw(st.booleans()):
        return f"({x} {draw(comparisons)} {draw(name)})"
    return f"({x} in ({', '.join(draw(st.lists(name, min_size=1, max_size=3)))}))"
