"""`tql stats SOURCE`."""

import click

from tql.cli.request import opened, source_options
from tql.cli.screen import show, show_json


@click.command("stats")
@click.argument("source")
@click.option("--by", metavar="COLUMN", help="Rows per class of this column.")
@source_options
def command(
    source: str, by: str | None, class_names: tuple[str, ...], as_json: bool, no_color: bool
) -> None:
    """Nulls, ranges and sizes of the columns of SOURCE; image and list columns are not read."""
    found = opened(source, class_names).stats(by=by)
    if as_json:
        show_json(found.to_dict())
    else:
        show(str(found))
