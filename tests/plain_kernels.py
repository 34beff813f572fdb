"""Kernels run as the Python functions they are generated as: the same source, no compiler."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tql.jit import Kernel

_NUMPY = {
    f"{name[0]}{bits}": getattr(np, f"{name}{bits}")
    for name, sizes in (("int", (8, 16, 32, 64)), ("uint", (8, 16, 32, 64)), ("float", (32, 64)))
    for bits in sizes
}


def run_as_python(patch: pytest.MonkeyPatch) -> Counter[str]:
    """From now on calling a kernel interprets its body; returns how often each one was called.

    Arguments are checked as the compiled form does. Machine numbers wrap silently, and so does
    this.
    """
    calls: Counter[str] = Counter()

    def call(self: Kernel, *args: Any) -> None:
        kinds = [part.strip() for part in self.signature.split(",")]
        given = []
        for kind, value in zip(kinds, args, strict=True):
            given.append(value if kind.endswith("[]") else _NUMPY[kind](value))
            if kind.endswith("[]"):
                assert value.dtype.kind == kind[0] and value.dtype.itemsize * 8 == int(kind[1:-2])
                assert value.flags.c_contiguous
            elif kind[0] in "iu":
                bits = int(kind[1:])
                low, high = (
                    (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind[0] == "i" else (0, 2**bits)
                )
                assert low <= value < high, f"{value} is no {kind}"
        calls[self.__name__] += 1
        with np.errstate(all="ignore"):
            self.python(*given)

    patch.setattr(Kernel, "__call__", call)
    return calls
