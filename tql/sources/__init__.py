"""Sources: one protocol over Parquet, Arrow IPC, tables and arrays."""

from tql.sources.export import arrow_field, export_schema, export_table
from tql.sources.gathering import gather
from tql.sources.opening import open_source
from tql.sources.protocol import ColumnStats, Fragment, Source
from tql.sources.stored import schema_of

__all__ = [
    "ColumnStats",
    "Fragment",
    "Source",
    "arrow_field",
    "export_schema",
    "export_table",
    "gather",
    "open_source",
    "schema_of",
]
