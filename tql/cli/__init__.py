"""The command `tql`: verbs, exit codes, and errors as text or JSON. The only package that prints.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed
while running, 2 wrong usage or a query that does not fit, 3 data missing or unreadable, 130
interrupted (or the reader of the output went away).
"""

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

import click

from tql import __version__
from tql.cli.request import is_query
from tql.cli.screen import note, show_problem
from tql.diagnostics import WRONG_INPUT, Diagnostic, TqlError, did_you_mean

INTERRUPTED: Final = 130
_OBJECTS: Final = 50_000  # made before garbage is looked for among them

# verb -> module and help, here so that `tql --help` imports no verb.
VERBS: Final = {
    "schema": ("tql.cli.schema", "Columns, types and class names of a data set."),
    "stats": ("tql.cli.stats", "Ranges and nulls per column, or rows per class."),
    "explain": ("tql.cli.explain", "What a query will read, drop, weigh and draw."),
    "run": ("tql.cli.run", "Run a query: rows as a table, JSON lines, CSV, Arrow or Parquet."),
    "plan": ("tql.cli.plan", "The order of an epoch: save it, look into it, compare it."),
    "bench": ("tql.cli.bench", "How fast a loader gives batches, and what bounds it."),
    "functions": ("tql.cli.functions", "The functions of the language, or one of them in full."),
    "format": ("tql.cli.format", "A query in canonical form."),
    "doctor": ("tql.cli.doctor", "Versions, the kernel cache, and a trial of the compiler."),
    "demo": ("tql.cli.demo", "A tour on embedded data: query, plan, one epoch of batches."),
}


class _ReaderGone(Exception):
    """Nobody reads standard output any more."""


class Verbs(click.Group):
    """A group whose verbs are imported when they are called."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as e:  # which click would end with exit code 1
            raise _ReaderGone from e

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = import_module(VERBS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and is_query(args[0]):
            ctx.fail("a verb comes before the query: tql explain QUERY, or tql run QUERY")
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = did_you_mean(args[0], VERBS)
            ctx.fail(f"there is no verb '{args[0]}'; {near or 'the verbs are ' + ', '.join(VERBS)}")
        return super().resolve_command(ctx, args)


EPILOG: Final = """\b
Examples:
  tql demo
  tql schema data/train/
  tql explain demo:digits "select * where labels != 'five'"
  tql run 'data/*.parquet' -f query.tql -p min_score=0.4 -o kept.parquet
"""


@click.group(
    cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]},
    options_metavar="", subcommand_metavar="VERB SOURCE QUERY",
)  # fmt: skip
@click.version_option(__version__, "-V", "--version", prog_name="tql")
def verbs() -> None:
    """Query and sample training data: which rows, how often, in which order."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    before = gc.get_threshold()
    # Modules are lasting objects by the ten thousand; to look for garbage among them again and
    # again takes a fifteenth of the time of a short command.
    gc.set_threshold(_OBJECTS)
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        code = perform(given)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            code = _reader_gone()
        sys.exit(code)
    finally:
        gc.set_threshold(*before)  # where the process goes on, as in tests


def perform(given: list[str]) -> int:
    """The exit code of one command line; whatever a user can cause is told, not raised."""
    as_json = "--json" in given[: given.index("--")] if "--" in given else "--json" in given
    try:
        code = verbs.main(given, prog_name="tql", standalone_mode=False)
    except TqlError as e:
        show_problem(e.diagnostic, e.query, as_json=as_json)
        return e.exit_code
    except click.ClickException as e:
        return _wrong_usage(e, as_json)
    except (KeyboardInterrupt, click.Abort):
        note("interrupted")
        return INTERRUPTED
    except _ReaderGone:
        return _reader_gone()
    except MemoryError:
        show_problem(Diagnostic("memory", "there is not enough memory"), "", as_json=as_json)
        return 1
    except OSError as e:
        where = f"'{e.filename}': " if e.filename else ""
        message = f"{where}{e.strerror or e}"
        show_problem(Diagnostic("system", message), "", as_json=as_json)
        return 1
    return code if isinstance(code, int) else 0


def _wrong_usage(e: click.ClickException, as_json: bool) -> int:
    context = e.ctx if isinstance(e, click.UsageError) else None
    help = f"see {context.command_path} --help" if context is not None else None
    if isinstance(e, click.exceptions.NoArgsIsHelpError):
        note(e.format_message())
        return WRONG_INPUT
    show_problem(Diagnostic("usage", e.format_message(), help=help), "", as_json=as_json)
    return WRONG_INPUT


def _reader_gone() -> int:
    """The rest of the output goes nowhere, also what Python writes when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return INTERRUPTED
