"""`tql functions [NAME]`."""

import click

from tql.cli.screen import columns, show, show_json


@click.command("functions")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON; errors too.")
@click.option("--no-color", is_flag=True, help="No colour (as NO_COLOR does).")
def command(name: str | None, as_json: bool, no_color: bool) -> None:
    """The functions of the language, or NAME in full, with an example that can be run."""
    from tql.reports.manual import as_dict, as_lines, function_named, functions, in_full

    chosen = functions() if name is None else (function_named(name),)
    if as_json:
        show_json(as_dict(chosen))
        return
    for line in as_lines(chosen, columns()) if name is None else in_full(chosen[0], columns()):
        show(line)
