"""Call tokens what people call them: `'limit'`, `an expression`, `the end of the query`."""

from typing import Final

from tql.diagnostics import Note, Span, TqlError, error
from tql.grammar.tokens import END, Tokens, keywords

PUNCTUATION: Final = {
    "COLON": ":",
    "COMMA": ",",
    "DOT": ".",
    "LPAR": "(",
    "LSQB": "[",
    "MINUS": "-",
    "MODULO": "%",
    "PLUS": "+",
    "QMARK": "?",
    "RPAR": ")",
    "RSQB": "]",
    "SEMICOLON": ";",
    "SLASH": "/",
    "STAR": "*",
}

# A group of terminals has one name where its telling members are all possible. In this order: what
# an earlier group has named, a later one does not name again.
_GROUPS: Final = (
    (
        "an expression",
        "INT IDENT LPAR",
        "INT FLOAT STRING TRUE FALSE QMARK PARAMETER ARRAY IDENT QUOTED ALL MINUS PLUS LPAR NOT",
    ),
    (
        "an operator",
        "PLUS SLASH",
        "PLUS MINUS STAR SLASH MODULO LSQB LPAR DOT EQUALITY ORDERING LIKE ILIKE IN IS ISNULL"
        " BETWEEN NOT AND OR",
    ),
    ("an alias", "AS IDENT", "AS IDENT QUOTED"),
    ("a name", "IDENT QUOTED", "IDENT QUOTED"),
    ("a subscript", "INT COLON", "COLON"),
    ("a join", "JOIN LEFT", "JOIN LEFT RIGHT FULL INNER CROSS"),
    (
        "a clause such as 'where' or 'limit'",
        "WHERE LIMIT",
        "FROM WHERE EXPAND GROUP HAVING UNGROUP ORDER LIMIT OFFSET SAMPLE UNION INTERSECT EXCEPT",
    ),
    (
        "a clause such as 'order by' or 'limit'",
        "ORDER LIMIT",
        "FROM WHERE EXPAND GROUP HAVING UNGROUP ORDER LIMIT OFFSET SAMPLE UNION INTERSECT EXCEPT",
    ),
    ("'asc'", "ASC DESC", "ASC DESC"),
    ("a whole number", "INT", "INT"),
    ("'true'", "TRUE FALSE", "TRUE"),
)

_MOST: Final = 6


def expectation(expected: frozenset[str]) -> str:
    """What could have stood there: at most six alternatives, the end of the query last."""
    left = expected - {"SEMICOLON", END}
    names = []
    for name, telling, members in _GROUPS:
        if left.issuperset(telling.split()):
            names.append(name)
            left -= frozenset(members.split())
    names += [f"'{PUNCTUATION.get(kind, kind.lower())}'" for kind in sorted(left)]
    names = names[: _MOST - 1] if END in expected else names[:_MOST]
    if END in expected:
        names.append("the end of the query")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def found(tokens: Tokens, i: int) -> str:
    """Token `i` as a message names it."""
    kind, word = tokens.kinds[i], tokens.word(i)
    if kind == END:
        return "the end of the query"
    if len(word) > 30:
        word = word[:28] + "…" + word[-1]
    if kind == "STRING":
        return f"the text {word}"
    if kind == "QUOTED":
        return f"the name {word}"
    if kind in ("INT", "FLOAT"):
        return f"the number {word}"
    return f"the word '{word}'" if word.lower() in keywords() else f"'{word}'"


def failure(
    tokens: Tokens,
    span: Span,
    message: str,
    help: str | None = None,
    code: str = "syntax",
    notes: tuple[Note, ...] = (),
) -> TqlError:
    """The error at `span`."""
    return error(code, message, span, notes=notes, help=help, query=tokens.text)
