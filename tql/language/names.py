"""What the names in a query stand for: columns of the one source of a FROM, or of several."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tql.diagnostics import Span, TqlError, did_you_mean, error, first_names
from tql.grammar import syntax as s
from tql.grammar.printer import format_expr
from tql.schema import Schema


@dataclass(frozen=True, slots=True)
class Named:
    """A source in FROM: what it is called there, and what the leaf calls its columns.

    `columns` are in the source's order; those of a single source keep their names.
    """

    alias: str | None
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Merged:
    """A column that USING makes of those of several sources: what the leaf calls it, and which."""

    column: str
    among: frozenset[int]


@dataclass(frozen=True, slots=True)
class Names:
    """All names of a FROM. `merged` are the columns of USING; they name sources by position.

    `outside` are aliases that stand in the same FROM, but beyond a comma: ON does not see them.
    """

    sources: tuple[Named, ...]
    merged: Mapping[str, Merged] = field(default_factory=dict)
    outside: tuple[str, ...] = ()

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(n.alias for n in self.sources if n.alias is not None)

    def find(self, n: s.Name) -> str | None:
        """The leaf's name of the column that `n` names; None where there is none.

        Errors: no such source, or a name that several sources have.
        """
        if n.source is not None:
            return self._source(n.source, n.name, n.span).columns.get(n.name)
        if len(self.sources) == 1:  # the common case, and conditions chain thousands of names
            return self.sources[0].columns.get(n.name)
        if not self._is_plain(n.name) and self.knows(n.name):
            raise error("ambiguous", f"several sources have a column {n.name!r}", n.span,
                        help=self._ways(n.name))  # fmt: skip
        if n.name in self.merged:
            return self.merged[n.name].column
        found = (named.columns[n.name] for named in self.sources if n.name in named.columns)
        return next(found, None)

    def knows(self, name: str) -> bool:
        """Whether some column is called so, of one source or several."""
        return any(name in named.columns for named in self.sources)

    def spellings(self) -> tuple[str, ...]:
        """A way to write each column: alone where that is enough, else `source.name`."""
        return tuple(
            name if self._is_plain(name) else self._qualified(named, name)
            for named, name, _ in self._each()
        )

    def star(self, item: s.AllColumns) -> Iterator[tuple[str, str]]:
        """(name in the result, the leaf's name) of the columns that `*` or `source.*` stands for."""
        if item.source is not None:
            yield from self._source(item.source, None, item.span).columns.items()
            return
        for _, name, column in self._each():
            if not self._is_plain(name):
                stars = [f"{written(a)}.*" for a in self.aliases]
                raise error(
                    "ambiguous", f"* would give several columns named {name!r}", item.span,
                    help=f"name the columns: {self._ways(name)}"
                    + (f";  or take one source: {' or '.join(stars)}" if stars else ""),
                )  # fmt: skip
            yield name, column

    def alone(self) -> tuple[str, ...]:
        """The names of all columns without their sources; ambiguous ones too."""
        return tuple(dict.fromkeys(name for named in self.sources for name in named.columns))

    def not_in_source(self, n: s.Name) -> TqlError:
        """The error for `source.name` where that source has no such column."""
        columns = tuple(self._source(str(n.source), n.name, n.span).columns)
        near = did_you_mean(n.name, columns)
        return error("unknown_column", f"{n.source} has no column {n.name!r}", n.span,
                     help=near or f"its columns are {first_names(columns)}")  # fmt: skip

    def _each(self) -> Iterator[tuple[Named, str, str]]:
        """(source, name, the leaf's name) of all columns in order; merged ones where they stand
        first.
        """
        given = set()
        for at, named in enumerate(self.sources):
            for name, column in named.columns.items():
                merged = self.merged.get(name)
                if merged is None or at not in merged.among:
                    yield named, name, column
                elif name not in given:
                    given.add(name)
                    yield named, name, merged.column

    def _is_plain(self, name: str) -> bool:
        """Whether the name alone says which column is meant."""
        among = self.merged[name].among if name in self.merged else frozenset[int]()
        others = [at for at, named in enumerate(self.sources)
                  if name in named.columns and at not in among]  # fmt: skip
        return len(others) + bool(among) == 1

    def _qualified(self, named: Named, name: str) -> str:
        return format_expr(s.Name(name, named.alias))

    def _ways(self, name: str) -> str:
        """How to say which of the columns of this name is meant."""
        having = [named for named in self.sources if name in named.columns]
        ways = [self._qualified(named, name) for named in having if named.alias is not None]
        if len(ways) < len(having):
            ways.append(f"alias.{written(name)} after  (select …) as alias")
        return f"write {' or '.join(ways)}"

    def _source(self, alias: str, column: str | None, span: Span) -> Named:
        for named in self.sources:
            if named.alias == alias:
                return named
        raise error("unknown_alias", f"no source named {alias!r} in this query", span,
                    help=self._instead_of_source(alias, column))  # fmt: skip

    def _instead_of_source(self, source: str, column: str | None) -> str:
        if column is None and len(self.sources) == 1:
            return "write  *  alone"
        if column is not None and self.knows(f"{source}/{column}"):
            return f'did you mean the column "{source}/{column}"?'
        if column is not None and self.knows(source):
            if column.lower() in ("shape", "any", "all", "sum", "abs", "sqrt"):
                return (
                    f"{source!r} is a column, and {column} a function:  {column.lower()}({source})"
                )
            return f"{source!r} is a column; a JSON key is written  {source}['{column}']"
        if source in self.outside:
            return f"JOIN binds tighter than a comma, so ON does not see {source!r}: write  cross join  for the comma"
        if len(self.sources) > 1:
            known = ", ".join(self.aliases) or "not named: give them aliases"
            return did_you_mean(source, self.aliases) or f"the sources are {known}"
        return f"write the column alone: {column}"


def written(name: str) -> str:
    """A name as it is written in a query."""
    return format_expr(s.Name(name))


def one_source(schema: Schema, alias: str | None = None) -> Names:
    """The names of a FROM with one source, or of a query asked of a data set."""
    return Names((Named(alias, {name: name for name in schema.names}),))
