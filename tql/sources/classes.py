"""Where class names come from: arguments, field metadata, Hugging Face features, dictionaries."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tql.diagnostics import data_error, did_you_mean, error, first_names
from tql.schema import Binary, DType, Int, Label, List
from tql.sources.arrow_types import DICTIONARY

NAMES_KEY: Final = b"tql:class_names"
IMAGE_KEY: Final = b"tql:image"
SEQUENCE_KEY: Final = b"tql:sequence"
"""How many lists, from the outside in, are sequences of groups."""
HUGGING_FACE_KEY: Final = b"huggingface"

MOST_CLASSES: Final = 65_536
"""A dictionary with more values than this is text that repeats, not a set of classes."""

Features = Mapping[str, Any]
"""Column name to its Hugging Face feature, in the JSON form that `Features.to_dict` gives."""

NO_FEATURES: Final[Features] = MappingProxyType({})


def given_names(
    class_names: Mapping[str, Sequence[str]] | None, available: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The `class_names=` argument, checked: known columns, lists of distinct texts."""
    if class_names is None:
        return {}
    if not isinstance(class_names, Mapping):
        raise error(
            "type",
            f"class_names= is a {type(class_names).__name__}; expected a dict of lists of names",
            help='for example class_names={"labels": ["cat", "dog"]}',
        )
    known = list(available)
    checked = {}
    for column, names in class_names.items():
        if column not in known:
            raise error(
                "unknown_column",
                f"class_names= names a column '{column}' that does not exist",
                help=did_you_mean(str(column), known) or _one_of(known),
            )
        checked[column] = _distinct_texts(column, names)
    return checked


def _distinct_texts(column: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise error(
            "type",
            f"class_names of '{column}' are a {type(names).__name__}; expected a list of texts",
        )
    texts = tuple(names)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise error(
                "type",
                f"class name {i} of '{column}' is {text!r}, a {type(text).__name__}; expected text",
                help="write every class name as a text, such as '7'",
            )
    if len(set(texts)) < len(texts):
        twice = next(t for i, t in enumerate(texts) if t in texts[:i])
        raise error(
            "type",
            f"class_names of '{column}' have '{twice}' twice; a name must mean one class",
            help="give each class a name of its own",
        )
    return texts


def _one_of(names: Sequence[str]) -> str:
    return "there are " + first_names([f"'{n}'" for n in names])


def features_of(metadata: Mapping[bytes, bytes] | None, where: str) -> Features:
    """The Hugging Face features in an Arrow schema's metadata; empty if there are none."""
    text = (metadata or {}).get(HUGGING_FACE_KEY)
    if text is None:
        return NO_FEATURES
    try:
        found = json.loads(text)
        features = found["info"]["features"]
    except (ValueError, KeyError, TypeError) as e:
        raise data_error(
            "source",
            f"{where}: schema metadata 'huggingface' is not as Hugging Face datasets writes it "
            '(JSON with "info" and in it "features")',
            help="write the file again, or without that metadata",
        ) from e
    return features if isinstance(features, dict) else NO_FEATURES


def feature_names(feature: Any) -> tuple[str, ...] | None:
    """The names in a ClassLabel, alone or inside Sequences and Lists; else None."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature_names(feature[0])
    if not isinstance(feature, Mapping):
        return None
    if feature.get("_type") == "ClassLabel":
        names, count = feature.get("names"), feature.get("num_classes")
        if isinstance(names, list | tuple):
            return tuple(map(str, names))
        if type(count) is int and 0 < count <= MOST_CLASSES:
            return tuple(map(str, range(count)))  # as Hugging Face names them
        return None
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return feature_names(feature.get("feature"))
    return None


def is_image_feature(feature: Any) -> bool:
    """Whether a Hugging Face feature holds one encoded image per row."""
    return isinstance(feature, Mapping) and feature.get("_type") == "Image"


def metadata_names(field: pa.Field, where: str) -> tuple[str, ...] | None:
    """The class names in a field's own metadata."""
    text = (field.metadata or {}).get(NAMES_KEY)
    if text is None:
        return None
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise data_error(
            "source",
            f"{where}: metadata '{NAMES_KEY.decode()}' of column '{field.name}' is "
            f"{text[:60].decode(errors='replace')!r}; expected a JSON list of texts",
            help=f"pass class_names={{'{field.name}': [...]}} or write the metadata again",
        )
    return tuple(names)


def refuse_repeats(names: tuple[str, ...], column: str, where: str) -> None:
    """Raise where two classes have one name: the second could never be asked for."""
    places: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in places:
            raise data_error(
                "source",
                f"{where}: classes {places[name]} and {i} of column '{column}' are both named "
                f"'{name}'; a name must mean one class",
                help=f"pass class_names={{'{column}': [...]}} or write the metadata again",
            )
        places[name] = i


def labelled(dtype: DType, names: tuple[str, ...]) -> DType | None:
    """`dtype` with its integers, at any depth of lists, as labels; None if it has none."""
    match dtype:
        case Int():
            return Label(names, dtype)
        case List(item=item):
            inner = labelled(item, names)
            return None if inner is None else replace(dtype, item=inner)
        case _:
            return None


def unlabelled(dtype: DType) -> DType:
    """`dtype` with its labels, at any depth of lists, as the integers that store them."""
    match dtype:
        case Label(storage=storage):
            return storage
        case List(item=item):
            return replace(dtype, item=unlabelled(item))
        case _:
            return dtype


def sequences_in(dtype: DType) -> int:
    """How many lists, from the outside in, are sequences of groups."""
    return 1 + sequences_in(dtype.item) if isinstance(dtype, List) and dtype.grouped else 0


def marked(dtype: DType, metadata: Mapping[bytes, bytes]) -> DType:
    """The type with what a field's metadata says of it: images, sequences of groups."""
    levels = metadata.get(SEQUENCE_KEY, b"")
    return _marked(dtype, int(levels) if levels.isdigit() else 0, IMAGE_KEY in metadata)


def _marked(dtype: DType, sequences: int, images: bool) -> DType:
    match dtype:
        case List(item=item) if sequences > 0:
            return replace(dtype, item=_marked(item, sequences - 1, images), grouped=True)
        case Binary() if images:
            return Binary(image=True)
        case _:
            return dtype


def names_in(dtype: DType) -> tuple[str, ...] | None:
    """The class names of a label, alone or at any depth of lists; else None."""
    match dtype:
        case Label(names=names):
            return names
        case List(item=item):
            return names_in(item)
        case _:
            return None


def merged_dictionary(columns: Iterable[pa.ChunkedArray]) -> pa.Array | None:
    """The dictionary values of all chunks, without nulls, in the order first met.

    None where they are more than classes can be.
    """
    merged: Any = None
    for column in columns:
        for chunk in column.chunks:
            values = chunk.dictionary.cast(pa.string())
            if merged is not None and values.equals(merged):
                continue
            if merged is not None:
                values = pa.concat_arrays([merged, values])
            merged = values.unique().drop_null()
            if len(merged) > MOST_CLASSES:
                return None
    return pa.array([], pa.string()) if merged is None else merged


def recode(column: pa.ChunkedArray, names: pa.Array, where: str) -> pa.ChunkedArray:
    """A dictionary column with `names` as the one dictionary of every chunk."""
    return pa.chunked_array([_recode(c, names, where) for c in column.chunks], DICTIONARY)


def _recode(chunk: pa.DictionaryArray, names: pa.Array, where: str) -> pa.DictionaryArray:
    values = chunk.dictionary
    if values.type == names.type and values.equals(names):
        codes = chunk.indices.cast(pa.int32())
    else:
        options = pc.SetLookupOptions(value_set=names)
        new = pc.call_function("index_in", [values.cast(pa.string())], options)
        codes = new.take(chunk.indices)
        if codes.null_count > chunk.null_count:
            _refuse_unnamed(values, new, codes, chunk, where)
    return pa.DictionaryArray.from_arrays(codes, names)


def _refuse_unnamed(
    values: pa.Array, new: pa.Array, codes: pa.Array, chunk: pa.DictionaryArray, where: str
) -> None:
    valid, missing = (x.to_numpy(zero_copy_only=False) for x in (chunk.is_valid(), codes.is_null()))
    used = chunk.indices.to_numpy(zero_copy_only=False)[np.flatnonzero(valid & missing)].astype(
        np.int64
    )
    for code in dict.fromkeys(used.tolist()):
        if values[code].is_valid:
            raise data_error(
                "source",
                f"{where}: value '{values[code].as_py()}' is not among the class names that the "
                f"metadata '{NAMES_KEY.decode()}' lists",
                help="write the file again with the full list of class names",
            )
