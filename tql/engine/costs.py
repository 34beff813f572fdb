"""What a condition costs in the reference tier, for the rule when to compile it.

Nanoseconds a row: one core of a quiet machine, fragments of 1 M rows in memory, NumPy 2,
2026-11-21. In fragments that leave the cache behind, each costs up to three times as much.
"""

import math
from collections.abc import Sequence
from typing import Final, assert_never

from tql.language.array_types import rank_of, sizes_of
from tql.language.expr import (
    And,
    Arith,
    ArithOp,
    Balanced,
    Bm25Score,
    Call,
    Column,
    Compare,
    CompareText,
    CompareTimes,
    Const,
    Elementwise,
    Expr,
    InSet,
    IsNull,
    JsonAs,
    JsonCompare,
    JsonItem,
    Not,
    Once,
    Or,
    Slot,
    StoredValue,
    Subscript,
    TextContains,
    TextIn,
    TextIs,
    TextLike,
    TextRule,
    TextTest,
    Truth,
    UserCall,
    WeightCase,
    integer_type,
    walk,
)
from tql.schema import Bool, DType, Float, List, Text

SCAN: Final = 0.3  # positions, the mask of all rows, packing the outcome into bits
UNPACK: Final = 1.0  # a bitmap, of a bool column or of what is not NULL, as bytes
LOGIC: Final = 0.2  # AND, OR and NOT, each operand
COMPARE: Final = 0.35  # two numbers of one type
COMPARE_MIXED: Final = 1.0  # of two types, one of which is converted
COMPARE_SIGNS: Final = 3.5  # int64 with uint64
COMPARE_EXACTLY: Final = 12.0  # a 64-bit integer with a float: 8 to 18
IN_LOOP: Final = 0.1  # a few values, each
IN_TABLE: Final = 0.05  # integers close together, each; at most IN_TABLE_MOST
IN_TABLE_MOST: Final = 10.0
IN_SORTED: Final = 80.0  # many values far apart: both sides are sorted
LOOK_UP: Final = 1.8  # text: one look-up by code, whatever the rule
TEXT_COMPARE: Final = 3.0  # plain text: 1.2 to 5.5
TEXT_IN: Final = 6.0  # 5 to 15
TEXT_CONTAINS: Final = 8.0  # 3 to 16
TEXT_LIKE: Final = 50.0  # a regular expression: 44 to 78
TEXT_ENCODE: Final = 16.0  # plain text as a dictionary: 14 to 33, up to 65,000 distinct texts
TEXT_NARROW: Final = 0.1  # codes of four bytes as codes of one or two
ARITHMETIC: Final = 1.0  # floats: 0.3 to 1.0
ARITHMETIC_CHECKED: Final = 1.5  # integers of which no sum overflows: 1.2 to 2.0
MODULO: Final = 3.0
RANDOM: Final = 3.5
LIST: Final = 25.0  # a column of lists, for each level of them: where each starts and ends
ELEMENT: Final = 5.0  # an operation by element, or a reduction, for each element
PAIR: Final = 15.0  # a product or distance of vectors, for each pair of elements
SLICED: Final = 15.0  # a slice, for each element that is left
EXTENT: Final = 4  # how long a list is, where its type does not say
BY_OBJECT: Final = 500.0  # a Python object each
HALF_FLOAT: Final = 1.6  # float16 is computed in software

_LOOPED: Final = 74  # values up to which NumPy loops, for a million rows
_TABLE: Final = 6_000_000  # width of the values up to which it makes a table


def reference_ns(conditions: Sequence[Expr]) -> float:
    """Nanoseconds a row that one pass of the reference tier over these conditions takes."""
    nodes = [n for c in conditions for n in walk(c)]
    columns = {n.name: n for n in nodes if isinstance(n, Column)}
    return (
        SCAN * len(conditions) + sum(map(_reading, columns.values())) + sum(map(_computing, nodes))
    )


def _reading(column: Column) -> float:
    """What making the column into NumPy arrays takes; plain numbers are there already."""
    if isinstance(column.dtype, List):
        return LIST * rank_of(column.dtype)
    return UNPACK * (column.nullable + isinstance(column.dtype, Bool))


def _computing(e: Expr) -> float:
    """What the node itself takes, its operands given."""
    match e:
        case Column() | Const() | StoredValue() | IsNull() | WeightCase() | Slot() | Once():
            return 0.0
        case And(terms) | Or(terms):
            return LOGIC * len(terms)
        case Not():
            return LOGIC
        case Compare(_, left, right):
            return _comparing(left.dtype, right.dtype)
        case Truth(operand):
            return _comparing(operand.dtype, operand.dtype)
        case CompareTimes():
            return ARITHMETIC
        case CompareText():
            return LOOK_UP * 2
        case TextTest():
            return LOOK_UP
        case InSet(operand, values):
            return _looking(operand.dtype, values)
        case Arith(op):
            whole = not isinstance(e.dtype, Float)
            return MODULO if op is ArithOp.MOD else ARITHMETIC_CHECKED if whole else ARITHMETIC
        case Elementwise():
            return ELEMENT * _elements(e.dtype)
        case Subscript():
            return SLICED * _elements(e.dtype) if isinstance(e.dtype, List) else ELEMENT
        case Call("random"):
            return RANDOM
        case Call(_, arguments):
            return _calling([_elements(a.dtype) for a in arguments if isinstance(a.dtype, List)])
        case Bm25Score(_, words):
            return PAIR * len(words)
        case JsonItem() | JsonCompare() | JsonAs() | UserCall() | Balanced():
            return BY_OBJECT
        case _:
            assert_never(e)


def plain_text_ns(rule: TextRule) -> float:
    """Nanoseconds that the rule takes for each text of a column without a dictionary."""
    match rule:
        case TextIs():
            return TEXT_COMPARE
        case TextIn():
            return TEXT_IN
        case TextContains():
            return TEXT_CONTAINS
        case TextLike():
            return TEXT_LIKE
        case _:
            assert_never(rule)


def _elements(dtype: DType) -> float:
    """How many elements an array of the type has, about."""
    return math.prod(EXTENT if size is None else size for size in sizes_of(dtype))


def _calling(elements: Sequence[float]) -> float:
    """What a call takes whose arrays have so many elements; of single values where there are none."""
    if not elements:
        return ARITHMETIC
    return (PAIR if len(elements) > 1 else ELEMENT) * max(elements)


def _comparing(a: DType, b: DType) -> float:
    if Float(16) in (a, b):
        return HALF_FLOAT
    if isinstance(a, Text) or isinstance(b, Text):
        return LOOK_UP
    s, t = integer_type(a), integer_type(b)
    if s == t and (s is not None or a == b):
        return COMPARE
    wide = [i for i in (s, t) if i is not None and i.bits == 64]
    if wide and (s is None or t is None):
        return COMPARE_EXACTLY
    return COMPARE_SIGNS if len(wide) == 2 else COMPARE_MIXED


def _looking(dtype: DType, values: Sequence[int | float]) -> float:
    if not values:
        return 0.0
    if not isinstance(dtype, Float) and values[-1] - values[0] < _TABLE:
        return COMPARE + min(IN_TABLE_MOST, IN_TABLE * len(values))
    return COMPARE + IN_LOOP * len(values) if len(values) <= _LOOPED else IN_SORTED
