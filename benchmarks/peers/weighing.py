"""Weights, and draws by them with replacement, as many as there are rows, the plan included."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from benchmarks.measure import Disagreement, Rows
from benchmarks.peers.data import Data

BY_CLASS: Final = "max_weight(labels == 5: 10, labels == 6: 5)"
BY_ROW: Final = "score"
ARMS: Final = (
    "labels == 0: 1, labels == 1: 2, labels == 2: 3, labels == 3: 4, "
    "score < 0.1: 5, score > 0.9: 6, labels == 4 and score > 0.5: 7, true: 0.5"
)


def weights(data: Data) -> dict[str, Rows]:
    """Task → the weight of every row, float64."""
    labels = data.array("labels")
    by_class = np.where(labels == 5, 10.0, np.where(labels == 6, 5.0, 0.0))
    return {"draws_by_class": by_class, "draws_by_row": data.array("score")}


def same_distribution(labels: Rows, weights: Rows, answers: Mapping[str, Any]) -> None:
    """Raise Disagreement unless each class's share of the draws is that of its weight.

    Six standard deviations apart are allowed: chance exceeds them once in 5e8 comparisons.
    """
    expected = np.bincount(labels, weights) / weights.sum()
    for name, drawn in answers.items():
        if len(drawn) != len(labels):
            raise Disagreement(f"{name} drew {len(drawn):,} rows and not {len(labels):,}")
        share = np.bincount(labels[drawn], minlength=len(expected)) / len(drawn)
        slack = 6 * np.sqrt(expected * (1 - expected) / len(drawn)) + 1e-12
        if not (abs(share - expected) <= slack).all():
            raise Disagreement(f"{name} draws the classes {share} of the time, not {expected}")
