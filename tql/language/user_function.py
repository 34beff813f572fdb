"""A Python function that queries may call: what it is called with, what it gives, what it is.

The digest stands for the function in fingerprints of views and plans. It covers the name, the
compiled code with its constants, defaults and captured values where they are plain (numbers,
text, bytes, None and tuples, lists, sets and dicts of these; others by type). It does not cover
globals and other functions that are called, and it differs between versions of Python.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

from tql.schema import DType


@dataclass(frozen=True, slots=True, repr=False)
class UserFunction:
    """A registered function.

    name       lower-case, as queries call it
    function   called once per row, or with whole arrays where `batch` is true
    fewest     how many arguments it takes at least; `most` None for any number
    signature  as errors show it
    returns    the type of what it gives; None to be tried out when a query is bound
    digest     see the module; it is what `repr` shows
    identity   tells apart two functions whose digests agree
    """

    name: str
    function: Callable[..., Any] = field(compare=False)
    fewest: int
    most: int | None
    signature: str
    returns: DType | None
    batch: bool
    digest: str
    identity: int

    def __repr__(self) -> str:
        return f"{self.name}#{self.digest}"


def digest_of(name: str, function: Callable[..., Any]) -> str:
    """12 hex digits that change when the function does; see the module for the limits."""
    digest = blake2b(name.encode(), digest_size=6)
    for part in _parts(function):
        digest.update(part.encode("utf-8", "backslashreplace"))
        digest.update(b"\0")
    return digest.hexdigest()


def _parts(function: Any) -> Iterator[str]:
    match function:
        case FunctionType():
            yield from _code(function.__code__)
            yield _shown(function.__defaults__)
            yield _shown(function.__kwdefaults__)
            for cell in function.__closure__ or ():
                try:
                    yield _shown(cell.cell_contents)
                except ValueError:  # a name that is not bound yet
                    yield "unbound"
        case MethodType():
            yield type(function.__self__).__qualname__
            yield from _parts(function.__func__)
        case partial():
            yield from _parts(function.func)
            yield _shown(function.args)
            yield _shown(function.keywords)
        case BuiltinFunctionType():
            yield f"{function.__module__}.{function.__qualname__}"
        case _:
            kind = function if isinstance(function, type) else type(function)
            yield f"{kind.__module__}.{kind.__qualname__}"
            yield str(getattr(function, "__name__", ""))
            call = vars(kind).get("__call__")
            if isinstance(call, FunctionType):
                yield from _code(call.__code__)


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield _shown(constant)


def _shown(value: Any) -> str:
    """A plain value as text that is the same in every process; the type of any other."""
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes():
            return repr(value)
        case tuple() | list():
            return f"{type(value).__name__}({', '.join(map(_shown, value))})"
        case set() | frozenset():
            return f"set({', '.join(sorted(map(_shown, value)))})"
        case dict():
            return f"dict({', '.join(f'{_shown(k)}: {_shown(v)}' for k, v in value.items())})"
        case FunctionType():
            return " ".join(_parts(value))
        case _:
            return f"<{type(value).__module__}.{type(value).__qualname__}>"
