"""Types of values, and Arrow columns as Python values.

A value is a Python bool, int, float or str; an int of nanoseconds for a time; a NumPy array of
objects for an array; whatever `json.loads` gives for JSON; and None for NULL.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa

NANOSECONDS: Final = {"D": 86_400 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class RowError(Exception):
    """The row has no result: `code` is the kind of the error."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Kind:
    """The static type of an expression; `constant` where no column is in it.

    bits, signed      of numbers; of a class label those of its integers
    names             of a class label
    unit, zone        of a time; unit "D" is a date
    item, rank        of an array: the type of an element, the number of dimensions
    grouped           whether the first dimension of an array is that of a group; then `item` may be
                      an array itself, and the value is a list of members
    document          of JSON: a stored column of objects, and not a value taken out of it
    negative          of the numbers in an array literal: one is below 0, so that beside uint64 they
                      are int64 still
    """

    name: Literal["bool", "int", "float", "text", "label", "time", "array", "json", "binary"]
    bits: int = 64
    signed: bool = True
    constant: bool = False
    names: tuple[str, ...] = ()
    unit: str = ""
    zone: str | None = None
    item: "Kind | None" = None
    rank: int = 0
    grouped: bool = False
    document: bool = False
    negative: bool = False

    @property
    def is_number(self) -> bool:
        return self.name in ("bool", "int", "float", "label")

    @property
    def element(self) -> "Kind":
        """The type of the elements of an array; of anything else the type itself."""
        return self if self.item is None else self.item

    @property
    def scalar(self) -> "Kind":
        """The type of the single values, also in a sequence of arrays."""
        return self if self.item is None else self.item.scalar

    def __str__(self) -> str:
        """As the package writes it, without the sizes of lists."""
        match self.name:
            case "int":
                return f"{'int' if self.signed else 'uint'}{self.bits}"
            case "float":
                return f"float{self.bits}"
            case "label":
                return f"class_label[{len(self.names)}]"
            case "time":
                zone = f", {self.zone}" if self.zone else ""
                return "date" if self.unit == "D" else f"timestamp[{self.unit}{zone}]"
            case "array":
                if self.grouped:
                    return f"sequence[{self.item}]"
                return "list[" * self.rank + str(self.item) + "]" * self.rank
            case name:
                return name


class Value(NamedTuple):
    kind: Kind
    data: Any


BOOL: Final = Kind("bool", 8, False)
INT64: Final = Kind("int")
FLOAT64: Final = Kind("float")
TEXT: Final = Kind("text")
JSON: Final = Kind("json")


def array_of(item: Kind, rank: int = 1, grouped: bool = False) -> Kind:
    """Arrays of `item`; the item itself where there is no dimension left."""
    return Kind("array", item=item, rank=rank, grouped=grouped) if rank else item


def constant(value: Any) -> Value:
    """A literal, or the value of a parameter."""
    match value:
        case bool():
            return Value(replace(BOOL, constant=True), value)
        case int():
            return Value(Kind("int", 64, value < 2**63, True), value)
        case float():
            return Value(Kind("float", constant=True), value)
        case str():
            return Value(Kind("text", constant=True), value)
        case list() | tuple():
            return constant_array([constant(v) for v in value])
        case _:
            raise AssertionError(f"no literal: {value!r}")


def constant_array(items: list[Value]) -> Value:
    """`ARRAY[…]` of these elements, which are constants or such arrays."""
    if items[0].kind.name == "array":
        stacked = np.stack([v.data for v in items])
        inner = merged([v.kind.element for v in items])
        data, rank = stacked, items[0].kind.rank + 1
    else:
        inner = merged([v.kind for v in items])
        data, rank = filled([v.data for v in items]), 1
    if inner.name == "float":
        data = objects(data.shape, [float(v) for v in data.flat])
    elif inner.name == "int":
        inner = replace(inner, negative=any(v < 0 for v in data.flat))
    return Value(replace(array_of(inner, rank), constant=True), data)


def merged(kinds: list[Kind]) -> Kind:
    """One kind for the elements of an array literal: any float makes all of them floats."""
    names = {k.name for k in kinds}
    if names == {"int"}:
        return Kind("int", 64, all(k.signed for k in kinds), True)
    return next(k for k in kinds if k.name == ("float" if "float" in names else kinds[0].name))


def filled(values: list[Any]) -> Any:
    """A rank-1 array of objects."""
    return objects((len(values),), values)


def objects(shape: tuple[int, ...], values: list[Any]) -> Any:
    """An array of objects of this shape, elements in row-major order."""
    flat = np.empty(len(values), object)
    for at, value in enumerate(values):
        flat[at] = value
    return flat.reshape(shape)


# -- Arrow -------------------------------------------------------------------------------------


def kind_of(field: pa.Field) -> Kind:
    """The type of a stored column. Class names travel in the metadata of the field."""
    kind = _kind(field.type)
    names = (field.metadata or {}).get(b"tql:class_names")
    if names is None:
        return replace(kind, document=True) if kind.name == "json" else kind
    whole = kind.element
    label = Kind("label", whole.bits, whole.signed, names=tuple(json.loads(names)))
    return label if kind.item is None else replace(kind, item=label)


def _kind(stored: pa.DataType) -> Kind:
    t = pa.types
    if isinstance(stored, pa.JsonType) or t.is_struct(stored):
        return JSON
    if t.is_dictionary(stored):
        return _kind(stored.value_type)
    if t.is_boolean(stored):
        return BOOL
    if t.is_integer(stored):
        return Kind("int", stored.bit_width, t.is_signed_integer(stored))
    if t.is_floating(stored):
        return Kind("float", stored.bit_width)
    if t.is_string(stored) or t.is_large_string(stored):
        return TEXT
    if t.is_date32(stored):
        return Kind("time", unit="D")
    if t.is_timestamp(stored):
        return Kind("time", unit=stored.unit, zone=stored.tz)
    if t.is_binary(stored) or t.is_large_binary(stored):
        return Kind("binary")
    inner = _kind(stored.value_type)
    rank = inner.rank + 1 if inner.name == "array" else 1
    return array_of(inner.element, rank)


def values_of(column: Any, kind: Kind) -> list[Any]:
    """The values of an Arrow column (an array or a chunked array) of this kind."""
    stored = column.type
    as_text = pa.types.is_string(stored) or pa.types.is_large_string(stored)
    if isinstance(stored, pa.JsonType) or (kind.name == "json" and as_text):
        return [None if v is None else json.loads(v) for v in column.to_pylist()]
    if kind.name == "time":
        per = NANOSECONDS[kind.unit]
        whole = column.cast(pa.int32() if kind.unit == "D" else pa.int64())
        return [None if v is None else v * per for v in whole.to_pylist()]
    if kind.name == "label" and pa.types.is_dictionary(stored):
        return [None if v is None else kind.names.index(v) for v in column.to_pylist()]
    if kind.name != "array":
        return column.to_pylist()
    if kind.element.name == "time":
        per = NANOSECONDS[kind.element.unit]
        counts = column.cast(pa.list_(pa.int32() if kind.element.unit == "D" else pa.int64()))
        values = [v and [None if x is None else x * per for x in v] for v in counts.to_pylist()]
    else:
        values = column.to_pylist()
    if kind.grouped:
        inner = stored.value_type
        of_json = kind.scalar.name == "json" and not pa.types.is_struct(inner)
        sizes = _sizes(inner)
        return [None if v is None else _sequence(v, kind, of_json, sizes) for v in values]
    sizes = _sizes(stored)
    return [None if v is None else dense(v, sizes) for v in values]


def _sequence(members: list[Any], kind: Kind, of_json: bool, sizes: list[int | None]) -> Any:
    if of_json:
        members = [None if m is None else json.loads(m) for m in members]
    if kind.item is not None and kind.item.name == "array":
        return [None if m is None else dense(m, sizes) for m in members]
    return filled(members)


def _sizes(stored: pa.DataType) -> list[int | None]:
    """The extent of each dimension that the type fixes."""
    sizes: list[int | None] = []
    while pa.types.is_nested(stored) and not pa.types.is_struct(stored):
        sizes.append(stored.list_size if pa.types.is_fixed_size_list(stored) else None)
        stored = stored.value_type
    return sizes


def dense(nested: list[Any], sizes: list[int | None]) -> Any:
    """Nested lists as one array; IRREGULAR in place of it where they differ in length.

    A list that is NULL inside is as many NULL elements where its size is fixed.
    """
    shape = [len(nested)]
    level: list[Any] = nested
    for size in sizes[1:]:
        level = [[None] * size if x is None and size is not None else x for x in level]
        if any(x is None for x in level):
            return IRREGULAR
        lengths = {len(x) for x in level} or {size or 0}
        if len(lengths) > 1:
            return IRREGULAR
        shape.append(lengths.pop())
        level = [x for inner in level for x in inner]
    return objects(tuple(shape), level)


class Irregular:
    """A row whose lists make no array; to use it in an expression is an error of the row."""


IRREGULAR: Final = Irregular()


Types = Mapping[str, Kind]
