"""Every node of a query as written."""

from collections.abc import Iterator
from typing import Any

from tql.grammar import syntax as s


def walk(tree: s.Node) -> Iterator[s.Node]:
    """`tree` and every node below it, in no particular order; without recursion, since generated
    filters nest and chain deep.
    """
    waiting: list[Any] = [tree]
    while waiting:
        match waiting.pop():
            case tuple() as several:
                waiting += several
            case s.Node() as node:
                yield node
                waiting += (getattr(node, name) for name in node.__dataclass_fields__)
            case _:
                pass  # a name, a number, a flag
