"""The interpreter of expressions (`tests.interpreter`) on rows of stored columns of scalars."""

from collections.abc import Mapping
from typing import Any

from tests.interpreter import expressions
from tests.interpreter.kinds import BOOL, TEXT, Kind, RowError, Value
from tql.grammar import syntax as s
from tql.schema import Bool, DType, Float, Int, Label, Text

__all__ = ["Row", "RowError", "Types", "is_true", "value"]

Row = Mapping[str, Any]
Types = Mapping[str, DType]


def is_true(e: s.Expr, row: Row, types: Types) -> bool:
    """Whether WHERE keeps the row; RowError where it has no result."""
    return expressions.is_true(e, _env(row, types))


def value(e: s.Expr, row: Row, types: Types) -> Any:
    """The value of `e` for one row, NULL as None; RowError where it has none."""
    return expressions.value(e, _env(row, types)).data


def _env(row: Row, types: Types) -> expressions.Env:
    return expressions.Env(lambda name, _: Value(_kind(types[name]), row[name]))


def _kind(dtype: DType) -> Kind:
    match dtype:
        case Bool():
            return BOOL
        case Int(bits, signed):
            return Kind("int", bits, signed)
        case Label(names, storage):
            return Kind("label", storage.bits, storage.signed, names=names)
        case Float(bits):
            return Kind("float", bits)
        case Text():
            return TEXT
        case _:
            raise AssertionError(f"no kind for {dtype}")
