"""Texts that are almost queries: queries that were damaged by hand, by habit or by accident."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

LONGEST: Final = 20_000
_TOKEN: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$?[^\W\d]\w*|\d[\w.]*|\s+|==|!=|<>|<=|>=|--|/\*|\*/|.""",
    re.DOTALL,
)
# A size of rows that a computer would be busy with, and that is legal.
_HUGE: Final = re.compile(
    r"\b(limit|top|by)[\s(+-]*\d[\d_]{4,}|\d[\d_.]*[eE]\+?\d|\d{5,}\s*percent"
)

_CHARACTERS: Final = [
    *"'\"()[],.;:*+-/%=<>!?$#@&|^~`{}\\ \t\r\n_09aZ",
    *"\0\x07\x0c\x1b\x7f\x85\u00a0\u00ad\u0130\u0131\u017f\u0301\u200b\u200e\u2028\u202e\u212a",
    *"\u2018\u201c\u2019\u2212\u2260\u3000\ufeff\uff07\uff11\u0661\u0967\u1d7d8\U0001f600",
    "\ud800", "\udfff", "ß", "ﬁ", "日本", "e\u0301", "''", '""', "--", "/*", "*/", "::", "->",
]  # fmt: skip
_KEYWORDS: Final = """
    select from where and or not in is null like ilike between group by having ungroup split order
    asc desc limit offset percent sample replace expand overlap union intersect except all as on
    using join inner left right full outer cross distinct top array true false isnull with case
    when then else end cast exists over"""
_FUNCTIONS: Final = """
    abs sqrt sum prod avg amin amax any all all_strict count shape nonzero l1_norm l2_norm linf_norm
    dot cosine_similarity hamming_distance maxsim bm25_similarity contains equals keys data random
    row_number max_weight sum_weight balanced logical_and logical_or axis"""
_WORDS: Final = [*_KEYWORDS.split(), *_FUNCTIONS.split()]
# What can stand for one another and leaves a text a query.
_GROUPS: Final = [
    ["and", "or"],
    ["asc", "desc"],
    ["union", "intersect", "except"],
    ["inner", "left", "right", "full"],
    ["like", "ilike", "==", "!=", "<", ">", "+", "%"],
    ["=", "<=", ">=", "<>", "==", "-", "in", "like"],
    ["+", "-", "*", "/", "%", "<"],
    ["limit", "offset"],
    _FUNCTIONS.split(),
]
_LITERALS: Final = [
    "0", "1", "-1", "2", "0.5", "-0.0", "1e308", "5e-324", "9223372036854775807",
    "-9223372036854775808", "9223372036854775808", "18446744073709551615", "2147483648", "true",
    "false", "''", "'a'", "'car'", "'%'", "'\\'", "'*'", "array[1]", "array[1, 2]",
    "array[array[1, 2], array[3, 4]]", "array['a']", "array[0.5]", "?", "$a", "null", "(1, 2)",
    "row_number()", "random()", "count(*)",
]  # fmt: skip


def tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def mutated(random: Random, corpus: Sequence[str], names: Sequence[str]) -> str:
    """One text of the corpus with one to four changes; `names` are columns to put in."""
    while True:
        text = random.choice(corpus)
        for _ in range(random.choice([1, 1, 1, 2, 2, 3, 4])):
            text = random.choice(_CHANGES)(random, text, corpus, names)
        if not _HUGE.search(text.lower()):
            return text[:LONGEST]


def _characters(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    """One to three characters removed, put in, replaced or swapped."""
    for _ in range(random.randint(1, 3)):
        at = random.randint(0, len(text))
        end = min(len(text), at + random.choice([0, 1, 1, 2, 5]))
        middle = random.choice(["", random.choice(_CHARACTERS), text[at:end][::-1]])
        text = text[:at] + middle + text[end:]
    return text


def _truncated(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    at = random.randint(0, len(text))
    return random.choice([text[:at], text[at:]])


def _fewer(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    parts = tokens(text)
    at = random.randint(0, len(parts))
    del parts[at : at + random.choice([1, 1, 1, 2, 4])]
    return "".join(parts)


def _more(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    """A stretch of tokens, twice or many times."""
    parts = tokens(text)
    at = random.randint(0, len(parts))
    stretch = parts[at : at + random.choice([1, 2, 3, 8])]
    times = random.choice([1, 1, 1, 2, 10, 60])
    return "".join(parts[:at] + ([" ", *stretch]) * times + parts[at:])


def _swapped(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    parts = tokens(text)
    if parts:
        i, j = random.randrange(len(parts)), random.randrange(len(parts))
        parts[i], parts[j] = parts[j], parts[i]
    return "".join(parts)


def _replaced(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    """A token of a kind by another of that kind, mostly."""
    parts = tokens(text)
    places = [i for i, part in enumerate(parts) if not part.isspace()]
    if not places:
        return text
    at = random.choice(places)
    if random.random() < 0.1:
        parts[at] = random.choice([*_WORDS, *_LITERALS, *names])
        return "".join(parts)
    same = next((group for group in _GROUPS if parts[at].lower() in group), None)
    if same is not None:
        parts[at] = random.choice(same)
    elif re.match(r"['\d]", parts[at]):
        parts[at] = random.choice([*_LITERALS, *names])
    elif re.match(r"[^\W\d]", parts[at]) and parts[at].lower() not in _WORDS:
        parts[at] = random.choice([*names, *names, *_LITERALS])
    return "".join(parts)


def _put_in(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    parts = tokens(text)
    at = random.randint(0, len(parts))
    return "".join(
        [*parts[:at], " ", random.choice([*_WORDS, *_LITERALS, *names]), " ", *parts[at:]]
    )


def _spliced(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    """The head of one query and the tail of another."""
    head, tail = tokens(text), tokens(random.choice(corpus))
    return "".join(
        [*head[: random.randint(0, len(head))], " ", *tail[random.randint(0, len(tail)) :]]
    )


def _wrapped(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    """A stretch of tokens nested in brackets, calls, signs or subqueries, up to too deep."""
    parts = tokens(text)
    at = random.randint(0, len(parts))
    end = min(len(parts), at + random.choice([1, 1, 3, 5, len(parts)]))
    opening, closing = random.choice(
        [("(", ")"), ("not ", ""), ("- ", ""), ("abs(", ")"), ("array[", "]"), ("", "[0]"),
         ("select * from (", ")"), ("(", ""), ("", ")"), ("[", "]"), ("'", "'"), ('"', '"'),
         ("sum(", ", 0)"), ("max_weight(", ": 1)")]
    )  # fmt: skip
    times = random.choice([1, 1, 1, 2, 3, 40, 190, 250])
    return "".join([*parts[:at], opening * times, *parts[at:end], closing * times, *parts[end:]])


def _joined(random: Random, text: str, corpus: Sequence[str], names: Sequence[str]) -> str:
    """Two queries as branches, as a subquery, or one after the other."""
    other = random.choice(corpus)
    word = random.choice([" union ", " union all ", " intersect ", " except ", "; ", "\n"])
    return random.choice(
        [f"{text}{word}{other}", f"({text}){word}({other})", f"select * from ({text}) {other[8:]}"]
    )


_CHANGES: Final[Sequence[Callable[[Random, str, Sequence[str], Sequence[str]], str]]] = (
    *[_replaced] * 16, _characters, _truncated, _fewer, _more, _swapped, _put_in, _spliced,
    _wrapped, _wrapped, _joined, _joined,
)  # fmt: skip
