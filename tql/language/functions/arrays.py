"""Functions of the array that a row has; a scalar counts as an array of one (reference §12)."""

from typing import Final

from tql.language.functions.function import Function

ARRAYS: Final[tuple[Function, ...]] = ()
