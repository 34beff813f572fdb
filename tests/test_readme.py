"""What the README says is run: its Python, its commands, and the output it shows."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHOWN = re.DOTALL | re.MULTILINE
COMMANDS = re.findall(r"^\$ tql (.*)$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are run, in the order of the README: some write files that others read."""
    return tmp_path_factory.mktemp("readme")


def tql(arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tql", *shlex.split(arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_python_of_the_readme_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # it writes files
    assert len(PYTHON) >= 4
    scope: dict[str, object] = {}
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), scope)
    scope["tql"].unregister_function("has_loop")  # type: ignore[attr-defined]
    assert scope["best"].row_ids.tolist() == [997, 995, 990]  # type: ignore[attr-defined]
    assert scope["resumed"].state_dict()["position"] == 320  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_the_commands_of_the_readme_do_what_it_shows(arguments: str, folder: Path) -> None:
    if arguments.startswith("plan") and not (folder / "plan.json").exists():
        for save in [c for c in COMMANDS if c.startswith("plan save")]:
            assert tql(save, folder).returncode == 0
    done = tql(arguments, folder)
    (shown,) = re.findall(rf"\$ tql {re.escape(arguments)}\n(.*?)(?=```|^\$ tql )", README, SHOWN)
    if shown.startswith("error"):
        assert done.returncode == 2
        assert done.stderr == shown
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout
        if shown:  # tables end their lines with blanks
            assert [line.rstrip() for line in done.stdout.splitlines()] == shown.splitlines()


def test_the_explain_of_the_readme_is_what_it_prints() -> None:
    shown = re.search(
        r"<!-- explain: start -->\n```text\n(.*?)```\n<!-- explain: end -->", README, re.DOTALL
    )
    assert shown, "the README has lost its explain"
    (command,) = [c for c in COMMANDS if c.startswith("explain")]
    assert tql(command).stdout == shown[1]
