"""How the columns of a source lie in storage, and how they are handed to the engine."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as kind

from tql.diagnostics import TqlDataError, data_error, did_you_mean, error, first_names
from tql.schema import Binary, Column, DType, Int, Label, Schema, Text
from tql.sources.arrow_types import (
    DICTIONARY,
    delivered_type,
    dtype_of,
    is_extension,
    is_text_dictionary,
)
from tql.sources.classes import (
    Features,
    feature_names,
    features_of,
    given_names,
    is_image_feature,
    labelled,
    marked,
    metadata_names,
    recode,
    refuse_repeats,
    unlabelled,
)
from tql.sources.shaped import is_hugging_face_array, shaped_as, sized


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column and its layout.

    `type` is what `read` delivers, except that text may also come as a dictionary; `part` is the
    child of a struct that is delivered (the bytes of a Hugging Face image); `of` is the column that
    a hidden one is a part of (the path of such an image); `names` is the dictionary that the codes
    of a label stored as text refer to.
    """

    column: Column
    type: pa.DataType
    part: str | None = None
    of: str | None = None
    names: pa.Array | None = None

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def stored_as(self) -> str:
        """The column of the storage that it is read from."""
        return self.of or self.name


def stored_columns(
    schema: pa.Schema,
    where: str,
    *,
    class_names: Mapping[str, Sequence[str]] | None = None,
    dictionaries: Mapping[str, pa.Array] | None = None,
    features: Features | None = None,
) -> tuple[StoredColumn, ...]:
    """All columns of an Arrow schema with their class names; `where` names the data in errors.

    `dictionaries` gives the values of those dictionary columns whose values are classes; a
    dictionary column without an entry, and without class names in its metadata, is text.
    """
    repeated = [n for i, n in enumerate(schema.names) if n in schema.names[:i]]
    if repeated:
        raise error(
            "duplicate_column",
            f"{where}: two columns are named '{repeated[0]}'",
            help="rename one of them",
        )
    given = given_names(class_names, schema.names)
    if features is None:
        features = features_of(schema.metadata, where)
    shown = tuple(
        _stored_column(
            field, where, features.get(field.name), given.get(field.name), dictionaries or {}
        )
        for field in schema
    )
    paths = [p for s in shown if s.part is not None for p in _path(schema.field(s.name))]
    return *shown, *(p for p in paths if p.name not in schema.names)


def _stored_column(
    field: pa.Field,
    where: str,
    feature: Any,
    given: tuple[str, ...] | None,
    dictionaries: Mapping[str, pa.Array],
) -> StoredColumn:
    names = given
    if names is None:
        names = metadata_names(field, where)
    if names is None:
        names = feature_names(feature)
    if names is not None and given is None:
        refuse_repeats(names, field.name, where)
    dtype = dtype_of(field.type)
    if given is not None and labelled(dtype, given) is None:
        raise error(
            "type",
            f"class_names= is given for column '{field.name}' of type {dtype}; "
            "expected an integer or a list of integers",
            help=f"leave '{field.name}' out of class_names=",
        )
    if is_text_dictionary(field.type):
        values = dictionaries.get(field.name)
        if names is not None:
            values = pa.array(names, pa.string())
        text = StoredColumn(Column(field.name, Text(), field.nullable), DICTIONARY)
        return text if values is None else as_label(text, values)
    if is_image_feature(feature):
        part, stored = _image_storage(field.type)
        if part or dtype_of(stored) == Binary():
            column = Column(field.name, Binary(image=True), field.nullable)
            return StoredColumn(column, delivered_type(stored), part)
    shaped = shaped_as(feature, delivered_type(field.type))
    if shaped is not None:
        return StoredColumn(Column(field.name, dtype_of(shaped), field.nullable), shaped)
    dtype = marked(dtype, field.metadata or {})
    with_names = None if names is None else labelled(dtype, names)
    return StoredColumn(
        Column(field.name, with_names or dtype, field.nullable), delivered_type(field.type)
    )


def _image_storage(stored: pa.DataType) -> tuple[str | None, pa.DataType]:
    if kind.is_struct(stored) and stored.get_field_index("bytes") >= 0:
        return "bytes", stored.field("bytes").type
    return None, stored


def _path(image: Any) -> Iterator[StoredColumn]:
    """The path in the struct of an image, as a hidden column; nothing where it has none."""
    stored = image.type.field("path").type if image.type.get_field_index("path") >= 0 else None
    if stored is not None and dtype_of(stored) == Text():
        column = Column(f"{image.name}.path", Text(), True)
        yield StoredColumn(column, delivered_type(stored), "path", image.name)


def schema_of(
    schema: pa.Schema,
    *,
    class_names: Mapping[str, Sequence[str]] | None = None,
    dictionaries: Mapping[str, pa.Array] | None = None,
) -> Schema:
    """The columns of an Arrow schema as the language sees them."""
    stored = stored_columns(
        schema, "the schema", class_names=class_names, dictionaries=dictionaries
    )
    return as_schema(stored)


def as_schema(stored: Sequence[StoredColumn]) -> Schema:
    """The columns, and the hidden ones among them."""
    return Schema(
        (s.column for s in stored if s.of is None), (s.column for s in stored if s.of is not None)
    )


def chosen(columns: Sequence[str] | None, available: Sequence[str]) -> tuple[str, ...]:
    """The `columns=` argument, checked; all columns where it is None."""
    if columns is None:
        return tuple(available)
    if isinstance(columns, str | bytes) or not isinstance(columns, Iterable):
        raise error(
            "type",
            f"columns= is a {type(columns).__name__}; expected a list of column names",
            help=f"write columns=[{columns!r}]",
        )
    names = tuple(columns)
    for i, name in enumerate(names):
        if name not in available:
            shown = first_names([f"'{a}'" for a in available])
            raise error(
                "unknown_column",
                f"columns= names a column {name!r} that does not exist",
                help=did_you_mean(str(name), available) or f"there are {shown}",
            )
        if name in names[:i]:
            raise error("duplicate_column", f"columns= names '{name}' twice", help="name it once")
    if not names:
        raise error("schema", "columns= is empty; expected at least one column name")
    return names


def pick(stored: Iterable[StoredColumn], names: Sequence[str]) -> tuple[StoredColumn, ...]:
    """The columns of these names, in this order, and behind them what is hidden in them."""
    by_name = {s.name: s for s in stored}
    hidden = (s for s in by_name.values() if s.of in names)
    return *(by_name[n] for n in names), *hidden


def without_missing(
    stored: Sequence[StoredColumn], others: Sequence[StoredColumn]
) -> tuple[StoredColumn, ...]:
    """Without the hidden columns that the other file has not."""
    there = {s.name for s in others}
    return tuple(s for s in stored if s.of is None or s.name in there)


def never_null(
    stored: Iterable[StoredColumn], without_nulls: Collection[str]
) -> tuple[StoredColumn, ...]:
    """The same columns, those in `without_nulls` not nullable."""
    return tuple(
        replace(s, column=replace(s.column, nullable=False))
        if s.name in without_nulls and not kind.is_null(s.type)  # which Arrow has with NULL only
        else s
        for s in stored
    )


def has_all_bytes(
    schema: pa.Schema, parts: Iterable[pa.Table | pa.RecordBatch], image: str
) -> bool:
    """Whether no row of a column of images is without bytes but with a path."""
    at = schema.get_field_index(image)
    for column in (part.column(at) for part in parts):
        content = _child(column, "bytes")
        if content.null_count:
            paths = _child(column, "path").filter(content.is_null())
            if paths.null_count < len(paths):
                return False
    return True


def _child(column: Any, name: str) -> Any:
    return pc.call_function("struct_field", [column], pc.StructFieldOptions([name]))


def laid_out(column: pa.ChunkedArray, stored: StoredColumn, where: str) -> pa.ChunkedArray:
    """A column as read from storage in the layout that `stored` promises; no copy if it has it."""
    if stored.part is not None and kind.is_struct(column.type):
        column = _child(column, stored.part)
    if kind.is_run_end_encoded(column.type):
        column = pa.chunked_array(
            [pc.call_function("run_end_decode", [c]) for c in column.chunks], column.type.value_type
        )
    if is_text_dictionary(column.type):
        if stored.names is not None:
            return recode(column, stored.names, f"{where}, column '{stored.name}'")
        if column.type != DICTIONARY:
            column = column.cast(DICTIONARY)
        return _without_null_values(column)
    if is_extension(column.type, "arrow.fixed_shape_tensor") and column.type != stored.type:
        return pa.chunked_array([_nested(c, stored.type) for c in column.chunks], stored.type)
    if column.type == stored.type or (stored.column.dtype == Text() and stored.type == DICTIONARY):
        return column
    if is_hugging_face_array(column.type):
        column = pa.chunked_array([c.storage for c in column.chunks], column.type.storage_type)
    if kind.is_fixed_size_list(stored.type) and not kind.is_fixed_size_list(column.type):
        return _shaped(column, stored, where)
    return column.cast(stored.type)


def _shaped(column: pa.ChunkedArray, stored: StoredColumn, where: str) -> pa.ChunkedArray:
    """Lists as the fixed-size lists that they are said to be."""
    try:
        return pa.chunked_array([sized(c, stored.type) for c in column.chunks], stored.type)
    except pa.ArrowInvalid as e:
        raise data_error(
            "source",
            f"{where}: column '{stored.name}' is said to be {stored.column.dtype}, and has a row "
            f"that is not: {e}",
            help="write it again with the features that it has",
        ) from e


def _without_null_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Nulls in the codes only: a null among the dictionary's values would escape `null_count`."""
    if not any(c.dictionary.null_count for c in column.chunks):
        return column
    plain = column.cast(pa.string())
    return plain.dictionary_encode()


def _nested(tensors: Any, wanted: pa.DataType) -> pa.Array:
    # From the outside in the lengths are known; from the inside out the arrays are made. They are
    # made of buffers, since of no values nothing could tell how many lists of 0 they are.
    storage = tensors.storage
    levels = [(wanted, len(storage))]
    while kind.is_fixed_size_list(wanted.value_type):
        levels.append((wanted.value_type, levels[-1][1] * wanted.list_size))
        wanted = wanted.value_type
    values = storage.values.slice(storage.offset * storage.type.list_size)
    values = values.slice(0, len(storage) * storage.type.list_size)
    for listed, length in reversed(levels[1:]):
        values = pa.Array.from_buffers(listed, length, [None], children=[values])
    there = None
    if storage.null_count:
        there = pa.array(storage.is_valid().to_numpy(zero_copy_only=False)).buffers()[1]
    listed, length = levels[0]
    return pa.Array.from_buffers(listed, length, [there], children=[values])


def as_label(stored: StoredColumn, values: pa.Array) -> StoredColumn:
    """A column stored as a dictionary of texts, with those texts as class names."""
    assert stored.type == DICTIONARY
    label = Label(tuple(values.to_pylist()), Int(32))
    return replace(stored, column=replace(stored.column, dtype=label), names=values)


def check_agreement(
    a: Sequence[StoredColumn],
    b: Sequence[StoredColumn],
    files: tuple[str, str],
    named: Collection[str],
) -> None:
    """Raise unless the columns of two files can be one data set's.

    Order, nullability and the width of text offsets may differ; so may the class names of the
    columns in `named`, which the caller names.
    """
    theirs = {s.name: s for s in b if s.of is None}
    for s in (s for s in a if s.of is None):
        if s.name not in theirs:
            raise _disagree(files, f"column '{s.name}' is in the first only")
        found = _kind(s, named), _kind(theirs[s.name], named)
        if found[0] == found[1] and s.part == theirs[s.name].part:
            continue
        if str(found[0]) != str(found[1]):
            raise _disagree(files, f"column '{s.name}' is {found[0]} there and {found[1]} here")
        raise _disagree(files, f"column '{s.name}' has other class names, or another layout")
    ours = {s.name for s in a if s.of is None}
    for name in theirs:
        if name not in ours:
            raise _disagree(files, f"column '{name}' is in the second only")


def _disagree(files: tuple[str, str], what: str) -> TqlDataError:
    return data_error(
        "source",
        f"'{files[0]}' and '{files[1]}' have different schemas: {what}",
        help="open them separately, or write them again with one schema",
    )


def _kind(stored: StoredColumn, named: Collection[str]) -> DType:
    if stored.type == DICTIONARY and stored.names is None:
        return Text()
    dtype = stored.column.dtype
    return unlabelled(dtype) if stored.name in named else dtype
