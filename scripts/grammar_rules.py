"""The rules of grammar/tql.lark as data, as EBNF, and as railroad diagrams.

The diagrams need the package railroad-diagrams (requirements/docs.txt); nothing else here does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias, assert_never

ROOT = Path(__file__).resolve().parents[1]
GRAMMAR = ROOT / "grammar" / "tql.lark"


@dataclass(frozen=True, slots=True)
class Word:
    """A reserved word, or a sign."""

    text: str


@dataclass(frozen=True, slots=True)
class Ref:
    """Another rule, or a token that is no fixed text."""

    name: str


@dataclass(frozen=True, slots=True)
class Many:
    """The parts in order (`choice` false) or one of them; never fewer than two."""

    choice: bool
    parts: tuple["Part", ...]


@dataclass(frozen=True, slots=True)
class Times:
    """The part once or not at all (?), any number of times (*), at least once (+)."""

    sign: str
    part: "Part"


Part: TypeAlias = Word | Ref | Many | Times


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    body: Part


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that stand together in the grammar file under one title."""

    title: str
    rules: tuple[Rule, ...]


_TITLE = re.compile(r"^// ---- (.*?) -+$")
_RULE = re.compile(r"^\??(\w+)\s*: (.*)$")
_TOKEN = re.compile(r'"[^"]*"|\w+|[|()\[\]*+?]|\s+')


def groups() -> tuple[Group, ...]:
    """The titled parts of the grammar that hold rules, in order."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in GRAMMAR.read_text("utf-8").splitlines():
        title, rule = _TITLE.match(line), _RULE.match(line)
        if title:
            found.append((title[1], []))
        elif rule and rule[1].islower():
            found[-1][1].append((rule[1], rule[2]))
        elif line.strip().startswith("|") and found and found[-1][1]:
            name, body = found[-1][1].pop()
            found[-1][1].append((name, f"{body} {line.strip()}"))
    words = _words()
    return tuple(
        Group(title, tuple(Rule(name, _parse(body, words)) for name, body in rules))
        for title, rules in found
        if rules
    )


def _words() -> dict[str, Part]:
    """What stands for a token of fixed text: the word in capitals, or the signs."""
    known: dict[str, Part] = {}
    for line in GRAMMAR.read_text("utf-8").splitlines():
        word = re.match(r"^([A-Z]+)(?:\.1)?: /([a-z]+)", line)
        signs = re.match(r'^([A-Z]+): ("[^"]+"(?: \| "[^"]+")*)$', line)
        if word:
            known[word[1]] = Word(word[1])
        elif signs:
            texts = tuple(Word(text) for text in re.findall(r'"([^"]+)"', signs[2]))
            known[signs[1]] = texts[0] if len(texts) == 1 else Many(True, texts)
    return known


def _parse(text: str, words: dict[str, Part]) -> Part:
    text = re.sub(r"->\s*\w+", "", text)  # names of tree nodes
    tokens = [t for t in _TOKEN.findall(text) if not t.isspace()]
    assert "".join(tokens) == re.sub(r"\s+", "", text), text
    tokens.reverse()  # the next one is the last

    def alternatives() -> Part:
        found = [sequence()]
        while tokens and tokens[-1] == "|":
            tokens.pop()
            found.append(sequence())
        return found[0] if len(found) == 1 else Many(True, tuple(found))

    def sequence() -> Part:
        found: list[Part] = []
        while tokens and tokens[-1] not in ("|", ")", "]"):
            found.append(item())
        return found[0] if len(found) == 1 else Many(False, tuple(found))

    def item() -> Part:
        token = tokens.pop()
        part: Part
        match token:
            case "(":
                part = alternatives()
                assert tokens.pop() == ")"
            case "[":
                part = Times("?", alternatives())
                assert tokens.pop() == "]"
            case _ if token.startswith('"'):
                part = Word(token.strip('"'))
            case _:
                part = words.get(token, Ref(token))
        while tokens and tokens[-1] in ("*", "+", "?"):
            part = Times(tokens.pop(), part)
        return part

    body = alternatives()
    assert not tokens, text
    return body


# -- EBNF --------------------------------------------------------------------------------------


def ebnf(rules: tuple[Rule, ...]) -> Iterator[str]:
    """Lines of EBNF: words and signs in quotes, ? * + after what they repeat."""
    widest = max(len(r.name) for r in rules)
    for rule in rules:
        alternatives = rule.body.parts if _is_choice(rule.body) else (rule.body,)
        lead = f"{rule.name:{widest}} ::= "
        for part in alternatives:
            yield lead + _shown(part, inside=False)
            lead = " " * (widest + 3) + "| "


def _is_choice(part: Part) -> bool:
    return isinstance(part, Many) and part.choice


def _shown(part: Part, inside: bool) -> str:
    match part:
        case Word(text):
            return f"'{text}'"
        case Ref(name):
            return name
        case Times(sign, inner):
            return _shown(inner, inside=True) + sign
        case Many(choice, parts):
            text = (" | " if choice else " ").join(_shown(p, inside=not choice) for p in parts)
            return f"({text})" if inside else text
        case _:
            assert_never(part)


# -- diagrams ----------------------------------------------------------------------------------

STYLE = """
svg.railroad-diagram { background-color: #fff; }
svg.railroad-diagram path { stroke-width: 2; stroke: #57606a; fill: none; }
svg.railroad-diagram text { font: 14px ui-monospace, Menlo, Consolas, monospace; text-anchor: middle; fill: #1f2328; }
svg.railroad-diagram rect { stroke-width: 1.5; stroke: #57606a; fill: #f6f8fa; }
svg.railroad-diagram g.terminal rect { fill: #ddf4ff; stroke: #0969da; }
"""


def mark(rule: Rule) -> str:
    """What the diagram of the rule carries, so that one of an older rule is recognised."""
    text = f"{rule.name} {_shown(rule.body, inside=False)}{STYLE}"
    return f"<!-- rule {blake2b(text.encode(), digest_size=8).hexdigest()} -->"


def has_diagram(rule: Rule) -> bool:
    """Rules that a line of EBNF says as well have none."""
    return sum(1 for _ in _leaves(rule.body)) > 2


def _leaves(part: Part) -> Iterator[Part]:
    match part:
        case Word() | Ref():
            yield part
        case Times(_, inner):
            yield from _leaves(inner)
        case Many(_, parts):
            for p in parts:
                yield from _leaves(p)
        case _:
            assert_never(part)


def svg(rule: Rule) -> str:
    """The diagram as a file of its own."""
    import io

    import railroad

    out = io.StringIO()
    railroad.Diagram(_drawn(rule.body, railroad), type="complex").writeStandalone(out.write, STYLE)
    return out.getvalue().rstrip() + "\n" + mark(rule) + "\n"


def _drawn(part: Part, railroad: Any) -> Any:
    match part:
        case Word(text):
            return railroad.Terminal(text)
        case Ref(name):
            return railroad.NonTerminal(name)
        case Times("?", inner):
            return railroad.Optional(_drawn(inner, railroad))
        case Times("*", inner):
            return railroad.ZeroOrMore(_drawn(inner, railroad))
        case Times(_, inner):
            return railroad.OneOrMore(_drawn(inner, railroad))
        case Many(True, parts):
            return railroad.Choice(0, *(_drawn(p, railroad) for p in parts))
        case Many(_, parts):
            return railroad.Sequence(*_sequence(parts, railroad))
        case _:
            assert_never(part)


def _sequence(parts: tuple[Part, ...], railroad: Any) -> Iterator[Any]:
    """`x ("," x)*` is drawn as a loop back through the comma."""
    at = 0
    while at < len(parts):
        match parts[at : at + 2]:
            case (first, Times("*", Many(False, (Word() as between, again)))) if again == first:
                yield railroad.OneOrMore(_drawn(first, railroad), _drawn(between, railroad))
                at += 2
            case _:
                yield _drawn(parts[at], railroad)
                at += 1
