"""Schemas and tables for writing back: class names and images are said in the metadata."""

import json

import pyarrow as pa

from tql.schema import Binary, Column, DType, Json, Schema
from tql.sources.arrow_types import arrow_type
from tql.sources.classes import IMAGE_KEY, NAMES_KEY, names_in


def field_metadata(dtype: DType) -> dict[bytes, bytes]:
    """What a column type knows and an Arrow type does not."""
    names = names_in(dtype)
    metadata = {}
    if names is not None:
        metadata[NAMES_KEY] = json.dumps(list(names), ensure_ascii=False).encode()
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
        if (
            isinstance(column.dtype, Json)
            and pa.types.is_string(array.type)
            and hasattr(pa, "json_")
        ):
            chunks = [pa.ExtensionArray.from_storage(pa.json_(), c) for c in array.chunks]
            array = pa.chunked_array(chunks, pa.json_())
        arrays.append(array)
    named = pa.Table.from_arrays(arrays, names=list(schema.names))
    return named.cast(export_schema(schema, named.schema))
