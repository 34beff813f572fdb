"""Weights: conditions paired with numbers, which have a grammar of their own."""

from typing import Final

WEIGHTS: Final = {
    "max_weight": "max_weight(condition: weight, …)",
    "sum_weight": "sum_weight(condition: weight, …)",
}
