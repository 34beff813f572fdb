"""Turn tql.lark into tables.py: `python -m tql.grammar.generate`.

The only importer of Lark. Importing Lark and building the tables costs 0.2 s, which no query should
pay, so the tables are written down once, as text that diffs; a test keeps them equal to the grammar.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

GRAMMAR: Final = Path(__file__).with_name("tql.lark")
TABLES: Final = Path(__file__).with_name("tables.py")

_HEADER = '''"""The LALR(1) tables of tql.lark. Written by `python -m tql.grammar.generate`; do not edit.

KEYWORDS    reserved words; terminals of the same name in upper case
TERMINALS   "NAME regex", in the order in which they are tried
IGNORED     regexes of what may stand between tokens
RULES       "left size action children": what a production is called and which of its symbols the
            tree builder gets: `2` the third, `~2` the third as a list to splice, `-` None.
            Action `=` hands its only child on, `*` makes a list.
STARTS      "symbol state"
STATES      "target symbol symbol ...; ...": shift or go to state `target`, or reduce rule `~target`
"""

from typing import Final

'''


def load(**options: Any) -> Any:
    """The grammar in Lark, with the options that make it TQL."""
    from lark import Lark

    text = GRAMMAR.read_text("utf-8")
    starts = ["statement", "weight"]
    return Lark(
        text, parser="lalr", lexer="basic", start=starts, maybe_placeholders=True, **options
    )


def tables() -> str:
    """The text of tables.py for the grammar as it is now."""
    lark = load()
    keywords, terminals = _terminals(lark)
    rules, starts, states = _automaton(lark.parser.parser._parse_table)
    ignored = [t.pattern.to_regexp() for t in lark.terminals if t.name in lark.ignore_tokens]
    sections = {
        "KEYWORDS": keywords,
        "TERMINALS": terminals,
        "IGNORED": sorted(ignored),
        "RULES": rules,
        "STARTS": starts,
        "STATES": states,
    }
    return _HEADER + "\n".join(
        "\n".join([f"{name}: Final = (", *(f"    {_quoted(row)}," for row in rows), ")\n"])
        for name, rows in sections.items()
    )


def _terminals(lark: Any) -> tuple[list[str], list[str]]:
    """Reserved words, and the other terminals in the order of Lark's basic lexer."""
    keywords, others = [], []
    for terminal in sorted(lark.terminals, key=_first_tried):
        word = re.fullmatch(r"([a-z]+)\\b", terminal.pattern.value)
        if word:
            assert terminal.name == word[1].upper(), terminal
            keywords.append(word[1])
        elif terminal.name not in lark.ignore_tokens:
            others.append(f"{terminal.name} {terminal.pattern.to_regexp()}")
    return sorted(keywords), others


def _first_tried(terminal: Any) -> tuple[int, int, int, str]:
    pattern = terminal.pattern
    return -terminal.priority, -pattern.max_width, -len(pattern.value), terminal.name


def _automaton(table: Any) -> tuple[list[str], list[str], list[str]]:
    """Rules, start states and states, numbered in the order in which a walk meets them.

    Lark numbers states in the order of a set of strings, which changes from run to run.
    """
    from lark.parsers.lalr_analysis import Shift

    names = sorted(table.start_states)
    seen = {table.start_states[name]: i for i, name in enumerate(names)}
    rules: dict[str, int] = {}
    rows = []
    queue = list(seen)
    for state in queue:
        targets: dict[int, list[str]] = {}
        for symbol, (action, argument) in sorted(table.states[state].items()):
            if action is Shift:
                if argument not in seen:
                    seen[argument] = len(seen)
                    queue.append(argument)
                target = seen[argument]
            else:
                target = ~rules.setdefault(_rule(argument), len(rules))
            targets.setdefault(target, []).append(symbol)
        if state in table.end_states.values():  # Lark stops there without a step for the end
            targets[seen[state]] = ["$END"]
        rows.append("; ".join(f"{t} {' '.join(symbols)}" for t, symbols in targets.items()))
    return list(rules), [f"{name} {seen[table.start_states[name]]}" for name in names], rows


def _rule(rule: Any) -> str:
    left = rule.origin.name
    children = list(_children(rule))
    if left.startswith("__"):
        action = "*"
    elif rule.alias or not (rule.options.expand1 and len(children) == 1):
        action = rule.alias or left
    else:
        action = "="
    return " ".join([left, str(len(rule.expansion)), action, *children])


def _children(rule: Any) -> Iterator[str]:
    """What Lark would put into the tree: punctuation left out, None for each absent [option]."""
    absent = rule.options.empty_indices or (False,) * len(rule.expansion)
    symbols = iter(enumerate(rule.expansion))
    for is_absent in absent:
        if is_absent:
            yield "-"
            continue
        i, symbol = next(symbols)
        if symbol.name.startswith("__"):
            yield f"~{i}"
        elif not (symbol.is_term and symbol.filter_out):
            yield str(i)


def _quoted(text: str) -> str:
    """A Python string literal as the formatter likes it."""
    plain = repr(text)
    return plain if '"' in text else '"' + plain[1:-1].replace("\\'", "'") + '"'


if __name__ == "__main__":
    TABLES.write_text(tables(), "utf-8")
