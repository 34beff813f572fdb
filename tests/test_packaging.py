"""What is in the wheel is what is in the tree; what is installed is what is pinned."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
MAPPED = {"tql.grammar": "grammar", "tql.planner": "planner", "tql.loader": "loader"}


def folder_of(package: str) -> Path:
    """Where a package's code lies: its own mapping, or that of the nearest parent."""
    mapping: dict[str, str] = SETUPTOOLS["package-dir"]
    parent, rest = package, ""
    while parent not in mapping:
        parent, _, last = parent.rpartition(".")
        rest = f"{last}/{rest}"
    return ROOT / mapping[parent] / rest


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements file, and of those it includes."""
    found: dict[str, str] = {}
    for line in (ROOT / "requirements" / name).read_text("utf-8").splitlines():
        if line.startswith("-r "):
            found |= pins(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            package, equals, version = line.partition("==")
            assert equals, f"{name}: not pinned: {line!r}"
            found[canonicalize_name(package)] = version
    return found


def test_the_listed_packages_are_those_in_the_tree() -> None:
    in_tree = set()
    for top, folder in {"tql": "tql", **MAPPED}.items():
        for module in (ROOT / folder).rglob("*.py"):  # does not follow the links inside tql/
            inside = module.parent.relative_to(ROOT / folder).parts
            in_tree.add(".".join((top, *inside)))
    assert sorted(SETUPTOOLS["packages"]) == sorted(in_tree)


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_every_package_says_what_it_is(package: str) -> None:
    text = (folder_of(package) / "__init__.py").read_text("utf-8")
    assert text.startswith('"""'), f"{package}: no docstring"


def test_the_mapping_is_the_three_folders() -> None:
    assert SETUPTOOLS["package-dir"] == {"tql": "tql", **MAPPED}


@pytest.mark.parametrize("name", ["grammar", "planner", "loader"])
def test_the_links_are_relative_and_committed_as_links(name: str) -> None:
    link = ROOT / "tql" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "--stage", f"tql/{name}"], cwd=ROOT, capture_output=True, check=True
        )
        assert listed.stdout.startswith(b"120000 "), "committed as something else than a link"


def test_package_data_is_there() -> None:
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            assert list(folder_of(package).glob(pattern)), f"{package}: nothing matches {pattern}"


def test_the_console_script_is_there() -> None:
    assert PROJECT["project"]["scripts"] == {"tql": "tql.cli:main"}


def test_the_required_dependencies_are_these_and_have_no_upper_bound() -> None:
    required = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    assert {r.name for r in required} == {"numpy", "pyarrow", "lark", "numba", "click", "rich"}
    for requirement in required:
        assert {s.operator for s in requirement.specifier} == {">="}, str(requirement)


def test_the_extras_are_these() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras) == {"images", "torch", "tensorflow", "ray", "plot", "dev"}


@pytest.mark.parametrize(
    ("file", "extras"),
    [("demo.txt", ["images"]), ("test.txt", ["images", "torch"]), ("bench.txt", ["torch"])],
)
def test_pins_satisfy_what_the_project_asks_for(file: str, extras: list[str]) -> None:
    project = PROJECT["project"]
    texts = [*project["dependencies"]]
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    pinned = pins(file)
    for requirement in map(Requirement, texts):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but {file} has {version}"


def test_the_demo_needs_neither_torch_nor_tensorflow() -> None:
    assert not {"torch", "tensorflow"} & set(pins("demo.txt"))


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "requirements").glob("*.txt")))
def test_every_requirement_is_pinned_to_one_version(file: str) -> None:
    for package, version in pins(file).items():
        assert re.fullmatch(r"\d+(\.\d+)*(\.post\d+)?", version), f"{package}=={version}"


def test_the_embedded_photos_are_what_the_script_writes(tmp_path: Path) -> None:
    made = tmp_path / "photos.parquet"
    script = ROOT / "scripts" / "make_photos.py"
    subprocess.run([sys.executable, script, made], check=True, capture_output=True)
    embedded = pq.read_table(ROOT / "tql" / "demo" / "photos.parquet")
    assert pq.read_table(made).equals(embedded, check_metadata=True)
    assert embedded.num_rows == 8


def test_the_embedded_digits_are_what_the_script_writes() -> None:
    path = ROOT / "tql" / "demo" / "digits.parquet"
    assert path.stat().st_size < 1_000_000
    file = pq.ParquetFile(path)
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (1797, 8)
    schema = file.schema_arrow
    assert schema.names == ["images", "labels"]
    assert b"CC BY 4.0" in schema.metadata[b"licence"]
    assert b"UCI" in schema.metadata[b"source"]
    assert schema.field("images").metadata[b"tql:image"] == b"png"
    names = json.loads(schema.field("labels").metadata[b"tql:class_names"])
    assert names == ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    table = file.read()
    assert all(image.startswith(b"\x89PNG\r\n\x1a\n") for image in table["images"].to_pylist())
    # Rows per digit as the script wrote them on 2026-11-21: a change of the data must be meant.
    counts = {pair["values"]: pair["counts"] for pair in table["labels"].value_counts().to_pylist()}
    expected = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert [counts[label] for label in range(10)] == expected
