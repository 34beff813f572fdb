"""Settings every test shares: Hypothesis profiles, and `--accept` for golden files."""

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from tests.profiles import PROFILE

settings.register_profile(
    "ci",
    deadline=None,
    max_examples=500,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "nightly",
    deadline=None,
    max_examples=20_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(PROFILE)


# Kernels that tests compile, here and in processes they start, stay out of the user's cache.
_KERNELS = tempfile.TemporaryDirectory(prefix="tql-kernels-")
os.environ["TQL_CACHE_DIR"] = _KERNELS.name
os.environ["TQL_COMPILE"] = "inline"  # tests of compiling in the background say so


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accept",
        action="store_true",
        help="rewrite golden files with what is printed now; read the diff before you commit it",
    )


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks measure the speed of memory over 64 KiB, not 256 MB."""
    from benchmarks import bandwidth

    monkeypatch.setattr(bandwidth, "NBYTES", 1 << 16)


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten instead of compared."""
    return bool(request.config.getoption("--accept"))
