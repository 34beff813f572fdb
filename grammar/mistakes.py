"""The mistakes that people make in TQL again and again, and the way out of each."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mistake:
    """A frequent mistake, known by the words around the token that does not fit.

    `around` is searched in up to six words before that token, "▸", the token and two more, in lower
    case, with '…' for texts, "…" for quoted names, 0 for numbers, ⊢ and ⊣ for the ends of the query.
    `inside`, where given, matches the word before the innermost bracket that is open there; `text`
    is found in the text around the token. {found} is that token, {word} as it is written, {before}
    the one before it, {operator} both together, {quoted} a text as a quoted name. `back` more tokens
    before it and `ahead` after it are underlined; where `culprit` is given, the nearest word before it that matches.
    """

    around: str
    message: str
    help: str
    code: str = "syntax"
    inside: str = ""
    text: str = ""
    back: int = 0
    ahead: int = 0
    culprit: str = ""


# A clause, and not its word in the place of a name.
NEXT_CLAUSE: Final = (
    r"(from|where|having) [^⊣,)=<>]|(limit|offset) (0|all|[?$(])|"
    r"(group|order|sample|expand) by|union|except"
)

MISTAKES: Final = (
    # other statements, and SQL that TQL leaves out
    Mistake(
        r"⊢ ▸with ",
        "WITH is not part of TQL",
        "write the query in FROM: select * from (select …)",
        "unsupported",
    ),
    Mistake(r"⊢ ▸from ", "a query starts with 'select'", "write: select * from …"),
    Mistake(r"⊢ ▸where ", "a query starts with 'select'", "write: select * where …"),
    Mistake(r"; ▸(?!; )", "several statements", "run them one by one"),
    Mistake(
        r"\bcase (when |\S+ )▸|\bcase ▸when ",
        "CASE is not part of TQL",
        "sum the cases, (a > 3) * 10 + (a <= 3) * 5, or weigh them: max_weight(a > 3: 10, true: 5)",
        "unsupported",
        culprit="case",
    ),
    Mistake(
        r"▸as ",
        "CAST is not part of TQL",
        "arithmetic converts numbers by itself: x * 1.0 is a float; text is not converted",
        "unsupported",
        "(try_|safe_)?cast|convert",
        culprit="(try_|safe_)?cast|convert",
    ),
    Mistake(
        r"▸from ",
        "EXTRACT is not part of TQL",
        "store the part as a column of its own",
        "unsupported",
        "extract",
        culprit="extract",
    ),
    Mistake(
        r"▸select ",
        "EXISTS is not part of TQL",
        "join the two sources, or pass the values as a parameter: x in ?",
        "unsupported",
        "exists",
        culprit="exists",
    ),
    Mistake(
        r" in \( ▸select ",
        "a subquery in IN is not part of TQL",
        "join the two sources, or pass the values as a parameter: x in ?",
        "unsupported",
    ),
    Mistake(r"\( ▸select ", "a subquery stands only in FROM", "write: select … from (select …)"),
    Mistake(
        r"\b(interval|date|time|timestamp) ▸'…'",
        "INTERVAL, DATE and TIMESTAMP literals are not part of TQL",
        "pass the value as a parameter: day > ?",
        "unsupported",
        back=1,
    ),
    Mistake(r"▸with ", "query hints and WITH are not part of TQL", "leave it out", "unsupported"),
    Mistake(
        r"\( ▸distinct ",
        "DISTINCT inside a call is not part of TQL",
        "write: select distinct …",
        "unsupported",
    ),
    Mistake(
        r"\bnatural (▸join|join )|▸natural join",
        "NATURAL JOIN is not part of TQL",
        "name the common columns: join … using (id)",
        "unsupported",
    ),
    Mistake(r"▸minus ", "'minus' is not an operator between queries", "write: except"),
    Mistake(r"\bminus ▸select\b", "'minus' is not an operator between queries", "write: except"),
    Mistake(
        r"\blimit all ▸percent\b",
        "LIMIT ALL takes no PERCENT",
        "leave one of them out: limit all, or for example limit 50 percent",
    ),
    Mistake(
        r"\btop \S+ ▸percent\b",
        "TOP takes a number of rows, not a part of them",
        "write LIMIT at the end of the query, for example  limit 3 percent",
    ),
    # NULL
    Mistake(
        r"(^|\s)==? ▸null",
        "NULL is not a value that can be compared",
        "write: x is null",
        "unsupported",
    ),
    Mistake(
        r"(!=|<>) ▸null",
        "NULL is not a value that can be compared",
        "write: x is not null",
        "unsupported",
    ),
    Mistake(
        r"(?<! as)(?<! \.) ▸null ",
        "NULL stands only in 'is null' and 'is not null'",
        "test for it with: x is null",
        "unsupported",
    ),
    Mistake(r"\bis (not )?▸\S", "'is' takes only NULL, after it {found}", "compare with == or !="),
    # operators of other languages
    Mistake(r" ==? ▸==? ", "'{operator}' is not an operator", "equality is written =="),
    Mistake(r" = ▸(<|>) ", "'{operator}' is not an operator", "write <= or >="),
    Mistake(
        r" (<>|!=|<=|>=) ▸(=|==|<|>) ",
        "'{operator}' is not an operator",
        "the comparisons are == != < <= > >=",
    ),
    Mistake(r"\bnot ▸==? ", "'not' does not stand before '='", "write !="),
    Mistake(
        r"\blike ▸not |\bin ▸not |\bbetween ▸not ",
        "'not' comes first",
        "write: x not like …, x not in (…), x not between … and …",
    ),
    Mistake(r"\*  ?▸\*", "'**' is not an operator", "multiply: x * x"),
    Mistake(r"- ▸> ", "'->' is not an operator", "a key of a JSON column is read by meta['key']"),
    Mistake(
        r"▸: :",
        "'::' is not part of TQL",
        "arithmetic converts numbers by itself: x * 1.0 is a float; text is not converted",
        "unsupported",
        ahead=2,
    ),
    Mistake(
        r": ▸:",
        "'::' is not part of TQL",
        "arithmetic converts numbers by itself: x * 1.0 is a float; text is not converted",
        "unsupported",
        back=1,
        ahead=1,
    ),
    Mistake(r"▸: [^\W\d]", "':name' is not a parameter", "write $name"),
    Mistake(
        r"\. \S+ ▸\. ",
        "a name has at most one dot: source.column",
        "a key of a JSON column is meta['key'], a member of a group \"group/name\"",
    ),
    # texts and names
    Mistake(
        r"(from|join) ▸'…'",
        "a path is a name, not a text",
        "write it in double quotes: from {quoted}",
    ),
    Mistake(
        r"\bas ▸'…'", "an alias is a name, not a text", "write it in double quotes: as {quoted}"
    ),
    Mistake(
        r"'…' ▸'…'",
        "two texts in a row",
        "double the quote inside of a text, 'it''s'; there is no operator that joins texts",
    ),
    Mistake(
        r"'…' ▸[^\W\d]\w* ('|⊣'|.*unfinished)",
        "a text ends before {found}",
        "double the quote inside of a text: 'it''s'",
    ),
    # clauses
    Mistake(r"\blimit \S+ ▸,", "LIMIT takes one number", "write: limit count offset start"),
    Mistake(r"\blimit \S+ % ▸", "after a number, '%' is the remainder", "write: limit 10 percent"),
    Mistake(
        r"\breplace ▸",
        "REPLACE takes true or false, found {found}",
        "write: replace true, replace false, or nothing (true)",
    ),
    Mistake(
        r"\boverlap ▸",
        "OVERLAP takes true or false, found {found}",
        "write: overlap true, overlap false, or nothing (false)",
    ),
    Mistake(
        r"\bexpand by ▸",
        "EXPAND BY takes whole numbers that are not negative",
        "write: expand by 2, 3",
    ),
    Mistake(
        rf"\bselect (distinct )?▸({NEXT_CLAUSE}|⊣)",
        "SELECT without a list of columns",
        "write: select * …",
    ),
    Mistake(
        r"\bcross join \S+ (as \S+ |\S+ )?▸(on|using) ",
        "CROSS JOIN takes no condition",
        "write join instead of cross join",
    ),
    Mistake(
        r"\bjoin \S+ (as \S+ |\S+ )?▸(⊣|where|group|order|limit|join|left|inner|sample)",
        "JOIN needs a condition",
        "write: join … on a.id = b.id, join … using (id), or cross join",
    ),
    Mistake(
        r"\bsample by .*▸, ",
        "SAMPLE BY takes one weight",
        "combine weights: sample by a * b, or sum_weight(a: 1, b: 2)",
    ),
    Mistake(r"▸having ", "HAVING without GROUP BY", "filter rows with where, or group them first"),
    Mistake(rf", ▸({NEXT_CLAUSE}|\)|\]|⊣)", "a comma with nothing after it", "remove the comma"),
    Mistake(
        r"(in|array) [(\[] ▸[)\]]",
        "an empty list",
        "a list has at least one item; an empty one matches nothing: where false",
    ),
    Mistake(r"\[ ▸\]", "an empty subscript", "write x[0], x[-1], or x[1:3]"),
    Mistake(
        r"\bbetween (?:(?! and ).)*▸(,|to) ",
        "BETWEEN takes 'and' between its bounds",
        "write: x between 1 and 5",
    ),
)
