"""Say what is wrong with a text that is not TQL, and how to repair it.

The automaton knows where a text goes wrong and what could have followed. People make the same few
mistakes, and for those this is not enough: they are listed in MISTAKES.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Final

from tql.diagnostics import Note, Span, TqlError
from tql.grammar.build import WEIGHT_FUNCTIONS
from tql.grammar.characters import no_token
from tql.grammar.forms import advice, is_operand_end
from tql.grammar.habits import BEGINNINGS_AND_ENDS, HABITS
from tql.grammar.mistakes import MISTAKES, NEXT_CLAUSE, Mistake
from tql.grammar.tokens import BAD, END, Tokens, keywords
from tql.grammar.wording import expectation, failure, found


def syntax_error(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError:
    """The error for token `i`, in whose place only `expected` kinds of token could stand."""
    for explain in _EXPLANATIONS:
        explained = explain(tokens, i, expected)
        if explained is not None:
            return explained
    return _plain(tokens, i, expected)


def _plain(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError:
    message = f"found {found(tokens, i)}, expected {expectation(expected)}"
    notes: tuple[Note, ...] = ()
    if tokens.kinds[i] == END:
        message = f"the query ends early, expected {expectation(expected)}"
        notes = _comment_at_the_end(tokens, i)
    return failure(tokens, _place(tokens, i), message, advice(tokens, i, expected), notes=notes)


def _comment_at_the_end(tokens: Tokens, i: int) -> tuple[Note, ...]:
    """What may have been meant as more of the query."""
    start = tokens.stops[i - 1] if i else 0
    start += len(tokens.text[start:]) - len(tokens.text[start:].lstrip())
    if start == len(tokens.text):
        return ()
    sign = tokens.text[start : start + (1 if tokens.text[start] == "#" else 2)]
    return (Note(f"'{sign}' starts a comment", Span(start, start + len(sign))),)


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
        return failure(tokens, tokens.span(0), "empty query", "the shortest query is: select *")
    shortest = "the shortest weight is a column, or: max_weight(label == 2: 10)"
    return failure(tokens, tokens.span(0), "empty weight", shortest)


def _known_mistake(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    around = _around(tokens, i)
    opening = _open_bracket(tokens, i)
    inside = tokens.word(opening - 1).lower() if opening else ""
    here = tokens.text[max(tokens.starts[i] - 2, 0) : tokens.starts[i] + 8]
    for mistake in (*HABITS, *BEGINNINGS_AND_ENDS, *MISTAKES):
        if (
            (not mistake.inside or re.fullmatch(mistake.inside, inside))
            and re.search(mistake.around, around)
            and re.search(mistake.text, here)
        ):
            return _told(mistake, tokens, i)
    return None


def _told(mistake: Mistake, tokens: Tokens, i: int) -> TqlError:
    both = "{operator}" in mistake.message
    back = max(mistake.back, int(both))
    span = tokens.span(i - back).to(_place(tokens, i)) if back else _place(tokens, i)
    if mistake.ahead:
        more = [
            j for j in range(i, i + mistake.ahead + 1) if tokens.kinds[j : j + 1] not in ([], [END])
        ]
        span = span.to(tokens.span(more[-1]))
    if mistake.culprit:
        words_before = [
            j for j in range(i + 1) if re.fullmatch(mistake.culprit, tokens.word(j), re.I)
        ]
        span = tokens.span(words_before[-1]) if words_before else span
    quoted = f'"{tokens.word(i)[1:-1]}"'
    words = {
        "{found}": found(tokens, i),
        "{word}": _shortened(tokens.word(i)),
        "{before}": _shortened(tokens.word(i - 1)),
        "{operator}": _shortened(
            tokens.text[tokens.starts[i - 1] : tokens.stops[i]] if both else ""
        ),
        "{quoted}": quoted if len(quoted) <= 60 else '"…"',
    }
    message, way_out = mistake.message, mistake.help
    for name, word in words.items():
        message, way_out = message.replace(name, word), way_out.replace(name, word)
    return failure(tokens, span, message, way_out, mistake.code)


def _shortened(word: str) -> str:
    return word if len(word) <= 30 else f"{word[:28]}…"


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
            return failure(tokens, tokens.span(i), message, "remove it, or open it earlier")
        return None
    closing = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
    wanted, sign = closing[tokens.kinds[opening]]
    if wanted not in expected or kind not in (END, "RPAR", "RSQB", "AS", *_CLAUSES):
        return None
    stop = found(tokens, i)
    return failure(
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
    return failure(tokens, tokens.span(i), "comparisons do not chain", way_out)


def _pairs(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """Something else than pairs in max_weight(…) or sum_weight(…)."""
    opening = _open_bracket(tokens, i)
    function = tokens.word(opening - 1).lower() if opening else ""
    if function not in WEIGHT_FUNCTIONS or tokens.kinds[i] == END:
        return None
    message = f"expected 'condition: weight', found {found(tokens, i)}"
    return failure(tokens, tokens.span(i), message, f"write: {function}(label == 2: 10, true: 1)")


def _misplaced_clause(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A clause or set operation after one that has to come later."""
    kind, word = tokens.kinds[i], tokens.word(i).lower()
    if "SEMICOLON" not in expected and "RPAR" not in expected:
        return None
    if kind in ("UNION", "INTERSECT", "EXCEPT"):
        way_out = f"write: (select … limit 3) {word} (select …)"
        message = f"a query with its own order by, limit or sample by before '{word}'"
        return failure(tokens, tokens.span(i), f"{message} needs parentheses", way_out)
    if kind == "OFFSET" and "SAMPLE" in tokens.kinds[:i]:
        way_out = "nest the query: select * from (… sample by …) offset 2"
        return failure(tokens, tokens.span(i), "a sample has no OFFSET", way_out)
    if kind in _CLAUSES and (first := _same_before(tokens, i)) is not None:
        way_out = {
            "WHERE": "join two conditions with 'and'",
            "FROM": "join two sources: from … as a join … as b on a.id == b.id",
            "GROUP": "write all keys after one 'group by': group by a, b",
            "ORDER": "write all keys after one 'order by': order by a, b",
        }.get(kind, "keep one of them, or nest the query: select * from (…)")
        note = Note("the first one", tokens.span(first))
        message = f"a second '{word}'; a clause appears once"
        return failure(tokens, tokens.span(i), message, way_out, notes=(note,))
    if kind in _CLAUSES:
        way_out = (
            "the order is: from, where, expand by, group by, order by, limit, offset, sample by"
        )
        return failure(tokens, tokens.span(i), f"'{word}' comes too late", way_out)
    return None


def _same_before(tokens: Tokens, i: int) -> int | None:
    """The same clause of the same query before token `i`."""
    depth = 0
    for j in range(i - 1, -1, -1):
        kind = tokens.kinds[j]
        if kind in ("RPAR", "RSQB"):
            depth += 1
        elif kind in ("LPAR", "LSQB"):
            depth -= 1
        if depth < 0 or (depth == 0 and kind in ("SELECT", "UNION", "INTERSECT", "EXCEPT")):
            return None
        if depth == 0 and kind == tokens.kinds[i]:
            return j
    return None


def _weights_alone(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """`sample by a == 1: 10`: pairs outside of max_weight(…)."""
    if tokens.kinds[i] != "COLON" or _open_bracket(tokens, i) is not None:
        return None
    if "SAMPLE" not in tokens.kinds[:i] and "SELECT" in tokens.kinds[:i]:
        return None
    way_out = "write: max_weight(label == 2: 10, true: 1)"
    return failure(tokens, tokens.span(i), "a weight of a condition outside of max_weight", way_out)


def _path(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A path or URI without quotes after FROM or JOIN."""
    if tokens.kinds[i] not in ("SLASH", "DOT", "COLON", "MINUS", "FLOAT", "INT", BAD, "STAR"):
        return None
    for j in range(i, max(i - 3, 0), -1):
        if tokens.kinds[j - 1] in ("FROM", "JOIN"):
            break
    else:
        return None
    start = tokens.starts[j]
    written = re.match(r"[^\s,;()'\"]+", tokens.text[start : start + 200])
    if written is None:
        return None
    span = Span(start, start + written.end())
    path = written[0] if len(written[0]) <= 60 else "…"
    way_out = f'write it in double quotes: {tokens.word(j - 1).lower()} "{path}"'
    return failure(tokens, span, "a path without quotes", way_out)


def _tuple(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """`(1, 2)` or `()` where a value stands."""
    opening = _open_bracket(tokens, i)
    if opening is None or tokens.kinds[opening] != "LPAR":
        return None
    empty = i == opening + 1 and tokens.kinds[i] == "RPAR"
    if not empty and (tokens.kinds[i] != "COMMA" or "RPAR" not in expected):
        return None
    way_out = "an array is written array[1, 2]; a list stands after in: a in (1, 2)"
    message = "empty parentheses" if empty else "parentheses hold one value here"
    return failure(tokens, tokens.span(i), message, way_out)


def _misspelt(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A word near a keyword: the one that does not fit, or the one before it, read as an alias."""
    anything = frozenset(w.upper() for w in keywords())
    for j, choices, cutoff in ((i, expected, 0.65), (i - 1, anything, 0.7)):
        if j < 0 or tokens.kinds[j] != "IDENT":
            continue
        if j < i and ("IDENT" in expected or j == 0 or not is_operand_end(tokens.kinds[j - 1])):
            continue
        words = sorted(w.lower() for w in choices if w.lower() in keywords())
        near = get_close_matches(tokens.word(j).lower(), words, n=1, cutoff=cutoff)
        if near:
            message = f"found '{tokens.word(j)}', expected {expectation(expected)}"
            if j < i:
                message = f"'{tokens.word(j)}' is an alias here, and {found(tokens, i)} follows it"
            return failure(tokens, tokens.span(j), message, f"did you mean '{near[0]}'?")
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
    return failure(tokens, tokens.span(i), message, f'as a name it needs quotes: "{word}"')


_EXPLANATIONS: Final[tuple[Callable[[Tokens, int, frozenset[str]], TqlError | None], ...]] = (
    _no_query,
    _path,
    no_token,
    _known_mistake,
    _bracket,
    _pairs,
    _weights_alone,
    _tuple,
    _chained_comparison,
    _misplaced_clause,
    _misspelt,
    _reserved_word,
)
