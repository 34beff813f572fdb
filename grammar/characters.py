"""A character, or a run of them, that is no token: what it may have been meant as."""

import re
from typing import Final

from tql.diagnostics import Span, TqlError
from tql.grammar.tokens import BAD, OPEN_COMMENT, Tokens
from tql.grammar.wording import failure

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

# What word processors and mathematics write (quotation marks; minus and dashes; times; divided;
# comparisons; and, or, not, element of; full-width comma, brackets, semicolon), and what TQL does.
_QUOTES: Final = "\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u201a\u00b4"
_LOOKALIKES: Final = {
    **dict.fromkeys(_QUOTES, "texts stand in straight quotes, 'cat', names in double ones"),
    **dict.fromkeys("\u2212\u2013\u2014", "write: -"),
    **dict.fromkeys("\u00d7\u00b7\u2217", "multiply with: a * b"),
    "\u00f7": "divide with: a / b",
    "\u2260": "write: !=",
    "\u2264": "write: <=",
    "\u2265": "write: >=",
    "\u2227": "write: and",
    "\u2228": "write: or",
    "\u00ac": "write: not",
    "\u2208": "write: a in (1, 2)",
    "\uff0c": "write: ,",
    "\uff08": "write: (",
    "\uff09": "write: )",
    "\uff1b": "write: ;",
}


def no_token(tokens: Tokens, i: int, expected: frozenset[str]) -> TqlError | None:
    """A character, or a run of them, that is no token at all."""
    start = tokens.starts[i]
    rest = tokens.text[start : start + 100]
    if tokens.kinds[i] == OPEN_COMMENT:
        return failure(tokens, tokens.span(i), "a comment that does not end", "close it with */")
    if tokens.kinds[i] != BAD:
        return None
    if rest[0] == "'":
        way_out = "close it with '; a quote inside of a text is doubled: 'it''s'"
        return failure(tokens, tokens.span(i), "a text that does not end", way_out)
    if rest[0] == '"':
        way_out = "names stand in double quotes, texts in single quotes"
        return failure(tokens, tokens.span(i), "a quoted name that does not end", way_out)
    if number := re.match(r"[\d.][\w.]*", rest):
        span = Span(start, start + number.end())
        if re.match("0[xXbBoO]", rest):
            way_out = "numbers are decimal" + _decimal(number[0])
            return failure(tokens, span, f"'{number[0]}' is not a number", way_out)
        way_out = "numbers are 12, 1_000, 1.5, 2e-3; a name that starts with a digit is quoted"
        return failure(tokens, span, f"'{number[0]}' is not a number", way_out)
    if rest.startswith("||"):
        message, way_out = "'||' is not part of TQL", "or is written: or; texts are not joined"
        return failure(tokens, Span(start, start + 2), message, way_out, "unsupported")
    if rest[0] == "!" and tokens.text[max(start - 1, 0) : start] == "=":
        return failure(tokens, Span(start - 1, start + 1), "'=!' is not an operator", "write: !=")
    if re.match(r"!\s+=", rest):
        length = rest.index("=") + 1
        span = Span(start, start + length)
        return failure(tokens, span, "a blank inside of '!='", "write: !=")
    if rest[0] == "{" and i > 0 and tokens.kinds[i - 1] == "IDENT":
        span = Span(start, start + 1)
        return failure(tokens, span, "'{' has no meaning in TQL", "a call has parentheses: f(a)")
    if rest[0] in _CHARACTERS:
        code, message, way_out = _CHARACTERS[rest[0]]
        doubled = len(rest) > 1 and rest[1] == rest[0] and rest[0] == "&"
        span = Span(start, start + 2 if doubled else start + 1)
        return failure(tokens, span, message.replace("&", "&&" if doubled else "&"), way_out, code)
    if not rest[0].isprintable():
        message = f"invisible character U+{ord(rest[0]):04X}"
        return failure(tokens, tokens.span(i), message, "delete it")
    way_out = "in a name it needs double quotes, in a text single quotes"
    way_out = _LOOKALIKES.get(rest[0], way_out)
    return failure(tokens, tokens.span(i), f"unknown character {rest[0]!r}", way_out)


def _decimal(number: str) -> str:
    """`: 31` for 0x1F; nothing where it is no number in any base."""
    try:
        return f": {int(number[:20], 0)}" if len(number) <= 20 else ""
    except ValueError:
        return ""
