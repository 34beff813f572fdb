"""The functions of the package: open data, ask queries, handle query text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, assert_never

from tql.diagnostics import error
from tql.grammar import syntax, tokens
from tql.grammar.parser import parse as _parse
from tql.grammar.printer import format_expr, format_query

if TYPE_CHECKING:
    from tql.dataset import Dataset, View
    from tql.language.bind_expr import Params


def open(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
    filesystem: Any = None,
    files: Mapping[str, str] | None = None,
    root: str | PathLike[str] | None = None,
    retry_for: float = 60.0,
) -> "Dataset":
    """A data set over data where it lies; nothing is copied or converted.

    So arrays and tables must not be changed while they are open: what was learned of them (their
    fingerprint, where which values lie) is kept. Open them again after a change.

    source       a Parquet, Arrow, CSV, JSON-lines, COCO or .npy file, a folder or glob of such files
                 or of images, a list of paths, an URI ("s3://…"); a dict of arrays; an Arrow table
                 or anything that exports one (Polars, pandas, DuckDB); a Hugging Face Dataset;
                 "demo:digits"
    columns      only these columns
    class_names  names of the classes of integer columns: {"labels": ["cat", "dog"]}
    filesystem   a pyarrow or fsspec file system for the paths
    files        columns that are files, and the columns that have their paths: {"image": "path"}.
                 They are read row by row, by loaders and never by queries
    root         the folder in which relative paths of `files` and of images start; where the table
                 lies, if it is not given (of a table in memory: the current folder)
    retry_for    seconds for which a request to storage that is not local is tried again where it
                 is throttled, or answered in part or not at all; a loader's timeout= bounds more
    """
    from tql.dataset import Dataset
    from tql.sources.opening import open_source

    opened = open_source(
        source,
        columns=columns,
        class_names=class_names,
        filesystem=filesystem,
        files=files,
        root=root,
        retry_for=retry_for,
    )
    name = source if isinstance(source, str) else type(source).__name__
    return Dataset(opened, name)


def query(
    text: str, params: "Params" = None, *, parameters: "Params" = None, seed: int = 0
) -> "View":
    """The answer to a query that names its data: `select * from "train.parquet" where …`.

    `params` (or `parameters`) are the values of `?` (a list) or of `$name` (a dict).
    """
    from tql.dataset import view_of
    from tql.queries import ask, either

    params = either(params, parameters)
    return view_of(ask(None, text, params, seed=seed), None, params)


def register_function(
    fn: Callable[..., Any], name: str | None = None, *, returns: Any = None, batch: bool = False
) -> None:
    """Let queries of this process call a Python function.

        tql.register_function(np.hypot)
        tql.register_function(lambda text: len(text.split()), "words", returns="int64")
        ds.query("select *, words(caption) as n where hypot(x, y) < 1")

    fn       any callable with positional arguments, also none. It should give the same result
             for the same arguments, since a query may ask for a row more than once
    name     what queries call it, in any case; fn.__name__ if not given, which a lambda has not.
             A name of the language is refused; one that was registered before is replaced
    returns  a NumPy dtype of numbers or bools, or "text" (str). Without it the type is found
             when a query is bound, by calling `fn` on the first row of the data (of the first 64)
             that has no NULL among the arguments, so it then depends on the data
    batch    False: called once per row, with numbers, bools and times as 0-d arrays, class
             labels as their index, text as str, arrays as arrays, JSON as Python objects; gives one
             value, or None for NULL. True: called once for many rows, with one NumPy array per
             argument (of objects for text, arrays and JSON); gives one value per row

    Rows with a NULL argument are not handed in: their result is NULL. An exception in `fn` becomes
    a TqlDataError that names the row (the rows of the batch), with the exception as its cause.

    A query calls it in the order of the rows on the thread that asks, a data loader on its own
    threads, possibly several at once. Queries, views and loaders keep the function they were made
    with. Fingerprints of views and plans contain a hash of its code, constants, defaults and plain
    captured values, not of the globals and functions that it uses.
    """
    from tql.language.user_functions import register

    register(fn, name, returns=returns, batch=batch)


def unregister_function(name: str) -> None:
    """Forget a registered function; what was made with it keeps it."""
    from tql.language.user_functions import unregister

    unregister(name)


def balanced(column: str, power: float = 1.0, threshold: float | None = None) -> str:
    """The weight expression that draws each class of a column as often as any other.

    A row weighs one over how many of the rows drawn from have its class, to `power`: 1 makes the
    classes equally heavy, 0.5 goes half of the way, 0 leaves them as they are. A row with a list
    of classes weighs as the rarest class in it (the largest weight).

        ds.dataloader(seed=7).sample_by(tql.balanced("labels", power=0.5))

    With `threshold`, a share of the rows above 0 and at most 1, only classes rarer than that are
    favoured: a row weighs max(1, (threshold / share of its class) ^ power). With power=0.5 that is
    the repeat factor of LVIS (Gupta et al., 2019), who take a threshold of 0.001.

    It can be used wherever a weight expression can, also in the text of a query.
    """
    given: tuple[Any, ...] = (column, power) if threshold is None else (column, power, threshold)
    name, *numbers = given
    if not isinstance(name, str) or not name or not all(map(_is_real, numbers)):
        raise error("type", f"balanced() needs a column's name and numbers, not {given!r}",
                    help='for example tql.balanced("labels", 0.5)')  # fmt: skip
    if not 0 <= power < float("inf"):
        raise error("value", f"the power of balanced() cannot be {power}",
                    help="0 leaves the classes as they are, 1 makes them equally heavy")  # fmt: skip
    if threshold is not None and not 0 < threshold <= 1:
        raise error("value", f"the threshold of balanced() cannot be {threshold}",
                    help="it is a share of the rows, above 0 and at most 1")  # fmt: skip
    if numbers == [1]:
        numbers = []
    return format_expr(syntax.Call("balanced", (syntax.Name(name), *map(syntax.Number, numbers))))


def _is_real(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool)


def parse(text: str) -> syntax.Query:
    """The query as a tree. Raises TqlSyntaxError pointing at the first thing that does not fit."""
    from tql.queries import pointing_into

    with pointing_into(text):
        return _parse(text)


def format(query: syntax.Query | str) -> str:
    """Canonical TQL for a query or its tree; `parse(format(q)) == parse(q)`."""
    return format_query(parse(query) if isinstance(query, str) else query)


def keywords() -> tuple[str, ...]:
    """The reserved words of the language, lower-case."""
    return tokens.keywords()


def is_filter(text: str) -> bool:
    """Whether the query only chooses, orders, repeats or drops rows and whole columns of one source.

    No virtual or renamed columns, groups, ungrouping, windows (EXPAND BY), joins, or UNION of
    different sources; DISTINCT, LIMIT, SAMPLE BY and set operations over one source choose rows.
    Raises TqlSyntaxError; names and types are not looked at.
    """
    return _only_chooses(parse(text))


def _only_chooses(body: syntax.Body) -> bool:
    match body:
        case syntax.Query(inner):
            return _only_chooses(inner)
        case syntax.Combined(first, steps):
            one_source = len({_asked(s) for s in _selects(body)}) == 1
            return one_source and all(map(_only_chooses, (first, *(step.body for step in steps))))
        case syntax.Select() as s:
            plain = all(
                isinstance(i, syntax.AllColumns)
                or (isinstance(i.expr, syntax.Name) and i.alias in (None, i.expr.name))
                for i in s.items
            )
            simple = s.expand is None and s.group is None and s.ungroup is None
            return plain and simple and _chooses_from(s.source)
        case _:
            assert_never(body)


def _chooses_from(source: syntax.Source | None) -> bool:
    match source:
        case None | syntax.Table():
            return True
        case syntax.Subquery(query):
            return _only_chooses(query)
        case syntax.Join():
            return False
        case _:
            assert_never(source)


def _selects(body: syntax.Body) -> Iterator[syntax.Select]:
    """The branches of set operations; not what stands in FROM."""
    match body:
        case syntax.Select():
            yield body
        case syntax.Combined(first, steps):
            yield from _selects(first)
            for step in steps:
                yield from _selects(step.body)
        case syntax.Query(inner):
            yield from _selects(inner)
        case _:
            assert_never(body)


def _asked(select: syntax.Select) -> syntax.Source | None:
    """The source of a branch; what it is called there makes no difference."""
    source = select.source
    return (
        source if source is None or isinstance(source, syntax.Join) else replace(source, alias=None)
    )
