"""The registered functions: who may be one, and how its call is typed.

A query sees the functions as they are when it is bound: registering, replacing or removing one
changes no query, view or loader that exists.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from tql.diagnostics import Span, did_you_mean, error
from tql.forks import ForkLock
from tql.grammar.tokens import is_bare_name
from tql.language import functions
from tql.language.expr import Expr, UserCall
from tql.language.plan import Leaf
from tql.language.user_function import UserFunction, digest_of
from tql.schema import Bool, DType, Float, Int, Text

# The type of what a function gives for arguments over a leaf (None: the data asked), found by
# calling it on the first rows.
TryOut: TypeAlias = Callable[[Leaf | None, UserFunction, tuple[Expr, ...], Span], DType]

_LOCK: Final = ForkLock()
_KNOWN: Final[dict[str, UserFunction]] = {}  # replaced and read under the lock, never iterated


def register(
    function: Callable[..., Any], name: str | None = None, *, returns: Any = None, batch: bool = False
) -> UserFunction:  # fmt: skip
    """Make `function` known to queries under `name`; see `tql.register_function`."""
    if not callable(function):
        raise error("type", f"a {type(function).__name__} is no function",
                    help="give something that can be called")  # fmt: skip
    name = _name(function, name)
    takes = _arguments(function, name)
    result = None if returns is None else returned_type(returns)
    made = UserFunction(
        name, function, takes.fewest, takes.most, f"{name}({', '.join(takes.names)})", result,
        bool(batch), digest_of(name, function), id(function),
    )  # fmt: skip
    with _LOCK:
        _KNOWN[name] = made
    return made


def unregister(name: str) -> None:
    """Forget the function of this name; queries that are bound keep it."""
    with _LOCK:
        gone = _KNOWN.pop(str(name).lower(), None)
        left = list(_KNOWN)
    if gone is None:
        raise error("unknown_function", f"no function was registered as {name!r}",
                    help=did_you_mean(str(name), left)
                    or f"registered are: {', '.join(left) or 'none'}")  # fmt: skip


def registered() -> Mapping[str, UserFunction]:
    """The functions as they are now."""
    with _LOCK:
        return MappingProxyType(dict(_KNOWN))


def _name(function: Any, given: str | None) -> str:
    name = getattr(function, "__name__", None) if given is None else given
    if given is None and (name is None or name == "<lambda>"):
        what = "a lambda" if name else f"a {type(function).__name__}"
        raise error("value", f"{what} has no name that a query could use",
                    help="register_function(fn, 'name')")  # fmt: skip
    if not isinstance(name, str):
        raise error("type", f"a function's name is text, not {name!r}",
                    help="register_function(fn, 'name')")  # fmt: skip
    if not is_bare_name(name) or not re.fullmatch(r"\w+", name):
        raise error("value", f"{name!r} cannot be the name of a function in a query",
                    help="use letters, digits and _, and no reserved word")  # fmt: skip
    if name.lower() in functions.known_names():
        raise error("value", f"{name.lower()}() is a function of the language",
                    help="register yours under another name")  # fmt: skip
    return name.lower()


class _Takes(NamedTuple):
    """How many positional arguments, and what they are called."""

    fewest: int
    most: int | None
    names: tuple[str, ...]


def _arguments(function: Callable[..., Any], name: str) -> _Takes:
    if isinstance(function, np.ufunc):
        return _Takes(function.nin, function.nin, tuple(f"x{n + 1}" for n in range(function.nin)))
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C, and silent about what it takes
        return _Takes(0, None, ("…",))
    fewest, most, names = 0, 0, list[str]()
    for p in given:
        optional = p.default is not p.empty
        match p.kind:
            case p.POSITIONAL_ONLY | p.POSITIONAL_OR_KEYWORD:
                most += 1
                fewest += not optional
                names.append(f"[{p.name}]" if optional else p.name)
            case p.VAR_POSITIONAL:
                return _Takes(fewest, None, (*names, "…"))
            case p.KEYWORD_ONLY if not optional:
                raise error("value", f"{name}() cannot be called without {p.name}=",
                            help="a query gives arguments by position alone: give it a default")  # fmt: skip
    return _Takes(fewest, most, tuple(names))


def returned_type(returns: Any) -> DType:
    """The column type that `returns=` or a NumPy dtype means."""
    if returns is str or (isinstance(returns, str) and returns in ("text", "str")):
        return Text()
    try:
        found = np.dtype(returns)
    except TypeError:
        found = np.dtype(object)
    match found.kind, found.itemsize:
        case "b", _:
            return Bool()
        case "i" | "u", size:
            return Int(8 * size, found.kind == "i")
        case "f", (2 | 4 | 8) as size:
            return Float(8 * size)
        case "U", _:
            return Text()
        case _:
            raise error("type", f"returns={returns!r} is no type of a column",
                        help="give a NumPy dtype of numbers or bools, 'bool' or 'text'")  # fmt: skip


def never_tried(
    leaf: Leaf | None, function: UserFunction, arguments: tuple[Expr, ...], span: Span
) -> DType:
    """Where there is no data to try a function on."""
    raise error("type", f"what {function.name}() gives cannot be tried out here", span,
                help="say it when registering: register_function(fn, returns='float64')")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Users:
    """The functions that one query may call, and how their calls over `leaf` are typed."""

    known: Mapping[str, UserFunction] = field(default_factory=registered)
    try_out: TryOut = never_tried
    leaf: Leaf | None = None

    def over(self, leaf: Leaf) -> "Users":
        """The same functions, called with columns of `leaf`."""
        return replace(self, leaf=leaf)

    def call(self, function: UserFunction, arguments: tuple[Expr, ...], span: Span) -> UserCall:
        """The typed call; arity and type errors are raised here."""
        given = len(arguments)
        if given < function.fewest or (function.most is not None and given > function.most):
            most = function.most
            expected = (
                f"{function.fewest} or more" if most is None
                else str(most) if most == function.fewest else f"{function.fewest} to {most}"
            )  # fmt: skip
            noun = "argument" if expected == "1" else "arguments"
            raise error(
                "arity", f"{function.name}() takes {expected} {noun}, not {given}", span,
                help=f"write {function.signature}",
            )  # fmt: skip
        dtype = function.returns or self.try_out(self.leaf, function, arguments, span)
        return UserCall(function, arguments, dtype, span=span)
