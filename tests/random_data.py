"""Random tables with a column of every type, as Arrow lays them out: chunks, slices, dictionaries.

Each column of COLUMNS comes as `name`, as `name_n` with NULL rows, and lists also as `name_e` with
NULL elements. Values are small, or extreme and special where the table is not `tame`.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tests.strategies import NAMES, TEXTS

Rng = np.random.Generator
Make = Callable[[Rng, bool], Any]

SPECIAL: Final = (
    0.0, -0.0, 0.1, -2.5, 3.0, 1e-8, 6e4, 16777217.0, 2.0**53, 2.0**63, 1e38, 1e300,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
EPOCH_DAYS: Final = 19_700
"""About 2023-12-09: stored times lie within some days of it."""


@dataclass(frozen=True)
class Spec:
    """A column: its Arrow type, how a value is made, class names.

    kind   number, text, label, time, json, array or binary
    item   of an array: number, bool, text, label
    shape  two arrays of one shape fit each other; a ragged column fits itself only
    """

    arrow: Any
    make: Make
    kind: str
    names: tuple[str, ...] = ()
    item: str = ""
    rank: int = 0
    shape: str = ""


def _whole(bits: int, signed: bool) -> Make:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    extreme = [low, high, low + 1, high - 1, 2**24 + 1, 2**53 + 1, 2**63 - 1, -1, 0, 1]
    fitting = [v for v in extreme if low <= v <= high]

    def make(rng: Rng, tame: bool) -> int:
        if tame or rng.random() < 0.5:
            return int(rng.integers(max(low, -5), 6))
        return fitting[rng.integers(len(fitting))]

    return make


def _float(bits: int) -> Make:
    def make(rng: Rng, tame: bool) -> float:
        if tame or rng.random() < 0.5:
            return float(rng.integers(-8, 9)) / 2
        with np.errstate(over="ignore"):
            return float(np.array(rng.choice(SPECIAL)).astype(f"float{bits}"))

    return make


def _bool(rng: Rng, tame: bool) -> bool:
    return bool(rng.random() < 0.5)


def _label(rng: Rng, tame: bool) -> int:
    return int(rng.integers(len(NAMES)))


def _text(rng: Rng, tame: bool) -> str:
    return str(TEXTS[rng.integers(len(TEXTS))])


def _days(rng: Rng, tame: bool) -> int:
    far = [-(10**6), -1, 0, 10**6]
    return EPOCH_DAYS + int(rng.integers(5)) if tame or rng.random() < 0.7 else int(rng.choice(far))


def _time(per_second: int) -> Make:
    def make(rng: Rng, tame: bool) -> int:
        second = EPOCH_DAYS * 86_400 + int(rng.integers(5)) * 21_600 + int(rng.integers(2))
        return second * per_second + (int(rng.integers(2)) * per_second // 2)

    return make


def _list(item: Make, most: int = 4) -> Make:
    def make(rng: Rng, tame: bool) -> list[Any]:
        return [item(rng, tame) for _ in range(rng.integers(most + 1))]

    return make


def _fixed(item: Make, size: int) -> Make:
    return lambda rng, tame: [item(rng, tame) for _ in range(size)]


def _grid(item: Make) -> Make:
    def make(rng: Rng, tame: bool) -> list[list[Any]]:
        rows, width = int(rng.integers(4)), int(rng.integers(4))
        return [[item(rng, tame) for _ in range(width)] for _ in range(rows)]

    return make


def _document(rng: Rng, tame: bool) -> dict[str, Any]:
    """Members a (number), b (text), c (bool), l (array), o (object), m (anything); each may lack."""
    found: dict[str, Any] = {
        "a": _number_in_json(rng, tame),
        "b": _text(rng, tame),
        "c": _bool(rng, tame),
        "l": [_number_in_json(rng, tame) for _ in range(rng.integers(3))],
        "o": {"k": _number_in_json(rng, tame), "t": _text(rng, tame)},
        "m": [None, True, 1, 2.5, "a", [1, "a"], {"k": 1}][rng.integers(7)],
    }
    return {k: None if rng.random() < 0.1 else v for k, v in found.items() if rng.random() < 0.8}


def _number_in_json(rng: Rng, tame: bool) -> int | float:
    pool = [0, 1, -1, 2, 3, 0.5, 1.0, -2.5]
    return pool[rng.integers(len(pool))] if tame else [*pool, 2**53 + 1, 2**63, 1e300][rng.integers(11)]  # fmt: skip


RECORD: Final = pa.struct(
    [("a", pa.int64()), ("b", pa.string()), ("c", pa.bool_()), ("x", pa.float64()),
     ("l", pa.list_(pa.int32())), ("o", pa.struct([("k", pa.int16())]))]
)  # fmt: skip


def _record(rng: Rng, tame: bool) -> dict[str, Any]:
    made = {
        "a": _whole(64, True)(rng, tame), "b": _text(rng, tame), "c": _bool(rng, tame),
        "x": float(rng.integers(-8, 9)) / 2, "l": [int(v) for v in rng.integers(-3, 4, rng.integers(3))],
        "o": {"k": int(rng.integers(-3, 4))},
    }  # fmt: skip
    return {k: None if rng.random() < 0.15 else v for k, v in made.items()}


def _bytes(rng: Rng, tame: bool) -> bytes:
    return bytes(rng.integers(0, 256, rng.integers(4)).astype(np.uint8))


def _numbers() -> dict[str, Spec]:
    specs = {"flag": Spec(pa.bool_(), _bool, "number")}
    for bits in (8, 16, 32, 64):
        for signed in (True, False):
            arrow = pa.type_for_alias(f"{'' if signed else 'u'}int{bits}")
            specs[f"{'i' if signed else 'u'}{bits}"] = Spec(arrow, _whole(bits, signed), "number")
    for bits in (16, 32, 64):
        specs[f"f{bits}"] = Spec(pa.type_for_alias(f"float{bits}"), _float(bits), "number")
    return specs


_LABEL: Final = tuple(NAMES)
_COLUMNS: Final[dict[str, Spec]] = {
    **_numbers(),
    "label": Spec(pa.int16(), _label, "label", _LABEL),
    "text": Spec(pa.string(), _text, "text"),
    "large": Spec(pa.large_string(), _text, "text"),
    "cat": Spec(pa.dictionary(pa.int32(), pa.string()), _label, "label", _LABEL),
    "day": Spec(pa.date32(), _days, "time"),
    "at": Spec(pa.timestamp("us"), _time(10**6), "time"),
    "sec": Spec(pa.timestamp("s"), _time(1), "time"),
    "utc": Spec(pa.timestamp("ms", "UTC"), _time(10**3), "zoned"),
    "li": Spec(pa.list_(pa.int32()), _list(_whole(32, True)), "array", (), "number", 1, "li"),
    "lu": Spec(pa.list_(pa.uint64()), _list(_whole(64, False)), "array", (), "number", 1, "lu"),
    "lf": Spec(pa.large_list(pa.float32()), _list(_float(32)), "array", (), "number", 1, "lf"),
    "ld": Spec(pa.list_(pa.float64()), _list(_float(64)), "array", (), "number", 1, "ld"),
    "lb": Spec(pa.list_(pa.bool_()), _list(_bool), "array", (), "bool", 1, "lb"),
    "lt": Spec(pa.list_(pa.string()), _list(_text), "array", (), "text", 1, "lt"),
    "ll": Spec(pa.list_(pa.int8()), _list(_label), "array", _LABEL, "label", 1, "ll"),
    "vec": Spec(pa.list_(pa.float32(), 3), _fixed(_float(32), 3), "array", (), "number", 1, "3"),
    "ivec": Spec(pa.list_(pa.int64(), 3), _fixed(_whole(64, True), 3), "array", (), "number", 1, "3"),
    "dvec": Spec(pa.list_(pa.float64(), 3), _fixed(_float(64), 3), "array", (), "number", 1, "3"),
    "mat": Spec(
        pa.list_(pa.list_(pa.int32(), 3), 2), _fixed(_fixed(_whole(32, True), 3), 2),
        "array", (), "number", 2, "2x3",
    ),
    "boxes": Spec(
        pa.list_(pa.list_(pa.float32(), 4)), _list(_fixed(_float(32), 4), 3),
        "array", (), "number", 2, "boxes",
    ),
    "grid": Spec(
        pa.list_(pa.list_(pa.int16())), _grid(_whole(16, True)), "array", (), "number", 2, "grid"
    ),
    "cube": Spec(
        pa.list_(pa.list_(pa.list_(pa.int8(), 2), 2)), _list(_fixed(_fixed(_whole(8, True), 2), 2), 2),
        "array", (), "number", 3, "cube",
    ),
    "local": Spec(pa.timestamp("s", "Europe/Paris"), _time(1), "zoned"),
    "jag": Spec(
        pa.list_(pa.list_(pa.int32())), _list(_list(_whole(32, True), 2), 2),
        "array", (), "number", 2, "jag",
    ),
    "doc": Spec(pa.json_(pa.string()), _document, "json"),
    "rec": Spec(RECORD, _record, "json"),
    "blob": Spec(pa.binary(), _bytes, "binary"),
}  # fmt: skip

COLUMNS: Final[dict[str, Spec]] = {
    name + suffix: spec
    for name, spec in _COLUMNS.items()
    for suffix in (("", "_n", "_e") if spec.rank else ("", "_n"))
}


def random_rows(
    columns: Sequence[str], rows: int, seed: int, cuts: Sequence[int] = (), tame: bool = True
) -> pa.Table:
    """`rows` rows of the named columns and `id`, their position, in chunks that end at `cuts`."""
    rng = np.random.default_rng(seed)
    names = [c for c in COLUMNS if c in columns]
    ahead = int(rng.integers(4))  # rows that a slice leaves out, so that buffers have an offset
    arrays = [_array(name, rows + ahead, rng, tame).slice(ahead) for name in names]
    fields = [pa.field("id", pa.int64(), nullable=False)]
    for name in names:
        spec = COLUMNS[name]
        named = spec.names and not pa.types.is_dictionary(spec.arrow)  # which names itself
        metadata = {"tql:class_names": json.dumps(spec.names)} if named else None
        nullable = name.endswith(("_n", "_e"))
        fields.append(pa.field(name, spec.arrow, nullable, metadata))
    ids = pa.array(np.arange(rows), pa.int64())
    table = pa.Table.from_arrays([ids, *arrays], schema=pa.schema(fields))
    edges = [0, *sorted(c for c in cuts if 0 < c < rows), rows]
    parts = [table.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    return pa.concat_tables(parts) if parts else table


def _with_holes(value: Any, stored: pa.DataType, rng: Rng) -> Any:
    """The nested lists with NULL elements, and NULL lists where the type says how long they are."""
    if not isinstance(value, list):
        return None if rng.random() < 0.2 else value
    inner = stored.value_type
    fixed = pa.types.is_fixed_size_list(inner)
    return [None if fixed and rng.random() < 0.1 else _with_holes(x, inner, rng) for x in value]


def _array(name: str, rows: int, rng: Rng, tame: bool) -> Any:
    spec = COLUMNS[name]
    share = float(rng.choice([0.1, 0.5])) if name.endswith(("_n", "_e")) else 0.0
    values = [None if rng.random() < share else spec.make(rng, tame) for _ in range(rows)]
    if name.endswith("_e"):
        return pa.array([_with_holes(v, spec.arrow, rng) for v in values], spec.arrow)
    if isinstance(spec.arrow, pa.JsonType):
        texts = [None if v is None else json.dumps(v) for v in values]
        return pa.ExtensionArray.from_storage(spec.arrow, pa.array(texts, pa.string()))
    if pa.types.is_dictionary(spec.arrow):
        return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), pa.array(spec.names))
    return pa.array(values, spec.arrow)
