"""The functions of the language for people and programs: one line each, one in full, as JSON."""

from collections.abc import Iterable
from textwrap import wrap
from typing import Any, Final

from tql.diagnostics import did_you_mean, error
from tql.language import other_names
from tql.language.functions import FUNCTIONS, Example, Function

VERSION: Final = 1
_LABELS: Final = 10  # cells before the text of a part


def functions() -> tuple[Function, ...]:
    """Every function, by name."""
    return tuple(FUNCTIONS.values())


def function_named(name: str) -> Function:
    """The function of this name, in any case; an error with the nearest name if there is none."""
    found = FUNCTIONS.get(name.lower().removesuffix("()"))
    if found is None:
        raise error(
            "unknown_function", f"no function named {name!r}",
            help=other_names.FUNCTIONS.get(name.lower())
            or did_you_mean(name.lower(), FUNCTIONS)
            or "tql functions  lists them all",
        )  # fmt: skip
    return found


def as_lines(many: Iterable[Function], columns: int) -> list[str]:
    """A table of so many columns: signature and meaning."""
    rows = [("function", "meaning"), *((f.signature, f.meaning) for f in many)]
    start = max(len(signature) for signature, _ in rows) + 2
    lines = []
    for signature, meaning in rows:
        first, *more = wrap(meaning, columns - start)
        lines.append(f"{signature:{start}}{first}")
        lines += [" " * start + line for line in more]
    return lines


def in_full(f: Function, columns: int) -> list[str]:
    """Everything about one function."""
    parts = [
        ("takes", f.takes or "nothing"),
        ("result", f.result),
        ("NULL", f.nulls),
        ("special", f.special),
        ("axis", "axis = n, or the last argument; negative counts from the end" if f.axis else ""),
        ("compiled", _compiled(f)),
    ]
    lines = [f.signature, *(f"  {line}" for line in wrap(f.meaning, columns - 2)), ""]
    for label, text in parts:
        if text:
            first, *more = wrap(text, columns - _LABELS - 2)
            lines += [f"  {label:{_LABELS}}{first}", *(" " * (_LABELS + 2) + line for line in more)]
    if f.example is not None:
        lines += ["", f'  tql run {f.example.source} "{f.example.query}"']
        lines += [f"  {shown(f.example)}"]
    return lines


def _compiled(f: Function) -> str:
    if not f.kernel:
        return "no, evaluated in NumPy and Arrow"
    return "yes, but not along an axis" if f.axis else "yes"


def shown(example: Example) -> str:
    """The values that an example gives, on one line."""
    values = ", ".join(_literal(v) for v in example.result)
    return f"→ {values}" if values else "→ no rows"


def _literal(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}" if value != int(value) else f"{value:.1f}"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case tuple() | list():
            return f"[{', '.join(map(_literal, value))}]"
        case _:
            return str(value)


def as_dict(many: Iterable[Function]) -> dict[str, Any]:
    """JSON data; `version` changes when a key does."""
    return {"version": VERSION, "functions": [_entry(f) for f in many]}


def _entry(f: Function) -> dict[str, Any]:
    example = None
    if f.example is not None:
        e = f.example
        example = {"source": e.source, "query": e.query, "result": list(e.result)}
    return {
        "name": f.name, "signature": f.signature, "meaning": f.meaning,
        "takes": f.takes, "result": f.result, "nulls": f.nulls, "special": f.special,
        "axis": f.axis, "compiled": f.kernel, "example": example,
    }  # fmt: skip
