"""Going through expressions: their parts, what they read, and rewriting them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final, assert_never

from tql.language.expr.nodes import (
    And,
    Arith,
    Arm,
    Balanced,
    Bm25Score,
    Call,
    Column,
    Compare,
    CompareText,
    CompareTimes,
    Const,
    Elementwise,
    Expr,
    InSet,
    IsNull,
    JsonAs,
    JsonCompare,
    JsonItem,
    Not,
    Once,
    Or,
    Slice,
    Slot,
    StoredValue,
    Subscript,
    TextTest,
    Truth,
    UserCall,
    WeightCase,
)
from tql.language.expr.symbols import CallName


def children(e: Expr) -> tuple[Expr, ...]:
    """The direct operands of `e`, from left to right."""
    match e:
        case Column() | Const() | Slot() | StoredValue():
            return ()
        case Not(operand) | IsNull(operand) | Truth(operand) | JsonAs(operand) | Balanced(operand):
            return (operand,)
        case TextTest(operand) | InSet(operand) | Bm25Score(operand):
            return (operand,)
        case Elementwise(operands):
            return operands
        case Subscript(operand, subscripts):
            return (operand, *_parts(subscripts))
        case JsonItem(operand, key):
            return (operand, key)
        case Once(operand, body):
            return (operand, body)
        case And(terms) | Or(terms):
            return terms
        case Compare(_, left, right) | CompareText(_, left, right) | Arith(_, left, right):
            return (left, right)
        case JsonCompare(_, left, right) | CompareTimes(_, left, right):
            return (left, right)
        case Call(_, arguments) | UserCall(_, arguments):
            return arguments
        case WeightCase(_, arms):
            return tuple(part for arm in arms for part in (arm.condition, arm.weight))
        case _:
            assert_never(e)


def _parts(subscripts: tuple[Expr | Slice, ...]) -> Iterator[Expr]:
    for s in subscripts:
        yield from s.parts if isinstance(s, Slice) else (s,)


def _with_parts(
    subscripts: tuple[Expr | Slice, ...], new: Iterator[Expr]
) -> Iterator[Expr | Slice]:
    for s in subscripts:
        match s:
            case Slice(start, stop, step):
                yield Slice(*(None if p is None else next(new) for p in (start, stop, step)))
            case _:
                yield next(new)


def walk(e: Expr) -> Iterator[Expr]:
    """`e` and everything below it, parents first; not the bodies of what is done by element."""
    yield e
    for child in children(e):
        yield from walk(child)


def walk_inside(e: Expr) -> Iterator[Expr]:
    """As `walk`, and the bodies of what is done by element."""
    for node in walk(e):
        yield node
        if isinstance(node, Elementwise):
            yield from walk_inside(node.body)


def columns_of(e: Expr) -> frozenset[str]:
    """Names of the columns that `e` reads."""
    return frozenset(n.name for n in walk(e) if isinstance(n, Column))


def rewrite(e: Expr, rule: Callable[[Expr], Expr]) -> Expr:
    """Apply `rule` to every node, children first; the same object where nothing changed."""
    before = children(e)
    after = tuple(rewrite(c, rule) for c in before)
    if any(a is not b for a, b in zip(after, before, strict=True)):
        e = with_children(e, after)
    return rule(e)


def with_children(e: Expr, new: tuple[Expr, ...]) -> Expr:
    """`e` with other operands, in the order of `children`."""
    match e:
        case And() | Or():
            return replace(e, terms=new)
        case Call() | UserCall():
            return replace(e, arguments=new)
        case WeightCase():
            pairs = zip(new[::2], new[1::2], strict=True)
            return replace(e, arms=tuple(Arm(c, w) for c, w in pairs))
        case Not() | IsNull() | Truth() | TextTest() | InSet() | JsonAs() | Balanced():
            return replace(e, operand=new[0])
        case Bm25Score():
            return replace(e, operand=new[0])
        case Compare() | CompareText() | CompareTimes() | Arith() | JsonCompare():
            return replace(e, left=new[0], right=new[1])
        case Elementwise():
            return replace(e, operands=new)
        case Subscript(_, subscripts):
            kept = tuple(_with_parts(subscripts, iter(new[1:])))
            return replace(e, operand=new[0], subscripts=kept)
        case JsonItem():
            return replace(e, operand=new[0], key=new[1])
        case Once():
            return replace(e, operand=new[0], body=new[1])
        case Column() | Const() | Slot() | StoredValue():
            return e
        case _:
            assert_never(e)


def substitute(e: Expr, known: Mapping[str, Expr]) -> Expr:
    """`e` with each column replaced by the expression of that name."""
    return rewrite(e, lambda n: known[n.name] if isinstance(n, Column) else n)


def unfolded(once: Once) -> Expr:
    """The body, with the operand itself wherever it is named."""
    return _filled(once.body, once.operand)


def _filled(body: Expr, operand: Expr) -> Expr:
    match body:
        case Slot():
            return operand
        case Once(inner, rest):  # whose slot is its own
            return with_children(body, (_filled(inner, operand), rest))
        case _:
            before = children(body)
            after = tuple(_filled(c, operand) for c in before)
            changed = any(a is not b for a, b in zip(after, before, strict=True))
            return with_children(body, after) if changed else body


def unfolds_small(once: Once) -> bool:
    """Whether few nodes are left where this, and all like it within, are unfolded: ten of them within
    each other are a thousand copies of the innermost operand.
    """
    return _written_out(once)[0] <= LARGEST_MERGED


def _written_out(e: Expr) -> tuple[int, int]:
    """How many nodes there would be, and how often the operand of a `Once` around `e` would be named."""
    match e:
        case Slot():
            return 0, 1
        case Once(operand, body):
            (nodes, named), (inner, around) = _written_out(body), _written_out(operand)
            return nodes + named * inner, named * around
        case _:
            parts = [_written_out(c) for c in children(e)]
            return 1 + sum(n for n, _ in parts), sum(n for _, n in parts)


LARGEST_MERGED = 500  # nodes; merging x + x over x + x … would double with every level


def is_small(e: Expr, most: int = LARGEST_MERGED) -> bool:
    """Whether `e` has at most that many nodes, counted as the tree it is walked as."""
    return next(islice(walk(e), most, None), None) is None


def is_positional(e: Expr) -> bool:
    """Whether the value depends on where in FROM a row stands."""
    return any(isinstance(n, Call) and n.function in _POSITIONAL for n in walk(e))


def needs_source(e: Expr) -> bool:
    """Whether a call in it can be evaluated only once FROM is known as a whole."""
    return any(isinstance(n, Call) and n.function in _OF_THE_SOURCE for n in walk(e))


_POSITIONAL: Final[frozenset[CallName]] = frozenset(["random", "row_number"])
_OF_THE_SOURCE: Final[frozenset[CallName]] = frozenset(["data", "bm25_similarity"])
