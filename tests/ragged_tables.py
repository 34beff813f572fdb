"""Random columns of arrays, and random conditions over them."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tests.strategies import Pieces
from tql.schema import Bool, DType, Float, Int, Label, List

# name -> (Arrow type, type of the language). "_n": rows may be NULL; "_e": elements may be.
_STORED: Final[dict[str, tuple[Any, DType]]] = {
    "i64s": (pa.list_(pa.int64()), List(Int(64))),
    "i64s_n": (pa.large_list(pa.int64()), List(Int(64))),
    "i32s_n": (pa.list_(pa.int32()), List(Int(32))),
    "u8s": (pa.list_(pa.uint8()), List(Int(8, False))),
    "u64s": (pa.list_(pa.uint64()), List(Int(64, False))),
    "f32s": (pa.list_(pa.float32()), List(Float(32))),
    "f32s_e_n": (pa.list_(pa.float32()), List(Float(32))),
    "f64s_n": (pa.list_(pa.float64()), List(Float(64))),
    "f16s": (pa.list_(pa.float16()), List(Float(16))),
    "flags": (pa.list_(pa.bool_()), List(Bool())),
    "flags_e": (pa.list_(pa.bool_()), List(Bool())),
    "i64s_e": (pa.list_(pa.int64()), List(Int(64))),
    "labels": (pa.list_(pa.int16()), List(Label(("cat", "dog", "cow"), Int(16)))),
    "emb": (pa.list_(pa.float32(), 3), List(Float(32), 3)),
    "emb_n": (pa.list_(pa.float64(), 3), List(Float(64), 3)),
    "boxes": (pa.list_(pa.list_(pa.float32(), 4)), List(List(Float(32), 4))),
    "boxes_n": (pa.large_list(pa.list_(pa.int32())), List(List(Int(32)))),
    "maps_n": (pa.list_(pa.list_(pa.list_(pa.int8()), 2)), List(List(List(Int(8)), 2))),
    "n": (pa.int64(), Int(64)),
    "x_n": (pa.float32(), Float(32)),
    "small": (pa.int8(), Int(8)),
    "flag_n": (pa.bool_(), Bool()),
}
ARROW: Final = {name: kind for name, (kind, _) in _STORED.items()}
ARRAY_TYPES: Final = {name: dtype for name, (_, dtype) in _STORED.items()}
_EXTREME: Final = (
    0,
    1,
    2,
    3,
    -1,
    -3,
    127,
    255,
    2**31 - 1,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
)
_FLOATS: Final = (0.0, -0.0, 1.0, -1.5, 0.1, 2.5, 1e30, float("nan"), float("inf"))


def _element(kind: Any, rng: np.random.Generator, tame: bool) -> Any:
    if pa.types.is_boolean(kind):
        return bool(rng.random() < 0.5)
    if pa.types.is_floating(kind):
        value = float(rng.integers(-8, 9)) / 4 if tame else float(rng.choice(np.array(_FLOATS)))
        if not pa.types.is_float16(kind):
            return value
        with np.errstate(over="ignore"):
            return np.float16(value)
    info = np.iinfo(kind.to_pandas_dtype())
    pool = [v for v in (range(-3, 4) if tame else _EXTREME) if info.min <= v <= info.max]
    return pool[int(rng.integers(len(pool)))]


_LONG: Final = [0, 1, 2, 2, 3, 3, 3, 9, 19]  # sums add up in lanes of eight


def _value(kind: Any, rng: np.random.Generator, tame: bool, nulls: float) -> Any:
    """A value of the Arrow type; the lists within an array are equally long."""
    shape, level = [], kind
    while pa.types.is_nested(level):
        fixed = pa.types.is_fixed_size_list(level)
        sizes = [0, 1, 2, 2, 3, 3] if shape or pa.types.is_nested(level.value_type) else _LONG
        shape.append(level.list_size if fixed else int(rng.choice(sizes)))
        level = level.value_type
    count = math.prod(shape)
    flat: list[Any] = [
        None if rng.random() < nulls else _element(level, rng, tame) for _ in range(count)
    ]
    for size in reversed(shape):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)] if size else []
    return flat[0] if flat else []


def ragged_table(
    names: Sequence[str], rows: int, seed: int, offset: int = 0, tame: bool = False
) -> pa.Table:
    """`rows` rows of the named columns, as slices that start `offset` rows into their buffers."""
    rng = np.random.default_rng(seed)
    columns = []
    for name in names:
        kind = _STORED[name][0]
        missing = rng.choice([0.0, 0.3]) if name.endswith("_n") else 0.0
        nulls = rng.choice([0.0, 0.3]) if "_e" in name else 0.0
        values = [
            None if rng.random() < missing else _scalar_or(kind, rng, tame, nulls)
            for _ in range(rows + offset)
        ]
        columns.append(pa.array(values, kind).slice(offset))
    return pa.Table.from_arrays(columns, names=list(names))


def _scalar_or(kind: Any, rng: np.random.Generator, tame: bool, nulls: float) -> Any:
    return _value(kind, rng, tame, nulls) if pa.types.is_nested(kind) else _element(kind, rng, tame)


def arrays_of(table: pa.Table, cuts: Sequence[int] = ()) -> Pieces:
    return Pieces(table, cuts, ARRAY_TYPES)


def names_in(*texts: str) -> list[str]:
    words = set(itertools.chain.from_iterable(_words(t) for t in texts))
    return [name for name in ARRAY_TYPES if name in words] or ["small"]


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()


# -- expressions, as text ----------------------------------------------------------------------

_FLAT: Final = [
    n for n, t in ARRAY_TYPES.items() if isinstance(t, List) and not isinstance(t.item, List)
]
_NUMBERS: Final = [n for n in _FLAT if n not in ("flags", "flags_e", "labels")]
_MATRICES: Final = ["boxes", "boxes_n"]
_comparisons: Final = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
_numbers: Final = st.sampled_from(["0", "1", "2", "-1", "2.5", "0.1", "n", "x_n", "small"])
_ends: Final = st.sampled_from(["", "0", "1", "-1", "2", "-3", "7", "small", "n"])


@st.composite
def slices(draw: st.DrawFn) -> str:
    step = draw(st.sampled_from(["", "", ":1", ":2", ":-1", ":-2", ":small"]))
    return f"{draw(_ends)}:{draw(_ends)}{step}"


@st.composite
def vectors(draw: st.DrawFn, depth: int = 2) -> str:
    """Arrays of one dimension."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(_NUMBERS))
    inner = draw(vectors(depth - 1))
    match draw(st.integers(0, 6)):
        case 0:
            return f"{inner}[{draw(slices())}]" if inner.isidentifier() else inner
        case 1:
            return f"({inner} {draw(st.sampled_from('+-*/%'))} {draw(_numbers)})"
        case 2:
            return f"({inner} {draw(st.sampled_from('+-*/'))} {draw(vectors(depth - 1))})"
        case 3:
            return f"{draw(st.sampled_from(['abs', 'sqrt', '-']))}({inner})"
        case 4:
            return (
                f"{draw(st.sampled_from(_MATRICES))}[{draw(st.sampled_from(['0', '-1', 'small']))}]"
            )
        case 5:
            return f"{draw(st.sampled_from(_MATRICES))}[{draw(slices())}, {draw(st.sampled_from('012'))}]"
        case _:
            return f"({inner} {draw(st.sampled_from('+-*'))} array[1, 2, 3])"


@st.composite
def arrays(draw: st.DrawFn) -> str:
    """Arrays of any number of dimensions."""
    match draw(st.integers(0, 5)):
        case 0:
            return draw(st.sampled_from([*_MATRICES, "maps_n"]))
        case 1:
            return f"{draw(st.sampled_from(_MATRICES))}[{draw(slices())}, {draw(slices())}]"
        case 2:
            return f"({draw(st.sampled_from(_MATRICES))} - {draw(vectors(0))})"
        case _:
            return draw(vectors())


@st.composite
def from_arrays(draw: st.DrawFn) -> str:
    """One number of an array."""
    match draw(st.integers(0, 4)):
        case 0:
            name = draw(st.sampled_from(["cosine_similarity", "dot", "hamming_distance"]))
            other = draw(st.sampled_from([draw(vectors(1)), "array[1, 0, 2]", "emb", "emb_n"]))
            return f"{name}({draw(vectors(1))}, {other})"
        case 1:
            return f"{draw(st.sampled_from(_NUMBERS))}[{draw(st.sampled_from(['0', '1', '-1', '-2', 'n', 'small']))}]"
        case 2:
            return f"shape({draw(arrays())})[0]"
        case 3:
            row, column = draw(st.sampled_from(["0", "-1", "small"])), draw(st.sampled_from("013"))
            return f"{draw(st.sampled_from(_MATRICES))}[{row}, {column}]"
        case _:
            names = ["sum", "prod", "avg", "amin", "amax", "l1_norm", "l2_norm", "linf_norm"]
            return f"{draw(st.sampled_from(names))}({draw(arrays())})"


@st.composite
def array_tests(draw: st.DrawFn) -> str:
    match draw(st.integers(0, 6)):
        case 0:
            return f"contains({draw(st.sampled_from(_FLAT[:-2]))}, {draw(st.sampled_from('0123'))})"
        case 1:
            return f"({draw(from_arrays())} is {draw(st.sampled_from(['', 'not ']))}null)"
        case 2:
            return draw(st.sampled_from(["any(flags)", "all(flags_e)", "flags[0]", "flags_e[-1]",
                                         "all_strict(flags_e)", "any(labels == 'dog')",
                                         "labels[0] == 'cat'", "any(flags and not flags_e)",
                                         "any(logical_and(flags, flags_e))", "logical_or(flags, flags_e)[-1]"]))  # fmt: skip
        case 3:
            name = draw(st.sampled_from(["any", "all", "all_strict"]))
            return f"{name}({draw(arrays())} {draw(_comparisons)} {draw(_numbers)})"
        case _:
            return f"({draw(from_arrays())} {draw(_comparisons)} {draw(_numbers)})"


@st.composite
def array_conditions(draw: st.DrawFn, depth: int = 1) -> str:
    if depth > 0 and draw(st.integers(0, 2)) == 0:
        inner = draw(array_conditions(depth - 1))
        match draw(st.sampled_from(["not", "and", "or"])):
            case "not":
                return f"(not {inner})"
            case word:
                return f"({inner} {word} {draw(array_conditions(depth - 1))})"
    return draw(array_tests())
