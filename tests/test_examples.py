"""The examples are run as a user runs them, and what they print is what they are for."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^(plain|balanced): recall of nine (\d\.\d+), accuracy (\d\.\d+)$", re.MULTILINE)
LEAST = 0.25  # with any of five seeds it is 0.44 or more


def needs(framework: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(framework) is None
    return pytest.mark.skipif(missing, reason=f"{framework} is not installed")


@pytest.mark.parametrize(
    "example",
    [
        pytest.param("train_torch.py", marks=needs("torch")),
        pytest.param("train_keras.py", marks=needs("tensorflow")),
    ],
)
def test_balanced_sampling_finds_the_rare_digit_and_plain_sampling_does_not(example: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / example],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^nine +8 +0\.7 %$", done.stdout, re.MULTILINE
    )  # rare among what was trained on
    found = {name: (float(recall), float(accuracy)) for name, recall, accuracy in LINE.findall(done.stdout)}  # fmt: skip
    assert found["balanced"][0] > found["plain"][0] + LEAST
    assert found["balanced"][1] > found["plain"][1]


def test_every_example_is_tested() -> None:
    assert {p.name for p in (ROOT / "examples").glob("*.py")} == {"train_torch.py", "train_keras.py"}  # fmt: skip
