"""`tql explain SOURCE QUERY`."""

import sys
from typing import Any

import click

from tql.cli.loading import chain_of, shuffle_options, shuffled
from tql.cli.output import Output, write_text
from tql.cli.request import query_options, read_request
from tql.cli.screen import columns, show


@click.command("explain")
@query_options
@click.option(
    "--format", "format", type=click.Choice(["tree", "json", "mermaid", "dot", "html"]),
    default="tree", show_default=True, help="How to draw it.",
)  # fmt: skip
@click.option("--analyze", is_flag=True, help="Run it, and put rows and seconds beside.")
@click.option("--kernels", is_flag=True, help="Which tier would answer each node, and its loop.")
@shuffle_options
@click.option("--memory", metavar="SIZE", help="What a loader may hold, for example 2GiB.")
@click.option("-o", "--output", metavar="FILE", help="Write to a file instead.")
def command(
    arguments: tuple[str, ...], file: str | None, params: tuple[str, ...], seed: int,
    class_names: tuple[str, ...], as_json: bool, no_color: bool, format: str, analyze: bool,
    kernels: bool, memory: str | None, output: str | None, **shuffling: Any,
) -> None:  # fmt: skip
    """What QUERY will read, drop, weigh and draw, without drawing it.

    With --shuffle, --buffer-size, --vif or --batch it is what a loader will do: how well its batches
    mix classes, and what it reads and holds. SOURCE may be left out when the query has FROM.
    """
    from tql.reports.explain import explain_query
    from tql.reports.render import FORMATS, as_tree

    request = read_request(arguments, file, params, seed, class_names)
    if memory is not None or any(v for v in shuffling.values()):
        if analyze or kernels:
            raise click.UsageError("--analyze and --kernels are about the query alone: leave them out "
                                   "where a loader is explained")  # fmt: skip
        options = {} if memory is None else {"memory": memory}
        told = shuffled(chain_of(request, params, seed, **options), **shuffling).explain()
    else:
        told = explain_query(request.question, request.name, analyze=analyze, kernels=kernels)
    chosen = "json" if as_json else format
    if output is None or output == "-":
        narrow = chosen == "tree" and sys.stdout.isatty()
        show(as_tree(told, columns()) if narrow else FORMATS[chosen](told))
    else:
        write_text(Output(output, request), FORMATS[chosen](told) + "\n")
