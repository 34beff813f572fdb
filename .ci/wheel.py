"""Build the wheel, install it in a fresh environment elsewhere, and use it there.

"There" is a folder with a `loader.py`, `grammar.py` and `planner.py` of the user's own, as half of
all training repositories have: a wheel that needs those names for itself fails here. Run with a
Python that has the pinned setuptools (`make test` makes one: .venv).
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {
    "tql/__init__.py",
    "tql/py.typed",
    "tql/demo/digits.parquet",
    "tql/demo/photos.parquet",
    "tql/grammar/tql.lark",
    "tql/planner/__init__.py",
    "tql/loader/__init__.py",
}
QUERY = "select * where labels != 5"
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]


def environment(home: Path) -> dict[str, str]:
    """The caller's environment without what would let Python or pip look elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    for name in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_CONSTRAINT", "VIRTUAL_ENV"):
        kept.pop(name, None)
    return kept | {"XDG_CACHE_HOME": str(home / "cache"), "NO_COLOR": "1"}


def run(*command: object, cwd: Path, env: dict[str, str]) -> str:
    """Standard output of a command that must succeed; its words on failure."""
    args = [str(part) for part in command]
    done = subprocess.run(args, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(args)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def copy_tree(target: Path) -> None:
    """The files git knows or would know, so that no stale build/ gets into the wheel."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        source = ROOT / name
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
        elif source.is_file():
            copy.write_bytes(source.read_bytes())


def build(work: Path, env: dict[str, str]) -> Path:
    copy_tree(work / "tree")
    flags = ["--no-deps", "--no-build-isolation", "--wheel-dir", work]
    run(sys.executable, *PIP, "wheel", *flags, work / "tree", cwd=work, env=env)
    (wheel,) = work.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl"), wheel.name
    held = set(zipfile.ZipFile(wheel).namelist())
    missing = {name for name in NEEDED if name not in held}
    stray = {name.split("/")[0] for name in held if "/" in name} - {"tql"}
    assert not missing, f"not in the wheel: {sorted(missing)}"
    assert all(name.endswith(".dist-info") for name in stray), f"top-level names: {sorted(stray)}"
    return wheel


def use(wheel: Path, work: Path, env: dict[str, str]) -> None:
    """Install with the pins of requirements/demo.txt but only what the wheel itself asks for."""
    run(sys.executable, "-m", "venv", work / "venv", cwd=work, env=env)
    python = work / "venv" / "bin" / "python"
    pins = ROOT / "requirements" / "demo.txt"
    run(python, *PIP, "install", "--constraint", pins, wheel, cwd=work, env=env)

    user = work / "user"
    user.mkdir()
    for name in ("loader", "grammar", "planner"):
        (user / f"{name}.py").write_text(f"raise SystemExit('imported the {name}.py beside me')\n")
    where = run(python, "-c", "import tql; print(tql.__file__)", cwd=user, env=env).strip()
    assert Path(where).is_relative_to(work / "venv"), where
    command = work / "venv" / "bin" / "tql"
    for start in ([command], [python, "-m", "tql"]):  # -m puts the folder with loader.py first
        printed = run(*start, "explain", "demo:digits", QUERY, cwd=user, env=env)
        assert "labels" in printed, f"explain does not show the query's column:\n{printed}"
    run(python, "-c", "import tql.grammar, tql.planner, tql.loader", cwd=user, env=env)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tqlkit-wheel-") as folder:
        work = Path(folder).resolve()
        env = environment(work)
        wheel = build(work, env)
        size = wheel.stat().st_size
        use(wheel, work, env)
        print(f"{wheel.name}: {size:,} bytes, installed and used outside the repository")


if __name__ == "__main__":
    main()
