"""How what stands around a token is written: the way out where no known mistake was made."""

from typing import Final

from tql.grammar.tokens import Tokens

# Terminals by what they do in an expression.
OPERANDS: Final = frozenset(
    ["IDENT", "QUOTED", "INT", "FLOAT", "STRING", "TRUE", "FALSE", "ARRAY", "QMARK", "PARAMETER"]
)
_OPERAND_ENDS: Final = (OPERANDS - {"ARRAY"}) | {"RPAR", "RSQB"}
_OPERATORS: Final = frozenset(
    [
        "AND",
        "OR",
        "NOT",
        "EQUALITY",
        "ORDERING",
        "PLUS",
        "MINUS",
        "STAR",
        "SLASH",
        "MODULO",
        "LIKE",
        "ILIKE",
        "IN",
        "IS",
        "BETWEEN",
    ]
)

_CLAUSES: Final = {
    "SELECT": "a select list is written: select a, b * 2 as c",
    "FROM": 'write: from "train.parquet", or from "a.parquet" as a join "b.parquet" as b on a.id == b.id',
    "JOIN": 'write: from "a.parquet" as a join "b.parquet" as b on a.id == b.id, or using (id)',
    "WHERE": "a condition is written: where a > 3 and b == 'cat'",
    "HAVING": "a condition is written: having count(*) > 3",
    "EXPAND": "write: expand by 2, 3 overlap false",
    "GROUP": "write: group by a, b",
    "UNGROUP": "write: ungroup by split",
    "ORDER": "write: order by a desc, b",
    "LIMIT": "write: limit 10, or limit 10 percent",
    "OFFSET": "write: limit 10 offset 20",
    "SAMPLE": "write: sample by max_weight(a == 2: 10, true: 1) replace false limit 100",
    "UNION": "write: select … union select …",
    "INTERSECT": "write: select … intersect select …",
    "EXCEPT": "write: select … except select …",
}


def advice(tokens: Tokens, i: int, expected: frozenset[str]) -> str:
    """What to write in the place of token `i`, where only `expected` could stand."""
    before, here = tokens.kinds[i - 1] if i else "", tokens.kinds[i]
    if expected == {"BY"}:
        return f"write: {tokens.word(i - 1).lower()} by …"
    if {"INT", "LPAR"} <= expected:
        missing = _operand_missing(tokens, i)
        if missing is not None:
            return missing
    if here in OPERANDS and before in _OPERAND_ENDS:
        if "COMMA" in expected and "JOIN" not in expected and "AND" not in expected:
            return "put a comma between two items"
        if "COMMA" in expected and "AND" in expected:
            return "put a comma between two items, or an operator between two values"
        if here == before == "IDENT" and tokens.kinds[i - 2] in ("EQUALITY", "LIKE", "ILIKE"):
            return "a text stands in single quotes: 'a b'"
        if before == "IDENT" and not is_operand_end(tokens.kinds[i - 2]):
            word = tokens.word(i - 1) if len(tokens.word(i - 1)) <= 30 else "f"
            return f"write an operator between them; a function takes parentheses: {word}(…)"
        if "AND" in expected:
            return "join two conditions with and, or; compare with ==, <, like, in"
    if before == "NOT":
        return "write: a not in (1, 2), a not like 'x*', a not between 1 and 5; or: not a"
    form = _form(tokens, i)
    if here == "COMMA" and form in (_CLAUSES["WHERE"], _CLAUSES["HAVING"]):
        return "join two conditions with and, or"
    return form


def _operand_missing(tokens: Tokens, i: int) -> str | None:
    """An operator that lacks its right side, or its left one."""
    before, here = tokens.kinds[i - 1] if i else "", tokens.kinds[i]
    left, right = tokens.word(i - 1).lower(), tokens.word(i).lower()
    if before in _OPERATORS and here in _OPERATORS:
        return f"remove '{left}' or '{right}', or write what stands between them"
    if before in _OPERATORS:
        return f"write what comes after '{left}', or remove '{left}'"
    if here in _OPERATORS:
        return f"write what comes before '{right}', or remove '{right}'"
    if here == "COMMA":
        return "remove the comma, or write what comes before it"
    return None


def _form(tokens: Tokens, i: int) -> str:
    """The form of the innermost bracket or clause around token `i`."""
    depth = 0
    for j in range(i - 1, -1, -1):
        kind = tokens.kinds[j]
        if kind in ("RPAR", "RSQB"):
            depth += 1
        elif kind in ("LPAR", "LSQB") and depth:
            depth -= 1
        elif not depth and kind in ("LPAR", "LSQB"):
            bracket = _bracket_form(tokens, j)
            if bracket is not None:
                return bracket
        elif not depth and kind in _CLAUSES:
            return _CLAUSES[kind]
    if "SELECT" not in tokens.kinds[:i] and i > 0:
        return "a weight is a number, a column, or: max_weight(a == 2: 10, true: 1)"
    return "a query is written: select * where a > 3 limit 10"


def _bracket_form(tokens: Tokens, opening: int) -> str | None:
    """What stands in the bracket; None where it only groups."""
    before = tokens.kinds[opening - 1] if opening else ""
    word = tokens.word(opening - 1)
    if before in ("IDENT", "QUOTED", "ALL") and tokens.kinds[opening] == "LPAR":
        return f"a call is written: {word if len(word) <= 30 else 'f'}(a, b)"
    match before, tokens.kinds[opening]:
        case "ARRAY", _:
            return "write: array[1, 2]"
        case "IN", _:
            return "write: a in (1, 2)"
        case "USING", _:
            return "write: using (id)"
        case "ON", _:
            return "write: select distinct on (a) *"
        case _, "LSQB":
            return "write: a[0], a[-1], a[1:3] or meta['key']"
        case _:
            return None


def is_operand_end(kind: str) -> bool:
    """Whether an operand may end with a token of this kind, so that an alias may follow."""
    return kind in _OPERAND_ENDS or kind in ("STAR", "AS")
