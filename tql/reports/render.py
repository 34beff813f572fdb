"""An explanation as text, JSON data, Mermaid, DOT or HTML. Nothing here reads data."""

import json
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Final

from tql.diagnostics import counted
from tql.memory_size import shown
from tql.reports.kernels import lines_of as kernel_lines
from tql.reports.text_table import Side, cut, pad, printable, table, width

if TYPE_CHECKING:
    from tql.reports.class_table import ClassLine, ClassTable
    from tql.reports.explain import Explanation
    from tql.reports.nodes import Node

VERSION: Final = 1  # of the JSON data; another one when a key changes
WIDTH: Final = 100
_WRAPPED: Final = 4  # lines of a title that is too long for one
_WIDEST_NAME: Final = 24
_NUMBER: Final = 12  # cells of a column of numbers


# -- JSON --------------------------------------------------------------------------------------


def as_dict(e: "Explanation") -> dict[str, Any]:
    """The explanation as JSON data."""
    return {
        "version": VERSION,
        "kind": e.kind,
        "source": e.subject,
        "seed": e.seed,
        "query": e.query,
        "plan": _node_dict(e.root, e.analyzed),
        "classes": None if e.table is None else _table_dict(e.table),
        "fetch": None if e.fetch is None else {"columns": list(e.fetch[0]), "bytes": e.fetch[1]},
        **({} if e.order is None else {"order": e.order.to_dict()}),
        "notes": list(e.notes),
        "analyzed": e.analyzed,
        "seconds": dict(e.seconds),
        **({} if e.kernels is None else {"kernels": [k.to_dict() for k in e.kernels]}),
    }


def _node_dict(n: "Node", analyzed: bool) -> dict[str, Any]:
    actual = {"actual_rows": n.actual, "seconds": n.seconds} if analyzed else {}
    return {
        "kind": n.kind.lower(),
        "title": n.title,
        "rows": n.rows,
        "bytes": n.bytes,
        **actual,
        "details": list(n.details),
        "children": [_node_dict(c, analyzed) for c in n.children],
    }


def _table_dict(t: "ClassTable") -> dict[str, Any]:
    return {
        "by": t.by,
        "approximate": t.approximate,
        "absent": t.absent,
        "lines": [_line_dict(line, t) for line in t.lines],
    }


def _line_dict(line: "ClassLine", t: "ClassTable") -> dict[str, Any]:
    found: dict[str, Any] = {
        "class": line.name,
        "classes": line.classes,
        "source_rows": line.source_rows,
        "rows": line.rows,
        "share": line.share,
        "dropped": line.dropped,
    }
    if t.weighted:
        weight = None if line.weight_low is None else [line.weight_low, line.weight_high]
        found |= {
            "weight": weight,
            "expected": line.expected,
            "expected_share": line.expected_share,
            "repeats": line.repeats,
        }
    return found


# -- text --------------------------------------------------------------------------------------


def as_tree(e: "Explanation", columns: int = WIDTH) -> str:
    """The tree, the class table and the notes in so many columns; without seconds unless the
    query was run, so that the same data gives the same text.
    """
    heads = ["rows", "bytes", *(["actual", "seconds"] if e.analyzed else [])]
    lines = [_line(f"{printable(e.subject)}  ·  seed {e.seed}", heads, columns)]
    lines += _tree_lines(e.root, "", "", e.analyzed, columns)
    if e.fetch is not None:
        lines.append(cut(_fetch_text(e.fetch), columns))
    if e.table is not None:
        lines += ["", *_table_lines(e.table, columns)]
    if e.notes:
        lines.append("")
    lines += [part for note in e.notes for part in _wrap(f"note: {printable(note)}", columns, 9)]
    if e.analyzed:
        lines.append("seconds: " + ", ".join(f"{name} {s:.3f}" for name, s in e.seconds))
    if e.kernels is not None:
        told = map(printable, kernel_lines(e.kernels))
        lines += ["", *(cut(line, columns) for line in told)]
    return "\n".join(lines)


def _line(left: str, cells: list[str], columns: int) -> str:
    right = "".join(pad(c, _NUMBER, "right") for c in cells)
    room = columns - len(right) - 1
    return (pad(cut(left, room), room, "left") + " " + right).rstrip()


def _tree_lines(n: "Node", first: str, rest: str, analyzed: bool, columns: int) -> Iterator[str]:
    cells = [_count(n.rows), "" if n.bytes is None else shown(n.bytes)]
    if analyzed:
        cells += [_count(n.actual) if n.actual is not None else "",
                  "" if n.seconds is None else f"{n.seconds:.3f}"]  # fmt: skip
    room = columns - _NUMBER * len(cells) - 2 - len(first)
    title = _wrap(f"{n.kind}  {printable(n.title)}".rstrip(), room, _WRAPPED)
    yield _line(first + title[0], cells, columns)
    bar = "│  " if n.children else "   "
    yield from (rest + bar + part for part in title[1:])
    for detail in n.details:
        for part in _wrap(printable(detail), columns - len(rest) - 5, _WRAPPED):
            yield rest + bar + "  " + part
    for k, child in enumerate(n.children):
        last = k == len(n.children) - 1
        yield from _tree_lines(
            child,
            rest + ("└─ " if last else "├─ "),
            rest + ("   " if last else "│  "),
            analyzed,
            columns,
        )


def _wrap(text: str, room: int, most: int) -> list[str]:
    """The text in lines of at most `room` cells; an ellipsis ends what does not fit `most`."""
    lines: list[str] = []
    room = max(room, 20)
    while width(text) > room and len(lines) < most - 1:
        at = text.rfind(" ", 0, len(cut(text, room)))
        if at <= room // 2:
            at = len(cut(text, room)) - 1
        lines.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [*lines, cut(text, room)]


def _rows(n: "Node") -> str:
    return "? rows" if n.rows is None else counted(n.rows, "row")


def _count(rows: int | None) -> str:
    return "?" if rows is None else f"{rows:,}"


def _fetch_text(fetch: tuple[tuple[str, ...], int | None]) -> str:
    names, size = fetch
    listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    about = ", an unknown amount" if size is None else f" about {shown(size)}"
    return f"Fetch later: {printable(listed)}{about}"


def table_cells(t: "ClassTable") -> tuple[list[str], list[Side], list[list[str]]]:
    """Heads, sides and cells of the class table, without the bars."""
    heads = [printable(t.by or "class"), "in source", "rows", "share"]
    if t.weighted:
        heads += ["weight", "expected", "share", "repeats/row"]
    sides: list[Side] = ["left", *(["right"] * (len(heads) - 1))]  # type: ignore[list-item]
    return heads, sides, [_cells(line, t) for line in t.lines]


def _cells(line: "ClassLine", t: "ClassTable") -> list[str]:
    cells = [printable(line.name), f"{line.source_rows:,}", f"{line.rows:,}"]
    cells.append("dropped" if line.dropped else _percent(line.share))
    if not t.weighted:
        return cells
    if line.expected is None or line.dropped:
        return [*cells, "", "", "", ""]
    assert line.expected_share is not None and line.repeats is not None
    return [
        *cells,
        _weight(line),
        f"{line.expected:,.1f}" if line.expected < 1000 else f"{line.expected:,.0f}",
        _percent(line.expected_share),
        f"{line.repeats:.2f}",
    ]


def _weight(line: "ClassLine") -> str:
    low, high = line.weight_low, line.weight_high
    return f"{low:g}" if low == high else f"{low:g} … {high:g}"


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def _table_lines(t: "ClassTable", columns: int) -> list[str]:
    heads, sides, cells = table_cells(t)
    names = [heads[0], *(line[0] for line in cells)]
    spare = columns - max(map(width, table(heads[1:], sides[1:], [c[1:] for c in cells]))) - 2
    most_name = max(8, min(_WIDEST_NAME, spare))
    heads[0], *shown_names = (cut(name, most_name) for name in names)
    lines = table(heads, sides, [[n, *c[1:]] for n, c in zip(shown_names, cells, strict=True)])
    full = max(map(width, lines))
    room = columns - full - 2
    shares = _shares(t)
    most = max(shares, default=0.0)
    if room >= 8 and most > 0:
        length = min(room, 24)
        bars = ["", *(bar(share / most, length) for share in shares)]
        lines = [
            (pad(a, full, "left") + "  " + b).rstrip() for a, b in zip(lines, bars, strict=True)
        ]
    return lines + [f"      {remark}" for remark in remarks(t)]


def _shares(t: "ClassTable") -> list[float]:
    """What the bars show; several classes in one line have none, which would dwarf the others."""
    shares = [
        line.share if line.expected_share is None else line.expected_share for line in t.lines
    ]
    return [0.0 if line.classes > 1 else s for line, s in zip(t.lines, shares, strict=True)]


def remarks(t: "ClassTable") -> list[str]:
    """What must be said below the table."""
    found = []
    if t.approximate:
        found.append("expected draws are approximate: without replacement by weight")
    if t.absent:
        found.append(f"{counted(t.absent, 'named class', 'named classes')} without a row not shown")
    return found


def bar(part: float, cells: int) -> str:
    """A bar of part · cells, in eighths of a cell; at least one eighth for what is not nothing."""
    eighths = round(part * cells * 8)
    if part > 0:
        eighths = max(1, eighths)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


# -- graphs ------------------------------------------------------------------------------------


def _numbered(root: "Node") -> Iterator[tuple[int, "Node", int | None]]:
    """(number, node, number of its parent), parents first."""
    waiting: list[tuple[Node, int | None]] = [(root, None)]
    number = 0
    while waiting:
        node, parent = waiting.pop()
        yield number, node, parent
        waiting += [(c, number) for c in reversed(node.children)]
        number += 1


def _label_lines(n: "Node") -> list[str]:
    lines = [n.kind, *(_wrap(printable(n.title), 60, _WRAPPED) if n.title else [])]
    lines += [cut(printable(d), 80) for d in n.details]
    return [*lines, f"{_rows(n)}{'' if n.bytes is None else ', ' + shown(n.bytes)}"]


def as_mermaid(e: "Explanation") -> str:
    """A flowchart for Mermaid, data at the bottom."""
    lines = ["flowchart BT"]
    for number, node, parent in _numbered(e.root):
        text = "<br/>".join(_mermaid_text(part) for part in _label_lines(node))
        lines.append(f'  n{number}["{text}"]')
        if parent is not None:
            lines.append(f"  n{number} --> n{parent}")
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    """Everything but plain words as Mermaid's character codes, so that nothing is syntax."""
    return "".join(c if c.isalnum() or c in " .,_-" else f"#{ord(c)};" for c in text)


def as_dot(e: "Explanation") -> str:
    """A graph for Graphviz, data at the bottom."""
    lines = ["digraph plan {", "  rankdir=BT;", '  node [shape=box, fontname="monospace"];']
    for number, node, parent in _numbered(e.root):
        text = "\\n".join(p.replace("\\", "\\\\").replace('"', '\\"') for p in _label_lines(node))
        lines.append(f'  n{number} [label="{text}"];')
        if parent is not None:
            lines.append(f"  n{number} -> n{parent};")
    return "\n".join([*lines, "}"])


# -- HTML --------------------------------------------------------------------------------------

_STYLE: Final = """
.tql { font: 14px/1.5 system-ui, sans-serif; color: light-dark(#1c2024, #e6e8eb); }
.tql ul { list-style: none; margin: 0; padding-left: 1.4em;
  border-left: 1px solid light-dark(#c8cdd2, #4a5056); }
.tql > ul { padding-left: 0; border: 0; }
.tql li { margin: .3em 0; }
.tql code { font-family: ui-monospace, monospace; }
.tql .n { float: right; font-variant-numeric: tabular-nums; padding-left: 1em; }
.tql .d { color: light-dark(#5b6269, #a3abb3); padding-left: 1.4em; }
.tql table { border-collapse: collapse; margin-top: 1em; font-variant-numeric: tabular-nums; }
.tql th, .tql td { text-align: right; padding: .15em .8em; color: inherit; background: none; }
.tql th:first-child, .tql td:first-child { text-align: left; }
.tql thead th { border-bottom: 1px solid light-dark(#c8cdd2, #4a5056); }
.tql .b { width: 12em; } .tql .b div { height: .8em; background: light-dark(#2f6fb3, #6ea8e6); }
"""


def as_fragment(e: "Explanation") -> str:
    """The explanation for a notebook cell; follows its light or dark colours."""
    parts = ['<div class="tql"><style>', _STYLE, "</style>"]
    parts.append(f"<p>{escape(e.subject)} · seed {e.seed}</p>")
    if e.query is not None:
        parts.append(f"<p><code>{escape(e.query)}</code></p>")
    parts += ["<ul>", _html_node(e.root, e.analyzed), "</ul>"]
    if e.fetch is not None:
        parts.append(f"<p>{escape(_fetch_text(e.fetch))}</p>")
    if e.table is not None:
        parts.append(_html_table(e.table))
    parts += [f"<p>note: {escape(note)}</p>" for note in e.notes]
    if e.kernels is not None:
        parts.append("<pre>" + escape("\n".join(kernel_lines(e.kernels))) + "</pre>")
    return "\n".join([*parts, "</div>"])


def as_page(e: "Explanation") -> str:
    """A page that needs nothing else."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(e.subject)}: plan</title>"
        "<style>:root { color-scheme: light dark; } body { max-width: 60em; margin: 2em auto;"
        " padding: 0 1em; }</style></head><body>\n"
        f"{as_fragment(e)}\n</body></html>"
    )


def _html_node(n: "Node", analyzed: bool) -> str:
    numbers = f"{_rows(n)}{'' if n.bytes is None else ' · ' + shown(n.bytes)}"
    if analyzed and n.actual is not None:
        numbers += f" · {n.actual:,} actual"
    if analyzed and n.seconds is not None:
        numbers += f" · {n.seconds:.3f} s"
    parts = [f'<li><span class="n">{numbers}</span><b>{escape(n.kind)}</b>'
             f" <code>{escape(n.title)}</code>"]  # fmt: skip
    parts += [f'<div class="d">{escape(d)}</div>' for d in n.details]
    if n.children:
        parts.append(f"<ul>{''.join(_html_node(c, analyzed) for c in n.children)}</ul>")
    return "".join([*parts, "</li>"])


def _html_table(t: "ClassTable") -> str:
    heads, _, rows = table_cells(t)
    shares = _shares(t)
    most = max([*shares, 1e-300])
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in cells)}"
        f'<td class="b"><div style="width:{100 * share / most:.1f}%"></div></td></tr>'
        for cells, share in zip(rows, shares, strict=True)
    )
    said = "".join(f"<p>{escape(remark)}</p>" for remark in remarks(t))
    return f"<table><thead><tr>{head}<th></th></tr></thead><tbody>{body}</tbody></table>{said}"


FORMATS: Final[Mapping[str, Callable[["Explanation"], str]]] = {
    "tree": as_tree,
    "json": lambda e: json.dumps(as_dict(e), ensure_ascii=False, indent=2),
    "mermaid": as_mermaid,
    "dot": as_dot,
    "html": as_page,
}
