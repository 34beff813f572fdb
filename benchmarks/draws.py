"""Weighted draws with replacement, the plan included."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

import tql
from benchmarks.measure import OURS, Task

WEIGHTS = "max_weight(labels == 5: 10, labels == 6: 5)"


def tasks(rows: int) -> Iterator[Task]:
    """As many draws as rows: weights by class, and one weight per row."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, rows).astype(np.int32)
    by_class = np.where(labels == 5, 10.0, np.where(labels == 6, 5.0, 0.0))
    by_row = rng.exponential(size=rows)
    million = f"{rows / 1e6:g} M"
    ds = tql.open({"labels": labels, "weight": by_row})
    for name, expression, weights in (
        (f"`{WEIGHTS}`", WEIGHTS, by_class),
        ("one weight per row", "weight", by_row),
    ):

        def agree(answers: Mapping[str, Any], weights: Any = weights) -> None:
            _same_distribution(answers, labels, weights)

        yield Task(
            f"{million} weighted draws from {million} rows, {name}",
            "ms",
            {
                OURS: lambda e=expression: ds.sample_by(e).row_ids,
                "torch": _torch(weights, rows),
                "NumPy": lambda w=weights: np.random.default_rng(1).choice(
                    rows, rows, p=w / w.sum()
                ),
            },
            agree,
        )


def _torch(weights: Any, draws: int) -> Any:
    if not find_spec("torch") or len(weights) > 2**24:
        return None  # torch.multinomial takes at most 2^24 weights
    import torch

    tensor = torch.from_numpy(weights)
    return lambda: torch.multinomial(tensor, draws, replacement=True)


def _same_distribution(answers: Mapping[str, Any], labels: Any, weights: Any) -> None:
    """The share of each class is within six standard deviations of its weight's share."""
    expected = np.bincount(labels, weights) / weights.sum()
    for name, answer in answers.items():
        drawn = np.asarray(answer)
        share = np.bincount(labels[drawn], minlength=len(expected)) / len(drawn)
        slack = 6 * np.sqrt(expected * (1 - expected) / len(drawn)) + 1e-12
        assert (abs(share - expected) <= slack).all(), f"{name}: {share} is not {expected}"
