"""The page about performance: its Python and its commands run, and its figures are those of the code."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.__main__ import _parser
from tql import jit, kernel_cache
from tql.engine import costs, dictionaries, zones
from tql.memory_size import budget
from tql.sources import footers

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "performance.md").read_text("utf-8")


def test_the_python_of_the_page_runs() -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(programs) == 3
    scope: dict[str, object] = {}
    for program in programs:
        exec(compile(program, "performance.md", "exec"), scope)


@pytest.mark.parametrize("arguments", re.findall(r"^\$ tql (.*)$", PAGE, re.MULTILINE))
def test_its_commands_do(arguments: str) -> None:
    command = [sys.executable, "-m", "tql", *shlex.split(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("Filter: reference tier" if "--kernels" in arguments else "seconds") in done.stdout


def test_the_benchmarks_know_the_options_of_the_page() -> None:
    told = re.findall(r"^python -m benchmarks\.peers (.*?) *#", PAGE, re.MULTILINE)
    assert len(told) == 3
    for arguments in told:
        _parser().parse_args(shlex.split(arguments))


def test_its_figures_are_those_of_the_code() -> None:
    for seconds, ns in (
        (0.03, jit.LOAD_NS), (0.1, jit.START_NS), (1.8, jit.PATIENCE_NS), (0.9, jit.COMPILE_NS),
    ):  # fmt: skip
        assert ns == seconds * 1e9 and f"{seconds} s" in PAGE
    assert kernel_cache.MOST_BYTES == 64 << 20 and "64 MiB" in PAGE
    assert footers._REMEMBERED_BYTES == 256 << 20 and "256 MiB" in PAGE
    assert zones.ZONE_ROWS == 65_536 and "65,536 rows" in PAGE
    assert zones._SCANS == 3 and "for the third time" in PAGE
    assert costs.TEXT_ENCODE == 16 and "16 ns" in PAGE
    assert dictionaries.CACHE.most == budget() // 4, "an eighth of the memory: a quarter of half"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]*)\)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target
