"""How heavily a row counts in SAMPLE BY. `max_weight` and `sum_weight` have a grammar of their own."""

import math
from typing import Final, NoReturn

from tql.diagnostics import error
from tql.language.expr import Balanced, Const, Expr
from tql.language.functions.function import Arguments, Example, Function, wrong_type
from tql.language.operators import element_type, is_number
from tql.schema import List, Text, Time


def _balanced(a: Arguments) -> Expr:
    column = a.values[0]
    one = column.dtype.item if isinstance(column.dtype, List) else column.dtype
    if not (is_number(one) or isinstance(one, Text | Time)) or element_type(one) != one:
        raise wrong_type("balanced", "a class or a list of classes", column.dtype, column.span,
                         "name a column of class labels, numbers, bools or text")  # fmt: skip
    power = 1.0 if len(a.values) == 1 else _power(a.values[1])
    return Balanced(
        column, power, _threshold(a.values[2]) if len(a.values) == 3 else None, span=a.span
    )


def _power(e: Expr) -> float:
    value = _constant(e, "power", "balanced(labels, 0.5)")
    if not 0 <= value < math.inf:
        raise error("value", f"the power of balanced() cannot be {value}", e.span,
                    help="0 leaves the classes as they are, 1 makes them equally heavy")  # fmt: skip
    return float(value)


def _threshold(e: Expr) -> float:
    value = _constant(e, "threshold", "balanced(labels, 0.5, 0.001)")
    if not 0 < value <= 1:
        raise error("value", f"the threshold of balanced() cannot be {value}", e.span,
                    help="it is a share of the rows, above 0 and at most 1: "
                    "classes of a larger share weigh 1")  # fmt: skip
    return float(value)


def _constant(e: Expr, what: str, example: str) -> int | float:
    match e:
        case Const(bool()):
            pass
        case Const(int() | float() as value):
            return value
    raise error("type", f"the {what} of balanced() is a constant number", e.span,
                help=f"for example  {example}")  # fmt: skip


def _alone(a: Arguments) -> NoReturn:
    raise error(
        "type", "balanced() is a weight by itself: it depends on all rows that are drawn from", a.span,
        help="write  sample by balanced(column)",
    )  # fmt: skip


def _by_grammar(a: Arguments) -> NoReturn:
    raise AssertionError("pairs are bound as a weight, not as a call")


WEIGHTS: Final = (
    Function(
        "balanced", "balanced(column [, power [, threshold]])", (1, 3),
        "one over how many of the rows to draw from have the row's class, to the power (1 if not "
        "given): each class is then drawn as often as any other. With a threshold, the repeat factor "
        "max(1, (threshold / share of the rows that have the class) ^ power)", _alone,
        takes="class labels, numbers, bools, text or times, or a list of these; a constant from 0 up; a "
        "constant above 0, at most 1",
        result="float64", nulls="an error that names the row",
        special="a list weighs as the rarest class in it, an empty list is a class of its own; power 0 "
        "weighs all rows alike, 0.5 with a threshold is the repeat factor of LVIS; "
        "it stands alone as the weight of SAMPLE BY",
        example=Example("select animal where id > 4 sample by balanced(animal) limit 6", (0, 2, 0, 2, 0, 2)),
        as_weight=_balanced,
    ),
    Function(
        "max_weight", "max_weight(condition: weight, …)", (1, 1),
        "the largest of the weights whose condition is true", _by_grammar,
        takes="conditions with numbers", result="float64",
        nulls="a condition that is NULL does not count", special="0 where no condition is true",
        example=Example(
            "select max_weight(score > 0.6: 3, contains(tags, 'ball'): 2, true: 1) as w limit 5",
            (3.0, 3.0, 3.0, 1.0, 1.0),
        ),
        kernel=True,
    ),
    Function(
        "sum_weight", "sum_weight(condition: weight, …)", (1, 1),
        "the sum of the weights whose condition is true", _by_grammar,
        takes="conditions with numbers", result="float64",
        nulls="a condition that is NULL does not count", special="0 where no condition is true",
        example=Example(
            "select sum_weight(score > 0.6: 3, contains(tags, 'ball'): 2, true: 1) as w limit 5",
            (4.0, 4.0, 6.0, 1.0, 1.0),
        ),
        kernel=True,
    ),
)  # fmt: skip
