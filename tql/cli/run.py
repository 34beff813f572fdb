"""`tql run SOURCE QUERY`."""

import sys
from pathlib import PurePath
from typing import Final

import click

from tql.cli.output import Output
from tql.cli.request import Request, query_options, read_request
from tql.cli.screen import note, show_json

FORMATS: Final = ("table", "jsonl", "csv", "arrow", "parquet", "ids")
_BY_EXTENSION: Final = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".arrow": "arrow", ".feather": "arrow",
    ".ipc": "arrow", ".parquet": "parquet", ".pq": "parquet", ".txt": "ids", ".ids": "ids",
}  # fmt: skip
_SHOWN_ROWS: Final = 20


@click.command("run")
@query_options
@click.option(
    "--format", "format", type=click.Choice(FORMATS),
    help="Default: by the extension of -o; else table on a terminal, jsonl in a pipe.",
)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, whole or not at all.")
@click.option(
    "--limit-rows", type=click.IntRange(min=0), metavar="N", default=_SHOWN_ROWS,
    show_default=True, help="Rows of a table, or of --json.",
)  # fmt: skip
def command(
    arguments: tuple[str, ...], file: str | None, params: tuple[str, ...], seed: int,
    class_names: tuple[str, ...], as_json: bool, no_color: bool, format: str | None,
    output: str | None, limit_rows: int,
) -> None:  # fmt: skip
    """Run QUERY over SOURCE and print or write its rows.

    SOURCE may be left out when the query has FROM. Values are given as they are stored: class
    labels as indices (their names stay in the metadata of Arrow and Parquet; the table shows
    names), bytes and images in jsonl and csv as base64. The format ids gives row numbers of
    SOURCE: one per line, or in a file the column row_id.
    """
    to_file = output if output != "-" else None
    chosen = format or _format_of(to_file, as_json)
    request = read_request(arguments, file, params, seed, class_names)
    from tql.cli import rows
    from tql.dataset import view_of

    target = None if to_file is None else Output(to_file, request)
    if target is not None:
        target.check()
    view = view_of(request.question, request.dataset)
    for text in view.notes:
        note(f"note: {text}")
    if target is not None:
        rows.write_file(view, chosen, target)
    if as_json:
        show_json(rows.summary(view, _described(request, to_file), limit_rows))
    elif target is None:
        rows.write_out(view, chosen, limit_rows, no_color)


def _described(request: Request, path: str | None) -> dict[str, object]:
    return {"version": 1, "source": request.name, "query": request.text, "output": path}


def _format_of(path: str | None, as_json: bool) -> str:
    if path is not None:
        suffix = PurePath(path).suffix.lower()
        if suffix not in _BY_EXTENSION:
            raise click.UsageError(
                f"-o {path!r}: no format is known by {suffix or 'a name without an extension'}; "
                f"use {', '.join(dict.fromkeys(_BY_EXTENSION))}, or give --format"
            )
        return _BY_EXTENSION[suffix]
    return "table" if sys.stdout.isatty() or as_json else "jsonl"
