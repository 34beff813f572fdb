"""Each function once: its name, its signature, what it means, and how its call is typed.

`tql functions`, the binder's arity errors and the suggestions for misspelt names come from this
table. Functions that the language has and this version has not are listed in `LATER`, so that
they are never mistaken for misspellings.
"""

from typing import Final

from tql.language.functions.arrays import ARRAYS
from tql.language.functions.function import Arguments, Example, Function, check_arity
from tql.language.functions.json import JSON
from tql.language.functions.rows import ROWS
from tql.language.functions.scalars import SCALARS
from tql.language.functions.vectors import VECTORS
from tql.language.functions.weights import WEIGHTS

__all__ = [
    "FUNCTIONS",
    "LATER",
    "Arguments",
    "Example",
    "Function",
    "check_arity",
    "instead_of",
    "known_names",
]

FUNCTIONS: Final = {
    f.name: f
    for f in sorted((*ARRAYS, *JSON, *ROWS, *SCALARS, *VECTORS, *WEIGHTS), key=lambda f: f.name)
}

LATER: Final = frozenset(["bm25_similarity", "data"])


def instead_of(name: str) -> str:
    """What to do while the function of `LATER` is missing."""
    match name:
        case "data":
            return "pass the value as a parameter"
        case _:
            return "work it out before, and store it as a column of its own"


def known_names() -> tuple[str, ...]:
    """Names to suggest for a function that does not exist."""
    return (*FUNCTIONS, *sorted(LATER))
