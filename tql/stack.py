"""Room on Python's stack for the deepest trees that the language allows."""

import sys
from typing import Final

_FRAMES_PER_LEVEL: Final = 30  # more than any pass, and than comparing or pickling, needs
_USED_ALREADY: Final = 1_000  # by whoever calls


def make_room(depth: int) -> None:
    """Let recursion over a tree `depth` levels deep succeed from now on, from any place.

    Python's limit is raised once and stays: it belongs to the process, a tree is read long after it
    was made (when a view is), and lowering it again could hit another thread in the middle.
    """
    needed = _USED_ALREADY + _FRAMES_PER_LEVEL * depth
    if sys.getrecursionlimit() < needed:
        sys.setrecursionlimit(needed)
