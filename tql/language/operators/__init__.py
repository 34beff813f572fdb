"""What operators mean for typed operands: typing rules, literal adaptation, exact comparison.

Every function takes bound operands and returns a bound node, already in the form that the engine
evaluates: text tests with their constant inside, literals in the type of the column they meet.
Rules: tql-reference §5 (values), §7 (operators), §8 (arithmetic), §11 (class labels)."""

from tql.language.operators.arithmetic import arith, negative
from tql.language.operators.comparison import between, compare, holds, one_of
from tql.language.operators.containment import contains, like
from tql.language.operators.elements import adapted, by_element, unfit
from tql.language.operators.labels import label_index
from tql.language.operators.logic import condition, conjunction, disjunction, negate_truth, truth
from tql.language.operators.operands import (
    GREATEST_INT,
    INT64,
    LEAST_INT,
    NOTHING,
    UINT64,
    constant,
    element_type,
    is_number,
    scalar_type,
)

__all__ = [
    "GREATEST_INT",
    "INT64",
    "LEAST_INT",
    "NOTHING",
    "UINT64",
    "adapted",
    "arith",
    "between",
    "by_element",
    "compare",
    "condition",
    "conjunction",
    "constant",
    "contains",
    "disjunction",
    "element_type",
    "holds",
    "is_number",
    "label_index",
    "like",
    "negate_truth",
    "negative",
    "one_of",
    "scalar_type",
    "truth",
    "unfit",
]
