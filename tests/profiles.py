"""How long the tests search: TQL_TEST_PROFILE is "ci" (the default) or "nightly".

Under "ci" every run tries the same examples: a red run is red again for whoever looks into it.
Under "nightly" (`make nightly`) every run tries new ones, and many more.
"""

import os
from typing import Final

PROFILE: Final = os.environ.get("TQL_TEST_PROFILE", "ci")
NIGHTLY: Final = PROFILE == "nightly"


def examples(ci: int, nightly: int = 20_000) -> int:
    """How many examples a test tries: `@settings(max_examples=examples(300))`."""
    return nightly if NIGHTLY else ci
