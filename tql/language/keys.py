"""Keys of ORDER BY, GROUP BY and DISTINCT ON: what all three refuse."""

from tql.diagnostics import error
from tql.grammar import syntax as s
from tql.grammar.walk import walk
from tql.language.expr import Const, Expr


def refuse_constant(clause: str, code: str, key: Expr, written: s.Expr) -> None:
    """An error where the key is written as a constant, which SQL would read as a position.

    What names a column is none, also where its type alone decides it: `u8 >= 0`.
    """
    if isinstance(key, Const) and not any(isinstance(n, s.Name) for n in walk(written)):
        raise error(code, f"{clause} needs an expression of the row, not a constant", key.span,
                    help="name the column: positions are not used here")  # fmt: skip
