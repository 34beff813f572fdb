"""Schemas and tables for writing back: class names and images are said in the metadata."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute

from tql.schema import Binary, Column, DType, Json, List, Schema
from tql.sources.arrow_types import arrow_type
from tql.sources.classes import IMAGE_KEY, NAMES_KEY, SEQUENCE_KEY, names_in, sequences_in

# Arrow makes these functions when it is imported, where no type checker sees them.
pc: Any = pyarrow.compute


def field_metadata(dtype: DType) -> dict[bytes, bytes]:
    """What a column type knows and an Arrow type does not."""
    names = names_in(dtype)
    metadata = {}
    if names is not None:
        metadata[NAMES_KEY] = json.dumps(list(names), ensure_ascii=False).encode()
    sequences = sequences_in(dtype)
    if sequences:
        metadata[SEQUENCE_KEY] = str(sequences).encode()
    while isinstance(dtype, List) and dtype.grouped:
        dtype = dtype.item
    if dtype == Binary(image=True):
        metadata[IMAGE_KEY] = b"true"
    return metadata


def arrow_field(column: Column) -> pa.Field:
    """The field a new column of this type is written with; not for Opaque columns."""
    return pa.field(
        column.name, arrow_type(column.dtype), column.nullable, field_metadata(column.dtype)
    )


def export_schema(schema: Schema, stored: pa.Schema | None = None) -> pa.Schema:
    """The Arrow schema with class names in it; types as in `stored`, where that is given."""
    fields = []
    for column in schema:
        if stored is None:
            fields.append(arrow_field(column))
            continue
        field = stored.field(column.name)
        metadata = {**(field.metadata or {}), **field_metadata(column.dtype)}
        fields.append(pa.field(column.name, field.type, column.nullable, metadata or None))
    return pa.schema(fields)


def export_table(table: pa.Table, schema: Schema) -> pa.Table:
    """A table that `read` or `gather` gave, ready to be written: opening it gives `schema` again."""
    arrays = []
    for column in schema:
        array = table.column(column.name)
        if hasattr(pa, "json_"):
            chunks = array.chunks or [pa.array([], array.type)]  # no rows have a type, too
            array = pa.chunked_array([_marked(c, column.dtype) for c in chunks])
        arrays.append(array)
    named = pa.Table.from_arrays(arrays, names=list(schema.names))
    return named.cast(export_schema(schema, named.schema))


def _marked(array: Any, dtype: DType) -> Any:
    """JSON text as Arrow's JSON, also in sequences."""
    text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if isinstance(dtype, Json) and text:
        return pa.ExtensionArray.from_storage(pa.json_(array.type), array)
    if isinstance(dtype, List) and dtype.grouped and pa.types.is_large_list(array.type):
        first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
        items = array.values.slice(first, last - first)
        inner = _marked(items, dtype.item)
        if inner is not items:
            mask = array.is_null() if array.null_count else None
            return pa.LargeListArray.from_arrays(
                pc.subtract(array.offsets, first), inner, mask=mask
            )
    return array
