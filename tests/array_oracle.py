"""What expressions over arrays are, for one row at a time: NumPy object arrays, NULL as None.

Written from the law of the language and from NumPy, not from the engine.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

Cell = Any  # a nested list, a scalar, or None


class RowError(Exception):
    """The row is an error of this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


# -- values ------------------------------------------------------------------------------------


def as_array(value: Cell, rank: int, sizes: Sequence[int | None] = ()) -> np.ndarray[Any, Any]:
    """A nested list as an object array of this rank; inner extents that nothing shows are `sizes`."""
    shape: list[int] = []
    level = value
    for axis in range(rank):
        if level is None:
            shape.append((sizes[axis] if axis < len(sizes) else None) or 0)
            continue
        shape.append(len(level))
        level = level[0] if len(level) else None
    flat = list(flatten(value, rank))
    made = np.empty(len(flat), object)
    made[:] = flat
    return made.reshape(shape)


def flatten(value: Cell, rank: int) -> Any:
    if rank == 0:
        yield value
    else:
        for part in value:
            yield from flatten(part, rank - 1)


def as_cell(value: Any) -> Cell:
    """An object array as nested lists."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def same(found: Cell, wanted: Cell) -> bool:
    """Equal to the last bit, NaN to NaN; 1 is not 1.0 and not True."""
    if isinstance(wanted, list) or isinstance(found, list):
        return (
            isinstance(found, list)
            and isinstance(wanted, list)
            and len(found) == len(wanted)
            and all(map(same, found, wanted))
        )
    if isinstance(wanted, float) and isinstance(found, float):
        return (math.isnan(wanted) and math.isnan(found)) or wanted == found
    return type(found) is type(wanted) and bool(found == wanted)


# -- operations --------------------------------------------------------------------------------


def by_element(f: Callable[..., Any], *operands: Any) -> Any:
    """`f` of the elements that meet by NumPy's rules; None where one of them is."""
    if any(o is None for o in operands):
        return None
    arrays = widened([o if isinstance(o, np.ndarray) else np.array(o, object) for o in operands])
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        raise RowError("shape") from None
    result = np.empty(shape, object)
    spread = [np.broadcast_to(a, shape) for a in arrays]
    for at in np.ndindex(*shape):
        values = [a[at] for a in spread]
        result[at] = None if any(v is None for v in values) else f(*values)
    return result


def widened(arrays: Sequence[Any]) -> list[Any]:
    """[] of lists of lists, of which nobody knows how long its rows would be, as wide as the others."""
    if len(arrays) != 2:
        return list(arrays)
    result = []
    for mine, other in zip(arrays, reversed(arrays), strict=True):
        shape = list(mine.shape)
        for axis in range(-mine.ndim + 1, 0):
            if shape[axis] == 0 and 0 in mine.shape[:axis] and -axis <= other.ndim:
                shape[axis] = 0 if other.shape[axis] == 1 else other.shape[axis]
        result.append(mine.reshape(shape))
    return result


def subscript(array: Any, parts: Sequence[Any]) -> Any:
    """NumPy's indexing; None for an index out of range, or for anything that is None."""
    if array is None or any(p is None for p in parts):
        return None
    if any(isinstance(p, slice) and p.step == 0 for p in parts):
        raise RowError("value")
    for axis, p in enumerate(parts):
        extent = array.shape[axis]
        if not isinstance(p, slice) and not -extent <= p < extent:
            # [] of lists of lists: how long its rows would be is not known, so any index will do.
            if extent == 0 and 0 in array.shape[:axis]:
                wide = list(array.shape)
                wide[axis] = abs(p) + 1
                array = np.empty(wide, object)
                continue
            return None
    return array[tuple(parts)]


def reduced(f: Callable[[list[Any]], Any], array: Any, axis: int | None = None) -> Any:
    """`f` of the elements that are not None, of the whole array or along one axis."""
    if array is None:
        return None
    if axis is None or array.ndim == 1:
        return f([v for v in array.ravel() if v is not None])
    moved = np.moveaxis(array, axis, -1)
    result = np.empty(moved.shape[:-1], object)
    for at in np.ndindex(*result.shape):
        result[at] = f([v for v in moved[at] if v is not None])
    return result


def total(values: list[Any]) -> Any:
    """Of integers, exactly."""
    return _in_64_bits(sum(map(int, values)))


def product(values: list[Any]) -> Any:
    """Of integers, exactly."""
    return _in_64_bits(math.prod(map(int, values)))


def real_total(values: list[Any]) -> float:
    return _floats(values)


def real_product(values: list[Any]) -> float:
    """From left to right."""
    result = 1.0
    for v in values:
        result *= v
    return result


def _in_64_bits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise RowError("range")
    return value


def mean(values: list[Any]) -> Any:
    return _floats(values) / len(values) if values else None


def _floats(values: list[Any]) -> float:
    """Every eighth value from left to right, then these eight sums by halves."""
    a, b, c, d, e, f, g, h = (_in_turn(values[lane::8]) for lane in range(8))
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


def _in_turn(values: list[Any]) -> float:
    result = 0.0
    for v in values:
        result += float(v)
    return result


def least(values: list[Any]) -> Any:
    return _extreme(min, values)


def greatest(values: list[Any]) -> Any:
    return _extreme(max, values)


def _extreme(choose: Any, values: list[Any]) -> Any:
    if not values:
        return None
    if any(v != v for v in values):
        return math.nan
    return choose(values)


def l1(values: list[Any]) -> float:
    return _floats([abs(float(v)) for v in values])


def l2(values: list[Any]) -> float:
    return math.sqrt(_floats([float(v) * float(v) for v in values]))


def linf(values: list[Any]) -> float:
    found = greatest([abs(float(v)) for v in values])
    return 0.0 if found is None else found


def pairs(a: Any, b: Any) -> list[tuple[Any, Any]] | None:
    """The elements that face each other; None where an argument or an element is."""
    if a is None or b is None or None in a.ravel() or None in b.ravel():
        return None
    if a.shape != b.shape:
        raise RowError("shape")
    return list(zip(a.ravel(), b.ravel()))


def integer_dot(a: Any, b: Any) -> Any:
    faced = pairs(a, b)
    return None if faced is None else _in_64_bits(sum(x * y for x, y in faced))


def real_dot(a: Any, b: Any) -> Any:
    faced = pairs(a, b)
    if faced is None:
        return None
    return _floats([float(x) * float(y) for x, y in faced])


def cosine(a: Any, b: Any) -> Any:
    faced = pairs(a, b)
    if faced is None:
        return None
    if not any(a.ravel()) or not any(b.ravel()):
        return 0.0
    faced = list(zip(near_one(a), near_one(b), strict=True))
    across = _floats([x * y for x, y in faced])
    first, second = l2([x for x, _ in faced]), l2([y for _, y in faced])
    value = across / (first * second)
    return value if math.isnan(value) else max(-1.0, min(1.0, value))


def near_one(a: Any) -> list[float]:
    """The vector as it is, or where squares of its numbers leave float64, over its largest number's
    power of two.
    """
    values = [float(x) for x in a.ravel()]
    squares = sum(x * x for x in values)
    if 1e-250 < squares < 1e300 or not all(map(math.isfinite, values)):
        return values
    exponent = math.frexp(max(map(abs, values)))[1]
    return [math.ldexp(x, -exponent) for x in values]


def hamming(a: Any, b: Any) -> Any:
    faced = pairs(a, b)
    return None if faced is None else sum(x != y for x, y in faced)


def maxsim(documents: Any, queries: Any) -> Any:
    if documents is None or queries is None:
        return None
    if None in documents.ravel() or None in queries.ravel():
        return None
    if documents.shape[1] != queries.shape[1] and (0, 0) not in (documents.shape, queries.shape):
        raise RowError("shape")
    if not len(documents):
        return None
    return _floats([greatest([cosine(d, q) for d in documents]) for q in queries])


def contains(haystack: Any, needle: Any) -> Any:
    if haystack is None or needle is None:
        return None
    return any(
        part.shape == needle.shape
        and all(
            x is not None and y is not None and x == y for x, y in zip(part.ravel(), needle.ravel())
        )
        for part in haystack
    )


def nonzero(array: Any) -> Any:
    if array is None:
        return None
    return [at for at, v in enumerate(array.ravel()) if v is not None and v != 0]


def logical(join: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """By element where the shapes are equal, else the scalar False."""
    if a is None or b is None:
        return None
    if a.shape != b.shape:
        return False
    result = np.empty(a.shape, object)
    for at in np.ndindex(*a.shape):
        result[at] = join(*(None if v is None else bool(v) for v in (a[at], b[at])))
    return result


def three_valued_and(x: Any, y: Any) -> Any:
    if x is False or y is False:
        return False
    return None if x is None or y is None else True


def three_valued_or(x: Any, y: Any) -> Any:
    if x is True or y is True:
        return True
    return None if x is None or y is None else False


# -- columns -----------------------------------------------------------------------------------

INTS: Final = (0, 1, -1, 2, 3, 7, -5, 2**31 - 1, -(2**31))
FLOATS: Final = (
    0.0, -0.0, 1.0, -1.0, 0.5, 1e-8, 3.0, 16777217.0, 1e38, math.inf, -math.inf, math.nan,
)  # fmt: skip
BIG: Final = (0, 1, -1, 2, 2**62, -(2**62), 2**63 - 1, -(2**63), 3)

KINDS: Final[dict[str, tuple[pa.DataType, Sequence[Any]]]] = {
    "i32": (pa.int32(), INTS),
    "i64": (pa.int64(), BIG),
    "u8": (pa.uint8(), (0, 1, 255)),
    "f32": (pa.float32(), [float(np.float32(v)) for v in FLOATS]),
    "f64": (pa.float64(), (*FLOATS, 0.1, 1e300)),
    "b": (pa.bool_(), (True, False)),
}
# How a rank is stored: a number is a fixed size.
LAYOUTS: Final[dict[str, tuple[Any, ...]]] = {
    "list": ("list",),
    "large": ("large",),
    "three": (3,),
    "boxes": ("list", 2),
    "ragged": ("list", "list"),
    "matrix": (2, 3),
    "clips": ("large", "list", 2),
    "cube": (2, "list", "list"),
}


def arrow_type(element: pa.DataType, layout: tuple[Any, ...]) -> pa.DataType:
    for level in reversed(layout):
        if level == "list":
            element = pa.list_(element)
        elif level == "large":
            element = pa.large_list(element)
        else:
            element = pa.list_(element, level)
    return element


def sizes_of(layout: tuple[Any, ...]) -> list[int | None]:
    return [level if isinstance(level, int) else None for level in layout]


def never_fit(a: str, b: str) -> bool:
    """Whether the fixed sizes of two layouts alone rule out that their shapes fit."""
    facing = zip(reversed(sizes_of(LAYOUTS[a])), reversed(sizes_of(LAYOUTS[b])))
    return any(m != n and 1 not in (m, n) and None not in (m, n) for m, n in facing)


@st.composite
def rows(draw: st.DrawFn, kind: str, layout: str, nulls: bool = True, most: int = 3) -> list[Cell]:
    """Up to 5 rows of such arrays, each rectangular; some NULL, some elements NULL."""
    _, values = KINDS[kind]
    levels = LAYOUTS[layout]
    element = st.sampled_from(values)
    if nulls:
        element = st.one_of(element, element, element, st.none())

    def one() -> Cell:
        if nulls and draw(st.integers(0, 6)) == 0:
            return None
        shape = [
            level if isinstance(level, int) else draw(st.integers(0, most)) for level in levels
        ]
        return build(shape)

    def build(shape: list[int]) -> Cell:
        if not shape:
            return draw(element)
        return [build(shape[1:]) for _ in range(shape[0])]

    return [one() for _ in range(draw(st.integers(1, 5)))]


def stored(values: list[Cell], kind: str, layout: str, offset: int, cut: int) -> pa.ChunkedArray:
    """The rows as Arrow: behind `offset` others of the same buffer, and in two chunks."""
    dtype = arrow_type(KINDS[kind][0], LAYOUTS[layout])
    before = [values[0]] * offset
    whole = pa.array(before + values, dtype).slice(offset)
    cut = min(cut, len(values))
    return pa.chunked_array([whole.slice(0, cut), whole.slice(cut)], dtype)


def cells(values: list[Cell], layout: str) -> list[Any]:
    """The rows as object arrays."""
    levels = LAYOUTS[layout]
    return [None if v is None else as_array(v, len(levels), sizes_of(levels)) for v in values]
