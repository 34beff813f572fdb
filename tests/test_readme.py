"""What the README says is run: its Python, its commands, and the output it shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^\$ tql (.*)$", README, re.MULTILINE)


def tql(arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tql", *shlex.split(arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_python_of_the_readme_runs_from_top_to_bottom() -> None:
    assert len(PYTHON) >= 4
    scope: dict[str, object] = {}
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), scope)
    scope["tql"].unregister_function("has_loop")  # type: ignore[attr-defined]
    assert scope["best"].row_ids.tolist() == [997, 995, 990]  # type: ignore[attr-defined]
    assert scope["resumed"].state_dict()["position"] == 320  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_the_commands_of_the_readme_do_what_it_shows(arguments: str) -> None:
    done = tql(arguments)
    shown = re.search(rf"\$ tql {re.escape(arguments)}\n(error.*?)```", README, re.DOTALL)
    if shown:
        assert done.returncode == 2
        assert done.stderr == shown[1]
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_the_explain_of_the_readme_is_what_it_prints() -> None:
    shown = re.search(
        r"<!-- explain: start -->\n```text\n(.*?)```\n<!-- explain: end -->", README, re.DOTALL
    )
    assert shown, "the README has lost its explain"
    (command,) = [c for c in COMMANDS if c.startswith("explain")]
    assert tql(command).stdout == shown[1]
