"""docs/language.md from docs/src/language.md: examples with their answers, functions, grammar.

A line `<!-- NAME -->` of the source is replaced by a part made here (PARTS). A block that begins
with ```tql is run over demo:photos, or over the data set named behind it, and its answer put
below it; ```tql error shows the message of a query that cannot be. A first line
`-- params: JSON` gives parameters.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tql
from scripts import grammar_rules
from tql.language.functions import Function
from tql.reports.manual import functions, shown
from tql.schema import Column, Json, Label

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs" / "src" / "language.md"
PAGE = ROOT / "docs" / "language.md"
DIAGRAMS = ROOT / "docs" / "diagrams"

_BLOCK = re.compile(r"^```tql( \S+)?\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_PART = re.compile(r"^<!-- (\w+) -->\n", re.MULTILINE)
_MOST_ROWS = 8
_HEAD = "<!-- Written by `python -m scripts.make_language_page` from docs/src/language.md; do not edit. -->\n\n"


def page() -> str:
    """The whole page; every example is run."""
    text = _PART.sub(lambda m: PARTS[m[1]](), SOURCE.read_text("utf-8"))
    text = _BLOCK.sub(lambda m: answered(m[1], m[2]), text)
    return _HEAD + text.replace("<!-- contents -->", contents(text))


def blocks() -> list[tuple[str | None, str]]:
    """The examples of the source: what stands behind ```tql, and the text of the block."""
    return [(m[1], m[2]) for m in _BLOCK.finditer(SOURCE.read_text("utf-8"))]


# -- examples ----------------------------------------------------------------------------------


def answered(option: str | None, block: str) -> str:
    """The block and its answer."""
    chosen = (option or "").strip()
    query, params = block, None
    if block.startswith("-- params: "):
        first, query = block.split("\n", 1)
        params = json.loads(first.removeprefix("-- params: "))
    source = tql.open(chosen if chosen.startswith("demo:") else "demo:photos")
    try:
        view = source.query(query, params)
        answer = as_table(view)
    except tql.TqlError as e:
        if chosen != "error":
            raise
        answer = f"```text\n{e}\n```\n"
    else:
        assert chosen != "error", f"this is no error:\n{query}"
    return f"```sql\n{block}```\n\n{answer}"


def as_table(view: tql.View) -> str:
    """The first rows of a result in Markdown."""
    names = [c.name for c in view.schema]
    shown_rows = view[:_MOST_ROWS].to_arrow().to_pylist()
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(_cell(row[c.name], c) for c in view.schema)} |" for row in shown_rows]
    if len(view) > _MOST_ROWS:
        lines.append(f"\nand {len(view) - _MOST_ROWS:,} more rows")
    return "\n".join(lines) + "\n" if shown_rows else "No row.\n"


def _cell(value: Any, column: Column) -> str:
    if isinstance(column.dtype, Label) and value is not None:
        text = column.dtype.names[value]
    elif isinstance(column.dtype, Json) and isinstance(value, str):
        text = value
    else:
        text = _value(value)
    return text.replace("|", "\\|")


def _value(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}" if value != value or value % 1 else f"{value:.1f}"
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return str(value)


# -- parts -------------------------------------------------------------------------------------


def contents(text: str) -> str:
    """Links to the headings of the second level."""
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    return " · ".join(f"[{head}](#{_anchor(head)})" for head in heads)


def _anchor(head: str) -> str:
    return re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")


def function_table() -> str:
    """Every function in a line."""
    lines = ["| function | result | meaning |", "|---|---|---|"]
    lines += [
        f"| [`{_escaped(f.signature)}`](#{f.name}) | {f.result} | {f.meaning} |"
        for f in functions()
    ]
    return "\n".join(lines) + "\n"


def function_entries() -> str:
    """Every function in full."""
    return "\n".join(map(_entry, functions()))


def _entry(f: Function) -> str:
    usual = Function._field_defaults["nulls"]  # said once, above all entries
    rows = [
        ("takes", f.takes),
        ("gives", f.result),
        ("NULL", "" if f.nulls == usual else f.nulls),
        ("special", f.special),
        ("axis", "`axis = n`, or as the last argument" if f.axis else ""),
    ]
    assert f.example is not None, f"{f.name}() has no example"
    source = "" if f.example.source == "demo:photos" else f"-- over {f.example.source}\n"
    lines = [
        f"#### {f.name}", "", f"`{f.signature}`: {f.meaning}.", "",
        *(f"* **{label}**: {text}" for label, text in rows if text), "",
        f"```sql\n{source}{f.example.query}\n-- {shown(f.example)}\n```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def grammar() -> str:
    """Every rule as EBNF, and diagrams of those that are not plain."""
    lines: list[str] = []
    for group in grammar_rules.groups():
        lines += [f"### {group.title.capitalize()}", "", "```ebnf"]
        lines += [*grammar_rules.ebnf(group.rules), "```", ""]
        drawn = [r for r in group.rules if grammar_rules.has_diagram(r)]
        lines += ["<details><summary>The same as diagrams</summary>", ""]
        for rule in drawn:
            lines += [f"**{rule.name}**", "", f"![{rule.name}](diagrams/{rule.name}.svg)", ""]
        lines += ["</details>", ""]
    return "\n".join(lines)


def keywords() -> str:
    """The reserved words."""
    return ", ".join(f"`{word.upper()}`" for word in tql.keywords()) + ".\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


PARTS: dict[str, Callable[[], str]] = {
    "function_table": function_table,
    "function_entries": function_entries,
    "grammar": grammar,
    "keywords": keywords,
    "contents": lambda: "<!-- contents -->\n",
}


def drawn_rules() -> Iterator[grammar_rules.Rule]:
    """The rules that have a diagram."""
    for group in grammar_rules.groups():
        yield from filter(grammar_rules.has_diagram, group.rules)
