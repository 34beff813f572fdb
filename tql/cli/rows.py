"""Rows of a view in the formats of `tql run`, block by block."""

import base64
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import PurePath
from shutil import copyfileobj
from typing import IO, Any, Final

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tql.cli.output import Output
from tql.cli.screen import is_unicode
from tql.dataset import View
from tql.diagnostics import counted, first_names
from tql.engine.columns import Numbers, from_arrow, to_arrow
from tql.engine.computed import identify
from tql.reports.text_table import printable
from tql.rowset import RowSet
from tql.schema import Binary, Column, DType, Json, Label, List, Opaque, Text, Time
from tql.sources.arrow_types import arrow_type
from tql.sources.export import export_table

_BLOCK: Final = 8192
_MEMORY: Final = 512 << 20
_GROUP_ROWS: Final = 1 << 20
_GROUP_BYTES: Final = 64 << 20
_WIDEST: Final = 40
_NARROWEST: Final = 8
_TIMES: Final = "\N{MULTIPLICATION SIGN}"


def blocks(view: View, rows: RowSet | None = None) -> Iterator[pa.Table]:
    """The rows in order, a few thousand at a time; a fragment read for one is kept for the next."""
    reader = view.rows(_MEMORY)
    schema: pa.Schema | None = None
    for ids in (view.source.selected if rows is None else rows).blocks(_BLOCK):
        table = reader.take(ids, view.columns)
        schema = schema or _schema_of(view, table)
        yield _alike(table, view, schema)


def _schema_of(view: View, table: pa.Table) -> pa.Schema:
    fields = []
    for c in view.schema:
        known = not isinstance(c.dtype, Opaque | List | Json)
        stored = arrow_type(c.dtype) if known else table.schema.field(c.name).type
        if stored in (pa.string(), pa.binary()):  # blocks of a file are written into one column
            stored = pa.large_string() if stored == pa.string() else pa.large_binary()
        fields.append(pa.field(c.name, stored))
    return pa.schema(fields)


def empty(view: View) -> pa.Table:
    """No rows of the view, with its schema."""
    none = view.take(np.empty(0, np.int64))
    return _alike(none, view, _schema_of(view, none))


def _alike(table: pa.Table, view: View, schema: pa.Schema) -> pa.Table:
    """The table with the types of `schema`: labels as integers, text without dictionaries."""
    arrays = []
    for c, field in zip(view.schema, schema, strict=True):
        column = table.column(c.name)
        if isinstance(c.dtype, Label):
            vec = from_arrow(column, c.dtype)
            assert isinstance(vec, Numbers)
            column = to_arrow(vec, c.dtype, len(column))
        arrays.append(column.cast(field.type) if column.type != field.type else column)
    return pa.Table.from_arrays(arrays, schema=schema)


# -- values ------------------------------------------------------------------------------------


def as_json(value: Any, dtype: DType | None = None) -> Any:
    """A value of Arrow as JSON has it: bytes as base64, NaN and infinities as null, JSON as it is."""
    match value:
        case str() if isinstance(dtype, Json):
            try:
                return as_json(json.loads(value))
            except ValueError:  # text that claims to be JSON: shown rather than refused
                return value
        case list() if isinstance(dtype, List):
            return [as_json(v, dtype.item) for v in value]
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case datetime() | date():
            return value.isoformat()
        case list() | tuple():
            return [as_json(v) for v in value]
        case dict():
            return {str(k): as_json(v) for k, v in value.items()}
        case _:
            return str(value)


def cell(value: Any, c: Column) -> str:
    """A value for people, on one line and not too long."""
    match value, c.dtype:
        case None, _:
            return "null"
        case bytes(), Binary():
            return blob(value)
        case int(), Label(names) if 0 <= value < len(names):
            return printable(names[value])
        case bool(), _:
            return "true" if value else "false"
        case float(), _:
            return f"{value:.6g}"
        case str(), Text() | Json():
            return printable(value)
        case datetime() | date(), Time():
            return value.isoformat()
        case _:
            return printable(json.dumps(as_json(value, c.dtype), ensure_ascii=False))


def blob(data: bytes) -> str:
    """Bytes in a few words: format, size in pixels, length."""
    size = counted(len(data), "byte")
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        width, height = (int.from_bytes(data[k : k + 4], "big") for k in (16, 20))
        return f"<png {width}{_TIMES}{height}, {size}>"
    if data.startswith(b"\xff\xd8"):
        shape = _jpeg_shape(data)
        return f"<jpeg {shape[0]}{_TIMES}{shape[1]}, {size}>" if shape else f"<jpeg, {size}>"
    return f"<{size}>"


def _jpeg_shape(data: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header, None where there is none."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[at + k : at + k + 2], "big") for k in (5, 7))
            return width, height
        at += 2 + length
    return None


# -- standard output ---------------------------------------------------------------------------


def write_out(view: View, format: str, limit: int, no_color: bool) -> None:
    """The view on standard output."""
    match format:
        case "table":
            print_table(view, limit, no_color)
        case "ids":
            for ids in _row_ids(view, _BLOCK):
                sys.stdout.write("".join(f"{i}\n" for i in ids.tolist()))
        case "jsonl":
            plain = not is_unicode(sys.stdout)
            for line in _json_lines(view, plain):
                sys.stdout.write(line)
        case _:
            if sys.stdout.isatty() and format != "csv":
                raise click.UsageError(
                    f"{format} is not for a terminal; use -o FILE, or pipe it somewhere"
                )
            sys.stdout.flush()
            with tempfile.TemporaryFile() as whole:  # Parquet and IPC files need a position
                _write(view, format, whole)
                whole.seek(0)
                copyfileobj(whole, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _json_lines(view: View, plain: bool) -> Iterator[str]:
    for table in blocks(view):
        for row in table.to_pylist():
            values = {c.name: as_json(row[c.name], c.dtype) for c in view.schema}
            yield json.dumps(values, ensure_ascii=plain) + "\n"


def print_table(view: View, limit: int, no_color: bool) -> None:
    """The first rows as a table that fits the terminal."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Words

    console = Console(no_color=no_color or None, highlight=False)
    unicode = is_unicode(sys.stdout)
    rows = [
        [cell(v, c) for v, c in zip(row, view.schema, strict=True)] for row in _first(view, limit)
    ]
    needed = [
        min(_WIDEST, max(cell_len(printable(c.name)), *(cell_len(r[at]) for r in rows), 1))
        for at, c in enumerate(view.schema)
    ]
    widths = _fitted(needed, console.width)
    shown = len(widths)
    made = Table(box=box.SIMPLE_HEAD if unicode else box.ASCII2)
    for c, width in zip(view.schema, widths, strict=False):
        right = not isinstance(c.dtype, Text | Label | Binary | List | Json | Opaque)
        made.add_column(
            Words(printable(c.name)), justify="right" if right else "left", no_wrap=True,
            overflow="ellipsis" if unicode else "crop", width=width,
        )  # fmt: skip
    for row in rows:
        made.add_row(*(Words(s if unicode else s.replace(_TIMES, "x")) for s in row[:shown]))
    console.print(made)
    hidden = len(view) - min(limit, len(view))
    console.print(counted(len(view), "row") + (f", {hidden:,} not shown" if hidden else ""))
    if left := view.columns[shown:]:
        names = first_names([printable(name) for name in left])
        count = f"{len(left):,} column{'s' if len(left) > 1 else ''}"
        console.print(Words(f"{count} not shown: {names}"), soft_wrap=True)


def _fitted(needed: Sequence[int], width: int) -> list[int]:
    """Widths of the columns that fit, from the first on: each has _NARROWEST, or less if it needs less.

    A column of a table takes three characters beside its own width, and the edges one in all. What
    is left over goes to the columns that need more, one character at a time.
    """
    room = width - 1
    widths: list[int] = []
    for own in needed:
        room -= min(own, _NARROWEST) + 3
        if room < 0 and widths:
            room += min(own, _NARROWEST) + 3
            break
        widths.append(min(own, _NARROWEST))
    while room > 0:
        short = [at for at, w in enumerate(widths) if w < needed[at]][:room]
        if not short:
            break
        for at in short:
            widths[at] += 1
        room -= len(short)
    return widths


def _first(view: View, limit: int) -> Iterator[tuple[Any, ...]]:
    for table in blocks(view, view.source.selected[:limit]):
        yield from zip(*(table.column(n).to_pylist() for n in view.columns), strict=True)


def summary(view: View, head: dict[str, object], limit: int) -> dict[str, object]:
    """What --json prints: how many rows, which columns, and the first rows."""
    rows = [] if head["output"] is not None else [
        {c.name: as_json(v, c.dtype) for c, v in zip(view.schema, row, strict=True)}
        for row in _first(view, limit)
    ]  # fmt: skip
    columns = [{"name": c.name, "type": str(c.dtype)} for c in view.schema]
    notes = list(view.notes)
    return {**head, "rows": len(view), "columns": columns, "notes": notes, "first_rows": rows}


# -- files -------------------------------------------------------------------------------------


def write_file(view: View, format: str, output: Output) -> None:
    """The view in a file, in the format that the extension or --format says."""
    if format == "table":
        raise click.UsageError("--format table is for the screen; choose another for -o")
    with output.open() as handle:
        if format != "ids":
            _write(view, format, handle)
            return
        match PurePath(output.path).suffix.lower():
            case ".arrow" | ".feather" | ".ipc":
                _write_arrow(_id_tables(view), handle)
            case ".parquet" | ".pq":
                _write_parquet(_id_tables(view), handle)
            case ".csv":
                _write_csv(_id_tables(view), handle)
            case ".jsonl" | ".ndjson":
                for ids in _row_ids(view, _BLOCK):
                    handle.write("".join(f'{{"row_id": {i}}}\n' for i in ids.tolist()).encode())
            case _:
                for ids in _row_ids(view, _BLOCK):
                    handle.write("".join(f"{i}\n" for i in ids.tolist()).encode())


def _id_tables(view: View) -> Iterator[pa.Table]:
    schema = pa.schema([pa.field("row_id", pa.int64(), nullable=False)])
    if not len(view):
        yield schema.empty_table()
    for ids in _row_ids(view, _GROUP_ROWS):
        yield pa.Table.from_arrays([pa.array(ids)], schema=schema)


def _row_ids(view: View, size: int) -> Iterator[NDArray[np.int64]]:
    """`view.row_ids`, at most `size` at a time."""
    for positions in view.source.selected.blocks(size):
        yield identify(view.source.parent, np.ascontiguousarray(positions))


def _write(view: View, format: str, handle: IO[bytes]) -> None:
    match format:
        case "jsonl":
            for line in _json_lines(view, False):
                handle.write(line.encode("utf-8", "replace"))
        case "csv":
            _write_csv(_tables(view), handle)
        case "arrow":
            _write_arrow(_exported(view), handle)
        case "parquet":
            _write_parquet(_exported(view), handle)
        case other:
            raise AssertionError(other)


def _tables(view: View) -> Iterator[pa.Table]:
    """At least one table, so that an empty result has a schema, too."""
    if not len(view):
        yield empty(view)
    yield from _gathered(blocks(view))


def _exported(view: View) -> Iterator[pa.Table]:
    """The tables as `to_arrow` gives them: opening the file gives the schema of the view again."""
    for table in _tables(view):
        yield export_table(table, view.schema)


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of one chunk each, as large as a row group should be."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(t.nbytes for t in held) >= _GROUP_BYTES or len(held) * _BLOCK >= _GROUP_ROWS:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _write_arrow(tables: Iterator[pa.Table], handle: IO[bytes]) -> None:
    first = next(tables)
    with pa.ipc.new_file(handle, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _write_parquet(tables: Iterator[pa.Table], handle: IO[bytes]) -> None:
    first = next(tables)
    with pq.ParquetWriter(handle, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _write_csv(tables: Iterator[pa.Table], handle: IO[bytes]) -> None:
    first = _flat(next(tables))
    with pacsv.CSVWriter(handle, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(_flat(table))


def _flat(table: pa.Table) -> pa.Table:
    """The table with what CSV has no form for as text: bytes as base64, lists as JSON."""
    for at, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_large_binary(field.type):
            values = [as_json(v) for v in table.column(at).to_pylist()]
            texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
            table = table.set_column(at, field.name, pa.array(texts, pa.large_string()))
    return table
