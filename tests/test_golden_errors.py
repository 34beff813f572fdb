"""What every golden error has: a code, the place underlined, and a way out."""

import re
from pathlib import Path
from typing import Final

import pytest

from tql.diagnostics import _CLASS_OF_CODE as CLASSES

FOLDER: Final = Path(__file__).with_name("golden")
ERRORS: Final = sorted([*(FOLDER / "syntax").glob("*.txt"), *(FOLDER / "errors").glob("*.txt")])
# These have no place in the text: there is no text, or what is wrong is a value given beside it.
NOWHERE: Final = {"empty-query", "parameter-too-many", "parameter-unknown-name"}


def printed(file: Path) -> str:
    return file.read_text("utf-8").split("\n----\n")[1]


@pytest.mark.parametrize("file", ERRORS, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_an_error_has_a_code_a_place_and_a_way_out(file: Path) -> None:
    lines = printed(file).splitlines()
    first = re.match(r"error\[(\w+)\]: \S", lines[0])
    assert first is not None and first[1] in CLASSES
    helps = [line for line in lines if line.startswith("  help: ")]
    assert len(helps) == 1 and len(helps[0]) > len("  help: ...")
    if file.stem in NOWHERE:
        return
    place = re.match(r" +--> query:(\d+):(\d+)$", lines[1])
    assert place is not None
    shown, carets = lines[2], lines[3]
    assert shown.startswith(f"{place[1]} | ") and re.fullmatch(r" +\| *\^+", carets)
    if "…" not in shown:
        assert carets.index("^") - carets.index("|") - 1 == int(place[2])


def test_there_are_many_and_they_differ() -> None:
    messages = {re.sub(r"'[^']*'|\d+", "…", printed(file).splitlines()[0]) for file in ERRORS}
    assert len(messages) >= 150, len(messages)
