"""What verbs that take SOURCE and QUERY have in common: arguments, parameters, opening."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from tql.diagnostics import data_error, did_you_mean

if TYPE_CHECKING:
    from tql.dataset import Dataset
    from tql.queries import Question

F = TypeVar("F", bound=Callable[..., Any])

_NAMED: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_BLANKS: Final = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_QUERY: Final = re.compile(r"select\b|\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """A data set (None where FROM names it), a query over it, and its parameters."""

    source: str | None
    dataset: "Dataset | None"
    text: str
    question: "Question"

    @property
    def name(self) -> str:
        """What to call the data set."""
        tables = sorted(self.question.environment.tables)
        return self.source or ", ".join(tables) or "query"


def source_options(fn: F) -> F:
    """--class-names, --json and --no-color."""
    fn = click.option("--no-color", is_flag=True, help="No colour (as NO_COLOR does).")(fn)
    fn = click.option("--json", "as_json", is_flag=True, help="The result as JSON; errors too.")(fn)
    return click.option(
        "--class-names", multiple=True, metavar="COLUMN=A,B,…",
        help="Names of the classes of an integer column, from 0.",
    )(fn)  # fmt: skip


def query_options(fn: F) -> F:
    """[SOURCE] [QUERY], -f, -p, --seed and the options of `source_options`."""
    fn = source_options(fn)
    fn = click.option("--seed", type=int, default=0, show_default=True, help="Fixes every draw.")(
        fn
    )
    fn = click.option(
        "-p", "--param", "params", multiple=True, metavar="[NAME=]VALUE",
        help="A value for $name, or for the next ?; JSON, else text.",
    )(fn)  # fmt: skip
    fn = click.option(
        "-f", "--file", metavar="FILE.tql", help="Read the query from a file; - is standard input."
    )(fn)
    return click.argument("arguments", nargs=-1, metavar="[SOURCE] [QUERY]")(fn)


def read_request(
    arguments: Sequence[str], file: str | None, params: Sequence[str], seed: int,
    class_names: Sequence[str],
) -> Request:  # fmt: skip
    """Open the data and bind the query."""
    source, text = _source_and_query(arguments, file)
    values = parameters(params)
    dataset = None if source is None else opened(source, class_names)
    if source is None and class_names:
        raise click.UsageError("--class-names needs SOURCE on the command line")
    from tql.queries import ask

    here = None if dataset is None else dataset.source
    return Request(source, dataset, text, ask(here, text, values, seed=seed))


def opened(source: str, class_names: Sequence[str]) -> "Dataset":
    """The data set of one SOURCE argument."""
    from tql.api import open

    return open(source, class_names=named_classes(class_names) or None)


def named_classes(given: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """`column=a,b,c` as {"column": ["a", "b", "c"]}."""
    found = {}
    for text in given:
        column, equals, names = text.partition("=")
        if not equals or not column or not names:
            raise click.UsageError(f"--class-names {text!r}: write it as column=first,second,third")
        found[column] = names.split(",")
    return found


def parameters(given: Sequence[str]) -> dict[str, Any] | list[Any] | None:
    """The values of -p, by name or in order; None where there are none."""
    if not given:
        return None
    named = [_NAMED.fullmatch(text) for text in given]
    if all(m is None for m in named):
        return [_value(text) for text in given]
    pairs = [m for m in named if m is not None]
    if len(pairs) < len(named):
        raise click.UsageError("give either -p NAME=VALUE for all parameters, or -p VALUE for all")
    names = [m[1] for m in pairs]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"-p {name}= is given twice")
    return {m[1]: _value(m[2]) for m in pairs}


def _value(text: str) -> Any:
    """A JSON scalar or list; anything else is text as it stands."""
    try:
        value = json.loads(text, parse_constant=_not_json)
    except ValueError:
        return text
    return text if isinstance(value, dict) else value


def _not_json(name: str) -> Any:
    raise ValueError(name)


# -- SOURCE and QUERY --------------------------------------------------------------------------


def is_query(text: str) -> bool:
    """Whether an argument is a query: it begins with select or a parenthesis."""
    blanks = _BLANKS.match(text)
    return _QUERY.match(text, blanks.end() if blanks else 0) is not None


def is_nearly_query(text: str) -> bool:
    """Whether a lone argument is rather a misspelt query than a path."""
    words = text.split()
    return len(words) > 2 and did_you_mean(words[0].lower(), ["select"]) is not None


def _source_and_query(arguments: Sequence[str], file: str | None) -> tuple[str | None, str]:
    if len(arguments) > 2:
        raise click.UsageError(
            f"{len(arguments)} arguments were given, and SOURCE and QUERY are two: put the query "
            'in quotes, for example "select * where labels != 5"'
        )
    if file is not None:
        if len(arguments) == 2 or (arguments and is_query(arguments[0])):
            raise click.UsageError("the query is given twice: with -f and as an argument")
        return (arguments[0] if arguments else None), text_of(file)
    match arguments:
        case []:
            raise click.UsageError("SOURCE and QUERY are missing")
        case [only] if is_query(only):
            return None, only
        case ["-"]:
            return None, text_of("-")
        case [only] if is_nearly_query(only):
            return None, only  # the parser says where it is wrong
        case [only]:
            return only, "select *"
        case [source, query] if is_query(source) and not is_query(query):
            raise click.UsageError("SOURCE comes first, then QUERY")
        case [source, query]:
            return source, text_of("-") if query == "-" else query
        case _:
            raise AssertionError(arguments)


def text_of(file: str) -> str:
    """The text of a query file, or of standard input."""
    shown = "standard input" if file == "-" else f"'{file}'"
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as e:
        raise data_error("source", f"the query file {shown} cannot be read: {e.strerror}",
                         help="check the path") from e  # fmt: skip
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise data_error("source", f"the query in {shown} is not UTF-8 text",
                         help="save it as UTF-8") from e  # fmt: skip
    if not text.strip():
        raise click.UsageError(f"{shown} holds no query")
    return text
