"""The public names, and what start-up may load: names of modules, not milliseconds."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tql

ROOT = Path(__file__).resolve().parents[1]
HEAVY = "numpy pyarrow lark numba llvmlite torch tensorflow PIL simplejpeg pandas ray matplotlib"
COMMAND = """
import runpy, sys
sys.argv = ["tql", *{arguments!r}]
try:
    runpy.run_module("tql", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
else:
    raise AssertionError("the command did not end with an exit code")
"""
CHECK = """
import sys as _sys, threading as _threading
_bad = sorted(set({forbidden!r}) & set(_sys.modules))
assert not _bad, f"loaded at start-up: {{_bad}}"
assert _threading.active_count() == 1, _threading.enumerate()
print("checked")
"""


def command(*arguments: str) -> str:
    return COMMAND.format(arguments=arguments)


@pytest.mark.parametrize(
    ("do", "forbidden"),
    [
        ("import tql", f"{HEAVY} click rich"),
        (command("--help"), HEAVY),
        (command("--version"), HEAVY),
        (command("schema", "demo:digits"), "numba llvmlite torch tensorflow"),
        ("import tql; tql.parse('select * where labels != 5')", "numba llvmlite torch tensorflow"),
        ("import tql; tql.open('demo:digits')", "numba llvmlite torch tensorflow"),
        ("import tql.planner, tql.loader", "numba torch tensorflow PIL simplejpeg"),
    ],
    ids=["import", "help", "version", "schema", "parse", "open", "planner-and-loader"],
)
def test_start_up_stays_light(do: str, forbidden: str) -> None:
    code = f"{do}\n{CHECK.format(forbidden=forbidden.split())}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("checked\n")


def test_the_start_up_check_can_fail() -> None:
    code = f"import numpy\n{CHECK.format(forbidden=HEAVY.split())}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "loaded at start-up: ['numpy']" in done.stderr


def test_help_is_for_people() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tql", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for verb in ("schema", "explain", "run", "stats", "functions", "format", "demo"):
        assert verb in done.stdout


def test_every_public_name_can_be_had() -> None:
    for name in tql.__all__:
        assert getattr(tql, name) is not None, name
    assert len(set(tql.__all__)) == len(tql.__all__)
    assert set(tql.__all__) <= set(dir(tql))


@pytest.mark.parametrize(
    "name",
    [
        "open",
        "parse",
        "format",
        "keywords",
        "Dataset",
        "TqlError",
        "TqlSyntaxError",
        "TqlNameError",
        "TqlTypeError",
        "TqlUnsupportedError",
        "TqlDataError",
        "TqlPlanError",
    ],
)
def test_the_contract_is_exported(name: str) -> None:
    assert name in tql.__all__


@pytest.mark.parametrize(
    ("name", "also"),
    [("TqlNameError", LookupError), ("TqlTypeError", TypeError), ("TqlPlanError", ValueError)],
)
def test_errors_are_also_the_builtin_one_would_catch(name: str, also: type[Exception]) -> None:
    assert issubclass(getattr(tql, name), tql.TqlError)
    assert issubclass(getattr(tql, name), also)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        tql.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_a_loader_py_beside_the_script_is_not_ours(tmp_path: Path) -> None:
    for name in ("loader", "grammar", "planner"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported the wrong one')\n")
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.append({str(ROOT)!r})  # after the script's own folder, as when installed
            import tql.grammar, tql.planner, tql.loader
            print(tql.open("demo:digits").columns)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "labels" in done.stdout
