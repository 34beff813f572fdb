"""`tql format [FILE|-|QUERY]`."""

import sys

import click

from tql.cli.request import is_nearly_query, is_query, text_of
from tql.cli.screen import note, show, show_json

NOT_CANONICAL = 1


@click.command("format")
@click.argument("query", metavar="[FILE|-|QUERY]", required=False)
@click.option("--check", is_flag=True, help="Print nothing; exit code 1 if it is not canonical.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON; errors too.")
@click.option("--no-color", is_flag=True, help="No colour (as NO_COLOR does).")
def command(query: str | None, check: bool, as_json: bool, no_color: bool) -> int:
    """QUERY in canonical TQL: lower-case words, one spelling of everything, one line.

    It is read from standard input if it is not given. Names and types are not looked at, so no
    data is needed. Comments are not kept.
    """
    from tql.api import format
    from tql.grammar.tokens import has_comments

    if query is None:
        if sys.stdin.isatty():
            raise click.UsageError("QUERY is missing")
        query = "-"
    text = query if is_query(query) or is_nearly_query(query) else text_of(query)
    canonical = format(text)
    changed = text.strip() != canonical
    if as_json:
        show_json({"version": 1, "canonical": canonical, "changed": changed})
    elif not check:
        show(canonical)
    elif changed:
        note("not in canonical form; tql format prints it")
    if not check and has_comments(text):
        note("note: comments are not kept")
    return NOT_CANONICAL if check and changed else 0
