"""JSON as Python values: dict, list, str, bool, int, float; None is NULL.

Text is read strictly: NaN, Infinity, a number beyond float64, a key twice in one object and half of
a surrogate pair are not JSON. A struct reads as the object that it would be written as: a float16 or
float32 is the number that its shortest decimal names, and dates and times are ISO 8601 text.
"""

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types as kind

from tql.diagnostics import data_error, error

Objects: TypeAlias = NDArray[np.object_]
Problems: TypeAlias = Mapping[int, str]


def parsed(array: Any) -> tuple[Objects, Problems]:
    """object (n,) of an Arrow array of JSON text or of structs; and what is wrong with which row.

    A row with a problem is None.
    """
    plain = array.storage if isinstance(array, pa.ExtensionArray) else array
    if kind.is_string(plain.type) or kind.is_large_string(plain.type):
        return _read(plain.to_pylist())
    return objects(plain), {}


def _read(texts: list[str | None]) -> tuple[Objects, Problems]:
    values = np.empty(len(texts), np.object_)
    problems: dict[int, str] = {}
    for at, text in enumerate(texts):
        if text is None:
            continue
        try:
            value = _DECODER.decode(text)
            if "\\u" in text:
                json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            problems[at] = "half of a surrogate pair"
        except RecursionError:
            problems[at] = "it nests too deep"
        except ValueError as e:
            problems[at] = str(e)
        else:
            values[at] = value
    return values, problems


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [k for k, _ in pairs]
        twice = next(k for at, k in enumerate(keys) if k in keys[:at])
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return made


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _number(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        raise ValueError(f"{shown} is beyond float64")
    return value


_SHOWN: Final = 24
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse, parse_float=_number
)


def written(value: Any) -> str:
    """The value as JSON text; numbers that JSON cannot write (NaN and infinities) as null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {k: _finite(v) for k, v in value.items()}
        case list():
            return [_finite(v) for v in value]
        case float():
            return value if isfinite(value) else None
        case _:
            return value


def objects(array: Any) -> Objects:
    """object (n,): the values of an Arrow array of any type that JSON has a counterpart for."""
    convert = _converter(array.type)
    values = np.empty(len(array), np.object_)
    rows = array.to_pylist()
    values[:] = rows if convert is None else [None if v is None else convert(v) for v in rows]
    return values


Convert: TypeAlias = Callable[[Any], Any]


@lru_cache(maxsize=256)
def _converter(stored: pa.DataType) -> Convert | None:
    """What makes a value of `to_pylist` a JSON value; None where it is one already."""
    if kind.is_struct(stored):
        return _of_struct(stored)
    if kind.is_map(stored):
        each = _converter(stored.item_type)
        return lambda pairs: {str(k): v if each is None or v is None else each(v) for k, v in pairs}
    if kind.is_list(stored) or kind.is_large_list(stored) or kind.is_fixed_size_list(stored):
        inner = _converter(stored.value_type)
        if inner is None:
            return None
        return lambda values: [None if v is None else inner(v) for v in values]
    if kind.is_dictionary(stored):
        return _converter(stored.value_type)
    if isinstance(stored, pa.BaseExtensionType) and stored.extension_name == "arrow.json":
        return _of_text
    if kind.is_float16(stored):
        return lambda v: float(str(np.float16(v)))
    if kind.is_float32(stored):
        return lambda v: float(str(np.float32(v)))
    if kind.is_temporal(stored) and not kind.is_duration(stored):
        return _iso
    if kind.is_decimal(stored):
        return _of_decimal
    if _is_plain(stored):
        return None
    raise error("unsupported", f"JSON has nothing like the {stored} inside a struct",
                help="name a member beside it, or store it as a column of its own")  # fmt: skip


def _of_text(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except ValueError as e:
        raise data_error("value", f"text inside a struct is not JSON ({e})",
                         help="write it again with a JSON writer") from e  # fmt: skip


def _of_struct(stored: Any) -> Convert | None:
    named = {f.name: _converter(f.type) for f in stored}
    changed = {name: convert for name, convert in named.items() if convert is not None}
    if not changed:
        return None

    def convert(row: dict[str, Any]) -> dict[str, Any]:
        fixed = {k: None if row[k] is None else c(row[k]) for k, c in changed.items()}
        return row | fixed

    return convert


def _is_plain(stored: pa.DataType) -> bool:
    return bool(
        kind.is_integer(stored)
        or kind.is_float64(stored)
        or kind.is_boolean(stored)
        or kind.is_string(stored)
        or kind.is_large_string(stored)
        or kind.is_string_view(stored)
        or kind.is_null(stored)
    )


def _iso(value: date | datetime | time) -> str:
    return value.isoformat()


def _of_decimal(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
