"""Print the largest modules and functions: a report to look at, it fails nothing.

Past about 400 lines a module or 60 a function, ask whether it is two things.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ["tql", "grammar", "planner", "loader"]  # rglob does not follow tql's links: once each
MODULE, FUNCTION, SHOWN = 400, 60, 8


def functions(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length in lines of every function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def show(title: str, limit: int, rows: list[tuple[int, str]]) -> None:
    rows.sort(reverse=True)
    over = sum(size > limit for size, _ in rows)
    print(f"{title}: {len(rows)}, {over} over {limit} lines; the largest:")
    for size, name in rows[:SHOWN]:
        print(f"  {size:5} {'!' if size > limit else ' '} {name}")


def main() -> None:
    modules: list[tuple[int, str]] = []
    bodies: list[tuple[int, str]] = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text("utf-8")
            name = path.relative_to(ROOT).as_posix()
            modules.append((text.count("\n"), name))
            bodies += [(n, f"{name}:{line} {f}") for f, line, n in functions(ast.parse(text))]
    show("modules", MODULE, modules)
    show("functions", FUNCTION, bodies)


if __name__ == "__main__":
    main()
