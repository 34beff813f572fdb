"""Tables in text files, CSV and JSON lines: read whole, once, into memory."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tql.diagnostics import TqlDataError, data_error, did_you_mean
from tql.sources.files import File, unreadable
from tql.sources.formats import Format, format_of_name


def read_tables(files: Sequence[File]) -> list[pa.Table]:
    """The rows of each file. Columns have the types that the values show; in all files the same, where
    an integer in one may be a float in another, and a column of nulls anything.

    In CSV, a cell with nothing in it is NULL, and "" the empty text.
    """
    tables = [_read(file) for file in files]
    for file, table in zip(files[1:], tables[1:], strict=True):
        _check_columns(files[0], tables[0], file, table)
    try:
        schema = pa.unify_schemas([t.schema for t in tables], promote_options="permissive")
        return [table.select(schema.names).cast(schema) for table in tables]
    except (pa.ArrowException, TypeError) as e:
        raise data_error(
            "source",
            f"the {len(files):,} files have different types: {e}",
            help="open them separately, or write them again with one schema",
        ) from e


def _read(file: File) -> pa.Table:
    format = format_of_name(file.path)
    try:
        with file.open() as handle:
            table = _of_csv(handle, format) if format in ("csv", "tsv") else _of_json(handle)
    except (OSError, pa.ArrowException) as e:
        raise _unreadable(file, format, e) from e
    return table.replace_schema_metadata(None)


def _of_csv(handle: Any, format: Format) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(
        handle,
        parse_options=csv.ParseOptions(
            delimiter="\t" if format == "tsv" else ",", newlines_in_values=True
        ),
        convert_options=csv.ConvertOptions(
            strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )


def _of_json(handle: Any) -> pa.Table:
    from pyarrow import json

    return json.read_json(handle, parse_options=json.ParseOptions(newlines_in_values=False))


def _unreadable(file: File, format: Format | None, e: Exception) -> TqlDataError:
    if isinstance(e, pa.ArrowInvalid):
        is_text = format in ("csv", "tsv")
        kind = "a CSV file with a line of column names" if is_text else "a JSON object a line"
        return data_error(
            "source",
            f"'{file.shown}' cannot be read: {e}; expected {kind}",
            help="read it with pyarrow, pandas or Polars, and open the table that they give",
        )
    return unreadable(file.shown, e)


def _check_columns(first: File, known: pa.Table, other: File, table: pa.Table) -> None:
    for a, has, b, misses in ((first, known, other, table), (other, table, first, known)):
        for name in has.column_names:
            if name not in misses.column_names:
                raise data_error(
                    "source",
                    f"'{a.shown}' has a column '{name}', and '{b.shown}' has not",
                    help=did_you_mean(name, misses.column_names)
                    or "open them separately, or write them again with one schema",
                )


def below(paths: pa.ChunkedArray, prefix: str) -> pa.ChunkedArray:
    """Relative paths within the folder `prefix`, from above it; absolute ones and URIs as they are."""
    if not prefix:
        return paths
    fixed = pc.call_function(
        "match_substring_regex",
        [paths],
        pc.MatchSubstringOptions(r"^(/|[A-Za-z][A-Za-z0-9+.\-]+://)"),
    )
    start = pa.scalar(prefix + "/", paths.type)
    joined = pc.call_function(
        "binary_join_element_wise",
        [start, paths, pa.scalar("", paths.type)],
        pc.JoinOptions(null_handling="emit_null"),
    )
    return pc.call_function("if_else", [fixed, paths, joined])
