"""Each function once: its name, its signature, what it means, and how its call is typed.

`tql functions`, the binder's arity errors and the suggestions for misspelt names come from this
table.
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
    "Arguments",
    "Example",
    "Function",
    "check_arity",
    "known_names",
]

FUNCTIONS: Final = {
    f.name: f
    for f in sorted((*ARRAYS, *JSON, *ROWS, *SCALARS, *VECTORS, *WEIGHTS), key=lambda f: f.name)
}


def known_names() -> tuple[str, ...]:
    """Names to suggest for a function that does not exist."""
    return tuple(FUNCTIONS)
