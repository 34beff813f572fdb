"""What is printed where: results on standard output, the rest on standard error."""

import json
import sys
from shutil import get_terminal_size
from typing import Any, Final, TextIO

from tql.diagnostics import NOWHERE, Diagnostic, line_and_column, render

# For terminals and pipes that cannot show the signs of a tree or a bar.
_ASCII: Final = str.maketrans(
    {
        "│": "|", "├": "|", "└": "`", "─": "-", "·": "-", "…": "...", "\N{MULTIPLICATION SIGN}": "x",
        "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "=", "▎": "-", "▏": "-",
        "\N{REPLACEMENT CHARACTER}": "?",
    }
)  # fmt: skip


def is_unicode(stream: TextIO) -> bool:
    """Whether every character can be written to the stream."""
    return (stream.encoding or "ascii").lower().replace("-", "").replace("_", "").startswith("utf")


def columns() -> int:
    """Columns of the terminal that a text may fill, 80 to 100."""
    return max(80, min(100, get_terminal_size((100, 24)).columns))


def _writable(text: str, stream: TextIO) -> str:
    if is_unicode(stream):
        # A lone surrogate, which a file name may hold, is the one thing UTF-8 cannot write.
        return text.encode("utf-8", "replace").decode("utf-8")
    encoding = stream.encoding or "ascii"
    return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)


def show(text: str) -> None:
    """A result, with a line end."""
    sys.stdout.write(_writable(text, sys.stdout) + "\n")


def show_json(data: Any, *, indent: int | None = 2) -> None:
    """A result as JSON."""
    plain = not is_unicode(sys.stdout)
    sys.stdout.write(json.dumps(data, ensure_ascii=plain, indent=indent, allow_nan=False) + "\n")


def note(text: str) -> None:
    """Something to know, on standard error."""
    sys.stderr.write(_writable(text, sys.stderr) + "\n")


def show_problem(d: Diagnostic, query: str, *, as_json: bool) -> None:
    """An error on standard error, as people or as programs read it."""
    if not as_json:
        note(render(d, query))
        return
    line, column = (None, None)
    if d.span != NOWHERE and query:
        line, column = line_and_column(query, d.span.start)
    found = {
        "code": d.code,
        "message": d.message,
        "line": line,
        "column": column,
        "help": d.help,
        "notes": [n.message for n in d.notes],
    }
    note(json.dumps({"error": found}, ensure_ascii=not is_unicode(sys.stderr)))
