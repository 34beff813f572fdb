"""Weights, and draws by them, the plan included: as many as there are rows, with replacement; one in a
hundred rows, without. And a permutation of all rows.
"""

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

TAKEN: Final = {"draws_by_class": "taken_by_class", "draws_by_row": "taken_by_row"}
SHARE: Final = 100  # one row in so many is taken


def some(data: Data) -> int:
    """How many rows are taken without replacement."""
    return max(data.rows // SHARE, 1)


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


def inclusion(of_rows: Rows, size: int) -> Rows:
    """How likely each row is among `size` successive draws, float64 (n,); off by some 1 / size."""
    s = size / of_rows.sum()  # too small: the sum of the probabilities is concave in s
    for _ in range(8):
        left = np.exp(-of_rows * s)
        s += (size - (1 - left).sum()) / (of_rows * left).sum()
    chances: Rows = -np.expm1(-of_rows * s)
    return chances


def same_inclusion(bins: Rows, of_rows: Rows, size: int, answers: Mapping[str, Any]) -> None:
    """Raise Disagreement unless each answer has as many rows of each bin as successive draws take, and
    none twice; six standard deviations are allowed, and what `inclusion` is off by.
    """
    chances = inclusion(of_rows, size)
    expected = np.bincount(bins, chances)
    slack = 6 * np.sqrt(np.bincount(bins, chances * (1 - chances))) + 3
    for name, taken in answers.items():
        if len(taken) != size or len(np.unique(taken)) != size:
            raise Disagreement(f"{name} took {len(taken):,} rows, and not {size:,} different ones")
        found = np.bincount(bins[taken], minlength=len(expected))
        if not (abs(found - expected) <= slack).all():
            raise Disagreement(f"{name} takes {found} of each kind, not {expected.round(1)}")


def all_rows(rows: int, answers: Mapping[str, Any]) -> None:
    """Raise Disagreement unless each answer has every row once, in an order that does not rise or fall."""
    for name, order in answers.items():
        if len(order) != rows or not (np.bincount(order, minlength=rows) == 1).all():
            raise Disagreement(f"{name} does not give each of {rows:,} rows once")
        if rows > 50 and abs(np.corrcoef(np.arange(rows), order)[0, 1]) > 6 / np.sqrt(rows):
            raise Disagreement(f"{name} gives rows in an order that rises or falls")
