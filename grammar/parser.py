"""From text to tree: a LALR(1) automaton that runs the tables of tql.lark.

Nothing recurses, so no text can exhaust the stack. Lark builds the tables (see `generate`) and does
not run here: importing it and building them takes 0.2 s, and its loop 1 s for 10,000 list items.
"""

from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Final, cast

from tql.diagnostics import Span, error
from tql.grammar import hints, syntax, tables
from tql.grammar.build import DEPTH, Builder
from tql.grammar.tokens import Tokens, keywords, tokenize
from tql.stack import make_room

__all__ = ["forget", "keywords", "parse", "parse_weight"]

LARGEST_TEXT: Final = 1 << 20  # bytes of UTF-8
KEPT_TEXT: Final = 2000  # characters of a text of which the tree, or more, is kept
DEEPEST: Final = 200  # open brackets, and levels of the tree


def parse(text: str) -> syntax.Query:
    """The tree of one query, of which `;` may be the end."""
    # Trees never change, so a query that is asked again need not be read again.
    return _parsed(text) if len(text) <= KEPT_TEXT else _statement(text)


def _statement(text: str) -> syntax.Query:
    return cast(syntax.Query, _parse(text, "statement"))


_parsed: Final = lru_cache(maxsize=256)(_statement)


def forget() -> None:
    """Keep no tree of what was parsed; what parsing takes is measured so."""
    _parsed.cache_clear()


def parse_weight(text: str) -> syntax.Expr:
    """The tree of what follows SAMPLE BY: `max_weight(labels == 5: 10)`, or any expression."""
    return cast(syntax.Expr, _parse(text, "weight"))


def _check_unicode(text: str) -> None:
    """A syntax error for half of a surrogate pair, which no text outside Python can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise error(
            "syntax",
            f"character {e.start + 1} is half a surrogate pair, not text",
            Span(e.start, e.start + 1),
            help="the query was not decoded as UTF-8",
        ) from None


@dataclass(frozen=True, slots=True)
class _Rule:
    left: str
    size: int
    action: str
    children: tuple[int | None, ...]  # as in tables.RULES; ~i is a list to splice
    depth: int
    is_unit: bool  # hands the value of its only symbol on


@dataclass(frozen=True, slots=True)
class _Automaton:
    """`states[q][symbol]` is the state to go to, or `~r` to reduce `rules[r]`.

    `shortcuts` remembers where runs of unit rules end: (state below, state, next symbol) → state.
    An operand goes up through all levels of precedence, so these are most of the steps.
    """

    rules: tuple[_Rule, ...]
    states: tuple[dict[str, int], ...]
    starts: dict[str, int]
    shortcuts: dict[tuple[int, int, str], int] = field(default_factory=dict)

    def above_units(self, below: int, state: int, symbol: str) -> int:
        """The state after all unit rules that `symbol` calls for in `state`, over `below`."""
        key = below, state, symbol
        while (target := self.states[state].get(symbol)) is not None and target < 0:
            rule = self.rules[~target]
            if not rule.is_unit:
                break
            state = self.states[below][rule.left]
        self.shortcuts[key] = state
        return state


def _parse(text: str, start: str) -> Any:
    size = len(text.encode("utf-8", "surrogatepass"))
    _check_unicode(text)
    if size > LARGEST_TEXT:
        raise error(
            "syntax",
            f"a text of {size:,} bytes; at most {LARGEST_TEXT:,} are allowed",
            help="pass long lists as parameters: where id in $ids",
        )
    tokens = tokenize(text)
    _check_brackets(tokens)
    return _run(_automaton(), tokens, start)


def _check_brackets(tokens: Tokens) -> None:
    """At most DEEPEST open brackets, redundant ones included, which leave no trace in the tree."""
    kinds = tokens.kinds
    if kinds.count("LPAR") + kinds.count("LSQB") <= DEEPEST:
        return
    depth = 0
    for i, kind in enumerate(kinds):
        if kind in ("LPAR", "LSQB"):
            depth += 1
            if depth > DEEPEST:
                raise _too_deep(tokens, tokens.span(i))
        elif kind in ("RPAR", "RSQB"):
            depth -= 1


def _too_deep(tokens: Tokens, span: Span) -> Exception:
    return error(
        "syntax",
        f"nested deeper than {DEEPEST} levels",
        span,
        help="use a list (x in (…)), a parameter, or a chain of 'and' or 'or', which may be long",
        query=tokens.text,
    )


def _run(automaton: _Automaton, tokens: Tokens, start: str) -> Any:
    """The value of the start symbol.

    Four stacks in step: states (one more), values, spans as starts and stops, depths of trees.
    """
    rules, rows, text = automaton.rules, automaton.states, tokens.text
    shortcuts = automaton.shortcuts
    builder = Builder(text)
    states = [automaton.starts[start]]
    values: list[Any] = []
    starts: list[int] = []
    stops: list[int] = []
    depths: list[int] = []
    for i, kind in enumerate(tokens.kinds):
        while (target := rows[states[-1]].get(kind)) is None or target < 0:
            if target is None:
                raise hints.syntax_error(tokens, i, _expected(automaton, tokens, i, start))
            rule = rules[~target]
            if rule.is_unit:
                below, state = states[-2:]
                known = shortcuts.get((below, state, kind))
                states[-1] = automaton.above_units(below, state, kind) if known is None else known
                continue
            base = len(values) - rule.size
            span = Span(starts[base], stops[-1], text)
            depth = max(depths[base:]) + rule.depth
            if depth > DEEPEST:
                raise _too_deep(tokens, span)
            value = _reduce(builder, rule, span, values[base:])
            del states[base + 1 :], values[base:], starts[base:], stops[base:], depths[base:]
            states.append(rows[states[-1]][rule.left])
            values.append(value)
            starts.append(span.start)
            stops.append(span.stop)
            depths.append(depth)
        states.append(target)
        values.append(text[tokens.starts[i] : tokens.stops[i]])
        starts.append(tokens.starts[i])
        stops.append(tokens.stops[i])
        depths.append(0)
    make_room(max(depths))
    return values[0]


def _reduce(builder: Builder, rule: _Rule, span: Span, symbols: list[Any]) -> Any:
    if rule.action == "*" and rule.children[0] == ~0:  # a list grows in place
        items = symbols[0]
        rest = rule.children[1:]
    else:
        items = []
        rest = rule.children
    for child in rest:
        if child is None:
            items.append(None)
        elif child >= 0:
            items.append(symbols[child])
        else:
            items.extend(symbols[~child])
    match rule.action:
        case "*":
            return items
        case "=":
            return items[0]
        case _:
            return getattr(builder, rule.action)(span, *items)


def _expected(automaton: _Automaton, tokens: Tokens, failed: int, start: str) -> frozenset[str]:
    """The terminals that could stand where token `failed` stands.

    Run again without building: on its way to the error the automaton may have reduced what another
    token would have continued.
    """
    states = [automaton.starts[start]]
    for kind in tokens.kinds[:failed]:
        assert _shift(automaton, states, kind)
    candidates = {symbol for row in automaton.states for symbol in row if symbol.isupper()}
    return frozenset(c for c in candidates if _shift(automaton, states.copy(), c))


def _shift(automaton: _Automaton, states: list[int], kind: str) -> bool:
    """Feed one token to a stack of states; False if it does not fit."""
    while (target := automaton.states[states[-1]].get(kind)) is not None:
        if target >= 0:
            states.append(target)
            return True
        rule = automaton.rules[~target]
        del states[len(states) - rule.size :]
        states.append(automaton.states[states[-1]][rule.left])
    return False


@cache
def _automaton() -> _Automaton:
    rules = []
    for left, size, action, *children in (row.split() for row in tables.RULES):
        picks = tuple(_child(c) for c in children)
        is_unit = action == "=" and size == "1"
        rules.append(_Rule(left, int(size), action, picks, DEPTH.get(action, 0), is_unit))
    states = []
    for row in tables.STATES:
        targets = (group.split() for group in row.split("; "))
        states.append({symbol: int(target) for target, *symbols in targets for symbol in symbols})
    starts = {name: int(q) for name, q in (row.split() for row in tables.STARTS)}
    return _Automaton(tuple(rules), tuple(states), starts)


def _child(text: str) -> int | None:
    if text == "-":
        return None
    return ~int(text[1:]) if text.startswith("~") else int(text)
