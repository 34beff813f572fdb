"""Say what is wrong with a text that is not TQL, and how to repair it.

The automaton knows where a text goes wrong and what could have followed. People make the same few
mistakes, and for those this is not enough: they are listed in MISTAKES.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Final

from tql.diagnostics import Note, Span, TqlError, error
from tql.grammar.build import WEIGHT_FUNCTIONS
from tql.grammar.mistakes import MISTAKES, NEXT_CLAUSE, Mistake
from tql.grammar.tokens import BAD, END, OPEN_COMMENT, Tokens, keywords
from tql.grammar.wording import expectation, found


def syntax_error(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError:
    """The error for token `i`, in whose place only `expected` kinds of token could stand."""
    for explain in _EXPLANATIONS:
        explained = explain(tokens, i, expected)
        if explained is not None:
            return explained
    return _plain(tokens, i, expected)


def _plain(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError:
    expectations = expectation(expected)
    if tokens.kinds[i] == END:
        return _error(tokens, _place(tokens, i), f"the query ends early, expected {expectations}")
    return _error(tokens, tokens.span(i), f"found {found(tokens, i)}, expected {expectations}")


def _error(
    tokens: Tokens,
    span: Span,
    message: str,
    help: str | None = None,
    code: str = "syntax",
    notes: tuple[Note, ...] = (),
) -> TqlError:
    return error(code, message, span, notes=notes, help=help, query=tokens.text)


def _place(tokens: Tokens, i: int) -> Span:
    """Where token `i` is; the end of the query is right after its last token."""
    if tokens.kinds[i] == END and i > 0:
        return Span(tokens.stops[i - 1], tokens.stops[i - 1])
    return tokens.span(i)


# -- explanations, tried in the order of _EXPLANATIONS --------------------------------------------


def _no_query(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    if i > 0 or tokens.kinds[i] != END:
        return None
    if "SELECT" in expected:
        return _error(tokens, tokens.span(0), "empty query", "the shortest query is: select *")
    shortest = "the shortest weight is a column, or: max_weight(label == 2: 10)"
    return _error(tokens, tokens.span(0), "empty weight", shortest)


_CHARACTERS: Final = {
    "&": ("syntax", "'&' is not an operator", "write: and"),
    "|": ("syntax", "'|' is not an operator", "write: or"),
    "!": ("syntax", "'!' is not an operator", "write: not x, or x != y"),
    "^": ("unsupported", "'^' is not part of TQL", "multiply: x * x"),
    "~": ("syntax", "'~' is not an operator", "write: x like 'a*', or not x"),
    "`": ("syntax", "a backtick does not quote names", 'write names in double quotes: "a-b"'),
    "{": ("syntax", "'{' has no meaning in TQL", "a list is array[1, 2], or (1, 2) after in"),
    "@": ("syntax", "'@' has no meaning in TQL", "a parameter is written $name or ?"),
    "$": ("syntax", "'$' without a name", "a parameter is written $name or ?"),
    "\\": ("syntax", "a backslash has no meaning here", "a quote in a text is doubled: 'it''s'"),
}


def _no_token(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A character, or a run of them, that is no token at all."""
    start = tokens.starts[i]
    rest = tokens.text[start : start + 100]
    if tokens.kinds[i] == OPEN_COMMENT:
        return _error(tokens, tokens.span(i), "a comment that does not end", "close it with */")
    if tokens.kinds[i] != BAD:
        return None
    if rest[0] == "'":
        way_out = "close it with '; a quote inside of a text is doubled: 'it''s'"
        return _error(tokens, tokens.span(i), "a text that does not end", way_out)
    if rest[0] == '"':
        way_out = "names stand in double quotes, texts in single quotes"
        return _error(tokens, tokens.span(i), "a quoted name that does not end", way_out)
    if number := re.match(r"[\d.][\w.]*", rest):
        span = Span(start, start + number.end())
        if re.match("0[xXbBoO]", rest):
            return _error(tokens, span, f"'{number[0]}' is not a number", "numbers are decimal")
        way_out = "numbers are 12, 1_000, 1.5, 2e-3; a name that starts with a digit is quoted"
        return _error(tokens, span, f"'{number[0]}' is not a number", way_out)
    if rest.startswith("||"):
        message, way_out = "'||' is not part of TQL", "or is written: or; texts are not joined"
        return _error(tokens, Span(start, start + 2), message, way_out, "unsupported")
    if rest[0] in _CHARACTERS:
        code, message, way_out = _CHARACTERS[rest[0]]
        doubled = len(rest) > 1 and rest[1] == rest[0] and rest[0] == "&"
        span = Span(start, start + 2 if doubled else start + 1)
        return _error(tokens, span, message.replace("&", "&&" if doubled else "&"), way_out, code)
    shown = repr(rest[0]) if rest[0].isprintable() else f"U+{ord(rest[0]):04X}"
    way_out = "in a name it needs double quotes, in a text single quotes"
    return _error(tokens, tokens.span(i), f"unknown character {shown}", way_out)


def _known_mistake(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    around = _around(tokens, i)
    opening = _open_bracket(tokens, i)
    inside = tokens.word(opening - 1).lower() if opening else ""
    for mistake in MISTAKES:
        if mistake.inside in ("", inside) and re.search(mistake.around, around):
            return _told(mistake, tokens, i)
    return None


def _told(mistake: Mistake, tokens: Tokens, i: int) -> TqlError:
    span = _place(tokens, i)
    message, way_out = mistake.message, mistake.help
    if "{operator}" in message:
        span = tokens.span(i - 1).to(span)
        message = message.replace("{operator}", tokens.word(i - 1) + tokens.word(i))
    quoted = f'"{tokens.word(i)[1:-1]}"'
    way_out = way_out.replace("{quoted}", quoted if len(quoted) <= 60 else '"…"')
    message = message.replace("{found}", found(tokens, i))
    return _error(tokens, span, message, way_out, mistake.code)


def _around(tokens: Tokens, i: int) -> str:
    before = ([] if i > 6 else ["⊢"]) + [_symbol(tokens, j) for j in range(max(i - 6, 0), i)]
    after = [_symbol(tokens, j) for j in range(i, min(i + 3, len(tokens.kinds)))]
    return " ".join(before) + " ▸" + " ".join(after) + " "


def _symbol(tokens: Tokens, i: int) -> str:
    match tokens.kinds[i]:
        case "STRING":
            return "'…'"
        case "QUOTED":
            return '"…"'
        case "INT" | "FLOAT":
            return "0"
        case kind if kind == END:
            return "⊣"
        case _:
            return tokens.word(i).lower()


def _open_bracket(tokens: Tokens, i: int) -> int | None:
    """The innermost bracket that is open before token `i`."""
    open_brackets = []
    for j, kind in enumerate(tokens.kinds[:i]):
        if kind in ("LPAR", "LSQB"):
            open_brackets.append(j)
        elif kind in ("RPAR", "RSQB") and open_brackets:
            open_brackets.pop()
    return open_brackets[-1] if open_brackets else None


def _bracket(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A bracket that closes nothing, or that is not closed."""
    kind = tokens.kinds[i]
    opening = _open_bracket(tokens, i)
    if opening is None:
        if kind in ("RPAR", "RSQB"):
            message = f"'{tokens.word(i)}' closes nothing"
            return _error(tokens, tokens.span(i), message, "remove it, or open it earlier")
        return None
    closing = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
    wanted, sign = closing[tokens.kinds[opening]]
    if wanted not in expected or kind not in (END, "RPAR", "RSQB", "AS", *_CLAUSES):
        return None
    stop = found(tokens, i)
    return _error(
        tokens,
        tokens.span(opening),
        f"'{tokens.word(opening)}' is not closed",
        f"close it with '{sign}' before {stop}",
        notes=(Note(f"missing before {stop}", _place(tokens, i)),),
    )


_CLAUSES: Final = (
    "FROM",
    "WHERE",
    "EXPAND",
    "GROUP",
    "UNGROUP",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "SAMPLE",
)


def _chained_comparison(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    if tokens.kinds[i] not in ("EQUALITY", "ORDERING") or "AND" not in expected:
        return None
    way_out = "join two comparisons with and: 1 < x and x < 3"
    return _error(tokens, tokens.span(i), "comparisons do not chain", way_out)


def _pairs(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """Something else than pairs in max_weight(…) or sum_weight(…)."""
    opening = _open_bracket(tokens, i)
    function = tokens.word(opening - 1).lower() if opening else ""
    if function not in WEIGHT_FUNCTIONS or tokens.kinds[i] == END:
        return None
    message = f"expected 'condition: weight', found {found(tokens, i)}"
    return _error(tokens, tokens.span(i), message, f"write: {function}(label == 2: 10, true: 1)")


def _misplaced_clause(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A clause or set operation after one that has to come later."""
    kind, word = tokens.kinds[i], tokens.word(i).lower()
    if "SEMICOLON" not in expected and "RPAR" not in expected:
        return None
    if kind in ("UNION", "INTERSECT", "EXCEPT"):
        way_out = f"write: (select … limit 3) {word} (select …)"
        message = f"a query with its own order by, limit or sample by before '{word}'"
        return _error(tokens, tokens.span(i), f"{message} needs parentheses", way_out)
    if kind == "OFFSET" and "SAMPLE" in tokens.kinds[:i]:
        way_out = "nest the query: select * from (… sample by …) offset 2"
        return _error(tokens, tokens.span(i), "a sample has no OFFSET", way_out)
    if kind in _CLAUSES:
        way_out = (
            "the order is: from, where, expand by, group by, order by, limit, offset, sample by"
        )
        return _error(tokens, tokens.span(i), f"'{word}' comes too late", way_out)
    return None


def _misspelt(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A word near a keyword: the one that does not fit, or the one before it, read as an alias."""
    anything = frozenset(w.upper() for w in keywords())
    for j, choices, cutoff in ((i, expected, 0.65), (i - 1, anything, 0.7)):
        if j < 0 or tokens.kinds[j] != "IDENT" or (j < i and "IDENT" in expected):
            continue
        words = sorted(w.lower() for w in choices if w.lower() in keywords())
        near = get_close_matches(tokens.word(j).lower(), words, n=1, cutoff=cutoff)
        if near:
            message = f"found '{tokens.word(j)}', expected {expectation(expected)}"
            if j < i:
                message = f"'{tokens.word(j)}' is an alias here, and {found(tokens, i)} follows it"
            return _error(tokens, tokens.span(j), message, f"did you mean '{near[0]}'?")
    return None


def _reserved_word(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A keyword where a name could stand."""
    word = tokens.word(i)
    if word.lower() not in keywords() or "IDENT" not in expected:
        return None
    only_a_name = "INT" not in expected
    if not only_a_name and tokens.kinds[i] in ("AND", "OR", "IN", "IS", "BY", "LIKE", "BETWEEN"):
        return None  # an operand is missing
    here = _around(tokens, i).split("▸")[1]
    if not only_a_name and re.match(rf"{NEXT_CLAUSE}|select|intersect", here):
        return None
    message = f"'{word}' is a reserved word, expected {expectation(expected)}"
    return _error(tokens, tokens.span(i), message, f'as a name it needs quotes: "{word}"')


_EXPLANATIONS: Final[tuple[Callable[[Tokens, int, frozenset[str]], TqlError | None], ...]] = (
    _no_query,
    _no_token,
    _known_mistake,
    _bracket,
    _pairs,
    _chained_comparison,
    _misplaced_clause,
    _misspelt,
    _reserved_word,
)
