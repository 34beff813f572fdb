"""Sums over elements that lie side by side, in the one order of `tql.engine.reductions`.

The eight lanes are variables of their own, and eight elements are written out one after the other:
that is what LLVM makes adds of whole vector registers of. Places are handed over as unsigned
numbers, as Numba lets signed ones count from the end, a choice for each element that keeps LLVM from
reading neighbours at once. `l2_norm` over 100,000 x 256 float32 read 29 GB/s (2.4 with signed
places), where a plain read took 23 to 35 GB/s.
"""

from typing import Any

import numpy as np

from tql.engine.kernels import devices
from tql.engine.kernels.devices import cosine, vector_factor
from tql.jit import device


@device
def together(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """The sum of the eight lanes."""
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@device
def run_sum(x: Any, first: Any, count: Any) -> Any:
    """The sum of x[first], x[first + 1], …"""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    for block in range(count >> 3):
        i = first + block * 8
        u = np.float64(x[np.uint64(i)])
        a0 += u
        u = np.float64(x[np.uint64(i + 1)])
        a1 += u
        u = np.float64(x[np.uint64(i + 2)])
        a2 += u
        u = np.float64(x[np.uint64(i + 3)])
        a3 += u
        u = np.float64(x[np.uint64(i + 4)])
        a4 += u
        u = np.float64(x[np.uint64(i + 5)])
        a5 += u
        u = np.float64(x[np.uint64(i + 6)])
        a6 += u
        u = np.float64(x[np.uint64(i + 7)])
        a7 += u
    for lane in range(count & 7):
        i = first + (count & -8) + lane
        u = np.float64(x[np.uint64(i)])
        a0 = a0 + u if lane == 0 else a0
        a1 = a1 + u if lane == 1 else a1
        a2 = a2 + u if lane == 2 else a2
        a3 = a3 + u if lane == 3 else a3
        a4 = a4 + u if lane == 4 else a4
        a5 = a5 + u if lane == 5 else a5
        a6 = a6 + u if lane == 6 else a6
    return together(a0, a1, a2, a3, a4, a5, a6, a7)


@device
def run_sizes(x: Any, first: Any, count: Any) -> Any:
    """The sum of the sizes of x[first], x[first + 1], …"""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    for block in range(count >> 3):
        i = first + block * 8
        u = np.float64(x[np.uint64(i)])
        a0 += abs(u)
        u = np.float64(x[np.uint64(i + 1)])
        a1 += abs(u)
        u = np.float64(x[np.uint64(i + 2)])
        a2 += abs(u)
        u = np.float64(x[np.uint64(i + 3)])
        a3 += abs(u)
        u = np.float64(x[np.uint64(i + 4)])
        a4 += abs(u)
        u = np.float64(x[np.uint64(i + 5)])
        a5 += abs(u)
        u = np.float64(x[np.uint64(i + 6)])
        a6 += abs(u)
        u = np.float64(x[np.uint64(i + 7)])
        a7 += abs(u)
    for lane in range(count & 7):
        i = first + (count & -8) + lane
        u = np.float64(x[np.uint64(i)])
        a0 = a0 + abs(u) if lane == 0 else a0
        a1 = a1 + abs(u) if lane == 1 else a1
        a2 = a2 + abs(u) if lane == 2 else a2
        a3 = a3 + abs(u) if lane == 3 else a3
        a4 = a4 + abs(u) if lane == 4 else a4
        a5 = a5 + abs(u) if lane == 5 else a5
        a6 = a6 + abs(u) if lane == 6 else a6
    return together(a0, a1, a2, a3, a4, a5, a6, a7)


@device
def run_product(x: Any, first: Any, y: Any, second: Any, count: Any) -> Any:
    """The product of two vectors."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    for block in range(count >> 3):
        i = first + block * 8
        j = second + block * 8
        u = np.float64(x[np.uint64(i)])
        v = np.float64(y[np.uint64(j)])
        a0 += u * v
        u = np.float64(x[np.uint64(i + 1)])
        v = np.float64(y[np.uint64(j + 1)])
        a1 += u * v
        u = np.float64(x[np.uint64(i + 2)])
        v = np.float64(y[np.uint64(j + 2)])
        a2 += u * v
        u = np.float64(x[np.uint64(i + 3)])
        v = np.float64(y[np.uint64(j + 3)])
        a3 += u * v
        u = np.float64(x[np.uint64(i + 4)])
        v = np.float64(y[np.uint64(j + 4)])
        a4 += u * v
        u = np.float64(x[np.uint64(i + 5)])
        v = np.float64(y[np.uint64(j + 5)])
        a5 += u * v
        u = np.float64(x[np.uint64(i + 6)])
        v = np.float64(y[np.uint64(j + 6)])
        a6 += u * v
        u = np.float64(x[np.uint64(i + 7)])
        v = np.float64(y[np.uint64(j + 7)])
        a7 += u * v
    for lane in range(count & 7):
        i = first + (count & -8) + lane
        j = second + (count & -8) + lane
        u = np.float64(x[np.uint64(i)])
        v = np.float64(y[np.uint64(j)])
        a0 = a0 + u * v if lane == 0 else a0
        a1 = a1 + u * v if lane == 1 else a1
        a2 = a2 + u * v if lane == 2 else a2
        a3 = a3 + u * v if lane == 3 else a3
        a4 = a4 + u * v if lane == 4 else a4
        a5 = a5 + u * v if lane == 5 else a5
        a6 = a6 + u * v if lane == 6 else a6
    return together(a0, a1, a2, a3, a4, a5, a6, a7)


@device
def run_products(x: Any, first: Any, y: Any, second: Any, count: Any) -> Any:
    """The product of two vectors, and of each with itself.

    The second and third time the vectors lie in the cache. One loop for the three was slower: LLVM
    shuffles 24 lanes between registers.
    """
    return (
        run_product(x, first, y, second, count),
        run_product(x, first, x, first, count),
        run_product(y, second, y, second, count),
    )


@device
def run_scaled_products(x: Any, first: Any, f: Any, y: Any, second: Any, g: Any, count: Any) -> Any:
    """The products of two vectors, each times its factor first."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = 0.0
    c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = 0.0
    for k in range(count):  # seldom run, so short
        lane = k & 7
        u = np.float64(x[np.uint64(first + k)]) * f
        v = np.float64(y[np.uint64(second + k)]) * g
        a0 = a0 + u * v if lane == 0 else a0
        a1 = a1 + u * v if lane == 1 else a1
        a2 = a2 + u * v if lane == 2 else a2
        a3 = a3 + u * v if lane == 3 else a3
        a4 = a4 + u * v if lane == 4 else a4
        a5 = a5 + u * v if lane == 5 else a5
        a6 = a6 + u * v if lane == 6 else a6
        a7 = a7 + u * v if lane == 7 else a7
        b0 = b0 + u * u if lane == 0 else b0
        b1 = b1 + u * u if lane == 1 else b1
        b2 = b2 + u * u if lane == 2 else b2
        b3 = b3 + u * u if lane == 3 else b3
        b4 = b4 + u * u if lane == 4 else b4
        b5 = b5 + u * u if lane == 5 else b5
        b6 = b6 + u * u if lane == 6 else b6
        b7 = b7 + u * u if lane == 7 else b7
        c0 = c0 + v * v if lane == 0 else c0
        c1 = c1 + v * v if lane == 1 else c1
        c2 = c2 + v * v if lane == 2 else c2
        c3 = c3 + v * v if lane == 3 else c3
        c4 = c4 + v * v if lane == 4 else c4
        c5 = c5 + v * v if lane == 5 else c5
        c6 = c6 + v * v if lane == 6 else c6
        c7 = c7 + v * v if lane == 7 else c7
    return (
        together(a0, a1, a2, a3, a4, a5, a6, a7),
        together(b0, b1, b2, b3, b4, b5, b6, b7),
        together(c0, c1, c2, c3, c4, c5, c6, c7),
    )


@device
def run_cosine(x: Any, first: Any, y: Any, second: Any, count: Any) -> Any:
    """The cosine of two vectors whose squares are all numbers of float64."""
    found = run_products(x, first, y, second, count)
    return cosine(found[0], found[1], found[2])


@device
def run_careful_cosine(x: Any, first: Any, y: Any, second: Any, count: Any) -> Any:
    """The cosine of two vectors, which are scaled first where a product is out of range."""
    found = run_products(x, first, y, second, count)
    f, g = vector_factor(found[1]), vector_factor(found[2])
    if f != 1.0 or g != 1.0:
        found = run_scaled_products(x, first, f, y, second, g, count)
    return cosine(found[0], found[1], found[2])


NAMES = {
    **devices.NAMES,
    **{d.__name__: d for d in (run_sum, run_sizes, run_product, run_cosine, run_careful_cosine)},
}
"""What the source of a kernel may name."""
