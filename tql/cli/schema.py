"""`tql schema SOURCE`."""

import click

from tql.cli.request import opened, source_options
from tql.cli.screen import show, show_json
from tql.diagnostics import counted


@click.command("schema")
@click.argument("source")
@source_options
def command(source: str, class_names: tuple[str, ...], as_json: bool, no_color: bool) -> None:
    """Columns of SOURCE with their types, whether they can be null, and class names.

    SOURCE is a Parquet or Arrow file, a folder, a glob, a URI, or demo:digits.
    """
    from tql.reports.text_table import cut, printable, table
    from tql.schema import Label

    dataset = opened(source, class_names)
    found = dataset.source
    fragments = len(found.fragments)
    if as_json:
        columns = [
            {
                "name": c.name,
                "type": str(c.dtype),
                "nullable": c.nullable,
                **({"class_names": list(c.dtype.names)} if isinstance(c.dtype, Label) else {}),
            }
            for c in dataset.schema
        ]
        show_json(
            {
                "version": 1, "source": source, "kind": found.kind, "rows": found.rows,
                "fragments": fragments, "fingerprint": found.fingerprint, "columns": columns,
            }
        )  # fmt: skip
        return
    show(
        f"{printable(source)}  ·  {found.kind}, {counted(found.rows, 'row')} in {counted(fragments, 'fragment')}"
    )
    rows = []
    for c in dataset.schema:
        names = ", ".join(map(printable, c.dtype.names)) if isinstance(c.dtype, Label) else ""
        null = "yes" if c.nullable else "no"
        rows.append([cut(printable(c.name), 28), cut(str(c.dtype), 24), null, cut(names, 44)])
    heads = ["column", "type", "nullable", "class names"]
    for line in table(heads, ["left", "left", "left", "left"], rows):
        show(line)
