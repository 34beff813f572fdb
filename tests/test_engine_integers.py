"""64-bit integer arithmetic against Python's integers, and what it may cost."""

import itertools

import numpy as np
import pytest

from tql.engine import integers
from tql.engine.integers import checked
from tql.language.expr import ArithOp
from tql.schema import Int

OPS = (ArithOp.ADD, ArithOp.SUB, ArithOp.MUL, ArithOp.MOD)
EDGES = sorted(
    {sign * (2**bits + near) for bits in (0, 1, 3, 7, 31, 32, 61, 62, 63, 64) for near in (-1, 0, 1)
     for sign in (1, -1)} | {0, 10, 3037000499, 3037000500, -3037000500}
)  # fmt: skip
TYPES = ("bool", "uint8", "int32", "int64", "uint64")


def numbers(name: str) -> list[int]:
    low, high = (0, 1) if name == "bool" else (np.iinfo(name).min, np.iinfo(name).max)
    return [v for v in EDGES if low <= v <= high]


def exactly(op: ArithOp, x: int, y: int, dtype: Int) -> int | None:
    """The result, or None where there is none in `dtype`."""
    if op is ArithOp.MOD:
        if y == 0:
            return None
        result = abs(x) % abs(y) * (1 if x >= 0 else -1)
    else:
        result = {ArithOp.ADD: x + y, ArithOp.SUB: x - y, ArithOp.MUL: x * y}[op]
    low, high = (-(2**63), 2**63) if dtype.signed else (0, 2**64)
    return result if low <= result < high else None


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.value)
@pytest.mark.parametrize("kinds", list(itertools.product(TYPES, TYPES)), ids="-".join)
def test_every_pair_of_edges_is_what_python_computes_or_a_problem(
    kinds: tuple[str, str], op: ArithOp, signed: bool
) -> None:
    dtype = Int(64, signed)
    pairs = list(itertools.product(*map(numbers, kinds)))
    wanted = [exactly(op, x, y, dtype) for x, y in pairs]
    x, y = (np.array(side, kind) for side, kind in zip(zip(*pairs), kinds))
    good = np.array([w is not None for w in wanted])
    values, problem = checked(op, x, y, dtype, good)
    assert problem is None
    assert values[good].tolist() == [w for w in wanted if w is not None]
    # Each bad row is found although the others are good, and the first one is named.
    for at in np.flatnonzero(~good):
        _, problem = checked(op, x, y, dtype, good | (np.arange(len(x)) >= at))
        assert problem is not None and problem.at == at


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.value)
def test_a_constant_operand_gives_what_a_column_of_it_gives(op: ArithOp) -> None:
    many = np.array(numbers("int64"))
    rows = np.ones(len(many), np.bool_)
    for value in (1, -1, 2, 10, 2**62, -(2**63)):
        one = np.asarray(value)
        full = np.broadcast_to(one, many.shape)
        for short, long in (
            (checked(op, many, one, Int(64), rows), checked(op, many, full, Int(64), rows)),
            (checked(op, one, many, Int(64), rows), checked(op, full, many, Int(64), rows)),
        ):
            assert short[1] == long[1]
            assert short[1] is not None or short[0].tolist() == long[0].tolist()


def test_rows_do_not_go_through_python_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes fill all 64 bits, and zeros are as small as unsigned numbers get."""
    calls = 0
    plain = integers._exactly

    def counted(op: ArithOp, x: int, y: int) -> int:
        nonlocal calls
        calls += 1
        return plain(op, x, y)

    monkeypatch.setattr(integers, "_exactly", counted)
    hashes = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 5000)
    zeros = np.zeros(5000, np.uint64)
    rows = np.ones(5000, np.bool_)
    assert checked(ArithOp.MOD, hashes, np.asarray(10), Int(64), rows)[1] is None
    assert checked(ArithOp.MUL, zeros, zeros, Int(64, signed=False), rows)[1] is None
    assert checked(ArithOp.ADD, hashes >> 1, hashes >> 1, Int(64), rows)[1] is None
    assert checked(ArithOp.MUL, hashes >> 32, hashes >> 33, Int(64), rows)[1] is None
    assert checked(ArithOp.SUB, zeros, np.asarray(-1), Int(64, signed=False), rows)[1] is None
    assert calls <= 4 * 5


def test_no_rows_have_no_problem() -> None:
    none = np.zeros(0, np.int64)
    for op in OPS:
        values, problem = checked(op, none, np.asarray(0), Int(64), np.zeros(0, np.bool_))
        assert values.shape == (0,) and problem is None
