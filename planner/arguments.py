"""Arguments that people give, checked: whole numbers and choices between yes and no."""

from contextlib import suppress
from operator import index
from typing import Any, Final

import numpy as np

from tql.diagnostics import error

_MOST_BITS: Final = 128  # what a seed may have; a count is held to far less where it is used


def whole(name: str, value: Any) -> int:
    """`value` as a Python integer; NumPy's are taken, booleans are not."""
    if isinstance(value, bool | np.bool_):
        raise _no_integer(name, value)
    number = None
    with suppress(TypeError):
        number = index(value)
    if number is None:
        raise _no_integer(name, value)
    if number.bit_length() > _MOST_BITS:  # Python refuses to print the largest of them
        raise error(
            "range",
            f"{name} is a number of {number.bit_length()} bits",
            help=f"give {name} as an integer of at most {_MOST_BITS} bits",
        )
    return number


def count(name: str, value: Any) -> int:
    """`value` as a Python integer from 0 on."""
    number = whole(name, value)
    if number < 0:
        raise error("value", f"{name} {number}", help=f"{name}s are counted from 0")
    return number


def yes_or_no(name: str, value: Any) -> bool:
    """`value` as a Python boolean; neither numbers nor texts are taken for one."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise error("type", f"{name} {value!r} is neither True nor False", help=f"give {name}=True")


def _no_integer(name: str, value: Any) -> Exception:
    return error(
        "type", f"{name} {value!r} is not a whole number", help=f"give {name} as an integer"
    )
